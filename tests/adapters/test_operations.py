"""/healthz and /metrics: what they say, and to whom."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

import greenroom as gr
from greenroom.adapters import asgi

HERE, AWAY = ("127.0.0.1", 5000), ("203.0.113.9", 5000)


async def get(
    app: gr.App,
    path: str,
    *,
    method: str = "GET",
    peer: tuple[str, int] | None = HERE,
    bind: str | None = "127.0.0.1",
    **headers: str,
) -> httpx.Response:
    transport = httpx.ASGITransport(asgi.application(app, bind=bind), client=peer)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.request(method, path, headers=names)


def app_with(**settings: Any) -> gr.App:
    return gr.App(None, [], gr.Settings(watchdog=0.0, **settings))


# -- /healthz -----------------------------------------------------------------------------------


def test_health_says_how_the_app_is(arun: Any) -> None:
    async def main() -> None:
        app = app_with()
        answer = await get(app, "/healthz")  # which starts it
        assert (answer.status_code, answer.text) == (200, "ok\n")
        assert answer.headers["cache-control"] == "no-store"
        assert (await get(app, "/healthz", method="HEAD")).content == b""
        assert (await get(app, "/healthz", method="POST")).status_code == 405

        gate = asyncio.Event()
        app.on("app:wait", gate.wait)
        asking = asyncio.ensure_future(app.open_session().ask("app:wait"))
        await asyncio.sleep(0)
        stopping = asyncio.ensure_future(app.stop(10.0))
        await asyncio.sleep(0)
        answer = await get(app, "/healthz")
        assert (answer.status_code, answer.text) == (503, "draining\n")
        gate.set()
        await asking
        await stopping
        answer = await get(app, "/healthz")
        assert (answer.status_code, answer.text) == (503, "stopped\n")

    arun(main)


def test_health_is_told_under_any_host_and_to_anybody(arun: Any) -> None:
    async def main() -> None:
        app = app_with(hosts=("example.org",))
        async with app:
            for host in ("10.0.0.7:8000", "example.org", "evil.example"):
                assert (await get(app, "/healthz", host=host, peer=AWAY)).text == "ok\n"
            assert (await get(app, "/", host="10.0.0.7:8000")).status_code == 400

    arun(main)


def test_an_app_that_takes_nothing_up_is_deaf(arun: Any) -> None:
    async def main() -> None:
        app = app_with()
        assert not await app.hears()
        async with app:
            assert await app.hears()
            post = app.scheduler.post_to_loop
            app.scheduler.post_to_loop = lambda *_: None  # type: ignore[method-assign]
            assert not await app.hears(0.001)
            hears = app.hears
            app.hears = lambda seconds=1.0: hears(0.001)  # type: ignore[method-assign]
            answer = await get(app, "/healthz")
            assert (answer.status_code, answer.text) == (503, "deaf\n")
            app.scheduler.post_to_loop = post  # type: ignore[method-assign]

    arun(main)


def test_an_app_on_another_loop_is_asked_there(arun: Any) -> None:
    async def main() -> None:
        app = app_with()
        with app.running_in_thread():
            assert await app.hears(20.0)

    arun(main)


# -- /metrics -----------------------------------------------------------------------------------


def test_there_are_no_metrics_unless_asked_for(arun: Any) -> None:
    async def main() -> None:
        async with app_with(metrics_token="sesame") as app:
            assert (await get(app, "/metrics")).status_code == 404
            assert (await get(app, "/metrics", authorization="Bearer sesame")).status_code == 404

    arun(main)


def test_metrics_are_for_this_machine_or_for_a_token(arun: Any) -> None:
    async def main() -> None:
        async with app_with(metrics=True) as app:

            async def status(**options: Any) -> int:
                return (await get(app, "/metrics", **options)).status_code

            answer = await get(app, "/metrics")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            names = {family.name for family in text_string_to_metric_families(answer.text)}
            assert "greenroom_messages_run" in names
            assert await status(method="HEAD") == 200
            assert await status(method="POST") == 405
            assert await status(peer=AWAY, bind="0.0.0.0") == 403
            assert await status(peer=None) == 403
            # A proxy on this machine is everybody's loopback.
            assert await status(x_forwarded_for="203.0.113.9") == 403
            assert await status(forwarded="for=203.0.113.9") == 403
            assert await status(host="example.org", bind="0.0.0.0") == 403
            assert await status(host="evil.example") == 400  # a name rebound to us
            assert await status(authorization="Bearer ") == 200  # no token: only the place counts
            assert await status(peer=AWAY, bind="0.0.0.0", authorization="Bearer ") == 403

        async with app_with(metrics=True, metrics_token="sésame") as app:
            for token, wanted in (("sésame", 200), ("sesame", 403), ("", 403)):
                given = [(b"authorization", f"Bearer {token}".encode())]
                transport = httpx.ASGITransport(asgi.application(app), client=AWAY)
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://example.org"
                ) as client:
                    asked = await client.get("/metrics", headers=given)
                    assert asked.status_code == wanted, token
            assert "sésame" not in repr(app.settings)

    arun(main)


# -- what adapters refuse -----------------------------------------------------------------------


async def knock(app: gr.App, path: str, **headers: str) -> list[Any]:
    """A WebSocket handshake; what the application said."""
    scope = {
        "type": "websocket",
        "path": path,
        "scheme": "ws",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": HERE,
        "server": ("127.0.0.1", 80),
    }
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        said.append(message)

    await asgi.application(app, bind="127.0.0.1")(scope, receive, send)
    return said


def test_who_is_turned_away_is_counted(arun: Any) -> None:
    async def main() -> None:
        async with app_with() as app:
            refused = [{"type": "websocket.close", "code": 1008}]
            assert await knock(app, "/ws", host="evil.example") == refused
            assert await knock(app, "/other", host="localhost") == refused
            away = "https://evil.example"
            assert await knock(app, "/ws", host="localhost", origin=away) == refused
            assert app.stats()["handshakes_refused"] == {"host": 1, "path": 1, "origin": 1}

    arun(main)
