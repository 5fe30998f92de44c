"""G5: what one session does delays no other.

The promise is in milliseconds, and those are measured by ``bench/load/isolation.py``. Here is its
structure, without a clock: while session A is inside its handler, and cannot leave it before the
test lets it, session B's events are all answered. And what blocks the loop is named.
"""

from __future__ import annotations

import asyncio
import inspect
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.byteline import ByteLine
from tests.support.visitor import Visitor

import greenroom as gr

EVENTS = 50
PATIENCE = 20.0


class Stuck:
    """Session A's handlers: none ends before ``free`` is set."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.free = threading.Event()

    def begin(self) -> None:
        self.inside.set()

    def blocks(self) -> bool:
        self.begin()
        return self.free.wait(PATIENCE)

    def sleeps(self) -> bool:
        self.begin()
        until = time.monotonic() + PATIENCE
        while not self.free.is_set() and time.monotonic() < until:
            time.sleep(0.001)
        return self.free.is_set()

    def spins(self) -> bool:
        """Burns the CPU and never gives up the GIL by itself."""
        self.begin()
        until = time.monotonic() + PATIENCE
        while not self.free.is_set() and time.monotonic() < until:
            pass
        return self.free.is_set()

    async def awaits(self) -> bool:
        self.begin()
        return await asyncio.to_thread(self.free.wait, PATIENCE)

    def starts_then_awaits(self) -> Any:
        """A sync part on a worker, then an awaitable on the loop."""
        return self.awaits()


@gr.handler(inline=True)
def inline(state: Any) -> None:
    state["n"] += 1


def sync(state: Any) -> None:
    state["n"] += 1


async def waiting(state: Any) -> None:
    await asyncio.sleep(0)
    state["n"] += 1


@pytest.mark.parametrize("name", ["blocks", "sleeps", "spins", "awaits", "starts_then_awaits"])
def test_g5_others_go_on(name: str, arun: Any) -> None:
    async def main() -> None:
        stuck = Stuck()
        settings = gr.Settings(watchdog=0.0, workers=2)
        app = gr.App({"n": 0}, [inline, sync, waiting, getattr(stuck, name)], settings)
        async with app:
            a, b = app.open_session(), app.open_session()
            answer = a.ask(name, timeout=PATIENCE)
            while not stuck.inside.is_set():
                await asyncio.sleep(0)
            for number in range(EVENTS):
                await b.ask(("inline", "sync", "waiting")[number % 3], timeout=PATIENCE)
            assert b.state["n"] == EVENTS
            assert not answer.done()
            # Its own next message waits: a session takes one turn at a time.
            behind = a.ask("inline", timeout=PATIENCE)
            await b.ask("sync")
            assert not behind.done()
            stuck.free.set()
            assert await answer
            await behind
            assert a.state["n"] == 1

    arun(main, timeout=60)


def test_g5_more_blocked_sessions_than_workers(arun: Any) -> None:
    """The pool grows while all its threads are blocked."""

    async def main() -> None:
        stuck = Stuck()
        settings = gr.Settings(watchdog=0.0, workers=2, workers_max=16, partial_after=0.01)
        app = gr.App({"n": 0}, [sync, stuck.blocks], settings)
        async with app:
            answers = [app.open_session().ask("blocks", timeout=PATIENCE) for _ in range(8)]
            other = app.open_session()
            for _ in range(5):
                await other.ask("sync", timeout=PATIENCE)
            assert not any(answer.done() for answer in answers)
            stuck.free.set()
            assert all(await asyncio.gather(*answers))

    arun(main, timeout=60)


def test_g5_a_blocked_handler_costs_no_heartbeat(arun: Any) -> None:
    """The client of a session that is stuck is still pinged, acknowledged and resumed."""

    async def main() -> None:
        stuck = Stuck()
        app = gr.App({"n": 0}, [inline, stuck.blocks], gr.Settings(watchdog=0.0))
        async with app:
            visitor = Visitor("v", time.monotonic)
            line = ByteLine(app, visitor)

            async def carry() -> None:
                for _ in range(3):
                    line.up()
                    await asyncio.sleep(0)
                    line.down()

            await carry()
            visitor.submit("blocks", tag="long")
            line.pump()
            await carry()
            while not stuck.inside.is_set():
                await asyncio.sleep(0)
            visitor.link.wake(time.monotonic())  # a ping; its pong proves the link alive
            line.pump()
            line.up()
            await asyncio.sleep(0)
            assert b"gr:pong" in line.downward
            line.cut()
            line = ByteLine(app, visitor)
            await carry()
            assert visitor.live
            stuck.free.set()
            while "long" not in visitor.outcomes:
                await carry()
            assert visitor.outcomes["long"].value is True
            assert not visitor.gaps
            line.cut()

    arun(main)


class Block:
    """Ways to block the loop until ``end`` is called."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._ours, self._theirs = socket.socketpair()

    def end(self) -> None:
        self._ended.set()
        self._theirs.send(b"x")

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()

    def wait(self) -> None:
        self._ended.wait(PATIENCE)  # this line is named

    def spin(self) -> None:
        while not self._ended.is_set():  # this line is named
            pass

    def read(self) -> None:
        """As ``subprocess.run`` does: what waits for a selector is not always the loop."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._ours, selectors.EVENT_READ)
            selector.select(PATIENCE)  # this line is named


@pytest.mark.parametrize("way", ["wait", "spin", "read"])
@pytest.mark.parametrize("kind", ["async", "inline"])
def test_g5_what_blocks_the_loop_is_named(kind: str, way: str, arun: Any) -> None:
    """While it blocks: the handler ends only once the watchdog has spoken."""

    async def main() -> None:
        block = Block()
        said: list[Any] = []

        async def blocks_async() -> None:
            getattr(block, way)()

        @gr.handler(inline=True)
        def blocks_inline() -> None:
            getattr(block, way)()

        handler: Callable[..., Any] = blocks_async if kind == "async" else blocks_inline
        app = gr.App(None, [handler], gr.Settings(watchdog=0.03))

        def speak(blockage: Any) -> None:
            if blockage.function.startswith("Block."):  # a busy machine holds up others, too
                said.append(blockage)
                block.end()

        async with app:
            app.scheduler.on_blocked = speak
            await app.open_session().ask(f"blocks_{kind}", timeout=PATIENCE)
            assert app.stats()["messages"]["blocked"] >= 1
        block.close()
        (blockage,) = said
        lines, first = inspect.getsourcelines(getattr(Block, way))
        line = first + next(i for i, text in enumerate(lines) if "this line is named" in text)
        assert blockage.filename == __file__
        assert blockage.line in ((line, line + 1) if way == "spin" else (line,))
        assert blockage.function == f"Block.{way}"
        assert f"{__file__}:{blockage.line}" in str(blockage)

    arun(main, timeout=60)


def test_g5_what_waits_is_not_named(arun: Any) -> None:
    """A sync handler on a worker and an async one that awaits do not block the loop."""

    async def main() -> None:
        stuck = Stuck()
        app = gr.App({"n": 0}, [inline, stuck.blocks, stuck.awaits], gr.Settings(watchdog=0.2))
        async with app:
            a, b, c = (app.open_session() for _ in range(3))
            answers = [a.ask("blocks", timeout=PATIENCE), b.ask("awaits", timeout=PATIENCE)]
            for _ in range(EVENTS):
                await c.ask("inline")
            stuck.free.set()
            assert all(await asyncio.gather(*answers))
            assert app.stats()["messages"]["blocked"] == 0

    arun(main, timeout=60)
