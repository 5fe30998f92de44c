"""Subscriptions: who hears of which assignment, in which order, and what happens on a failure."""

from collections.abc import Awaitable, Callable
from typing import Any, final

from ._state import State

__pyx_capi__: dict[str, Any]

def set_subscriber_adapter(adapt: Callable[[Callable[..., Any]], Any]) -> None:
    """Install what turns a subscriber into ``call(payload, context, state)``.

    A call whose ``is_async`` attribute is true runs after the handler, before the commit.
    """

def parse_path(path: str | tuple[str, ...]) -> tuple[str, ...]:
    """The keys of a path: ``"a.b"``, with ``\\.`` for a literal dot, or a tuple of keys."""

def subscribe(
    node: State,
    path: str | tuple[str, ...] | list[str | tuple[str, ...]],
    handler: Callable[..., Any],
    initial: bool,
) -> Handle:
    """``State.subscribe_mutation``."""

def place_in_line(entry: tuple[State, str]) -> tuple[int, int]:
    """Deepest first; in one state, each behind those it is calculated from."""

@final
class Watch:
    """One subscription of one path."""

@final
class Watches:
    """Subscriptions by path: those of this place, and those below."""

@final
class Handle:
    """A subscription. ``cancel`` ends it; calling it again does nothing."""

    def cancel(self) -> None: ...

@final
class Later:
    """A call of an async subscriber, made after the handler; returns an awaitable."""

    def __init__(self, call: Any, payload: Any, context: Any, root: Any) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]: ...
