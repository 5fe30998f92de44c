"""G17: no leak. Who connects, works and leaves, and who never connects, leaves nothing behind.

The garbage collector is off throughout. Over the memory line, time is moved by hand; over real
sockets a server with ``session_ttl`` and ``window`` of 1 s counts what lives in its process, before
the visits and 5 s after the last. The normal suite makes some thousand visits, ``-m soak`` 100,000
(``VISITS=`` for another number). With ``make counts`` the objects of every compiled class are
counted as well.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.leaks.census import circles, collector_off
from tests.support.passer import Passer, knock, load
from tests.support.server import ServerProcess

import greenroom as gr
from greenroom.core import _live
from greenroom.testing import ManualClock

if _live.COUNTING:
    _live.start()

APP = Path(__file__).parent / "census"
SOAK = int(os.environ.get("VISITS", "100000"))
FEW = 50  # objects of one type
THREADS = 2 + 2 + 32 + 4  # main and watcher, workers, and what asyncio.to_thread may start
SLICES = 2  # of the visits over sockets
SETTLE = 5.0  # seconds after the last visit at which everything has gone
SLOPE = 16.0  # bytes a visit may leave: what allocators keep of 100,000 is noise below this
SLACK = 8 * 2**20  # of a short run: arenas that filled up
PAGE = os.sysconf("SC_PAGE_SIZE")

SETTINGS: dict[str, Any] = {
    "session_ttl": 1.0,
    "unused_ttl": 1.0,
    "window": 1.0,
    "watchdog": 0.0,
    "workers": 2,
    "rate": 0.0,
    "max_sessions_per_peer": 0,
}


def resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- over the memory line ------------------------------------------------------------------------


def make_app() -> gr.App:
    def work(session: gr.Session, state: Any, payload: int) -> int:
        state["count"] += payload
        state["nest"]["deep"] = {"x": [payload, {"y": 2}]}
        session.emit("app:did", payload)
        return int(state["count"])

    @gr.handler(inline=True)
    def quick(state: Any, payload: int) -> None:
        state.append("rows", payload)

    async def later(session: gr.Session, state: Any) -> None:
        await asyncio.sleep(0)
        state["nest"]["deep"]["x"] = {"z": 1}
        session.tell("quick", 1, delay=60.0)
        session.on("app:own", lambda: session.id)
        state.subscribe_mutation("count", lambda: session.id)

    def fails(state: Any) -> None:
        state["count"] = -1
        raise RuntimeError("a handler that fails")

    return gr.App(
        {"count": 0, "rows": [], "nest": {"deep": {"x": 1}}},
        [work, quick, later, fails],
        gr.Settings(**SETTINGS),
        clock=ManualClock(),
    )


async def visit(app: gr.App, rng: random.Random) -> None:
    """Come, work, perhaps be cut off and return, and leave in one of the ways there are."""
    visitor = await Visitor(app).open()
    for name in rng.sample(("work", "quick", "later", "fails"), rng.randrange(5)):
        await visitor.call(name, 1)
    if rng.random() < 0.3:
        visitor.line.cut()
        again = Visitor(app)
        await again.hello(**visitor.back())
        visitor = again
    match rng.randrange(3):
        case 0:
            visitor.line.cut()
        case 1:
            visitor.line.close()
        case _:
            visitor.raw(type="gr:bye")
    while visitor.line.ended is None:
        await asyncio.sleep(0)


async def pass_by(app: gr.App, rng: random.Random) -> None:
    """Connect and never say hello."""
    visitor = Visitor(app)
    if rng.random() < 0.5:
        visitor.line.cut()


async def tell_visits(clock: ManualClock, app: gr.App, visits: int) -> None:
    rng = random.Random(17)
    async with app:
        pool = app.scheduler

        async def some(count: int) -> None:
            for _ in range(count // 20):
                for _ in range(10):
                    await visit(app, rng)
                    await pass_by(app, rng)
                clock.advance(0.5)
            clock.advance(20.0)  # beyond the time for a hello, the window, and the time to live
            clock.advance(20.0)
            while pool.pending or pool.idle_workers < len(pool.workers) or app.sessions:
                await asyncio.sleep(0)

        async def census() -> Counter[str]:
            await asyncio.sleep(0)
            found = Counter(type(thing).__qualname__ for thing in gc.get_objects())
            found["(threads)"] = threading.active_count()
            found["(descriptors)"] = descriptors()
            found["(tasks)"] = len(asyncio.all_tasks())
            return found

        await some(max(1_000, visits // 10))
        app.log.clear()
        with collector_off():
            before, was, lived = await census(), resident(), _live.live()
            await some(visits)
            app.log.clear()
            assert not dict(circles())
            await asyncio.sleep(0)  # the loop lets go of those that the clock has just ended
            assert _live.live() == lived
            # Modules that were imported at the last moment are no leak: visits are many more.
            grown = {name: n for name, n in (await census() - before).items() if n > FEW}
            assert not grown, grown
            added = resident() - was
        stats = app.stats()
        for name in ("sessions", "links", "connections", "tasks"):
            assert stats[name] == 0, name
        assert stats["messages"]["pending"] == 0
        assert app.budget.total == 0
        assert not len(app.deadlines)
        assert clock.pending == 0
        print(
            f"{visits} visits: {added / 2**20:+.1f} MiB resident, {added / visits:+.1f} bytes each"
        )
        assert added < max(SLACK, SLOPE * visits)


def test_g17_visits_leave_nothing(arun: Any) -> None:
    app = make_app()
    arun(lambda: tell_visits(app._given_clock, app, 2_000), timeout=120)  # type: ignore[arg-type]


@pytest.mark.soak
def test_g17_a_hundred_thousand_visits_leave_nothing(arun: Any) -> None:
    app = make_app()
    arun(lambda: tell_visits(app._given_clock, app, SOAK), timeout=7200)  # type: ignore[arg-type]


# -- over real sockets ---------------------------------------------------------------------------


def visit_over_socket(port: int, number: int) -> None:
    """One of those who come: most of them work, the others never connect."""
    kind = number % 8
    with knock(port) as line:
        if kind == 0:
            assert load(line, port, "/") == load(line, port, "/greenroom.js") == 200
        elif kind == 1:
            pass  # a connection that says nothing
        elif kind == 2:
            Passer(line, port)  # and never says hello
        else:
            passer = Passer(line, port)
            passer.hello()
            passer.call("work", 1)
            passer.call(("later", "fails", "inline", "unknown")[kind % 4], 1)
            if kind == 7:
                passer.close()  # the others just go


def count_over_socket(port: int) -> tuple[dict[str, int], dict[str, Any]]:
    """What only the collector could free, by type, and what there is once that is gone."""
    with knock(port) as line:
        passer = Passer(line, port)
        passer.hello()
        return passer.call("circles"), passer.call("census")


def tell_visits_over_sockets(visits: int) -> None:
    """Visits in slices. After each of them there is no circle of ours.

    The server's own libraries make some at every connection; those are collected after each slice,
    so that what grows from slice to slice is a leak.
    """
    environment = {f"GREENROOM_{name.upper()}": str(value) for name, value in SETTINGS.items()}
    size = visits // SLICES
    censuses: list[dict[str, Any]] = []
    with ServerProcess(APP, **environment) as server, ThreadPoolExecutor(4) as pool:
        port = server.port
        for at in range(SLICES + 1):  # the first one warms up
            for _ in pool.map(visit_over_socket, [port] * size, range(size)):
                pass
            time.sleep(SETTLE)  # this is what is promised: so long after the last
            circles, census = count_over_socket(port)
            ours = {name: n for name, n in circles.items() if name.startswith("greenroom")}
            assert not ours or not at, ours
            censuses.append(census)
            print(f"{census['resident']} bytes, {sum(census['objects'].values())} objects")
    before, after = censuses[0], censuses[-1]
    for name in ("sessions", "connections", "links", "descriptors", "tasks", "live"):
        assert after[name] == before[name], (name, before[name], after[name])
    assert after["threads"] <= THREADS  # of two pools, which grow up to their limits
    assert after["sessions"] == after["connections"] == after["links"] == 1  # who asks
    grown = Counter(after["objects"]) - Counter(before["objects"])
    assert not {name: n for name, n in grown.items() if n > 2 * FEW}
    assert after["resident"] - before["resident"] < max(SLACK, SLOPE * visits)


def test_g17_visits_over_sockets_leave_nothing() -> None:
    tell_visits_over_sockets(600)


@pytest.mark.soak
def test_g17_a_hundred_thousand_visits_over_sockets_leave_nothing() -> None:
    tell_visits_over_sockets(SOAK)
