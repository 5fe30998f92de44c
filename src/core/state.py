"""The state, as applications see it. The work is done by the compiled ``_state`` and ``_patch``.

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

import copy
import datetime
import decimal
import enum
import inspect
import pathlib
import types
import uuid
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from . import _state
from . import encode as encode  # installs the encoders
from ._patch import Patch
from ._state import Handle, Ledger, Shared, State, StateView, Template, set_subscriber_adapter
from .types import Bytes

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

MutableMapping.register(State)
Mapping.register(StateView)


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
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        datetime.timezone,
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
CONTAINERS = (list, dict, set, bytearray, deque)


def _fixed(value: Any) -> bool:
    if type(value) in FIXED or isinstance(value, (type, enum.Enum, pathlib.PurePath)):
        return True
    return type(value) in (tuple, frozenset) and all(_fixed(item) for item in value)


def _leaf_rule(value: Any, private: bool, path: str) -> bool:
    """True when each session needs its own copy of a template's leaf; raises when it cannot be had.

    Below a private key only plain containers are copied: the rest (connections, clients, locks) is
    shared.
    """
    if _fixed(value):
        return False
    if private and not isinstance(value, CONTAINERS):
        return False
    try:
        copy.deepcopy(value)
    except Exception as error:
        if private:
            return False
        raise TypeError(
            f"the initial state's {path!r} ({type(value).__qualname__}) cannot be copied for each "
            f"session ({error}): mark it with gr.shared(...) when all sessions may share it, or give "
            "its key a leading underscore, which shares it and keeps it from clients"
        ) from error
    return True


_state.set_leaf_rule(_leaf_rule)


# ---------------------------------------------------------------- subscribers

Subscriber = Callable[[dict[str, Any], dict[str, Any], Any], Any]
NAMES = {"payload": 0, "data": 0, "context": 1, "state": 2}


def inject_by_name(handler: Callable[..., Any]) -> Subscriber:
    """Wrap a subscriber so that it gets ``payload``, ``context`` and ``state`` by parameter name."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    positional: list[int] = []
    keywords: dict[str, int] = {}
    for parameter in parameters:
        slot = NAMES.get(parameter.name)
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if slot is None:
            if parameter.default is parameter.empty:
                raise TypeError(
                    f"a subscriber has no argument {parameter.name!r}: it may ask for "
                    f"{', '.join(NAMES)}"
                )
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(slot)
        else:
            keywords[parameter.name] = slot

    def call(payload: dict[str, Any], context: dict[str, Any], state: Any) -> Any:
        given = (payload, context, state)
        return handler(
            *[given[slot] for slot in positional],
            **{name: given[slot] for name, slot in keywords.items()},
        )

    function = inspect.unwrap(handler) if inspect.isfunction(handler) else handler
    call.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(  # type: ignore[attr-defined]
        getattr(handler, "__call__", None)  # noqa: B004
    )
    return call


set_subscriber_adapter(inject_by_name)
