"""Pieces that have nothing simple to be compared with, timed one by one: for comparing two commits.

    make bench-micro ARGS="--benchmark-autosave"
    make bench-micro ARGS="--benchmark-compare"

Figures of different machines, or of one machine at different times, are not comparable.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from greenroom.core.encode import encode_value
from greenroom.core.hello import Hello, parse_hello
from greenroom.core.link import ServerLink
from greenroom.core.packet import in_batches
from greenroom.core.settings import Settings
from greenroom.core.state import Ledger, Template
from greenroom.core.types import Packet

VALUES: dict[str, Any] = {
    "int": 12345,
    "text": "some plain text",
    "unicode": "Größe 20 µm ✓",
    "list of 100 ints": list(range(100)),
    "record": {"id": 7, "name": "n", "tags": ["a", "b"], "open": True, "sum": 1.5},
    "datetime": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    "4 KiB of bytes": b"\x00\xff" * 2048,
}


@pytest.mark.parametrize("name", VALUES)
def test_encode_a_value(benchmark: Any, name: str) -> None:
    assert benchmark(encode_value, VALUES[name])


def test_parse_a_hello(benchmark: Any) -> None:
    data = {"protocol": 1, "token": "t" * 100, "link": "l", "seq": 7, "label": "main"}
    packet = Packet(json.dumps({"type": "gr:hello", "data": data | {"binary": False}}).encode())
    assert benchmark(parse_hello, packet).seq == 7


def test_snapshot_of_100_keys(benchmark: Any) -> None:
    ledger: Ledger = Template({f"key{i}": i for i in range(100)}).open()
    encoded, _ = benchmark(ledger.snapshot)
    assert json.loads(encoded)["key99"] == 99


def test_join_a_batch(benchmark: Any) -> None:
    packets = [Packet(b'{"type":"gr:state","seq":1,"data":{}}')] * 4
    (joined,) = benchmark(in_batches, packets)
    assert len(json.loads(joined.data)["data"]) == 4


@pytest.mark.parametrize("kind", ["ordinary", "escaped"])  # the short way, and the table's
def test_a_frame_comes_in(benchmark: Any, kind: str) -> None:
    from greenroom.core.budget import Budget

    link = ServerLink("L", "main", False, Settings(), Budget(0), lambda: (b"{}", 0), 0.0)
    link.attach(Hello(), 0.0, session="S", token="T", expires=9e9)
    value = "x" if kind == "ordinary" else "$"

    def receive() -> int:
        number = link.ack + 1
        (request,) = link.receive(
            Packet(b'{"type":"add","id":%d,"data":"%b"}' % (number, value.encode())), 1.0
        )
        link.result(number, b"null")
        link.take(1.0, 65536)
        return len(request.data)

    assert benchmark(receive) == 1
