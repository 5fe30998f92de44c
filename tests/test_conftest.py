"""The fixture the whole suite leans on must itself be able to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

ARun = Callable[..., Any]


def test_the_result_comes_back(arun: ARun) -> None:
    async def story() -> str:
        await asyncio.sleep(0)
        return "done"

    assert arun(story) == "done"


def test_a_task_left_behind_is_a_failure(arun: ARun) -> None:
    async def story() -> None:
        story.task = asyncio.create_task(asyncio.sleep(60), name="forgotten")  # type: ignore[attr-defined]

    with pytest.raises(AssertionError, match=r"still pending: .*forgotten"):
        arun(story)


def test_an_exception_nobody_fetched_is_a_failure(arun: ARun) -> None:
    async def fails() -> None:
        raise LookupError("unseen")

    async def story() -> None:
        task = asyncio.create_task(fails())
        await asyncio.sleep(0)
        assert task.done()

    with pytest.raises(AssertionError, match="unseen"):
        arun(story)


def test_an_exception_in_a_callback_is_a_failure(arun: ARun) -> None:
    def fails() -> None:
        raise LookupError("in a callback")

    async def story() -> None:
        asyncio.get_running_loop().call_soon(fails)
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="in a callback"):
        arun(story)


def test_a_story_that_hangs_is_ended(arun: ARun) -> None:
    with pytest.raises(TimeoutError):
        arun(asyncio.Event().wait, timeout=0.01)


def test_the_loops_differ(arun: ARun, request: pytest.FixtureRequest) -> None:
    async def story() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert arun(story).split(".")[0] == request.node.callspec.params["arun"]
