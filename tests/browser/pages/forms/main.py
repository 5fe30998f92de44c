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
        "message": "",
        "messages": [],
    }
)


def hear(state: Any, payload: Any, context: Any) -> None:
    state["heard"] = [*state["heard"], [context["target"], payload]]


def put_in(state: Any, payload: list[str]) -> None:
    state["basket"] = payload


def refuse(state: Any) -> None:
    raise ValueError("not so")


def set_busy(state: Any, payload: bool) -> None:
    state["busy"] = payload


_gates: dict[str, asyncio.Event] = {}


async def work(state: Any, session: gr.Session) -> None:
    """Its button is disabled until somebody opens the gate."""
    gate = _gates[session.id] = asyncio.Event()
    state["busy"] = True
    await session.push()
    await gate.wait()
    state["busy"] = False


@gr.concurrent
async def let_go(session: gr.Session) -> None:
    _gates[session.id].set()


def write(state: Any, payload: str) -> None:
    state["draft"] = payload
