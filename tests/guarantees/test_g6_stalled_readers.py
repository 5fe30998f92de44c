"""G6: a thousand clients that stop reading cost bounded memory, delay nobody, and are told the
latest state when they read again.

Real sockets in one process: a thousand at the server, a thousand at its clients, which read their
welcome and then nothing. One of them has a state of 5 MB. The bounds are those of wire.md: five
times ``log_bytes`` and one commit for each, ``total_log_bytes`` for all. The usual run has two
hundred; ``-m soak`` has the thousand.
"""

from __future__ import annotations

import asyncio
import gc
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.reader import Reader
from tests.support.siege import ADAPTERS, Siege, siege
from tests.support.until import eventually
from tests.support.visitor import Visitor

import greenroom as gr
from greenroom.adapters.base import ROOM
from greenroom.cli.run import raise_file_limit
from greenroom.testing import ManualClock

KIB = 1024
MIB = 1024 * KIB
LOG_BYTES = 64 * KIB
PART = 24 * KIB  # of total_log_bytes, for each
LARGE = 5 * MIB

pytestmark = pytest.mark.parametrize("adapter", ADAPTERS)


@gr.handler(inline=True)
def grow(state: Any, payload: dict[str, Any], session: gr.Session) -> None:
    """A patch that replaces the one before, one that grows, and an event."""
    number = payload["number"]
    state["text"] = f"{number}:" + "t" * payload["size"]
    state.append("rows", {"number": number, "of": session.id})
    state["count"] = number
    if payload["news"]:
        session.emit("app:news", "n" * payload["size"])


@gr.handler(inline=True)
def enlarge(state: Any, payload: int) -> None:
    state["large"] = "L" * payload


def resident() -> int:
    """Bytes of memory this process occupies."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def bounded(place: Siege, commit: int) -> None:
    """What is promised, asked of everybody."""
    budget = place.app.budget
    assert budget.total <= budget.limit + commit, budget.total
    held = 0
    for link in tuple(budget.links):
        mine = link.unsent_bytes + link.sent_bytes
        held += mine
        assert mine <= 5 * LOG_BYTES + commit, mine
    assert held == budget.total
    for connection in place.app.reception.connections:
        # One frame may be larger than the room; then it is the only one.
        assert connection.transport.buffered <= ROOM + commit


async def readers(place: Siege, clock: ManualClock, count: int) -> list[Reader]:
    made = [Reader(place.port, Visitor(f"r{n}", clock.time)) for n in range(count)]
    for reader in made:
        await reader.connect()
    return made


def shows(visitor: Visitor, state: dict[str, Any]) -> bool:
    return visitor.state == state


def counts_one(visitor: Visitor) -> bool:
    return visitor.state.get("count") == 1


def works(session: gr.Session) -> bool:
    return len(session) > 0 or session.running is not None


def session_of(place: Siege, reader: Reader) -> gr.Session:
    return place.app.sessions[reader.visitor.link.session or ""]


@pytest.mark.parametrize("count", [200, pytest.param(1_000, marks=pytest.mark.soak)])
def test_g6_a_thousand_stalled_readers(serve: Any, adapter: str, count: int) -> None:
    rounds, size, total = 12, 8 * KIB, count * PART

    async def main() -> None:
        raise_file_limit()
        clock = ManualClock()
        options: dict[str, Any] = {"handlers": [grow, enlarge], "ping": 0.0, "window": 0.0}
        async with siege(
            adapter, clock=clock, rate=0.0, log_bytes=LOG_BYTES, total_log_bytes=total, **options
        ) as place:
            crowd = await readers(place, clock, count)
            sessions = [session_of(place, reader) for reader in crowd]
            sessions[0].tell("enlarge", LARGE)
            await place.undisturbed()
            gc.collect()
            before = resident()
            largest = LARGE + 64 * KIB
            for number in range(1, rounds + 1):
                answered = place.answered
                for at, session in enumerate(sessions):
                    news = at % 2 == 1 or number < 3
                    session.tell("grow", {"number": number, "size": size, "news": news})
                    if at % 100 == 0:
                        await asyncio.sleep(0)
                await place.undisturbed(1)
                bounded(place, largest)
                assert place.answered > answered
                clock.advance(1.0)
            counts = place.app.counts
            assert counts.collapsed > 0
            # The logs, and for each reader what its transport was handed and what uvicorn holds.
            grown = resident() - before
            assert grown < total + 2 * LARGE + count * (2 * ROOM + 32 * KIB), grown / MIB
            await eventually(lambda: not any(map(works, sessions)))
            # They read again, and all of them end with the latest state.
            for reader, session in zip(crowd, sessions, strict=True):
                wanted = session.state.to_dict()
                await reader.until(partial(shows, reader.visitor, wanted))
                assert not reader.visitor.again
                reader.cut()
            assert sum(reader.connections for reader in crowd) >= count
            bounded(place, largest)
            assert place.records.texts == []

    serve(main, timeout=120)


def test_g6_who_pays_first(serve: Any, adapter: str) -> None:
    """Those who left, then patches, then the largest that stalls; never those who read."""

    async def main() -> None:
        clock = ManualClock()
        options: dict[str, Any] = {"handlers": [grow], "ping": 0.0, "dead": 0.0}
        async with siege(
            adapter, clock=clock, rate=0.0, log_bytes=MIB, total_log_bytes=2 * MIB, **options
        ) as place:
            gone, stalled, worst, reading = await readers(place, clock, 4)
            news = "n" * 100 * KIB
            gone_session, links = session_of(place, gone), {}
            for reader in (gone, stalled, worst, reading):
                links[reader] = next(iter(session_of(place, reader).links.values()))
            gone.cut()
            await place.undisturbed()
            for _ in range(5):
                gone_session.emit("app:news", news)
            assert links[gone].unsent_bytes > 400 * KIB
            for reader, times in ((stalled, 8), (worst, 12)):
                for _ in range(times):
                    session_of(place, reader).emit("app:news", news)
                    await asyncio.sleep(0)
            await place.undisturbed()
            assert links[gone].broken  # the first that pays
            assert links[stalled].connected
            assert links[worst].connected
            assert place.app.budget.total <= 2 * MIB
            for _ in range(9):
                session_of(place, worst).emit("app:news", news)
                await asyncio.sleep(0)
            await place.undisturbed()
            assert not links[worst].connected  # the largest that takes nothing
            assert links[stalled].connected
            assert links[reading].connected
            assert place.app.budget.total <= 2 * MIB
            session_of(place, reading).emit("app:news", "short")
            await reading.until(lambda: reading.visitor.events)
            for reader in (worst, gone, stalled):
                session = session_of(place, reader)
                session.tell("grow", {"number": 1, "size": 10, "news": False})
                await reader.until(partial(counts_one, reader.visitor))
            for reader in (gone, stalled, worst, reading):
                reader.cut()

    serve(main)


def test_g6_readers_who_never_acknowledge(serve: Any, adapter: str) -> None:
    """They take everything and say nothing: what is kept for them is bounded in all, too."""

    async def main() -> None:
        clock = ManualClock()
        total = MIB
        async with siege(adapter, clock=clock, rate=0.0, total_log_bytes=total, ping=0.0) as place:
            crowd = [await place.open() for _ in range(8)]
            for _ in range(20):
                for peer in crowd:
                    place.app.sessions[peer.welcome["session"]].emit("app:news", "n" * 16 * KIB)
                for peer in crowd:
                    await peer.until("app:news")
                await place.undisturbed(1)
                assert place.app.budget.total <= total + 16 * KIB
            assert place.app.counts.trimmed > 0
            assert all(place.link(peer).connected for peer in crowd)
            for peer in crowd:
                peer.cut()

    serve(main)
