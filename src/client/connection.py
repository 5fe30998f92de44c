"""The Python client: a session's state, live, and the ways to talk to its server.

::

    async with connect("ws://127.0.0.1:8000/ws") as client:
        client.subscribe("counter", lambda value, previous: print(value))
        print(await client.call("add", 5))

This file is the driver: it owns the connection, the timers and the callbacks, and leaves every
decision about frames to ``link.py``. All of it runs on the loop the client was entered on; nothing
here may be called from another thread.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random as random_module
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, cast

from ..core.errors import Closed, Refused, Timeout
from ..core.types import DEFAULT_LABEL, Clock, FileRef, Timer
from .codec import encode
from .duplex import Dialer, Duplex, dialer_of, refused_for_good
from .entry import Entry
from .events import Events
from .files import Download, Files, Progress
from .link import Link
from .machine import State
from .patch import Diverged, Mirror

__all__ = ["Client", "Off", "Status", "connect"]

Status = Literal["connecting", "live", "offline", "closed"]
Off = Callable[[], None]

FIRST_STATE: Final = 30.0  # seconds
BACK_OFF: Final = 0.25  # seconds, doubling
BACK_OFF_MAX: Final = 10.0
LATE_EVENTS: Final = 100  # that wait for a handler
REFRESH_MIN: Final = 5.0  # seconds
REFRESH_MAX: Final = 12 * 3600.0
REFRESH_AGAIN: Final = 30.0  # after a refusal, or when our clock is ahead of the server's

_log = logging.getLogger("greenroom.client")


def connect(
    target: str | Dialer,
    *,
    label: str = DEFAULT_LABEL,
    token: str | None = None,
    binary: bool = True,
    downloads: str | Path | None = None,
    timeout: float | None = FIRST_STATE,
    clock: Clock | None = None,
    random: Callable[[], float] = random_module.random,
) -> Client:
    """A client for ``async with``; inside, the first state is there.

    Until it is, ``async with`` tries again and again, at most ``timeout`` seconds (30; None: for
    ever); then it raises :class:`Timeout`, which says what was in the way. It raises
    :class:`Closed` at once when the server refuses for good. A connection that was there once is
    sought for ever.

    ``target`` is a URL (that of the WebSocket, or ``http://host:port`` as ``greenroom run`` prints
    it), or a function that returns a :class:`~greenroom.client.duplex.Duplex` (or
    an awaitable of one) each time it is called: ``lambda: memory.connect(app)``. ``token`` takes up
    a session (an earlier client's :attr:`Client.token`). ``downloads`` is a folder that takes what
    the server wants saved, unless :meth:`Client.on_download` says otherwise. ``clock`` and
    ``random`` are for tests.
    """
    return Client(
        target,
        label=label,
        token=token,
        binary=binary,
        downloads=downloads,
        timeout=timeout,
        clock=clock,
        random=random,
    )


class Client:
    """One link of a session. Made by :func:`connect`."""

    def __init__(
        self,
        target: str | Dialer,
        *,
        label: str = DEFAULT_LABEL,
        token: str | None = None,
        binary: bool = True,
        downloads: str | Path | None = None,
        timeout: float | None = FIRST_STATE,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._dial = dialer_of(target)
        self._where = target if isinstance(target, str) else "the other end"
        self._patience = timeout
        self._trouble = ""  # why the last connection failed or ended
        self._link = Link(label=label, token=token, binary=binary)
        self._mirror = Mirror()
        self._given_clock = clock
        self._random = random
        self._clock: Clock
        self._ready: asyncio.Future[None]
        self._duplex: Duplex | None = None
        self._conversation: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: Timer | None = None
        self._dial_at: float | None = None  # when to dial; None: not at all
        self._not_before = 0.0  # what the server asked for
        self._attempt = 0
        self._waited = 0.0
        self._live_since: float | None = None
        self._refresh_at: float | None = None
        self._pumping = False
        self._leaving = False  # what is lost now is lost on purpose
        self._handlers: dict[str, list[Callable[..., Any]]] = {}
        self._late: deque[tuple[str, tuple[Any, ...]]] = deque(maxlen=LATE_EVENTS)
        self._frame_hooks: list[Callable[[str, dict[str, Any]], object]] = []
        self._status_hooks: list[Callable[[Status], object]] = []
        self.status: Status = "offline"
        self.events = Events(self)
        self._files = Files(self, target, downloads)

    # -- life -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._clock = self._given_clock or LoopClock(loop)
        self._ready = loop.create_future()
        self._dial_at = now = self._clock.time()
        patience = self._patience
        timer = None if patience is None else self._clock.call_at(now + patience, self._give_up)
        self._pump()
        try:
            await self._ready
        except BaseException:
            await self.close()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _give_up(self) -> None:
        """The time for the first state is over."""
        if not self._ready.done():
            self._ready.set_exception(
                Timeout(
                    f"no state from {self._where} within {self._patience:g} s "
                    f"({self._trouble or 'it says nothing'}): is the server running, and is this "
                    "its address? connect(..., timeout=None) goes on trying"
                )
            )

    async def close(self) -> None:
        """Leave for good: the link is forgotten, the session stays for its time to live."""
        self._leaving = True
        duplex = self._duplex
        tasks = set(self._tasks)
        if self._conversation is not None:
            tasks.add(self._conversation)
        tasks.discard(cast("asyncio.Task[Any]", asyncio.current_task()))
        self._link.bye(self._clock.time())
        self._pump()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        closed = getattr(duplex, "closed", None)
        if callable(closed):
            await cast("Awaitable[None]", closed())

    # -- the state --------------------------------------------------------------------------

    @property
    def state(self) -> Mapping[str, Any]:
        """The state as the server last told it: plain data, not to be written to."""
        return self._mirror.root

    @property
    def label(self) -> str:
        return self._link.label

    @property
    def session(self) -> str | None:
        """The session's id; None before the first welcome."""
        return self._link.session

    @property
    def token(self) -> str | None:
        """Opens the session again, also from another process: a secret."""
        return self._link.token

    def get(self, path: str | Sequence[str | int]) -> Any:
        """The value at ``a.b`` (or a sequence of keys), or None."""
        return self._mirror.get(path)

    def subscribe(
        self, path: str | Sequence[str | int], callback: Callable[[Any, Any], object]
    ) -> Off:
        """Call ``callback(value, previous)`` once per patch that touches ``path``; "" is all."""
        return self._mirror.watch(path, callback)

    # -- talking to the server --------------------------------------------------------------

    def send(self, event: str, data: Any = None, *, context: dict[str, Any] | None = None) -> None:
        """Run a handler, exactly once; nobody waits.

        A refusal goes to the handlers of ``gr:error``, or else to the log.
        """
        self._submit(event, data, context=context)

    def call(
        self,
        event: str,
        data: Any = None,
        *,
        context: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> asyncio.Future[Any]:
        """Run a handler; await the future for its result.

        It raises :class:`Refused`, whose ``code`` is the server's (``busy``, ``handler_error``
        ...), ``lost`` (it may or may not have run) or ``offline`` (it was never sent), and
        :class:`Timeout` after ``timeout`` seconds. That, and cancelling the future, cancels the
        call: what waits never runs, an async handler is cancelled and undone, a sync one sees
        ``gr.cancelled()``.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        entry = self._submit(event, data, context=context, tag=future)
        timer = None
        if timeout is not None:
            timer = self._clock.call_at(
                self._clock.time() + timeout, self._expire, entry, event, timeout
            )

        def done(_: asyncio.Future[Any]) -> None:
            if timer is not None:
                timer.cancel()
            if future.cancelled():
                self._cancel(entry)

        future.add_done_callback(done)
        return future

    def on(self, event: str, handler: Callable[..., Any]) -> Off:
        """Call ``handler(data, type, label)`` (sync or async) for events from the server.

        Events without a handler wait, up to 100 of them, for a late one. Built-in events are
        events here; what a handler of ``gr:confirm`` returns is the answer. ``gr:gap`` and
        ``gr:renewed`` are local: events may be missing, the state is not; ``gr:error`` gets a
        :class:`Refused` and the type of what was refused.
        """
        handlers = self._handlers.setdefault(event, [])
        handlers.append(handler)
        waiting = [args for name, args in self._late if name == event]
        self._late = deque((one for one in self._late if one[0] != event), maxlen=LATE_EVENTS)
        for args in waiting:
            asyncio.get_running_loop().call_soon(self._dispatch, event, args)

        def off() -> None:
            if handler in handlers:
                handlers.remove(handler)

        return off

    # -- files ------------------------------------------------------------------------------

    async def upload(
        self,
        source: str | Path | bytes,
        *,
        name: str | None = None,
        mime: str | None = None,
        progress: Progress | None = None,
    ) -> FileRef:
        """Send a file (a path, or bytes) beside the stream; what comes back names it in a payload.

        ``await client.call("import_csv", await client.upload("big.csv"))``: the handler gets a
        ``gr.File``. ``progress(sent, size)`` is called on the loop, in bytes. Raises
        :class:`Refused` (``too_large``, ``busy``, ``not_found``, ``timeout``, ``lost``), OSError
        when it cannot be read. Cancelling it drops the file at the server.
        """
        return await self._files.upload(source, name, mime, progress)

    def on_download(self, hook: Callable[[Download], object]) -> Off:
        """Call ``hook(download)`` (sync or async) when the server wants a file saved.

        ``await download.save(folder)`` or ``await download.read()``, within
        ``Settings.file_ttl``. With the ``downloads`` folder of :func:`connect` and no hook, files
        are saved there; the local event ``gr:saved`` tells ``{path, mime, size}``.
        """
        self._files.hooks.append(hook)
        return lambda: self._files.hooks.remove(hook)

    # -- hooks ------------------------------------------------------------------------------

    def on_status(self, hook: Callable[[Status], object]) -> Off:
        """Call ``hook(status)`` at every change."""
        self._status_hooks.append(hook)
        return lambda: self._status_hooks.remove(hook)

    def on_frame(self, hook: Callable[[str, dict[str, Any]], object]) -> Off:
        """Call ``hook("in" | "out", frame)`` for every frame; tokens are not shown."""
        self._frame_hooks.append(hook)
        self._link.on_frame = self._show

        def off() -> None:
            self._frame_hooks.remove(hook)
            if not self._frame_hooks:
                self._link.on_frame = None

        return off

    def wake(self) -> None:
        """Reconnect at once, or make sure that the connection lives: the network is back."""
        if self._duplex is not None:
            self._link.wake(self._clock.time())
        elif self._dial_at is not None:
            self._dial_at = self._not_before
        self._pump()

    # -- what events.py and files.py use ----------------------------------------------------

    def run(self, what: str, hook: Callable[[], object]) -> None:
        """Call a hook, sync or async; its failure is not ours."""
        try:
            value = hook()
        except Exception:  # noqa: BLE001 - one hook's failure is not another's
            _log.exception("%s failed", what)
        else:
            if inspect.isawaitable(value):
                self._start(self._finish(what, value))

    def tell(self, event: str, data: Any) -> None:
        """A local event."""
        self._dispatch(event, (data, event, self.label))

    def ask(
        self,
        kind: str,
        data: Any,
        *,
        name: str | None = None,
    ) -> asyncio.Future[Any]:
        """Say a frame of the protocol; the future has its answer."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._submit(kind, data, tag=future, name=name)
        return future

    # -- frames -----------------------------------------------------------------------------

    def _submit(
        self,
        kind: str,
        data: Any,
        *,
        context: dict[str, Any] | None = None,
        tag: asyncio.Future[Any] | None = None,
        name: str | None = None,
    ) -> Entry:
        buffers: list[bytes] = []
        text = encode(data, buffers if self._link.binary else None)
        about = None if context is None else encode(context)
        entry = self._link.submit(
            kind, text, context=about, buffers=tuple(buffers), tag=tag, name=name
        )
        self._pump()
        return entry

    def _expire(self, entry: Entry, kind: str, timeout: float) -> None:
        if not entry.tag.done():
            entry.tag.set_exception(Timeout(f"{kind} was not answered within {timeout} s"))
        self._cancel(entry)

    def _cancel(self, entry: Entry) -> None:
        if not self._link.withdraw(entry) and not entry.done and self._link.state != State.CLOSED:
            self._submit("gr:cancel", {"id": entry.id})
        self._pump()

    def _pump(self) -> None:
        """Carry out what the link wants, until it wants nothing more."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while True:
                packets = self._link.take()
                if packets and self._duplex is not None:
                    self._duplex.send(*packets)
                effects = self._link.effects()
                for effect in effects:
                    getattr(self, f"_on_{effect.kind}")(*effect.args)
                if not packets and not effects:
                    break
        finally:
            self._pumping = False
        self._schedule()
        self._tell_status()

    def _on_snapshot(self, root: dict[str, Any]) -> None:
        self._mirror.snapshot(root)
        if not self._ready.done():
            self._ready.set_result(None)

    def _on_patch(self, patch: dict[str, Any]) -> None:
        try:
            self._mirror.patch(patch)
        except Diverged as error:
            _log.error("the state is asked for again: %s", error)
            self._link.diverged(str(error), self._clock.time())

    def _on_answer(self, entry: Entry, value: Any) -> None:
        if entry.tag is not None and not entry.tag.done():
            entry.tag.set_result(value)

    def _on_error(self, entry: Entry, code: str, message: str, after: float | None) -> None:
        error = Refused(code, message, after)
        if entry.tag is None:
            self._refused(error, entry.type)
        elif not entry.tag.done():
            entry.tag.set_exception(error)

    def _on_refusal(self, code: str, message: str) -> None:
        self._refused(Refused(code, message), "")

    def _on_event(self, event: str, data: Any, label: str) -> None:
        self._dispatch(event, (data, event, label))

    def _on_signal(self, name: str, data: Any) -> None:
        self._dispatch(f"gr:signal {name}", (data,))

    def _on_gap(self) -> None:
        self._dispatch("gr:gap", ({}, "gr:gap", self.label))

    def _on_renewed(self) -> None:
        self._dispatch("gr:renewed", ({}, "gr:renewed", self.label))

    def _on_token(self, token: str | None, expires: float | None) -> None:
        if token is not None and expires:
            # A moment of the calendar, or a number of seconds: no token lives for three years.
            left = expires - time.time() if expires > 1e8 else expires
            wait = max(REFRESH_MIN, left / 2) if left > 0 else REFRESH_AGAIN
            self._refresh_at = self._clock.time() + min(REFRESH_MAX, wait)

    def _on_hang_up(self, code: int, reason: str) -> None:
        duplex, self._duplex = self._duplex, None
        if duplex is not None:
            duplex.close()
        task, self._conversation = self._conversation, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def _on_retry(self, how: str, after: float | None, code: str, message: str) -> None:
        now = self._clock.time()
        self._trouble = f"{code} {message}".strip()
        # A connection that outlived the wait before it starts the count anew.
        if self._live_since is not None and now - self._live_since > self._waited:
            self._attempt = 0
        step = min(BACK_OFF_MAX, BACK_OFF * 2**self._attempt)
        self._attempt += 1
        self._waited = min(BACK_OFF_MAX, step * (0.5 + self._random()))
        self._not_before = now + (after or 0.0)
        self._dial_at = None if how == "never" else self._not_before + self._waited
        if how == "never" and not self._ready.done():
            self._ready.set_exception(Closed(f"the server refused for good: {self._trouble}"))

    # -- callbacks --------------------------------------------------------------------------

    def _refused(self, error: Refused, event: str) -> None:
        """A frame that nobody waits for was refused."""
        if self._handlers.get("gr:error"):
            self._dispatch("gr:error", (error, event, self.label))
        else:
            level = logging.DEBUG if self._leaving else logging.WARNING
            _log.log(level, "%s was refused: %s", event or "a frame", error)

    def _dispatch(self, event: str, args: tuple[Any, ...]) -> None:
        handlers = self._handlers.get(event)
        if not handlers:
            if event == "gr:download":
                self._files.offered(args[0])
            if not event.startswith("gr:") or event.startswith("gr:signal "):
                self._late.append((event, args))
            return
        for handler in list(handlers):
            try:
                value = handler(*args)
            except Exception:  # noqa: BLE001 - one handler's failure is not another's
                _log.exception("a handler of %s failed", event)
                value = None
            if event == "gr:confirm" and isinstance(args[0], dict):
                self._start(self._answer(cast("dict[str, Any]", args[0]).get("call"), value))
            elif inspect.isawaitable(value):
                self._start(self._finish(event, value))

    async def _finish(self, event: str, value: Awaitable[Any]) -> Any:
        try:
            return await value
        except Exception:  # noqa: BLE001 - as above
            _log.exception("a handler of %s failed", event)
            return None

    async def _answer(self, call: Any, value: Any) -> None:
        if inspect.isawaitable(value):
            value = await self._finish("gr:confirm", value)
        self._submit("gr:answer", {"call": call, "value": value})

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _show(self, direction: str, frame: dict[str, Any]) -> None:
        for hook in list(self._frame_hooks):
            try:
                hook(direction, frame)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("a frame hook failed")

    def _tell_status(self) -> None:
        status: Status
        if self._link.state in (State.LIVE, State.CLOSED):
            status = "live" if self._link.state is State.LIVE else "closed"
        else:
            status = "connecting" if self._conversation is not None else "offline"
        if status == self.status:
            return
        if status == "live":
            self._live_since = self._clock.time()
        self.status = status
        for hook in list(self._status_hooks):
            try:
                hook(status)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("a status hook failed")

    # -- the connection ---------------------------------------------------------------------

    async def _converse(self) -> None:
        """One connection, from dialling to its end."""
        try:
            dialled = self._dial()
            duplex = await dialled if inspect.isawaitable(dialled) else dialled
        except Exception as error:  # noqa: BLE001 - whatever keeps us from connecting may pass
            first = not self._attempt  # the later ones would say the same
            _log.log(logging.WARNING if first else logging.INFO, "no connection: %s", error)
            self._conversation = None
            if refused_for_good(error) and not self._ready.done():  # it was never there
                self._on_retry("never", None, "", f"{error}: is this the address of the WebSocket?")
            else:
                self._on_retry("resume", None, "", str(error))
            self._pump()
            return
        self._duplex = duplex
        self._link.open(self._clock.time())
        self._pump()
        try:
            while self._duplex is duplex:
                packet = await duplex.receive()
                self._link.receive(packet, self._clock.time())
                self._pump()
        except (EOFError, OSError):
            if self._duplex is duplex:
                self._duplex = self._conversation = None
                ended = duplex.ended
                self._link.cut(ended.code if ended is not None else 1006, self._clock.time())
                self._pump()

    def _schedule(self) -> None:
        """One timer for all that is due: to dial, the link's deadline, a new token."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._link.state is State.CLOSED:
            return
        now = self._clock.time()
        idle = self._conversation is None
        if idle and self._dial_at is not None and self._dial_at <= now:
            self._dial_at = self._live_since = None
            self._conversation = asyncio.get_running_loop().create_task(self._converse())
        times = (self._dial_at, self._link.deadline(), self._refresh_at)
        due = min((moment for moment in times if moment is not None), default=None)
        if due is not None:
            self._timer = self._clock.call_at(due, self._tick)

    def _tick(self) -> None:
        now = self._clock.time()
        self._link.tick(now)
        if self._refresh_at is not None and now >= self._refresh_at:
            self._refresh_at = None  # the next token sets it again
            if self._link.state is State.LIVE:
                self.ask("gr:refresh", None).add_done_callback(self._refreshed)
        self._pump()

    def _refreshed(self, answer: asyncio.Future[Any]) -> None:
        """A new token was asked for, well before the one we have expires."""
        error = None if answer.cancelled() else answer.exception()
        if not isinstance(error, Refused) or error.code in ("lost", "closed"):
            return  # it is here, or the next welcome brings one
        _log.warning("the token was not renewed: %s", error)
        if error.code != "unauthorized":  # else revoked: this session ends with its connection
            self._refresh_at = self._clock.time() + REFRESH_AGAIN
            self._schedule()


class LoopClock:
    """The loop's own time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.time = loop.time
        self.call_at: Callable[..., Timer] = loop.call_at
