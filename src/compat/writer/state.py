"""The states of Writer: ours, with the old names, and with the verbs that speak to pages.

Writer collects what pages are asked to do as *mail* in the state. Here the verbs of a root state
are those of the session whose turn it is, so they leave when the turn commits and are dropped when
it raises. Outside of turns, while a script is imported, they are for every page that will open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from ...core.current import current_app
from ...core.plans import refuse_parameters
from ...core.session import Session
from ...core.state import Handle
from ...core.state import State as Ours
from ...core.turn import current_turn
from ...core.types import Bytes
from .absent import PARAMETERS, refuse

__all__ = ["State", "StreamsyncState", "WriterState"]

_LEVELS = {"debug": "debug", "info": "info", "warning": "warning"}


class State(Ours):
    """A nested state of a schema; :class:`WriterState` is for its root."""

    def ingest(self, raw_state: Mapping[str, Any]) -> None:
        """:meth:`replace`."""
        self.replace(raw_state)

    def remove(self, key: str) -> None:
        """``del state[key]``."""
        del self[key]

    def subscribe_mutation(
        self,
        path: Any,
        handler: Callable[..., Any],
        initial: bool = False,
        *,
        initial_triggered: bool = False,
    ) -> Handle:
        """:meth:`gr.State.subscribe_mutation`; ``initial_triggered`` is its ``initial``."""
        refuse_parameters(handler, PARAMETERS, "subscriber")
        return super().subscribe_mutation(path, handler, initial or initial_triggered)


class WriterState(State):
    """The root of a session's state, and the old verbs for what a page should do."""

    def add_notification(
        self, type: Literal["info", "success", "warning", "error"], title: str, message: str
    ) -> None:
        """``session.notify``."""
        _tell(lambda session: session.notify(message, title=title, kind=type))

    def add_log_entry(self, type: str, title: str, message: str, code: str | None = None) -> None:
        """Write into the session's log; outside of turns into the app's."""
        text = "\n".join(part for part in (f"{title}: {message}", code) if part)
        turn = current_turn()
        log = current_app().log if turn is None else turn.session.log
        getattr(log, _LEVELS.get(type, "error"))(text)

    def file_download(self, data: bytes, file_name: str) -> None:
        """``session.download`` of bytes, or of what ``pack_bytes`` and ``pack_file`` give."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"file_download takes bytes, or what pack_bytes and pack_file give, not "
                f"{type(data).__name__}; session.download(path) sends a file without reading it"
            )
        mime = data.mime if isinstance(data, Bytes) else None
        _tell(lambda session: session.download(data, file_name, mime))

    def open_url(self, url: str) -> None:
        """``session.open_url``: http, https, mailto and relative ones."""
        _tell(lambda session: session.open_url(url))

    def set_page(self, active_page_key: str) -> None:
        """``session.set_page``: pages are hash routes."""
        _tell(lambda session: session.set_page(active_page_key))

    def set_route_vars(self, route_vars: Mapping[str, str]) -> None:
        """The event ``mail:routeVarsChange``; natively ``session.set_page(page, params)``."""
        self.add_mail("routeVarsChange", dict(route_vars))

    def import_stylesheet(self, stylesheet_key: str, path: str) -> None:
        """The event ``mail:importStylesheet``."""
        self.add_mail("importStylesheet", {"stylesheetKey": stylesheet_key, "path": path})

    def import_script(self, script_key: str, path: str) -> None:
        """The event ``mail:importScript``."""
        self.add_mail("importScript", {"scriptKey": script_key, "path": path})

    def import_frontend_module(self, module_key: str, specifier: str) -> None:
        """``session.import_module``: of the page's own origin, or one that the page lists."""
        _tell(lambda session: session.import_module(specifier, name=module_key))

    def call_frontend_function(self, module_key: str, function_name: str, args: list[Any]) -> None:
        """``session.call``."""
        _tell(lambda session: session.call(module_key, function_name, *args))

    def add_mail(self, type: str, payload: Any) -> None:
        """The event ``mail:TYPE``, for pages that listen to it."""
        _tell(lambda session: session.emit(f"mail:{type}", payload))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ABSENT:
                raise refuse(name) from None
            raise


ABSENT = frozenset(
    ("calculated_property", "clear_mail", "get_clone", "get_new", "mail", "user_state")
)

StreamsyncState = WriterState


def _tell(action: Callable[[Session], object]) -> None:
    """Do it with the session whose turn it is; outside of turns, with every view that opens."""
    turn = current_turn()
    if turn is not None:
        action(turn.session)
    else:
        current_app().on("view:opened", action)  # injected: its parameter is called `session`
