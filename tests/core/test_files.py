"""Files of sessions, in pieces over the memory line: what is accepted, what is left, and when."""

from __future__ import annotations

import asyncio
import base64
import shutil
import threading
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pytest
from tests.core.visitor import Visitor
from tests.support.until import eventually

import greenroom as gr
from greenroom import App, Settings
from greenroom.core.stats import unbalanced
from greenroom.core.uploads import Upload
from greenroom.testing.clock import ManualClock

given: list[Any] = []


def take(payload: gr.File) -> list[Any]:
    given.append(payload)
    return [payload.name, payload.size]


def several(payload: list[gr.File]) -> list[str]:
    return [file.read().decode() for file in payload]


class Form(msgspec.Struct):
    note: str
    scan: gr.File


def form(payload: Form) -> list[str]:
    return [payload.note, payload.scan.path.read_text()]


def plain(payload: Any, context: Any) -> list[str]:
    given.append(payload)
    return [str(payload), str(context.get("f"))]


def fails(session: gr.Session, payload: gr.File) -> None:
    raise RuntimeError("no")


HANDLERS: list[Any] = [take, several, form, plain, fails]


def in_frame(raw: bytes) -> dict[str, str]:
    return {"$bytes": base64.b64encode(raw).decode()}


def out_of(frame: Any) -> bytes:
    return base64.b64decode(frame["$bytes"])


async def send(visitor: Visitor, raw: bytes, name: str = "a.txt", step: int = 4) -> str:
    told = await visitor.call("gr:upload", {"name": name, "size": len(raw)})
    assert "url" not in told  # there is no HTTP here
    for at in range(0, len(raw) or 1, step):
        piece = {"file": told["file"], "at": at, "data": in_frame(raw[at : at + step])}
        here = await visitor.call("gr:piece", piece | {"last": at + step >= len(raw)})
        assert here == min(at + step, len(raw))
    return str(told["file"])


async def pass_time(visitor: Visitor, clock: ManualClock, seconds: float) -> None:
    """Let time pass for a client that lives."""
    while seconds > 0:
        clock.advance(min(seconds, 10.0))
        seconds -= 10.0
        visitor.raw(type="gr:ping", data={"id": visitor.sent})
        await visitor.until("gr:pong")


async def nothing_left(app: App) -> None:
    """No part, no file, no byte in the accounts; and they balance."""
    await eventually(lambda: not app.files.stats()["bytes"])
    await eventually(lambda: not list(app.files.folder().iterdir()))
    assert not unbalanced(app.stats())


def test_handlers_get_files_however_they_ask(arun: Any) -> None:
    async def story() -> None:
        async with App(handlers=HANDLERS) as app:
            visitor = await Visitor(app).open()
            one, two = await send(visitor, b"first"), await send(visitor, b"second", "b.txt")
            ref = {"$file": one, "name": "../../lies", "mime": "x/y", "size": 10**9}
            assert await visitor.call("take", ref) == ["a.txt", 5]
            assert await visitor.call("several", [ref, {"$file": two}]) == ["first", "second"]
            assert await visitor.call("form", {"note": "n", "scan": ref}) == ["n", "first"]
            small = {"name": "c.txt", "type": "text/plain", "data": in_frame(b"small")}
            assert await visitor.call("form", {"note": "n", "scan": small}) == ["n", "small"]
            assert await visitor.call("take", [small]) == ["c.txt", 5]
            assert await visitor.call("several", [small, ref]) == ["small", "first"]
            answer = await visitor.call("plain", {"deep": [ref]}, context={"f": ref})
            assert answer == [
                "{'deep': [<File 'a.txt' text/plain 5 bytes>]}",
                "<File 'a.txt' text/plain 5 bytes>",
            ]
            visitor.session.close()
            await nothing_left(app)
            with pytest.raises(gr.Closed):
                given[-1]["deep"][0].read()
            visitor.line.close()

    arun(story)


class Picked(TypedDict):
    name: str
    data: bytes


def picked(payload: list[Picked]) -> list[str]:
    return [f"{one['name']} {one['data'].decode()}" for one in payload]


def unannotated(payload: Any) -> list[str]:
    return [f"{type(one['data']).__name__} {one['data'].read().decode()}" for one in payload]


def test_who_asks_for_bytes_gets_them_however_they_came(arun: Any) -> None:
    async def story() -> None:
        async with App(handlers=[picked, unannotated]) as app:
            visitor = await Visitor(app).open()
            large = {"$file": await send(visitor, b"large")}
            both = [
                {"name": "a", "type": "", "data": in_frame(b"small")},
                {"name": "b", "type": "", "data": large},
            ]
            assert await visitor.call("picked", both) == ["a small", "b large"]
            assert await visitor.call("unannotated", both) == ["Bytes small", "File large"]
            wrong = await visitor.call("picked", [{"name": 1, "data": large}])
            assert wrong["code"] == "bad_payload"
            assert "Expected `str`, got `int`" in wrong["message"]
            visitor.line.close()

    arun(story)


async def send_bytes(visitor: Visitor, raw: bytes) -> dict[str, Any]:
    about = {"name": "a.png", "size": len(raw), "mime": "image/png", "bytes": True}
    told = await visitor.call("gr:upload", about)
    if "file" not in told:
        return dict(told)
    piece = {"file": told["file"], "at": 0, "data": in_frame(raw), "last": True}
    assert await visitor.call("gr:piece", piece) == len(raw)
    return {"$file": told["file"], "name": "a.png", "mime": "image/png", "size": len(raw)}


def test_bytes_that_came_beside_the_stream_are_bytes_and_not_held(
    arun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with App(handlers=[plain, take]) as app:
            visitor = await Visitor(app).open()
            ref = await send_bytes(visitor, b"pixels")
            assert not list(app.files.folder().iterdir())  # it is in memory, and counted
            assert app.stats()["files"]["bytes"] == 6
            await visitor.call("plain", {"deep": [ref]})
            (picture,) = given[-1]["deep"]
            assert type(picture) is gr.Bytes
            assert (picture, picture.mime, picture.name) == (b"pixels", "image/png", "a.png")
            await nothing_left(app)  # it is the handler's now
            assert picture == b"pixels"
            again = await visitor.call("plain", ref)
            assert again["code"] == "bad_payload"  # once is once

            one = await send_bytes(visitor, b"pixels")
            assert await visitor.call("take", one) == ["a.png", 6]  # who wants a file has one

            monkeypatch.setattr("greenroom.core.files.IN_MEMORY", 5)
            refused = await send_bytes(visitor, b"pixels")
            assert refused["code"] == "too_large"
            visitor.session.close()
            await nothing_left(app)
            visitor.line.close()

    arun(story)


@pytest.mark.parametrize(
    "wild",
    [
        {"$file": "unknown"},
        {"$file": ""},
        {"$file": 5},
        {"$file": None},
        {"$file": "../../etc/passwd"},
        {"$file": "x", "path": "/etc/passwd"},
        {"$file": "x", "size": "1"},
        [{"$file": "unknown"}],
        5,
        {"$dict": {"$file": "x"}},
        None,
    ],
)
def test_what_names_no_file_is_bad_payload(wild: Any, arun: Any) -> None:
    async def story() -> None:
        async with App(handlers=HANDLERS) as app:
            visitor = await Visitor(app).open()
            assert (await visitor.call("take", wild))["code"] == "bad_payload"
            visitor.line.close()

    arun(story)


def test_pieces_out_of_turn_end_the_upload(arun: Any) -> None:
    async def story() -> None:
        async with App(handlers=HANDLERS) as app:
            visitor = await Visitor(app).open()
            wrong: list[tuple[dict[str, Any], str]] = [
                ({"at": 3, "data": in_frame(b"x")}, "bad_payload"),
                ({"at": 0, "data": in_frame(b"12345678901")}, "too_large"),
                ({"at": -1, "data": in_frame(b"x")}, "bad_payload"),
                ({"at": 0, "data": "text"}, "bad_payload"),
                ({"data": in_frame(b"x")}, "bad_payload"),
            ]
            for piece, code in wrong:
                told = await visitor.call("gr:upload", {"name": "a", "size": 10})
                answer = await visitor.call("gr:piece", {"file": told["file"], **piece})
                assert answer["code"] == code, piece
            for about in ({}, {"name": "a", "size": -1}, {"name": "a", "size": "1"}, {"size": 1}):
                assert (await visitor.call("gr:upload", about))["code"] == "bad_payload"
            whole = await send(visitor, b"whole")
            more = {"file": whole, "at": 5, "data": in_frame(b"x")}
            assert (await visitor.call("gr:piece", more))["code"] == "bad_payload"
            # It stands all the same, and once it was named it is the app's.
            assert await visitor.call("several", [{"$file": whole}]) == ["whole"]
            for piece in (more, more | {"at": 0}, {"file": whole, "drop": True}):
                await visitor.call("gr:piece", piece)
            assert await visitor.call("several", [{"$file": whole}]) == ["whole"]
            visitor.session.close()
            await nothing_left(app)
            visitor.line.close()

    arun(story)


def test_many_pieces_at_once_are_written_in_order_or_refused(arun: Any) -> None:
    async def story() -> None:
        async with App(handlers=HANDLERS) as app:
            visitor = await Visitor(app).open()
            told = await visitor.call("gr:upload", {"name": "a", "size": 100})
            ids = [
                visitor.send(
                    "gr:piece",
                    {"file": told["file"], "at": n, "data": in_frame(b"%d" % n), "last": n == 7},
                )
                for n in range(8)
            ]
            while visitor.frames[-1].get("id") != ids[-1]:
                await visitor.next()
            assert await visitor.call("several", [{"$file": told["file"]}]) == ["01234567"]
            told = await visitor.call("gr:upload", {"name": "a", "size": 100})
            for n in range(20):
                piece = {"file": told["file"], "at": n, "data": in_frame(b"x")}
                last = visitor.send("gr:piece", piece)
            assert (await visitor.answer(last))["code"] == "busy"
            visitor.line.close()

    arun(story)


def test_what_stalls_or_is_not_named_goes(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with App(handlers=HANDLERS, clock=clock) as app:
            visitor = await Visitor(app).open()
            begun = await visitor.call("gr:upload", {"name": "a", "size": 10})
            piece = {"file": begun["file"], "at": 0, "data": in_frame(b"x")}
            assert await visitor.call("gr:piece", piece) == 1
            whole = await send(visitor, b"whole")
            claimed = await send(visitor, b"claimed")
            assert await visitor.call("take", {"$file": claimed}) == ["a.txt", 7]
            stats = app.files.stats
            await pass_time(visitor, clock, 29.9)
            assert stats()["uploads_cut"] == 0
            await pass_time(visitor, clock, 0.2)
            assert stats()["uploads_cut"] == 1
            assert (await visitor.call("gr:piece", piece | {"at": 1}))["code"] == "not_found"
            await pass_time(visitor, clock, 269.0)
            assert stats()["uploads_unclaimed"] == 0
            await pass_time(visitor, clock, 1.0)
            assert stats()["uploads_unclaimed"] == 1
            assert (await visitor.call("take", {"$file": whole}))["code"] == "bad_payload"
            assert await visitor.call("take", {"$file": claimed}) == ["a.txt", 7]
            visitor.session.close()
            await nothing_left(app)
            visitor.line.close()

    arun(story)


def test_a_payload_that_was_refused_claims_nothing(arun: Any) -> None:
    async def story() -> None:
        held = asyncio.Event()

        async def hold() -> None:
            await held.wait()

        settings = Settings(mailbox_messages=1)
        async with App(handlers=[*HANDLERS, hold], settings=settings) as app:
            visitor = await Visitor(app).open()
            file = await send(visitor, b"x")
            visitor.send("hold")
            visitor.send("hold")
            assert (await visitor.call("take", {"$file": file}))["code"] == "busy"
            assert app.files.stats()["uploads_waiting"] == 1
            held.set()
            assert (await visitor.call("nobody", {"$file": file}))["code"] == "not_found"
            assert app.files.stats()["uploads_claimed"] == 0
            failed = await visitor.call("fails", {"$file": file})
            assert failed["code"] == "handler_error"
            assert await visitor.call("take", {"$file": file}) == [
                "a.txt",
                1,
            ]  # it may be tried again
            visitor.line.close()

    arun(story)


def test_a_kept_file_is_the_apps(arun: Any, tmp_path: Path) -> None:
    async def story() -> None:
        def keep(payload: list[gr.File]) -> None:
            payload[0].keep(tmp_path)
            payload[1].close()

        async with App(handlers=[keep]) as app:
            visitor = await Visitor(app).open()
            refs = [{"$file": await send(visitor, b"mine")}, {"$file": await send(visitor, b"no")}]
            assert await visitor.call("keep", refs) is None
            await nothing_left(app)
            assert (await visitor.call("keep", refs))["code"] == "bad_payload"
            visitor.line.close()
        assert (tmp_path / "a.txt").read_bytes() == b"mine"

    arun(story)


# -- downloads ------------------------------------------------------------------------------------


def test_what_cannot_be_downloaded_says_so_at_once(arun: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with App(settings=Settings(file_bytes=100_000)) as app:
            session = app.open_session()
            with pytest.raises(FileNotFoundError, match="none"):
                session.download(tmp_path / "none")
            with pytest.raises(ValueError, match="no regular file"):
                session.download(tmp_path)
            with pytest.raises(gr.TooLarge, match="file_bytes"):
                session.download(bytes(100_001))
            session.download(bytes(70_000))
            with pytest.raises(gr.TooLarge, match=r"than file_bytes"):
                session.download(bytes(70_000))
        async with App(settings=Settings(total_file_bytes=100_000)) as app:
            app.open_session().download(bytes(70_000))
            with pytest.raises(gr.TooLarge, match="than total_file_bytes"):
                app.open_session().download(bytes(70_000))

    arun(story)


def test_a_download_is_fetched_in_pieces_by_each_who_was_there(arun: Any, tmp_path: Path) -> None:
    async def story() -> None:
        content = bytes(range(256)) * 3000
        path = tmp_path / "a.bin"
        path.write_bytes(content)
        async with App() as app:
            one = await Visitor(app).open()
            two = await Visitor(app).open(token=one.welcome["token"])
            stranger = await Visitor(app).open()
            for source in (path, content):
                one.session.download(source, "b.bin")
                offers = [await visitor.until("gr:download") for visitor in (one, two)]
                file = offers[0]["data"]["file"]
                assert offers[0]["data"] == offers[1]["data"]
                for visitor in (one, two):
                    told = await visitor.call("gr:fetch", {"file": file})
                    assert told == {
                        "file": file, "name": "b.bin", "mime": "application/octet-stream",
                        "size": len(content), "piece": 262144,
                    }  # fmt: skip
                    got = b""
                    while len(got) < len(content):
                        piece = {"file": file, "at": len(got)}
                        got += out_of(await visitor.call("gr:piece", piece))
                    assert got == content
                wrong = await one.call("gr:piece", {"file": file, "at": len(content) + 1})
                assert wrong["code"] == "bad_payload"
                for kind, data in (("gr:fetch", {}), ("gr:piece", {"at": 0})):
                    answer = await stranger.call(kind, {"file": file, **data})
                    assert answer["code"] == "not_found"
            path.write_bytes(b"changed")
            file = (await one.call("gr:fetch", {"file": file}))["file"]  # bytes do not change
            assert app.files.stats()["offers"] == 2
            one.session.close()
            assert app.files.stats()["offers"] == 0
            for visitor in (one, two, stranger):
                visitor.line.close()

    arun(story)


def test_who_was_away_fetches_when_he_is_back(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with App(clock=clock) as app:
            visitor = await Visitor(app).open()
            back, session = visitor.back(), visitor.session
            visitor.raw(type="gr:ack", data={"seq": visitor.seq})
            await visitor.line.settled()
            visitor.line.cut()
            session.download(bytes(100_000), "late.bin")
            clock.advance(100.0)
            visitor = Visitor(app)
            await visitor.hello(**back)
            offer = await visitor.until("gr:download")
            told = await visitor.call("gr:fetch", {"file": offer["data"]["file"]})
            assert told["size"] == 100_000
            visitor.line.cut()
            clock.advance(301.0)
            assert app.files.stats()["offers_expired"] == 1
            assert app.files.stats()["bytes"] == 0

    arun(story)


def test_bytes_are_let_go_a_minute_after_they_were_taken(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with App(clock=clock) as app:
            visitor = await Visitor(app).open()
            visitor.session.download(bytes(100_000))
            offer = await visitor.until("gr:download")
            await visitor.call("gr:piece", {"file": offer["data"]["file"], "at": 0})
            clock.advance(20.0)
            assert app.files.stats()["bytes"] == 100_000
            visitor.line.close()
            clock.advance(40.1)
            assert app.files.stats()["bytes"] == 0
            assert not unbalanced(app.stats())

    arun(story)


def test_a_piece_that_is_cancelled_ends_the_upload(
    arun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread writes on: the next piece would be written, or the file closed, beside it."""
    begun, go_on = threading.Event(), threading.Event()
    append = Upload._append  # pyright: ignore[reportPrivateUsage]

    def slow(upload: Upload, piece: bytes) -> None:
        begun.set()
        go_on.wait(10.0)
        append(upload, piece)

    monkeypatch.setattr(Upload, "_append", slow)

    async def story() -> None:
        begun.clear()
        go_on.clear()
        async with App(handlers=HANDLERS) as app:
            visitor = await Visitor(app).open()
            told = await visitor.call("gr:upload", {"name": "a", "size": 4})
            piece = {"file": told["file"], "data": in_frame(b"ab")}
            first = visitor.send("gr:piece", piece | {"at": 0})
            await asyncio.to_thread(begun.wait, 10.0)
            assert await visitor.call("gr:cancel", {"id": first}) is True
            answer = await visitor.call("gr:piece", piece | {"at": 2, "last": True})
            assert answer["code"] in ("closed", "not_found")
            assert app.files.stats()["uploads_cut"] == 1
            go_on.set()
            await nothing_left(app)
            visitor.line.close()

    arun(story)


def test_small_files_on_disk_count_too(arun: Any) -> None:
    async def story() -> None:
        settings = Settings(max_files=2, file_bytes=8)
        async with App(handlers=HANDLERS, settings=settings) as app:
            visitor = await Visitor(app).open()

            async def spool(raw: bytes) -> Any:
                inline = {"name": "a", "type": "", "data": in_frame(raw)}
                return await visitor.call("form", {"note": "n", "scan": inline})

            assert (await spool(b"123456789"))["code"] == "busy"
            assert await spool(b"1") == ["n", "1"]
            assert await spool(b"2") == ["n", "2"]
            assert (await spool(b"3"))["code"] == "busy"
            visitor.session.close()
            await nothing_left(app)
            visitor.line.close()

    arun(story)


def test_a_folder_that_was_cleaned_away_is_made_again(arun: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with App(handlers=HANDLERS, settings=Settings(upload_dir=str(tmp_path))) as app:
            visitor = await Visitor(app).open()
            shutil.rmtree(app.files.folder())
            assert await visitor.call("several", [{"$file": await send(visitor, b"x")}]) == ["x"]
            assert [p.stat().st_mode & 0o777 for p in tmp_path.iterdir()] == [0o700]

    arun(story)


def test_an_app_that_stops_leaves_no_folder(arun: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with App(handlers=HANDLERS, settings=Settings(upload_dir=str(tmp_path))) as app:
            visitor = await Visitor(app).open()
            await visitor.call("take", {"$file": await send(visitor, b"x")})
            begun = await visitor.call("gr:upload", {"name": "a", "size": 10})
            await visitor.call("gr:piece", {"file": begun["file"], "at": 0, "data": in_frame(b"x")})
            (folder,) = tmp_path.iterdir()
            assert folder.stat().st_mode & 0o777 == 0o700
            assert [p.stat().st_mode & 0o777 for p in folder.iterdir()] == [0o600, 0o600]
        assert not list(tmp_path.iterdir())
        assert not unbalanced(app.stats())

    arun(story)
