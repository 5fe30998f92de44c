"""What a connection makes of transports that are faster, or worse, than they promise to be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from greenroom import App, Settings
from greenroom.core.types import Packet
from greenroom.testing import ManualClock

HELLO = Packet(b'{"type":"gr:hello","data":{"protocol":1,"token":null,"link":null,"seq":0}}')
KIB = 1024


class Fast:
    """Whatever it is given has left at once."""

    def __init__(self) -> None:
        self.buffered = 0
        self.packets: list[Packet] = []
        self.closes: list[int] = []

    def send(self, packets: Sequence[Packet]) -> None:
        self.packets.extend(packets)

    def close(self, code: int, reason: str) -> None:
        self.closes.append(code)

    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(packet.data) for packet in self.packets]


class Failing(Fast):
    """It raises, which no transport may."""

    def __init__(self, verb: str) -> None:
        super().__init__()
        self.verb = verb
        self.failing = False

    def send(self, packets: Sequence[Packet]) -> None:
        if self.failing and self.verb == "send":
            raise OSError("broken")
        super().send(packets)

    def close(self, code: int, reason: str) -> None:
        super().close(code, reason)
        if self.failing:
            raise OSError("broken")


def test_a_burst_above_the_room_goes_on_when_it_has_left_at_once(arun: Any) -> None:
    async def story() -> None:
        async with App(clock=ManualClock()) as app:
            fast = Fast()
            connection = app.connect(fast)
            connection.receive(HELLO)
            (session,) = app.sessions.values()
            for number in range(60):
                session.emit("app:news", str(number) + "x" * 10 * KIB)
            session.emit("app:news", "the last")
            await app.call(lambda: None)  # a burst later
            assert fast.frames()[-1]["data"] == "the last"
            connection.eof()

    arun(story)


@pytest.mark.parametrize("verb", ["send", "close"])
@pytest.mark.parametrize("how", ["flush", "end", "stop"])
def test_a_transport_that_raises_ends_alone(arun: Any, verb: str, how: str) -> None:
    async def story() -> None:
        app = App(settings=Settings(drain=0.0))
        async with app:
            bad, good = Failing(verb), Fast()
            connections = [app.connect(transport) for transport in (bad, good)]
            for connection in connections:
                connection.receive(HELLO)
            one, two = app.sessions.values()
            bad.failing = True
            if how == "flush":
                one.emit("app:news", 1)
                two.emit("app:news", 2)
            elif how == "end":
                connections[0].receive(Packet(b"[]"))
            if how != "stop":
                await app.call(lambda: None)
                assert connections[0].closed is (verb == "send" or how == "end")
                assert not one.ended  # its client may come back
        assert good.closes == [1001]
        assert all(connection.closed for connection in connections)
        if how == "flush" and verb == "send":
            assert any("a transport failed" in record.text for record in app.log)

    arun(story)
