"""Work beside the turns: ``concurrent=True`` handlers and ``session.spawn``.

A job starts at once, in the order of the calls, whatever the session's turn is doing. It reads
``session.state`` (the view) and assigns in short turns of its own; what it emits and its result
enter the stream at once. Middlewares run around a concurrent handler, with the view as ``state``.

Threads: a job is driven by a coroutine on the loop, sync functions run on a worker. ``cancel`` may
be called anywhere.

Cut in the middle: an async job gets CancelledError, a sync one sees ``gr.cancelled()`` and is
waited for; when the session closes its jobs are cancelled.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any

from ._actor import Actor
from ._turn import Message, Turn
from .turn import drive

if TYPE_CHECKING:
    from .scheduler import Scheduler

__all__ = ["Job"]


class Job:
    """The handle of a job: ``cancel()``, ``done``; ``turn.result``, ``turn.error`` at its end."""

    __slots__ = ("__weakref__", "_scheduler", "message", "session", "turn")

    def __init__(self, scheduler: Scheduler, session: Actor, message: Message) -> None:
        self._scheduler = scheduler
        self.session = session
        self.message = message
        self.turn = Turn(
            session, message, ledger=session.ledger, app=scheduler.app,
            variables=_copy(scheduler.base), concurrent=True, started=scheduler.time(),
        )  # fmt: skip
        scheduler.begin_job(session, message, self)
        scheduler.post_to_loop(self._start)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.turn.ended

    def cancel(self) -> bool:
        """Cancel it; false when it had ended already."""
        turn = self.turn
        if turn.ended:
            return False
        turn.cancelled = True
        if self._scheduler.on_loop():
            self._interrupt()
        else:
            self._scheduler.post_to_loop(self._interrupt)
        return True

    def _interrupt(self) -> None:
        if self.turn.task is not None:
            self.turn.task.cancel()

    def _start(self) -> None:
        self._scheduler.step_job(self.turn, self._run())

    async def _run(self) -> Any:
        try:
            if self.turn.cancelled:
                raise asyncio.CancelledError
            return await drive(self._scheduler, self.turn, on_loop=True)
        finally:
            jobs = self.session.jobs
            if jobs is not None:
                jobs.discard(self)


def _copy(context: Context | None) -> Context:
    return Context() if context is None else context.copy()
