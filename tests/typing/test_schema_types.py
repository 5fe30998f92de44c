"""What type checkers make of a schema: mypy and pyright both read this file."""

from __future__ import annotations

from typing import assert_type

import pytest

import greenroom as gr


class Address(gr.State):
    """A nested schema."""

    city: str = ""


class Person(gr.State):
    """A schema."""

    name: str = "Ada"
    age: int
    address: Address
    former: Address | None = None


def test_attributes_have_their_types() -> None:
    person = Person()
    assert_type(person.name, str)
    assert_type(person.age, int)
    person.age = 36
    assert_type(person.address, Address)
    assert_type(person.address.city, str)
    assert_type(person.former, Address | None)
    person.name = 5  # type: ignore[assignment] # mypy sees it; nothing checks values when it runs
    assert person["name"] == 5


class Parcel(gr.State):
    """A schema with calculated properties."""

    weight: float = 1.5
    to: Person

    @gr.property("weight")
    def fee(self) -> float:
        """Of one field."""
        return self.weight * 2

    @gr.property(["fee", ("to", "name"), "to.address.city"])
    def label(self) -> str:
        """Of several, in each spelling."""
        return f"{self.to.name} {self.fee}"


def test_properties_have_the_types_their_functions_return() -> None:
    parcel = Parcel()
    assert_type(parcel.fee, float)
    assert_type(parcel.label, str)
    assert parcel.label == "Ada 3.0"
    with pytest.raises(AttributeError):
        parcel.fee = 5.0  # type: ignore[assignment] # checkers see it too
