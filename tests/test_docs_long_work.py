"""docs/long-work.md and examples/long_work: every kind of long work, its end and its cancel."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.seeds.samples import patches
from tests.support.gates import PATIENCE, Gates
from tests.support.scripts import imports_of, script
from tests.support.until import eventually
from tests.test_docs import ROOT
from tests.test_docs_run import blocks, run

from greenroom import App, Settings, Timeout, cancelled, handler
from greenroom.adapters import memory
from greenroom.cli.load import load
from greenroom.client import connect
from greenroom.core.errors import Refused
from greenroom.testing import ManualClock

PAGE = ROOT / "docs/long-work.md"
EXAMPLE = ROOT / "examples/long_work"


def code(mark: str, language: str = "python") -> str:
    """The block of the page that has ``mark`` in it."""
    (text,) = [text for _, text in blocks(PAGE, language) if mark in text]
    return text


def test_the_blocks_of_the_page_are_one_program_beside_the_app(arun: Any) -> None:
    async def story() -> None:
        names: dict[str, Any] = {"__name__": "page"}
        for line, text in blocks(PAGE, "python"):
            if not text.startswith("# main.py"):
                await run(text, "docs/long-work.md", line, names)

    arun(story)


def test_the_buttons_of_the_page_call_what_the_app_has() -> None:
    html, app = code("<button", "html"), code("# main.py")
    for name in re.findall(r'data-gr-on:click="(\w+)"', html):
        assert f"\ndef {name}(" in app
    for key in re.findall(r'data-gr-(?:text|show|attr:\w+)="(\w+)"', html):
        assert f'"{key}": ' in app
    assert "STEPS = 50" in app
    assert 'max="50"' in html


# -- the app of the page --------------------------------------------------------------------------


@asynccontextmanager
async def the_app(folder: Path) -> AsyncGenerator[tuple[App, Gates]]:
    """It, with a gate where it waits."""
    gates = Gates()
    async with script(folder, {"main.py": code("# main.py")}) as app:
        main = sys.modules["main"]
        main.asyncio = type("asyncio", (), {"sleep": lambda seconds: gates.pause()})  # type: ignore[attr-defined]
        yield app, gates


async def step(visitor: Visitor, gates: Gates) -> Any:
    """Let the job go on to its next wait; the patch of it."""
    await eventually(lambda: len(gates) > 0)
    gates.open_all()
    await visitor.until("gr:state")
    return patches(visitor)[-1]


def test_the_app_of_the_page_shows_progress_and_goes_on_meanwhile(
    arun: Any, tmp_path: Path
) -> None:
    async def story() -> None:
        async with the_app(tmp_path) as (_, gates):
            visitor = await Visitor(_).open()
            await visitor.call("start")
            assert patches(visitor) == [{"=": {"/running": True, "/done": 0, "/note": "working"}}]
            for number in range(50):
                assert await step(visitor, gates) == {"=": {"/done": number + 1}}
                if number == 25:
                    assert await visitor.call("start") is None  # answered at once; starts nothing
            await visitor.until("gr:state")
            assert patches(visitor)[-1] == {"=": {"/running": False, "/note": "done"}}
            visitor.line.close()

    arun(story)


def test_the_app_of_the_page_is_cancelled_and_started_again(arun: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with the_app(tmp_path) as (app, gates):
            visitor = await Visitor(app).open()
            await visitor.call("start")
            for _ in range(3):
                await step(visitor, gates)
            job = visitor.session.state["_job"]
            await visitor.call("cancel")
            assert patches(visitor)[-1] == {"=": {"/running": False, "/note": "cancelled"}}
            await eventually(lambda: job.done)
            assert visitor.session.state["done"] == 3  # what it had committed stays
            await visitor.call("start")
            assert await step(visitor, gates) == {"=": {"/done": 1}}
            job = visitor.session.state["_job"]
            visitor.session.close()  # a job ends with its session
            await eventually(lambda: job.done)

    arun(story)


def test_the_sync_job_of_the_page_hears_that_it_is_cancelled(arun: Any) -> None:
    async def story() -> None:
        names = {"gr": sys.modules["greenroom"]}
        await run(code("def work(session)"), "docs/long-work.md", 1, names)
        steps = threading.Semaphore(1)

        def sleep(seconds: float) -> None:
            assert steps.acquire(timeout=PATIENCE)

        names["time"] = type("time", (), {"sleep": sleep})  # type: ignore[assignment]
        async with App(state={"done": None}) as app:
            session = app.open_session()
            job = session.spawn(names["work"])  # type: ignore[arg-type]
            await eventually(lambda: session.state["done"] is not None)
            assert session.cancel(job)
            steps.release(50)
            await eventually(lambda: job.done)
            assert session.state["done"] in (1, 2)  # it may sleep already

    arun(story)


# -- what the tables say --------------------------------------------------------------------------


def test_a_client_cancels_what_it_called(arun: Any) -> None:
    """The rows of "Cancelling": an async handler, a sync one, one that waits."""

    async def story() -> None:
        begun, ran = asyncio.Event(), []
        loop = asyncio.get_running_loop()

        async def think(state: Any) -> None:
            state["x"] = 1
            begun.set()
            await asyncio.Event().wait()

        def compute(state: Any) -> int:
            state["x"] = 2
            loop.call_soon_threadsafe(begun.set)
            while not cancelled():
                pass
            return 7

        def quick() -> None:
            ran.append("quick")

        async with (
            App(state={"x": 0}, handlers=[think, compute, quick]) as app,
            connect(lambda: memory.connect(app)) as client,
        ):
            (session,) = app.sessions.values()
            thinking = client.call("think")
            await begun.wait()
            waiting = client.call("quick")
            waiting.cancel()
            thinking.cancel()
            assert await client.call("quick") is None  # the session is free again
            assert (session.state["x"], ran) == (0, ["quick"])
            begun.clear()
            computing = client.call("compute")
            await begun.wait()
            computing.cancel()
            assert await client.call("quick") is None
            assert session.state["x"] == 2  # its own answer counts, and so does what it did

    arun(story)


def test_turn_timeout_ends_what_is_async_tells_what_is_not_and_lets_jobs_be(arun: Any) -> None:
    async def story() -> None:
        clock, told = ManualClock(), threading.Event()

        def compute(state: Any) -> str:
            told.set()
            while not cancelled():
                pass
            state["x"] = "told"
            return "ended by itself"

        async def turn() -> None:
            await asyncio.Event().wait()

        @handler(concurrent=True)
        async def beside() -> None:
            await asyncio.Event().wait()

        settings = Settings(turn_timeout=5)
        app = App(
            state={"x": None}, handlers=[compute, turn, beside], settings=settings, clock=clock
        )
        async with app:
            session = app.open_session()
            job = session.spawn(turn)
            for fn in (turn, beside):
                answer = asyncio.ensure_future(session.ask(fn.__name__, timeout=0))
                await eventually(lambda: len(app.scheduler.running_turns()) == 2)
                clock.advance(5.2)
                with pytest.raises(Timeout, match="turn_timeout"):
                    await answer
            answer = asyncio.ensure_future(session.ask("compute", timeout=0))
            await eventually(told.is_set)
            clock.advance(5.2)
            assert await answer == "ended by itself"
            assert session.state["x"] == "told"
            assert not job.done  # three times as old as a turn may become
            session.cancel(job)

    arun(story)


# -- the example ----------------------------------------------------------------------------------


@asynccontextmanager
async def the_example() -> AsyncGenerator[App]:
    with imports_of(EXAMPLE):
        async with load(str(EXAMPLE), Settings()).app as app:
            main = sys.modules["main"]
            try:
                yield app
            finally:
                await asyncio.to_thread(main._pool.shutdown)


def test_the_example_does_all_of_it_at_once(arun: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_TOUR_SPEED", "50")

    async def story() -> None:
        async with the_example() as app, connect(lambda: memory.connect(app)) as client:
            done: list[int] = []
            client.subscribe("job.done", lambda value, previous: done.append(value))
            await client.call("start")
            await client.call("count", 3000)
            thinking = client.call("think", timeout=PATIENCE)
            assert await thinking == 30
            assert client.state["turn"] == "." * 30
            await eventually(lambda: not client.state["sum"]["running"])
            assert client.state["sum"] == {"running": False, "done": 30, "note": "430 primes"}
            await eventually(lambda: not client.state["job"]["running"])
            assert client.state["job"] == {"running": False, "done": 30, "note": "done"}
            assert done == sorted(done)

    arun(story)


def test_everything_in_the_example_can_be_cancelled(
    arun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENROOM_TOUR_SPEED", "0.01")

    async def story() -> None:
        async with the_example() as app, connect(lambda: memory.connect(app)) as client:
            await client.call("cancel")  # nothing to do is no error
            await client.call("stop_counting")
            await client.call("start")
            await client.call("count", 3_000_000)
            thinking = client.call("think")
            cancelled_job, stopped = client.call("cancel"), client.call("stop_counting")
            # They are concurrent, but what they say waits for the turn that is running.
            await asyncio.sleep(0)
            thinking.cancel()
            await asyncio.gather(cancelled_job, stopped)
            (session,) = app.sessions.values()
            await eventually(lambda: session.state["_job"].done and session.state["_sum"].done)
            assert client.state["job"]["note"] == client.state["sum"]["note"] == "cancelled"
            assert not client.state["job"]["running"]
            assert not client.state["sum"]["running"]
            assert client.state["turn"] == ""
            await client.call("start")  # and begun again
            assert client.state["job"]["note"] == "working"
            with pytest.raises(Refused, match="no handler"):
                await client.call("_cancel")

    arun(story)
