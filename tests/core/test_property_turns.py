"""Calculated properties in turns of an app, in partial updates, and when their states go."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Any

import pytest
from tests.core.schemas import Cart, Ratio
from tests.core.visitor import Visitor
from tests.support.until import eventually

import greenroom as gr
from greenroom.testing import ManualClock

Arun = Any


# -- turns of an app


def test_in_turns(arun: Arun) -> None:
    def price(state: Cart, payload: int) -> int:
        state.item.price = payload
        return state.gross

    async def slowly(state: Cart, payload: int) -> None:
        state.item.price = payload

    async def story() -> None:
        template = Cart()
        heard: list[Any] = []

        async def later(payload: Any, state: Any) -> None:
            heard.append(payload["new_value"])
            state["heard"] = len(heard)

        template.subscribe_mutation("net", later)
        async with gr.App(state=template, handlers=[price, slowly]) as app:
            one, two = app.open_session(), app.open_session()
            assert await one.ask("price", 5) == 15
            await two.ask("slowly", 6)
            assert (one.state.gross, two.state["gross"]) == (15, 16)
            assert two.state.to_dict()["item"] == {"price": 6, "count": 1, "total": 6}
            async with one.turn() as state:
                state.item.price = 7
            assert one.state.gross == 17
            assert heard == [5, 6, 7]
            assert (one.state["heard"], two.state["heard"]) == (3, 2)

    arun(story)


def divide(state: Ratio, payload: int) -> None:
    """Assign what a property cannot take."""
    state.a = 5
    state.b = payload


async def divide_async(state: Ratio, payload: int) -> None:
    """The same on the loop."""
    divide(state, payload)


@gr.handler(inline=True)
def divide_inline(state: Ratio, payload: int) -> None:
    """The same without a thread."""
    divide(state, payload)


HANDLERS = [divide, divide_async, divide_inline]


@pytest.mark.parametrize("middle", [False, True], ids=["", "middleware"])
def test_one_that_raises_rolls_the_turn_back(arun: Arun, middle: bool) -> None:
    async def story() -> None:
        app = gr.App(state=Ratio, handlers=HANDLERS)
        caught: list[BaseException] = []
        if middle:

            @app.middleware()
            def watch() -> Any:
                try:
                    yield
                except ZeroDivisionError as error:
                    caught.append(error)
                    raise

        async with app:
            session = app.open_session()
            for handler in HANDLERS:
                with pytest.raises(ZeroDivisionError):
                    await session.ask(handler.__name__, 0)
                assert session.state == {"a": 1, "b": 1, "ratio": 1}
            with pytest.raises(ZeroDivisionError):
                async with session.turn() as state:
                    state.b = 0

            def in_thread() -> None:
                with session.turn() as state:
                    state.b = 0

            with pytest.raises(ZeroDivisionError):
                await app.scheduler.run_on_worker(in_thread)
            assert session.state == {"a": 1, "b": 1, "ratio": 1}
            await session.ask("divide", 2)
            assert session.state.ratio == 2.5
            assert len(caught) == 3 * middle

    arun(story)


def test_where_failed_turns_are_kept_it_keeps_its_value(arun: Arun) -> None:
    def fail(state: Ratio) -> None:
        state.b = 0
        raise ValueError("on purpose")

    async def story() -> None:
        settings = gr.Settings(on_error="keep")
        async with gr.App(state=Ratio, handlers=[*HANDLERS, fail], settings=settings) as app:
            session = app.open_session()
            for handler in HANDLERS:
                with pytest.raises(ZeroDivisionError):
                    await session.ask(handler.__name__, 0)
                assert session.state == {"a": 5, "b": 0, "ratio": 1}
            with pytest.raises(ValueError, match="on purpose"):
                await session.ask("fail")
            await session.ask("divide", 2)
            assert session.state.ratio == 2.5

    arun(story)


def test_what_it_prints_is_the_session_s(arun: Arun) -> None:
    class Loud(gr.State):
        a: int = 0

        @gr.property("a")
        def loud(self) -> int:
            print(f"calculated {self.a}")
            return self.a

    def assign(state: Loud) -> None:
        state.a += 1

    async def story() -> None:
        async with gr.App(state=Loud, handlers=[assign]) as app:
            one, two = app.open_session(), app.open_session()
            await one.ask("assign")
            assert [line.text for line in one.log.records()] == ["calculated 1"]
            assert not two.log.records()

    arun(story)


class Progress(gr.State):
    """A long turn."""

    done: int = 0

    @gr.property("done")
    def percent(self) -> str:
        """What people read."""
        return f"{self.done} %"


def test_the_partial_updates_of_a_long_turn_have_them(arun: Arun) -> None:
    async def story() -> None:
        clock = ManualClock()
        going, on, seen = asyncio.Event(), threading.Event(), asyncio.Event()
        waiting, more = threading.Event(), threading.Event()

        async def by_loop(state: Progress) -> None:
            state.done = 10
            going.set()
            await seen.wait()

        def by_worker(state: Progress) -> None:
            state.done = 20
            waiting.set()
            on.wait()
            state.done = 30  # finds a push due
            more.wait()
            state.done = 40

        async with gr.App(state=Progress, handlers=[by_loop, by_worker], clock=clock) as app:
            visitor = await Visitor(app).open()
            number = visitor.send("by_loop")
            await going.wait()
            clock.advance(0.25)
            assert (await visitor.next())["data"] == {"=": {"/done": 10, "/percent": "10 %"}}
            seen.set()
            await visitor.answer(number)
            assert visitor.frames[-2]["data"] == {"=": {"/done": 10, "/percent": "10 %"}}
            number = visitor.send("by_worker")
            await eventually(waiting.is_set)
            clock.advance(0.25)
            assert (await visitor.next())["data"] == {"=": {"/done": 20}}  # the loop's
            on.set()
            assert (await visitor.next())["data"] == {"=": {"/done": 30, "/percent": "30 %"}}
            more.set()
            await visitor.answer(number)
            assert visitor.frames[-2]["data"] == {"=": {"/done": 40, "/percent": "40 %"}}
            visitor.line.close()

    arun(story)


def test_a_state_whose_root_is_gone() -> None:
    class Outer(gr.State):
        cart: Cart
        spare: Cart

        @gr.property("cart.gross")
        def shown(self) -> str:
            return f"{self.cart.gross} EUR"

    holder = gr.State({"outer": Outer()})
    outer = holder["outer"]
    item = outer.cart.item
    del holder
    item.price = 5
    assert (outer.shown, outer.spare.gross) == ("15 EUR", 12)
    old = outer.cart
    outer.cart = {"item": {"price": 6}}
    assert (outer.shown, old.gross) == ("16 EUR", 15)
    outer.cart.item.count = 2
    del old, outer
    assert item == {"price": 5, "count": 1, "total": 5}  # its parents are gone, too
    lone = gr.State({"cart": Cart()})["cart"].item
    lone.price = 9
    assert lone.total == 9


def test_whoever_hears_that_a_root_goes_may_still_assign_below_it() -> None:
    """The callback of a weak reference runs while the root is just going."""
    told: list[Any] = []
    root = Cart()
    item = root.item
    root.subscribe_mutation("item.count", lambda state: told.append((state,)))
    ends = weakref.ref(root, lambda _: item.update({"price": 7, "count": 2}))
    del root
    assert ends() is None
    assert item.total == 14
    assert told == [(None,)]
