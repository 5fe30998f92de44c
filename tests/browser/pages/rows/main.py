"""What the browser test of repeated rows serves: a dict, a list, and rows in rows."""

from __future__ import annotations

from typing import Any

import greenroom as gr

gr.init_state(
    {
        "repeater_content": {
            "ada": {"name": "Ada", "last_action": ""},
            "bob": {"name": "Bob", "last_action": ""},
            "cem": {"name": "Cem", "last_action": ""},
        },
        "rows": [{"title": "one", "last": ""}, {"title": "two", "last": ""}],
        "floors": {
            "first": {"rooms": [{"guests": ["x", "y"]}, {"guests": ["z"]}]},
            "second": {"rooms": [{"guests": ["w"]}]},
        },
        "seen": {},
        "draft": "",
        "said": [],
    }
)


def handle_repeater_click(state: Any, context: Any) -> None:
    key = context["keyVariable"]
    state["repeater_content"][key]["last_action"] = "Clicked"


def handle_list_click(state: Any, context: Any) -> None:
    state["rows"][context["index"]]["last"] = f"Clicked {context['row']['title']}"
    state["rows"] = state["rows"]


def see(state: Any, context: Any) -> None:
    state["seen"] = {key: value for key, value in context.items() if key != "session_id"}


def arrange(state: Any, payload: list[str]) -> None:
    """The dict anew, with these keys in this order."""
    known = state["repeater_content"].to_dict()
    state["repeater_content"] = {
        key: known.get(key, {"name": key.title(), "last_action": ""}) for key in payload
    }


def rename(state: Any, context: Any, payload: str) -> None:
    state["repeater_content"][context["keyVariable"]]["name"] = payload


def take_rows(state: Any, payload: list[str]) -> None:
    state["rows"] = [{"title": title, "last": ""} for title in payload]


def chat(state: Any, payload: dict[str, str]) -> None:
    if payload["text"] == "rude":
        raise ValueError("not here")
    state.append("said", payload["text"])
