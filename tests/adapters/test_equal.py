"""The same app, client and story over every adapter: what the client sees is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from tests.adapters.test_asgi import on_hypercorn, on_uvicorn

import greenroom as gr
from greenroom.adapters import asgi, memory, websocket
from greenroom.client import connect

Arun = Callable[..., Any]
Target = Callable[[gr.App], AbstractAsyncContextManager[Any]]


def add(state: Any, payload: int) -> Any:
    state["counter"] += payload
    return state["counter"]


@gr.handler(inline=True)
def echo(payload: Any, session: Any) -> Any:
    session.emit("app:echo", payload)
    return payload


async def fail(state: Any) -> None:
    state["counter"] = -1
    raise ValueError("no")


def make() -> gr.App:
    settings = gr.Settings(secret="for-tests", drain=5.0)
    return gr.App(state={"counter": 0}, handlers=[add, echo, fail], settings=settings)


@asynccontextmanager
async def over_memory(app: gr.App) -> Any:
    async with app:
        yield lambda: memory.connect(app)


@asynccontextmanager
async def over_uvicorn(app: gr.App) -> Any:
    async with on_uvicorn(asgi.application(app), lifespan="on") as port:
        yield f"ws://127.0.0.1:{port}/ws"


@asynccontextmanager
async def over_picows(app: gr.App) -> Any:
    async with websocket.Server(app, port=0) as server:
        yield f"ws://127.0.0.1:{server.port}/ws"


@asynccontextmanager
async def over_hypercorn(app: gr.App) -> Any:
    async with app, on_hypercorn(asgi.application(app)) as port:
        yield f"ws://127.0.0.1:{port}/ws"


@asynccontextmanager
async def mounted(app: gr.App) -> Any:
    outer = FastAPI(lifespan=asgi.lifespan(app))
    outer.mount("/live", asgi.application(app))
    async with on_uvicorn(outer, lifespan="on") as port:
        yield f"http://127.0.0.1:{port}/live/ws"


TARGETS: list[Target] = [over_memory, over_uvicorn, over_picows, over_hypercorn, mounted]


async def story(target: Any) -> list[Any]:
    seen: list[Any] = []
    async with connect(target) as client:
        client.on("app:echo", lambda data, *_: seen.append(data))
        seen.append(await client.call("add", 5))
        seen.append(await client.call("echo", {"text": "é🙂", "raw": gr.Bytes(b"\x00\xff")}))
        with pytest.raises(gr.Refused) as refused:
            await client.call("fail")
        seen.append(refused.value.code)
        seen += await asyncio.gather(*(client.call("add", 1) for _ in range(20)))
        with pytest.raises(gr.Refused) as refused:
            await client.call("nothing")
        seen.append(refused.value.code)
        seen.append(dict(client.state))
    return seen


@pytest.mark.parametrize("over", TARGETS, ids=lambda over: over.__name__)
def test_the_same_story(over: Target, arun: Arun) -> None:
    async def main() -> None:
        app = make()
        async with over(app) as target:
            seen = await story(target)
        value = {"text": "é🙂", "raw": b"\x00\xff"}
        assert seen == [
            5,
            value,
            value,
            "handler_error",
            *range(6, 26),
            "not_found",
            {"counter": 25},
        ]
        assert app.phase == "stopped"

    arun(main)
