"""The state: what handlers read and assign, turn by turn."""

from __future__ import annotations

import collections.abc
import copy
import datetime as dt
import gc
import json
import pickle
import sys
import threading
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from greenroom.core import _state
from greenroom.core.errors import Detached, StaleTurn
from greenroom.core.state import Ledger, Patch, State, StateView, Template, shared


def opened(values: dict[str, Any] | State | None = None) -> tuple[Ledger, State]:
    """A session in a turn."""
    ledger = Template(values if values is not None else {}).open()
    ledger.open()
    return ledger, ledger.root


def patch_of(ledger: Ledger) -> dict[str, Any] | None:
    """Commit, ship and decode."""
    if ledger.in_turn:
        ledger.commit(True)
    patch = ledger.ship()
    ledger.shipped()
    return None if patch is None else json.loads(patch.encode())


def changes(state: State) -> dict[str, Any]:
    """The decoded patch of a state on its own."""
    found: dict[str, Any] = json.loads(state.take_patch().encode())
    return found


def in_thread(call: Callable[[], Any]) -> Any:
    """The result of a call in another thread, or its exception raised here."""
    box: list[Any] = []

    def run() -> None:
        try:
            box.append((call(), None))
        except BaseException as error:
            box.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    result, error = box[0]
    if error is not None:
        raise error
    return result


# ---------------------------------------------------------------- the build


def test_compiled_classes_have_their_fields() -> None:
    assert State.__basicsize__ >= 80
    assert Patch.__basicsize__ >= 64
    assert _state.Journal.__basicsize__ >= 100


# ---------------------------------------------------------------- reading


def test_reads_like_a_mapping() -> None:
    state = State({"a": 1, "n": {"b": 2}, "_p": 3})
    assert isinstance(state, collections.abc.MutableMapping)
    assert (state["a"], state["missing"], state["_p"]) == (1, None, 3)
    assert state[5] is None  # type: ignore[index]
    assert "a" in state
    assert 5 not in state
    assert len(state) == 3
    assert list(state) == ["a", "n", "_p"] == list(state.keys())
    assert list(reversed(state)) == ["_p", "n", "a"]
    assert isinstance(state["n"], State)
    assert state["n"] is state["n"]
    assert state["n"] == {"b": 2}
    assert state == {"a": 1, "n": {"b": 2}, "_p": 3}
    assert state != {"a": 1}
    assert state == State({"a": 1, "n": {"b": 2}, "_p": 3})
    assert (state == 5) is False
    assert state.get("a") == 1
    assert state.get("missing", 7) == 7
    assert dict(state.items())["n"] is state["n"]
    assert 3 in state.values()
    assert repr(State({"a": {"b": 1}})) == "State({'a': {'b': 1}})"
    assert bool(state) and not State()
    with pytest.raises(TypeError):
        hash(state)


def test_attributes_reach_existing_keys_that_are_no_methods() -> None:
    state = State({"a": 1, "items": 5, "n": {"b": 2}})
    state.a += 1
    assert state.a == 2
    assert state.n.b == 2
    assert changes(state) == {"=": {"/a": 2}}
    assert callable(state.items)
    assert state["items"] == 5
    with pytest.raises(AttributeError, match="no key 'missing'"):
        _ = state.missing
    with pytest.raises(AttributeError, match="no key"):
        state.missing = 1
    with pytest.raises(AttributeError, match="method"):
        state.items = 1
    del state.a
    assert "a" not in state
    with pytest.raises(AttributeError):
        del state.a
    assert "n" in dir(state) and "update" in dir(state)


def test_iteration_is_over_a_snapshot() -> None:
    state = State({"a": 1, "b": 2})
    for key in state:
        state[key + key] = 0
    for key, _ in state.items():
        del state[key]
    assert not state


def test_str_subclasses_as_keys_are_normalised() -> None:
    class Loud(str):
        def __hash__(self) -> int:
            raise RuntimeError("hashed")

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("compared")

        def __str__(self) -> str:
            return "not me"

    state = State({"a": 1})
    key = str.__new__(Loud, "a")
    state[key] = 2
    assert state["a"] == 2 == state[key]
    assert [type(key) for key in state] == [str]
    state[str.__new__(Loud, "n")] = {"x": {}}
    del state[key]
    assert list(state) == ["n"]


@pytest.mark.parametrize("values", [{1: 2}, {"a": {"b": {None: 1}}}])
def test_keys_that_are_no_strings_name_the_path(values: dict[Any, Any]) -> None:
    with pytest.raises(TypeError, match=r"strings, not (int|NoneType).*(a\.b|the root)"):
        State(values)
    state = State()
    with pytest.raises(TypeError, match="strings"):
        state.update(values)
    with pytest.raises(TypeError, match="strings"):
        state[5] = 1  # type: ignore[index]
    with pytest.raises(TypeError, match="strings"):
        Template(values)


# ---------------------------------------------------------------- assigning and patches


def test_each_sort_of_change_has_its_operation() -> None:
    ledger, state = opened({"a": 1, "s": "ab", "l": [1], "n": {"x": 1, "y": {"z": 1}}, "d": 1})
    state["a"] = 1  # an equal value is a mutation as well
    state["s"] += "cd"
    state.append("l", 2)
    state.extend("l", (3, 4))
    state["n"]["y"]["z"] += 1
    state["new"] = {"k": []}
    del state["d"]
    del state["missing"]
    assert patch_of(ledger) == {
        "=": {"/a": 1, "/n/y/z": 2, "/new": {"k": []}},
        "-": ["/d"],
        "+": {"/s": "cd", "/l": [2, 3, 4]},
    }
    assert patch_of(ledger) is None


def test_del_then_set_and_set_then_del() -> None:
    ledger, state = opened({"a": 1})
    del state["a"]
    state["a"] = 2
    state["b"] = 1
    del state["b"]
    assert patch_of(ledger) == {"=": {"/a": 2}}


def test_strings_ship_their_tail_only_when_clients_have_the_head() -> None:
    ledger, state = opened({"s": "abc", "e": "", "t": "x"})
    state["s"] = "abc"  # equal: the whole
    state["e"] += "tail"
    state["t"] = 5
    state["t"] = "xy"  # the head is what clients have, whatever was in between
    assert patch_of(ledger) == {"=": {"/s": "abc", "/e": "tail"}, "+": {"/t": "y"}}
    ledger.open()
    state["s"] = "ab"
    state["t"] = "xyé"
    assert patch_of(ledger) == {"=": {"/s": "ab"}, "+": {"/t": "é"}}
    ledger.open()
    state["t"] += "\U0001f600"
    state["s"] = "abc\ud800"
    assert patch_of(ledger) == {"-": ["/s"], "+": {"/t": "\U0001f600"}}
    ledger.open()
    state["s"] += "d"  # still no text
    assert patch_of(ledger) is None
    ledger.open()
    state["s"] = "fine"
    assert patch_of(ledger) == {"=": {"/s": "fine"}}
    assert [path for path, _ in ledger.take_unencodable()] == ["s", "s"]


def test_lists() -> None:
    ledger, state = opened({"l": [1], "n": 5})
    mine = state["l"]
    mine.append(2)  # nobody knows
    assert patch_of(ledger) is None
    ledger.open()
    state["l"] = state["l"]
    assert patch_of(ledger) == {"=": {"/l": [1, 2]}}
    ledger.open()
    state.append("l", 3)
    state["l"] = state["l"]  # somebody changed it: all of it
    assert patch_of(ledger) == {"=": {"/l": [1, 2, 3]}}
    ledger.open()
    state["l"] = state["l"]
    state.append("l", 4)
    assert patch_of(ledger) == {"=": {"/l": [1, 2, 3, 4]}}
    ledger.open()
    state.append("l", 5)
    ledger.commit(True)
    ledger.open()
    state["l"] = state["l"]
    assert patch_of(ledger) == {"=": {"/l": [1, 2, 3, 4, 5]}}
    ledger.open()
    state.append("l", 6)
    state["l"] = [0]
    state.append("l", 1)
    assert patch_of(ledger) == {"=": {"/l": [0, 1]}}
    ledger.open()
    state.append("fresh", 1)
    state.extend("fresh", [2])
    assert patch_of(ledger) == {"=": {"/fresh": [1, 2]}}
    with pytest.raises(TypeError, match="n is no list but int"):
        state.append("n", 1)


def test_a_turns_appends_are_undone_by_truncation() -> None:
    ledger, state = opened({"l": [1, 2]})
    mine = state["l"]
    state.append("l", 3)
    ledger.ship()
    ledger.shipped()
    state.append("l", 4)
    ledger.rollback(True)
    assert state["l"] is mine
    assert mine == [1, 2]
    assert patch_of(ledger) == {"=": {"/l": [1, 2]}}
    ledger.open()
    state["l"].append(9)  # not undone: nobody knows
    state["l"] = state["l"]
    state.append("l", 3)
    ledger.rollback(True)
    assert state["l"] == [1, 2, 9]


def test_self_assignment_of_a_nested_state_sends_all_of_it() -> None:
    ledger, state = opened({"n": {"a": 1, "m": {"b": [1]}, "_p": 1}})
    state["n"]["m"]["b"].append(2)
    state["n"]["a"] = 5
    node = state["n"]
    state["n"] = state["n"]
    assert state["n"] is node
    node["a"] = 6
    assert patch_of(ledger) == {"=": {"/n": {"a": 6, "m": {"b": [1, 2]}}}}


def test_no_path_is_a_prefix_of_another() -> None:
    ledger, state = opened({"a": {"b": {"c": 1}}, "x": {"y": 1}})
    inner = state["a"]["b"]
    inner["c"] = 2
    state["a"]["b"]["d"] = 3
    state["a"]["b"] = {"c": 9}
    state["a"]["b"]["e"] = 4
    state["x"]["y"] = 2
    del state["x"]
    assert patch_of(ledger) == {"=": {"/a/b": {"c": 9, "e": 4}}, "-": ["/x"]}


def test_empty_dicts_and_empty_keys() -> None:
    ledger, state = opened({"n": {"a": 1}})
    state["n"] = {}
    state[""] = {"": 1}
    assert patch_of(ledger) == {"=": {"/n": {}, "/": {"": 1}}}
    ledger.open()
    state[""][""] = 2
    state["a/b"] = {"m~n": 1}
    ledger.commit(True)
    assert patch_of(ledger) == {"=": {"//": 2, "/a~1b": {"m~n": 1}}}
    ledger.open()
    state["a/b"]["m~n"] = 2
    assert patch_of(ledger) == {"=": {"/a~1b/m~0n": 2}}


def test_private_keys_never_appear() -> None:
    ledger, state = opened(
        {"_p": 1, "n": {"_q": 1}, "l": [{"_r": 1, "s": 2}], "_d": {"x": {"y": 1}}}
    )
    state["_p"] = 2
    state["_d"]["x"]["y"] = 2
    state["n"]["_q"] = 2
    state["_new"] = {"a": 1}
    state["l"] = [({"_t": 1, "u": ({"_v": 1},)},), {"_r": 3}]
    state["m"] = {"_w": 1, "z": {"_x": 1}}
    del state["_p"]
    assert patch_of(ledger) == {"=": {"/l": [[{"u": [{}]}], {}], "/m": {"z": {}}}}
    encoded, _ = ledger.snapshot()
    assert json.loads(encoded) == {"n": {}, "l": [[{"u": [{}]}], {}], "m": {"z": {}}}
    assert state.to_dict() == json.loads(encoded)
    assert state.to_raw_state()["_d"] == {"x": {"y": 2}}
    ledger.open()
    state["_d"]["x"]["y"] = 3
    ledger.rollback(True)
    assert state["_d"]["x"]["y"] == 2


def test_values_that_cannot_be_encoded() -> None:
    ledger, state = opened({"a": 1, "n": {"b": 1}})
    ledger.snapshot()
    state["a"] = object()
    state["n"]["b"] = [object()]
    state["m"] = {"x": 1, "y": {"z": object()}}
    state["fine"] = 1
    assert patch_of(ledger) == {
        "=": {"/m": {"x": 1, "y": {}}, "/fine": 1},
        "-": ["/a", "/n/b"],
    }
    assert sorted(ledger.take_unencodable()) == [
        ("a", "object"),
        ("m.y.z", "object"),
        ("n.b", "object"),
    ]
    assert ledger.take_unencodable() == []
    ledger.open()
    del state["a"]  # clients do not have it
    state["n"]["b"] = 2
    state["m"]["y"]["z"] = object()
    assert patch_of(ledger) == {"=": {"/n/b": 2}}
    encoded, _ = ledger.snapshot()
    assert json.loads(encoded) == {"n": {"b": 2}, "m": {"x": 1, "y": {}}, "fine": 1}
    ledger.open()
    state["m"]["y"]["z"] = 3
    patch = None
    ledger.commit(True)
    patch = ledger.ship()
    assert patch is not None
    assert patch.created() == {"/m/y/z"}
    assert state.to_dict()["m"] == {"x": 1, "y": {"z": 3}}


def test_an_encoder_that_raises_harms_its_key_only() -> None:
    class Bad:
        def to_dict(self) -> Any:
            raise ZeroDivisionError

    ledger, state = opened({"a": 1})
    state["a"] = Bad()
    state["b"] = 1
    state["c"] = dt.date(2020, 1, 2)
    assert patch_of(ledger) == {"=": {"/b": 1, "/c": "2020-01-02"}, "-": ["/a"]}
    assert ledger.take_unencodable() == [("a", "Bad")]


def test_an_encoder_may_read_but_not_assign_the_state() -> None:
    ledger, state = opened({"n": 1})
    seen: list[Any] = []

    class Nosy:
        def to_dict(self) -> Any:
            seen.append(state["n"])
            state["n"] = 2
            return {}

    state["a"] = Nosy()
    state["n"] = 1
    ledger.ship()
    ledger.shipped()
    assert seen == [1]
    assert state["n"] == 1
    assert ledger.take_unencodable() == [("a", "Nosy")]
    state["n"] = 3
    ledger.commit(True)


def deep(levels: int, leaf: Any = 0) -> Any:
    value = leaf
    for _ in range(levels):
        value = {"k": value}
    return value


def test_nesting_is_limited_and_circles_end() -> None:
    state = State(deep(100))
    assert len(state.take_patch()) == 0
    with pytest.raises(ValueError, match=r"nested deeper than 100.*k\.k"):
        State(deep(101))
    state = State()
    state["a"] = deep(99)
    with pytest.raises(ValueError, match=r"a\.k"):
        state["a"] = deep(100)
    assert state["a"] == deep(99)
    circle: dict[str, Any] = {}
    circle["me"] = circle
    with pytest.raises(ValueError, match=r"c\.me\.me"):
        state["c"] = circle
    ring: list[Any] = []
    ring.append(ring)
    ring.append(ring)
    for value in (ring, [[{"x": ring}]], (ring,)):
        with pytest.raises(ValueError, match="r"):
            state["r"] = value
    state["l"] = []
    with pytest.raises(ValueError, match="l"):
        state.append("l", ring)
    with pytest.raises(ValueError, match="l"):
        state.extend("l", [1, ring])
    assert state["l"] == []
    with pytest.raises(ValueError, match="nested"):
        Template({"a": ring})
    at = state["a"]
    while at["k"]:
        at = at["k"]
    with pytest.raises(ValueError, match="nested"):
        at["k"] = [[]]
    state["l"].append(ring)  # in place: noticed when it is shipped
    state["l"] = [0]
    state["l"].append(ring)
    state.append("l", 2)
    assert changes(state)["="]["/a"] == deep(99)


def test_replace_update_and_friends() -> None:
    state = State({"a": 1, "b": 2, "n": {"x": 1}})
    state.replace({"b": 3, "n": {"y": 1}, "c": 4})
    assert changes(state) == {"=": {"/b": 3, "/n": {"y": 1}, "/c": 4}, "-": ["/a"]}
    with pytest.raises(TypeError):
        state.replace({"z": {1: 2}})
    assert state == {"b": 3, "n": {"y": 1}, "c": 4}
    state.update({"b": 5}, d=6)
    assert state.pop("c") == 4
    assert state.pop("c") is None
    assert state.pop("c", 9) == 9
    assert state.setdefault("b", 1) == 5
    assert state.setdefault("e", {"k": 1}) == {"k": 1}
    assert isinstance(state["e"], State)
    assert state.popitem() == ("e", {"k": 1})
    assert changes(state) == {"=": {"/b": 5, "/d": 6}, "-": ["/c"]}
    state.clear()
    assert changes(state) == {"-": ["/b", "/n", "/d"]}
    with pytest.raises(KeyError):
        state.popitem()
    state.replace(State({"q": {"r": 1}}))
    assert state == {"q": {"r": 1}}


# ---------------------------------------------------------------- nodes and their places


def test_a_state_that_has_a_place_is_copied() -> None:
    ledger, state = opened({"a": {"x": {"y": 1}}})
    state["b"] = state["a"]
    assert state["b"] is not state["a"]
    state["b"]["x"]["y"] = 2
    assert state["a"]["x"]["y"] == 1
    theirs = {"k": {"z": 1}}
    state["c"] = theirs
    theirs["k"]["z"] = 5
    state["c"]["k"]["w"] = 1
    assert theirs == {"k": {"z": 5}}
    assert patch_of(ledger) == {"=": {"/b": {"x": {"y": 2}}, "/c": {"k": {"z": 1, "w": 1}}}}
    ledger.open()
    state["v"] = ledger.view["a"]
    state["a"] = ledger.view["a"]  # the very same: marks it
    state["d"] = State({"on its own": 1})
    assert patch_of(ledger) == {
        "=": {"/v": {"x": {"y": 1}}, "/a": {"x": {"y": 1}}, "/d": {"on its own": 1}}
    }


def test_removed_nodes_are_detached() -> None:
    ledger, state = opened({"a": {"b": {"c": 1}}, "k": {"x": 1}})
    a, b = state["a"], state["a"]["b"]
    b["c"] = 2
    del state["a"]
    assert b["c"] == 2
    for node in (a, b):
        with pytest.raises(Detached, match="removed or replaced"):
            node["c"] = 3
        with pytest.raises(Detached):
            del node["c"]
        with pytest.raises(Detached):
            node.append("l", 1)
    k = state["k"]
    state["k"] = {"x": 2}
    with pytest.raises(Detached):
        k["x"] = 3
    state["k"] = 5
    ledger.rollback(True)
    ledger.open()
    b["c"] = 7  # rollback brought it back
    k["x"] = 8
    assert state == {"a": {"b": {"c": 7}}, "k": {"x": 8}}
    assert patch_of(ledger) == {"=": {"/a/b/c": 7, "/k/x": 8}}


def test_a_node_that_came_and_went_in_one_turn() -> None:
    ledger, state = opened()
    state["n"] = {"x": {"y": 1}}
    n, x = state["n"], state["n"]["x"]
    ledger.rollback(True)
    ledger.open()
    for node in (n, x):
        with pytest.raises(Detached):
            node["y"] = 2
    assert patch_of(ledger) is None


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

    patch, (encoded, position) = in_thread(loop)
    assert patch == {"=": {"/a": [1, [{"b": 2}], "1180591620717411303424"]}, "+": {"/s": "y"}}
    assert position == 1
    assert json.loads(encoded) == {
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
    ledger, state = opened({"when": dt.date(2020, 1, 2), "n": {"w": (1,), "s": {1, 2}}, "a": 1})
    encoded, _ = in_thread(lambda: ledger.snapshot(foreign=True))
    assert json.loads(encoded) == {"a": 1, "n": {"w": [1]}}
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
    values = {"a": 1, "n": {"x": {"y": 1}}, "l": [1, [2]], "o": SimpleNamespace(v=[1])}
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
    assert template.open().snapshot()[0].startswith(b'{"table":{"rows":[1]}')
    assert repr(shared(5)) == "shared(5)"
    ledger, state = opened()
    state["x"] = shared(table)
    assert state["x"] is table
    with pytest.raises(TypeError, match="dict or a gr.State"):
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


# ---------------------------------------------------------------- views


def test_the_view_reads_and_refuses() -> None:
    ledger = Template({"a": 1, "n": {"b": 1}, "l": [1]}).open()
    view = ledger.view
    assert ledger.view is view
    assert isinstance(view, StateView)
    assert isinstance(view, collections.abc.Mapping)
    assert view == {"a": 1, "n": {"b": 1}, "l": [1]}
    assert (view["a"], view.a, view["missing"], view.get("z", 3)) == (1, 1, None, 3)
    assert isinstance(view["n"], StateView)
    assert isinstance(view.n, StateView)
    assert isinstance(dict(view.items())["n"], StateView)
    assert [type(value) for value in view.values()] == [int, StateView, list]
    assert list(view) == list(view.keys()) == ["a", "n", "l"]
    assert list(reversed(view)) == ["l", "n", "a"]
    assert len(view) == 3 and "a" in view and "n" in dir(view)
    assert view["l"] is ledger.root["l"]
    assert view.to_dict() == view.to_raw_state() == {"a": 1, "n": {"b": 1}, "l": [1]}
    assert repr(view) == "StateView({'a': 1, 'n': {'b': 1}, 'l': [1]})"
    with pytest.raises(AttributeError):
        _ = view.missing
    ledger.open()
    ledger.root["n"]["b"] = 2
    assert view["n"]["b"] == 2
    attempts: list[Callable[[], Any]] = [
        lambda: view.__setitem__("a", 2),  # type: ignore[attr-defined]
        lambda: view["n"].__setitem__("b", 2),
        lambda: view.__delitem__("a"),  # type: ignore[attr-defined]
        lambda: setattr(view, "a", 2),
        lambda: delattr(view, "a"),
        lambda: view.append("l", 1),
        lambda: view.extend("l", [1]),
    ]
    for attempt in attempts:
        with pytest.raises(StaleTurn, match="session.turn"):
            attempt()
    with pytest.raises(TypeError):
        StateView()
    with pytest.raises(TypeError):
        Ledger()


# ---------------------------------------------------------------- subscriptions


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
    for bad in ("", "a.", ".a", "a..b", (), []):
        with pytest.raises(ValueError, match="key|path"):
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
    state.subscribe_mutation("a", seen.append.__self__.__len__)
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
    state.subscribe_mutation("a", lambda payload, state: later(payload, state))
    state["a"] = 2
    assert seen == []
    calls = ledger.take_async()
    assert len(calls) == 2
    assert ledger.take_async() == []
    for call in calls:
        with pytest.raises(StopIteration):
            call().send(None)
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
    state.subscribe_mutation("n.b", lambda state: told.append(state))
    del state
    gc.collect()
    node["b"] = 2
    assert told == [None]


# ---------------------------------------------------------------- hostile values


def test_destructors_that_run_in_the_middle() -> None:
    ledger, state = opened({"a": 1, "n": {"b": 1}, "l": [1]})

    class Meddler:
        def __init__(self, key: str) -> None:
            self.key = key

        def __del__(self) -> None:
            try:
                state[self.key] = {"made by": self.key}
                del state["n"]
                state["n"] = {"b": 2}
                state.append("l", 0)
                state["self"] = state["self"]
            except (StaleTurn, Detached, TypeError):
                pass

    for key in ("a", "n", "x", "l"):
        state[key] = Meddler(key)
        state[key] = Meddler(key)
        state[key] = 1
        state[key] = {"deep": Meddler(key)}
        del state[key]
        state[key] = [Meddler(key)]
        state.append(key, Meddler(key)) if isinstance(state[key], list) else None
        state[key] = [0]
        state.append("l", Meddler("l")) if isinstance(state["l"], list) else None
        ledger.ship()
        ledger.shipped()
    ledger.rollback(True)
    assert state["a"] == 1 or isinstance(state["a"], State)
    ledger.open() if not ledger.in_turn else None
    state.replace({"k": 1})
    ledger.commit(True)
    gc.collect()
    ledger.ship()
    ledger.shipped()
    assert json.loads(ledger.snapshot()[0]) == state.to_dict()


def test_collections_in_the_middle() -> None:
    """With the collector at every allocation, finalizers run wherever they can."""

    class Circle:
        def __init__(self, state: State) -> None:
            self.me = self
            self.state = state

        def __del__(self) -> None:
            try:
                self.state["from finalizer"] = {"n": 1}
                self.state["n"]["x"] = 5
            except (StaleTurn, Detached, TypeError):
                pass

    ledger, state = opened({"n": {"x": 1}, "l": [1]})
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for i in range(50):
            Circle(state)
            state["a"] = {"b": {"c": i}}
            state["n"]["x"] = i
            state.append("l", i)
            if i % 7 == 0:
                ledger.ship()
                ledger.shipped()
            if i % 11 == 0:
                ledger.rollback(True)
                ledger.open()
            if i % 13 == 0:
                ledger.snapshot()
    finally:
        gc.set_threshold(*before)
    ledger.commit(True)
    ledger.ship()
    assert json.loads(ledger.snapshot()[0]) == state.to_dict()


def test_states_are_not_pickled_or_copied_by_accident() -> None:
    state = State({"a": 1})
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(state)


def test_a_chain_of_old_values_does_not_pile_up() -> None:
    ledger, state = opened({"a": 0})
    marker = object()
    before = sys.getrefcount(marker)
    for _ in range(5):
        state["a"] = marker
        state["a"] = 1
    assert sys.getrefcount(marker) == before
    state["b"] = marker
    ledger.commit(True)
    ledger.ship()
    ledger.open()
    del state["b"]
    ledger.commit(False)
    assert sys.getrefcount(marker) == before


def test_readers_beside_a_writer() -> None:
    ledger = Template({"n": {"l": [1], "x": 0}, "m": [1]}).open()
    stop = threading.Event()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                view = ledger.view
                dict(view.items())
                view.to_raw_state()
                if view["n"] is not None:
                    _ = view["n"]["l"], view["n"]["x"]
                ledger.ship(foreign=True)
                ledger.snapshot(foreign=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    state = ledger.root
    for i in range(400):
        ledger.open()
        state["n"]["x"] = i
        state["n"]["l"] = [i]
        state.append("m", i)
        state["k"] = {"d": dt.date(2020, 1, 1), "i": i}
        if i % 3 == 0:
            ledger.rollback(True)
        else:
            del state["k"]
            ledger.commit(True)
            ledger.ship()
            ledger.shipped()
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    ledger.ship()
    ledger.shipped()
    assert json.loads(ledger.snapshot()[0]) == state.to_dict()
