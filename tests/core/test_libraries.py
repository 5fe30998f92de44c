"""Values of real libraries on the wire, and that none of them is imported for it."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from typing import Any

import altair as alt
import attrs
import matplotlib.figure
import msgspec
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import pydantic
import pytest

from greenroom.core.encode import encode
from greenroom.core.errors import Unencodable
from greenroom.core.state import State
from greenroom.core.types import Bytes

ARROW = "application/vnd.apache.arrow.stream"


def wire(value: Any) -> Any:
    return json.loads(encode(value))


def table_of(value: Any) -> pa.Table:
    """The table that a client reads out of an encoded frame."""
    found = wire(value)
    assert found["mime"] == ARROW
    import base64

    return pa.ipc.open_stream(base64.b64decode(found["$bytes"])).read_all()


# -- NumPy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(2**60), 2**60),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.int8(-5), -5),
        (np.bool_(True), True),
        (np.float64(0.5), 0.5),
        (np.float64("nan"), None),
        (np.float32("inf"), None),
        (np.float16(1.5), 1.5),
        (np.longdouble(0.25), 0.25),
        (np.complex128(1 + 2j), "(1+2j)"),
        (np.str_("é"), "é"),
        (np.bytes_(b"hi"), {"$bytes": "aGk="}),
        (np.datetime64("2020-01-02"), "2020-01-02"),
        (np.datetime64("2020-01-02T03:04:05.000000006"), "2020-01-02T03:04:05.000000006"),
        (np.datetime64("NaT", "s"), None),
        (np.timedelta64(1500, "ms"), 1.5),
        (np.timedelta64("NaT", "s"), None),
        (np.array(5), 5),
        (np.array([], dtype="f8"), []),
        (np.array([[1, 2], [3, 4]], dtype="u1"), [[1, 2], [3, 4]]),
        (np.array([1.5, float("nan"), float("-inf")]), [1.5, None, None]),
        (np.array([0.5], dtype="longdouble"), [0.5]),
        (np.array([[1j]]), [["1j"]]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([True, False]), [True, False]),
        (np.array(["2020-01-02", "NaT"], dtype="M8[D]"), ["2020-01-02", None]),
        (np.array([[1000, 2500]], dtype="m8[ms]"), [[1.0, 2.5]]),
        (np.array([{"_p": 1, "a": {2}}], dtype=object), [{"a": [2]}]),
        (np.array([(1, 0.5)], dtype=[("a", "i4"), ("b", "f8")]), [[1, 0.5]]),
        (np.ma.masked_array([1, 2], [False, True]), [1, None]),
    ],
    ids=repr,
)
def test_numpy(value: Any, expected: Any) -> None:
    assert wire(value) == expected
    assert wire({"deep": [value]}) == {"deep": [expected]}


def test_a_duration_in_months_has_no_seconds() -> None:
    with pytest.raises(Unencodable, match="unit of days"):
        encode(np.timedelta64(5, "M"))


# -- frames ---------------------------------------------------------------------------------------

COLUMNS: dict[str, list[Any]] = {
    "name": ["a", None, "é"],
    "count": [1, 2, 3],
    "share": [0.5, None, 1.5],
    "when": [dt.datetime(2020, 1, 2, tzinfo=dt.UTC)] * 3,
}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_frames_are_arrow_streams(make: Any) -> None:
    table = table_of(make(COLUMNS))
    assert table.column_names == list(COLUMNS)
    assert table["name"].to_pylist() == COLUMNS["name"]
    assert table["count"].to_pylist() == COLUMNS["count"]
    assert table["share"].to_pylist() == COLUMNS["share"]
    assert table["when"].to_pylist() == COLUMNS["when"]


def test_an_index_that_says_something_is_a_column() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key"))
    assert table_of(frame).to_pydict() == {"a": [1, 2], "key": ["x", "y"]}
    assert table_of(frame.reset_index()).column_names == ["key", "a"]


def test_empty_frames_keep_their_columns() -> None:
    assert table_of(pd.DataFrame({"a": []})).column_names == ["a"]
    assert table_of(pl.DataFrame({"a": []})).column_names == ["a"]


def test_batches_and_strangers_that_speak_arrow() -> None:
    class Stranger:
        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return pa.table({"a": [1]}).__arrow_c_stream__(requested_schema)

        def to_dict(self) -> Any:
            raise AssertionError("Arrow goes first")

    assert table_of(Stranger()).to_pydict() == {"a": [1]}
    assert table_of(pa.record_batch({"a": [1]})).to_pydict() == {"a": [1]}


def test_what_only_speaks_the_interchange_protocol() -> None:
    class Old:
        def __dataframe__(self, **options: Any) -> Any:
            return pa.table({"a": [1, 2]}).__dataframe__(**options)

    assert table_of(Old()).to_pydict() == {"a": [1, 2]}


def test_a_column_that_arrow_cannot_hold_says_which() -> None:
    with pytest.raises(Unencodable, match=r"DataFrame.*column a"):
        encode(pd.DataFrame({"a": [1, "x"]}))
    with pytest.raises(Unencodable, match="'a' holds Python objects"):
        encode(pl.DataFrame({"a": [object()]}))  # polars would send their addresses


def test_frames_without_pyarrow_name_the_cure() -> None:
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from greenroom.core.encode import encode\n"
        "class Frame:\n"
        "    def __arrow_c_stream__(self): ...\n"
        "    def __dataframe__(self): ...\n"
        "try: encode(Frame())\n"
        "except TypeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert "a Frame travels as Arrow data: install pyarrow" in done.stdout.decode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pd.Series([1.5, float("nan")]), [1.5, None]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Index(["a", "b"]), ["a", "b"]),
        (pd.date_range("2020-01-01", periods=1), ["2020-01-01T00:00:00"]),
        (pd.Timestamp("2020-01-02T03:04"), "2020-01-02T03:04:00"),
        (pd.Timedelta("1500ms"), 1.5),
        (pd.NaT, None),
        (pd.NA, None),
        (pd.array([1, None], dtype="Int64"), [1, None]),
        (pd.Categorical(["a", "b"]), ["a", "b"]),
        (pd.Period("2020-01"), "2020-01"),
        (pd.Interval(0, 1), "(0, 1]"),
        (pl.Series([1, None]), [1, None]),
        (pa.array([1, None]), [1, None]),
        (pa.chunked_array([[1], [2]]), [1, 2]),
        (pa.scalar(5), 5),
    ],
    ids=repr,
)
def test_columns_and_cells(value: Any, expected: Any) -> None:
    assert wire(value) == expected


# -- figures --------------------------------------------------------------------------------------


def test_matplotlib_figures_are_pictures() -> None:
    figure = matplotlib.figure.Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([1, 2])
    found = encode({"figure": figure})
    assert b'"mime":"image/png"' in found
    import base64

    raw = base64.b64decode(json.loads(found)["figure"]["$bytes"])
    assert raw.startswith(b"\x89PNG")
    assert (int.from_bytes(raw[16:20]), int.from_bytes(raw[20:24])) == (100, 50)
    assert encode({"figure": figure}) == found  # it can be drawn again


def test_plotly_and_altair_are_their_json() -> None:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, None]))
    assert wire(figure) == json.loads(figure.to_json())
    chart = alt.Chart(pd.DataFrame({"x": [1]})).mark_bar().encode(x="x:Q")
    assert wire(chart)["mark"] == {"type": "bar"}
    assert wire(chart) == chart.to_dict()


# -- records --------------------------------------------------------------------------------------


class Inner(msgspec.Struct, rename="camel"):
    some_day: dt.date


class Tagged(msgspec.Struct, tag="t"):
    inner: Inner


class Model(pydantic.BaseModel):
    day: dt.date
    inner: dict[str, float]
    _hidden: int = 5


@attrs.define
class Attrs:
    x: int
    many: set[int]
    _private: int = 0


def test_records() -> None:
    day = dt.date(2020, 1, 2)
    struct = Tagged(Inner(day))
    assert wire(struct) == {"type": "t", "inner": {"someDay": "2020-01-02"}}
    assert wire(struct) == json.loads(msgspec.json.encode(struct))
    model = Model(day=day, inner={"a": float("nan")})
    assert wire([model]) == [{"day": "2020-01-02", "inner": {"a": None}}]
    assert wire(Attrs(1, {2})) == {"x": 1, "many": [2]}


def test_a_record_with_to_dict_speaks_for_itself() -> None:
    @attrs.define
    class Own:
        x: int

        def to_dict(self) -> Any:
            return [self.x]

    assert wire(Own(1)) == [1]


# -- in a state -----------------------------------------------------------------------------------


def test_values_of_libraries_in_a_state() -> None:
    state = State({"frame": None, "figure": None, "n": 0})
    state["frame"] = pd.DataFrame({"a": [1]})
    state["figure"] = np.arange(3)
    state["n"] = np.int64(5)
    patch = state.take_patch()
    assert patch.set["/figure"] == [0, 1, 2]
    assert patch.set["/n"] == 5
    assert isinstance(patch.set["/frame"], Bytes)
    assert patch.set["/frame"].mime == ARROW


def test_no_library_is_imported_for_it() -> None:
    script = (
        "import sys, greenroom as gr\n"
        "state = gr.State({'a': 1})\n"
        "state['b'] = {1, 2}\n"
        "class Own:\n"
        "    def to_dict(self): return {}\n"
        "state['c'] = Own()\n"
        "state.take_patch().encode()\n"
        "names = ('numpy pandas polars pyarrow matplotlib plotly altair attr pydantic').split()\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
