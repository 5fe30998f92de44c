"""Who waits for whom, so that a circle is an error at once and not a time-out later.

An edge goes from the session whose *turn* waits to the session it waits for. Somebody who waits
outside of any turn, or in a job beside the turns, holds nothing up and makes no edge.

Threads: any; one lock, taken only when a turn begins to wait. The edge is stored before the look
for a circle, so of two threads that close a circle together at least one finds it.

Cut in the middle: the edge is taken away in ``finally``; a turn that ended has none.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from ._actor import Actor
from ._turn import current_turn
from .errors import Cycle

__all__ = ["begin_wait", "end_wait", "waiter", "waiting"]

_lock = threading.Lock()


def waiter() -> Actor | None:
    """The session whose turn the caller runs in, or None when it holds up nobody."""
    turn = current_turn()
    if turn is None or turn.ended or turn.concurrent:
        return None
    session: Actor = turn.session
    return session


def begin_wait(by: Actor, on: Actor) -> None:
    """Record that the turn of ``by`` waits for ``on``. Raises :class:`Cycle` and records nothing
    when ``on`` waits for ``by``, directly or through others.
    """
    with _lock:
        path = _path(on, by)
        if path is not None:
            ids = tuple(str(actor.id) for actor in (by, *path))
            raise Cycle(
                f"{' -> '.join(ids)}: each of these sessions would wait for the next one for ever. "
                "Use tell() instead of waiting, or wait outside of the turn",
                ids,
            )
        edges: dict[Actor, int] = by.waiting or {}
        edges[on] = edges.get(on, 0) + 1
        by.waiting = edges


def end_wait(by: Actor, on: Actor) -> None:
    """Take back one :func:`begin_wait`."""
    with _lock:
        edges: dict[Actor, int] | None = by.waiting
        if edges is None or on not in edges:
            return
        edges[on] -= 1
        if not edges[on]:
            del edges[on]
        if not edges:
            by.waiting = None


@contextmanager
def waiting(on: Actor) -> Generator[None]:
    """The caller waits for ``on`` inside the block. Raises :class:`Cycle` at once for a circle."""
    by = waiter()
    if by is None:
        yield
        return
    begin_wait(by, on)
    try:
        yield
    finally:
        end_wait(by, on)


def _path(start: Actor, goal: Actor) -> list[Actor] | None:
    """The way along the edges from ``start`` to ``goal``, both included."""
    stack = [[start]]
    seen = {start}
    while stack:
        path = stack.pop()
        if path[-1] is goal:
            return path
        for following in path[-1].waiting or ():
            if following not in seen:
                seen.add(following)
                stack.append([*path, following])
    return None
