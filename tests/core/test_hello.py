"""Hellos that are read, hellos that are refused, and the table of closes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from greenroom.core.hello import CLOSES, HELLO_BYTES, Hello, LinkError, make_close, parse_hello
from greenroom.core.types import Packet


def hello(**data: Any) -> Packet:
    return Packet(json.dumps({"type": "gr:hello", "data": {"protocol": 1, **data}}).encode())


def test_a_full_hello() -> None:
    packet = hello(token="T", link="L", seq=7, label="side-bar_2", binary=True)
    assert parse_hello(packet) == Hello("T", "L", 7, "side-bar_2", True)


def test_what_is_left_out_has_a_default() -> None:
    assert parse_hello(hello()) == Hello(None, None, 0, "main", False)


def test_the_token_is_not_shown() -> None:
    assert "SECRET" not in repr(Hello("SECRET"))


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (Packet(b"hello"), "bad_frame"),
        (Packet(b"[]"), "bad_frame"),
        (Packet(b"\xff"), "not_utf8"),
        (Packet(b'{"type":"add","id":1}'), "bad_frame"),
        (Packet(b'{"type":"gr:hello"}'), "bad_frame"),
        (Packet(b'{"type":"gr:hello","id":1,"data":{"protocol":1}}'), "bad_frame"),
        (Packet(b'{"type":"gr:hello","data":{}}'), "bad_frame"),
        (hello(protocol=2), "version"),
        (hello(protocol="1"), "bad_frame"),
        (hello(protocol=True), "bad_frame"),
        (hello(token=1), "bad_frame"),
        (hello(link=1), "bad_frame"),
        (hello(seq=-1), "bad_frame"),
        (hello(seq=None), "bad_frame"),
        (hello(seq=1.5), "bad_frame"),
        (hello(label=""), "bad_frame"),
        (hello(label="1st"), "bad_frame"),
        (hello(label="x" * 65), "bad_frame"),
        (hello(label="é"), "bad_frame"),
        (hello(binary=1), "bad_frame"),
        (hello(token="x" * HELLO_BYTES), "bad_frame"),
    ],
)
def test_what_is_no_hello(packet: Packet, code: str) -> None:
    with pytest.raises(LinkError) as caught:
        parse_hello(packet)
    assert caught.value.code == code
    assert caught.value.close.code == code


def test_a_version_says_what_is_supported() -> None:
    packet = make_close("version").packet
    assert packet is not None
    assert json.loads(packet.data)["data"]["supported"] == [1]


def test_an_error_carries_its_close() -> None:
    close = LinkError("busy", "too many", after=5.0).close
    assert (close.ws_code, close.retry, close.after) == (1013, "fresh", 5.0)


@pytest.mark.parametrize("code", CLOSES)
def test_reasons_fit_into_a_close_frame(code: str) -> None:
    close = make_close(code, "m" * 1000)
    assert len(close.reason.encode()) <= 123
    assert close.packet is not None
    assert json.loads(close.packet.data)["data"] == {
        "code": code,
        "message": "m" * 1000,
        "retry": CLOSES[code][1],
        **({"supported": [1]} if code == "version" else {}),
    }
