"""Fixtures of the whole suite. `arun` runs a coroutine function on each event loop we support."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from greenroom import App
from greenroom.testing import assert_conserved

# How fast this machine is just now says nothing about the code.
settings.register_profile("greenroom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("greenroom")


def pytest_collection_finish() -> None:
    """What was imported stays: no collection of a test need look at it again."""
    gc.collect()
    gc.freeze()


LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


LOOPS: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
if importlib.util.find_spec("uvloop") is not None:
    LOOPS["uvloop"] = _uvloop


def run_clean(
    factory: LoopFactory, test: Callable[..., Coroutine[Any, Any, Any]], timeout: float
) -> Any:
    """Run `test()` on a fresh loop; fail if it leaves a task or an unhandled exception behind."""
    complaints: list[str] = []

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(repr(context)))
        try:
            async with asyncio.timeout(timeout):
                return await test()
        finally:
            await asyncio.sleep(0)  # a task that has just been told to end may do so
            left = asyncio.all_tasks() - {asyncio.current_task()}
            complaints.extend(f"still pending: {task!r}" for task in left)

    with asyncio.Runner(loop_factory=factory) as runner:
        result = runner.run(main())
        gc.collect()  # an exception nobody fetched is reported when its task dies
    assert not complaints, "\n".join(complaints)
    return result


@pytest.fixture(autouse=True, scope="session")
def conserved() -> Generator[None]:
    """G23 at the end of every test: whenever an app has stopped, its counters add up."""
    stop = App.stop

    async def stop_and_check(app: App, drain: float | None = None) -> None:
        await stop(app, drain)
        assert_conserved(app)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(App, "stop", stop_and_check)
        yield


@pytest.fixture(params=list(LOOPS))
def arun(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`arun(coroutine_function)` runs it on a fresh loop, once on asyncio and once on uvloop."""
    factory = LOOPS[request.param]

    def run(test: Callable[..., Coroutine[Any, Any, Any]], *, timeout: float = 30) -> Any:
        return run_clean(factory, test, timeout)

    return run
