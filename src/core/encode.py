"""What values look like on the wire: the registry of encoders, and decoding what clients send.

The compiled writer knows None, bool, int, float, str, list, tuple, set, frozenset, dict and
bytes-likes. Anything else is looked up here: by its type, then by the classes it inherits from
(nearest first; each by itself and by the name ``"module.Class"``, so that a row for a library
costs no import of it), then by the protocols it speaks (Arrow, ``to_dict()``: the last table of
``libraries.py``). An encoder returns something simpler, which is encoded in turn.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from . import _text
from ._text import Segmented, decode_value, encode_value, holds_file, is_plain, render
from .file import File
from .libraries import ROWS, protocol_of

__all__ = [
    "Encoder",
    "Encoders",
    "Segmented",
    "decode",
    "encode",
    "encode_value",
    "encoders",
    "holds_file",
    "is_plain",
    "render",
]

Encoder = Callable[[Any], Any]

FORGET_AT = 1024  # types whose encoder is remembered


class Encoders:
    """Encoders by type or by the name ``"module.Class"``. Thread-safe; the last row wins.

    ::

        @gr.encoders.register("shapely.geometry.base.BaseGeometry")
        def geometry(value):
            return value.__geo_interface__

        gr.encoders[Money] = str
    """

    def __init__(self, rows: dict[type | str, Encoder] | None = None) -> None:
        self._rows: dict[type | str, Encoder] = dict(rows or {})
        self._found: dict[type, Encoder | None] = {}

    def __setitem__(self, kind: type | str, encoder: Encoder) -> None:
        if not isinstance(kind, (type, str)):
            raise TypeError(f'encoders go by type or by "module.Class", not {kind!r}')
        if isinstance(kind, str) and "." not in kind:
            raise ValueError(f'the name must be "module.Class", got {kind!r}')
        if not callable(encoder):
            raise TypeError(f"an encoder is a function of the value, not {encoder!r}")
        self._rows[kind] = encoder
        self._found = {}

    def __getitem__(self, kind: type | str) -> Encoder:
        return self._rows[kind]

    def __delitem__(self, kind: type | str) -> None:
        del self._rows[kind]
        self._found = {}

    def __contains__(self, kind: object) -> bool:
        return kind in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def register(self, kind: type | str) -> Callable[[Encoder], Encoder]:
        """Decorator form of ``encoders[kind] = function``."""

        def install(encoder: Encoder) -> Encoder:
            self[kind] = encoder
            return encoder

        return install

    def find(self, kind: type) -> Encoder | None:
        """The encoder for values of a type, or None."""
        found = self._found
        try:
            return found[kind]
        except KeyError:
            pass
        encoder = self._look_up(kind)
        if len(found) < FORGET_AT:
            found[kind] = encoder
        return encoder

    def _look_up(self, kind: type) -> Encoder | None:
        rows = self._rows
        for base in kind.__mro__:
            if base in rows:
                return rows[base]
            named = rows.get(f"{base.__module__}.{base.__qualname__}")
            if named is not None:
                return named
            if "__dataclass_fields__" in vars(base) and not callable(
                getattr(kind, "to_dict", None)
            ):
                return _dataclass
        return protocol_of(kind)

    def __call__(self, value: Any) -> Any:
        """Something simpler than ``value``; the value itself when there is no row for it."""
        kind = cast("type[object]", type(value))
        encoder = self.find(kind)
        return value if encoder is None else encoder(value)


def _dataclass(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _isoformat(value: Any) -> str:
    text: str = value.isoformat()
    return text


def _seconds(value: dt.timedelta) -> float:
    return value.total_seconds()


def _enum(value: enum.Enum) -> Any:
    return value.value


def _file(value: File) -> dict[str, Any]:
    return {"name": value.name, "mime": value.mime, "size": value.size}


encoders = Encoders(
    {
        enum.Enum: _enum,
        dt.datetime: _isoformat,
        dt.date: _isoformat,
        dt.time: _isoformat,
        decimal.Decimal: str,
        dt.timedelta: _seconds,
        uuid.UUID: str,
        pathlib.PurePath: str,
        File: _file,
        complex: str,
        range: list,
        deque: list,
        **ROWS,
    }
)
_text.set_default(encoders)


def encode(value: Any) -> bytes:
    """The text form of a value, with bytes as base64."""
    return render(encode_value(value), False, [])


def decode(value: Any, buffers: Sequence[bytes] = ()) -> Any:
    """What a handler sees of a parsed wire value: ``$bytes`` as Bytes, ``$file`` as FileRef.

    Raises ValueError when it is nested deeper than 100 or a special form is malformed.
    """
    return decode_value(value, buffers)
