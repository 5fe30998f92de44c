"""Calculated properties: what ``gr.property`` checks, and the plan of a class that has some.

A class is planned once, when it is made: which properties it has, with those it inherits; in which
order they can be calculated; and from which places. When they are calculated, and by which thread,
stands in ``_calculated.pyx``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from ._calculated import Calculated
from ._state import Needs, Plan, State
from ._watch import parse_path

__all__ = ["plan", "property"]

T = TypeVar("T")
Path = str | tuple[str, ...]


def property(  # noqa: A001 -- it is `gr.property`
    path: Path | Sequence[Path],
) -> Callable[[Callable[[Any], T]], Calculated[T]]:
    r"""Make a method of a State class a key that is calculated from others.

    ``path``: what it is calculated from: a key of the same state, or a path from there like
    ``"cart.items"`` (``\.`` for a literal dot), a tuple of keys, or a list of those. The function
    takes ``self`` alone, is sync, and assigns nothing. After something at or below a path was
    assigned, or replaced with a parent, it runs when the value is read, or at the end of the turn:
    once, however much was assigned. What it raises rolls the turn back.

    Raises TypeError for another signature, a path that is none and a name that states use
    themselves, ValueError for an empty path.
    """
    if callable(path):
        raise TypeError(
            'gr.property needs to know what it is calculated from: write @gr.property("key"), or '
            '@gr.property(["key", "other.key"])'
        )
    given = path if isinstance(path, list) else [cast("Path", path)]
    if not given:
        raise ValueError("gr.property needs at least one path to be calculated from")
    paths = tuple(dict.fromkeys(parse_path(one) for one in given))

    def decorate(fn: Callable[[Any], T]) -> Calculated[T]:
        _check(fn)
        return Calculated(fn, paths)

    return decorate


def plan(cls: type[State]) -> None:
    """Find the properties of a new class, order them, and keep the plan with it."""
    names = [name for kind in reversed(cls.__mro__) for name in vars(kind)]
    found: dict[str, Calculated[Any]] = {}
    for name in dict.fromkeys(names):
        if isinstance(inspect.getattr_static(cls, name, None), Calculated):
            found[name] = inspect.getattr_static(cls, name)
            _check_name(cls, name, found[name])
    type.__setattr__(cls, "__plan__", Plan(_ordered(cls, found), _needs(found)) if found else None)


def _check(fn: Callable[..., Any]) -> None:
    name = getattr(fn, "__qualname__", repr(fn))
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(parameters) != 1 or parameters[0].kind not in plain:
        short = name.rpartition(".")[2]
        raise TypeError(
            f"{name} is calculated from the state alone: write `def {short}(self)` and read what "
            "it needs from self"
        )
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(
            f"{name} is read like a value, so it cannot be async: fetch in a handler, assign what "
            "came, and calculate from that"
        )
    if inspect.isgeneratorfunction(fn):
        raise TypeError(f"{name} is a generator, which gives its items once: return a list")


def _check_name(cls: type[State], name: str, one: Calculated[Any]) -> None:
    if hasattr(State, name) or (name.startswith("__") and name.endswith("__")):
        raise TypeError(
            f"{cls.__name__}.{name} cannot be a gr.property: it is a method of every state. "
            "Choose another name"
        )
    if one.name != name:
        raise TypeError(
            f"{cls.__name__}.{name} and {one.name} are one gr.property: decorate a function for "
            "each"
        )


def _ordered(cls: type[State], found: dict[str, Calculated[Any]]) -> dict[str, Calculated[Any]]:
    """Each behind those it is calculated from."""
    order: dict[str, Calculated[Any]] = {}

    def place(name: str, line: list[str]) -> None:
        if name in line:
            circle = " from ".join([*line[line.index(name) :], name])
            raise TypeError(
                f"the properties of {cls.__name__} are calculated in a circle, {circle}: let one "
                "of them read the fields themselves"
            )
        if name not in order:
            for path in found[name].paths:
                if path[0] in found:
                    place(path[0], [*line, name])
            order[name] = found[name]

    for name in found:
        place(name, [])
    return order


def _needs(found: dict[str, Calculated[Any]]) -> Needs:
    return _needs_at([(path, name) for name, one in found.items() for path in one.paths])


def _needs_at(wanted: Iterable[tuple[tuple[str, ...], str]]) -> Needs:
    """The tree of paths, each with the name of who needs it."""
    here = [name for path, name in wanted if not path]
    below: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for path, name in wanted:
        if path:
            below.setdefault(path[0], []).append((path[1:], name))
    names = dict.fromkeys(name for _, name in wanted)
    children = {key: _needs_at(rest) for key, rest in below.items()}
    return Needs(tuple(here), tuple(names), children or None)
