"""Tokens: unguessable, signed, expiring capabilities that open one session.

A token says which session it opens, when it was issued, until when it is good, which generation of
the session's tokens it belongs to (revoking them begins the next), and what it is bound to (the
value of the page's HttpOnly cookie, of which only a digest travels). Tokens are never logged: no
error, repr or message here holds one. Times are seconds since the epoch and come in as arguments.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any, Final

from itsdangerous import BadData, URLSafeSerializer

from .hello import LinkError
from .packet import object_in

__all__ = ["BadToken", "Token", "Tokens"]

TOKEN_CHARS: Final = 4096  # longer ones are not even looked at
NEVER: Final = 32_503_680_000.0  # the year 3000: it has to travel as JSON


class BadToken(LinkError):
    """A token that opens nothing: forged, expired, or bound to another browser."""

    def __init__(self, message: str) -> None:
        super().__init__("unauthorized", message)


@dataclass(frozen=True, slots=True)
class Token:
    """What a genuine token says."""

    session: str
    issued: float
    expires: float
    generation: int = 0
    binding: str | None = field(default=None, repr=False)  # a digest


class Tokens:
    """Signs and verifies the tokens of one app."""

    __slots__ = ("_serializer", "_ttl")

    def __init__(self, secret: str, ttl: float) -> None:
        self._ttl = ttl
        self._serializer = URLSafeSerializer(
            secret,
            salt="greenroom.token.v1",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def __repr__(self) -> str:
        return "<Tokens>"

    def sign(
        self, session: str, binding: str | None, now: float, generation: int = 0
    ) -> tuple[str, float]:
        """A token for this session, and when it expires.

        ``binding``: a value that whoever presents the token has to show too, or None. A ``ttl``
        of 0 is for ever.
        """
        expires = now + self._ttl if self._ttl else NEVER
        said: dict[str, Any] = {"s": session, "i": now, "e": expires}
        if generation:
            said["g"] = generation
        if binding is not None:
            said["b"] = _digest(binding)
        return str(self._serializer.dumps(said)), expires

    def verify(self, text: str, binding: str | None, now: float) -> Token:
        """What the token says. Raises :class:`BadToken`."""
        if len(text) > TOKEN_CHARS:
            raise BadToken("the token is too long to be one of ours")
        try:
            said: Any = self._serializer.loads(text)
        except (BadData, UnicodeError, ValueError):
            raise BadToken("the token was not signed here") from None
        fields = object_in(said) or {}
        session, issued, expires = fields.get("s"), fields.get("i"), fields.get("e")
        bound, generation = fields.get("b"), fields.get("g", 0)
        if not (
            isinstance(session, str)
            and isinstance(issued, int | float)
            and isinstance(expires, int | float)
            and isinstance(bound, str | None)
            and isinstance(generation, int)
        ):
            raise BadToken("the token is not of this version")
        if now >= expires:
            raise BadToken("the token has expired")
        if bound is not None and (
            binding is None or not hmac.compare_digest(bound, _digest(binding))
        ):
            raise BadToken("the token is bound to another browser")
        return Token(session, issued, expires, generation, bound)


def _digest(binding: str) -> str:
    return hashlib.sha256(b"greenroom.binding" + binding.encode()).hexdigest()[:32]
