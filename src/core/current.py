"""The current app: whom the module-level verbs (``gr.on``, ``gr.emit``, ...) are meant for.

Inside a turn it is the turn's app. Elsewhere it is the app that is being registered
(``with app.registering(): ...``) in this context, or the one that a runner made current.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from ._turn import current_turn
from .errors import NoApp

if TYPE_CHECKING:
    from .app import App

__all__ = ["app_at_hand", "current_app", "registering"]

registering: ContextVar[App | None] = ContextVar("greenroom_registering", default=None)


def current_app() -> App:
    """The app the caller runs in. Raises :class:`NoApp` with the cure when there is none."""
    app = app_at_hand()
    if app is None:
        raise NoApp(
            "no app is current here. Register from a file that `greenroom run` loads, or make the "
            "app current while you import it: `with app.registering(): import my_events`"
        )
    return app


def app_at_hand() -> App | None:
    """The app the caller runs in, if there is one."""
    app: App | None = registering.get()
    if app is None:
        turn = current_turn()
        app = None if turn is None else turn.app
    return app
