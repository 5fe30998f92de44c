"""Turns: what a message costs from post to commit, as ratios of simple things in the same run.

    python bench/micro/bench_turns.py [--uvloop] [--rounds N]

Every line is A B A B in small slices and the median of their ratios. Loops on one thread are timed
by that thread's CPU time, so that a busy machine blurs them less; the pool by the wall clock. Every
round checks that the state is what it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from greenroom.core._fast import Actor, CallPlan, Message
from greenroom.core._state import Template
from greenroom.core.scheduler import Scheduler
from greenroom.core.settings import Settings
from greenroom.core.types import Place

BURST = 500
Measure = Callable[[], Awaitable[float]]


class Handler:
    __slots__ = ("place", "plan")

    def __init__(self, fn: Callable[..., Any], place: int) -> None:
        self.plan = CallPlan(fn, (0, 1))
        self.place = place


class Session(Actor):
    __slots__ = ()


def assign(state: Any, payload: Any) -> None:
    state["n"] = payload


async def assign_async(state: Any, payload: Any) -> None:
    state["n"] = payload


def double(state: Any, payload: Any) -> Any:
    return payload * 2


INLINE = (Handler(assign, Place.INLINE),)
ASYNC = (Handler(assign_async, Place.LOOP),)
WORKER = (Handler(double, Place.WORKER),)


class Bench:
    def __init__(self, scheduler: Scheduler, rounds: int) -> None:
        self.scheduler = scheduler
        self.rounds = rounds
        self.loop = asyncio.get_running_loop()
        template = Template({"n": -1})
        self.one = Session("one", template.open(), scheduler)
        self.many = [Session(str(n), template.open(), scheduler) for n in range(10_000)]
        self.lines: list[tuple[str, float, str, bool]] = []

    async def compare(self, name: str, bar: float, base: Measure, ours: Measure) -> None:
        """A line of the table: the median ratio of interleaved slices, and whether it is met."""
        for measure in (base, ours):
            await measure()
        pairs = [(await base(), await ours()) for _ in range(self.rounds)]
        ratios = sorted(b / a for a, b in pairs)
        ratio = statistics.median(ratios)
        spread = f"{ratios[len(ratios) // 4]:.2f} to {ratios[-len(ratios) // 4]:.2f}"
        best = (
            f"best {min(a for a, _ in pairs) * 1e9:.0f} -> {min(b for _, b in pairs) * 1e9:.0f} ns"
        )
        print(f"{name:44} {ratio:6.2f} x  (bar {bar:5.2f}; {spread}; {best})", flush=True)

    # -- the bases ------------------------------------------------------------------------------

    async def deque_drained(self, count: int = 5000) -> float:
        queue: deque[tuple[Any, Any, Any]] = deque()
        state: dict[str, int] = {}

        def drain() -> None:
            take = queue.popleft
            while queue:
                fn, held, payload = take()
                fn(held, payload)

        start = time.thread_time()
        for _ in range(count // BURST):
            self.loop.call_soon(drain)
            for number in range(BURST):
                queue.append((assign, state, number))
            await asyncio.sleep(0)
        spent = time.thread_time() - start
        assert state == {"n": BURST - 1}
        return spent / count

    async def future_and_call_soon(self, count: int = 1000) -> float:
        start = time.thread_time()
        for number in range(count):
            future: asyncio.Future[int] = self.loop.create_future()
            self.loop.call_soon(future.set_result, number)
            await future
        return (time.thread_time() - start) / count

    # -- ours -----------------------------------------------------------------------------------

    async def turns(self, handlers: tuple[Any, ...], place: int, count: int = 5000) -> float:
        post, pending = self.one.post, self.scheduler
        start = time.thread_time()
        for _ in range(count // BURST):
            for number in range(BURST):
                post(Message("assign", number, handlers, place=place))
            await asyncio.sleep(0)
            while pending.pending:
                await asyncio.sleep(0)
        spent = time.thread_time() - start
        assert self.one.ledger.root["n"] == BURST - 1
        return spent / count

    async def inline_turns(self, count: int = 5000) -> float:
        post, pending = self.one.post, self.scheduler
        start = time.thread_time()
        for _ in range(count // BURST):
            for number in range(BURST):
                post(Message("assign", number, INLINE))
            await asyncio.sleep(0)
            while pending.pending:
                await asyncio.sleep(0)
        spent = time.thread_time() - start
        assert self.one.ledger.root["n"] == BURST - 1
        return spent / count

    async def random_turns(self, count: int = 5000) -> float:
        sessions, pending = self.many, self.scheduler
        order = [random.randrange(len(sessions)) for _ in range(count)]
        start = time.thread_time()
        for begin in range(0, count, BURST):
            for number in order[begin : begin + BURST]:
                sessions[number].post(Message("assign", number, INLINE))
            await asyncio.sleep(0)
            while pending.pending:
                await asyncio.sleep(0)
        spent = time.thread_time() - start
        assert all(sessions[number].ledger.root["n"] == number for number in order)
        return spent / count

    async def asks(self, count: int = 1000) -> float:
        ask, one = self.scheduler.ask, self.one
        start = time.thread_time()
        for number in range(count):
            await ask(one, Message("assign", number, INLINE), 10.0)
        return (time.thread_time() - start) / count

    # -- the pool -------------------------------------------------------------------------------

    async def pooled(
        self, submit: Callable[[int], Awaitable[Any]], window: int, count: int
    ) -> float:
        """Seconds per job with `window` of them under way."""
        left = count
        wrong = 0

        async def lane() -> None:
            nonlocal left, wrong
            while left > 0:
                left -= 1
                number = left
                wrong += await submit(number) != number * 2

        start = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(window)))
        spent = time.perf_counter() - start
        assert not wrong
        return spent / count

    async def idle(self, submit: Callable[[int], Awaitable[Any]], count: int = 100) -> float:
        """Median seconds of one job when nothing else is going on."""
        times = []
        for number in range(count):
            start = time.perf_counter()
            assert await submit(number) == number * 2
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    async def beside_a_sleeper(self) -> None:
        """How long 63 others take while one handler sleeps 50 ms."""
        napping = (Handler(lambda s, p: time.sleep(0.05), Place.WORKER),)
        medians = []
        for _ in range(self.rounds):
            times: list[float] = []

            async def one(session: Session, times: list[float] = times) -> None:
                start = time.perf_counter()
                await self.scheduler.ask(
                    session, Message("double", 1, WORKER, place=Place.WORKER), 10.0
                )
                times.append(time.perf_counter() - start)

            nap = self.scheduler.ask(
                self.many[0], Message("nap", 1, napping, place=Place.WORKER), 10.0
            )
            await asyncio.gather(*(one(session) for session in self.many[1:64]))
            await nap
            medians.append(statistics.median(times))
        print(f"{'p50 of 63 others while one sleeps 50 ms':44} "
              f"{statistics.median(medians) * 1e3:6.2f} ms (bar 10.00)")  # fmt: skip

    async def beside_a_burner(self, interval: float) -> None:
        """p99 of an inline ask while a worker thread computes."""
        over = threading.Event()

        def burn(state: Any, payload: Any) -> None:
            while not over.is_set():
                sum(range(200))

        before = sys.getswitchinterval()
        sys.setswitchinterval(interval)
        burning = self.scheduler.ask(
            self.many[0],
            Message("burn", 1, (Handler(burn, Place.WORKER),), place=Place.WORKER), 30.0,
        )  # fmt: skip
        times = []
        for number in range(300):
            await asyncio.sleep(0.001)
            start = time.perf_counter()
            await self.scheduler.ask(self.one, Message("assign", number, INLINE), 10.0)
            times.append(time.perf_counter() - start)
        over.set()
        await burning
        sys.setswitchinterval(before)
        times.sort()
        print(f"{f'ask beside a CPU-bound worker, {interval * 1e3:.0f} ms switch: p99':44} "
              f"{times[int(len(times) * 0.99)] * 1e3:6.2f} ms (bar 2.00 at 1 ms)")  # fmt: skip


async def main(rounds: int) -> None:
    scheduler = Scheduler(settings=Settings(watchdog=0.0, mailbox_messages=0, workers=8))
    scheduler.start()
    bench = Bench(scheduler, rounds)
    base = bench.deque_drained
    await bench.compare("post + turn, inline, one session", 5.0, base, bench.inline_turns)
    await bench.compare("the same over 10,000 sessions", 7.0, base, bench.random_turns)
    await bench.compare(
        "async that does not suspend", 10.0, base, lambda: bench.turns(ASYNC, Place.LOOP)
    )
    await bench.compare("ask / call_soon + future", 1.25, bench.future_and_call_soon, bench.asks)
    with ThreadPoolExecutor(8) as pool:
        sessions = bench.many[:64]

        def executor(number: int) -> Awaitable[Any]:
            return bench.loop.run_in_executor(pool, double, None, number)

        def worker(number: int) -> Awaitable[Any]:
            return scheduler.ask(
                sessions[number & 63], Message("double", number, WORKER, place=Place.WORKER), 10.0
            )

        await bench.compare(
            "worker turns under load: time (bar 1/4)", 0.25,
            lambda: bench.pooled(executor, 64, 2000), lambda: bench.pooled(worker, 64, 2000),
        )  # fmt: skip
        await bench.compare(
            "worker turn when idle, p50", 1.0,
            lambda: bench.idle(executor), lambda: bench.idle(worker),
        )  # fmt: skip
    await bench.beside_a_sleeper()
    await bench.beside_a_burner(0.005)
    await bench.beside_a_burner(0.001)
    await scheduler.drain(5.0)
    await scheduler.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if options.uvloop:
        import uvloop

        uvloop.run(main(options.rounds))
    else:
        asyncio.run(main(options.rounds))
