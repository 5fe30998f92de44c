"""The ASGI adapter on real servers, uvicorn and hypercorn, each on a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from tests.conftest import LOOPS, run_clean
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State

from greenroom.adapters import asgi, asgi_socket, pages
from greenroom.core.errors import Busy, Closed
from greenroom.core.packet import decode_binary, encode_binary
from greenroom.core.settings import Settings
from greenroom.core.types import Packet
from greenroom.testing.conformance import CHECKS, Check, Gone, RecordingHost, frame

Arun = Callable[..., Any]


@pytest.fixture
def arun(request: pytest.FixtureRequest) -> Arun:
    """Hypercorn on asyncio, all else on uvloop: starting and stopping servers takes its time."""
    server = getattr(request.node, "callspec", None) and request.node.callspec.params.get("server")
    loop = "asyncio" if server == "hypercorn" else "uvloop"
    factory = LOOPS.get(loop, LOOPS["asyncio"])
    return lambda story, timeout=30: run_clean(factory, story, timeout)


# -- servers ------------------------------------------------------------------------------------


class Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def listener() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(100)
    sock.setblocking(False)
    return sock


@asynccontextmanager
async def on_uvicorn(app: Any, **options: Any) -> AsyncGenerator[int]:
    ready = asyncio.Event()

    class Server(Quiet):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            ready.set()

    defaults: dict[str, Any] = {
        "ws": "websockets-sansio",
        "ws_per_message_deflate": False,
        "log_config": None,
        "log_level": "critical",
        "timeout_graceful_shutdown": 1,
    }
    config = uvicorn.Config(app, **(defaults | options))
    server = Server(config)
    with listener() as sock:
        task = asyncio.create_task(server.serve(sockets=[sock]))
        await ready.wait()
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def on_hypercorn(app: Any) -> AsyncGenerator[int]:
    import hypercorn.asyncio
    import hypercorn.config

    stop = asyncio.Event()
    config = hypercorn.config.Config()
    config.graceful_timeout = 0.2
    config.loglevel = "CRITICAL"
    with listener() as sock:
        config.bind = [f"fd://{sock.fileno()}"]
        task = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait))
        port = sock.getsockname()[1]
        try:
            yield port
        finally:
            stop.set()
            await task
            sock.detach()


SERVERS = {"uvicorn": on_uvicorn, "hypercorn": on_hypercorn}


# -- raw clients --------------------------------------------------------------------------------


class Peer:
    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws

    async def send(self, packet: Packet) -> None:
        if packet.buffers:
            await self.ws.send(encode_binary(packet))
        else:
            await self.ws.send(packet.data, text=True)

    async def receive(self) -> Packet:
        try:
            message = await self.ws.recv()
        except ConnectionClosed as error:
            close = error.rcvd
            raise Gone(*((close.code, close.reason) if close else (1006, ""))) from None
        return Packet(message.encode()) if isinstance(message, str) else decode_binary(message)

    async def close(self) -> None:
        await self.ws.close()

    async def cut(self) -> None:
        self.ws.transport.abort()
        await self.ws.wait_closed()


async def open_peer(port: int, path: str = "/ws", scheme: str = "ws", **options: Any) -> Peer:
    try:
        ws = await connect(
            f"{scheme}://127.0.0.1:{port}{path}",
            compression=None,
            max_size=None,
            max_queue=1,
            ping_interval=None,
            close_timeout=1,
            proxy=None,
            **options,
        )
    except InvalidStatus as error:
        raise Gone(error.response.status_code, str(error.response.body)) from None
    return Peer(ws)


class Harness:
    codes = True

    def __init__(self, server: str) -> None:
        self.server = server

    @asynccontextmanager
    async def serve(self, host: RecordingHost) -> AsyncGenerator[Callable[[], Awaitable[Peer]]]:
        peers: list[Peer] = []
        async with SERVERS[self.server](asgi.application(host)) as port:

            async def open_one() -> Peer:
                peers.append(await open_peer(port))
                return peers[-1]

            try:
                yield open_one
            finally:
                for peer in peers:
                    if peer.ws.state is not State.CLOSED:
                        await peer.cut()


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract(check: Check, server: str, arun: Arun) -> None:
    arun(lambda: check(Harness(server)))


# -- handshakes ---------------------------------------------------------------------------------


async def status_of(port: int, path: str = "/ws", **options: Any) -> int:
    """101, or the status a handshake is refused with."""
    try:
        peer = await open_peer(port, path, **options)
    except Gone as gone:
        return gone.code or 0
    await peer.close()
    return 101


@pytest.mark.parametrize("server", SERVERS)
def test_foreign_pages_are_refused_before_accept(server: str, arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost(Settings(secret="s", origins=("https://friend.example",)))
        async with SERVERS[server](asgi.application(host)) as port:
            for origin, status in {
                f"http://127.0.0.1:{port}": 101,
                "https://friend.example": 101,
                "https://enemy.example": 403,
                "http://127.0.0.1:1": 403,
                f"http://localhost:{port}": 403,
                "null": 403,
            }.items():
                assert await status_of(port, origin=origin) == status, origin
            assert await status_of(port) == 101
            assert len(host.connections) == 3

    arun(story)


@pytest.mark.parametrize("server", SERVERS)
def test_a_full_or_draining_app_answers_503(server: str, arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with SERVERS[server](asgi.application(host)) as port:
            for refusal in (Busy("full", retry_after=7.4), Closed("draining")):
                host.refusal = refusal
                with pytest.raises(Gone) as caught:
                    await open_peer(port)
                assert caught.value.code == 503
            host.refusal = None
            assert await status_of(port, "/elsewhere") == 404

    arun(story)


def test_a_name_that_is_not_ours_is_400(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with on_uvicorn(asgi.application(host, bind="0.0.0.0")) as port:
            assert (await get(port, "/greenroom.js", "any.example")).status == 200
        async with on_uvicorn(asgi.application(host)) as port:
            with pytest.raises(Gone) as caught:
                await open_peer(port, additional_headers={"Host": "evil.example"})
            assert caught.value.code == 400
            for name in (f"localhost:{port}", "127.0.0.1"):
                response = await get(port, "/greenroom.js", name)
                assert response.status != 400, name
            for name in ("evil.example", f"127.0.0.1.evil.example:{port}", "a/b", ""):
                response = await get(port, "/greenroom.js", name)
                assert response.status == 400, name

    arun(story)


def test_what_the_app_is_told_about_a_client(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost(Settings(secret="s", trusted_proxies=("127.0.0.0/8",)))
        async with on_uvicorn(asgi.application(host)) as port:
            cookie = f"greenroom_{port}"
            headers = {
                "Cookie": f'a=1; {cookie}=abcdefghijklmnop; b="2"; a=3',
                "X-Forwarded-For": "6.6.6.6, 9.9.9.9, 127.0.0.5",
            }
            await status_of(port, additional_headers=headers)
            facts = host.connections[0].facts
            assert facts["peer"] == "9.9.9.9"
            assert facts["binding"] == "abcdefghijklmnop"
            assert facts["cookies"] == {"a": "1", cookie: "abcdefghijklmnop", "b": "2"}
            assert facts["headers"]["host"] == f"127.0.0.1:{port}"
        host = RecordingHost()
        async with on_uvicorn(asgi.application(host), proxy_headers=False) as port:
            await status_of(port, additional_headers={"X-Forwarded-For": "9.9.9.9"})
            assert host.connections[0].facts["peer"] == "127.0.0.1"
            assert host.connections[0].facts["binding"] is None

    arun(story)


# -- stories on a socket ------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_reads_nothing_is_given_up(
    server: str, arun: Arun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi_socket, "CLOSE_GRACE", 0.05)

    async def story() -> None:
        host = RecordingHost()
        application = asgi.application(host)
        async with SERVERS[server](application) as port:
            peer = await open_peer(port)
            connection = await host.connected()
            while connection.transport.buffered < 4 * 1024 * 1024:
                connection.transport.send([frame(1, 1024 * 1024)])
                await asyncio.sleep(0)
            connection.transport.close(4003, "slow_consumer")
            await connection.until(lambda c: c.closed)
            await application.closed()
            assert application.connections == 0
            assert connection.transport.buffered == 0
            await peer.cut()

    arun(story)


def test_a_writer_without_progress_is_given_up_without_a_close(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost(Settings(secret="s", ping=0.05, dead=0.05))
        async with on_uvicorn(asgi.application(host)) as port:
            peer = await open_peer(port)
            connection = await host.connected()
            while not connection.closed:
                if connection.transport.buffered < 16 * 1024 * 1024:
                    connection.transport.send([frame(1, 1024 * 1024)])
                await asyncio.sleep(0)
            await peer.cut()

    arun(story)


@pytest.mark.parametrize("server", SERVERS)
def test_a_message_that_is_no_packet_reaches_the_link_as_nonsense(server: str, arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with SERVERS[server](asgi.application(host)) as port:
            peer = await open_peer(port)
            connection = await host.connected()
            for message in (b'{"type":"gr:hello"}', b"\x00\x00\x00\x09{}", b""):
                await peer.ws.send(message)
            await connection.until(lambda c: len(c.received) == 3)
            assert connection.received == [Packet(b"")] * 3
            await peer.close()

    arun(story)


def test_a_server_whose_send_fails_has_lost_the_client(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        events: asyncio.Queue[Any] = asyncio.Queue()
        await events.put({"type": "websocket.connect"})
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "websocket.send":
                raise OSError("gone")

        scope = {"type": "websocket", "path": "/ws", "headers": [(b"host", b"x")]}
        task = asyncio.create_task(asgi.application(host)(scope, events.get, send))
        connection = await host.connected()
        connection.transport.send([Packet(b"{}")])
        await task  # returns, although no disconnect was ever received
        assert connection.ends == 1
        assert [m["type"] for m in sent] == ["websocket.accept", "websocket.send"]
        connection.transport.send([Packet(b"{}")])
        assert connection.transport.buffered == 0

    arun(story)


def test_cancelling_from_outside_is_not_swallowed(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        events: asyncio.Queue[Any] = asyncio.Queue()
        await events.put({"type": "websocket.connect"})

        async def send(_message: Any) -> None: ...

        scope = {"type": "websocket", "path": "/ws", "headers": [(b"host", b"x")]}
        task = asyncio.create_task(asgi.application(host)(scope, events.get, send))
        connection = await host.connected()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.ends == 1

    arun(story)


def test_a_refusal_where_the_server_knows_no_statuses(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        host.refusal = Busy("full")
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/ws", "headers": [(b"host", b"x")]}
        await asgi.application(host)(scope, receive, send)
        assert sent == [{"type": "websocket.close", "code": 1008}]

    arun(story)


def test_the_app_must_run_on_the_servers_loop(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        host.loop = None

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None: ...

        scope = {"type": "websocket", "path": "/ws", "headers": [(b"host", b"x")]}
        with pytest.raises(RuntimeError, match=r"asgi\.lifespan"):
            await asgi.application(host)(scope, receive, send)

    arun(story)


# -- pages --------------------------------------------------------------------------------------


class Response(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


async def get(
    port: int, path: str, host: str | None = None, method: str = "GET", **headers: str
) -> Response:
    """A request whose path and Host are sent as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"{method} {path} HTTP/1.1"]
        lines.append(f"Host: {f'127.0.0.1:{port}' if host is None else host}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    status, *rest = head.decode("latin-1").split("\r\n")
    found = dict(line.lower().split(": ", 1)[:2] for line in rest)
    return Response(int(status.split()[1]), found, body)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    folder = tmp_path / "public"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "main.py").write_text("secret = 1")
    (folder / "index.html").write_text("<h1>Hello</h1><script>run()</script>")
    (folder / "sub" / "index.html").write_text("<h1>Sub</h1>")
    (folder / "style.css").write_text("h1 {}")
    (folder / "big.bin").write_bytes(bytes(range(256)) * 4096)
    (folder / ".env").write_text("secret")
    (folder / "out.py").symlink_to(tmp_path / "main.py")
    (folder / "in.css").symlink_to(folder / "style.css")
    (folder / "sly.txt").symlink_to(folder / ".env")
    return folder


@pytest.mark.parametrize("server", SERVERS)
def test_the_public_folder(server: str, public: Path, arun: Arun) -> None:
    async def story() -> None:
        async with SERVERS[server](asgi.application(RecordingHost(), public=public)) as port:
            index = await get(port, "/")
            assert index.status == 200
            assert index.body.startswith(b"<h1>Hello</h1>")
            assert index.headers["content-type"] == "text/html; charset=utf-8"
            assert "unsafe-inline" not in index.headers["content-security-policy"]
            cookie = index.headers["set-cookie"]
            assert cookie.startswith(f"greenroom_{port}=")
            assert "httponly; samesite=lax" in cookie

            css = await get(port, "/style.css")
            assert css.headers["content-type"] == "text/css; charset=utf-8"
            assert "set-cookie" not in css.headers
            again = await get(port, "/style.css", If_None_Match=css.headers["etag"])
            assert (again.status, again.body) == (304, b"")
            head = await get(port, "/style.css", method="HEAD")
            assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "5")
            assert (await get(port, "/", method="POST")).status == 405
            big = await get(port, "/big.bin")
            assert big.body == (public / "big.bin").read_bytes()
            assert (await get(port, "/sub/")).body == b"<h1>Sub</h1>"
            assert (await get(port, "/in.css")).status == 200
            moved = await get(port, "/sub")
            assert (moved.status, moved.headers["location"]) == (308, "./sub/")

    arun(story)


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_outside_the_public_folder(server: str, public: Path, arun: Arun) -> None:
    async def story() -> None:
        async with SERVERS[server](asgi.application(RecordingHost(), public=public)) as port:
            for path in (
                "/../main.py",
                "/%2e%2e/main.py",
                "/%2e%2e%2fmain.py",
                "/..%5cmain.py",
                "/%252e%252e/main.py",
                "/sub/../../main.py",
                "/sub/%2e%2e/%2e%2e/main.py",
                "/.env",
                "/%2eenv",
                "/out.py",
                "/sly.txt",
                "/sub/./index.html",
                "//etc/passwd",
                "/%2fetc/passwd",
                "/style.css/",
                "/style.css%00.html",
                "/missing",
            ):
                response = await get(port, path)
                assert response.status in (400, 404), (path, response)

    arun(story)


def test_the_clients_modules(arun: Arun) -> None:
    async def story() -> None:
        async with on_uvicorn(asgi.application(RecordingHost())) as port:
            for name in ("greenroom.js", "greenroom/client.js", "greenroom/page.js"):
                response = await get(port, f"/{name}")
                assert response.status == 200
                assert response.headers["content-type"] == "text/javascript; charset=utf-8"
                assert response.headers["access-control-allow-origin"] == "*"
            assert (await get(port, "/greenroom/debug.css")).status == 200
            for name in (
                "client.js",
                "page.js",
                "greenroom",
                "greenroom/",
                "greenroom/none.js",
                "greenroom/../connection.py",
                "greenroom.d.ts",
                "connection.py",
                "__init__.py",
            ):
                assert (await get(port, f"/{name}")).status == 404, name

    arun(story)


def test_two_names_are_ours_and_every_other_the_users(arun: Arun, public: Path) -> None:
    ours, theirs = ("greenroom.js", "greenroom/client.js"), ("page.js", "client.js", "debug.css")
    (public / "greenroom").mkdir()
    for name in (*ours, *theirs, "greenroom/more.js"):
        (public / name).write_text("theirs")

    async def story() -> None:
        async with on_uvicorn(asgi.application(RecordingHost(), public=public)) as port:
            for name in theirs:
                assert (await get(port, f"/{name}")).body == b"theirs"
            for name in ours:
                response = await get(port, f"/{name}")
                assert response.status == 200
                assert response.body != b"theirs"
            assert (await get(port, "/greenroom/more.js")).status == 404  # ours, whole

    arun(story)


def test_views_and_the_page_without_a_public_folder(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with on_uvicorn(asgi.application(host)) as port:
            empty = await get(port, "/")
            assert empty.status == 404
            assert b"public/index.html" in empty.body

            class View:
                html = "<p>one</p>"
                title = "A <title>"

            host.views = {"main": View(), "side": View()}
            root = await get(port, "/")
            assert b'src="./greenroom/page.js" data-label="main"' in root.body
            assert b"<title>A &lt;title&gt;</title>" in root.body
            assert "'unsafe-inline'" not in root.headers["content-security-policy"]
            side = await get(port, "/view/side")
            assert b'src="../greenroom/page.js" data-label="side"' in side.body
            assert (await get(port, "/view/none")).status == 404
            assert (await get(port, "/ws")).status == 426

    arun(story)


def test_every_answer_has_a_policy_and_says_its_type(arun: Arun, public: Path) -> None:
    async def story() -> None:
        host = RecordingHost(Settings(debug=True, csp=("img-src https://images.example",)))

        class View:
            html = "<p>one</p><script>no()</script>"
            title = None

        async with (
            on_uvicorn(asgi.application(host, public=public)) as port,
            on_uvicorn(asgi.application(host)) as bare,
        ):
            host.views = {"side": View()}
            for at, path in ((port, "/"), (port, "/sub/"), (bare, "/"), (bare, "/view/side")):
                response = await get(at, path)
                rules = response.headers["content-security-policy"]
                assert response.status == 200, path
                assert "unsafe" not in rules
                assert "img-src 'self' data: blob: https://images.example;" in rules
                empty = pages.EMPTY.lower()
                assert ("'sha256-" in rules.replace(empty, "")) is ((at, path) == (port, "/"))
                for part in ("base-uri 'none'", "object-src 'none'", "frame-ancestors 'self'"):
                    assert part in rules
                assert response.headers["x-content-type-options"] == "nosniff"
                assert response.headers["referrer-policy"] == "same-origin"
            for path, method, name, status in (
                ("/none", "GET", None, 404),
                ("/", "POST", None, 405),
                ("/ws", "GET", None, 426),
                ("/", "GET", "evil.example", 400),
            ):
                response = await get(port, path, name, method=method)
                assert response.status == status
                rules = response.headers["content-security-policy"]
                assert rules == "default-src 'none'; frame-ancestors 'none'"
                assert response.headers["x-content-type-options"] == "nosniff"
                assert response.headers["content-type"].startswith("text/plain")

    arun(story)


# -- embedding ----------------------------------------------------------------------------------


def test_mounted_in_fastapi(arun: Arun, public: Path) -> None:
    from fastapi import FastAPI

    async def story() -> None:
        host = RecordingHost()
        host.phase = "new"
        outer = FastAPI(lifespan=asgi.lifespan(host))
        outer.mount("/live", asgi.application(host, public=public))
        async with on_uvicorn(outer, lifespan="on") as port:
            assert host.phase == "running"
            peer = await open_peer(port, "/live/ws")
            await peer.send(frame(1))
            connection = await host.connected()
            await connection.until(lambda c: len(c.received) == 1)
            await peer.close()
            page = await get(port, "/live/", "another.name")  # hosts are the outer one's job
            assert page.status == 200
            assert page.headers["set-cookie"].startswith(f"greenroom_{port}_live=")
            assert "path=/live;" in page.headers["set-cookie"]
            assert (await get(port, "/live/greenroom/page.js")).status == 200
            assert (await get(port, "/greenroom.js")).status == 404
        assert host.phase == "stopped"

    arun(story)


def test_the_app_starts_once_at_the_first_request(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        host.phase = "new"
        application = asgi.application(host)
        async with on_uvicorn(application, lifespan="off") as port:
            assert not host.running
            await asyncio.gather(*(get(port, "/greenroom.js") for _ in range(3)))
            assert host.phase == "running"
            await host.stop()
            await get(port, "/greenroom.js")
            assert host.phase == "stopped"

    arun(story)


def test_served_alone_it_follows_the_servers_lifespan(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        host.phase = "new"
        async with on_uvicorn(asgi.application(host), lifespan="on"):
            assert host.running
        assert host.phase == "stopped"

    arun(story)
