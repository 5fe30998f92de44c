"""The names of Writer Framework and Streamsync, on top of ours.

``import greenroom.compat.writer as wf`` instead of ``import writer as wf``, and ``as ss`` instead
of ``import streamsync as ss``. Handlers, state, schemas, subscriptions, middlewares, verifiers and
mail work as before; docs/coming-from-writer.md lists every name and what is deliberately different.
A name that cannot be offered raises :class:`NotOffered`, which says what to use instead.
"""

from __future__ import annotations

from typing import Any

from ...core.properties import property  # noqa: A004 -- `wf.property`
from . import absent
from . import core as core
from .absent import NotOffered
from .state import State, StreamsyncState, WriterState
from .values import (
    BytesWrapper,
    EditableDataFrame,
    EditableDataframe,
    MutableValue,
    pack_bytes,
    pack_file,
)
from .verbs import init_handlers, init_state, middleware, session_verifier

__all__ = [
    "BytesWrapper",
    "EditableDataFrame",
    "EditableDataframe",
    "MutableValue",
    "NotOffered",
    "State",
    "StreamsyncState",
    "WriterState",
    "core",
    "init_handlers",
    "init_state",
    "middleware",
    "pack_bytes",
    "pack_file",
    "property",
    "session_verifier",
]


def __getattr__(name: str) -> Any:
    if name in absent.NAMES:
        raise absent.refuse(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
