"""Jobs of a session: they run beside its turns, and hear that they are cancelled."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest
from tests.support.until import eventually

from greenroom import (
    App,
    cancelled,
)


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
