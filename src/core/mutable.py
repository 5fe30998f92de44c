"""Values that report their own changes.

The state cannot see what happens inside an object. A ``MutableValue`` says so itself, by
``mutate()``, which is what ``state[key] = state[key]`` is for other objects, at every place where
the value lies: as a value of the state or in the lists, tuples and dicts of one.

Where a value lies is noted when it is assigned, and when a session makes its own copy of the
template's. A place is a journal, which is to say a session, and the keys from its root; before
anything is marked it is looked at whether the value still lies there. So a place where it lies no
more does no harm, and is kept while a rollback could bring the value back. What ``gr.shared`` gave
to all sessions has no place in one: it is looked for in the session whose turn changes it.

Who may call what: places are noted by any thread, for any may read. ``mutate`` is an assignment: it
is for the turn of a session, on the thread that runs it. The table of places holds neither values
nor sessions, and a place is one entry that is added or removed in one step.

Cut in the middle: a turn that is undone gives the value back what it was where the value can do
that (a table can). What cannot be undone is sent again, so that clients have what the session has.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ._state import Journal, State, journal_of, set_mutable
from ._turn import current_turn
from .errors import StaleTurn

__all__ = ["MutableValue", "Place", "reach", "report"]

Keys = tuple[str, ...]
Place = tuple[Journal, Keys]
Homes = dict[weakref.ref[Journal], dict[Keys, None]]
Undo = Callable[[], None]

ROOM: Final = 32  # places of one value that are noted before stale ones are looked for


class MutableValue:
    """Base class of values that report their own changes: call ``self.mutate()`` after one.

    ::

        class Basket(gr.MutableValue):
            def __init__(self):
                self.items = []

            def put(self, item):
                self.items.append(item)
                self.mutate()

            def to_dict(self):  # what clients get
                return {"items": self.items}

    Each session has a copy of its own of one in the initial state. It may lie in several places,
    and in lists, tuples and dicts of the state; elsewhere (a set, an attribute of another object)
    it is not seen. It needs ``to_dict()`` or an encoder in ``gr.encoders``, and no ``__init__`` of
    ours to be called; a dataclass can be one.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if not cls.__weakrefoffset__:
            raise TypeError(
                f"{cls.__qualname__} cannot report changes, since nothing can refer to it weakly, "
                "as to no tuple, number or bytes: give it an attribute that holds what it inherits"
            )

    def mutate(self) -> None:
        """Send the value to the clients of its session, and call its subscribers, as changed.

        Only in a turn: raises :class:`StaleTurn` in a thread that runs none of a session in which
        the value lies. Does nothing while the value lies in no state, and for one of ``gr.shared``
        outside of turns; in a turn that goes to the clients of the turn's session alone.
        """
        report(self, reach(self))


PLACES: dict[int, _Places] = {}  # by the id of the value, whose end takes it out


class _Places:
    """Where one value lies, or lay."""

    __slots__ = ("limit", "lone", "noted", "own", "shared", "value")

    def __init__(self, value: MutableValue) -> None:
        self.value = weakref.ref(value, partial(_forget, id(value)))
        # By home, so that one that all sessions hold is looked for in one of them alone; the
        # places of each in the order of assignment. The values say nothing.
        self.own: Homes = {}
        self.lone: Homes = {}  # of states on their own
        self.shared: dict[Keys, None] = {}  # of whichever session
        self.noted = 0  # in own and lone since stale ones were looked for, with what was left
        self.limit = ROOM

    def note(self, home: Journal, keys: Keys, value: MutableValue) -> None:
        """Note that the value lies there."""
        there = (self.lone if home.alone else self.own).setdefault(weakref.ref(home), {})
        if keys in there:
            return
        if self.noted >= self.limit:
            self.forget_stale(value)
        there[keys] = None
        self.noted += 1

    def forget_stale(self, value: MutableValue) -> None:
        self.noted = 0
        for homes in (self.own, self.lone):
            for home, there in tuple(homes.items()):
                journal = home()
                if journal is None:  # else its dict stays, for another thread may be noting in it
                    homes.pop(home, None)
                    continue
                for keys in tuple(there):
                    if journal.unassigned and not journal.lies_at(keys, value):
                        there.pop(keys, None)
                self.noted += len(there)
        self.limit = max(ROOM, 2 * self.noted)


def _forget(key: int, _gone: object) -> None:
    PLACES.pop(key, None)


def _note(home: Journal | None, keys: Keys, values: list[MutableValue]) -> None:
    for value in values:
        places = PLACES.get(id(value))
        if places is None:
            places = PLACES.setdefault(id(value), _Places(value))
        if home is None:
            places.shared[keys] = None
        else:
            places.note(home, keys, value)


def _here() -> Journal | None:
    """The journal of the current turn."""
    turn = current_turn()
    if turn is None or turn.ended or turn.concurrent:
        return None
    state = turn.state
    return journal_of(state) if isinstance(state, State) else None


def _found_in(value: MutableValue, here: Journal) -> list[Place]:
    """Where the value lies in one session, or state on its own."""
    places = PLACES.get(id(value))
    if places is None:
        return []
    homes = places.lone if here.alone else places.own
    noted = [*homes.get(weakref.ref(here), ()), *tuple(places.shared)]
    return [(here, keys) for keys in dict.fromkeys(noted) if here.lies_at(keys, value)]


def _found(value: MutableValue, here: Journal | None) -> list[Place]:
    """Where the value lies: in ``here``, if at all, and in states on their own; else anywhere."""
    places = PLACES.get(id(value))
    if places is None:
        return []
    found = [] if here is None else _found_in(value, here)
    homes = tuple(places.lone) if found else (*tuple(places.own), *tuple(places.lone))
    for home in homes:
        journal = home()
        if journal is not None and journal is not here:
            found += _found_in(value, journal)
    return found


def _may_mark(journal: Journal, here: Journal | None) -> bool:
    """Whether this code runs in a turn of that journal.

    Turns that wait on the loop all belong to its thread, and any code there has the value at hand:
    so there the current turn counts, elsewhere the thread.
    """
    if not journal.assignable:
        return False
    return journal.alone or journal is here or not _on_a_loop()


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def reach(value: MutableValue) -> list[Place]:
    """Where a value lies and may be marked as changed by this thread.

    A value of several sessions is marked in the one whose turn this is. Raises StaleTurn when it
    lies in sessions and none of them is in a turn of this thread.
    """
    here = _here()
    found = _found(value, here)
    allowed = [place for place in found if _may_mark(place[0], here)]
    if found and not allowed:
        raise StaleTurn(
            f"a {type(value).__qualname__} was changed outside of the turn of its session: change "
            "it in a handler, or in `with session.turn():` (`async with` on the loop)"
        )
    return allowed


def report(value: MutableValue, reached: list[Place], undo: Undo | None = None) -> None:
    """Mark a value as changed where ``reach`` found it. ``undo`` gives it back what it was.

    ``undo`` is for a value of one session; what several share others may have changed as well.
    """
    for journal in dict.fromkeys(journal for journal, _ in reached):
        journal.keep(value, None if undo is None or _is_shared(value, journal) else undo)
    for journal, keys in reached:
        journal.mark(keys, value)


def _is_shared(value: MutableValue, journal: Journal) -> bool:
    places = PLACES[id(value)]
    homes = (*tuple(places.own), *tuple(places.lone))
    return bool(places.shared) or any(home() not in (None, journal) for home in homes)


def _undone(journal: Journal, kept: list[tuple[MutableValue, Undo | None]]) -> None:
    for value, undo in kept:
        if undo is not None:
            undo()
            continue
        for _, keys in _found_in(value, journal):
            journal.mark(keys, value, False)


set_mutable(MutableValue, _note, _undone)
