"""The streams and handshakes of tests/vectors/frames.json, and how they are replayed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.reference.frames_model import Answer
from tests.support.rawclient import GOODBYE, bytewise, dial, has_close, opened, read_answer

FILE = Path(__file__).parents[1] / "vectors" / "frames.json"
CORPUS = json.loads(FILE.read_text("utf-8"))
STREAMS: list[dict[str, Any]] = CORPUS["streams"]
HANDSHAKES: list[dict[str, Any]] = CORPUS["handshakes"]

Split = Callable[[bytes], Iterable[bytes]]
SPLITS: dict[str, Split] = {"whole": lambda stream: [stream], "bytewise": bytewise}

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# Adapters whose server closes on a broken frame before the app has seen what came ahead of it.
FORGETFUL = {"asgi"}


def expand(text: str) -> bytes:
    """Bytes from hex with spaces; ``2a*5`` is five of them."""
    out = bytearray()
    for token in text.split():
        hexadecimal, _, times = token.partition("*")
        out += bytes.fromhex(hexadecimal) * int(times or 1)
    return bytes(out)


def outcomes(case: dict[str, Any], adapter: str) -> list[dict[str, Any]]:
    """What may come of a stream: as RFC 6455 has it, or as this adapter's departure says."""
    own = case.get("but", {}).get(adapter)
    plain = {key: case[key] for key in ("data", "pongs", "close") if key in case}
    if own is not None and "close" in own:
        return [plain | own]
    bare = {key: value for key, value in plain.items() if key == "pongs"}
    return [plain, *(bare | other for other in case.get("or", ()))]


def fits(answer: Answer, wanted: dict[str, Any], *, still_open: bool, forgetful: bool) -> bool:
    data = wanted.get("data", [])
    if data is not None:
        frames = [expand(text) for text in data]
        if forgetful and "close" in wanted:
            frames = frames[: len(answer.data)]
        if answer.data != frames:
            return False
    if answer.pongs != [expand(text) for text in wanted.get("pongs", ())]:
        return False
    codes = wanted.get("close", 1000 if still_open else None)
    return answer.close in (codes if isinstance(codes, list) else [codes])


async def replay(port: int, case: dict[str, Any], adapter: str, split: Split) -> None:
    """Raises AssertionError unless the server's answer is one that the case allows."""
    allowed = outcomes(case, adapter)
    late = case.get("but", {}).get(adapter, {}).get("late", False)
    stays = not all("close" in wanted for wanted in allowed)
    count = [len(allowed[0].get(kind) or ()) for kind in ("data", "pongs")]

    async with opened(port) as client:

        def enough() -> bool:
            if client.ended or has_close(client.received):
                return True
            try:
                answer = read_answer(client.received)
            except (AssertionError, IndexError):
                return False  # half a frame
            return stays and [len(answer.data), len(answer.pongs)] >= count

        await client.send(*split(expand(case["send"])))
        if late:
            assert not client.received, "it is not late: strike it from the case"
            await client.send(*split(expand(case["then"])))
        if case.get("finish"):
            client.finish()
        else:
            await client.until(enough, f"an answer to {case['name']}")
            await client.send(GOODBYE)
        await client.until(lambda: client.ended, "the end")
        answer = read_answer(client.received)
    still_open = stays and not case.get("finish")
    if case.get("finish"):
        answer.close = None  # it may say 1002 or so, or just leave
    assert any(
        fits(answer, wanted, still_open=still_open, forgetful=adapter in FORGETFUL)
        for wanted in allowed
    ), f"{answer} instead of {allowed}"


async def shake(port: int, case: dict[str, Any], adapter: str, split: Split) -> None:
    """Raises AssertionError unless a handshake is answered as the case allows."""
    host = f"127.0.0.1:{port}"
    head = "\r\n".join([*case["head"], "", ""]).replace("{host}", host).encode("latin-1")
    statuses = case.get("but", {}).get(adapter, case)["status"]
    async with dial(port) as client:
        await client.send(*split(head))
        await client.until(
            lambda: client.ended or b"\r\n\r\n" in client.received, f"an answer to {case['name']}"
        )
        answer = client.received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        if 101 in statuses and answer[0].startswith("HTTP/1.1 101 "):
            client.received = b""
            await client.send(GOODBYE)
            await client.until(lambda: client.ended, "the end")
            assert read_answer(client.received).close == 1000
    found = re.match(r"HTTP/1\.1 (\d{3}) ", answer[0])
    assert found is not None, answer
    assert int(found[1]) in statuses, answer
    names, values = zip(*(line.split(":", 1) for line in answer[1:]), strict=True)
    headers = dict(zip(map(str.lower, names), map(str.strip, values), strict=True))
    if found[1] == "101":
        key = next(line for line in case["head"] if line.lower().startswith("sec-websocket-key"))
        proof = base64.b64encode(
            hashlib.sha1(key.partition(":")[2].strip().encode() + GUID).digest()
        )
        assert headers["sec-websocket-accept"] == proof.decode()
        assert headers["upgrade"].lower() == "websocket"
        assert headers["connection"].lower() == "upgrade"
        assert not headers.keys() & {"sec-websocket-extensions", "sec-websocket-protocol"}
    elif case.get("version"):
        assert headers["sec-websocket-version"] == "13"
