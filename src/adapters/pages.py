"""What we serve beside the WebSocket: the public folder, the client's modules, views, a debug page.

:class:`Pages` turns a :class:`~.guard.Head` and a method into an :class:`Answer`; it reads files,
so it is called on a thread, and knows nothing of servers. Rules:

- Only regular files inside the folder, links resolved; no name that begins with a dot; nothing
  that a path says about going up.
- Every answer has its type and ``nosniff``; files have an ETag and are asked for again every time,
  which costs a 304.
- Pages have a Content-Security-Policy without ``unsafe-inline``, to which ``Settings.csp`` adds
  sources; other answers in words may load nothing at all. Inline scripts and styles of a
  file in the public folder are named by their hashes, for they cannot hold what a user typed. The
  HTML given to ``app.show`` can, so there they do not run: put them into files.
- Pages carry the binding cookie when the browser does not have it yet.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import stat
from collections.abc import Mapping, Sequence
from mimetypes import MimeTypes
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

from ..core.settings import Settings
from .guard import Head, new_binding

__all__ = ["CHUNK", "Answer", "Folder", "Handlers", "Pages", "View"]

CHUNK: Final = 256 * 1024  #: what of a file is in memory at once

# greenroom.js and the folder greenroom/ are served as they lie here: ours, in any public folder.
CLIENT: Final = Path(__file__).parents[1] / "client"
ENTRY: Final = "greenroom.js"
MODULES: Final = "greenroom/"
#: What of a public folder nobody ever gets, since the address means something of ours.
OURS: Final = (ENTRY, MODULES, "ws", "view/", "file/", "healthz")

# The hash of nothing: an empty style element, which libraries of figures fill through its object.
EMPTY: Final = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
SELF: Final = ("'self'",)
NOTHING: Final = ("'none'",)
POLICY: Final[Mapping[str, Sequence[str]]] = {
    "default-src": SELF,
    "script-src": SELF,
    "style-src": ("'self'", EMPTY),
    "img-src": ("'self'", "data:", "blob:"),
    "media-src": ("'self'", "data:", "blob:"),
    "font-src": ("'self'", "data:"),
    "connect-src": SELF,
    "object-src": NOTHING,
    "base-uri": NOTHING,
    "form-action": SELF,
    "frame-ancestors": SELF,
}
BARE: Final = "default-src 'none'; frame-ancestors 'none'"  #: of answers that are no pages

TYPES: Final = MimeTypes(filenames=())  # the machine's own list differs from one to the next
for _suffix, _kind in {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".ico": "image/x-icon",
    ".wasm": "application/wasm",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}.items():
    TYPES.add_type(_kind, _suffix)

INLINE: Final = re.compile(
    r"<(script|style)\b((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL
)
SOURCE: Final = re.compile(r"\ssrc\s*=", re.IGNORECASE)
HEAD_TAG: Final = re.compile(r"<head\b[^>]*>", re.IGNORECASE)
DOCUMENT: Final = re.compile(r"\s*(<!--.*?-->\s*)*<(!doctype|html)\b", re.IGNORECASE | re.DOTALL)


class View(Protocol):
    """A page that the app shows under a label."""

    @property
    def html(self) -> str: ...
    @property
    def title(self) -> str | None: ...


class Known(Protocol):
    """One function that browsers may call."""

    @property
    def where(self) -> str: ...


class Handlers(Protocol):
    """What browsers may call, and what not."""

    @property
    def names(self) -> Mapping[str, Known]: ...
    @property
    def left_out(self) -> Sequence[tuple[str, str, str]]: ...


class Shown(Protocol):
    """The part of an app that its pages are made from."""

    @property
    def settings(self) -> Settings: ...
    @property
    def views(self) -> Mapping[str, View]: ...
    @property
    def handlers(self) -> Handlers: ...


class Answer(NamedTuple):
    """A response. ``file`` is sent after ``body``; it is opened by whoever sends."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    file: Path | None = None


# -- files --------------------------------------------------------------------------------------


class Folder:
    """The files below one folder that may be seen from outside."""

    __slots__ = ("root",)

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def find(self, path: str) -> Path | None:
        """The file or folder that ``path`` (decoded, relative) names; None when it may not be."""
        parts = path.split("/")
        if parts and parts[-1] == "":
            parts.pop()
        for part in parts:
            if not part or part.startswith(".") or not part.isprintable() or set(part) & set("\\:"):
                return None
        try:
            found = self.root.joinpath(*parts).resolve(strict=True)
            inner = found.relative_to(self.root)
            mode = found.stat().st_mode
        except (OSError, ValueError, RuntimeError):
            return None
        if any(part.startswith(".") for part in inner.parts):
            return None  # a link that leads to what may not be named
        return found if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else None


def hidden(public: Path) -> list[str]:
    """The names in a public folder that are never served: those that are ours."""
    return [
        name
        for name in OURS
        if (public / name).exists() and ((public / name).is_dir() or not name.endswith("/"))
    ]


def media_type(name: str) -> str:
    kind, encoding = TYPES.guess_type(name)
    if kind is None or encoding is not None:
        return "application/octet-stream"
    text = kind.startswith("text/") or kind in ("application/json", "image/svg+xml")
    return f"{kind}; charset=utf-8" if text else kind


def policy(more: Sequence[str] = (), hashes: Mapping[str, Sequence[str]] | None = None) -> str:
    """The Content-Security-Policy of a page.

    ``more`` is ``Settings.csp``: a directive and its further sources, each. ``hashes`` are those of
    what stands in the page itself, by directive.
    """
    rules: dict[str, list[str]] = {name: list(sources) for name, sources in POLICY.items()}
    for entry in more:
        directive, *sources = entry.split()
        # One that we do not name falls back to default-src, so it begins with that.
        rule = rules.setdefault(directive, list(rules["default-src"]))
        rule += [source for source in sources if source not in rule]
        if len(rule) > 1 and "'none'" in rule:
            rule.remove("'none'")
    for directive, found in (hashes or {}).items():
        rules[directive] += [f"'{one}'" for one in found]
    for directive, rule in rules.items():
        if "'unsafe-inline'" in rule:  # beside a hash browsers do not look at it
            rules[directive] = [source for source in rule if not source.startswith("'sha256-")]
    return "; ".join(" ".join((directive, *sources)) for directive, sources in rules.items())


def policy_of(page: str, more: Sequence[str] = ()) -> str:
    """The policy of a page from a file: what stands in it may run, and nothing else."""
    hashes: dict[str, list[str]] = {"script-src": [], "style-src": []}
    for tag, attributes, content in INLINE.findall(page.replace("\r\n", "\n").replace("\r", "\n")):
        if not SOURCE.search(attributes):
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            hashes[f"{tag.lower()}-src"].append(f"sha256-{digest}")
    return policy(more, hashes)


# -- pages --------------------------------------------------------------------------------------


def document(view: View, label: str, base: str) -> str:
    """A whole document around the HTML of a view; ``base`` leads to the mount."""
    script = (
        f'<script type="module" src="{base}greenroom/page.js" '
        f'data-label="{html.escape(label)}"></script>'
    )
    if DOCUMENT.match(view.html):
        found = HEAD_TAG.search(view.html)
        if found is None:
            return view.html + script
        return view.html[: found.end()] + script + view.html[found.end() :]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(view.title or label)}</title>\n{script}\n</head>\n"
        f"<body>\n{view.html}\n</body>\n</html>\n"
    )


def by_length(handlers: Handlers) -> list[tuple[str, Known]]:
    return sorted(handlers.names.items(), key=lambda item: len(item[0]))


def debug_document(title: str, handlers: Handlers) -> str:
    text = html.escape
    # A function has several names; the shortest is the one to show.
    by_handler = {id(handler): (name, handler) for name, handler in reversed(by_length(handlers))}
    rows = "".join(
        f'<tr><th scope="row"><code>{text(name)}</code></th>'
        f"<td><code>{text(handler.where)}</code></td>"
        f'<td><form data-handler="{text(name)}"><input name="payload" '
        f'placeholder="payload (JSON)" aria-label="payload of {text(name)}">'
        "<button>call</button></form></td></tr>"
        for name, handler in sorted(by_handler.values(), key=lambda item: item[0])
    )
    left_out = "".join(
        f"<li><code>{text(name)}</code> ({text(where)}): {text(why)}</li>"
        for name, where, why in handlers.left_out
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)} (debug)</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="./greenroom/debug.css">
<script type="module" src="./greenroom/debug.js"></script>
</head>
<body>
<h1>{text(title)} <small id="status">connecting</small></h1>
<p>This page exists because the app runs with <code>debug</code> and has no
<code>public/index.html</code>.</p>
<h2>State</h2>
<pre id="state"></pre>
<h2>Handlers</h2>
<table><tbody>{rows}</tbody></table>
{f"<h3>Left out</h3><ul>{left_out}</ul>" if left_out else ""}
<h2>Answers and log</h2>
<ol id="log"></ol>
</body>
</html>
"""


class Pages:
    """Everything one application serves by GET and HEAD. The app is asked at every request."""

    def __init__(self, public: Path | None, app: Shown, title: str) -> None:
        self.public = None if public is None else Folder(public)
        self.client = Folder(CLIENT)
        self.app = app
        self.title = title

    def answer(self, method: str, head: Head) -> Answer:
        """The response to a request; HEAD is GET without a body."""
        if method not in ("GET", "HEAD"):
            return plain(405, "only GET and HEAD", [("allow", "GET, HEAD")])
        answer = self._get(head)
        if method == "HEAD":
            return answer._replace(body=b"", file=None)
        return answer

    def _get(self, head: Head) -> Answer:
        if head.path == "":
            return redirect(quote(head.mount.rpartition("/")[2]) + "/")
        if not head.path.startswith("/"):
            return plain(400, "a path begins with a slash")
        path = head.path[1:]
        if path == "":
            return self._root(head)
        if path.startswith("view/"):
            return self._view(head, path[len("view/") :])
        if path == ENTRY or path.startswith(MODULES):
            module = self.client.find(path)
            if module is None or not module.is_file():
                return plain(404, "not found")
            # The client is public; a page of an allowed origin imports it from here.
            return self._file(head, module, [("access-control-allow-origin", "*")])
        if self.public is not None:
            found = self.public.find(path)
            if found is not None and found.is_dir():
                if not path.endswith("/"):
                    return redirect(quote(path.rpartition("/")[2]) + "/")
                found = self.public.find(path + "index.html")
                if found is not None and found.is_dir():
                    found = None
            elif found is not None and path.endswith("/"):
                found = None
            if found is not None:
                return self._file(head, found)
        return plain(404, "not found")

    def _root(self, head: Head) -> Answer:
        if self.public is not None:
            index = self.public.find("index.html")
            if index is not None and index.is_file():
                return self._file(head, index)
        view = self.app.views.get("main")
        if view is not None:
            return self._page(head, document(view, "main", "./"))
        if self.app.settings.debug:
            return self._page(head, debug_document(self.title, self.app.handlers))
        return plain(
            404,
            "This app has no page here. Put a public/index.html beside main.py, use app.show(...), "
            "or run with --debug for a page made from its handlers.",
        )

    def _view(self, head: Head, label: str) -> Answer:
        view = self.app.views.get(label)
        if view is None:
            return plain(404, "no such view")
        return self._page(head, document(view, label, "../"))

    def _page(self, head: Head, text: str) -> Answer:
        settings = self.app.settings
        return page(head, settings, text.encode("utf-8", "replace"), policy(settings.csp))

    def _file(self, head: Head, path: Path, extra: list[tuple[str, str]] | None = None) -> Answer:
        try:
            status = path.stat()
            kind = media_type(path.name)
            headers = [("content-type", kind), *(extra or [])]
            etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
            if kind.startswith("text/html"):
                raw, settings = path.read_bytes(), self.app.settings
                rules = policy_of(raw.decode("utf-8", "replace"), settings.csp)
                return page(head, settings, raw, rules)
        except OSError:
            return plain(404, "not found")
        headers += [("etag", etag), ("cache-control", "no-cache")]
        if _matches(head.headers.get("if-none-match"), etag):
            return Answer(304, _safe(headers))
        headers.append(("content-length", str(status.st_size)))
        return Answer(200, _safe(headers), file=path)


def page(head: Head, settings: Settings, raw: bytes, rules: str) -> Answer:
    """An HTML page, with policy, ETag and, where the browser lacks it, the binding cookie."""
    etag = f'"{hashlib.sha256(raw).hexdigest()[:32]}"'
    headers = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", rules),
        ("etag", etag),
        ("cache-control", "private, no-cache"),  # a cookie that two browsers share binds nothing
    ]
    cookie = new_binding(head, settings)
    if cookie is not None:
        headers.append(("set-cookie", cookie))
    if _matches(head.headers.get("if-none-match"), etag):
        return Answer(304, _safe(headers))
    headers.append(("content-length", str(len(raw))))
    return Answer(200, _safe(headers), raw)


def plain(status: int, text: str, extra: list[tuple[str, str]] | None = None) -> Answer:
    """A short answer in words."""
    body = (text + "\n").encode()
    headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(body))),
        ("content-security-policy", BARE),
        *(extra or []),
    ]
    return Answer(status, _safe(headers), body)


def redirect(relative: str) -> Answer:
    """To a path beside this one; never to another site."""
    return Answer(308, _safe([("location", "./" + relative), ("content-length", "0")]))


def _safe(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [*headers, ("x-content-type-options", "nosniff"), ("referrer-policy", "same-origin")]


def _matches(wanted: str | None, etag: str) -> bool:
    if wanted is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in wanted.split(",")]
    return "*" in tags or etag in tags
