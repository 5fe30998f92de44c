"""A ledger, a session, a clock and small helpers for tests of the scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any

from greenroom.core._actor import Actor
from greenroom.core._turn import CallPlan, Message, Turn
from greenroom.core.scheduler import Scheduler
from greenroom.core.settings import Settings
from greenroom.core.types import Place

STATE, PAYLOAD = 0, 1


class FakeLedger:
    """A dict with the ledger's verbs, which checks that turns do not overlap."""

    def __init__(self) -> None:
        self.root: dict[str, Any] = {}
        self.view = self.root
        self.later: list[Callable[[], Any]] = []
        self.log: list[str] = []
        self.owner = 0
        self.before: dict[str, Any] = {}

    def open(self) -> None:
        assert not self.owner, "two turns at a time"
        self.owner = threading.get_ident()
        self.before = dict(self.root)
        self.log.append("open")

    def adopt(self) -> None:
        assert self.owner
        self.owner = threading.get_ident()

    def settle(self) -> None:
        """It has no properties."""

    def commit(self, keep: bool) -> None:
        assert self.owner == threading.get_ident(), "committed by another thread"
        self.owner = 0
        self.log.append("commit")

    def rollback(self, keep: bool) -> None:
        self.undo()
        self.owner = 0
        self.log.append("rollback")

    def undo(self) -> None:
        assert self.owner == threading.get_ident(), "undone by another thread"
        self.root.clear()
        self.root.update(self.before)

    def take_async(self) -> list[Callable[[], Any]]:
        taken, self.later = self.later, []
        return taken


class FakeSession(Actor):
    """A session that remembers what was settled, pushed and dropped."""

    def __init__(self, core: Any, name: str = "a") -> None:
        super().__init__(name, FakeLedger(), core)
        self.settled: list[tuple[str, Any, BaseException | None, list[Any] | None]] = []
        self.pushed: list[Turn] = []
        self.lost: list[tuple[str, BaseException]] = []

    def settle(self, turn: Turn, error: BaseException | None) -> None:
        self.settled.append((turn.message.event, turn.result, error, turn.outbox))
        super().settle(turn, error)

    def push_partial(self, turn: Turn) -> None:
        self.pushed.append(turn)

    def dropped(self, message: Message, error: BaseException) -> None:
        self.lost.append((message.event, error))
        super().dropped(message, error)


class FakePart:
    """A handler or a middleware."""

    def __init__(
        self, fn: Callable[..., Any], place: int = Place.INLINE, slots: tuple[int, ...] = (0, 1),
        kind: str = "plain",
    ) -> None:  # fmt: skip
        self.plan = CallPlan(fn, slots)
        self.place = place
        self.kind = kind
        self.answers = True


def message(
    fn: Callable[..., Any] | tuple[FakePart, ...],
    payload: Any = None,
    place: int = Place.INLINE,
    **more: Any,
) -> Message:
    """A message for one function, which takes state and payload, or for several parts."""
    handlers = fn if isinstance(fn, tuple) else (FakePart(fn, place),)
    name = more.pop("event", None) or getattr(fn, "__name__", "many")
    return Message(name, payload, handlers, place=place, **more)


class FakeClock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.heap: list[tuple[float, int, FakeAlarm]] = []
        self.count = 0

    def time(self) -> float:
        return self.at

    def call_at(self, when: float, callback: Any, *args: object) -> FakeAlarm:
        alarm = FakeAlarm(callback, args)
        self.count += 1
        heapq.heappush(self.heap, (when, self.count, alarm))
        return alarm

    def advance(self, seconds: float) -> None:
        """Move on, calling what falls due on the way."""
        end = self.at + seconds
        while self.heap and self.heap[0][0] <= end:
            self.at, _, alarm = heapq.heappop(self.heap)
            if not alarm.cancelled:
                alarm.callback(*alarm.args)
        self.at = end

    @property
    def waiting(self) -> int:
        return sum(not alarm.cancelled for _, _, alarm in self.heap)


class FakeAlarm:
    def __init__(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@contextlib.asynccontextmanager
async def scheduling(clock: FakeClock | None = None, **settings: Any) -> AsyncGenerator[Scheduler]:
    """A scheduler that is started, and at the end checked and stopped."""
    scheduler = Scheduler(settings=Settings(**({"watchdog": 0.0, "workers": 4} | settings)))
    reports: list[tuple[str, BaseException | None]] = []
    scheduler.on_report = lambda what, error: reports.append((what, error))
    scheduler.start(asyncio.get_running_loop(), clock)
    try:
        yield scheduler
    finally:
        await drain(scheduler, 5.0)
        await scheduler.stop()
    stats = scheduler.stats()
    ended = sum(stats[name] for name in ("run", "failed", "cancelled", "expired", "dropped"))
    assert stats["accepted"] == ended, stats
    assert not scheduler.suspended
    unexpected = [report for report in reports if "turn_timeout" not in report[0]]
    assert not unexpected, unexpected


async def drain(scheduler: Scheduler, seconds: float) -> int:
    """Refuse what is new, wait for what was accepted, and cut what is left; how much that was."""
    ended = asyncio.Event()
    scheduler.refuse(ended.set)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while scheduler.pending:
                ended.clear()
                await ended.wait()
    return scheduler.cut()


async def settled(scheduler: Scheduler) -> None:
    """Let the loop run until nothing is pending."""
    while scheduler.pending:
        await asyncio.sleep(0)
