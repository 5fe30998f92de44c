"""Queries: named questions inside the app, and who answers them.

A query is declared by its first answer. Public ones can be asked by clients; an internal name and
an unknown one are the same to them, by one look-up in the public table alone.

Owner: the app's loop. An answer is a task of its own, or a turn of the session that asks. Whoever
asks waits at most a time-out; what comes later is dropped, though its work goes on. Cut in the
middle (whoever asks is cancelled): every ask that is not answered is cancelled and counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, Any

from ._turn import current_turn
from .channels import Question, check_name, check_one_argument, clean_context, wants_session, within
from .errors import NotFound, Refused, Timeout

if TYPE_CHECKING:
    from .app import App
    from .beside import Seat
    from .session import Session

__all__ = ["Queries"]


class Late(Timeout):
    """A query was not answered in time: we say so, not an answer."""


class Queries:
    """The questions of one app. ``app.events`` is the way to them."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._all: dict[str, Question] = {}
        self._public: dict[str, Question] = {}
        self.pending = 0  # asks that are waited for
        # what each of those who were asked made of it
        self.counters = {
            "queries": 0,
            "asks": 0,
            "answers": 0,
            "queries_failed": 0,
            "queries_timed_out": 0,
            "queries_cancelled": 0,
        }

    def declare(
        self, name: str, singleton: bool, internal: bool
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """:meth:`Bus.query`."""
        check_name(name, "query")

        def register(fn: Callable[..., Any]) -> Callable[..., Any]:
            in_session = wants_session(fn)
            if not in_session:
                check_one_argument(fn, f"an answer to {name!r}")
            question = self._all.get(name)
            if question is None:
                question = self._all[name] = Question(name, singleton, internal)
                if not internal:
                    self._public[name] = question
            elif question.singleton or singleton:
                raise ValueError(f"query {name!r} is a singleton and has its answer already")
            elif question.internal != internal:
                raise ValueError(f"query {name!r} was declared with internal={question.internal}")
            if in_session:
                question.per_session.append(self._app.reaction_handlers(name, fn))
            else:
                question.answers.append(fn)
            self._app.handlers.claim(fn)
            return fn

        return register

    async def request(self, name: str, data: Any, timeout: float | None) -> Any:
        """:meth:`Bus.request`."""
        question = self._all.get(name)
        if question is None:
            raise NotFound(f"no query {name!r} is registered; use @events.query({name!r})")
        turn = current_turn()
        session = None if turn is None else turn.session
        return await self._ask(question, data, timeout, session)

    async def _ask(
        self,
        question: Question,
        data: Any,
        timeout: float | None,
        session: Session | None,
        seat: Seat | None = None,
    ) -> Any:
        if session is None and question.per_session and not question.answers:
            raise NotFound(f"query {question.name!r} is answered by a session; ask it from one")
        app = self._app
        limit = app.settings.query_timeout if timeout is None else timeout
        counters = self.counters
        counters["queries"] += 1
        asks: list[asyncio.Future[Any]] = []
        waiting = True
        try:
            if session is not None:
                for handlers in question.per_session:
                    asks.append(session.ask(question.name, data, handlers=handlers, timeout=limit))
                    counters["asks"] += 1
                    self.pending += 1
            for fn in question.answers:
                asks.append(self._begin_answer(fn, data, seat))
                counters["asks"] += 1
                self.pending += 1
            pending = await within(app.clock, asks, limit)
            waiting = False
        finally:
            _cancel(asks)  # also those that were asked before one could not be
            self.pending -= len(asks)
            if waiting:  # whoever asked was cancelled, or one of them could not be asked
                counters["queries_cancelled"] += len(asks)
        counters["queries_timed_out"] += len(pending)
        results, failures = _outcomes(asks, pending)
        counters["answers"] += len(results)
        counters["queries_failed"] += len(failures)
        if not question.singleton:
            return results
        if results:
            return results[0]
        if failures:
            asks.clear()  # this frame must not hold what is raised through it
            raise failures.pop(0)
        raise Late(
            f"query {question.name!r} was not answered within {limit} s; its answer may still run"
        )

    def _begin_answer(
        self, fn: Callable[..., Any], data: Any, seat: Seat | None
    ) -> asyncio.Task[Any]:
        work = self._app.call(fn, data, seat=seat)
        task = self._app.start_task(work, context=clean_context(self._app))
        if seat is not None:
            seat.hold_for(task)
        return task

    # -- clients ----------------------------------------------------------------------------

    def public(self, name: str) -> Question:
        """A public query. Raises :class:`NotFound` for internal and unknown names alike."""
        question = self._public.get(name)
        if question is None:
            raise NotFound(f"no query {name!r}")
        return question

    async def request_for_client(
        self,
        question: Question,
        data: Any,
        timeout: float | None,
        session: Session,
        seat: Seat,
    ) -> Any:
        """A client asks a public query; the server caps the time-out.

        ``seat`` is held by every answer that is worked on, also when it comes too late.
        """
        limit = self._app.settings.query_timeout
        wanted = limit if timeout is None else timeout
        try:
            wanted = min(wanted, limit) if limit else wanted
            return await self._ask(question, data, wanted, session, seat)
        except Late as error:
            raise Refused(error.code, str(error)) from None

    # -- life -------------------------------------------------------------------------------

    def adopt(self, other: Queries) -> None:
        """Hold what another declares, in place of what was declared here."""
        self._all, self._public = other._all, other._public


def _cancel(asks: Iterable[asyncio.Future[Any]]) -> None:
    for ask in asks:
        ask.cancel()


def _outcomes(
    asks: Iterable[asyncio.Future[Any]], pending: Container[asyncio.Future[Any]]
) -> tuple[list[Any], list[BaseException]]:
    """The answers, and why there was none, of those that are not pending."""
    results: list[Any] = []
    failures: list[BaseException] = []
    for ask in asks:
        if ask in pending:
            continue
        error = asyncio.CancelledError() if ask.cancelled() else ask.exception()
        if error is None:
            results.append(ask.result())
        else:
            failures.append(error)
    return results, failures
