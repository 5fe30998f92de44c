"""Messages that are posted later, once or again and again.

A timer holds its session weakly: it does not keep it alive and ends with it. It is set on the
loop's clock; :meth:`Timer.cancel` and the making of a timer may happen on any thread and hand over
to the loop.

Cut in the middle: a timer that fires while its session closes finds the mailbox closed and ends.
A message that a full mailbox refuses is counted there too and the timer goes on. Every firing is
counted in ``Scheduler.timer_counts``: posted, skipped or refused.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._actor import Actor
from ._turn import Message
from .errors import Busy, Closed, NotFound
from .types import Timer as Alarm

if TYPE_CHECKING:
    from .scheduler import Scheduler

__all__ = ["Timer"]


def _nobody() -> None:
    """The session of a timer that has ended."""


class Timer:
    """The handle of a ``delay`` or ``every``; ``cancel`` it any number of times.

    ``make(session)`` gives the message for each firing; it must not hold the session itself. With
    ``every`` there is at most one message of this timer in the mailbox: a firing that finds one is
    left out and counted in ``skipped``.
    """

    __slots__ = ("__weakref__", "_alarm", "_last", "_make", "_scheduler", "_session", "_when",
                 "cancelled", "every", "fired", "skipped")  # fmt: skip

    def __init__(
        self,
        scheduler: Scheduler,
        session: Actor,
        make: Callable[[Any], Message],
        *,
        delay: float,
        every: float | None = None,
    ) -> None:
        if delay < 0 or (every is not None and every <= 0):
            raise ValueError("delay must not be negative, and every must be positive")
        self.cancelled = False
        self.every = every
        self.fired = 0
        self.skipped = 0
        self._scheduler = scheduler
        self._session: Callable[[], Actor | None] = weakref.ref(session, self._gone)
        self._make: Callable[[Any], Message] | None = make
        self._last: Message | None = None
        self._alarm: Alarm | None = None
        self._when = scheduler.time() + delay
        session.add_timer(self)
        if scheduler.on_loop():
            self._set()
        else:
            scheduler.post_to_loop(self._set)

    def cancel(self) -> None:
        """End it. A message that is in the mailbox already stays there."""
        if self.cancelled:
            return
        self.cancelled = True
        self._make = None
        self._last = None
        session, self._session = self._session(), _nobody  # the reference calls back: it holds us
        if session is not None and session.timers is not None:
            session.timers.discard(self)
        if self._alarm is not None:
            if self._scheduler.on_loop():
                self._unset()
            else:
                self._scheduler.post_to_loop(self._unset)

    def _gone(self, _: object) -> None:
        self.cancel()

    def _set(self) -> None:
        if not self.cancelled and self._scheduler.clock is not None:
            self._alarm = self._scheduler.clock.call_at(self._when, self._fire)

    def _unset(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _fire(self) -> None:
        self._alarm = None
        session = self._session()
        if self.cancelled or session is None or session.closed or self._make is None:
            self.cancel()
            return
        counts = self._scheduler.timer_counts
        counts["due"] += 1
        if self._last is not None and self._last.stage == 1:
            self.skipped += 1
            counts["skipped"] += 1
        else:
            try:
                message = self._make(session)
                session.post(message)
            except Busy:
                counts["refused"] += 1  # and the timer goes on
            except (Closed, NotFound) as error:
                counts["refused"] += 1
                if isinstance(error, NotFound):  # the callback it was made for was taken off
                    self._scheduler.report(f"a timer of session {session.id!r} ends: {error}")
                self.cancel()
                return
            else:
                self.fired += 1
                self._last = message
                counts["posted"] += 1
        if self.every is None:
            self.cancel()
            return
        # On its grid, leaving out what is past: a loop that was busy does not catch up in a burst.
        now = self._scheduler.time()
        self._when += self.every
        if self._when <= now:
            self._when += self.every * int((now - self._when) / self.every + 1)
        self._set()
