"""What type checkers make of a schema: mypy reads this file with all the others."""

from __future__ import annotations

from typing import assert_type

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
    person.age = 36
    assert_type(person.name, str)
    assert_type(person.age, int)
    assert_type(person.address, Address)
    assert_type(person.address.city, str)
    assert_type(person.former, Address | None)
    person.name = 5  # type: ignore[assignment] # mypy sees it; nothing checks values when it runs
    assert person["name"] == 5
