"""Turns on the loop: from post to commit, against a deque that one callback drains."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any

import greenroom as gr
from greenroom.core._turn import Message

from ..harness import Bench, Measure, clock
from .stage import make_app, settled

BURST = 500


@gr.handler(inline=True)
def assign(state: Any, payload: Any) -> None:
    state["n"] = payload


@gr.handler(name="assign_async")
async def assign_async(state: Any, payload: Any) -> None:
    state["n"] = payload


@gr.handler(inline=True)
def double(payload: Any) -> Any:
    return payload * 2


async def run(bench: Bench) -> None:
    async with make_app(state={"n": -1}, handlers=[assign, assign_async, double]) as app:
        one = app.open_session()
        base = deque_drained(bench)
        against = "a deque drained by one callback"
        await bench.compare(
            "post + inline turn, one session", base, posted(bench, app, [one], "assign"),
            bar=5.0, against=against, note="one tracked assignment and its commit",
        )  # fmt: skip
        await bench.compare(
            "session.tell() + inline turn, one session", base, told(bench, app, one),
            bar=None, against=against,
        )  # fmt: skip
        await bench.compare(
            "post + async turn that does not suspend", base,
            posted(bench, app, [one], "assign_async"), bar=10.0, against=against,
        )  # fmt: skip
        await bench.compare(
            "Session.ask() from the loop", future_and_call_soon(bench), asked(bench, one),
            bar=1.25, against="call_soon + future",
        )  # fmt: skip
        name = "post + inline turn, 10,000 sessions in random order"
        if bench.wanted(name):
            many = [app.open_session() for _ in range(10_000)]
            await bench.compare(
                name, base, posted(bench, app, many, "assign"), bar=7.0, against=against
            )
            await _growth(bench, app, many)


def deque_drained(bench: Bench) -> Measure:
    """What a turn is compared with: append to a deque, one callback calls and stores in a dict."""
    count = max(1, bench.loops(10_000) // BURST)

    def store(state: dict[str, int], payload: int) -> None:
        state["n"] = payload

    async def measure() -> float:
        loop = asyncio.get_running_loop()
        queue: deque[tuple[Any, Any, Any]] = deque()
        state: dict[str, int] = {}

        def drain() -> None:
            take = queue.popleft
            while queue:
                fn, held, payload = take()
                fn(held, payload)

        start = clock()
        for _ in range(count):
            loop.call_soon(drain)
            for number in range(BURST):
                queue.append((store, state, number))
            await asyncio.sleep(0)
        spent = clock() - start
        assert state == {"n": BURST - 1}
        return spent / (count * BURST)

    return measure


def posted(bench: Bench, app: gr.App, sessions: list[gr.Session], event: str) -> Measure:
    """Bursts of messages as the dispatch of clients' events makes them, over sessions at random."""
    count = max(1, bench.loops(10_000) // BURST)

    async def measure() -> float:
        handlers = sessions[0].resolve(event, "main")
        place = handlers[0].place
        order = [random.choice(sessions) for _ in range(BURST * count)]
        last = {session.id: number for number, session in enumerate(order)}
        number = 0
        start = clock()
        for begin in range(0, BURST * count, BURST):
            for session in order[begin : begin + BURST]:
                session.post(Message(event, number, handlers, place=place))
                number += 1
            await settled(app)
        spent = clock() - start
        assert all(session.state["n"] == last[session.id] for session in order)
        return spent / (count * BURST)

    return measure


def told(bench: Bench, app: gr.App, session: gr.Session) -> Measure:
    count = max(1, bench.loops(5_000) // BURST)

    async def measure() -> float:
        start = clock()
        for _ in range(count):
            for number in range(BURST):
                session.tell("assign", number)
            await settled(app)
        spent = clock() - start
        assert session.state["n"] == BURST - 1
        return spent / (count * BURST)

    return measure


def future_and_call_soon(bench: Bench) -> Measure:
    count = bench.loops(3_000)

    async def measure() -> float:
        loop = asyncio.get_running_loop()
        total = 0

        def double(future: asyncio.Future[int], number: int) -> None:
            future.set_result(number * 2)

        start = clock()
        for number in range(count):
            future: asyncio.Future[int] = loop.create_future()
            loop.call_soon(double, future, number)
            total += await future
        spent = clock() - start
        assert total == count * (count - 1)
        return spent / count

    return measure


def asked(bench: Bench, session: gr.Session) -> Measure:
    count = bench.loops(3_000)

    async def measure() -> float:
        total = 0
        start = clock()
        for number in range(count):
            total += await session.ask("double", number)
        spent = clock() - start
        assert total == count * (count - 1)
        return spent / count

    return measure


async def _growth(bench: Bench, app: gr.App, many: list[gr.Session]) -> None:
    """From 10 to 100,000 sessions in random order, beside what plain dicts do."""
    count = bench.loops(20_000)

    def stores(dicts: list[dict[str, int]]) -> Measure:
        def measure() -> float:
            order = [random.choice(dicts) for _ in range(count)]
            start = clock()
            for held in order:
                held["n"] = 1
            spent = clock() - start
            assert all(held == {"n": 1} for held in order)
            return spent / count

        return measure

    name = "the same, 100,000 sessions against 10"
    if bench.wanted(name):
        dicts = [{"n": 0} for _ in range(100_000)]
        await bench.compare(
            "a bare store, 100,000 dicts in random order against 10", stores(dicts[:10]),
            stores(dicts), bar=None, against="10 dicts",
        )  # fmt: skip
        many = many + [app.open_session() for _ in range(90_000)]
        await bench.compare(
            name, posted(bench, app, many[:10], "assign"), posted(bench, app, many, "assign"),
            bar=5.0, against="10 sessions",
        )  # fmt: skip
