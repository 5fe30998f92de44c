"""Signals inside the server: who hears what, what a full queue costs, and how it all ends.

What clients may do is in `test_bus_clients.py`, streams are in `test_listeners.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import ContextVar
from typing import Any

import pytest
from tests.core.heard import Heard, steps
from tests.core.visitor import Visitor

from greenroom import (
    App,
    BadHandler,
    Delivered,
    NotFound,
    Settings,
    current_app,
)
from greenroom.core._turn import current_turn
from greenroom.core.bus import REACTION_QUEUE, ROOM
from greenroom.core.stats import unbalanced
from greenroom.testing import ManualClock

# -- declaring ------------------------------------------------------------------------------------


def test_names_are_declared_once_and_the_same_way() -> None:
    events = App().events
    events.create_signal("model:created", internal=False)
    events.create_signal("model:created", internal=False)
    with pytest.raises(ValueError, match="internal=False"):
        events.create_signal("model:created")
    with pytest.raises(ValueError, match="client_trigger=False"):
        events.create_signal("model:created", internal=False, client_trigger=True)
    with pytest.raises(ValueError, match="needs internal=False"):
        events.create_signal("model:other", client_trigger=True)
    for name in ("model", "gr:created", "model:", ":created", "model created:x"):
        with pytest.raises(ValueError, match=r"model|gr:|:created"):
            events.create_signal(name)
        with pytest.raises(ValueError, match=r"model|gr:|:created"):
            events.query(name)


def test_a_reaction_takes_over_the_flags_or_says_the_same() -> None:
    events = App().events
    events.create_signal("model:created", internal=False)
    events.event("model:created")(lambda data: None)
    events.event("model:created", internal=False)(lambda data: None)
    with pytest.raises(ValueError, match="internal=False"):
        events.event("model:created", internal=True)(lambda data: None)
    with pytest.raises(ValueError, match="not declared as a singleton"):
        events.event("model:created", singleton=True)(lambda data: None)
    events.event("model:new")(lambda data: None)  # declares it
    with pytest.raises(ValueError, match="internal=True"):
        events.create_signal("model:new", internal=False)


def test_a_singleton_has_one_of_everything() -> None:
    events = App().events
    events.create_signal("one:signal", singleton=True)
    with pytest.raises(ValueError, match="singleton"):
        events.create_signal("one:signal", singleton=True)
    with pytest.raises(ValueError, match="singleton"):
        events.create_signal("one:signal")
    events.event("one:signal", singleton=True)(lambda data: None)
    with pytest.raises(ValueError, match="has its reaction already"):
        events.event("one:signal")(lambda data, session: None)
    events.create_signal("many:signal")
    with pytest.raises(ValueError, match="singleton"):
        events.create_signal("many:signal", singleton=True)

    events.query("one:query")(lambda data: 1)
    with pytest.raises(ValueError, match="singleton"):
        events.query("one:query")(lambda data: 2)
    events.query("many:query", singleton=False)(lambda data: 1)
    events.query("many:query", singleton=False)(lambda data: 2)
    with pytest.raises(ValueError, match="internal=True"):
        events.query("many:query", singleton=False, internal=False)(lambda data: 3)
    with pytest.raises(ValueError, match="singleton"):
        events.query("many:query")(lambda data: 3)


def test_reactions_and_answers_take_the_data_and_nothing_else() -> None:
    app = App()
    events = app.events
    for wrong in (lambda: None, lambda a, b: None, lambda *, data: None):
        with pytest.raises(BadHandler, match="one positional argument"):
            events.event("model:created")(wrong)
        with pytest.raises(BadHandler, match="one positional argument"):
            events.query("model:count")(wrong)
    with pytest.raises(BadHandler):
        events.event("model:created")(lambda session, other, data: None)
    events.event("model:created")(lambda session: None)  # it need not want the data
    events.event("model:created")(lambda data, more=1: None)


def test_what_could_never_run_is_an_error() -> None:
    events = App().events
    events.create_signal("model:hidden")
    with pytest.raises(ValueError, match="no client can subscribe"):
        events.event("model:hidden", sessions="subscribed")(lambda data, session: None)
    events.create_signal("model:shown", internal=False)
    with pytest.raises(ValueError, match="session"):
        events.event("model:shown", sessions="subscribed")(lambda data: None)
    with pytest.raises(ValueError, match="sessions"):
        events.event("model:shown", sessions="all")  # type: ignore[arg-type]


def test_a_function_that_reacts_or_answers_is_no_handler() -> None:
    def react(payload: Any) -> None: ...
    def answer(payload: Any) -> None: ...

    app = App()
    app.events.event("model:created")(react)
    app.events.query("model:count")(answer)
    module = type(threading)("module")
    for fn in (react, answer):
        fn.__module__ = "module"
        setattr(module, fn.__name__, fn)
    app.init_handlers(module)
    assert not app.handlers.names


# -- triggering -----------------------------------------------------------------------------------


def test_a_signal_reaches_reactions_in_order_sync_and_async(arun: Any) -> None:
    async def story() -> None:
        app = App()
        one, two = Heard(), Heard()
        loop = asyncio.get_running_loop()

        @app.events.event("model:created")
        def on_worker(data: Any) -> None:
            loop.call_soon_threadsafe(one.note, data)

        @app.events.event("model:created")
        async def on_loop(data: Any) -> None:
            await asyncio.sleep(0)
            two.note(data)

        async with app:
            for number in range(20):
                assert await app.events.trigger("model:created", number) == Delivered(2, 0)
            assert await one.until(20) == list(range(20))
            assert await two.until(20) == list(range(20))
            assert app.events.counters["triggered"] == 20
            assert app.events.counters["delivered"] == 40

    arun(story)


def test_unknown_signals_and_queries_are_not_found_and_name_the_cure(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            with pytest.raises(NotFound, match="create_signal"):
                await app.events.trigger("model:created")
            with pytest.raises(NotFound, match="create_signal"):
                app.events.trigger_soon("model:created")
            with pytest.raises(NotFound, match="create_signal"):
                await anext(app.events.listen("model:created"))
            with pytest.raises(NotFound, match=r"events\.query"):
                await app.events.request("model:count")

    arun(story)


def test_a_reaction_starts_clean_with_the_app_current(arun: Any) -> None:
    async def story() -> None:
        mine: ContextVar[str] = ContextVar("mine", default="none")
        seen = Heard()
        app = App()

        @app.events.event("model:created")
        async def react(data: Any) -> None:
            seen.note((mine.get(), current_app() is app, current_turn()))

        def worker(data: Any) -> None:
            row = (mine.get(), current_app() is app, current_turn())
            app.call_on_loop(seen.note, row)

        app.events.event("model:created")(worker)

        async def save(session: Any) -> None:
            mine.set("the turn's")
            await app.events.trigger("model:created")
            await seen.until(2)  # while the turn is still going

        app.handlers.add(save)
        async with app:
            await app.open_session().ask("save")
            assert seen == [("none", True, None)] * 2

    arun(story)


def test_one_failing_reaction_stops_no_other_and_not_itself(arun: Any) -> None:
    async def story() -> None:
        app = App()
        heard, fallen = Heard(), Heard()

        @app.events.event("model:created")
        async def fails(data: Any) -> None:
            fallen.note(data)
            if data == 1:
                raise RuntimeError("broken")
            if data == 2:
                raise asyncio.CancelledError  # something it awaited was cancelled

        @app.events.event("model:created")
        async def works(data: Any) -> None:
            heard.note(data)

        async with app:
            for number in (1, 2, 3):
                await app.events.trigger("model:created", number)
            assert await heard.until(3) == [1, 2, 3]
            assert await fallen.until(3) == [1, 2, 3]
            texts = [record.text for record in app.log]
            assert sum("a reaction failed" in text for text in texts) == 2

    arun(story)


def test_a_full_queue_is_waited_for_a_second_then_refused(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock)
        begun, release = asyncio.Event(), asyncio.Event()

        @app.events.event("model:created")
        async def slow(data: Any) -> None:
            begun.set()
            await release.wait()

        async with app:
            await app.events.trigger("model:created")
            await begun.wait()
            for _ in range(REACTION_QUEUE):
                assert (await app.events.trigger("model:created")).refused == 0
            waiting = asyncio.ensure_future(app.events.trigger("model:created"))
            await steps()
            clock.advance(ROOM - 0.1)
            await steps()
            assert not waiting.done()
            clock.advance(0.2)
            assert await waiting == Delivered(0, 1)
            assert app.events.counters["refused"] == 1
            app.events.trigger_soon("model:created")  # at once
            assert app.events.counters["refused"] == 2

            two = [asyncio.ensure_future(app.events.trigger("model:created")) for _ in range(2)]
            await steps()
            release.set()
            assert [await each for each in two] == [Delivered(1, 0)] * 2

    arun(story)


def test_of_two_who_wait_for_one_place_the_second_waits_on(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock)
        begun = asyncio.Event()
        tickets: asyncio.Queue[None] = asyncio.Queue()

        @app.events.event("model:created")
        async def slow(data: Any) -> None:
            begun.set()
            await tickets.get()

        async with app:
            for _ in range(REACTION_QUEUE + 1):
                await app.events.trigger("model:created")
                await begun.wait()
            two = [asyncio.ensure_future(app.events.trigger("model:created")) for _ in range(2)]
            await steps()
            tickets.put_nowait(None)
            await steps()
            assert sorted(each.done() for each in two) == [False, True]
            clock.advance(ROOM / 2)
            tickets.put_nowait(None)
            await steps()
            assert [await each for each in two] == [Delivered(1, 0)] * 2
            await app.stop(drain=0)

    arun(story)


def test_trigger_soon_may_be_called_anywhere(arun: Any) -> None:
    async def story() -> None:
        app = App()
        heard = Heard()

        @app.events.event("model:created")
        async def react(data: Any) -> None:
            heard.note(data)

        def save(app: App) -> None:  # in a turn on a worker
            app.events.trigger_soon("model:created", "worker")

        app.handlers.add(save)
        async with app:
            app.events.trigger_soon("model:created", "loop")
            thread = threading.Thread(
                target=app.events.trigger_soon, args=("model:created", "thread")
            )
            thread.start()
            await app.open_session().ask("save")
            assert sorted(await heard.until(3)) == ["loop", "thread", "worker"]
            thread.join()
            assert app.events.counters["triggered"] == 3

    arun(story)


# -- reactions in sessions ------------------------------------------------------------------------


def test_a_reaction_with_a_session_runs_once_in_each(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"rows": 0, "who": ""})

        @app.events.event("model:created")
        async def refresh(model: Any, session: Any, state: Any) -> None:
            state["rows"] += model["rows"]
            state["who"] = session.id
            assert current_app() is app

        async with app:
            one, two = await Visitor(app).open(), app.open_session()
            assert await app.events.trigger("model:created", {"rows": 3}) == Delivered(2, 0)
            patch = await one.until("gr:state")
            assert patch["data"]["="] == {"/rows": 3, "/who": one.session.id}
            async with two.turn() as state:
                assert (state["rows"], state["who"]) == (3, two.id)
            app.events.trigger_soon("model:created", {"rows": 1})
            await one.until("gr:state")
            assert one.session.state["rows"] == 4
            one.line.close()

    arun(story)


def test_a_reaction_in_a_session_is_a_turn_like_any_other(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"count": 0})
        around: list[str] = []

        @app.middleware()
        def note(event_type: str) -> None:
            around.append(event_type)

        @app.events.event("model:created")
        async def fail(data: Any, state: Any) -> None:
            state["count"] = data
            if data == 1:
                raise RuntimeError("broken")

        async with app:
            one, two = app.open_session(), app.open_session()
            await app.events.trigger("model:created", 1)
            await app.events.trigger("model:created", 2)
            for session in (one, two):
                async with session.turn() as state:
                    assert state["count"] == 2
            assert around.count("model:created") == 4
            assert "broken" in "".join(record.text for record in app.log)

    arun(story)


def test_full_and_closed_sessions_refuse_and_are_counted(arun: Any) -> None:
    async def story() -> None:
        app = App(settings=Settings(mailbox_messages=1))

        @app.events.event("model:created")
        async def refresh(data: Any, session: Any) -> None: ...

        async with app:
            session = app.open_session()
            app.open_session()
            async with session.turn():
                assert await app.events.trigger("model:created") == Delivered(2, 0)
                await steps()
                assert await app.events.trigger("model:created") == Delivered(1, 1)
                app.events.trigger_soon("model:created")
            counters = app.events.counters
            assert counters["delivered"] + counters["refused"] == 6
            assert counters["refused"] >= 2

    arun(story)


# -- the end --------------------------------------------------------------------------------------


def test_stopping_ends_streams_and_reactions_and_counts_what_waited(arun: Any) -> None:
    async def story() -> None:
        app = App()
        begun, heard = asyncio.Event(), Heard()
        hold = [True]

        @app.events.event("model:created")
        async def slow(data: Any) -> None:
            begun.set()
            if hold[0]:
                await asyncio.Event().wait()
            heard.note(data)

        await app.start()
        stream = app.events.listen("model:created")
        taking = asyncio.ensure_future(anext(stream))
        await steps()
        for number in range(3):
            await app.events.trigger("model:created", number)
        await begun.wait()
        assert await taking == 0
        await app.stop(drain=0)
        assert app.events.counters["expired"] == 3  # the one that was cut off, and two behind
        assert [data async for data in stream] == [1, 2]

        hold[0] = False
        async with app:  # a second life: nothing of the first is left
            await app.events.trigger("model:created", "again")
            assert await heard.until(1) == ["again"]

    arun(story)


def test_a_reaction_that_will_not_be_cancelled_ends_with_the_app_all_the_same(arun: Any) -> None:
    async def story() -> None:
        app = App()
        begun = asyncio.Event()

        @app.events.event("model:changed")
        async def react(_: Any) -> None:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

        await app.start()
        await app.events.trigger("model:changed")
        await begun.wait()
        await asyncio.wait_for(app.stop(0), 10)
        assert unbalanced(app.stats()) == []

    arun(story)


def test_a_reaction_that_cancels_its_own_task_hears_what_comes_next(arun: Any) -> None:
    async def story() -> None:
        heard = Heard()
        async with App() as app:

            @app.events.event("model:changed")
            async def react(data: int) -> None:
                task = asyncio.current_task()
                assert task is not None
                heard.note(data)
                if data == 1:
                    task.cancel()
                    await asyncio.sleep(0)

            await app.events.trigger("model:changed", 1)
            await heard.until(1)
            await steps()
            await app.events.trigger("model:changed", 2)
            assert await heard.until(2) == [1, 2]

    arun(story)


def test_who_waits_for_room_until_the_app_has_stopped_is_refused(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock)
        begun, heard = asyncio.Event(), 0

        @app.events.event("model:changed")
        async def react(_: Any) -> None:
            nonlocal heard
            heard += 1
            begun.set()
            await asyncio.sleep(3600)

        await app.start()
        for _ in range(REACTION_QUEUE):
            app.events.trigger_soon("model:changed")
        await begun.wait()
        app.events.trigger_soon("model:changed")
        last = asyncio.ensure_future(app.events.trigger("model:changed"))
        await asyncio.sleep(0)
        assert not last.done()
        await app.stop(0)
        assert await asyncio.wait_for(last, 10) == (0, 1)
        assert heard == 1
        assert unbalanced(app.stats()) == []

    arun(story)
