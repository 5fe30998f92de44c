"""Replays ``tests/vectors/link_server.json`` on a server link. The README there has the format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from greenroom.core._patch import Patch
from greenroom.core.budget import Budget
from greenroom.core.hello import Profile, read_hello
from greenroom.core.link import Request, ServerLink
from greenroom.core.settings import Settings
from greenroom.core.types import FileRef, Packet

FILE = Path(__file__).parents[1] / "vectors" / "link_server.json"
ROOM = 64 * 1024
OBSERVED = ("out", "requests", "close", "happened", "state")

Step = dict[str, Any]


def text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Recorded(ServerLink):
    """A link that notes which cells of the table it passed."""

    __slots__ = ("cells", "short")

    def __init__(self, *args: Any) -> None:
        self.cells: list[str] = []
        self.short = True  # ordinary events may take the short way
        super().__init__(*args)

    def read_event(self, data: bytes, now: float) -> Request | None:
        if not self.short:
            return None
        request = super().read_event(data, now)
        if request is not None:
            self.cells.append("next open")
        return request

    def _fire(self, event: str, *args: Any) -> None:
        self.cells.append(f"{event} {self.state}")
        super()._fire(event, *args)


def shown(value: Any) -> Any:
    """What a link read, as JSON shows it: files by their names on the wire."""
    if isinstance(value, FileRef):
        return {"$file": value.id, "name": value.name, "mime": value.mime, "size": value.size}
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    return [shown(item) for item in value] if isinstance(value, list) else value


class Replay:
    """One vector's link, its session's state and its clock."""

    def __init__(self, vector: dict[str, Any], *, short: bool = True) -> None:
        self.vector = vector
        self.state: Any = {}
        self.position = 0
        self.waits = False
        settings = Settings(**vector.get("settings", {}))
        self.link = Recorded(
            "L1",
            vector.get("label", "main"),
            False,
            settings,
            Budget(settings.total_log_bytes),
            self.snapshot,
            0.0,
        )
        self.link.short = short

    def snapshot(self) -> tuple[bytes, int] | None:
        return None if self.waits else (text(self.state), self.position)

    def run(self) -> Iterator[tuple[Step, Step]]:
        """Pairs of a step and what was observed after it."""
        closed = None
        for step in self.vector["steps"]:
            now = step["now"]
            seen: Step = {}
            for _ in range(step.get("times", 1)):
                seen |= getattr(self, "do_" + step["do"])(step, now)
            packets = self.link.take(now, step.get("room", ROOM))
            if packets:
                seen["out"] = [json.loads(packet.data) for packet in packets]
            close = self.link.closing
            if close is not None and close is not closed:
                told = json.loads(close.packet.data)["data"] if close.packet else None
                seen["close"] = {"ws": close.ws_code, "data": told}
            closed = close
            seen["state"] = self.link.state
            yield step, seen

    def do_attach(self, step: Step, now: float) -> Step:
        hello = read_hello({"type": "gr:hello", "data": {"protocol": 1, **step["hello"]}})
        self.link.attach(
            hello,
            now,
            session="S1",
            token="T1",
            expires=86400,
            profile=Profile(**step.get("profile", {})),
        )
        return {}

    def do_detach(self, step: Step, now: float) -> Step:
        self.link.detach(now)
        return {}

    def do_receive(self, step: Step, now: float) -> Step:
        if "frame" in step:
            data = text(step["frame"])
        else:
            data = step["text"].encode() if "text" in step else bytes.fromhex(step["hex"])
        requests = [
            {
                "kind": request.kind,
                "id": request.id,
                "type": request.type,
                "data": None if request.kind == "hello" else shown(request.data),
                "context": request.context,
            }
            for request in self.link.receive(Packet(data), now)
        ]
        return {"requests": requests} if requests else {}

    def do_close(self, step: Step, now: float) -> Step:
        self.link.close(step["code"], after=step.get("after"), retry=step.get("retry"))
        return {}

    def do_tick(self, step: Step, now: float) -> Step:
        happened = self.link.tick(now, step.get("buffered", 0))
        return {"happened": happened} if happened else {}

    def do_state(self, step: Step, now: float) -> Step:
        self.waits = "data" not in step
        self.state = step.get("data")
        return {}

    def do_patch(self, step: Step, now: float) -> Step:
        self.position += 1
        data = step["data"]
        self.link.push_patch(
            Patch.from_ops(data.get("="), data.get("-", ()), data.get("+"), position=self.position)
        )
        return {}

    def do_event(self, step: Step, now: float) -> Step:
        self.link.push_event(step["type"], text(step["data"]))
        return {}

    def do_signal(self, step: Step, now: float) -> Step:
        self.link.push_signal(step["name"], text(step["data"]))
        return {}

    def do_result(self, step: Step, now: float) -> Step:
        self.link.result(step["id"], text(step["data"]))
        return {}

    def do_error(self, step: Step, now: float) -> Step:
        self.link.error(step["id"], step["code"], step["message"], step.get("retry_after"))
        return {}

    def do_commit(self, step: Step, now: float) -> Step:
        self.link.committed(now)
        return {}

    def do_wait(self, step: Step, now: float) -> Step:
        return {}


def transcript(vector: dict[str, Any]) -> list[str]:
    """What both sides say in a vector: ``->`` to the server, ``<-`` to the client."""
    lines: list[str] = []
    for step in vector["steps"]:
        if step["do"] == "attach":
            hello = {"type": "gr:hello", "data": {"protocol": 1, **step["hello"]}}
            if lines[-1:] != [_line("->", hello)]:  # a further hello has been received already
                lines.append(_line("->", hello))
        elif "frame" in step:
            lines.append(_line("->", step["frame"]))
        elif step["do"] == "detach":
            lines.append("-- the connection is cut --")
        lines += [_line("<-", frame) for frame in step.get("out", ())]
        if step.get("close") and step["close"]["data"]:
            lines.append(_line("<-", {"type": "gr:close", "data": step["close"]["data"]}))
    return lines


def _line(arrow: str, frame: Any) -> str:
    return f"{arrow} {text(frame).decode()}"
