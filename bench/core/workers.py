"""Default sync handlers: turns on worker threads, against ``loop.run_in_executor``. Wall clock."""

from __future__ import annotations

import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import greenroom as gr

from ..harness import Bench, Measure, percentile
from .stage import make_app

WINDOW = 64
Submit = Callable[[int], Awaitable[Any]]


def double(payload: int) -> int:
    return payload * 2


def nap() -> None:
    time.sleep(0.05)


@gr.handler(inline=True)
def inline(payload: int) -> int:
    return payload * 2


over = threading.Event()


def burn() -> None:
    while not over.is_set():
        sum(range(200))


async def run(bench: Bench) -> None:
    async with make_app(handlers=[double, nap, inline, burn]) as app:
        sessions = [app.open_session() for _ in range(WINDOW)]
        loop = asyncio.get_running_loop()

        def worker(number: int) -> Awaitable[Any]:
            return sessions[number % WINDOW].ask("double", number)

        with ThreadPoolExecutor(8) as pool:

            def executor(number: int) -> Awaitable[Any]:
                return loop.run_in_executor(pool, double, number)

            count = bench.loops(4_000)
            await bench.compare(
                f"Session.ask() of a sync handler, {WINDOW} in flight: rate",
                pooled(executor, count), pooled(worker, count), bar=4.0, better="more",
                invert=True, against="run_in_executor", of="us", wall=True,
            )  # fmt: skip
            await bench.compare(
                "the same, one at a time: p50", alone(executor, bench.loops(200)),
                alone(worker, bench.loops(200)), bar=1.0, against="run_in_executor", of="us",
                wall=True,
            )  # fmt: skip
        await bench.value(
            f"p50 of {WINDOW - 1} others while one handler sleeps 50 ms",
            beside_a_sleeper(sessions), bar=10.0, unit="ms",
        )  # fmt: skip
        for interval, bar in ((0.005, None), (0.001, 2.0)):
            await bench.value(
                f"inline ask beside a CPU-bound worker, {interval * 1e3:.0f} ms switch: p99",
                beside_a_burner(sessions, interval, bench.loops(300)), bar=bar, unit="ms", rounds=3,
            )  # fmt: skip


def pooled(submit: Submit, count: int) -> Measure:
    """Seconds per job with ``WINDOW`` of them under way."""

    async def measure() -> float:
        left = count
        wrong = 0

        async def lane() -> None:
            nonlocal left, wrong
            while left > 0:
                left -= 1
                number = left
                wrong += await submit(number) != number * 2

        start = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(WINDOW)))
        spent = time.perf_counter() - start
        assert not wrong
        return spent / count

    return measure


def alone(submit: Submit, count: int) -> Measure:
    """Median seconds of one job when nothing else is going on."""

    async def measure() -> float:
        times: list[float] = []
        for number in range(count):
            start = time.perf_counter()
            answer = await submit(number)
            times.append(time.perf_counter() - start)
            assert answer == number * 2
        return statistics.median(times)

    return measure


def beside_a_sleeper(sessions: list[gr.Session]) -> Measure:
    async def measure() -> float:
        times: list[float] = []

        async def one(session: gr.Session) -> None:
            start = time.perf_counter()
            assert await session.ask("double", 21) == 42
            times.append(time.perf_counter() - start)

        napping = sessions[0].ask("nap")
        await asyncio.gather(*(one(session) for session in sessions[1:]))
        await napping
        return statistics.median(times)

    return measure


def beside_a_burner(sessions: list[gr.Session], interval: float, count: int) -> Measure:
    async def measure() -> float:
        before = sys.getswitchinterval()
        sys.setswitchinterval(interval)
        over.clear()
        burning = sessions[0].ask("burn")
        times: list[float] = []
        try:
            for number in range(count):
                await asyncio.sleep(0.001)
                start = time.perf_counter()
                assert await sessions[1].ask("inline", number) == number * 2
                times.append(time.perf_counter() - start)
        finally:
            over.set()
            await burning
            sys.setswitchinterval(before)
        return percentile(times, 0.99)

    return measure
