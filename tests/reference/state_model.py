"""A session's state and its turns on plain dicts, slow and plainly right.

Values are what handlers see; ``public`` says what clients must have. Only values that are
replaced, not changed in place, are told here, so copies may be kept. Properties are all calculated
after every change, and ``told`` has what each subscriber of a path must have heard.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable
from typing import Any, ClassVar

Tree = dict[str, Any]
Path = tuple[str, ...]


class NoForm:
    """A value nothing can encode. Equal to its copies."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoForm)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "NoForm()"


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


class Schema(dict[str, Any]):
    """A node of a class with properties: name -> (the paths it needs, the function)."""

    properties: ClassVar[dict[str, tuple[list[Path], Callable[[Any], Any]]]] = {}


def calculate(at: Tree) -> None:
    """All properties, nested ones first; they are defined behind what they need."""
    for item in at.values():
        if isinstance(item, dict):
            calculate(item)
    if isinstance(at, Schema):
        for name, (_, fn) in at.properties.items():
            at[name] = fn(at)


def is_property(at: Tree, key: str) -> bool:
    """Whether nobody may assign it."""
    return isinstance(at, Schema) and key in at.properties


def heard(value: Any) -> Any:
    """What a subscriber gets for a value."""
    return None if value is NOTHING else copy.deepcopy(value)


def find(values: Tree, path: Path) -> Any:
    """The value of a path, or NOTHING."""
    at: Any = values
    for key in path:
        if not isinstance(at, dict) or key not in at:
            return NOTHING
        at = at[key]
    return at


class StateModel:
    """What a ledger must do."""

    def __init__(self, values: Tree) -> None:
        self.values = copy.deepcopy(values)
        calculate(self.values)
        self.start: Tree | None = None
        self.subscriptions: list[Path] = []
        self.told: list[tuple[Path, Any, Any]] = []

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
        """The paths of all nested dicts that are no properties, the root included."""
        found: list[Path] = []

        def walk(at: Tree, path: Path) -> None:
            found.append(path)
            for key, item in at.items():
                if isinstance(item, dict) and not is_property(at, key):
                    walk(item, (*path, key))

        walk(self.values, ())
        return found

    def set(self, path: Path, key: str, value: Any) -> None:
        before = copy.deepcopy(self.values)
        self.node(path)[key] = copy.deepcopy(value)
        self.changed((*path, key), before)

    def delete(self, path: Path, key: str) -> None:
        before = copy.deepcopy(self.values)
        if self.node(path).pop(key, NOTHING) is not NOTHING:
            self.changed((*path, key), before)

    def extend(self, path: Path, key: str, items: list[Any]) -> None:
        self.set(path, key, [*self.node(path).get(key, []), *items])

    def replace(self, path: Path, values: Tree) -> None:
        at = self.node(path)
        for key in list(at):
            if key not in values and not is_property(at, key):
                self.delete(path, key)
        for key, value in values.items():
            self.set(path, key, value)

    # -- properties and subscriptions

    def changed(self, place: Path, before: Tree) -> None:
        """A place was assigned or deleted."""
        calculate(self.values)
        for changed in [place, *self.concerned(place)]:
            for path in self.subscriptions:
                old, new = find(before, path), find(self.values, path)
                if path[: len(changed)] == changed and (old is not NOTHING or new is not NOTHING):
                    self.told.append((path, heard(old), heard(new)))

    def concerned(self, place: Path) -> list[Path]:
        """The properties that are calculated from a place, or from each other, each once."""
        found: dict[Path, None] = {}

        def look(place: Path) -> None:
            for depth in range(len(place)):
                node = find(self.values, place[:depth])
                rest = place[depth:]
                if isinstance(node, Schema):
                    for name, (paths, _) in node.properties.items():
                        near = any(one[: len(rest)] == rest[: len(one)] for one in paths)
                        if near and (*place[:depth], name) not in found:
                            found[*place[:depth], name] = None
                            look((*place[:depth], name))

        look(place)
        return list(found)

    def public(self) -> Tree:
        shown: Tree = public(self.values)
        return shown
