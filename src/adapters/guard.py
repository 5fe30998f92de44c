"""Who may come in over HTTP: hosts, origins, proxies and the binding cookie. No input or output.

Everything is decided from a :class:`Head`, which is read once per request or handshake. The rules:

Host      Looked at only where we are the outermost application: mounted into another one it is
          that one's job. ``Settings.hosts`` if given, else on a loopback address the names of this
          machine, so that a foreign page cannot reach the app by pointing a name at 127.0.0.1.
Origin    A browser sends it with every WebSocket handshake. The page must come from this host and
          port or from ``Settings.origins``; ``null`` is foreign. Without it there is no browser,
          hence no foreign page, and the token decides.
Peer      The address that counts for limits: of the socket, or what ``X-Forwarded-For`` says where
          the socket belongs to one of ``Settings.trusted_proxies``; None where it is not known.
          Every proxy appends whom it saw, so the list is read from its end, through the trusted
          ones: what stands further left anybody can have written.
Scheme    Of the socket, or what ``X-Forwarded-Proto`` says where a trusted proxy brought it.
Binding   A cookie that scripts cannot read and other sites cannot send. Tokens are bound to it, so
          that a stolen token alone is worth nothing.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ..core.settings import Settings

__all__ = [
    "Head",
    "binding_name",
    "host_allowed",
    "is_loopback",
    "names_us",
    "new_binding",
    "origin_allowed",
]

DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
BINDING: Final = re.compile(r"[\w-]{16,128}\Z", re.ASCII)
HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?\Z")
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Head(NamedTuple):
    """The head of one HTTP request, as far as rules and apps look at it."""

    scheme: str  #: http, https, ws or wss, as the server sees it
    mount: str  #: the path this application is mounted at, without a trailing slash
    path: str  #: below the mount, decoded; empty when the slash after the mount is missing
    headers: Mapping[str, str]  #: lower-case names; repeated ones joined
    cookies: Mapping[str, str]
    server: tuple[str, int | None] | None  #: the socket's own address
    client: str | None  #: the address at the other end of the socket
    local: bool  #: whether the socket's own address is a loopback one

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Head:
        """Read an ASGI scope."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            if name in headers:
                value = headers[name] + ("; " if name == "cookie" else ", ") + value
            headers[name] = value
        mount = str(scope.get("root_path") or "").rstrip("/")
        path = str(scope["path"])
        if mount and (path == mount or path.startswith(mount + "/")):
            path = path[len(mount) :]
        server, client = scope.get("server"), scope.get("client")
        return cls(
            scheme=str(scope.get("scheme") or "http"),
            mount=mount,
            path=path or ("" if mount else "/"),
            headers=headers,
            cookies=parse_cookies(headers.get("cookie", "")),
            server=None if server is None else (str(server[0]), server[1]),
            client=str(client[0]) if client else None,
            local=server is not None and is_loopback(str(server[0])),
        )

    def proxied(self, settings: Settings) -> bool:
        """Whether a trusted proxy brought it, so that its ``X-Forwarded-*`` are believed."""
        if self.client is None:  # a Unix socket
            return "*" in settings.trusted_proxies
        return bool(settings.trusted_proxies) and _within(self.client, settings.trusted_proxies)

    def secure(self, settings: Settings) -> bool:
        """Whether the browser came by https."""
        if self.proxied(settings):
            told = self.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
            if told:
                return told in ("https", "wss")
        return self.scheme in ("https", "wss")

    def peer(self, settings: Settings) -> str | None:
        """The client's address, seen through trusted proxies; None where it is not known."""
        if not self.proxied(settings):
            return self.client
        trusted = [entry for entry in settings.trusted_proxies if entry != "*"]
        hops = [hop.strip() for hop in self.headers.get("x-forwarded-for", "").split(",")]
        for hop in reversed(hops):
            address = _address(hop)
            if address is None:
                return None
            if not _within(str(address), trusted):
                return str(address)
        return None

    def binding(self) -> str | None:
        """The value of the binding cookie, where there is one."""
        value = self.cookies.get(binding_name(self))
        return value if value is not None and BINDING.match(value) else None


def parse_cookies(header: str) -> dict[str, str]:
    """Names and values of a Cookie header; the first of a name counts, nonsense is passed over."""
    cookies: dict[str, str] = {}
    for part in header.split(";"):
        name, equals, value = part.partition("=")
        name, value = name.strip(), value.strip()
        if equals and name and name not in cookies:
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            cookies[name] = value
    return cookies


# -- host and origin ----------------------------------------------------------------------------


def host_allowed(head: Head, settings: Settings, *, loopback: bool) -> bool:
    """Whether the Host header names this application. ``loopback``: we listen on one."""
    found = HOST.match(head.headers.get("host", ""))
    if found is None:
        return False
    name = found[1].lower().rstrip(".")
    if settings.hosts:
        full = f"{name}:{found[2]}" if found[2] else name
        allowed = {entry.lower() for entry in settings.hosts}
        return "*" in allowed or name in allowed or full in allowed
    return not loopback or name in LOCAL_NAMES


def names_us(head: Head) -> bool:
    """Whether the Host header is a name that this machine has for itself."""
    found = HOST.match(head.headers.get("host", ""))
    return found is not None and found[1].lower().rstrip(".") in LOCAL_NAMES


def origin_allowed(head: Head, settings: Settings) -> bool:
    """Whether the page that opens this WebSocket may."""
    origin = head.headers.get("origin")
    if origin is None:
        return True
    asked = _origin(origin)
    if asked is None:
        return False
    if "*" in settings.origins or asked in map(_origin, settings.origins):
        return True
    found = HOST.match(head.headers.get("host", ""))
    if found is None:
        return False
    scheme, name, port = asked
    # Behind a proxy that ends TLS we see ws although the page is https: then, as long as the
    # names agree, so do the default ports of both.
    own_scheme = "https" if head.secure(settings) else scheme
    own_port = int(found[2]) if found[2] else DEFAULT_PORTS[own_scheme]
    return (name, port) == (found[1].lower(), own_port)


def _origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an origin; None when it is not one (``null``, nonsense)."""
    try:
        parts = urlsplit(text.strip().lower())
        port = parts.port
    except ValueError:
        return None
    found = HOST.match(parts.netloc)
    if parts.scheme not in ("http", "https") or found is None or parts.path.strip("/"):
        return None
    return parts.scheme, found[1], port or DEFAULT_PORTS[parts.scheme]


# -- addresses ----------------------------------------------------------------------------------


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in one entry of X-Forwarded-For: bare, with a port, or in brackets."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def _within(text: str, networks: Iterable[str]) -> bool:
    """Whether an address belongs to one of some addresses or networks; ``*`` is everybody."""
    address = _address(text)
    for entry in networks:
        if entry == "*" or entry == text:
            return True
        if address is not None:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue
    return False


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


# -- binding ------------------------------------------------------------------------------------


def binding_name(head: Head) -> str:
    """The name of the binding cookie. Cookies know no ports, so it holds port and mount."""
    port = head.server[1] if head.server is not None and head.server[1] else 0
    mount = re.sub(r"[^A-Za-z0-9]+", "_", head.mount).strip("_")
    return f"greenroom_{port}_{mount}" if mount else f"greenroom_{port}"


def new_binding(head: Head, settings: Settings) -> str | None:
    """A Set-Cookie header for a page that we serve; None when the browser has the cookie."""
    if head.binding() is not None:
        return None
    cookie = f"{binding_name(head)}={secrets.token_urlsafe(24)}; Path={head.mount or '/'}"
    cookie += "; HttpOnly; SameSite=Lax"
    return cookie + "; Secure" if head.secure(settings) else cookie
