"""Views: names for some of the clients.

What one reaches is looked up when it is used. Threads: any, as for ``emit``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .actions import Actions, Confirmation

if TYPE_CHECKING:
    from .app import App
    from .offers import Offer
    from .session import Session

__all__ = ["View"]


class View(Actions):
    """A page or window the app shows under a label. Made by :meth:`App.show`.

    Its verbs (``notify``, ``set_content``, ...) reach its links of the current turn's session, or
    of the only one there is.
    """

    __slots__ = ("_app", "html", "label", "title")

    def __init__(self, app: App, html: str, label: str, title: str | None) -> None:
        self._app = app
        self.html = html
        self.label = label
        self.title = title

    def _act(self, type: str, data: Mapping[str, Any]) -> None:
        self._app.meant(None).act(type, data, self.label)

    def _provide(self, source: bytes | Path, name: str, mime: str) -> Offer:
        session = self._app.meant(None)
        return session.app.files.provide(session, source, name, mime)

    def confirm(self, message: str, *, timeout: float = 60.0) -> Confirmation:
        """Ask the user in this view only; see :meth:`Session.confirm`."""
        return self._app.meant(None).confirm(message, timeout=timeout, label=self.label)

    def emit(self, event: str, data: Any = None, *, session: Session | None = None) -> None:
        """Send an event to this view's links of the current turn's session, or of ``session``."""
        self._app.emit(event, data, self.label, session=session)

    def on(self, event: str, callback: Callable[..., Any]) -> Any:
        """Run ``callback`` when a client of this view sends ``event``; a handle with ``off()``."""
        return self._app.on(event, callback, label=self.label)
