"""Values and messages as they travel, the client's side of it.

A value is JSON with two additions. Bytes are ``{"$bytes": ..., "mime", "name"}``: base64 text, or,
in a binary message, the index of a buffer of the same message. An object of the application that
itself has a key ``$bytes`` or ``$dict`` travels as ``{"$dict": {...}}``.

A message is a :class:`~greenroom.core.types.Packet`. On a WebSocket one without buffers is text;
one with buffers is binary: 4 bytes with the length of the JSON (big-endian), the JSON, then each
buffer preceded by its own 4-byte length. ``codec.js`` is this file's twin.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any, TypeGuard

import orjson

from ..core.errors import Unencodable
from ..core.types import MAX_DEPTH, Bytes, Packet

__all__ = ["decode", "encode", "is_list", "is_object", "pack", "parse", "unpack"]

_LENGTH = struct.Struct(">I")
_MARKS = ("$bytes", "$dict")


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_group(value: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, (list, tuple, AbstractSet))


def encode(value: Any, buffers: list[bytes] | None = None) -> bytes:
    """JSON text of ``value``. With ``buffers`` bytes are appended there, else they are base64."""
    try:
        return orjson.dumps(_plain(value, buffers, 0))
    except TypeError as error:
        raise Unencodable(f"this payload has no form on the wire: {error}") from error


def _plain(value: Any, buffers: list[bytes] | None, depth: int) -> Any:
    """``value`` in JSON's own types, wherever those and orjson's do not say what we mean."""
    if depth > MAX_DEPTH:
        raise ValueError(f"the payload is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, (str, bool, float)) or value is None:
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if _is_mapping(value):
        plain = {key: _plain(item, buffers, depth + 1) for key, item in value.items()}
        return {"$dict": plain} if any(mark in plain for mark in _MARKS) else plain
    if _is_group(value):
        return [_plain(item, buffers, depth + 1) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bytes(value, buffers)
    return str(value) if isinstance(value, Decimal) else value


def _bytes(value: Any, buffers: list[bytes] | None) -> dict[str, Any]:
    raw = bytes(value)
    told: dict[str, Any] = {}
    if buffers is None:
        told["$bytes"] = base64.b64encode(raw).decode("ascii")
    else:
        told["$bytes"] = len(buffers)
        buffers.append(raw)
    if isinstance(value, Bytes):
        told |= {"mime": value.mime, "name": value.name}
    return told


def decode(value: Any, buffers: Sequence[bytes] = ()) -> Any:
    """A parsed value with its bytes as :class:`Bytes` and its ``$dict`` wrappers taken off.

    Raises ValueError for bytes that are neither base64 nor a buffer of this message.
    """
    if is_object(value):
        if "$bytes" in value:
            return _from_bytes(value, buffers)
        inner = value.get("$dict")
        told = inner if is_object(inner) else value
        return {key: decode(item, buffers) for key, item in told.items()}
    if is_list(value):
        return [decode(item, buffers) for item in value]
    return value


def _from_bytes(told: Mapping[str, Any], buffers: Sequence[bytes]) -> Bytes:
    content = told["$bytes"]
    if isinstance(content, str):
        try:
            raw = base64.b64decode(content, validate=True)
        except binascii.Error as error:
            raise ValueError(f"$bytes is no base64: {error}") from error
    elif isinstance(content, int) and 0 <= content < len(buffers):
        raw = buffers[content]
    else:
        raise ValueError(f"$bytes {content!r} names no buffer of this message")
    return Bytes(raw, str(told.get("mime") or ""), str(told.get("name") or ""))


def parse(packet: Packet) -> dict[str, Any]:
    """The frame of a packet, its values decoded. Raises ValueError for anything else."""
    frame: Any = orjson.loads(packet.data)
    if not is_object(frame) or not isinstance(frame.get("type"), str):
        raise ValueError("a frame is a JSON object that has a type")
    if b'"$bytes"' in packet.data or b'"$dict"' in packet.data:
        frame["data"] = decode(frame.get("data"), packet.buffers)
    return frame


def pack(packet: Packet) -> str | bytes:
    """A packet as a WebSocket message: text, or binary when it has buffers."""
    if not packet.buffers:
        return packet.data.decode()
    parts = [_LENGTH.pack(len(packet.data)), packet.data]
    for buffer in packet.buffers:
        parts += (_LENGTH.pack(len(buffer)), buffer)
    return b"".join(parts)


def unpack(message: str | bytes) -> Packet:
    """The packet of a WebSocket message. Raises ValueError when its lengths do not add up."""
    if isinstance(message, str):
        return Packet(message.encode())
    parts: list[bytes] = []
    at = 0
    while at < len(message) or not parts:
        if at + 4 > len(message):
            raise ValueError("a binary message ends within a length")
        (length,) = _LENGTH.unpack_from(message, at)
        at += 4 + length
        if at > len(message):
            raise ValueError("a binary message ends within a buffer")
        parts.append(message[at - length : at])
    return Packet(parts[0], tuple(parts[1:]))
