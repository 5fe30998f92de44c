"""The parts of the bus: declared signals and queries, and those who listen to them.

Owner: the app's loop. Nothing here decides anything: who is fed, who waits and what is counted is
the bus's business.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from .link import ServerLink
    from .links import Links

__all__ = [
    "Channel",
    "Delivered",
    "Overflow",
    "Question",
    "Reaction",
    "SessionReaction",
    "Stream",
]

Overflow = Literal["drop_oldest", "drop_newest", "block", "close"]


class Delivered(NamedTuple):
    """How many queues took a signal and how many were full."""

    delivered: int
    refused: int


class Channel:
    """One declared signal: its flags and everyone who listens."""

    __slots__ = (
        "client_trigger",
        "internal",
        "links",
        "name",
        "per_session",
        "reactions",
        "singleton",
        "streams",
    )

    def __init__(self, name: str, singleton: bool, internal: bool, client_trigger: bool) -> None:
        self.name = name
        self.singleton = singleton
        self.internal = internal
        self.client_trigger = client_trigger
        self.reactions: list[Reaction] = []
        self.per_session: list[SessionReaction] = []
        self.streams: list[Stream] = []
        self.links: dict[ServerLink, Links] = {}


class Reaction:
    """A server-side listener: a queue, and the task that empties it one by one."""

    __slots__ = ("fn", "queue", "room", "task", "wake")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.queue: deque[Any] = deque()
        self.wake: asyncio.Event | None = None
        self.room: asyncio.Event | None = None
        self.task: asyncio.Task[None] | None = None


class SessionReaction(NamedTuple):
    """A listener that runs in a turn of every live session, or of the subscribed ones."""

    handlers: tuple[Any, ...]
    subscribed: bool


class Stream:
    """The queue of one ``listen``."""

    __slots__ = ("closed", "getter", "items", "maxsize", "overflow", "putters")

    def __init__(self, maxsize: int, overflow: Overflow) -> None:
        self.items: deque[Any] = deque()
        self.maxsize = maxsize
        self.overflow = overflow
        self.getter: asyncio.Future[None] | None = None
        self.putters: deque[asyncio.Future[None]] = deque()
        self.closed = False

    @property
    def full(self) -> bool:
        return 0 < self.maxsize <= len(self.items)

    def put(self, data: Any) -> None:
        self.items.append(data)
        self.wake()

    def wake(self) -> None:
        if self.getter is not None and not self.getter.done():
            self.getter.set_result(None)

    def took(self) -> None:
        while self.putters and not self.full:
            putter = self.putters.popleft()
            if not putter.done():
                putter.set_result(None)

    def close(self) -> None:
        self.closed = True
        self.wake()
        while self.putters:
            putter = self.putters.popleft()
            if not putter.done():
                putter.set_result(None)


class Question:
    """One declared query and those who answer it."""

    __slots__ = ("answers", "internal", "name", "per_session", "singleton")

    def __init__(self, name: str, singleton: bool, internal: bool) -> None:
        self.name = name
        self.singleton = singleton
        self.internal = internal
        self.answers: list[Callable[..., Any]] = []
        self.per_session: list[tuple[Any, ...]] = []
