"""Execution flow and async handlers: where they run, who waits for whom, what is sent when."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.seeds.samples import main, patch_of, patches, samples, told
from tests.support.gates import PATIENCE
from tests.support.scripts import script

from greenroom import Settings
from greenroom.adapters import websocket
from greenroom.client import connect

SESSIONS = 4


# -- execution flow -------------------------------------------------------------------------------


GATE = """
import threading

_returned, _go_on = threading.Event(), threading.Event()

@gr.middleware()
def _hold():
    yield
    _returned.set()
    assert _go_on.wait(20)
"""


@told("Execution flow")
def test_execution_flow_sends_once_at_the_end(arun: Any, tmp_path: Path, seed: str) -> None:
    """A middleware holds the turn when the function has returned: up to there nothing was sent."""
    fast = samples(seed, "Execution flow")[0]
    state = '{"text": "", "x": 1, "y": 2, "other": 0}'

    async def story() -> None:
        settings = Settings(partial_after=3600)
        async with script(tmp_path, main(fast, state, GATE), settings) as app:
            visitor = await Visitor(app).open()
            gate = sys.modules["main"]
            number = visitor.send("handle_fast")
            assert await asyncio.to_thread(gate._returned.wait, PATIENCE)
            await visitor.line.settled()
            assert not visitor.line.arrived
            gate._go_on.set()
            await visitor.answer(number)
            assert [frame["type"] for frame in visitor.frames[-2:]] == ["gr:state", "gr:result"]
            assert patches(visitor) == [{"=": {"/text": "Hello", "/x": 4, "/y": 4}}]
            visitor.line.close()

    arun(story)


@told("Execution flow")
def test_execution_flow_shows_what_a_slow_handler_does(
    arun: Any, tmp_path: Path, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a real socket. The five seconds end when "Loading..." is on the screen."""
    shown = samples(seed, "Execution flow")[1:] or samples("001", "Execution flow")[1:]
    (slow,) = shown  # seed 002 only speaks of it
    seen_by_all = threading.Event()
    slept: list[float] = []
    sleep = time.sleep

    def until_it_is_seen(seconds: float) -> None:
        if seconds == 5:
            slept.append(seconds)
            assert seen_by_all.wait(PATIENCE), "Loading... was never sent while the handler ran"
        else:
            sleep(seconds)

    monkeypatch.setattr(time, "sleep", until_it_is_seen)

    async def story() -> None:
        seen_by_all.clear()
        async with (
            script(tmp_path, main(slow, '{"message": ""}')) as app,
            websocket.Server(app, port=0) as server,
            connect(f"ws://127.0.0.1:{server.port}/ws") as client,
        ):
            seen: list[str] = []

            def changed(value: str, previous: str) -> None:
                seen.append(value)
                if value == "Loading...":
                    assert not answer.done()
                    seen_by_all.set()

            client.subscribe("message", changed)
            answer = asyncio.ensure_future(client.call("handle_slowly", timeout=PATIENCE))
            assert await answer is None
            assert seen == ["Loading...", "Completed"]

    arun(story)
    assert slept == [5]


@told("Execution flow")
def test_execution_flow_runs_sessions_at_the_same_time(
    arun: Any, tmp_path: Path, seed: str
) -> None:
    """Every one waits, on a thread of its own, until all of them have begun."""
    assert samples(seed, "Execution flow")
    sample = (
        f"import threading\n\n_all = threading.Barrier({SESSIONS + 1})\n\n"
        f"def meet():\n    _all.wait({PATIENCE})\n    return threading.current_thread().name\n\n"
        "def quick():\n    return 'at once'\n"
    )

    async def story() -> None:
        async with script(tmp_path, main(sample), Settings(workers=SESSIONS + 1)) as app:
            visitors = [await Visitor(app).open() for _ in range(SESSIONS + 1)]
            *early, late = visitors
            calls = [visitor.send("meet") for visitor in early]
            assert await late.call("quick") == "at once"  # though all the others are blocked
            names = {await late.call("meet")}
            for visitor, number in zip(early, calls, strict=True):
                names.add(await visitor.answer(number))
            assert len(names) == SESSIONS + 1
            assert threading.current_thread().name not in names, "the loop was blocked"
            for visitor in visitors:
                visitor.line.close()

    arun(story)


@told("Execution flow")
def test_execution_flow_takes_the_events_of_one_session_in_order(
    arun: Any, tmp_path: Path, seed: str
) -> None:
    """Here Greenroom goes its own way: a session handles one event at a time, in their order."""
    assert samples(seed, "Execution flow")
    sample = (
        "import asyncio\nimport time\n\n"
        "def add(state):\n    n = state['n']\n    time.sleep(0.0005)\n    state['n'] = n + 1\n\n"
        "async def add_async(state):\n"
        "    n = state['n']\n    await asyncio.sleep(0)\n    state['n'] = n + 1\n\n"
        "def note(state, payload):\n    state.append('order', payload)\n"
    )

    async def story() -> None:
        async with script(tmp_path, main(sample, '{"n": 0, "order": []}')) as app:
            visitor = await Visitor(app).open()
            for _ in range(20):
                visitor.send("add")
                visitor.send("add_async")
            for number in range(200):
                last = visitor.send("note", number)
            await visitor.answer(last)
            assert visitor.session.state["n"] == 40, "an increment was lost"
            assert visitor.session.state["order"] == list(range(200))
            visitor.line.close()

    arun(story)


@told("Execution flow")
def test_execution_flow_forgives_a_failure(arun: Any, tmp_path: Path, seed: str) -> None:
    fast = samples(seed, "Execution flow")[0]
    fast += "\ndef fail(state):\n    state['x'] = 99\n    raise RuntimeError('no')\n"

    async def story() -> None:
        async with script(tmp_path, main(fast, '{"text": "", "x": 1, "y": 2}')) as app:
            visitor = await Visitor(app).open()
            assert (await visitor.call("fail"))["code"] == "handler_error"
            assert (await patch_of(visitor, "handle_fast"))["="]["/x"] == 4
            visitor.line.close()

    arun(story)


# -- async handlers -------------------------------------------------------------------------------

FETCH = """
import asyncio

_asked, _there = asyncio.Event(), asyncio.Event()

async def fetch_data():
    _asked.set()
    await _there.wait()
    return {"rows": [1, 2, 3]}

async def deliver():
    await _asked.wait()
    _there.set()

def count(state):
    state["n"] += 1
    return state["n"]
"""


@told("Asynchronous event handlers")
def test_async_handlers_wait_and_hold_nobody_up(arun: Any, tmp_path: Path, seed: str) -> None:
    (sample,) = samples(seed, "Asynchronous event handlers")

    async def story() -> None:
        async with script(tmp_path, main(FETCH + sample, '{"data": None, "n": 0}')) as app:
            visitor, other = await Visitor(app).open(), await Visitor(app).open()
            number = visitor.send("handle_async_click")
            assert [await other.call("count") for _ in range(3)] == [1, 2, 3]
            assert visitor.session.state["data"] is None
            await other.call("deliver")  # async as well, on the same loop
            assert await visitor.answer(number) is None
            assert {"=": {"/data": {"rows": [1, 2, 3]}}} in patches(visitor)
            visitor.line.close()
            other.line.close()

    arun(story)


AWAITABLES = """
import asyncio
from dataclasses import dataclass

@dataclass
class _Later:
    value: object

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.value

async def _coroutine(value):
    return value

async def handle_all(state):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, "future")
    state["data"] = [
        await _coroutine("coroutine"),
        await _Later("object"),
        await future,
        await asyncio.create_task(_coroutine("task")),
        *await asyncio.gather(_coroutine("gathered"), _Later2("gathered too")),
        await asyncio.to_thread(str.upper, "thread"),
    ]

def _Later2(value):
    async def wrapped():
        return await _Later(value)
    return wrapped()

def handle_plain():
    return _Later("whoever returns it")
"""


@told("Asynchronous event handlers")
def test_async_handlers_await_any_awaitable(arun: Any, tmp_path: Path, seed: str) -> None:
    (sample,) = samples(seed, "Asynchronous event handlers")
    names = AWAITABLES + '\ndef fetch_data():\n    return _Later("fetched")\n'

    async def story() -> None:
        async with script(tmp_path, main(names + sample)) as app:
            visitor = await Visitor(app).open()
            assert await patch_of(visitor, "handle_async_click") == {"=": {"/data": "fetched"}}
            assert (await patch_of(visitor, "handle_all"))["="]["/data"] == [
                *("coroutine", "object", "future", "task", "gathered", "gathered too", "THREAD")
            ]
            assert await visitor.call("handle_plain") == "whoever returns it"
            visitor.line.close()

    arun(story)
