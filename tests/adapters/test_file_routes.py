"""Files over HTTP on a real server, with clients that know no manners."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.adapters.test_asgi import on_hypercorn, on_uvicorn
from tests.conftest import LOOPS, run_clean
from tests.support.until import eventually
from websockets.asyncio.client import ClientConnection, connect

import greenroom as gr
from greenroom.adapters import asgi, file_routes
from greenroom.testing.clock import ManualClock

Arun = Callable[..., Any]
SERVERS = {"uvicorn": on_uvicorn, "hypercorn": on_hypercorn}
COOKIE = "abcdefghijklmnop"


@pytest.fixture
def arun(request: pytest.FixtureRequest) -> Arun:
    """Hypercorn on asyncio, all else on uvloop: starting and stopping servers takes its time."""
    server = getattr(request.node, "callspec", None) and request.node.callspec.params.get("server")
    factory = LOOPS["asyncio"] if server == "hypercorn" else LOOPS.get("uvloop", LOOPS["asyncio"])
    return lambda story, timeout=10: run_clean(factory, story, timeout)


# -- a page, by hand ------------------------------------------------------------------------------


class Page:
    """A link over a real WebSocket, in bare frames."""

    def __init__(self, ws: ClientConnection, port: int) -> None:
        self.ws = ws
        self.port = port
        self.sent = 0
        self.waiting: list[dict[str, Any]] = []
        self.session = ""

    async def next(self) -> dict[str, Any]:
        while not self.waiting:
            frame = json.loads(await self.ws.recv())
            self.waiting += frame["data"] if frame["type"] == "gr:batch" else [frame]
        return self.waiting.pop(0)

    async def until(self, kind: str) -> Any:
        while (frame := await self.next())["type"] != kind:
            pass
        return frame["data"]

    async def call(self, event: str, data: Any = None) -> Any:
        self.sent += 1
        await self.ws.send(json.dumps({"type": event, "id": self.sent, "data": data}))
        while (frame := await self.next()).get("id") != self.sent:
            pass
        return frame.get("data")

    async def announce(self, size: int, name: str = "a.bin") -> dict[str, Any]:
        told: dict[str, Any] = await self.call("gr:upload", {"name": name, "size": size})
        return told


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["code"])


class Request:
    """One HTTP request, byte by byte if need be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(
        cls, port: int, method: str, path: str, headers: dict[str, str] | None = None
    ) -> Request:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [f"{method} /{path} HTTP/1.1"]
        lines += [
            f"{k}: {v}"
            for k, v in (
                {"Host": f"127.0.0.1:{port}", "Connection": "close"} | (headers or {})
            ).items()
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return cls(reader, writer)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> Reply:
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            if "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self.reader.read()
            return Reply(int(head[0].split()[1]), headers, body)
        finally:
            self.cut()

    def cut(self) -> None:
        self.writer.transport.abort()


async def http(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Reply:
    length = {"Content-Length": str(len(body))} if method in ("POST", "PUT") else {}
    request = await Request.open(port, method, path, length | (headers or {}))
    await request.send(body)
    return await request.reply()


class Served(NamedTuple):
    app: gr.App
    port: int
    open: Callable[..., Any]

    @property
    def stats(self) -> dict[str, int]:
        return self.app.files.stats()

    async def until(self, name: str, value: int) -> None:
        await eventually(lambda: self.stats[name] == value)

    async def empty(self) -> None:
        """Wait until nothing of a file is left: on disk, in memory, in the accounts."""
        await self.until("uploads", 0)
        folder = self.app.files.folder()
        await eventually(lambda: not list(folder.iterdir()))
        assert self.stats["bytes"] == 0


@asynccontextmanager
async def served(
    *handlers: Any, server: str = "uvicorn", clock: Any = None, **settings: Any
) -> AsyncGenerator[Served]:
    app = gr.App(handlers=handlers, settings=gr.Settings(secret="s", **settings), clock=clock)
    pages: list[Page] = []
    async with app, SERVERS[server](asgi.application(app)) as port:

        async def open_page(cookie: str | None = None, **headers: str) -> Page:
            if cookie:
                headers["Cookie"] = f"greenroom_{port}={cookie}"
            ws = await connect(
                f"ws://127.0.0.1:{port}/ws",
                compression=None,
                max_size=None,
                proxy=None,
                ping_interval=None,
                additional_headers=headers,
            )
            page = Page(ws, port)
            pages.append(page)
            hello = {"protocol": 1, "token": None, "link": None, "seq": 0}
            await ws.send(json.dumps({"type": "gr:hello", "data": hello}))
            page.session = (await page.until("gr:welcome"))["session"]
            await page.until("gr:snapshot")
            return page

        try:
            yield Served(app, port, open_page)
        finally:
            for page in pages:
                await page.ws.close()


def size_of(payload: gr.File) -> list[Any]:
    return [payload.name, payload.mime, payload.size, len(payload.read())]


# -- in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_a_file_goes_up_and_reaches_the_handler(server: str, arun: Arun) -> None:
    async def story() -> None:
        async with served(size_of, server=server) as it:
            page = await it.open()
            content = bytes(range(256)) * 4096
            told = await page.announce(len(content), "a photo.png")
            assert told["url"].startswith("file/")
            assert len(told["url"]) >= 48
            reply = await http(it.port, "POST", told["url"], content)
            assert reply.status == 200
            assert json.loads(reply.body) == {"file": told["file"], "size": len(content)}
            answer = await page.call("size_of", {"$file": told["file"]})
            assert answer == ["a photo.png", "image/png", len(content), len(content)]
            session = it.app.sessions[page.session]
            session.close()
            await it.empty()

    arun(story)


def test_a_capability_is_good_once_and_for_one_direction(arun: Arun) -> None:
    async def story() -> None:
        async with served(size_of) as it:
            page = await it.open()
            told = await page.announce(3)
            url = told["url"]
            for method in ("GET", "HEAD", "PUT", "DELETE"):
                reply = await Request.open(it.port, method, url, {})
                if method == "HEAD":
                    head = (await reply.reader.readuntil(b"\r\n\r\n")).decode()
                    assert " 405 " in head
                    reply.cut()
                    continue
                assert (await reply.reply()).status == (404 if method == "GET" else 405)
            assert (await http(it.port, "POST", url, b"abc")).status == 200
            again = await http(it.port, "POST", url, b"abc")
            assert (again.status, again.code) == (404, "not_found")
            assert it.stats["capabilities_used"] == 1
            for wild in (
                "file/",
                "file/../ws",
                "file/" + "x" * 5000,
                "file/%00",
                "file//etc/passwd",
            ):
                assert (await http(it.port, "GET", wild)).status == 404, wild

    arun(story)


def test_a_body_larger_than_announced_is_413_whatever_its_length_says(arun: Arun) -> None:
    async def story() -> None:
        async with served(size_of) as it:
            page = await it.open()
            told = await page.announce(10)
            reply = await http(it.port, "POST", told["url"], b"x" * 11)
            assert (reply.status, reply.code) == (413, "too_large")
            told = await page.announce(300_000)
            chunked = {"Transfer-Encoding": "chunked"}
            request = await Request.open(it.port, "POST", told["url"], chunked)
            for _ in range(5):
                await request.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await request.send(b"0\r\n\r\n")
            reply = await request.reply()
            assert (reply.status, reply.code) == (413, "too_large")
            await it.empty()
            assert (it.stats["uploads_unsent"], it.stats["uploads_cut"]) == (1, 1)

    arun(story)


def test_chunked_without_a_length_and_smaller_than_announced_is_fine(arun: Arun) -> None:
    async def story() -> None:
        async with served(size_of) as it:
            page = await it.open()
            told = await page.announce(1000)
            chunked = {"Transfer-Encoding": "chunked"}
            request = await Request.open(it.port, "POST", told["url"], chunked)
            await request.send(b"5\r\nhello\r\n0\r\n\r\n")
            assert (await request.reply()).status == 200
            assert (await page.call("size_of", {"$file": told["file"]}))[2:] == [5, 5]
            told = await page.announce(0)
            assert (await http(it.port, "POST", told["url"])).status == 200
            assert (await page.call("size_of", {"$file": told["file"]}))[2:] == [0, 0]

    arun(story)


def test_pieces_do_not_mix_with_a_request(arun: Arun) -> None:
    """Two threads would write, and close, one file."""

    async def story() -> None:
        async with served(size_of) as it:
            page = await it.open()
            told = await page.announce(4)
            request = await Request.open(it.port, "POST", told["url"], {"Content-Length": "4"})
            await request.send(b"ab")
            await it.until("capabilities_used", 1)
            for at in (0, 2):
                piece = {"file": told["file"], "at": at, "data": {"$bytes": "eHg="}, "last": True}
                answer = await page.call("gr:piece", piece)
                assert answer["code"] == "bad_payload"
                assert "over HTTP" in answer["message"]
            await request.send(b"cd")
            assert json.loads((await request.reply()).body)["size"] == 4
            assert (await page.call("size_of", {"$file": told["file"]}))[2:] == [4, 4]

    arun(story)


def test_a_client_that_leaves_in_the_middle_leaves_nothing(arun: Arun) -> None:
    async def story() -> None:
        async with served(size_of) as it:
            page = await it.open()
            told = await page.announce(10_000_000)
            length = {"Content-Length": "10000000"}
            request = await Request.open(it.port, "POST", told["url"], length)
            await request.send(b"x" * 1_000_000)
            await eventually(lambda: it.stats["bytes"])
            request.cut()
            await it.until("uploads_cut", 1)
            await it.empty()
            answer = await page.call("size_of", {"$file": told["file"]})
            assert answer["code"] == "bad_payload"

    arun(story)


@pytest.mark.parametrize("how", ["session", "drop"])
def test_what_ends_an_upload_ends_its_request(how: str, arun: Arun) -> None:
    async def story() -> None:
        async with served(size_of) as it:
            page = await it.open()
            told = await page.announce(1_000_000)
            length = {"Content-Length": "1000000"}
            request = await Request.open(it.port, "POST", told["url"], length)
            await request.send(b"x" * 300_000)
            await eventually(lambda: it.stats["bytes"])
            if how == "session":
                it.app.sessions[page.session].close()
            else:
                assert await page.call("gr:piece", {"file": told["file"], "drop": True}) is True
            await request.send(b"x" * 700_000)
            assert (await request.reply()).status == 410
            await it.empty()

    arun(story)


def test_a_body_that_stalls_is_cut(arun: Arun) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with served(size_of, clock=clock) as it:
            page = await it.open()
            told = await page.announce(10)
            request = await Request.open(it.port, "POST", told["url"], {"Content-Length": "10"})
            await request.send(b"x")
            await it.until("capabilities_used", 1)
            clock.advance(29.0)
            await request.send(b"x")  # a trickle does not help
            clock.advance(1.5)
            await request.send(b"x" * 8)  # so that the answer need not wait for a body
            reply = await request.reply()
            assert (reply.status, reply.code) == (408, "timeout")
            await it.empty()

    arun(story)


def test_what_is_not_used_in_time_expires(arun: Arun) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with served(size_of, clock=clock) as it:
            page = await it.open()
            told = await page.announce(3)
            kept = await page.announce(3)
            assert (await http(it.port, "POST", kept["url"], b"abc")).status == 200
            clock.advance(60.0)
            assert (await http(it.port, "POST", told["url"], b"abc")).status == 404
            assert it.stats["uploads_unsent"] == 1
            clock.advance(239.0)
            assert it.stats["uploads"] == 1  # the file waits to be named
            clock.advance(2.0)
            assert it.stats["uploads_unclaimed"] == 1
            await it.empty()

    arun(story)


def test_another_session_and_another_browser_get_nothing(arun: Arun) -> None:
    async def story() -> None:
        async with served(size_of) as it:
            page = await it.open(COOKIE)
            other = await it.open()
            told = await page.announce(3)
            name = f"greenroom_{it.port}"
            for headers in ({}, {"Cookie": f"{name}={COOKIE[::-1]}"}):
                assert (await http(it.port, "POST", told["url"], b"abc", headers)).status == 404
            mine = {"Cookie": f"{name}={COOKIE}"}
            assert (await http(it.port, "POST", told["url"], b"abc", mine)).status == 200
            named = {"$file": told["file"]}
            assert (await other.call("size_of", named))["code"] == "bad_payload"
            assert (await other.call("gr:fetch", {"file": told["file"]}))["code"] == "not_found"
            dropping = {"file": told["file"], "drop": True}
            assert await other.call("gr:piece", dropping) is False
            assert (await page.call("size_of", named))[2] == 3

    arun(story)


def test_pages_of_other_origins_are_asked_for_their_papers(arun: Arun) -> None:
    async def story() -> None:
        async with served(size_of, origins=("https://friend.example",)) as it:
            page = await it.open()
            told = await page.announce(3)
            for origin in ("https://enemy.example", "null"):
                reply = await http(it.port, "POST", told["url"], b"abc", {"Origin": origin})
                assert (reply.status, reply.code) == (403, "unauthorized")
            friend = {"Origin": "https://friend.example"}
            asked = await http(it.port, "OPTIONS", told["url"], b"", friend)
            assert asked.status == 204
            assert "post" in asked.headers["access-control-allow-methods"]
            reply = await http(it.port, "POST", told["url"], b"abc", friend)
            assert reply.status == 200
            assert reply.headers["access-control-allow-origin"] == "https://friend.example"

    arun(story)


def test_the_limits_hold(arun: Arun) -> None:
    async def story() -> None:
        limits: dict[str, Any] = {"max_upload": 100, "max_uploads": 2, "file_bytes": 150}
        async with served(size_of, **limits) as it:
            page = await it.open()
            assert (await page.announce(101))["code"] == "too_large"
            first, second = await page.announce(100), await page.announce(100)
            assert (await page.announce(1))["code"] == "busy"
            assert (await http(it.port, "POST", first["url"], b"x" * 100)).status == 200
            reply = await http(it.port, "POST", second["url"], b"x" * 100)
            assert (reply.status, reply.code) == (503, "busy")  # file_bytes
            await page.call("size_of", {"$file": first["file"]})
            assert (await page.announce(51))["code"] == "busy"
            assert (await page.announce(50))["file"]
            assert it.stats["uploads_refused"] == 3
        async with served(size_of, max_files=2) as it:  # named or not, and empty all the same
            page = await it.open()
            for _ in range(2):
                told = await page.announce(0)
                assert (await http(it.port, "POST", told["url"])).status == 200
                await page.call("size_of", {"$file": told["file"]})
            answer = await page.announce(0)
            assert (answer["code"], "max_files" in answer["message"]) == ("busy", True)
        async with served(size_of, uploads=False) as it:
            assert (await (await it.open()).announce(1))["code"] == "not_found"
        asked: list[Any] = []

        def authorize(session: Any, action: str, name: str, data: Any) -> bool:
            asked.append((action, name, data))
            return False

        async with served(size_of, authorize=authorize) as it:
            assert (await (await it.open()).announce(1))["code"] == "unauthorized"
            assert asked == [("upload", "a.bin", {"size": 1, "mime": ""})]

    arun(story)


def test_a_disk_that_is_full_is_busy(arun: Arun, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with served(size_of) as it:
            page = await it.open()
            told = await page.announce(3)

            def full(*_: Any) -> int:
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as broken:
                broken.setattr("greenroom.core.uploads.os.write", full)
                reply = await http(it.port, "POST", told["url"], b"abc")
            assert (reply.status, reply.code) == (503, "busy")
            await it.empty()

    arun(story)


# -- out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_a_download_is_an_attachment_and_nothing_else(
    server: str, arun: Arun, tmp_path: Path
) -> None:
    async def story() -> None:
        path = tmp_path / "x"
        path.write_bytes(bytes(range(256)) * 4096)

        def give(session: gr.Session) -> None:
            session.download(path, 'Übersicht "1".html', "text/html")

        async with served(give, server=server) as it:
            page = await it.open()
            await page.ws.send(json.dumps({"type": "give"}))
            told = await page.until("gr:download")
            assert told["size"] == 1024 * 1024
            assert "url" not in told
            way = await page.call("gr:fetch", {"file": told["file"]})
            reply = await http(it.port, "GET", way["url"])
            assert reply.status == 200
            assert reply.body == path.read_bytes()
            headers = reply.headers
            assert headers["content-length"] == str(1024 * 1024)
            assert headers["content-disposition"] == (
                "attachment; filename=\"_bersicht _1_.html\"; filename*=utf-8''"
                "%c3%9cbersicht%20_1_.html"  # the test's headers are in lower case
            )
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert headers["content-security-policy"].startswith("sandbox")
            assert (await http(it.port, "GET", way["url"])).status == 404
            again = await page.call("gr:fetch", {"file": told["file"]})  # asking again is allowed
            assert (await http(it.port, "GET", again["url"])).status == 200
            path.write_bytes(b"changed")
            changed = await page.call("gr:fetch", {"file": told["file"]})
            assert (await http(it.port, "GET", changed["url"])).status == 404

    arun(story)


def test_nobody_takes_a_file_a_thousand_times_at_once(arun: Arun) -> None:
    """Each costs a socket, a descriptor and a piece in memory for as long as nobody reads."""

    async def story() -> None:
        def give(session: gr.Session) -> None:
            session.download(bytes(64_000_000), "big.bin")

        async with served(give, max_links=2) as it:
            page = await it.open()
            await page.ws.send(json.dumps({"type": "give"}))
            file = {"file": (await page.until("gr:download"))["file"]}
            requests: list[Request] = []
            for _ in range(2):
                way = await page.call("gr:fetch", file)
                requests.append(await Request.open(it.port, "GET", way["url"]))
                await requests[-1].reader.readexactly(1)
            assert (await page.call("gr:fetch", file))["code"] == "busy"
            requests[0].cut()
            await it.until("downloads_cut", 1)
            assert "url" in await page.call("gr:fetch", file)
            requests[1].cut()
            await it.until("downloads_cut", 2)

    arun(story)


def test_a_file_that_grows_while_it_is_sent(arun: Arun, tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "log"
        path.write_bytes(bytes(16_000_001))

        def give(session: gr.Session) -> None:
            session.download(path)

        async with served(give) as it:
            page = await it.open()
            await page.ws.send(json.dumps({"type": "give"}))
            told = await page.until("gr:download")
            way = await page.call("gr:fetch", {"file": told["file"]})
            request = await Request.open(it.port, "GET", way["url"])
            await request.reader.readexactly(1)  # it is being sent, and far from its end
            with path.open("ab") as file:
                file.write(b"more")
            reply = await request.reply()
            assert len(reply.body) == 16_000_001
            await it.until("downloads_done", 1)

    arun(story)


def test_a_client_that_leaves_a_download_is_noticed(arun: Arun) -> None:
    async def story() -> None:
        def give(session: gr.Session) -> None:
            session.download(bytes(64_000_000), "big.bin")

        async with served(give) as it:
            page = await it.open()
            await page.ws.send(json.dumps({"type": "give"}))
            told = await page.until("gr:download")
            way = await page.call("gr:fetch", {"file": told["file"]})
            request = await Request.open(it.port, "GET", way["url"])
            await request.reader.read(1000)
            request.cut()
            await it.until("downloads_cut", 1)
            assert it.stats["downloads_done"] == 0

    arun(story)


@pytest.mark.parametrize("how", ["stall", "session"])
def test_a_download_that_is_ended_is_not_whole(how: str, arun: Arun) -> None:
    async def story() -> None:
        clock = ManualClock()

        def give(session: gr.Session) -> None:
            session.download(bytes(64_000_000), "big.bin")

        async with served(give, clock=clock) as it:
            page = await it.open()
            await page.ws.send(json.dumps({"type": "give"}))
            told = await page.until("gr:download")
            way = await page.call("gr:fetch", {"file": told["file"]})
            request = await Request.open(it.port, "GET", way["url"])
            await request.reader.readuntil(b"\r\n\r\n")
            if how == "stall":

                def cut() -> int:
                    clock.advance(31.0)
                    return it.stats["downloads_cut"]

                await eventually(cut)
            else:
                it.app.sessions[page.session].close()
                await it.until("downloads_cut", 1)
            rest = await request.reader.read(-1)
            assert len(rest) < 64_000_000
            request.cut()
            if how == "session":
                assert it.stats["bytes"] == 0

    arun(story)


def test_the_rules_of_a_host_hold_here_too(arun: Arun) -> None:
    async def story() -> None:
        async with served() as it:
            reply = await http(it.port, "GET", "file/x", b"", {"Host": "evil.example"})
            assert reply.status == 400

    arun(story)


def test_the_prefix_is_below_the_mount() -> None:
    assert file_routes.PREFIX == "/file/"
