"""Patches on plain JSON documents, slow and plainly right.

A patch is ``{"=": {path: value}, "-": [path], "+": {path: tail}}`` with absent kinds left out.
Its parts may be applied in any order, so ``apply`` takes an order.
"""

from __future__ import annotations

import copy
from typing import Any

Doc = dict[str, Any]
Wire = dict[str, Any]


class Refused(Exception):
    """The patch does not fit the document, or is no patch."""


def split(path: str) -> list[str]:
    if not path.startswith("/"):
        raise Refused(f"no pointer below the root: {path!r}")
    keys = []
    for part in path[1:].split("/"):
        if "~" in part.replace("~0", "").replace("~1", ""):
            raise Refused(f"bad escape in {path!r}")
        keys.append(part.replace("~1", "/").replace("~0", "~"))
    return keys


def operations(patch: Wire) -> list[tuple[str, str, Any]]:
    if set(patch) - {"=", "-", "+"}:
        raise Refused(f"unknown kinds in {patch!r}")
    found = [("=", path, value) for path, value in patch.get("=", {}).items()]
    found += [("-", path, None) for path in patch.get("-", [])]
    found += [("+", path, value) for path, value in patch.get("+", {}).items()]
    return found


def check(patch: Wire) -> None:
    """One operation per path, no path a prefix of another."""
    paths = [tuple(split(path)) for _, path, _ in operations(patch)]
    if len(set(paths)) != len(paths):
        raise Refused("two operations on one path")
    for path in paths:
        for size in range(1, len(path)):
            if path[:size] in paths:
                raise Refused(f"{path[:size]} is a prefix of {path}")


def apply(
    patch: Wire, doc: Doc, order: list[int] | None = None, *, gone_is_fine: bool = False
) -> Doc:
    """A new document. Raises Refused where the patch does not fit.

    ``gone_is_fine``: a snapshot made beside a running turn lacks what had to wait; when that is
    deleted before it came, the deletion means nothing to its client.
    """
    check(patch)
    ops = operations(patch)
    doc = copy.deepcopy(doc)
    for kind, path, value in ops if order is None else [ops[i] for i in order]:
        *way, last = split(path)
        at: Any = doc
        for key in way:
            at = at.get(key) if isinstance(at, dict) else None
        if not isinstance(at, dict):
            raise Refused(f"no object above {path!r}")
        if kind == "=":
            at[last] = copy.deepcopy(value)
        elif last not in at and kind == "-" and gone_is_fine:
            continue
        elif last not in at:
            raise Refused(f"{kind} at {path!r}, which is not there")
        elif kind == "-":
            del at[last]
        elif (isinstance(value, str) and isinstance(at[last], str)) or (
            isinstance(value, list) and isinstance(at[last], list)
        ):
            at[last] = at[last] + copy.deepcopy(value)
        else:
            raise Refused(f"append at {path!r} to something else")
    return doc
