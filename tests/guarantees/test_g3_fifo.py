"""G3: first in, first out per session and lane, whatever the messages are and however they last.

Sync handlers on workers, async ones on the loop, inline ones, client events, signals, queries, held
turns and timers, mixed by a seed. Some of them wait until the test, which chooses by the same seed,
lets them go on: so turns of many sessions are open at once and end in any order.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import defaultdict
from typing import Any

import pytest
from tests.conftest import LOOPS, run_clean
from tests.support.byteline import ByteLine
from tests.support.gates import Gates
from tests.support.seeds import CUTS, DEFAULT, ONLY, replayable
from tests.support.visitor import Visitor

import greenroom as gr
from greenroom.testing import ManualClock

LONG = CUTS > DEFAULT
SESSIONS = 100 if LONG else 20
MESSAGES = 1000 if LONG else 150


class Mix:
    """An app, sessions with a client each, and what should have run in which order."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.gates = Gates()
        self.clock = ManualClock()
        self.ran: dict[tuple[str, str], list[int]] = defaultdict(list)  # (session, lane)
        self.want: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.inside: set[str] = set()
        self.numbers = itertools.count()
        self.timers: list[tuple[float, int, str]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        settings = gr.Settings(
            mailbox_messages=0,
            inflight=0,
            rate=0.0,
            watchdog=0.0,
            ping=0.0,
            query_timeout=9999.0,
            partial_after=0.0,
            partial_every=1000.0,  # nobody looks at long turns: the clock runs fast here
            workers=SESSIONS,
            workers_max=128,
        )
        handlers = [self.inline, self.sync, self.waiting]
        self.app = gr.App({"n": 0}, handlers, settings, clock=self.clock)
        self.app.events.create_signal("app:signal")
        self.app.events.event("app:signal")(self.reaction)
        self.app.events.query("app:query", internal=False)(self.answer)

    # -- handlers -----------------------------------------------------------------------------

    def begin(self, session: gr.Session, data: Any) -> None:
        assert session.id not in self.inside
        self.inside.add(session.id)
        self.ran[session.id, data["lane"]].append(data["n"])

    def end(self, session: gr.Session) -> None:
        self.inside.remove(session.id)

    @gr.handler(inline=True)
    def inline(self, session: gr.Session, payload: Any) -> None:
        self.begin(session, payload)
        self.end(session)

    def sync(self, session: gr.Session, payload: Any) -> None:
        self.begin(session, payload)
        if payload["wait"]:
            self.gates.block()
        self.end(session)

    async def waiting(self, session: gr.Session, payload: Any) -> None:
        self.begin(session, payload)
        if payload["wait"]:
            await self.gates.pause()
        self.end(session)

    async def reaction(self, data: Any, session: gr.Session) -> None:
        await self.waiting(session, data)

    def answer(self, data: Any, session: gr.Session) -> None:
        self.sync(session, data)

    async def hold(self, session: gr.Session, data: Any) -> None:
        async with session.turn():
            await self.waiting(session, data)

    # -- messages -----------------------------------------------------------------------------

    def data(self, session: gr.Session, lane: str, *, expected: bool = True) -> dict[str, Any]:
        number = next(self.numbers)
        if expected:
            self.want[session.id, lane].append(number)
        return {"lane": lane, "n": number, "wait": self.rng.random() < 0.4}

    async def post(self, session: gr.Session, line: ByteLine) -> None:
        rng, visitor = self.rng, line.visitor
        assert visitor is not None
        name = rng.choice(("inline", "sync", "waiting"))
        kind = rng.choice(("tell", "tell", "event", "event", "signal", "query", "hold", "timer"))
        if kind == "signal" and rng.random() * SESSIONS > 10:
            kind = "tell"  # a signal is a message to every session
        if kind == "tell":
            session.tell(name, self.data(session, "normal"))
        elif kind == "event":
            visitor.submit(name, self.data(session, "interactive"))
            line.pump()
            line.up()
        elif kind == "signal":
            data = self.data(session, "normal", expected=False)
            for other in self.app.sessions.values():
                self.want[other.id, "normal"].append(data["n"])
            self.app.events.trigger_soon("app:signal", data)
        elif kind == "query":
            before = self.app.stats()["messages"]["accepted"]
            data = {"name": "app:query", "data": self.data(session, "normal"), "timeout": 9999.0}
            visitor.submit("gr:query", data)
            line.pump()
            line.up()
            while self.app.stats()["messages"]["accepted"] == before:
                await asyncio.sleep(0)
        elif kind == "hold":
            before = self.app.stats()["messages"]["accepted"]
            self.tasks.append(asyncio.create_task(self.hold(session, self.data(session, "normal"))))
            while self.app.stats()["messages"]["accepted"] == before:
                await asyncio.sleep(0)
        else:
            data = self.data(session, "background", expected=False)
            delay = rng.choice((0.0, 0.5, 1.0, 2.0))
            session.tell(name, data, delay=delay)
            self.timers.append((self.clock.time() + delay, data["n"], session.id))

    def advance(self, seconds: float) -> None:
        until = self.clock.time() + seconds
        for due, number, session in sorted(t for t in self.timers if t[0] <= until):
            self.want[session, "background"].append(number)
            self.timers.remove((due, number, session))
        self.clock.advance(seconds)

    async def play(self) -> None:
        rng = self.rng
        lines = []
        for number in range(SESSIONS):
            line = ByteLine(self.app, Visitor(str(number), self.clock.time))
            line.up()
            await asyncio.sleep(0)
            line.down()
            assert line.visitor is not None
            assert line.visitor.live
            lines.append((self.app.sessions[line.visitor.link.session or ""], line))
        for _ in range(SESSIONS * MESSAGES):
            await self.post(*rng.choice(lines))
            if rng.random() < 0.3:
                self.gates.open_one(rng)
            if rng.random() < 0.1:
                self.advance(rng.choice((0.3, 1.0)))
            if rng.random() < 0.2:
                await asyncio.sleep(0)
        self.advance(3.0)
        while self.app.stats()["messages"]["pending"]:
            self.gates.open_one(rng)
            await asyncio.sleep(0)
        await asyncio.gather(*self.tasks)
        for session, line in lines:
            line.down()
            session.close()


@pytest.mark.parametrize("seed", [int(ONLY)] if ONLY else [1, 2])
def test_g3_first_in_first_out(seed: int) -> None:
    async def main() -> None:
        with replayable(seed):
            mix = Mix(random.Random(seed))
            async with mix.app:
                await mix.play()
                assert set(mix.ran) == set(mix.want)
                for key, numbers in mix.want.items():
                    assert mix.ran[key] == numbers, key
                lanes = {lane for _, lane in mix.ran}
                assert lanes == {"normal", "interactive", "background"}

    run_clean(LOOPS["uvloop" if seed % 2 else "asyncio"], main, timeout=3600 if LONG else 60)


def test_g3_answers_come_in_the_order_of_the_events() -> None:
    """One link's answers, over all kinds of handlers, in id order."""

    async def main() -> None:
        rng = random.Random(3)
        mix = Mix(rng)
        async with mix.app:
            line = ByteLine(mix.app, None)
            hello = {"protocol": 1, "token": None, "link": None, "seq": 0}
            line.upward += json.dumps({"type": "gr:hello", "data": hello}).encode() + b"\n"
            line.up()
            for number in range(1, 101):
                name = rng.choice(("inline", "sync", "waiting"))
                data = {"lane": "interactive", "n": number, "wait": rng.random() < 0.3}
                frame = {"type": name, "id": number, "data": data}
                line.upward += json.dumps(frame).encode() + b"\n"
            line.up()
            while mix.app.stats()["messages"]["pending"]:
                mix.gates.open_one(rng)
                await asyncio.sleep(0)
            for _ in range(3):
                await asyncio.sleep(0)
                line.down()
            frames = [json.loads(frame) for frame in line.frames]
            assert [f["id"] for f in frames if f["type"] == "gr:result"] == list(range(1, 101))
            assert [f["seq"] for f in frames if "seq" in f] == list(
                range(1, 1 + sum("seq" in f for f in frames))
            )
            line.cut()

    run_clean(LOOPS["asyncio"], main, timeout=30)
