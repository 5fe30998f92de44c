"""The client's mirror, from the corpus that JavaScript reads too (tests/vectors/patch.json)."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.client.codec import Garbage, decoded, encode, pack, parse, unpack, without_token
from greenroom.client.patch import Diverged, Mirror, apply, get, parse_path, share
from greenroom.core.encode import decode
from greenroom.core.errors import Unencodable
from greenroom.core.types import Bytes, Packet

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "patch.json").read_text())


def frame_data(patch: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = decoded({"type": "gr:state", "seq": 1, "data": patch}, ())["data"]
    return data


def shuffled(patch: dict[str, Any]) -> dict[str, Any]:
    """The same operations in another order."""
    mixed: dict[str, Any] = {}
    for kind in random.Random(1).sample(sorted(patch), len(patch)):
        part = patch[kind]
        mixed[kind] = part[::-1] if isinstance(part, list) else dict(reversed(part.items()))
    return mixed


def named(cases: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case["name"])


@named(VECTORS["cases"])
def test_apply(case: dict[str, Any]) -> None:
    before, patch = decode(case["before"]), case["patch"]
    kept = copy.deepcopy(before)
    after = decode(case["after"])
    assert apply(before, frame_data(patch)) == after
    assert apply(before, frame_data(shuffled(patch))) == after
    assert before == kept


@named(VECTORS["refused"])
def test_what_is_no_patch_changes_nothing(case: dict[str, Any]) -> None:
    mirror = Mirror()
    mirror.snapshot(decode(case["before"]))
    root = mirror.root
    with pytest.raises(Diverged):
        mirror.patch(frame_data(case["patch"]))
    assert mirror.root is root


@named(VECTORS["refused_values"])
def test_values_that_nobody_takes(case: dict[str, Any]) -> None:
    if "deep" in case:
        value = json.loads("[" * case["deep"] + "]" * case["deep"])
    else:
        value = case["value"]
    for data in ({"=": {"/a": value}}, {"+": {"/a": value}}):
        with pytest.raises(Garbage):
            decoded({"type": "gr:state", "data": data}, ())
    for frame in (
        {"type": "gr:signal", "data": {"name": "a:b", "data": value}},
        {"type": "app:x", "data": value},
    ):
        with pytest.raises(Garbage):
            decoded(frame, ())


@pytest.mark.parametrize(
    "patch", [{"=": 1}, {"-": 1}, {"+": [1]}, {"-": [1]}, {"=": {"/a": 1}, "x": 1}]
)
def test_forms_that_are_no_patch(patch: dict[str, Any]) -> None:
    with pytest.raises(Diverged):
        Mirror().patch(patch)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("", ()),
        ("a.b", ("a", "b")),
        (r"a\.b.c", ("a.b", "c")),
        (r"a\\.b", ("a\\", "b")),
        ("a\\b.", ("a\\b", "")),
        ("a\\", ("a\\",)),
        (["a.b", 0], ("a.b", "0")),
    ],
)
def test_paths_as_users_write_them(path: Any, keys: tuple[str, ...]) -> None:
    assert parse_path(path) == keys


def test_reading_what_is_not_there() -> None:
    root = {"list": [{"x": 1}], "text": "abc"}
    assert get(root, ("list", "0", "x")) == 1
    for path in [("list", "1"), ("list", "-1"), ("list", "x"), ("text", "0"), ("a", "b")]:
        assert get(root, path) is None


def test_watchers_hear_once_per_patch(caplog: pytest.LogCaptureFixture) -> None:
    mirror = Mirror()
    mirror.snapshot({"a": {"b": 1, "c": 2}, "list": ["x"]})
    heard: list[tuple[str, Any, Any]] = []

    def watch(path: str) -> Any:
        return mirror.watch(path, lambda value, previous: heard.append((path, value, previous)))

    offs = {path: watch(path) for path in ("", "a", "a.b", "a.c", "list.0", "gone.away")}
    mirror.watch("a", lambda *_: 1 / 0)
    before = mirror.root
    mirror.patch({"=": {"/a/b": 1, "/x": 3}, "+": {"/list": ["y"]}})
    assert [path for path, *_ in heard] == ["", "a", "a.b"]
    assert heard[0][2] is before
    assert heard[2] == ("a.b", 1, 1)  # assigning an equal value is a mutation still
    assert "a subscriber of 'a' failed" in caplog.text
    heard.clear()
    offs["a"]()
    offs["a"]()
    mirror.patch({"-": ["/a"]})
    assert [(path, value) for path, value, _ in heard if path] == [("a.b", None), ("a.c", None)]


def test_a_watcher_that_another_one_ended_hears_nothing_more() -> None:
    mirror = Mirror()
    mirror.snapshot({"a": 1})
    heard: list[str] = []

    def first(*_: Any) -> None:
        heard.append("first")
        off()

    mirror.watch("a", first)
    off = mirror.watch("a", lambda *_: heard.append("second"))
    mirror.patch({"=": {"/a": 2}})
    assert heard == ["first"]


def test_a_snapshot_tells_of_what_is_different() -> None:
    mirror = Mirror()
    mirror.snapshot({"same": {"n": [1]}, "other": 1})
    heard: list[str] = []
    mirror.watch("same", lambda *_: heard.append("same"))
    mirror.watch("other", lambda *_: heard.append("other"))
    same = mirror.root["same"]
    mirror.snapshot({"same": {"n": [1]}, "other": 2})
    assert heard == ["other"]
    assert mirror.root["same"] is same
    assert mirror.get("other") == 2


def test_share_knows_types_order_and_bytes() -> None:
    was = {"a": 1, "b": Bytes(b"x", "a/b"), "c": [1, 2]}
    assert share(was, copy.deepcopy(was)) is was
    assert share({"a": 1}, {"a": True})["a"] is True
    assert share({"a": 1}, {"a": 1.0}) == {"a": 1.0}
    assert list(share({"a": 1, "b": 2}, {"b": 2, "a": 1})) == ["b", "a"]
    assert share(was, {**was, "b": Bytes(b"x", "other")})["b"].mime == "other"
    assert share([1, 2], [1, 2, 3]) == [1, 2, 3]
    assert share([1, 2, 3], [1, 2]) == [1, 2]


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab~/", max_size=2), inner),
    max_leaves=10,
)


@given(
    st.dictionaries(st.text("ab", max_size=2), TREES),
    st.dictionaries(st.text("ab", max_size=2), TREES),
)
def test_share_is_equal_to_what_is_new(was: dict[str, Any], now: dict[str, Any]) -> None:
    expected = json.dumps(now)
    assert json.dumps(share(was, now)) == expected


def test_payloads() -> None:
    buffers: list[bytes] = []
    assert encode({"$bytes": 1}) == b'{"$dict":{"$bytes":1}}'
    assert encode(Bytes(b"hi", "a/b", "n")) == b'{"$bytes":"aGk=","mime":"a/b","name":"n"}'
    assert json.loads(encode([b"a", b"b"], buffers)) == [{"$bytes": 0}, {"$bytes": 1}]
    assert buffers == [b"a", b"b"]
    with pytest.raises(Unencodable):
        encode(object())


def test_messages_there_and_back() -> None:
    assert pack(Packet(b'{"type":"x"}')) == '{"type":"x"}'
    assert unpack('{"type":"x"}') == Packet(b'{"type":"x"}')
    packet = Packet(b"{}", (b"\x01\x02", b""))
    message = pack(packet)
    assert message == b"\0\0\0\x02{}\0\0\0\x02\x01\x02\0\0\0\0"
    assert unpack(message) == packet
    for broken in (message[:-1], message[:3], b""):
        assert unpack(broken) == Packet(b"")
    for nonsense in (b"", b"[]", b"{}", b'{"type":1}', b'{"type":"x"', b"\xff"):
        with pytest.raises(Garbage):
            parse(Packet(nonsense))


def test_tokens_are_not_shown() -> None:
    welcome = {"type": "gr:welcome", "data": {"token": "secret", "link": "L"}}
    assert without_token(welcome) == {"type": "gr:welcome", "data": {"token": "…", "link": "L"}}
    assert welcome["data"]["token"] == "secret"  # type: ignore[index]
    result = {"type": "gr:result", "id": 1, "data": {"token": "secret"}}
    batch: dict[str, Any] = {
        "type": "gr:batch",
        "data": [result, 7, {"type": "app:x", "data": {"token": "mine"}}],
    }
    shown = without_token(batch)  # a server that cannot join messages sends the new one like this
    assert "secret" not in str(shown)
    assert shown["data"][1:] == batch["data"][1:]
    event = {"type": "app:x", "data": {"token": "mine"}}
    assert without_token(event) is event
