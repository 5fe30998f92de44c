"""The outgoing stream of one link: what was not sent yet, and what was sent and not acknowledged.

Touched on the app's loop only.
"""

from collections.abc import Callable
from typing import Any, final

from typing_extensions import disjoint_base

from ._counts import Counts
from ._patch import Patch
from .types import Packet

__all__ = ["Request", "Stream", "Tally"]

@disjoint_base
class Tally:
    """What all streams that share it count, and the bytes in their logs.

    A subclass says who pays first.
    """

    limit: int
    def __init__(self, limit: int, counts: Counts | None = None) -> None: ...
    @property
    def counts(self) -> Counts: ...
    @property
    def total(self) -> int: ...
    def enforce(self, now: float) -> None:
        """Called by ``committed`` while ``total`` is above ``limit``."""

@final
class Request:
    """Something a client asks for, after the link has accepted it.

    ``kind`` is "event", "query", "subscribe", "unsubscribe", "trigger", "cancel", "answer",
    "upload", "fetch", "piece", "refresh", "bye", "hello", or "named": an event whose payload or
    context names files. With an ``id`` it is owed one ``result`` or ``error``.
    """

    def __init__(
        self, kind: str, id: int | None, type: str, data: Any = None, context: Any = None
    ) -> None: ...
    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> int | None: ...
    @property
    def type(self) -> str: ...
    @property
    def data(self) -> Any: ...
    @property
    def context(self) -> dict[str, Any] | None: ...

@disjoint_base
class Stream:
    """The outgoing half of a link. A link is a subclass and adds the incoming half."""

    ack: int
    state: str  # of link_table.py
    closing: Any  # the Close this connection must end with, or None
    heard_at: float  # when the client was last heard of
    nack_row: int  # nacks without progress
    crowd: int  # more unanswered events are refused; 0: no limit
    largest: int  # bytes of a packet; 0: no limit
    rate: float  # frames a second that are paid back; 0: no limit
    burst: float  # frames that may be owed
    debt: float  # frames taken in, less what was paid back by debt_at
    debt_at: float
    refused_row: int  # frames in a row that could not be paid for
    connection: Any  # what carries it now, or None; owned by the links
    def __init__(
        self,
        label: str,
        binary: bool,
        snapshot: Callable[[], tuple[Any, int] | None],
        tally: Tally,
        *,
        log_bytes: int,
        frame_bytes: int,
        window: float,
        dead: float,
    ) -> None: ...

    # -- what enters
    def read_event(self, data: bytes, now: float) -> Request | None:
        """An ordinary event: the request, accepted. None: it is not; nothing was done.

        A short way for what arrives nearly always: a small frame of an open link with the next id,
        for the application, within the limits, without special values. What it does is what
        ``ServerLink.receive`` does, which judges all the rest; the vectors run through both.
        """

    def push_patch(self, patch: Patch) -> bool:
        """Add a patch, or merge it with its unsent neighbour. False: a snapshot will have it."""

    def push_event(self, type: str, encoded: Any, label: str | None = None) -> bool:
        """Add an event. ``label`` is the link's own unless given."""

    def push_signal(self, name: str, encoded: Any) -> bool:
        """Add a signal that the link has subscribed to."""

    def result(self, id: int, encoded: Any) -> bool:
        """Answer an accepted id. False: it has been answered, or was never accepted."""

    def error(
        self, id: int | None, code: str, message: str, retry_after: float | None = None
    ) -> bool:
        """Answer an accepted id with an error, or (``id`` None) say it unnumbered, best effort."""

    def committed(self, now: float) -> None:
        """A commit is in: look at the limits, unless the transport is about to take it all."""

    # -- what leaves
    def take(self, now: float, room: int) -> list[Packet]:
        """What the transport may be handed now. ``room``: bytes it may still buffer; below 0: none.

        The frame that uses the room up is still handed over. Frames get their numbers here.
        """

    @property
    def waiting(self) -> bool:
        """Whether take() may have something to hand over."""

    # -- what is kept
    def acknowledge(self, seq: int) -> bool:
        """The client has applied all up to ``seq``. False: nobody ever sent it that much."""

    def check(self, now: float) -> None:
        """Look at the limits now: a deadline has come, or the transport has gone."""

    def overflow(self, now: float) -> None:
        """Events, signals and answers alone are too much. A link may close instead."""

    def collapse(self) -> None:
        """Put a mark in the place of all unsent patches."""

    def release(self) -> None:
        """Forget what was sent, but not what goes out again just now: only the point from which a
        resume is possible moves.
        """

    def empty(self) -> None:
        """Lose everything. The next attach begins with a snapshot."""

    # -- coming and going
    def resume(self, seq: int) -> bool:
        """Make the stream follow on what a client has applied. True: it goes on unchanged."""

    def pending(self) -> list[int]:
        """Accepted ids whose answer is still to come, or is in a frame that will go out."""

    def go_live(self, welcome: bytes, *, batching: bool = False, part_bytes: int = 0) -> None:
        """A connection is there: hand over the welcome, then the stream."""

    def hold(self) -> None:
        """Hand nothing over; what was due and has no number is forgotten."""

    def lapse(self) -> None:
        """The window has passed: lose everything and take nothing but answers from now on."""

    def revive(self) -> None:
        """A client came back after the window."""

    def shut(self) -> None:
        """The end: lose everything and take nothing."""

    # -- unnumbered frames, and what the link asks
    def accept(self, id: int, aside: bool = False) -> None:
        """``id`` is ``ack + 1``: it is consumed and owed an answer. ``aside``: not in flight."""

    def nack(self) -> None:
        """A nack is due."""

    def ping(self) -> None:
        """A ping is due."""

    def pong(self) -> None:
        """A pong is due."""

    def told(self) -> int:
        """The number of the last frame handed to this connection."""

    def full_at(self) -> float | None:
        """When the consumer counts as slow if it takes nothing until then, or None."""

    @property
    def label(self) -> str: ...
    @property
    def binary(self) -> bool: ...
    @property
    def tally(self) -> Tally: ...
    @property
    def counts(self) -> Counts:
        """The tally's."""
    @property
    def seq(self) -> int: ...
    @property
    def base(self) -> int: ...
    @property
    def broken(self) -> bool: ...
    @property
    def position(self) -> int: ...
    @property
    def blocked(self) -> bool: ...
    @property
    def unacknowledged(self) -> bool:
        """Whether a frame that was sent waits for its acknowledgement."""

    @property
    def inflight(self) -> int:
        """How many accepted events have no answer yet."""

    @property
    def open_ids(self) -> int:
        """How many accepted ids have no answer yet."""

    @property
    def patch_bytes(self) -> int: ...
    @property
    def solid_bytes(self) -> int: ...
    @property
    def unsent_bytes(self) -> int: ...
    @property
    def sent_bytes(self) -> int: ...
    def frames_held(self) -> tuple[int, int]:
        """How many frames are unsent, and how many are sent and kept. Walks both logs."""
