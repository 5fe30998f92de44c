"""What clients ask beside the turns, queries and triggers, and how much of it there may be.

Owner: the app's loop. ``gr:`` frames do not count towards ``Settings.inflight``, so these have a
bound of their own: at most ``inflight`` of one session at a time, and ``mailbox_bytes`` of them;
what is beyond that is answered ``busy``. Cut in the middle: a question that timed out or was
cancelled is answered at once, but a worker may still be busy with it. It keeps its seat until
that has ended too, so that nobody fills the workers with questions he does not wait for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from .errors import Busy

if TYPE_CHECKING:
    from .link import ServerLink

__all__ = ["Beside", "Seat"]

RETRY_AFTER: Final = 1.0  # seconds


class Beside:
    """The questions of one session that are worked on."""

    __slots__ = ("_most", "_most_bytes", "_tasks", "count", "nbytes")

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most  # 0: any number
        self._most_bytes = most_bytes
        self._tasks: dict[ServerLink, dict[int | None, asyncio.Task[Any]]] = {}
        self.count = 0
        self.nbytes = 0

    def enter(self, size: int) -> Seat:
        """A seat for a question of ``size`` bytes. Raises :class:`Busy` when there is none."""
        if 0 < self._most <= self.count:
            raise Busy(f"{self.count} questions wait for an answer", RETRY_AFTER)
        if self.nbytes and 0 < self._most_bytes < self.nbytes + size:
            raise Busy("the questions that wait for an answer are too large", RETRY_AFTER)
        self.count += 1
        self.nbytes += size
        return Seat(self, size)

    def began(self, link: ServerLink, number: int | None, task: asyncio.Task[Any]) -> None:
        """A question is worked on: it can be cancelled by its number."""
        self._tasks.setdefault(link, {})[number] = task

    def ended(self, link: ServerLink, number: int | None, task: asyncio.Task[Any]) -> None:
        """It has its answer."""
        tasks = self._tasks.get(link, {})
        if tasks.get(number) is task:
            del tasks[number]
            if not tasks:
                del self._tasks[link]

    @property
    def working(self) -> bool:
        """Whether there is one that waits for its answer."""
        return bool(self._tasks)

    def cancel(self, link: ServerLink, number: int) -> bool | None:
        """Cancel a question; None when it is none of ours."""
        task = self._tasks.get(link, {}).get(number)
        return None if task is None else task.cancel()

    def forget(self, link: ServerLink) -> None:
        """The link has ended: nobody waits for its answers."""
        for task in tuple(self._tasks.get(link, {}).values()):
            task.cancel()


class Seat:
    """One question's seat: held by its answer and by every call that works for it."""

    __slots__ = ("_beside", "_held", "_size")

    def __init__(self, beside: Beside, size: int) -> None:
        self._beside = beside
        self._size = size
        self._held = 1

    def hold(self) -> None:
        """One more works for it."""
        self._held += 1

    def hold_for(self, task: asyncio.Task[Any]) -> None:
        """A task works for it."""
        self.hold()
        task.add_done_callback(lambda _: self.leave())

    def leave(self) -> None:
        """One of them has ended; with the last the seat is free."""
        self._held -= 1
        if not self._held:
            self._beside.count -= 1
            self._beside.nbytes -= self._size
