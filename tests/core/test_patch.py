"""The algebra of patches: what they do, how they merge, and how RFC 6902 tools see them."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import patch_model

from greenroom.core.encode import decode, encode
from greenroom.core.state import Patch, State
from greenroom.core.types import Bytes

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "patch.json").read_text("utf-8"))

KEYS = st.sampled_from(["a", "b", "s", "l", "a/b", "m~n", "", "é", '"', "$dict"])
LEAVES = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6).filter(lambda text: text.isprintable() or text == ""),
    st.lists(st.integers(0, 9), max_size=3),
)
DOCS = st.recursive(
    st.dictionaries(KEYS, LEAVES, max_size=4),
    lambda inner: st.dictionaries(KEYS, st.one_of(LEAVES, inner), max_size=4),
    max_leaves=10,
)


def changed(state: State, target: dict[str, Any]) -> None:
    """Bring a state to ``target`` by small assignments where that is possible."""
    for key in list(state):
        if key not in target:
            del state[key]
    for key, value in target.items():
        now = state[key]
        if isinstance(value, dict) and isinstance(now, State):
            changed(now, value)
        elif isinstance(value, list) and isinstance(now, list) and value[: len(now)] == now:
            state.extend(key, value[len(now) :])
        elif key not in state or now != value or type(now) is not type(value):
            state[key] = copy.deepcopy(value)


def wire(patch: Patch) -> dict[str, Any]:
    """The decoded parts of a patch."""
    found: dict[str, Any] = json.loads(patch.encode())
    return {
        kind: part if kind == "-" else {path: decode(value) for path, value in part.items()}
        for kind, part in found.items()
    }


@given(DOCS, DOCS, st.booleans())
def test_g9_a_patch_leads_from_one_state_to_the_other(
    before: dict[str, Any], after: dict[str, Any], small: bool
) -> None:
    state = State(copy.deepcopy(before))
    if small:
        changed(state, after)
    else:
        state.replace(copy.deepcopy(after))
    patch = state.take_patch()
    assert state == after
    assert patch_model.apply(wire(patch), before) == after
    assert jsonpatch.apply_patch(before, patch.to_json_patch()) == after
    assert not state.take_patch()


@given(DOCS, st.lists(DOCS, min_size=2, max_size=4))
@settings(max_examples=60)
def test_g9_merging_is_applying_in_turn(start: dict[str, Any], story: list[dict[str, Any]]) -> None:
    state = State(copy.deepcopy(start))
    merged: Patch | None = None
    doc = start
    for target in story:
        changed(state, target)
        patch = state.take_patch()
        both = patch if merged is None else Patch.merge(merged, patch)
        if both is None:
            assert merged is not None
            doc = patch_model.apply(wire(merged), doc)
            both = patch
        merged = both
        assert merged.position == patch.position
        assert patch_model.apply(wire(merged), doc) == target
        assert jsonpatch.apply_patch(doc, merged.to_json_patch()) == target


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any]) -> None:
    assert patch_model.apply(
        {
            kind: part if kind == "-" else {path: decode(v) for path, v in part.items()}
            for kind, part in case["patch"].items()
        },
        decode(case["before"]),
    ) == decode(case["after"])
    state = State(decode(case["before"]))
    changed(state, decode(case["after"]))
    assert json.loads(encode(state.to_dict())) == case["after"]


@pytest.mark.parametrize("case", VECTORS["merges"], ids=lambda case: case["name"])
def test_merge_vectors(case: dict[str, Any]) -> None:
    first, second = (
        Patch.from_ops(
            {path: decode(value) for path, value in part["patch"].get("=", {}).items()},
            part["patch"].get("-", []),
            part["patch"].get("+", {}),
            created=part.get("created", []),
            position=position,
        )
        for position, part in enumerate((case["first"], case["second"]))
    )
    merged = Patch.merge(first, second)
    if case["merged"] is None:
        assert merged is None
        return
    assert merged is not None
    assert json.loads(merged.encode()) == case["merged"]["patch"]
    assert merged.created() == set(case["merged"].get("created", []))
    assert merged.position == 1


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_refused_patches(case: dict[str, Any]) -> None:
    with pytest.raises(patch_model.Refused):
        patch_model.apply(case["patch"], case["before"])


@pytest.mark.parametrize("case", VECTORS["refused_values"], ids=lambda case: case["name"])
def test_refused_values(case: dict[str, Any]) -> None:
    value: Any = case.get("value")
    if "deep" in case:
        value = 0
        for _ in range(case["deep"]):
            value = [value]
    with pytest.raises(ValueError, match=r"nested|base64|buffer|bytes|dict"):
        decode(value)


def test_values_as_deep_as_allowed_pass() -> None:
    value: Any = 0
    for _ in range(100):
        value = [value]
    assert decode(value) == value
    wrapped: Any = {"$bytes": 1}
    for _ in range(99):
        wrapped = {"$dict": {"$dict": wrapped}} if isinstance(wrapped, list) else [wrapped]
    assert isinstance(decode([{"$dict": {"$bytes": [1]}}])[0]["$bytes"], list)


def test_shape() -> None:
    patch = Patch.from_ops({"/a": 1}, ["/b"], {"/c": "x", "/d": [1]}, created=["/a"], position=7)
    assert patch.encode() == b'{"=":{"/a":1},"-":["/b"],"+":{"/c":"x","/d":[1]}}'
    assert (patch.set, patch.delete, patch.append) == ({"/a": 1}, ["/b"], {"/c": "x", "/d": [1]})
    assert (len(patch), bool(patch), patch.position) == (4, True, 7)
    assert patch.nbytes == len(patch.encode())
    assert not patch.has_buffers
    assert patch.render(True, []) == patch.encode()
    empty = Patch.from_ops()
    assert (len(empty), bool(empty), empty.encode()) == (0, False, b"{}")
    assert Patch.from_ops(delete=["/b"]).encode() == b'{"-":["/b"]}'
    assert Patch.from_ops(append={"/b": "x"}).encode() == b'{"+":{"/b":"x"}}'
    with pytest.raises(TypeError, match="take_patch"):
        Patch()
    with pytest.raises(ValueError, match="Pointer"):
        Patch.from_ops({"a": 1})


def test_buffers_travel_beside_the_text() -> None:
    big = bytes(range(256))
    patch = Patch.from_ops(
        {"/a": Bytes(b"one", "text/plain", "a.txt"), "/b": [b"two", 2], "/c": 1},
        append={"/l": [b"three"]},
    )
    assert patch.has_buffers
    buffers: list[bytes] = [big]
    text = patch.render(True, buffers)
    assert buffers == [big, b"one", b"two", b"three"]
    assert json.loads(text) == {
        "=": {
            "/a": {"$bytes": 1, "mime": "text/plain", "name": "a.txt"},
            "/b": [{"$bytes": 2}, 2],
            "/c": 1,
        },
        "+": {"/l": [{"$bytes": 3}]},
    }
    plain = json.loads(patch.encode())
    assert plain["="]["/b"] == [{"$bytes": base64.b64encode(b"two").decode()}, 2]
    assert patch.nbytes == len(patch.encode())
    assert patch.set["/a"] == b"one"
    assert patch.set["/a"].mime == "text/plain"
    merged = Patch.merge(patch, Patch.from_ops({"/c": b"x"}, append={"/l": [b"four", 5]}))
    assert merged is not None
    assert merged.set == {"/a": b"one", "/b": [b"two", 2], "/c": b"x"}
    assert merged.append == {"/l": [b"three", b"four", 5]}
    assert merged.nbytes == len(merged.encode())


def test_a_string_append_needs_the_whole_string_in_a_json_patch() -> None:
    patch = Patch.from_ops(append={"/a": "tail"})
    with pytest.raises(ValueError, match="before="):
        patch.to_json_patch()
    assert patch.to_json_patch({"a": "head, "}) == [
        {"op": "replace", "path": "/a", "value": "head, tail"}
    ]


def test_merges_that_cannot_be() -> None:
    text = Patch.from_ops(append={"/a": "x"})
    items = Patch.from_ops(append={"/a": [1]})
    assert Patch.merge(text, items) is None
    assert Patch.merge(Patch.from_ops(delete=["/a"]), items) is None
    assert Patch.merge(Patch.from_ops({"/a": 1}), items) is None
