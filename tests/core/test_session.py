"""Sessions through their public verbs: messages, turns, emits, life."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from functools import partial
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.support.until import eventually

from greenroom import (
    App,
    BadHandler,
    BadPayload,
    Busy,
    Closed,
    Cycle,
    Lane,
    NotFound,
    Settings,
    StaleTurn,
    Timeout,
    TooLarge,
    Unencodable,
    WouldBlock,
    cancelled,
    handler,
)
from greenroom.testing import ManualClock


def add(state: Any, payload: int = 1) -> int:
    state["count"] += payload
    result: int = state["count"]
    return result


def crash(state: Any, session: Any) -> None:
    state["count"] = 99
    session.emit("app:never", 1)
    raise RuntimeError("the secret of the house")


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


def test_a_job_runs_beside_the_turns_and_can_be_cancelled(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"step": 0}, handlers=[]) as app:
            session = app.open_session()
            begun, ended = asyncio.Event(), asyncio.Event()

            async def job(session: Any) -> None:
                async with session.turn() as state:
                    state["step"] = 1
                begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()

            running = session.spawn(job)
            await begun.wait()
            async with session.turn() as state:  # nothing is in the way
                assert state["step"] == 1
            assert session.cancel(running)
            await ended.wait()
            assert not session.cancel(running)

    arun(story)


def test_a_sync_job_sees_that_it_is_cancelled(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            session = app.open_session()
            begun, ended = threading.Event(), threading.Event()

            def job() -> None:
                begun.set()
                while not cancelled():
                    pass
                ended.set()

            running = session.spawn(job)
            while not begun.is_set():
                await asyncio.sleep(0)
            session.cancel(running)
            while not ended.is_set():
                await asyncio.sleep(0)

    arun(story)


def test_a_job_hears_that_it_is_cancelled_also_in_a_turn_that_it_holds(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            one, two = app.open_session(), app.open_session()
            begun, go_on = threading.Event(), threading.Event()
            heard: list[bool] = []

            def job(session: Any) -> None:
                with session.turn():
                    heard.append(cancelled())
                begun.set()
                assert go_on.wait(20)
                with session.turn(), two.turn():
                    heard.append(cancelled())
                heard.append(cancelled())

            async def async_job(session: Any) -> None:
                try:
                    async with session.turn():
                        begun.set()
                        await asyncio.Event().wait()
                finally:
                    async with session.turn():
                        heard.append(cancelled())

            for fn in (job, async_job):
                running = one.spawn(fn)
                await eventually(begun.is_set)
                assert one.cancel(running)
                go_on.set()
                await eventually(partial(getattr, running, "done"))
                begun.clear()
            assert heard == [False, True, True, True]
            async with one.turn():
                assert not cancelled()  # nobody's job holds this one

    arun(story)


def test_cancelling_what_never_began_is_no_error_and_what_is_no_job_is_one(arun: Any) -> None:
    def stop(state: Any, session: Any) -> bool:
        stopped: bool = session.cancel(state["_job"])
        return stopped

    async def story() -> None:
        async with App(handlers=[stop]) as app:
            session = app.open_session()
            assert await session.ask("stop") is False
            timer: Any = session.tell("stop", every=60.0)
            with pytest.raises(TypeError, match="what session"):
                session.cancel(timer)
            timer.cancel()

    arun(story)


def test_events_leave_with_their_turn_in_order(arun: Any) -> None:
    async def story() -> None:
        def speak(state: Any, session: Any, app: Any) -> str:
            state["said"] = True
            session.emit("app:one", 1)
            app.emit("app:two", {"a": [1]})
            session.emit("app:other", 3, label="elsewhere")
            return "done"

        async with App(handlers=[speak]) as app:
            visitor = await Visitor(app).open()
            await visitor.call("speak")
            types = [frame["type"] for frame in visitor.frames]
            assert types[2:] == ["gr:state", "app:one", "app:two", "gr:result"]
            assert visitor.frames[3] == {
                "type": "app:one", "seq": 3, "data": 1, "label": "main",
            }  # fmt: skip
            visitor.line.close()

    arun(story)


def test_a_failure_with_words_that_are_no_unicode_is_answered(arun: Any) -> None:
    """Names of files that are no UTF-8 stand in messages as they stand in Python: half a letter."""

    def open_it() -> None:
        raise FileNotFoundError("no file caf\udce9")

    def refuse() -> None:
        raise BadPayload("nothing is called caf\udce9")

    async def story() -> None:
        settings = Settings(debug=True)
        async with App(handlers=[open_it, refuse], settings=settings) as app:
            visitor = await Visitor(app).open()
            for name, words in (("open_it", "no file"), ("refuse", "nothing is called")):
                answer = await visitor.call(name)
                assert answer["message"].endswith(f"{words} caf\\udce9")
            logged = [f["data"]["text"] for f in visitor.frames if f["type"] == "gr:log"]
            assert logged == [
                "'open_it' failed: FileNotFoundError: no file caf\\udce9",
                "'refuse': nothing is called caf\\udce9",
            ]
            visitor.line.close()

    arun(story)


def test_what_a_failed_turn_made_is_not_sent(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[crash, add]) as app:
            visitor = await Visitor(app).open()
            failure = await visitor.call("crash")
            assert failure == {"code": "handler_error", "message": "the handler failed"}
            assert await visitor.call("add") == 1
            types = [frame["type"] for frame in visitor.frames]
            assert types[2:] == ["gr:error", "gr:state", "gr:result"]
            assert "secret" in "".join(record.text for record in visitor.session.log)
            visitor.line.close()

    arun(story)


def test_with_debug_pages_see_the_error_and_the_log(arun: Any) -> None:
    async def story() -> None:
        settings = Settings(debug=True)
        async with App(state={"count": 0}, handlers=[crash], settings=settings) as app:
            visitor = await Visitor(app).open()
            failure = await visitor.call("crash")
            assert failure["message"] == "RuntimeError: the secret of the house"
            logs = [f for f in visitor.frames if f["type"] == "gr:log"]
            if not logs:
                logs = [await visitor.until("gr:log")]
            assert logs[0]["data"]["level"] == "error"
            assert "RuntimeError" in logs[0]["data"]["traceback"]
            visitor.line.close()

    arun(story)


def test_a_result_that_has_no_form_is_an_error_and_the_state_stands(arun: Any) -> None:
    async def story() -> None:
        def odd(state: Any) -> object:
            state["done"] = True
            return object()

        async with App(handlers=[odd]) as app:
            visitor = await Visitor(app).open()
            assert (await visitor.call("odd"))["code"] == "handler_error"
            assert visitor.session.state["done"] is True
            visitor.line.close()

    arun(story)


def test_a_result_whose_encoder_raises_is_an_error_and_the_state_stands(arun: Any) -> None:
    class Bad:
        def to_dict(self) -> Any:
            raise ZeroDivisionError("by the encoder")

    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    class Worse:
        def to_dict(self) -> Any:
            raise Silent

    async def story() -> None:
        def odd(state: Any) -> object:
            state["done"] = True
            return [Bad()]

        async def odder(session: Any) -> object:
            session.emit("app:odder", 1)
            return Worse()

        async with App(handlers=[odd, odder]) as app:
            visitor = await Visitor(app).open()
            assert (await visitor.call("odd"))["code"] == "handler_error"
            assert (await visitor.call("odder"))["code"] == "handler_error"
            types = [frame["type"] for frame in visitor.frames]
            assert types[2:] == ["gr:state", "gr:error", "app:odder", "gr:error"]
            assert "ZeroDivisionError: by the encoder" in next(iter(visitor.session.log)).text
            visitor.line.close()

    arun(story)


def test_what_cannot_be_sent_is_told_with_its_reason_where_the_developer_looks(arun: Any) -> None:
    class Bad:
        def to_dict(self) -> Any:
            raise ZeroDivisionError("by the encoder")

    async def story() -> None:
        def mixed(state: Any) -> object:
            state["keys"] = [{1: 2}]
            state["bad"] = Bad()
            state["text"] = "\ud800"
            return object()

        async with App(handlers=[mixed]) as app:
            visitor = await Visitor(app).open()
            await visitor.call("mixed")
            for log in (visitor.session.log, app.log):  # the app's goes to the terminal
                said = "\n".join(record.text for record in log)
                assert "state keys is a list (keys must be strings, not int (1))" in said
                assert "state bad is a Bad (ZeroDivisionError: by the encoder)" in said
                assert "state text is a str (" in said
                assert "the result of 'mixed': builtins.object has no form" in said
            visitor.line.close()

    arun(story)


def test_a_value_that_has_no_form_costs_its_key_alone(arun: Any) -> None:
    async def story() -> None:
        def mixed(state: Any) -> None:
            state["good"] = 1
            state["bad"] = object()

        async with App(handlers=[mixed]) as app:
            visitor = await Visitor(app).open()
            await visitor.call("mixed")
            (patch,) = [f["data"] for f in visitor.frames if f["type"] == "gr:state"]
            assert patch == {"=": {"/good": 1}}
            assert any("bad" in record.text for record in visitor.session.log)
            visitor.line.close()

    arun(story)


def test_a_toast_of_no_kind_is_an_error(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            with pytest.raises(ValueError, match="info, success, warning, error, not 'fatal'"):
                app.open_session().notify("x", kind="fatal")  # type: ignore[arg-type]

    arun(story)


def test_a_handler_in_the_place_of_the_list_is_an_error_that_shows_the_cure() -> None:
    with pytest.raises(BadHandler, match=r"handlers=\[add\]"):
        App(handlers=add)  # type: ignore[arg-type]


def test_bad_emits_raise_where_they_are_made(arun: Any) -> None:
    async def story() -> None:
        async with App(settings=Settings(max_frame_out=1000)) as app:
            session = app.open_session()
            with pytest.raises(ValueError, match="namespace:name"):
                session.emit("nonsense", 1)
            with pytest.raises(ValueError, match="gr:"):
                session.emit("gr:state", 1)
            with pytest.raises(TooLarge, match="max_frame_out"):
                session.emit("app:big", "x" * 2000)
            with pytest.raises(Unencodable):
                session.emit("app:odd", object())

    arun(story)


def test_a_payload_that_does_not_fit_is_the_clients_fault(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            visitor = await Visitor(app).open()
            assert (await visitor.call("add", "many"))["code"] == "bad_payload"
            assert visitor.session.state["count"] == 0
            with pytest.raises(BadPayload):
                await visitor.session.ask("add", "many")
            visitor.line.close()

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


def test_the_first_snapshot_holds_values_of_every_kind(arun: Any) -> None:
    async def story() -> None:
        values = {"raw": b"abc", "day": dt.date(2020, 1, 2), "set": {1}, "list": [(1, b"q")]}
        async with App(state=values) as app:
            visitor = await Visitor(app).open()
            assert visitor.frames[1]["data"] == {
                "raw": {"$bytes": "YWJj"},
                "day": "2020-01-02",
                "set": [1],
                "list": [[1, {"$bytes": "cQ=="}]],
            }
            visitor.line.close()

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
