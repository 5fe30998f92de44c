"""The state, as applications see it.

The work is done by the compiled ``_state``, ``_ledger`` and ``_patch``.

=============  ===================================================================================
State          a mapping whose assignments are tracked; nested dicts are States
StateView      the read-only face of one: ``session.state``
Patch          what was assigned: set, delete, append by path
Template       the state sessions begin with, shared by them until they assign
Ledger         one session's state and its turns: who may assign, undo, patches, snapshots
shared(value)  one object for all sessions
=============  ===================================================================================
"""

from __future__ import annotations

import abc
import copy
import datetime as dt
import decimal
import enum
import pathlib
import types
import uuid
from collections import deque
from collections.abc import Mapping, MutableMapping
from typing import Any, cast

from . import _ledger
from . import encode as encode  # installs the encoders
from . import mutable as mutable  # installs what notes where they lie
from . import schema as schema  # installs what reads annotations and properties
from ._ledger import Ledger, Template
from ._patch import Patch
from ._state import Shared, State, StateView
from ._watch import Handle, set_subscriber_adapter
from .subscribers import Subscriber
from .types import MAX_DEPTH, Bytes

__all__ = [
    "Handle",
    "Ledger",
    "Patch",
    "Shared",
    "State",
    "StateView",
    "Template",
    "set_subscriber_adapter",
    "shared",
]

cast("abc.ABCMeta", MutableMapping).register(State)
cast("abc.ABCMeta", Mapping).register(StateView)


def shared(value: Any) -> Any:
    """Mark a value of the initial state as one object for all sessions.

    Without it every session gets its own copy at its first read of a mutable value.
    """
    return Shared(value)


# ---------------------------------------------------------------- leaves of templates

# Values of these never change, so sessions may share them.
FIXED: frozenset[type] = frozenset(
    {
        bool,
        bytes,
        Bytes,
        complex,
        dt.date,
        dt.datetime,
        dt.time,
        dt.timedelta,
        dt.timezone,
        decimal.Decimal,
        float,
        int,
        range,
        str,
        type(None),
        types.BuiltinFunctionType,
        types.FunctionType,
        types.ModuleType,
        uuid.UUID,
    }
)
CONTAINERS = (list, dict, tuple, set, frozenset, bytearray, deque)


def _fixed(value: Any) -> bool:
    if type(value) in FIXED or isinstance(value, (type, enum.Enum, pathlib.PurePath)):
        return True
    return type(value) in (tuple, frozenset) and all(_fixed(item) for item in value)


def _is_data(leaf: object) -> bool:
    return isinstance(leaf, CONTAINERS) or encode.encoders.find(type(leaf)) is not None


def _kind(leaf: object) -> str:
    return type(leaf).__qualname__


def _state_in(value: Any, room: int = MAX_DEPTH) -> State | None:
    """A state in a plain container, if there is one."""
    if isinstance(value, State):
        return value
    kind: Any = value.__class__
    if not issubclass(kind, CONTAINERS) or not room:
        return None
    items = value.values() if issubclass(kind, dict) else value
    inner = (_state_in(item, room - 1) for item in items)
    return next((found for found in inner if found is not None), None)


def _leaf_rule(leaf: Any, private: bool, path: str) -> bool:
    """True when each session needs its own copy of a template's leaf; raises when it cannot be had.

    Below a private key only data is copied, which is what has a form on the wire: the rest
    (connections, clients, locks) is shared.
    """
    if _fixed(leaf):
        return False
    if private and not _is_data(leaf):
        return False
    try:
        copy.deepcopy(leaf)
    except Exception as error:
        inner = _state_in(leaf)
        if inner is not None:
            kind = _kind(inner)
            raise TypeError(
                f"the initial state's {path!r} ({_kind(leaf)}) has a {kind} in it, and what lies "
                "in lists and the like is not tracked: put plain dicts there and assign the key "
                f'again when one has changed, or put the states into a dict, {{"1": {kind}(...)}}, '
                "of which every session has its own"
            ) from None
        if private:
            return False
        raise TypeError(
            f"the initial state's {path!r} ({_kind(leaf)}) cannot be copied for each "
            f"session ({error}): mark it with gr.shared(...) when all sessions may share it, or "
            "give its key a leading underscore, which shares it and keeps it from clients"
        ) from error
    return True


_ledger.set_leaf_rule(_leaf_rule)


set_subscriber_adapter(Subscriber)
