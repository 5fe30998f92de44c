"""The answer of an ``ask`` from a thread that is not the app's loop.

Threads: one asks and waits, another answers; the future inside is the meeting point.
Cut in the middle: whoever gave up (time-out, interrupt) is not told any more.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator
from typing import Any

from .errors import Timeout

__all__ = ["Answer"]


class Answer:
    """What a thread waits for: ``result()`` there, or ``await`` on a loop of another thread."""

    __slots__ = ("_end_wait", "_future", "_give_up", "_timeout")

    def __init__(self, timeout: float | None = None) -> None:
        self._future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._timeout = timeout
        self._give_up: Callable[[], object] | None = None
        self._end_wait: Callable[[], object] | None = None

    def on_give_up(self, call: Callable[[], object]) -> None:
        """Have ``call()`` called when the waiter gives up."""
        self._give_up = call

    def on_end(self, call: Callable[[], object]) -> None:
        """Have ``call()`` called when it is answered or the waiter gives up."""
        self._end_wait = call

    def done(self) -> bool:
        """Whether it was answered."""
        return self._future.done()

    def answer(self, value: Any) -> bool:
        """Give the answer; false when nobody waits for it any more."""
        try:
            self._future.set_result(value)
        except concurrent.futures.InvalidStateError:
            return False
        self._ended()
        return True

    def fail(self, error: BaseException) -> bool:
        """Give an exception as the answer; false when nobody waits for it any more."""
        try:
            if isinstance(error, asyncio.CancelledError):
                self._future.cancel()
            else:
                self._future.set_exception(error)
        except concurrent.futures.InvalidStateError:
            return False
        self._ended()
        return True

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the answer, at most ``timeout`` seconds (that of the ask when not given)."""
        limit = self._timeout if timeout is None else timeout
        try:
            return self._future.result(limit)
        except concurrent.futures.TimeoutError:
            if self._future.done():
                return self._future.result()
            self._abandon()
            raise Timeout(f"no answer within {limit} s; the work may still run") from None
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError("the message was cancelled") from None
        except BaseException:
            if not self._future.done():  # KeyboardInterrupt while waiting
                self._abandon()
            raise
        finally:
            del self  # it holds what is raised, whose traceback holds this frame

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.wrap_future(self._future)
        except TimeoutError:
            self._abandon()
            raise Timeout(f"no answer within {self._timeout} s; the work may still run") from None
        except asyncio.CancelledError:
            self._abandon()
            raise
        finally:
            del self  # as above

    def _abandon(self) -> None:
        self._future.cancel()
        self._ended()
        if self._give_up is not None:
            self._give_up()

    def _ended(self) -> None:
        end, self._end_wait = self._end_wait, None
        if end is not None:
            end()
