"""One WebSocket on a transport of the loop: frames in, messages out, and the reverse.

picows cuts the bytes into frames and takes off the mask; nothing else of it is used. Its protocol
is set on the real transport and reads from there; what it wants to write itself (a response, a
close when it cannot go on) goes into a :class:`_Sink`, so that every byte that leaves is ours.

A :class:`Wire` knows nothing of packets and links. Whoever builds on it provides

``message(opcode, payload)``
    A whole message, TEXT (which is UTF-8) or BINARY.
``broken(code, reason)``
    A rule was broken. Say what is to be said, then :meth:`Wire.refuse`, which is the default.
``drained()``, ``ended()``
    There is room again after ``buffered`` was ROOM or more; no message comes any more and none
    leaves, once.

and calls :meth:`Wire.write` with encoded frames, and :meth:`Wire.close`.

Owner: the loop. No verb blocks or raises. How it ends, whoever begins:

- We close: our close leaves, then what arrives is passed over until the peer's close comes.
- The peer closes: its code goes back.
- The peer broke a rule: our close leaves, and what arrives is not even looked at.
- After each of these our half of the connection ends, and what arrives is thrown away until the
  peer ends its half, or for CLOSE_GRACE: a reset would eat the close.
- Nothing moves for CLOSE_GRACE while closing, or for ``stall`` seconds while the peer reads
  nothing: the socket is aborted.

Cut in the middle: the transport's ``connection_lost`` is the one end of all ways, and the abort
sees to it that it comes.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any, Final

import picows.picows
from picows import WSAutoPingStrategy, WSFrame, WSListener, WSMsgType, WSTransport
from picows.version import __version__ as found

from .base import CLOSE_GRACE, ROOM, legal_close
from .frames import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Broken,
    Message,
    check_close,
    close_payload,
    encode_frame,
)

__all__ = ["PICOWS", "Wire"]

PICOWS: Final = "2.3.1"  # we build its protocol ourselves, which is no public API
if found != PICOWS:
    raise ImportError(
        f"greenroom.adapters.websocket is made for picows {PICOWS}, and this is "
        f"{found}: pip install picows=={PICOWS}"
    )

WSProtocol: Any = getattr(picows.picows, "WSProtocol")  # noqa: B009  # in no stub

READ_ROOM: Final = 2048  # bytes a parser begins with; it grows with what arrives
LARGE: Final = 16 * 1024  # bytes; after more at a time the parser is replaced by a small one

logger = logging.getLogger("greenroom.websocket")

#: What picows is given in place of the handshake that we have answered ourselves.
KNOCK: Final = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
WS_TEXT: Final = WSMsgType.TEXT


class Wire(WSListener):
    """The base of what stands at the server's end of a WebSocket."""

    __slots__ = (
        "_closing",
        "_full",
        "_grown",
        "_held",
        "_limit",
        "_loop",
        "_out",
        "_partial",
        "_parts",
        "_pong",
        "_put",
        "_seen",
        "_size",
        "_stall",
        "_timer",
        "_told",
        "_transport",
        "over",
    )

    def __init__(self, limit: int, stall: float) -> None:
        """``limit``: bytes of a message, 0 for none. ``stall``: seconds."""
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._stall = stall
        self._parts: Message | None = None  # made with the first message in parts
        self._partial = False  # a message has begun and not ended
        self._pong: bytes | None = None  # owed to a peer that reads too little
        self._transport: Any = None  # an asyncio.Transport, from open() to the end
        self._out: list[bytes] = []  # leaves at the end of this turn of the loop
        self._put: Callable[[bytes], object] = self._out.append  # takes what is to leave
        self._size: Callable[[], int] = int  # bytes that have not left
        self._held = 0  # bytes in it
        self._full = False  # somebody waits for room
        self._told = False  # ended() was called
        self._closing = False  # our close is out, or nothing can be any more
        self._grown = False  # a large frame has come
        self._seen = 0  # bytes that were buffered when we last looked
        self._timer: asyncio.TimerHandle | None = None
        self.over: asyncio.Future[None] = self._loop.create_future()  #: done at the end

    def open(self, transport: Any, answer: bytes, rest: bytes) -> None:
        """Send the ``answer`` to the handshake, and read frames; ``rest`` came with it."""
        self._transport = transport
        transport.set_write_buffer_limits(ROOM - 1, ROOM // 2)
        transport.write(answer + b"".join(self._out))
        self._out.clear()
        if type(transport).__module__.startswith("uvloop") and not (
            transport.get_extra_info("sslcontext")
        ):  # it makes one write of all in a turn of the loop by itself
            self._put, self._size = transport.write, transport.get_write_buffer_size
        else:
            self._put, self._size = self._hold, self._held_size
        if self._closing:
            self._leave()
            return
        self._parse()
        while rest and self._transport is not None:
            rest = _feed(transport.get_protocol(), rest)

    # -- for whoever builds on it -------------------------------------------------------------

    def message(self, opcode: int, payload: bytes) -> None:
        raise AssertionError("whoever builds on a Wire takes its messages")

    def broken(self, code: int, reason: str) -> None:
        self.refuse(code, reason)

    def drained(self) -> None: ...

    def ended(self) -> None: ...

    # -- out ----------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        """Bytes that were written and have not left this process."""
        return self._size()

    def write(self, data: bytes) -> None:
        """Send encoded frames. All that is written in one turn of the loop leaves in one write."""
        if not self._closing:
            self._put(data)
            if self._size() >= ROOM and not self._full:
                self._full = True
                self._loop.call_soon(self._look_for_room)

    def _hold(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._held += len(data)

    def _held_size(self) -> int:
        size: int = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return size + self._held

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()
            self._held = 0

    def close(self, code: int, reason: str) -> None:
        """Close after what was written; the peer has CLOSE_GRACE to take it."""
        if not self._closing:
            self.write(encode_frame(CLOSE, close_payload(*legal_close(code, reason))))
            self._closing = True
            self._watch(CLOSE_GRACE)

    def refuse(self, code: int, reason: str) -> None:
        """Close on a peer that broke a rule: nothing it says from here on is read."""
        self.close(code, reason)
        self._leave()

    def shutdown(self) -> None:
        """The server goes and nobody has said so before. uvicorn calls this."""
        self.close(1001, "draining")

    # -- in -----------------------------------------------------------------------------------

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if (
            frame.msg_type is WS_TEXT
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3 or self._partial or self._closing)
        ):
            payload = frame.get_payload_as_bytes()
            if payload.isascii():
                self.message(TEXT, payload)
            else:
                self._data(TEXT, True, payload)
        else:
            self._frame(frame)
        if frame.payload_size > LARGE or frame.tail_size > LARGE:
            self._grown = True
        if self._grown and frame.last_in_buffer and not frame.tail_size:
            self._grown = False
            self._parse()

    def _frame(self, frame: WSFrame) -> None:
        """Any frame but the commonest."""
        opcode: int = frame.msg_type.value
        if self._closing:
            if opcode == CLOSE:
                self._leave(answered=True)
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.broken(1002, "a reserved bit is set")
        elif opcode == PING:
            self._pong = frame.get_payload_as_bytes()
            self._answer_ping()
        elif opcode == CLOSE:
            self._answer_close(frame.get_payload_as_bytes())
        elif opcode != PONG:
            self._data(opcode, bool(frame.fin), frame.get_payload_as_bytes())

    def _data(self, opcode: int, fin: bool, payload: bytes) -> None:
        if self._parts is None:
            self._parts = Message(self._limit)
        try:
            whole = self._parts.add(opcode, fin=fin, payload=payload)
        except Broken as error:
            self.broken(error.code, error.reason)
            return
        self._partial = not fin
        if whole is not None:
            self.message(*whole)

    def _answer_ping(self) -> None:
        """With a pong, of the last ping only where the peer reads too little."""
        if self._pong is not None and not self._full:
            self.write(encode_frame(PONG, self._pong))
            self._pong = None

    def _answer_close(self, payload: bytes) -> None:
        try:
            answer = check_close(payload)
        except Broken as error:
            self.broken(error.code, error.reason)
            return
        self.write(encode_frame(CLOSE, answer))
        self._closing = True
        self._leave(answered=True)

    # -- the parser ---------------------------------------------------------------------------

    def _parse(self) -> None:
        """Read on with a new parser. Between two frames only."""
        if self._transport is None or self._closing:
            return
        parser = WSProtocol(
            None, None, False,  # host and path are a client's; we are none
            self._itself,
            QUIET,
            True, None,  # an exception closes, with 1011; the handshake is over
            False, 1, 1, WSAutoPingStrategy.PING_WHEN_IDLE, False,  # no pings and pongs of its own
            self._limit or sys.maxsize,
            None,
            READ_ROOM,
        )  # fmt: skip
        parser.connection_made(_Sink(self._parser_said))
        _feed(parser, KNOCK)
        self._transport.set_protocol(parser)

    def _itself(self, _request: object) -> Wire:
        return self

    def _parser_said(self, data: bytes) -> None:
        """The parser writes: the answer to the knock, or a close because it cannot go on.

        It would go on all the same with the next bytes, so it gets none. The frame before the one
        that it complains of has not been handed to us yet, and is waited for.
        """
        if data[0] == 0x80 | CLOSE and self._transport is not None:
            self._transport.set_protocol(_Deaf(self))
            code = int.from_bytes(data[2:4], "big")
            self._loop.call_soon(self._parser_broke, code, data[4:].decode())

    def _parser_broke(self, code: int, reason: str) -> None:
        if self._closing:
            self._leave()
        else:
            self.broken(code, reason)

    # -- the end ------------------------------------------------------------------------------

    def _leave(self, *, answered: bool = False) -> None:
        """Our close is out, and the peer has nothing to say any more: what arrives is thrown away.

        ``answered``: it has closed too.
        """
        transport = self._transport
        if transport is None:
            return
        self._flush()
        self._end()
        if transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        elif answered:  # TLS ends with a message of its own, and that both ways
            transport.close()
            self._watch(CLOSE_GRACE)
            return
        transport.set_protocol(_Deaf(self))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(CLOSE_GRACE, self._enough)

    def _enough(self) -> None:
        """What was written has had its time to leave."""
        self._timer = None
        if self._transport is not None:
            if self.buffered:
                self._watch(CLOSE_GRACE)
            self._transport.close()

    def on_ws_disconnected(self, transport: WSTransport | None) -> None:
        """The transport has ended."""
        if self._transport is None:
            return
        self._closing = True
        self._transport = None
        self._put, self._size = bool, int  # nothing, of nothing
        self._out.clear()
        self._held = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.over.set_result(None)
        self._end()

    def _end(self) -> None:
        if not self._told:
            self._told = True
            self.ended()

    # -- back-pressure and time ---------------------------------------------------------------

    def pause_writing(self) -> None:
        self._full = True
        if not self._closing or self._timer is None:  # the patience with a close goes before
            self._watch(self._stall)  # anew: what fills the buffer now may be more than before

    def resume_writing(self) -> None:
        self._look_for_room()

    def _look_for_room(self) -> None:
        if self._full and self.buffered < ROOM:
            self._full = False
            if not self._closing:
                self._answer_ping()
                self.drained()

    def _watch(self, seconds: float) -> None:
        """Look in a while whether anything has moved."""
        if self._timer is not None:
            self._timer.cancel()
        self._seen = self.buffered
        self._timer = self._loop.call_later(seconds, self._look, seconds)

    def _look(self, seconds: float) -> None:
        self._timer = None
        if self._transport is None or not (self._full or self._closing):
            return
        if self.buffered < self._seen:
            self._watch(seconds)
        else:
            self._closing = True
            self._transport.abort()


class _Deaf(asyncio.Protocol):
    """Reads in place of a parser, and throws away."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def pause_writing(self) -> None:
        self._wire.pause_writing()

    def resume_writing(self) -> None:
        self._wire.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.on_ws_disconnected(None)


class _Sink:
    """What a parser takes for its transport and for its socket."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write

    def get_extra_info(self, name: str) -> Any:
        return self if name == "socket" else None

    def get_write_buffer_size(self) -> int:
        return 1  # or it would write to the socket itself

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *_: object) -> None: ...

    def getsockopt(self, *_: object) -> int:
        return 0

    def close(self) -> None: ...


class _Quiet:
    """A parser's logger: what it complains of is ours to tell, apart from mistakes of ours."""

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802
        return False

    def debug(self, *_: object, **__: object) -> None: ...

    def exception(self, text: str, *_: object) -> None:
        logger.exception(text)

    log = info = warning = error = debug


QUIET: Final = _Quiet()


def _feed(reader: Any, data: bytes) -> bytes:
    """Give a parser, or what has taken its place, something that was read already; the rest."""
    if isinstance(reader, _Deaf):
        return b""
    room = reader.get_buffer(-1)
    count = min(len(room), len(data))
    room[:count] = data[:count]
    reader.buffer_updated(count)
    return data[count:]
