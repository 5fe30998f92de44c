"""Tokens: unguessable, signed, expiring capabilities that open one session.

A token says which session it opens, when it was issued, until when it is good, and what it is
bound to (the value of the page's HttpOnly cookie, of which only a digest travels). Tokens are never
logged: no error, repr or message here holds one. Times are seconds since the epoch and come in as
arguments.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from itsdangerous import BadData, URLSafeSerializer

from .errors import GreenroomError

__all__ = ["BadToken", "Token", "Tokens", "new_id"]

TOKEN_CHARS: Final = 4096  # longer ones are not even looked at


class BadToken(GreenroomError):
    """A token that opens nothing: forged, expired, or bound to something else."""

    code = "unauthorized"


@dataclass(frozen=True, slots=True)
class Token:
    """What a genuine token says."""

    session: str
    issued: float
    expires: float
    binding: str | None = field(default=None, repr=False)  # a digest


class Tokens:
    """Signs and verifies tokens. Without a secret, tokens live as long as this object."""

    __slots__ = ("_serializer",)

    def __init__(self, secret: str | None = None) -> None:
        key = secret or secrets.token_hex(32)
        self._serializer: URLSafeSerializer = URLSafeSerializer(
            key,
            salt="greenroom.token.v1",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def __repr__(self) -> str:
        return "<Tokens>"

    def sign(self, session: str, *, now: float, ttl: float, binding: str | None = None) -> str:
        """A token for this session, good for ``ttl`` seconds from ``now`` (0: for ever).

        ``binding``: a value that whoever presents the token has to show too.
        """
        said: dict[str, Any] = {"s": session, "i": now, "e": now + ttl if ttl else 0}
        if binding is not None:
            said["b"] = _digest(binding)
        return str(self._serializer.dumps(said))

    def verify(self, text: str, *, now: float, binding: str | None = None) -> Token:
        """What the token says. Raises :class:`BadToken`; which way it is bad is in the message."""
        if len(text) > TOKEN_CHARS:
            raise BadToken("the token is too long to be one of ours")
        try:
            said: Any = self._serializer.loads(text)
        except (BadData, UnicodeError):
            raise BadToken("the token was not signed here") from None
        try:
            session, issued, expires = said["s"], said["i"], said["e"]
            bound = said.get("b")
        except (TypeError, KeyError, AttributeError):
            raise BadToken("the token is not of this version") from None
        if expires and now >= expires:
            raise BadToken("the token has expired")
        if bound is not None and (
            binding is None or not hmac.compare_digest(bound, _digest(binding))
        ):
            raise BadToken("the token is bound to another browser")
        return Token(session, issued, expires or float("inf"), bound)


def new_id() -> str:
    """An id that is never used again, not by another process either: 128 random bits."""
    return secrets.token_urlsafe(16)


def _digest(binding: str) -> str:
    return hashlib.sha256(b"greenroom.binding" + binding.encode()).hexdigest()[:32]
