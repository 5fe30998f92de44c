"""A client written from the protocol alone: a WebSocket library, JSON, and the rules of the wire.

Nothing of Greenroom is imported here. What the client does is what the protocol says a client does,
and no more; what it then finds is what everyone who writes one will find.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import LOOPS, run_clean
from tests.support.proxy import Proxy
from tests.support.server import ServerProcess
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

APP = Path(__file__).parent / "journal"


class Client:
    """One page's conversation, over any number of connections."""

    def __init__(self, port: int, *, token: str | None = None, label: str = "main") -> None:
        self.port = port
        self.label = label
        self.token = token
        self.link: str | None = None
        self.session: str | None = None
        self.seq = 0
        self.next_id = 1
        self.kept: dict[int, tuple[str, dict[str, Any]]] = {}  # id: (name, frame), unanswered
        self.waiting: list[tuple[str, dict[str, Any]]] = []  # never handed to a transport
        self.state: Any = None
        self.answers: dict[str, Any] = {}  # name: value, or ("code",)
        self.events: list[Any] = []
        self.trace: list[str] = []  # types of the numbered frames, as they were applied
        self.welcomes: list[str] = []
        self.closed: dict[str, Any] | None = None
        self.live = False
        self.news = asyncio.Event()
        self._ws: Any = None
        self._task = asyncio.create_task(self._run())

    # -- for the tests ------------------------------------------------------------------------

    def send(self, type: str, data: Any = None, *, name: str) -> None:
        self.waiting.append((name, {"type": type, "data": data}))
        self.news.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            assert not self._task.done(), self.closed
            await self.flush()
            self.news.clear()
            if not condition():
                await self.news.wait()

    async def answered(self) -> None:
        await self.until(lambda: not self.kept and not self.waiting)

    async def flush(self) -> None:
        """Number what waits, and send it: 1, 2, 3 ... per link."""
        while self.live and self.waiting:
            name, frame = self.waiting.pop(0)
            frame["id"] = self.next_id
            self.next_id += 1
            self.kept[frame["id"]] = (name, frame)
            await self._say(frame)

    def cut(self) -> None:
        self._ws.transport.abort()

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    # -- a connection -------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(
                OSError, EOFError, ConnectionClosed, InvalidHandshake, InvalidMessage, TimeoutError
            ):
                await self._connect()
            self.live = False
            self.news.set()
            if self.closed is not None:
                retry, self.closed = self.closed["retry"], None
                if retry == "never":
                    return
                if retry == "fresh":
                    self.token = self.link = None
                    self.seq = 0
            await asyncio.sleep(0.01)

    async def _connect(self) -> None:
        url = f"ws://127.0.0.1:{self.port}/ws"
        async with connect(url, compression=None, proxy=None, close_timeout=1) as ws:
            self._ws = ws
            hello = {"protocol": 1, "token": self.token, "link": self.link, "seq": self.seq}
            await self._say({"type": "gr:hello", "data": hello | {"label": self.label}})
            async for message in ws:
                frame = json.loads(message)
                for one in frame["data"] if frame["type"] == "gr:batch" else [frame]:
                    await self._take(one)
                self.news.set()
                await self.flush()

    async def _say(self, frame: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._ws.send(json.dumps(frame))

    # -- the rules ----------------------------------------------------------------------------

    async def _take(self, frame: dict[str, Any]) -> None:
        kind: str = frame["type"]
        data: Any = frame.get("data")
        if kind == "gr:welcome":
            await self._welcomed(data)
        elif kind == "gr:close":
            self.closed = data
        elif kind == "gr:ping":
            await self._say({"type": "gr:pong", "data": {"id": self.next_id - 1}})
        elif kind == "gr:nack":
            await self._again(data["ack"])
        elif "seq" in frame:
            assert frame["seq"] == self.seq + 1, "a gap or a repetition in the stream"
            self.seq = frame["seq"]
            self.trace.append(kind)
            self._apply(kind, frame, data)

    async def _welcomed(self, data: dict[str, Any]) -> None:
        if data["link"] != self.link:  # a new link: nobody knows what became of what was sent
            self.welcomes.append("new")
            self._lose(list(self.kept))
            self.next_id = 1
            self.seq = 0
        elif data["resumed"]:
            self.welcomes.append("resumed")
        else:
            self.welcomes.append("gap")
            self.seq = data["seq"]
            pending = data["pending"]
            self._lose([n for n in self.kept if n <= data["ack"] and n not in pending])
        self.link, self.session, self.token = data["link"], data["session"], data["token"]
        self.live = True
        await self._again(data["ack"])

    async def _again(self, ack: int) -> None:
        for number, (_, frame) in sorted(self.kept.items()):
            if number > ack:
                await self._say(frame)

    def _lose(self, numbers: list[int]) -> None:
        for number in numbers:
            self._settle(number, ("lost",))

    def _settle(self, number: int, value: Any) -> None:
        name, _ = self.kept.pop(number)
        assert name not in self.answers, "answered twice"
        self.answers[name] = value

    def _apply(self, kind: str, frame: dict[str, Any], data: Any) -> None:
        if kind == "gr:snapshot":
            self.state = data
        elif kind == "gr:state":
            for path, value in data.get("=", {}).items():
                parent, key = self._at(path)
                parent[key] = value
            for path in data.get("-", ()):
                parent, key = self._at(path)
                del parent[key]
            for path, tail in data.get("+", {}).items():
                parent, key = self._at(path)
                parent[key] = parent[key] + tail
        elif kind == "gr:result":
            if frame["id"] in self.kept:
                self._settle(frame["id"], data)
        elif kind == "gr:error":
            if frame["id"] in self.kept:
                self._settle(frame["id"], (data["code"],))
        elif not kind.startswith("gr:"):
            self.events.append(data)

    def _at(self, path: str) -> tuple[Any, str]:
        keys = [key.replace("~1", "/").replace("~0", "~") for key in path.split("/")[1:]]
        node = self.state
        for key in keys[:-1]:
            node = node[key]
        return node, keys[-1]


@pytest.fixture
def server(tmp_path: Path) -> Any:
    journal = tmp_path / "journal"
    journal.touch()
    with ServerProcess(APP, JOURNAL=str(journal)) as process:
        yield process


def ran(server: ServerProcess) -> list[str]:
    return Path(server.environment["JOURNAL"]).read_text().splitlines()


def run(story: Callable[[], Any]) -> None:
    run_clean(LOOPS["asyncio"], story, timeout=120)


def test_a_client_that_knows_only_the_protocol(server: ServerProcess) -> None:
    async def story() -> None:
        with Proxy(server.port) as proxy:
            client = Client(proxy.port)
            # Hello, welcome, snapshot; an event: patch, then event, then result.
            await client.until(lambda: client.state is not None)
            assert client.trace == ["gr:snapshot"]
            assert client.state == {"tags": [], "count": 0}
            client.send("note", "one", name="one")
            await client.answered()
            assert client.trace == ["gr:snapshot", "gr:state", "app:did", "gr:result"]
            assert client.answers == {"one": "one"}
            assert client.state == {"tags": ["one"], "count": 1}
            # Errors are words.
            client.send("no_such_handler", name="none")
            client.send("gr:no-such-frame", name="frame")
            await client.answered()
            assert client.answers["none"] == client.answers["frame"] == ("not_found",)
            # Cancel: what runs is stopped, what waits behind it is never run, what is over is over.
            client.send("forever", name="forever")
            client.send("note", "never", name="queued")
            await client.flush()
            running = client.next_id - 2
            client.send("gr:cancel", {"id": running + 1}, name="cancel queued")
            client.send("gr:cancel", {"id": running}, name="cancel running")
            client.send("gr:cancel", {"id": 1}, name="cancel finished")
            await client.answered()
            assert client.answers["queued"] == client.answers["forever"] == ("cancelled",)
            assert client.answers["cancel queued"] is True
            assert client.answers["cancel running"] is True
            assert client.answers["cancel finished"] is False
            # A second view of the same session has the same state and its own numbers.
            second = Client(server.port, token=client.token, label="second")
            await second.until(lambda: second.state is not None)
            assert second.session == client.session
            assert second.link != client.link
            assert second.state == client.state
            second.send("note_sync", "from the second", name="x")
            await second.answered()
            await client.until(lambda: client.state == second.state)
            assert client.state["tags"] == ["one", "from the second"]
            # Cut again and again in the middle of events: no duplicate, no loss, no gap.
            tags = [f"t{number}" for number in range(120)]
            for number, tag in enumerate(tags):
                client.send(("note", "note_sync", "note_async")[number % 3], tag, name=tag)
                if number % 10 == 3:
                    await client.flush()
                    proxy.cut_after(number * 7, up=number % 20 == 3)
            await client.answered()
            assert [client.answers[tag] for tag in tags] == tags
            assert client.state["tags"] == ran(server) == ["one", "from the second", *tags]
            assert client.events == ["one", "from the second", *tags]
            await second.until(lambda: second.state == client.state)
            assert set(client.welcomes) == {"new", "resumed"}
            await client.stop()
            await second.stop()

    run(story)


def test_a_server_that_is_killed_under_it(server: ServerProcess) -> None:
    """Nothing runs twice, and everything that was not answered is told ``lost``."""

    async def story() -> None:
        client = Client(server.port)
        await client.until(lambda: client.live)
        first = client.session
        tags = [f"t{number}" for number in range(100)]
        for tag in tags:
            if tag == "t50":
                client.send("forever", name="forever")
            client.send("note_sync", tag, name=tag)
        await client.until(lambda: len(client.answers) == 50)
        await asyncio.to_thread(server.kill)
        await client.until(lambda: not client.live)
        unanswered = [name for name, _ in client.kept.values()]
        assert unanswered == ["forever", *tags[50:]]
        client.send("note", "later", name="later")
        await asyncio.to_thread(server.start)
        await client.answered()
        assert client.session != first
        assert client.welcomes == ["new", "new"]
        assert all(client.answers[name] == ("lost",) for name in unanswered)
        answered = [tag for tag in tags if tag not in unanswered]
        assert all(client.answers[tag] == tag for tag in answered)
        assert max(Counter(ran(server)).values()) == 1
        assert set(answered) <= set(ran(server))
        assert client.state == {"tags": ["later"], "count": 1}
        await client.stop()

    run(story)
