"""The server's half of a link: every cell of the table by a vector, and what vectors cannot say."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from tests.reference.link_vectors import FILE, OBSERVED, Replay

from greenroom.core.budget import Budget
from greenroom.core.hello import CLOSES, Hello, Profile
from greenroom.core.link import ServerLink
from greenroom.core.link_table import TABLE, IllegalEvent
from greenroom.core.settings import Settings
from greenroom.core.types import Bytes, Packet

VECTORS = json.loads(FILE.read_text("utf-8"))
ROOM = 64 * 1024
PLAIN = Profile()


def linked(
    *,
    binary: bool = False,
    budget: Budget | None = None,
    profile: Profile = PLAIN,
    **settings: Any,
) -> ServerLink:
    link = ServerLink(
        "L1",
        "main",
        binary,
        Settings(**settings),
        Budget(0) if budget is None else budget,
        lambda: (b"{}", 0),
        0.0,
    )
    attach(link, profile=profile)
    link.take(0.0, ROOM)
    return link


def attach(link: ServerLink, now: float = 0.0, *, profile: Profile = PLAIN, **hello: Any) -> None:
    link.attach(Hello(**hello), now, session="S1", token="T1", expires=9e9, profile=profile)


def frame(**fields: Any) -> Packet:
    return Packet(json.dumps(fields).encode())


def told(link: ServerLink, now: float = 0.0, room: int = ROOM) -> list[Any]:
    return [json.loads(packet.data) for packet in link.take(now, room)]


# -- vectors ------------------------------------------------------------------------------------


def without_messages(seen: Any) -> Any:
    """Texts are for people; only codes are compared."""
    seen = json.loads(json.dumps(seen))
    for out in seen.get("out", ()):
        if out["type"] == "gr:error":
            out["data"]["message"] = ""
    if seen.get("close") and seen["close"]["data"]:
        seen["close"]["data"]["message"] = ""
    return seen


@pytest.mark.parametrize("short", [True, False], ids=["short", "long"])
@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_vector(vector: dict[str, Any], short: bool) -> None:
    """Both ways an ordinary event may take through the link say the same."""
    replay = Replay(vector, short=short)
    for number, (step, seen) in enumerate(replay.run()):
        wanted = {name: step[name] for name in OBSERVED if name in step}
        assert without_messages(seen) == without_messages(wanted), f"step {number}: {step['do']}"
    assert set(vector["cells"]) <= set(replay.link.cells)


def test_every_cell_has_a_vector() -> None:
    cells = {cell for vector in VECTORS["vectors"] for cell in vector["cells"]}
    assert cells == {f"{event} {state}" for event, state in TABLE}


def test_the_file_holds_the_table_and_the_closes() -> None:
    assert VECTORS["table"] == [[*cell, *action] for cell, action in TABLE.items()]
    assert VECTORS["closes"] == {
        code: {"ws": ws, "retry": retry} for code, (ws, retry) in CLOSES.items()
    }


def test_an_illegal_event_names_itself_and_the_state() -> None:
    link = linked()
    with pytest.raises(IllegalEvent, match="event 'window' is illegal in state 'open'"):
        link.expire(0.0)
    link.forget()
    with pytest.raises(IllegalEvent, match="event 'attach' is illegal in state 'gone'"):
        attach(link)
    assert link.state == "gone"


def test_every_missing_cell_is_illegal() -> None:
    events = {event for event, _ in TABLE}
    states = {state for _, state in TABLE} | {state for _, state in TABLE.values()}
    for event, state in itertools.product(events, states):
        if (event, state) not in TABLE:
            link = linked()
            link.state = state
            with pytest.raises(IllegalEvent):
                link._fire(event)


# -- incoming -----------------------------------------------------------------------------------


def test_buffers_become_bytes_on_a_binary_link() -> None:
    link = linked(binary=True)
    data = {"file": {"$bytes": 0, "mime": "image/png", "name": "a.png"}}
    text = json.dumps({"type": "add", "id": 1, "data": data}).encode()
    (request,) = link.receive(Packet(text, (b"\x89PNG",)), 1.0)
    assert request.data == {"file": b"\x89PNG"}
    assert isinstance(request.data["file"], Bytes)
    assert (request.data["file"].mime, request.data["file"].name) == ("image/png", "a.png")


def test_buffers_mean_nothing_on_a_text_link() -> None:
    link = linked()
    text = b'{"type":"add","id":1,"data":{"$bytes":0}}'
    assert link.receive(Packet(text, (b"x",)), 1.0) == []
    assert told(link)[0]["data"]["code"] == "bad_payload"


@pytest.mark.parametrize("key", [r"\u0024bytes", r"$bytes"])
def test_an_escaped_dollar_is_a_dollar(key: str) -> None:
    link = linked()
    (request,) = link.receive(
        Packet(b'{"type":"add","id":1,"data":{"%b":"YWI="}}' % key.encode()), 1.0
    )
    assert request.data == b"ab"


def test_buffers_count_towards_the_frame() -> None:
    link = linked(binary=True, max_frame_in=100)
    link.receive(Packet(b'{"type":"add","id":1}', (b"x" * 90,)), 1.0)
    assert link.closing is not None
    assert link.closing.code == "too_large"


def test_a_frame_deeper_than_any_parser_goes_is_no_json() -> None:
    link = linked()
    link.receive(Packet(b'{"type":"a","data":%b%b}' % (b"[" * 5000, b"]" * 5000)), 1.0)
    assert link.closing is not None
    assert link.closing.code == "bad_frame"


def test_frames_are_paid_back_with_time() -> None:
    link = linked(rate=8.0, burst=3, profile=Profile(limited=True))
    numbers = itertools.count(1)

    def send(now: float, count: int) -> int:
        return sum(
            len(link.receive(frame(type="add", id=next(numbers)), now)) for _ in range(count)
        )

    assert send(1.0, 5) == 3
    assert send(1.25, 5) == 2
    assert send(9.0, 5) == 3
    assert link.counts.over_rate == 7
    assert link.closing is None


def test_ten_refusals_in_a_row_close_and_are_not_accepted() -> None:
    link = linked(rate=10.0, burst=1, profile=Profile(limited=True))
    for number in range(1, 20):
        link.receive(frame(type="add", id=number), 1.0)
    assert link.closing is not None
    assert (link.closing.code, link.closing.ws_code, link.closing.after) == (
        "rate_limited",
        4029,
        1.0,
    )
    assert link.ack == 10


def test_other_transports_are_not_limited() -> None:
    link = linked(rate=1.0, burst=1)
    assert all(link.receive(frame(type="add", id=n), 1.0) for n in range(1, 100))


def test_flooding_pings_costs_one_pong() -> None:
    link = linked()
    for _ in range(1000):
        link.receive(frame(type="gr:ping"), 1.0)
    assert [f["type"] for f in told(link)] == ["gr:pong"]


def test_a_refresh_is_answered_with_a_token() -> None:
    link = linked()
    link.receive(frame(type="gr:refresh", id=1), 1.0)
    assert link.refreshed(1, "T2", 99.0)
    assert told(link)[0]["data"] == {"token": "T2", "expires": 99.0}


def test_neither_repr_nor_requests_show_a_token() -> None:
    link = linked()
    (request,) = link.receive(frame(type="gr:hello", data={"protocol": 1, "token": "SECRET"}), 1.0)
    assert "SECRET" not in repr(request) + repr(request.data) + repr(link)
    assert request.data.token == "SECRET"


# -- time ---------------------------------------------------------------------------------------


def test_deadlines() -> None:
    link = linked(ping=20.0, dead=10.0, window=120.0)
    link.acknowledge(1)
    assert link.deadline() == 20.0
    link.receive(frame(type="log"), 5.0)
    assert link.deadline() == 25.0
    link.tick(25.0)
    assert link.deadline() == 35.0
    link.detach(30.0)
    assert link.deadline() == 150.0
    assert link.tick(150.0) == "expired"
    assert link.deadline() is None


def test_limits_of_zero_are_off() -> None:
    link = linked(ping=0, dead=0, window=0, log_bytes=0, max_frame_in=0, inflight=0)
    assert link.deadline() is None
    assert link.tick(1e9) is None
    link.detach(1e9)
    assert link.deadline() is None
    assert link.tick(9e9) is None


def test_an_immortal_transport_is_pinged_but_never_dead() -> None:
    link = linked(profile=Profile(mortal=False))
    link.tick(100.0)
    assert [f["type"] for f in told(link)] == ["gr:ping"]
    assert link.tick(1e6) is None
    assert link.connected


def test_a_full_log_has_a_deadline() -> None:
    link = linked(log_bytes=100, dead=10.0, ping=0)
    link.take(1.0, -1)
    link.push_event("a:b", b'"' + b"x" * 200 + b'"')
    link.take(1.0, -1)
    link.committed(1.0)
    assert link.deadline() == 11.0
    assert link.tick(11.0) == "closing"
    assert link.closing is not None
    assert link.closing.code == "slow_consumer"


def test_a_slow_session_is_not_a_slow_consumer() -> None:
    ready: list[tuple[bytes, int]] = []
    link = ServerLink(
        "L1",
        "main",
        False,
        Settings(log_bytes=100, dead=1.0),
        Budget(0),
        lambda: ready[0] if ready else None,
        0.0,
    )
    attach(link)
    link.push_event("a:b", b'"' + b"x" * 200 + b'"')
    link.committed(0.0)
    assert len(link.take(0.0, ROOM)) == 1
    link.tick(5.0)
    link.take(5.0, ROOM)
    assert link.closing is None
    ready.append((b"{}", 0))
    assert [f["type"] for f in told(link)] == ["gr:snapshot", "a:b"]


# -- memory -------------------------------------------------------------------------------------


def test_a_stalled_reader_costs_a_bounded_amount() -> None:
    log = 10_000
    link = linked(log_bytes=log)
    commit = b'"' + b"x" * 1000 + b'"'
    for n in range(200):
        link.take(float(n) / 100, -1)
        link.push_event("a:b", commit)
        link.committed(float(n) / 100)
        assert link.unsent_bytes + link.sent_bytes <= 5 * log + len(commit) + 100
    assert link.closing is not None
    assert link.closing.code == "slow_consumer"


def test_stats_count() -> None:
    link = linked()
    link.receive(frame(type="add", id=1), 1.0)
    link.receive(frame(type="add", id=1), 1.0)
    link.receive(frame(type="add", id=5), 1.0)
    counts = link.counts
    assert (counts.received, counts.accepted, counts.repeated, counts.gapped) == (3, 1, 1, 1)
    assert (counts.nacks, counts.open_ids) == (1, 1)
