"""What uvicorn's own protocol did with bytes that are wrong, and does no more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from tests.support.rawclient import GOODBYE, dial, head, opened, read_answer
from tests.support.served import running

from greenroom.adapters import asgi
from greenroom.adapters.serving import HttpServer, server_config
from greenroom.core.types import Packet
from greenroom.testing.conformance import RecordingHost

Arun = Callable[..., Any]
HELLO = b"\x81\x85\0\0\0\0hello"
NOT_TEXT = b"\x81\x82\0\0\0\0\xc3("


@contextlib.asynccontextmanager
async def serving() -> AsyncGenerator[tuple[RecordingHost, int]]:
    host = RecordingHost()
    application = asgi.application(host, bind="127.0.0.1")
    async with running(HttpServer(server_config(application, 1 << 20))) as port:
        yield host, port


@pytest.mark.parametrize("bad", [NOT_TEXT, b"\x83\x80\0\0\0\0", b"\x81\x05hello"])
def test_messages_in_one_segment_with_a_broken_frame_arrive(bad: bytes, arun: Arun) -> None:
    async def story() -> None:
        async with serving() as (host, port), opened(port) as client:
            await client.send(HELLO + HELLO + bad)
            connection = await host.connected()
            await connection.until(lambda c: c.ends == 1)
            assert connection.received == [Packet(b"hello"), Packet(b"hello")]
            await client.until(lambda: client.ended, "the end")
            connection.check()

    arun(story)


def test_text_that_is_none_and_a_close_in_one_segment(
    arun: Arun, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with serving() as (_, port), opened(port) as client:
            await client.send(NOT_TEXT + GOODBYE)
            await client.until(lambda: client.ended, "the end")
            assert read_answer(client.received).close == 1007

    with caplog.at_level(logging.WARNING):
        arun(story)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        (b"Content-Length: 5", 400),
        (b"Transfer-Encoding: chunked", 400),
        (b"X: " + b"x" * 9000, 431),
        (b"\r\n".join(b"X-%d: x" % number for number in range(200)), 431),
    ],
    ids=["a body", "chunks", "a long header", "many headers"],
)
def test_a_handshake_that_cannot_be_read_is_answered(extra: bytes, status: int, arun: Arun) -> None:
    async def story() -> None:
        async with serving() as (host, port), dial(port) as client:
            await client.send(head(port)[:-2] + extra + b"\r\n\r\n")
            await client.until(lambda: client.ended, "the end")
            assert client.received.startswith(b"HTTP/1.1 %d " % status)
            assert host.connections == []

    arun(story)


def test_a_refusal_is_no_error_in_the_log(arun: Arun, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with serving() as (_, port), dial(port) as client:
            await client.send(head(port, "/elsewhere"))
            await client.until(lambda: client.ended, "the end")
            assert client.received.startswith(b"HTTP/1.1 404 ")
            await asyncio.sleep(0)  # the application's task ends, and uvicorn looks at it

    with caplog.at_level(logging.WARNING):
        arun(story)
    assert caplog.records == []
