"""An ASGI application, or an echo, served on the running loop and a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from typing import Any

import uvicorn

from greenroom.testing import echo


class _Server(uvicorn.Server):
    ready: asyncio.Event

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextlib.asynccontextmanager
async def served(application: Any, **options: Any) -> AsyncGenerator[int]:
    """Serve ``application``; the port."""
    config = uvicorn.Config(
        application,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_config=None,
        log_level="critical",
        timeout_graceful_shutdown=1,
        **options,
    )
    server = _Server(config)
    server.ready = asyncio.Event()
    async with running(server) as port:
        yield port


@contextlib.asynccontextmanager
async def echoing(adapter: str) -> AsyncGenerator[int]:
    """The echo on an adapter; the port."""
    async with running(echo.server(adapter)) as port:
        yield port


@contextlib.asynccontextmanager
async def running(server: Any) -> AsyncGenerator[int]:
    """Run a server that says when it is ``ready``; the port."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        await server.ready.wait()
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            await task
