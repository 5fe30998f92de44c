"""Middlewares around the turns of an app: every shape, every way to fail, and what they are for."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.core.visitor import Visitor

import greenroom as gr
from greenroom import App, BadHandler, Settings


def add(state: Any, payload: int) -> int:
    state["count"] += payload
    return int(state["count"])


async def add_async(state: Any, payload: int) -> int:
    await asyncio.sleep(0)
    return add(state, payload)


@gr.handler(inline=True)
def add_inline(state: Any, payload: int) -> int:
    return add(state, payload)


HANDLERS = pytest.mark.parametrize("handler", [add, add_async, add_inline])


def texts(log: Any) -> list[str]:
    return [record.text for record in log]


def with_middlewares(*middlewares: Callable[..., Any], **more: Any) -> App:
    app = App(state={"count": 0}, **more)
    for fn in middlewares:
        assert app.middleware()(fn) is fn
    return app


# -- shapes ---------------------------------------------------------------------------------------


def shapes(seen: list[Any]) -> dict[str, Callable[..., Any]]:
    """One middleware of every shape, all of which note that they ran."""

    def generator(payload: Any) -> Iterator[None]:
        seen.append(("before", payload))
        result = yield
        seen.append(("after", result))

    async def async_generator(payload: Any) -> AsyncIterator[None]:
        seen.append(("before", payload))
        await asyncio.sleep(0)
        result = yield
        await asyncio.sleep(0)
        seen.append(("after", result))

    def plain(payload: Any) -> str:
        seen.append(("before", payload))
        return "what it returns is nobody's"

    async def plain_async(payload: Any) -> str:
        await asyncio.sleep(0)
        return plain(payload)

    def awaitable(payload: Any) -> Any:
        return plain_async(payload)

    class Around:
        def __call__(self, payload: Any) -> Iterator[None]:
            return generator(payload)

        def method(self, payload: Any) -> Iterator[None]:
            yield from generator(payload)

        async def stream(self, payload: Any) -> AsyncIterator[None]:
            seen.append(("before", payload))
            seen.append(("after", (yield)))

    class Yields:
        def __call__(self, payload: Any) -> Iterator[None]:
            yield from generator(payload)

    class Streams:
        async def __call__(self, payload: Any) -> AsyncIterator[None]:
            seen.append(("before", payload))
            seen.append(("after", (yield)))

    def more(times: int, payload: Any) -> Iterator[None]:
        yield from generator(payload * times)

    def wrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        return wrapper

    return {
        "generator": generator,
        "async generator": async_generator,
        "plain": plain,
        "async": plain_async,
        "awaitable": awaitable,
        "method": Around().method,
        "async method": Around().stream,
        "callable": Yields(),
        "async callable": Streams(),
        "partial": functools.partial(more, 1),
        "partial of async": functools.partial(async_generator),
        "wrapper": wrapped(generator),
        "wrapper of async": wrapped(async_generator),
        "a callable that returns a generator": Around(),
    }


@HANDLERS
@pytest.mark.parametrize("shape", list(shapes([])))
def test_every_shape_runs_around_every_kind_of_handler(
    arun: Any, shape: str, handler: Callable[..., Any]
) -> None:
    async def story() -> None:
        seen: list[Any] = []
        async with with_middlewares(shapes(seen)[shape], handlers=[handler]) as app:
            answer = app.open_session().ask(handler.__name__, 3)
            if shape == "a callable that returns a generator":
                with pytest.raises(BadHandler, match=r"returned the generator .*which nobody runs"):
                    await answer
                assert seen == []
                return
            assert await answer == 3
            both = "plain" not in shape and shape not in ("async", "awaitable")
            assert seen == [("before", 3), *[("after", 3)] * both]

    arun(story)


def test_they_run_in_the_order_they_were_registered_in(arun: Any) -> None:
    async def story() -> None:
        seen: list[str] = []

        def sync(name: str) -> Callable[..., Any]:
            def around() -> Iterator[None]:
                seen.append(f"{name} before")
                yield
                seen.append(f"{name} after")

            return around

        def asynchronous(name: str) -> Callable[..., Any]:
            async def around() -> AsyncIterator[None]:
                seen.append(f"{name} before")
                yield
                seen.append(f"{name} after")

            return around

        app = with_middlewares(
            sync("one"), asynchronous("two"), lambda: seen.append("three"), sync("four"),
            handlers=[add],
        )  # fmt: skip
        async with app:
            await app.open_session().ask("add", 1)
        assert seen == [
            *("one before", "two before", "three", "four before"),
            *("four after", "two after", "one after"),
        ]

    arun(story)


# -- errors ---------------------------------------------------------------------------------------


def catching(seen: list[str], *, swallow: bool) -> Callable[..., Any]:
    def middleware(state: Any) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            seen.append(type(error).__name__)
            state["caught"] = type(error).__name__
            if not swallow:
                raise

    return middleware


def catching_async(seen: list[str], *, swallow: bool) -> Callable[..., Any]:
    async def middleware(state: Any) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            await asyncio.sleep(0)
            seen.append(type(error).__name__)
            state["caught"] = type(error).__name__
            if not swallow:
                raise

    return middleware


def cleaning(seen: list[str], *, swallow: bool) -> Callable[..., Any]:
    def middleware() -> Iterator[None]:
        try:
            yield
        finally:
            seen.append("cleaned")

    return middleware


def cleaning_async(seen: list[str], *, swallow: bool) -> Callable[..., Any]:
    async def middleware() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned")

    return middleware


def indifferent(seen: list[str], *, swallow: bool) -> Callable[..., Any]:
    def middleware() -> Iterator[None]:
        yield

    return middleware


def indifferent_async(seen: list[str], *, swallow: bool) -> Callable[..., Any]:
    async def middleware() -> AsyncIterator[None]:
        yield

    return middleware


ERRORS = (
    *(TypeError, KeyError, RuntimeError, TimeoutError, BadHandler, StopAsyncIteration),
    *(StopIteration, GeneratorExit, asyncio.CancelledError, SystemError),
)


@pytest.mark.parametrize("place", ["sync", "async", "inline"])
@pytest.mark.parametrize("error", ERRORS)
def test_whatever_a_handler_raises_goes_through_every_shape_as_it_is(
    arun: Any, error: type[BaseException], place: str
) -> None:
    def fail(state: Any) -> None:
        state["count"] = 99
        raise error("broken")

    async def fail_async(state: Any) -> None:
        await asyncio.sleep(0)
        fail(state)

    def fail_inline(state: Any) -> None:
        fail(state)

    handler: Any = {"sync": fail, "async": fail_async, "inline": fail_inline}[place]
    if place == "inline":
        gr.handler(inline=True)(handler)
    #: Python itself makes something else of it where it leaves a coroutine.
    seen_as = RuntimeError if error is StopIteration or (
        error is GeneratorExit and place != "async"
    ) else error  # fmt: skip
    makers = (catching, catching_async, cleaning, cleaning_async, indifferent, indifferent_async)

    async def story() -> None:
        for make in makers:
            if error is GeneratorExit and make is catching_async and place == "async":
                continue  # Python's way to end a coroutine: it may not wait then
            if error is GeneratorExit and make is cleaning_async and place == "async":
                continue
            for swallow in (False, True) if make in (catching, catching_async) else (False,):
                seen: list[str] = []
                app = with_middlewares(make(seen, swallow=swallow), handlers=[handler, add])
                async with app:
                    visitor = await Visitor(app).open()
                    session = visitor.session
                    answer = await visitor.call(handler.__name__)
                    if swallow:
                        assert answer is None
                        assert session.state == {"count": 0, "caught": seen_as.__name__}
                    else:
                        expected = (
                            "cancelled" if error is asyncio.CancelledError else "handler_error"
                        )
                        assert answer["code"] == expected, (make, answer)
                        assert session.state == {"count": 0}
                        said = texts(session.log)[-1]
                        if expected == "cancelled":
                            assert said.endswith("was cancelled")
                        else:
                            assert re.search(rf"failed: (\w+\.)*{seen_as.__name__}\b", said), said
                        assert session.log.records()[-1].handler == handler.__name__
                    if make in (catching, catching_async):
                        assert seen == [seen_as.__name__]
                    elif make in (cleaning, cleaning_async):
                        assert seen == ["cleaned"]
                    assert await visitor.call("add", 1) == 1  # the session lives on
                    visitor.line.close()

    arun(story)


def before(place: str) -> Callable[..., Any]:
    def plain(state: Any) -> None:
        state["trace"] = 1
        raise PermissionError("no")

    async def plain_async(state: Any) -> None:
        plain(state)

    def generator(state: Any) -> Iterator[None]:
        plain(state)
        yield

    async def async_generator(state: Any) -> AsyncIterator[None]:
        plain(state)
        yield

    def after(state: Any) -> Iterator[None]:
        yield
        plain(state)

    async def after_async(state: Any) -> AsyncIterator[None]:
        yield
        plain(state)

    def instead(state: Any) -> Iterator[None]:
        try:
            yield
        finally:
            plain(state)

    found: dict[str, Callable[..., Any]] = {
        fn.__name__: fn
        for fn in (plain, plain_async, generator, async_generator, after, after_async, instead)
    }
    return found[place]


@HANDLERS
@pytest.mark.parametrize(
    "place",
    ["plain", "plain_async", "generator", "async_generator", "after", "after_async", "instead"],
)
def test_one_that_raises_undoes_its_own_turn_and_every_other_turn_arrives(
    arun: Any, place: str, handler: Callable[..., Any]
) -> None:
    """Every other event of two sessions is refused; the rest is counted, in order."""

    async def story() -> None:
        refuse = before(place)
        ran: list[Any] = []

        def only_even(state: Any, payload: int) -> Any:
            return refuse(state) if payload % 2 else None

        def note(payload: int) -> Iterator[None]:
            try:
                yield
            finally:
                ran.append(payload)

        app = App(state={"count": 0}, handlers=[handler], settings=Settings(debug=True))
        app.middleware()(note)
        if place in ("plain", "plain_async"):
            app.middleware()(only_even)
        else:
            app.middleware()(_for_odd(refuse))
        async with app:
            visitors = [await Visitor(app).open() for _ in range(2)]
            for visitor in visitors:
                numbers = [visitor.send(handler.__name__, payload) for payload in range(6)]
                answers = [await visitor.answer(number) for number in numbers]
                assert [answers[i] for i in (0, 2, 4)] == [0, 2, 6]
                for i in (1, 3, 5):
                    assert answers[i]["code"] == "handler_error"
                    assert "PermissionError: no" in answers[i]["message"]
                assert visitor.session.state == {"count": 6}
                said = [r for r in visitor.session.log if r.level == "error"]
                assert [r.handler for r in said] == [handler.__name__] * 3
                assert all("PermissionError: no" in r.text for r in said)
                visitor.line.close()
            assert ran == [*range(6)] * 2  # those around it have ended in good order

    arun(story)


def _for_odd(refuse: Callable[..., Any]) -> Callable[..., Any]:
    """The generator ``refuse`` where the payload is odd, else one that does nothing."""
    if refuse.__name__.endswith("async") or refuse.__name__ == "async_generator":

        async def middleware(state: Any, payload: int) -> AsyncIterator[None]:
            stream = refuse(state)
            if payload % 2:
                await anext(stream)
            yield
            if payload % 2:
                await anext(stream, None)

        return middleware

    def sync_middleware(state: Any, payload: int) -> Iterator[None]:
        if payload % 2:
            yield from refuse(state)
        else:
            yield

    return sync_middleware


def never() -> Iterator[None]:
    return
    yield


async def never_async() -> AsyncIterator[None]:
    return
    yield


def twice() -> Iterator[None]:
    yield
    yield


async def twice_async() -> AsyncIterator[None]:
    yield
    yield


def deaf() -> Iterator[None]:
    yield
    with contextlib.suppress(GeneratorExit):
        yield
    yield


@pytest.mark.parametrize(
    ("middleware", "why"),
    [
        (never, "ended without a yield"),
        (never_async, "ended without a yield"),
        (twice, "yielded twice"),
        (twice_async, "yielded twice"),
        (deaf, "middleware deaf yielded twice"),
        (lambda state: twice(), "returned the generator twice, which nobody runs"),
        (lambda state: twice_async(), "returned the generator twice_async, which nobody runs"),
    ],
)
def test_one_that_yields_wrongly_is_named(
    arun: Any, middleware: Callable[..., Any], why: str
) -> None:
    async def story() -> None:
        async with with_middlewares(middleware, handlers=[add]) as app:
            visitor = await Visitor(app).open()
            assert (await visitor.call("add", 1))["code"] == "handler_error"
            assert visitor.session.state["count"] == 0
            assert why in texts(visitor.session.log)[-1]
            visitor.line.close()

    arun(story)


# -- around what ----------------------------------------------------------------------------------


def test_around_what_they_run(arun: Any) -> None:
    """Handlers, callbacks, reactions and queries of sessions, timers, jobs; nothing else."""

    async def story() -> None:
        around: list[str] = []
        fired = asyncio.Event()
        app = App(state={"count": 0}, handlers=[add])

        @app.middleware()
        def note(event_type: str) -> None:
            around.append(event_type)

        app.on_open(lambda state: state.update(opened=True))
        app.on_close(lambda session: None)
        app.on("app:save", lambda data: data)
        app.events.event("sig:session")(lambda data, state: None)
        app.events.event("sig:app")(lambda data: None)
        app.events.query("q:session", internal=False)(lambda data, session: data)
        app.events.query("q:app")(lambda data: data)
        app.handlers.add(gr.handler(concurrent=True)(lambda state: None), name="beside")
        app.handlers.add(fired.set, name="fire")
        async with app:
            visitor = await Visitor(app).open()
            session = visitor.session
            assert around == []  # not around the hooks
            await visitor.call("add", 1)
            await visitor.call("app:save", 1)
            await visitor.call("beside")
            session.tell("fire", delay=0.001)
            await fired.wait()
            await app.events.trigger("sig:session")
            await app.events.trigger("sig:app")
            await visitor.call("gr:query", {"name": "q:session", "data": 1})
            await app.events.request("q:app", 1)
            async with session.turn() as state:
                state["count"] += 1
            assert around == ["add", "app:save", "beside", "fire", "sig:session", "q:session"]
            visitor.line.close()

    arun(story)


def test_one_that_raises_around_a_reaction_or_a_query_harms_that_turn_alone(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"heard": 0})

        @app.middleware()
        def unless_locked(session: Any, event_type: str) -> None:
            if session.state["locked"]:
                raise PermissionError(event_type)

        @app.events.event("sig:all")
        def react(data: Any, state: Any) -> None:
            state["heard"] += data

        @app.events.query("q:mine", internal=False)
        def answer(data: Any, session: Any) -> Any:
            return data

        async with app:
            one, two = [await Visitor(app).open() for _ in range(2)]
            async with two.session.turn() as state:
                state["locked"] = True
            await app.events.trigger("sig:all", 5)
            assert await one.call("gr:query", {"name": "q:mine", "data": 1}) == 1
            refused = await two.call("gr:query", {"name": "q:mine", "data": 1})
            assert refused["code"] == "handler_error"
            for visitor in (one, two):
                async with visitor.session.turn():
                    pass  # behind everything that was sent
            assert (one.session.state["heard"], two.session.state["heard"]) == (5, 0)
            said = [r.text for r in two.session.log if r.level == "error"]
            assert len(said) == 2
            assert "PermissionError: sig:all" in said[0]
            assert "PermissionError: q:mine" in said[1]
            assert texts(one.session.log) == []
            one.line.close()
            two.line.close()

    arun(story)
