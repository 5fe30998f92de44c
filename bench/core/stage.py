"""What the scenarios share: an app without surprises, and clients that cost next to nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import greenroom as gr
from greenroom.core.types import Packet

__all__ = ["Sink", "hello", "linked", "make_app", "settled"]


def make_app(**options: Any) -> gr.App:
    """An app without limits that a scenario could run into, and without the watchdog's thread."""
    names = {name: options.pop(name) for name in ("partial_after", "partial_every")
             if name in options}  # fmt: skip
    settings = gr.Settings(
        watchdog=0.0,
        mailbox_messages=0,
        inflight=0,
        rate=0.0,
        workers=8,
        ping=0.0,
        max_sessions=0,
        **names,
    )
    return gr.App(settings=settings, **options)


def hello(token: str | None = None) -> bytes:
    """A client's first frame."""
    data = {"protocol": 1, "token": token, "link": None, "seq": 0, "label": "main", "binary": False}
    return json.dumps({"type": "gr:hello", "data": data}).encode()


class Sink:
    """A transport that counts what it is handed and keeps the last of it."""

    def __init__(self) -> None:
        self.buffered = 0
        self.packets = 0
        self.bytes = 0
        self.last: Sequence[Packet] = ()

    def send(self, packets: Sequence[Packet]) -> None:
        self.packets += len(packets)
        self.last = packets
        for packet in packets:
            self.bytes += len(packet.data)

    def close(self, code: int, reason: str) -> None:
        bye, stops = 1000, 1001
        assert code in (bye, stops), f"closed with {code} {reason}: {self.last}"


async def linked(app: gr.App, sink: Sink | None = None) -> tuple[gr.Session, Sink, Any]:
    """A session with one client: the session, the client's transport and the connection."""
    if sink is None:
        sink = Sink()
    known = set(app.sessions)
    connection = app.connect(sink)
    connection.receive(Packet(hello()))
    while sink.packets < 1:
        await asyncio.sleep(0)
    (name,) = set(app.sessions) - known
    return app.sessions[name], sink, connection


async def settled(app: gr.App) -> None:
    """Wait until no message is queued or runs."""
    scheduler = app.scheduler
    await asyncio.sleep(0)
    while scheduler.pending:
        await asyncio.sleep(0)
