"""The servers that are loaded: ``python -m bench.load.server echo|greenroom|picows|websocket``.

The first two are uvicorn with the settings of ``greenroom run --asgi``, the others picows and the
fast adapter; all on uvloop. What is no Greenroom does what an event costs at least: decode the
frame, store into a dict, encode one answer.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
import uvicorn
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

import greenroom as gr
from greenroom.adapters import asgi, websocket
from greenroom.adapters.serving import open_socket, server_config

Message = MutableMapping[str, Any]


@gr.handler(inline=True)
def inline(state: Any, payload: Any) -> None:
    state["n"] = payload


@gr.handler(name="eager")
async def eager(state: Any, payload: Any) -> None:
    state["n"] = payload


def worker(state: Any, payload: Any) -> None:
    state["n"] = payload


@gr.handler(inline=True)
def fill(state: Any, payload: int) -> None:
    state["text"] = f"{state['n']}" + "x" * payload
    state["n"] += 1


def sleep(payload: float) -> None:
    time.sleep(payload)


def spin(payload: float) -> None:
    end = time.monotonic() + payload
    while time.monotonic() < end:
        pass


def compute(payload: int) -> int:
    """One long call that keeps the interpreter to itself until it is told to give way."""
    total = 0
    for number in range(payload):
        total += number
    return total


def take(payload: gr.File) -> int:
    size = payload.size
    payload.close()
    return size


def give(session: gr.Session, payload: str) -> None:
    session.download(payload)


async def echo(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    state: dict[str, Any] = {}
    seq = 0
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            return
        frame = orjson.loads(message["text"])
        state["n"] = frame["data"]
        seq += 1
        answer = {"type": "gr:result", "seq": seq, "id": frame["id"], "data": {"n": state["n"]}}
        await send({"type": "websocket.send", "text": orjson.dumps(answer).decode()})


class Bare(WSListener):
    """The least a picows server can do for an event."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.seq = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        event = orjson.loads(frame.get_payload_as_bytes())
        self.state["n"] = event["data"]
        self.seq += 1
        answer = {
            "type": "gr:result",
            "seq": self.seq,
            "id": event["id"],
            "data": {"n": self.state["n"]},
        }
        transport.send(WSMsgType.TEXT, orjson.dumps(answer))


async def picows(sock: socket.socket) -> None:
    server = await ws_create_server(lambda _request: Bare(), sock=sock)
    await server.serve_forever()


async def fast(app: gr.App, sock: socket.socket) -> None:
    await websocket.serve(app, sock=sock)
    await asyncio.Event().wait()


def main(kind: str) -> None:
    settings = gr.Settings(
        rate=1e6,
        burst=1_000_000,
        max_sessions_per_peer=0,
        mailbox_messages=0,
        workers=8,
        switch_interval=0.001,
    )
    app = gr.App(
        state={"n": 0},
        handlers=[inline, eager, worker, fill, sleep, spin, compute, take, give],
        settings=settings,
    )
    sock = open_socket("127.0.0.1", 0)
    if kind in ("picows", "websocket"):
        print(sock.getsockname()[1], flush=True)
        uvloop.run(picows(sock) if kind == "picows" else fast(app, sock))
        return
    config = server_config(asgi.application(app), settings.max_frame_in)
    if kind == "echo":
        config.app = echo
    config.loop = "uvloop"
    print(sock.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main(sys.argv[1])
