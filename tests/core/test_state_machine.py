"""The same story on the reference and on the compiled state; clients apply the patches.

The root is of a class with properties, and so are its copies. What is stale is looked at now and
then only, and from another thread, which calculates nothing.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.core.ledgers import in_thread
from tests.reference import patch_model
from tests.reference.state_model import NoForm, Path, Schema, StateModel, is_property, public

import greenroom as gr
from greenroom.core.encode import decode, render
from greenroom.core.errors import Detached, StaleTurn
from greenroom.core.state import Patch, State, Template

KEYS = st.sampled_from(["a", "b", "c", "n", "m", "s", "l", "_p", "x/y", "t~", "", "$bytes"])
SCALARS = st.one_of(
    st.integers(-3, 3),
    st.booleans(),
    st.none(),
    st.sampled_from(["", "a", "ab", "abé", '"q"', "\U0001f600", "3.5"]),
    st.sampled_from([1.5, -0.25]),
)
LATE = st.sampled_from([dt.date(2020, 1, 2), NoForm(), [dt.date(2021, 3, 4)], (1, 2)])
LISTS = st.lists(st.integers(0, 3), max_size=3)
LEAVES = st.one_of(SCALARS, LISTS, LATE)
TREES = st.recursive(
    st.dictionaries(KEYS, LEAVES, max_size=3),
    lambda inner: st.dictionaries(KEYS, st.one_of(LEAVES, inner), max_size=3),
    max_leaves=6,
)
VALUES = st.one_of(SCALARS, SCALARS, LISTS, LATE, TREES)
PICK = st.integers(0, 1_000)

START: dict[str, Any] = {
    "a": 1,
    "s": "ab",
    "l": [1],
    "_p": {"x": 1},
    "n": {"a": 2, "s": "x", "l": [2], "m": {"a": 3, "l": [5], "_p": 1}},
    "m": {},
}


def weigh(value: Any) -> int:
    """A number that changes with nearly everything in a value."""
    if isinstance(value, (dict, State)):
        return sum(len(key) + 3 * weigh(item) for key, item in value.items()) % 10_007
    if isinstance(value, (list, tuple)):
        return sum(index + 5 * weigh(item) for index, item in enumerate(value)) % 10_007
    if isinstance(value, (int, float)):
        return int(4 * value) + 1
    return len(value) if isinstance(value, str) else 7


def below(value: Any, key: str) -> Any:
    """The key of what may be no state."""
    return value.get(key) if isinstance(value, (dict, State)) else None


def first(state: Any) -> int:
    """Of a key, and of one in a nested state."""
    return weigh(state.get("a")) + weigh(below(state.get("n"), "m"))


def second(state: Any) -> dict[str, int]:
    """Of another property: a nested state."""
    return {"w": state.get("p1") + weigh(state.get("l")), "_h": weigh(state.get("s"))}


def third(state: Any) -> int:
    """Of everything in a nested state, and of its property if it has one."""
    return weigh(state.get("n"))


class Sums(gr.State):
    """The root and its copies."""

    _p3 = gr.property("n")(third)
    p1 = gr.property(["a", "n.m"])(first)
    p2 = gr.property(["p1", "l", "s"])(second)


class SumsModel(Schema):
    """The same in the reference."""

    properties = {  # noqa: RUF012
        "_p3": ([("n",)], third),
        "p1": ([("a",), ("n", "m")], first),
        "p2": ([("p1",), ("l",), ("s",)], second),
    }


PATHS: list[Path] = [
    *[(key,) for key in ("a", "n", "l", "x/y", "_p", "p1", "p2", "_p3")],
    *[("n", key) for key in ("a", "m", "b", "p1", "p2")],
    *[("n", "m", "a"), ("m", "a"), ("p2", "w"), ("p2", "_h"), ("m", "p2", "w")],
]


def plain(value: Any) -> Any:
    """A copy to keep."""
    return copy.deepcopy(value.to_raw_state() if isinstance(value, State) else value)


def stored(value: Any) -> Any:
    """What was assigned, without properties."""
    if not isinstance(value, dict):
        return value
    return {k: stored(item) for k, item in value.items() if k not in SumsModel.properties}


class Client:
    """Somebody with a snapshot who applies the patches."""

    def __init__(self, doc: dict[str, Any], position: int, whole: bool) -> None:
        self.doc = doc
        self.whole = whole  # its snapshot had everything
        self.position = position
        self.behind: Patch | None = None  # a slow one: patches merged, not yet applied

    def take(self, patch: Patch) -> None:
        assert patch.position == self.position + 1
        self.position = patch.position
        if self.behind is not None:
            merged = Patch.merge(self.behind, patch)
            if merged is None:
                self.catch_up()
                self.behind = patch
            else:
                self.behind = merged
            return
        self.apply(patch)

    def apply(self, patch: Patch) -> None:
        wire = json.loads(patch.encode())
        decoded = {
            kind: {path: decode(value) for path, value in part.items()} if kind != "-" else part
            for kind, part in wire.items()
        }
        fine = not self.whole
        forth = patch_model.apply(decoded, self.doc, gone_is_fine=fine)
        back = list(range(len(patch_model.operations(decoded))))[::-1]
        assert patch_model.apply(decoded, self.doc, back, gone_is_fine=fine) == forth
        self.doc = forth

    def catch_up(self) -> None:
        if self.behind is not None:
            self.apply(self.behind)
            self.behind = None


class Story(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.template = Template(START, Sums)
        self.ledger = self.template.open()
        self.neighbour = self.template.open()
        self.model = StateModel(SumsModel(START))
        self.start = StateModel(SumsModel(START)).values
        self.told: list[tuple[Path, Any, Any]] = []
        self.handles: list[tuple[Any, Path]] = []
        self.loosely = False  # in which order keys were removed is nobody's business
        self.clients: list[Client] = []
        self.held: list[tuple[State, Path]] = []

    # -- what both do

    def place(self, pick: int) -> tuple[Path, State]:
        paths = self.model.nodes()
        path = paths[pick % len(paths)]
        node: Any = self.ledger.root
        for key in path:
            node = node[key]
        return path, node

    @initialize(linked=st.booleans())
    def begin(self, linked: bool) -> None:
        if linked:
            self.new_client()

    def new_client(self) -> None:
        self.deliver(self.ledger.ship())
        self.add_client(*self.ledger.snapshot())

    def add_client(self, encoded: Any, position: int, whole: bool = True) -> None:
        doc = decode(json.loads(render(encoded, False, [])))
        self.clients.append(Client(doc, position, whole))

    def deliver(self, patch: Patch | None) -> None:
        self.ledger.shipped()
        if patch is not None:
            for client in self.clients:
                client.take(patch)

    # -- turns

    @precondition(lambda self: not self.model.in_turn)
    @rule()
    def open(self) -> None:
        self.ledger.open()
        self.model.open()

    @precondition(lambda self: self.model.in_turn)
    @rule()
    def commit(self) -> None:
        self.ledger.commit(bool(self.clients))
        self.model.commit()

    @precondition(lambda self: self.model.in_turn)
    @rule()
    def rollback(self) -> None:
        self.ledger.rollback(bool(self.clients))
        self.model.rollback()

    @precondition(lambda self: self.model.in_turn)
    @rule()
    def undo(self) -> None:
        self.ledger.undo()
        self.model.undo()

    @precondition(lambda self: self.model.in_turn)
    @rule()
    def mark(self) -> None:
        self.ledger.mark()
        self.model.mark()

    # -- assignments

    @precondition(lambda self: self.model.in_turn)
    @rule(pick=PICK, key=KEYS, value=VALUES)
    def assign(self, pick: int, key: str, value: Any) -> None:
        path, node = self.place(pick)
        node[key] = value if not isinstance(value, list) else list(value)
        self.model.set(path, key, value)

    @precondition(lambda self: self.model.in_turn)
    @rule(pick=PICK, values=st.lists(st.tuples(KEYS, SCALARS), max_size=4))
    def assign_scalars(self, pick: int, values: list[tuple[str, Any]]) -> None:
        path, node = self.place(pick)
        for key, value in values:
            node[key] = value
            self.model.set(path, key, value)

    @precondition(lambda self: self.model.in_turn)
    @rule(pick=PICK, key=st.sampled_from(["s", "a"]), tail=st.sampled_from(["", "x", "é", "\n"]))
    def add_text(self, pick: int, key: str, tail: str) -> None:
        path, node = self.place(pick)
        before = self.model.node(path).get(key)
        if isinstance(before, str):
            node[key] += tail
            self.model.set(path, key, before + tail)

    @precondition(lambda self: self.model.in_turn)
    @rule(pick=PICK, key=KEYS)
    def delete(self, pick: int, key: str) -> None:
        path, node = self.place(pick)
        gone = node[key]
        if isinstance(gone, State):
            self.held.append((gone, (*path, key)))
        del node[key]
        self.model.delete(path, key)

    @precondition(lambda self: self.model.in_turn)
    @rule(
        pick=PICK,
        key=st.sampled_from(["l", "m", "new"]),
        items=st.lists(st.one_of(SCALARS, LATE), max_size=2),
    )
    def extend(self, pick: int, key: str, items: list[Any]) -> None:
        path, node = self.place(pick)
        if isinstance(self.model.node(path).get(key, []), list):
            node.extend(key, items)
            self.model.extend(path, key, items)

    @precondition(lambda self: self.model.in_turn)
    @rule(pick=PICK, other=PICK)
    def assign_itself(self, pick: int, other: int) -> None:
        path, node = self.place(pick)
        values = self.model.node(path)
        keys = [key for key in values if not is_property(values, key)]
        if keys:
            key = keys[other % len(keys)]
            node[key] = node[key]
            self.model.set(path, key, values[key])

    @precondition(lambda self: self.model.in_turn)
    @rule(source=PICK, goal=PICK, key=st.sampled_from(["l", "m", "new"]), inside=st.booleans())
    def assign_a_list_twice(self, source: int, goal: int, key: str, inside: bool) -> None:
        from_path, from_node = self.place(source)
        to_path, to_node = self.place(goal)
        values = self.model.node(from_path).get("l")
        if isinstance(values, list) and str(values).count("[") < 8:
            to_node[key] = [from_node["l"]] if inside else from_node["l"]
            self.model.set(to_path, key, copy.deepcopy([values] if inside else values))

    @precondition(lambda self: not self.model.in_turn)
    @rule(pick=PICK, item=SCALARS)
    def change_in_place(self, pick: int, item: Any) -> None:
        path, node = self.place(pick)
        if isinstance(self.model.node(path).get("l"), list):
            self.ledger.open()
            node.append("l", 0)
            node["l"].insert(0, item)
            node["l"] = node["l"]
            node.append("l", 1)
            self.ledger.commit(bool(self.clients))
            self.model.set(path, "l", [item, *self.model.node(path)["l"], 0, 1])
            self.told.clear()  # of lists that changed in between
            self.model.told.clear()

    @precondition(lambda self: self.model.in_turn)
    @rule(pick=PICK, values=TREES)
    def replace(self, pick: int, values: dict[str, Any]) -> None:
        path, node = self.place(pick)
        node.replace(values)
        self.model.replace(path, values)
        self.loosely = True

    @precondition(lambda self: self.model.in_turn)
    @rule(source=PICK, goal=PICK, key=KEYS)
    def copy_node(self, source: int, goal: int, key: str) -> None:
        from_path, from_node = self.place(source)
        to_path, to_node = self.place(goal)
        if len(from_path) + len(to_path) > 6 or (*to_path, key) == from_path:
            return
        values = copy.deepcopy(self.model.node(from_path))
        to_node[key] = from_node
        self.model.set(to_path, key, values)

    @precondition(lambda self: self.model.in_turn)
    @rule(pick=PICK)
    def hold(self, pick: int) -> None:
        path, node = self.place(pick)
        self.held.append((node, path))

    # -- properties and subscriptions

    @precondition(lambda self: self.model.in_turn)
    @rule(pick=PICK, how=st.sampled_from(["_p3", "p1", "p2", "items", "raw", "client"]))
    def look(self, pick: int, how: str) -> None:
        path, node = self.place(pick)
        values = self.model.node(path)
        if how == "items":
            assert {key: plain(value) for key, value in node.items()} == values
        elif how == "raw":
            assert node.to_raw_state() == values
        elif how == "client":
            assert node.to_dict() == public(values)
        else:
            assert plain(node[how]) == values.get(how)

    @rule(path=st.sampled_from(PATHS))
    def subscribe(self, path: Path) -> None:
        def subscriber(payload: dict[str, Any]) -> None:
            values = plain(payload["previous_value"]), plain(payload["new_value"])
            self.told.append((path, *values))

        self.handles.append((self.ledger.root.subscribe_mutation(path, subscriber), path))
        self.model.subscriptions.append(path)

    @precondition(lambda self: self.handles)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        handle, path = self.handles.pop(pick % len(self.handles))
        handle.cancel()
        self.model.subscriptions.remove(path)

    @invariant()
    def same_was_told(self) -> None:
        told, expected = self.told, self.model.told
        if self.loosely:
            assert sorted(path for path, *_ in told) == sorted(path for path, *_ in expected)
        else:
            assert len(told) == len(expected)
            assert all(one in expected for one in told)
            assert all(one in told for one in expected)
        told.clear()
        expected.clear()
        self.loosely = False

    # -- clients

    @precondition(lambda self: self.clients)
    @rule()
    def ship(self) -> None:
        self.deliver(self.ledger.ship())
        assert not self.ledger.dirty
        for client in self.clients:
            if client.behind is None:
                assert client.doc == self.model.public()

    @precondition(lambda self: self.clients)
    @rule()
    def ship_foreign(self) -> None:
        self.deliver(self.ledger.ship(foreign=True))

    @rule()
    def link(self) -> None:
        self.new_client()
        assert self.clients[-1].doc == self.model.public()

    @rule()
    def link_foreign(self) -> None:
        self.deliver(self.ledger.ship(foreign=True))
        self.add_client(*self.ledger.snapshot(foreign=True), whole=False)

    @precondition(lambda self: self.clients)
    @rule(pick=PICK)
    def stall(self, pick: int) -> None:
        client = self.clients[pick % len(self.clients)]
        if client.behind is None:
            client.behind = Patch.from_ops(position=client.position)

    @precondition(lambda self: self.clients)
    @rule()
    def go_on(self) -> None:
        for client in self.clients:
            client.catch_up()

    @precondition(lambda self: self.clients)
    @rule()
    def leave(self) -> None:
        self.clients.clear()
        self.ledger.forget()

    # -- always

    @invariant()
    def same_values(self) -> None:
        values = in_thread(self.ledger.root.to_raw_state)  # calculates nothing
        if self.model.in_turn:
            assert stored(values) == stored(self.model.values)
        else:
            assert values == self.model.values
            assert self.ledger.view == self.model.values
        assert self.neighbour.root == self.start
        assert self.ledger.in_turn == self.model.in_turn

    @invariant()
    def held_nodes_know_their_place(self) -> None:
        for node, path in self.held[-4:]:
            at: Any = self.ledger.root
            for key in path:
                at = at[key] if isinstance(at, State) else None
            dict(node.items())  # readable in any case
            if not self.model.in_turn:
                with pytest.raises((Detached, StaleTurn)):
                    node["a"] = 1
            elif at is not node:
                with pytest.raises(Detached):
                    node["a"] = 1

    def teardown(self) -> None:
        if self.model.in_turn:
            self.ledger.commit(True)
        self.deliver(self.ledger.ship())
        for client in self.clients:
            client.catch_up()
            assert client.doc == self.model.public()
        assert self.ledger.root.to_dict() == self.model.public()


TestStory = Story.TestCase
TestStory.settings = settings(
    max_examples=int(os.environ.get("STORIES", "120")),
    stateful_step_count=int(os.environ.get("STEPS", "30")),
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_public_leaves_out_what_it_must() -> None:
    assert public({"a": NoForm(), "_b": 1, "c": {"_d": 1, "e": (1,)}}) == {"c": {"e": [1]}}
