"""What those who run a server ask it: /healthz and /metrics. Made for any adapter that speaks HTTP.

/healthz  200 while the app runs and its loop takes up what it is handed; 503 while it drains, after
          it has stopped, and when the loop does not answer within a second. Open to everybody and
          under every Host, since load balancers ask by address; it says one word and nothing else.
/metrics  Only with ``Settings.metrics``; else there is no such page. The numbers tell nothing about
          anybody, but much about the service. So they are told on this machine only: to a loopback
          address that asks for a name of this machine and for nobody else (a proxy is everybody's
          loopback, and most show it by the Host or by ``X-Forwarded-For``). Elsewhere only to
          those who bring ``Settings.metrics_token`` as ``Authorization: Bearer``.

Owner: the app's loop.
"""

from __future__ import annotations

import hmac
from typing import Any, Final, Protocol

from ..core.metrics import CONTENT_TYPE, exposition
from ..core.settings import Settings
from .guard import Head, is_loopback, names_us
from .pages import Answer, plain

__all__ = ["HEALTH", "METRICS", "Operated", "health", "metrics"]

HEALTH: Final = "/healthz"
METRICS: Final = "/metrics"
FRESH: Final = ("cache-control", "no-store")
READING: Final = frozenset({"GET", "HEAD"})


class Operated(Protocol):
    """The part of an app that is looked at from here."""

    @property
    def settings(self) -> Settings: ...
    @property
    def phase(self) -> str: ...
    def stats(self) -> dict[str, Any]: ...
    async def hears(self, seconds: float = 1.0) -> bool: ...


async def health(app: Operated, method: str) -> Answer:
    """The answer of /healthz."""
    if method not in READING:
        return plain(405, "only GET", [("allow", "GET, HEAD"), FRESH])
    if app.phase != "running":
        return plain(503, app.phase, [FRESH])
    if not await app.hears():
        return plain(503, "deaf", [FRESH])
    return plain(200, "ok", [FRESH])


def metrics(app: Operated, method: str, head: Head) -> Answer | None:
    """The answer of /metrics; None: there is no such page here."""
    settings = app.settings
    if not settings.metrics:
        return None
    if method not in READING:
        return plain(405, "only GET", [("allow", "GET, HEAD"), FRESH])
    if not may_read(head, settings):
        text = "the numbers are for this machine, or for who has Settings.metrics_token"
        return plain(403, text, [FRESH])
    body = exposition(app.stats())
    headers = [("content-type", CONTENT_TYPE), ("content-length", str(len(body))), FRESH]
    return Answer(200, headers, body)


def may_read(head: Head, settings: Settings) -> bool:
    """Whether these numbers are told to whoever asks."""
    token = settings.metrics_token
    if token and hmac.compare_digest(
        head.headers.get("authorization", "").encode("latin-1"), f"Bearer {token}".encode()
    ):
        return True
    forwarded = "x-forwarded-for" in head.headers or "forwarded" in head.headers
    local = head.client is not None and is_loopback(head.client) and names_us(head)
    return local and not forwarded
