"""The way of an event: from a client's frame into the mailbox, from the turn into the streams.

The compiled halves of Session, Links and Connection; those hold all the rest.
"""

from collections.abc import Mapping
from typing import Any, final

from typing_extensions import disjoint_base

from ._actor import Actor
from ._counts import Counts
from ._patch import Patch
from ._runner import Runner
from ._stream import Request, Stream
from ._turn import Message, Turn
from .types import Lane, Packet, Transport

__all__ = ["TRANSPORT_ROOM", "ConnectionCore", "LinksCore", "Outlet", "SessionCore"]

TRANSPORT_ROOM: int  # a transport with more buffered is handed nothing

@disjoint_base
class SessionCore(Actor):
    """What a session does for every event. ``Session`` is the one subclass.

    It provides ``answer``, ``report``, ``explain`` and ``push_event``.
    """

    app: Any
    table: Any
    last_active: float
    rests: float
    created: float
    acknowledged: bool
    by_hello: bool
    _listeners: Any
    _links: Any
    _log: Any
    def __init__(self, app: Any, id: str, ledger: Any) -> None: ...
    @property
    def userinfo(self) -> dict[str, Any]:
        """What the verifiers and the application noted about its user; any thread."""
    @userinfo.setter
    def userinfo(self, noted: dict[str, Any]) -> None: ...
    def resolve(self, event: str, label: str) -> tuple[Any, ...]:
        """The handlers and callbacks of an event, in the order they run; empty for none."""
    def message(
        self,
        event: str,
        payload: Any = None,
        lane: int = 2,
        priority: Lane | None = None,
        context: Mapping[str, Any] | None = None,
        handlers: tuple[Any, ...] | None = None,
    ) -> Message:
        """A message that nobody has posted. Raises NotFound for an event without a handler."""
    def ask(
        self,
        event: str,
        payload: Any = None,
        *,
        timeout: float | None = None,
        priority: Lane | None = None,
        context: Mapping[str, Any] | None = None,
        handlers: tuple[Any, ...] | None = None,
    ) -> Any:
        """Put a message into the mailbox and wait for its handler's result.

        On the loop ``await`` it; in a thread call ``.result()`` of it. Raises Timeout after
        ``timeout`` seconds (``Settings.ask_timeout``; 0 waits for ever), Cycle at once when the
        two would wait for each other, Busy, NotFound, or what the handler raised.
        """
    def settle(self, turn: Turn, error: BaseException | None) -> None:
        """A turn has ended: ship what it made. On the thread that ran it, once."""
    def ship(self, foreign: bool = False) -> Patch | None:
        """What clients do not have yet, as a patch; what cannot be encoded goes into the log."""
    def enter_table(self) -> None:
        """Its app holds it from now on, until ``over``.

        So the collector has no use for looking at it, which takes long where there are many.
        """
    def over(self) -> None:
        """It has closed: what it was given or has made holds it no longer.

        Called at the end, and again after each turn or job that went on beyond it.
        """
    def hand_over(
        self,
        patch: Patch | None,
        outbox: list[Any] | None,
        answer: Any = None,
        message: Message | None = None,
        shipped: bool = True,
    ) -> None:
        """Have ``deliver`` called on the loop. ``shipped``: the worker's ship ends with this."""
    def deliver(
        self,
        patch: Patch | None,
        outbox: list[Any] | None = None,
        answer: Any = None,
        message: Message | None = None,
    ) -> None:
        """Patch, events and answer enter the streams in one step. On the loop.

        The answer is the encoded result of ``message``, or an Answer. The outbox is emptied.
        """

@disjoint_base
class LinksCore:
    """What the links of a session do for every event. ``Links`` is the one subclass."""

    def __init__(self, session: SessionCore, outlet: Outlet) -> None: ...
    session: Any
    by_id: dict[str, Any]
    @property
    def outlet(self) -> Outlet:
        """Where connections with something to send are noted."""
    def post_event(self, link: Stream, request: Request, size: int) -> None:
        """Post what a client's frame of ``size`` bytes carries, or raise why not."""
    def push_patch(self, patch: Patch) -> None:
        """Put a patch into every stream."""
    def committed(self) -> None:
        """A commit was added whole: now the limits are looked at, and what can go goes soon."""
    def flush(self) -> None:
        """Every connected link may have something for its transport."""
    def flush_soon(self, link: Stream) -> None:
        """The link may have something for its transport."""

@disjoint_base
class ConnectionCore:
    """What a connection does for every packet. ``Connection`` is the one subclass.

    It provides ``first``, ``end`` and ``lost``.
    """

    transport: Transport
    link: Any
    links: Any
    closed: bool
    number: int  # of the connections of this app, in the order they were made
    asked: float  # when it came, or said its last hello
    def __init__(self, transport: Transport, outlet: Outlet) -> None: ...
    @property
    def outlet(self) -> Outlet:
        """Where it is noted when it has something to send."""
    def receive(self, packet: Packet) -> None:
        """One packet has arrived."""
    def drained(self) -> None:
        """The transport has room again."""
    def flush(self) -> None:
        """Hand the transport what its link has ready, in one write, and close if it is over."""

@final
class Outlet:
    """Connections that may have something to send: they are flushed when a burst has ended."""

    def __init__(self, core: Runner, counts: Counts) -> None: ...
    @property
    def counts(self) -> Counts:
        """Where the frames that its connections receive are counted."""
    def mark(self, connection: ConnectionCore) -> None:
        """A connection may have something to send."""
    def flush(self) -> None:
        """Flush them."""
