"""The verbs of a script: each acts on the current app, like ours of the same name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar, overload

from ...core.app import App
from ...core.current import current_app
from ...core.plans import refuse_parameters
from .absent import PARAMETERS
from .state import WriterState

__all__ = ["init_handlers", "init_state", "middleware", "session_verifier"]

S = TypeVar("S", bound=WriterState)
Function = Callable[..., Any]


def _app() -> App:
    """The current app; from now on it refuses handlers with a ``ui`` and the like."""
    app = current_app()
    app.handlers.refused = PARAMETERS
    return app


@overload
def init_state(raw_state: Mapping[str, Any]) -> WriterState: ...
@overload
def init_state(raw_state: Mapping[str, Any], schema: type[S]) -> S: ...


def init_state(raw_state: Mapping[str, Any], schema: type[WriterState] | None = None) -> Any:
    """Set what sessions start with, and return it: it may be assigned until the app starts.

    Raises TypeError for a schema that is no :class:`WriterState`, and for a value that cannot be
    copied for each session.
    """
    kind: Any = WriterState if schema is None else schema
    if not (isinstance(kind, type) and issubclass(kind, WriterState)):
        raise TypeError(f"the schema of the root is a subclass of WriterState, not {kind!r}")
    state = kind(raw_state)
    _app().init_state(state)
    return state


def init_handlers(handler_modules: ModuleType | Iterable[ModuleType]) -> None:
    """``gr.init_handlers``: the public functions of these modules are handlers."""
    _app().init_handlers(handler_modules)


def middleware() -> Callable[[Function], Function]:
    """``gr.middleware()``."""
    register = _app().middleware()

    def checked(fn: Function) -> Function:
        refuse_parameters(fn, PARAMETERS, "middleware")
        return register(fn)

    return checked


def session_verifier(fn: Function) -> Function:
    """``gr.session_verifier``: it returns True for those who may come in."""
    return _app().session_verifier(fn)
