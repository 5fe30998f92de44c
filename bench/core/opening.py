"""Opening sessions, their first write, and what they weigh."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import greenroom as gr
from greenroom.adapters import memory
from greenroom.core.state import Template
from greenroom.core.types import Packet
from greenroom.testing import ManualClock

from ..harness import Bench, clock
from .stage import hello, linked, make_app, settled


async def run(bench: Bench) -> None:
    for keys in (0, 100):
        await _ledgers(bench, keys)
        await _sessions(bench, keys)
    await _first_write(bench)
    await _written(bench)
    await _collection(bench)
    await _idle(bench)


def _template(keys: int) -> dict[str, int]:
    return {f"key{i}": i for i in range(keys)}


def weigh(make: Callable[[], Any], count: int = 1000) -> float:
    """Bytes of one of what ``make`` makes, by tracemalloc."""
    kept = [make() for _ in range(count)]  # freelists and caches are warm
    del kept
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [make() for _ in range(count)]
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    del kept
    return size / count


async def _ledgers(bench: Bench, keys: int) -> None:
    """The state alone."""
    template = Template(_template(keys))
    loops = bench.loops(20_000)

    def measure() -> float:
        start = clock()
        many = [template.open() for _ in range(loops)]
        spent = clock() - start
        assert many[-1].root.to_raw_state() == _template(keys)
        return spent / loops

    await bench.value(f"open, state alone, template of {keys} keys", measure, bar=3.0, unit="us")
    await bench.value(
        f"open, state alone, template of {keys} keys: memory",
        lambda: weigh(template.open), bar=1024, unit="B", rounds=3,
    )  # fmt: skip


async def _sessions(bench: Bench, keys: int) -> None:
    """``app.open_session()``: the state, the mailbox, an unguessable id, its place and time."""
    loops = bench.loops(2_000)
    name = f"app.open_session(), template of {keys} keys"
    if not bench.wanted(name):
        return
    async with make_app(state=_template(keys)) as app:
        ended: list[gr.Session] = []

        def measure() -> float:
            for session in ended:
                session.close()
            start = clock()
            ended[:] = [app.open_session() for _ in range(loops)]
            spent = clock() - start
            assert ended[-1].state.to_dict() == _template(keys)
            return spent / loops

        await bench.value(name, measure, bar=None, unit="us")
        await bench.value(
            f"{name}: memory", lambda: weigh(app.open_session), bar=None, unit="B", rounds=3
        )


async def _first_write(bench: Bench) -> None:
    template = Template(_template(100))
    loops = bench.loops(5_000)

    def measure() -> float:
        books = [template.open() for _ in range(loops)]
        patch = None
        start = clock()
        for book in books:
            book.open()
            book.root["key5"] = -1
            book.commit(True)
            patch = book.ship()
        spent = clock() - start
        assert patch is not None
        assert patch.encode() == b'{"=":{"/key5":-1}}'
        return spent / loops

    await bench.value("first write of a session of 100 keys, with its patch", measure, bar=5.0,
                      unit="us")  # fmt: skip


@gr.handler(inline=True)
def write_two(state: Any) -> None:
    state["key5"] = state["key50"] = -1


async def _written(bench: Bench) -> None:
    """A session whose client wrote 2 of 100 keys, said bye and did not come back for a while."""
    name = "parked session, wrote 2 of 100 keys: memory"
    if not bench.wanted(name):
        return
    clock = ManualClock()
    async with make_app(state=_template(100), handlers=[write_two], clock=clock) as app:

        async def visit(count: int) -> None:
            for _ in range(count):
                session, _, connection = await linked(app)
                connection.receive(Packet(b'{"type":"write_two","id":1}'))
                await settled(app)
                connection.receive(Packet(b'{"type":"gr:bye"}'))
                await settled(app)
                assert not session.links
            clock.advance(120)

        async def measure() -> float:
            await visit(100)
            gc.collect()
            tracemalloc.start()
            before, known = tracemalloc.get_traced_memory()[0], len(app.sessions)
            await visit(300)
            gc.collect()
            size = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            assert len(app.sessions) - known == 300
            assert tuple(app.sessions.values())[-1].state["key50"] == -1
            return size / 300

        await bench.value(name, measure, bar=1229, unit="B", rounds=3)


async def _collection(bench: Bench) -> None:
    """How long everything stands still when the collector looks at all sessions."""
    name = "full collection with 100,000 parked sessions"
    if not bench.wanted(name):
        return
    async with make_app(state=_template(100)) as app:
        gc.collect()
        start = clock()
        gc.collect()
        without = clock() - start
        for _ in range(100_000):
            app.open_session()
        gc.collect()

        def measure() -> float:
            start = clock()
            gc.collect()
            return clock() - start - without

        await bench.value(name, measure, bar=5.0, unit="ms", rounds=5,
                          note="the bar is 50 ms for a million")  # fmt: skip
        for session in tuple(app.sessions.values()):
            session.close()


async def _idle(bench: Bench) -> None:
    """A session with a client that has what there is and is silent, less the transport."""
    name = "idle connected session beside its transport: memory"
    if not bench.wanted(name):
        return
    async with make_app(state=_template(100)) as app:
        keep: list[object] = []

        async def measure() -> float:
            async def connect(count: int) -> list[memory.Line]:
                lines = [memory.connect(app) for _ in range(count)]
                for line in lines:
                    line.on_packet = seen.append
                    line.send(hello())
                while len(seen) < 2 * count:
                    await asyncio.sleep(0)
                seen.clear()
                for line in lines:
                    line.send(b'{"type":"gr:ack","data":{"seq":1}}')  # of the snapshot
                await settled(app)
                return lines

            seen: list[object] = []
            keep.extend(await connect(100))
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            lines = await connect(300)
            gc.collect()
            after = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            keep.append(lines)
            transport = weigh(lambda: memory.Line(app), 300)
            return (after - before) / 300 - transport

        await bench.value(name, measure, bar=2048, unit="B", rounds=3)
