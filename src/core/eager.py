"""Eager stepping: coroutines take their first step at once, and need a task only if they suspend.

Most async handlers never suspend, and a task of their own would cost more than all the rest of
their turn. But code in them may ask for ``asyncio.current_task()`` (``asyncio.timeout`` and
``TaskGroup`` do), so there must be one. So one spare task waits at a gate. While a coroutine takes
its first step the spare is made current; if the coroutine ends in that step, the spare waits on.
If it suspends, the gate is opened, the spare goes on with the coroutine for good, and a new spare
is made when one is needed.

The coroutine runs in a ``Context`` of its own (its turn's), entered for every step inside the
spare's, so that what it sets is seen by it and its children alone.

Threads: the loop's only. The first step is taken by ``SchedulerCore.step`` in ``_scheduler.pyx``,
in a callback of the loop, where no other task is current.

Cut in the middle: a cancel that falls between the first step and the opening of the gate cancels
the gate; the spare then cancels what the coroutine waits for, as a task would have. A coroutine
that cancels its own task and ends in the same step leaves a spare whose gate is cancelled; that
spare is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

__all__ = ["Shell"]

Then = Callable[[Any, BaseException | None], None]


class Shell:
    """One spare task. ``go_on`` gives it the coroutine that it shall carry to its end."""

    __slots__ = ("_context", "_coro", "_first", "_then", "gate", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context | None = None) -> None:
        self.gate: asyncio.Future[None] = loop.create_future()
        self._coro: Coroutine[Any, Any, Any] | None = None
        self._context: Context | None = None
        self._first: Any = None
        self._then: Then | None = None
        self.task: asyncio.Task[Any] = loop.create_task(
            self._live(), name="greenroom-spare", context=context
        )
        self.task.add_done_callback(self._over)

    def go_on(
        self, coro: Coroutine[Any, Any, Any], context: Context, first: Any, then: Then
    ) -> None:
        """Carry ``coro``, which has just yielded ``first``; ``then(value, error)`` at its end."""
        self._coro = coro
        self._context = context
        self._first = first
        self._then = then
        if not self.gate.done():
            self.gate.set_result(None)

    def close(self) -> None:
        """End a spare that is not needed any more."""
        self.task.cancel()

    def _over(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            with contextlib.suppress(asyncio.CancelledError):
                task.result()  # takes out the error, whose frame holds us, who hold the task
        # Cancelled before the spare itself had taken its first step: another one delivers it.
        if self._coro is not None and self._context is not None and self._then is not None:
            other = Shell(task.get_loop())
            other.gate.cancel()
            other.go_on(self._coro, self._context, self._first, self._then)
            self._coro = self._context = self._first = self._then = None

    async def _live(self) -> None:
        interrupted = False
        try:
            await self.gate
        except asyncio.CancelledError:
            if self._coro is None:
                raise
            interrupted = True
        assert self._coro is not None
        assert self._context is not None
        assert self._then is not None
        then = self._then
        # No name for the first future: what it raises would hold this frame, and this frame it.
        ride = _ride(self._coro, self._context, self._first, interrupted)
        self._coro = self._context = self._first = self._then = None
        self.task.set_name("greenroom-turn")
        try:
            value = await ride
        except BaseException as error:  # noqa: BLE001 - whoever waits for the end judges it
            then(None, error)
        else:
            then(value, None)


@types.coroutine
def _ride(
    coro: Coroutine[Any, Any, Any], context: Context, first: Any, interrupted: bool
) -> Generator[Any, Any, Any]:
    """Step ``coro`` to its end in ``context``, yielding what it yields to the task around us."""
    send, throw, run = coro.send, coro.throw, context.run
    try:
        if interrupted:
            if first is None or not first.cancel():
                first = run(throw, asyncio.CancelledError())
        elif first is None:  # sleep(0): the gate has taken that turn of the loop already
            first = run(send, None)
        while True:
            try:
                sent = yield first
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's to judge
                first = run(throw, error)
            else:
                first = run(send, sent)
    except StopIteration as stop:
        return stop.value
    finally:
        first = None  # a future whose exception comes through here would be held by its traceback
