"""Verbs for scripts, which need no app object: each acts on the current app.

``greenroom run main.py`` makes the app, makes it current while ``main.py`` is imported as a normal
module, and then registers its functions. Without a current app each verb raises
:class:`~greenroom.NoApp`, which shows the cure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, overload

from .current import current_app
from .types import DEFAULT_LABEL

if TYPE_CHECKING:
    from .bus import Bus
    from .session import Session
    from .state import State
    from .views import View

__all__ = [
    "broadcast",
    "emit",
    "events",
    "init_handlers",
    "init_state",
    "middleware",
    "on",
    "on_close",
    "on_open",
    "session_verifier",
    "show",
]


def init_state(state: Any, schema: type[State] | None = None) -> None:
    """:meth:`App.init_state` of the current app."""
    current_app().init_state(state, schema)


def init_handlers(modules: ModuleType | Iterable[ModuleType]) -> None:
    """:meth:`App.init_handlers` of the current app."""
    current_app().init_handlers(modules)


@overload
def middleware() -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
@overload
def middleware(fn: Callable[..., Any]) -> Callable[..., Any]: ...


def middleware(fn: Callable[..., Any] | None = None) -> Any:
    """:meth:`App.middleware` of the current app."""
    register = current_app().middleware
    return register if fn is None else register(fn)


@overload
def session_verifier() -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
@overload
def session_verifier(fn: Callable[..., Any]) -> Callable[..., Any]: ...


def session_verifier(fn: Callable[..., Any] | None = None) -> Any:
    """:meth:`App.session_verifier` of the current app."""
    register = current_app().session_verifier
    return register if fn is None else register(fn)


def on_open(fn: Callable[..., Any]) -> Callable[..., Any]:
    """:meth:`App.on_open` of the current app."""
    return current_app().on_open(fn)


def on_close(fn: Callable[..., Any]) -> Callable[..., Any]:
    """:meth:`App.on_close` of the current app."""
    return current_app().on_close(fn)


def on(event: str, callback: Callable[..., Any] | None = None, *, label: str | None = None) -> Any:
    """:meth:`App.on` of the current app."""
    return current_app().on(event, callback, label=label)


def emit(
    event: str, data: Any = None, label: str | None = None, *, session: Session | None = None
) -> None:
    """:meth:`App.emit` of the current app."""
    current_app().emit(event, data, label, session=session)


def broadcast(event: str, data: Any = None, label: str | None = None) -> None:
    """:meth:`App.broadcast` of the current app."""
    current_app().broadcast(event, data, label)


def show(
    html: str,
    *,
    label: str = DEFAULT_LABEL,
    callbacks: Mapping[str, Callable[..., Any]] | None = None,
    title: str | None = None,
) -> View:
    """:meth:`App.show` of the current app."""
    return current_app().show(html, label=label, callbacks=callbacks, title=title)


class _Events:
    """``gr.events``: the bus of the current app, found at each use."""

    def __getattr__(self, name: str) -> Any:
        return getattr(current_app().events, name)


#: The bus of the current app: ``@gr.events.event("model:created")``.
events: Bus = _Events()  # type: ignore[assignment]
