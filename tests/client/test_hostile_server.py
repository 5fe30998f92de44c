"""A server that says anything at all: the link closes, asks again or goes on, and never raises."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.client.link import Link
from greenroom.client.machine import State
from greenroom.client.patch import Diverged, Mirror
from greenroom.core.types import Packet

LEAVES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2,
    7,
    1.5,
    1e300,
    2**70,
    "",
    "x",
    "7",
    [],
    {},
    [1],
    {"a": 1},
]
TYPES = [
    *("gr:welcome", "gr:close", "gr:snapshot", "gr:state", "gr:result", "gr:error", "gr:signal"),
    *("gr:ping", "gr:pong", "gr:nack", "gr:chunk", "gr:batch", "gr:hello", "gr:unknown", "app:x"),
]
FIELDS = [
    *("protocol", "session", "token", "expires", "link", "resumed", "seq", "ack", "pending"),
    *("ping", "dead", "window", "max_frame_in", "inflight", "code", "message", "retry", "after"),
    *("retry_after", "of", "i", "last", "part", "name", "data", "=", "-", "+", "$bytes", "$dict"),
]
leaves = st.sampled_from(LEAVES)
data = st.one_of(leaves, st.dictionaries(st.sampled_from(FIELDS), leaves, max_size=6))
frames = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional={"data": data, "id": leaves, "seq": leaves, "label": leaves},
)
batches = st.builds(lambda inner: {"type": "gr:batch", "data": inner}, st.lists(frames, max_size=3))
parts = st.builds(
    lambda inner: {
        "type": "gr:chunk",
        "data": {"of": 1, "i": 0, "last": True, "part": json.dumps(inner)},
    },
    frames,
)
WELCOME: dict[str, Any] = {
    "protocol": 1,
    "session": "S",
    "token": "T",
    "expires": 9,
    "link": "L",
    "resumed": False,
    "seq": 0,
    "ack": 0,
    "pending": [],
}


def welcome(changes: dict[str, Any]) -> dict[str, Any]:
    return {"type": "gr:welcome", "data": {**WELCOME, **changes}}


greetings = st.builds(welcome, st.dictionaries(st.sampled_from(FIELDS), leaves, max_size=4))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(frames, batches, parts, greetings), max_size=8), st.booleans())
def test_no_frame_of_a_server_breaks_the_link(said: list[dict[str, Any]], greeted: bool) -> None:
    link, mirror = Link(), Mirror()
    link.on_frame = lambda direction, frame: None
    link.open(0.0)
    if greeted:
        link.receive(Packet(json.dumps(welcome({})).encode()), 0.0)
        link.submit("add", b"1")
    for number, frame in enumerate(said, 1):
        if link.state is State.APART:
            link.open(number)
        link.receive(Packet(json.dumps(frame).encode()), float(number))
        link.take()
        for effect in link.effects():
            if effect.kind == "patch":
                try:
                    mirror.patch(effect.args[0])
                except Diverged as error:
                    link.diverged(str(error), float(number))
            elif effect.kind == "snapshot":
                mirror.snapshot(effect.args[0])
        due = link.deadline()
        assert due is None or isinstance(due, (int, float))
        link.tick(float(number) + 0.5)
