"""Nothing that can change is shared between sessions: every kind of leaf, by every way to it."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import attrs
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenroom as gr
from greenroom.core.state import Ledger, State, Template


@dataclasses.dataclass
class Point:
    tags: list[int]


@attrs.define
class Attrs:
    tags: list[int]


class Struct(msgspec.Struct):
    tags: list[int]


class Model(pydantic.BaseModel):
    tags: list[int]


class Own:
    def __init__(self) -> None:
        self.tags = [1]

    def to_dict(self) -> dict[str, Any]:
        return {"tags": self.tags}


class Bag(gr.MutableValue, Own):
    pass


class Pair(NamedTuple):
    left: list[int]
    right: int


class Leaf(NamedTuple):
    """How a leaf is made, how it is changed in place, and what of it is compared."""

    make: Callable[[], Any]
    damage: Callable[[Any], Any]
    look: Callable[[Any], Any]


def tags(make: Callable[[], Any]) -> Leaf:
    return Leaf(make, lambda value: value.tags.append(2), lambda value: list(value.tags))


def _set(value: Any) -> None:
    value[0] = 99


def _set_cell(value: Any) -> None:
    value.isetitem(0, [9, 9])


def _rename(value: Any) -> None:
    value.drop_in_place(value.columns[0])


LEAVES: dict[str, Leaf] = {
    "list": Leaf(lambda: [1, 2], lambda v: v.append(3), copy.deepcopy),
    "dict in list": Leaf(lambda: [{"a": {"b": [1]}}], lambda v: v[0]["a"].clear(), copy.deepcopy),
    "list in tuple": Leaf(lambda: (1, [2]), lambda v: v[1].append(3), copy.deepcopy),
    "named tuple": Leaf(lambda: Pair([1], 2), lambda v: v.left.append(3), copy.deepcopy),
    "set": Leaf(lambda: {1, 2}, lambda v: v.add(3), set),
    "bytearray": Leaf(lambda: bytearray(b"ab"), lambda v: v.append(3), bytes),
    "deque": Leaf(lambda: deque([1]), lambda v: v.append(3), list),
    "ordered dict in list": Leaf(lambda: [OrderedDict(a=1)], lambda v: v[0].clear(), copy.deepcopy),
    "default dict in list": Leaf(
        lambda: [defaultdict(list, a=[1])], lambda v: v[0]["a"].append(2), copy.deepcopy
    ),
    "ndarray": Leaf(lambda: np.arange(3), _set, lambda v: v.tolist()),
    "view of an ndarray": Leaf(lambda: np.arange(9)[::2], _set, lambda v: v.tolist()),
    "pandas frame": Leaf(
        lambda: pd.DataFrame({"a": [1, 2]}), _set_cell, lambda v: v.to_dict("list")
    ),
    "pandas series": Leaf(lambda: pd.Series([1, 2]), _set, lambda v: v.tolist()),
    "polars frame": Leaf(
        lambda: pl.DataFrame({"a": [1], "b": [2]}), _rename, lambda v: v.to_dict(as_series=False)
    ),
    "dataclass": tags(lambda: Point([1])),
    "attrs": tags(lambda: Attrs([1])),
    "struct": tags(lambda: Struct([1])),
    "pydantic": tags(lambda: Model(tags=[1])),
    "object": tags(Own),
    "namespace": tags(lambda: SimpleNamespace(tags=[1])),
    "MutableValue": tags(Bag),
    "MutableValue in list": Leaf(
        lambda: [Bag()], lambda v: v[0].tags.append(2), lambda v: list(v[0].tags)
    ),
    "table of records": Leaf(
        lambda: gr.EditableTable([{"a": [1]}]),
        lambda v: v.data[0]["a"].append(2),
        lambda v: copy.deepcopy(v.records()),
    ),
    "table of pandas": Leaf(
        lambda: gr.EditableTable(pd.DataFrame({"a": [1, 2]})),
        lambda v: _set_cell(v.data),
        lambda v: v.records(),
    ),
    "table of polars": Leaf(
        lambda: gr.EditableTable(pl.DataFrame({"a": [1], "b": [2]})),
        lambda v: _rename(v.data),
        lambda v: v.records(),
    ),
}


def _payloads(node: Any, act: Callable[[], None]) -> list[Any]:
    """What a subscriber is given of ``k`` as it was."""
    found: list[Any] = []
    handle = node.subscribe_mutation("k", lambda payload: found.append(payload["previous_value"]))
    act()
    handle.cancel()
    return found


def _replaced(node: Any) -> list[Any]:
    return _payloads(node, lambda: node.__setitem__("k", 1))


def _deleted(node: Any) -> list[Any]:
    return _payloads(node, lambda: node.__delitem__("k"))


def _initial(node: Any) -> list[Any]:
    found: list[Any] = []
    node.subscribe_mutation("k", lambda payload: found.append(payload["new_value"]), initial=True)
    return found


def _assigned_elsewhere(node: Any) -> list[Any]:
    holder = {"copy": {"k": node["k"]}}
    node["other"] = holder
    return [node["other"]["copy"]["k"]]


#: How a session comes by the value at ``k`` of a node.
WAYS: dict[str, Callable[[Any], list[Any]]] = {
    "read": lambda node: [node["k"]],
    "attribute": lambda node: [node.k],
    "get": lambda node: [node.get("k")],
    "items": lambda node: [dict(node.items())["k"]],
    "values": lambda node: [list(node.values())[-1]],
    "pop": lambda node: [node.pop("k")],
    "popitem": lambda node: [node.popitem()[1]],
    "setdefault": lambda node: [node.setdefault("k", None)],
    "raw": lambda node: [node.to_raw_state()["k"]],
    "replaced, told a subscriber": _replaced,
    "deleted, told a subscriber": _deleted,
    "initial subscriber": _initial,
    "assigned elsewhere": _assigned_elsewhere,
}


def _nested_deleted(node: Any) -> list[Any]:
    """The parent goes, and a subscriber below it is told of the template's own."""
    found: list[Any] = []
    node.subscribe_mutation("n.k", lambda payload: found.append(payload["previous_value"]))
    node.subscribe_mutation("n", lambda payload: found.append(payload["previous_value"]["k"]))
    del node["n"]
    return [value for value in found if value is not None]


def schema(leaf: Leaf) -> type[State]:
    class Inner(State):
        k: Any = leaf.make()

    class Outer(State):
        n: Inner
        k: Any = leaf.make()

    return Outer


#: What sessions begin with; each has the leaf at ``k`` and at ``n.k``.
TEMPLATES: dict[str, Callable[[Leaf], Template]] = {
    "dict": lambda leaf: Template({"n": {"k": leaf.make()}, "k": leaf.make()}),
    "state": lambda leaf: Template(State({"n": {"k": leaf.make()}, "k": leaf.make()})),
    "schema": lambda leaf: Template(None, schema(leaf)),
    "state of a schema": lambda leaf: Template(schema(leaf)()),
    "the value of another session": lambda leaf: Template(
        Template({"n": {"k": leaf.make()}, "k": leaf.make()}).open().root
    ),
}


def opened(template: Template) -> Ledger:
    ledger = template.open()
    ledger.open()
    return ledger


@pytest.mark.parametrize("kind", LEAVES)
@pytest.mark.parametrize("begin", TEMPLATES)
def test_what_one_session_does_to_its_value_no_other_sees(kind: str, begin: str) -> None:
    leaf = LEAVES[kind]
    was = leaf.look(leaf.make())
    for name, way in {**WAYS, "parent deleted": _nested_deleted}.items():
        for nested in (False, True):
            if name == "parent deleted" and nested:
                continue
            template = TEMPLATES[begin](leaf)
            early = opened(template)  # has not read yet
            reader = opened(template)
            assert leaf.look(reader.root["k"]) == was
            mine = opened(template)
            values = way(mine.root["n"] if nested else mine.root)
            assert values, name
            for value in values:
                leaf.damage(value)
                assert leaf.look(value) != was, name
            late = opened(template)
            for other in (early, reader, late):
                assert leaf.look(other.root["k"]) == was, name
                assert leaf.look(other.root["n"]["k"]) == was, name
                assert leaf.look(other.view["n"]["k"]) == was, name


@pytest.mark.parametrize("kind", LEAVES)
def test_the_callers_value_and_the_template_do_not_follow_each_other(kind: str) -> None:
    leaf = LEAVES[kind]
    value = leaf.make()
    was = leaf.look(value)
    template = Template({"k": value})
    one = opened(template)
    leaf.damage(one.root["k"])
    assert leaf.look(value) == was
    leaf.damage(value)
    assert leaf.look(opened(template).root["k"]) == was


@pytest.mark.parametrize("kind", LEAVES)
def test_a_default_of_a_nested_schema_is_new_each_time_a_dict_is_assigned(kind: str) -> None:
    leaf = LEAVES[kind]
    was = leaf.look(leaf.make())
    one, two = (opened(Template(None, schema(leaf))) for _ in range(2))
    one.root["n"] = {}
    leaf.damage(one.root["n"]["k"])
    one.root["n"] = {}
    two.root["n"] = {}
    assert leaf.look(one.root["n"]["k"]) == was
    assert leaf.look(two.root["n"]["k"]) == was
    leaf.damage(one.root["k"])
    one.root.clear()
    assert leaf.look(one.root["k"]) == was


@pytest.mark.parametrize("kind", LEAVES)
def test_what_a_factory_gives_is_copied_too(kind: str, arun: Any) -> None:
    """It may hand out a global, each time the same."""
    leaf = LEAVES[kind]
    was = leaf.look(leaf.make())
    everybodys = {"k": leaf.make(), "n": {"k": leaf.make()}}

    async def story() -> None:
        async with gr.App(state=lambda: everybodys) as app:
            one, two = app.open_session(), app.open_session()
            async with one.turn() as state:
                leaf.damage(state["k"])
                leaf.damage(state["n"]["k"])
            leaf.damage(one.state["k"])  # read only, and in reach
            for session in (two, app.open_session()):
                assert leaf.look(session.state["k"]) == was
                assert leaf.look(session.state["n"]["k"]) == was

    arun(story)


@pytest.mark.parametrize("kind", [kind for kind in LEAVES if kind != "namespace"])
def test_data_below_a_private_key_is_each_sessions_own_as_well(kind: str) -> None:
    leaf = LEAVES[kind]
    was = leaf.look(leaf.make())
    template = Template({"_k": leaf.make(), "_n": {"k": leaf.make()}})
    one, two = opened(template), opened(template)
    leaf.damage(one.root["_k"])
    leaf.damage(one.root["_n"]["k"])
    assert leaf.look(two.root["_k"]) == was
    assert leaf.look(two.root["_n"]["k"]) == was


def test_services_below_a_private_key_are_one_for_all() -> None:
    client = SimpleNamespace(tags=[1])
    template = Template({"_client": client})
    assert opened(template).root["_client"] is client
    assert opened(template).root["_client"] is client


# ---------------------------------------------------------------- any story of two sessions

keys = st.sampled_from(["a", "b", "n", "_p"])
leaf_values = st.recursive(
    st.integers(0, 3) | st.text("xy", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=6,
)
steps = st.lists(
    st.tuples(st.sampled_from(["damage", "assign", "delete", "append", "raw"]), keys), max_size=8
)


def damage(value: Any) -> None:
    """Change everything that can be changed in place."""
    if isinstance(value, State):
        for inner in value.values():
            damage(inner)
        return
    if isinstance(value, (list, tuple)):
        for inner in value:
            damage(inner)
    elif isinstance(value, dict):
        for inner in list(value.values()):
            damage(inner)
    if isinstance(value, list):
        value.append("damaged")
    elif isinstance(value, dict):
        value["damaged"] = True


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(keys, leaf_values, max_size=4), steps)
def test_whatever_one_session_does_the_other_has_what_it_began_with(
    values: dict[str, Any], story: list[tuple[str, str]]
) -> None:
    was = copy.deepcopy(values)
    template = Template(values)
    one, two = opened(template), opened(template)
    first = two.snapshot()[0]
    for what, key in story:
        root = one.root
        if what == "damage":
            damage(root[key])
        elif what == "raw":
            damage(root.to_raw_state())
            damage(dict(root.items()))
        elif what == "assign":
            root[key] = root["n"]
        elif what == "delete":
            del root[key]
        elif isinstance(root[key], list):
            root.append(key, [1])
    assert two.root.to_raw_state() == was
    assert two.snapshot()[0] == first
    assert opened(template).root.to_raw_state() == was
    assert values == was


# -- what a State on its own brings along --------------------------------------------------------


def test_a_template_shares_what_was_marked_in_the_state_it_is_made_of(arun: Any) -> None:
    one, two, three = [1], {"raw": [2]}, {3}
    part = State({"two": gr.shared(two)})
    beginning = State({"one": gr.shared(one), "part": part, "own": [4]})
    beginning["three"] = gr.shared(three)

    async def story() -> None:
        async with gr.App(beginning) as app:
            states = [app.open_session().state for _ in range(2)]
            for state in states:
                assert state["one"] is one
                assert state["part"]["two"] is two
                assert state["three"] is three
            assert states[0]["own"] == states[1]["own"] == [4]
            assert states[0]["own"] is not states[1]["own"]

    arun(story)


def test_a_copied_state_has_lists_of_its_own() -> None:
    state = State({"a": {"rows": [1], "deep": {"rows": [2]}}})
    state["b"] = state["a"]
    other, replaced = State(state), State()
    replaced.replace(state)
    state["a"].append("rows", 9)
    state["a"]["deep"].append("rows", 9)
    for copied in (state["b"], other["a"], other["b"], replaced["a"], replaced["b"]):
        assert copied == {"rows": [1], "deep": {"rows": [2]}}


class Row(State):
    title: str = ""


@pytest.mark.parametrize("key", ["rows", "_rows"])
@pytest.mark.parametrize(
    "value",
    [[Row()], ({"row": Row()},), deque([[Row()]]), [State({"title": ""}), Row()]],
    ids=["list", "tuple", "deque", "plain state"],
)
def test_a_state_in_a_list_is_refused_with_cures_that_work(key: str, value: Any) -> None:
    kind = "State" if isinstance(value[0], State) and type(value[0]) is State else "Row"
    with pytest.raises(TypeError, match=rf"'n\.{key}' .* has a {kind} in it, .*dicts.*{kind}\("):
        Template({"n": {key: value}})
    Template({"n": {key: [{"title": ""}]}})
    cured = Template({"n": {key: {"1": Row()}}})
    ledgers = [cured.open(), cured.open()]
    for ledger in ledgers:
        ledger.open()
    ledgers[0].root["n"][key]["1"].title = "mine"
    assert ledgers[1].root["n"][key]["1"].title == ""
