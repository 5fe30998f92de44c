"""G18: RFC 6455, rule by rule, as bytes in and bytes out, on every WebSocket adapter.

The streams and handshakes are data (``tests/vectors/frames.json``), which anybody can replay. Each
is sent in one segment and then one byte at a time, on each event loop; what an adapter answers
otherwise than the strictest reading has it stands in the case, and on the page of guarantees.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from tests.reference.frames_model import Model
from tests.support.corpus import HANDSHAKES, SPLITS, STREAMS, expand, replay, shake
from tests.support.echostage import ADAPTERS, Stage, no_errors, stages
from tests.support.rawclient import GOODBYE, KEY, bytewise, dial, head, read_answer
from tests.support.served import echoing

from greenroom.testing.echo import LIMIT

PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"


def name_of(case: dict[str, Any]) -> str:
    return re.sub(r"[^\w,+: -]", "_", case["name"])


@pytest.fixture(scope="module", params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def servers(adapter: str) -> Generator[list[Stage]]:
    with stages(lambda: echoing(adapter)) as made:
        yield made


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    with no_errors(caplog):
        yield


@pytest.mark.parametrize("case", STREAMS, ids=name_of)
def test_g18_stream(case: dict[str, Any], adapter: str, servers: list[Stage]) -> None:
    for server in servers:
        for split in SPLITS.values():
            server.tell(replay(server.port, case, adapter, split))


@pytest.mark.parametrize("case", HANDSHAKES, ids=name_of)
def test_g18_handshake(case: dict[str, Any], adapter: str, servers: list[Stage]) -> None:
    for server in servers:
        for split in SPLITS.values():
            server.tell(shake(server.port, case, adapter, split))


def test_g18_a_page_and_then_a_websocket_on_one_connection(servers: list[Stage]) -> None:
    async def story(port: int) -> None:
        async with dial(port) as client:
            await client.send(head(port).replace(b"Upgrade: websocket\r\n", b""))
            await client.until(lambda: b"this is a WebSocket" in client.received, "a page")
            client.received = b""
            await client.send(head(port))
            await client.until(lambda: b"\r\n\r\n" in client.received, "a handshake")
            assert client.received.startswith(b"HTTP/1.1 101 ")
            client.received = b""
            await client.send(b"\x81\x82\0\0\0\0hi")
            await client.until(lambda: client.received == b"\x81\x02hi", "an echo")
            await client.send(GOODBYE)
            await client.until(lambda: client.ended, "the end")

    for server in servers:
        server.tell(story(server.port))


def test_g18_one_byte_at_a_time_is_what_the_server_reads(arun: Callable[..., Any]) -> None:
    sizes: list[int] = []

    class Count(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            sizes.append(len(data))

    async def story() -> None:
        server = await asyncio.get_running_loop().create_server(Count, "127.0.0.1", 0)
        async with server, dial(server.sockets[0].getsockname()[1]) as client:
            await client.send(*bytewise(b"x" * 200))
            while sum(sizes) < 200:
                await asyncio.sleep(0)

    arun(story)
    assert len(sizes) > 190


# -- the corpus itself --------------------------------------------------------------------------


def test_g18_the_model_agrees_with_the_corpus() -> None:
    for case in STREAMS:
        raw = expand(case["send"] + case.get("then", ""))
        if len(raw) > 70_000:
            continue  # a byte at a time takes a while
        model = Model(LIMIT)
        model.feed(raw)
        answer = model.answer
        assert answer.data == [expand(text) for text in case.get("data", ())], case
        assert answer.pongs == [expand(text) for text in case.get("pongs", ())], case
        codes = case.get("close")
        assert answer.close in (codes if isinstance(codes, list) else [codes]), case
        if isinstance(codes, list):
            assert set(codes) == set(answer.codes), case
        if "then" in case:
            early = Model(LIMIT)
            early.feed(expand(case["send"]))
            assert early.answer.close == answer.close, case


def test_g18_the_page_names_every_departure() -> None:
    row = re.compile(r"^\| (asgi|websocket|both) \| `(.+?)` \|", re.MULTILINE)
    found = set(row.findall(PAGE.read_text("utf-8")))
    named = {
        (adapter, name) for who, name in found for adapter in (ADAPTERS if who == "both" else [who])
    }
    departures = {
        (adapter, case["name"])
        for case in [*STREAMS, *HANDSHAKES]
        for adapter in case.get("but", ())
    }
    assert named == departures


def test_g18_the_corpus_has_every_rule() -> None:
    rules = {case["rule"] for case in STREAMS}
    assert rules >= {"5.1", "5.2", "5.3", "5.4", "5.5", "5.5.1", "5.5.2", "5.5.3", "7.4", "8.1"}
    names = [case["name"] for case in [*STREAMS, *HANDSHAKES]]
    assert len(names) == len(set(names)) > 350
    first = read_answer(expand("8105 68656c6c6f 8802 03e8"))
    assert (first.data, first.close) == ([b"\x81\x05hello"], 1000)
    assert any(KEY in line for line in HANDSHAKES[0]["head"])
