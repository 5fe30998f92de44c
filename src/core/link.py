"""The server's half of one client's numbered conversation. No I/O, no threads, no clock.

A link is fed frames and the time, and asked what to send::

    requests = link.receive(packet, now)      what the client wants of the session
    link.push_patch(...), link.result(...)    what the session has for the client
    packets = link.take(now, room)            what the transport may be handed now
    link.closing                              how the connection must end, once it must
    link.tick(now), link.deadline()           what only time can tell

It lives longer than its connections. Everything is called on the app's loop. What may happen when,
and what is done then, is the table in ``link_table.py``: read that first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ._patch import decode_value
from ._stream import Request, Stream, Tally
from ._text import holds_file
from .budget import Budget
from .hello import (
    SILENT,
    Close,
    Hello,
    LinkError,
    Profile,
    Retry,
    make_close,
    make_welcome,
    read_hello,
)
from .link_table import CUT, EXPIRED, GAPPED, GREETING, NEW, OPEN, TABLE, IllegalEvent
from .packet import Malformed, NotUtf8, Parts, dumps, is_list, loads, object_in
from .requests import READERS, Reader
from .settings import Settings
from .types import MAX_DEPTH, Packet

__all__ = ["Request", "ServerLink"]

FOREVER: Final = float("inf")
NACK_EVERY: Final = 1.0  # seconds between two nacks of one gap
NACKS: Final = 3
REFUSALS: Final = 10  # in a row
RETRY_AFTER: Final = 1.0  # seconds; what a refused client is told
BAD_FRAMES: Final = 3  # within the window: the client need not come back

PLAIN: Final = Profile()
_Look = tuple[tuple[bytes, ...], bool]  # a packet's buffers; may its values be special


class ServerLink(Stream):
    """The server's half of one link. ``push_*``, ``result``, ``error``, ``take`` and ``committed``
    are the stream's; see ``_stream.pyi``.
    """

    __slots__ = (
        "_bad_at",
        "_buffered",
        "_nacked_at",
        "_parts",
        "_pinged_at",
        "_profile",
        "acknowledged",
        "detached_at",
        "id",
        "settings",
        "text_bytes",
    )

    def __init__(
        self,
        link_id: str,
        label: str,
        binary: bool,
        settings: Settings,
        budget: Tally,
        snapshot: Callable[[], tuple[Any, int] | None],
        now: float,
    ) -> None:
        super().__init__(
            label,
            binary,
            snapshot,
            budget,
            log_bytes=settings.log_bytes,
            frame_bytes=settings.max_frame_out,
            window=settings.window,
            dead=settings.dead,
        )
        self.id = link_id
        self.settings = settings
        self.state = NEW
        self.closing = None
        self.detached_at = now
        self.text_bytes = 0  # what the last packet, or the chunks it ended, came to
        self.acknowledged = False  # its client has shown that it takes what it is sent
        self._profile = PLAIN
        self._parts: Parts | None = None
        self._bad_at: tuple[float, ...] = ()
        self.heard_at = self._pinged_at = now
        self._buffered = 0
        self.crowd = settings.inflight
        self.largest = settings.max_frame_in
        self.burst = max(settings.burst, 1)
        self.nack_row = 0
        self._nacked_at = 0.0
        self.refused_row = 0
        if isinstance(budget, Budget):
            budget.links.add(self)

    def __repr__(self) -> str:
        return f"<ServerLink {self.label} {self.state} seq={self.seq} ack={self.ack}>"

    def _fire(self, event: str, *args: Any) -> None:
        try:
            action, state = _ACTIONS[event, self.state]
        except KeyError:
            raise IllegalEvent(event, self.state) from None
        action(self, *args)
        self.state = state

    def _take(self, event: str, *args: Any) -> None:
        """A frame from the client ends as this event."""
        cell = TABLE.get((event, self.state))
        if cell is not None and cell[0] != "accept":  # which counts by itself
            self._count(_ENDS[event if cell[0] == "ignore" else cell[0]])
        self._fire(event, *args)

    def _count(self, name: str) -> None:
        setattr(self.counts, name, getattr(self.counts, name) + 1)

    # -- connections ------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether frames are exchanged: there is a connection that is not being closed."""
        return self.state in (OPEN, GAPPED, GREETING)

    @property
    def detached(self) -> bool:
        """Whether it waits for its client to come back."""
        return self.state in (CUT, EXPIRED)

    @property
    def stalled(self) -> bool:
        """Whether its transport has no room for what there is."""
        return self.blocked and self.connected

    @property
    def flowing(self) -> bool:
        """Whether what there is goes out at the end of this burst."""
        return self.connected and not self.blocked

    def attach(
        self,
        hello: Hello,
        now: float,
        *,
        session: str,
        token: str,
        expires: float,
        profile: Profile = PLAIN,
    ) -> None:
        """A connection said hello and may go on with this link: queue the welcome and the rest.

        An earlier connection is the caller's to close, with ``make_close("replaced")``.
        """
        self._fire("attach", hello, now, session, token, expires, profile)

    def _do_welcome(
        self, hello: Hello, now: float, session: str, token: str, expires: float, profile: Profile
    ) -> None:
        self.revive()
        resumed = self.resume(0 if self.state == NEW else hello.seq)
        if resumed:
            self.counts.resumes += 1
        elif self.state != NEW:
            self.counts.renewals += 1
        welcome = make_welcome(
            self.settings,
            session=session,
            token=token,
            expires=expires,
            link=self.id,
            resumed=resumed,
            seq=self.seq,
            ack=self.ack,
            pending=self.pending(),
            binary=self.binary,
        )
        self.go_live(welcome, batching=profile.batching, part_bytes=profile.part_bytes)
        self.closing = None
        self._profile = profile
        self._parts = None
        self.heard_at = self._pinged_at = now
        self._buffered = self.nack_row = self.refused_row = 0
        self.rate = self.settings.rate if profile.limited else 0.0
        # What it owes it goes on owing: to come back is no way around the rate.

    def detach(self, now: float) -> None:
        """The connection is gone. The link waits ``window`` seconds for the next."""
        self._fire("detach", now)
        if self.state == CUT:
            self.check(now)

    def _do_part(self, now: float) -> None:
        self.hold()
        self.closing = None
        self._parts = None
        self.detached_at = now

    def expire(self, now: float) -> None:
        """The window has passed (``tick`` does this by itself)."""
        self._fire("window", now)

    def _do_lapse(self, now: float) -> None:
        self.lapse()

    # -- the end ----------------------------------------------------------------------------

    def close(
        self,
        code: str,
        message: str = "",
        *,
        after: float | None = None,
        retry: Retry | None = None,
    ) -> None:
        """End the connection, if there is one. ``bye`` ends the link too."""
        if code == "bye":
            self._fire("leave", message)
        else:
            self._fire("close", make_close(code, message, after=after, retry=retry))

    def forget(self) -> None:
        """The session has ended, or another link needs the place."""
        self._fire("leave", "")

    def overflow(self, now: float) -> None:
        """What cannot be merged is too much, and the transport takes nothing."""
        self._fire("full", make_close("slow_consumer", "too much is waiting to be read"))

    def _do_shut(self, close: Close) -> None:
        self.hold()
        self._parts = None
        self.closing = close

    def _do_hang_up(self) -> None:
        self.hold()
        self.closing = Close("silent", "the peer is silent", "resume", None, SILENT, None)

    def _do_leave(self, message: str = "") -> None:
        self.closing = make_close("bye", message)
        self._do_forget(message)

    def _do_forget(self, message: str = "") -> None:
        self.shut()
        self._parts = None
        if isinstance(self.tally, Budget):
            self.tally.links.discard(self)

    def _do_lose(self, close: Close) -> None:
        self.empty()

    def _do_nothing(self, *args: Any) -> None:
        pass

    def _bad(self, now: float, message: str, code: str = "bad_frame") -> None:
        """A frame that costs the connection."""
        if code == "bad_frame":
            self._take("bad", self._bad_frame(now, message))
        else:
            self._take("bad", make_close(code, message))

    def _bad_frame(self, now: float, message: str) -> Close:
        """The close for a bad frame; the third within the window is the last."""
        if self.connected:
            window = self.settings.window or FOREVER
            self._bad_at = (*(at for at in self._bad_at if now - at < window), now)
        last = len(self._bad_at) >= BAD_FRAMES
        return make_close("bad_frame", message, retry="never" if last else None)

    # -- frames come in ---------------------------------------------------------------------

    def receive(self, packet: Packet, now: float) -> list[Request]:
        """Take in one packet. Whatever is wrong with it ends up in ``closing`` or in the stream."""
        data, buffers = packet
        if not buffers:
            request = self.read_event(data, now)
            if request is not None:
                return [request]
        out: list[Request] = []
        self.heard_at = now
        self.counts.received += 1
        limit = self.settings.max_frame_in
        if limit and len(data) + (sum(map(len, buffers)) if buffers else 0) > limit:
            self._bad(now, f"a frame is at most {limit} bytes", "too_large")
        else:
            self._text(data, buffers, now, out)
        return out

    def _text(
        self, data: bytes, buffers: tuple[bytes, ...], now: float, out: list[Request]
    ) -> None:
        self.text_bytes = len(data) + sum(map(len, buffers))
        try:
            frame = loads(data)
        except NotUtf8 as error:
            self._bad(now, str(error), "not_utf8")
            return
        except ValueError:
            self._bad(now, "a frame is JSON")
            return
        # Only text like this can hold bytes, wrapped objects, or values that are nested too deeply.
        special = (
            b"$" in data or b"\\u0024" in data or data.count(b"{") + data.count(b"[") > MAX_DEPTH
        )
        self._frame(frame, (buffers, special), now, out)

    def _frame(self, frame: dict[str, Any], look: _Look, now: float, out: list[Request]) -> None:
        if type(frame) is not dict:
            return self._bad(now, "a frame is a JSON object")
        kind = frame.get("type")
        if type(kind) is not str or not kind:
            return self._bad(now, "a frame has a type")
        label = frame.get("label")
        if label is not None and label != self.label:
            return self._bad(now, "the frame carries the label of another link")
        over = False
        if self.rate and kind != "gr:batch" and self.connected:
            over = self._over_rate(now)
        number = frame.get("id")
        if number is None:
            if "id" in frame:
                return self._bad(now, "an id is a positive integer")
            aside = _ASIDES.get(kind)
            if aside is not None:
                return aside(self, frame.get("data"), look, now, out)
            event = "bare"
        elif type(number) is not int or number < 1:
            return self._bad(now, "an id is a positive integer")
        elif kind in _ASIDES:
            return self._bad(now, f"{kind} has no id")
        else:
            event = "next" if number == self.ack + 1 else self._place(number, now)
        return self._take(event, now, number, kind, frame, look, over, out)

    def _place(self, number: int, now: float) -> str:
        """The event that an id other than the next one is."""
        if number <= self.ack:
            return "known"
        if self.state != GAPPED:
            return "ahead"
        if now - self._nacked_at < NACK_EVERY:
            return "early"
        return "ahead" if self.nack_row < NACKS else "stuck"

    def _over_rate(self, now: float) -> bool:
        """Pay for one frame. True: there is nothing to pay with; the tenth in a row closes."""
        debt = max(0.0, self.debt - (now - self.debt_at) * self.rate)
        self.debt_at = now
        if debt + 1 <= self.burst:
            self.debt = debt + 1
            self.refused_row = 0
            return False
        self.debt = debt
        self.counts.over_rate += 1
        self.refused_row += 1
        if self.refused_row >= REFUSALS:
            self._fire("bad", make_close("rate_limited", "too many frames", after=RETRY_AFTER))
        return True

    # -- frames with an id, and requests without one

    def _do_accept(self, now: float, number: int, kind: str, *rest: Any) -> None:
        self.accept(number, kind.startswith("gr:"))
        self.nack_row = 0
        self._do_run(now, number, kind, *rest)

    def _do_run(
        self,
        now: float,
        number: int | None,
        kind: str,
        frame: dict[str, Any],
        look: _Look,
        over: bool,
        out: list[Request],
    ) -> None:
        if over:
            self.error(number, "rate_limited", "too many frames", RETRY_AFTER)
            return
        read: Reader | None = None
        if kind.startswith("gr:"):
            read = READERS.get(kind)
            if read is None:
                self.error(number, "not_found", f"no frame {kind} is known here")
                return
            if number is None:
                self.error(None, "bad_frame", f"{kind} needs an id")
                return
        elif number is not None and 0 < self.crowd < self.inflight:
            self.error(number, "busy", "too many unanswered frames", RETRY_AFTER)
            return
        data, context = frame.get("data"), frame.get("context")
        buffers, special = look
        try:
            if context is not None and type(context) is not dict:
                raise Malformed("context is an object")
            if special:
                held = buffers if self.binary else ()
                data, context = decode_value(data, held), decode_value(context, held)
            named = special and (holds_file(data) or holds_file(context))
            if read is None:
                name = "named" if named else "event"
            elif named:
                raise Malformed("only events carry files")
            else:
                name, data = read(data)
        except ValueError as error:
            self.error(number, "bad_payload", str(error))
            return
        out.append(Request(name, number, kind, data, context))

    def _do_ignore(self, *args: Any) -> None:
        pass

    def _do_nack(self, now: float, *args: Any) -> None:
        self.nack()
        self.counts.nacks += 1
        self.nack_row += 1
        self._nacked_at = now

    def _do_give_up(self, now: float, *args: Any) -> None:
        self._do_shut(self._bad_frame(now, f"no progress after {NACKS} nacks"))

    def _do_refuse(self, now: float, *args: Any) -> None:
        self._do_shut(self._bad_frame(now, "nothing may come between a hello and its welcome"))

    # -- frames about the conversation

    def _on_ack(self, data: Any, look: _Look, now: float, out: list[Request]) -> None:
        seq = (object_in(data) or {}).get("seq")
        if type(seq) is not int or seq < 0:
            self._bad(now, "gr:ack names the last frame applied as seq")
        elif seq > self.seq and self.state in (OPEN, GAPPED):
            self._bad(now, "gr:ack names a frame that was never sent")
        else:
            self._take("ack", now, seq)

    def _do_acknowledge(self, now: float, seq: int) -> None:
        self.acknowledge(seq)
        self.acknowledged = self.acknowledged or seq > 0

    def _on_ping(self, data: Any, look: _Look, now: float, out: list[Request]) -> None:
        number = self._last_id(data, now)
        if number >= 0:
            self._take("ping", now)
            self._look_for_gap(number, now)

    def _on_pong(self, data: Any, look: _Look, now: float, out: list[Request]) -> None:
        number = self._last_id(data, now)
        if number >= 0:
            self._count("pings" if self.connected else "discarded")
            self._look_for_gap(number, now)

    def _last_id(self, data: Any, now: float) -> int:
        """What a ping or pong says; -1: nothing that makes sense, and the connection ends."""
        number = (object_in(data) or {}).get("id", 0)
        if type(number) is int and number >= 0:
            return number
        self._bad(now, "id is the last id sent, or 0")
        return -1

    def _look_for_gap(self, number: int, now: float) -> None:
        if number > self.ack and self.connected:
            event = self._place(number, now)
            self._fire(event, now)

    def _do_pong(self, now: float) -> None:
        self.pong()

    def _on_hello(self, data: Any, look: _Look, now: float, out: list[Request]) -> None:
        try:
            hello = read_hello({"data": data})
        except LinkError as error:
            if error.code == "bad_frame":
                self._bad(now, error.message)
            else:
                self._take("bad", error.close)
        else:
            self._take("hello", now, hello, out)

    def _do_greet(self, now: float, hello: Hello, out: list[Request]) -> None:
        self.hold()
        out.append(Request("hello", None, "gr:hello", hello))

    def _on_bye(self, data: Any, look: _Look, now: float, out: list[Request]) -> None:
        self._take("bye", now, out)

    def _do_depart(self, now: float, out: list[Request]) -> None:
        self._do_leave("")
        out.append(Request("bye", None, "gr:bye"))

    def _on_batch(self, data: Any, look: _Look, now: float, out: list[Request]) -> None:
        if not is_list(data):
            return self._bad(now, "gr:batch holds a list of frames")
        self._count("batches")
        for at, frame in enumerate(data):
            if not self.connected:  # what follows the end is thrown away, however much it is
                left = len(data) - at
                self.counts.received += left
                self.counts.discarded += left
                break
            self.counts.received += 1
            kind = (object_in(frame) or {}).get("type")
            if isinstance(kind, str) and kind in _NEVER_IN_A_BATCH:
                self._bad(now, f"{kind} is never in a batch")
            else:
                self._frame(frame, look, now, out)
        return None

    def _on_chunk(self, data: Any, look: _Look, now: float, out: list[Request]) -> None:
        if self.state not in (OPEN, GAPPED):
            return self._take("bare", now)
        if self._parts is None:
            self._parts = Parts(self.settings.max_frame_in)
        try:
            whole = self._parts.add(data)
        except Malformed as error:
            return self._bad(now, str(error))
        except OverflowError as error:
            return self._bad(now, str(error), "too_large")
        self._count("parts")
        if whole is not None:
            self.counts.received += 1
            self._text(whole, look[0], now, out)
        return None

    # -- time -------------------------------------------------------------------------------

    def tick(self, now: float, buffered: int = 0) -> str | None:
        """Do what is due. ``buffered`` is the transport's. Returns "expired", "closing" or None.

        Afterwards there may be something to ``take``.
        """
        if self.state == CUT:
            if now >= self.detached_at + (self.settings.window or FOREVER):
                self._fire("window", now)
                return "expired"
            self.check(now)
        elif self.connected:
            if buffered < self._buffered:  # it is slow, but alive
                self.heard_at = now
            self._buffered = buffered
            if now >= self._dead_at():
                self._fire("dead")
            else:
                if now >= self._beat_at():
                    self._fire("beat", now)
                self.check(now)
            if self.closing is not None:
                return "closing"
        return None

    def deadline(self) -> float | None:
        """When ``tick`` should be called at the latest, or None: never."""
        full = self.full_at()
        due = FOREVER if full is None else full
        if self.state == CUT:
            due = min(due, self.detached_at + (self.settings.window or FOREVER))
        elif self.connected:
            due = min(due, self._beat_at(), self._dead_at())
        else:
            return None
        return None if due == FOREVER else due

    def _beat_at(self) -> float:
        """A ping is due when the peer is silent, or owes an acknowledgement, for ``ping``."""
        if not self.settings.ping:
            return FOREVER
        quiet = self._pinged_at if self.unacknowledged else max(self._pinged_at, self.heard_at)
        return quiet + self.settings.ping

    def _dead_at(self) -> float:
        settings = self.settings
        if not (self._profile.mortal and settings.ping and settings.dead):
            return FOREVER
        return self.heard_at + settings.ping + settings.dead

    def _do_ping(self, now: float) -> None:
        self.ping()
        self._pinged_at = now

    # -- small things -----------------------------------------------------------------------

    def refreshed(self, number: int, token: str, expires: float) -> bool:
        """Answer a ``gr:refresh``."""
        return self.result(number, b"%b" % dumps({"token": token, "expires": expires}))


_NEVER_IN_A_BATCH: Final = frozenset(("gr:batch", "gr:hello", "gr:welcome", "gr:close"))

# How a frame is counted, by the action it leads to; of ignored ones, by the event.
_ENDS: Final[dict[str, str]] = {
    "run": "bare",
    "known": "repeated",
    "early": "gapped",
    "nack": "gapped",
    "give_up": "gapped",
    "acknowledge": "acks",
    "pong": "pings",
    "greet": "hellos",
    "depart": "byes",
    "shut": "bad",
    "refuse": "bad",
    "nothing": "discarded",
}

# Frames about the conversation. They have no id of their own.
_ASIDES: Final[dict[str, Callable[..., None]]] = {
    f"gr:{name}": getattr(ServerLink, f"_on_{name}")
    for name in ("ack", "ping", "pong", "hello", "bye", "batch", "chunk")
}

_ACTIONS: Final[dict[tuple[str, str], tuple[Callable[..., None], str]]] = {
    cell: (getattr(ServerLink, f"_do_{action}"), state) for cell, (action, state) in TABLE.items()
}
