"""An ASGI application on a real uvicorn, on the running loop and a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from typing import Any

import uvicorn


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
    async with serving(config) as port:
        yield port


@contextlib.asynccontextmanager
async def serving(config: uvicorn.Config) -> AsyncGenerator[int]:
    """Serve as ``config`` says; the port."""
    server = _Server(config)
    server.ready = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        await server.ready.wait()
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            await task
