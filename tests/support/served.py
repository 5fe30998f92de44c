"""An ASGI application, or an echo, served on the running loop and a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import uvicorn

from greenroom.adapters import asgi, websocket
from greenroom.adapters.serving import HttpServer, open_socket, server_config
from greenroom.core.calm import CalmFilter
from greenroom.testing import echo


@contextlib.asynccontextmanager
async def served_by(adapter: str, app: Any) -> AsyncGenerator[int]:
    """Serve ``app``, which the caller starts and stops, by ``asgi`` or ``websocket``; the port."""
    if adapter == "asgi":
        async with served(asgi.application(app)) as port:
            yield port
    else:
        async with websocket.Server(app, port=0) as server:
            yield server.port


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


@contextlib.asynccontextmanager
async def served_as_run(
    app: Any, adapter: str = "asgi", *, public: Path | None = None
) -> AsyncGenerator[int]:
    """Serve ``app`` on ``adapter`` with what ``greenroom run`` gives it; the port.

    The app runs before and is stopped afterwards. What uvicorn says is kept calm, as there.
    """
    application = asgi.application(app, bind="127.0.0.1", public=public)
    server = HttpServer(
        server_config(application, app.settings.max_frame_in),
        protocol=websocket.switch(application) if adapter == "websocket" else None,
    )
    server.config.load()
    calm = CalmFilter()
    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(calm)
    try:
        async with app:
            with open_socket("127.0.0.1", 0) as sock:
                task = asyncio.create_task(server.serve(sockets=[sock]))
                await server.ready.wait()
                try:
                    yield sock.getsockname()[1]
                finally:
                    await app.stop()
                    await application.closed()
                    server.should_exit = True
                    await task
    finally:
        logger.removeFilter(calm)
