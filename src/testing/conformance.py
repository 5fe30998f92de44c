"""Proves that an adapter's transport keeps the contract of ``greenroom.adapters.base``.

An adapter author writes one harness, which serves a host and opens raw clients, and runs::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_the_contract(check):
        asyncio.run(check(MyHarness()))

or ``await adapter_conformance(MyHarness())`` for all of them. No session and no link takes part:
the host records what the adapter hands over and says what the check wants said.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any, Final, Protocol

from ..adapters.base import ROOM, close_with
from ..core.errors import Busy
from ..core.settings import Settings
from ..core.types import Packet, Transport

__all__ = [
    "CHECKS",
    "Gone",
    "Harness",
    "Peer",
    "RecordedConnection",
    "RecordingHost",
    "adapter_conformance",
]

PATIENCE: Final = 10.0  # seconds that anything may take
ENOUGH: Final = 256 * 1024 * 1024  # bytes after which a stalled reader must have been noticed


class Gone(Exception):
    """The conversation is over, or never began. ``code`` is None where there are no codes."""

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Peer(Protocol):
    """A raw client of the transport. It reads no more than it is asked to, up to a small buffer."""

    async def send(self, packet: Packet) -> None: ...

    async def receive(self) -> Packet:
        """The next packet. Raises :class:`Gone` after the last one."""
        ...

    async def close(self) -> None:
        """Leave as one should."""
        ...

    async def cut(self) -> None:
        """Be gone, without a word."""
        ...


class Harness(Protocol):
    """What an adapter author writes."""

    @property
    def codes(self) -> bool:
        """Whether a close code and reason reach the client."""
        ...

    def serve(
        self, host: RecordingHost
    ) -> AbstractAsyncContextManager[Callable[[], Awaitable[Peer]]]:
        """Serve ``host`` on the running loop; gives a function that opens a client.

        It raises :class:`Gone` when the client is refused.
        """
        ...


# -- the host -----------------------------------------------------------------------------------


class RecordedConnection:
    """The app's end: keeps what the adapter says and knows when it says too much."""

    def __init__(self, host: RecordingHost, transport: Transport, facts: dict[str, Any]) -> None:
        self.host = host
        self.transport = transport
        self.facts = facts  #: headers, cookies, peer, binding, userinfo as given
        self.received: list[Packet] = []
        self.drains = 0
        self.ends = 0
        self.on_packet: Callable[[Packet], object] | None = None
        self.complaints: list[str] = []
        self._changed = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self.ends > 0

    def receive(self, packet: Packet) -> None:
        self._note("receive")
        if self.ends:
            self.complaints.append("a packet was handed over after eof")
        self.received.append(packet)
        if self.on_packet is not None:
            self.on_packet(packet)

    def refuse(self, code: str, message: str) -> None:
        self._note("refuse")
        close_with(self.transport, code, message)

    def drained(self) -> None:
        self._note("drained")
        if self.transport.buffered > ROOM:
            self.complaints.append(f"drained, but {self.transport.buffered} bytes are buffered")
        self.drains += 1

    def eof(self) -> None:
        self._note("eof")
        self.ends += 1

    def _note(self, verb: str) -> None:
        if threading.get_ident() != self.host.thread:
            self.complaints.append(f"{verb} was called on another thread than the app's")
        self._changed.set()

    async def until(self, condition: Callable[[RecordedConnection], bool]) -> None:
        """Wait until the adapter has said enough for ``condition`` to hold."""
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    def check(self) -> None:
        """Raise what the adapter did wrong."""
        assert not self.complaints, "; ".join(self.complaints)
        assert self.ends <= 1, f"eof was called {self.ends} times"


class RecordingHost:
    """Stands in for an app. ``refusal`` makes it refuse the next connections."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings(secret="for-tests")  # noqa: S106
        self.connections: list[RecordedConnection] = []
        self.refused: list[str] = []  # reasons for which an adapter turned clients away
        self.refusal: Exception | None = None
        self.on_connect: Callable[[RecordedConnection], object] | None = None
        self.phase = "running"
        self.listeners: list[Callable[[], object]] = []
        self.views: Mapping[str, Any] = {}
        self.handlers: Any = SimpleNamespace(names={}, left_out=[])
        self.files: Any = None  # no check moves one
        self.loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._arrived = asyncio.Event()

    @property
    def running(self) -> bool:
        return self.phase == "running"

    async def start(self) -> None:
        self.phase = "running"

    async def stop(self, drain: float | None = None) -> None:
        self.phase = "stopped"

    def turned_away(self, reason: str) -> None:
        self.refused.append(reason)

    def stats(self) -> dict[str, Any]:
        return {"connections": sum(not connection.closed for connection in self.connections)}

    async def hears(self, seconds: float = 1.0) -> bool:
        return True

    def connect(self, transport: Transport, **facts: Any) -> RecordedConnection:
        if self.refusal is not None:
            raise self.refusal
        connection = RecordedConnection(self, transport, facts)
        self.connections.append(connection)
        if self.on_connect is not None:
            self.on_connect(connection)
        self._arrived.set()
        return connection

    async def connected(self, count: int = 1) -> RecordedConnection:
        """Wait for the ``count``-th connection."""
        async with asyncio.timeout(PATIENCE):
            while len(self.connections) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.connections[count - 1]


# -- helpers ------------------------------------------------------------------------------------


def frame(number: int, size: int = 0) -> Packet:
    """A frame of the wire protocol, so that an adapter may look at what it moves."""
    return Packet(b'{"type":"app:test","seq":%d,"data":"%b"}' % (number, b"x" * size))


async def receive(peer: Peer) -> Packet:
    async with asyncio.timeout(PATIENCE):
        return await peer.receive()


async def receive_end(peer: Peer) -> Gone:
    """Read to the end."""
    while True:
        try:
            await receive(peer)
        except Gone as gone:
            return gone


async def settle(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody tells of."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


# -- the checks ---------------------------------------------------------------------------------

Check = Callable[[Harness], Awaitable[None]]


async def packets_arrive_whole_and_in_order(harness: Harness) -> None:
    host = RecordingHost()
    async with harness.serve(host) as connect:
        peer = await connect()
        connection = await host.connected()
        sent = [frame(number, number % 7) for number in range(100)]
        sent.append(Packet('{"type":"app:test","data":"é\u2028🙂"}'.encode()))
        sent.append(Packet(b'{"type":"app:test","data":[0,1]}', (b"\x00\xff\n", b"")))
        sent.append(frame(101, 200_000))
        for packet in sent:
            await peer.send(packet)
        await connection.until(lambda c: len(c.received) == len(sent))
        assert connection.received == sent
        connection.check()
        await peer.close()


async def packets_leave_whole_and_in_order(harness: Harness) -> None:
    host = RecordingHost()
    async with harness.serve(host) as connect:
        peer = await connect()
        connection = await host.connected()
        sent = [frame(number, number % 7) for number in range(100)]
        sent.append(Packet('{"type":"app:test","data":"é\u2028🙂"}'.encode()))
        sent.append(Packet(b'{"type":"app:test","data":[0,1]}', (b"\x00\xff\n", b"")))
        sent.append(frame(101, 200_000))
        connection.transport.send(sent[:3])
        connection.transport.send([])
        connection.transport.send(sent[3:50])
        connection.transport.send(sent[50:])
        assert [await receive(peer) for _ in sent] == sent
        await settle(lambda: connection.transport.buffered == 0)
        connection.check()
        await peer.close()


async def an_answer_may_be_sent_inside_receive(harness: Harness) -> None:
    host = RecordingHost()

    def echo(connection: RecordedConnection) -> None:
        connection.on_packet = lambda packet: connection.transport.send([packet])

    host.on_connect = echo
    async with harness.serve(host) as connect:
        peer = await connect()
        for number in range(20):
            await peer.send(frame(number))
            assert await receive(peer) == frame(number)
        await peer.close()


async def a_close_comes_after_what_was_sent(harness: Harness) -> None:
    host = RecordingHost()
    async with harness.serve(host) as connect:
        peer = await connect()
        connection = await host.connected()
        connection.transport.send([frame(number) for number in range(5)])
        connection.transport.close(4003, "slow_consumer")
        connection.transport.close(1000, "a second close changes nothing")
        connection.transport.send([frame(99)])
        assert [await receive(peer) for _ in range(5)] == [frame(n) for n in range(5)]
        gone = await receive_end(peer)
        if harness.codes:
            assert (gone.code, gone.reason) == (4003, "slow_consumer")
        await connection.until(lambda c: c.closed)
        connection.check()


async def a_close_is_legal_whatever_is_asked(harness: Harness) -> None:
    host = RecordingHost()
    async with harness.serve(host) as connect:
        for count, (code, reason) in enumerate([(1006, ""), (4000, "é" * 200), (0, "?")], start=1):
            peer = await connect()
            connection = await host.connected(count)
            connection.transport.close(code, reason)
            gone = await receive_end(peer)
            if harness.codes:
                assert gone.code == (code if code == 4000 else 1000)
                assert reason.startswith(gone.reason)
                assert len(gone.reason.encode()) <= 123
            await connection.until(lambda c: c.closed)
            connection.check()


async def the_end_is_told_once(harness: Harness) -> None:
    host = RecordingHost()
    async with harness.serve(host) as connect:
        for count, leave in enumerate(["close", "cut"], start=1):
            peer = await connect()
            connection = await host.connected(count)
            await peer.send(frame(1))
            await connection.until(lambda c: len(c.received) == 1)
            await getattr(peer, leave)()
            await connection.until(lambda c: c.closed)
            # Whoever has gone takes everything and answers nothing.
            connection.transport.send([frame(2)])
            connection.transport.close(1000, "late")
            await asyncio.sleep(0)
            connection.check()


async def a_refused_client_gets_no_conversation(harness: Harness) -> None:
    host = RecordingHost()
    async with harness.serve(host) as connect:
        host.refusal = Busy("full")
        try:
            peer = await connect()
        except Gone:
            pass
        else:
            await receive_end(peer)
        host.refusal = None
        peer = await connect()
        connection = await host.connected()
        await peer.send(frame(1))
        await connection.until(lambda c: len(c.received) == 1)
        await peer.close()


async def a_packet_above_the_limit_ends_it(harness: Harness) -> None:
    host = RecordingHost(Settings(secret="for-tests", max_frame_in=10_000))  # noqa: S106
    async with harness.serve(host) as connect:
        peer = await connect()
        connection = await host.connected()
        await peer.send(frame(1, 9_000))
        await peer.send(frame(2, 12_000))
        await connection.until(lambda c: len(c.received) == 1)
        last = await receive(peer)
        assert b'"too_large"' in last.data, last.data
        gone = await receive_end(peer)
        if harness.codes:
            assert gone.code == 1009
        await connection.until(lambda c: c.closed)
        assert connection.received == [frame(1, 9_000)]
        connection.check()


async def a_stalled_reader_costs_a_bounded_queue_and_gets_it_all(harness: Harness) -> None:
    host = RecordingHost()
    async with harness.serve(host) as connect:
        peer = await connect()
        connection = await host.connected()
        transport = connection.transport
        sent = 0
        while transport.buffered <= ROOM:
            assert sent * 65_536 < ENOUGH, "a client reads nothing, yet nothing is buffered"
            transport.send([frame(sent, 65_536)])
            sent += 1
            for _ in range(4):  # what can leave does
                await asyncio.sleep(0)
        assert connection.drains == 0 or transport.buffered > ROOM
        before = connection.drains
        for number in range(sent):
            assert await receive(peer) == frame(number, 65_536)
        await connection.until(lambda c: c.drains > before)
        await settle(lambda: transport.buffered == 0)
        connection.check()
        await peer.close()


async def nothing_is_left_behind(harness: Harness) -> None:
    host = RecordingHost()
    before = 0
    async with harness.serve(host) as connect:
        for count, leave in enumerate(["close", "close", "cut", "close", "cut"], start=1):
            peer = await connect()
            connection = await host.connected(count)
            connection.transport.send([frame(1)])
            await receive(peer)
            await getattr(peer, leave)()
            await connection.until(lambda c: c.closed)
            if count == 1:  # by now the server runs all that it runs without clients
                before = len(asyncio.all_tasks())
        await settle(lambda: len(asyncio.all_tasks()) <= before)


CHECKS: Final[tuple[Check, ...]] = (
    packets_arrive_whole_and_in_order,
    packets_leave_whole_and_in_order,
    an_answer_may_be_sent_inside_receive,
    a_close_comes_after_what_was_sent,
    a_close_is_legal_whatever_is_asked,
    the_end_is_told_once,
    a_refused_client_gets_no_conversation,
    a_packet_above_the_limit_ends_it,
    a_stalled_reader_costs_a_bounded_queue_and_gets_it_all,
    nothing_is_left_behind,
)


async def adapter_conformance(harness: Harness) -> None:
    """Run every check. Raises an ExceptionGroup of those that failed, each named."""
    failures: list[Exception] = []
    for check in CHECKS:
        try:
            await check(harness)
        except Exception as error:  # noqa: BLE001 -- collected, to be raised together
            error.add_note(f"the check was: {getattr(check, '__name__', check)}")
            failures.append(error)
    if failures:
        raise ExceptionGroup("the adapter does not keep the contract", failures)
