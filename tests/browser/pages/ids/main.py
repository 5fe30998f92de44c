"""What the browser test of rows with ids serves: a list of tasks, and one of words."""

from __future__ import annotations

from typing import Any

import greenroom as gr

gr.init_state(
    {
        "tasks": [
            {"id": 1, "title": "one", "tags": ["a", "b"]},
            {"id": 2, "title": "two", "tags": ["c"]},
            {"id": 3, "title": "three", "tags": []},
        ],
        "words": ["x", "y", "z"],
        "flag": "up",
        "seen": {},
    }
)


def put(state: Any, payload: dict[str, Any]) -> None:
    state.update(payload)


def retitle(state: Any, context: Any, payload: str) -> None:
    """By the id of its row: an index may be older than the list."""
    (task,) = (one for one in state["tasks"] if one["id"] == context["task"]["id"])
    task["title"] = payload
    state["tasks"] = state["tasks"]


def see(state: Any, context: Any) -> None:
    state["seen"] = {key: value for key, value in context.items() if key != "session_id"}
