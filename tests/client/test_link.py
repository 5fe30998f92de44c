"""The client's half of the wire machine, story by story (tests/vectors/link_client.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from greenroom.client.codec import encode
from greenroom.client.entry import Entry
from greenroom.client.link import Link
from greenroom.client.machine import TABLE, LinkError, State, retry_after_cut
from greenroom.core.types import Packet

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "link_client.json").read_text())
STORIES = VECTORS["vectors"]


class Watched(Link):
    """A link that remembers which cells it went through."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.cells: set[str] = set()

    def _step(self, event: str) -> None:
        self.cells.add(f"{self.state} {event}")
        super()._step(event)


class Story:
    def __init__(self, options: dict[str, Any]) -> None:
        self.link = Watched(**options)
        self.entries: dict[str, Entry] = {}

    def play(self, step: dict[str, Any]) -> None:
        for turn in range(step.get("count", 1)):
            self.do(step, turn)
            out = [json.loads(packet.data) for packet in self.link.take()]
            effects = [self.told(e.kind, *e.args) for e in self.link.effects()]
            assert matches(step.get("out", []), out), (out, step)
            assert matches(step.get("effects", []), effects), (effects, step)
        assert self.link.state == step["state"], step
        if "deadline" in step:
            assert self.link.deadline() == pytest.approx(step["deadline"]), step

    def do(self, step: dict[str, Any], turn: int) -> None:
        link, now = self.link, step.get("now", 0.0)
        match step["do"]:
            case "open" | "tick" | "wake" | "bye" as verb:
                getattr(link, verb)(now)
            case "receive":
                frame = dict(step["frame"])
                if "pad" in step:
                    frame["data"] = "x" * step["pad"]
                if turn:
                    frame["seq"] += turn
                link.receive(Packet(json.dumps(frame).encode()), now)
            case "text":
                link.receive(Packet(step["text"].encode()), now)
            case "cut":
                link.cut(step["code"], now)
            case "diverged":
                link.diverged(step["message"], now)
            case "withdraw":
                assert link.withdraw(self.entries[step["tag"]]) is step["result"]
            case "submit":
                self.submit(step)
            case verb:
                raise AssertionError(verb)

    def submit(self, step: dict[str, Any]) -> None:
        data = "x" * step["pad"] if "pad" in step else step["data"]
        subscribing = step["type"] in ("gr:subscribe", "gr:unsubscribe")
        self.entries[step["tag"]] = self.link.submit(
            step["type"],
            None if step.get("nodata") else encode(data),
            context=encode(step["context"]) if "context" in step else None,
            tag=step["tag"],
            name=data["name"] if subscribing else None,
        )

    def told(self, kind: str, *args: Any) -> list[Any]:
        return [kind, *(arg.tag if isinstance(arg, Entry) else arg for arg in args)]


def matches(expected: Any, found: Any) -> bool:
    """Equality, where ``*`` stands for anything."""
    if expected == "*":
        return True
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(matches, expected, found))
    return bool(expected == found)


@pytest.mark.parametrize("vector", STORIES, ids=lambda vector: vector["name"])
def test_story(vector: dict[str, Any]) -> None:
    story = Story(vector["options"])
    for step in vector["steps"]:
        story.play(step)
    assert set(vector["cells"]) <= story.link.cells


def test_every_cell_has_a_story() -> None:
    told = {cell for vector in STORIES for cell in vector["cells"]}
    assert told == {f"{state} {event}" for state, event in TABLE}


def test_the_table_is_the_shared_one() -> None:
    shared = {
        (State(state), event): (tuple(actions), State(following))
        for state, events in VECTORS["table"].items()
        for event, (actions, following) in events.items()
    }
    assert shared == TABLE


def test_every_action_is_a_method() -> None:
    for actions, _ in TABLE.values():
        for action in actions:
            assert callable(getattr(Link, f"_{action}")), action


@pytest.mark.parametrize(("code", "with_token", "without"), VECTORS["cuts"])
def test_what_close_codes_say(code: int, with_token: str, without: str) -> None:
    assert retry_after_cut(code, had_token=True) == with_token
    assert retry_after_cut(code, had_token=False) == without


def test_what_cannot_happen_raises() -> None:
    link = Link()
    link.open(0.0)
    with pytest.raises(LinkError, match="'open' cannot happen to a link that is opening"):
        link.open(0.0)


def test_buffers_travel_beside_the_frame() -> None:
    link = Link(binary=True)
    link.open(0.0)
    assert json.loads(link.take()[0].data)["data"]["binary"] is True
    data = {"protocol": 1, "link": "L", "ack": 0, "resumed": False, "seq": 0, "ping": 0, "dead": 0}
    link.receive(Packet(json.dumps({"type": "gr:welcome", "data": data}).encode()), 0.0)
    buffers: list[bytes] = []
    link.submit("save", encode({"raw": b"\x00\xff"}, buffers), buffers=tuple(buffers))
    assert link.take() == [
        Packet(b'{"type":"save","id":1,"data":{"raw":{"$bytes":0}}}', (b"\x00\xff",))
    ]
    state = b'{"type":"gr:state","seq":1,"data":{"=":{"/raw":{"$bytes":0,"mime":"a/b","name":""}}}}'
    link.receive(Packet(state, (b"hi",)), 1.0)
    (patch,) = link.effects()
    assert patch.args[0]["="]["/raw"] == b"hi"
    assert patch.args[0]["="]["/raw"].mime == "a/b"


def test_the_trace_shows_no_token() -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    link = Link(token="secret")
    link.on_frame = lambda direction, frame: seen.append((direction, frame))
    link.open(0.0)
    link.take()
    data = {"protocol": 1, "token": "secret", "link": "L", "ack": 0, "seq": 0}
    link.receive(Packet(json.dumps({"type": "gr:welcome", "data": data}).encode()), 0.0)
    assert [(direction, frame["type"]) for direction, frame in seen] == [
        ("out", "gr:hello"),
        ("in", "gr:welcome"),
    ]
    assert "secret" not in json.dumps(seen)
    assert link.token == "secret"
