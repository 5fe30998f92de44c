"""Tables edited by row: over lists of records and frames of the real libraries."""

from __future__ import annotations

import asyncio
import base64
import copy
import datetime as dt
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.ledgers import changes, in_thread, opened, patch_of

import greenroom as gr
from greenroom.core.encode import encode
from greenroom.core.state import State, Template

Records = list[dict[str, Any]]

PEOPLE: Records = [
    {"name": "Ada", "age": 36, "score": 1.5, "here": True},
    {"name": "Grace", "age": 45, "score": 2.0, "here": False},
    {"name": "Alan", "age": 41, "score": 0.25, "here": True},
]
KINDS: dict[str, Callable[[Records], Any]] = {
    "records": copy.deepcopy,
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
}
FRAMES = ["pandas", "polars"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def table(kind: str, records: Records = PEOPLE) -> gr.EditableTable:
    return gr.EditableTable(KINDS[kind](records))


def wire(value: Any) -> Records:
    """What a client reads."""
    found = json.loads(encode(value))
    if isinstance(found, list):
        return found
    assert found["mime"] == "application/vnd.apache.arrow.stream"
    read: Records = pa.ipc.open_stream(base64.b64decode(found["$bytes"])).read_all().to_pylist()
    return read


# ---------------------------------------------------------------- reading


def test_it_is_read_by_record(kind: str) -> None:
    people = table(kind)
    assert len(people) == 3
    assert people.columns == ["name", "age", "score", "here"]
    assert people.records() == PEOPLE == wire(people)
    assert [dict(record) for record in people] == PEOPLE
    record = people.record(1)
    assert record["name"] == "Grace"
    assert record == PEOPLE[1] == people.read(1)
    assert (len(record), list(record), "age" in record) == (4, list(PEOPLE[1]), True)
    assert record.get("nothing", 5) == 5
    assert people.record(-1) == PEOPLE[2]
    assert people.record(np.int64(2))["age"] == 41
    assert "Grace" in repr(record)
    assert "Ada" in repr(people)
    with pytest.raises(KeyError):
        record["nothing"]


def test_positions_that_are_none(kind: str) -> None:
    people = table(kind)
    for at in (3, -4, 99):
        for use in (people.record, people.read, people.remove):
            with pytest.raises(IndexError, match=rf"no record {at}: it has 3, from 0 to 2"):
                use(at)
        with pytest.raises(IndexError):
            people.update(at, {"age": 1})
    for wrong in (True, "1", 1.0, None):
        with pytest.raises(TypeError, match="whole number"):
            people.record(wrong)  # type: ignore[arg-type]
    with pytest.raises(IndexError, match="empty"):
        table("records", []).record(0)
    record = people.record(2)
    people.remove(0)
    with pytest.raises(IndexError, match="from 0 to 1"):
        _ = record["age"]


# ---------------------------------------------------------------- editing


def test_edits_and_what_each_sends(kind: str) -> None:
    state = State({"n": {"people": table(kind)}})
    people = state["n"]["people"]
    state.take_patch()

    def sent() -> Records:
        patch = state.take_patch()
        assert list(patch.set) == ["/n/people"]
        found = patch.set["/n/people"]
        if isinstance(found, list):
            return found
        read: Records = pa.ipc.open_stream(bytes(found)).read_all().to_pylist()
        return read

    people.record(0)["age"] = 37
    assert sent()[0] == {**PEOPLE[0], "age": 37}
    people.record(0).update({"age": 38}, score=9.5)
    assert sent()[0] == {**PEOPLE[0], "age": 38, "score": 9.5}
    people.update(-1, {"name": "A. M. Turing", "here": False})
    assert sent()[2] == {"name": "A. M. Turing", "age": 41, "score": 0.25, "here": False}
    new = {"name": "Edsger", "age": 72, "score": 1.0, "here": True}
    assert people.add(new) == 3
    assert sent()[3] == new
    assert people.remove(1) == PEOPLE[1]
    assert [record["name"] for record in sent()] == ["Ada", "A. M. Turing", "Edsger"]
    assert people.remove(-1) == new
    sent()
    people.record(0)["age"] += 1
    assert people.read(0)["age"] == 39
    sent()
    assert not state.take_patch()


def test_the_callers_data_and_the_tables_do_not_follow_each_other(kind: str) -> None:
    given_data = KINDS[kind](PEOPLE)
    people = gr.EditableTable(given_data)
    people.record(0)["age"] = 1
    people.add({"name": "x"})
    people.remove(1)
    assert gr.EditableTable(given_data).records() == PEOPLE
    before = people.records()
    if kind == "records":
        given_data[0]["age"] = 99
        given_data.clear()
    elif kind == "pandas":
        given_data.loc[0, "age"] = 99
    else:
        given_data.drop_in_place("age")
    assert people.records() == before
    held = people.data
    people.update(0, {"age": 5})
    assert gr.EditableTable(held).records() == before  # who has the data keeps what it was


def test_data_is_replaced_by_data_of_any_kind(kind: str) -> None:
    state = State({"people": table("records", [{"a": 1}])})
    state.take_patch()
    people = state["people"]
    new = KINDS[kind](PEOPLE)
    people.data = new
    assert people.records() == PEOPLE
    assert state.take_patch()
    people.record(0)["age"] = 1
    assert gr.EditableTable(new).records() == PEOPLE
    assert type(people.data) is type(new)
    with pytest.raises(TypeError, match=r"pandas or polars DataFrame.*not of a builtins\.int"):
        people.data = 5
    assert len(people) == 3


def test_what_is_no_table() -> None:
    for wrong in (5, None, {"a": [1]}, (1,), "text", pa.table({"a": [1]}), pl.LazyFrame()):
        with pytest.raises(TypeError, match="a table is made of"):
            gr.EditableTable(wrong)
    with pytest.raises(TypeError, match="a record is a dict, not a int: 5"):
        gr.EditableTable([5])
    with pytest.raises(TypeError, match="strings, not 5"):
        gr.EditableTable([{5: 1}])
    people = table("records")
    with pytest.raises(TypeError, match="a record is a dict"):
        people.add([1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be deleted"):
        del people.record(0)["age"]


def test_records_of_a_list_may_have_any_keys() -> None:
    people = table("records", [])
    people.add({"a": 1})
    people.add({"b": 2, "_cost": 5})
    people.record(0)["c"] = 3
    assert people.columns == ["a", "c", "b", "_cost"]
    assert wire(people) == [{"a": 1, "c": 3}, {"b": 2}]
    assert people.read(1) == {"b": 2, "_cost": 5}


@pytest.mark.parametrize("kind", FRAMES)
def test_unknown_columns_of_a_frame(kind: str) -> None:
    people = table(kind)
    for wrong in (
        lambda: people.add({"name": "x", "nmae": 1}),
        lambda: people.update(0, {"nmae": 1}),
        lambda: people.record(0).__setitem__("nmae", 1),
    ):
        with pytest.raises(KeyError, match="no column 'nmae'; it has 'name', 'age'"):
            wrong()
    assert people.records() == PEOPLE


@pytest.mark.parametrize("kind", FRAMES)
def test_an_empty_frame_takes_the_columns_of_its_first_record(kind: str) -> None:
    people = table(kind, [])
    assert (len(people), people.columns, list(people)) == (0, [], [])
    people.add({"a": 1, "b": "x"})
    assert people.records() == [{"a": 1, "b": "x"}]
    people.remove(0)
    people.add({"a": 2})
    assert people.records() == [{"a": 2, "b": None}]


# ---------------------------------------------------------------- types of columns


def types(people: gr.EditableTable) -> dict[str, str]:
    return {name: str(kind) for name, kind in zip(people.columns, people.data.dtypes, strict=True)}


PANDAS: dict[str, Any] = {
    "int8": np.array([1, 2], dtype="int8"),
    "uint64": np.array([1, 2**63], dtype="uint64"),
    "float32": np.array([1, 2], dtype="float32"),
    "bool": [True, False],
    "str": ["a", "b"],
    "object": [["a"], {"b": 1}],
    "date": pd.to_datetime(["2026-01-01", "2026-01-02"]),
    "zone": pd.to_datetime(["2026-01-01", "2026-01-02"]).tz_localize("UTC"),
    "span": pd.to_timedelta([1, 2], "s"),
    "cat": pd.Categorical(["x", "y"]),
    "Int64": pd.array([1, None], dtype="Int64"),
    "boolean": pd.array([True, None], dtype="boolean"),
    "arrow": pd.array(["a", None], dtype="string[pyarrow]"),
}


def test_pandas_keeps_the_types_of_its_columns() -> None:
    people = gr.EditableTable(pd.DataFrame(PANDAS))
    was = types(people)
    record = {
        "int8": 5,
        "uint64": 2**63 + 1,
        "float32": 0.5,
        "bool": np.bool_(True),
        "str": "c",
        "object": [1, 2],
        "date": "2026-05-05",
        "zone": pd.Timestamp("2026-05-05", tz="UTC"),
        "span": dt.timedelta(minutes=1),
        "cat": "x",
        "Int64": 2,
        "boolean": False,
        "arrow": "z",
    }
    people.add(record)
    assert types(people) == was
    for name, value in record.items():
        people.record(0)[name] = value
    assert types(people) == was
    assert people.read(0) == people.read(2)
    assert people.read(0)["date"] == pd.Timestamp("2026-05-05")
    assert people.read(0)["object"] == [1, 2]
    people.remove(1)
    assert types(people) == was
    nothing = dict.fromkeys(["object", "date", "zone", "span", "cat", "Int64", "boolean", "arrow"])
    people.update(0, nothing)
    assert types(people) == was
    assert {people.read(0)[name] for name in nothing} == {None}


def test_numbers_widen_a_pandas_column_and_lose_nothing() -> None:
    people = gr.EditableTable(pd.DataFrame({"a": [1, 2], "b": [True, False], "c": [1, 2]}))
    people.add({"c": 5})
    assert types(people) == {"a": "Int64", "b": "boolean", "c": "int64"}
    assert people.records()[2] == {"a": None, "b": None, "c": 5}
    assert wire(people)[2] == {"a": None, "b": None, "c": 5}
    people.record(0)["c"] = 1.5
    people.record(0)["a"] = 2.5
    assert types(people) == {"a": "Float64", "b": "boolean", "c": "float64"}
    small = gr.EditableTable(pd.DataFrame({"a": np.array([1], dtype="int8")}))
    small.add({"a": 300})
    assert types(small) == {"a": "int64"}
    large = gr.EditableTable(pd.DataFrame({"a": [2**53 + 1]}))
    with pytest.raises(TypeError, match=r"1\.5 does not fit the column 'a', which is int64"):
        large.add({"a": 1.5})
    assert large.records() == [{"a": 2**53 + 1}]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("int8", "x"),
        ("bool", 2),
        ("bool", "yes"),
        ("str", 5),
        ("date", "not a day"),
        ("cat", "unknown"),
        ("Int64", "x"),
        ("boolean", 7),
    ],
)
def test_what_does_not_fit_a_pandas_column(column: str, value: Any) -> None:
    people = gr.EditableTable(pd.DataFrame(PANDAS))
    before = people.data
    with pytest.raises(TypeError, match=f"does not fit the column '{column}'"):
        people.update(0, {column: value})
    with pytest.raises(TypeError, match="assign that to the table's data"):
        people.add({column: value})
    assert people.data is before


def test_indexes_of_pandas() -> None:
    """Rows go by position, and labels stay with their rows."""
    named = pd.DataFrame({"a": [1, 2, 3]}, index=pd.Index([5, 9, 7], name="id"))
    people = gr.EditableTable(named)
    people.record(1)["a"] = 20
    people.remove(0)
    assert people.add({"a": 4}) == 2
    assert people.data.index.tolist() == [9, 7, 10]
    assert people.data.index.name == "id"
    assert [record["a"] for record in people] == [20, 3, 4]
    default = gr.EditableTable(pd.DataFrame({"a": [1, 2]}))
    default.remove(0)
    default.add({"a": 3})
    assert isinstance(default.data.index, pd.RangeIndex)
    text = gr.EditableTable(pd.DataFrame({"a": [1, 2]}, index=["x", "y"]))
    text.record(1)["a"] = 5
    text.remove(0)
    assert text.data.index.tolist() == ["y"]
    with pytest.raises(ValueError, match="reset_index"):
        text.add({"a": 1})
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    both = gr.EditableTable(twice)
    both.record(0)["a"] = 7
    assert both.data.to_numpy().tolist() == [[7, 7]]


def test_a_view_of_a_frame_is_no_chain() -> None:
    """What pandas calls chained assignment, with its warning, cannot happen."""
    frame = pd.DataFrame({"a": [1, 2, 3]})
    people = gr.EditableTable(frame[frame.a > 1])
    people.record(0)["a"] = 10
    assert people.data.a.tolist() == [10, 3]
    assert frame.a.tolist() == [1, 2, 3]


def test_polars_keeps_the_types_of_its_columns() -> None:
    frame = pl.DataFrame(
        {
            "int8": pl.Series([1, 2], dtype=pl.Int8),
            "float32": pl.Series([1, 2], dtype=pl.Float32),
            "bool": [True, False],
            "str": ["a", None],
            "date": [dt.date(2026, 1, 1), None],
            "list": [[1], [2, 3]],
            "struct": [{"x": 1}, {"x": 2}],
            "enum": pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"])),
        }
    )
    people = gr.EditableTable(frame)
    record = {
        "int8": 5,
        "float32": 0.5,
        "bool": False,
        "str": "z",
        "date": "2026-05-05",
        "list": [7],
        "struct": {"x": 9},
        "enum": "y",
    }
    people.add(record)
    people.update(0, record)
    assert people.data.schema == frame.schema
    expected = {**record, "date": dt.date(2026, 5, 5)}
    assert people.read(0) == people.read(2) == expected
    people.update(0, dict.fromkeys(record))
    assert people.data.schema == frame.schema
    assert set(people.read(0).values()) == {None}
    for column, value in [("int8", "x"), ("bool", 1), ("str", 5), ("enum", "z"), ("date", "x")]:
        with pytest.raises(TypeError, match=f"does not fit the column '{column}'"):
            people.update(0, {column: value})
    people.record(1)["int8"] = 300
    assert people.data.schema["int8"] == pl.Int64
    people.record(1)["int8"] = 1.5
    assert people.data.schema["int8"] == pl.Float64


def largest(kind: Any) -> int:
    value: int = pl.select(kind.max()).item()
    return value


@pytest.mark.parametrize("kind", [pl.Int8, pl.UInt8, pl.Int64, pl.UInt64])
def test_a_fraction_that_other_rows_would_lose_by_does_not_fit(kind: Any) -> None:
    frame = pl.DataFrame({"n": pl.Series([largest(kind), 3, None], dtype=kind)})
    people = gr.EditableTable(frame)
    if largest(kind) > 2**53:
        for edit in (lambda: people.update(1, {"n": 1.5}), lambda: people.add({"n": 1.5})):
            with pytest.raises(TypeError, match=r"1\.5 does not fit the column 'n'"):
                edit()
        assert people.data.equals(frame)
        people.update(0, {"n": 4})
    people.update(1, {"n": 1.5})
    assert people.read(1) == {"n": 1.5}


# ---------------------------------------------------------------- sessions


def test_each_session_has_its_own(kind: str) -> None:
    template = Template({"people": table(kind)})
    one, two = template.open(), template.open()
    for ledger in (one, two):
        ledger.ship()
        ledger.snapshot()
        ledger.open()
    one.root["people"].record(0)["age"] = 1
    one.root["people"].add({"name": "x"})
    assert patch_of(one)
    assert patch_of(two) is None
    assert two.root["people"].records() == PEOPLE


def test_outside_of_turns_nothing_is_changed(kind: str) -> None:
    ledger, state = opened({"people": table(kind)})
    people = state["people"]
    ledger.commit(True)
    edits: list[Callable[[], Any]] = [
        lambda: people.add({"name": "x"}),
        lambda: people.update(0, {"age": 1}),
        lambda: people.remove(0),
        lambda: people.record(0).update(age=1),
        lambda: setattr(people, "data", []),
    ]
    for edit in edits:
        with pytest.raises(gr.StaleTurn, match="EditableTable was changed outside"):
            edit()
        with pytest.raises(gr.StaleTurn):
            in_thread(edit)
    assert people.records() == PEOPLE


def test_a_turn_that_is_undone_gives_it_back_what_it_was(kind: str) -> None:
    ledger, state = opened({"people": table(kind)})
    people = state["people"]
    patch_of(ledger)
    ledger.snapshot()
    for undo in (False, True):
        ledger.open()
        people.record(0)["age"] = 1
        people.add({"name": "x"})
        people.data = [{"other": 1}]
        if undo:  # a middleware swallows the error, and edits
            ledger.undo()
            assert people.records() == PEOPLE
            people.remove(0)
        ledger.rollback(True)
        assert people.records() == PEOPLE
        assert type(people.data) is type(KINDS[kind](PEOPLE))
        patch_of(ledger)
    ledger.open()
    people.remove(0)
    ledger.commit(True)
    ledger.open()
    ledger.rollback(True)  # of the next turn
    assert people.records() == PEOPLE[1:]


def test_an_edit_is_undone_also_behind_a_change_that_cannot_be(kind: str) -> None:
    ledger, state = opened({"people": table(kind)})
    people = state["people"]
    patch_of(ledger)
    ledger.open()
    people.mutate()  # of something that only its owner knows
    people.add({"name": "x"})
    people.add({"name": "y"})
    ledger.rollback(True)
    assert people.records() == PEOPLE


def test_what_was_sent_of_an_undone_turn_is_corrected(kind: str) -> None:
    ledger, state = opened({"people": table(kind)})
    patch_of(ledger)
    ledger.open()
    state["people"].remove(0)
    first = ledger.ship()
    ledger.shipped()
    assert first is not None
    ledger.rollback(True)
    patch = ledger.ship()
    ledger.shipped()
    assert patch is not None
    assert list(patch.set) == ["/people"]
    assert state["people"].records() == PEOPLE


def test_edits_of_a_shared_table_all_count_and_stay(kind: str, arun: Any) -> None:
    """Sessions edit it in turns of their own, at once; a failing one does not undo the others'."""
    everybodys = table(kind, [{"a": -1}])
    start = threading.Barrier(4, timeout=20)

    def fill(state: Any, payload: int) -> None:
        start.wait()
        for number in range(25):
            state["table"].add({"a": 100 * payload + number})
        if payload == 0:
            raise ValueError("too bad")

    async def story() -> None:
        app = gr.App(state={"table": gr.shared(everybodys)}, handlers=[fill])
        async with app:
            sessions = [app.open_session() for _ in range(4)]
            done = await asyncio.gather(
                *[_ask(session, number) for number, session in enumerate(sessions)],
                return_exceptions=True,
            )
            assert [type(one) for one in done] == [ValueError, type(None), type(None), type(None)]
        assert sorted(record["a"] for record in everybodys.records()) == sorted(
            [-1, *(100 * payload + number for payload in range(4) for number in range(25))]
        )

    arun(story)


async def _ask(session: gr.Session, payload: int) -> Any:
    return await session.ask("fill", payload)


def test_subscribers_see_the_edit(kind: str) -> None:
    state = State({"people": table(kind), "total": 0})

    def total(state: Any) -> None:
        state["total"] = sum(record["age"] for record in state["people"])

    state.subscribe_mutation("people", total)
    state["people"].record(0)["age"] = 100
    assert state["total"] == 186
    assert set(state.take_patch().set) == {"/people", "/total"}


def test_a_record_in_the_state_is_a_value_like_any_other() -> None:
    state = State({"people": table("records")})
    state["picked"] = state["people"].record(1)
    assert changes(state)["="]["/picked"] == PEOPLE[1]


def test_copies(kind: str) -> None:
    people = table(kind)
    for other in (copy.copy(people), copy.deepcopy(people), pickle.loads(pickle.dumps(people))):
        other.record(0)["age"] = 1
        other.remove(1)
        assert people.records() == PEOPLE
        assert len(other) == 2


class Named(gr.EditableTable):
    """A table with more to it."""

    def __init__(self, name: list[str], data: Any) -> None:
        super().__init__(data)
        self.name = name


def test_copies_of_a_class_with_attributes_of_its_own(kind: str) -> None:
    ledger, state = opened({"people": Named(["Ada"], table(kind).data)})
    state["people"].name.append("Alan")
    assert (state["people"].name, len(state["people"])) == (["Ada", "Alan"], 3)
    assert Template({"people": state["people"]}).open().root["people"].name == ["Ada", "Alan"]
    state["people"].add(PEOPLE[0])
    ledger.rollback(True)
    assert len(state["people"]) == 3


# ---------------------------------------------------------------- all three alike

values = st.integers(-5, 5) | st.none()
edits = st.lists(
    st.tuples(
        st.sampled_from(["add", "update", "remove", "set", "data", "undo"]),
        st.integers(-4, 4),
        st.dictionaries(st.sampled_from(["a", "b"]), values, max_size=2),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(edits)
def test_every_kind_does_what_a_list_of_dicts_does(story: list[tuple[str, int, Any]]) -> None:
    begin: Records = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    model = copy.deepcopy(begin)
    sessions = [opened({"t": gr.EditableTable(make(begin))}) for make in KINDS.values()]
    for what, at, changed in story:
        there = -len(model) <= at < len(model)
        full = {"a": None, "b": None, **changed}
        for ledger, state in sessions:
            rows = state["t"]
            if what == "add":
                rows.add(full)
            elif what == "data":
                rows.data = type(rows.data)(begin)
            elif what == "undo":
                ledger.mark()
                rows.add(full)
                ledger.undo()
            elif there:
                if what == "update":
                    rows.update(at, changed)
                elif what == "remove":
                    assert rows.remove(at) == model[at]
                else:
                    rows.record(at)["a"] = full["a"]
            else:
                with pytest.raises(IndexError):
                    rows.record(at)
        if what == "add":
            model.append(full)
        elif what == "data":
            model = copy.deepcopy(begin)
        elif there and what == "update":
            model[at].update(changed)
        elif there and what == "remove":
            del model[at]
        elif there and what == "set":
            model[at]["a"] = full["a"]
        for _, state in sessions:
            assert state["t"].records() == model
            assert wire(state["t"]) == model


# ---------------------------------------------------------------- imports


def test_no_library_is_imported_for_a_list_of_records() -> None:
    code = """
import sys
import greenroom as gr
state = gr.State({"t": gr.EditableTable([{"a": 1}])})
state["t"].add({"a": 2})
state["t"].record(0)["a"] = 5
assert state.take_patch().set == {"/t": [{"a": 5}, {"a": 2}]}
try:
    gr.EditableTable(5)
except TypeError:
    pass
assert not {"pandas", "polars", "numpy", "pyarrow"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
