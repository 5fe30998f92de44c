"""How a session begins and ends: its hooks, who ends it from where, and who is there meanwhile."""

from __future__ import annotations

import asyncio
import threading
import types
from collections import Counter
from typing import Any

import pytest
from tests.core.visitor import Visitor

import greenroom as gr
from greenroom import App, Settings
from greenroom.testing import ManualClock


async def steps(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def leave(session: Any) -> str:
    session.close("enough")
    return "answered"


async def leave_async(session: Any) -> str:
    session.close("enough")
    await asyncio.sleep(0)
    session.close("again")  # the first counts
    return "answered"


def copy_of(fn: Any) -> Any:
    """A function of its own: options stand on the function."""
    return types.FunctionType(fn.__code__, globals())


HANDLERS: dict[str, Any] = {
    "worker": gr.handler(name="worker")(leave),
    "async": gr.handler(name="async")(leave_async),
    "inline": gr.handler(name="inline", inline=True)(copy_of(leave)),
    "concurrent": gr.handler(name="concurrent", concurrent=True)(copy_of(leave)),
}


@pytest.mark.parametrize("hook", ["no hook", "async hook", "plain hook"])
@pytest.mark.parametrize("kind", list(HANDLERS))
def test_a_session_closed_by_its_own_handler_answers_first_and_runs_on_close_once(
    arun: Any, kind: str, hook: str
) -> None:
    async def story() -> None:
        ended: Counter[str] = Counter()
        app = App(state={"count": 1}, handlers=[HANDLERS[kind]])

        def part(session: Any, state: Any) -> None:
            state["count"] += 1  # its last turn is a turn
            ended[session.id] += 1

        async def part_async(session: Any, state: Any) -> None:
            await asyncio.sleep(0)
            part(session, state)

        if hook != "no hook":
            app.on_close(part if hook == "plain hook" else part_async)
        async with app:
            visitor, other = await Visitor(app).open(), await Visitor(app).open()
            visitor.send(kind)
            close = await visitor.until("gr:close")
            assert close["data"] == {"code": "bye", "message": "enough", "retry": "never"}
            answers: list[Any] = [f.get("data") for f in visitor.frames if f.get("id") == 1]
            if kind == "concurrent" and answers != ["answered"]:  # nobody waits for those
                assert [answer["code"] for answer in answers] == ["closed"]
            else:
                assert answers == ["answered"]
            assert tuple(app.sessions) == (other.welcome["session"],)
            wanted = {} if hook == "no hook" else {visitor.welcome["session"]: 1}
            assert dict(ended) == wanted
        if hook != "no hook":
            assert ended == {visitor.welcome["session"]: 1, other.welcome["session"]: 1}

    arun(story)


def test_on_close_runs_once_whoever_closes_and_however_often(arun: Any) -> None:
    async def story() -> None:
        ended: Counter[str] = Counter()
        inside, go = threading.Event(), threading.Event()

        def part(session: Any) -> None:
            inside.set()
            go.wait()
            ended[session.id] += 1

        app = App()
        app.on_close(part)
        await app.start()
        first, second = app.open_session(), app.open_session()
        await steps()
        threads = [asyncio.to_thread(first.close, f"reason {n}") for n in range(4)]
        await asyncio.gather(*threads)
        first.close()
        await asyncio.to_thread(inside.wait)
        first.close()  # while its last turn runs
        stopping = asyncio.ensure_future(app.stop())
        await steps()
        second.close()  # and while the app stops
        go.set()
        await stopping
        assert ended == {first.id: 1, second.id: 1}
        assert not app.sessions

    arun(story)


def test_a_session_that_is_closed_while_it_opens_runs_both_hooks_in_order(arun: Any) -> None:
    async def story() -> None:
        ran: list[str] = []
        begun, go = asyncio.Event(), asyncio.Event()
        app = App(state={})

        @app.on_open
        async def greet() -> None:
            begun.set()
            await go.wait()
            ran.append("open")

        app.on_close(lambda: ran.append("close"))
        async with app:
            visitor = Visitor(app)
            await visitor.hello()
            await begun.wait()
            visitor.session.close("changed my mind")
            await steps()
            assert ran == []
            go.set()
            close = await visitor.until("gr:close")
            assert close["data"]["message"] == "changed my mind"
            assert ran == ["open", "close"]

    arun(story)


def test_who_comes_while_on_open_runs_waits_for_the_same_state_or_the_same_no(arun: Any) -> None:
    async def story() -> None:
        for fails in (False, True):
            begun, go = asyncio.Event(), asyncio.Event()
            app = App(state={"ready": False})

            @app.on_open
            async def greet(state: Any) -> None:
                state["ready"] = True
                begun.set()  # noqa: B023
                await go.wait()  # noqa: B023
                if fails:  # noqa: B023
                    raise RuntimeError("no")

            async with app:
                one, two = Visitor(app), Visitor(app)
                await one.hello()
                await begun.wait()
                await two.hello(token=one.welcome["token"])
                assert two.welcome["session"] == one.welcome["session"]
                go.set()
                for visitor in (one, two):
                    frame = await visitor.next()
                    if fails:
                        assert frame["data"]["code"] == "unauthorized"
                        assert frame["data"]["retry"] == "never"
                        assert "no" not in frame["data"]["message"].split()
                    else:
                        assert (frame["type"], frame["data"]) == ("gr:snapshot", {"ready": True})

    arun(story)


def test_an_on_open_that_hangs_is_cut_by_turn_timeout_and_its_client_refused(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        begun = asyncio.Event()
        app = App(clock=clock, settings=Settings(turn_timeout=5, watchdog=0))

        @app.on_open
        async def greet() -> None:
            begun.set()
            await asyncio.Event().wait()

        async with app:
            visitor = Visitor(app)
            await visitor.hello()
            await begun.wait()
            while app.sessions:
                clock.advance(1)
                await steps()
            close = await visitor.until("gr:close")
            assert (close["data"]["code"], close["data"]["retry"]) == ("unauthorized", "never")

    arun(story)


def test_a_client_that_leaves_while_on_open_runs_leaves_a_session_for_unused_ttl(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        begun, go = asyncio.Event(), asyncio.Event()
        app = App(clock=clock, settings=Settings(unused_ttl=30))

        @app.on_open
        async def greet() -> None:
            begun.set()
            await go.wait()

        async with app:
            visitor = Visitor(app)
            await visitor.hello()
            await begun.wait()
            visitor.line.cut()
            go.set()
            await steps()
            clock.advance(29)
            await steps()
            assert len(app.sessions) == 1
            clock.advance(2)
            await steps()
            assert not app.sessions

    arun(story)


@pytest.mark.parametrize(("acknowledges", "lives"), [(False, 30), (True, 3600)])
def test_a_session_whose_client_never_took_anything_ends_early(
    arun: Any, acknowledges: bool, lives: float
) -> None:
    async def story() -> None:
        clock = ManualClock()
        settings = Settings(unused_ttl=30, session_ttl=3600, ping=0)
        async with App(clock=clock, settings=settings) as app:
            visitor = await Visitor(app).open()
            clock.advance(10_000)  # connected it lives as long as it likes
            await steps()
            assert len(app.sessions) == 1
            if acknowledges:
                visitor.raw(type="gr:ack", data={"seq": visitor.seq})
                await steps()
            visitor.line.cut()
            clock.advance(lives - 1)
            await steps()
            assert len(app.sessions) == 1
            clock.advance(2)
            await steps()
            assert not app.sessions

    arun(story)


def test_without_time_to_live_sessions_stay(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        settings = Settings(unused_ttl=0, session_ttl=0)
        async with App(clock=clock, settings=settings) as app:
            (await Visitor(app).open()).line.cut()
            app.open_session()
            clock.advance(1e9)
            await steps()
            assert len(app.sessions) == 2

    arun(story)
