"""The app: one application, and the wiring of everything below it.

Threads. ``App`` has one loop, the one it is started on. Its tables (sessions, connections, links,
deadlines) are touched there only; ``tell``, ``ask``, ``emit``, ``trigger_soon`` and
``open_session`` may be called from any thread and hand over through :meth:`call_on_loop`.

The life of an app::

    new -> running -> draining -> stopped       (a stopped app can be started again)

Cut in the middle: ``drain.py`` says what happens to whom while it drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import secrets
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from contextvars import Context, copy_context
from pathlib import Path
from types import MappingProxyType, ModuleType, TracebackType
from typing import Any, Final, Self, TypeGuard, overload

from ._counts import Counts
from ._deadlines import Deadlines
from ._turn import current_turn
from .beside import Seat
from .budget import Budget
from .bus import Bus
from .connection import Connection
from .current import registering
from .dangling import dangling
from .drain import Drain
from .errors import BadHandler, Busy, Closed, NoSession
from .files import Files
from .groups import Group, Groups
from .handlers import Handler, HandlerTable, check_modules
from .hello import Profile
from .link import PLAIN
from .log import AppLog
from .middlewares import Middleware
from .plans import Injected, plan_for
from .reception import Reception
from .reload import adopt
from .scheduler import LoopClock, Scheduler
from .session import Session, check_event_name, encode_event
from .settings import Settings
from .state import State, Template
from .stats import gather
from .types import DEFAULT_LABEL, Clock, Transport
from .views import View
from .watchdog import Blockage

__all__ = ["App"]

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
NOT_RUNNING: Final = "the app does not run: `async with app:` or `await app.start()` first"
VERIFIER_TAKES: Final = ("cookies", "headers", "session")


class App:
    """One application: initial state, handlers, middlewares, bus, settings and its sessions.

    ``state`` is a dict, a :class:`State` class or a factory (sync or async); ``handlers`` is a list
    of functions and modules: exactly those may be called by clients. Both can be given later with
    :meth:`init_state` and :meth:`init_handlers`.
    """

    def __init__(
        self,
        state: Any = None,
        handlers: Iterable[Callable[..., Any] | ModuleType] = (),
        settings: Settings | None = None,
        *,
        root: str | Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings or Settings.from_env()
        self.root = None if root is None else Path(root)
        self.handlers = HandlerTable(self.settings.expose, root=self.root)
        self.middlewares: tuple[Middleware, ...] = ()
        self.log = AppLog()
        self.events = Bus(self)
        self.views: dict[str, View] = {}
        self.broken: str | None = None  # why the newest code does not run (reload.py)
        self.phase = "new"
        self.loop: asyncio.AbstractEventLoop | None = None
        self._given_clock = clock
        self.clock: Clock
        self._sessions: dict[str, Session] = {}
        self.sessions: Mapping[str, Session] = MappingProxyType(self._sessions)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.verifiers: list[Injected] = []
        self.open_hooks: list[Handler] = []
        self.close_hooks: list[Handler] = []
        #: How to stop listening, for each socket that brings clients: ``stop`` calls them first,
        #: once.
        self.listeners: list[Callable[[], object]] = []
        self._drain: Drain | None = None
        self._stopping: asyncio.Task[None] | None = None
        self.groups = Groups()
        self.counters = {
            "sessions_opened": 0,
            "sessions_closed": 0,
            "sessions_refused": 0,
            "links_opened": 0,
            "links_closed": 0,
            "links_expired": 0,
        }
        self.questions = {"asked": 0, "answered": 0, "unanswered": 0, "open": 0}
        self.counts = Counts()
        self.budget = Budget(self.settings.total_log_bytes, self._overflowed, self.counts)
        self.scheduler = Scheduler(self)
        self.reception = Reception(self)
        self.files = Files(self)
        self.scheduler.on_report = self._report
        self.scheduler.on_blocked = self._blocked
        self.template: Template | None = None
        self.factory: Callable[..., Any] | None = None
        self._beginning: State | None = None  # what `template` is of, while that may change
        self.looked_at: set[type[State]] = set()  # of which `dangling` paths were reported
        self.init_state({} if state is None else state)
        if callable(handlers) or isinstance(handlers, ModuleType):
            name = getattr(handlers, "__name__", "...")
            raise BadHandler(f"handlers= is a list: handlers=[{name}]")
        for item in handlers:
            if isinstance(item, ModuleType):
                self.init_handlers(item)
            else:
                self.handlers.add(item)

    # -- describing the app -------------------------------------------------------------------

    def init_state(self, state: Any, schema: type[State] | None = None) -> None:
        """Set what sessions opened from now on start with; live sessions are not touched.

        ``state`` is a dict, a :class:`State` class or instance, or a factory: a function, sync or
        async, that is called for every new session and returns one of these. ``schema`` is a
        :class:`State` class that the values are poured into. An instance without a schema may be
        assigned and subscribed to until the app starts. Raises TypeError for a value that can
        be neither copied nor shared, naming its key and the cure, and for a schema that is none.
        """
        if schema is not None and not _is_schema(schema):
            raise TypeError(f"the schema is a subclass of gr.State, not {schema!r}")
        if _is_factory(state):
            if schema is not None:
                raise TypeError("a state factory has no schema: return Schema({...}) from it")
            self.handlers.claim(state)
            self.factory, self.template, self._beginning = state, None, None
            return
        self.factory, self.template = None, self.make_template(state, schema)
        own = isinstance(state, State) and schema is None and self.phase == "new"
        self._beginning = state if own else None

    def seal(self) -> None:
        """From now on the initial state is as it is: what it was made of may have changed."""
        if self._beginning is not None:
            self.template, self._beginning = self.make_template(self._beginning), None

    def init_handlers(self, modules: ModuleType | Iterable[ModuleType]) -> None:
        """Register the public functions of one or several modules as handlers.

        May be called repeatedly, from any module. What is left out, and why, is in
        ``app.handlers.report()`` and the start-up log. Raises TypeError for something that is no
        module, :class:`BadHandler` for a module of the standard library, for a decorated function
        that cannot be a handler, and for two functions under one ``module.name``.
        """
        for module in check_modules(modules):
            self.handlers.add_module(module, root=self.root)

    @overload
    def middleware(self) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
    @overload
    def middleware(self, fn: Callable[..., Any]) -> Callable[..., Any]: ...

    def middleware(self, fn: Callable[..., Any] | None = None) -> Any:
        """Decorator: run the function around every turn that runs a handler or callback.

        A generator or async generator with one ``yield`` runs before and after, a plain function
        before. Runs in registration order. With or without parentheses. Raises BadHandler for a
        parameter that nothing can be given to.
        """
        if fn is None:
            return self.middleware
        self.handlers.claim(fn)
        self.middlewares = (*self.middlewares, self.handlers.make_middleware(fn))
        self.scheduler.middlewares = self.middlewares
        return fn

    @overload
    def session_verifier(self) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
    @overload
    def session_verifier(self, fn: Callable[..., Any]) -> Callable[..., Any]: ...

    def session_verifier(self, fn: Callable[..., Any] | None = None) -> Any:
        """Decorator: ask the function at every hello who may come in.

        It takes any of ``cookies``, ``headers`` and ``session`` (None at a first hello) and returns
        True, or a dict that goes into ``session.userinfo``; anything else, and an exception, is a
        no. Several must all say yes. Coroutines run on the loop, plain functions on worker threads.
        No session exists before they said yes. With or without parentheses. Raises BadHandler for
        a function that wants more.
        """
        if fn is None:
            return self.session_verifier
        self.handlers.claim(fn)
        self.verifiers.append(plan_for(fn, VERIFIER_TAKES, "session verifier"))
        return fn

    def on_open(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: run the function in a turn when a session opens, before its first snapshot."""
        self.handlers.claim(fn)
        self.open_hooks.append(self.handlers.make_hook(fn))
        return fn

    def on_close(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: run the function in a session's last turn."""
        self.handlers.claim(fn)
        self.close_hooks.append(self.handlers.make_hook(fn))
        return fn

    def on(
        self, event: str, callback: Callable[..., Any] | None = None, *, label: str | None = None
    ) -> Any:
        """Run ``callback`` when a client sends ``event``; also a decorator.

        ``event`` is ``namespace:name``, a handler's plain name, or ``*`` for all. ``label``: only
        from that view; it may not exist yet. Returns a handle with ``off()`` (as a decorator: the
        function).
        """
        if callback is None:

            def register(fn: Callable[..., Any]) -> Callable[..., Any]:
                self.on(event, fn, label=label)
                return fn

            return register
        self.handlers.claim(callback)
        return self.handlers.on(event, callback, label=label)

    def show(
        self,
        html: str,
        *,
        label: str = DEFAULT_LABEL,
        callbacks: Mapping[str, Callable[..., Any]] | None = None,
        title: str | None = None,
    ) -> View:
        """Serve ``html`` as a page of its own under ``label``; returns its :class:`View`."""
        view = View(self, html, label, title)
        for event, callback in (callbacks or {}).items():
            view.on(event, callback)
        self.views[label] = view
        return view

    def adopt(self, other: App) -> None:
        """Go on with what ``other`` has registered, in place of what was registered here.

        For new code in a running app: put a second app together, which is never started, and adopt
        it. On the loop, in one step between turns: handlers, callbacks of ``on``, middlewares,
        verifiers, hooks, signals, queries, reactions, views, the initial state and
        ``Settings.authorize``. Sessions live on with their state, and get what the new initial
        state has and the old one had not. ``other`` is this app by another name afterwards.
        ``reload.py`` has the rule.
        """
        adopt(self, other)

    @contextlib.contextmanager
    def registering(self) -> Generator[Self]:
        """Make the app current: ``with app.registering(): import my_events``.

        What is printed meanwhile, in this context and by no turn, is in ``app.log`` too.
        """
        token = registering.set(self)
        try:
            with self.log.capturing():
                yield self
        finally:
            registering.reset(token)

    def reaction_handlers(self, name: str, fn: Callable[..., Any]) -> tuple[Handler, ...]:
        """A reaction or query that runs in sessions, as handlers of a turn."""
        return (self.handlers.make_callback(name, fn),)

    # -- life ---------------------------------------------------------------------------------

    @property
    def sync_opening(self) -> bool:
        """Whether a session opens without waiting for anything."""
        return not self.verifiers and self.factory is None

    @property
    def running(self) -> bool:
        """Whether the app accepts sessions."""
        return self.phase == "running"

    async def start(self) -> None:
        """Start on the running loop. Does nothing when the app runs there already."""
        loop = asyncio.get_running_loop()
        if self.phase == "running":
            if self.loop is not loop:
                raise RuntimeError("the app already runs on another loop: make one app for each")
            return
        self.seal()
        self.loop = loop
        self.clock = self._given_clock or LoopClock(loop)
        self.deadlines = Deadlines(self.clock)
        self.scheduler.start(loop, self.clock, context=self._context())
        self.reception.start()
        self.events.start()
        self.log.start()
        self.phase = "running"
        for line in self.handlers.report():
            self.log.info(line)
        if self.template is not None:
            self.look_at(self.template)

    def _context(self) -> Context:
        """What turns, reactions, queries and verifiers begin with: this app is the current one.

        Whoever started it may have another one at hand. Output of no turn goes to our own log.
        """
        context = copy_context()
        context.run(registering.set, self)
        context.run(self.log.hear_context)
        return context

    async def stop(self, drain: float | None = None) -> None:
        """Stop: refuse what is new, end what runs, tell clients when to come back.

        ``drain`` is how long that may take in seconds (``Settings.drain``); ``drain.py`` says what
        happens meanwhile. A second call waits for the end of the first and may bring it nearer:
        ``stop(0)`` ends a drain at once. Cancelling the call does not.
        """
        seconds = self.settings.drain if drain is None else drain
        if self.phase == "running":
            self.phase = "draining"
            self._drain = Drain(self, seconds)
            self._drain.begin()
            # Not in the context of a caller that may be a turn itself.
            self._stopping = asyncio.get_running_loop().create_task(
                self._stop(self._drain), name="greenroom-drain", context=Context()
            )
        elif self.phase == "draining" and self._drain is not None:
            self._drain.hasten(seconds)
        if self._stopping is not None:
            await asyncio.shield(self._stopping)

    async def _stop(self, drain: Drain) -> None:
        await drain.run()
        self.events.stop()
        await self.files.stop()
        self.deadlines.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.scheduler.stop()
        self.log.stop()
        self._drain = self._stopping = None
        self.phase = "stopped"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @contextlib.contextmanager
    def running_in_thread(self) -> Generator[Self]:
        """Run the app on a loop in a thread of its own, for hosts without one."""
        ready: threading.Event = threading.Event()
        failure: list[BaseException] = []
        over: list[Callable[[], object]] = []

        async def main() -> None:
            done = asyncio.Event()
            loop = asyncio.get_running_loop()
            over.append(lambda: loop.call_soon_threadsafe(done.set))
            await self.start()
            ready.set()
            await done.wait()
            await self.stop()

        def run() -> None:
            try:
                asyncio.run(main())
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                failure.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=run, name="greenroom-loop", daemon=True)
        thread.start()
        ready.wait()
        if failure:
            raise failure[0]
        try:
            yield self
        finally:
            over[0]()
            thread.join()
            if failure:
                raise failure[0]

    # -- sessions -----------------------------------------------------------------------------

    def open_session(
        self,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        userinfo: Mapping[str, Any] | None = None,
    ) -> Session:
        """Open a session without a client; it lives ``session_ttl`` from its last message.

        From any thread; others than the loop's wait for it. Raises :class:`Busy` at
        ``max_sessions``, :class:`Closed` when the app does not run. A plain state factory runs
        here and now on the loop; with an async one use :meth:`open_session_async` there.
        """
        self.check_room()
        if not self.scheduler.on_loop():
            assert self.loop is not None
            opening = self.open_session_async(headers, cookies, userinfo)
            return asyncio.run_coroutine_threadsafe(opening, self.loop).result()
        state = None if self.factory is None else self.factory()
        if inspect.isawaitable(state):
            if inspect.iscoroutine(state):
                state.close()
            raise TypeError("the state factory is async: use `await app.open_session_async(...)`")
        return self._open_session(state, headers or NOTHING, cookies or NOTHING, userinfo)

    async def open_session_async(
        self,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        userinfo: Mapping[str, Any] | None = None,
    ) -> Session:
        """:meth:`open_session` that waits for the state factory: a plain one runs on a worker."""
        self.check_room()
        state = None if self.factory is None else await self.call(self.factory)
        return self._open_session(state, headers or NOTHING, cookies or NOTHING, userinfo)

    def check_room(self) -> None:
        """Whether another session may be opened; raises :class:`Busy` or :class:`Closed`."""
        if self.phase != "running":
            self.counters["sessions_refused"] += 1
            raise Closed(NOT_RUNNING)
        limit = self.settings.max_sessions
        if limit and len(self._sessions) >= limit:
            self.counters["sessions_refused"] += 1
            raise Busy(f"max_sessions ({limit}) is reached", retry_after=5.0)

    def revoke_tokens(self, *, close: bool = False) -> None:
        """Revoke the tokens of every session there is: :meth:`Session.revoke_tokens`."""
        self._check_alive()
        for session in tuple(self._sessions.values()):
            session.revoke_tokens(close=close)

    def _open_session(
        self,
        state: Any,
        headers: Mapping[str, str],
        cookies: Mapping[str, str],
        userinfo: Mapping[str, Any] | None,
    ) -> Session:
        self.check_room()
        template = self.template
        if template is None:
            template = self.make_template(state)
            self.look_at(template)
        session = Session(self, secrets.token_urlsafe(16), template.open(), headers, cookies)
        if userinfo:
            session.userinfo = dict(userinfo)
        self._sessions[session.id] = session
        session.enter_table()
        self.counters["sessions_opened"] += 1
        session.begin(self.open_hooks)
        return session

    def look_at(self, template: Template) -> None:
        """Warn of paths in what sessions begin with that name nothing; of each class once."""
        kind = type(template.root)
        if kind not in self.looked_at:
            self.looked_at.add(kind)
            for one in dangling(template):
                if one.certain:
                    self.log.warning(one.text)

    def make_template(self, state: Any, schema: type[State] | None = None) -> Template:
        """What sessions begin with, made of a state or what a factory gave."""
        if _is_schema(state):
            state, schema = {}, state
        if schema is not None and schema.__init__ is not State.__init__:
            return Template(schema(state))  # it has something to say about its values
        return Template(state, schema)

    # -- events to clients --------------------------------------------------------------------

    def emit(
        self,
        event: str,
        data: Any = None,
        label: str | None = None,
        *,
        session: Session | None = None,
    ) -> None:
        """Send an event to the clients of one session, or only to its views under ``label``.

        The session is the current turn's, or ``session``, or the only one there is. Raises
        :class:`NoSession` when it is not clear which is meant.
        """
        self.meant(session).emit(event, data, label=label)

    def broadcast(self, event: str, data: Any = None, label: str | None = None) -> None:
        """Send an event to the clients of every session: the only call that reaches everybody."""
        check_event_name(event)
        self._check_alive()
        outgoing = encode_event(self.settings, event, data)
        self.call_on_loop(self._broadcast, event, outgoing, label)

    def _broadcast(self, event: str, data: Any, label: str | None) -> None:
        sessions = tuple(self._sessions.values())
        self.scheduler.count("emitted", len(sessions))
        for session in sessions:
            session.push_event(event, data, label)

    def meant(self, session: Session | None) -> Session:
        """``session``, or the current turn's, or the only one there is; else NoSession."""
        if session is not None:
            return session
        turn = current_turn()
        if turn is not None and turn.session is not None and turn.app.events is self.events:
            running: Session = turn.session
            return running
        if len(self._sessions) == 1:
            return next(iter(self._sessions.values()))
        raise NoSession(
            f"there are {len(self._sessions)} sessions and no turn is running here: pass session=, "
            "or use app.broadcast to reach everybody"
        )

    # -- clients ------------------------------------------------------------------------------

    def connect(
        self,
        transport: Transport,
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        userinfo: Mapping[str, Any] | None = None,
        peer: str | None = None,
        binding: str | None = None,
        profile: Profile | None = None,
    ) -> Connection:
        """A transport has connected: the connection to feed its packets to. On the loop only.

        ``peer`` is the client's address where it is known, ``binding`` what its tokens are bound
        to (the value of the binding cookie), ``profile`` what a link must know of its transport.
        Raises :class:`Busy` at ``max_connections`` and :class:`Closed` when the app does not run;
        refuse the transport then.
        """
        if self.phase != "running":
            self.reception.counters["connections_refused"] += 1
            raise Closed(NOT_RUNNING)
        return self.reception.connect(
            transport,
            headers or NOTHING,
            cookies or NOTHING,
            userinfo,
            peer,
            binding,
            profile or PLAIN,
        )

    def turned_away(self, reason: str) -> None:
        """An adapter refused a client before it connected: ``reason``, one word, is counted."""
        self.reception.handshakes[reason] += 1

    def session_ended(self, session: Session) -> None:
        """A session has taken its last step."""
        if self._sessions.pop(session.id, None) is not None:
            self.counters["sessions_closed"] += 1
        for name in session.groups:
            self.groups.leave(name, session)
        self.files.session_ended(session)

    def group(self, name: str) -> Group:
        """The sessions that joined ``name``: ``app.group("room").emit(...)``."""
        return Group(self.groups, name)

    def _overflowed(self, link: Any) -> None:
        """A stalled link was closed for the sake of the others: nobody was looking at it."""
        for connection in self.reception.connections:
            if connection.link is link:
                self.reception.outlet.mark(connection)
                return

    # -- running things -----------------------------------------------------------------------

    def call_on_loop(self, callback: Callable[..., object], *args: Any) -> bool:
        """Call ``callback(*args)`` on the loop: at once when the caller is there, else soon.

        After the app has stopped nobody is there; that is counted and nothing happens: False.
        """
        if self.loop is None:
            raise Closed(NOT_RUNNING)
        if self.phase == "stopped":
            self.scheduler.count("late_calls")
            return False
        if self.scheduler.on_loop():
            callback(*args)
        else:
            self.scheduler.post_to_loop(callback, *args)
        return True

    def _check_alive(self) -> None:
        if self.phase in ("new", "stopped"):
            raise Closed(NOT_RUNNING)

    def start_task(
        self, coro: Coroutine[Any, Any, Any], *, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """A task of the app's own; it is cancelled when the app stops.

        In a copy of the app's context, unless ``context`` is given.
        """
        assert self.loop is not None
        if context is None and self.scheduler.base is not None:
            context = self.scheduler.base.copy()
        task = self.loop.create_task(coro, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def call(self, fn: Callable[..., Any], *args: Any, seat: Seat | None = None) -> Any:
        """Call a plain function as handlers are called: sync on a worker, async on the loop.

        ``seat`` is held as long as a worker is busy with it, whether somebody waits or not.
        """
        if inspect.iscoroutinefunction(inspect.unwrap(fn)):
            return await fn(*args)
        if seat is not None:
            seat.hold()
        ended = None if seat is None else seat.leave
        result = await self.scheduler.run_on_worker(copy_context().run, fn, *args, ended=ended)
        return await result if inspect.isawaitable(result) else result

    async def hears(self, seconds: float = 1.0) -> bool:
        """Whether the app's loop takes up what it is handed, within ``seconds``; for health checks.

        False also when the app does not run. From any loop.
        """
        if self.phase in ("new", "stopped"):
            return False
        loop = asyncio.get_running_loop()
        heard = loop.create_future()
        self.scheduler.post_to_loop(loop.call_soon_threadsafe, _settle, heard)
        try:
            async with asyncio.timeout(seconds):
                await heard
        except TimeoutError:
            return False
        return True

    def stats(self) -> dict[str, Any]:
        """Named counters: what exists now, and every place a message or frame can end.

        Nested dicts of ints, read on the loop; ``docs/operations.md`` explains every key. It costs
        the same for one session as for a hundred thousand.
        """
        return gather(self, len(self._tasks))

    def _report(self, what: str, error: BaseException | None) -> None:
        if error is None:
            self.log.error(what)
        else:
            self.log.exception(what, error)

    def _blocked(self, blockage: Blockage) -> None:
        self.log.warning(str(blockage))


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _is_schema(state: object) -> TypeGuard[type[State]]:
    return isinstance(state, type) and issubclass(state, State)


def _is_factory(state: object) -> TypeGuard[Callable[..., Any]]:
    return callable(state) and not _is_schema(state) and not isinstance(state, (State, Mapping))
