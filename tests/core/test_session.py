"""Sessions through their public verbs: messages, turns, long ones, life.

What leaves a session is in `test_session_output.py`, jobs are in `test_jobs.py`.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.support.until import eventually

from greenroom import (
    App,
    Busy,
    Closed,
    Cycle,
    Lane,
    NotFound,
    Settings,
    StaleTurn,
    Timeout,
    WouldBlock,
    handler,
)
from greenroom.testing import ManualClock


def add(state: Any, payload: int = 1) -> int:
    state["count"] += payload
    result: int = state["count"]
    return result


def occupy(session: Any) -> asyncio.Event:
    """Hold the session's turn until the event is set."""
    release = asyncio.Event()

    async def hold() -> None:
        await release.wait()

    session.app.handlers.add(hold)
    session.tell("hold")
    return release


async def asleep(app: App, clock: ManualClock) -> None:
    """All worker threads sleep, and nobody looks after long turns any more."""
    pool = app.scheduler
    await eventually(lambda: pool.idle_workers == len(pool.workers))
    clock.advance(0.5)
    assert not pool.sweeping


def test_a_tell_runs_in_order_and_an_ask_hears_the_result(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            session = app.open_session()
            session.tell("add", 5)
            assert await session.ask("add", 2) == 7
            assert session.state["count"] == 7
            assert session["id"] == session.id
            with pytest.raises(KeyError):
                session["tell"]
            assert "id" in session
            assert "tell" not in session
            assert session.get("tell", "no") == "no"
            assert session.get("id") == dict(session)["id"] == session.id
            assert list(session) == list(session.keys())

    arun(story)


def test_what_is_no_handler_is_refused_at_once_with_the_names_there_are(arun: Any) -> None:
    async def story() -> None:
        async with App(handlers=[add]) as app:
            session = app.open_session()
            for verb in (session.tell, session.ask):
                with pytest.raises(NotFound, match="known: add"):
                    verb("sub")
            with pytest.raises(NotFound):
                session.tell("sub", delay=1.0)

    arun(story)


def test_the_state_outside_a_turn_is_for_reading(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0, "deep": {"x": 1}}) as app:
            session = app.open_session()
            with pytest.raises(StaleTurn, match=r"session\.turn"):
                session.state["count"] = 1
            with pytest.raises(StaleTurn):
                session.state["deep"]["x"] = 2
            async with session.turn() as state:
                state["count"] = 1
                async with session.turn() as same:  # joins
                    same["deep"]["x"] = 2
            with pytest.raises(StaleTurn):
                state["count"] = 3
            assert session.state.to_dict() == {"count": 1, "deep": {"x": 2}}
            with pytest.raises(WouldBlock, match="async with"), session.turn():
                pass

    arun(story)


def test_a_turn_that_raises_is_undone(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}) as app:
            session = app.open_session()
            with pytest.raises(ZeroDivisionError):
                async with session.turn() as state:
                    state["count"] = 1
                    1 / 0
            assert session.state["count"] == 0

    arun(story)


def test_threads_take_turns_too(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            session = app.open_session()
            answers: list[Any] = []

            def work() -> None:
                for _ in range(50):
                    with session.turn() as state:
                        state["count"] += 1
                answers.append(session.ask("add", 0).result(10))

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0)
            assert session.state["count"] == 200
            assert max(answers) == 200

    arun(story)


def test_a_full_mailbox_says_so(arun: Any) -> None:
    async def story() -> None:
        settings = Settings(mailbox_messages=3)
        async with App(state={"count": 0}, handlers=[add], settings=settings) as app:
            session = app.open_session()
            async with session.turn():
                for _ in range(3):
                    session.tell("add")
                with pytest.raises(Busy) as caught:
                    session.tell("add")
                assert caught.value.retry_after > 0
            await eventually(lambda: not app.scheduler.pending)
            assert await session.ask("add") == 4

    arun(story)


def test_lanes_go_before_each_other(arun: Any) -> None:
    async def story() -> None:
        order: list[str] = []

        @handler(inline=True)
        def note(payload: str) -> None:
            order.append(payload)

        async with App(handlers=[note]) as app:
            session = app.open_session()
            async with session.turn():
                session.tell("note", "background", priority=Lane.BACKGROUND)
                session.tell("note", "normal")
                session.tell("note", "interactive", priority=Lane.INTERACTIVE)
            await session.ask("note", "last", priority=Lane.BACKGROUND)
            assert order == ["interactive", "normal", "background", "last"]

    arun(story)


def test_an_ask_that_times_out_before_its_turn_never_runs(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with App(state={"count": 0}, handlers=[add], clock=clock) as app:
            session = app.open_session()
            release = occupy(session)
            ask = session.ask("add", 1, timeout=2.0)
            clock.advance(2.5)
            with pytest.raises(Timeout):
                await ask
            release.set()
            assert await session.ask("add", 0, timeout=0) == 0
            assert app.scheduler.stats()["expired"] == 1

    arun(story)


def test_sessions_that_would_wait_for_each_other_are_told(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            one, two = app.open_session(), app.open_session()

            async def ask_two() -> Any:
                return await two.ask("ask_one", timeout=0)

            async def ask_one() -> Any:
                with pytest.raises(Cycle) as caught:
                    await one.ask("ask_two", timeout=0)
                return sorted(caught.value.path)

            app.handlers.add(ask_two)
            app.handlers.add(ask_one)
            path = await one.ask("ask_two", timeout=0)
            assert set(path) == {one.id, two.id}

    arun(story)


def test_timers_post_and_end(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with App(state={"count": 0}, handlers=[add], clock=clock) as app:
            session = app.open_session()
            once = session.tell("add", 1, delay=1.0)
            again = session.tell("add", 10, every=2.0)
            assert once is not None
            assert again is not None
            # Asks are served before the background lane, so wait for what timers post there.
            clock.advance(1.0)
            assert await session.ask("add", 0, timeout=0, priority=Lane.BACKGROUND) == 1
            for _ in range(3):
                clock.advance(2.0)
                await session.ask("add", 0, timeout=0, priority=Lane.BACKGROUND)
            again.cancel()
            clock.advance(10.0)
            once.cancel()
            assert await session.ask("add", 0, timeout=0, priority=Lane.BACKGROUND) == 31

    arun(story)


def test_a_long_turn_shows_what_it_has(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        going, seen = asyncio.Event(), asyncio.Event()

        async def slow(state: Any, session: Any) -> None:
            state["message"] = "Loading..."
            session.emit("app:started")
            going.set()
            await seen.wait()
            state["message"] = "Completed"

        async with App(handlers=[slow], clock=clock) as app:
            visitor = await Visitor(app).open()
            number = visitor.send("slow")
            await going.wait()
            clock.advance(0.25)
            assert (await visitor.next())["data"] == {"=": {"/message": "Loading..."}}
            assert (await visitor.next())["type"] == "app:started"
            seen.set()
            await visitor.answer(number)
            assert visitor.frames[-2]["data"] == {"=": {"/message": "Completed"}}
            visitor.line.close()

    arun(story)


def test_what_was_shown_in_part_is_taken_back_by_a_rollback(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        going, seen = asyncio.Event(), asyncio.Event()

        async def slow(state: Any) -> None:
            state["count"] = 5
            state["new"] = 1
            going.set()
            await seen.wait()
            raise RuntimeError

        async with App(state={"count": 0}, handlers=[slow], clock=clock) as app:
            visitor = await Visitor(app).open()
            number = visitor.send("slow")
            await going.wait()
            clock.advance(0.25)
            assert (await visitor.next())["data"] == {"=": {"/count": 5, "/new": 1}}
            seen.set()
            await visitor.answer(number)
            assert visitor.frames[-2]["data"] == {"=": {"/count": 0}, "-": ["/new"]}
            visitor.line.close()

    arun(story)


def test_a_worker_ships_in_part_too_and_its_own_values_when_it_assigns(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        going, on, more = threading.Event(), threading.Event(), threading.Event()

        class Mine:
            def to_dict(self) -> dict[str, int]:
                return {"me": 1}

        def slow(state: Any, session: Any) -> None:
            state["plain"] = "a"
            state["mine"] = Mine()  # only this thread may encode it
            session.emit("app:early", 1)
            going.set()
            on.wait()
            state["next"] = "b"
            more.wait()

        async with App(handlers=[slow], clock=clock) as app:
            visitor = await Visitor(app).open()
            number = visitor.send("slow")
            await eventually(going.is_set)
            clock.advance(0.25)
            assert (await visitor.next())["data"] == {"=": {"/plain": "a"}}
            assert (await visitor.next())["type"] == "app:early"
            on.set()
            assert (await visitor.next())["data"] == {"=": {"/mine": {"me": 1}, "/next": "b"}}
            more.set()
            await visitor.answer(number)
            assert [f["type"] for f in visitor.frames].count("app:early") == 1
            visitor.line.close()

    arun(story)


def test_a_worker_that_slept_ships_in_part_as_well(arun: Any) -> None:
    async def story() -> None:
        clock, going, on = ManualClock(), threading.Event(), threading.Event()

        def slow(state: Any) -> None:
            state["message"] = "Loading..."
            going.set()
            assert on.wait(20)
            state["message"] = "Completed"

        async with App(handlers=[slow], clock=clock) as app:
            visitor = await Visitor(app).open()
            for _ in range(3):
                going.clear()
                on.clear()
                number = visitor.send("slow")
                await eventually(going.is_set)
                clock.advance(0.25)
                assert (await visitor.next())["data"] == {"=": {"/message": "Loading..."}}
                on.set()
                await visitor.answer(number)
                await asleep(app, clock)
            visitor.line.close()

    arun(story)


def test_a_turn_on_a_worker_is_watched_before_it_begins(arun: Any) -> None:
    """The thread may be far ahead of the loop: a clock that moves at once must find the alarm."""

    async def story() -> None:
        clock, on = ManualClock(), threading.Event()

        def slow() -> None:
            assert on.wait(20)

        async with App(handlers=[slow], clock=clock) as app:
            session = app.open_session()
            for _ in range(2):  # a thread is started, and one that slept is woken
                on.clear()
                before = clock.pending
                session.tell("slow")
                assert clock.pending == before + 1
                on.set()
                await asleep(app, clock)

    arun(story)


def test_life_hooks_run_in_turns(arun: Any) -> None:
    async def story() -> None:
        closed: list[Any] = []
        app = App(state={"user": None}, handlers=[])

        @app.on_open
        async def greet(state: Any, session: Any) -> None:
            await asyncio.sleep(0)
            state["user"] = session.userinfo.get("name")

        @app.on_close
        def part(state: Any) -> None:
            closed.append(state["user"])

        async with app:
            visitor = Visitor(app, userinfo={"name": "Ada"})
            await visitor.open()
            assert visitor.frames[1]["data"] == {"user": "Ada"}
            visitor.session.close("enough")
            close = await visitor.until("gr:close")
            assert (close["data"]["code"], close["data"]["retry"]) == ("bye", "never")
            assert closed == ["Ada"]
            assert not app.sessions

    arun(story)


def test_a_session_that_cannot_open_refuses_its_client(arun: Any) -> None:
    async def story() -> None:
        app = App()

        @app.on_open
        def fail() -> None:
            raise RuntimeError("no")

        async with app:
            visitor = Visitor(app)
            first = await visitor.hello()  # the welcome, unless on_open was as quick
            close = first if first["type"] == "gr:close" else await visitor.until("gr:close")
            assert (close["data"]["code"], close["data"]["retry"]) == ("unauthorized", "never")
            assert not app.sessions

    arun(story)


def test_what_waits_when_a_session_ends_is_told(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            session = app.open_session()
            release = occupy(session)
            ask = session.ask("add", timeout=0)
            session.close()
            release.set()
            with pytest.raises(Closed):
                await ask
            with pytest.raises(Closed):
                session.tell("add")

    arun(story)


def test_sessions_end_when_nobody_comes_back(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        settings = Settings(session_ttl=100, unused_ttl=10, window=20)
        async with App(settings=settings, clock=clock, state={"count": 0}, handlers=[add]) as app:
            unused = await Visitor(app).open()
            used = await Visitor(app).open()
            await used.call("add")
            app.open_session()
            assert len(app.sessions) == 3
            unused.line.cut()
            used.line.cut()
            clock.advance(11)
            while len(app.sessions) > 2:
                await asyncio.sleep(0)
            clock.advance(80)
            await asyncio.sleep(0)
            assert len(app.sessions) == 2
            clock.advance(10)
            while app.sessions:  # its worker may still be on its way out of the turn
                await asyncio.sleep(0)

    arun(story)


def test_callbacks_of_one_session_are_its_own(arun: Any) -> None:
    async def story() -> None:
        heard: list[Any] = []
        async with App() as app:
            one, two = await Visitor(app).open(), await Visitor(app).open()
            handle = one.session.on("app:save", heard.append)
            await one.call("app:save", 1)
            assert (await two.call("app:save", 2))["code"] == "not_found"
            handle.off()
            assert (await one.call("app:save", 3))["code"] == "not_found"
            assert heard == [1]
            one.line.close()
            two.line.close()

    arun(story)


def test_a_client_cancels_what_is_queued_and_what_runs(arun: Any) -> None:
    async def story() -> None:
        begun = asyncio.Event()

        async def wait(state: Any) -> None:
            state["half"] = True
            begun.set()
            await asyncio.Event().wait()

        async with App(state={"count": 0}, handlers=[wait, add]) as app:
            visitor = await Visitor(app).open()
            running, queued = visitor.send("wait"), visitor.send("add")
            await begun.wait()
            assert await visitor.call("gr:cancel", {"id": queued}) is True
            assert await visitor.call("gr:cancel", {"id": running}) is True
            assert await visitor.call("gr:cancel", {"id": running}) is False
            assert await visitor.call("gr:cancel", {"id": 77}) is False
            codes = {f["id"]: f["data"]["code"] for f in visitor.frames if f["type"] == "gr:error"}
            assert codes == {running: "cancelled", queued: "cancelled"}
            assert "half" not in visitor.session.state
            assert visitor.session.state["count"] == 0
            visitor.line.close()

    arun(story)


def test_a_concurrent_handler_works_beside_a_long_turn(arun: Any) -> None:
    async def story() -> None:
        release = asyncio.Event()

        async def long(state: Any) -> str:
            await release.wait()
            return "long"

        @handler(concurrent=True)
        async def quick(state: Any, session: Any) -> str:
            with pytest.raises(StaleTurn):
                state["x"] = 1
            session.emit("app:quick")
            release.set()
            return "quick"

        async with App(handlers=[long, quick]) as app:
            visitor = await Visitor(app).open()
            first, second = visitor.send("long"), visitor.send("quick")
            assert await visitor.answer(second) == "quick"
            assert await visitor.answer(first) == "long"
            visitor.line.close()

    arun(story)
