"""An ASGI application on a real uvicorn, on the running loop and a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import uvicorn

from greenroom.adapters import asgi
from greenroom.cli.run import listen, server_config
from greenroom.core.calm import CalmFilter


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
    assert adapter == "asgi"
    application = asgi.application(app, bind="127.0.0.1", public=public)
    server = _Server(server_config(app, application))
    server.ready = asyncio.Event()
    calm = CalmFilter()
    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(calm)
    try:
        async with app:
            with listen("127.0.0.1", 0) as sock:
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
