"""A client that speaks bare frames over the memory transport: what a third party would write."""

from __future__ import annotations

import json
from typing import Any

from greenroom import App
from greenroom.adapters import memory

HELLO = {"protocol": 1, "token": None, "link": None, "seq": 0, "label": "main", "binary": False}


def verdict(close: dict[str, Any]) -> tuple[str, str]:
    """The code of a gr:close, and what the client is to do."""
    assert close["type"] == "gr:close", close
    return close["data"]["code"], close["data"]["retry"]


class Visitor:
    """One connection. `frames` is what has come; `state` what the patches made of it."""

    def __init__(self, app: App, **facts: Any) -> None:
        self.app = app
        self.line = memory.connect(app, **facts)
        self.frames: list[dict[str, Any]] = []
        self.welcome: dict[str, Any] = {}
        self.sent = 0
        self.seq = 0

    async def hello(self, **fields: Any) -> dict[str, Any]:
        """Say hello and wait for the answer, welcome or close."""
        self.raw(type="gr:hello", data={**HELLO, **fields})
        frame = await self.next()
        if frame["type"] == "gr:welcome":
            self.welcome = frame["data"]
            self.sent = self.welcome["ack"]
        return frame

    async def open(self, **fields: Any) -> Visitor:
        """Hello, and the snapshot of a new link."""
        assert (await self.hello(**fields))["type"] == "gr:welcome"
        await self.until("gr:snapshot")
        return self

    def raw(self, **frame: Any) -> None:
        self.line.send(json.dumps(frame).encode())

    def send(self, event: str, data: Any = None, **more: Any) -> int:
        """Send a numbered frame; its id."""
        self.sent += 1
        self.raw(type=event, id=self.sent, data=data, **more)
        return self.sent

    async def next(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads((await self.line.receive()).data)
        self.frames.append(frame)
        self.seq = frame.get("seq", self.seq)
        return frame

    async def until(self, kind: str) -> dict[str, Any]:
        """The next frame of that type; others are kept in `frames`."""
        while True:
            frame = await self.next()
            if frame["type"] == kind:
                return frame

    async def answer(self, number: int) -> Any:
        """The result of a frame, or the data of its error."""
        while True:
            frame = await self.next()
            if frame.get("id") == number:
                return frame["data"]

    async def call(self, event: str, data: Any = None, **more: Any) -> Any:
        return await self.answer(self.send(event, data, **more))

    @property
    def session(self) -> Any:
        return self.app.sessions[self.welcome["session"]]

    def back(self) -> dict[str, Any]:
        """The fields of a hello that resumes this link."""
        return {"token": self.welcome["token"], "link": self.welcome["link"], "seq": self.seq}
