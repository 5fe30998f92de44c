"""G18: whatever is sent is read, or refused by type, and hurts nobody.

Streams of frames and handshakes that Hypothesis makes up, cut wherever it likes, on every adapter
and event loop. Streams are compared with the model, byte for byte. Of everything else one thing is
asked: a status or a close comes, or the server leaves; no error in the log, no hang, and the next
client is served. ``-m soak`` asks for longer (``GREENROOM_FUZZ`` is the number of examples).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Generator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.reference.frames_model import Answer, Model
from tests.support.corpus import FORGETFUL, HANDSHAKES, STREAMS, expand
from tests.support.echostage import ADAPTERS, Stage, no_errors, stages, still_serves
from tests.support.rawclient import GOODBYE, PATIENCE, bytewise, dial, opened, read_answer
from tests.support.served import echoing

LIMIT = 16 * 1024 * 1024
SOAK = int(os.environ.get("GREENROOM_FUZZ", "0")) or 20_000
RELAXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
short = settings(max_examples=60, deadline=None, suppress_health_check=RELAXED)
long = settings(max_examples=SOAK, deadline=None, suppress_health_check=RELAXED)


@pytest.fixture(scope="module", params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def servers(adapter: str) -> Generator[list[Stage]]:
    with stages(lambda: echoing(adapter)) as made:
        yield made


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    with no_errors(caplog):
        yield


# -- what is sent -------------------------------------------------------------------------------

cuts: st.SearchStrategy[list[int] | None] = st.one_of(
    st.just([]), st.just(None), st.lists(st.integers(1, 400), max_size=6)
)  # nowhere, everywhere, somewhere


def split(stream: bytes, at: list[int] | None) -> list[bytes]:
    if at is None:
        return list(bytewise(stream))
    edges = [0, *sorted({cut for cut in at if cut < len(stream)}), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


characters = ["a", "\u00e9", "\u20ac", "\U0001f642", "\ud7ff", "\U0010ffff"]
halves = [text.encode()[at:] for text in characters for at in range(len(text.encode()))]
starts = [text.encode()[:at] for text in characters for at in range(len(text.encode()))]
closes = [b"\x03\xe8", b"\x03\xee", b"\x03\xe8bye", b"\x03\xe8\xff", b"\x0f\xa0", b"\x03"]
sizes = [b"\0" * 125, b"a" * 126, b"a" * 700]
pieces = st.sampled_from([*halves, *starts, *closes, *sizes, b"\xff", b"\xed\xa0\x80", b"hello"])


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Mostly a legal frame; sometimes with a bit or a length that is not."""
    payload = draw(st.one_of(pieces, st.binary(max_size=30)))
    opcode = draw(st.sampled_from([0, 0, 0, 1, 1, 1, 2, 2, 8, 9, 9, 10, draw(st.integers(0, 15))]))
    fin = draw(st.sampled_from([1, 1, 1, 0])) if opcode < 8 else int(draw(st.integers(0, 15)) > 0)
    rsv = draw(st.sampled_from([0] * 20 + [1, 2, 4, 7]))
    masked = draw(st.sampled_from([1] * 30 + [0]))
    size = len(payload)
    wide = draw(st.sampled_from([0] * 12 + [2, 8]))
    if wide == 0:
        wide = 0 if size < 126 else 2
    if opcode >= 8 and wide and size < 126:
        wide = 0  # whether that is a control frame above 125 bytes is left to the corpus
    head = bytes((fin << 7 | rsv << 4 | opcode,))
    if wide:
        head += bytes((masked << 7 | (126 if wide == 2 else 127),)) + size.to_bytes(wide, "big")
    else:
        head += bytes((masked << 7 | size,))
    if not masked:
        return head + payload
    key = draw(st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x37\xfa\x21\x3d"]))
    return head + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


streams = st.lists(frames(), max_size=12).map(b"".join)
garbage = st.one_of(
    st.binary(max_size=64),
    st.tuples(streams, st.integers(0, 200), st.binary(max_size=4)).map(
        lambda made: made[0][: made[1]] + made[2] + made[0][made[1] + len(made[2]) :]
    ),
    st.sampled_from([expand(case["send"]) for case in STREAMS if len(case["send"]) < 400]),
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A handshake of the corpus, with some more wrong with it."""
    lines = list(draw(st.sampled_from(HANDSHAKES))["head"])
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(lines) - 1)))
        match draw(st.integers(0, 5)):
            case 0 if lines:
                del lines[at]
            case 1 if lines:
                lines.insert(at, lines[at])
            case 2 if lines:
                lines[at] = lines[at].swapcase()
            case 3 if lines:
                cut = draw(st.integers(0, len(lines[at])))
                lines[at] = (
                    lines[at][:cut]
                    + draw(st.text("\0\t\r\n :,;=\xff%", max_size=3))
                    + (lines[at][cut:])
                )
            case 4 if lines:
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
            case _:
                lines.insert(at, draw(st.text(st.characters(max_codepoint=255), max_size=20)))
    end = draw(st.sampled_from(["\r\n\r\n"] * 6 + ["\n\n", "\r\n", "", "\r\n\r\n\r\n"]))
    return ("\r\n".join(lines) + end).encode("latin-1", "replace")


# -- what must come of it -----------------------------------------------------------------------


def agrees(answer: Answer, wanted: Answer, adapter: str) -> bool:
    """Whether a server said what the model says, apart from what the corpus excuses."""
    data = wanted.data
    if adapter in FORGETFUL:
        data = data[: len(answer.data)]
    same = answer.close == wanted.close or answer.close in wanted.codes
    return same and answer.data == data and answer.pongs == wanted.pongs


async def send_stream(port: int, stream: bytes, at: list[int] | None, adapter: str) -> None:
    models = [Model(LIMIT), Model(LIMIT, minimal=True)]
    for model in models:
        model.feed(stream + GOODBYE)
    async with opened(port) as client:
        await client.send(*split(stream, at), GOODBYE)
        await client.until(lambda: client.ended, f"the end of {stream!r}")
        answer = read_answer(client.received)
    assert any(agrees(answer, model.answer, adapter) for model in models), (
        f"{answer} instead of {models[0].answer}"
    )


async def send_garbage(port: int, stream: bytes, at: list[int] | None) -> None:
    async with opened(port) as client:
        await client.send(*split(stream, at))
        client.finish()
        await client.until(lambda: client.ended, f"the end of {stream!r}")
        read_answer(client.received)
    await still_serves(port)


async def send_head(port: int, head: bytes, at: list[int] | None, then: bytes) -> None:
    head = head.replace(b"{host}", b"127.0.0.1:%d" % port)
    async with dial(port) as client:
        await client.send(*split(head, at))
        await client.send(*([then] if then else []))
        client.finish()
        await client.until(lambda: client.ended, f"the end of {head!r}")
        answer, _, rest = client.received.partition(b"\r\n\r\n")
    if answer:
        assert re.match(rb"HTTP/1\.[01] \d{3} ", answer), answer
        if b" 101 " in answer[:13]:
            read_answer(rest)
    await still_serves(port)


def told(server: Stage, story: Awaitable[None]) -> None:
    """Nothing takes long."""

    async def patient() -> None:
        async with asyncio.timeout(3 * PATIENCE):
            await story

    server.tell(patient())


class TestShort:
    @given(stream=streams, at=cuts)
    @short
    def test_g18_streams_are_answered_as_the_model_says(
        self, servers: list[Stage], adapter: str, stream: bytes, at: list[int] | None
    ) -> None:
        for server in servers:
            told(server, send_stream(server.port, stream, at, adapter))

    @given(stream=garbage, at=cuts)
    @short
    def test_g18_garbage_after_a_handshake(
        self, servers: list[Stage], stream: bytes, at: list[int] | None
    ) -> None:
        for server in servers:
            told(server, send_garbage(server.port, stream, at))

    @given(head=heads(), at=cuts, then=st.sampled_from([b"", b"", GOODBYE, b"\x81\x82\0\0\0\0hi"]))
    @example(head=b"", at=[], then=b"")
    @short
    def test_g18_handshakes(
        self, servers: list[Stage], head: bytes, at: list[int] | None, then: bytes
    ) -> None:
        for server in servers:
            told(server, send_head(server.port, head, at, then))


@pytest.mark.soak
class TestLong:
    @given(stream=streams, at=cuts)
    @long
    def test_g18_streams(
        self, servers: list[Stage], adapter: str, stream: bytes, at: list[int] | None
    ) -> None:
        for server in servers:
            told(server, send_stream(server.port, stream, at, adapter))

    @given(stream=garbage, at=cuts)
    @long
    def test_g18_garbage(self, servers: list[Stage], stream: bytes, at: list[int] | None) -> None:
        for server in servers:
            told(server, send_garbage(server.port, stream, at))

    @given(head=heads(), at=cuts, then=st.sampled_from([b"", GOODBYE]))
    @long
    def test_g18_handshakes(
        self, servers: list[Stage], head: bytes, at: list[int] | None, then: bytes
    ) -> None:
        for server in servers:
            told(server, send_head(server.port, head, at, then))
