"""Frames and values as they travel, the client's side of it. ``codec.js`` is the twin.

The forms themselves (``$bytes``, ``$dict``, the layout of a binary message) are those of
``core/encode.py`` and ``core/packet.py``; this is where a client meets them.
"""

from __future__ import annotations

from typing import Any, TypeGuard

from ..core.encode import decode, encode_value, render
from ..core.packet import decode_binary, encode_binary, is_list, loads
from ..core.types import Packet

__all__ = [
    "Garbage",
    "decoded",
    "encode",
    "is_frame",
    "is_list",
    "is_object",
    "pack",
    "parse",
    "unpack",
    "without_token",
]


class Garbage(Exception):
    """What came is no frame."""


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether ``value`` is a JSON object."""
    return isinstance(value, dict)


def encode(value: Any, buffers: list[bytes] | None = None) -> bytes:
    """JSON text of ``value``. With ``buffers`` bytes are appended there, else they are base64.

    Raises :class:`~greenroom.core.errors.Unencodable`, or ValueError beyond 100 levels.
    """
    return render(encode_value(value), buffers is not None, [] if buffers is None else buffers)


def parse(packet: Packet) -> dict[str, Any]:
    """The frame of a packet, its values as they travelled. Raises :class:`Garbage`."""
    try:
        frame = loads(packet.data)
    except ValueError as error:
        raise Garbage(str(error)) from None
    if not is_frame(frame):
        raise Garbage("a frame is a JSON object that has a type")
    return frame


def is_frame(value: object) -> TypeGuard[dict[str, Any]]:
    return is_object(value) and isinstance(value.get("type"), str)


def decoded(frame: dict[str, Any], buffers: tuple[bytes, ...]) -> dict[str, Any]:
    """The frame with its values decoded. Raises :class:`Garbage` for values that nobody takes."""
    data = frame.get("data")
    try:
        if frame["type"] == "gr:state" and is_object(data):
            data = {kind: _each(part, buffers) for kind, part in data.items()}
        elif frame["type"] == "gr:signal" and is_object(data):
            data = data | {"data": decode(data.get("data"), buffers)}
        else:
            data = decode(data, buffers)
    except ValueError as error:
        raise Garbage(str(error)) from None
    return {**frame, "data": data}


def _each(part: Any, buffers: tuple[bytes, ...]) -> Any:
    """Paths are no keys of the application: what they lead to is decoded, one by one."""
    if is_object(part):
        return {path: decode(value, buffers) for path, value in part.items()}
    return part


def without_token(frame: dict[str, Any]) -> dict[str, Any]:
    """A copy for eyes: tokens and the addresses of files are capabilities, and never shown."""
    data = frame.get("data")
    if frame["type"] == "gr:batch" and is_list(data):
        return {**frame, "data": [without_token(each) if is_frame(each) else each for each in data]}
    if frame["type"] not in ("gr:hello", "gr:welcome", "gr:result") or not is_object(data):
        return frame
    if isinstance(data.get("token"), str):
        return {**frame, "data": {**data, "token": "…"}}
    url = data.get("url")
    if isinstance(url, str) and url.startswith("file/"):
        return {**frame, "data": {**data, "url": "file/…"}}
    return frame


def pack(packet: Packet) -> str | bytes:
    """A packet as a WebSocket message: text, or binary when it has buffers."""
    return encode_binary(packet) if packet.buffers else packet.data.decode()


def unpack(message: str | bytes) -> Packet:
    """The packet of a WebSocket message; one that is none has no data, and no frame either."""
    if isinstance(message, str):
        return Packet(message.encode())
    try:
        return decode_binary(message)
    except ValueError:
        return Packet(b"")
