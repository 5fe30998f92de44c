"""The shapes of middlewares."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from greenroom.core._turn import Message, Turn
from greenroom.core.errors import BadHandler, BadPayload
from greenroom.core.middlewares import Middleware
from greenroom.core.types import Place


def around(payload: Any) -> Iterator[None]:
    yield payload


async def around_async(payload: Any) -> AsyncIterator[None]:
    yield payload


def before(payload: Any) -> Any:
    return payload


async def before_async(payload: Any) -> Any:
    return payload


class Around:
    def __call__(self, payload: Any) -> Iterator[None]:
        yield payload

    async def method(self, payload: Any) -> AsyncIterator[None]:
        yield payload


def passing(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize("wrap", [lambda fn: fn, passing, functools.partial])
@pytest.mark.parametrize(
    ("fn", "kind", "place"),
    [
        (around, "generator", Place.WORKER),
        (around_async, "async_generator", Place.LOOP),
        (before, "plain", Place.WORKER),
        (before_async, "async", Place.LOOP),
        (Around(), "generator", Place.WORKER),
        (Around().method, "async_generator", Place.LOOP),
    ],
)
def test_kind_and_place(fn: Any, kind: str, place: Place, wrap: Callable[..., Any]) -> None:
    if isinstance(fn, Around) and wrap is passing:
        wrap = passing_over
    middleware = Middleware(wrap(fn))
    assert (middleware.kind, middleware.place) == (kind, place)
    assert middleware.is_async == (place is Place.LOOP)


def passing_over(fn: Any) -> Callable[..., Any]:
    """A wrapper of a callable object, which has no name to copy."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    wrapper.__wrapped__ = fn  # type: ignore[attr-defined]
    return wrapper


def test_it_is_injected_like_a_handler() -> None:
    middleware = Middleware(lambda label, payload: (label, payload))
    assert middleware.plan(Turn(None, Message("add", 5, label="side"))) == ("side", 5)


def test_its_payload_is_checked_too() -> None:
    def only_numbers(payload: int) -> None: ...

    with pytest.raises(BadPayload, match="middleware only_numbers"):
        Middleware(only_numbers).plan(Turn(None, Message("add", "five")))


def test_what_cannot_be_filled_is_said() -> None:
    with pytest.raises(BadHandler, match=r"middleware .*nothing can be given to request"):
        Middleware(lambda request: None)


@pytest.mark.parametrize("make", [contextlib.contextmanager, contextlib.asynccontextmanager])
def test_a_context_manager_is_told_what_to_drop(make: Any) -> None:
    fn = around if make is contextlib.contextmanager else around_async
    with pytest.raises(BadHandler, match="drop @contextmanager"):
        Middleware(make(fn))
    with pytest.raises(BadHandler, match="drop @contextmanager"):
        Middleware(passing(make(fn)))
