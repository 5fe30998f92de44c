"""The state: what handlers read and assign."""

from __future__ import annotations

import collections.abc
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.ledgers import changes, opened, patch_of, seen

from greenroom.core import _state
from greenroom.core.errors import Detached, StaleTurn
from greenroom.core.state import Ledger, Patch, State, StateView, Template

# ---------------------------------------------------------------- the build


def test_compiled_classes_have_their_fields() -> None:
    assert State.__basicsize__ >= 80
    assert Patch.__basicsize__ >= 64
    assert _state.Journal.__basicsize__ >= 100


# ---------------------------------------------------------------- reading


def test_reads_like_a_mapping() -> None:
    state = State({"a": 1, "n": {"b": 2}, "_p": 3})
    assert issubclass(State, collections.abc.MutableMapping)
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
    assert bool(state)
    assert not State()
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
        setattr(state, "items", 1)  # noqa: B010
    del state.a
    assert "a" not in state
    with pytest.raises(AttributeError):
        del state.a
    assert {"n", "update"} <= set(dir(state))


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


def test_a_list_that_others_got_in_a_turn_stays_theirs_when_it_is_undone() -> None:
    ledger, state = opened({"l": [1]})
    _, other = opened()
    state.append("l", 2)
    other["l"] = held = state["l"]
    ledger.rollback(True)
    assert state == {"l": [1]}
    assert other == {"l": [1, 2]}
    assert held == [1, 2]


def test_what_grew_after_it_was_assigned_to_itself_and_pushed_is_undone() -> None:
    ledger, state = opened({"l": [1]})
    state["l"] = state["l"]
    for item in (2, 3):
        ledger.ship()
        ledger.shipped()
        state.append("l", item)
    ledger.ship()
    ledger.shipped()
    ledger.rollback(True)
    assert state == {"l": [1]}
    assert patch_of(ledger) == {"=": {"/l": [1]}}


def test_a_turns_appends_are_undone() -> None:
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


def test_a_list_under_two_keys_grows_at_the_one_that_is_appended_to() -> None:
    ledger, state = opened({"x": [0], "n": {}})
    ledger.ship()
    state["n"]["y"] = state["x"]
    state["z"] = [state["x"]]
    assert patch_of(ledger) == {"=": {"/n/y": [0], "/z": [[0]]}}
    ledger.open()
    state.append("x", 1)
    assert patch_of(ledger) == {"+": {"/x": [1]}}, "the new items alone, though others hold it"
    ledger.open()
    state["n"].extend("y", [2, 3])
    assert patch_of(ledger) == {"+": {"/n/y": [2, 3]}}
    assert state == {"x": [0, 1], "n": {"y": [0, 2, 3]}, "z": [[0]]}


def test_a_list_that_is_given_away_in_the_middle_of_its_growth() -> None:
    ledger, state = opened({"x": [0]})
    ledger.ship()
    state.append("x", 1)
    state["y"] = state["x"]
    state.append("x", 2)
    state.append("y", 3)
    assert patch_of(ledger) == {"=": {"/y": [0, 1, 3]}, "+": {"/x": [1, 2]}}
    ledger.open()
    state.append("x", 4)
    state["y"] = state["x"]
    state.append("x", 5)
    ledger.rollback(True)
    assert state == {"x": [0, 1, 2], "y": [0, 1, 3]}
    assert patch_of(ledger) is None


def test_a_list_that_nobody_else_holds_is_not_copied() -> None:
    ledger, state = opened({"x": [0]})
    state.append("x", 1)
    before = id(state["x"])
    for _ in range(3):
        state.append("x", 2)  # with a record of this turn
        ledger.commit(True)
        ledger.open()
        state.append("x", 3)  # with one of an earlier turn, that is not shipped
        ledger.ship()
        ledger.shipped()
        state.append("x", 4)  # with none, or that of a push
        state["x"] = state["x"]
        state.append("x", 5)  # with the list itself as one
    assert id(state["x"]) == before


def test_what_an_application_holds_does_not_grow_with_the_state() -> None:
    standard = ["a"]
    _, one = opened()
    _, other = opened()
    one["rows"] = other["rows"] = standard
    one.append("rows", "b")
    assert (one["rows"], other["rows"], standard) == (["a", "b"], ["a"], ["a"])
    seen = one["rows"]
    one.append("rows", "c")
    assert (one["rows"], seen) == (["a", "b", "c"], ["a", "b"])


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
    snapshot = seen(ledger.snapshot())
    assert snapshot == {"n": {}, "l": [[{"u": [{}]}], {}], "m": {"z": {}}}
    assert state.to_dict() == snapshot
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
    snapshot = seen(ledger.snapshot())
    assert snapshot == {"n": {"b": 2}, "m": {"x": 1, "y": {}}, "fine": 1}
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
    assert ledger.take_unencodable() == [("a", "Bad (ZeroDivisionError)")]


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
    ((path, kind),) = ledger.take_unencodable()
    assert path == "a"
    assert kind.startswith("Nosy (StaleTurn: an encoder assigned")
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


# ---------------------------------------------------------------- views


def test_the_view_reads_and_refuses() -> None:
    ledger = Template({"a": 1, "n": {"b": 1}, "l": [1]}).open()
    view = ledger.view
    assert ledger.view is view
    assert isinstance(view, StateView)
    assert issubclass(StateView, collections.abc.Mapping)
    assert view == {"a": 1, "n": {"b": 1}, "l": [1]}
    assert (view["a"], view.a, view["missing"], view.get("z", 3)) == (1, 1, None, 3)
    assert isinstance(view["n"], StateView)
    assert isinstance(view.n, StateView)
    assert isinstance(dict(view.items())["n"], StateView)
    assert [type(value) for value in view.values()] == [int, StateView, list]
    assert list(view) == list(view.keys()) == ["a", "n", "l"]
    assert list(reversed(view)) == ["l", "n", "a"]
    assert len(view) == 3
    assert "a" in view
    assert "n" in dir(view)
    assert view["l"] is ledger.root["l"]
    assert view.to_dict() == view.to_raw_state() == {"a": 1, "n": {"b": 1}, "l": [1]}
    assert repr(view) == "StateView({'a': 1, 'n': {'b': 1}, 'l': [1]})"
    with pytest.raises(AttributeError):
        _ = view.missing
    ledger.open()
    ledger.root["n"]["b"] = 2
    assert view["n"]["b"] == 2
    attempts: list[Callable[[], Any]] = [
        lambda: view.__setitem__("a", 2),
        lambda: view["n"].__setitem__("b", 2),
        lambda: view.__delitem__("a"),
        lambda: setattr(view, "a", 2),
        lambda: delattr(view, "a"),
        lambda: view.append("l", 1),
        lambda: view.extend("l", [1]),
    ]
    for attempt in attempts:
        with pytest.raises(StaleTurn, match=r"session\.turn"):
            attempt()
    with pytest.raises(TypeError):
        StateView()
    with pytest.raises(TypeError):
        Ledger()
