"""G7: nothing is dropped in silence: accepted + refused = sent, and who is refused hears of it.

The mailbox is kept shut by a handler that waits for the test, and ten times as much is thrown at it
as it holds, in every way there is to throw.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from typing import Any

import pytest
from tests.support.byteline import ByteLine
from tests.support.gates import Gates
from tests.support.visitor import Visitor

import greenroom as gr
from greenroom.testing import ManualClock

CAPACITY = 50
SENT = 10 * CAPACITY
ENDS = ("run", "failed", "cancelled", "expired", "dropped")


class Shut:
    """An app whose one session is busy until the gate is opened."""

    def __init__(self, **settings: Any) -> None:
        self.gates = Gates()
        self.ran: list[Any] = []
        defaults: dict[str, Any] = {
            "mailbox_messages": CAPACITY,
            "inflight": 0,
            "rate": 0.0,
            "watchdog": 0.0,
            "drain": 0.0,
        }
        self.clock = ManualClock()
        self.app = gr.App(
            {"n": 0},
            [self.wait, self.count],
            gr.Settings(**(defaults | settings)),
            clock=self.clock,
        )

    async def wait(self) -> None:
        await self.gates.pause()

    @gr.handler(inline=True)
    def count(self, payload: Any, state: Any) -> Any:
        self.ran.append(payload)
        state["n"] += 1
        return payload

    async def shut(self, session: gr.Session) -> Any:
        """Begin the turn that everything else has to wait for."""
        waiting = asyncio.ensure_future(session.ask("wait", timeout=0))
        while not len(self.gates):
            await asyncio.sleep(0)
        return waiting

    def check(self) -> None:
        """At a quiet point: every message is accounted for, in exactly one place."""
        told = self.app.stats()["messages"]
        assert told["pending"] == 0
        assert told["accepted"] == sum(told[end] for end in ENDS), told

    async def quiet(self) -> None:
        self.gates.open_all()
        while self.app.stats()["messages"]["pending"]:
            await asyncio.sleep(0)


def test_g7_a_flood_of_client_events(arun: Any) -> None:
    async def main() -> None:
        shut = Shut()
        async with shut.app:
            visitor = Visitor("v", shut.clock.time)
            line = ByteLine(shut.app, visitor)
            line.up()
            await asyncio.sleep(0)
            line.down()
            session = shut.app.sessions[visitor.link.session or ""]
            await shut.shut(session)
            before = shut.app.stats()["messages"]
            tags = [visitor.submit("count", number) for number in range(SENT)]
            line.pump()
            line.up()
            told = shut.app.stats()["messages"]
            assert told["accepted"] - before["accepted"] == CAPACITY
            assert told["refused"] - before["refused"] == SENT - CAPACITY
            # Who is refused hears it at once, while the mailbox is still full.
            await down(line)
            assert len(visitor.outcomes) == SENT - CAPACITY
            await shut.quiet()
            await down(line)
            codes = Counter(outcome.code for outcome in visitor.outcomes.values())
            assert codes == {"": CAPACITY, "busy": SENT - CAPACITY}
            for outcome in visitor.outcomes.values():
                if outcome.code == "busy":
                    assert outcome.value["retry_after"] > 0
                    assert outcome.value["message"]
            # What was accepted is what ran, in order; what was refused did not.
            answered = [n for n, tag in enumerate(tags) if not visitor.outcomes[tag].code]
            assert shut.ran == answered == list(range(CAPACITY))
            assert visitor.state["n"] == CAPACITY
            shut.check()
            # A refusal is final for its id, and harmless: a new event is welcome.
            visitor.submit("count", "again", tag="again")
            line.pump()
            line.up()
            await asyncio.sleep(0)
            line.down()
            assert visitor.outcomes["again"].value == "again"
            line.cut()

    arun(main)


def test_g7_a_flood_of_bytes(arun: Any) -> None:
    """The mailbox is bounded in bytes too."""

    async def main() -> None:
        shut = Shut(mailbox_messages=0, mailbox_bytes=100_000)
        async with shut.app:
            visitor = Visitor("v", shut.clock.time)
            line = ByteLine(shut.app, visitor)
            line.up()
            await asyncio.sleep(0)
            line.down()
            await shut.shut(shut.app.sessions[visitor.link.session or ""])
            for _ in range(100):
                visitor.submit("count", "x" * 10_000)
            line.pump()
            line.up()
            await shut.quiet()
            await down(line)
            codes = Counter(outcome.code for outcome in visitor.outcomes.values())
            assert codes[""] + codes["busy"] == 100
            assert 8 <= codes[""] <= 11
            assert len(shut.ran) == codes[""]
            shut.check()
            line.cut()

    arun(main)


def test_g7_a_flood_from_threads(arun: Any) -> None:
    """``tell`` raises Busy at once; what it accepted runs."""

    async def main() -> None:
        shut = Shut()
        async with shut.app:
            session = shut.app.open_session()
            before = shut.app.stats()["messages"]
            await shut.shut(session)
            results: list[bool] = []

            def flood(number: int) -> None:
                for count in range(SENT // 10):
                    try:
                        session.tell("count", (number, count))
                        results.append(True)
                    except gr.Busy:
                        results.append(False)

            threads = [threading.Thread(target=flood, args=(number,)) for number in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            assert len(results) == SENT
            assert sum(results) == CAPACITY
            told = shut.app.stats()["messages"]
            assert told["accepted"] - before["accepted"] == CAPACITY + 1
            assert told["refused"] - before["refused"] == SENT - CAPACITY
            await shut.quiet()
            assert len(shut.ran) == CAPACITY
            shut.check()

    arun(main)


def test_g7_asks_holds_signals_and_timers_are_refused_aloud(arun: Any) -> None:
    async def main() -> None:
        shut = Shut()
        shut.app.events.create_signal("app:signal")

        @shut.app.events.event("app:signal")
        def react(data: Any, session: gr.Session) -> None:
            shut.ran.append(data)

        async with shut.app:
            session = shut.app.open_session()
            await shut.shut(session)
            for number in range(CAPACITY):
                session.tell("count", number)
            with pytest.raises(gr.Busy) as refusal:
                session.tell("count", "tell")
            assert refusal.value.retry_after > 0
            with pytest.raises(gr.Busy):
                await session.ask("count", "ask")
            with pytest.raises(gr.Busy):
                async with session.turn():
                    pass
            delivered = await shut.app.events.trigger("app:signal", "signal")
            assert (delivered.delivered, delivered.refused) == (0, 1)
            refused = shut.app.stats()["messages"]["refused"]
            session.tell("count", "timer", delay=1.0)
            shut.clock.advance(1.0)  # nobody is there to be told: it is counted
            assert shut.app.stats()["messages"]["refused"] == refused + 1
            assert shut.app.stats()["events"]["refused"] == 1
            await shut.quiet()
            assert shut.ran == list(range(CAPACITY))
            shut.check()

    arun(main)


def test_g7_what_a_session_leaves_undone_is_told(arun: Any) -> None:
    """A session that ends with a full mailbox answers every message in it."""

    async def main() -> None:
        shut = Shut()
        async with shut.app:
            session = shut.app.open_session()
            held = await shut.shut(session)
            asks = [
                asyncio.ensure_future(session.ask("count", n, timeout=0)) for n in range(CAPACITY)
            ]
            session.close("enough")
            results = await asyncio.gather(*asks, return_exceptions=True)
            assert all(isinstance(result, gr.Closed) for result in results)
            shut.gates.open_all()
            await asyncio.gather(held, return_exceptions=True)
            await shut.quiet()
            assert shut.ran == []
            shut.check()
            assert shut.app.stats()["messages"]["dropped"] == CAPACITY

    arun(main)


def test_g7_clients_that_ignore_the_rules_are_told_too(arun: Any) -> None:
    """Beyond ``inflight`` it is ``busy``: each id has its answer."""

    async def main() -> None:
        shut = Shut(mailbox_messages=0, inflight=20)
        async with shut.app:
            line = ByteLine(shut.app, None)
            say(line, "gr:hello", protocol=1, token=None, link=None, seq=0)
            line.up()
            session = next(iter(shut.app.sessions.values()))
            await shut.shut(session)
            for number in range(1, 201):
                say(line, "count", number)
            line.up()
            await shut.quiet()
            await down(line)
            answers = {f["id"]: f for f in map(json.loads, line.frames) if "id" in f}
            assert set(answers) == set(range(1, 201))
            codes = Counter(f["data"]["code"] for f in answers.values() if f["type"] == "gr:error")
            assert codes == {"busy": 200 - len(shut.ran)}
            assert 20 <= len(shut.ran) <= 21
            assert sum(f["seq"] > 0 for f in answers.values()) == 200
            line.cut()

    arun(main)


def test_g7_what_takes_too_long_is_told(arun: Any) -> None:
    """Queries and turns that exceed their time have a word of their own; 0 is no limit."""

    async def slowly(data: Any = None) -> None:
        await asyncio.get_running_loop().create_future()

    async def main(query_timeout: float, asked: float | None, turn_timeout: float | None) -> str:
        settings = gr.Settings(
            watchdog=0.0, drain=0.0, query_timeout=query_timeout, turn_timeout=turn_timeout
        )
        app = gr.App(None, [], settings)
        app.on("app:slow", slowly)
        app.events.query("app:slow", internal=False)(slowly)
        app.events.query("app:quick", internal=False)(lambda data: "quick")
        async with app:
            visitor = Visitor("v", asyncio.get_running_loop().time)
            line = ByteLine(app, visitor)
            if turn_timeout:
                visitor.submit("app:slow", tag="x")
            else:
                name = "app:slow" if asked else "app:quick"
                data = {"name": name, "data": None, "timeout": asked}
                visitor.submit("gr:query", data, tag="x")
            while "x" not in visitor.outcomes:
                line.pump()
                line.up()
                await asyncio.sleep(0)
                line.down()
            line.cut()
            return visitor.outcomes["x"].code or str(visitor.outcomes["x"].value)

    assert arun(lambda: main(0.01, 5.0, None)) == "timeout"
    assert arun(lambda: main(0.0, 0.01, None)) == "timeout"
    assert arun(lambda: main(0.0, None, None)) == "quick"
    assert arun(lambda: main(1.0, None, 0.01)) == "timeout"


async def down(line: ByteLine) -> None:
    """Carry all there is to the client, in as many parts as the app hands it over."""
    await asyncio.sleep(0)
    while line.down():
        await asyncio.sleep(0)


def say(line: ByteLine, type: str, id: int | None = None, **data: Any) -> None:
    frame: dict[str, Any] = {"type": type, "data": data}
    if id is not None:
        frame |= {"id": id, "data": id}
    line.upward += json.dumps(frame).encode() + b"\n"
