"""Every event of `greenroom doctor --events`, fired in a browser, and its handler as it is printed.

The app is made of the list itself: the page is the HTML of each row, the program its stubs.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect
from tests.browser.conftest import Server, Visit

from greenroom.cli.events import EVENTS

Serve = Callable[..., Server]
Act = Callable[[Locator], Awaitable[Any]]

STATE = {
    "cities": {"bern": "Bern", "rome": "Rome"},
    "repeater_content": {"one": {}, "two": {}},
    "prices": {"low": 10, "high": 90},
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Events</title>
<link rel="icon" href="data:,">
<script type="module" src="main.js"></script>
</head>
%s
</body>
</html>
"""

SCRIPT = """import { connect } from "./greenroom.js";

globalThis.gr = connect();
gr.bind(document);
"""

KEYS = (
    *("name", "query", "amount", "volume", "agreed", "size", "city", "tags", "day", "start"),
    *("due", "month", "color", "files", "picture", "pressed", "sent", "tab", "repeater_content"),
    *("order", "prices", "more", "page", "params", "chosen", "begun"),
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of all the stubs, and a page of all the HTML."""
    folder = tmp_path_factory.mktemp("events")
    stubs = [event.stub for event in EVENTS]
    start = f"import greenroom\n\ngreenroom.init_state({STATE!r})\n"
    (folder / "main.py").write_text("\n\n\n".join([*stubs, start]))
    sections = [
        event.html
        if event.html.startswith("<body")
        else f'<section id="{event.name}">{event.html}</section>'
        for event in sorted(EVENTS, key=lambda event: event.name != "open")
    ]
    outputs = [f'<output id="out-{key}" data-gr-text="{key}"></output>' for key in KEYS]
    image = '<img id="image" alt="" data-gr-attr:src="picture">'
    public = folder / "public"
    public.mkdir()
    (public / "index.html").write_text(PAGE % "\n".join([*sections, *outputs, image]))
    (public / "main.js").write_text(SCRIPT)
    return folder


def choose_files(at: Locator) -> Awaitable[None]:
    large = b"x" * 200_000  # goes up beside the stream
    files = [("a.txt", "text/plain", b"abc"), ("b.bin", "application/octet-stream", large)]
    picked: Any = [{"name": n, "mimeType": mime, "buffer": raw} for n, mime, raw in files]
    return at.locator("input").set_input_files(picked)


async def order(at: Locator) -> None:
    await at.locator("[name=item]").fill("chair")
    await at.locator("[name=quantity]").fill("3")
    await at.locator("[name=gift]").check()
    await at.get_by_role("button").click()


async def take_picture(at: Locator) -> None:
    video = at.locator("video")
    await video.click()
    await expect(video).to_have_js_property("paused", False)
    await expect(video).not_to_have_js_property("videoWidth", 0)
    await video.click()


def fill(text: str) -> Act:
    async def act(at: Locator) -> None:
        await at.locator("input").fill(text)
        await at.locator("input").blur()

    return act


def js(code: str) -> Act:
    return lambda at: at.locator("*").first.evaluate(code)


#: What a user does, and what the state holds when the stub has run: {key: text on the page}.
ACTS: dict[str, tuple[Act, dict[str, Any]]] = {
    "text": (fill("Ada"), {"name": "Ada"}),
    "typing": (lambda at: at.locator("input").press_sequentially("chai"), {"query": "chai"}),
    "number": (fill("2.5"), {"amount": 2.5}),
    "range": (fill("70"), {"volume": 70}),
    "checkbox": (lambda at: at.locator("input").check(), {"agreed": True}),
    "radio": (lambda at: at.locator("[value=L]").check(), {"size": "L"}),
    "select": (lambda at: at.locator("select").select_option("rome"), {"city": "rome"}),
    "multiple": (
        lambda at: at.locator("select").select_option(["new", "rare"]),
        {"tags": ["new", "rare"]},
    ),
    "date": (fill("2026-11-21"), {"day": "2026-11-21"}),
    "time": (fill("10:30"), {"start": "10:30:00"}),
    "datetime": (fill("2026-11-21T10:30"), {"due": "2026-11-21T10:30:00"}),
    "month": (fill("2026-11"), {"month": "2026-11"}),
    "color": (fill("#abcdef"), {"color": "#abcdef"}),
    "file": (choose_files, {"files": ["a.txt: 3 bytes", "b.bin: 200000 bytes"]}),
    "snapshot": (take_picture, {"picture": "snapshot.png"}),
    "click": (
        lambda at: at.locator("button").click(modifiers=["Control"]),
        {"pressed": "with ctrl"},
    ),
    "key": (lambda at: at.locator("input").press("Control+Enter"), {"sent": True}),
    "fixed": (lambda at: at.locator("button").click(), {"tab": "prices"}),
    "row": (
        lambda at: at.get_by_role("button", name="two").click(),
        {"repeater_content": {"one": {}, "two": {"last_action": "Clicked"}}},
    ),
    "submit": (order, {"order": "3 x chair"}),
    "group": (
        lambda at: at.locator("[name=low]").fill("95"),
        {"prices": {"low": 90, "high": 95}},
    ),
    "toggle": (lambda at: at.locator("summary").click(), {"more": True}),
    "hash": (
        js("() => { location.hash = 'cart?step=2&note=a%20b'; }"),
        {"page": "cart", "params": {"step": "2", "note": "a b"}},
    ),
    "custom": (
        js("e => e.dispatchEvent(new CustomEvent('chosen', {detail: {point: 7}}))"),
        {"chosen": 7},
    ),
    "other": (lambda at: at.locator("input").focus(), {"begun": ""}),
}


def shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return text.replace(".0", "")


async def opened(visit: Visit, serve: Serve, app: Path, **options: Any) -> Page:
    page = await visit(serve("greenroom", "run", str(app)).url, **options)
    await expect(page.locator("#out-page")).to_have_text("start")  # the event `open`
    return page


async def test_every_stub_gets_what_it_says(visit: Visit, serve: Serve, app: Path) -> None:
    page = await opened(visit, serve, app, permissions=["camera"])
    assert {*ACTS, "open", "camera"} == {event.name for event in EVENTS}
    for name, (act, expected) in ACTS.items():
        await act(page.locator(f"#{name}"))
        for key, value in expected.items():
            await expect(page.locator(f"#out-{key}"), name).to_have_text(shown(value))

    video, image = page.locator("#snapshot video"), page.locator("#image")
    for side in ("Width", "Height"):
        size = await video.evaluate(f"video => video.video{side}")
        assert size
        await expect(image).to_have_js_property(f"natural{side}", size)


async def test_fields_show_what_their_stubs_assigned(visit: Visit, serve: Serve, app: Path) -> None:
    page = await opened(visit, serve, app)
    for name in ("text", "number", "date", "time", "datetime", "month", "color", "select"):
        act, expected = ACTS[name]
        await act(page.locator(f"#{name}"))
        await expect(page.locator(f"#out-{next(iter(expected))}")).not_to_be_empty()
    await page.reload()
    await expect(page.locator("#out-page")).to_have_text("start")
    for name, value in (
        *(("text", "Ada"), ("number", "2.5"), ("date", "2026-11-21"), ("time", "10:30:00")),
        *(("datetime", "2026-11-21T10:30"), ("month", "2026-11"), ("color", "#abcdef")),
    ):
        await expect(page.locator(f"#{name} input"), name).to_have_value(value)
    await expect(page.locator("#select select")).to_have_value("rome")

    for name, key in (
        ("number", "amount"),
        ("date", "day"),
        ("time", "start"),
        ("datetime", "due"),
    ):
        await fill("")(page.locator(f"#{name}"))  # emptied: None, which the annotations allow
        await expect(page.locator(f"#out-{key}"), name).to_be_empty()


async def test_a_link_with_a_page_opens_it(visit: Visit, serve: Serve, app: Path) -> None:
    url = serve("greenroom", "run", str(app)).url
    page = await visit(url + "#caf%C3%A9%2Fmenu?x=1")
    await expect(page.locator("#out-page")).to_have_text("café/menu")
    await page.evaluate("location.hash = 'bar'")
    await expect(page.locator("#out-page")).to_have_text("bar")
    await page.go_back()
    await expect(page.locator("#out-page")).to_have_text("café/menu")
    await expect(page.locator("#out-params")).to_have_text('{"x":"1"}')


async def test_without_a_camera_the_handler_hears_why(
    visit: Visit, serve: Serve, app: Path
) -> None:
    page = await opened(visit, serve, app)  # nobody gave it the permission
    await page.locator("#camera video").click()
    toast = page.locator(".gr-toast")
    await expect(toast).to_have_count(1)
    await expect(toast).to_contain_text("may not use the camera")
    await expect(toast).to_have_attribute("role", "alert")
