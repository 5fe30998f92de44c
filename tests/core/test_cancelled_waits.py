"""What is cancelled while it waits for a turn of a session is woken, on worker threads too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.support.until import eventually

from greenroom import App, cancelled
from greenroom.adapters import memory
from greenroom.client import connect
from greenroom.core._actor import Actor


def waits(session: Any) -> Callable[[], bool]:
    """Whether somebody waits for a turn of this session."""
    return lambda: Actor.__len__(session) == 1


def test_a_sync_job_that_waits_for_a_turn_is_woken(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"note": ""}) as app:
            one, two = app.open_session(), app.open_session()
            heard: list[bool] = []

            def job() -> None:
                try:
                    with one.turn():
                        raise AssertionError("it was cancelled before")
                except asyncio.CancelledError:
                    heard.append(cancelled())
                    with two.turn() as state:  # a last one is a wait like any other
                        state["note"] = "cancelled"
                    raise

            async with one.turn():
                running = two.spawn(job)
                await eventually(waits(one))
                assert two.cancel(running)
                await eventually(partial(getattr, running, "done"))
                assert not waits(one)()
            assert isinstance(running.turn.error, asyncio.CancelledError)
            assert running.turn.wake is None
            assert (heard, two.state["note"]) == ([True], "cancelled")

    arun(story)


def test_a_job_that_waits_for_a_second_turn_gives_back_the_first(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"note": ""}) as app:
            one, two = app.open_session(), app.open_session()

            def job() -> None:
                with two.turn() as state:
                    state["note"] = "half done"
                    with one.turn():
                        raise AssertionError("it was cancelled before")

            async with one.turn():
                running = two.spawn(job)
                await eventually(waits(one))
                assert two.cancel(running)
                await eventually(partial(getattr, running, "done"))
                assert two.running is None  # it is free again, and what was done is undone
                assert two.state["note"] == ""

    arun(story)


def test_one_that_is_cancelled_before_it_waits_gets_its_turn(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"note": ""}) as app:
            session = app.open_session()

            def job() -> None:
                while not cancelled():
                    pass
                with session.turn() as state:
                    state["note"] = "cancelled"

            running = session.spawn(job)
            async with session.turn():
                assert session.cancel(running)
                await eventually(waits(session))
            await eventually(partial(getattr, running, "done"))
            assert session.state["note"] == "cancelled"

    arun(story)


def test_a_handler_that_waits_for_another_session_is_woken(arun: Any) -> None:
    async def story() -> None:
        others: list[Any] = []

        def visit(state: Any) -> None:
            state["note"] = "on my way"
            with others[0].turn():
                raise AssertionError("it was cancelled before")

        async with (
            App(state={"note": ""}, handlers=[visit]) as app,
            connect(lambda: memory.connect(app)) as client,
        ):
            others.append(app.open_session())
            mine = app.sessions[str(client.session)]
            async with others[0].turn():
                call = client.call("visit")
                await eventually(waits(others[0]))
                call.cancel()
                await eventually(lambda: mine.running is None)
                assert mine.state["note"] == ""
                assert not waits(others[0])()

    arun(story)
