"""Schemas: what the annotations of a State class mean.

``declare`` runs when a class is made: it puts a Field where an annotation stands, raises TypeError
for a name that cannot be one, and has the calculated properties planned (``properties``).
``resolve`` runs when a class is first used, since an annotation may name what is defined later: it
finds the type of each field. Values are never checked against it; it only says what a dict becomes:

=====================================  =======================================================
a State class, ``Optional`` or not     a nested state of that class
``dict``, ``Mapping``, a TypedDict     a plain dict, stored as it is and sent whole
anything else                          what it becomes in any state: a nested state
=====================================  =======================================================

Any thread may resolve a class; two that do it at once find the same.
"""

from __future__ import annotations

import collections
import collections.abc
import inspect
import sys
import types
import typing
from typing import Any, NamedTuple

import typing_extensions

from ._state import Field, State, set_schema
from .properties import plan

__all__ = ["declare", "resolve"]

MAPPINGS = (dict, collections.abc.Mapping)


class Declared(NamedTuple):
    """An annotation as it was written, and what its class has for a default."""

    annotation: Any
    home: type
    default: tuple[Any, ...]


def declare(cls: type[State]) -> None:
    """Turn the annotated attributes of a new class into fields."""
    names = sys._getframe(1).f_locals  # pyright: ignore[reportPrivateUsage]
    own: dict[str, Declared] = {}
    for name, annotation in inspect.get_annotations(cls).items():
        found = _evaluated(annotation, cls, names)
        if _is_class_var(found):
            continue
        if hasattr(State, name) or (name.startswith("__") and name.endswith("__")):
            raise TypeError(
                f"{cls.__name__}.{name} cannot be a field: it is a method of every state. Choose "
                f"another name, or leave it out of the schema and use state[{name!r}]"
            )
        own[name] = Declared(found, cls, (cls.__dict__[name],) if name in cls.__dict__ else ())
    above = _declared(cls.__mro__[1:])
    for name, value in cls.__dict__.items():
        if name in above and name not in own:
            if hasattr(value, "__get__"):
                raise TypeError(
                    f"{cls.__name__}.{name} hides a field of {above[name].home.__name__}"
                )
            own[name] = above[name]._replace(default=(value,))
    type.__setattr__(cls, "__declared__", own)
    for name, one in _declared(cls.__mro__).items():
        if name in own or not isinstance(inspect.getattr_static(cls, name, None), Field):
            type.__setattr__(cls, name, Field(name, None, False, False, *one.default))
    plan(cls)


def resolve(cls: type[State]) -> dict[str, Field]:
    """The fields of a class, complete; they are kept in it as ``__fields__``."""
    fields = {name: _field(name, one) for name, one in _declared(cls.__mro__).items()}
    _refuse_endless(cls, fields, [cls])
    type.__setattr__(cls, "__fields__", fields)
    return fields


def _declared(classes: tuple[type, ...]) -> dict[str, Declared]:
    """What a line of classes declares, those of the base first."""
    found: dict[str, Declared] = {}
    for one in reversed(classes):
        found.update(one.__dict__.get("__declared__", {}))
    return found


def _field(name: str, one: Declared) -> Field:
    annotation = _evaluated(one.annotation, one.home, {})
    if isinstance(annotation, str):
        raise TypeError(
            f"the annotation {annotation!r} of {one.home.__name__}.{name} names nothing in "
            f"{one.home.__module__}: define it there, or import it outside of TYPE_CHECKING"
        )
    choices = _choices(annotation)
    states = [kind for kind in choices if isinstance(kind, type) and issubclass(kind, State)]
    if len(states) > 1:
        raise TypeError(
            f"{one.home.__name__}.{name} names several State classes, so a dict could become "
            "any of them: name one"
        )
    opaque = any(_is_mapping(kind) for kind in choices)
    if states and opaque:
        raise TypeError(
            f"{one.home.__name__}.{name} names a State class and a dict: name one, a dict that is "
            "assigned becomes that"
        )
    kind = states[0] if states else None
    return Field(name, kind, opaque, kind is not None and type(None) not in choices, *one.default)


def _evaluated(annotation: Any, home: type, names: typing.Mapping[str, Any]) -> Any:
    """An annotation that is text as what it says; the text, where a name is not known yet."""
    if isinstance(annotation, str):
        module = sys.modules.get(home.__module__)
        known = {home.__name__: home, **names}
        try:
            return eval(annotation, dict(vars(module)) if module else {}, known)  # noqa: S307 -- source
        except (NameError, AttributeError):
            return annotation
    return annotation


def _is_class_var(annotation: Any) -> bool:
    if isinstance(annotation, str):  # of something that is defined later
        return annotation.partition("[")[0].rpartition(".")[2] == "ClassVar"
    return annotation is typing.ClassVar or typing.get_origin(annotation) is typing.ClassVar


def _choices(annotation: Any) -> list[Any]:
    """The members of a union, without what only decorates them."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Annotated, typing.Final):
        return _choices(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [one for part in typing.get_args(annotation) for one in _choices(part)]
    return [annotation]


def _is_mapping(kind: Any) -> bool:
    if typing_extensions.is_typeddict(kind):
        return True
    kind = typing.get_origin(kind) or kind
    return isinstance(kind, type) and not issubclass(kind, State) and issubclass(kind, MAPPINGS)


def _refuse_endless(cls: type[State], fields: dict[str, Field], line: list[type]) -> None:
    """A state that always holds one of its own class would have no end."""
    for field in fields.values():
        if field.kind is None or not field.needed or field.default is None:
            continue
        if field.kind in line:
            raise TypeError(
                f"{line[0].__name__} always contains a {field.kind.__name__} again "
                f"({cls.__name__}.{field.key}): annotate it `{field.kind.__name__} | None`"
            )
        inner = {name: _field(name, one) for name, one in _declared(field.kind.__mro__).items()}
        _refuse_endless(field.kind, inner, [*line, field.kind])


set_schema(declare, resolve)
