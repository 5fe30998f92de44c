"""A session's state and its turns on plain dicts, slow and plainly right.

Values are what handlers see; ``public`` says what clients must have. Only values that are
replaced, not changed in place, are told here, so copies may be kept.
"""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

Tree = dict[str, Any]
Path = tuple[str, ...]


class NoForm:
    """A value nothing can encode. Equal to its copies."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoForm)

    __hash__ = None  # type: ignore[assignment]


NOTHING = object()


def public(value: Any) -> Any:
    """The JSON form without private keys; NOTHING for what has none."""
    if isinstance(value, dict):
        out = {}
        for key, item in value.items():
            if not key.startswith("_"):
                shown = public(item)
                if shown is not NOTHING:
                    out[key] = shown
        return out
    if isinstance(value, (list, tuple)):
        items = [public(item) for item in value]
        return NOTHING if any(item is NOTHING for item in items) else items
    if isinstance(value, dt.date):
        return value.isoformat()
    return NOTHING if isinstance(value, NoForm) else value


class StateModel:
    """What a ledger must do."""

    def __init__(self, values: Tree) -> None:
        self.values = copy.deepcopy(values)
        self.start: Tree | None = None

    @property
    def in_turn(self) -> bool:
        return self.start is not None

    # -- turns

    def open(self) -> None:
        self.start = copy.deepcopy(self.values)

    def mark(self) -> None:
        self.start = copy.deepcopy(self.values)

    def undo(self) -> None:
        assert self.start is not None
        self.values = copy.deepcopy(self.start)

    def commit(self) -> None:
        self.start = None

    def rollback(self) -> None:
        self.undo()
        self.start = None

    # -- values

    def node(self, path: Path) -> Tree:
        at = self.values
        for key in path:
            at = at[key]
        return at

    def nodes(self) -> list[Path]:
        """The paths of all nested dicts, the root included."""
        found: list[Path] = []

        def walk(at: Tree, path: Path) -> None:
            found.append(path)
            for key, item in at.items():
                if isinstance(item, dict):
                    walk(item, (*path, key))

        walk(self.values, ())
        return found

    def set(self, path: Path, key: str, value: Any) -> None:
        self.node(path)[key] = copy.deepcopy(value)

    def delete(self, path: Path, key: str) -> None:
        self.node(path).pop(key, None)

    def extend(self, path: Path, key: str, items: list[Any]) -> None:
        self.node(path).setdefault(key, []).extend(copy.deepcopy(items))

    def replace(self, path: Path, values: Tree) -> None:
        at = self.node(path)
        at.clear()
        at.update(copy.deepcopy(values))

    def public(self) -> Tree:
        shown: Tree = public(self.values)
        return shown
