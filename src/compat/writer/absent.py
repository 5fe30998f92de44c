"""What Writer and Streamsync have and Greenroom has not, and what to use instead.

Whoever reaches for such a name is told at once: a module or attribute raises :class:`NotOffered`
when it is looked up, a parameter of a handler when the handler is registered.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from ...core.errors import GreenroomError

__all__ = ["NAMES", "PARAMETERS", "NotOffered", "refuse", "refuse_all"]

_PAGE: Final = "write the page in HTML: attributes like data-gr-text and data-gr-on:click"
_BLUEPRINTS: Final = "write the steps as functions; session.spawn runs long ones beside the turns"
_OWN: Final = "an app is a gr.App; in a script gr.current_app() is the one that is being made"

#: Parameters of handlers.
PARAMETERS: Final = MappingProxyType(
    {
        "ui": f"{_PAGE}; data-gr-each makes elements from the state",
        "blueprint_runner": _BLUEPRINTS,
        "workflow_runner": _BLUEPRINTS,
        "vault": "read secrets where you need them, from os.environ or a file",
    }
)

#: Names of the modules ``writer``, ``writer.core`` and ``streamsync``, and of a root state.
NAMES: Final = MappingProxyType(
    {
        "BaseComponentTree": _PAGE,
        "Config": "the settings are gr.Settings, GREENROOM_* variables and `greenroom run --debug`",
        "EventHandlerRegistry": "browsers may call what `greenroom doctor PATH` lists",
        "FileWrapper": "wf.pack_file reads the file and gives gr.Bytes",
        "Readable": "wf.pack_file takes a path or a file opened in binary mode",
        "StateProxy": "nested dicts are gr.State objects",
        "StateSerialiser": "encoders for types of your own are registered with gr.encoders",
        "StreamsyncUIManager": _PAGE,
        "VERSION": "the version of Greenroom is gr.__version__",
        "WriterUIManager": _PAGE,
        "ai": "call the model's own client in an async handler; state[key] += token streams it",
        "auth": "say who may come in with @wf.session_verifier, behind the sign-in you have",
        "base_cmc_tree": _PAGE,
        "base_component_tree": _PAGE,
        "blueprints": _BLUEPRINTS,
        "calculated_property": "write a method with @wf.property in the schema",
        "clear_mail": "what a turn has asked pages to do is dropped when the turn raises",
        "core_ui": _PAGE,
        "get_app_process": _OWN,
        "get_clone": "opening a session copies the initial state",
        "get_new": "opening a session copies the initial state; in tests: app.open_session()",
        "init_ui": _PAGE,
        "initial_state": "keep what wf.init_state returns",
        "mail": "what pages are asked to do leaves with the turn and is not kept",
        "new_initial_state": "call wf.init_state",
        "reset_base_component_tree": _PAGE,
        "serve": "`greenroom run`, or greenroom.adapters.asgi to mount an app into another",
        "session_manager": "the sessions are gr.current_app().sessions, by id",
        "state_serialiser": "encoders for types of your own are registered with gr.encoders",
        "ui": _PAGE,
        "user_state": "the state itself is the mapping",
    }
)


class NotOffered(GreenroomError):
    """A name of Writer or Streamsync that Greenroom has no equal of. The text says what it has."""


def refuse(name: str) -> NotOffered:
    """The error for one of the names."""
    return NotOffered(f"{name} is not part of Greenroom: {NAMES[name]}")


def refuse_all(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module none of whose names are here."""

    def refused(name: str) -> Any:
        if name.startswith("__"):  # what Python itself asks of a module
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise refuse(module)

    return refused
