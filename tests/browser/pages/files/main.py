"""What the browser test of files serves."""

from __future__ import annotations

import hashlib
from typing import Any

import greenroom as gr

gr.init_state({"files": [], "digest": ""})
_last: dict[str, gr.File] = {}


def take(state: Any, session: gr.Session, payload: list[gr.File]) -> None:
    state["files"] = [f"{file.name} {file.mime} {file.size}" for file in payload]
    state["digest"] = hashlib.sha256(payload[-1].read()).hexdigest()
    _last[session.id] = payload[-1]


def mixed(state: Any, payload: Any) -> None:
    state["files"] = [type(item["data"]).__name__ for item in payload["files"]] + [payload["note"]]


def give(session: gr.Session) -> None:
    session.download(_last[session.id], "back again.bin")


def small(session: gr.Session) -> None:
    session.download(b"a,b\n", "täble.csv")
