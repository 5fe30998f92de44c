"""G18: whatever JSON, or what looks like it, reaches a link: the protocol has an answer to it.

Conversations that begin as the protocol has them and are then spoilt, in their values, their shape
or their bytes, with a real app behind each adapter and event loop, cut wherever Hypothesis likes.
Every frame that comes back is one of the protocol's, numbered without a gap; every id is answered
at most once; an end has its close code; nothing is logged as an error, and the next client is
served.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncGenerator, Generator
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.echostage import ADAPTERS, Stage, no_errors, stages
from tests.support.rawclient import GOODBYE, PATIENCE, RawClient, bytewise, opened, read_answer
from tests.support.served import running

import greenroom as gr
from greenroom.adapters import asgi, websocket
from greenroom.adapters.serving import HttpServer, server_config
from greenroom.core.hello import CLOSES
from greenroom.core.packet import decode_binary, encode_binary
from greenroom.core.types import Packet

SOAK = int(os.environ.get("GREENROOM_FUZZ", "0")) or 20_000
RELAXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
LIMIT = 8 * 1024

CODES = {
    *("bad_frame", "bad_payload", "not_found", "busy", "rate_limited", "too_large", "unauthorized"),
    *("timeout", "cancelled", "cycle", "handler_error", "closed"),
}
NUMBERED = {"gr:snapshot", "gr:state", "gr:signal", "gr:result", "gr:error"}
BARE = {"gr:welcome", "gr:nack", "gr:ping", "gr:pong", "gr:close", "gr:chunk", "gr:error"}


# -- the app ------------------------------------------------------------------------------------


def add(state: Any, payload: int = 1) -> Any:
    state["n"] = (state["n"] + payload) % 1000
    return state["n"]


@gr.handler(inline=True)
def same(payload: Any) -> Any:
    return payload


async def later(payload: Any, context: Any) -> Any:
    await asyncio.sleep(0)
    return [payload, context]


@contextlib.asynccontextmanager
async def serving_app(adapter: str) -> AsyncGenerator[int]:
    app = gr.App(
        {"n": 0},
        [add, same, later],
        gr.Settings(
            secret="for-tests",
            max_frame_in=LIMIT,
            max_sessions_per_peer=0,
            window=0.5,
            session_ttl=0.5,
            unused_ttl=0.5,
            rate=0.0,
            watchdog=0.0,
        ),
    )
    application = asgi.application(app, bind="127.0.0.1")
    protocol = websocket.switch(application) if adapter == "websocket" else None
    await app.start()
    try:
        async with running(
            HttpServer(server_config(application, LIMIT), protocol=protocol)
        ) as port:
            yield port
    finally:
        await app.stop(0.0)


@pytest.fixture(scope="module", params=ADAPTERS)
def servers(request: pytest.FixtureRequest) -> Generator[list[Stage]]:
    with stages(lambda: serving_app(request.param)) as made:
        yield made


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    with no_errors(caplog):
        yield


# -- what is sent -------------------------------------------------------------------------------


def hello(**changed: Any) -> dict[str, Any]:
    data = {"protocol": 1, "token": None, "link": None, "seq": 0, "label": "main", "binary": False}
    return {"type": "gr:hello", "data": data | changed}


NEXT = "NEXT"  # stands for the id that is due
FRAMES: list[dict[str, Any]] = [
    {"type": "add", "id": NEXT, "data": 5},
    {"type": "same", "id": NEXT, "data": {"a": [1, {"$bytes": "AAEC"}, None]}},
    {"type": "later", "id": NEXT, "data": "x", "context": {"where": "here"}},
    {"type": "same", "data": 1},
    {"type": "nobody", "id": NEXT},
    {"type": "app:save", "id": NEXT, "data": {}},
    {"type": "gr:query", "id": NEXT, "data": {"name": "model:count", "data": None, "timeout": 5.0}},
    {"type": "gr:subscribe", "id": NEXT, "data": {"name": "model:created"}},
    {"type": "gr:unsubscribe", "id": NEXT, "data": {"name": "model:created"}},
    {"type": "gr:trigger", "id": NEXT, "data": {"name": "model:created", "data": {}}},
    {"type": "gr:cancel", "id": NEXT, "data": {"id": 1}},
    {"type": "gr:answer", "id": NEXT, "data": {"call": 3, "value": True}},
    {"type": "gr:upload", "id": NEXT, "data": {"name": "a.png", "size": 10, "mime": "image/png"}},
    {"type": "gr:refresh", "id": NEXT},
    {"type": "gr:ack", "data": {"seq": 1}},
    {"type": "gr:ping", "data": {"id": 0}},
    {"type": "gr:pong", "data": {"id": 0}},
    {"type": "gr:batch", "data": [{"type": "add", "id": NEXT, "data": 1}, {"type": "same"}]},
    {"type": "gr:chunk", "data": {"of": 1, "i": 0, "last": False, "part": '{"type":'}},
    {"type": "gr:chunk", "data": {"of": 1, "i": 1, "last": True, "part": '"same"}'}},
    {"type": "gr:bye"},
    {"type": "gr:what", "id": NEXT},
    hello(),
]


def deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


numbers = [0, 1, -1, 2, 99, 2**53, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308]
texts = ["", "x", NEXT, "gr:hello", "gr:", ":", "__class__", "main", "\0", "\ud800", "é" * 200]
shapes: list[Any] = [[], {}, [None], {"": 1}, {"$bytes": 0}, {"$bytes": "!"}, {"$dict": 1}]
depths = [deep(99), deep(101), deep(900)]
odd = st.sampled_from([None, True, False, *numbers, *texts, *shapes, *depths])
names = st.sampled_from(["type", "id", "data", "seq", "label", "context", "$bytes", "", "name"])


def spoil(value: Any, draw: st.DrawFn) -> Any:
    """The value, with one thing in it that is not as it was."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.booleans()):
            return value | {key: spoil(value[key], draw)}
        return {k: v for k, v in value.items() if k != key} | (
            {draw(names): value[key]} if draw(st.booleans()) else {}
        )
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], spoil(value[at], draw), *value[at:]]
    return draw(odd)


@st.composite
def messages(draw: st.DrawFn) -> tuple[int, bytes]:
    """An opcode and a payload."""
    frame: Any = draw(st.sampled_from(FRAMES))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))):
        frame = spoil(frame, draw)
    raw = json.dumps(frame).encode()
    if not draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(raw)))
        put = draw(st.sampled_from([b"", b"\xff", b"\xed\xa0\x80", b"}", b"\0", b'"', b"[" * 2000]))
        raw = raw[:at] + put + raw[at + draw(st.integers(0, 3)) :]
    if draw(st.integers(0, 9)):
        return 1, raw
    buffers = draw(st.lists(st.binary(max_size=10), max_size=2))
    raw = encode_binary(Packet(raw, tuple(buffers)))
    return 2, raw[: len(raw) - draw(st.sampled_from([0, 0, 1, 4]))] + draw(st.binary(max_size=2))


openings = st.one_of(
    st.just(hello()),
    st.just(hello(binary=True)),
    st.composite(lambda draw: spoil(hello(), draw))(),
)
cuts: st.SearchStrategy[list[int] | None] = st.one_of(
    st.just([]), st.just(None), st.lists(st.integers(1, 400), max_size=6)
)


def masked(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    else:
        head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


# -- what must come of it -----------------------------------------------------------------------


class Heard:
    """Checks every frame as it comes."""

    def __init__(self) -> None:
        self.seq = 0
        self.answered: set[int] = set()
        self.close: str | None = None

    def frame(self, frame: Any) -> None:
        assert isinstance(frame, dict), frame
        assert self.close is None, "a frame after gr:close"
        kind = frame["type"]
        if kind == "gr:batch":
            for inner in frame["data"]:
                self.frame(inner)
            return
        if kind == "gr:welcome":
            self.seq = frame["data"]["seq"]  # of this link, or of the one a second hello opened
            if not frame["data"]["link"]:
                self.answered.clear()
            if frame["data"]["ack"] == 0:
                self.answered.clear()
        if kind == "gr:close":
            self.close = frame["data"]["code"]
            assert self.close in CLOSES
        if "seq" in frame:
            assert kind in NUMBERED, frame
            assert frame["seq"] == self.seq + 1, frame
            self.seq += 1
        else:
            assert kind in BARE, frame
        if kind in ("gr:result", "gr:error") and "id" in frame:
            assert frame["id"] not in self.answered, frame
            self.answered.add(frame["id"])
        if kind == "gr:error":
            assert frame["data"]["code"] in CODES, frame


def frames_of(client: RawClient) -> list[Any]:
    """The frames that have arrived whole; the rest is on its way."""
    found: list[Any] = []
    received = client.received
    while True:
        try:
            data = read_answer(received).data
        except (AssertionError, IndexError):
            received = received[:-1]
            continue
        for message in data:
            start = 2 if message[1] < 126 else 4 if message[1] == 126 else 10
            payload = message[start:]
            found.append(json.loads(payload if message[0] == 0x81 else decode_binary(payload).data))
        return found


def split(stream: bytes, at: list[int] | None) -> list[bytes]:
    if at is None:
        return list(bytewise(stream, 300))
    edges = [0, *sorted({cut for cut in at if cut < len(stream)}), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


def numbered(sent: list[tuple[int, bytes]]) -> bytes:
    """All messages in one stream, ids put in."""
    ids = count(1)
    return b"".join(
        masked(opcode, re.sub(rb'"NEXT"', lambda _: b"%d" % next(ids), payload))
        for opcode, payload in sent
    )


async def converse(
    port: int, opening: Any, sent: list[tuple[int, bytes]], at: list[int] | None
) -> None:
    async with asyncio.timeout(3 * PATIENCE), opened(port) as client:
        await client.send(*split(masked(1, json.dumps(opening).encode()), at))
        await client.until(lambda: client.ended or frames_of(client), "a welcome or a close")
        await client.send(*split(numbered(sent), at))
        await client.send(GOODBYE)
        await client.until(lambda: client.ended, "the end")
        heard = Heard()
        for frame in frames_of(client):
            heard.frame(frame)
        code = read_answer(client.received).close
    allowed = {1000, 1002, 1007}  # what we said, or what is wrong with the frames themselves
    if heard.close is not None:
        allowed.add(CLOSES[heard.close][0])
    assert code in allowed
    await greet(port)


async def greet(port: int) -> None:
    """The next client gets in, and an answer."""
    async with asyncio.timeout(PATIENCE), opened(port) as client:
        await client.send(masked(1, json.dumps(hello()).encode()))
        await client.until(lambda: len(frames_of(client)) > 1, "a welcome and a snapshot")
        await client.send(masked(1, b'{"type":"same","id":1,"data":[1]}'))
        await client.until(lambda: len(frames_of(client)) > 2, "an answer")
        assert frames_of(client)[2] == {"type": "gr:result", "seq": 2, "id": 1, "data": [1]}
        await client.send(masked(1, b'{"type":"gr:bye"}'), GOODBYE)
        await client.until(lambda: client.ended, "the end")


talks = st.lists(messages(), max_size=8)


@given(opening=openings, sent=talks, at=cuts)
@settings(max_examples=50, deadline=None, suppress_health_check=RELAXED)
def test_g18_envelopes(
    servers: list[Stage], opening: Any, sent: list[tuple[int, bytes]], at: list[int] | None
) -> None:
    for server in servers:
        server.tell(converse(server.port, opening, sent, at))


@pytest.mark.soak
@given(opening=openings, sent=talks, at=cuts)
@settings(max_examples=SOAK, deadline=None, suppress_health_check=RELAXED)
def test_g18_envelopes_for_long(
    servers: list[Stage], opening: Any, sent: list[tuple[int, bytes]], at: list[int] | None
) -> None:
    for server in servers:
        server.tell(converse(server.port, opening, sent, at))
