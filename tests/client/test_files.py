"""Files of the Python client: over HTTP on a real server, and in pieces over the memory line."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.adapters.test_asgi import on_uvicorn
from tests.support.until import eventually

import greenroom as gr
from greenroom.adapters import asgi, memory, websocket
from greenroom.client import Client, connect
from greenroom.client.http import Request
from greenroom.core.types import FileRef

Run = Callable[..., Any]
CONTENT = bytes(range(256)) * 5000  # 1.28 MB


def take(payload: gr.File) -> list[Any]:
    return [payload.name, payload.mime, payload.size, hashlib.sha256(payload.read()).hexdigest()]


def give(session: gr.Session, payload: int) -> None:
    session.download(CONTENT[:payload], "report.pdf")


class Served(NamedTuple):
    app: gr.App
    connect: Callable[..., Client]


@asynccontextmanager
async def served(way: str, **settings: Any) -> AsyncGenerator[Served]:
    app = gr.App(handlers=[take, give], settings=gr.Settings(secret="s", **settings))
    async with app:
        if way == "memory":
            yield Served(app, lambda **options: connect(lambda: memory.connect(app), **options))
            return

        if way == "fast":
            server = await websocket.serve(app, port=0)
            try:
                yield Served(app, lambda **options: connect(f"{server.url}/ws", **options))
            finally:
                await server.stop()
            return

        async def mounted(scope: Any, receive: Any, send: Any) -> None:
            await inner({**scope, "root_path": "/live"} | {"path": scope["path"]}, receive, send)

        inner = asgi.application(app)
        async with on_uvicorn(mounted) as port:
            url = f"ws://127.0.0.1:{port}/live/ws"
            yield Served(app, lambda **options: connect(url, **options))


WAYS = pytest.mark.parametrize("way", ["http", "fast", "memory"])


@WAYS
@pytest.mark.parametrize("binary", [True, False])
def test_a_path_and_bytes_go_up(way: str, binary: bool, arun: Run, tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "scan.png"
        path.write_bytes(CONTENT)
        async with served(way) as it, it.connect(binary=binary) as client:
            seen: list[tuple[int, int]] = []
            ref = await client.upload(path, progress=lambda at, size: seen.append((at, size)))
            assert isinstance(ref, FileRef)
            digest = hashlib.sha256(CONTENT).hexdigest()
            assert await client.call("take", ref) == ["scan.png", "image/png", len(CONTENT), digest]
            await asyncio.sleep(0)
            assert seen[-1] == (len(CONTENT), len(CONTENT))
            assert [at for at, _ in seen] == sorted(at for at, _ in seen)
            assert len(seen) > 1
            ref = await client.upload(b"", name="a/../b\0.txt")
            assert (await client.call("take", {"data": ref}))[:3] == ["b.txt", "text/plain", 0]

    arun(story)


@WAYS
@pytest.mark.parametrize("size", [10, 70_000, len(CONTENT)])
def test_what_is_offered_is_saved_and_overwrites_nothing(
    way: str, size: int, arun: Run, tmp_path: Path
) -> None:
    async def story() -> None:
        async with served(way) as it, it.connect(downloads=tmp_path) as client:
            saved: asyncio.Queue[Any] = asyncio.Queue()
            client.on("gr:saved", lambda about, *_: saved.put_nowait(about))
            for name in ("report.pdf", "report (1).pdf"):
                await client.call("give", size)
                about = await saved.get()
                assert about == {"path": tmp_path / name, "mime": "application/pdf", "size": size}
                assert about["path"].read_bytes() == CONTENT[:size]

    arun(story)


@WAYS
def test_a_hook_takes_a_download(way: str, arun: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with served(way) as it, it.connect(downloads=tmp_path) as client:
            content: asyncio.Queue[bytes] = asyncio.Queue()

            async def hook(download: Any) -> None:
                assert download.size == len(CONTENT)
                with pytest.raises(FileExistsError):
                    await download.save(tmp_path / "taken")
                content.put_nowait(await download.read())

            (tmp_path / "taken").write_bytes(b"mine")
            off = client.on_download(hook)
            await client.call("give", len(CONTENT))
            assert await content.get() == CONTENT
            assert [path.name for path in tmp_path.iterdir()] == ["taken"]
            off()

    arun(story)


@WAYS
def test_a_cancelled_upload_is_dropped_at_the_server(way: str, arun: Run, tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "big"
        with path.open("wb") as file:
            file.truncate(200_000_000)  # of zeros that take no room
        async with served(way) as it, it.connect() as client:
            moving = asyncio.Event()
            task = asyncio.create_task(client.upload(path, progress=lambda *_: moving.set()))
            await moving.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            stats = it.app.files.stats
            await eventually(lambda: not stats()["uploads"] and not stats()["bytes"])
            assert stats()["uploads_cut"] == 1
            assert (await client.call("take", await client.upload(b"x")))[2] == 1

    arun(story)


@WAYS
def test_refusals_say_why(way: str, arun: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with served(way, max_upload=100) as it, it.connect() as client:
            with pytest.raises(gr.Refused) as caught:
                await client.upload(b"x" * 101)
            assert caught.value.code == "too_large"
            with pytest.raises(FileNotFoundError):
                await client.upload(tmp_path / "none")
            with pytest.raises(gr.Refused) as caught:
                await client.call("take", FileRef("nothing"))
            assert caught.value.code == "bad_payload"
            assert it.app.files.stats()["uploads_offered"] == 0

    arun(story)


def test_addresses_are_not_shown_and_not_followed_elsewhere(arun: Run) -> None:
    async def story() -> None:
        async with served("http") as it, it.connect() as client:
            shown: list[Any] = []
            client.on_frame(lambda _, frame: shown.append(frame))
            await client.upload(b"x")
            urls = [f["data"]["url"] for f in shown if "url" in (f.get("data") or {})]
            assert urls == ["file/…"]
            files = client._files
            for wild in ("http://evil/file/" + "x" * 40, "../file/" + "x" * 40, "file/../x", 5):
                assert files._url({"url": wild}) is None

    arun(story)


def test_a_server_that_sends_more_than_it_announced_fills_no_disk(arun: Run) -> None:
    async def story() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(1_000_000))
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            target = io.BytesIO()
            request = Request(f"http://127.0.0.1:{port}/file/x")
            with pytest.raises(gr.GreenroomError, match="more than the 300000 bytes"):
                await request.get(target, 300_000, lambda _: None)
            assert len(target.getvalue()) <= 300_000

    arun(story)
