"""Draining: how an app ends without losing what it has taken on.

The rule, in this order:

1. The phase is *draining*: no session opens, no transport connects (adapters say 503 and when to
   try again), every mailbox refuses. A frame that still arrives is answered with ``closed``: it did
   not run.
2. Whoever listens for the app stops listening (``App.listeners``), so that the next process can.
3. Transports without a link are told to come back. Questions to users (``confirm``) are answered
   with None, which is what nobody's answer is; the handlers that asked go on.
4. What was accepted runs. A session *owes* as long as messages are queued, a turn runs, or a client
   waits for a concurrent handler or a query; its clients stay until it owes nothing and their
   frames have left. Then they are told ``draining``, their connections close, and the session ends:
   ``on_close`` runs once, in its last turn. Sessions leave one by one; none waits for another.
5. Timers fire no more. Jobs (``session.spawn``) are nobody's debt: they are cancelled with their
   session. Reactions of the bus empty their queues.
6. Towards the end (a quarter of the drain, at most ``LAST_TURNS``, is kept for this) what is still
   queued is dropped and answered ``closed``, what runs is cancelled and answered ``cancelled``; a
   sync handler on a worker only sees ``gr.cancelled()``. Whoever is still there is told then. A
   handler that goes on all the same is left behind in its thread: its client has no answer, and
   settles the call as ``lost``.

So every event that a client got an answer for ended before its connection did, none is ever run by
two processes, and everything else its client counts as ``lost`` (wire.md: a new link).

*Spreading.* ``after`` is random, so that clients come back one after the other: within what is left
of the drain, and within what they need at ``RETURNS`` a second; a few need not wait for long.

Owner: the app's loop. Cut in the middle: the drain is a task of its own, so whoever awaits
``stop()`` may be cancelled and it goes on; a further ``stop`` only brings the end nearer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .app import App
    from .session import Session

__all__ = ["Drain"]

LAST_TURNS: Final = 1.0  # seconds kept for what was cancelled, and for on_close
RETURNS: Final = 100.0  # clients that may come back in a second
BACK: Final = 0.5  # seconds a client adds to `after` by itself, before it dials
TICK: Final = 0.05  # seconds until what gives no sign is looked at again


class Drain:
    """One drain of an app: :meth:`begin` at once, then :meth:`run`."""

    __slots__ = ("_app", "_changed", "_clients", "_cut", "_loop", "_staying", "_until")

    def __init__(self, app: App, seconds: float) -> None:
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._clients = len(app.reception.connections)
        self._staying: set[Session] = set()
        self._until = self._cut = float("inf")
        self.hasten(seconds)

    def hasten(self, seconds: float) -> None:
        """End within ``seconds`` from now; never later than it was."""
        self._until = min(self._until, self._loop.time() + seconds)
        self._cut = min(self._cut, self._until - min(LAST_TURNS, seconds / 4))
        self._changed.set()

    def begin(self) -> None:
        """Refuse what is new, close the listeners, let those go who wait for nothing."""
        app = self._app
        app.scheduler.refuse(self._look)
        listeners, app.listeners[:] = tuple(app.listeners), ()  # they listen no more
        for close in listeners:
            try:
                close()
            except Exception as error:
                app.log.exception("a listener could not be closed", error)
        app.reception.turn_away(self._after)
        self._staying.update(app.sessions.values())
        for session in self._staying:
            if session.all_links is not None:
                session.all_links.dismiss_questions()
        self._look()

    async def run(self) -> None:
        """Until every session has ended, at most as long as it may take."""
        app = self._app
        await self._while(lambda: bool(self._staying) or app.events.busy, lambda: self._cut)
        # Those who have left are in their last turn: on_close has what is kept of the time.
        app.scheduler.cut(spare={each for each in app.sessions.values() if each.ended})
        await self._while(lambda: bool(self._staying), lambda: self._until)
        for session in tuple(self._staying):
            self._dismiss(session)
        await self._while(lambda: bool(app.sessions), lambda: self._until)
        app.scheduler.cut()  # on_close, too
        for session in tuple(app.sessions.values()):
            session.end("the app stops")

    async def _while(self, busy: Callable[[], bool], until: Callable[[], float]) -> None:
        while busy() and (left := until() - self._loop.time()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, TICK)):
                    await self._changed.wait()
            self._look()

    # -- who may go -----------------------------------------------------------------------------

    def _look(self) -> None:
        """Something has ended: let those go who wait for nothing more."""
        self._changed.set()
        for session in tuple(self._staying):
            if not _owes(session):
                # Behind what its last turn, on a worker, has put into the inbox just now.
                self._app.scheduler.post_to_loop(self._leave, session)

    def _leave(self, session: Session) -> None:
        """It owes nothing, and what it made is in the streams of its links."""
        links = session.all_links
        if session in self._staying and not (links is not None and links.unsent()):
            self._dismiss(session)

    def _dismiss(self, session: Session) -> None:
        self._staying.discard(session)
        self._changed.set()
        if not session.ended:
            if session.all_links is not None:
                session.all_links.send_away(self._after)
            session.close("the app stops")

    def _after(self) -> float:
        """Seconds one client should wait before it comes back."""
        left = max(0.0, self._until - self._loop.time() - BACK)
        spread = min(left, self._clients / RETURNS)
        return round(random.uniform(0, spread), 3)  # noqa: S311 - it spreads, it hides nothing


def _owes(session: Session) -> bool:
    """Whether something was accepted that has not come to its end."""
    if len(session) or session.running is not None:
        return True
    links = session.all_links
    if links is not None and links.asked():
        return True
    return any(job.message.link is not None for job in session.jobs or ())
