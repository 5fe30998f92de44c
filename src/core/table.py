"""A table that is edited row by row and reports its changes.

An edit replaces the table's data and leaves what was there as it is, so

- the frame or list it was made of never changes by it,
- the edits of a turn that is undone are undone as well, for what was there is still there,
- another thread that reads sees the table before the edit or after it.

Who may call what: edit in a turn, like any assignment; read anywhere. A table of ``gr.shared`` may
be edited in the turns of several sessions at once: ``_lock`` makes each edit begin with what the
one before it left. Its edits stay when a turn is undone, for others may build on them.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, SupportsIndex

from .encode import encoders
from .frames import Rows, rows_of
from .mutable import MutableValue, reach, report

__all__ = ["EditableTable", "TableRecord"]


class EditableTable(MutableValue):
    """A pandas or polars frame, or a list of records, that is edited by row and sent when it is.

    ::

        state["people"] = gr.EditableTable([{"name": "Ada", "age": 36}])
        state["people"].record(0)["age"] = 37
        state["people"].add({"name": "Grace", "age": 45})

    Clients get a frame as an Arrow IPC stream, a list of records as a list, in which keys with a
    leading underscore are private. The table takes a copy of what it is made of, and of the lists,
    dicts and tuples in its cells; what is read of those is a copy, so assign what you changed.

    Rows go by position, negative ones from the end: IndexError when there is none. A name that is
    no column of a frame is a KeyError, a value that does not fit its column a TypeError; records of
    a list may have any keys. Edits are for turns: elsewhere :class:`StaleTurn`, and nothing is
    changed. Each costs a copy of what it changes, so for many at once edit a frame of your own and
    assign it to ``data``.
    """

    def __init__(self, data: Any) -> None:
        rows = rows_of(data)
        self._held: tuple[Rows, Any] = rows, rows.take(data)
        self._lock = threading.Lock()

    # -- reading

    @property
    def data(self) -> Any:
        """The frame, or the list of records, itself. Assigning one, of any kind, replaces it.

        What you change in it without assigning it is reported by ``mutate()``, and not undone.
        """
        return self._held[1]

    @data.setter
    def data(self, data: Any) -> None:
        rows = rows_of(data)
        taken = rows.take(data)
        self._edit(lambda _rows, _data: (rows, taken))

    @property
    def columns(self) -> list[str]:
        """The names of the columns; of records, of all of them."""
        rows, data = self._held
        return rows.columns(data)

    def record(self, at: SupportsIndex) -> TableRecord:
        """The record at a position: a mapping; what is assigned to its keys is an update."""
        return TableRecord(self, self._position(at, self.data))

    def records(self) -> list[dict[str, Any]]:
        """All records, as dicts of their own."""
        rows, data = self._held
        return [rows.read(data, at) for at in range(len(data))]

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[TableRecord]:
        return iter([TableRecord(self, at) for at in range(len(self.data))])

    def __repr__(self) -> str:
        return f"EditableTable({self.data!r})"

    # -- editing

    def add(self, record: Mapping[str, Any]) -> int:
        """Add a record at the end; its position. What it lacks of a frame's columns is missing."""
        return len(self._edit(lambda rows, data: (rows, rows.add(data, record)))) - 1

    def update(self, at: SupportsIndex, changes: Mapping[str, Any]) -> None:
        """Give a record the values of ``changes``; its other columns stay."""
        self._edit(
            lambda rows, data: (rows, rows.update(data, self._position(at, data), changes)),
        )

    def remove(self, at: SupportsIndex) -> dict[str, Any]:
        """Remove a record and return it. Those behind it move up by one."""
        found: list[dict[str, Any]] = []

        def without(rows: Rows, data: Any) -> tuple[Rows, Any]:
            position = self._position(at, data)
            found.append(rows.read(data, position))
            return rows, rows.remove(data, position)

        self._edit(without)
        return found[0]

    def read(self, at: SupportsIndex) -> dict[str, Any]:
        """The record at a position, as a dict of its own."""
        rows, data = self._held
        return rows.read(data, self._position(at, data))

    def _edit(self, change: Callable[[Rows, Any], tuple[Rows, Any]]) -> Any:
        """Replace the data by what ``change`` makes of it, and report it."""
        reached = reach(self)  # first: a thread that may not, changes nothing
        with self._lock:
            before = self._held
            self._held = after = change(*before)

        def undo() -> None:
            self._held = before

        report(self, reached, undo)
        return after[1]

    @staticmethod
    def _position(at: Any, data: Any) -> int:
        if isinstance(at, bool):
            raise TypeError(f"the position of a record is a whole number, not {at!r}")
        try:
            wanted = operator.index(at)
        except TypeError:
            raise TypeError(f"the position of a record is a whole number, not {at!r}") from None
        size = len(data)
        if not -size <= wanted < size:
            there = f"it has {size}, from 0 to {size - 1}" if size else "it is empty"
            raise IndexError(f"the table has no record {wanted}: {there}")
        return wanted % size

    # -- copies: sessions get one each of a table in the initial state

    def __getstate__(self) -> Any:
        rest = {key: value for key, value in vars(self).items() if key not in ("_held", "_lock")}
        return (self.data, rest)  # a class of its own may add to the rest

    def __setstate__(self, state: tuple[Any, dict[str, Any]]) -> None:
        data, rest = state
        self._held = rows_of(data), data
        self._lock = threading.Lock()
        vars(self).update(rest)


class TableRecord(MutableMapping[str, Any]):
    """The record at a position of a table: reads what is there now, and assigning is an update.

    ``update(...)`` of several columns is one edit. Columns cannot be deleted.
    """

    __slots__ = ("_at", "_table")

    def __init__(self, table: EditableTable, at: int) -> None:
        self._table = table
        self._at = at

    def __getitem__(self, name: str) -> Any:
        return self._table.read(self._at)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._table.update(self._at, {name: value})

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"the column {name!r} of one record cannot be deleted: assign it None")

    def update(self, changes: Any = (), /, **more: Any) -> None:
        """Assign several columns, as one edit."""
        self._table.update(self._at, dict(changes, **more))

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.read(self._at))

    def __len__(self) -> int:
        return len(self._table.read(self._at))

    def __repr__(self) -> str:
        return f"<record {self._at} {self._table.read(self._at)!r}>"


def _data_of(table: EditableTable) -> Any:
    return table.data


encoders[EditableTable] = _data_of
encoders[TableRecord] = dict
