"""The session: one actor, its state, its links and what it may do.

What runs for every event is compiled: ``_route.pyx``.

Threads. The mailbox and the turn belong to the compiled :class:`Actor` (any thread may post, one
thread at a time runs a turn). Everything about links happens on the app's loop: a turn that ended
on a worker ships its patch there, puts one record into the app's inbox and is done with it; the
loop delivers the records in the order they were made. Cut in the middle: a record that is in the
inbox is delivered; a turn that never ended has shipped at most partial pushes, which its rollback
corrects.

The life of a session is a table::

    opening  --opened-->  live      (on_open has ended)
    opening  --failed-->  closed    (on_open raised: its links are refused)
    opening  --close--->  closing
    live     --close--->  closing   (on_close runs)
    closing  --ended--->  closed    (links, timers, jobs and waiting messages are settled)
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ._ledger import Ledger
from ._patch import Segmented
from ._route import SessionCore
from ._state import StateView
from ._turn import Message, Turn, current_turn
from .actions import Actions, Confirmation
from .callbacks import CallbackTable, Subscription
from .encode import encode_value
from .errors import (
    BadPayload,
    Busy,
    Closed,
    Cycle,
    NotFound,
    Refused,
    Timeout,
    TooLarge,
    Unencodable,
)
from .jobs import Job
from .links import Links
from .log import Record, SessionLog, one_line
from .packet import spelled_out
from .parts import Handler
from .types import DEFAULT_LABEL, EVENT_NAME, Lane, Place

if TYPE_CHECKING:
    from .app import App
    from .connection import Connection
    from .hello import Hello, Retry
    from .link import ServerLink
    from .offers import Offer
    from .timers import Timer
    from .turn import HeldTurn

__all__ = ["Answer", "Outgoing", "Session", "check_event_name", "encode_event"]

Encoded: TypeAlias = bytes | Segmented

#: The life of a session; a missing key is an illegal event.
LIFE: Mapping[tuple[str, str], str] = {
    ("opening", "opened"): "live",
    ("opening", "failed"): "closing",
    ("opening", "close"): "closing",
    ("live", "close"): "closing",
    ("closing", "ended"): "closed",
}

#: What is read by subscript too, by those who come from Writer.
SUBSCRIPTS = (
    "id",
    "state",
    "headers",
    "cookies",
    "userinfo",
    "links",
    "labels",
    "created",
    "last_active",
)

NO_GROUPS: frozenset[str] = frozenset()  # each call would make another
NO_LINKS: Mapping[str, ServerLink] = MappingProxyType({})

FOREVER = float("inf")
REST_AFTER = 60.0  # seconds; who had no client for so long keeps only what differs (Ledger.rest)
REST_AT_LEAST_EVERY = 3600.0

#: Errors whose code and text are meant for clients; everything else is ``handler_error``.
PUBLIC_ERRORS = (BadPayload, Busy, Closed, Cycle, Refused, Timeout)


class Outgoing(NamedTuple):
    """One frame for clients in a turn's outbox; it leaves when the turn commits."""

    session: Session
    type: str
    data: Encoded | None
    label: str | None


class Answer(NamedTuple):
    """How a client's frame ended; ``code`` is None for a result."""

    link: ServerLink
    id: int | None
    code: str | None
    data: Encoded | None  # the encoded result
    message: str = ""
    retry_after: float | None = None

    def push(self) -> None:
        """Put it into its link's stream. On the loop."""
        if self.code is not None:
            self.link.error(self.id, self.code, self.message, self.retry_after)
        elif self.id is not None:
            self.link.result(self.id, self.data)


_first_word = threading.Lock()


class Session(Actions, SessionCore):
    """One live session. Made by the app: by a client's hello or :meth:`App.open_session`.

    What it knows is also read like a dict: ``session["id"]``, ``in``, ``get``, ``dict(session)``.
    """

    __slots__ = (
        "_noticed",
        "cookies",
        "generation",
        "groups",
        "headers",
        "phase",
        "watched",
    )

    # fields of the compiled half
    app: App
    ledger: Ledger
    _listeners: CallbackTable | None
    _links: Links | None  # from its first client on
    _log: SessionLog | None

    def __init__(
        self,
        app: App,
        id: str,
        ledger: Ledger,
        headers: Mapping[str, str],
        cookies: Mapping[str, str],
    ) -> None:
        super().__init__(app, id, ledger)
        self.headers = headers
        self.cookies = cookies
        self.generation = 0  # of its tokens; those of an earlier one have been revoked
        self.created = time.time()
        self.last_active = app.clock.time()
        self.rests = self.last_active + REST_AFTER
        self._noticed = 0  # of the messages it was sent, at the last look
        self.phase = "opening"
        self.watched: Any = None  # owned by Deadlines
        self.groups = NO_GROUPS

    def __getitem__(self, name: str) -> Any:
        if name in SUBSCRIPTS:
            return getattr(self, name)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in SUBSCRIPTS

    def __iter__(self) -> Iterator[str]:
        return iter(SUBSCRIPTS)

    def keys(self) -> tuple[str, ...]:
        """What may be read by subscript."""
        return SUBSCRIPTS

    def get(self, name: str, default: Any = None) -> Any:
        """``session[name]``, or ``default`` for another name."""
        return getattr(self, name) if name in SUBSCRIPTS else default

    def __repr__(self) -> str:
        return f"<Session {self.id[:6]}... {self.phase}, {len(self.links)} links>"

    # -- what people read ---------------------------------------------------------------------

    @property
    def state(self) -> StateView:
        """The state, read only: assign in ``with session.turn() as state:``."""
        return self.ledger.view

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of its connected links, each once."""
        if self._links is None:
            return ()
        return tuple(dict.fromkeys(link.label for link in self._links.connected()))

    @property
    def links(self) -> Mapping[str, ServerLink]:
        """Its links by id, those that wait for their client's return included."""
        return NO_LINKS if self._links is None else self._links.by_id

    @property
    def all_links(self) -> Links | None:
        """Its links and what belongs to them; None before its first client."""
        return self._links

    @property
    def log(self) -> SessionLog:
        """What its handlers printed and what went wrong, bounded. Any thread."""
        log = self._log
        if log is None:
            settings = self.app.settings
            heard = (settings.debug or settings.log_to_client) and self.phase != "closed"
            made = SessionLog(self._tell_clients if heard else None)
            with _first_word:  # threads of one turn may speak at once: one log for all
                log = self._log = self._log or made
        return log

    @property
    def ended(self) -> bool:
        return self.phase in ("closing", "closed")

    # -- sending to clients -------------------------------------------------------------------

    def emit(self, event: str, data: Any = None, *, label: str | None = None) -> None:
        """Send an event to this session's clients, or only to its views under ``label``.

        In a turn it leaves when the turn commits; elsewhere at once, from any thread. Raises
        ValueError for a name that is no ``namespace:name``, :class:`TooLarge` above
        ``max_frame_out`` and :class:`Unencodable` for data without a form on the wire.
        """
        check_event_name(event)
        self.act(event, data, label)

    def _act(self, type: str, data: Mapping[str, Any]) -> None:
        self.act(type, data)

    def _provide(self, source: bytes | Path, name: str, mime: str) -> Offer:
        return self.app.files.provide(self, source, name, mime)

    def act(self, type: str, data: Any, label: str | None = None) -> None:
        """Send a frame to the clients; a ``gr:`` type too."""
        encoded = encode_event(self.app.settings, type, data)
        self.app.scheduler.count("emitted")
        turn = current_turn()
        if turn is None or turn.ended or turn.concurrent or turn.app is not self.app:
            self._push_soon(type, encoded, label)
        elif turn.outbox is None:
            turn.outbox = [Outgoing(self, type, encoded, label)]
        else:
            turn.outbox.append(Outgoing(self, type, encoded, label))

    def _tell_clients(self, record: Record) -> None:
        """Send a record of the log to the pages. On the thread that wrote it."""
        text = spelled_out(record.text)
        data = {"level": record.level, "text": text, "time": record.time}
        if record.traceback is not None and self.app.settings.debug:
            data["traceback"] = spelled_out(record.traceback)
        encoded = encode_value(data)
        self.app.scheduler.count("emitted")
        self._push_soon("gr:log", encoded, None)

    def _push_soon(self, type: str, data: Encoded | None, label: str | None) -> None:
        if not self.app.call_on_loop(self.push_event, type, data, label):
            self.app.scheduler.count("unheard")

    def push_event(self, type: str, data: Encoded | None, label: str | None = None) -> None:
        """Put an encoded event into the streams. On the loop."""
        heard = self._links is not None and self._links.push_event(type, data, label)
        self.app.scheduler.count("shipped" if heard else "unheard")

    def on(
        self, event: str, callback: Callable[..., Any], *, label: str | None = None
    ) -> Subscription:
        """``app.on`` for this session only; a handle with ``off()``.

        Raises :class:`Closed` when the session has ended.
        """
        if self.phase == "closed":
            raise Closed(f"session {self.id!r} has ended")
        if self._listeners is None:
            self._listeners = CallbackTable()
        self.app.handlers.claim(callback)
        return self._listeners.on(event, callback, label=label)

    # -- messages -----------------------------------------------------------------------------

    def tell(
        self,
        event: str,
        payload: Any = None,
        *,
        priority: Lane | None = None,
        delay: float | None = None,
        every: float | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Timer | None:
        """Put a message into the mailbox, from any thread; nobody waits for its end.

        ``delay`` and ``every`` are in seconds and give a handle with ``cancel()``; the messages of
        such a timer wait in the background lane and end with the session. Raises :class:`NotFound`
        for an event without a handler, :class:`Busy` when the mailbox is full.
        """
        if delay is None and every is None:
            message = self.message(event, payload, Lane.NORMAL, priority, context)
            self.post(message)
            return None

        def make(session: Session) -> Message:
            return session.message(event, payload, Lane.BACKGROUND, priority, context)

        make(self)  # an event without a handler is found out now, not when the timer fires
        if every is None:
            assert delay is not None
            return self.app.scheduler.delay(self, make, delay)
        return self.app.scheduler.every(self, make, every, delay)

    def post_event(
        self,
        event: str,
        payload: Any,
        *,
        handlers: tuple[Handler, ...],
        lane: Lane = Lane.NORMAL,
        label: str = DEFAULT_LABEL,
    ) -> None:
        """Post an event whose handlers are known: a signal, or the opening of a view."""
        self.post(
            Message(event, payload, handlers, lane=lane, place=handlers[0].place, label=label)
        )

    def unknown(self, event: str) -> None:
        """Raise NotFound, naming what there is."""
        raise NotFound(
            f"no handler or callback answers to {event!r}; known: "
            f"{', '.join(sorted(self.app.handlers.names)) or 'none'}"
        )

    def turn(self) -> HeldTurn:
        """A turn for code that is no handler: ``with session.turn() as state:``.

        In threads ``with``, on the loop ``async with``. It waits for its place in the mailbox and
        commits at the end of the block, or rolls back when the block raises. Inside the session's
        own turn it joins that.
        """
        return self.app.scheduler.hold(self)

    def spawn(self, fn: Callable[..., Any], payload: Any = None) -> Job:
        """Start background work beside the turns; injected like a handler.

        It gets the read-only state and assigns in ``session.turn()``; what it emits leaves at once.
        ``session.cancel(job)`` ends it.
        """
        handler = self.app.handlers.make_hook(fn, "job")
        message = Message(handler.name, payload, (handler,), place=handler.place, wrapped=False)
        return self.app.scheduler.spawn(self, message)

    def cancel(self, target: Job | Message | None) -> bool:
        """Cancel a job, or a message. False when it had ended already, or never began.

        Async work gets CancelledError, sync work sees ``gr.cancelled()``; a message whose turn has
        not begun never runs. None is what a state has under a key without a job. From any thread.
        """
        if target is None:
            return False
        if isinstance(target, Message):
            return self.cancel_message(target) is not None
        if not isinstance(target, Job):
            raise TypeError(
                f"session.cancel takes what session.spawn returned, got {target!r}; timers have a "
                "cancel() of their own"
            )
        return target.cancel()

    # -- how turns end ------------------------------------------------------------------------

    def dropped(self, message: Message, error: BaseException) -> None:
        """An accepted message ends without a turn: whoever sent it is told."""
        super().dropped(message, error)
        if message.link is not None:
            self.app.call_on_loop(self.deliver, None, None, self.answer(message, None, error))

    def push_partial(self, turn: Turn) -> None:
        """Ship what a long turn has made so far: by its own thread, or on the loop beside it.

        The outbox is handed over by reference and emptied on the loop only, so an event that the
        turn adds meanwhile is neither lost nor sent twice. Values that only the turn's own thread
        may encode go with its next assignment.
        """
        ledger, scheduler = self.ledger, self.app.scheduler
        if not scheduler.on_loop():
            patch = self.ship() if self.linked else None
            outbox, turn.outbox = turn.outbox, None
            self.hand_over(patch, outbox)
        elif not ledger.shipping:
            foreign = not ledger.owned  # a worker's: it may end meanwhile, and the next begin
            patch = self.ship(foreign) if self.linked else None
            self.deliver(patch, turn.outbox)
            if not foreign:
                ledger.shipped()
            elif self.linked and ledger.in_turn and ledger.dirty:
                ledger.on_due = partial(self.push_partial, turn)
                ledger.due = True

    def explain(self, unencodable: Sequence[tuple[str, str]]) -> None:
        """What could not be encoded goes into the logs."""
        for path, kind in unencodable:
            self.complain(
                f"state {path} is a {kind}, which has no form on the wire: clients do not have "
                "this key. Register an encoder with gr.encoders, or make the key private with a "
                "leading underscore"
            )

    def complain(self, text: str) -> None:
        """Tell the developer: in the session's log, and where the terminal shows it."""
        self.app.log.error(f"session {self.id[:6]}...: {text}", kind=text)
        self.log.error(text)

    def answer(self, message: Message, result: Any, error: BaseException | None) -> Answer:
        """What a client is told of how its frame ended."""
        link, number, settings = message.link, message.id, self.app.settings
        if error is None:
            if number is None:
                return Answer(link, None, None, None)
            try:
                encoded = encode_value(result)
            except Exception as problem:  # noqa: BLE001 - whatever an encoder of theirs raises
                ours = isinstance(problem, (Unencodable, ValueError))
                why = str(problem) if ours else f"its encoder failed: {one_line(problem)}"
                self.complain(f"the result of {message.event!r}: {why}")
                return Answer(
                    link, number, "handler_error", None, "the result has no form on the wire"
                )
            if len(encoded) <= settings.max_frame_out:
                return Answer(link, number, None, encoded)
            self.complain(
                f"the result of {message.event!r} is {len(encoded)} bytes on the wire, above "
                f"max_frame_out ({settings.max_frame_out})"
            )
            return Answer(link, number, "handler_error", None, "the result is too large")
        if isinstance(error, asyncio.CancelledError):
            return Answer(link, number, "cancelled", None, "cancelled")
        if isinstance(error, PUBLIC_ERRORS):
            retry_after = getattr(error, "retry_after", None)
            return Answer(link, number, error.code, None, str(error), retry_after)
        text = "the handler failed"
        if settings.debug:
            text = describe_error(error)
        return Answer(link, number, "handler_error", None, text)

    def report(self, message: Message, error: BaseException) -> None:
        if isinstance(error, BadPayload):
            self.log.write("warning", f"{message.event!r}: {error}", handler=message.event)
        elif isinstance(error, asyncio.CancelledError):
            self.log.write("info", f"{message.event!r} was cancelled", handler=message.event)
        elif not isinstance(error, Closed):
            said = self.app.log.exception(
                f"{message.event!r} failed in session {self.id[:6]}...",
                error,
                kind=f"{message.handlers[0].qualified if message.handlers else ''} failed",
            )
            self.log.exception(
                f"{message.event!r} failed", error, details=said, handler=message.event
            )

    # -- clients ------------------------------------------------------------------------------

    def attach(self, connection: Connection, hello: Hello) -> None:
        """Give ``connection`` the link its hello asks for, or a new one. On the loop."""
        if self._links is None:
            self._links = Links(self)
        self._links.attach(connection, hello)

    def view_event(self, event: str, link: ServerLink) -> None:
        """A view was opened or closed: tell whoever registered for it."""
        handlers = self.resolve(event, link.label)
        if handlers and not self.ended:
            try:
                self.post_event(event, {"label": link.label}, handlers=handlers, label=link.label)
            except (Busy, Closed) as error:  # counted there; the view itself comes and goes
                self.log.warning(f"{event} of {link.label!r} was not heard: {error}")

    def confirm(
        self, message: str, *, timeout: float = 60.0, label: str | None = None
    ) -> Confirmation:
        """Ask the user yes or no: ``await`` it, or ``.result()`` in a sync handler.

        Ships patch and outbox at once. All views are asked, or those with ``label``. The first that
        answers wins; None after ``timeout`` seconds or when the last of them is gone.
        """
        app = self.app
        assert app.loop is not None
        question = Confirmation(app.loop, timeout, label)
        turn = current_turn()
        if turn is not None and not turn.ended and turn.session is self and not turn.concurrent:
            self.push_partial(turn)
        app.call_on_loop(self._ask_user, question, message)
        return question

    def _ask_user(self, question: Confirmation, message: str) -> None:
        self.app.questions["asked"] += 1
        if self._links is None:
            self.app.questions["unanswered"] += 1
            question.settle(None)
        else:
            self._links.ask_user(question, message)

    # -- life ---------------------------------------------------------------------------------

    def join(self, group: str) -> None:
        """Join a group: ``app.group(group).emit(...)`` reaches this session then."""
        if not self.ended:
            self.groups = self.groups | {group}
            self.app.call_on_loop(self.app.groups.join, group, self)

    def leave(self, group: str) -> None:
        """Leave a group; being no member is no error."""
        self.groups = self.groups - {group}
        self.app.call_on_loop(self.app.groups.leave, group, self)

    def left(self) -> None:
        """Its last client may have left: from now on its time to live counts. On the loop."""
        self.last_active = self.app.clock.time()
        self.rests = self.last_active + REST_AFTER
        self.app.deadlines.watch(self)

    def begin(self, hooks: Sequence[Handler]) -> None:
        """Run the on_open hooks in the first turn; live at once when there are none."""
        if not hooks:
            self._opened(None)
        else:
            self._post_hooks("gr:opened", hooks, self._opened)
        self.app.deadlines.watch(self)

    def _opened(self, error: BaseException | None) -> None:
        if error is None:
            if self.phase == "opening":
                self._become("opened")
            if self._links is not None:
                self._links.flush()
        elif self.phase == "opening" and self.app.running:
            # Else it was closed, or the app goes: that is not the hook's verdict on the client.
            self._become("failed")
            self._finish("unauthorized", "the session could not be opened", retry="never")

    def close(self, reason: str = "closed") -> None:
        """End the session: on_close runs in its last turn, then its links are closed.

        From any thread; returns at once.
        """
        self.app.call_on_loop(self._close, reason)

    def revoke_tokens(self, *, close: bool = False) -> None:
        """Make every token that was given out for this session worthless, from now on.

        What is connected stays so but gets no new token, so it ends with its connection; with
        ``close`` it ends at once (code ``unauthorized``), the caller's own page included, and the
        clients begin anew without a token. From any thread.
        """
        self.generation += 1  # were two threads to do this at once, one step would be enough
        if close:
            self.app.call_on_loop(self._turn_out)

    def _turn_out(self) -> None:
        if self._links is not None:
            self._links.turn_out("unauthorized", "the tokens of this session have been revoked")

    def _close(self, reason: str) -> None:
        if self.ended:
            return
        self._become("close")
        hooks = self.app.close_hooks
        running = self.running is not None  # its clients still hear how this turn ends
        if running and not hooks:
            self.clear(Closed(f"session {self.id!r} has ended"))
        if hooks or running:
            self._post_hooks("gr:closed", hooks, lambda error: self.end(reason))
        elif self.app.scheduler.inbox:  # perhaps what a turn made that ended on a worker
            self.app.scheduler.post_to_loop(self.end, reason)
        else:
            self.end(reason)

    def end(self, reason: str) -> None:
        """The last step: settle everything that still refers to this session. On the loop."""
        if self.phase != "closed":
            self._finish("bye", reason)

    def _finish(self, code: str, reason: str, retry: Retry | None = None) -> None:
        self._become("ended")
        self.shut()  # what is in the mailbox is dropped with Closed; timers and jobs end
        if self._links is not None:
            self._links.close(code, reason, retry)
            self._links = None
        self.ledger.forget()
        self.over()
        self.app.session_ended(self)

    def _post_hooks(
        self, event: str, hooks: Sequence[Handler], then: Callable[[BaseException | None], None]
    ) -> None:
        self.post(
            Message(
                event,
                None,
                tuple(hooks),
                lane=Lane.CONTROL,
                place=hooks[0].place if hooks else Place.INLINE,
                reply=HookReply(self.app, then),
                wrapped=False,
            )
        )

    def _become(self, event: str) -> None:
        try:
            self.phase = LIFE[self.phase, event]
        except KeyError:
            raise AssertionError(f"a session that is {self.phase} cannot be {event}") from None

    def deadline(self) -> float | None:
        """When it is looked at if nobody comes; None while a client is connected, or it ends."""
        if self.ended or (self._links is not None and self._links.connected()):
            return None
        at = min(self._ends(), self.rests)
        return None if at == FOREVER else at

    def _ends(self) -> float:
        settings = self.app.settings
        unused = self.by_hello and not self.acknowledged
        ttl = settings.unused_ttl if unused else settings.session_ttl
        return self.last_active + ttl if ttl else FOREVER

    def due(self, now: float) -> None:
        if now >= self._ends():
            if self.posted == self._noticed or self.by_hello:
                self._close("nobody came back")
                return
            self._noticed = self.posted  # somebody still talks to it
            self.last_active = self.rests = now
        if now >= self.rests:  # again and again, each time later: a turn may wake it at any time
            self.ledger.rest()
            self.rests = now + min(max(REST_AFTER, now - self.last_active), REST_AT_LEAST_EVERY)
            if self._links is not None and self._links.idle:
                self._links = None


class HookReply:
    """Who hears, on the loop, how a life hook ended."""

    __slots__ = ("_app", "_then")

    def __init__(self, app: App, then: Callable[[BaseException | None], None]) -> None:
        self._app = app
        self._then = then

    def answer(self, value: Any) -> None:
        self._app.call_on_loop(self._then, None)

    def fail(self, error: BaseException) -> None:
        self._app.call_on_loop(self._then, error)


def describe_error(error: BaseException) -> str:
    """Type and text of an exception, whose ``__str__`` is anybody's code and may raise too."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001
        return type(error).__name__


def check_event_name(event: str) -> None:
    """Raise ValueError for a name that the application may not emit."""
    if not EVENT_NAME.match(event):
        raise ValueError(f"{event!r} is no event name; names look like 'namespace:name'")
    if event.startswith("gr:"):
        raise ValueError(f"{event!r}: names beginning with 'gr:' belong to the protocol")


def encode_event(settings: Any, type: str, data: Any) -> Encoded | None:
    """The data of an event, encoded; raises :class:`TooLarge` above ``max_frame_out``."""
    if data is None:
        return None
    encoded = encode_value(data)
    if len(encoded) > settings.max_frame_out:
        raise TooLarge(
            f"the data of {type!r} is {len(encoded)} bytes on the wire, above max_frame_out "
            f"({settings.max_frame_out}): send a file, or less"
        )
    return encoded
