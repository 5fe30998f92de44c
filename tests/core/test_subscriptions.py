"""Subscribers of the state."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from tests.core.ledgers import opened, patch_of

from greenroom.core.state import State, Template

Told = list[tuple[str, Any, Any]]


def watch(state: State, *paths: Any, **options: Any) -> tuple[Told, Any]:
    told: Told = []

    def subscriber(payload: dict[str, Any], context: dict[str, Any]) -> None:
        assert context["event"] in ("mutation", "init")
        told.append((context["mutation"], payload["previous_value"], payload["new_value"]))

    path = paths[0] if len(paths) == 1 else list(paths)
    return told, state.subscribe_mutation(path, subscriber, **options)


def test_subscribers_of_a_path() -> None:
    state = State({"a": 1, "n": {"b": 2}})
    told, handle = watch(state, "a", "n.b")
    state["a"] = 2
    state["a"] = 2
    state["other"] = 1
    state["n"]["b"] = 3
    state["n"]["c"] = 3
    del state["a"]
    del state["a"]
    assert told == [("a", 1, 2), ("a", 2, 2), ("n.b", 2, 3), ("a", 2, None)]
    handle.cancel()
    handle.cancel()
    state["a"] = 5
    state["n"]["b"] = 5
    assert len(told) == 4


def test_a_parent_that_is_replaced_or_deleted() -> None:
    state = State({"n": {"b": 1, "m": {"c": 2}}})
    told, _ = watch(state, "n.b", "n.m.c", "n.x")
    state["n"] = {"b": 5, "x": 6}
    assert told == [("n.b", 1, 5), ("n.m.c", 2, None), ("n.x", None, 6)]
    told.clear()
    del state["n"]
    assert told == [("n.b", 5, None), ("n.x", 6, None)]
    told.clear()
    state["n"] = 5
    assert told == []
    state["n"] = {"m": {}}
    state["n"]["m"] = {"c": 1}
    assert told == [("n.m.c", None, 1)]
    told.clear()
    state["n"] = state["n"]
    state.replace({"n": {}})
    assert told == [("n.m.c", 1, 1), ("n.m.c", 1, None)]


def test_the_parent_itself_is_not_told_of_its_children() -> None:
    state = State({"n": {"b": 1}})
    told, _ = watch(state, "n")
    state["n"]["b"] = 2
    assert told == []
    old = state["n"]
    state["n"] = {"b": 3}
    assert told == [("n", {"b": 2}, {"b": 3})]
    assert told[0][1] is old
    assert told[0][2] is state["n"]


def test_paths() -> None:
    state = State({"a.b": {"c": 1}, "": 1, "\\": 2})
    told, _ = watch(state, r"a\.b.c", ("a.b", "d"), ("",), "\\")
    state["a.b"]["c"] = 2
    state["a.b"]["d"] = 3
    state[""] = 4
    state["\\"] = 5
    assert told == [
        (r"a\.b.c", 1, 2),
        (r"a\.b.d", None, 3),
        ("", 1, 4),
        ("\\", 2, 5),
    ]
    bads: list[Any] = ["", "a.", ".a", "a..b", (), []]
    for bad in bads:
        with pytest.raises(ValueError, match=r"key|path"):
            state.subscribe_mutation(bad, print)
    for wrong in (5, ("a", 5)):
        with pytest.raises(TypeError, match="path"):
            state.subscribe_mutation(wrong, print)  # type: ignore[arg-type]
    nested: Told
    nested, _ = watch(state["a.b"], "e")
    state["a.b"]["e"] = 1
    assert nested == [("e", None, 1)]


def test_initial_and_list_growth() -> None:
    state = State({"l": [1], "n": {"x": 5}})
    told, _ = watch(state, "l", "n.x", "n.y.z", initial=True)
    assert told == [("l", None, [1]), ("n.x", None, 5), ("n.y.z", None, None)]
    told.clear()
    state.append("l", 2)
    state.extend("fresh", [1])
    assert told == [("l", [1], [1, 2])]


def test_injection_by_name() -> None:
    state = State({"a": 1})
    seen: list[Any] = []
    state.subscribe_mutation("a", lambda: seen.append("none"))
    state.subscribe_mutation("a", lambda state, *, payload, n=3: seen.append((state, payload, n)))
    state.subscribe_mutation("a", lambda data, context, *args, **kw: seen.append((data, context)))
    payload = {"previous_value": 1, "new_value": 2}
    state["a"] = 2
    assert seen[0] == "none"
    assert seen[1][0] is state
    assert seen[1][1:] == (payload, 3)
    assert seen[2] == (payload, {"event": "mutation", "mutation": "a"})
    with pytest.raises((TypeError, Exception), match="x"):
        state.subscribe_mutation("a", lambda x: None)


def test_cascades() -> None:
    state = State({"a": 0, "b": 0})
    state.subscribe_mutation("a", lambda payload, state: state.update(b=payload["new_value"] * 2))
    told, _ = watch(state, "b")
    state["a"] = 3
    assert told == [("b", 0, 6)]
    ledger, state = opened({"n": 0, "x": 1})

    def again(state: State) -> None:
        state["n"] += 1

    state.subscribe_mutation("n", again)
    state["x"] = 2
    with pytest.raises(RecursionError, match="circle, 128 deep, last n"):
        state["n"] = 1
    assert state["n"] == 129
    ledger.rollback(True)
    assert state == {"n": 0, "x": 1}
    ledger.open()
    with pytest.raises(RecursionError):
        state["n"] = 1
    ledger.rollback(True)


def test_a_subscriber_that_raises() -> None:
    ledger, state = opened({"a": 1, "n": {"b": 1}})

    def angry() -> None:
        raise ValueError("no")

    state.subscribe_mutation("n.b", angry)
    state["a"] = 2
    with pytest.raises(ValueError, match="no"):
        state["n"]["b"] = 2
    ledger.rollback(True)
    assert state == {"a": 1, "n": {"b": 1}}
    assert patch_of(ledger) is None


def test_async_subscribers_wait_for_the_turn() -> None:
    ledger, state = opened({"a": 1})
    seen: list[Any] = []

    async def later(payload: Any, state: Any) -> None:
        seen.append((payload["new_value"], state is ledger.root))

    state.subscribe_mutation("a", later)
    state.subscribe_mutation("a", lambda payload, state: later(payload, state))  # noqa: PLW0108
    state["a"] = 2
    assert seen == []
    calls = ledger.take_async()
    assert len(calls) == 2
    assert ledger.take_async() == []
    for call in calls:
        with pytest.raises(StopIteration):
            call().__await__().send(None)
    assert seen == [(2, True), (2, True)]


def test_subscriptions_of_the_template_exist_in_every_session() -> None:
    original = State({"a": 1, "n": {"b": [1]}})
    roots: list[Any] = []

    def subscriber(payload: Any, state: Any, context: Any) -> None:
        roots.append((state, context["mutation"], payload["previous_value"]))

    handle = original.subscribe_mutation(["a", "n.b", "n"], subscriber)
    gone, cancelled = watch(original, "a")
    cancelled.cancel()
    template = Template(original)
    one, two = template.open(), template.open()
    one.open()
    one.root["a"] = 2
    one.root["n"] = {"b": 3}
    assert [root is one.root for root, *_ in roots] == [True, True, True]
    assert [(path, previous) for _, path, previous in roots] == [
        ("a", 1),
        ("n", {"b": [1]}),
        ("n.b", [1]),
    ]
    assert roots[1][2]["b"] == [1]
    assert roots[1][2]["b"] is not template.open().root["n"]["b"]
    roots.clear()
    told, own = watch(one.root, "a")
    one.root["a"] = 3
    two.open()
    two.root["a"] = 9
    assert told == [("a", 2, 3)]
    assert [root is two.root for root, *_ in roots] == [False, True]
    own.cancel()
    handle.cancel()  # of the original: sessions opened before hear of it no more, nor do later ones
    one.root["a"] = 4
    template.open()
    assert len(told) == 1
    assert gone == []


def test_a_root_that_is_gone() -> None:
    state = State({"n": {"b": 1}})
    node = state["n"]
    told: list[Any] = []
    state.subscribe_mutation("n.b", lambda state: told.append(state))  # noqa: PLW0108
    del state
    gc.collect()
    node["b"] = 2
    assert told == [None]
