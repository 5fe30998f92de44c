"""The app: what it is made of, whom it means, and its life."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from types import ModuleType
from typing import Any

import pytest
from tests.core.visitor import Visitor

from greenroom import App, Busy, Closed, NoSession, NotFound, Settings, State, current_app, shared
from greenroom.testing import ManualClock


def add(state: Any, payload: int = 1) -> int:
    state["count"] += payload
    result: int = state["count"]
    return result


def leave(*visitors: Visitor) -> None:
    for visitor in visitors:
        visitor.line.close()


def module(name: str, text: str) -> ModuleType:
    """A module of its own."""
    made = ModuleType(name)
    made.__file__ = f"/srv/app/{name}.py"
    exec(compile(text, made.__file__, "exec"), made.__dict__)
    return made


# -- initial state --------------------------------------------------------------------------------


class Preset(State):
    """A state with a value of its own."""

    def __init__(self, values: Any = None) -> None:
        super().__init__({"preset": True, **(values or {})})


def sync_factory() -> dict[str, Any]:
    return {"made": "sync", "list": []}


async def async_factory() -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"made": "async", "list": []}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (None, {}),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
        (State({"a": 1}), {"a": 1}),
        (Preset, {"preset": True}),
        (sync_factory, {"made": "sync", "list": []}),
        (async_factory, {"made": "async", "list": []}),
        (lambda: Preset({"x": 1}), {"preset": True, "x": 1}),
        (lambda: Preset, {"preset": True}),
    ],
    ids=["none", "dict", "state", "class", "factory", "async factory", "of state", "of class"],
)
def test_the_state_begins_as_was_said(arun: Any, state: Any, expected: dict[str, Any]) -> None:
    async def story() -> None:
        async with App(state=state) as app:
            visitor = await Visitor(app).open()
            assert visitor.frames[-1]["data"] == expected
            session = await app.open_session_async()
            assert session.state.to_dict() == expected
            leave(visitor)

    arun(story)


def test_a_state_can_be_poured_into_a_class() -> None:
    app = App()
    app.init_state({"x": 1}, schema=Preset)


def test_sessions_share_nothing_they_change(arun: Any) -> None:
    async def story() -> None:
        common = object()
        template = {"rows": [1], "deep": {"set": {1}}, "_common": shared(common)}
        async with App(state=template) as app:
            one, two = app.open_session(), app.open_session()
            async with one.turn() as state:
                state["rows"].append(2)
                state["rows"] = state["rows"]
                state["deep"]["set"].add(2)
            assert two.state["rows"] == [1]
            assert two.state["deep"]["set"] == {1}
            assert template["rows"] == [1]
            assert one.state["_common"] is two.state["_common"] is common

    arun(story)


def test_init_state_is_for_sessions_opened_from_now_on(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"v": 1}) as app:
            one = app.open_session()
            app.init_state({"v": 2})
            two = app.open_session()
            app.init_state(lambda: {"v": 3})
            three = app.open_session()
            app.init_state({"v": 4})
            four = app.open_session()
            assert [s.state["v"] for s in (one, two, three, four)] == [1, 2, 3, 4]

    arun(story)


def test_a_state_may_be_assigned_and_subscribed_to_until_the_app_starts(arun: Any) -> None:
    async def story() -> None:
        seen: list[Any] = []
        beginning = State({"v": 1, "list": [1]})
        app = App()
        app.init_state(beginning)
        beginning["v"] = 2
        beginning["list"].append(2)
        beginning.subscribe_mutation("v", lambda payload: seen.append(payload["new_value"]))
        async with app:
            beginning["v"] = 3  # too late
            beginning["list"].append(3)
            session = app.open_session()
            assert session.state == {"v": 2, "list": [1, 2]}
            seen.clear()
            async with session.turn() as state:
                state["v"] = 4
            assert seen == [4]
            other = State({"v": 5})
            app.init_state(other)
            other["v"] = 6  # a running app takes it as it was
            assert app.open_session().state["v"] == 5

    arun(story)


def test_a_state_that_went_wrong_meanwhile_keeps_the_app_from_starting(arun: Any) -> None:
    async def story() -> None:
        beginning = State({"v": 1})
        app = App(state=beginning)
        beginning["v"] = threading.Lock()
        with pytest.raises(TypeError, match=r"'v'.*gr\.shared"):
            await app.start()
        assert app.phase == "new"

    arun(story)


def test_what_cannot_be_copied_is_named_with_its_cures() -> None:
    with pytest.raises(TypeError, match=r"'lock'.*gr\.shared.*underscore"):
        App(state={"lock": threading.Lock()})
    App(state={"_lock": threading.Lock(), "other": shared(threading.Lock())})


def test_an_async_factory_says_which_verb_to_use(arun: Any) -> None:
    async def story() -> None:
        async with App(state=async_factory) as app:
            with pytest.raises(TypeError, match="open_session_async"):
                app.open_session()
            assert not app.sessions

    arun(story)


# -- handlers and middlewares ---------------------------------------------------------------------


def test_a_list_of_handlers_exposes_exactly_those(arun: Any) -> None:
    async def story() -> None:
        def listed(state: Any) -> str:
            return "listed"

        shop = """
from os.path import join
def of_module(state): return "of module"
def _hidden(state): return "hidden"
def helper(numbers, factor): ...
"""
        app = App(handlers=[listed, module("shop", shop)])
        names = [name for name in app.handlers.names if "." not in name]
        assert sorted(names) == ["listed", "of_module"]
        assert "helper" in "\n".join(app.handlers.report())
        async with app:
            visitor = await Visitor(app).open()
            assert await visitor.call("listed") == "listed"
            assert await visitor.call("shop.of_module") == "of module"
            for name in (
                "_hidden",
                "helper",
                "join",
                "add",
                "shop._hidden",
                "init_handlers",
                "app.stop",
            ):
                assert (await visitor.call(name))["code"] == "not_found", name
            leave(visitor)

    arun(story)


def test_handlers_can_be_added_module_by_module(arun: Any) -> None:
    async def story() -> None:
        app = App()
        app.init_handlers(module("first", "def one(): return 1"))
        app.init_handlers([module("second", "def two(): return 2")])
        with pytest.raises(TypeError, match="module"):
            app.init_handlers([add])  # type: ignore[list-item]
        async with app:
            session = app.open_session()
            assert [await session.ask(name) for name in ("one", "two", "first.one")] == [1, 2, 1]
            with pytest.raises(NotFound):
                await session.ask("three")

    arun(story)


def test_middlewares_run_around_every_turn_in_order(arun: Any) -> None:
    async def story() -> None:
        log: list[Any] = []
        app = App(state={"count": 0}, handlers=[add])

        @app.middleware()
        def outer(event_type: str) -> Generator[None, Any, None]:
            log.append(("outer", event_type))
            result = yield
            log.append(("outer", result))

        @app.middleware()
        async def inner(state: Any, session: Any) -> AsyncGenerator[None, Any]:
            log.append("inner")
            state["by"] = session.id
            yield
            log.append("inner")

        @app.middleware()
        def guard(payload: Any) -> None:
            if payload == 13:
                raise PermissionError("not thirteen")

        async with app:
            visitor = await Visitor(app).open()
            assert await visitor.call("add", 5) == 5
            assert log == [("outer", "add"), "inner", "inner", ("outer", 5)]
            assert visitor.session.state["by"] == visitor.session.id
            assert (await visitor.call("add", 13))["code"] == "handler_error"
            assert visitor.session.state["count"] == 5
            assert "outer" not in app.handlers.names
            leave(visitor)

    arun(story)


def test_a_middleware_that_swallows_commits_what_it_says(arun: Any) -> None:
    async def story() -> None:
        def fail(state: Any, session: Any) -> None:
            state["count"] = 99
            session.emit("app:never")
            raise RuntimeError("broken")

        app = App(state={"count": 0, "error": ""}, handlers=[fail])

        @app.middleware()
        def report(state: Any, session: Any) -> Generator[None]:
            try:
                yield
            except RuntimeError as error:
                state["error"] = str(error)
                session.emit("app:failed")

        async with app:
            visitor = await Visitor(app).open()
            assert await visitor.call("fail") is None
            kinds = [frame["type"] for frame in visitor.frames[2:]]
            assert kinds == ["gr:state", "app:failed", "gr:result"]
            assert visitor.frames[2]["data"] == {"=": {"/error": "broken"}}
            leave(visitor)

    arun(story)


# -- whom is meant --------------------------------------------------------------------------------


def test_an_emit_means_the_turns_session_or_the_one_named_or_the_only_one(arun: Any) -> None:
    async def story() -> None:
        def speak(app: Any) -> None:
            app.emit("app:said", "in a turn")

        async with App(handlers=[speak]) as app:
            with pytest.raises(NoSession, match=r"0 sessions.*app\.broadcast"):
                app.emit("app:said")
            one = await Visitor(app).open()
            app.emit("app:said", "the only one")
            assert (await one.until("app:said"))["data"] == "the only one"
            two = await Visitor(app).open()
            with pytest.raises(NoSession, match=r"2 sessions.*session=.*app\.broadcast"):
                app.emit("app:said")
            app.emit("app:said", "named", session=two.session)
            assert (await two.until("app:said"))["data"] == "named"
            await one.call("speak")
            assert [f["data"] for f in one.frames if f["type"] == "app:said"][1:] == ["in a turn"]
            app.broadcast("app:said", "all", label="main")
            app.broadcast("app:said", "none", label="side")
            for visitor in (one, two):
                assert (await visitor.until("app:said"))["data"] == "all"
                assert not visitor.line.arrived
            with pytest.raises(ValueError, match="namespace:name"):
                app.broadcast("said")
            leave(one, two)

    arun(story)


def test_groups_reach_their_members(arun: Any) -> None:
    async def story() -> None:
        def come(session: Any, payload: str) -> None:  # on a worker
            session.join(payload)

        settings = Settings(mailbox_messages=1)
        async with App(state={"count": 0}, handlers=[add, come], settings=settings) as app:
            one, two, three = [await Visitor(app).open() for _ in range(3)]
            for visitor in (one, two):
                await visitor.call("come", "room")
            room = app.group("room")
            assert len(room) == 2
            room.emit("room:news", 1)
            for visitor in (one, two):
                assert (await visitor.until("room:news"))["data"] == 1
            async with one.session.turn(), two.session.turn():
                assert room.tell("add", 5) == (2, 0)
                assert room.tell("add", 5) == (0, 2)
            await two.until("gr:state")
            one.session.leave("room")
            one.session.leave("room")
            assert len(room) == 1
            two.session.close()
            await two.until("gr:close")
            assert (len(room), app.groups.members("nowhere")) == (0, ())
            session = app.open_session()
            session.close()
            session.join("room")
            assert len(room) == 0
            leave(one, three)

    arun(story)


def test_views_are_pages_with_events_of_their_own(arun: Any) -> None:
    async def story() -> None:
        heard: list[Any] = []
        app = App()
        side = app.show("<p>", label="side", title="Side", callbacks={"pane:open": heard.append})
        side.on("pane:close", lambda data, event_type: heard.append(event_type))
        assert (app.views["side"], side.html, side.title) == (side, "<p>", "Side")
        assert app.show("<p>").label == "main"
        async with app:
            main = await Visitor(app).open()
            view = await Visitor(app).open(token=main.welcome["token"], label="side")
            side.emit("pane:news", 1)
            side.notify("only here")
            assert (await view.until("pane:news"))["label"] == "side"
            assert (await view.until("gr:notify"))["data"] == {"message": "only here",
                                                               "kind": "info"}  # fmt: skip
            await view.call("pane:open", "x")
            await view.call("pane:close")
            assert (await main.call("pane:open"))["code"] == "not_found"
            assert heard == ["x", "pane:close"]
            assert {"pane:news", "gr:notify"}.isdisjoint(f["type"] for f in main.frames)
            other = app.open_session()
            with pytest.raises(NoSession):
                side.emit("pane:news")
            side.emit("pane:news", session=other)
            leave(main, view)

    arun(story)


def test_two_apps_share_nothing(arun: Any) -> None:
    async def story() -> None:
        def whoami(app: Any) -> bool:
            return current_app() is app

        one = App(state={"count": 0}, handlers=[add, whoami])
        two = App(state={"other": 0}, handlers=[whoami])
        one.on("app:only", lambda: "one")
        one.events.create_signal("sig:only", internal=False)
        async with one, two:
            first, second = await Visitor(one).open(), await Visitor(two).open()
            assert await first.call("add") == 1
            for event in ("add", "app:only"):
                assert (await second.call(event))["code"] == "not_found"
            refused = await second.call("gr:subscribe", {"name": "sig:only"})
            assert refused["code"] == "not_found"
            assert await first.call("whoami")
            assert await second.call("whoami")
            close = await Visitor(two).hello(token=first.welcome["token"])
            assert close["data"]["code"] == "unauthorized"
            one.broadcast("app:news")
            await first.until("app:news")
            assert not second.line.arrived
            assert (len(one.sessions), len(two.sessions)) == (1, 1)

            async def across(app: Any) -> Any:  # a turn of one app asks a session of the other
                return await first.session.ask("add", 5)

            two.handlers.add(across)
            assert await second.call("across") == 6
            leave(first, second)

    arun(story)


# -- life -----------------------------------------------------------------------------------------


def test_an_app_that_does_not_run_says_so() -> None:
    app = App(state={"count": 0})
    assert (app.running, app.phase) == (False, "new")
    for verb in (
        app.open_session,
        lambda: app.broadcast("app:news"),
        lambda: app.connect(object()),  # type: ignore[arg-type]
    ):
        with pytest.raises(Closed, match="does not run"):
            verb()


def test_starting_and_stopping_twice_is_fine_and_a_second_life_is_a_new_one(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"count": 0}, handlers=[add])
        for _ in range(2):
            await app.start()
            await app.start()
            visitor = await Visitor(app).open()
            assert await visitor.call("add") == 1
            await app.stop(drain=1)
            await app.stop(drain=1)
            assert (app.phase, len(app.sessions), app.stats()["tasks"]) == ("stopped", 0, 0)
            close = await visitor.until("gr:close")
            assert close["data"]["code"] == "draining"
            with pytest.raises(Closed):
                app.open_session()
            with pytest.raises(Closed):
                app.broadcast("app:late")
        assert (app.counters["sessions_opened"], app.counters["sessions_closed"]) == (2, 2)

    arun(story)


def test_an_app_runs_on_one_loop(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            errors: list[BaseException] = []

            def elsewhere() -> None:
                try:
                    asyncio.run(app.start())
                except RuntimeError as error:
                    errors.append(error)

            thread = threading.Thread(target=elsewhere)
            thread.start()
            while thread.is_alive():
                await asyncio.sleep(0)
            assert "another loop" in str(errors[0])

    arun(story)


def test_stopping_lets_what_runs_end_and_refuses_what_is_new(arun: Any) -> None:
    async def story() -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def long(state: Any) -> str:
            begun.set()
            await go.wait()
            return "done"

        app = App(state={"count": 0}, handlers=[long, add])
        closed: list[str] = []
        app.on_close(lambda session: closed.append(session.id))
        await app.start()
        visitor, session = await Visitor(app).open(), app.open_session()
        number = visitor.send("long")
        await begun.wait()
        waiting = visitor.session.ask("add", 7, timeout=0)  # behind the one that runs
        stopping = asyncio.ensure_future(app.stop(drain=5))
        await asyncio.sleep(0)
        assert (app.phase, app.running) == ("draining", False)
        with pytest.raises(Closed):
            session.tell("add")
        with pytest.raises(Closed):
            Visitor(app)
        late = visitor.send("add")
        await visitor.line.settled()
        go.set()
        assert await visitor.answer(number) == "done"
        assert await waiting == 7
        await stopping
        frames = {f.get("id"): f["data"] for f in visitor.frames}
        assert frames.get(late, {}).get("code") in ("closed", None)
        assert sorted(closed) == sorted([visitor.welcome["session"], session.id])

    arun(story)


def test_what_does_not_end_in_time_is_cut_and_told(arun: Any) -> None:
    async def story() -> None:
        begun = asyncio.Event()
        ended: list[str] = []

        async def forever() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        app = App(state={"count": 0}, handlers=[forever, add])
        await app.start()
        session = app.open_session()
        session.tell("forever")
        queued = session.ask("add", timeout=0)
        await begun.wait()
        await app.stop(drain=0)
        assert ended == ["cancelled"]
        with pytest.raises(Closed):
            await queued
        stats = app.stats()["messages"]
        assert stats["pending"] == 0

    arun(story)


def test_everything_sent_is_accepted_or_refused_and_ends_somewhere(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()

        def fail() -> None:
            raise RuntimeError("broken")

        app = App(
            state={"count": 0},
            handlers=[add, fail],
            settings=Settings(mailbox_messages=5),
            clock=clock,
        )
        app.events.create_signal("sig:all")
        app.events.event("sig:all")(lambda data, state: None)
        sent = refused = 0
        async with app:
            session, other = app.open_session(), app.open_session()
            before = app.stats()["messages"]
            async with session.turn():  # one message too
                for number in range(20):
                    sent += 1
                    try:
                        session.tell("fail" if number % 3 else "add")
                    except Busy:
                        refused += 1
                expiring = [app.sessions[other.id].ask("add", timeout=0) for _ in range(2)]
                sent += 2
                await app.events.trigger("sig:all")
                sent, refused = sent + 2, refused + 1
            assert [await each for each in expiring] == [1, 2]
            await session.ask("add", 0, timeout=0)
            other.close()
            with pytest.raises(Closed):
                other.tell("add")
            sent, refused = sent + 3, refused + 1  # the turn, the ask, and the last one
            stats = app.stats()["messages"]
            accepted = stats["accepted"] - before["accepted"]
            assert stats["refused"] - before["refused"] == refused == 17
            assert accepted + refused == sent
            ends = ("run", "failed", "cancelled", "expired", "dropped", "pending")
            assert stats["accepted"] == sum(stats[name] for name in ends)
            events = app.stats()["events"]
            assert (events["delivered"], events["refused"]) == (1, 1)

    arun(story)


# -- threads --------------------------------------------------------------------------------------


def test_an_app_can_have_a_thread_of_its_own() -> None:
    app = App(state={"count": 0}, handlers=[add])
    reacted = threading.Event()
    app.events.event("sig:all")(lambda data: reacted.set())
    with app.running_in_thread() as same:
        assert same is app
        session = app.open_session()
        assert session.ask("add", 5).result() == 5
        with session.turn() as state:
            state["count"] += 1
        session.tell("add")
        assert session.ask("add", 0).result(10) == 7
        session.emit("app:news", 1)
        app.broadcast("app:news", 1)
        app.events.trigger_soon("sig:all")
        assert reacted.wait(10)
        session.join("room")
        session.close()
    assert (app.phase, len(app.sessions)) == ("stopped", 0)
    with app.running_in_thread():
        assert app.open_session().ask("add").result() == 1


def test_a_session_is_opened_on_the_loop_whoever_asks() -> None:
    where: list[str] = []
    app = App(settings=Settings(max_sessions=1))
    with app.running_in_thread():
        deadlines = app.deadlines
        watch = deadlines.watch

        class Noting:
            def __getattr__(self, name: str) -> Any:
                return getattr(deadlines, name)

            def watch(self, subject: Any) -> None:
                where.append(threading.current_thread().name)
                watch(subject)

        app.deadlines = Noting()  # type: ignore[assignment]
        app.open_session()
        assert where == ["greenroom-loop"]
        with pytest.raises(Busy):
            app.open_session()
        app.deadlines = deadlines


def test_a_thread_can_open_sessions_with_an_async_factory() -> None:
    app = App(state=async_factory)
    with app.running_in_thread():
        assert app.open_session().state["made"] == "async"


def test_an_app_whose_body_raises_is_stopped() -> None:
    app = App()
    with pytest.raises(KeyError, match="mine"), app.running_in_thread():
        raise KeyError("mine")
    assert app.phase == "stopped"


def test_an_app_that_cannot_start_raises_where_it_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App()

    def fail(*args: Any, **more: Any) -> None:
        raise OSError("no threads left")

    monkeypatch.setattr(app.scheduler, "start", fail, raising=False)
    with pytest.raises(OSError, match="no threads left"), app.running_in_thread():
        pytest.fail("it did not start")
