"""Who pays first when the logs of all links together are too much.

The compiled :class:`~greenroom.core._stream.Tally` counts the bytes in all logs; this is the policy
above it. On the app's loop only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ._counts import Counts
from ._stream import Tally

__all__ = ["Budget", "Payer"]


class Payer(Protocol):
    """What a budget asks of a link."""

    detached_at: float

    @property
    def detached(self) -> bool: ...
    @property
    def stalled(self) -> bool: ...
    @property
    def flowing(self) -> bool: ...
    @property
    def patch_bytes(self) -> int: ...
    @property
    def unsent_bytes(self) -> int: ...
    @property
    def sent_bytes(self) -> int: ...
    def collapse(self) -> None: ...
    def release(self) -> None: ...
    def empty(self) -> None: ...
    def overflow(self, now: float) -> None: ...


class Budget(Tally):
    """The bytes that the logs of one app's links may hold together (``total_log_bytes``).

    Above it, until it is met again: streams without a connection are emptied, oldest first; then
    patches that a stalled transport holds up become snapshot marks, largest first; then what was
    sent and not acknowledged is forgotten, largest first; at last the largest stalled link is
    closed as a slow consumer. ``on_close(link)`` tells the app of a link that was closed: nobody
    was looking at it.

    Those who lose nothing by it pay until a 64th of the limit is free, so that the next commit
    need not look again. What remains may be above the limit only by what is handed over at the end
    of this very burst; then the next look is taken when a 64th was added, or a second later.
    """

    def __init__(
        self,
        limit: int,
        on_close: Callable[[Payer], None] | None = None,
        counts: Counts | None = None,
    ) -> None:
        super().__init__(limit, counts)
        self.links: set[Payer] = set()
        self.on_close = on_close
        self._next_total = 0
        self._next_time = 0.0

    def enforce(self, now: float) -> None:
        """Make those pay who must, in their order."""
        if self.total < self._next_total and now < self._next_time:
            return
        self._pay(now)
        over = self.total > self.limit
        self._next_total = self.total + self.limit // 64 if over else 0
        self._next_time = now + 1.0

    def _pay(self, now: float) -> None:
        goal = self.limit - self.limit // 64
        detached = [link for link in self.links if link.detached and _held(link)]
        for link in sorted(detached, key=lambda link: link.detached_at):
            link.empty()
            if self.total <= goal:
                return
        # Those of a link that reads are on their way out: it has done nothing to pay for.
        patched = [link for link in self.links if link.patch_bytes and not link.flowing]
        for link in sorted(patched, key=lambda link: -link.patch_bytes):
            link.collapse()
            if self.total <= goal:
                return
        unacknowledged = [link for link in self.links if link.sent_bytes]
        for link in sorted(unacknowledged, key=lambda link: -link.sent_bytes):
            link.release()
            if self.total <= goal:
                return
        stalled = [link for link in self.links if link.stalled and _held(link)]
        for link in sorted(stalled, key=lambda link: -_held(link)):
            if self.total <= self.limit:
                return
            link.overflow(now)
            link.empty()  # it comes back to a snapshot
            if self.on_close is not None:
                self.on_close(link)


def _held(link: Payer) -> int:
    return link.unsent_bytes + link.sent_bytes
