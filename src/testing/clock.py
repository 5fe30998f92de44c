"""A clock that stands still until it is told to go: time-outs without waiting."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

__all__ = ["ManualClock"]


class ManualTimer:
    """A call that is due later. ``cancel`` may be called any number of times."""

    __slots__ = ("args", "callback", "when")

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[object, ...]
    ) -> None:
        self.when = when
        self.callback: Callable[..., object] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled or has run."""
        return self.callback is None


class ManualClock:
    """A :class:`~greenroom.core.types.Clock` for tests: ``App(..., clock=ManualClock())``.

    >>> clock = ManualClock(0.0)
    >>> timer = clock.call_at(5.0, print, "five")
    >>> clock.advance(10.0)
    five
    >>> clock.time()
    10.0
    """

    def __init__(self, start: float = 1_000.0) -> None:
        self._now = start
        self._heap: list[tuple[float, int, ManualTimer]] = []
        self._count = itertools.count()

    def time(self) -> float:
        """Seconds; never goes back."""
        return self._now

    def call_at(self, when: float, callback: object, *args: object) -> ManualTimer:
        """Call ``callback(*args)`` when the clock is moved to ``when`` or beyond."""
        if not callable(callback):
            raise TypeError(f"a callback must be callable, got {callback!r}")
        timer = ManualTimer(when, callback, args)
        heapq.heappush(self._heap, (when, next(self._count), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move on, running what falls due, in order of time and then of registration.

        While a callback runs the clock shows the time it was due; what it asks for within the
        same span runs too.
        """
        if seconds < 0:
            raise ValueError(f"a clock does not go back: {seconds!r}")
        end = self._now + seconds
        while (due := self.next()) is not None and due <= end:
            _, _, timer = heapq.heappop(self._heap)
            self._now = max(self._now, due)
            callback, args = timer.callback, timer.args
            timer.cancel()
            assert callback is not None
            callback(*args)
        self._now = end

    def next(self) -> float | None:
        """When the next call is due, or None."""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    @property
    def pending(self) -> int:
        """How many calls are waiting."""
        return sum(not timer.cancelled for _, _, timer in self._heap)
