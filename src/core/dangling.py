"""Paths that name nothing: of calculated properties and of subscriptions.

A misspelt path raises nowhere: the property is just not calculated again, the subscriber is not
called. So what sessions begin with is looked at, by names alone; no value is read. A path goes
from a state to its keys, and where one is not there (yet), to the fields of its schema.

===========  ====================================================================================
``certain``  the schema there declares fields, and neither they, nor its properties, nor the initial
             state have the key. A state may have keys that no field names, so this is a warning and
             no error; annotating the key ends it
otherwise    no schema says what may come: a hint, for those who ask (``greenroom doctor``)
===========  ====================================================================================

What lies below a list, None, or any other value that is no state is not judged. On any thread: a
Template never changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from ._state import Field, Plan, State
from .schema import resolve

if TYPE_CHECKING:
    from ._calculated import Calculated
    from ._ledger import Template

__all__ = ["Dangling", "dangling"]

Outline = tuple[type[State], Mapping[str, Any]]  # of Outlines, or None where no state is


class Dangling(NamedTuple):
    """A path that names nothing: the line that says so, and whether a schema proves it."""

    text: str
    certain: bool


def dangling(template: Template) -> list[Dangling]:
    """The paths of what sessions begin with that name nothing, each once."""
    return list(dict.fromkeys(_all(template)))


def _all(template: Template) -> Iterator[Dangling]:
    root = template.outline()
    for place in _places(root):
        for name, one in _properties(place[0]).items():
            for path in one.paths:
                what = f"{place[0].__name__}.{name} is calculated from {_spell(path)}"
                yield from _judged(place, path, what)
    for path in template.watched():
        yield from _judged(root, path, f"a subscription waits for {_spell(path)}")


def _places(place: Outline, promised: tuple[type[State], ...] = ()) -> Iterator[Outline]:
    """A state, those in it, and those that its fields promise: each class of these once."""
    yield place
    kind, keys = place
    for inner in keys.values():
        if inner is not None:
            yield from _places(inner)
    for key in _fields(kind):
        if keys.get(key) is None and (inner := _promised(kind, key)) and inner[0] not in promised:
            yield from _places(inner, (*promised, inner[0]))


def _judged(place: Outline, path: tuple[str, ...], what: str) -> Iterator[Dangling]:
    for key in path:
        kind, keys = place
        fields, properties = _fields(kind), _properties(kind)
        inner: Outline | None = keys.get(key) or _promised(kind, key)
        if inner is not None:
            place = inner
            continue
        if key not in keys and key not in fields and key not in properties:
            close = get_close_matches(key, [*fields, *properties, *keys], 1)
            meant = f" ({close[0]}?)" if close else ""
            if fields:
                why = f"but {kind.__name__} declares no {key}{meant}. Correct the path, or annotate"
                yield Dangling(f"{what}, {why} {key} if it comes later", True)
            else:
                yield Dangling(f"{what}, where nothing is at the start{meant}", False)
        return


def _promised(kind: type[State], key: str) -> Outline | None:
    """What a field will hold that has no state yet."""
    field = _fields(kind).get(key)
    return None if field is None or field.kind is None else (field.kind, {})


def _fields(kind: type[State]) -> Mapping[str, Field]:
    if kind is State:
        return {}
    found: dict[str, Field] | None = vars(kind).get("__fields__")
    if found is None:
        try:
            found = resolve(kind)
        except TypeError:  # raised when the class is first used; a promise may never be
            return {}
    return found


def _properties(kind: type[State]) -> Mapping[str, Calculated[Any]]:
    plan: Plan | None = vars(kind).get("__plan__")
    return {} if plan is None else plan.properties


def _spell(path: tuple[str, ...]) -> str:
    return ".".join(key.replace(".", "\\.") for key in path)
