"""The names that applications take from ``writer.core``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.turn import current_turn
from . import absent
from .state import State, StreamsyncState, WriterState
from .values import BytesWrapper, MutableValue
from .verbs import session_verifier

__all__ = [
    "BytesWrapper",
    "MutableValue",
    "State",
    "StreamsyncState",
    "WriterSession",
    "WriterState",
    "get_session",
    "session_verifier",
]


@dataclass(frozen=True, slots=True)
class WriterSession:
    """What handlers read of their session, under the old names."""

    session_id: str
    cookies: Mapping[str, str]
    headers: Mapping[str, str]
    userinfo: dict[str, Any]
    session_state: Any  # the turn's: assignable until it ends
    last_active_timestamp: float  # seconds on the app's clock


def get_session() -> WriterSession | None:
    """The session whose turn it is; None outside of turns. Natively: a parameter ``session``."""
    turn = current_turn()
    if turn is None:
        return None
    session = turn.session
    return WriterSession(
        session_id=session.id,
        cookies=session.cookies,
        headers=session.headers,
        userinfo=session.userinfo,
        session_state=turn.state,
        last_active_timestamp=session.last_active,
    )


def __getattr__(name: str) -> Any:
    if name in absent.NAMES:
        raise absent.refuse(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
