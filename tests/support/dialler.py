"""A visitor on a real WebSocket: dials, sends, listens, and dials again when it is cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Self

from tests.support.visitor import Visitor
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, WebSocketException

from greenroom.core.types import Packet

PAUSE = 0.01  # seconds between dials that nobody answers
GRACE = 1.0  # seconds a hanging closing handshake is waited for


class Dialler:
    """Carries a visitor's bytes over a port of this machine. ``before`` is called at each dial."""

    def __init__(
        self,
        visitor: Visitor,
        port: int | Callable[[], int],
        *,
        path: str = "/ws",
        before: Callable[[], object] = lambda: None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.visitor = visitor
        self.before = before
        self.dials = 0
        self.refused = 0  # connections that never became one
        self._port = port if callable(port) else lambda: port
        self._path = path
        self._headers = headers
        self._ws: ClientConnection | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._live())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    # -- what tests call ----------------------------------------------------------------------

    async def submit(self, type: str, data: Any = None, *, tag: str | None = None) -> str:
        tag = self.visitor.submit(type, data, tag=tag)
        self._news.set()
        await self._say()
        return tag

    async def until(self, condition: Callable[[], Any]) -> None:
        """Return as soon as something is so; looked at whenever anything has happened."""
        while not condition():
            assert self._task is not None
            if self._task.done():
                self._task.result()
                raise AssertionError(f"{self.visitor.name} is closed: {self.visitor.closes}")
            self._news.clear()
            waiter = asyncio.ensure_future(self._news.wait())
            await asyncio.wait({waiter, self._task}, return_when=asyncio.FIRST_COMPLETED)
            waiter.cancel()

    async def answered(self, *tags: str) -> None:
        """All these frames, or all there are, have been settled."""
        visitor = self.visitor
        await self.until(
            lambda: all(t in visitor.outcomes for t in tags) if tags else not visitor.unanswered
        )

    async def cut(self) -> None:
        """Abort the transport, as a network does."""
        if self._ws is not None:
            self._ws.transport.abort()

    # -- the connection -----------------------------------------------------------------------

    async def _live(self) -> None:
        while not self.visitor.over:
            self.before()
            self.dials += 1
            try:
                await self._connect()
            except (OSError, EOFError, InvalidHandshake, InvalidMessage, TimeoutError):
                self.refused += 1
                await asyncio.sleep(PAUSE)
            self._news.set()

    async def _connect(self) -> None:
        async with connect(
            f"ws://127.0.0.1:{self._port()}{self._path}",
            compression=None,
            max_size=None,
            ping_interval=None,
            close_timeout=GRACE,
            proxy=None,
            additional_headers=self._headers,
        ) as ws:
            self._ws = ws
            visitor = self.visitor
            hung_up = asyncio.Event()
            visitor.hang_up = hung_up.set
            try:
                visitor.opened()
                await self._say()
                while not hung_up.is_set():
                    message = await ws.recv()
                    assert isinstance(message, str)
                    visitor.received(Packet(message.encode()))
                    self._news.set()
                    await self._say()
            except WebSocketException:
                pass
            finally:
                self._ws = None
                visitor.ended(1006 if ws.close_code is None else ws.close_code)

    async def _say(self) -> None:
        async with self._sending:
            ws = self._ws
            if ws is None or not (self.visitor.connected or self.visitor.over):
                return
            for packet in self.visitor.link.take():
                with contextlib.suppress(WebSocketException, OSError):
                    await ws.send(packet.data, text=True)
