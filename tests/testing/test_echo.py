"""The echo as suites from outside meet it: an address where everything comes back."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys

import pytest
from websockets.asyncio.client import connect

from greenroom.testing import echo

COMMAND = [sys.executable, "-m", "greenroom.testing.echo"]
MESSAGES: list[str | bytes] = ["", "hello", "\0é🙂", b"", b"\0\xff", b"\0\0\0\4four", "x" * 70_000]


@pytest.mark.parametrize("adapter", sorted(echo.ADAPTERS))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_everything_comes_back_until_a_signal(adapter: str, number: signal.Signals) -> None:
    async def talk(url: str) -> None:
        async with connect(url, max_size=None, compression=None, proxy=None) as ws:
            for message in [*MESSAGES, b"x" * echo.LIMIT]:
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(iter(["fr", "ag", "ments"]))
            assert await ws.recv() == "fragments"
            process.send_signal(number)
            await ws.wait_closed()
            assert ws.close_code in (1001, 1012)  # the server goes

    with subprocess.Popen(
        [*COMMAND, "--adapter", adapter, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            found = re.fullmatch(rf"greenroom\.testing\.echo: {adapter} on (ws://\S+/ws)\n", line)
            assert found is not None, line
            asyncio.run(talk(found[1]))
            assert process.wait(30) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_an_address_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = str(sock.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "--port", port], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
