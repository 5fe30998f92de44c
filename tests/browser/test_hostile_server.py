"""What a server shows may come from anybody: in a page without a policy of its own nothing runs.

The page of the FastAPI example has no Content-Security-Policy, so what the client's own rules let
through would run. The server is played by the test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Page, WebSocketRoute
from tests.browser.conftest import Server, Visit, Watch

Serve = Callable[..., Server]

RUN = "pwned.push(document.title)"
# What would run at once where it is put into a page as it is.
PICTURE = f"<img src='data:image/png,x' onerror='{RUN}'>"
HOSTILE = [
    f"<script>{RUN}</script>",
    PICTURE,
    f"<svg onload='{RUN}'></svg>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin='{RUN}' attributeName=x dur=1s></svg>",
    f"<math><mtext><table><mglyph><style><!--</style>{PICTURE}",
    f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    f"<iframe src='javascript:parent.{RUN}'></iframe>",
    f"<object data='javascript:{RUN}'></object>",
    f"<embed src='javascript:{RUN}'>",
    f"<details open ontoggle='{RUN}'>x</details>",
    f"<video autoplay><source onerror='{RUN}' src='data:,'></video>",
    f"<audio src='data:,' onerror='{RUN}'></audio>",
    f"<input autofocus onfocus='{RUN}'>",
    f"<style onload='{RUN}'>*{{}}</style>",
    "<style>@import 'data:text/css,*{}';</style>",
    f"<link rel=stylesheet href='data:text/css,' onload='{RUN}'>",
    f"<meta http-equiv=refresh content='0;url=javascript:{RUN}'>",
    "<base href='https://evil.example/'>",
    f'<noscript><p title="</noscript>{PICTURE}">',
    f"<template><img></template><template shadowrootmode=open>{PICTURE}</template>",
    f"<x-any onclick='{RUN}'>{PICTURE}</x-any>",
    f"<p style='background:url(javascript:{RUN})'>x</p>",
    f"<!--{PICTURE}--><![CDATA[{PICTURE}]]><?php {PICTURE}?>",
    f"<textarea></textarea>{PICTURE}<textarea>{PICTURE}",
    f"<select><style></select>{PICTURE}",
    f"<form><math><mtext></form><form><mglyph><style></math>{PICTURE}",
    # A form answers with its fields, and a document with its forms and pictures.
    f"<form name=body><input name=childNodes><input name=childNodes>{PICTURE}</form>",
    f"<form name=body>{PICTURE}</form><form name=documentElement>{PICTURE}</form>",
    f"<img name=body><img name=body>{PICTURE}",
    f"<form><input name=nodeName><input name=nodeType>{PICTURE}</form>{PICTURE}",
    f"<form><input name=attributes><input name=remove><input name=parentNode>{PICTURE}</form>",
    f"<form><input name=replaceWith><input name=removeChild>{PICTURE}</form>{PICTURE}",
    f"<form id=a></form><button form=a formaction='javascript:{RUN}'>x</button>",
]

INSPECT = """root => {
  const bad = [];
  for (const element of root.querySelectorAll("*")) {
    const name = element.nodeName.toLowerCase();
    const machines = "script style link meta base iframe object embed form svg math template x-any";
    if (machines.split(" ").includes(name)) bad.push(name);
    for (const { name: key, value } of element.attributes) {
      if (/^(on|form|srcdoc|srcset|style|name)/.test(key)) bad.push(`${name} ${key}`);
      if (/^[\\s\\x00-\\x1f]*(javascript|vbscript|data:text)/i.test(value)) bad.push(value);
    }
  }
  return bad;
}"""


async def bare_page(visit: Visit, serve: Serve) -> Page:
    """A page without a policy, with the client's modules beside it."""
    server = serve("uvicorn", "--app-dir", "examples/fastapi_counter", "main:api")
    page = await visit(server.url)
    await page.evaluate("() => { globalThis.pwned = []; }")
    return page


async def test_the_page_would_run_what_it_is_given(visit: Visit, serve: Serve) -> None:
    """The control: without the client's rules these do run, so the other tests say something."""
    page = await bare_page(visit, serve)
    ran = await page.evaluate(
        """async (html) => {
          document.body.insertAdjacentHTML("beforeend", html);
          const ran = () => pwned.length || new Promise((done) => setTimeout(done)).then(ran);
          return await ran();
        }""",
        PICTURE,
    )
    assert ran == 1


async def test_nothing_in_foreign_html_runs(visit: Visit, serve: Serve) -> None:
    page = await bare_page(visit, serve)
    found = await page.evaluate(
        f"""async (all) => {{
          const {{ sanitize }} = await import("/live/greenroom/sanitize.js");
          const inspect = {INSPECT};
          const bad = [];
          for (const html of all) {{
            const place = document.createElement("div");
            document.body.append(place);
            place.append(sanitize(`<p>before</p>${{html}}`));
            if (!place.textContent.startsWith("before")) bad.push([html, "lost"]);
            const left = inspect(place);
            if (left.length) bad.push([html, ...left]);
          }}
          // What came before it has had its chance when this picture has failed.
          const last = new Image();
          await new Promise((done) => {{ last.onerror = done; last.src = "data:image/png,x"; }});
          await new Promise((done) => setTimeout(done, 0));
          return [bad, pwned];
        }}""",
        HOSTILE,
    )
    assert found == [[], []]


async def test_foreign_html_keeps_what_is_harmless(visit: Visit, serve: Serve) -> None:
    page = await bare_page(visit, serve)
    kept = await page.evaluate(
        """async (html) => {
          const { sanitize } = await import("/live/greenroom/sanitize.js");
          const place = document.createElement("div");
          place.append(sanitize(html));
          return place.innerHTML;
        }""",
        "<h2 id='top' class='a'>A <em>b</em></h2><a href='/x'>x</a><a href='javascript:1'>y</a>"
        "<table><tr><td colspan='2'>1</td></tr></table><img src='data:image/png,x' alt='z'>"
        "<my-tag>text <b>bold</b></my-tag>",
    )
    assert kept == (
        '<h2 id="top" class="a">A <em>b</em></h2>'
        '<a href="/x" rel="noopener noreferrer">x</a><a rel="noopener noreferrer">y</a>'
        '<table><tbody><tr><td colspan="2">1</td></tr></tbody></table>'
        '<img src="data:image/png,x" alt="z">text <b>bold</b>'
    )


async def test_no_binding_sets_an_attribute_that_runs(
    visit: Visit, serve: Serve, watch: Watch
) -> None:
    watch.expect("was not set")
    page = await bare_page(visit, serve)
    answer = await page.evaluate(
        """async () => {
          const { setAttribute } = await import("/live/greenroom/sanitize.js");
          const tries = [
            ["a", "href", "javascript:x"], ["a", "href", " java\\nscript:x"],
            ["a", "HREF", "vbscript:x"], ["a", "href", "data:text/html,x"],
            ["a", "ping", "javascript:x"], ["img", "src", "javascript:x"],
            ["img", "srcset", "x 1x"], ["img", "onerror", "x"], ["img", "ONLOAD", "x"],
            ["iframe", "srcdoc", "x"], ["iframe", "src", "data:text/html,x"],
            ["form", "action", "javascript:x"], ["button", "formaction", "javascript:x"],
            ["video", "poster", "javascript:x"], ["script", "src", "/x.js"], ["base", "href", "/x"],
            ["object", "data", "/x"], ["embed", "src", "/x"], ["meta", "content", "0;url=/x"],
            ["link", "href", "javascript:x"],
          ];
          const set = tries.filter(([tag, name, value]) => {
            const element = document.createElement(tag);
            return setAttribute(element, name, value) || element.hasAttribute(name);
          });
          const svg = document.createElementNS("http://www.w3.org/2000/svg", "animate");
          if (setAttribute(svg, "to", "javascript:x")) set.push("animate");
          const fine = [
            ["a", "href", "/x"], ["img", "src", "data:image/png,x"], ["p", "style", "color: red"],
          ];
          for (const [tag, name, value] of fine) {
            if (!setAttribute(document.createElement(tag), name, value)) set.push([tag, name]);
          }
          return set;
        }"""
    )
    assert answer == []


# -- a server that says what it likes -------------------------------------------------------------


class Villain:
    """Speaks for the server: a welcome, a snapshot, and then whatever the test says."""

    def __init__(self) -> None:
        self.socket: WebSocketRoute | None = None
        self.seq = 0

    def arrived(self, socket: WebSocketRoute) -> None:
        self.socket = socket
        socket.on_message(self._heard)

    def _heard(self, message: str | bytes) -> None:
        if '"gr:hello"' in str(message):
            terms = {"protocol": 1, "session": "S", "token": "T", "expires": 86400, "link": "L"}
            more = {"resumed": False, "seq": 0, "ack": 0, "pending": [], "inflight": 256}
            self._send({"type": "gr:welcome", "data": terms | more})
            self.say("gr:snapshot", {"count": 1})

    def say(self, type: str, data: Any) -> None:
        self.seq += 1
        self._send({"type": type, "seq": self.seq, "data": data})

    def _send(self, frame: dict[str, Any]) -> None:
        assert self.socket is not None
        self.socket.send(json.dumps(frame))


@pytest.fixture
def villain() -> Villain:
    return Villain()


async def test_what_a_server_asks_a_page_to_do_stays_within_its_limits(
    visit: Visit, serve: Serve, villain: Villain, watch: Watch
) -> None:
    watch.expect("may not be imported|exposes no|failed|was not (opened|set)|a toast has no kind")
    server = serve("uvicorn", "--app-dir", "examples/fastapi_counter", "main:api")
    page = await visit("about:blank")
    await page.route_web_socket(re.compile(r"/ws$"), villain.arrived)
    await page.add_init_script(
        """globalThis.pwned = []; globalThis.opened = []; globalThis.saved = [];
        window.open = (...args) => void opened.push(args);
        HTMLAnchorElement.prototype.click = function () { saved.push(this.href); };
        addEventListener("message", () => pwned.push("message"));"""
    )
    await page.goto(server.url)
    await page.wait_for_function("document.querySelector('output').textContent === '1'")

    for html in HOSTILE:
        villain.say("gr:content", {"target": "output", "html": html})
    villain.say("gr:content", {"target": "output", "html": PICTURE, "text": PICTURE})
    targets: list[Any] = [
        "javascript:1",
        "java\nscript:1",
        "data:text/html,x",
        "bl\tob:x",
        "file:///x",
        {},
    ]
    for url in targets:
        villain.say("gr:open-url", {"url": url})
        villain.say("gr:download", {"url": url})
    villain.say("gr:download", {"url": "https://evil.example/x"})  # would leave the page
    villain.say("gr:open-url", {"url": "/fine"})
    villain.say("gr:download", {"url": "file/fine"})
    for url in (
        *("https://evil.example/x.js", "data:text/javascript,pwned.push(1)", "//evil.example/x.js"),
        f"blob:{server.url}1",
    ):
        villain.say("gr:import", {"url": url})
    for module in ("window", "__proto__", "constructor", "document", "greenroom"):
        for name in ("alert", "eval", "constructor", "__proto__", "toString"):
            villain.say("gr:call", {"module": module, "function": name, "args": [RUN]})
    for kind in ("__proto__", "constructor", f'x">{PICTURE}'):
        villain.say(
            "gr:notify", {"message": PICTURE, "title": PICTURE, "kind": kind, "duration": 0}
        )
        villain.say("gr:style", {"selector": "output", "styles": {kind: "url(javascript:x)"}})
    for _ in range(50):
        villain.say("gr:notify", {"message": "flood", "duration": 0, "position": "top-left"})
    villain.say("gr:page", {"page": "x/../../<script>", "params": {"a": "javascript:1"}})
    villain.say("gr:confirm", {"call": 1, "message": PICTURE, "title": PICTURE, "timeout": 0.001})
    villain.say("gr:state", {"=": {"/__proto__": {"polluted": 1}, "/constructor": {"polluted": 1}}})
    villain.say("gr:state", {"=": {"/count": 2}})
    await page.wait_for_function("document.querySelector('output').textContent === '2'")
    await page.evaluate("() => new Promise((done) => setTimeout(done))")

    assert await page.evaluate("pwned") == []
    assert await page.evaluate(f"({INSPECT})(document.querySelector('.gr-toasts'))") == []
    assert await page.evaluate("opened") == [["/fine", "_blank", "noopener,noreferrer"]]
    # An address that comes with the offer is never followed: the page asks for one (gr:fetch).
    assert await page.evaluate("saved") == []
    assert await page.evaluate("document.querySelectorAll('.gr-top-left .gr-toast').length") == 20
    assert await page.evaluate("[{}.polluted, Object.polluted, [].polluted]") == [None, None, None]
    assert page.url.startswith(f"{server.url}#")


async def test_a_form_whose_fields_are_named_like_its_own_parts_is_read_all_the_same(
    visit: Visit, serve: Serve
) -> None:
    page = await bare_page(visit, serve)
    payload = await page.evaluate(
        """async () => {
          const { payloadOf } = await import("/live/greenroom/forms.js");
          const form = document.createElement("form");
          for (const name of ["elements", "__proto__", "length", "name", "constructor"]) {
            const input = document.createElement("input");
            form.append(Object.assign(input, { name, value: `v ${name}` }));
          }
          const value = await payloadOf(new Event("submit"), form);
          return [Object.entries(value), Object.getPrototypeOf(value) === Object.prototype];
        }"""
    )
    names = ["elements", "__proto__", "length", "name", "constructor"]
    assert payload == [[[name, f"v {name}"] for name in names], True]
