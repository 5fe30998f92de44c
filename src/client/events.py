"""The bus, as clients see it: public signals and queries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core.errors import Refused

if TYPE_CHECKING:
    from .connection import Client

__all__ = ["Events"]


class Events:
    """``client.events``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._count: dict[str, int] = {}

    async def subscribe(self, name: str) -> None:
        """Hear of a public signal, from now on. Counted: as often, :meth:`unsubscribe`."""
        self._count[name] = self._count.get(name, 0) + 1
        while True:
            try:
                await self._client.ask("gr:subscribe", {"name": name}, name=name)
            except Refused as error:
                # Lost is all right: the link subscribes again, and so do we, to know how it ends.
                if error.code != "lost" or self._client.status == "closed":
                    self._count.pop(name, None)
                    raise
            else:
                return

    async def unsubscribe(self, name: str) -> None:
        """Take back one :meth:`subscribe`."""
        others = self._count.get(name, 1) - 1
        if others > 0:
            self._count[name] = others
            return
        self._count.pop(name, None)
        try:
            await self._client.ask("gr:unsubscribe", {"name": name}, name=name)
        except Refused as error:
            if error.code != "lost":  # a new link is not subscribed anyway
                raise

    def register_handler(self, name: str, handler: Callable[[Any], object]) -> Callable[[], None]:
        """Call ``handler(data)`` (sync or async) for a signal; returns off()."""
        return self._client.on(f"gr:signal {name}", handler)

    def trigger(self, name: str, data: Any = None) -> asyncio.Future[Any]:
        """Trigger a signal that clients may trigger; await it: then it is in every queue."""
        return self._client.call("gr:trigger", {"name": name, "data": data})

    def request(
        self, name: str, data: Any = None, *, timeout: float | None = None
    ) -> asyncio.Future[Any]:
        """Ask a public query; await it for the answer."""
        question: dict[str, Any] = {"name": name, "data": data}
        if timeout is not None:
            question["timeout"] = timeout
        return self._client.call("gr:query", question, timeout=timeout)
