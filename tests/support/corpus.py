"""The streams and handshakes of tests/vectors/frames.json, and how they are replayed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.reference.frames_model import Answer
from tests.support.rawclient import GOODBYE, bytewise, has_close, opened, read_answer

FILE = Path(__file__).parents[1] / "vectors" / "frames.json"
CORPUS = json.loads(FILE.read_text("utf-8"))
STREAMS: list[dict[str, Any]] = CORPUS["streams"]
HANDSHAKES: list[dict[str, Any]] = CORPUS["handshakes"]

Split = Callable[[bytes], Iterable[bytes]]
SPLITS: dict[str, Split] = {"whole": lambda stream: [stream], "bytewise": bytewise}

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
