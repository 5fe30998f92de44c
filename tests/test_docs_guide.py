"""docs/guide: the app of every page runs, does what the page says, sends the patches it shows."""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.seeds.samples import patch_of, patches
from tests.support.gates import PATIENCE
from tests.support.scripts import script
from tests.test_docs import ROOT
from tests.test_docs_run import blocks

from greenroom import App, Settings

GUIDE = ROOT / "docs/guide"
INDEX = (GUIDE / "README.md").read_text("utf-8")
ORDER = re.findall(r"^\| \d+\. \[[^]]+\]\((\S+)\)", INDEX, re.MULTILINE)
PAGES = [name for name in ORDER if not name.startswith("../")]


def files(page: str) -> dict[str, str]:
    """What the page tells its reader to save."""
    found = {}
    for _, text in blocks(GUIDE / page, "python") + blocks(GUIDE / page, "html"):
        named = re.match(r"(?:# |<!-- )(\S+\.\w+)(?: -->)?\n", text)
        if named is not None:
            found[named[1]] = text
    return found


def shown(page: str) -> list[Any]:
    """The patches a page shows."""
    return [json.loads(text) for _, text in blocks(GUIDE / page, "json")]


@pytest.fixture
def cafe(tmp_path: Path) -> Callable[..., Any]:
    """``async with cafe("context.md") as (app, visitor):`` runs the app of a page."""

    @asynccontextmanager
    async def open_it(page: str, **settings: Any) -> AsyncGenerator[tuple[App, Visitor]]:
        async with script(tmp_path, files(page), Settings(**settings)) as app:
            visitor = await Visitor(app).open()
            yield app, visitor
            visitor.line.close()

    return open_it


# -- the pages as pages ---------------------------------------------------------------------------


def test_the_index_has_every_page_and_a_page_for_every_heading_of_the_seeds() -> None:
    assert sorted(PAGES) == sorted(p.name for p in GUIDE.glob("*.md") if p.name != "README.md")
    assert len(PAGES) == len(ORDER) - 1  # globals are a page of the reference
    numbers = re.findall(r"^\| (\d+)\. ", INDEX, re.MULTILINE)
    assert numbers == [str(n) for n in range(1, len(ORDER) + 1)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short_numbered_and_leads_to_the_next(page: str) -> None:
    text = (GUIDE / page).read_text("utf-8")
    place = ORDER.index(page)
    assert len(text.splitlines()) <= 80
    assert text.startswith(f"# {place + 1}. ")
    assert "main.py" in files(page)
    following = ORDER[place + 1] if place + 1 < len(ORDER) else "README.md"
    *_, last = text.strip().split("\n\n")
    assert f"]({following})" in last


@pytest.mark.parametrize("page", PAGES)
def test_what_pages_call_and_show_is_in_their_apps(page: str) -> None:
    app = files(page)["main.py"]
    for _, html in blocks(GUIDE / page, "html"):
        for handler in re.findall(r'data-gr-on:\w+="(\w+)"', html):
            assert f"def {handler}(" in app
        for key in re.findall(r'data-gr-(?:text|show|value|each|attr:\w+)="(\w+)"', html):
            assert f'"{key}": ' in app


def test_every_page_has_a_story() -> None:
    told = set(re.findall(r'cafe\("([\w-]+\.md)"', Path(__file__).read_text("utf-8")))
    assert told == set(PAGES)


def said_at_the_start(app: App, folder: Path) -> list[str]:
    """The lines about handlers in the start-up log, with files relative to the app's folder."""
    return [line.replace(f"{folder}/", "") for line in app.handlers.report()]


# -- their apps -----------------------------------------------------------------------------------


def test_events_and_handlers(arun: Any, cafe: Any) -> None:
    async def story() -> None:
        async with cafe("events-and-handlers.md") as (_, visitor):
            assert visitor.frames[-1]["data"] == {"cups": 0}
            assert [await patch_of(visitor, "order")] == shown("events-and-handlers.md")

    arun(story)


def test_plain_functions(arun: Any, cafe: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with cafe("plain-functions.md") as (app, visitor):
            assert await patch_of(visitor, "order") == {"=": {"/cups": 1, "/bill": 3.0}}
            assert await visitor.call("price_list") == {"coffee": 2.5, "tea": 2.0}
            for hidden in ("_with_tip", "ceil"):
                assert (await visitor.call(hidden))["code"] == "not_found"
            (log,) = blocks(GUIDE / "plain-functions.md", "")
            assert said_at_the_start(app, tmp_path) == log[1].splitlines()

    arun(story)


def test_external_handlers(arun: Any, cafe: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with cafe("external-handlers.md") as (app, visitor):
            for name in ("brew", "kitchen.brew"):
                assert list((await patch_of(visitor, name))["="]) == ["/beans", "/cups"]
            assert visitor.session.state == {"cups": 2, "beans": 16, "till": 0.0}
            assert await patch_of(visitor, "pay", 5.5) == {"=": {"/till": 5.5}}
            for hidden in ("_take_beans", "kitchen._take_beans", "total", "till.total"):
                assert (await visitor.call(hidden))["code"] == "not_found"
            (log,) = blocks(GUIDE / "external-handlers.md", "")
            *_, last = said_at_the_start(app, tmp_path)
            assert last.strip().startswith(log[1].removesuffix("...\n"))

    arun(story)


def test_mutating_state(arun: Any, cafe: Any) -> None:
    page = "mutating-state.md"

    async def story() -> None:
        async with cafe("mutating-state.md") as (app, bob):
            alice = await Visitor(app).open()
            found = [
                await patch_of(bob, "order"),
                await patch_of(bob, "introduce", "Bob"),
                await patch_of(bob, "forget"),
            ]
            assert found == shown(page)
            assert await bob.call("whats_missing") is None
            assert bob.session.state.guest.name == "Bob"
            assert alice.session.state["cups"] == 4
            alice.line.close()

    arun(story)


def test_mutation_detection(arun: Any, cafe: Any) -> None:
    async def story() -> None:
        async with cafe("mutation-detection.md") as (_, visitor):
            assert await patch_of(visitor, "order_unseen") == {}
            assert visitor.session.state["orders"] == ["tea", "coffee"]
            names = ("order", "order_another_way", "order_well", "deliver")
            found = [await patch_of(visitor, name) for name in names]
            assert found == shown("mutation-detection.md")

    arun(story)


def test_mutation_events(arun: Any, cafe: Any) -> None:
    async def story() -> None:
        async with cafe("mutation-events.md") as (app, visitor):
            found = [
                await patch_of(visitor, "order", "cake"),
                await patch_of(visitor, "cancel_all"),
                await patch_of(visitor, "sit_down", 7),
            ]
            assert found == shown("mutation-events.md")
            # A subscriber that raises takes the whole turn back.
            assert (await visitor.call("order", "soup"))["code"] == "handler_error"
            assert visitor.session.state["orders"] == []
            assert app.open_session().state["changes"] == {"orders": 0, "table.number": 0}

    arun(story)


def test_payloads(arun: Any, cafe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    png = b"\x89PNG\r\n\x1a\n picture"

    async def story() -> None:
        async with cafe("payloads.md") as (_, visitor):
            assert await patch_of(visitor, "rename", "Ada") == {"=": {"/name": "Ada"}}
            booked = await patch_of(visitor, "book", {"guests": 2, "window": True})
            assert booked == {"=": {"/booking": "2 at the window"}}
            assert (await visitor.call("book", {"guests": "two"}))["code"] == "bad_payload"
            picture = {"$bytes": base64.b64encode(png).decode(), "mime": "image/png"}
            assert await patch_of(visitor, "take_portrait", picture) == {
                "=": {"/portrait": len(png)}
            }
            assert Path("portrait.png").read_bytes() == png

    arun(story)


def test_middlewares(arun: Any, cafe: Any) -> None:
    async def story() -> None:
        async with cafe("middlewares.md") as (_, visitor):
            assert await patch_of(visitor, "order") == {"=": {"/cups": 1, "/milk": 0, "/visits": 1}}
            assert [await patch_of(visitor, "order")] == shown("middlewares.md")
            assert visitor.session.state["visits"] == 1
            said = [record.text for record in visitor.session.log]
            assert re.fullmatch(r"order took 0\.\d+ s and returned 1", said[0])
            await visitor.call("close")
            assert (await visitor.call("order"))["code"] == "handler_error"
            assert visitor.session.state["visits"] == 2  # of the closing, not of the refusal
            await visitor.call("open_again")
            assert visitor.session.state["_open"] is True

    arun(story)


def test_standard_output(
    arun: Any, cafe: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with cafe("standard-output.md") as (app, alice):
            bob = await Visitor(app).open()
            await alice.call("order", "tea")
            await bob.call("order", "cake")
            assert [(r.text, r.level, r.handler) for r in alice.session.log] == [
                ("An order: 'tea'", "info", "order"),
                ("running low on tea", "warning", "order"),
                ("noted", "debug", "order"),
            ]
            assert next(r.text for r in bob.session.log) == "An order: 'cake'"
            assert [r.text for r in app.log].count("The café opens") == 1
            bob.line.close()

    with caplog.at_level(logging.WARNING):
        arun(story)
    out = capsys.readouterr().out
    assert out.splitlines()[:3] == ["The café opens", "An order: 'tea'", "An order: 'cake'"]


def test_the_log_is_shown_in_the_page_only_with_debug(arun: Any, cafe: Any) -> None:
    async def story() -> None:
        for debug in (False, True):
            async with cafe("standard-output.md", debug=debug) as (_, visitor):
                await visitor.call("order", "tea")
                heard = [f["data"]["text"] for f in visitor.frames if f["type"] == "gr:log"]
                assert ("An order: 'tea'" in heard) is debug

    arun(story)


def test_execution_flow(arun: Any, cafe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, loading, done = shown("execution-flow.md")
    seen, sleep = threading.Event(), time.sleep
    monkeypatch.setattr(time, "sleep", lambda n: seen.wait(PATIENCE) if n == 5 else sleep(n))

    async def story() -> None:
        seen.clear()
        async with cafe("execution-flow.md") as (app, visitor):
            other = await Visitor(app).open()
            assert await patch_of(visitor, "serve") == fast
            since = len(visitor.frames)
            roasting, serving = visitor.send("roast"), visitor.send("serve")
            await visitor.until("gr:state")
            assert patches(visitor, since) == [loading]
            assert await patch_of(other, "serve") == fast  # nobody else waits
            await visitor.line.settled()
            assert not visitor.line.arrived, "one of this session was served before its turn"
            seen.set()
            await visitor.answer(roasting)
            assert patches(visitor, since) == [loading, done]
            await visitor.answer(serving)
            other.line.close()

    arun(story)


def test_async_handlers(arun: Any, cafe: Any) -> None:
    async def story() -> None:
        async with cafe("async-handlers.md") as (_, visitor):
            assert await patch_of(visitor, "ask_price", "arabica") == {"=": {"/price": 9.5}}
            assert [await patch_of(visitor, "taste")] == shown("async-handlers.md")
            assert await visitor.call("ask_cheaply") == 5.0

    arun(story)


def test_context(arun: Any, cafe: Any) -> None:
    async def story() -> None:
        async with cafe("context.md") as (_, visitor):
            context = {"event": "click", "target": "large"}
            assert [await patch_of(visitor, "choose", context=context)] == shown("context.md")
            await visitor.call("look", context=context)
            rows = re.findall(r"^\| `(\w+)`", (GUIDE / "context.md").read_text(), re.MULTILINE)
            assert visitor.session.state["seen"] == sorted(rows)

    arun(story)


def test_repeaters(arun: Any, cafe: Any) -> None:
    async def story() -> None:
        async with cafe("repeaters.md") as (_, visitor):
            row = {"keyVariable": "k2", "valueVariable": {"what": "green tea"}}
            found = [
                await patch_of(visitor, "serve", context=row),
                await patch_of(visitor, "drop", context={"number": "k1", "order": {}}),
            ]
            assert found == shown("repeaters.md")

    arun(story)
