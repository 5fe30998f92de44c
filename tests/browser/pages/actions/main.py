"""What the browser test of the built-in actions serves: one handler for each action."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import greenroom as gr

gr.init_state({"status": "", "answer": ""})

HERE = Path(__file__)
LARGE = bytes(range(256)) * 1000  # is offered, not sent with the event


def act(session: gr.Session, payload: dict[str, Any]) -> None:
    """Any action, by name: what a page is asked is for the test to say."""
    getattr(session, payload["verb"])(*payload.get("args", ()), **payload.get("fields", {}))


def raw(session: gr.Session, payload: dict[str, Any]) -> None:
    """A frame as no method of ours would send it."""
    session.act(payload["type"], payload["data"])


def download(session: gr.Session, payload: str) -> None:
    if payload == "bytes":
        session.download(b"a,b\n", "täble ☕ 表.csv", "text/csv")
    elif payload == "large":
        session.download(LARGE, "größe.bin")
    else:
        session.download(HERE)


async def ask(state: Any, session: gr.Session, payload: float) -> Any:
    """Patch and outbox are on the page while the question stands."""
    state["status"] = "asking"
    state["answer"] = ""
    session.notify("before the question")
    state["answer"] = str(await session.confirm("Delete <b>everything</b>?", timeout=payload))
    state["status"] = "asked"
    return state["answer"]


def ask_sync(state: Any, session: gr.Session) -> None:
    state["status"] = "asking"
    state["answer"] = str(session.confirm("Sure?").result())
    state["status"] = "asked"


_gone: list[Any] = []


async def ask_and_remember(session: gr.Session) -> None:
    _gone.append(await session.confirm("Still there?"))


def gone() -> list[Any]:
    return _gone


def say(session: gr.Session) -> None:
    print("printed by a handler")
    session.log("something is odd", "warning")
    session.log("something is wrong", "error")


def fetched() -> list[Any]:
    """What the page's module has reported."""
    return _reports


_reports: list[Any] = []


def report(payload: Any) -> None:
    _reports.append(payload)
