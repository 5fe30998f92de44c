"""What values of other people's libraries look like on the wire. Imports none of those libraries.

A row goes by the name of a class, so it costs nothing until such a value comes along; whoever has
the value has the library. What a row returns is encoded in turn. The registry is in ``encode.py``.

Frames travel as an Arrow IPC stream, which every Arrow library reads (``tableFromIPC`` in
JavaScript); so do values of libraries unknown here that speak the Arrow PyCapsule interface or the
dataframe interchange protocol.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from .errors import Unencodable
from .types import Bytes

__all__ = ["ARROW", "ROWS", "protocol_of"]

ARROW: Final = "application/vnd.apache.arrow.stream"
PNG: Final = "image/png"

Row = Callable[[Any], Any]


# -- numbers ------------------------------------------------------------------------------------


def _numpy_scalar(value: Any) -> Any:
    """A NumPy scalar: the Python number, text or date that it is."""
    kind = value.dtype.kind
    if kind in "Mm":
        return _numpy_times(value.reshape(1))[0]
    if kind == "f":  # a long double has no Python form of its own
        return float(value)
    if kind == "c":
        return str(complex(value))
    return value.item()


def _numpy_array(value: Any) -> Any:
    """An array: lists of lists. Dates as text, durations in seconds, masked elements null."""
    kind = value.dtype.kind
    if kind in "Mm":
        return _numpy_times(value)
    if kind == "f" and value.dtype.itemsize > 8:
        value = value.astype("float64")
    if kind == "c":
        return value.astype(object).tolist()  # each has a row of its own
    return value.tolist()


def _numpy_times(value: Any) -> Any:
    """datetime64 as ISO 8601 text, timedelta64 in seconds; NaT as null."""
    np: Any = import_module("numpy")

    if value.dtype.kind == "M":
        found = np.datetime_as_string(value).astype(object)
    else:
        try:
            found = (value / np.timedelta64(1, "s")).astype(object)
        except TypeError:
            raise Unencodable(
                f"a {value.dtype} has no length in seconds: use a unit of days or smaller"
            ) from None
    found[np.isnat(value)] = None
    return found.tolist()


# -- frames -------------------------------------------------------------------------------------


def _arrow(value: Any) -> Bytes:
    """A table as an Arrow IPC stream, through pyarrow."""
    try:
        pa: Any = import_module("pyarrow")
    except ImportError:
        raise Unencodable(
            f"a {type(value).__qualname__} travels as Arrow data: install pyarrow, or assign "
            "what of it the page needs"
        ) from None
    try:
        table = pa.table(value)
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise _no_table(value, error) from error
    return Bytes(sink.getvalue(), ARROW)


def _interchanged(value: Any) -> Bytes:
    """What only speaks the dataframe interchange protocol."""
    try:
        interchange: Any = import_module("pyarrow.interchange")
    except ImportError:
        return _arrow(value)  # says what to install
    try:
        table = interchange.from_dataframe(value)
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise _no_table(value, error) from error
    return _arrow(table)


def _polars(value: Any) -> Bytes:
    """A polars frame, in types that every Arrow reader knows. Needs no pyarrow."""
    pl: Any = import_module("polars")

    for name, kind in value.schema.items():
        if kind == pl.Object:  # polars would write their addresses in memory
            raise Unencodable(f"a DataFrame whose column {name!r} holds Python objects")
    try:
        sink = value.write_ipc_stream(None, compat_level=pl.CompatLevel.oldest())
    except pl.exceptions.PolarsError as error:
        raise _no_table(value, error) from error
    return Bytes(sink.getvalue(), ARROW)


def _no_table(value: Any, error: Exception) -> Unencodable:
    text = str(error).partition("\n")[0]
    return Unencodable(f"a {type(value).__qualname__} that has no form as an Arrow table: {text}")


def _to_list(value: Any) -> Any:
    return value.to_list()


def _to_pylist(value: Any) -> Any:
    return value.to_pylist()


def _as_py(value: Any) -> Any:
    return value.as_py()


def _null(_value: Any) -> None:
    return None


# -- figures ------------------------------------------------------------------------------------


def _matplotlib(value: Any) -> Bytes:
    """A figure as a PNG, in its own size and resolution. It is not closed."""
    sink = io.BytesIO()
    value.savefig(sink, format="png")
    return Bytes(sink.getvalue(), PNG)


def _plotly(value: Any) -> Any:
    return value.to_plotly_json()


# -- records ------------------------------------------------------------------------------------


def _struct(value: Any) -> dict[str, Any]:
    """A msgspec struct under the names, and with the tag, that it has in JSON."""
    pairs = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
    found = {name: getattr(value, field) for name, field in pairs}
    config = value.__struct_config__
    return found if config.tag is None else {config.tag_field: config.tag, **found}


def _pydantic(value: Any) -> Any:
    return value.model_dump()


def _to_dict(value: Any) -> Any:
    return value.to_dict()


def _attrs(value: Any) -> dict[str, Any]:
    fields: Any = value.__attrs_attrs__
    return {field.name: getattr(value, field.name) for field in fields}


#: By the name of a class; subclasses come here too. Where a library gives its classes another
#: address in newer versions there is a row for each.
ROWS: Final[dict[type | str, Row]] = {
    "numpy.generic": _numpy_scalar,
    "numpy.ndarray": _numpy_array,
    "pandas.DataFrame": _arrow,
    "pandas.core.frame.DataFrame": _arrow,
    "pandas.Series": _to_list,
    "pandas.core.series.Series": _to_list,
    "pandas.Index": _to_list,
    "pandas.core.indexes.base.Index": _to_list,
    "pandas.api.extensions.ExtensionArray": list,
    "pandas.core.arrays.base.ExtensionArray": list,
    "pandas._libs.missing.C_NAType": _null,
    "pandas._libs.tslibs.nattype._NaT": _null,
    "pandas.Period": str,
    "pandas._libs.tslibs.period._Period": str,
    "pandas.Interval": str,
    "pandas._libs.interval.Interval": str,
    "polars.dataframe.frame.DataFrame": _polars,
    "polars.series.series.Series": _to_list,
    "pyarrow.lib.Array": _to_pylist,
    "pyarrow.lib.ChunkedArray": _to_pylist,
    "pyarrow.lib.Scalar": _as_py,
    "matplotlib.figure.Figure": _matplotlib,
    "plotly.basedatatypes.BaseFigure": _plotly,
    "msgspec.Struct": _struct,
    "pydantic.main.BaseModel": _pydantic,
}

#: By the methods of a class that no row names, in this order.
_METHODS: Final[tuple[tuple[str, Row], ...]] = (
    ("__arrow_c_stream__", _arrow),
    ("__dataframe__", _interchanged),
    ("to_dict", _to_dict),
)


def protocol_of(kind: type) -> Row | None:
    """The encoder for a class that no row names, by the protocol it speaks; None without one."""
    for name, row in _METHODS:
        if callable(getattr(kind, name, None)):
            return row
    return _attrs if hasattr(kind, "__attrs_attrs__") else None
