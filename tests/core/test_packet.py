"""Frames as bytes: the JSON seam, batches, parts, binary messages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.core.packet import (
    Malformed,
    NotUtf8,
    Parts,
    decode_binary,
    encode_binary,
    in_batches,
    in_parts,
    loads,
)
from greenroom.core.types import Packet


@pytest.mark.parametrize("data", [b"\xff", b'{"a":"\xc3("}', b"[1]\xff"])
def test_not_utf8_is_told_apart(data: bytes) -> None:
    with pytest.raises(NotUtf8):
        loads(data)


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b"[1,]", b'"\\ud800"', b"\xef\xbb\xbf{}"])
def test_not_json(data: bytes) -> None:
    with pytest.raises(ValueError) as caught:
        loads(data)
    assert not isinstance(caught.value, NotUtf8)


@given(st.binary(), st.lists(st.binary()))
def test_binary_messages_return(data: bytes, buffers: list[bytes]) -> None:
    packet = Packet(data, tuple(buffers))
    assert decode_binary(encode_binary(packet)) == packet


@given(st.binary(min_size=1), st.lists(st.binary(), max_size=3), st.data())
def test_a_cut_binary_message_is_malformed_or_shorter(
    data: bytes, buffers: list[bytes], draw: st.DataObject
) -> None:
    message = encode_binary(Packet(data, tuple(buffers)))
    end = draw.draw(st.integers(0, len(message) - 1))
    try:
        packet = decode_binary(message[:end])
    except Malformed:
        return
    assert packet.buffers == tuple(buffers)[: len(packet.buffers)]


def test_binary_layout() -> None:
    message = encode_binary(Packet(b"{}", (b"abc",)))
    assert message == b"\0\0\0\x02{}\0\0\0\x03abc"


@given(st.text(min_size=1, max_size=2000), st.integers(200, 400))
def test_parts_return(text: str, limit: int) -> None:
    try:
        data = json.dumps({"data": text}, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    packets = in_parts(data, (b"buffer",), 3, limit)
    assert all(len(packet.data) <= limit for packet in packets)
    assert [packet.buffers for packet in packets[:-1]] == [()] * (len(packets) - 1)
    assert packets[-1].buffers == (b"buffer",)
    parts = Parts(0)
    joined = [parts.add(json.loads(packet.data)["data"]) for packet in packets]
    assert joined == [None] * (len(packets) - 1) + [data]


@pytest.mark.parametrize(
    "part",
    [
        None,
        [],
        {"of": 1, "i": 0, "last": True},
        {"of": 1, "i": 0, "last": 1, "part": ""},
        {"of": "1", "i": 0, "last": True, "part": ""},
        {"of": 1, "i": 1, "last": True, "part": ""},
        {"of": 1, "i": -1, "last": True, "part": ""},
    ],
)
def test_parts_that_are_none(part: object) -> None:
    with pytest.raises(Malformed):
        Parts(0).add(part)


def test_two_frames_in_parts_may_not_mix() -> None:
    parts = Parts(0)
    parts.add({"of": 1, "i": 0, "last": False, "part": "a"})
    with pytest.raises(Malformed):
        parts.add({"of": 2, "i": 1, "last": True, "part": "b"})


def test_parts_are_limited_together() -> None:
    parts = Parts(10)
    parts.add({"of": 1, "i": 0, "last": False, "part": "x" * 10})
    with pytest.raises(OverflowError):
        parts.add({"of": 1, "i": 1, "last": False, "part": "x"})


def test_batches_leave_alone_what_must_be_alone() -> None:
    welcome = Packet(b'{"type":"gr:welcome","data":{}}')
    buffered = Packet(b'{"type":"a:b","seq":3}', (b"x",))
    ones = [Packet(b'{"type":"a:b","seq":%d}' % n) for n in range(1, 5)]
    assert in_batches([welcome, ones[0], ones[1], buffered, ones[2]]) == [
        welcome,
        Packet(b'{"type":"gr:batch","data":[%b,%b]}' % (ones[0].data, ones[1].data)),
        buffered,
        ones[2],
    ]


@given(st.lists(st.integers(1, 300), max_size=30), st.integers(100, 500))
def test_batches_keep_order_and_limit(sizes: list[int], limit: int) -> None:
    packets = [Packet(b'"%b"' % (b"x" * size)) for size in sizes]
    batches = in_batches(packets, limit)
    flat = []
    for batch in batches:
        value = json.loads(batch.data)
        if isinstance(value, dict):
            assert len(batch.data) <= limit
            flat += value["data"]
        else:
            flat.append(value)
    assert flat == ["x" * size for size in sizes]
