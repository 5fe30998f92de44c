"""G16: who is gone is noticed within 30 seconds; who is busy or asleep is not taken for gone.

Real sockets, and a proxy between them that swallows or stalls; the time is a manual clock's. Half
a minute passes in steps, and in each of them the server is given the chance to act.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from functools import partial
from typing import Any

import pytest
from tests.support.dialler import Dialler
from tests.support.hostile import Gone, Hostile, event
from tests.support.proxy import Proxy
from tests.support.siege import ADAPTERS, Siege, siege
from tests.support.until import eventually
from tests.support.visitor import Visitor

import greenroom as gr
from greenroom.testing import ManualClock

KIB = 1024

pytestmark = pytest.mark.parametrize("adapter", ADAPTERS)


def of(place: Siege, enemy: Hostile) -> gr.Session:
    return place.app.sessions[enemy.welcome["session"]]


async def through(proxy: Proxy, what: str) -> None:
    """Have the proxy do something, without stopping our loop for it."""
    await asyncio.to_thread(getattr(proxy, what))


@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "in the middle of a stream"])
def test_g16_a_half_open_peer_is_closed_within_30_seconds(
    serve: Any, adapter: str, busy: bool
) -> None:
    async def main() -> None:
        clock = ManualClock()
        async with siege(adapter, clock=clock) as place:
            with Proxy(place.port) as proxy:
                peer = await Hostile.open(proxy.port)
                link, session = place.link(peer), of(place, peer)
                await peer.say(event(1))
                await peer.answer(1)
                await through(proxy, "swallow")
                for _ in range(29):
                    if busy:
                        session.emit("app:news", "x" * 4 * KIB)
                    await place.wait(clock, 1.0)
                    assert link.connected
                await place.wait(clock, 1.0)
                await eventually(lambda: not link.connected)
                assert not session.ended  # it may come back, for as long as it has
                await eventually(lambda: place.stats()["connections"] == 1)
                await eventually(lambda: place.sockets() == 1)
                peer.cut()
            assert place.records.texts == []

    serve(main)


class Gate:
    """Sync handlers that wait for the test."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = 0

    def block(self, state: Any) -> str:
        self.inside += 1
        self.open.wait()
        return "done"


@pytest.fixture
def gate() -> Generator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def pinged(answers: list[dict[int, Any]], times: int) -> bool:
    return all(each.get(0, 0) >= times for each in answers)


async def live(peer: Hostile, answers: dict[int, Any]) -> None:
    """What a client does all day: it answers pings, and writes down what it is told."""
    try:
        while True:
            frame = await peer.frame()
            if frame["type"] == "gr:ping":
                await peer.say({"type": "gr:pong", "data": {"id": max(answers, default=1)}})
                answers[0] = answers.get(0, 0) + 1
            elif frame["type"] in ("gr:result", "gr:error"):
                answers[frame["id"]] = frame
    except (Gone, OSError):
        pass


def test_g16_a_blocked_sync_handler_costs_no_heartbeat(
    serve: Any, adapter: str, gate: Gate
) -> None:
    async def main() -> None:
        clock = ManualClock()
        options: dict[str, Any] = {"workers": 2, "workers_max": 2, "handlers": [gate.block]}
        async with siege(adapter, clock=clock, **options) as place:
            peers = [await place.open() for _ in range(4)]  # more than there are workers
            answers: list[dict[int, Any]] = [{} for _ in peers]
            tasks = [asyncio.create_task(live(*each)) for each in zip(peers, answers, strict=True)]
            for peer in peers:
                await peer.say(event(1, "block", None))
            await eventually(lambda: gate.inside == 2)
            for second in range(1, 121):
                await place.wait(clock, 1.0)
                if second % 20 == 0:  # a ping; with a clock that stands still it is not late
                    await eventually(partial(pinged, answers, second // 20))
            assert [place.link(peer).connected for peer in peers] == [True] * 4
            gate.open.set()
            await eventually(lambda: all(1 in each for each in answers))
            assert [each[1]["data"] for each in answers] == ["done"] * 4
            for peer in peers:
                peer.cut()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    serve(main)


def test_g16_a_tab_that_was_frozen_for_a_minute_keeps_its_session(serve: Any, adapter: str) -> None:
    async def main() -> None:
        clock = ManualClock()
        async with siege(adapter, clock=clock) as place:
            with Proxy(place.port) as proxy:
                visitor = Visitor("v", clock.time)
                async with Dialler(visitor, proxy.port) as tab:
                    await tab.submit("add", 1)
                    await tab.answered()
                    session = place.app.sessions[visitor.link.session or ""]
                    link = next(iter(session.links.values()))
                    await through(proxy, "stall")
                    tag = await tab.submit("add", 10)  # its last word; it does not arrive
                    session.emit("app:news", "while you slept")
                    await place.wait(clock, 60.0)
                    await eventually(lambda: not link.connected)
                    session.tell("add", 100)
                    await through(proxy, "flow")
                    await tab.answered(tag)
                    await tab.until(lambda: visitor.state["count"] == 111)
                    assert place.app.sessions[visitor.link.session or ""] is session
                    assert list(session.links.values()) == [link]
                    assert visitor.events == [("app:news", "while you slept")]
                    assert visitor.outcomes[tag].code == ""
                    assert (visitor.renewals, visitor.gaps) == (0, 0)

    serve(main)


def test_g16_a_slow_reader_is_alive(serve: Any, adapter: str) -> None:
    """It is minutes behind, and says how far it has come: nobody hangs up on it."""

    async def main() -> None:
        clock = ManualClock()
        async with siege(adapter, clock=clock, rate=0.0, log_bytes=8 * KIB * KIB) as place:
            peer = await place.open(receive_buffer=4 * KIB)
            async with peer:
                link, session = place.link(peer), of(place, peer)
                for number in range(600):
                    session.emit("app:news", str(number) + "x" * 8 * KIB)
                await eventually(lambda: link.blocked)
                for _ in range(24):
                    left = link.unsent_bytes
                    while link.unsent_bytes == left:
                        seq = (await peer.frame()).get("seq", 0)
                    await peer.say({"type": "gr:ack", "data": {"seq": seq}})
                    await place.wait(clock, 5.0)
                    assert link.connected
                assert link.unsent_bytes  # there was something to read all the time

    serve(main)
