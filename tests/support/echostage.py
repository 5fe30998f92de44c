"""Servers that live as long as a module's tests: one for each adapter and event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.conftest import LOOPS
from tests.support.rawclient import GOODBYE, opened, read_answer

from greenroom.testing import echo

ADAPTERS = sorted(echo.ADAPTERS)


class Stage:
    """A server on a loop of its own, which runs while a story is told."""

    def __init__(self, loop: str, serve: AbstractAsyncContextManager[int]) -> None:
        self.loop = loop
        self._runner = asyncio.Runner(loop_factory=LOOPS[loop])
        self._serve = serve
        self.port: int = self._runner.run(serve.__aenter__())

    def tell(self, story: Coroutine[Any, Any, Any]) -> Any:
        """Run a story; its failures say on which loop."""
        try:
            return self._runner.run(story)
        except BaseException as error:
            error.add_note(f"on {self.loop}")
            raise

    def close(self) -> None:
        self._runner.run(self._serve.__aexit__(None, None, None))
        self._runner.close()


@contextlib.contextmanager
def stages(serve: Callable[[], AbstractAsyncContextManager[int]]) -> Generator[list[Stage]]:
    """One stage for each event loop we support."""
    made: list[Stage] = []
    try:
        for loop in LOOPS:
            made.append(Stage(loop, serve()))
        yield made
    finally:
        for stage in made:
            stage.close()


@contextlib.contextmanager
def no_errors(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    """Whatever a client sends, nobody logs an error."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        yield
    bad = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not bad, "\n".join(f"{record.name}: {record.getMessage()}" for record in bad)


async def still_serves(port: int) -> None:
    """The next client is served."""
    async with opened(port) as client:
        await client.send(b"\x81\x82\0\0\0\0hi", GOODBYE)
        await client.until(lambda: client.ended, "an echo")
        answer = read_answer(client.received)
    assert (answer.close, answer.data[:1]) == (1000, answer.data and [b"\x81\x02hi"])
