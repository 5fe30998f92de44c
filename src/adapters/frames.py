"""The rules of RFC 6455 above single frames: messages, their limits, and how to close. No I/O.

Frames come in as a parser has cut them: opcode, the three reserved bits, whether it is the last of
its message, and the payload without its mask. What a rule forbids raises :class:`Broken`, which
says with what code to close. The rules:

- No reserved bit is set: no extension is agreed on.
- A message is one frame, or a first frame and continuations; control frames may come between, and
  nothing else. What is kept of a message in parts is its bytes, however many parts they come in.
- A message is at most ``limit`` bytes over all its parts.
- Text is UTF-8. A message in parts is refused with the first part that cannot become UTF-8.
- A close has no payload, or a code that may be on the wire and a reason in UTF-8.
"""

from __future__ import annotations

import codecs
import struct
from typing import Final

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Broken",
    "Message",
    "check_close",
    "close_payload",
    "encode_frame",
    "encode_head",
    "legal_code",
]

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

PROTOCOL_ERROR: Final = 1002
NOT_UTF8: Final = 1007
TOO_BIG: Final = 1009

Utf8 = codecs.getincrementaldecoder("utf-8")


class Broken(Exception):
    """The peer broke a rule. Close with ``code`` and ``reason``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


# -- coming in ----------------------------------------------------------------------------------


class Message:
    """Puts the messages of one connection together. One is in parts at a time."""

    __slots__ = ("_decoder", "_limit", "_opcode", "_parts")

    def __init__(self, limit: int) -> None:
        self._limit = limit  # bytes; 0: none
        self._opcode: int | None = None  # of the message in parts
        self._parts = bytearray()
        self._decoder: codecs.IncrementalDecoder | None = None  # of a text in parts

    def add(self, opcode: int, *, fin: bool, payload: bytes) -> tuple[int, bytes] | None:
        """Take a data frame: the opcode and bytes of the message it ends, or None. Raises Broken.

        The bytes of a text are UTF-8.
        """
        if opcode == CONTINUATION:
            if self._opcode is None:
                raise Broken(PROTOCOL_ERROR, "a continuation of nothing")
        elif self._opcode is not None:
            raise Broken(PROTOCOL_ERROR, "a message inside another")
        elif fin:
            self._fit(len(payload))
            if opcode == TEXT and not payload.isascii():
                check_utf8(payload)
            return opcode, payload
        else:
            self._opcode = opcode
            self._decoder = Utf8() if opcode == TEXT else None
        self._fit(len(self._parts) + len(payload))
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, final=fin)
            except UnicodeDecodeError:
                raise Broken(NOT_UTF8, "a text is not UTF-8") from None
        self._parts += payload
        if not fin:
            return None
        whole, kind = bytes(self._parts), self._opcode
        assert kind is not None
        self._parts = bytearray()
        self._opcode = self._decoder = None
        return kind, whole

    def _fit(self, size: int) -> None:
        if self._limit and size > self._limit:
            raise Broken(TOO_BIG, f"a message is larger than {self._limit} bytes")


def check_utf8(payload: bytes) -> None:
    """Raise Broken unless the payload is UTF-8."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise Broken(NOT_UTF8, "a text is not UTF-8") from None


def legal_code(code: int) -> bool:
    """Whether a close code may be on the wire: 1005, 1006 and 1015 only tell what was seen."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def check_close(payload: bytes) -> bytes:
    """The payload of the answer to a close: its code, if it has one. Raises Broken."""
    if not payload:
        return b""
    if len(payload) == 1:
        raise Broken(PROTOCOL_ERROR, "half a close code")
    code = int.from_bytes(payload[:2], "big")
    if not legal_code(code):
        raise Broken(PROTOCOL_ERROR, f"{code} is no close code")
    check_utf8(payload[2:])
    return payload[:2]


# -- going out ----------------------------------------------------------------------------------


def _short_heads(opcode: int) -> tuple[bytes, ...]:
    return tuple(bytes((0x80 | opcode, size)) for size in range(126))


_SHORT: Final = {opcode: _short_heads(opcode) for opcode in (TEXT, BINARY, CLOSE, PING, PONG)}
_MIDDLE: Final = struct.Struct(">BBH")
_LONG: Final = struct.Struct(">BBQ")


def encode_head(opcode: int, size: int) -> bytes:
    """What comes before the payload of an unmasked frame that is a whole message."""
    if size < 126:
        return _SHORT[opcode][size]
    if size < 65_536:
        return _MIDDLE.pack(0x80 | opcode, 126, size)
    return _LONG.pack(0x80 | opcode, 127, size)


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """A frame, unmasked, that is a whole message."""
    return encode_head(opcode, len(payload)) + payload


def close_payload(code: int, reason: str) -> bytes:
    """The payload of a close. ``base.legal_close`` makes the pair fit."""
    return code.to_bytes(2, "big") + reason.encode()
