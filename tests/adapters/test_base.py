"""What adapters share: closes, sizes, names, and the rules about who may come in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.adapters import asgi, base, guard, pages
from greenroom.adapters.guard import Head
from greenroom.core.settings import Settings
from greenroom.core.types import Packet


@given(st.integers(-10, 6000), st.text())
def test_a_close_is_always_legal(code: int, reason: str) -> None:
    legal, text = base.legal_close(code, reason)
    assert 1000 <= legal <= 4999
    assert legal not in (1004, 1005, 1006, 1015)
    assert len(text.encode()) <= 123


def test_closes_of_the_protocol_pass_unchanged() -> None:
    for code in (1000, 1001, 1007, 1009, 1013, 4000, 4001, 4002, 4003, 4006, 4029):
        assert base.legal_close(code, "why") == (code, "why")


def test_packet_size_counts_buffers() -> None:
    assert base.packet_size(Packet(b"12")) == 2
    assert base.packet_size(Packet(b"12", (b"345", b""))) == 5


def test_adapters_are_found_by_name() -> None:
    assert base.find("asgi") is asgi
    with pytest.raises(LookupError, match=r"asgi, memory"):
        base.find("pigeon")


# -- heads --------------------------------------------------------------------------------------


def head(
    headers: dict[str, str] | None = None,
    *,
    path: str = "/",
    root_path: str = "",
    scheme: str = "ws",
    client: str | None = "127.0.0.1",
    server: tuple[str, int | None] | None = ("127.0.0.1", 8000),
) -> Head:
    raw = [(k.encode(), v.encode("latin-1")) for k, v in (headers or {}).items()]
    scope: dict[str, Any] = {
        "headers": raw,
        "path": path,
        "root_path": root_path,
        "scheme": scheme,
        "client": None if client is None else (client, 1),
        "server": server,
    }
    return Head.of(scope)


@pytest.mark.parametrize(
    ("path", "root_path", "mount", "inner"),
    [
        ("/ws", "", "", "/ws"),
        ("/live/ws", "/live", "/live", "/ws"),
        ("/live/ws", "/live/", "/live", "/ws"),
        ("/live", "/live", "/live", ""),
        ("/live/", "/live", "/live", "/"),
        ("/ws", "/live", "/live", "/ws"),  # servers that do not put the prefix in front
        ("/lively", "/live", "/live", "/lively"),
        ("", "", "", "/"),
    ],
)
def test_the_mount_is_taken_off(path: str, root_path: str, mount: str, inner: str) -> None:
    found = head(path=path, root_path=root_path)
    assert (found.mount, found.path) == (mount, inner)


def test_repeated_headers_are_joined_and_a_second_origin_is_foreign() -> None:
    scope: dict[str, Any] = {
        "headers": [
            (b"Host", b"a.example"),
            (b"origin", b"http://a.example"),
            (b"Origin", b"http://b.example"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=2"),
        ],
        "path": "/ws",
    }
    found = Head.of(scope)
    assert found.cookies == {"a": "1", "b": "2"}
    assert not guard.origin_allowed(found, Settings())


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "allowed"),
    [
        (None, "a.example", "ws", True),
        ("http://a.example", "a.example", "ws", True),
        ("http://A.example", "a.EXAMPLE", "ws", True),
        ("http://a.example:80", "a.example", "ws", True),
        ("http://a.example:8000", "a.example:8000", "ws", True),
        ("http://a.example:8000", "a.example", "ws", False),
        ("http://a.example", "a.example:8000", "ws", False),
        ("https://a.example", "a.example", "ws", True),  # a proxy ended TLS
        ("https://a.example", "a.example", "wss", True),
        ("http://a.example", "a.example", "wss", False),
        ("http://[::1]:8000", "[::1]:8000", "ws", True),
        ("http://b.example", "a.example", "ws", False),
        ("http://a.example.evil", "a.example", "ws", False),
        ("http://a.example@evil", "a.example", "ws", False),
        ("http://a.example/path", "a.example", "ws", False),
        ("file://", "a.example", "ws", False),
        ("null", "a.example", "ws", False),
        ("", "a.example", "ws", False),
        ("http://", "", "ws", False),
        ("http://a.example:99999", "a.example:99999", "ws", False),
        ("chrome-extension://abc", "abc", "ws", False),
    ],
)
def test_origins(origin: str | None, host: str, scheme: str, allowed: bool) -> None:
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    assert guard.origin_allowed(head(headers, scheme=scheme), Settings()) is allowed


def test_further_origins() -> None:
    settings = Settings(origins=("https://b.example", "http://c.example:81"))
    for origin, allowed in {
        "https://b.example": True,
        "https://b.example:443": True,
        "http://b.example": False,
        "http://c.example:81": True,
        "http://c.example": False,
        "null": False,
    }.items():
        found = head({"host": "a.example", "origin": origin})
        assert guard.origin_allowed(found, settings) is allowed, origin
    assert guard.origin_allowed(
        head({"host": "a", "origin": "http://x.example"}), Settings(origins=("*",))
    )
    assert not guard.origin_allowed(head({"origin": "null"}), Settings())


@pytest.mark.parametrize(
    ("host", "hosts", "loopback", "allowed"),
    [
        ("localhost:8000", (), True, True),
        ("LOCALHOST", (), True, True),
        ("127.0.0.1:8000", (), True, True),
        ("[::1]:8000", (), True, True),
        ("evil.example", (), True, False),
        ("localhost.evil.example", (), True, False),
        ("any.example", (), False, True),
        ("", (), False, False),
        ("a b", (), False, False),
        ("a.example", ("a.example",), True, True),
        ("a.example:81", ("a.example",), True, True),
        ("a.example:81", ("a.example:81",), False, True),
        ("a.example:82", ("a.example:81",), False, False),
        ("localhost", ("a.example",), True, False),
        ("b.example", ("*",), True, True),
    ],
)
def test_hosts(host: str, hosts: tuple[str, ...], loopback: bool, allowed: bool) -> None:
    found = head({"host": host} if host else {})
    assert guard.host_allowed(found, Settings(hosts=hosts), loopback=loopback) is allowed


@pytest.mark.parametrize(
    ("client", "forwarded", "trusted", "peer"),
    [
        ("1.1.1.1", "9.9.9.9", (), "1.1.1.1"),
        ("1.1.1.1", "9.9.9.9", ("2.2.2.2",), "1.1.1.1"),
        ("2.2.2.2", "9.9.9.9", ("2.2.2.2",), "9.9.9.9"),
        ("2.2.2.2", "6.6.6.6, 9.9.9.9", ("2.2.2.0/24",), "9.9.9.9"),
        ("2.2.2.2", "9.9.9.9, 2.2.2.3", ("2.2.2.0/24",), "9.9.9.9"),
        ("2.2.2.2", "2.2.2.3", ("2.2.2.0/24",), None),
        ("2.2.2.2", "", ("2.2.2.2",), None),
        ("2.2.2.2", "9.9.9.9, unknown", ("2.2.2.2",), None),
        ("2.2.2.2", "9.9.9.9:5000", ("2.2.2.2",), "9.9.9.9"),
        ("2.2.2.2", '"[2001:db8::1]:5000"', ("2.2.2.2",), "2001:db8::1"),
        ("::ffff:2.2.2.2", "9.9.9.9", ("2.2.2.2",), "9.9.9.9"),
        (None, "9.9.9.9", ("2.2.2.2",), None),
        # two proxies in a row; what the client wrote itself stands further left
        ("2.2.2.2", "6.6.6.6, 9.9.9.9, 3.3.3.3", ("2.2.2.2", "3.3.3.3"), "9.9.9.9"),
        ("2.2.2.2", "2.2.2.2, 9.9.9.9", ("2.2.2.2",), "9.9.9.9"),
        ("2.2.2.2", "127.0.0.1, 9.9.9.9", ("2.2.2.2",), "9.9.9.9"),
        ("2.2.2.2", "9.9.9.9, , 2.2.2.2", ("2.2.2.2",), None),
        # whoever connects to us is a proxy: it, and nobody behind it, is believed
        ("2.2.2.2", "6.6.6.6, 9.9.9.9", ("*",), "9.9.9.9"),
        (None, "6.6.6.6, 9.9.9.9", ("*",), "9.9.9.9"),  # over a Unix socket
        (None, "9.9.9.9, 3.3.3.3", ("*", "3.3.3.3"), "9.9.9.9"),
    ],
)
def test_peers(
    client: str | None, forwarded: str, trusted: tuple[str, ...], peer: str | None
) -> None:
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    found = head(headers, client=client)
    assert found.peer(Settings(trusted_proxies=trusted)) == peer


@pytest.mark.parametrize(
    ("scheme", "client", "told", "trusted", "secure"),
    [
        ("http", "2.2.2.2", "https", (), False),  # anybody can write that
        ("http", "1.1.1.1", "https", ("2.2.2.2",), False),
        ("http", "2.2.2.2", "https", ("2.2.2.2",), True),
        ("ws", "2.2.2.2", "HTTPS, http", ("2.2.2.2",), True),  # TLS ends at the outer of two
        ("http", "2.2.2.2", "http", ("2.2.2.2",), False),
        ("https", "2.2.2.2", "http", ("2.2.2.2",), False),
        ("https", "2.2.2.2", "", ("2.2.2.2",), True),
        ("https", "1.1.1.1", "http", ("2.2.2.2",), True),
        ("wss", "1.1.1.1", "", (), True),
        ("http", None, "https", ("*",), True),
    ],
)
def test_the_scheme_is_the_sockets_or_what_a_trusted_proxy_says(
    scheme: str, client: str | None, told: str, trusted: tuple[str, ...], secure: bool
) -> None:
    headers = {"x-forwarded-proto": told} if told else {}
    settings = Settings(trusted_proxies=trusted)
    found = head(headers, client=client, scheme=scheme)
    assert found.secure(settings) is secure
    cookie = guard.new_binding(found, settings)
    assert cookie is not None
    assert cookie.endswith("; Secure") is secure


def test_the_binding_cookie() -> None:
    bare = head(scheme="http")
    cookie = guard.new_binding(bare, Settings())
    assert cookie is not None
    name, _, rest = cookie.partition("=")
    value, *flags = rest.split("; ")
    assert name == "greenroom_8000"
    assert flags == ["Path=/", "HttpOnly", "SameSite=Lax"]
    back = head({"cookie": f"other=1; {name}={value}"}, scheme="http")
    assert back.binding() == value
    assert guard.new_binding(back, Settings()) is None
    assert guard.new_binding(bare, Settings()) != cookie

    mounted = head(path="/a/b/", root_path="/a/b", scheme="https")
    cookie = guard.new_binding(mounted, Settings())
    assert cookie is not None
    assert cookie.startswith("greenroom_8000_a_b=")
    assert cookie.endswith("; Path=/a/b; HttpOnly; SameSite=Lax; Secure")
    assert head({"cookie": f"{name}=short"}).binding() is None
    assert head(server=None).binding() is None


def test_cookies_of_any_shape() -> None:
    parse = guard.parse_cookies
    assert parse('a=1; b = 2 ;c;=d; a=9; e="f g"; h=i=j') == {
        "a": "1",
        "b": "2",
        "e": "f g",
        "h": "i=j",
    }
    assert parse("") == {}


# -- pages --------------------------------------------------------------------------------------


def test_a_policy_names_what_stands_in_the_file_and_nothing_else() -> None:
    rules = pages.policy_of(
        "<script>alert(1)</script><script src='x.js'></script>\r\n"
        "<style>\r\nh1 {}</style><p onclick='no()'>"
    )
    assert rules.replace(pages.EMPTY, "").count("'sha256-") == 2
    # echo -n 'alert(1)' | openssl dgst -sha256 -binary | base64
    assert "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='" in rules
    assert "unsafe" not in rules


def test_the_policy_is_strict_and_takes_further_sources() -> None:
    strict = dict(rule.split(" ", 1) for rule in pages.policy().split("; "))
    assert strict["script-src"] == strict["connect-src"] == "'self'"
    assert strict["style-src"] == f"'self' {pages.EMPTY}"
    assert strict["object-src"] == strict["base-uri"] == "'none'"
    rules = pages.policy(
        (
            "script-src https://cdn.example 'unsafe-eval'",
            "script-src https://cdn.example https://other.example",
            "frame-src https://video.example",
            "object-src 'self'",
            "frame-ancestors https://portal.example",
        ),
        {"script-src": ["sha256-x"]},
    )
    found = dict(rule.split(" ", 1) for rule in rules.split("; "))
    assert found.pop("script-src") == (
        "'self' https://cdn.example 'unsafe-eval' https://other.example 'sha256-x'"
    )
    assert found.pop("frame-src") == "'self' https://video.example"
    assert found.pop("object-src") == "'self'"
    assert found.pop("frame-ancestors") == "'self' https://portal.example"
    assert found.items() <= strict.items()
    loose = pages.policy(("style-src 'unsafe-inline'",), {"style-src": ["sha256-x"]})
    assert "; style-src 'self' 'unsafe-inline'; " in loose  # beside a hash it would be ignored
    assert pages.policy() == pages.policy(())  # the constant is nobody's to change


@given(st.text(alphabet=st.sampled_from("./\\%2eab\0:~"), max_size=12))
def test_no_path_leaves_the_folder(path: str) -> None:
    folder = pages.Folder(pages.CLIENT)
    found = folder.find(path)
    assert found is None or found.is_relative_to(folder.root)


@pytest.mark.parametrize(
    ("html", "start"),
    [
        ("<p>x</p>", "<!doctype html>"),
        (
            "<!doctype html><html><head><title>x</title></head>",
            "<!doctype html><html><head><script",
        ),
        ("<!-- x --> <HTML><HEAD lang='x'></HEAD>", "<!-- x --> <HTML><HEAD lang='x'><script"),
        ("<html><body>x", "<html><body>x<script"),
    ],
)
def test_a_view_becomes_a_document(html: str, start: str) -> None:
    class View:
        title = None

    view: Any = View()
    view.html = html
    document = pages.document(view, "main", "./")
    assert document.startswith(start)
    assert document.count('src="./greenroom/page.js"') == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.svg", "image/svg+xml; charset=utf-8"),
        ("a.json", "application/json; charset=utf-8"),
        ("a.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("a.png", "image/png"),
        ("a.js.gz", "application/octet-stream"),
        ("unknown", "application/octet-stream"),
    ],
)
def test_media_types(name: str, kind: str) -> None:
    assert pages.media_type(name) == kind
