"""The fast adapter on real sockets: picows and uvicorn on one port, plain and TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.adapters.test_asgi import Peer, open_peer
from websockets.protocol import State

from greenroom.adapters import websocket
from greenroom.testing.conformance import CHECKS, Check, RecordingHost

Arun = Callable[..., Any]


class Harness:
    codes = True

    @asynccontextmanager
    async def serve(self, host: RecordingHost) -> AsyncGenerator[Callable[[], Awaitable[Peer]]]:
        peers: list[Peer] = []
        async with websocket.Server(host, port=0) as server:

            async def open_one() -> Peer:
                peers.append(await open_peer(server.port))
                return peers[-1]

            try:
                yield open_one
            finally:
                for peer in peers:
                    if peer.ws.state is not State.CLOSED:
                        await peer.cut()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract(check: Check, arun: Arun) -> None:
    arun(lambda: check(Harness()))
