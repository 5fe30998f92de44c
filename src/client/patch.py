r"""A client's mirror of the state: paths, patches, and who hears of what.

The mirror is plain data, copied on write: a patch makes new containers along the paths it touches
and leaves everything else, and the tree before it, as they were. So the previous value is always
at hand, and what is the same object is unchanged. A snapshot keeps every part that is equal to
what was there.

Paths are written twice. On the wire they are JSON Pointers (``/a/b``, RFC 6901); users write
``a.b``, with ``\.`` for a literal dot and ``\\`` for a backslash, or a sequence of keys.
Nobody but the server writes: treat what you read here as read-only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from ..core.types import Bytes
from .codec import is_list, is_object

__all__ = ["Diverged", "Mirror", "Path", "apply", "get", "parse_path", "parse_pointer", "share"]

Path = tuple[str, ...]
Watcher = Callable[[Any, Any], object]

_BAD_ESCAPE = re.compile("~(?![01])")
_log = logging.getLogger("greenroom.client")


class Diverged(Exception):
    """A patch does not fit the mirror: only a new snapshot can help."""


def parse_path(path: str | Sequence[str | int]) -> Path:
    """``"a.b"`` or a sequence of keys as a tuple of keys; ``""`` is the whole state."""
    if not isinstance(path, str):
        return tuple(str(key) for key in path)
    if not path:
        return ()
    keys = [""]
    escaped = False
    for char in path:
        if escaped:
            keys[-1] += char if char in ".\\" else "\\" + char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ".":
            keys.append("")
        else:
            keys[-1] += char
    if escaped:
        keys[-1] += "\\"
    return tuple(keys)


def parse_pointer(pointer: str) -> Path:
    """The keys of a JSON Pointer. No patch is about the whole document."""
    if not pointer.startswith("/") or _BAD_ESCAPE.search(pointer):
        raise Diverged(f"{pointer!r} is no JSON Pointer to a key")
    return tuple(k.replace("~1", "/").replace("~0", "~") for k in pointer[1:].split("/"))


def get(root: Any, path: Path) -> Any:
    """The value at ``path``, or None when there is none. Lists are reached by index."""
    value: Any = root
    for key in path:
        if is_object(value):
            value = value.get(key)
        elif is_list(value) and key.isascii() and key.isdigit():
            value = value[int(key)] if int(key) < len(value) else None
        else:
            return None
    return value


def apply(root: Any, patch: dict[str, Any]) -> Any:
    """The tree after ``patch`` (the data of ``gr:state``); ``root`` itself stays as it was.

    Raises :class:`Diverged` for a patch that does not fit, or is none.
    """
    return _apply(root, patch)[0]


def _apply(root: Any, patch: dict[str, Any]) -> tuple[Any, list[Path]]:
    if patch.keys() - {"=", "-", "+"}:
        raise Diverged("a patch has the kinds =, - and +")
    sets = [(parse_pointer(p), value) for p, value in patch.get("=", {}).items()]
    gone = [parse_pointer(p) for p in patch.get("-", ())]
    tails = [(parse_pointer(p), tail) for p, tail in patch.get("+", {}).items()]
    touched = sorted([*(path for path, _ in sets), *gone, *(path for path, _ in tails)])
    for path, following in pairwise(touched):
        if following[: len(path)] == path:
            raise Diverged(f"the patch has two operations about {path!r}")
    tree = _Copy(root)
    for path, value in sets:
        tree.set(path, value)
    for path in gone:
        tree.delete(path)
    for path, tail in tails:
        tree.append(path, tail)
    return tree.root, touched


class _Copy:
    """One patch under way: each container is copied once, at the first step into it."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._fresh: dict[int, Any] = {}  # by identity; holds them, so ids stay theirs

    def set(self, path: Path, value: Any) -> None:
        self._parent(path)[path[-1]] = value

    def delete(self, path: Path) -> None:
        parent = self._parent(path)
        if path[-1] not in parent:
            raise Diverged(f"the patch deletes {path!r}, which is not there")
        del parent[path[-1]]

    def append(self, path: Path, tail: Any) -> None:
        parent = self._parent(path)
        old = parent.get(path[-1])
        if isinstance(old, str) and isinstance(tail, str):
            parent[path[-1]] = old + tail
        elif is_list(old) and is_list(tail):
            parent[path[-1]] = [*old, *tail]
        else:
            raise Diverged(f"the patch appends to {path!r}, which is neither text nor list")

    def _parent(self, path: Path) -> dict[str, Any]:
        node = self.root = self._own(self.root, path)
        for key in path[:-1]:
            child = self._own(node.get(key), path)
            node[key] = child
            node = child
        return node

    def _own(self, value: Any, path: Path) -> dict[str, Any]:
        if not is_object(value):
            raise Diverged(f"the patch reaches {path!r} through something that is no object")
        if id(value) in self._fresh:
            return value
        copy = dict(value)
        self._fresh[id(copy)] = copy
        return copy


def share(old: Any, new: Any) -> Any:
    """``new`` with every part that equals its counterpart in ``old`` replaced by that one."""
    if is_object(old) and is_object(new):
        for key, value in new.items():
            if key in old:
                new[key] = share(old[key], value)
        same = list(old) == list(new) and all(old[key] is new[key] for key in new)
        return old if same else new
    if is_list(old) and is_list(new):
        for index, (was, now) in enumerate(zip(old, new, strict=False)):
            new[index] = share(was, now)
        same = len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))
        return old if same else new
    if isinstance(old, Bytes) and isinstance(new, Bytes):
        return old if (old, old.mime, old.name) == (new, new.mime, new.name) else new
    return old if type(old) is type(new) and old == new else new


class Mirror:
    """The state as the server last told it, and the callbacks that hear of changes."""

    def __init__(self) -> None:
        self.root: dict[str, Any] = {}
        self._watchers: dict[int, tuple[Path, Watcher]] = {}
        self._last = 0

    def get(self, path: str | Sequence[str | int]) -> Any:
        return get(self.root, parse_path(path))

    def watch(self, path: str | Sequence[str | int], watcher: Watcher) -> Callable[[], None]:
        """Call ``watcher(value, previous)`` once per patch that touches ``path``; returns off()."""
        self._last += 1
        token = self._last
        self._watchers[token] = (parse_path(path), watcher)

        def off() -> None:
            self._watchers.pop(token, None)

        return off

    def snapshot(self, root: dict[str, Any]) -> None:
        """Take the whole state. Watchers hear of what is different."""
        self._become(share(self.root, root), None)

    def patch(self, patch: dict[str, Any]) -> None:
        """Apply the data of one ``gr:state``; raises :class:`Diverged` and changes nothing."""
        try:
            root, touched = _apply(self.root, patch)
        except (AttributeError, TypeError) as error:
            raise Diverged(f"this is no patch: {error}") from error
        self._become(root, touched)

    def _become(self, root: dict[str, Any], touched: list[Path] | None) -> None:
        before, self.root = self.root, root
        for token, (path, watcher) in list(self._watchers.items()):
            if token not in self._watchers:  # an earlier watcher ended it
                continue
            value, previous = get(root, path), get(before, path)
            if value is not previous or (touched and _meant(path, touched)):
                try:
                    watcher(value, previous)
                except Exception:  # noqa: BLE001 - one watcher's failure is not another's
                    _log.exception("a subscriber of %r failed", ".".join(path))


def _meant(path: Path, touched: list[Path]) -> bool:
    """Whether an operation was at ``path`` itself or below it, be its value equal or not."""
    return any(operation[: len(path)] == path for operation in touched)
