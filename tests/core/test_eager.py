"""Coroutines that are stepped eagerly behave as if they had had a task from the start."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.core.fakes import FakeSession, message, scheduling

from greenroom.core.eager import Shell
from greenroom.core.types import Place

Body = Callable[[dict[str, Any], Any], Coroutine[Any, Any, Any]]
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def on_spare(body: Body) -> Any:
    """Run the coroutine as a turn, on the spare task that waits."""
    async with scheduling() as scheduler:
        session = FakeSession(scheduler)
        await asyncio.sleep(0)
        return await scheduler.ask(session, message(body, place=Place.LOOP), 5.0)


async def on_fresh(body: Body) -> Any:
    """The same, on a spare task that has not even begun: others suspended in the same burst."""
    async with scheduling() as scheduler:
        session = FakeSession(scheduler)
        scheduler.shell.close()
        scheduler.shell = None
        return await scheduler.ask(session, message(body, place=Place.LOOP), 5.0)


@pytest.fixture(params=[on_spare, on_fresh], ids=["spare", "fresh"])
def run(request: pytest.FixtureRequest, arun: Any) -> Callable[[Body], Any]:
    return lambda body: arun(lambda: request.param(body))


def test_a_coroutine_that_does_not_suspend_sees_a_task(run: Any) -> None:
    async def body(_: Any, __: Any) -> bool:
        return isinstance(asyncio.current_task(), asyncio.Task)

    assert run(body)


def test_the_task_stays_the_same(run: Any) -> None:
    async def body(_: Any, __: Any) -> bool:
        first = asyncio.current_task()
        await asyncio.sleep(0)
        second = asyncio.current_task()
        await asyncio.sleep(0.001)
        return first is second is asyncio.current_task()

    assert run(body)


def test_timeouts(run: Any) -> None:
    async def body(_: Any, __: Any) -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return "timed out"

    assert run(body) == "timed out"


def test_a_timeout_that_is_over_before_it_begins(run: Any) -> None:
    async def body(_: Any, __: Any) -> str:
        try:
            async with asyncio.timeout(-1):
                await asyncio.sleep(5)
        except TimeoutError:
            return "timed out"
        return "slept"

    assert run(body) == "timed out"


def test_task_groups(run: Any) -> None:
    async def body(_: Any, __: Any) -> list[int]:
        done: list[int] = []

        async def child(number: int) -> None:
            await asyncio.sleep(0)
            done.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(child(number))
        return done

    assert run(body) == [0, 1, 2]


def test_a_task_group_whose_child_fails(run: Any) -> None:
    async def body(_: Any, __: Any) -> str:
        async def fails() -> None:
            raise KeyError("x")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                await asyncio.sleep(5)
        except ExceptionGroup as group_error:
            return repr(group_error.exceptions)
        return "ended"

    assert run(body) == "(KeyError('x'),)"


def test_a_coroutine_that_cancels_itself_and_then_waits(run: Any) -> None:
    async def body(_: Any, __: Any) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            task.uncancel()
        await asyncio.sleep(0)
        return "went on"

    assert run(body) == "went on"


def test_what_it_waits_for_is_cancelled_with_it(run: Any) -> None:
    async def body(_: Any, __: Any) -> bool:
        async def forever() -> None:
            await asyncio.Event().wait()

        child = asyncio.get_running_loop().create_task(forever())
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await child
        except asyncio.CancelledError:
            task.uncancel()
        return child.cancelled()

    assert run(body)


def test_context_variables_belong_to_the_coroutine(run: Any) -> None:
    async def body(_: Any, __: Any) -> tuple[str, str, str]:
        before = variable.get()
        variable.set("mine")
        await asyncio.sleep(0)
        after = variable.get()

        async def child() -> str:
            return variable.get()

        return before, after, await asyncio.get_running_loop().create_task(child())

    for _ in range(2):
        assert run(body) == ("unset", "mine", "mine")
    assert variable.get() == "unset"


def test_exceptions_come_out(run: Any) -> None:
    async def at_once(_: Any, __: Any) -> None:
        raise LookupError("at once")

    async def later(_: Any, __: Any) -> None:
        await asyncio.sleep(0)
        raise LookupError("later")

    for body in (at_once, later):
        with pytest.raises(LookupError):
            run(body)


def test_one_spare_serves_many(arun: Any) -> None:
    async def main() -> None:
        seen: set[Any] = set()

        async def body(_: Any, __: Any) -> None:
            seen.add(asyncio.current_task())

        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            for _ in range(50):
                await scheduler.ask(session, message(body, place=Place.LOOP), 5.0)
        assert len(seen) == 1

    arun(main)


def test_a_spare_that_is_closed_leaves_nothing(arun: Any) -> None:
    async def main() -> None:
        for wait in (False, True):
            shell = Shell(asyncio.get_running_loop())
            if wait:
                await asyncio.sleep(0)
            shell.close()
            with pytest.raises(asyncio.CancelledError):
                await shell.task

    arun(main)
