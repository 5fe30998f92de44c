"""What the browser test of forms serves: a page that says what its server heard, in order."""

from __future__ import annotations

from typing import Any

import greenroom as gr

gr.init_state(
    {
        "heard": [],
        "basket": [],
        "volume": 150,
        "loudest": 200,
        "size": "S",
        "agreed": False,
        "level": 3,
        "city": "bern",
        "plan": "free",
        "title": "one",
        "draft": "",
        "busy": False,
        "idle": True,
        "message": "",
        "messages": [],
        "shouted": "",
    }
)


def hear(state: Any, payload: Any, context: Any) -> None:
    state["heard"] = [*state["heard"], [context["target"], payload]]


def put_in(state: Any, payload: list[str]) -> None:
    state["basket"] = payload


def refuse(state: Any) -> None:
    raise ValueError("not so")


def set_busy(state: Any, payload: bool) -> None:
    state.update(busy=payload, idle=not payload)


def say(state: Any, payload: dict[str, str]) -> None:
    """A chat: what was said is in the list, and the field is for the next."""
    if payload["message"].startswith("rude"):
        raise ValueError("not here")
    state["messages"] = [*state["messages"], payload["message"]]
    state["message"] = ""


def shout(state: Any, payload: str) -> None:
    state["shouted"] = payload.upper()


def write(state: Any, payload: str) -> None:
    state["draft"] = payload
