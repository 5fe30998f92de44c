"""A session's turns, what leaves for clients, and templates."""

# mypy: no-warn-unreachable
# (it takes the properties of a ledger for constants)

from __future__ import annotations

import datetime as dt
import gc
import json
import threading
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.core.ledgers import in_thread, opened, patch_of, seen

from greenroom.core.errors import StaleTurn
from greenroom.core.state import State, Template, shared

# ---------------------------------------------------------------- turns


def test_assigning_outside_the_turn() -> None:
    ledger = Template({"a": 1, "n": {"b": 1}, "l": [1]}).open()
    state = ledger.root
    node = state["n"]

    def refused(match: str = "outside its turn") -> None:
        attempts: list[Callable[[], Any]] = [
            lambda: state.__setitem__("a", 2),
            lambda: state.__setitem__("d", {}),
            lambda: state.__delitem__("a"),
            lambda: node.__setitem__("b", 2),
            lambda: state.append("l", 2),
            lambda: state.update(a=2),
            lambda: state.replace({}),
            lambda: setattr(state, "a", 2),
        ]
        for attempt in attempts:
            with pytest.raises(StaleTurn, match=match):
                attempt()
        assert state == {"a": 1, "n": {"b": 1}, "l": [1]}

    refused()
    ledger.open()
    with pytest.raises(RuntimeError, match="open already"):
        ledger.open()
    in_thread(lambda: refused("from another thread"))
    state["a"] = 1
    node["b"] = 1
    in_thread(lambda: refused("from another thread"))
    ledger.commit(True)
    refused()
    ledger.open()
    ledger.rollback(True)
    refused()
    with pytest.raises(RuntimeError, match="no turn"):
        ledger.adopt()


def test_a_turn_that_goes_on_in_another_thread() -> None:
    ledger, state = opened({"a": 1, "n": {"b": 1}})
    state["a"] = 2
    state["n"]["b"] = 2
    assert ledger.owned

    def worker() -> None:
        ledger.adopt()
        state["a"] = 3
        state["n"]["b"] = 3

    in_thread(worker)
    assert not ledger.owned
    for node, key in ((state, "a"), (state["n"], "b")):
        with pytest.raises(StaleTurn):
            node[key] = 4
    ledger.adopt()
    state["a"] = 5
    assert patch_of(ledger) == {"=": {"/a": 5, "/n/b": 3}}


def test_rollback_of_everything() -> None:
    values = {"a": 1, "b": {"c": 2}, "l": [1], "s": "x", "_p": 1}
    ledger, state = opened(values)
    state["a"] = 2
    del state["b"]
    state["b"] = {"d": 1}
    state.append("l", 5)
    state["s"] += "y"
    state["new"] = 1
    del state["_p"]
    ledger.rollback(True)
    assert state == values
    assert patch_of(ledger) is None


def test_what_was_shipped_is_corrected() -> None:
    values = {"a": 1, "n": {"c": 2}, "s": "x", "gone": 1}
    ledger, state = opened(values)
    state["a"] = 2
    state["s"] += "y"
    state["n"]["c"] = 3
    state["new"] = 1
    del state["gone"]
    patch = ledger.ship()
    assert patch is not None
    ledger.shipped()
    state["a"] = 3
    state["n"] = {"z": 1}
    state["later"] = 1
    ledger.rollback(True)
    assert state == values
    assert patch_of(ledger) == {
        "=": {"/a": 1, "/s": "x", "/n/c": 2, "/gone": 1},
        "-": ["/new"],
    }


def test_undo_in_the_middle_and_mark() -> None:
    ledger, state = opened({"a": 1})
    state["a"] = 2
    ledger.mark()
    state["a"] = 3
    state["b"] = 1
    ledger.undo()
    assert state == {"a": 2}
    state["c"] = 1
    assert patch_of(ledger) == {"=": {"/a": 2, "/c": 1}}


def test_without_clients_nothing_is_kept() -> None:
    ledger, state = opened({"a": 1, "n": {"b": 1}})
    state["a"] = 2
    state["n"]["b"] = 2
    ledger.commit(False)
    assert not ledger.dirty
    assert ledger.ship() is None
    ledger.open()
    state["a"] = 3
    ledger.commit(True)
    assert ledger.dirty
    ledger.forget()
    assert not ledger.dirty
    ledger.open()
    state["a"] = 4
    ledger.ship()
    state["a"] = 5
    state["b"] = 1
    ledger.forget()  # in the middle of a turn that has shipped: it can still be undone
    ledger.rollback(False)
    assert state == {"a": 3, "n": {"b": 2}}
    assert not ledger.dirty


def test_positions() -> None:
    ledger, state = opened({"a": 1})
    assert ledger.snapshot() == (b'{"a":1}', 0)
    state["a"] = 2
    first = ledger.ship()
    assert first is not None
    assert (first.position, ledger.position, ledger.shipping) == (1, 1, True)
    assert ledger.ship(foreign=True) is None  # the loop waits for what is on its way
    ledger.shipped()
    assert not ledger.shipping
    assert ledger.ship() is None
    assert not ledger.shipping
    assert ledger.snapshot() == (b'{"a":2}', 1)
    with pytest.raises(RuntimeError, match="session"):
        state.take_patch()
    ledger.commit(True)


def test_beside_a_running_turn_only_plain_values_leave() -> None:
    ledger, state = opened({"a": 1, "s": "x", "l": [1], "d": 5, "big": [2], "keep": [3]})
    ledger.snapshot()
    state["a"] = [1, ({"b": 2},), 2**70]
    state["s"] += "y"
    state["d"] = dt.date(2020, 1, 2)
    state["n"] = {"x": 1, "when": dt.date(2020, 1, 3)}
    state.append("l", dt.date(2020, 1, 4))
    state["_p"] = object()

    def loop() -> tuple[Any, Any]:
        patch = ledger.ship(foreign=True)
        assert patch is not None
        return json.loads(patch.encode()), ledger.snapshot(foreign=True)

    patch, snapshot = in_thread(loop)
    assert patch == {"=": {"/a": [1, [{"b": 2}], "1180591620717411303424"]}, "+": {"/s": "y"}}
    assert snapshot[1] == 1
    assert seen(snapshot) == {
        "a": [1, [{"b": 2}], "1180591620717411303424"],
        "s": "xy",
        "big": [2],
        "keep": [3],
    }
    assert in_thread(lambda: ledger.ship(foreign=True)) is None
    state["a"] = 2
    # The list is sent whole: the new link has none of it.
    assert patch_of(ledger) == {
        "=": {
            "/a": 2,
            "/d": "2020-01-02",
            "/n": {"x": 1, "when": "2020-01-03"},
            "/l": [1, "2020-01-04"],
        }
    }


def test_what_waits_can_be_rolled_back() -> None:
    ledger, state = opened({"d": 5, "l": [1], "s": "a"})
    state["d"] = dt.date(2020, 1, 2)
    state.append("l", (dt.date(2020, 1, 4),))
    state["s"] = "ab"
    assert ledger.ship(foreign=True) is not None
    state.append("l", 3)
    ledger.rollback(True)
    assert state == {"d": 5, "l": [1], "s": "a"}
    assert patch_of(ledger) == {"=": {"/d": 5, "/l": [1], "/s": "a"}}


def test_a_snapshot_beside_the_turn_leaves_out_what_is_not_plain_and_sends_it_later() -> None:
    ledger, _state = opened({"when": dt.date(2020, 1, 2), "n": {"w": (1,), "s": {1, 2}}, "a": 1})
    snapshot = seen(in_thread(lambda: ledger.snapshot(foreign=True)))
    assert snapshot == {"a": 1, "n": {"w": [1]}}
    assert patch_of(ledger) == {"=": {"/when": "2020-01-02", "/n/s": [1, 2]}}
    assert patch_of(ledger) is None


# ---------------------------------------------------------------- due


def test_an_assignment_that_finds_a_push_due() -> None:
    ledger, state = opened({"a": 1})
    calls: list[Any] = []
    ledger.on_due = lambda: calls.append(ledger.ship())
    state["a"] = 2
    assert calls == []
    in_thread(lambda: setattr(ledger, "due", True))
    assert ledger.due
    state["a"] = 3
    assert not ledger.due
    assert [patch.set for patch in calls] == [{"/a": 3}]
    ledger.shipped()
    state["a"] = 4
    assert len(calls) == 1
    ledger.due = True
    ledger.due = False
    del state["a"]
    assert len(calls) == 1
    assert ledger.on_due is not None


# ---------------------------------------------------------------- templates


def test_sessions_share_until_they_assign() -> None:
    values: dict[str, Any] = {
        "a": 1,
        "n": {"x": {"y": 1}},
        "l": [1, [2]],
        "o": SimpleNamespace(v=[1]),
    }
    template = Template(values)
    values["l"].append("not ours")
    one, two = template.open(), template.open()
    one.open()
    two.open()
    one.root["n"]["x"]["y"] = 2
    one.root["l"].append(3)
    one.root["l"][1].append(4)
    one.root["o"].v.append(5)
    assert two.root["n"]["x"]["y"] == 1
    assert two.root["l"] == [1, [2]]
    assert two.root["o"].v == [1]
    assert one.root["l"] is one.root["l"]
    assert dict(two.root.items())["l"] is two.root["l"]
    assert list(template.open().root.values())[2] == [1, [2]]
    assert template.open().root.to_raw_state()["l"] == [1, [2]]
    one.root.append("l", 9)
    assert two.root["l"] == [1, [2]]
    one.rollback(False)
    assert one.root["n"]["x"]["y"] == 1


def test_unread_cells_are_encoded_undone_and_copied() -> None:
    template = Template({"l": [1], "n": {"m": [2]}, "s": {3}})
    ledger = template.open()
    assert ledger.snapshot() == (b'{"l":[1],"n":{"m":[2]},"s":[3]}', 0)
    ledger.open()
    ledger.root["l"] = 5
    ledger.root["copy"] = ledger.root["n"]
    del ledger.root["n"]
    ledger.root["copy"]["m"].append(7)
    ledger.rollback(True)
    assert ledger.root == {"l": [1], "n": {"m": [2]}, "s": {3}}
    assert template.open().root == {"l": [1], "n": {"m": [2]}, "s": {3}}
    assert "Cell" not in repr(template.open().root)
    assert "Cell" not in repr(template.open().view)


def test_what_cannot_be_copied_names_the_key_and_the_cures() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"'db\.lock'.*gr\.shared.*underscore"):
        Template({"db": {"lock": lock}})
    template = Template(
        {
            "db": {"lock": shared(lock)},
            "_lock": lock,
            "_n": {"lock": lock},
            "_l": [1],
            "_ll": [lock],
        }
    )
    one, two = template.open().root, template.open().root
    assert one["db"]["lock"] is lock
    assert one["_lock"] is lock
    assert one["_n"]["lock"] is lock
    assert one["_l"] is not two["_l"]
    assert one["_ll"] is two["_ll"]
    table = {"rows": [1]}
    template = Template({"table": shared(table), "frozen": (1, frozenset({2})), "open": ([],)})
    one, two = template.open().root, template.open().root
    assert one["table"] is table is two["table"]
    assert one["frozen"] is two["frozen"]
    assert one["open"] is not two["open"]
    assert seen(template.open().snapshot())["table"] == {"rows": [1]}
    assert repr(shared(5)) == "shared(5)"
    _, state = opened()
    state["x"] = shared(table)
    assert state["x"] is table
    with pytest.raises(TypeError, match=r"dict or a gr\.State"):
        Template([1])  # type: ignore[arg-type]


def test_a_template_from_a_state() -> None:
    state = State({"a": {"b": [1]}})
    template = Template(state)
    state["a"]["b"].append(2)
    state["a"]["c"] = 1
    assert template.open().root == {"a": {"b": [1]}}


def test_an_open_session_is_small_and_free_of_circles() -> None:
    template = Template({f"key{i}": i for i in range(100)} | {"n": {"x": 1}})
    template.open()
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        many = [template.open() for _ in range(100)]
        assert (tracemalloc.get_traced_memory()[0] - before) / 100 <= 1024
        for ledger in many:
            ledger.open()
            ledger.root["n"]["x"] = 2
            ledger.root["key5"] = {"y": 1}
            ledger.commit(True)
            ledger.ship()
            assert ledger.view["n"]["x"] == 2
        held = many[0].root["n"]
        del many, ledger
        assert (tracemalloc.get_traced_memory()[0] - before) <= 30_000
        assert held["x"] == 2
    finally:
        tracemalloc.stop()
        gc.enable()


def test_who_comes_in_the_middle_gets_all_that_an_undo_gives_back() -> None:
    """What a snapshot beside the turn left out is sent afterwards, whatever became of the turn."""
    for end in ("commit", "undo", "rollback"):
        ledger = Template({"n": {"day": None, "list": [1]}, "k": 1, "late": 1}).open()
        ledger.open()
        ledger.root["n"]["day"] = dt.date(2020, 1, 2)  # needs an encoder, which waits for the turn
        ledger.commit(False)
        ledger.open()
        ledger.root["k"] = 2
        assert ledger.ship(foreign=True) is not None
        ledger.shipped()
        ledger.root["late"] = 2
        ledger.root["n"].append("list", 2)
        assert seen(ledger.snapshot(foreign=True)) == {"n": {}, "k": 2}
        if end == "undo":
            ledger.undo()
        if end == "rollback":
            ledger.rollback(True)
        patch = patch_of(ledger)
        assert patch is not None
        after = {"/k": 1, "/late": 1, "/n/list": [1]}
        if end == "commit":
            after = {"/late": 2, "/n/list": [1, 2]}
        assert patch == {"=": {**after, "/n/day": "2020-01-02"}}
        assert patch_of(ledger) is None
