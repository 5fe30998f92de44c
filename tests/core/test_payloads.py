"""Payloads as they are declared: what is converted, what is refused, what cannot be declared."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import typing
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

from greenroom.core.errors import BadHandler, BadPayload
from greenroom.core.payloads import converter
from greenroom.core.plans import INJECTABLE, fill_by_name, fill_callback
from greenroom.core.types import Bytes, Slot

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]


class Order(msgspec.Struct):
    item: str
    quantity: int = 1


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Options(TypedDict):
    fast: bool


class Pair(NamedTuple):
    a: int
    b: str


class Colour(enum.Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(gt=0)


@pydantic.dataclasses.dataclass
class Checked:
    age: int = pydantic.Field(gt=0)


class WithModel(msgspec.Struct):
    model: Model
    picture: Bytes | None = None


class Own:
    pass


class Shape(typing.Protocol):
    def area(self) -> float: ...


def converting(hint: Any) -> Any:
    def save(state: Any, payload: Any) -> None: ...

    save.__annotations__["payload"] = hint
    return converter(save, fill_by_name(save, INJECTABLE, payload=Slot.PAYLOAD).payloads)


@pytest.mark.parametrize(
    ("hint", "payload", "value"),
    [
        (int, 5, 5),
        (float, 5, 5.0),
        ("list[int]", [1], [1]),
        (set[int], [1, 1], {1}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (dict, {"a": 1}, {"a": 1}),
        ("Order", {"item": "tea"}, Order("tea", 1)),
        (Order, Order("tea", 1), Order("tea", 1)),
        (Order | None, None, None),
        ("Point", {"x": 1, "y": 2.5}, Point(1.0, 2.5)),
        (Point, Point(1.0, 2.0), Point(1.0, 2.0)),
        (Options, {"fast": True}, {"fast": True}),
        (Pair, [1, "a"], Pair(1, "a")),
        (Colour, "red", Colour.RED),
        (Literal["a", "b"], "b", "b"),
        (dt.date, "2024-02-29", dt.date(2024, 2, 29)),
        (decimal.Decimal, "0.10", decimal.Decimal("0.10")),
        (uuid.UUID, "0" * 32, uuid.UUID(int=0)),
        (Annotated[int, msgspec.Meta(gt=0)], 1, 1),
        (Model, {"name": "a", "age": 1}, Model(name="a", age=1)),
        (list[Model], [{"name": "a", "age": 1}], [Model(name="a", age=1)]),
        (Model | None, None, None),
        (Checked, {"age": 2}, Checked(age=2)),
        (Annotated[int, pydantic.Field(gt=0)], 3, 3),
        (WithModel, {"model": {"name": "a", "age": 1}}, WithModel(Model(name="a", age=1))),
        (bytes, b"raw", b"raw"),
        (bytearray, b"raw", bytearray(b"raw")),
        (bytes, memoryview(b"raw"), b"raw"),
    ],
)
def test_what_fits_is_converted(hint: Any, payload: Any, value: Any) -> None:
    result = converting(hint)(payload)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("hint", "payload", "said"),
    [
        (int, "5", "Expected `int`, got `str`"),
        (int, True, "Expected `int`, got `bool`"),
        (list[int], [1, "a"], "$[1]"),
        (Order, {"quantity": 1}, "missing required field `item`"),
        (Order, {"item": "tea", "quantity": "many"}, "`$.quantity`"),
        (Order, None, "got `null`"),
        (Colour, "green", "Invalid enum value"),
        (Annotated[int, msgspec.Meta(gt=0)], 0, ">= 1"),
        (Model, {"name": "a", "age": 0}, "greater than 0 - at `$.age`"),
        (Model, {}, "Field required - at `$.name`; Field required - at `$.age`"),
        (list[Model], [{"name": "a", "age": 0}], "`$[0].age`"),
        (Checked, {"age": 0}, "greater than 0"),
        (Annotated[int, pydantic.Field(gt=0)], 0, "greater than 0"),
        (WithModel, {"model": {"name": "a", "age": 0}}, "greater than 0"),
        (bytes, "cmF3", "Expected `bytes`, got `str`"),
        (list[bytes], ["cmF3"], "Expected `bytes`, got `str` - at `$[0]`"),
        (Own, {}, "Expected `Own`"),
    ],
)
def test_what_does_not_fit_is_said(hint: Any, payload: Any, said: str) -> None:
    with pytest.raises(BadPayload) as caught:
        converting(hint)(payload)
    assert "handler save" in str(caught.value)
    assert said in str(caught.value)


def test_many_complaints_are_counted() -> None:
    with pytest.raises(BadPayload, match="and 2 more"):
        converting(list[Model])([{"name": "a", "age": 0}] * 7)


@pytest.mark.parametrize("hint", [Any, object, "Any"])
def test_what_anything_fits_costs_nothing(hint: Any) -> None:
    assert converting(hint) is None


def test_without_an_annotation_nothing_is_checked() -> None:
    def save(payload, state: Unknown):  # type: ignore[no-untyped-def]
        return payload, state

    assert converter(save, fill_by_name(save, INJECTABLE, payload=Slot.PAYLOAD).payloads) is None


def test_an_event_without_data_leaves_the_default_alone() -> None:
    def typed(payload: int = 7) -> None: ...
    def plain(*, data=7): ...  # type: ignore[no-untyped-def]
    def nothing(payload: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    def convert(fn: Any, payload: Any) -> Any:
        made = converter(fn, fill_by_name(fn, INJECTABLE, payload=Slot.PAYLOAD).payloads)
        assert made is not None
        return made(payload)

    assert [convert(fn, None) for fn in (typed, plain, nothing)] == [7, 7, None]
    assert [convert(fn, 5) for fn in (typed, plain, nothing)] == [5, 5, 5]
    assert convert(typed, 0) == 0
    with pytest.raises(BadPayload):
        convert(typed, "5")


def test_bytes_keep_their_media_type() -> None:
    picture = Bytes(b"png", "image/png", "a.png")
    assert converting(bytes)(picture) is picture
    assert converting(Bytes)(picture) is picture
    assert type(converting(Bytes)(b"raw")) is Bytes
    both = converting(WithModel)({"model": {"name": "a", "age": 1}, "picture": picture})
    assert both.picture is picture


def test_an_object_of_a_class_of_its_own_is_handed_over() -> None:
    own = Own()
    assert converting(Own)(own) is own


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("Unknown", "cannot be resolved"),
        ("list[Unknown]", "cannot be resolved"),
        (Order | Point, "cannot be checked"),
        (Shape, "cannot be checked"),
    ],
)
def test_what_cannot_be_declared_is_said_at_once(hint: Any, said: str) -> None:
    with pytest.raises(BadHandler, match=said) as caught:
        converting(hint)
    assert "handler save" in str(caught.value)
    assert __file__ in str(caught.value)


def test_an_unresolvable_name_says_the_cure() -> None:
    with pytest.raises(BadHandler, match="not under TYPE_CHECKING"):
        converting("Unknown")


def test_annotations_of_wrapped_functions_are_looked_up_where_they_were_written() -> None:
    def save(payload: Order) -> Any:
        return payload

    namespace: dict[str, Any] = {"functools": functools}
    exec(  # a decorator from a module that has never heard of Order
        "def passing(fn):\n"
        "    @functools.wraps(fn)\n"
        "    def wrapper(payload):\n"
        "        return fn(payload)\n"
        "    return wrapper\n",
        namespace,
    )
    wrapped = namespace["passing"](save)
    filling = fill_by_name(wrapped, INJECTABLE, payload=Slot.PAYLOAD)
    convert = converter(wrapped, filling.payloads)
    assert convert is not None
    assert convert({"item": "tea"}) == Order("tea")


def test_payload_and_data_are_one_thing() -> None:
    def twice(payload: int, data: int) -> None: ...
    def at_odds(payload: int, data: str) -> None: ...

    convert = converter(twice, fill_by_name(twice, INJECTABLE, payload=Slot.PAYLOAD).payloads)
    assert convert is not None
    assert convert(5) == 5
    with pytest.raises(BadHandler, match="twice"):
        converter(at_odds, fill_by_name(at_odds, INJECTABLE, payload=Slot.PAYLOAD).payloads)


def test_the_first_argument_of_a_callback_is_its_payload() -> None:
    def clicked(where: Point, kind: str) -> None: ...

    convert = converter(clicked, fill_callback(clicked).payloads)
    assert convert is not None
    assert convert({"x": 1, "y": 2}) == Point(1.0, 2.0)


def test_type_parameters_are_known() -> None:
    def save(payload: list[T]) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    # What `def save[T](payload: list[T])` leaves behind.
    save.__type_params__ = (typing.TypeVar("T"),)  # type: ignore[attr-defined]
    convert = converter(save, fill_by_name(save, INJECTABLE, payload=Slot.PAYLOAD).payloads)
    assert convert is not None
    assert convert([1, "a"]) == [1, "a"]
