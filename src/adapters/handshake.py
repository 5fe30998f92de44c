"""The head of an HTTP/1.1 request, and how a WebSocket's is answered. No I/O.

Read strictly: what is not plainly a request for a WebSocket is somebody else's, and what asks for
one in a way that RFC 6455 or RFC 9112 forbid is refused with a status.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from http import HTTPStatus
from typing import Final, NamedTuple

__all__ = ["END", "Refused", "Request", "accepted", "parse", "respond", "wants_websocket"]

END: Final = re.compile(rb"\r?\n\r?\n")  # of a head; bare line feeds end it too, to be refused
MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
MAX_HEADERS: Final = 128
VERSION: Final = b"13"


class Refused(Exception):
    """A handshake cannot be answered with 101. ``headers`` go into the response."""

    def __init__(self, status: int, text: str, headers: list[tuple[str, str]] | None = None):
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = headers or []


class Request(NamedTuple):
    """A head: names in lower case, values without the space around them, in their order."""

    target: bytes
    headers: list[tuple[bytes, bytes]]

    def tokens(self, name: bytes) -> set[bytes]:
        """The members of a comma-separated list, in lower case, over all headers of that name."""
        joined = b",".join(value for found, value in self.headers if found == name)
        return {token.strip(b" \t\r").lower() for token in joined.split(b",")}

    def only(self, name: bytes) -> bytes:
        """The one value of a header; empty without it. Raises Refused when there are several."""
        values = [value for found, value in self.headers if found == name]
        if len(values) > 1:
            raise Refused(400, f"more than one {name.decode()}")
        return values[0] if values else b""


def wants_websocket(head: bytes, path: bytes) -> bool:
    """Whether a head, up to its empty line, asks for a WebSocket at ``path``."""
    line, _, _ = head.partition(b"\n")
    method, _, rest = line.partition(b" ")
    target, _, version = rest.rstrip(b"\r").partition(b" ")
    if method != b"GET" or version != b"HTTP/1.1" or target.partition(b"?")[0] != path:
        return False
    lines = (text.partition(b":") for text in head.split(b"\n"))
    request = Request(target, [(name.strip().lower(), value) for name, _, value in lines])
    return b"upgrade" in request.tokens(b"connection") and (
        b"websocket" in request.tokens(b"upgrade")
    )


def parse(head: bytes) -> Request:
    """Read a head without its empty line. Raises Refused."""
    line, *rest = head.split(b"\r\n")
    if len(rest) > MAX_HEADERS:
        raise Refused(431, f"more than {MAX_HEADERS} headers")
    headers: list[tuple[bytes, bytes]] = []
    for text in rest:
        name, colon, value = text.partition(b":")
        value = value.strip(b" \t")
        if not colon or not TOKEN.match(name) or not VALUE.match(value):
            raise Refused(400, "a header is malformed")
        headers.append((name.lower(), value))
    if not VALUE.match(line):  # a bare line feed within
        raise Refused(400, "the request line is malformed")
    return Request(line.split(b" ")[1], headers)


def accepted(request: Request) -> bytes:
    """The response that makes it a WebSocket. Raises Refused."""
    if request.only(b"transfer-encoding") or request.only(b"content-length").strip(b"0"):
        raise Refused(400, "a request for a WebSocket has no body")
    if request.only(b"sec-websocket-version") != VERSION:
        raise Refused(426, "WebSocket version 13 is spoken here", [
            ("upgrade", "websocket"), ("sec-websocket-version", VERSION.decode())
        ])  # fmt: skip
    key = request.only(b"sec-websocket-key")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        valid = False
    if not valid:
        raise Refused(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    proof = base64.b64encode(hashlib.sha1(key + MAGIC, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % proof
    )


def respond(status: int, headers: list[tuple[str, str]], body: bytes) -> bytes:
    """A response after which the connection is closed."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
