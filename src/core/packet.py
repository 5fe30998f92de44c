"""Frames as bytes: JSON in and out, batches, parts, binary messages.

Nothing here knows a link. What a transport moves is a :class:`~greenroom.core.types.Packet`: one
frame's JSON and the buffers it refers to. Everything here may be called from any thread.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeGuard, cast

from .types import Packet

__all__ = [
    "Malformed",
    "NotUtf8",
    "Parts",
    "decode_binary",
    "dumps",
    "encode_binary",
    "in_batches",
    "in_parts",
    "is_list",
    "loads",
    "object_in",
    "spelled_out",
]

# -- the seam: JSON text in UTF-8 ---------------------------------------------------------------

dumps: Callable[[Any], bytes]
_loads: Callable[[bytes], Any]

try:
    import orjson

    dumps, _loads = orjson.dumps, orjson.loads
except ImportError:  # no wheel for this interpreter: the same answers, slower

    def _no_constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    _decoder = json.JSONDecoder(parse_constant=_no_constant)

    def _dumps(value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    def _loads_slowly(data: bytes) -> Any:
        try:
            return _decoder.decode(data.decode())
        except RecursionError:
            raise ValueError("nested too deeply") from None

    dumps, _loads = _dumps, _loads_slowly


def spelled_out(text: str) -> str:
    r"""``text``, with its lone surrogates as ``\udc80``: UTF-8 has no bytes for them.

    They come out of names of files that are no UTF-8, and so into messages and logs.
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


class NotUtf8(ValueError):
    """The frame is not UTF-8."""


class Malformed(ValueError):
    """A value or a message does not have the form it must have. The text says what is wrong."""


def loads(data: bytes) -> Any:
    """Decode JSON. Raises :class:`NotUtf8` or another ``ValueError``."""
    try:
        return _loads(data)
    except ValueError:
        try:
            data.decode()
        except UnicodeDecodeError:
            raise NotUtf8("the frame is not UTF-8") from None
        raise


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether ``value`` is a JSON array."""
    return isinstance(value, list)


def object_in(value: Any) -> dict[str, Any] | None:
    """``value`` if it is a JSON object, else None."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


# -- batches and parts --------------------------------------------------------------------------

_BATCH_HEAD: Final = b'{"type":"gr:batch","data":['
_BATCH_END: Final = b"]}"
_WELCOME: Final = b'{"type":"gr:welcome"'


def in_batches(packets: Sequence[Packet], limit: int = 0) -> list[Packet]:
    """Join neighbouring packets into ``gr:batch`` frames of at most ``limit`` bytes (0: any).

    A welcome and packets with buffers stay alone.
    """
    out: list[Packet] = []
    run: list[bytes] = []
    size = 0

    def flush() -> None:
        if len(run) > 1:
            out.append(Packet(_BATCH_HEAD + b",".join(run) + _BATCH_END))
        elif run:
            out.append(Packet(run[0]))
        run.clear()

    for packet in packets:
        data = packet.data
        if packet.buffers or data.startswith(_WELCOME):
            flush()
            out.append(packet)
            continue
        if run and limit and size + len(data) + 1 > limit:
            flush()
        if not run:
            size = len(_BATCH_HEAD) + len(_BATCH_END)
        run.append(data)
        size += len(data) + 1
    flush()
    return out


def in_parts(data: bytes, buffers: tuple[bytes, ...], number: int, limit: int) -> list[Packet]:
    """Cut one frame into ``gr:chunk`` frames of at most ``limit`` bytes.

    ``number`` is the ``of`` they share. The buffers travel with the last part.
    """
    step = max(8, (limit - 128) // 2)  # a character may need an escape: at most twice its bytes
    pieces: list[bytes] = []
    start = 0
    while start < len(data):
        end = min(start + step, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1  # not inside a character
        pieces.append(data[start:end])
        start = end
    last = len(pieces) - 1
    return [
        Packet(
            b'{"type":"gr:chunk","data":{"of":%d,"i":%d,"last":%b,"part":%b}}'
            % (number, i, b"true" if i == last else b"false", dumps(piece.decode())),
            buffers if i == last else (),
        )
        for i, piece in enumerate(pieces)
    ]


class Parts:
    """Puts incoming ``gr:chunk`` frames together. One frame in parts at a time.

    It holds the text so far and nothing for each part: their number costs nothing.
    """

    __slots__ = ("_count", "_limit", "_number", "_text")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._text = bytearray()
        self._number = 0
        self._count = 0

    def add(self, data: Any) -> bytes | None:
        """Add one part; the whole frame when it was the last.

        Raises :class:`Malformed` (the part is none, or not the next one) or ``OverflowError`` (the
        frame is above the limit).
        """
        fields = object_in(data)
        if fields is None:
            raise Malformed("gr:chunk needs an object")
        of, i, last, part = (fields.get(key) for key in ("of", "i", "last", "part"))
        if type(of) is not int or type(i) is not int or type(last) is not bool:
            raise Malformed('gr:chunk needs the integers "of" and "i" and the boolean "last"')
        if not isinstance(part, str):
            raise Malformed('gr:chunk needs the string "part"')
        if i != self._count or (i and of != self._number):
            raise Malformed("a part is missing, or two frames in parts are mixed")
        self._number = of
        self._count += 1
        self._text += part.encode()
        if self._limit and len(self._text) > self._limit:
            raise OverflowError("the frame in parts is above max_frame_in")
        if not last:
            return None
        whole = bytes(self._text)
        self._text = bytearray()
        self._count = 0
        return whole


# -- binary messages ----------------------------------------------------------------------------

_LENGTH: Final = struct.Struct(">I")


def encode_binary(packet: Packet) -> bytes:
    """One binary message: the JSON, then each buffer, each after its length in four bytes."""
    pieces: list[bytes] = []
    for piece in (packet.data, *packet.buffers):
        pieces += (_LENGTH.pack(len(piece)), piece)
    return b"".join(pieces)


def decode_binary(message: bytes) -> Packet:
    """The reverse of :func:`encode_binary`. Raises :class:`Malformed`."""
    pieces: list[bytes] = []
    at, end = 0, len(message)
    while at < end:
        if at + 4 > end:
            raise Malformed("a binary message ends within a length")
        (size,) = _LENGTH.unpack_from(message, at)
        at += 4
        if at + size > end:
            raise Malformed("a binary message is shorter than its lengths say")
        pieces.append(message[at : at + size])
        at += size
    if not pieces:
        raise Malformed("an empty binary message")
    return Packet(pieces[0], tuple(pieces[1:]))
