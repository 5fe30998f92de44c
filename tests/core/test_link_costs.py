"""What hostile frames cost, in calls instead of seconds: no more than a little for each byte.

Every call of a function, Python's or C's, is counted while one packet is received. A frame that is
refused costs a handful; what follows the end of a connection costs nothing, however much it is.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from greenroom.core._stream import Tally
from greenroom.core.hello import Hello
from greenroom.core.link import ServerLink
from greenroom.core.packet import in_parts
from greenroom.core.settings import Settings
from greenroom.core.types import Packet

ROOM = 64 * 1024


def link(**settings: Any) -> ServerLink:
    made = ServerLink("L", "main", False, Settings(**settings), Tally(0), lambda: (b"{}", 0), 0.0)
    made.attach(Hello(), 0.0, session="S", token="T", expires=0.0)
    made.take(0.0, ROOM)
    return made


def calls(of: Callable[[], object]) -> int:
    """How many functions are called in the course of it."""
    count = 0

    def on_event(_frame: object, what: str, _argument: object) -> None:
        nonlocal count
        count += what in ("call", "c_call")

    collecting = gc.isenabled()
    gc.disable()  # its callbacks are calls too
    sys.setprofile(on_event)
    try:
        of()
    finally:
        sys.setprofile(None)
        if collecting:
            gc.enable()
    return count


def cost(frame: Any, **settings: Any) -> tuple[ServerLink, int]:
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    made = link(max_frame_in=0, **settings)
    return made, calls(lambda: made.receive(Packet(data), 1.0))


@pytest.mark.parametrize(
    "data",
    [
        [1] * 200_000,
        [[]] * 200_000,
        [None, *[{"type": "add"}] * 100_000],
        [{"type": "gr:hello"}] * 100_000,
        [{"type": "gr:bye"}, *[{"type": "add", "id": 1}] * 100_000],
    ],
    ids=["numbers", "lists", "after nothing", "hellos", "after bye"],
)
def test_what_follows_the_end_in_a_batch_costs_nothing(data: list[Any]) -> None:
    made, count = cost({"type": "gr:batch", "data": data})
    assert made.closing is not None
    assert count < 100


def test_a_batch_above_the_rate_costs_no_more_than_the_rate() -> None:
    frames = [{"type": "add", "id": n} for n in range(1, 100_001)]
    made = link(max_frame_in=0, rate=10.0, burst=100)
    made.rate = 10.0  # of a profile that is limited
    data = json.dumps({"type": "gr:batch", "data": frames}).encode()
    assert calls(lambda: made.receive(Packet(data), 1.0)) < 40 * 120
    assert made.closing is not None
    assert made.closing.code == "rate_limited"


@pytest.mark.parametrize(
    "frame",
    [
        b"[" * 1_000_000,
        b'{"type":"add","id":1,"data":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"type":"add","id":1,"data":[' + b"[0]," * 200_000 + b"0]}",
        b'{"type":"' + b"x" * 1_000_000 + b'","id":1}',
        b'{"type":"gr:' + b"x" * 1_000_000 + b'","id":1}',
        b'{"type":"add","id":' + b"9" * 1_000_000 + b"}",
        b'{"type":"add","id":1,' + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}",
    ],
    ids=["deep", "too deep", "wide", "long type", "long name", "long id", "many keys"],
)
def test_one_large_frame_costs_little(frame: bytes) -> None:
    made, count = cost(frame)
    assert count < 1_000
    assert sum(len(packet.data) for packet in made.take(1.0, ROOM)) < 2_000


def test_parts_hold_their_text_and_nothing_else() -> None:
    made = link()
    whole = json.dumps({"type": "add", "id": 1, "data": "x" * 10_000}).encode()
    parts = in_parts(whole, (), 1, 64)
    assert len(parts) > 300
    requests = [request for part in parts for request in made.receive(part, 1.0)]
    assert [request.type for request in requests] == ["add"]
