"""Signals: what happens inside the app, and who wants to know.

A *signal* is a named broadcast channel: server-side reactions, streams (``listen``), links of
clients that subscribed and, when asked for, every live session hear it. Names are declared once;
``internal`` ones do not exist for clients, and both "internal" and "unknown" are one answer by one
look-up in the public table alone. Queries (``queries.py``) are reached through the bus as well.

Threads. ``trigger_soon`` may be called from any thread; everything else belongs to the app's loop.
Every reaction has a queue of its own and a task that empties it, so one slow or failing reaction
never holds another. ``trigger`` waits at most :data:`ROOM` seconds for room in a full queue and
then counts a refusal. Cut in the middle: what is in a queue when the app stops is counted as
``expired``, and what comes later is refused.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

from .channels import (
    OVERFLOWS,
    Channel,
    Delivered,
    Overflow,
    Reaction,
    SessionReaction,
    Stream,
    check_name,
    check_one_argument,
    clean_context,
    wants_session,
)
from .encode import encode_value
from .errors import Busy, Closed, NotFound, Refused, TooLarge
from .plans import describe
from .queries import Queries
from .types import Lane

if TYPE_CHECKING:
    from .app import App
    from .link import ServerLink
    from .links import Links
    from .session import Session

__all__ = ["Bus", "Delivered", "Overflow"]

REACTION_QUEUE: Final = 1_000  # messages a reaction may have waiting
ROOM: Final = 1.0  # seconds trigger waits for room in a reaction's queue
SLICE: Final = 1_000  # sessions posted to before the loop gets a breath
CLIENT_DATA: Final = 16 * 1024  # bytes a client may send with a trigger


class Bus:
    """``app.events``: signals, reactions, streams and queries of one app."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._channels: dict[str, Channel] = {}
        self._public: dict[str, Channel] = {}
        # of code that was replaced: what they were given comes to its end
        self._retired: list[Channel] = []
        self._open = False  # reactions are given nothing before the start and after the stop
        self.counters = {
            "triggered": 0,
            # every listener of a signal that was triggered
            "offered": 0,
            "delivered": 0,
            "refused": 0,
            # what was delivered, and where
            "to_links": 0,
            "to_reactions": 0,
            "to_streams": 0,
            "to_sessions": 0,
            # how it ended in the queues of reactions and streams
            "reacted": 0,
            "reactions_failed": 0,
            "heard": 0,
            "dropped_oldest": 0,
            "expired": 0,
            # why streams refused
            "dropped_newest": 0,
            "closed_slow": 0,
        }
        self.queries = Queries(app)

    # -- declaring --------------------------------------------------------------------------

    def create_signal(
        self,
        name: str,
        *,
        singleton: bool = False,
        internal: bool = True,
        client_trigger: bool = False,
    ) -> None:
        """Declare a broadcast channel.

        ``singleton``: a second declaration is an error. ``internal``: clients can neither
        subscribe to it nor learn that it exists. ``client_trigger``: clients may trigger it too
        (``Settings.authorize`` is asked). Raises ValueError when it was declared differently.
        """
        check_name(name, "signal")
        if client_trigger and internal:
            raise ValueError(
                f"signal {name!r}: client_trigger=True needs internal=False, clients cannot "
                "trigger what they cannot see"
            )
        known = self._channels.get(name)
        if known is not None:
            if known.singleton or singleton:
                raise ValueError(f"signal {name!r} is a singleton and is declared already")
            if (known.internal, known.client_trigger) != (internal, client_trigger):
                raise ValueError(
                    f"signal {name!r} is declared already with internal={known.internal}, "
                    f"client_trigger={known.client_trigger}; declare it the same way"
                )
            return
        channel = Channel(name, singleton, internal, client_trigger)
        self._channels[name] = channel
        if not internal:
            self._public[name] = channel

    def event(
        self,
        name: str,
        *,
        singleton: bool = False,
        internal: bool | None = None,
        sessions: Literal["live", "subscribed"] = "live",
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a reaction; declares the signal if needed.

        The function takes the data as its one positional argument. With a parameter named
        ``session`` or ``state`` it runs as a turn of every live session (or, with
        ``sessions="subscribed"``, of those with a subscribed link). ``internal=None`` takes over
        what the signal was declared with; a flag that differs is an error.
        """
        if sessions not in ("live", "subscribed"):
            raise ValueError(f'sessions is "live" or "subscribed", got {sessions!r}')

        def register(fn: Callable[..., Any]) -> Callable[..., Any]:
            in_session = wants_session(fn)
            if not in_session:
                check_one_argument(fn, f"a reaction to {name!r}")
                if sessions == "subscribed":
                    raise ValueError(
                        f'{describe(fn)}: sessions="subscribed" needs a parameter named session or '
                        "state; without one a reaction runs in no session"
                    )
            channel = self._channels.get(name)
            if channel is None:
                self.create_signal(
                    name, singleton=singleton, internal=True if internal is None else internal
                )
                channel = self._channels[name]
            else:
                if internal is not None and internal != channel.internal:
                    raise ValueError(
                        f"signal {name!r} was declared with internal={channel.internal}, this "
                        f"reaction says internal={internal}; leave it out or make them equal"
                    )
                if singleton and not channel.singleton:
                    raise ValueError(f"signal {name!r} was not declared as a singleton")
            if channel.singleton and (channel.reactions or channel.per_session):
                raise ValueError(f"signal {name!r} is a singleton and has its reaction already")
            if channel.internal and sessions == "subscribed":
                raise ValueError(
                    f"signal {name!r} is internal, no client can subscribe to it: declare it with "
                    "internal=False"
                )
            if in_session:
                handlers = self._app.reaction_handlers(name, fn)
                channel.per_session.append(SessionReaction(handlers, sessions == "subscribed"))
            else:
                channel.reactions.append(Reaction(fn, REACTION_QUEUE))
            self._app.handlers.claim(fn)
            return fn

        return register

    def query(
        self, name: str, *, singleton: bool = True, internal: bool = True
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register who answers a question.

        A singleton query has one answer; otherwise :meth:`request` gives the list of those who
        answered. With a parameter named ``session`` or ``state`` it is a turn of the session that
        asks. Raises ValueError for a second singleton or a differing flag.
        """
        return self.queries.declare(name, singleton, internal)

    # -- triggering -------------------------------------------------------------------------

    async def trigger(self, name: str, data: Any = None) -> Delivered:
        """Put ``data`` into every queue of the signal; never waits for the reactions themselves.

        Waits at most a second for room in a full queue, then counts a refusal. Raises
        :class:`NotFound` for a name that was never declared, and :class:`TooLarge` or
        :class:`Unencodable` for data that subscribed clients cannot be sent; nobody has heard it
        then.
        """
        channel = self._channel(name)
        if self._app.phase in ("new", "stopped"):
            raise Closed("the app does not run: `async with app:` or `await app.start()` first")
        delivered = self._to_links(channel, data)
        refused = 0
        for reaction in channel.reactions:
            if reaction.full:
                await reaction.room(self._app.clock, ROOM)
            taken = self._feed(reaction, data)
            delivered += taken
            refused += not taken
        for stream in tuple(channel.streams):
            if stream.full and stream.overflow == "block":
                await stream.room(self._app.clock, ROOM)
            taken = self._offer(stream, data)
            delivered += taken
            refused += not taken
        for audience in channel.per_session:
            for count, session in enumerate(self._sessions_of(channel, audience), 1):
                taken = self._post(session, name, data, audience.handlers)
                delivered += taken
                refused += not taken
                if count % SLICE == 0:
                    await asyncio.sleep(0)
        return Delivered(delivered, refused)

    def trigger_soon(self, name: str, data: Any = None) -> None:
        """Trigger from any thread, without waiting: a full queue is a counted refusal at once.

        What :meth:`trigger` raises for data that cannot be sent goes into the app's log when this
        is called on another thread than the loop's.
        """
        channel = self._channel(name)
        self._app.call_on_loop(self._trigger_now, channel, data)

    def _trigger_now(self, channel: Channel, data: Any) -> None:
        self._to_links(channel, data)
        for reaction in channel.reactions:
            self._feed(reaction, data)
        for stream in tuple(channel.streams):
            self._offer(stream, data)
        posts = [
            (session, reaction.handlers)
            for reaction in channel.per_session
            for session in self._sessions_of(channel, reaction)
        ]
        self._post_slice(channel.name, data, posts, 0)

    def _post_slice(
        self, name: str, data: Any, posts: list[tuple[Session, tuple[Any, ...]]], start: int
    ) -> None:
        for session, handlers in posts[start : start + SLICE]:
            self._post(session, name, data, handlers)
        if start + SLICE < len(posts):
            self._app.scheduler.post_to_loop(self._post_slice, name, data, posts, start + SLICE)

    def _count(self, where: str, delivered: bool) -> bool:
        """Count what one listener was offered; as it happens, since a trigger may be cancelled."""
        self.counters["offered"] += 1
        self.counters["delivered" if delivered else "refused"] += 1
        if delivered:
            self.counters[where] += 1
        return delivered

    def _post(self, session: Session, name: str, data: Any, handlers: tuple[Any, ...]) -> bool:
        try:
            session.post_event(name, data, handlers=handlers, lane=Lane.NORMAL)
        except (Busy, Closed):
            return self._count("to_sessions", False)
        return self._count("to_sessions", True)

    def _sessions_of(self, channel: Channel, reaction: SessionReaction) -> Iterable[Session]:
        if reaction.subscribed:
            return tuple(dict.fromkeys(links.session for links in channel.links.values()))
        return tuple(self._app.sessions.values())

    def _to_links(self, channel: Channel, data: Any) -> int:
        """Begin to trigger: what raises here does so before anybody has heard of it."""
        if not channel.links:
            self.counters["triggered"] += 1
            return 0
        encoded = encode_value(data)
        if len(encoded) > self._app.settings.max_frame_out:
            raise TooLarge(
                f"the data of signal {channel.name!r} is {len(encoded)} bytes on the wire, above "
                f"max_frame_out ({self._app.settings.max_frame_out})"
            )
        self.counters["triggered"] += 1
        for link, links in tuple(channel.links.items()):
            links.push_signal(link, channel.name, encoded)
            self._count("to_links", True)
        return len(channel.links)

    def _offer(self, stream: Stream, data: Any) -> bool:
        return self._count("to_streams", self._put(stream, data))

    def _put(self, stream: Stream, data: Any) -> bool:
        if stream.closed:
            return False
        if stream.full:
            if stream.overflow == "drop_oldest":
                stream.items.popleft()
                self.counters["dropped_oldest"] += 1
            elif stream.overflow == "drop_newest" or stream.overflow == "block":
                self.counters["dropped_newest"] += 1
                return False
            else:
                self.counters["closed_slow"] += 1
                stream.close()
                return False
        stream.put(data)
        return True

    # -- reactions --------------------------------------------------------------------------

    def _feed(self, reaction: Reaction, data: Any) -> bool:
        if reaction.full or not self._open:
            return self._count("to_reactions", False)
        reaction.items.append(data)
        if reaction.task is None or reaction.task.done():
            reaction.wake = asyncio.Event()
            reaction.task = self._app.start_task(
                self._react(reaction), context=clean_context(self._app)
            )
        assert reaction.wake is not None
        reaction.wake.set()
        return self._count("to_reactions", True)

    async def _react(self, reaction: Reaction) -> None:
        assert reaction.wake is not None
        task = asyncio.current_task()
        while True:
            while reaction.items:
                data = reaction.items.popleft()
                reaction.took()
                reaction.working = True
                end = "reacted"
                try:
                    await self._app.call(reaction.fn, data)
                except (Exception, asyncio.CancelledError) as error:
                    if task is not None and task.cancelling():
                        end = "expired"
                        raise  # the app stops; else something the reaction awaited was cancelled
                    end = "reactions_failed"
                    self._app.log.exception(f"a reaction failed: {describe(reaction.fn)}", error)
                finally:
                    reaction.working = False
                    self.counters[end] += 1
                if task is not None and task.cancelling():
                    return  # the app stops, though the reaction has swallowed that
            if reaction.closed:
                reaction.task = None
                return
            reaction.wake.clear()
            await reaction.wake.wait()

    # -- listening --------------------------------------------------------------------------

    async def listen(
        self, name: str, *, maxsize: int | None = None, overflow: Overflow = "drop_oldest"
    ) -> AsyncGenerator[Any, None]:
        """A channel as a stream: ``async for data in events.listen("model:created")``.

        ``maxsize`` (``Settings.event_queue_size``; 0 is unbounded) and ``overflow`` say what
        happens to a listener that falls behind; every loss is counted. With ``"close"`` the
        stream ends. It hears what is triggered after its first value was asked for.
        """
        channel = self._channel(name)
        if overflow not in OVERFLOWS:
            raise ValueError(f"overflow is one of {', '.join(OVERFLOWS)}, got {overflow!r}")
        if maxsize is not None and maxsize < 0:
            raise ValueError(f"maxsize must not be negative, got {maxsize}")
        stream = Stream(
            self._app.settings.event_queue_size if maxsize is None else maxsize, overflow
        )
        streams = channel.streams  # another channel may have them one day (adopt)
        streams.append(stream)
        try:
            while True:
                while stream.items:
                    data = stream.items.popleft()
                    stream.took()
                    self.counters["heard"] += 1
                    yield data
                if stream.closed:
                    return
                stream.getter = asyncio.get_running_loop().create_future()
                await stream.getter
                stream.getter = None
        finally:
            streams.remove(stream)
            stream.close()
            self.counters["expired"] += len(stream.items)

    # -- asking -----------------------------------------------------------------------------

    async def request(self, name: str, data: Any = None, *, timeout: float | None = None) -> Any:
        """Ask: one result for a singleton query, else the list of those that answered.

        Raises :class:`NotFound`, :class:`Timeout` after ``timeout`` seconds
        (``Settings.query_timeout``), or what the one answer raised.
        """
        return await self.queries.request(name, data, timeout)

    # -- clients ----------------------------------------------------------------------------

    def subscribe_link(self, name: str, links: Links, link: ServerLink) -> None:
        """A client subscribes. Raises :class:`NotFound` for internal and unknown names alike."""
        self._public_channel(name).links[link] = links

    def unsubscribe_link(self, name: str, link: ServerLink) -> None:
        """A client unsubscribes; being no subscriber is no error."""
        self._public_channel(name).links.pop(link, None)

    def drop_link(self, link: ServerLink) -> None:
        """A link has ended: it hears nothing more."""
        for channel in self._public.values():
            channel.links.pop(link, None)

    def check_client_trigger(self, name: str, data: Any, size: int) -> None:
        """Refuse a client's trigger: unknown, internal and not meant for clients are one answer.

        ``size`` is that of the frame: only a large one can hold too much data.
        """
        channel = self._public.get(name)
        if channel is None or not channel.client_trigger:
            raise NotFound(f"no signal {name!r} that clients may trigger")
        if size > CLIENT_DATA and len(encode_value(data)) > CLIENT_DATA:
            raise TooLarge(f"a client may trigger a signal with at most {CLIENT_DATA} bytes")

    def check_client_signal(self, name: str) -> None:
        """Raise :class:`NotFound` for internal and unknown names alike."""
        self._public_channel(name)

    async def client_trigger(self, name: str, data: Any) -> bool:
        """A client triggers a signal that clients may trigger."""
        await self.trigger(name, data)
        return True

    def authorize(self, session: Session, action: str, name: str, data: Any) -> None:
        """Ask ``Settings.authorize``; raises :class:`Refused` ``unauthorized`` on a no."""
        gate = self._app.settings.authorize
        if gate is None:
            return
        try:
            verdict = gate(session, action, name, data)
            if inspect.isawaitable(verdict):
                if inspect.iscoroutine(verdict):
                    verdict.close()
                raise TypeError("Settings.authorize must not be async: the answer is needed now")
        except Exception as error:
            self._app.log.exception("Settings.authorize failed", error)
            verdict = False
        if not verdict:
            raise Refused("unauthorized", f"{action} {name!r} is not allowed for this session")

    # -- life -------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a reaction has something to do."""
        return any(
            reaction.items or reaction.working
            for channel in self._all()
            for reaction in channel.reactions
        )

    @property
    def waiting(self) -> int:
        """What is in the queues of reactions and streams, and what reactions are at."""
        return sum(
            sum(len(reaction.items) + reaction.working for reaction in channel.reactions)
            + sum(len(stream.items) for stream in channel.streams)
            for channel in self._all()
        )

    def _all(self) -> Iterable[Channel]:
        return (*self._channels.values(), *self._retired)

    def adopt(self, other: Bus) -> None:
        """Hold what another bus declares, in place of what was declared here.

        Streams and subscribed clients go on with the signals of the same name. The old reactions
        run for what they were given, then they end. ``other`` is this bus afterwards.
        """
        for name, channel in self._channels.items():
            for reaction in channel.reactions:
                reaction.retire()
            following = other._channels.get(name)
            if following is None:
                for stream in tuple(channel.streams):
                    stream.close()
            else:
                # The same list: whoever listens takes its stream out of it by itself.
                following.streams, channel.streams = channel.streams, []
                if not following.internal:
                    following.links, channel.links = channel.links, {}
        self._retired = [channel for channel in self._all() if channel.at_work]
        self._channels, self._public = other._channels, other._public
        self.queries.adopt(other.queries)
        other.__dict__ = self.__dict__

    def start(self) -> None:
        """The app starts."""
        self._open = True

    def stop(self) -> None:
        """End every stream and reaction; what still waits is counted as expired.

        Whoever still waits for room in a queue is refused.
        """
        self._open = False
        for channel in self._all():
            for reaction in channel.reactions:
                self.counters["expired"] += len(reaction.items)
                reaction.items.clear()
                reaction.took()
                if reaction.task is not None:
                    reaction.task.cancel()
                    reaction.task = None
            for stream in channel.streams:
                stream.close()
            channel.links.clear()

    def _channel(self, name: str) -> Channel:
        channel = self._channels.get(name)
        if channel is None:
            raise NotFound(
                f"no signal {name!r} is declared; use events.create_signal({name!r}) first"
            )
        return channel

    def _public_channel(self, name: str) -> Channel:
        channel = self._public.get(name)
        if channel is None:
            raise NotFound(f"no signal {name!r}")
        return channel
