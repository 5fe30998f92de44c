"""Greenroom: live server-side sessions in Python.

Every session is an actor with a mailbox and a tracked state. Plain functions handle its events, and
only what changed is shipped. ``import greenroom as gr``; start with the README.

The names here are the front door. Adapters are imported by name
(``from greenroom.adapters import asgi``), test tools from ``greenroom.testing``, and the Python
client from ``greenroom.client``. Everything under ``greenroom.core`` is internal.
"""

from __future__ import annotations

from .core.app import App
from .core.bus import Bus
from .core.channels import Delivered
from .core.current import current_app
from .core.encode import encoders
from .core.errors import (
    BadHandler,
    BadPayload,
    Busy,
    Closed,
    Cycle,
    Detached,
    GreenroomError,
    NoApp,
    NoSession,
    NotFound,
    Refused,
    StaleTurn,
    Timeout,
    TooLarge,
    Unencodable,
    WouldBlock,
)
from .core.exposure import handler
from .core.file import File, pack_bytes, pack_file
from .core.groups import Group
from .core.jobs import Job
from .core.mutable import MutableValue
from .core.properties import property  # noqa: A004 -- `gr.property` hides nothing of ours
from .core.script import (
    broadcast,
    emit,
    events,
    init_handlers,
    init_state,
    middleware,
    on,
    on_close,
    on_open,
    session_verifier,
    show,
)
from .core.session import Session
from .core.settings import Settings
from .core.state import Patch, State, StateView, shared
from .core.table import EditableTable
from .core.turn import cancelled
from .core.types import Bytes, Lane
from .core.views import View

__version__ = "0.1.0"

__all__ = [
    "App",
    "BadHandler",
    "BadPayload",
    "Bus",
    "Busy",
    "Bytes",
    "Closed",
    "Cycle",
    "Delivered",
    "Detached",
    "EditableTable",
    "File",
    "GreenroomError",
    "Group",
    "Job",
    "Lane",
    "MutableValue",
    "NoApp",
    "NoSession",
    "NotFound",
    "Patch",
    "Refused",
    "Session",
    "Settings",
    "StaleTurn",
    "State",
    "StateView",
    "Timeout",
    "TooLarge",
    "Unencodable",
    "View",
    "WouldBlock",
    "broadcast",
    "cancelled",
    "current_app",
    "emit",
    "encoders",
    "events",
    "handler",
    "init_handlers",
    "init_state",
    "middleware",
    "on",
    "on_close",
    "on_open",
    "pack_bytes",
    "pack_file",
    "property",
    "session_verifier",
    "shared",
    "show",
]
