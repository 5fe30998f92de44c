"""What the events of a page carry, and a handler for each: the one list of them.

``greenroom doctor --events`` prints it. ``docs/events.md`` and the head of
``src/client/greenroom/forms.js`` say the same, and tests hold them to it; another test fires every
event in a browser and runs every stub. So a row here is a promise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import dedent, indent
from typing import Final

__all__ = ["EVENTS", "Event", "find", "show", "table"]


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of event. ``where`` and ``payload`` are a row of the table."""

    name: str
    where: str
    payload: str
    html: str
    stub: str


def _event(name: str, where: str, payload: str, html: str, stub: str) -> Event:
    return Event(name, where, payload, dedent(html).strip(), dedent(stub).strip())


EVENTS: Final = (
    _event(
        "text", "text, textarea, `change`", "the string",
        '<input data-gr-value="name" data-gr-on:change="set_name">',
        """
        def set_name(state, payload: str):
            state["name"] = payload
        """,
    ),
    _event(
        "typing", "text, textarea, `input`", "the string, 150 ms after the last key",
        '<input data-gr-value="query" data-gr-on:input="search">',
        """
        def search(state, payload: str):
            state["query"] = payload
        """,
    ),
    _event(
        "number", "number", "a number; null when it is none",
        '<input type="number" data-gr-value="amount" data-gr-on:change="set_amount">',
        """
        def set_amount(state, payload: float | None):
            state["amount"] = payload
        """,
    ),
    _event(
        "range", "range", "a number",
        '<input type="range" data-gr-value="volume" data-gr-on:input="set_volume">',
        """
        def set_volume(state, payload: float):
            state["volume"] = payload
        """,
    ),
    _event(
        "checkbox", "checkbox", "true or false",
        '<input type="checkbox" data-gr-value="agreed" data-gr-on:change="agree">',
        """
        def agree(state, payload: bool):
            state["agreed"] = payload
        """,
    ),
    _event(
        "radio", "radio", "the string in its `value`",
        """
        <input type="radio" name="size" value="S" data-gr-value="size" data-gr-on:change="set_size">
        <input type="radio" name="size" value="L" data-gr-value="size" data-gr-on:change="set_size">
        """,
        """
        from typing import Literal


        def set_size(state, payload: Literal["S", "L"]):
            state["size"] = payload
        """,
    ),
    _event(
        "select", "select", "the string in the option's `value`",
        """
        <select data-gr-value="city" data-gr-on:change="set_city">
          <template data-gr-each="cities">
            <option data-gr-value="keyVariable" data-gr-text="valueVariable"></option>
          </template>
        </select>
        """,
        """
        def set_city(state, payload: str):
            if payload not in state["cities"]:
                raise ValueError("no city of ours")  # a browser may send anything
            state["city"] = payload
        """,
    ),
    _event(
        "multiple", "select with `multiple`", "a list of strings",
        """
        <select multiple data-gr-value="tags" data-gr-on:change="set_tags">
          <option value="new">New</option>
          <option value="used">Used</option>
          <option value="rare">Rare</option>
        </select>
        """,
        """
        def set_tags(state, payload: list[str]):
            state["tags"] = payload
        """,
    ),
    _event(
        "date", "date", "ISO 8601, `2026-11-21`; null when it is empty",
        '<input type="date" data-gr-value="day" data-gr-on:change="set_day">',
        """
        import datetime


        def set_day(state, payload: datetime.date | None):
            state["day"] = payload
        """,
    ),
    _event(
        "time", "time", "ISO 8601, `10:30:00`; null when it is empty",
        '<input type="time" data-gr-value="start" data-gr-on:change="set_start">',
        """
        import datetime


        def set_start(state, payload: datetime.time | None):
            state["start"] = payload
        """,
    ),
    _event(
        "datetime", "datetime-local",
        "ISO 8601, `2026-11-21T10:30:00`; null when it is empty",
        '<input type="datetime-local" data-gr-value="due" data-gr-on:change="set_due">',
        """
        import datetime


        def set_due(state, payload: datetime.datetime | None):
            state["due"] = payload
        """,
    ),
    _event(
        "month", "month, week", "`2026-11`, `2026-W47`; null when it is empty",
        '<input type="month" data-gr-value="month" data-gr-on:change="set_month">',
        """
        def set_month(state, payload: str | None):
            state["month"] = payload
        """,
    ),
    _event(
        "color", "color", "`#rrggbb`",
        '<input type="color" data-gr-value="color" data-gr-on:change="set_color">',
        """
        def set_color(state, payload: str):
            state["color"] = payload
        """,
    ),
    _event(
        "file", "file",
        "a list of `{name, type, data}`; `data` is bytes, or a `gr.File` when it is large",
        '<input type="file" multiple data-gr-on:change="add_files">',
        """
        import greenroom as gr


        def add_files(state, payload: list[gr.File]):
            state["files"] = [f"{file.name}: {len(file.read())} bytes" for file in payload]
        """,
    ),
    _event(
        "snapshot", "video, `snapshot`", "PNG bytes, of the size of the video",
        '<video data-gr-on:snapshot="take_picture"></video>',
        """
        def take_picture(state, payload: bytes):
            state["picture"] = payload  # shown by <img data-gr-attr:src="picture">
        """,
    ),
    _event(
        "camera", "video, `camera-error`", "`{reason, message}`: why the camera does not start",
        """
        <video data-gr-on:snapshot="take_picture" data-gr-on:camera-error="no_camera"></video>
        """,
        """
        def no_camera(session, payload: dict[str, str]):
            session.notify(payload["message"], kind="error")
        """,
    ),
    _event(
        "click", "click, dblclick, mouse and pointer events", "`{ctrl, shift, alt, meta}`",
        '<button data-gr-on:click="press">Press</button>',
        """
        def press(state, payload: dict[str, bool]):
            state["pressed"] = "with ctrl" if payload["ctrl"] else "plain"
        """,
    ),
    _event(
        "key", "keydown, keyup", "`{ctrl, shift, alt, meta, key}`",
        '<input data-gr-on:keydown="pressed">',
        """
        def pressed(state, payload: dict[str, bool | str]):
            state["sent"] = payload["key"] == "Enter" and payload["ctrl"]
        """,
    ),
    _event(
        "fixed", "anything with `data-gr-payload`", "the JSON that stands there",
        """
        <button data-gr-on:click="open_tab" data-gr-payload='"prices"'>Prices</button>
        """,
        """
        def open_tab(state, payload: str):
            state["tab"] = payload
        """,
    ),
    _event(
        "row", "anything inside `data-gr-each`",
        "as elsewhere; `context` has the key and the value of its row",
        """
        <template data-gr-each="repeater_content">
          <button data-gr-on:click="handle_repeater_click" data-gr-text="keyVariable"></button>
        </template>
        """,
        """
        def handle_repeater_click(state, context: dict):
            key = context["keyVariable"]
            state["repeater_content"][key]["last_action"] = "Clicked"
        """,
    ),
    _event(
        "submit", "form, `submit`", "`{name of a control: its payload}`",
        """
        <form data-gr-on:submit="order">
          <input name="item">
          <input name="quantity" type="number" value="1">
          <label><input name="gift" type="checkbox"> a gift</label>
          <button>Order</button>
        </form>
        """,
        """
        from dataclasses import dataclass


        @dataclass
        class Order:
            item: str
            quantity: int
            gift: bool


        def order(state, payload: Order):
            state["order"] = f"{payload.quantity} x {payload.item}"
        """,
    ),
    _event(
        "group", "form, fieldset, `change` or `input`", "the same, whenever one of them changes",
        """
        <fieldset data-gr-on:change="set_prices">
          <input type="range" name="low" data-gr-value="prices.low">
          <input type="range" name="high" data-gr-value="prices.high">
        </fieldset>
        """,
        """
        from dataclasses import dataclass


        @dataclass
        class Prices:
            low: float
            high: float


        def set_prices(state, payload: Prices):
            low, high = sorted((payload.low, payload.high))
            state["prices"] = {"low": low, "high": high}
        """,
    ),
    _event(
        "toggle", "details, popover, dialog, `toggle`", "true when it is open now",
        """
        <details data-gr-on:toggle="show_more"><summary>More</summary>of it</details>
        """,
        """
        def show_more(state, payload: bool):
            state["more"] = payload
        """,
    ),
    _event(
        "open", "anything, `open`", "`{page, params}` of the address, once, when it comes to life",
        '<body data-gr-on:open="page_opened">',
        """
        def page_opened(state, payload: dict):
            state["page"] = payload["page"] or "start"
        """,
    ),
    _event(
        "hash", "anything, `hashchange`",
        "`{page, params}` of the address, after a link or the way back",
        '<main data-gr-on:hashchange="page_changed"></main>',
        """
        def page_changed(state, payload: dict):
            state["page"] = payload["page"] or "start"
            state["params"] = payload["params"]
        """,
    ),
    _event(
        "custom", "a `CustomEvent` of your own", "its `detail`",
        '<div id="chart" data-gr-on:chosen="choose"></div>',
        """
        def choose(state, payload: dict):
            state["chosen"] = payload["point"]
        """,
    ),
    _event(
        "other", "other events", "of a control, its payload as above; else null",
        '<input data-gr-on:focus="begin">',
        """
        def begin(state, payload: str):
            state["begun"] = payload
        """,
    ),
)  # fmt: skip


def table() -> Iterator[str]:
    """The rows of the table, as Markdown."""
    for event in EVENTS:
        yield f"| {event.where} | {event.payload} |"


def find(name: str) -> Event | None:
    """The event of that name."""
    return next((event for event in EVENTS if event.name == name), None)


def show(event: Event) -> Iterator[str]:
    """All there is about one event: where it happens, payload, HTML, handler."""
    yield f"{event.name}: {_plain(event.where)}"
    yield f"payload: {_plain(event.payload)}"
    for text in (event.html, event.stub):
        yield ""
        yield from indent(text, "    ").splitlines()


def _plain(text: str) -> str:
    return text.replace("`", "")
