"""What cells of tables keep of the values they are given, and whose those are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import greenroom as gr

ODD = 2**53 + 1  # the first whole number that is no float

COLUMNS: dict[str, Callable[[str], Any]] = {
    "pandas": lambda kind: pd.DataFrame({"x": pd.Series([1], dtype=kind)}),
    "polars": lambda kind: pl.DataFrame({"x": pl.Series([1], dtype=getattr(pl, kind))}),
}


def assigned(column: Any, value: Any) -> tuple[Any, str]:
    """What a column has of a value, and its type then."""
    table = gr.EditableTable(column)
    table.record(0)["x"] = value
    kind = table.data["x"].dtype
    return table.record(0)["x"], str(kind)


@pytest.mark.parametrize("value", [ODD, -ODD, np.int64(ODD), str(ODD), 2**70 + 1, 10**400])
@pytest.mark.parametrize(
    ("library", "kind"),
    [
        ("pandas", "float64"),
        ("pandas", "float32"),
        ("pandas", "Float64"),
        ("pandas", "complex128"),
        ("polars", "Float64"),
        ("polars", "Float32"),
    ],
)
def test_a_whole_number_is_kept_exactly_or_refused(library: str, kind: str, value: Any) -> None:
    column = COLUMNS[library](kind)
    with pytest.raises(TypeError, match=f"does not fit the column 'x', which is {kind}"):
        assigned(column, value)
    with pytest.raises(TypeError, match=f"does not fit the column 'x', which is {kind}"):
        gr.EditableTable(column).add({"x": value})
    found, _ = assigned(column, 2**53)
    assert found == 2**53


def test_one_that_fits_neither_whole_numbers_nor_fractions() -> None:
    assert assigned(COLUMNS["pandas"]("int64"), 2**70) == (2.0**70, "float64")
    with pytest.raises(TypeError, match="does not fit"):
        assigned(COLUMNS["pandas"]("int64"), 2**70 + 1)


@pytest.mark.parametrize(("library", "kind"), [("pandas", "float32"), ("polars", "Float32")])
def test_a_narrow_column_of_fractions_becomes_a_wide_one(library: str, kind: str) -> None:
    wide = kind.replace("32", "64")
    column = COLUMNS[library](kind)
    assert assigned(column, 2**24 + 1) == (2**24 + 1, wide)
    assert assigned(column, 1e300) == (1e300, wide), "it was infinite"
    found, kept = assigned(column, 0.1)  # digits that its fractions never have
    assert (found, kept) == (pytest.approx(0.1), kind)
    found, kept = assigned(column, float("inf"))
    assert (found, kept) == (float("inf"), kind)


def test_times_are_not_cut_to_the_unit_of_a_coarse_column() -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001
    pause = dt.timedelta(seconds=5)
    times = pd.DataFrame({"x": pd.Series([moment]).astype("datetime64[s]")})
    pauses = pd.DataFrame({"x": pd.Series([pause]).astype("timedelta64[s]")})
    millis = pl.DataFrame({"x": pl.Series([moment], dtype=pl.Datetime("ms"))})
    assert assigned(times, moment)[0] == assigned(millis, moment)[0] == moment
    assert assigned(pauses, pause)[0] == pause
    tick = dt.timedelta(microseconds=1)
    for column, value in ((times, moment + tick), (pauses, pause + tick), (millis, moment + tick)):
        with pytest.raises(TypeError, match="does not fit the column 'x'"):
            assigned(column, value)


@pytest.mark.parametrize("kind", ["records", "pandas", "polars"])
def test_what_is_nested_in_a_record_is_the_tables_own(kind: str) -> None:
    make: Callable[[Any], Any] = {"records": list, "pandas": pd.DataFrame, "polars": pl.DataFrame}[
        kind
    ]
    first: dict[str, Any] = {"tags": ["a"], "at": {"x": [1]}}
    data = make([first])
    table = gr.EditableTable(data)
    added: dict[str, Any] = {"tags": ["b"], "at": {"x": [2]}}
    table.add(added)
    changed = ["c"]
    table.update(0, {"tags": changed})
    for mine in (first["tags"], added["tags"], changed, first["at"]["x"], added["at"]["x"]):
        mine.append("mine")
    read, every, one = table.read(1), table.records(), table.record(0)["tags"]
    for seen in (read["tags"], every[0]["at"]["x"], every[1]["tags"], one):
        seen.append(99 if isinstance(seen[0], int) else "theirs")
    removed = table.remove(1)
    assert removed == {"tags": ["b"], "at": {"x": [2]}}
    assert table.records() == [{"tags": ["c"], "at": {"x": [1]}}]


def test_other_objects_of_records_are_shared_and_circles_refused() -> None:
    image = gr.Bytes(b"", "image/png")
    table = gr.EditableTable([{"image": image, "pair": (1, [2])}])
    assert table.record(0)["image"] is image
    assert table.record(0)["pair"] == (1, [2])
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="nested deeper than 100, or containing itself"):
        table.add({"circle": circle})
    assert len(table) == 1


@pytest.mark.parametrize(
    ("kind", "last", "wide"),
    [("int8", 127, "int64"), ("uint8", 255, "int64"), ("Int8", 127, "Int64")],
)
def test_a_full_index_of_pandas_becomes_a_wide_one(kind: str, last: int, wide: str) -> None:
    index = pd.Index([3, last], dtype=kind, name="id")
    table = gr.EditableTable(pd.DataFrame({"x": [1, 2]}, index=index))
    assert table.add({"x": 3}) == 2
    assert list(table.data.index) == [3, last, last + 1]
    assert (str(table.data.index.dtype), table.data.index.name) == (wide, "id")


@pytest.mark.parametrize("kind", ["int64", "uint64", "Int64"])
def test_an_index_that_is_full_for_good_is_an_error_of_ours(kind: str) -> None:
    last = int(np.iinfo(kind.lower()).max)
    frame = pd.DataFrame({"x": [1]}, index=pd.Index([last], dtype=kind))
    table = gr.EditableTable(frame)
    with pytest.raises(
        ValueError, match=rf"label would be {last + 1}, .* is {kind}: .*reset_index"
    ):
        table.add({"x": 2})
    assert len(table) == 1
