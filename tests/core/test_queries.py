"""Queries: who answers, how long is waited, and what clients are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.core.heard import Heard, steps
from tests.core.visitor import Visitor

from greenroom import (
    App,
    Cycle,
    NotFound,
    Settings,
    Timeout,
    current_app,
    handler,
)
from greenroom.core._turn import current_turn
from greenroom.testing import ManualClock


def test_a_query_has_one_answer_or_a_list_of_them(arun: Any) -> None:
    async def story() -> None:
        app = App()

        @app.events.query("model:count")
        def count(kind: str) -> int:
            return len(kind)

        @app.events.query("model:all", singleton=False)
        async def one(data: Any) -> str:
            return "one"

        @app.events.query("model:all", singleton=False)
        def two(data: Any) -> str:
            raise RuntimeError("no")

        @app.events.query("model:all", singleton=False)
        def three(data: Any) -> str:
            return "three"

        @app.events.query("model:broken")
        def broken(data: Any) -> None:
            raise KeyError(data)

        async with app:
            assert await app.events.request("model:count", "abc") == 3
            assert await app.events.request("model:all") == ["one", "three"]
            with pytest.raises(KeyError, match="x"):
                await app.events.request("model:broken", "x")
            counters = app.events.queries.counters
            assert (counters["queries"], counters["queries_failed"]) == (3, 2)

    arun(story)


def test_a_query_ends_by_its_deadline_and_takes_its_answers_with_it(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock, settings=Settings(query_timeout=5.0))
        ended = Heard()

        async def never(data: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.note(data)

        app.events.query("model:never")(never)
        app.events.query("model:some", singleton=False)(never)
        app.events.query("model:some", singleton=False)(lambda data: "here")

        async with app:
            asking = asyncio.ensure_future(app.events.request("model:never", 1))
            await steps()
            clock.advance(4.9)
            await steps()
            assert not asking.done()
            clock.advance(0.2)
            with pytest.raises(Timeout, match="model:never"):
                await asking
            asking = asyncio.ensure_future(app.events.request("model:some", 2, timeout=1.0))
            await steps(20)
            clock.advance(1.1)
            assert await asking == ["here"]
            asking = asyncio.ensure_future(app.events.request("model:never", 3, timeout=0))
            await steps()
            clock.advance(1000)
            await steps()
            assert not asking.done()  # 0 is no limit
            asking.cancel()
            assert await ended.until(3) == [1, 2, 3]
            assert app.events.queries.counters["queries_timed_out"] == 2

    arun(story)


def test_an_answer_starts_clean_with_the_app_current(arun: Any) -> None:
    async def story() -> None:
        app = App()

        @app.events.query("model:who")
        async def who(data: Any) -> tuple[bool, Any]:
            return current_app() is app, current_turn()

        @app.events.query("model:worker")
        def worker(data: Any) -> tuple[bool, Any]:
            return current_app() is app, current_turn()

        async def ask(app: App) -> list[Any]:
            return [await app.events.request(f"model:{name}") for name in ("who", "worker")]

        app.handlers.add(ask)
        async with app:
            assert await app.open_session().ask("ask") == [(True, None)] * 2

    arun(story)


def test_a_query_of_the_session_is_a_turn_of_it(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"count": 5})

        @app.events.query("my:count", internal=False)
        def count(more: int, state: Any) -> int:
            result: int = state["count"] + more
            return result

        async def ask(app: App) -> Any:
            return await app.events.request("my:count", 1)

        app.handlers.add(ask)
        app.handlers.add(handler(concurrent=True, name="beside")(ask))
        async with app:
            visitor = await Visitor(app).open()
            assert await visitor.call("gr:query", {"name": "my:count", "data": 2}) == 7
            with pytest.raises(NotFound, match="session"):
                await app.events.request("my:count", 1)
            with pytest.raises(Cycle):
                await visitor.session.ask("ask")  # it would wait for its own end
            assert await visitor.call("beside") == 6
            visitor.line.close()

    arun(story)


def test_a_clients_query_ends_by_the_servers_deadline(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock, settings=Settings(query_timeout=5.0))
        ended = Heard()

        @app.events.query("model:never", internal=False)
        async def never(data: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.note(data)

        async with app:
            visitor = await Visitor(app).open()
            query = {"name": "model:never", "data": 1}
            long = visitor.send("gr:query", {**query, "timeout": 500.0})
            short = visitor.send("gr:query", {**query, "timeout": 2.0})
            await visitor.line.settled()
            await steps(10)
            clock.advance(2.5)
            assert (await visitor.answer(short))["code"] == "timeout"
            clock.advance(3.0)
            assert (await visitor.answer(long))["code"] == "timeout"

            number = visitor.send("gr:query", query)
            assert await visitor.call("gr:cancel", {"id": number}) is True
            codes = {f["id"]: f["data"]["code"] for f in visitor.frames if f["type"] == "gr:error"}
            if number not in codes:
                codes[number] = (await visitor.answer(number))["code"]
            assert codes[number] == "cancelled"
            await steps(10)
            assert len(ended) in (2, 3)  # a cancelled question takes its answer with it
            visitor.line.close()

    arun(story)


def test_a_client_hears_what_went_wrong_with_its_query_and_no_more(arun: Any) -> None:
    async def story() -> None:
        app = App()

        @app.events.query("model:broken", internal=False)
        def broken(data: Any) -> None:
            raise RuntimeError("the secret of the house")

        @app.events.query("model:odd", internal=False)
        def odd(data: Any) -> Any:
            return object()

        @app.events.query("model:lost", internal=False)
        def lost(data: Any) -> Any:
            raise NotFound("an inner matter: the secret of the house")

        async with app:
            visitor = await Visitor(app).open()
            for name in ("broken", "odd", "lost"):
                failure = await visitor.call("gr:query", {"name": f"model:{name}"})
                assert failure["code"] == "handler_error"
                assert "secret" not in failure["message"]
            visitor.line.close()

    arun(story)
