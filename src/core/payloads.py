"""Payloads as handlers declare them: ``payload: T`` is validated and converted before the call.

msgspec does the work. Where the annotation speaks pydantic (a model, a pydantic dataclass, or
``Annotated`` with pydantic's fields) pydantic does it; it is never imported for anything else.
Annotations are resolved when the function is registered, so a name that cannot be resolved, or a
type that cannot be validated, is an error then.
"""

from __future__ import annotations

import contextlib
import functools
import typing
from collections.abc import Callable, Iterable
from inspect import Parameter
from typing import Any, Final, cast

import msgspec

from ._turn import current_turn
from .errors import BadHandler, BadPayload
from .file import File, clean_mime, clean_name
from .packet import is_list, object_in
from .plans import Wanted, describe, layers, name_of
from .types import Bytes

__all__ = ["converter"]

Converter = Callable[[Any], Any]

UNCHECKED: Final = (Parameter.empty, Any, object)
RAW: Final = (bytes, bytearray, memoryview)  # taken as they are; text is not base64 for us
SHOWN: Final = 5  # complaints of pydantic in one message


def converter(fn: Any, payloads: Iterable[Wanted], what: str = "handler") -> Converter | None:
    """What turns a payload into what the parameters of ``fn`` declare; None: hand it over as it is.

    An event without data leaves the default of a ``payload`` alone.
    Raises BadHandler for annotations that cannot be resolved or validated.
    """
    wants = tuple(payloads)
    if not wants:
        return None
    check = _checking(fn, [_resolve(fn, want, what) for want in wants], what)
    default = next((want.default for want in wants if not want.required), Parameter.empty)
    if default is Parameter.empty or (default is None and check is None):
        return check

    def convert(payload: Any) -> Any:
        if payload is None:
            return default
        return payload if check is None else check(payload)

    return convert


def _checking(fn: Any, declared: list[Any], what: str) -> Converter | None:
    hint = declared[0]
    if any(other != hint for other in declared):
        raise BadHandler(
            f"{what} {describe(fn)} declares its payload twice, as two types: annotate one of them"
        )
    if any(hint is unchecked for unchecked in UNCHECKED):
        return None
    try:
        check = _by_pydantic(hint) if _speaks_pydantic(hint) else _by_msgspec(hint)
    except Exception as error:  # whatever pydantic says about a type it cannot read
        raise _uncheckable(fn, hint, what, error) from error
    try:
        check(_Probe())
    except (msgspec.ValidationError, ValueError):
        pass  # the probe fits nothing, as it should
    except Exception as error:  # a type may run any code to see what it is given
        raise _uncheckable(fn, hint, what, error) from error
    return _typed_errors(check, f"{what} {name_of(fn)}")


def _uncheckable(fn: Any, hint: Any, what: str, error: Exception) -> BadHandler:
    return BadHandler(
        f"{what} {describe(fn)}: a payload cannot be checked against {_text(hint)}: {error}"
    )


class _Probe:
    """Fits no declared type."""


def _resolve(fn: Any, want: Wanted, what: str) -> Any:
    """The annotation as a type: strings are looked up where they were written."""
    if want.annotation is Parameter.empty:
        return Parameter.empty
    problem: Exception | None = None
    # A wrapper made with functools.wraps carries the annotations of what it wraps: inside first.
    for layer in reversed(list(layers(want.owner))):
        names = getattr(layer, "__globals__", None)
        if names is None:
            continue
        known = {p.__name__: p for p in getattr(layer, "__type_params__", ())}
        try:
            return _evaluate(want.annotation, names, known)
        except Exception as error:  # noqa: BLE001 an annotation may run any code
            problem = problem or error
    if problem is None:
        return want.annotation
    raise BadHandler(
        f"{what} {describe(fn)}: the annotation of {want.name!r}, {_text(want.annotation)}, cannot "
        f"be resolved ({problem}). Define or import its names at the top level of the module, not "
        f"under TYPE_CHECKING; or leave the annotation out"
    ) from problem


def _evaluate(annotation: Any, names: dict[str, Any], known: dict[str, Any]) -> Any:
    def holder() -> None: ...

    holder.__annotations__ = {"payload": annotation}
    return typing.get_type_hints(holder, names, known, include_extras=True)["payload"]


def _by_msgspec(hint: Any) -> Converter:
    if hint in RAW:
        return _raw(hint)
    convert = msgspec.convert

    def check(payload: Any) -> Any:
        return convert(payload, hint, builtin_types=RAW, dec_hook=_custom)

    return check


def _raw(hint: Any) -> Converter:
    """Bytes stay what they are, so that a `Bytes` keeps its media type and name."""

    def check(payload: Any) -> Any:
        if isinstance(payload, hint):
            return payload
        if isinstance(payload, RAW):
            return hint(payload)
        raise msgspec.ValidationError(f"Expected `{hint.__name__}`, got `{type(payload).__name__}`")

    return check


def _custom(hint: Any, value: Any) -> Any:
    """What msgspec does not know, inside of what it knows."""
    try:
        if isinstance(value, hint):
            return value
    except TypeError as error:  # a Protocol, say; msgspec would take it for a bad value
        raise BadHandler(str(error)) from error
    if _is_pydantic(hint):
        return _by_pydantic_cached(hint)(value)
    if hint is File:
        return _file(value)
    if isinstance(hint, type) and issubclass(hint, Bytes) and isinstance(value, RAW):
        return hint(bytes(cast("bytes", value)))
    return value  # msgspec says what it expected


def _file(value: Any) -> Any:
    """The file in what a file input sends, ``[{"name", "type", "data"}]``, or in bytes."""
    if is_list(value) and len(value) == 1:
        value = value[0]
    fields = object_in(value) or {}
    value = fields.get("data", value)
    if not isinstance(value, Bytes):
        return value  # a File by now, or msgspec says what it is instead
    turn = current_turn()
    session = None if turn is None else turn.session
    spool = None if session is None else functools.partial(session.app.files.spool, session)
    name = clean_name(value.name or str(fields.get("name", "")))
    mime = clean_mime(value.mime or str(fields.get("type", "")), name)
    return File(name, mime, len(value), raw=value, spool=spool)


def _is_pydantic(hint: Any) -> bool:
    return isinstance(hint, type) and hasattr(hint, "__pydantic_core_schema__")


def _speaks_pydantic(hint: Any) -> bool:
    """Whether pydantic must read this annotation: it is its own, or holds something of its own."""
    if _is_pydantic(hint):
        return True
    details = getattr(hint, "__metadata__", ())
    if any(type(detail).__module__.partition(".")[0] == "pydantic" for detail in details):
        return True
    return any(_speaks_pydantic(part) for part in typing.get_args(hint) if part is not hint)


def _by_pydantic(hint: Any) -> Converter:
    from pydantic import TypeAdapter, ValidationError

    adapter: Any = TypeAdapter(hint)

    def check(payload: Any) -> Any:
        try:
            return adapter.validate_python(payload)
        except ValidationError as error:
            said = error.errors(include_url=False, include_context=False, include_input=False)
            lines = [_complaint(item["loc"], item["msg"]) for item in said[:SHOWN]]
            if len(said) > SHOWN:
                lines.append(f"and {len(said) - SHOWN} more")
            raise msgspec.ValidationError("; ".join(lines)) from None

    return check


_by_pydantic_cached = functools.cache(_by_pydantic)  # for models inside of other types


def _complaint(where: tuple[int | str, ...], text: str) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return f"{text} - at `${path}`" if path else text


def _typed_errors(check: Converter, who: str) -> Converter:
    def convert(payload: Any) -> Any:
        try:
            return check(payload)
        except (msgspec.ValidationError, RecursionError) as error:
            read = None if isinstance(error, RecursionError) else _read(payload)
            if read is not None:  # bytes were asked for, perhaps, and it was too large for a frame
                with contextlib.suppress(msgspec.ValidationError):
                    return check(read)
            raise BadPayload(f"the payload does not fit {who}: {error}") from error

    return convert


def _read(payload: Any) -> Any:
    """``payload`` with the content of each file it holds in its place; None if it holds none."""
    found = False

    def read(value: Any) -> Any:
        nonlocal found
        if isinstance(value, File):
            found = True
            return Bytes(value.read(), value.mime, value.name)
        fields = object_in(value)
        if fields is not None:
            return {key: read(item) for key, item in fields.items()}
        return [read(item) for item in value] if is_list(value) else value

    read_whole = read(payload)
    return read_whole if found else None


def _text(hint: Any) -> str:
    return hint if isinstance(hint, str) else getattr(hint, "__name__", None) or str(hint)
