"""The outgoing stream: against its model, and the rules of the wire one by one."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.reference.stream_model import SimplePatch, StreamModel

from greenroom.core._patch import Patch
from greenroom.core._stream import Request, Stream, Tally
from greenroom.core.types import Packet

WELCOME = b'{"type":"gr:welcome","data":{}}'
ROOM = 64 * 1024
LOG = 2_000


def made(
    snapshot: Any = lambda: (b"{}", 0),
    tally: Tally | None = None,
    *,
    binary: bool = False,
    log_bytes: int = 1 << 20,
    frame_bytes: int = 1 << 20,
    live: bool = True,
) -> Stream:
    stream = Stream(
        "main",
        binary,
        snapshot,
        Tally(0) if tally is None else tally,
        log_bytes=log_bytes,
        frame_bytes=frame_bytes,
        window=120.0,
        dead=10.0,
    )
    if live:
        stream.resume(0)
        stream.go_live(WELCOME)
        stream.take(0.0, ROOM)
    return stream


def frames(packets: list[Packet]) -> list[Any]:
    return [json.loads(packet.data) for packet in packets]


def patch(position: int, **sets: Any) -> Patch:
    return Patch.from_ops({f"/{key}": value for key, value in sets.items()}, position=position)


# -- the shape of frames ------------------------------------------------------------------------


def test_frames_look_exactly_like_the_protocol_says() -> None:
    stream = made(live=False)
    stream.resume(0)
    stream.go_live(WELCOME)
    for number in (1, 2, 3):
        stream.accept(number)
    stream.push_event("app:early", b"1")
    assert [p.data for p in stream.take(0.0, ROOM)] == [
        WELCOME,
        b'{"type":"gr:snapshot","seq":1,"data":{}}',
        b'{"type":"app:early","seq":2,"data":1,"label":"main"}',
    ]
    stream.push_patch(patch(1, a=1))
    stream.push_event("app:update", b"[1,2]", "other")
    stream.push_signal("model:created", b'{"id":1}')
    stream.result(1, b"null")
    stream.error(2, "busy", "later", 0.5)
    stream.error(3, "not_found", "no")
    assert [p.data for p in stream.take(0.0, ROOM)] == [
        b'{"type":"gr:state","seq":3,"data":{"=":{"/a":1}}}',
        b'{"type":"app:update","seq":4,"data":[1,2],"label":"other"}',
        b'{"type":"gr:signal","seq":5,"data":{"name":"model:created","data":{"id":1}}}',
        b'{"type":"gr:result","seq":6,"id":1,"data":null}',
        (
            b'{"type":"gr:error","seq":7,"id":2,'
            b'"data":{"code":"busy","message":"later","retry_after":0.5}}'
        ),
        b'{"type":"gr:error","seq":8,"id":3,"data":{"code":"not_found","message":"no"}}',
    ]


def test_names_are_escaped() -> None:
    stream = made()
    stream.push_event('a:"b', b"1")
    stream.push_signal("x\\y", b"2")
    event, signal = frames(stream.take(0.0, ROOM))
    assert event["type"] == 'a:"b'
    assert signal["data"] == {"name": "x\\y", "data": 2}


def test_numbers_of_any_length() -> None:
    stream = made()
    stream.accept(10**18 + 7)
    stream.result(10**18 + 7, b"0")
    assert frames(stream.take(0.0, ROOM))[0]["id"] == 10**18 + 7


def test_a_result_above_the_limit_becomes_an_error() -> None:
    stream = made(frame_bytes=10)
    stream.accept(1)
    assert stream.result(1, b'"12345678901"')
    assert frames(stream.take(0.0, ROOM))[0]["data"]["code"] == "handler_error"


def test_an_id_is_answered_once() -> None:
    stream = made()
    assert not stream.result(1, b"1")
    assert not stream.error(1, "busy", "")
    stream.accept(1)
    stream.accept(2, True)
    assert (stream.inflight, stream.open_ids) == (1, 2)
    assert stream.result(1, b"1")
    assert not stream.result(1, b"2")
    assert not stream.error(1, "busy", "")
    assert stream.result(2, b"3")
    assert [f["data"] for f in frames(stream.take(0.0, ROOM))] == [1, 3]


def test_refusals_without_id_are_best_effort() -> None:
    stream = made()
    taken = [stream.error(None, "not_found", "no") for _ in range(40)]
    assert taken == [True] * 32 + [False] * 8
    assert (
        frames(stream.take(0.0, ROOM))
        == [{"type": "gr:error", "data": {"code": "not_found", "message": "no"}}] * 32
    )
    stream.hold()
    assert not stream.error(None, "not_found", "no")
    assert (stream.counts.refusals_sent, stream.counts.refusals_dropped) == (32, 9)


# -- logs and limits ----------------------------------------------------------------------------


def test_large_frames_are_sent_but_not_kept() -> None:
    stream = made()
    stream.push_patch(patch(1, a="x" * 300_000))
    stream.take(0.0, ROOM)
    assert stream.base == 2
    stream.hold()
    assert not stream.resume(1)
    stream = made()
    stream.push_patch(patch(1, a="x" * 300_000))
    stream.take(0.0, ROOM)
    stream.hold()
    assert stream.resume(2)


def test_large_events_are_kept() -> None:
    stream = made(frame_bytes=0)
    stream.push_event("a:b", b'"' + b"x" * 300_000 + b'"')
    stream.take(0.0, ROOM)
    stream.hold()
    assert stream.resume(1)


def test_the_frame_that_fills_the_room_is_the_last() -> None:
    stream = made()
    for _ in range(3):
        stream.push_event("a:b", b"1")
    assert stream.take(0.0, -1) == []
    assert stream.blocked
    assert len(stream.take(0.0, 0)) == 1
    assert stream.blocked
    assert len(stream.take(0.0, ROOM)) == 2
    assert not stream.blocked


def test_a_snapshot_that_has_to_wait_holds_all_that_follows() -> None:
    ready: list[tuple[bytes, int]] = []
    stream = made(lambda: ready[-1] if ready else None, live=False)
    stream.resume(0)
    stream.go_live(WELCOME)
    stream.push_event("a:b", b"1")
    assert len(stream.take(0.0, ROOM)) == 1
    assert not stream.blocked
    ready.append((b"[]", 5))
    assert [f["type"] for f in frames(stream.take(0.0, ROOM))] == ["gr:snapshot", "a:b"]
    assert stream.position == 5
    assert not stream.push_patch(patch(5, a=1))
    assert stream.push_patch(patch(6, a=1))


def test_a_snapshot_may_push_into_its_own_stream() -> None:
    def snapshot() -> tuple[bytes, int]:
        stream.push_patch(patch(7, a=1))  # is in the snapshot
        stream.push_event("a:b", b"1")
        return b"{}", 7

    stream = made(snapshot, live=False)
    stream.resume(0)
    stream.go_live(WELCOME)
    assert [f["type"] for f in frames(stream.take(0.0, ROOM))] == [
        "gr:welcome",
        "gr:snapshot",
        "a:b",
    ]


def test_a_snapshot_that_fails_loses_nothing() -> None:
    failing = [True]

    def snapshot() -> tuple[bytes, int]:
        if failing:
            raise RuntimeError("not today")
        return b"{}", 0

    stream = made(snapshot, live=False)
    stream.resume(0)
    stream.go_live(WELCOME)
    with pytest.raises(RuntimeError):
        stream.take(0.0, ROOM)
    failing.clear()
    assert [f["type"] for f in frames(stream.take(0.0, ROOM))] == ["gr:snapshot"]


def test_full_logs_collapse_into_one_snapshot_at_the_first_patch() -> None:
    stream = made(lambda: (b'{"now":1}', 0), log_bytes=1000)
    stream.push_event("a:before", b"1")
    stream.push_patch(patch(1, a="x" * 400))
    stream.push_event("a:between", b"1")
    stream.push_patch(patch(2, b="x" * 400))
    stream.push_event("a:after", b"1")
    stream.take(0.0, -1)  # no room: looked at
    assert stream.patch_bytes == 0
    assert not stream.push_patch(patch(3, c=1))  # the mark has it
    assert [f["type"] for f in frames(stream.take(0.0, ROOM))] == [
        "a:before",
        "gr:snapshot",
        "a:between",
        "a:after",
    ]


def test_a_commit_larger_than_the_log_goes_out_whole_to_a_fast_reader() -> None:
    stream = made(log_bytes=1000)
    stream.push_patch(patch(1, a="x" * 5000))
    stream.committed(0.0)
    assert frames(stream.take(0.0, ROOM))[0]["type"] == "gr:state"


def test_patches_merge_only_with_their_neighbour() -> None:
    stream = made()
    stream.push_patch(patch(1, a=1, b=1))
    stream.push_patch(patch(2, a=2))
    stream.push_event("a:b", b"1")
    stream.push_patch(patch(3, a=3))
    assert [f["data"] for f in frames(stream.take(0.0, ROOM))] == [
        {"=": {"/a": 2, "/b": 1}},
        1,
        {"=": {"/a": 3}},
    ]


def test_patches_that_cancel_out_leave_no_number() -> None:
    stream = made()
    stream.push_patch(Patch.from_ops({"/a": 1}, created=["/a"], position=1))
    stream.push_patch(Patch.from_ops(delete=["/a"], position=2))
    assert stream.unsent_bytes == 0
    assert stream.take(0.0, ROOM) == []
    stream.push_patch(patch(3, b=1))
    assert frames(stream.take(0.0, ROOM))[0]["seq"] == 2


def test_the_tally_counts_every_byte_and_ends_at_zero() -> None:
    tally = Tally(0)
    streams = [made(tally=tally) for _ in range(3)]
    for n, stream in enumerate(streams):
        stream.push_event("a:b", b"1")
        stream.push_patch(patch(1, a=n))
        if n:
            stream.take(0.0, ROOM)
        assert tally.total == sum(s.unsent_bytes + s.sent_bytes for s in streams)
    streams[0].shut()
    streams[1].empty()
    assert tally.total == streams[2].sent_bytes > 0
    del stream, streams
    gc.collect()
    assert tally.total == 0


def test_a_long_log_is_freed_without_recursion() -> None:
    stream = made(log_bytes=0)
    for _ in range(200_000):
        stream.push_event("a:b", b"1")
    del stream
    stream = made(log_bytes=0)
    for _ in range(200_000):
        stream.push_event("a:b", b"1")
    stream.take(0.0, 1 << 40)
    stream.empty()
    assert stream.sent_bytes == 0


def test_after_the_window_only_answers_up_to_64_kib() -> None:
    stream = made()
    for number in range(1, 6):
        stream.accept(number)
    stream.result(1, b"1")
    stream.lapse()
    assert stream.pending() == [2, 3, 4, 5]  # the answer to 1 is lost, and not promised
    stream.push_event("a:b", b"1")
    stream.push_patch(patch(1, a=1))
    stream.push_signal("a:b", b"1")
    stream.result(2, b"2")
    stream.result(3, b'"' + b"x" * 65_500 + b'"')
    stream.error(4, "closed", "no")
    assert stream.pending() == [2, 4, 5]
    stream.revive()
    assert not stream.resume(1)
    stream.go_live(WELCOME)
    assert [(f["type"], f.get("id")) for f in frames(stream.take(0.0, ROOM))] == [
        ("gr:welcome", None),
        ("gr:snapshot", None),
        ("gr:result", 2),
        ("gr:error", 4),
    ]


def test_request_shows_neither_data_nor_context() -> None:
    request = Request("event", 1, "add", {"password": "x"}, {"token": "y"})
    assert repr(request) == "Request(kind='event', id=1, type='add')"
    assert (request.data, request.context) == ({"password": "x"}, {"token": "y"})


def test_fields_are_there() -> None:
    assert Stream.__basicsize__ > 300  # a .pxd that was passed over leaves 16


# -- against the model --------------------------------------------------------------------------

payloads = st.sampled_from([b"1", b'"' + b"x" * 100 + b'"', b'"' + b"y" * 900 + b'"'])
keys = st.sampled_from(["/a", "/b", "/b/c", "/b/d"])
ops = st.dictionaries(
    keys,
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from([1, "z" * 300]), st.booleans()),
        st.just(("delete", False)),
    ),
    min_size=1,
    max_size=2,
).filter(lambda d: not any(x != y and y.startswith(f"{x}/") for x in d for y in d))


class StreamMachine(RuleBasedStateMachine):
    """The same story on the stream and on its model."""

    accepted = Bundle("accepted")

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.position = 0
        self.ready = True
        self.tally = Tally(0)
        self.stream = Stream(
            "main",
            False,
            self.snapshot,
            self.tally,
            log_bytes=LOG,
            frame_bytes=0,
            window=30.0,
            dead=5.0,
        )
        self.model = StreamModel("main", self.snapshot, LOG, 30.0, 5.0)

    def snapshot(self) -> tuple[bytes, int] | None:
        return (b'{"p":%d}' % self.position, self.position) if self.ready else None

    @rule(ops=ops)
    def patch(self, ops: dict[str, tuple[Any, ...]]) -> None:
        self.position += 1
        model = SimplePatch(self.position, ops)
        self.stream.push_patch(model.real())
        self.model.push_patch(model)

    @rule(payload=payloads)
    def event(self, payload: bytes) -> None:
        self.stream.push_event("app:update", payload)
        self.model.push_event("app:update", payload)

    @rule(payload=payloads)
    def signal(self, payload: bytes) -> None:
        self.stream.push_signal("model:made", payload)
        self.model.push_signal("model:made", payload)

    @rule(target=accepted)
    def accept(self) -> int:
        number = self.model.ack + 1
        self.stream.accept(number)
        self.model.accept(number)
        return number

    @rule(number=accepted, payload=payloads)
    def result(self, number: int, payload: bytes) -> None:
        self.stream.result(number, payload)
        self.model.answer("result", number, payload)

    @rule(number=accepted)
    def error(self, number: int) -> None:
        self.stream.error(number, "busy", "later")
        self.model.answer("error", number, b'{"code":"busy","message":"later"}')

    @rule()
    def committed(self) -> None:
        self.stream.committed(self.now)
        self.model.committed(self.now)

    @rule(room=st.sampled_from([-1, 0, 300, ROOM, ROOM]))
    def take(self, room: int) -> None:
        mine = [packet.data for packet in self.stream.take(self.now, room)]
        model = self.model.take(self.now, room)
        assert [len(data) for data in mine] == [len(data) for data in model]
        # The operations of a patch have no order.
        assert [json.loads(data) for data in mine] == [json.loads(data) for data in model]

    @rule(back=st.integers(-1, 6))
    def acknowledge(self, back: int) -> None:
        seq = max(0, self.model.seq - back)
        assert self.stream.acknowledge(seq) == self.model.acknowledge(seq)

    @precondition(lambda self: self.model.mode in ("held", "live"))
    @rule(back=st.integers(-1, 8))
    def resume(self, back: int) -> None:
        seq = max(0, self.model.seq - back)
        self.stream.hold()
        self.model.hold()
        assert self.stream.resume(seq) == self.model.resume(seq)
        assert self.stream.pending() == self.model.pending()
        self.stream.go_live(WELCOME)
        self.model.go_live(WELCOME)

    @rule(what=st.sampled_from(["hold", "nack", "ping", "pong", "empty", "revive"]))
    def both(self, what: str) -> None:
        if what in ("nack", "ping", "pong") and self.model.mode != "live":
            return
        getattr(self.stream, what)()
        getattr(self.model, what)()

    @precondition(lambda self: self.model.mode == "held")
    @rule()
    def lapse(self) -> None:
        self.stream.lapse()
        self.model.lapse()

    @rule(seconds=st.sampled_from([0.1, 6.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.stream.check(self.now)
        self.model.check(self.now)

    @rule()
    def readiness(self) -> None:
        self.ready = not self.ready

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "model"):
            return
        mine, model = self.stream, self.model
        for name in ("seq", "base", "broken", "position", "patch_bytes", "solid_bytes"):
            assert getattr(mine, name) == getattr(model, name), name
        assert mine.sent_bytes == model.sent_bytes
        assert mine.blocked == model.blocked
        assert mine.pending() == model.pending()
        assert self.tally.total == mine.unsent_bytes + mine.sent_bytes


StreamMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
TestStreamMachine = StreamMachine.TestCase
