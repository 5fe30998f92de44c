"""Signals: who hears what, what a full queue costs, and what clients may do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator
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
    TooLarge,
    current_app,
)
from greenroom.core._turn import current_turn
from greenroom.core.bus import CLIENT_DATA, REACTION_QUEUE, ROOM
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


def test_subscribed_means_the_sessions_of_clients_that_subscribed(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"seen": 0})
        app.events.create_signal("model:created", internal=False)

        @app.events.event("model:created", sessions="subscribed")
        async def note(data: Any, state: Any) -> None:
            state["seen"] += 1

        async with app:
            one, two = await Visitor(app).open(), await Visitor(app).open()
            again = Visitor(app)
            await again.open(token=one.welcome["token"])  # a second view of the first session
            for visitor in (one, again):
                assert await visitor.call("gr:subscribe", {"name": "model:created"}) is True
            assert await app.events.trigger("model:created", 5) == Delivered(3, 0)
            for visitor in (one, again):
                signal = await visitor.until("gr:signal")
                assert signal["data"] == {"name": "model:created", "data": 5}
            await one.until("gr:state")
            assert one.session.state["seen"] == 1
            async with two.session.turn() as state:
                assert state["seen"] == 0
            for visitor in (one, two, again):
                visitor.line.close()

    arun(story)


# -- listening ------------------------------------------------------------------------------------


async def listening(app: App, name: str, **options: Any) -> AsyncGenerator[Any, None]:
    """A stream that has begun: it has taken one signal."""
    stream = app.events.listen(name, **options)
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await app.events.trigger(name, "first")
    assert await first == "first"
    return stream


@pytest.mark.parametrize(
    ("overflow", "kept", "answer", "counter"),
    [
        ("drop_oldest", [3, 4], Delivered(1, 0), "dropped_oldest"),
        ("drop_newest", [1, 2], Delivered(0, 1), "dropped_newest"),
        ("close", [1, 2], Delivered(0, 1), "closed_slow"),
    ],
)
def test_a_listener_that_falls_behind_loses_what_was_agreed(
    arun: Any, overflow: Any, kept: list[int], answer: Delivered, counter: str
) -> None:
    async def story() -> None:
        app = App()
        app.events.create_signal("model:created")
        async with app:
            stream = await listening(app, "model:created", maxsize=2, overflow=overflow)
            answers = [await app.events.trigger("model:created", n) for n in (1, 2, 3, 4)]
            assert answers[:3] == [Delivered(1, 0), Delivered(1, 0), answer]
            assert app.events.counters[counter] == (1 if overflow == "close" else 2)
            assert [await anext(stream) for _ in kept] == kept
            if overflow == "close":
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
                assert await app.events.trigger("model:created") == Delivered(0, 0)
            await stream.aclose()

    arun(story)


def test_a_listener_may_hold_up_the_trigger_for_a_second(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock)
        app.events.create_signal("model:created")
        async with app:
            stream = await listening(app, "model:created", maxsize=1, overflow="block")
            await app.events.trigger("model:created", 1)
            waiting = asyncio.ensure_future(app.events.trigger("model:created", 2))
            await steps()
            assert not waiting.done()
            assert await anext(stream) == 1
            assert await waiting == Delivered(1, 0)
            waiting = asyncio.ensure_future(app.events.trigger("model:created", 3))
            await steps()
            clock.advance(ROOM + 0.1)
            assert await waiting == Delivered(0, 1)
            assert app.events.counters["dropped_newest"] == 1
            app.events.trigger_soon("model:created", 4)  # never waits
            assert app.events.counters["refused"] == 2
            assert await anext(stream) == 2
            await stream.aclose()

    arun(story)


def test_the_default_room_of_a_listener_is_a_setting_and_zero_is_unbounded(arun: Any) -> None:
    async def story() -> None:
        app = App(settings=Settings(event_queue_size=3))
        app.events.create_signal("model:created")
        async with app:
            usual = await listening(app, "model:created")
            endless = await listening(app, "model:created", maxsize=0)
            for number in range(50):
                await app.events.trigger("model:created", number)
            assert [await anext(usual) for _ in range(3)] == [47, 48, 49]
            assert [await anext(endless) for _ in range(50)] == list(range(50))
            for stream in (usual, endless):
                await stream.aclose()
            wrongs: list[dict[str, Any]] = [{"overflow": "explode"}, {"maxsize": -1}]
            for wrong in wrongs:
                with pytest.raises(ValueError, match=r"overflow|maxsize"):
                    await anext(app.events.listen("model:created", **wrong))

    arun(story)


def test_a_listener_that_leaves_is_forgotten(arun: Any) -> None:
    async def story() -> None:
        app = App()
        app.events.create_signal("model:created")
        async with app:
            stream = await listening(app, "model:created")
            await app.events.trigger("model:created", 1)
            await stream.aclose()
            assert app.events.counters["expired"] == 1
            assert await app.events.trigger("model:created", 2) == Delivered(0, 0)

    arun(story)


# -- clients --------------------------------------------------------------------------------------


def test_internal_and_unknown_are_one_answer(arun: Any) -> None:
    async def story() -> None:
        asked: list[tuple[Any, ...]] = []

        def gate(session: Any, action: str, name: str, data: Any) -> bool:
            asked.append((action, name))
            return False

        app = App(settings=Settings(authorize=gate))
        app.events.create_signal("a:hidden")
        app.events.query("q:hidden")(lambda data: 1)
        app.events.create_signal("a:shown", internal=False)
        async with app:
            visitor = await Visitor(app).open()
            for kind, hidden, unknown in (
                ("gr:subscribe", "a:hidden", "a:absent"),
                ("gr:unsubscribe", "a:hidden", "a:absent"),
                ("gr:trigger", "a:hidden", "a:absent"),
                ("gr:trigger", "a:shown", "a:absent"),
                ("gr:query", "q:hidden", "q:absent"),
            ):
                one = await visitor.call(kind, {"name": hidden, "data": 1})
                two = await visitor.call(kind, {"name": unknown, "data": 1})
                assert one["code"] == two["code"] == "not_found", kind
                assert one["message"].replace(hidden, unknown) == two["message"]
            assert asked == []  # nobody is asked about what does not exist
            visitor.line.close()

    arun(story)


def test_clients_subscribe_and_unsubscribe(arun: Any) -> None:
    async def story() -> None:
        app = App()
        app.events.create_signal("model:created", internal=False)
        async with app:
            visitor = await Visitor(app).open()
            name = {"name": "model:created"}
            assert await visitor.call("gr:subscribe", name) is True
            assert await visitor.call("gr:subscribe", name) is True  # once is enough
            assert await app.events.trigger("model:created", [1]) == Delivered(1, 0)
            assert (await visitor.until("gr:signal"))["data"]["data"] == [1]
            assert await visitor.call("gr:unsubscribe", name) is True
            assert await visitor.call("gr:unsubscribe", name) is True
            assert await app.events.trigger("model:created") == Delivered(0, 0)
            visitor.line.close()

    arun(story)


def test_a_signal_waits_for_a_client_that_was_cut_and_not_for_one_that_left(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock, settings=Settings(window=20))
        app.events.create_signal("model:created", internal=False)
        async with app:
            first = await Visitor(app).open()
            await first.call("gr:subscribe", {"name": "model:created"})
            first.line.cut()
            assert await app.events.trigger("model:created", 1) == Delivered(1, 0)
            again = Visitor(app)
            await again.hello(**first.back())
            assert (await again.until("gr:signal"))["data"]["data"] == 1
            again.line.cut()
            clock.advance(25)
            assert await app.events.trigger("model:created", 2) == Delivered(0, 0)

    arun(story)


def test_a_signal_that_clients_cannot_be_sent_is_told_before_anybody_hears(arun: Any) -> None:
    async def story() -> None:
        app = App(settings=Settings(max_frame_out=500))
        app.events.create_signal("model:created", internal=False)
        heard: list[Any] = []
        app.events.event("model:created")(heard.append)
        async with app:
            visitor = await Visitor(app).open()
            await visitor.call("gr:subscribe", {"name": "model:created"})
            with pytest.raises(TooLarge, match="max_frame_out"):
                await app.events.trigger("model:created", "x" * 600)
            with pytest.raises(TypeError):
                await app.events.trigger("model:created", object())
            with pytest.raises(TooLarge):
                app.events.trigger_soon("model:created", "x" * 600)
            await steps()
            assert not heard
            assert app.events.counters["delivered"] == app.events.counters["triggered"] == 0
            visitor.line.close()

    arun(story)


def test_clients_trigger_what_they_may(arun: Any) -> None:
    async def story() -> None:
        app = App()
        heard = Heard()
        app.events.create_signal("model:created", internal=False, client_trigger=True)

        @app.events.event("model:created")
        async def react(data: Any) -> None:
            heard.note(data)

        async with app:
            visitor = await Visitor(app).open()
            good = {"name": "model:created", "data": {"n": 1}}
            assert await visitor.call("gr:trigger", good) is True
            assert await heard.until(1) == [{"n": 1}]
            large = {"name": "model:created", "data": "x" * (CLIENT_DATA + 1)}
            assert (await visitor.call("gr:trigger", large))["code"] == "too_large"
            # The limit is the data's, not that of the frames that came with it.
            number = visitor.sent + 1
            frames = [
                {"type": "gr:trigger", "id": number + n, "data": {**good, "data": "x" * 10_000}}
                for n in range(2)
            ]
            visitor.sent += 2
            visitor.raw(type="gr:batch", data=frames)
            assert await visitor.answer(number) is True
            assert await visitor.answer(number + 1) is True
            visitor.line.close()

    arun(story)


def test_the_app_is_asked_who_may(arun: Any) -> None:
    async def story() -> None:
        verdict: dict[str, Any] = {}
        asked: list[Any] = []

        def gate(session: Any, action: str, name: str, data: Any) -> Any:
            asked.append((session.id, action, name, data))
            answer = verdict["is"]
            if isinstance(answer, Exception):
                raise answer
            return answer

        app = App(settings=Settings(authorize=gate))
        app.events.create_signal("a:b", internal=False, client_trigger=True)
        app.events.query("a:q", internal=False)(lambda data: "answer")
        async with app:
            visitor = await Visitor(app).open()
            frames = {
                "gr:subscribe": {"name": "a:b"},
                "gr:trigger": {"name": "a:b", "data": 5},
                "gr:query": {"name": "a:q", "data": 6},
            }
            for answer in (False, None, RuntimeError("the gate is broken")):
                verdict["is"] = answer
                for kind, data in frames.items():
                    refused = await visitor.call(kind, data)
                    assert refused["code"] == "unauthorized", (kind, answer)
                    assert "broken" not in refused["message"]
            me = visitor.session.id
            assert asked[:3] == [
                (me, "subscribe", "a:b", None),
                (me, "trigger", "a:b", 5),
                (me, "query", "a:q", 6),
            ]
            assert "broken" in "".join(record.text for record in app.log)
            verdict["is"] = True
            answers = [await visitor.call(kind, data) for kind, data in frames.items()]
            assert answers == [True, True, "answer"]
            visitor.line.close()

    arun(story)


def test_an_async_gate_is_refused_for_it_would_let_everybody_in() -> None:
    async def gate(session: Any, action: str, name: str, data: Any) -> bool:
        return False

    with pytest.raises((TypeError, ValueError), match="authorize"):
        Settings(authorize=gate)


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
