"""G19, one frame: whatever a client says, the answer has a type, costs little and is logged once.

Each case is one hostile frame (or two) of a client that was welcomed, over a real socket: either
the connection ends with the right code, or the frame is refused and the conversation goes on.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.hostile import BINARY, HELLO, event, hello, text, ws_frame
from tests.support.siege import ADAPTERS, siege

HUGE = 2**63
DEEP = b'{"type":"add","id":1,"data":%b1%b}'


def add(number: str, data: str = "1") -> bytes:
    return b'{"type":"add","id":%b,"data":%b}' % (number.encode(), data.encode())


def chunk(of: Any, i: Any, part: Any, *, last: Any = False) -> dict[str, Any]:
    return {"type": "gr:chunk", "data": {"of": of, "i": i, "last": last, "part": part}}


#: What costs the connection: (frame, gr:close code, WebSocket code).
FATAL: dict[str, tuple[Any, str, int]] = {
    "no JSON": (b"{", "bad_frame", 4000),
    "nothing": (b"", "bad_frame", 4000),
    "a list": (b"[1]", "bad_frame", 4000),
    "null": (b"null", "bad_frame", 4000),
    "a string": (b'"add"', "bad_frame", 4000),
    "a number": (b"1e999", "bad_frame", 4000),
    "not a number": (add("1", "NaN"), "bad_frame", 4000),
    "no type": ({"id": 1}, "bad_frame", 4000),
    "an empty type": ({"type": "", "id": 1}, "bad_frame", 4000),
    "a number as type": ({"type": 5, "id": 1}, "bad_frame", 4000),
    "a list as type": ({"type": ["add"], "id": 1}, "bad_frame", 4000),
    "a float as id": (add("1.0"), "bad_frame", 4000),
    "a fraction as id": (add("1.5"), "bad_frame", 4000),
    "an exponent as id": (add("1e0"), "bad_frame", 4000),
    "a string as id": (add('"1"'), "bad_frame", 4000),
    "true as id": (add("true"), "bad_frame", 4000),
    "null as id": (add("null"), "bad_frame", 4000),
    "a list as id": (add("[1]"), "bad_frame", 4000),
    "zero as id": (add("0"), "bad_frame", 4000),
    "a negative id": (add("-1"), "bad_frame", 4000),
    "2^64 as id": (add(str(2**64)), "bad_frame", 4000),
    "-2^63 as id": (add(str(-HUGE)), "bad_frame", 4000),
    "an id of 4000 digits": (add("9" * 4000), "bad_frame", 4000),
    "a lone surrogate": (b'{"type":"add","id":1,"data":"\\ud800"}', "bad_frame", 4000),
    "half a surrogate pair": (b'{"type":"\\udc00add","id":1}', "bad_frame", 4000),
    "a raw NUL": (b'{"type":"add\0","id":1}', "bad_frame", 4000),
    "100,000 lists": (b"[" * 100_000, "bad_frame", 4000),
    "500,000 objects": (b'{"a":' * 200_000, "bad_frame", 4000),
    "the label of somebody else": ({"type": "add", "id": 1, "label": "x"}, "bad_frame", 4000),
    "an ack of the future": ({"type": "gr:ack", "data": {"seq": 9999}}, "bad_frame", 4000),
    "an ack of 2^63": ({"type": "gr:ack", "data": {"seq": HUGE}}, "bad_frame", 4000),
    "an ack of -1": ({"type": "gr:ack", "data": {"seq": -1}}, "bad_frame", 4000),
    "an ack of 1.0": (b'{"type":"gr:ack","data":{"seq":1.0}}', "bad_frame", 4000),
    "an ack of nothing": ({"type": "gr:ack"}, "bad_frame", 4000),
    "an ack with an id": ({"type": "gr:ack", "id": 1, "data": {"seq": 0}}, "bad_frame", 4000),
    "a ping of a string": ({"type": "gr:ping", "data": {"id": "1"}}, "bad_frame", 4000),
    "a hello of 2^63": (hello(seq=HUGE), "bad_frame", 4000),
    "a hello of 2^64 - 1": (hello(seq=2 * HUGE - 1), "bad_frame", 4000),
    "a hello with a list as token": (hello(token=["x"]), "bad_frame", 4000),
    "a hello with a label of 65": (hello(label="x" * 65), "bad_frame", 4000),
    "a hello of version 2": (hello(protocol=2), "version", 4006),
    "a hello with a forged token": (hello(token="x.y.z"), "unauthorized", 4001),
    "a batch in a batch": (
        {"type": "gr:batch", "data": [{"type": "gr:batch", "data": []}]},
        "bad_frame",
        4000,
    ),
    "a hello in a batch": ({"type": "gr:batch", "data": [HELLO]}, "bad_frame", 4000),
    "a batch of an object": ({"type": "gr:batch", "data": {}}, "bad_frame", 4000),
    "a batch of numbers": ({"type": "gr:batch", "data": [1] * 100_000}, "bad_frame", 4000),
    "a part of nothing": ({"type": "gr:chunk"}, "bad_frame", 4000),
    "a part that is none": (chunk(1, 0, 5), "bad_frame", 4000),
    "the second part": (chunk(1, 1, "x"), "bad_frame", 4000),
    "a part of -1": (chunk(1, -1, "x"), "bad_frame", 4000),
    "a part of 2^63": (chunk(HUGE, HUGE, "x"), "bad_frame", 4000),
    "a part in a part, of no JSON": (
        chunk(1, 0, json.dumps(chunk(2, 0, "{", last=True)), last=True),
        "bad_frame",
        4000,
    ),
    "more than a frame": (add("1", '"' + "x" * 70_000 + '"'), "too_large", 1009),
}

#: What is refused and harms nobody: (frame, code of the gr:error).
REFUSED: dict[str, tuple[Any, str]] = {
    "an unknown event": (event(1, "nope"), "not_found"),
    "an unknown namespace": (event(1, "a:b:c"), "not_found"),
    "a private name": (event(1, "__init__"), "not_found"),
    "a name with a NUL": (event(1, "add\0"), "not_found"),
    "a name of 60,000 letters": (event(1, "x" * 60_000), "not_found"),
    "a name of 15,000 unprintable letters": (event(1, "\U000f0000" * 15_000), "not_found"),
    "an unknown frame of ours": (event(1, "gr:nope"), "not_found"),
    "a frame of the server": (event(1, "gr:snapshot", {}), "not_found"),
    "a context of numbers": (event(1) | {"context": 5}, "bad_payload"),
    "101 lists": (DEEP % (b"[" * 101, b"]" * 101), "bad_payload"),
    "1,000 lists": (DEEP % (b"[" * 1000, b"]" * 1000), "bad_payload"),
    "1,000 objects": (DEEP % (b'{"a":' * 1000, b"}" * 1000), "bad_payload"),
    "a string where a number is due": (event(1, "add", "x"), "bad_payload"),
    "half a number": (event(1, "add", 1.5), "bad_payload"),
    "2^64": (event(1, "add", 2**64), "bad_payload"),
    "bytes that are none": (event(1, "add", {"$bytes": "%%"}), "bad_payload"),
    "a buffer that is not there": (event(1, "add", {"$bytes": 7}), "bad_payload"),
    "a dict that is none": (event(1, "add", {"$dict": 5}), "bad_payload"),
    "a query of nothing": (event(1, "gr:query", None), "bad_payload"),
    "a query without end": (
        event(1, "gr:query", {"name": "a:b", "timeout": -1}),
        "bad_payload",
    ),
    "an unknown query": (event(1, "gr:query", {"name": "a:b"}), "not_found"),
    "an unknown signal": (event(1, "gr:subscribe", {"name": "a:b"}), "not_found"),
    "the end of an unknown one": (event(1, "gr:unsubscribe", {"name": "a:b"}), "not_found"),
    "an unknown trigger": (event(1, "gr:trigger", {"name": "a:b"}), "not_found"),
    "a cancel of nothing": (event(1, "gr:cancel", {"id": -1}), "bad_payload"),
    "a cancel of a float": (event(1, "gr:cancel", {"id": 1.0}), "bad_payload"),
    "an answer to nothing": (event(1, "gr:answer", {"call": "1"}), "bad_payload"),
    "an upload of -1 bytes": (event(1, "gr:upload", {"name": "x", "size": -1}), "bad_payload"),
}

#: What is allowed, however odd it looks: (frame, result of id 1).
ALLOWED: dict[str, tuple[Any, Any]] = {
    "the last of two equal keys": (
        b'{"type":"nope","id":7,"data":9,"type":"add","id":1,"data":5}',
        5,
    ),
    "keys nobody knows": (event(1, "add", 5) | {"seq": 5, "$x": 1, "": None}, 5),
    "an escaped type": (b'{"type":"\\u0061dd","id":1,"data":5}', 5),
    "space around everything": (b' \n{ "type" : "add" ,\t"id": 1, "data":5}\r\n', 5),
    "a cancel of 2^63": (event(1, "gr:cancel", {"id": HUGE}), False),
    "an answer to an unknown call": (event(1, "gr:answer", {"call": HUGE, "value": True}), False),
    "an answer to a call of -1": (event(1, "gr:answer", {"call": -1, "value": [1]}), False),
    "a batch of one": ({"type": "gr:batch", "data": [event(1, "add", 5)]}, 5),
    "a frame in parts": (chunk(HUGE, 0, text(event(1, "add", 5)).decode(), last=True), 5),
    "an empty batch before": (
        {"type": "gr:batch", "data": [{"type": "gr:ack", "data": {"seq": 0}}, event(1, "add", 5)]},
        5,
    ),
}

#: What tells of a gap is nacked.
GAPS: dict[str, Any] = {
    "an id of 2": event(2),
    "an id of 2^53": event(2**53),
    "an id of 2^63": event(HUGE),
    "an id of 2^64 - 1": event(2 * HUGE - 1),
    "a ping of 2^63": {"type": "gr:ping", "data": {"id": HUGE}},
    "a pong of 7": {"type": "gr:pong", "data": {"id": 7}},
}

#: Answers beside the frame that caused them: an error's envelope, and what its text may quote.
ENVELOPE = 2_000


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_g19_frames_that_cost_the_connection(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter, max_frame_in=65_536 * 16) as place:
            for name, (frame, code, ws_code) in FATAL.items():
                if code == "too_large":
                    continue
                async with await place.open() as enemy:
                    before = enemy.taken
                    await enemy.say(frame)
                    ended = await enemy.ended()
                    assert (ended.why, ended.code) == (code, ws_code), (name, ended)
                    assert enemy.taken - before < ENVELOPE, name
            await place.undisturbed()
            assert place.records.texts == []

    serve(main)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_g19_frames_that_are_too_large(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter, max_frame_in=65_536) as place:
            frame, code, ws_code = FATAL["more than a frame"]
            parts = [chunk(1, i, "x" * 7_000) for i in range(10)]
            batch = {"type": "gr:batch", "data": [event(n, "add", 1) for n in range(1, 3_000)]}
            for name, said in {"one": [frame], "in parts": parts, "a batch": [batch]}.items():
                async with await place.open() as enemy:
                    await enemy.shout(b"".join(ws_frame(text(part)) for part in said))
                    ended = await enemy.ended()
                    assert (ended.why, ended.code) == (code, ws_code), (name, ended)
            # Far above what the server would even collect: it need not say it in our words.
            async with await place.open() as enemy:
                await enemy.write(ws_frame(b"", length=2**62))
                assert (await enemy.ended()).code == 1009
            async with await place.open() as enemy:
                await enemy.shout(ws_frame(b"x" * 1_000_000, fin=False) * 4)
                ended = await enemy.ended()
                assert ended.code in (1009, None), ended  # None: reset while it still wrote
            assert place.records.texts == []

    serve(main)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_g19_frames_that_are_refused(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter) as place:
            for name, (frame, code) in REFUSED.items():
                async with await place.open() as enemy:
                    await enemy.until("gr:snapshot")
                    before = enemy.taken
                    await enemy.say(frame)
                    answer = await enemy.answer(1)
                    assert answer["type"] == "gr:error", (name, answer)
                    assert answer["data"]["code"] == code, (name, answer)
                    assert enemy.taken - before < ENVELOPE, (name, enemy.taken - before)
                    await enemy.say(event(2, "add", 5))  # and on it goes
                    assert (await enemy.answer(2))["data"] == 5, name
            await place.undisturbed()
            assert place.records.texts == []

    serve(main)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_g19_frames_that_only_look_odd(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter) as place:
            for name, (frame, result) in ALLOWED.items():
                async with await place.open() as enemy:
                    await enemy.say(frame)
                    assert (await enemy.answer(1))["data"] == result, name
            for name, frame in GAPS.items():
                async with await place.open() as enemy:
                    await enemy.say(frame)
                    assert (await enemy.until("gr:nack"))["data"] == {"ack": 0}, name
                    await enemy.say(event(1, "add", 5))
                    assert (await enemy.answer(1))["data"] == 5, name
            assert place.records.texts == []

    serve(main)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_g19_the_third_bad_frame_is_the_last(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter) as place:
            async with await place.open() as first:
                welcome = first.welcome
                await first.say(b"[]")
                retries = [(await first.ended()).close]
            for _ in range(2):
                again = hello(token=welcome["token"], link=welcome["link"])
                async with await place.open(again) as enemy:
                    await enemy.say(b"[]")
                    retries.append((await enemy.ended()).close)
            assert [close and close["retry"] for close in retries] == ["resume", "resume", "never"]

    serve(main)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_g19_binary_messages(serve: Any, adapter: str) -> None:
    """Lengths that lie: the buffers of a message are within it, or it is none."""

    async def main() -> None:
        async with siege(adapter) as place:
            frame = text(event(1, "add", 5))
            good = len(frame).to_bytes(4, "big") + frame
            for payload in (
                b"",
                b"\x00",
                b"\xff\xff\xff\xff",
                b"\xff\xff\xff\xff" + frame,
                good[:-1],
                good + b"\x00",
                good + b"\x7f\xff\xff\xff" + b"x" * 10,
                b"\x00\x00\x00\x00" * 1000,
            ):
                async with await place.open() as enemy:
                    await enemy.write(ws_frame(payload, BINARY))
                    ended = await enemy.ended()
                    assert (ended.why, ended.code) == ("bad_frame", 4000), (payload, ended)
            async with await place.open() as enemy:  # 200,000 buffers of nothing are only a frame
                await enemy.write(ws_frame(good + b"\x00\x00\x00\x00" * 200_000, BINARY))
                assert (await enemy.answer(1))["data"] == 5

    serve(main)
