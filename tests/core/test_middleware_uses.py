"""What middlewares are for: logging, errors, sessions, the state; and turns that are cut short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

from tests.core.visitor import Visitor

from greenroom import App, Settings
from greenroom.testing import ManualClock


def add(state: Any, payload: int) -> int:
    state["count"] += payload
    return int(state["count"])


def texts(log: Any) -> list[str]:
    return [record.text for record in log]


def with_middlewares(*middlewares: Callable[..., Any], **more: Any) -> App:
    app = App(state={"count": 0}, **more)
    for fn in middlewares:
        app.middleware()(fn)
    return app


def test_for_logging(arun: Any) -> None:
    async def story() -> None:
        def logged(event_type: str, payload: Any, session: Any) -> Generator[None, Any, None]:
            print(f"{event_type} begins with {payload}")
            result = yield
            session.log(f"{event_type} gave {result}")

        async with with_middlewares(logged, handlers=[add]) as app:
            session = app.open_session()
            await session.ask("add", 2)
            assert texts(session.log) == ["add begins with 2", "add gave 2"]
            assert {record.handler for record in session.log} == {"add"}

    arun(story)


def test_for_handling_errors(arun: Any) -> None:
    """One place for what every handler may fail with."""

    async def story() -> None:
        def withdraw(state: Any, session: Any, payload: int) -> None:
            state["balance"] -= payload
            session.emit("bank:withdrawn", payload)
            if state["balance"] < 0:
                raise ValueError("not enough")

        async def shown(state: Any, session: Any) -> AsyncGenerator[None, Any]:
            try:
                yield
            except ValueError as error:
                state["message"] = str(error)
                session.emit("bank:refused")

        app = App(state={"balance": 10, "message": ""}, handlers=[withdraw])
        app.middleware()(shown)
        async with app:
            visitor = await Visitor(app).open()
            assert await visitor.call("withdraw", 30) is None
            assert visitor.session.state == {"balance": 10, "message": "not enough"}
            assert [f["type"] for f in visitor.frames[2:]] == [
                *("gr:state", "bank:refused", "gr:result")
            ]
            visitor.line.close()

    arun(story)


def test_for_managing_sessions(arun: Any) -> None:
    """Who is not logged in does nothing; who was idle for too long is asked to log in again."""

    async def story() -> None:
        now = 0.0
        app = App(state={"count": 0}, handlers=[add])

        @app.session_verifier
        def user(headers: Any) -> dict[str, Any]:
            return {"name": headers["user"]} if "user" in headers else {"name": None}

        @app.middleware()
        def logged_in(session: Any) -> None:
            if session.userinfo["name"] is None:
                raise PermissionError("log in first")

        @app.middleware()
        def not_idle(session: Any, state: Any) -> None:
            if now - (state["_seen"] or now) > 60:
                session.close("idle for too long")
                raise PermissionError("idle for too long")
            state["_seen"] = now

        async with app:
            stranger = await Visitor(app).open()
            ada = await Visitor(app, headers={"user": "Ada"}).open()
            assert (await stranger.call("add", 1))["code"] == "handler_error"
            assert await ada.call("add", 1) == 1
            now = 50.0
            assert await ada.call("add", 1) == 2
            now = 200.0
            session = ada.session
            assert (await ada.call("add", 1))["code"] in ("handler_error", "closed")
            await ada.until("gr:close")
            assert session.ended
            assert session.state["count"] == 2
            assert stranger.session.state["count"] == 0
            stranger.line.close()

    arun(story)


def test_for_modifying_the_state(arun: Any) -> None:
    """What is assigned before and after is part of the turn: one patch, and undone with it."""

    async def story() -> None:
        def total(state: Any) -> Iterator[None]:
            state["turns"] = (state["turns"] or 0) + 1
            yield
            state["double"] = state["count"] * 2

        def fail() -> None:
            raise ValueError("x")

        async with with_middlewares(total, handlers=[add, fail]) as app:
            visitor = await Visitor(app).open()
            await visitor.call("add", 3)
            patches = [f["data"] for f in visitor.frames if f["type"] == "gr:state"]
            assert patches == [{"=": {"/turns": 1, "/count": 3, "/double": 6}}]
            assert (await visitor.call("fail"))["code"] == "handler_error"
            assert visitor.session.state == {"count": 3, "turns": 1, "double": 6}
            visitor.line.close()

    arun(story)


def test_the_decorator_with_and_without_parentheses(arun: Any) -> None:
    async def story() -> None:
        seen: list[str] = []
        app = App(state={"count": 0}, handlers=[add])

        @app.middleware
        def one() -> None:
            seen.append("one")

        @app.middleware()
        def two() -> None:
            seen.append("two")

        assert [middleware.fn for middleware in app.middlewares] == [one, two]
        async with app:
            await app.open_session().ask("add", 1)
        assert seen == ["one", "two"]

    arun(story)


# -- turns that are cut short ---------------------------------------------------------------------


def watchers(seen: list[str]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def sync() -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    async def asynchronous() -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            await asyncio.sleep(0)
            seen.append(type(error).__name__)
            raise

    return sync, asynchronous


def test_a_turn_that_is_cancelled_or_takes_too_long_unwinds_them(arun: Any) -> None:
    async def story() -> None:
        begun = asyncio.Event()

        async def wait(state: Any) -> None:
            state["count"] = 99
            begun.set()
            await asyncio.Event().wait()

        seen: list[str] = []
        for settings, code, said in (
            (Settings(), "cancelled", "'wait' was cancelled"),
            (Settings(turn_timeout=1, ping=0), "timeout", "'wait' ran longer than turn_timeout"),
        ):
            seen.clear()
            begun.clear()
            clock = ManualClock()
            app = with_middlewares(
                *watchers(seen), handlers=[wait, add], settings=settings, clock=clock
            )
            async with app:
                visitor = await Visitor(app).open()
                number = visitor.send("wait")
                await begun.wait()
                if code == "cancelled":
                    visitor.send("gr:cancel", {"id": number})
                else:
                    clock.advance(1.5)
                assert (await visitor.answer(number))["code"] == code
                assert seen == ["CancelledError", "CancelledError"]
                assert visitor.session.state == {"count": 0}
                assert said in texts(visitor.session.log)[-1]
                assert await visitor.call("add", 1) == 1
                visitor.line.close()

    arun(story)


def test_what_was_shown_in_part_is_taken_back_when_one_raises_after_its_yield(arun: Any) -> None:
    async def story() -> None:
        shown = asyncio.Event()

        async def work(state: Any) -> None:
            state["count"] = 50
            await shown.wait()
            state["count"] = 99

        def refuse() -> Iterator[None]:
            yield
            raise ValueError("after all")

        settings = Settings(partial_after=0.001, partial_every=0.001)
        async with with_middlewares(refuse, handlers=[work], settings=settings) as app:
            visitor = await Visitor(app).open()
            number = visitor.send("work")
            assert (await visitor.until("gr:state"))["data"] == {"=": {"/count": 50}}
            shown.set()
            assert (await visitor.answer(number))["code"] == "handler_error"
            patches = [f["data"] for f in visitor.frames if f["type"] == "gr:state"]
            assert patches[-1] == {"=": {"/count": 0}}
            assert visitor.session.state == {"count": 0}
            visitor.line.close()

    arun(story)
