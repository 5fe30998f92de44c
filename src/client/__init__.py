"""The Python client, beside the JavaScript one that the adapters serve.

::

    from greenroom.client import connect

    async with connect("ws://127.0.0.1:8000/ws") as client:
        print(await client.call("add", 5))

Importing this imports nothing else; ``connect`` and ``Client`` are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import Client, connect

__all__ = ["Client", "connect"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import connection

    return getattr(connection, name)
