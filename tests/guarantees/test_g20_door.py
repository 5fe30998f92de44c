"""G20 at the door: hosts, origins, proxies, cookies and floods, over both WebSocket servers.

The same attacks on uvicorn with the ASGI adapter and on the fast adapter; after each a bystander
is served. Addresses are told by a proxy that is trusted: on a loopback socket nobody is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest
from tests.conftest import LOOPS, run_clean
from tests.support.served import served
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import greenroom as gr
from greenroom.adapters import asgi, websocket

SERVERS = ("asgi", "websocket")
PROXY = ("127.0.0.1",)
# uvicorn would believe X-Forwarded-For from this machine by itself.
OPTIONS: dict[str, Any] = {"lifespan": "off", "proxy_headers": False}

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}

both = pytest.mark.parametrize("server", SERVERS)


class Door:
    """A server of one kind around an app, and what clients say to it."""

    def __init__(self, server: str, app: gr.App) -> None:
        self.server = server
        self.app = app
        self.port = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if self.server == "asgi":
                await stack.enter_async_context(self.app)
                application = asgi.application(self.app)
                self.port = await stack.enter_async_context(served(application, **OPTIONS))
            else:
                fast = await stack.enter_async_context(websocket.Server(self.app, port=0))
                self.port = fast.port
            yield
            async with self.dial() as ws:  # the bystander
                assert (await hello(ws))["type"] == "gr:welcome"

    def dial(self, address: str | None = None, path: str = "/ws", **headers: str) -> Any:
        """A WebSocket; ``address`` is what the proxy says of the client."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        if address is not None:
            more["X-Forwarded-For"] = address
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            proxy=None,
            compression=None,
            ping_interval=None,
            additional_headers=more,
        )

    async def status(self, address: str | None = None, **headers: str) -> int:
        """The status of a handshake; one that is accepted is closed again."""
        try:
            async with self.dial(address, **headers):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code


async def hello(ws: ClientConnection, **data: Any) -> dict[str, Any]:
    await ws.send(json.dumps({"type": "gr:hello", "data": {"protocol": 1, **data}}))
    return await heard(ws)


async def heard(ws: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(await ws.recv())
    if frame["type"] == "gr:batch":
        return dict(frame["data"][0])
    return frame


async def close_code(ws: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await ws.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def story(
    server: str, test: Callable[[Door], Any], handlers: tuple[Any, ...] = (), **settings: Any
) -> None:
    async def main() -> None:
        usual: dict[str, Any] = {"watchdog": 0.0, "drain": 0.0, "secret": "of this test"}
        app = gr.App({}, list(handlers), gr.Settings(**(usual | settings)))
        app.show("<p>hello</p>")
        door = Door(server, app)
        async with door.open():
            await test(door)

    run_clean(LOOPS["asyncio"], main, timeout=30)


@both
def test_g20_foreign_pages_and_foreign_names_stay_outside(server: str) -> None:
    async def attack(door: Door) -> None:
        port = door.port
        for origin in (
            "http://evil.example",
            f"http://127.0.0.1:{port + 1}",
            f"http://localhost:{port}",
            f"http://127.0.0.1:{port}.evil.example",
            "null",
        ):
            assert await door.status(Origin=origin) == 403, origin
        assert await door.status(Origin=f"http://127.0.0.1:{port}") == 101
        for host in ("evil.example", f"localhost.evil.example:{port}", "127.0.0.1.evil.example"):
            async with httpx.AsyncClient(trust_env=False) as client:
                for path, headers in (("", {}), ("ws", UPGRADE)):  # a name that was pointed at us
                    url = f"http://127.0.0.1:{port}/{path}"
                    answer = await client.get(url, headers={"Host": host, **headers})
                    assert answer.status_code == 400, host
        assert not door.app.sessions
        assert door.app.stats()["handshakes_refused"] == {"origin": 5, "host": 3}

    story(server, attack)


@both
def test_g20_one_address_cannot_take_all_places(server: str) -> None:
    async def attack(door: Door) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):  # connected, and not a word
                await stack.enter_async_context(door.dial("203.0.113.5"))
            # What the client wrote itself stands further left, and does not help.
            for address in ("203.0.113.5", "198.51.100.1, 203.0.113.5", "127.0.0.1, 203.0.113.5"):
                with pytest.raises(InvalidStatus) as refused:
                    async with door.dial(address):
                        pass
                assert refused.value.response.status_code == 503
                assert int(refused.value.response.headers["Retry-After"]) > 0
            assert await door.status("203.0.113.6") == 101
            assert door.app.stats()["connections_refused"] == 3
        async with door.dial("203.0.113.5") as ws:  # they are gone: there is room again
            assert (await hello(ws))["type"] == "gr:welcome"

    story(server, attack, trusted_proxies=PROXY, max_waiting_per_peer=3)


@both
def test_g20_one_address_cannot_open_sessions_without_end(server: str) -> None:
    async def attack(door: Door) -> None:
        token = None
        for number in range(5):
            async with door.dial(f"2001:db8:1:2::{number}") as ws:  # one customer's network
                frame = await hello(ws)
                if number < 3:
                    token = frame["data"]["token"]
                else:
                    assert frame["data"]["code"] == "busy"
                    assert await close_code(ws) == 1013
        async with door.dial("2001:db8:1:2::9") as ws:  # who is in may come back
            assert (await hello(ws, token=token))["type"] == "gr:welcome"
        async with door.dial("2001:db8:1:3::1") as ws:
            assert (await hello(ws))["type"] == "gr:welcome"

    story(server, attack, trusted_proxies=PROXY, max_sessions_per_peer=3)


@both
def test_g20_nobody_believes_an_address_that_no_proxy_told(server: str) -> None:
    async def attack(door: Door) -> None:
        for number in range(5):  # all of them come from this machine, whatever they say
            async with door.dial(f"203.0.113.{number % 2}") as ws:
                assert (await hello(ws))["type"] == "gr:welcome"

    story(server, attack, max_sessions_per_peer=1, max_waiting_per_peer=1)


@both
def test_g20_a_full_house_says_so_before_the_upgrade(server: str) -> None:
    async def attack(door: Door) -> None:
        async with door.dial(), door.dial():
            assert await door.status() == 503
        async with asyncio.timeout(10):
            while door.app.stats()["connections"]:
                await asyncio.sleep(0)

    story(server, attack, max_connections=2)


@both
def test_g20_a_token_is_bound_to_the_cookie_of_its_page(server: str) -> None:
    async def attack(door: Door) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://127.0.0.1:{door.port}/"
            plain = (await client.get(url)).headers["set-cookie"]
            assert "HttpOnly; SameSite=Lax" in plain
            assert "Secure" not in plain
            tls = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.5"}
            client.cookies.clear()
            behind = (await client.get(url, headers=tls)).headers["set-cookie"]
            assert behind.endswith("; Secure")
        cookie = plain.partition(";")[0]
        async with door.dial(Cookie=cookie) as ws:
            welcome = (await hello(ws))["data"]
        for other in (None, "a=1", cookie[:-1] + "x", cookie.replace("=", "x=")):
            headers = {} if other is None else {"Cookie": other}
            async with door.dial(**headers) as ws:
                assert (await hello(ws, token=welcome["token"]))["data"]["code"] == "unauthorized"
                assert await close_code(ws) == 4001
        async with door.dial(Cookie=f"a=1; {cookie}") as ws:
            again = await hello(ws, token=welcome["token"])
            assert again["data"]["session"] == welcome["session"]

    story(server, attack, trusted_proxies=PROXY)


@both
def test_g20_a_flood_is_refused_then_closed_on_every_server(server: str) -> None:
    @gr.handler(inline=True)
    def own(session: gr.Session) -> str:
        return str(session.id)

    async def attack(door: Door) -> None:
        async with door.dial() as ws:
            await hello(ws)
            for number in range(1, 101):
                with contextlib.suppress(ConnectionClosed):
                    await ws.send(json.dumps({"type": "own", "id": number}))
            assert await close_code(ws) == 4029
        stats = door.app.stats()
        assert stats["closes"]["rate_limited"] == 1
        assert stats["answers"]["errors"]["rate_limited"] == 9  # and the tenth was the end

    story(server, attack, (own,), rate=1.0, burst=20)


@both
def test_g20_revoked_tokens_end_what_is_connected(server: str) -> None:
    async def attack(door: Door) -> None:
        async with door.dial() as ws:
            welcome = (await hello(ws))["data"]
            door.app.revoke_tokens(close=True)
            assert await close_code(ws) == 4001
        async with door.dial() as ws:
            told = await hello(ws, token=welcome["token"], link=welcome["link"])
            assert (told["data"]["code"], told["data"]["retry"]) == ("unauthorized", "fresh")

    story(server, attack)
