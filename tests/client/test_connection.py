"""The Python client, its server played by the test: no network, no waiting."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.served import served_by

from greenroom import App, Settings
from greenroom.adapters import memory
from greenroom.client import Client, connect
from greenroom.client.duplex import Ended, dialer_of
from greenroom.core.errors import Closed, Refused, Timeout
from greenroom.core.types import Bytes, Packet
from greenroom.testing.clock import ManualClock

Run = Callable[..., Any]


class Line:
    """A duplex whose other end is the test."""

    def __init__(self) -> None:
        self.said: list[Packet] = []
        self.ended: Ended | None = None
        self.closed_by_client = False
        self._incoming: asyncio.Queue[Packet | None] = asyncio.Queue()

    def send(self, *packets: Packet) -> None:
        self.said += packets

    async def receive(self) -> Packet:
        packet = await self._incoming.get()
        if packet is None:
            raise EOFError
        return packet

    def close(self) -> None:
        self.closed_by_client = True

    def say(self, frame: dict[str, Any]) -> None:
        self._incoming.put_nowait(Packet(json.dumps(frame).encode()))

    def cut(self, code: int = 1006) -> None:
        self.ended = Ended(code, "")
        self._incoming.put_nowait(None)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Stage:
    """A client, a clock that stands still, and all the lines that were dialled."""

    def __init__(self, timeout: float | None = None, **options: Any) -> None:
        self.lines: list[Line] = []
        self.clock = ManualClock()
        self.refuse = False
        self.client = connect(
            self.dial, timeout=timeout, clock=self.clock, random=lambda: 0.5, **options
        )

    def dial(self) -> Line:
        if self.refuse:
            raise ConnectionRefusedError("nobody there")
        self.lines.append(Line())
        return self.lines[-1]

    @property
    def status(self) -> str:
        return self.client.status

    @property
    def line(self) -> Line:
        return self.lines[-1]

    def heard(self) -> list[dict[str, Any]]:
        """What the client said since the last look."""
        said, self.line.said = self.line.said, []
        return [json.loads(packet.data) for packet in said]

    async def say(self, *frames: dict[str, Any]) -> list[dict[str, Any]]:
        for frame in frames:
            self.line.say(frame)
        await settle()
        return self.heard()

    async def welcome(self, **data: Any) -> list[dict[str, Any]]:
        full = {
            "protocol": 1,
            "session": "S1",
            "token": "T1",
            "expires": 86400,
            "link": "L1",
            "resumed": False,
            "seq": 0,
            "ack": 0,
            "pending": [],
            "ping": 20,
            "dead": 10,
            "max_frame_in": 1048576,
            "inflight": 256,
            "binary": True,
        }
        return await self.say({"type": "gr:welcome", "data": full | data})

    async def snapshot(self, seq: int, **state: Any) -> list[dict[str, Any]]:
        return await self.say({"type": "gr:snapshot", "seq": seq, "data": state})

    async def result(self, seq: int, number: int, data: Any = None) -> list[dict[str, Any]]:
        return await self.say({"type": "gr:result", "seq": seq, "id": number, "data": data})

    async def cut(self, code: int = 1006) -> None:
        self.line.cut(code)
        await settle()

    async def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await settle()

    @asynccontextmanager
    async def live(self, **state: Any) -> AsyncGenerator[Client]:
        entering = asyncio.ensure_future(self.client.__aenter__())
        await settle()
        await self.welcome()
        await self.snapshot(1, **state)
        client = await entering
        self.heard()
        try:
            yield client
        finally:
            await client.close()


def hello(token: str | None = None, link: str | None = None, seq: int = 0) -> dict[str, Any]:
    data = {"protocol": 1, "token": token, "link": link, "seq": seq}
    return {"type": "gr:hello", "data": data | {"label": "main", "binary": True}}


def test_inside_the_with_block_the_state_is_there(arun: Run) -> None:
    async def story() -> None:
        stage = Stage()
        seen: list[str] = []
        stage.client.on_status(seen.append)
        entering = asyncio.ensure_future(stage.client.__aenter__())
        await settle()
        assert stage.heard() == [hello()]
        await stage.welcome()
        assert not entering.done()
        await stage.snapshot(1, a={"b": 1})
        client = await entering
        assert client.state == {"a": {"b": 1}}
        assert client.get("a.b") == 1
        assert (client.session, client.token, client.label) == ("S1", "T1", "main")
        await client.close()
        assert stage.heard() == [{"type": "gr:bye"}]
        assert stage.line.closed_by_client
        assert seen == ["connecting", "live", "closed"]
        assert stage.clock.pending == 0

    arun(story)


def test_a_server_that_refuses_for_good(arun: Run) -> None:
    async def story() -> None:
        stage = Stage(token="old")
        entering = asyncio.ensure_future(stage.client.__aenter__())
        await settle()
        assert stage.heard() == [hello("old")]
        close = {"code": "version", "message": "too old", "retry": "never"}
        await stage.say({"type": "gr:close", "data": close})
        with pytest.raises(Closed, match="version too old"):
            await entering
        assert stage.client.status == "closed"

    arun(story)


@pytest.mark.parametrize("path", ["nope", "view/main"])
def test_an_address_without_a_websocket_is_an_error_and_no_wait(arun: Run, path: str) -> None:
    async def story() -> None:
        async with App() as app, served_by("websocket", app) as port:
            client = connect(f"http://127.0.0.1:{port}/{path}")
            with pytest.raises(Closed, match=r"HTTP 404: is this the address of the WebSocket\?"):
                await client.__aenter__()
            assert client.status == "closed"

    arun(story)


def test_nobody_there_is_an_error_that_says_what_to_do(arun: Run) -> None:
    async def story() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # and nobody listens
            address = f"http://127.0.0.1:{taken.getsockname()[1]}"
            clock = ManualClock()
            client = connect(address, clock=clock)
            entering = asyncio.ensure_future(client.__aenter__())
            seen = asyncio.Event()
            client.on_status(lambda status: seen.set() if status == "offline" else None)
            await seen.wait()
            clock.advance(30)
            with pytest.raises(
                Timeout, match=rf"no state from {address} within 30 s \(.*111.*\): is the server"
            ):
                await entering
            assert (client.status, clock.pending) == ("closed", 0)

    arun(story)


def test_a_server_that_says_nothing_and_one_that_comes_too_late(arun: Run) -> None:
    async def story() -> None:
        silent, late = Stage(timeout=5), Stage(timeout=5)
        late.refuse = True
        entering = [asyncio.ensure_future(one.client.__aenter__()) for one in (silent, late)]
        await settle()
        for stage in (silent, late):
            await stage.later(4.9)
            assert stage.status != "closed"
            await stage.later(0.1)
            assert (stage.status, stage.clock.pending) == ("closed", 0)
        with pytest.raises(Timeout, match=r"from the other end within 5 s \(it says nothing\)"):
            await entering[0]
        with pytest.raises(Timeout, match=r"within 5 s \(nobody there\)"):
            await entering[1]

    arun(story)


def test_a_connection_that_was_there_is_sought_for_ever(arun: Run) -> None:
    async def story() -> None:
        stage = Stage(timeout=5)
        async with stage.live() as client:
            stage.refuse = True
            await stage.cut()
            for _ in range(100):
                await stage.later(10)
            assert client.status == "offline"
            stage.refuse = False
            await stage.later(15)
            assert stage.heard() == [hello("T1", "L1", 1)]

    arun(story)


@pytest.mark.parametrize("path", ["", "/", "/ws"])
def test_the_address_that_is_printed_is_one_to_connect_to(arun: Run, path: str) -> None:
    async def story() -> None:
        async with (
            App(state={"count": 3}) as app,
            served_by("websocket", app) as port,
            connect(f"http://127.0.0.1:{port}{path}") as client,
        ):
            assert client.state == {"count": 3}

    arun(story)


def test_calls(arun: Run) -> None:
    async def story() -> None:
        stage = Stage()
        async with stage.live() as client:
            good = client.call("add", 5, context={"row": 1})
            bad = client.call("app:save")
            client.send("note", Bytes(b"x", "a/b"))
            assert stage.heard() == [
                {"type": "add", "id": 1, "data": 5, "context": {"row": 1}},
                {"type": "app:save", "id": 2, "data": None},
                {"type": "note", "id": 3, "data": {"$bytes": 0, "mime": "a/b"}},
            ]
            error = {"code": "busy", "message": "full", "retry_after": 0.5}
            await stage.say({"type": "gr:error", "seq": 2, "id": 2, "data": error})
            await stage.result(3, 1, {"sum": 5})
            assert await good == {"sum": 5}
            with pytest.raises(Refused, match="full") as refused:
                await bad
            assert (refused.value.code, refused.value.retry_after) == ("busy", 0.5)

    arun(story)


def test_time_outs_and_cancelling(arun: Run) -> None:
    async def story() -> None:
        stage = Stage()
        async with stage.live() as client:
            slow = client.call("add", 1, timeout=0.5)
            await stage.later(0.5)
            with pytest.raises(Timeout):
                await slow
            assert stage.heard() == [
                {"type": "add", "id": 1, "data": 1},
                {"type": "gr:cancel", "id": 2, "data": {"id": 1}},
            ]
            await stage.result(2, 1)  # too late, and no harm
            await stage.result(3, 2, False)
            running = client.call("add", 2)
            running.cancel()
            await settle()
            assert stage.heard() == [
                {"type": "add", "id": 3, "data": 2},
                {"type": "gr:cancel", "id": 4, "data": {"id": 3}},
            ]
            await stage.cut()
            waiting = client.call("add", 3)
            waiting.cancel()
            expired = client.call("add", 4, timeout=0.01)
            await stage.later(0.01)
            with pytest.raises(Timeout):
                await expired
            await stage.later(1)
            assert stage.heard() == [hello("T1", "L1", 3)]
            sent = await stage.welcome(resumed=True, seq=3, ack=4)
            assert sent == []  # neither was ever said

    arun(story)


def test_a_cut_changes_nothing(arun: Run) -> None:
    async def story() -> None:
        stage = Stage()
        async with stage.live(n=1) as client:
            one = client.call("add", 1)
            await stage.cut()
            assert client.status == "offline"
            two = client.call("add", 2)
            await stage.later(0.25)
            assert stage.heard() == [hello("T1", "L1", 1)]
            again = await stage.welcome(resumed=True, seq=1, ack=0)
            assert [(f["type"], f["id"]) for f in again] == [("add", 1), ("add", 2)]
            await stage.result(2, 1, "one")
            await stage.result(3, 2, "two")
            assert (await one, await two) == ("one", "two")

    arun(story)


def test_a_new_link_says_lost_and_subscribes_again(arun: Run) -> None:
    async def story() -> None:
        stage = Stage()
        async with stage.live() as client:
            news: list[str] = []
            client.on("gr:renewed", lambda *_: news.append("renewed"))
            client.on("gr:gap", lambda *_: news.append("gap"))
            subscribing = asyncio.ensure_future(client.events.subscribe("model:created"))
            await settle()
            call = client.call("add", 1)
            await stage.cut(1012)
            await stage.later(1)
            stage.heard()
            sent = await stage.welcome(link="L2")
            assert [(f["type"], f["id"]) for f in sent] == [
                ("gr:subscribe", 1),
                ("gr:subscribe", 2),  # to know how it ends
            ]
            with pytest.raises(Refused, match="lost"):
                await call
            await stage.snapshot(1)
            await stage.result(2, 1)
            await stage.result(3, 2)
            await subscribing
            assert news == ["renewed"]

    arun(story)


def test_back_off_doubles_and_wake_ends_it(arun: Run) -> None:
    async def story() -> None:
        stage = Stage()
        stage.refuse = True
        entering = asyncio.ensure_future(stage.client.__aenter__())
        await settle()
        waits: list[float] = []
        for _ in range(8):
            due = stage.clock.next()
            assert due is not None
            waits.append(due - stage.clock.time())
            await stage.later(waits[-1])
        assert waits == [0.25, 0.5, 1, 2, 4, 8, 10, 10]
        assert stage.status == "offline"
        stage.refuse = False
        stage.client.wake()
        await settle()
        assert stage.heard() == [hello()]
        close = {"code": "draining", "message": "", "retry": "resume", "after": 30}
        await stage.say({"type": "gr:close", "data": close})
        stage.client.wake()
        await stage.later(29)
        assert len(stage.lines) == 1
        await stage.later(1)  # not before the server's time; woken, without back-off
        assert len(stage.lines) == 2
        entering.cancel()
        await settle()
        assert stage.status == "closed"

    arun(story)


def test_silence_is_noticed_and_acks_go_out(arun: Run) -> None:
    async def story() -> None:
        stage = Stage()
        async with stage.live() as client:
            await stage.later(1)
            assert stage.heard() == [{"type": "gr:ack", "data": {"seq": 1}}]
            await stage.later(29)
            assert stage.heard() == [{"type": "gr:ping", "data": {"id": 0}}]
            line = stage.line
            await stage.later(60)
            assert line.closed_by_client
            assert client.status == "offline"

    arun(story)


def test_subscribers_events_and_late_handlers(arun: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        stage = Stage()
        async with stage.live(n=1) as client:
            heard: list[Any] = []
            off = client.subscribe("n", lambda *values: heard.append(values))
            await stage.say({"type": "gr:state", "seq": 2, "data": {"=": {"/n": 2}}})
            off()
            await stage.say({"type": "gr:state", "seq": 3, "data": {"=": {"/n": 3}}})
            assert heard == [(2, 1)]
            heard.clear()
            for seq in range(4, 106):
                await stage.say({"type": "app:late", "seq": seq, "data": seq, "label": "main"})
            await stage.say({"type": "gr:hologram", "seq": 106, "data": 1})

            async def slow(data: Any, event: str, label: str) -> None:
                await asyncio.sleep(0)
                heard.append((data, event, label))

            client.on("app:late", slow)
            client.on("app:late", lambda *_: 1 / 0)
            await settle()
            assert len(heard) == 100
            assert heard[0] == (6, "app:late", "main")
            assert "a handler of app:late failed" in caplog.text

    arun(story)


def test_signals_queries_and_questions(arun: Run) -> None:
    async def story() -> None:
        stage = Stage()
        async with stage.live() as client:
            heard: list[Any] = []
            client.events.register_handler("model:created", heard.append)
            subscribing = asyncio.ensure_future(client.events.subscribe("model:created"))
            await settle()
            trigger = client.events.trigger("model:created", 1)
            query = client.events.request("model:count", timeout=5)
            assert stage.heard() == [
                {"type": "gr:subscribe", "id": 1, "data": {"name": "model:created"}},
                {"type": "gr:trigger", "id": 2, "data": {"name": "model:created", "data": 1}},
                {
                    "type": "gr:query",
                    "id": 3,
                    "data": {"name": "model:count", "data": None, "timeout": 5},
                },
            ]
            signal = {"name": "model:created", "data": 7}
            await stage.say({"type": "gr:signal", "seq": 2, "data": signal})
            for seq, (number, data) in enumerate([(1, None), (2, [1, 0]), (3, 42)], 3):
                await stage.result(seq, number, data)
            await subscribing
            assert (heard, await trigger, await query) == ([7], [1, 0], 42)

            async def sure(data: dict[str, Any], *_: str) -> bool:
                return bool(data["message"] == "sure?")

            client.on("gr:confirm", sure)
            question = {"call": 3, "message": "sure?"}
            sent = await stage.say({"type": "gr:confirm", "seq": 6, "data": question})
            assert sent == [{"type": "gr:answer", "id": 4, "data": {"call": 3, "value": True}}]
            leaving = asyncio.ensure_future(client.events.unsubscribe("model:created"))
            await settle()
            assert [f["type"] for f in stage.heard()] == ["gr:unsubscribe"]
            await stage.result(7, 5)
            await leaving

    arun(story)


def test_refusals_of_what_nobody_waits_for(arun: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        stage = Stage()
        async with stage.live() as client:
            client.send("add")
            error = {"code": "not_found", "message": "no add"}
            await stage.say({"type": "gr:error", "seq": 2, "id": 1, "data": error})
            assert "add was refused: not_found: no add" in caplog.text
            told: list[Any] = []
            client.on("gr:error", lambda error, event, _: told.append((error.code, event)))
            await stage.say({"type": "gr:error", "data": error})
            assert told == [("not_found", "")]

    with caplog.at_level(logging.WARNING, "greenroom.client"):
        arun(story)


def test_a_patch_that_does_not_fit_brings_a_new_link(
    arun: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        stage = Stage()
        async with stage.live(n=1) as client:
            line = stage.line
            await stage.say({"type": "gr:state", "seq": 2, "data": {"=": {"/gone/deep": 1}}})
            assert line.closed_by_client
            assert client.state == {"n": 1}
            await stage.later(1)
            assert stage.heard() == [hello("T1")]

    arun(story)


def test_the_token_is_renewed_at_half_its_life(arun: Run) -> None:
    async def story() -> None:
        stage = Stage()
        entering = asyncio.ensure_future(stage.client.__aenter__())
        await settle()
        await stage.welcome(expires=200, ping=0, dead=0)
        await stage.later(100)
        assert stage.heard()[-1] == {"type": "gr:refresh", "id": 1, "data": None}
        await stage.result(1, 1, {"token": "T2", "expires": 86400})
        assert stage.client.token == "T2"
        entering.cancel()
        await settle()

    arun(story)


def test_a_client_outlives_its_first_token(arun: Run) -> None:
    async def story() -> None:
        ahead = [0.0]
        settings = Settings(token_ttl=20, secret="of this test")
        async with App(state={"count": 0}, settings=settings) as app:
            app.reception.wall = lambda: time.time() + ahead[0]
            clock = ManualClock()
            lines: list[Any] = []

            def dial() -> Any:
                lines.append(memory.connect(app))
                return lines[-1]

            async with connect(dial, clock=clock, random=lambda: 0.5) as client:
                first, session = client.token, client.session
                for _ in range(4):  # eighty seconds, in which nobody says a word
                    for _ in range(2):
                        ahead[0] += 10
                        clock.advance(10)
                        await settle()
                    lines[-1].cut()
                    await settle()
                    states = [client.status]
                    while states[-1] != "live":
                        clock.advance(1)
                        await settle()
                        states.append(client.status)
                    assert states[0] == "offline"
                assert client.session == session
                assert client.token != first
                assert len(app.sessions) == 1

    arun(story)


def test_short_lives_clocks_that_are_ahead_and_refusals(
    arun: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        for left, wait in ((4, 5), (20, 10), (1e9 - time.time(), 30), (10 * 86400, 12 * 3600)):
            stage = Stage()
            entering = asyncio.ensure_future(stage.client.__aenter__())
            await settle()
            expires = 1e9 if left < 0 else left  # a moment that is over, or seconds
            await stage.welcome(expires=expires, ping=0, dead=0)
            await stage.later(wait - 0.01)
            assert "gr:refresh" not in {frame["type"] for frame in stage.heard()}, left
            await stage.later(0.02)
            assert "gr:refresh" in {frame["type"] for frame in stage.heard()}, left
            entering.cancel()
            await settle()
        stage = Stage()
        entering = asyncio.ensure_future(stage.client.__aenter__())
        await settle()
        await stage.welcome(expires=200, ping=0, dead=0)
        await stage.later(100)
        error = {"type": "gr:error", "seq": 1, "id": 1, "data": {"code": "busy", "message": "no"}}
        await stage.say(error)
        assert "the token was not renewed" in caplog.text
        stage.heard()
        await stage.later(31)
        assert {"type": "gr:refresh", "id": 2, "data": None} in stage.heard()
        await stage.say(error | {"seq": 2, "id": 2, "data": {"code": "unauthorized"}})
        await stage.later(3600)
        assert "gr:refresh" not in {frame["type"] for frame in stage.heard()}
        entering.cancel()
        await settle()

    arun(story)


def test_the_trace_shows_both_directions(arun: Run) -> None:
    async def story() -> None:
        stage = Stage()
        seen: list[str] = []
        off = stage.client.on_frame(lambda way, frame: seen.append(f"{way} {frame['type']}"))
        async with stage.live() as client:
            off()
            client.send("add")
        assert seen == ["out gr:hello", "in gr:welcome", "in gr:snapshot"]

    arun(story)


def test_over_a_real_websocket(arun: Run) -> None:
    import websockets.asyncio.server as websockets

    async def serve(socket: Any) -> None:
        assert json.loads(await socket.recv())["type"] == "gr:hello"
        data = {"protocol": 1, "link": "L", "ack": 0, "seq": 0, "ping": 20, "dead": 10}
        await socket.send(json.dumps({"type": "gr:welcome", "data": data}))
        snapshot = b'{"type":"gr:snapshot","seq":1,"data":{"raw":{"$bytes":0}}}'
        length = len(snapshot).to_bytes(4, "big")
        await socket.send(length + snapshot + b"\0\0\0\x02hi")
        packed = await socket.recv()
        assert packed[4:].startswith(b'{"type":"save","id":1,"data":{"$bytes":0}}')
        await socket.send('{"type":"gr:result","seq":2,"id":1,"data":"saved"}')
        assert json.loads(await socket.recv()) == {"type": "gr:bye"}
        await socket.wait_closed()

    async def story() -> None:
        async with websockets.serve(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"http://127.0.0.1:{port}/ws") as client:
                assert client.state == {"raw": b"hi"}
                assert await client.call("save", b"ho") == "saved"

    arun(story)


def test_what_can_be_dialled() -> None:
    with pytest.raises(ValueError, match="begins with ws"):
        dialer_of("ftp://host")
    assert callable(dialer_of("wss://host/ws"))
    assert dialer_of(Line) is Line


def test_the_first_connection_that_fails_is_told(
    arun: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        side = Stage()
        side.refuse = True
        entering = asyncio.ensure_future(side.client.__aenter__())
        await settle()
        await side.later(20)
        await side.later(20)
        warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
        assert [one.getMessage() for one in warnings] == ["no connection: nobody there"]
        entering.cancel()
        await settle()

    arun(story)
