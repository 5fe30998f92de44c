"""The fast adapter on real sockets: picows and uvicorn on one port, plain and TLS."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.test_asgi import Peer, get, open_peer
from tests.support.rawws import (
    BINARY,
    CLOSE,
    LOCALHOST,
    PING,
    PONG,
    TEXT,
    Raw,
    client_tls,
    masked,
)
from tests.support.until import eventually
from websockets.protocol import State

import greenroom as gr
from greenroom.adapters import websocket, wire
from greenroom.adapters import websocket as adapter
from greenroom.core.errors import Busy, Closed
from greenroom.core.packet import encode_binary
from greenroom.core.settings import Settings
from greenroom.core.types import Packet
from greenroom.testing.conformance import CHECKS, Check, RecordingHost, frame

Arun = Callable[..., Any]

TLS = {"plain": None, "tls": "tls"}


def server_tls() -> ssl.SSLContext:
    return websocket.tls_context(str(LOCALHOST))


@pytest.fixture(params=list(TLS))
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "tls")


@asynccontextmanager
async def serving(host: Any, *, tls: bool = False, **options: Any) -> AsyncGenerator[int]:
    options |= {"ssl": server_tls() if tls else None}
    async with websocket.Server(host, port=0, **options) as server:
        yield server.port


def dialled(port: int, *, tls: bool) -> Any:
    return Raw.upgraded(port, client_tls() if tls else None)


class Harness:
    codes = True

    def __init__(self, *, tls: bool) -> None:
        self.tls = tls

    @asynccontextmanager
    async def serve(self, host: RecordingHost) -> AsyncGenerator[Callable[[], Awaitable[Peer]]]:
        peers: list[Peer] = []
        secure: dict[str, Any] = {}
        if self.tls:
            secure = {"scheme": "wss", "ssl": client_tls(), "server_hostname": "localhost"}
        async with serving(host, tls=self.tls) as port:

            async def open_one() -> Peer:
                peers.append(await open_peer(port, **secure))
                return peers[-1]

            try:
                yield open_one
            finally:
                for peer in peers:
                    if peer.ws.state is not State.CLOSED:
                        await peer.cut()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract(check: Check, tls: bool, arun: Arun) -> None:
    arun(lambda: check(Harness(tls=tls)))


# -- one port -----------------------------------------------------------------------------------


def test_everything_on_one_port(tls: bool, arun: Arun, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<h1>Mine</h1>")
    requests = {
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n": (b"200", b"Mine"),
        b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n": (b"200", b"Mine"),
        b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n": (b"200", b""),
        b"POST / HTTP/1.0\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello": (b"405", b""),
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n": (b"426", b""),
        b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n": (b"400", b""),
        b"\x16\x03\x01\x02\x00": (b"400", b""),
        b"nonsense\r\n\r\n": (b"400", b""),
    }

    async def story() -> None:
        host = RecordingHost()
        async with serving(host, tls=tls, public=tmp_path) as port:
            for request, (status, body) in requests.items():
                raw = await Raw.dial(port, client_tls() if tls else None)
                raw.say(request)
                said = await raw.end()
                assert said.split(b" ")[1] == status, (request, said)
                assert body in said
                raw.close()
            raw = await dialled(port, tls=tls)
            raw.say(masked(TEXT, b"{}"))
            connection = await host.connected()
            await connection.until(lambda c: c.received == [Packet(b"{}")])
            raw.close()

    arun(story, timeout=12)


def test_a_head_one_byte_at_a_time_and_a_frame_glued_to_it(tls: bool, arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with serving(host, tls=tls) as port:
            raw = await Raw.dial(port, client_tls() if tls else None)
            for byte in raw.request()[:-1]:
                raw.say(bytes((byte,)))
                await raw.writer.drain()
                await asyncio.sleep(0)
            big = b'"' + b"x" * 100_000 + b'"'
            raw.say(b"\n" + masked(TEXT, b"1") + masked(TEXT, big) + masked(TEXT, b"3"))
            assert (await raw.head()).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            connection = await host.connected()
            await connection.until(lambda c: len(c.received) == 3)
            assert [packet.data for packet in connection.received] == [b"1", big, b"3"]
            raw.close()

    arun(story, timeout=12)


def test_a_websocket_on_a_connection_that_served_a_page(arun: Arun) -> None:
    """It is uvicorn's by then; it works all the same."""

    async def story() -> None:
        host = RecordingHost()
        async with serving(host) as port:
            raw = await Raw.dial(port)
            raw.say(b"GET /greenroom.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = (await raw.head()).lower()
            size = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
            await raw.reader.readexactly(size)
            raw.say(raw.request())
            assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
            raw.say(masked(TEXT, b"{}"))
            connection = await host.connected()
            await connection.until(lambda c: c.received == [Packet(b"{}")])
            assert type(connection.transport).__module__ == "greenroom.adapters.asgi_socket"
            raw.close()

    arun(story, timeout=12)


HANDSHAKES = [
    ("Connection: Upgrade", "Connection: keep-alive, Upgrade", 101),  # Firefox
    ("Upgrade: websocket", "upgrade: WebSocket", 101),
    ("GET /ws HTTP", "GET /ws?a=b HTTP", 101),
    ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 101),
    ("Connection: Upgrade", "Connection: keep-alive", 426),
    ("Upgrade: websocket", "Upgrade: h2c", 426),
    ("Version: 13", "Version: 8", 426),
    ("Sec-WebSocket-Version: 13\r\n", "", 426),
    ("GET /ws HTTP", "GET /elsewhere HTTP", 404),
    ("Key: dGhl", "Key: dGh", 400),
    ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
    ("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\n", 400),
    ("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("\r\n\r\n", "\r\n folded\r\n\r\n", 400),
    ("\r\n\r\n", "\r\nname\r\n\r\n", 400),
    ("\r\n\r\n", "\r\nname : value\r\n\r\n", 400),
    ("\r\n\r\n", "\r\nname: \x01\r\n\r\n", 400),
    ("\r\nHost", "\nHost", 400),
    ("Host: localhost", "Host: evil.example", 400),
    ("\r\n\r\n", "\r\nOrigin: https://enemy.example\r\n\r\n", 403),
    ("\r\n\r\n", "\r\nOrigin: null\r\n\r\n", 403),
    ("\r\n\r\n", "\r\n" + "a: b\r\n" * 130 + "\r\n", 431),
    ("\r\n\r\n", "\r\na: " + "b" * 66_000, 431),
]


def test_how_handshakes_are_answered(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with serving(host) as port:
            for old, new, status in HANDSHAKES:
                raw = await Raw.dial(port)
                text = raw.request().decode()
                assert old in text
                raw.say(text.replace(old, new, 1).encode("latin-1"))
                head = await raw.head()
                assert head.split(b" ")[1] == str(status).encode(), (new, head)
                assert b"extensions" not in head.lower()
                assert len(host.connections) == (status == 101)
                if b"connection: close" in head.lower():
                    await raw.end()
                raw.close()
                host.connections.clear()
        assert Counter(host.refused) == {
            "handshake": 12,
            "origin": 2,
            "host": 1,
            "path": 1,
            "head": 1,
        }

    arun(story, timeout=12)


def test_a_full_or_draining_app_answers_503(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with serving(host) as port:
            for refusal, after in ((Busy("full", retry_after=7.4), b"7"), (Closed("no"), b"1")):
                host.refusal = refusal
                raw = await Raw.dial(port)
                raw.say(raw.request())
                head = (await raw.head()).lower()
                assert head.startswith(b"http/1.1 503 ")
                assert b"\r\nretry-after: " + after + b"\r\n" in head
                await raw.end()
                raw.close()

    arun(story, timeout=12)


def test_a_head_that_does_not_end_is_408(arun: Arun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "HEAD_TIME", 0.05)

    async def story() -> None:
        host = RecordingHost()
        async with serving(host) as port:
            for said in (b"", b"GET /ws HTTP/1.1\r\nHost: loc"):
                raw = await Raw.dial(port)
                raw.say(said)
                assert (await raw.end()).startswith(b"HTTP/1.1 408 ")
                raw.close()
        assert host.refused == ["head", "head"]

    arun(story, timeout=12)


def test_what_the_app_is_told_about_a_client(tls: bool, arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost(Settings(secret="s", trusted_proxies=("127.0.0.0/8",)))
        async with serving(host, tls=tls) as port:
            raw = await Raw.dial(port, client_tls() if tls else None)
            cookie = f"greenroom_{port}=abcdefghijklmnop"
            more = f"Cookie: a=1; {cookie}\r\nX-Forwarded-For: 6.6.6.6, 9.9.9.9, 127.0.0.5\r\n"
            origin = f"Origin: {'https' if tls else 'http'}://{raw.host}\r\n"
            raw.say(raw.request()[:-2] + (more + origin).encode() + b"\r\n")
            assert (await raw.head()).startswith(b"HTTP/1.1 101")
            facts = host.connections[0].facts
            assert facts["peer"] == "9.9.9.9"
            assert facts["binding"] == "abcdefghijklmnop"
            assert facts["cookies"]["a"] == "1"
            assert facts["headers"]["host"] == raw.host
            raw.close()
            raw = await Raw.dial(port, client_tls() if tls else None)
            wrong = "Origin: https://localhost:1\r\n"
            raw.say(raw.request()[:-2] + wrong.encode() + b"\r\n")
            assert (await raw.head()).startswith(b"HTTP/1.1 403")
            raw.close()

    arun(story, timeout=12)


# -- frames -------------------------------------------------------------------------------------

TWICE = masked(CLOSE, b"\x03\xe8") * 2


RULES: list[tuple[bytes, int | None, list[bytes]]] = [
    (masked(TEXT, b"{}", bits=4), 1002, []),
    (masked(PING, b"", bits=1), 1002, []),
    (masked(3, b""), 1002, []),
    (masked(PING, b"x" * 126), 1002, []),
    (masked(PING, b"", fin=False), 1002, []),
    (masked(0, b"{}"), 1002, []),
    (masked(TEXT, b"{", fin=False) + masked(TEXT, b"}"), 1002, []),
    (b"\x81\x02{}", 1002, []),
    (masked(TEXT, b"{}") + masked(TEXT, b"{}", bits=4), 1002, [b"{}"]),
    (masked(TEXT, b"{}") + masked(3, b""), 1002, [b"{}"]),
    (masked(TEXT, b"\xff"), 1007, []),
    (masked(TEXT, b"\xc3", fin=False) + masked(0, b"\xa9"), None, ["é".encode()]),
    (masked(TEXT, b"\xc3", fin=False) + masked(0, b"x", fin=False), 1007, []),
    (masked(TEXT, b"\xc3", fin=False) + masked(0, b""), 1007, []),
    (masked(CLOSE, b"\x03\xe8ok"), 1000, []),
    (masked(CLOSE, b""), 1005, []),
    (masked(CLOSE, b"\x03"), 1002, []),
    (masked(CLOSE, b"\x03\xed"), 1002, []),
    (masked(CLOSE, b"\x03\xee"), 1002, []),
    (masked(CLOSE, b"\x00\x00"), 1002, []),
    (masked(CLOSE, b"\x13\x88"), 1002, []),
    (masked(CLOSE, b"\x0f\xa0\xff"), 1007, []),
    (masked(CLOSE, b"\x0f\xa0"), 4000, []),
    (TWICE, 1000, []),  # one that picows would answer with 1002
    (masked(TEXT, b"{}") + TWICE, 1000, [b"{}"]),
]


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "bytewise"])
def test_the_rules_of_rfc_6455(whole: bool, arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with serving(host) as port:
            for count, (said, code, received) in enumerate(RULES, start=1):
                raw = await dialled(port, tls=False)
                connection = await host.connected(count)
                for piece in (said,) if whole else (bytes((byte,)) for byte in said):
                    raw.say(piece)
                    await raw.writer.drain()
                    await asyncio.sleep(0)
                if code is not None:
                    assert (await raw.until_close())[0] == code, said
                    assert await raw.end() == b""
                    await connection.until(lambda c: c.closed)
                else:
                    await connection.until(lambda c: bool(c.received))
                assert [packet.data for packet in connection.received] == received, said
                connection.check()
                raw.close()

    arun(story, timeout=12)


def test_pings_are_answered_between_the_parts_of_a_message(tls: bool, arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with serving(host, tls=tls) as port:
            raw = await dialled(port, tls=tls)
            raw.say(masked(TEXT, b"[1,", fin=False) + masked(PING, b"here?") + masked(PONG, b"so"))
            assert await raw.frame() == (PONG, b"here?")
            raw.say(masked(0, b"2", fin=False) + masked(0, b"", fin=False) + masked(0, b"]"))
            connection = await host.connected()
            await connection.until(lambda c: len(c.received) == 1)
            message = encode_binary(Packet(b"{}", (b"\x00\xff",)))
            for part in (masked(BINARY, message[:7], fin=False), masked(0, message[7:])):
                raw.say(part)
            raw.say(masked(BINARY, b"nonsense"))
            await connection.until(lambda c: len(c.received) == 3)
            assert connection.received == [
                Packet(b"[1,2]"),
                Packet(b"{}", (b"\x00\xff",)),
                Packet(b""),
            ]
            raw.close()

    arun(story, timeout=12)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_message_that_is_too_large_is_told_so_and_thrown_away(
    parts: int, tls: bool, arun: Arun
) -> None:
    async def story() -> None:
        host = RecordingHost(Settings(secret="s", max_frame_in=10_000))
        async with serving(host, tls=tls) as port:
            raw = await dialled(port, tls=tls)
            raw.say(masked(TEXT, b"x" * 9_000, fin=parts == 1))
            for _ in range(parts):
                raw.say(masked(TEXT if parts == 1 else 0, b"x" * 20_000, fin=False))
            for _ in range(100):  # it is read, or the close would be lost in a reset
                raw.say(b"x" * 65_536)
            await raw.writer.drain()
            opcode, payload = await raw.frame()
            assert opcode == TEXT
            assert json.loads(payload)["data"]["code"] == "too_large"
            assert await raw.until_close() == (1009, "too_large")
            connection = host.connections[0]
            assert len(connection.received) == (parts == 1)
            raw.close()
            await connection.until(lambda c: c.closed)

    arun(story, timeout=12)


def test_a_large_message_does_not_leave_a_large_buffer(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with serving(host) as port:
            raw = await dialled(port, tls=False)
            connection = await host.connected()
            reader = connection.transport._transport.get_protocol()  # type: ignore[attr-defined]
            before = len(reader.get_buffer(-1))
            for count in (1, 2):
                raw.say(masked(TEXT, b'"' + b"x" * 500_000 + b'"'))
                await connection.until(lambda c, n=count: len(c.received) == n)  # type: ignore[misc]
            after = connection.transport._transport.get_protocol()  # type: ignore[attr-defined]
            assert len(after.get_buffer(-1)) == before
            raw.say(masked(TEXT, b"3"))
            await connection.until(lambda c: len(c.received) == 3)
            raw.close()

    arun(story, timeout=12)


# -- how it leaves ------------------------------------------------------------------------------


def test_one_write_for_a_turn_of_the_loop(tls: bool, arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with serving(host, tls=tls) as port:
            raw = await dialled(port, tls=tls)
            connection = await host.connected()
            sizes: list[int] = []
            feed = raw.reader.feed_data

            def counted(data: bytes) -> None:
                sizes.append(len(data))
                feed(data)

            raw.reader.feed_data = counted
            for number in range(20):
                connection.transport.send([Packet(b"%d" % number), Packet(b"!")])
            for number in range(20):
                assert await raw.frame() == (TEXT, b"%d" % number)
                assert await raw.frame() == (TEXT, b"!")
            assert len(sizes) == 1
            raw.close()

    arun(story, timeout=12)


def test_pongs_wait_for_a_reader_and_only_the_last(tls: bool, arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with serving(host, tls=tls) as port:
            raw = await dialled(port, tls=tls)
            raw.writer.transport.pause_reading()
            connection = await host.connected()
            transport = connection.transport
            while transport.buffered <= 2 * 65_536:
                transport.send([frame(0, 65_536)])
                await asyncio.sleep(0)
            size = transport.buffered
            for number in range(1000):
                raw.say(masked(PING, b"%120d" % number))
            raw.say(masked(TEXT, b"{}"))
            await connection.until(lambda c: len(c.received) == 1)
            assert transport.buffered <= max(size, 2 * 65_536)
            raw.writer.transport.resume_reading()
            pongs: list[bytes] = []
            while pongs[-1:] != [b"%120d" % 999]:
                opcode, payload = await raw.frame()
                pongs += [payload] * (opcode == PONG)
            assert len(pongs) < 1000
            assert connection.drains
            raw.close()

    arun(story, timeout=12)


@pytest.mark.parametrize("closing", [True, False])
def test_a_client_that_reads_nothing_is_given_up(
    closing: bool, tls: bool, arun: Arun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "CLOSE_GRACE", 0.05)

    async def story() -> None:
        grace = 30.0 if closing else 0.05
        host = RecordingHost(Settings(secret="s", ping=grace, dead=grace))
        async with serving(host, tls=tls) as port:
            raw = await dialled(port, tls=tls)
            raw.writer.transport.pause_reading()
            connection = await host.connected()
            while connection.transport.buffered < 4 * 1024 * 1024:
                connection.transport.send([frame(1, 1024 * 1024)])
                await asyncio.sleep(0)
            if closing:
                connection.transport.close(4003, "slow_consumer")
            await connection.until(lambda c: c.closed)
            assert connection.transport.buffered == 0
            raw.close()

    arun(story, timeout=12)


def test_who_does_not_answer_a_close_is_cut(
    tls: bool, arun: Arun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "CLOSE_GRACE", 0.05)

    async def story() -> None:
        host = RecordingHost()
        async with serving(host, tls=tls) as port:
            raw = await dialled(port, tls=tls)
            connection = await host.connected()
            connection.transport.close(4000, "bad_frame")
            raw.say(masked(TEXT, b"{}"))
            assert await raw.until_close() == (4000, "bad_frame")
            await connection.until(lambda c: c.closed)
            assert not connection.received
            raw.close()

    arun(story, timeout=12)


def test_what_is_sent_and_closed_before_the_handshake_is_answered(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()

        def greet(connection: Any) -> None:
            connection.transport.send([Packet(b"1")])
            connection.transport.close(4001, "no")
            connection.transport.send([Packet(b"2")])

        host.on_connect = greet
        async with serving(host) as port:
            raw = await dialled(port, tls=False)
            assert await raw.frame() == (TEXT, b"1")
            assert await raw.until_close() == (4001, "no")
            raw.close()
            await host.connections[0].until(lambda c: c.closed)

    arun(story, timeout=12)


# -- the server ---------------------------------------------------------------------------------


def counter(state: Any, payload: int) -> Any:
    state["counter"] += payload
    return state["counter"]


def make(**settings: Any) -> gr.App:
    return gr.App(
        state={"counter": 0},
        handlers=[counter],
        settings=gr.Settings(secret="for-tests", **settings),
    )


def test_a_client_hears_of_the_drain(arun: Arun) -> None:
    async def story() -> None:
        app = make(drain=1.0)
        server = await websocket.serve(app, port=0)
        raw = await dialled(server.port, tls=False)
        idle = await Raw.dial(server.port)
        hello: dict[str, Any] = {"protocol": 1, "token": None, "link": None, "seq": 0}
        hello |= {"label": "main", "binary": False}
        raw.say(masked(TEXT, json.dumps({"type": "gr:hello", "data": hello}).encode()))
        assert json.loads((await raw.frame())[1])["type"] == "gr:welcome"
        assert json.loads((await raw.frame())[1])["type"] == "gr:snapshot"
        stopping = asyncio.create_task(server.stop())
        said = json.loads((await raw.frame())[1])
        assert said["type"] == "gr:close"
        assert said["data"]["code"] == "draining"
        assert await raw.until_close() == (1001, "draining")
        raw.say(masked(CLOSE, b"\x03\xe9"))
        assert await raw.end() == b""
        assert await idle.end() == b""
        raw.close()
        await stopping
        await server.wait()
        assert app.phase == "stopped"
        with pytest.raises(ConnectionRefusedError):
            await Raw.dial(server.port)
        raw.close()
        idle.close()

    arun(story, timeout=12)


def test_max_connections_and_room_again(arun: Arun) -> None:
    async def story() -> None:
        async with serving(make(max_connections=1)) as port:
            first = await dialled(port, tls=False)
            second = await Raw.dial(port)
            second.say(second.request())
            assert (await second.head()).startswith(b"HTTP/1.1 503")
            first.say(masked(CLOSE))
            await first.end()
            third = await dialled(port, tls=False)
            for raw in (first, second, third):
                raw.close()

    arun(story, timeout=12)


def test_a_server_with_a_socket_and_a_page(arun: Arun, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<h1>Mine</h1>")

    async def story() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        app = make()
        async with websocket.Server(app, sock=sock, public=tmp_path) as server:
            assert server.url == f"http://127.0.0.1:{server.port}"
            assert (await get(server.port, "/")).status == 200
            with pytest.raises(RuntimeError):
                await server.start()
        assert sock.fileno() == -1
        await server.stop()

    arun(story, timeout=12)


def test_a_unix_socket(arun: Arun, tmp_path: Path) -> None:
    async def story() -> None:
        path = str(tmp_path / "app")
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.listen()
        sock.setblocking(False)
        (tmp_path / "public").mkdir()
        (tmp_path / "public" / "index.html").write_text("<h1>Mine</h1>")
        settings = Settings(trusted_proxies=("*",))
        host = RecordingHost(settings)
        async with websocket.Server(host, sock=sock, public=tmp_path / "public") as server:
            assert (server.url, server.port) == (f"unix:{path}", 0)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            page = (await reader.read()).decode()
            assert page.endswith("<h1>Mine</h1>")
            assert "set-cookie: greenroom_0=" in page.lower()
            assert "cache-control: private, no-cache" in page.lower()  # for it sets a cookie
            writer.close()
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"X-Forwarded-For: 198.51.100.7\r\n\r\n"
            )
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            assert host.connections[-1].facts["peer"] == "198.51.100.7"
            writer.write(masked(CLOSE, b"\x03\xe8"))
            assert await reader.read() == b"\x88\x02\x03\xe8"
            writer.close()

    arun(story, timeout=12)


def test_an_address_in_use(arun: Arun) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            app = make()
            with pytest.raises(OSError, match="in use"):
                await websocket.serve(app, port=taken.getsockname()[1])
            assert app.phase == "new"

    arun(story, timeout=12)


def test_nothing_needs_the_garbage_collector(tls: bool, arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        async with serving(host, tls=tls) as port:
            gc.collect()
            gc.disable()
            try:
                left: list[Any] = []
                for count, leave in enumerate(("close", "cut", "refused", "us"), start=1):
                    raw = await dialled(port, tls=tls)
                    connection = await host.connected(count)
                    left.append(weakref.ref(connection.transport))
                    connection.transport.send([frame(1)])
                    if leave == "close":
                        raw.say(masked(CLOSE))
                    elif leave == "refused":
                        raw.say(masked(3))
                    elif leave == "us":
                        connection.transport.close(1000, "bye")
                        await raw.until_close()
                        raw.say(masked(CLOSE))
                    if leave == "cut":
                        raw.close()
                    await connection.until(lambda c: c.closed)
                    raw.close()
                    del connection.transport, connection
                host.connections.clear()
                await eventually(lambda: all(ref() is None for ref in left))
            finally:
                gc.enable()

    arun(story, timeout=12)
