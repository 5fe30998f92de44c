"""Rows of tables: of lists of records, and of frames of pandas and polars. Imports neither.

Whoever has a frame has its library. Each function returns a new table and leaves the given one as
it is, so that who holds the old one (a caller, a rollback, another thread) goes on with it.

The types of columns stay. A value is converted to its column's type where nothing is lost but the
digits that fractions of that type never have. A fraction makes a column of whole numbers one of
fractions, a number that is too large for a narrow column makes it a wide one, a missing value makes
pandas' whole numbers and truth values nullable; anything else is refused. Missing values are None
in records.

Lists, dicts and tuples in cells are copied on their way in and out: nobody else holds what is in
the table, and nobody changes it without an edit. Other objects are shared.
"""

from __future__ import annotations

import operator
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from .types import MAX_DEPTH

__all__ = ["Rows", "rows_of"]

Record = dict[str, Any]
INFINITE: Final = float("inf")


class Rows(Protocol):
    """How the rows of one kind of table are read and replaced. Positions are valid ones."""

    def take(self, data: Any) -> Any:
        """A table that changes of ``data`` do not reach."""
        ...

    def columns(self, data: Any) -> list[str]: ...
    def read(self, data: Any, at: int) -> Record: ...
    def add(self, data: Any, record: Mapping[str, Any]) -> Any: ...
    def update(self, data: Any, at: int, changes: Mapping[str, Any]) -> Any: ...
    def remove(self, data: Any, at: int) -> Any: ...


def rows_of(data: Any) -> Rows:
    """What edits such a table. Raises TypeError for what is none."""
    if isinstance(data, list):
        return RECORDS
    for library, name, rows in FRAMES:
        module: Any = sys.modules.get(library)
        if module is not None and isinstance(data, getattr(module, name, ())):
            return rows
    raise TypeError(
        "a table is made of a pandas or polars DataFrame, or of a list of records, not of a "
        f"{type(data).__module__}.{type(data).__qualname__}"
    )


def _refuse_unknown(record: Mapping[str, Any], columns: Iterable[Any]) -> None:
    known = list(columns)
    unknown = [name for name in record if name not in known]
    if unknown:
        raise KeyError(
            f"the table has no column {unknown[0]!r}; it has "
            f"{', '.join(map(repr, known)) or 'none'}"
        )


def _misfit(value: object, name: object, kind: object) -> TypeError:
    return TypeError(
        f"{reprlib.repr(value)} does not fit the column {name!r}, which is {kind}: convert it, or "
        "change the column's type in the frame and assign that to the table's data"
    )


def _copied(value: Any, room: int = MAX_DEPTH) -> Any:
    """The value, with plain containers of its own."""
    kind = value.__class__
    if kind not in (list, dict, tuple):
        return value
    if not room:
        raise ValueError(f"a value nested deeper than {MAX_DEPTH}, or containing itself")
    if kind is dict:
        return {key: _copied(item, room - 1) for key, item in value.items()}
    items = [_copied(item, room - 1) for item in value]
    return items if kind is list else tuple(items)


def _keeps(cell: Any, value: Any) -> bool:
    """Whether a cell has all of a number or time that was put into it."""
    if isinstance(value, datetime) and isinstance(cell, datetime):
        return _below_second(cell) == _below_second(value)  # coarse columns cut it off
    if isinstance(value, timedelta) and isinstance(cell, timedelta):
        return cell == value
    return _keeps_number(cell, value)


def _keeps_number(cell: Any, value: Any) -> bool:
    cell = getattr(cell, "item", lambda: cell)()  # NumPy would compare rounded numbers
    if type(cell).__name__ not in ("float", "complex"):
        return True
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            return True  # the text of a fraction
    try:
        return bool(cell == operator.index(value))
    except TypeError:
        return abs(cell) != INFINITE or bool(abs(value) == INFINITE)


def _below_second(moment: Any) -> tuple[int, int]:
    return moment.microsecond, getattr(moment, "nanosecond", 0)


# -- lists of records ---------------------------------------------------------------------------


class Records:
    """A list of dicts. They need not have the same keys."""

    def take(self, data: list[Any]) -> list[Record]:
        return [self._record(record) for record in data]

    def columns(self, data: list[Record]) -> list[str]:
        return list(dict.fromkeys(name for record in data for name in record))

    def read(self, data: list[Record], at: int) -> Record:
        return {name: _copied(value) for name, value in data[at].items()}

    def add(self, data: list[Record], record: Mapping[str, Any]) -> list[Record]:
        return [*data, self._record(record)]

    def update(self, data: list[Record], at: int, changes: Mapping[str, Any]) -> list[Record]:
        return [*data[:at], {**data[at], **self._record(changes)}, *data[at + 1 :]]

    def remove(self, data: list[Record], at: int) -> list[Record]:
        return [*data[:at], *data[at + 1 :]]

    @staticmethod
    def _record(record: Any) -> Record:
        if not isinstance(record, Mapping):
            raise TypeError(f"a record is a dict, not a {type(record).__qualname__}: {record!r}")
        found: Record = {}
        for name, value in record.items():  # pyright: ignore[reportUnknownVariableType]
            if not isinstance(name, str):
                raise TypeError(f"the columns of a record are strings, not {name!r}")
            found[name] = _copied(value)
        return found


# -- pandas -------------------------------------------------------------------------------------


class Pandas:
    """A pandas frame. Rows go by position; only a default index is numbered anew."""

    def take(self, data: Any) -> Any:
        found = data.copy()
        pd: Any = sys.modules["pandas"]
        for i, dtype in enumerate(found.dtypes):
            if pd.api.types.is_object_dtype(dtype):
                cells = [_copied(cell) for cell in found.iloc[:, i].tolist()]
                found.isetitem(i, pd.Series(cells, index=found.index, dtype=object))
        return found

    def columns(self, data: Any) -> list[str]:
        return list(data.columns)

    def read(self, data: Any, at: int) -> Record:
        row = data.iloc[at : at + 1]
        cells = [row.iloc[:, i].tolist()[0] for i in range(len(data.columns))]
        pd: Any = sys.modules["pandas"]
        return {
            name: None if _is_missing(pd, cell) else _copied(cell)
            for name, cell in zip(data.columns, cells, strict=True)
        }

    def add(self, data: Any, record: Mapping[str, Any]) -> Any:
        pd: Any = sys.modules["pandas"]
        if not len(data.columns) and not len(data):
            return pd.DataFrame([dict(record)])
        _refuse_unknown(record, data.columns)
        index = self._next_label(pd, data.index)
        found = data.copy(deep=False)
        cells: list[Any] = []
        for i, name in enumerate(data.columns):
            column = data.iloc[:, i]
            widened, cell = _fit_pandas(pd, column, record.get(name))
            if widened is not column:
                found.isetitem(i, widened)
            cells.append(cell.set_axis(index))
        row = pd.concat(cells, axis=1)
        row.columns = data.columns
        return pd.concat([found, row], ignore_index=_is_numbered(data.index))

    def update(self, data: Any, at: int, changes: Mapping[str, Any]) -> Any:
        pd: Any = sys.modules["pandas"]
        _refuse_unknown(changes, data.columns)
        found = data.copy(deep=False)
        for i, name in enumerate(data.columns):
            if name in changes:
                column, cell = _fit_pandas(pd, data.iloc[:, i], changes[name])
                array = column.array.copy()
                array[at] = cell.iloc[0]
                found.isetitem(i, pd.Series(array, index=data.index))
        return found

    def remove(self, data: Any, at: int) -> Any:
        pd: Any = sys.modules["pandas"]
        parts = [data.iloc[:at], data.iloc[at + 1 :]]
        return pd.concat(parts, ignore_index=_is_numbered(data.index))

    @staticmethod
    def _next_label(pd: Any, index: Any) -> Any:
        if _is_numbered(index):
            return pd.RangeIndex(len(index), len(index) + 1)
        if index.nlevels == 1 and pd.api.types.is_integer_dtype(index.dtype):
            label = int(index.max()) + 1 if len(index) else 0
            wide = "Int64" if isinstance(index.dtype, pd.api.extensions.ExtensionDtype) else "int64"
            for dtype in (index.dtype, wide):
                try:
                    return pd.Index([label], dtype=dtype, name=index.name)
                except (ArithmeticError, TypeError, ValueError):  # it has no such number
                    continue
            raise ValueError(
                f"a record cannot be added: its label would be {label}, and the frame's index is "
                f"{index.dtype}: give the rows smaller labels, frame.reset_index()"
            )
        raise ValueError(
            "a record cannot be added to a frame whose index is neither the default one nor whole "
            "numbers, for it has no label: make the index a column, frame.reset_index()"
        )


def _is_numbered(index: Any) -> bool:
    """Whether it is the index that pandas gives to rows without one."""
    return type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1)


def _fit_pandas(pd: Any, column: Any, value: Any) -> tuple[Any, Any]:
    """The column, widened if need be, and one of its type that has the value alone."""
    value = _copied(value)
    np: Any = sys.modules["numpy"]
    for widened in _widths(pd, column, value):
        try:
            with np.errstate(all="ignore"):  # what is lost is seen below
                cell = pd.Series([value], dtype=widened.dtype)
            if _is_kept(pd, value, cell.iloc[0], widened.dtype):
                return widened, cell
        except (ArithmeticError, TypeError, ValueError):
            continue
    raise _misfit(value, column.name, column.dtype)


def _widths(pd: Any, column: Any, value: Any) -> Iterator[Any]:
    """The column as it is, then in types that hold all of it and more."""
    dtype = column.dtype
    missing = _is_missing(pd, value)
    if isinstance(dtype, pd.CategoricalDtype) and not missing and value not in dtype.categories:
        return
    yield column
    kind = getattr(dtype, "kind", "O")
    nullable = isinstance(dtype, pd.api.extensions.ExtensionDtype)
    if kind not in "biuf" or isinstance(value, str):
        return
    if kind == "f":
        yield column.astype("Float64" if nullable else "float64")
        return
    if missing and not nullable:
        name = str(dtype)
        yield column.astype("boolean" if kind == "b" else name.replace("i", "I").replace("u", "U"))
    elif not missing and kind != "b":
        there = column.dropna()
        for wide, limit in (("int64", 2**63 - 1), ("float64", 2**53)):
            if bool(there.between(-limit, limit).all()):
                yield column.astype(wide.capitalize() if nullable else wide)


def _is_missing(pd: Any, value: Any) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _is_kept(pd: Any, value: Any, cell: Any, dtype: Any) -> bool:
    """Whether a value came into its column without loss."""
    if _is_missing(pd, value) or _is_missing(pd, cell):
        return _is_missing(pd, value) and _is_missing(pd, cell)
    types = pd.api.types
    if types.is_bool_dtype(dtype):
        return type(value).__name__ in ("bool", "bool_")
    if types.is_integer_dtype(dtype):
        return isinstance(value, str) or bool(cell == value)
    if types.is_string_dtype(dtype) and not types.is_object_dtype(dtype):
        return isinstance(value, str)
    return _keeps(cell, value)


# -- polars -------------------------------------------------------------------------------------


class Polars:
    """A polars frame."""

    def take(self, data: Any) -> Any:
        return data.clone()

    def columns(self, data: Any) -> list[str]:
        return list(data.columns)

    def read(self, data: Any, at: int) -> Record:
        found: Record = data.row(at, named=True)
        return found

    def add(self, data: Any, record: Mapping[str, Any]) -> Any:
        pl: Any = sys.modules["polars"]
        if not data.width:
            return pl.DataFrame([dict(record)])
        _refuse_unknown(record, data.columns)
        return self._joined(pl, [data, self._row(pl, data, record)])

    def update(self, data: Any, at: int, changes: Mapping[str, Any]) -> Any:
        pl: Any = sys.modules["polars"]
        _refuse_unknown(changes, data.columns)
        row = self._row(pl, data.select(list(changes)), changes)
        row = data[at : at + 1].with_columns(row.get_columns())
        return self._joined(pl, [data[:at], row, data[at + 1 :]])

    def remove(self, data: Any, at: int) -> Any:
        pl: Any = sys.modules["polars"]
        return self._joined(pl, [data[:at], data[at + 1 :]])

    @staticmethod
    def _joined(pl: Any, parts: list[Any]) -> Any:
        return pl.concat(parts, how="vertical_relaxed", rechunk=True)

    @staticmethod
    def _row(pl: Any, data: Any, record: Mapping[str, Any]) -> Any:
        return pl.DataFrame(
            [_fit_polars(pl, column, record.get(column.name)) for column in data.get_columns()]
        )


def _fit_polars(pl: Any, column: Any, value: Any) -> Any:
    """A column of one value: of the type of its column, or a number that widens it."""
    name, dtype = column.name, column.dtype
    ways: list[Callable[[], Any]] = [lambda: pl.Series(name, [value], dtype=dtype, strict=True)]
    if isinstance(value, str):  # a form sends dates and numbers as text
        ways.append(lambda: pl.Series(name, [value]).cast(dtype, strict=True))
    elif dtype.is_numeric() and isinstance(value, (int, float)) and not isinstance(value, bool):
        ways.append(lambda: pl.Series(name, [value]))
    for way in ways:
        try:
            found = way()
        except (ArithmeticError, TypeError, ValueError, pl.exceptions.PolarsError):
            continue
        if dtype.is_integer() and found.dtype.is_float() and not _fits(column, found.dtype):
            continue
        if dtype.is_float() and found.dtype.is_integer():
            found = found.cast(pl.Float64)  # as it will be in that column
        if (found[0] is None) == (value is None) and _keeps(found[0], value):
            return found
    raise _misfit(value, name, dtype)


def _fits(column: Any, dtype: Any) -> bool:
    """Whether a column of whole numbers loses nothing as one of fractions."""
    return bool(column.cast(dtype).cast(column.dtype, strict=False).equals(column))


RECORDS: Final = Records()

#: Library, name of its class, and what edits it.
FRAMES: Final[tuple[tuple[str, str, Rows], ...]] = (
    ("pandas", "DataFrame", Pandas()),
    ("polars", "DataFrame", Polars()),
)
