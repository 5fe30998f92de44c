"""`greenroom doctor --events`: one list, and everything that says the same."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.test_docs import FENCE

from greenroom import App, cli
from greenroom.cli.events import EVENTS, Event, show, table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/events.md").read_text("utf-8")
HEAD = (ROOT / "src/client/greenroom/forms.js").read_text("utf-8").partition("*/")[0]

by_name = pytest.mark.parametrize("event", EVENTS, ids=[event.name for event in EVENTS])


def rows(text: str) -> list[str]:
    """The rows of the first table below a head of these two names."""
    _, _, below = text.partition("| element, event | payload |")
    lines = (line.removeprefix(" * ") for line in below.splitlines()[2:])
    found: list[str] = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append(line)
    return found


# -- the list, the page, the client and the command agree -----------------------------------------


def test_the_page_and_the_client_have_the_same_table() -> None:
    assert rows(PAGE) == list(table())
    assert rows(HEAD) == list(table())


def test_names_are_unique_and_so_are_handlers() -> None:
    assert len({event.name for event in EVENTS}) == len(EVENTS)
    handlers = re.findall(r"^def (\w+)", "\n".join(event.stub for event in EVENTS), re.MULTILINE)
    assert len(set(handlers)) == len(EVENTS)


@by_name
def test_the_page_shows_the_html_and_the_handler(event: Event) -> None:
    code = [found[4].strip() for found in FENCE.finditer(PAGE)]
    assert event.html in code
    assert event.stub in code
    assert f"`{event.name}`: {event.where}. Payload: {event.payload}." in PAGE


@by_name
def test_the_html_names_the_handler(event: Event) -> None:
    (handler,) = re.findall(r"^def (\w+)", event.stub, re.MULTILINE)
    assert f'="{handler}"' in event.html


# -- the command ----------------------------------------------------------------------------------


def test_doctor_shows_all_events(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--events"]) == cli.OK
    said = capsys.readouterr().out
    assert "orjson" not in said  # of this machine it says nothing
    for event in EVENTS:
        assert "\n".join(show(event)) in said


def test_doctor_shows_one_event(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--events", "date"]) == cli.OK
    assert capsys.readouterr().out == (
        """\
date: date
payload: ISO 8601, 2026-11-21; null when it is empty

    <input type="date" data-gr-value="day" data-gr-on:change="set_day">

    import datetime


    def set_day(state, payload: datetime.date | None):
        state["day"] = payload

"""
    )


def test_doctor_names_the_events_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--events", "dates"]) == cli.NOT_FOUND
    said = capsys.readouterr().err
    assert "there is no event called 'dates'; there are text, typing, number" in said
    assert "snapshot" in said


def test_doctor_takes_no_app_with_events(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "main.py", "--events"]) == cli.USAGE
    assert "leave PATH out" in capsys.readouterr().err


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["doctor", "--help"])
    said = capsys.readouterr().out
    assert "greenroom doctor --events date" in said
    for name in re.findall(r"^  greenroom doctor --events (\w+)", said, re.MULTILINE):
        assert any(event.name == name for event in EVENTS), name


# -- the handlers, without a browser --------------------------------------------------------------

FILE = {"name": "a.txt", "type": "text/plain", "data": {"$bytes": "YQ=="}}
KEYS = {"ctrl": True, "shift": False, "alt": False, "meta": False}
PICTURE = {"$bytes": "YQ==", "mime": "image/png", "name": "snapshot.png"}

#: What fits, what it makes of the state, and what does not fit (with what is said about it).
CASES: dict[str, tuple[Any, dict[str, Any], Any, str]] = {
    "text": ("Ada", {"/name": "Ada"}, 1, "Expected `str`, got `int`"),
    "typing": ("chai", {"/query": "chai"}, None, "Expected `str`, got `null`"),
    "number": (2.5, {"/amount": 2.5}, "2.5", "Expected `float | null`, got `str`"),
    "range": (3, {"/volume": 3.0}, None, "Expected `float`, got `null`"),
    "checkbox": (True, {"/agreed": True}, 1, "Expected `bool`, got `int`"),
    "radio": ("L", {"/size": "L"}, "XXL", "Invalid enum value 'XXL'"),
    "select": ("rome", {"/city": "rome"}, 7, "Expected `str`, got `int`"),
    "multiple": (["a"], {"/tags": ["a"]}, "a", "Expected `array`, got `str`"),
    "date": ("2026-11-21", {"/day": "2026-11-21"}, "", "Invalid RFC3339 encoded date"),
    "time": ("10:30:00", {"/start": "10:30:00"}, "10", "Invalid RFC3339 encoded time"),
    "datetime": (
        *("2026-11-21T10:30:00", {"/due": "2026-11-21T10:30:00"}),
        *("2026-11-21", "Invalid RFC3339 encoded datetime"),
    ),
    "month": (None, {"/month": None}, 11, "Expected `str | null`, got `int`"),
    "color": ("#abcdef", {"/color": "#abcdef"}, [], "Expected `str`, got `array`"),
    "file": ([FILE], {"/files": ["a.txt: 1 bytes"]}, ["a.txt"], "Expected `File`, got `str`"),
    "snapshot": (PICTURE, {"/picture": PICTURE}, "YQ==", "Expected `bytes`, got `str`"),
    "camera": (
        *({"reason": "busy", "message": "no"}, {}),
        *({"message": 1}, "Expected `str`, got `int` - at `$[...]`"),
    ),
    "click": (KEYS, {"/pressed": "with ctrl"}, {"ctrl": 1}, "Expected `bool`, got `int`"),
    "key": ({**KEYS, "key": "Enter"}, {"/sent": True}, "a", "Expected `object`, got `str`"),
    "fixed": ("prices", {"/tab": "prices"}, None, "Expected `str`, got `null`"),
    "submit": (
        *({"item": "chair", "quantity": 2, "gift": False}, {"/order": "2 x chair"}),
        *({"item": "chair", "quantity": "2"}, "Expected `int`, got `str` - at `$.quantity`"),
    ),
    "group": (
        *({"low": 9, "high": 1}, {"/prices": {"low": 1.0, "high": 9.0}}),
        *({"low": 9}, "Object missing required field `high`"),
    ),
    "toggle": (True, {"/more": True}, "open", "Expected `bool`, got `str`"),
    "open": ({"page": "", "params": {}}, {"/page": "start"}, "", "Expected `object`, got `str`"),
    "hash": (
        *({"page": "cart", "params": {"n": "1"}}, {"/page": "cart", "/params": {"n": "1"}}),
        *(None, "Expected `object`, got `null`"),
    ),
    "custom": ({"point": 7}, {"/chosen": 7}, 7, "Expected `object`, got `int`"),
    "other": ("", {"/begun": ""}, None, "Expected `str`, got `null`"),
}


def handler_of(event: Event) -> Any:
    names: dict[str, Any] = {"__name__": "stubs"}
    exec(compile(event.stub, event.name, "exec"), names)
    (name,) = re.findall(r"^def (\w+)", event.stub, re.MULTILINE)
    return names[name]


def test_every_handler_takes_what_it_should_and_says_what_it_expected(
    arun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stubs", ModuleType("stubs"))  # dataclasses look for it

    async def story() -> None:
        assert {*CASES, "row"} == {event.name for event in EVENTS}
        state = {"cities": {"rome": "Rome"}, "repeater_content": {"a": {}}}
        handlers = [handler_of(event) for event in EVENTS]
        async with App(state=state, handlers=handlers) as app:
            visitor = await Visitor(app).open()
            for handler, event in zip(handlers, EVENTS, strict=True):
                if event.name == "row":
                    await visitor.call(handler.__name__, context={"keyVariable": "a"})
                    clicked = visitor.session.state["repeater_content"]["a"].to_dict()
                    assert clicked == {"last_action": "Clicked"}
                    continue
                payload, patch, wrong, said = CASES[event.name]
                begin = len(visitor.frames)
                assert await visitor.call(handler.__name__, payload) is None, event.name
                sent = [f["data"] for f in visitor.frames[begin:] if f["type"] == "gr:state"]
                assert sent == ([{"=": patch}] if patch else []), event.name
                refused = await visitor.call(handler.__name__, wrong)
                assert refused["code"] == "bad_payload", event.name
                assert said in refused["message"], event.name
            strange = await visitor.call("set_city", "paris")
            assert strange["code"] == "handler_error"
            visitor.line.close()

    arun(story)
