"""G19, below the protocol: sockets that are opened and never used, heads that never end, frames
that no WebSocket has, one byte at a time.

What the server itself waits for is real time; the tests make it short. Everything else is the
app's clock, which the tests move.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.hostile import (
    CLOSE,
    CONTINUATION,
    HELLO,
    PING,
    TEXT,
    event,
    handshake,
    text,
    ws_frame,
)
from tests.support.siege import ADAPTERS, Siege, siege
from tests.support.until import eventually

from greenroom.adapters import patience, websocket
from greenroom.testing import ManualClock

KIB = 1024
COMPRESSED = b"\xaa\x56\x4a\x2b\x29\xcd\x01\x00"  # what permessage-deflate makes of something

pytestmark = pytest.mark.parametrize("adapter", ADAPTERS)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEAD_TIME", 0.2)
    monkeypatch.setattr(websocket, "HEAD_TIME", 0.2)
    monkeypatch.setattr(patience, "LOOK", 0.2)


async def everybody_gone(place: Siege) -> None:
    """Only the bystander's socket is left, in the server too."""
    await eventually(lambda: place.stats()["connections"] == 1)
    await eventually(lambda: place.sockets() == 1)


# -- before there is a WebSocket -------------------------------------------------------------------


def test_g19_heads_that_never_end(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter) as place:
            head = handshake(place.port)
            beginnings = [
                b"",
                b"G",
                b"GET /",
                head[:-2],
                head[:-40],
                b"GET / HTTP/1.1\r\nX: " + b"y" * 9_000,
            ]
            crowd = []
            for beginning in beginnings * 10:
                enemy = await place.dial()
                await enemy.write(beginning)
                crowd.append(enemy)
            for enemy in crowd:
                answer = await enemy.rest()
                assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
                enemy.cut()
            # One that goes on and on, a byte at a time, has no more time than the others.
            async with await place.dial() as enemy:
                for byte in b"GET /x HTTP/1.1\r\nHost: " + b"x" * 10_000:
                    try:
                        await enemy.write(bytes([byte]))
                    except OSError:
                        break
                    await asyncio.sleep(0.005)
                else:
                    raise AssertionError("it was listened to for ever")
            # Nor has the second request of a connection.
            async with await place.dial() as enemy:
                host = b"Host: 127.0.0.1:%d\r\n\r\n" % place.port
                await enemy.write(b"GET /nowhere HTTP/1.1\r\n" + host)
                assert b" 404 " in await enemy.head()
                await enemy.write(b"GET /nowhere HT")
                assert b" 408 " in await enemy.rest()
            await everybody_gone(place)
            assert place.records.texts == []

    serve(main)


def test_g19_heads_that_are_none(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter) as place:
            nonsense = [
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,  # TLS
                b"\x00" * 1_000 + b"\r\n\r\n",
                b"GET\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: \xff\xff\r\nX y\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
                b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: x\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
                b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            ]
            for _ in range(10):
                for data in nonsense:
                    async with await place.dial() as enemy:
                        await enemy.shout(data)
                        answer = await enemy.rest()
                        assert answer == b"" or b" 40" in answer[:20] or b" 43" in answer[:20], (
                            answer
                        )
            await everybody_gone(place)
            # Strangers write into the log with every such head: a few times, then it is counted.
            assert len(place.records.texts) < 40, len(place.records.texts)
            assert place.records.nbytes < 8 * KIB

    serve(main)


def test_g19_handshakes_that_are_refused(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter) as place:
            wrong: dict[str, str] = {
                "Sec-WebSocket-Version": "12",
                "Sec-WebSocket-Key": "short",
                "Origin": "https://elsewhere.example",
                "Host": "elsewhere.example",
            }
            for _ in range(20):
                for name, value in wrong.items():
                    async with await place.dial() as enemy:
                        await enemy.write(handshake(place.port, {name: value}))
                        head = await enemy.head()
                        assert head.startswith(b"HTTP/1.1 4"), (name, head)
            await everybody_gone(place)
            assert len(place.records.texts) <= 12, place.records.texts

    serve(main)


def test_g19_a_response_that_nobody_reads(serve: Any, adapter: str, tmp_path: Any) -> None:
    async def main() -> None:
        (tmp_path / "large.bin").write_bytes(b"x" * 8 * KIB * KIB)
        async with siege(adapter, public=tmp_path) as place:
            crowd = []
            with place.memory() as memory:
                for _ in range(8):
                    enemy = await place.dial(receive_buffer=4 * KIB)
                    request = b"GET /large.bin HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"
                    await enemy.write(request % place.port)
                    await enemy.head()
                    crowd.append(enemy)
                await everybody_gone(place)
                assert memory.peak < 8 * 1536 * KIB  # of 8 MiB each
            for enemy in crowd:
                enemy.cut()

    serve(main)


# -- a WebSocket, but no client --------------------------------------------------------------------


def test_g19_no_hello(serve: Any, adapter: str) -> None:
    """Nothing, half a frame, or one byte now and then: ten seconds, then it is over."""

    async def main() -> None:
        clock = ManualClock()
        async with siege(adapter, clock=clock) as place:
            said = ws_frame(text(HELLO))
            silent = [await place.upgrade() for _ in range(5)]
            halves = [await place.upgrade() for _ in range(5)]
            slow = await place.upgrade()
            for enemy in halves:
                await enemy.write(said[:20])
            for second in range(9):
                clock.advance(1.0)
                await slow.write(said[second : second + 1])
                await place.undisturbed(1)
            clock.advance(1.0)
            for enemy in (*silent, *halves, slow):
                ended = await enemy.ended()
                assert (ended.why, ended.code) == ("bad_frame", 4000), ended
                enemy.cut()
            await everybody_gone(place)
            assert place.records.texts == []

    serve(main)


def test_g19_first_frames_that_are_no_hello(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter) as place:
            long = HELLO | {"data": HELLO["data"] | {"token": "x" * 8_192}}
            firsts = [b"", b"{", b"[]", event(1), {"type": "gr:ping"}, {"type": "gr:hello"}, long]
            firsts += [b"[" * 500_000, b'{"a":' * 1_000, HELLO | {"id": 1}]
            for first in firsts:
                async with await place.upgrade() as enemy:
                    before = enemy.taken
                    await enemy.say(first)
                    ended = await enemy.ended()
                    assert (ended.why, ended.code) == ("bad_frame", 4000), (first, ended)
                    assert enemy.taken - before < 500
            async with await place.upgrade() as enemy:  # more than the hello, in one write
                await enemy.say(*[HELLO] * 1_000)
                assert (await enemy.ended()).why == "bad_frame"
            await everybody_gone(place)
            assert place.stats()["sessions_opened"] == 2
            assert place.records.texts == []

    serve(main)


def test_g19_frames_that_no_websocket_has(serve: Any, adapter: str) -> None:
    good = text(event(1))
    broken = {
        "not masked": ws_frame(good, masked=False),
        "compressed, although nobody agreed to it": ws_frame(COMPRESSED, reserved=4),
        "a reserved bit": ws_frame(good, reserved=1),
        "a reserved opcode": ws_frame(good, 3),
        "a reserved control opcode": ws_frame(b"", 11),
        "a ping in fragments": ws_frame(b"x", PING, fin=False),
        "a ping of 126 bytes": ws_frame(b"x" * 126, PING),
        "a close of one byte": ws_frame(b"x", CLOSE),
        "a close with a reserved code": ws_frame(b"\x03\xed", CLOSE),
        "a continuation of nothing": ws_frame(good, CONTINUATION),
        "a message in a message": ws_frame(good[:3], fin=False) + ws_frame(good, TEXT),
        "a length with its highest bit set": b"\x81\xff" + b"\xff" * 8 + b"mask",
    }

    async def main() -> None:
        async with siege(adapter) as place:
            for name, data in broken.items():
                async with await place.open() as enemy:
                    await enemy.write(data)
                    code = (await enemy.ended()).code
                    assert code == 1002 or (code == 1009 and "length" in name), (name, code)
            for data in (b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\xaf", b'{"type":"\xf5\x80\x80\x80"}'):
                async with await place.open() as enemy:
                    await enemy.write(ws_frame(data))
                    assert (await enemy.ended()).code == 1007, data
            await everybody_gone(place)
            assert len(place.records.texts) <= 11, place.records.texts

    serve(main)


def test_g19_deflate_is_not_agreed_to(serve: Any, adapter: str) -> None:
    async def main() -> None:
        offers = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits=15, x-y"}
        async with siege(adapter) as place:
            enemy = await place.open(headers=offers)  # fails if the answer names an extension
            async with enemy:
                await enemy.write(ws_frame(COMPRESSED * 1_000, reserved=4))
                assert (await enemy.ended()).code == 1002

    serve(main)


def test_g19_one_byte_at_a_time(serve: Any, adapter: str) -> None:
    """Slow is not wrong: a conversation in single bytes is a conversation."""

    async def main() -> None:
        async with siege(adapter) as place:
            async with await place.dial() as enemy:
                for byte in handshake(place.port):
                    await enemy.write(bytes([byte]))
                assert b" 101 " in await enemy.head()
                for byte in ws_frame(text(HELLO)) + ws_frame(text(event(1))):
                    await enemy.write(bytes([byte]))
                assert (await enemy.answer(1))["data"] == 1
            await place.undisturbed()

    serve(main)


def test_g19_a_close_that_nobody_takes(serve: Any, adapter: str) -> None:
    """Whoever neither reads nor leaves is left: its socket is not ours for longer than that."""

    async def main() -> None:
        async with siege(adapter, rate=0.0, log_bytes=16 * KIB) as place:
            crowd = []
            for _ in range(5):
                enemy = await place.open(receive_buffer=4 * KIB)
                await enemy.say(*(event(n, "x" * 400) for n in range(1, 2_000)))
                crowd.append(enemy)
            await everybody_gone(place)  # slow_consumer, although none of them reads it
            for enemy in crowd:
                enemy.cut()
            # The same for a close of the server below the protocol.
            async with await place.open(receive_buffer=4 * KIB) as enemy:
                await enemy.write(ws_frame(b"", length=2**62))
                await everybody_gone(place)

    serve(main)


def test_g19_a_client_that_ends_in_the_middle(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter) as place:
            whole = ws_frame(text(HELLO)) + ws_frame(text(event(1)))
            for at in range(0, len(whole), 7):
                for gently in (True, False):
                    enemy = await place.upgrade()
                    await enemy.write(whole[:at])
                    if gently:
                        enemy.sock.close()
                    else:
                        enemy.cut()
            await everybody_gone(place)
            assert place.records.texts == []

    serve(main)
