"""Keys with a leading underscore reach no client: not their values, not their names, in no form."""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import typing
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.ledgers import opened
from tests.core.visitor import Visitor

import greenroom as gr
from greenroom.core.encode import encode, render
from greenroom.core.state import State, Template

SECRET = "hush"  # in every private key and in every value below one


def told(*outputs: Any) -> str:
    """All that clients get, as text that is searched."""
    return " ".join(
        bytes(one).decode() if isinstance(one, (bytes, bytearray)) else repr(one) for one in outputs
    )


# ---------------------------------------------------------------- forms of values


@dataclasses.dataclass
class Data:
    open: int = 1
    _hush: str = SECRET


@attrs.define
class Attrs:
    open: int = 1
    _hush: str = SECRET


class Struct(msgspec.Struct):
    open: int = 1
    _hush: str = SECRET


class Tagged(msgspec.Struct, tag_field="_hush", tag=SECRET):
    open: int = 1


class Model(pydantic.BaseModel):
    open: int = 1
    _hush: str = SECRET


class Extra(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    open: int = 1


class Own:
    def to_dict(self) -> dict[str, Any]:
        return {"open": 1, "_hush": SECRET, "n": [{"open": 2, "_hush": SECRET}]}


class Mutable(gr.MutableValue, Own):
    pass


class Choice(enum.Enum):
    ONE = {"open": 1, "_hush": SECRET}  # noqa: RUF012


class Typed(typing.TypedDict):
    open: int
    _hush: str


class Text(str):
    __slots__ = ()


class Plain(dict[str, Any]):
    pass


HOLDER = {"open": 1, "_hush": SECRET, "_hush2": {"hush": SECRET}}
ORIGIN = State(HOLDER)

VALUES: dict[str, Callable[[], Any]] = {
    "dict": lambda: dict(HOLDER),
    "dict in list": lambda: [dict(HOLDER)],
    "dict in tuple": lambda: (dict(HOLDER),),
    "dict in dict in list": lambda: [{"open": {"n": dict(HOLDER)}}],
    "dict in deque": lambda: deque([dict(HOLDER)]),
    "key of a str subclass": lambda: [{"open": 1, Text("_hush"): SECRET}],
    "dict subclass": lambda: [Plain(HOLDER)],
    "OrderedDict": lambda: [OrderedDict(HOLDER)],
    "defaultdict": lambda: [defaultdict(int, HOLDER)],
    "TypedDict": lambda: [Typed(open=1, _hush=SECRET)],
    "wrapped by a form": lambda: [{"$bytes": "x", **HOLDER}],
    "big ints beside": lambda: [{"open": 2**70, **HOLDER}],
    "opaque beside": lambda: [{"open": Own(), **HOLDER}],
    "State in list": lambda: [State(HOLDER)],
    "StateView in list": lambda: [Template(HOLDER).open().view],
    "node in dict in list": lambda: [{"open": ORIGIN}],
    "dataclass": Data,
    "attrs": Attrs,
    "struct": Struct,
    "struct with a private tag": Tagged,
    "pydantic": Model,
    "pydantic with extra": lambda: Extra.model_validate({"_hush": SECRET}),
    "to_dict": Own,
    "MutableValue": Mutable,
    "Enum": lambda: Choice.ONE,
    "table of records": lambda: gr.EditableTable([dict(HOLDER)]),
    "record of a table": lambda: gr.EditableTable([dict(HOLDER)]).record(0),
}


class Schema(State):
    opaque: dict[str, Any] = {}  # noqa: RUF012
    _hush: str = SECRET
    open: int = 1


@pytest.mark.parametrize("kind", VALUES)
def test_no_form_of_a_value_shows_it(kind: str) -> None:
    value = VALUES[kind]()
    found = told(encode(value))
    assert "open" in found
    assert SECRET not in found


@pytest.mark.parametrize("kind", VALUES)
def test_no_way_to_clients_shows_it(kind: str) -> None:
    make = VALUES[kind]
    begin = {"a": make(), "n": {"a": make()}, "list": [], "_hush": make()}
    if "State" in kind or "node" in kind:  # in a list, the initial state cannot have one
        begin = {"n": {}, "list": []}
    ledger, state = opened(begin)
    outputs: list[Any] = []

    def ship(foreign: bool = False) -> None:
        patch = ledger.ship(foreign)
        if patch is not None:
            outputs.extend(
                [
                    patch.encode(),
                    patch.render(True, []),
                    patch.set,
                    patch.delete,
                    patch.append,
                    list(patch.created()),
                    patch.to_json_patch({"list": []}),
                ]
            )
        ledger.shipped()

    def look() -> None:
        outputs.extend(render(ledger.snapshot(way)[0], False, []) for way in (True, False))
        outputs.extend([state.to_dict(), ledger.view.to_dict()])

    look()
    state["b"] = make()
    state["n"]["b"] = make()
    state["_hush"] = make()
    state["_hush2"] = {"hush": SECRET}
    state["_hush2"]["hush3"] = SECRET
    state.append("list", make())
    ship(True)
    look()
    ship()
    state["n"] = {"a": make(), "_hush": make()}
    state["n"]["_hush"] = state["n"]["a"]
    state.append("list", make())
    ship()
    state["a"] = state["a"]
    state["n"] = state["n"]
    ledger.mark()
    ship()
    del state["_hush"], state["_hush2"], state["n"]["_hush"]
    del state["n"]
    ship()
    ledger.rollback(True)
    ship()
    look()
    outputs.append(ledger.take_unencodable())
    assert len(outputs) > 20
    assert SECRET not in told(*outputs)


@pytest.mark.parametrize("kind", VALUES)
def test_opaque_dicts_of_a_schema_and_private_fields(kind: str) -> None:
    make = VALUES[kind]
    state = Schema({"opaque": {"_hush": make(), "a": make()}})
    found = [state.take_patch().encode(), state.to_dict()]
    state.opaque["_hush2"] = SECRET
    state.opaque = state.opaque
    state._hush = "hush hush"
    found += [state.take_patch().encode(), state.to_dict()]
    del state._hush
    found += [state.take_patch().encode()]
    assert SECRET not in told(*found)


def test_columns_of_frames_are_the_librarys() -> None:
    """A frame is one value, whose Arrow form has all its columns."""
    for frame in (pd.DataFrame({"_hush": [1]}), pl.DataFrame({"_hush": [1]})):
        for value in (frame, gr.EditableTable(frame)):
            found = json.loads(encode(value))
            table = pa.ipc.open_stream(base64.b64decode(found["$bytes"])).read_all()
            assert table.column_names == ["_hush"]


# ---------------------------------------------------------------- reports and errors


class Formless:
    def __repr__(self) -> str:
        return SECRET


def endless() -> list[Any]:
    deep: list[Any] = []
    for _ in range(150):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "make",
    [Formless, lambda: [Formless()], lambda: b"\xff".decode("latin1") + "\ud800", lambda: {1: 2}],
    ids=["no form", "in a list", "no Unicode", "keys"],
)
def test_what_has_no_form_is_not_reported_when_it_is_private(make: Callable[[], Any]) -> None:
    ledger, state = opened({"_hush": None, "n": {"_hush": [make()]}, "list": [{"_hush": make()}]})
    ledger.snapshot()
    state["_hush"] = [make()]
    state["n"]["_hush"] = [make()]
    state["list"] = [{"_hush": make(), "open": 1}]
    state.append("list", {"_hush": make()})
    state["_hush2"] = {}
    state["_hush2"]["x"] = [make()]
    ledger.commit(True)
    ledger.ship()
    assert ledger.take_unencodable() == []


def test_what_has_no_form_beside_private_keys_is_named_without_them() -> None:
    ledger, state = opened({})
    state["a"] = {"b": Formless(), "_hush": Formless()}
    state["c"] = [{"_hush": [[SECRET]], "open": Formless()}]
    state["d"] = {"n": [{SECRET: 1, 2: 3}][1:]}
    ledger.commit(True)
    ledger.ship()
    found = ledger.take_unencodable()
    assert [path for path, _ in found] == ["a.b", "c"]
    assert SECRET not in told(found)


def test_a_result_that_is_nested_too_deep_is_explained_without_private_keys() -> None:
    with pytest.raises(Exception, match="nested deeper") as error:
        encode({"_hush": endless(), "open": endless()})
    assert SECRET not in str(error.value)


def test_a_client_that_looks_for_it_finds_nothing(arun: Any) -> None:
    """All frames of a session that does everything with private keys, logs and errors included."""

    def work(state: Any, session: Any, payload: Any) -> Any:
        state["_hush"] = {"hush": SECRET}
        state["_hush"]["more"] = [SECRET]
        state["n"]["_hush"] = SECRET
        state["list"] = [{"_hush": SECRET, "open": 1, "bad": Formless()}]
        state["rows"] = [{"_hush": SECRET, "open": 1}]
        state["table"] = gr.EditableTable([{"_hush": SECRET, "open": 1}])
        state["table"].record(0)["_hush"] = "hush hush"
        state["n"].subscribe_mutation("_hush", lambda: None)
        session.emit("told:all", state["n"])
        session.emit("told:raw", [state.to_raw_state()["n"]])
        del state["_hush"]["more"]
        del state["n"]["_hush"]
        return {"_hush": SECRET, "state": state["n"], "rows": state["rows"]}

    async def fail(state: Any, payload: Any) -> None:
        state["_hush"] = [Formless()]
        nested = state["_hush2"] = {"hush": 1}
        state["_hush2"] = {}
        state["open"] = nested
        raise ValueError(SECRET)

    async def story() -> None:
        app = gr.App(
            state={"n": {"_hush": SECRET, "open": 1}, "_hush": {"hush": SECRET}, "open": 0},
            handlers=[work, fail],
        )
        async with app:
            visitor = await Visitor(app).open()
            other = await Visitor(app).open(token=visitor.welcome["token"])
            for name in ("work", "fail", "work"):
                await visitor.call(name, None)
            late = await Visitor(app).open(token=visitor.welcome["token"])
            back = Visitor(app)
            await back.hello(**visitor.back())
            await back.call("work")
            frames = visitor.frames + other.frames + late.frames + back.frames
            assert sum(frame["type"] == "gr:snapshot" for frame in frames) >= 3
            assert SECRET not in told(frames)
            assert "told:raw" in told(frames)

    arun(story)


def test_the_log_that_reaches_clients_names_no_private_path(arun: Any) -> None:
    """What the application itself writes into a log is its own."""

    async def work(state: Any) -> None:
        state["_hush"] = Formless()
        state["rows"] = [{"_hush": Formless(), "open": Formless()}]
        state["_hush2"] = {"hush": {"hush": Formless()}}

    async def story() -> None:
        app = gr.App(state={}, handlers=[work], settings=gr.Settings(log_to_client=True))
        async with app:
            visitor = await Visitor(app).open()
            await visitor.call("work")
            await visitor.call("work")
            logs = [frame for frame in visitor.frames if frame["type"] == "gr:log"]
            assert logs
            assert "rows" in told(logs)
            assert SECRET not in told(visitor.frames, visitor.session.log.records())

    arun(story)


# ---------------------------------------------------------------- any tree, any story

names = st.sampled_from(["a", "b", "_hush", "_hush2", "$bytes"])
leaves = st.sampled_from([1, "x", True, 2**70, 1.5])
trees = st.recursive(
    leaves,
    lambda inner: (
        st.dictionaries(names, inner, max_size=3)
        | st.lists(inner, max_size=2)
        | st.tuples(inner)
        | st.builds(Own)
    ),
    max_leaves=8,
)
STEPS = ("set", "nested", "delete", "append", "text", "ship", "foreign", "look", "undo", "mark")


def hushed(value: Any, below: bool = False) -> Any:
    """The tree with the secret at every leaf below a private key."""
    if isinstance(value, dict):
        return {key: hushed(one, below or key.startswith("_")) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(hushed(one, below) for one in value)
    return SECRET if below else value


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(names, trees, max_size=4),
    st.lists(st.tuples(st.sampled_from(STEPS), names, trees), max_size=12),
)
def test_whatever_happens_to_a_state_nothing_private_is_told(
    begin: dict[str, Any], story: list[tuple[str, str, Any]]
) -> None:
    ledger, state = opened(hushed(begin))
    found: list[Any] = []

    def ship(foreign: bool) -> None:
        patch = ledger.ship(foreign)
        found.append(b"" if patch is None else patch.encode())
        ledger.shipped()

    for what, key, given_tree in story:
        tree = hushed(given_tree, key.startswith("_"))
        node = state["a"] if isinstance(state["a"], State) else state
        if what == "set":
            state[key] = tree
        elif what == "nested":
            node[key] = tree
        elif what == "delete":
            del node[key]
        elif what == "append":
            if isinstance(node[key], list):
                node.append(key, tree)
        elif what == "text":
            if isinstance(node[key], str):
                node[key] += SECRET if key.startswith("_") else "y"
        elif what == "look":
            found.append(render(ledger.snapshot(False)[0], False, []))
            found.append(node.to_dict() if node is not state else state.to_dict())
        elif what == "undo":
            ledger.undo()
        elif what == "mark":
            ledger.mark()
        else:
            ship(what == "foreign")
    ledger.commit(True)
    ship(False)
    found.append(ledger.take_unencodable())
    assert SECRET not in told(*found)
