"""What else a session can have: timers, jobs, questions, subscriptions, views that return."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.leaks.visits import Expected, Shape, Visit, advance, rest, tell_visits

import greenroom as gr
from greenroom import App

SHAPES: dict[str, Shape] = {}


def shape(build: Shape) -> Shape:
    SHAPES[build.__name__] = build
    return build


# -- the state ----------------------------------------------------------------------------------


@shape
def nested_states(app: App) -> Visit:
    def grow(state: Any) -> None:
        state["nest"]["deep"]["x"] = {"y": {"z": [1]}}
        state["other"] = state["nest"]
        state["nest"] = {"new": {"er": 1}}
        del state["other"]["deep"]

    def undo(state: Any) -> None:
        grow(state)
        raise Expected

    app.handlers.add(grow)
    app.handlers.add(undo)

    async def visit(visitor: Visitor) -> None:
        await visitor.call("grow")
        await visitor.call("undo")
        await visitor.call("grow")

    return visit


class Count(gr.MutableValue):
    number = 0

    def up(self) -> None:
        self.number += 1
        self.mutate()

    def to_dict(self) -> dict[str, Any]:
        return {"number": self.number}


@shape
def values_that_report(app: App) -> Visit:
    everybodys = Count()

    def edit(state: Any) -> None:
        state["nest"]["count"] = [Count(), everybodys]
        state["table"] = gr.EditableTable([{"a": 1}])
        state["nest"]["count"][0].up()
        everybodys.up()
        state["copy"] = state["nest"]
        state["table"].record(0)["a"] = 2

    def undo(state: Any) -> None:
        edit(state)
        raise Expected

    app.handlers.add(edit)
    app.handlers.add(undo)

    async def visit(visitor: Visitor) -> None:
        await visitor.call("edit")
        await visitor.call("undo")
        await visitor.call("edit")

    return visit


@shape
def without_links(app: App) -> Visit:
    def grow(state: Any) -> None:
        state["nest"]["deep"] = {"y": {"z": [1]}}

    app.handlers.add(grow)

    async def visit(visitor: Visitor) -> None:
        session = visitor.session
        visitor.raw(type="gr:bye")
        await rest(visitor)
        await session.ask("grow")

    return visit


@shape
def mutations(app: App) -> Visit:
    """Subscribers that hold what they subscribe to."""

    def subscribe(session: gr.Session, state: Any) -> None:
        nest = state["nest"]

        def heard(payload: Any) -> None:
            nest["seen"] = len(session.id)

        async def heard_later(payload: Any) -> None:
            session.emit("app:heard", nest["seen"])

        state.subscribe_mutation("count", heard)
        state["nest"].subscribe_mutation("seen", heard_later)
        state.subscribe_mutation("rows", heard).cancel()

    def count(state: Any) -> None:
        state["count"] += 1

    app.handlers.add(subscribe)
    app.handlers.add(count)

    async def visit(visitor: Visitor) -> None:
        await visitor.call("subscribe")
        await visitor.call("count")

    return visit


@shape
def subscribed_as_it_closes(app: App) -> Visit:
    def subscribe(session: gr.Session, state: Any) -> None:
        session.close("in the middle of a turn")
        state.subscribe_mutation("count", lambda: session.id)
        session.on("app:late", lambda: session.id)
        session.log("still here")

    app.handlers.add(subscribe)

    async def visit(visitor: Visitor) -> None:
        visitor.send("subscribe")
        await rest(visitor)

    return visit


@shape
def held_state(app: App) -> Visit:
    """A state that somebody keeps does not keep the session."""
    kept: list[Any] = []

    def keep(state: Any, session: gr.Session) -> None:
        kept[:] = [state, state["nest"], session.state]
        state["nest"]["a"] = 2

    app.handlers.add(keep)

    async def visit(visitor: Visitor) -> None:
        await visitor.call("keep")

    return visit


# -- time and work ------------------------------------------------------------------------------


def plain(state: Any) -> int:
    state["count"] += 1
    return int(state["count"])


@shape
def timers(app: App) -> Visit:
    def start(session: gr.Session) -> None:
        session.tell("plain", delay=0.5)
        session.tell("plain", delay=60.0)
        session.tell("plain", every=0.5)
        session.tell("plain", every=60.0)
        ended = session.tell("plain", every=60.0)
        assert ended is not None
        ended.cancel()

    app.handlers.add(plain)
    app.handlers.add(start)

    async def visit(visitor: Visitor) -> None:
        await visitor.call("start")
        advance(visitor, 2.0)
        await visitor.call("plain")

    return visit


@shape
def jobs(app: App) -> Visit:
    async def assigns(session: gr.Session) -> None:
        async with session.turn() as state:
            state["nest"]["a"] = 2

    async def fails_after(session: gr.Session) -> None:
        async with session.turn() as state:
            state["count"] = 3
        raise Expected

    async def fails_within(session: gr.Session) -> None:
        async with session.turn() as state:
            state["count"] = 4
            raise Expected

    def fails_on_worker(session: gr.Session) -> None:
        with session.turn() as state:
            state["count"] = 5
        raise Expected

    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    def returns() -> int:
        return 1

    def start(session: gr.Session) -> None:
        for fn in (assigns, fails_after, fails_within, fails_on_worker, returns, waits, waits):
            job = session.spawn(fn)
        session.cancel(job)

    app.handlers.add(start)

    async def visit(visitor: Visitor) -> None:
        await visitor.call("start")
        while len(visitor.session.jobs) > 1:
            await asyncio.sleep(0)

    return visit


@shape
def asks(app: App) -> Visit:
    """Questions of every kind: to itself, in time and late, from the loop and from a thread."""

    async def fails() -> None:
        raise Expected

    async def asks_itself(session: gr.Session) -> None:
        with contextlib.suppress(gr.Cycle):
            await session.ask("plain")

    async def asks_other(session: gr.Session) -> int:
        other = session.app.open_session()
        with contextlib.suppress(Expected):
            await other.ask("fails")
        answer: int = await other.ask("plain")
        other.close("asked")
        return answer

    def asks_from_worker(session: gr.Session) -> None:
        other = session.app.open_session()
        with contextlib.suppress(Expected):
            other.ask("fails").result()
        with contextlib.suppress(gr.Timeout):
            other.ask("waits").result(0.001)
        other.close("asked")

    async def waits() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await asyncio.get_running_loop().create_future()

    for fn in (plain, fails, asks_itself, asks_other, asks_from_worker, waits):
        app.handlers.add(fn)

    async def visit(visitor: Visitor) -> None:
        session = visitor.session
        for name in ("asks_itself", "asks_other", "asks_from_worker"):
            await visitor.call(name)
        with contextlib.suppress(Expected):
            await session.ask("fails")
        late = session.ask("waits", timeout=0.5)
        later = session.ask("plain", timeout=0.5)
        advance(visitor, 1.0)
        for question in (late, later):
            with contextlib.suppress(gr.Timeout):
                await question
        del question, late, later

        def from_thread() -> None:
            with contextlib.suppress(Expected):
                session.ask("fails").result()
            session.ask("plain").result()
            with session.turn() as state:
                state["count"] = 1
            with contextlib.suppress(Expected), session.turn() as state:
                raise Expected

        await asyncio.to_thread(from_thread)

    return visit


@shape
def partial_pushes(app: App) -> Visit:
    go = asyncio.Event()
    steps = threading.Event()

    async def long(session: gr.Session, state: Any) -> None:
        state["nest"]["a"] = {"part": 1}
        session.emit("app:part", 1)
        await go.wait()
        state["nest"]["a"] = {"part": 2}

    def long_on_worker(session: gr.Session, state: Any) -> None:
        state["nest"]["a"] = {"part": 1}
        session.emit("app:part", 1)
        steps.wait(5)
        state["nest"]["a"] = {"part": 2}

    app.handlers.add(long)
    app.handlers.add(long_on_worker)

    async def visit(visitor: Visitor) -> None:
        for name in ("long", "long_on_worker"):
            go.clear()
            steps.clear()
            number = visitor.send(name)
            while visitor.session.running is None:
                await asyncio.sleep(0)
            while not any(frame["type"] == "app:part" for frame in visitor.frames):
                advance(visitor, 0.5)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await visitor.next()
            visitor.frames.clear()
            go.set()
            steps.set()
            await visitor.answer(number)

    return visit


# -- around handlers ----------------------------------------------------------------------------


def fails(session: gr.Session) -> None:
    raise Expected


async def fails_later(session: gr.Session) -> None:
    await asyncio.sleep(0)
    raise Expected


async def plain_later(state: Any) -> None:
    await asyncio.sleep(0)
    state["nest"]["a"] = {"later": 1}


HANDLERS = (plain, plain_later, fails, fails_later)


def middleware_shape(app: App) -> Visit:
    for fn in HANDLERS:
        app.handlers.add(fn)

    async def visit(visitor: Visitor) -> None:
        for fn in HANDLERS:
            await visitor.call(fn.__name__)
        number = visitor.send("plain_later")
        await visitor.line.settled()
        visitor.send("gr:cancel", {"id": number})
        await visitor.answer(number)

    return visit


@shape
def generator_middleware(app: App) -> Visit:
    @app.middleware()
    def around(session: gr.Session, state: Any) -> Generator[Any, Any, Any]:
        state["count"] += 1
        try:
            yield
        finally:
            session.log("after")

    return middleware_shape(app)


@shape
def async_middleware(app: App) -> Visit:
    @app.middleware()
    async def around(session: gr.Session, state: Any) -> AsyncGenerator[Any, Any]:
        state["count"] += 1
        try:
            result = yield
            session.log(f"after {result}")
        except Expected:
            session.log("failed")
            raise

    return middleware_shape(app)


@shape
def all_middlewares(app: App) -> Visit:
    generator_middleware(app)

    @app.middleware()
    def before(session: gr.Session) -> None:
        session.log("before")

    @app.middleware()
    async def before_later(session: gr.Session) -> None:
        await asyncio.sleep(0)

    @app.middleware()
    async def swallows(session: gr.Session) -> AsyncGenerator[Any, Any]:
        with contextlib.suppress(Expected):
            yield

    @app.middleware()
    def fails_too(session: gr.Session, payload: Any) -> Generator[Any, Any, Any]:
        yield
        if payload == "fail":
            raise Expected

    visit_all = middleware_shape(App())

    async def visit(visitor: Visitor) -> None:
        await visit_all(visitor)
        await visitor.call("plain", "fail")

    return visit


@shape
def errors_that_end_generators(app: App) -> Visit:
    """They are made into others on their way, which must not hold the frames of a turn."""

    @app.middleware()
    def around(session: gr.Session) -> Generator[Any, Any, Any]:
        yield

    @app.middleware()
    async def around_later(session: gr.Session) -> AsyncGenerator[Any, Any]:
        yield

    def fails(session: gr.Session, payload: str) -> None:
        raise {"stop": StopIteration, "later": StopAsyncIteration, "exit": GeneratorExit}[payload]

    @gr.handler(inline=True)
    def fails_inline(session: gr.Session, payload: str) -> None:
        fails(session, payload)

    async def fails_async(session: gr.Session, payload: str) -> None:
        fails(session, payload)

    for fn in (fails, fails_inline, fails_async):
        app.handlers.add(fn)

    async def visit(visitor: Visitor) -> None:
        for error in ("stop", "later", "exit"):
            for name in ("fails", "fails_inline", "fails_async"):
                assert (await visitor.call(name, error))["code"] == "handler_error"

    return visit


@shape
def generator_of_a_plain_middleware(app: App) -> Visit:
    def around(session: gr.Session) -> Generator[Any, Any, Any]:
        yield

    app.middleware()(lambda session, payload: around(session))
    app.handlers.add(plain)

    async def visit(visitor: Visitor) -> None:
        assert (await visitor.call("plain"))["code"] == "handler_error"

    return visit


@shape
def callbacks(app: App) -> Visit:
    """Several callbacks of one event; some of them hold the session."""

    def listen(session: gr.Session) -> None:
        session.on("app:event", lambda: session.id)
        session.on("app:event", lambda payload: session.emit("app:heard"), label="main")
        session.on("*", lambda: session.id)
        session.on("app:other", lambda: session.id).off()

        async def fails() -> None:
            await asyncio.sleep(0)
            raise Expected(session.id)

        session.on("app:event", fails)

    app.handlers.add(listen)
    app.on("app:event", lambda: 1)

    async def visit(visitor: Visitor) -> None:
        await visitor.call("listen")
        await visitor.call("app:event")

    return visit


@shape
def hooks(app: App) -> Visit:
    @app.on_open
    async def hello(session: gr.Session, state: Any) -> None:
        await asyncio.sleep(0)
        state["nest"]["opened"] = {"by": session.id}
        session.userinfo["session"] = session.id

    @app.on_close
    def bye(session: gr.Session, state: Any) -> None:
        state["nest"]["closed"] = {"by": session.id}

    @app.on_close
    def fails(session: gr.Session) -> None:
        raise Expected

    @app.session_verifier
    async def verify(session: gr.Session | None) -> bool:
        await asyncio.sleep(0)
        return True

    async def visit(visitor: Visitor) -> None:
        pass

    return visit


# -- others -------------------------------------------------------------------------------------


@shape
def signals(app: App) -> Visit:
    app.events.create_signal("app:news", internal=False, client_trigger=True)

    @app.events.event("app:news")
    def in_sessions(data: Any, session: gr.Session, state: Any) -> None:
        state["nest"]["news"] = {"data": data}

    @app.events.event("app:news")
    async def beside(data: Any) -> None:
        await asyncio.sleep(0)

    @app.events.query("app:ask", internal=False)
    async def answer(data: Any) -> Any:
        if data == "fail":
            raise Expected
        if data == "wait":
            await asyncio.get_running_loop().create_future()
        return data

    @app.events.query("app:mine", internal=False)
    def mine(data: Any, session: gr.Session) -> Any:
        if data == "fail":
            raise Expected
        return session.id

    async def asks(session: gr.Session) -> None:
        for name in ("app:ask", "app:mine"):
            with contextlib.suppress(Expected, gr.Cycle):
                await session.app.events.request(name, "fail")

    app.handlers.add(asks)

    async def visit(visitor: Visitor) -> None:
        await visitor.call("gr:subscribe", {"name": "app:news"})
        await visitor.call("gr:trigger", {"name": "app:news", "data": 1})
        for name in ("app:ask", "app:mine"):
            await visitor.call("gr:query", {"name": name, "data": 1})
            await visitor.call("gr:query", {"name": name, "data": "fail"})
        await visitor.call("asks")
        visitor.send("gr:query", {"name": "app:ask", "data": "wait"})
        await visitor.app.events.trigger("app:news", 2)
        await visitor.line.settled()

    return visit


@shape
def groups(app: App) -> Visit:
    def join(session: gr.Session) -> None:
        session.join("room")
        session.join("hall")
        session.leave("hall")
        session.app.group("room").emit("app:joined", session.id)
        session.app.group("room").tell("plain")

    app.handlers.add(join)
    app.handlers.add(plain)

    async def visit(visitor: Visitor) -> None:
        await visitor.call("join")
        assert len(visitor.app.group("room")) == 1

    return visit


@shape
def questions_to_the_user(app: App) -> Visit:
    async def asks(session: gr.Session, payload: Any) -> Any:
        return await session.confirm("sure?", timeout=1.0)

    def asks_on_worker(session: gr.Session) -> Any:
        return session.confirm("sure?").result()

    def forgets(session: gr.Session) -> None:
        _ = session.confirm("never looked at")

    for fn in (asks, asks_on_worker, forgets):
        app.handlers.add(fn)

    async def visit(visitor: Visitor) -> None:
        for name in ("asks", "asks_on_worker"):
            number = visitor.send(name)
            call = (await visitor.until("gr:confirm"))["data"]["call"]
            visitor.send("gr:answer", {"call": call, "value": True})
            await visitor.answer(number)
        number = visitor.send("asks")
        await visitor.until("gr:confirm")
        advance(visitor, 2.0)
        await visitor.answer(number)
        await visitor.call("forgets")
        visitor.session.spawn(asks)
        await visitor.until("gr:confirm")  # and the session closes

    return visit


@shape
def views_that_return(app: App) -> Visit:
    app.handlers.add(plain)
    app.on("view:opened", lambda session: session.id)
    app.on("view:closed", lambda session: session.id)

    async def visit(visitor: Visitor) -> None:
        await visitor.call("plain")
        second = await Visitor(visitor.app).open(token=visitor.welcome["token"], label="second")
        await second.call("plain")
        second.line.cut()
        visitor.line.cut()
        again = Visitor(visitor.app)
        await again.hello(**visitor.back())
        assert again.welcome["resumed"]
        advance(visitor, 100.0)
        visitor.line = again.line

    return visit


@shape
def lines_that_break(app: App) -> Visit:
    """Connections that are cut, stalled, replaced, and that never say hello."""
    app.handlers.add(plain)

    async def visit(visitor: Visitor) -> None:
        silent = Visitor(visitor.app)
        wrong = Visitor(visitor.app)
        wrong.raw(type="gr:nonsense")
        await rest(wrong)
        advance(visitor, 20.0)
        await rest(silent)
        visitor.line.stall()
        visitor.send("plain")
        other = Visitor(visitor.app)
        await other.hello(**visitor.back())
        visitor.line.resume()
        await rest(visitor)
        other.line.close()
        await rest(other)

    return visit


@shape
def everything_printed(app: App) -> Visit:
    def speak(session: gr.Session) -> None:
        print("a line")
        print("a line without an end", end="")
        print("x" * 20_000)
        session.notify("hello")
        session.log.error("bad")

    app.handlers.add(speak)

    async def visit(visitor: Visitor) -> None:
        await visitor.call("speak")
        visitor.session.log("from outside")

    return visit


@pytest.mark.parametrize("options", [{}, {"debug": True}], ids=["", "debug"])
@pytest.mark.parametrize("name", SHAPES)
def test_it_goes_without_the_collector(arun: Any, name: str, options: dict[str, Any]) -> None:
    arun(lambda: tell_visits(SHAPES[name], **options))
