"""The parts of the bus: declared signals and queries, those who listen, rules for registering them.

Owner: the app's loop. Nothing here decides anything: who is fed, who waits and what is counted is
the bus's business.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

from .current import registering
from .errors import BadHandler
from .plans import describe
from .types import EVENT_NAME, Clock

if TYPE_CHECKING:
    from .app import App
    from .link import ServerLink
    from .links import Links

__all__ = [
    "OVERFLOWS",
    "Channel",
    "Delivered",
    "Overflow",
    "Question",
    "Queue",
    "Reaction",
    "SessionReaction",
    "Stream",
    "check_name",
    "check_one_argument",
    "clean_context",
    "wants_session",
    "within",
]

Overflow = Literal["drop_oldest", "drop_newest", "block", "close"]
OVERFLOWS: Final[tuple[str, ...]] = get_args(Overflow)


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

    @property
    def at_work(self) -> bool:
        """Whether something it delivered has not come to its end."""
        return bool(self.streams) or any(each.items or each.working for each in self.reactions)


class Queue:
    """What waits for one listener, and who waits for room in it."""

    __slots__ = ("closed", "items", "maxsize", "putters")

    def __init__(self, maxsize: int) -> None:
        self.items: deque[Any] = deque()
        self.maxsize = maxsize  # 0: no bound
        self.putters: set[asyncio.Future[None]] = set()
        self.closed = False

    @property
    def full(self) -> bool:
        return 0 < self.maxsize <= len(self.items)

    def took(self) -> None:
        """There may be room: whoever waits for it looks again."""
        for putter in self.putters:
            if not putter.done():
                putter.set_result(None)

    async def room(self, clock: Clock, seconds: float) -> bool:
        """Wait for room, at most ``seconds``; whether there is some."""
        until = clock.time() + seconds
        while self.full and not self.closed and (left := until - clock.time()) > 0:
            putter = asyncio.get_running_loop().create_future()
            self.putters.add(putter)
            try:
                await within(clock, (putter,), left)
            finally:
                self.putters.discard(putter)
        return not self.full


class Reaction(Queue):
    """A server-side listener: a queue, and the task that empties it one by one."""

    __slots__ = ("fn", "task", "wake", "working")

    def __init__(self, fn: Callable[..., Any], maxsize: int) -> None:
        super().__init__(maxsize)
        self.fn = fn
        self.working = False  # one that has left the queue is not over yet
        self.wake: asyncio.Event | None = None
        self.task: asyncio.Task[None] | None = None

    def retire(self) -> None:
        """Its task ends when the queue is empty."""
        self.closed = True
        self.took()
        if self.wake is not None:
            self.wake.set()


class SessionReaction(NamedTuple):
    """A listener that runs in a turn of every live session, or of the subscribed ones."""

    handlers: tuple[Any, ...]
    subscribed: bool


class Stream(Queue):
    """The queue of one ``listen``."""

    __slots__ = ("getter", "overflow")

    def __init__(self, maxsize: int, overflow: Overflow) -> None:
        super().__init__(maxsize)
        self.overflow = overflow
        self.getter: asyncio.Future[None] | None = None

    def put(self, data: Any) -> None:
        self.items.append(data)
        self.wake()

    def wake(self) -> None:
        if self.getter is not None and not self.getter.done():
            self.getter.set_result(None)

    def close(self) -> None:
        self.closed = True
        self.wake()
        self.took()


class Question:
    """One declared query and those who answer it."""

    __slots__ = ("answers", "internal", "name", "per_session", "singleton")

    def __init__(self, name: str, singleton: bool, internal: bool) -> None:
        self.name = name
        self.singleton = singleton
        self.internal = internal
        self.answers: list[Callable[..., Any]] = []
        self.per_session: list[tuple[Any, ...]] = []


async def within(
    clock: Clock, awaited: Iterable[asyncio.Future[Any]], seconds: float
) -> set[asyncio.Future[Any]]:
    """Wait until all are done, at most ``seconds`` (0: for ever); those that are not."""
    pending: set[asyncio.Future[Any]] = set(awaited)
    over: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    timer = clock.call_at(clock.time() + seconds, _settle, over) if seconds else None
    try:
        while pending and not over.done():
            await asyncio.wait({*pending, over}, return_when=asyncio.FIRST_COMPLETED)
            pending = {each for each in pending if not each.done()}
    finally:
        if timer is not None:
            timer.cancel()
    return pending


def _settle(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)


# -- rules for what is registered -----------------------------------------------------------


def check_name(name: str, what: str) -> None:
    """Raise ValueError for what cannot name a signal or a query."""
    if not EVENT_NAME.match(name):
        raise ValueError(f"{name!r} is no {what} name; names look like 'namespace:name'")
    if name.startswith("gr:"):
        raise ValueError(f"{name!r}: names beginning with 'gr:' belong to the protocol")


def wants_session(fn: Callable[..., Any]) -> bool:
    """Whether it runs in a turn of a session, because it names one or its state."""
    return not {"session", "state"}.isdisjoint(inspect.signature(fn).parameters)


def check_one_argument(fn: Callable[..., Any], role: str) -> None:
    """Raise :class:`BadHandler` for what cannot take the data alone."""
    try:
        inspect.signature(fn).bind(None)
    except TypeError as error:
        raise BadHandler(
            f"{describe(fn)} cannot be {role}: it must take the data as its one positional "
            f"argument ({error})"
        ) from None


def clean_context(app: App) -> Context:
    """What reactions and answers run in: the app is current, and no turn is theirs."""
    base = app.scheduler.base
    context = Context() if base is None else base.copy()
    context.run(registering.set, app)
    return context
