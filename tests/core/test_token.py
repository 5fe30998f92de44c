"""Tokens: what opens a session, and everything that does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.core.token import NEVER, BadToken, Tokens

TOKENS = Tokens("a secret", 100.0)


def test_a_token_says_what_was_signed() -> None:
    text, expires = TOKENS.sign("S1", None, 1000.0)
    assert expires == 1100.0
    token = TOKENS.verify(text, None, 1099.0)
    assert dataclasses.astuple(token) == ("S1", 1000.0, 1100.0, 0, None)
    text, _ = TOKENS.sign("S1", None, 1000.0, 7)
    assert TOKENS.verify(text, None, 1099.0).generation == 7


def test_it_expires() -> None:
    text, _ = TOKENS.sign("S1", None, 1000.0)
    with pytest.raises(BadToken, match="expired"):
        TOKENS.verify(text, None, 1100.0)


def test_without_ttl_it_does_not() -> None:
    text, expires = Tokens("x", 0.0).sign("S1", None, 1000.0)
    assert expires == NEVER
    assert Tokens("x", 0.0).verify(text, None, 2e9).session == "S1"


def test_another_secret_does_not_open() -> None:
    text, _ = Tokens("other", 100.0).sign("S1", None, 1000.0)
    with pytest.raises(BadToken):
        TOKENS.verify(text, None, 1000.0)


def test_two_starts_with_one_secret_agree() -> None:
    text, _ = Tokens("same", 100.0).sign("S1", "cookie", 1000.0)
    assert Tokens("same", 100.0).verify(text, "cookie", 1001.0).session == "S1"


@pytest.mark.parametrize("shown", [None, "", "other"])
def test_a_bound_token_needs_what_it_is_bound_to(shown: str | None) -> None:
    text, _ = TOKENS.sign("S1", "cookie", 1000.0)
    assert TOKENS.verify(text, "cookie", 1001.0).session == "S1"
    with pytest.raises(BadToken, match="bound"):
        TOKENS.verify(text, shown, 1001.0)


def test_an_unbound_token_opens_whatever_is_shown() -> None:
    text, _ = TOKENS.sign("S1", None, 1000.0)
    assert TOKENS.verify(text, "cookie", 1001.0).session == "S1"


def test_the_binding_itself_does_not_travel() -> None:
    text, _ = TOKENS.sign("S1", "cookie", 1000.0)
    token = TOKENS.verify(text, "cookie", 1000.0)
    assert token.binding is not None
    assert "cookie" not in token.binding


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_opens(place: int, change: int) -> None:
    text, _ = TOKENS.sign("S1", "cookie", 1000.0)
    raw = bytearray(text.encode())
    raw[place % len(raw)] ^= change
    forged = raw.decode("latin-1")
    try:
        token = TOKENS.verify(forged, "cookie", 1000.0)
    except BadToken:
        return
    # base64 has bits that say nothing: what still opens must say the same
    assert token == TOKENS.verify(text, "cookie", 1000.0)


@pytest.mark.parametrize("text", ["", ".", "a.b", "é" * 10, "\ud800", "x" * 5000, "." * 4096])
def test_rubbish(text: str) -> None:
    with pytest.raises(BadToken):
        TOKENS.verify(text, None, 1000.0)


def test_what_was_signed_for_something_else_does_not_open() -> None:
    forms: list[Any] = [[], "S1", {"s": "S1"}, {"s": 1, "i": 0, "e": 9e9}]
    for said in [*forms, {"s": "S1", "i": 0, "e": "x"}]:
        text = str(TOKENS._serializer.dumps(said))
        with pytest.raises(BadToken):
            TOKENS.verify(text, None, 1000.0)


def test_nothing_shows_a_secret_or_a_token() -> None:
    text, _ = TOKENS.sign("S1", "cookie", 1000.0)
    assert "a secret" not in repr(TOKENS)
    with pytest.raises(BadToken) as caught:
        TOKENS.verify(text + "x", "cookie", 1000.0)
    assert text not in str(caught.value)
    assert text not in str(caught.value.close)
    assert caught.value.close.retry == "fresh"
    assert caught.value.__cause__ is None
