"""The same story on the reference and on the compiled state; clients apply the patches."""

from __future__ import annotations

import datetime as dt
import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.reference import patch_model
from tests.reference.state_model import NoForm, Path, StateModel, public

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
OTHER_VIEW = {"k": 1}


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
        self.template = Template(START)
        self.ledger = self.template.open()
        self.neighbour = self.template.open()
        self.model = StateModel(START)
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
        keys = list(self.model.node(path))
        if keys:
            key = keys[other % len(keys)]
            node[key] = node[key]

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
            self.model.node(path)["l"] = [item, *self.model.node(path)["l"], 0, 1]

    @precondition(lambda self: self.model.in_turn)
    @rule(pick=PICK, values=TREES)
    def replace(self, pick: int, values: dict[str, Any]) -> None:
        path, node = self.place(pick)
        node.replace(values)
        self.model.replace(path, values)

    @precondition(lambda self: self.model.in_turn)
    @rule(source=PICK, goal=PICK, key=KEYS)
    def copy_node(self, source: int, goal: int, key: str) -> None:
        from_path, from_node = self.place(source)
        to_path, to_node = self.place(goal)
        if len(from_path) + len(to_path) > 6 or (*to_path, key) == from_path:
            return
        values = json_copy(self.model.node(from_path))
        # Lists of a copied state are the same objects: give the copy its own.
        to_node[key] = from_node
        own_lists(to_node[key])
        self.model.set(to_path, key, values)

    @precondition(lambda self: self.model.in_turn)
    @rule(pick=PICK)
    def hold(self, pick: int) -> None:
        path, node = self.place(pick)
        self.held.append((node, path))

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
        assert self.ledger.root.to_raw_state() == self.model.values
        assert self.ledger.view == self.model.values
        assert self.neighbour.root == START
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


def json_copy(value: Any) -> Any:
    import copy

    return copy.deepcopy(value)


def own_lists(node: State) -> None:
    for key, value in node.items():
        if isinstance(value, list):
            node[key] = list(value)
        elif isinstance(value, State):
            own_lists(value)


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
