"""Deadlines: one timer for everything that has to be looked at later.

Owner: the app's loop; nothing here may be called from another thread.

Whoever has something due (a link, a session, a connection) has a method ``deadline()``, the time
at which it wants to be looked at or None, and a method ``due(now)`` that looks. It is *watched*
once and stays in the heap until it has no deadline any more. A deadline that moved later is found
out when the old one is reached, so moving one costs nothing; one that moved earlier is told by
watching again. The heap keeps nobody alive: an hour's closed sessions would be in it.
Cut in the middle: an entry whose subject has ended is dropped when it comes up, or when the heap
has doubled since it was last looked through: at most every other entry is one of those.
"""

from __future__ import annotations

import heapq
import weakref
from typing import Final, Protocol

from .types import Clock, Timer

__all__ = ["Deadlines", "Due"]

SMALL: Final = 64


class Due(Protocol):
    """Something that wants to be looked at at a certain time."""

    watched: float | None  #: the time of its earliest entry; owned by Deadlines

    def deadline(self) -> float | None: ...
    def due(self, now: float) -> None: ...


class Deadlines:
    """A heap of subjects by deadline, and the one timer that wakes it."""

    __slots__ = ("_clock", "_count", "_full", "_heap", "_timer", "_timer_at")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, weakref.ref[Due]]] = []
        self._count = 0
        self._full = SMALL  # so many entries are looked through
        self._timer: Timer | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def watch(self, subject: Due) -> None:
        """Look at ``subject`` when its deadline comes; cheap when it is watched already."""
        when = subject.deadline()
        if when is None or (subject.watched is not None and subject.watched <= when):
            return
        subject.watched = when
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, weakref.ref(subject)))
        if len(self._heap) > self._full:
            self._look_through()
        self._arm()

    def stop(self) -> None:
        """Forget everything."""
        for _, _, entry in self._heap:
            subject = entry()
            if subject is not None:
                subject.watched = None
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_through(self) -> None:
        """Drop the entries that nobody waits for any more."""
        kept: list[tuple[float, int, weakref.ref[Due]]] = []
        for each in self._heap:
            subject = each[2]()
            if subject is None or subject.watched != each[0]:
                continue
            if subject.deadline() is None:
                subject.watched = None
            else:
                kept.append(each)
        heapq.heapify(kept)
        self._heap[:] = kept
        self._full = max(SMALL, 2 * len(kept))

    def _arm(self) -> None:
        if not self._heap:
            return
        when = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._clock.call_at(when, self._run)

    def _run(self) -> None:
        self._timer = None
        now = self._clock.time()
        heap = self._heap
        looked: list[Due] = []  # watched again afterwards: one that stays due must not hold us here
        try:
            while heap and heap[0][0] <= now:
                when, _, entry = heapq.heappop(heap)
                subject = entry()
                if subject is None or subject.watched != when:
                    continue  # an earlier entry has been made since, or it ended
                subject.watched = None
                looked.append(subject)
                wanted = subject.deadline()
                if wanted is not None and wanted <= now:
                    subject.due(now)
        finally:  # also when one of them raises: the others are still waited for
            for subject in looked:
                self.watch(subject)
            self._arm()
