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
    def patch_bytes(self) -> int: ...
    @property
    def unsent_bytes(self) -> int: ...
    @property
    def sent_bytes(self) -> int: ...
    def collapse(self) -> None: ...
    def empty(self) -> None: ...
    def overflow(self, now: float) -> None: ...


class Budget(Tally):
    """The bytes that the logs of one app's links may hold together (``total_log_bytes``).

    Above it, until it is met again: streams without a connection are emptied, oldest first; then
    unsent patches become snapshot marks, largest first; then the largest stalled link is closed
    as a slow consumer. ``on_close(link)`` tells the app of such a link: nobody was looking at it.

    What remains may be above the limit: frames in flight to clients that do read. Then the next
    look is taken when a 64th of the limit has been added, or a second later: commits stay cheap.
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
        detached = [link for link in self.links if link.detached and _held(link)]
        for link in sorted(detached, key=lambda link: link.detached_at):
            link.empty()
            if self.total <= self.limit:
                return
        patched = [link for link in self.links if link.patch_bytes]
        for link in sorted(patched, key=lambda link: -link.patch_bytes):
            link.collapse()
            if self.total <= self.limit:
                return
        stalled = [link for link in self.links if link.stalled]
        for link in sorted(stalled, key=lambda link: -_held(link)):
            link.overflow(now)
            link.empty()  # it comes back to a snapshot
            if self.on_close is not None:
                self.on_close(link)
            if self.total <= self.limit:
                return


def _held(link: Payer) -> int:
    return link.unsent_bytes + link.sent_bytes
