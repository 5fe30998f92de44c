"""G20: a session is a capability: nothing but its own token opens it, and no frame names another.

Each attack gets the typed answer of the protocol, and after each one the server still serves
others: a bystander's event is answered before and after.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from tests.conftest import LOOPS, run_clean
from tests.support.byteline import ByteLine
from tests.support.served import served
from tests.support.visitor import Visitor
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import greenroom as gr
from greenroom.adapters import asgi
from greenroom.testing import ManualClock

SECRET = "of this test, and no other" * 2


def secret_helper(state: Any) -> str:
    return "called a function that is no handler"


class House:
    """An app with a victim in it, and a bystander who must always be served."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock(1_000_000.0)
        defaults: dict[str, Any] = {"watchdog": 0.0, "drain": 0.0, "secret": SECRET, "rate": 0.0}
        self.app = gr.App(
            {"mine": ""},
            [self.write, self.own],
            gr.Settings(**(defaults | settings)),
            clock=self.clock,
        )
        self.app.reception.wall = self.clock.time
        self.app.events.create_signal("app:inside")  # internal: not for clients
        self.app.events.query("app:secret")(lambda data: "secret")

    @gr.handler(inline=True)
    def write(self, state: Any, payload: str) -> str:
        state["mine"] = payload
        return payload

    @gr.handler(inline=True)
    def own(self, session: gr.Session) -> str:
        return str(session.id)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        async with self.app:
            self.victim = Visitor("victim", self.clock.time)
            self.victims = ByteLine(self.app, self.victim, binding="the victim's cookie")
            self.bystander = Visitor("bystander", self.clock.time)
            self.bystanders = ByteLine(self.app, self.bystander)
            await carry(self.victims)
            await self.ask(self.victim, self.victims, "write", "private")
            await self.still_serves()
            yield
            await self.still_serves()
            assert self.app.sessions[self.victim.link.session or ""].state["mine"] == "private"

    async def ask(self, visitor: Visitor, line: ByteLine, name: str, data: Any = None) -> Any:
        tag = visitor.submit(name, data)
        line.pump()
        await carry(line)
        return visitor.outcomes[tag]

    async def still_serves(self) -> None:
        await carry(self.bystanders)
        text = str(len(self.bystander.sent))
        outcome = await self.ask(self.bystander, self.bystanders, "write", text)
        assert outcome.value == self.bystander.state["mine"] == text

    @property
    def token(self) -> str:
        assert self.victim.link.token is not None
        return self.victim.link.token


class Attacker:
    """Says exactly what it is told to."""

    def __init__(self, house: House, **options: Any) -> None:
        self.line = ByteLine(house.app, None, **options)

    async def say(self, *frames: Any) -> list[dict[str, Any]]:
        """Send frames (or raw bytes); what came back."""
        for frame in frames:
            raw = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
            self.line.upward += raw + b"\n"
        await carry(self.line)
        told = [json.loads(frame) for frame in self.line.frames]
        self.line.frames.clear()
        return told

    async def hello(self, **data: Any) -> list[dict[str, Any]]:
        usual: dict[str, Any] = {"protocol": 1, "token": None, "link": None, "seq": 0}
        return await self.say({"type": "gr:hello", "data": usual | data})

    @property
    def closed(self) -> bool:
        return self.line.gone


async def carry(line: ByteLine) -> None:
    for _ in range(3):
        line.up()
        await asyncio.sleep(0)
        line.down()


def is_close(frames: list[dict[str, Any]], code: str, retry: str) -> None:
    assert [frame["type"] for frame in frames] == ["gr:close"], frames
    assert (frames[0]["data"]["code"], frames[0]["data"]["retry"]) == (code, retry)


def story(test: Any, **settings: Any) -> None:
    async def main() -> None:
        house = House(**settings)
        async with house.open():
            await test(house)

    run_clean(LOOPS["asyncio"], main, timeout=30)


# -- tokens -------------------------------------------------------------------------------------


def forged(token: str) -> dict[str, str]:
    """Tokens that are nearly this one."""
    said, _, signature = token.rpartition(".")
    other = base64.urlsafe_b64encode(b'{"s":"x","i":0,"e":9e9}').decode().rstrip("=")
    return {
        "empty": "",
        "nonsense": "nonsense",
        "no signature": said,
        "signature alone": "." + signature,
        "a letter less": token[:-1],
        "a letter more": token + "A",
        "another body": f"{other}.{signature}",
        "another signature": f"{said}.{signature[::-1]}",
        "twice": token + token,
        "very long": token * 20,
        "not ASCII": "tökén." + signature,
    }


@pytest.mark.parametrize("kind", list(forged("a.b")))
def test_g20_forged_tokens(kind: str) -> None:
    async def attack(house: House) -> None:
        attacker = Attacker(house, binding="the victim's cookie")
        sessions = set(house.app.sessions)
        is_close(await attacker.hello(token=forged(house.token)[kind]), "unauthorized", "fresh")
        assert attacker.closed
        assert set(house.app.sessions) == sessions  # and no session was opened for it

    story(attack)


def test_g20_every_letter_of_a_token_counts() -> None:
    async def attack(house: House) -> None:
        token = house.token
        for place in range(0, len(token), 3):
            letter = "A" if token[place] != "A" else "B"
            attacker = Attacker(house, binding="the victim's cookie")
            told = await attacker.hello(token=token[:place] + letter + token[place + 1 :])
            if place == len(token) - 1 and told[0]["type"] == "gr:welcome":
                continue  # the last letter of base64 carries bits that mean nothing
            is_close(told, "unauthorized", "fresh")

    story(attack)


@pytest.mark.parametrize("binding", [None, "the attacker's cookie"])
def test_g20_a_stolen_token_is_worth_nothing_elsewhere(binding: str | None) -> None:
    async def attack(house: House) -> None:
        attacker = Attacker(house, binding=binding)
        is_close(await attacker.hello(token=house.token), "unauthorized", "fresh")
        again = Attacker(house, binding="the victim's cookie")
        assert (await again.hello(token=house.token))[0]["type"] == "gr:welcome"

    story(attack)


def test_g20_tokens_expire() -> None:
    async def attack(house: House) -> None:
        old = house.token
        house.clock.advance(50.0)
        for visitor, line in ((house.victim, house.victims), (house.bystander, house.bystanders)):
            visitor.tick()
            line.pump()
            await carry(line)
        assert (await house.ask(house.victim, house.victims, "gr:refresh")).code == ""
        fresh = house.token
        assert fresh != old
        house.clock.advance(60.0)
        attacker = Attacker(house, binding="the victim's cookie")
        is_close(await attacker.hello(token=old), "unauthorized", "fresh")
        again = Attacker(house, binding="the victim's cookie")
        assert (await again.hello(token=fresh))[0]["type"] == "gr:welcome"
        # An open connection is not closed by it.
        assert house.victim.live

    story(attack, token_ttl=100.0, ping=0.0)


def test_g20_a_token_of_another_server() -> None:
    async def attack(house: House) -> None:
        stranger = House(secret="another secret" * 3)
        async with stranger.open():
            attacker = Attacker(house, binding="the victim's cookie")
            is_close(await attacker.hello(token=stranger.token), "unauthorized", "fresh")

    story(attack)


def test_g20_a_replayed_token_of_a_session_that_is_gone() -> None:
    async def attack(house: House) -> None:
        other = Attacker(house)
        token = (await other.hello())[0]["data"]["token"]
        list(house.app.sessions.values())[-1].close()
        await carry(other.line)
        attacker = Attacker(house)
        is_close(await attacker.hello(token=token), "unauthorized", "fresh")

    story(attack)


def test_g20_an_id_alone_opens_nothing() -> None:
    """Ids of sessions and links are no secrets, and no keys."""

    async def attack(house: House) -> None:
        link = house.victim.link
        attacker = Attacker(house)
        is_close(await attacker.hello(token=link.session), "unauthorized", "fresh")
        attacker = Attacker(house)
        told = await attacker.hello(link=link.link)
        assert told[0]["type"] == "gr:welcome"  # a new session, and a new link
        assert told[0]["data"]["session"] != link.session
        assert told[0]["data"]["link"] != link.link
        assert told[1]["data"] == {"mine": ""}
        assert house.victim.live
        # Its own token with the victim's link: a further link of its own session.
        token = told[0]["data"]["token"]
        attacker = Attacker(house)
        told = await attacker.hello(token=token, link=link.link)
        assert told[0]["data"]["session"] != link.session
        assert told[0]["data"]["link"] != link.link
        assert told[0]["data"]["resumed"] is False

    story(attack)


def test_g20_the_verifier_is_asked_at_every_hello() -> None:
    asked: list[Any] = []
    verdict = [True]

    async def attack(house: House) -> None:
        @house.app.session_verifier
        def verify(session: gr.Session | None) -> bool:
            asked.append(session)
            return verdict[0]

        sessions = set(house.app.sessions)
        attacker = Attacker(house, binding="the victim's cookie")
        told = await until_told(attacker, token=house.token)
        assert told[0]["type"] == "gr:welcome"
        verdict[0] = False
        is_close(
            await until_told(Attacker(house, binding="the victim's cookie"), token=house.token),
            "unauthorized",
            "fresh",
        )
        is_close(await until_told(Attacker(house)), "unauthorized", "never")
        assert [session and session.id for session in asked] == [
            house.victim.link.session,
            house.victim.link.session,
            None,
        ]
        assert set(house.app.sessions) == sessions

    async def until_told(attacker: Attacker, **data: Any) -> list[dict[str, Any]]:
        told = await attacker.hello(**data)
        while not told:
            told = await attacker.say()
        return told

    story(attack)


# -- second hellos ------------------------------------------------------------------------------


def test_g20_a_second_hello_opens_no_other_session() -> None:
    async def attack(house: House) -> None:
        attacker = Attacker(house, binding="the victim's cookie")
        welcome = (await attacker.hello())[0]["data"]
        is_close(await attacker.hello(token=house.token), "unauthorized", "fresh")
        assert attacker.closed
        # Its own link waits for it to come back, as after any end of a connection.
        session = house.app.sessions[welcome["session"]]
        assert session.labels == ()
        assert session.deadline() is not None
        again = Attacker(house, binding="the victim's cookie")
        told = await again.hello(token=welcome["token"], link=welcome["link"], seq=1)
        assert told[0]["data"]["resumed"] is True

    story(attack)


@pytest.mark.parametrize("change", [{}, {"link": None}, {"token": "forged"}])
def test_g20_a_second_hello_leaves_no_ghost_behind(change: dict[str, Any]) -> None:
    """Whatever it asks for: afterwards no link believes in a connection that is not its own."""

    async def attack(house: House) -> None:
        attacker = Attacker(house)
        welcome = (await attacker.hello())[0]["data"]
        session = house.app.sessions[welcome["session"]]
        usual = {"token": welcome["token"], "link": welcome["link"], "seq": 1}
        await attacker.hello(**(usual | change))
        attacker.line.cut()
        assert session.labels == ()
        assert session.deadline() is not None
        assert not any(link.connected for link in session.links.values())

    story(attack)


# -- frames -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "secret_helper", "id": 1}, "not_found"),
        ({"type": "test_g20_capability.secret_helper", "id": 1}, "not_found"),
        ({"type": "__init__", "id": 1}, "not_found"),
        ({"type": "House.write", "id": 1}, "not_found"),
        ({"type": "write.__globals__", "id": 1}, "not_found"),
        ({"type": "app:inside", "id": 1}, "not_found"),
        ({"type": "gr:opened", "id": 1}, "not_found"),
        ({"type": "gr:result", "id": 1}, "not_found"),
        ({"type": "gr:state", "id": 1, "data": {"=": {"/mine": 1}}}, "not_found"),
        ({"type": "gr:query", "id": 1, "data": {"name": "app:secret"}}, "not_found"),
        ({"type": "gr:query", "id": 1, "data": {"name": "app:none"}}, "not_found"),
        ({"type": "gr:trigger", "id": 1, "data": {"name": "app:inside"}}, "not_found"),
        ({"type": "gr:subscribe", "id": 1, "data": {"name": "app:inside"}}, "not_found"),
        ({"type": "gr:query", "id": 1, "data": {"name": 7}}, "bad_payload"),
        ({"type": "gr:cancel", "id": 1, "data": {"id": "x"}}, "bad_payload"),
        ({"type": "write", "id": 1, "data": "x", "context": []}, "bad_payload"),
    ],
)
def test_g20_what_is_not_public_does_not_exist(frame: dict[str, Any], code: str) -> None:
    """Internal and unknown are one answer; the connection goes on."""

    async def attack(house: House) -> None:
        attacker = Attacker(house)
        await attacker.hello()
        told = await attacker.say(frame)
        assert [(f["type"], f["id"]) for f in told] == [("gr:error", 1)]
        assert told[0]["data"]["code"] == code
        told = await attacker.say({"type": "own", "id": 2})
        assert told[0]["type"] == "gr:result"

    story(attack)


def test_g20_internal_and_unknown_look_the_same() -> None:
    async def attack(house: House) -> None:
        attacker = Attacker(house)
        await attacker.hello()
        number = 0
        for kind in ("query", "trigger", "subscribe"):
            answers = []
            for name in ("app:secret" if kind == "query" else "app:inside", "app:unknown"):
                number += 1
                frame = {"type": f"gr:{kind}", "id": number, "data": {"name": name}}
                (told,) = await attacker.say(frame)
                text = json.dumps(told["data"]).replace(name, "NAME")
                answers.append(text)
            assert answers[0] == answers[1], kind

    story(attack)


def test_g20_a_frame_cannot_name_a_session() -> None:
    """There is no place for it: whatever is written anywhere, the frame means its own session."""

    async def attack(house: House) -> None:
        attacker = Attacker(house)
        mine = (await attacker.hello())[0]["data"]["session"]
        victim = house.victim.link
        names = {"session": victim.session, "session_id": victim.session, "link": victim.link}
        context = names | {"handler": "own", "target": victim.session}
        told = await attacker.say(
            {"type": "own", "id": 1, "context": context} | names,
            {"type": "write", "id": 2, "data": "stolen", "context": context} | names,
        )
        results = [frame["data"] for frame in told if frame["type"] == "gr:result"]
        assert results == [mine, "stolen"]
        assert house.app.sessions[mine].state["mine"] == "stolen"
        # gr:cancel and gr:answer of ids that are somebody else's do nothing.
        told = await attacker.say(
            {"type": "gr:cancel", "id": 3, "data": {"id": 999}},
            {"type": "gr:answer", "id": 4, "data": {"call": 1, "value": True}},
        )
        assert [frame["data"] for frame in told] == [False, False]

    story(attack)


def test_g20_ids_that_skip() -> None:
    """A nack, then nothing else until the gap is closed; without progress the connection ends."""

    async def attack(house: House) -> None:
        attacker = Attacker(house)
        await attacker.hello()
        told = await attacker.say({"type": "write", "id": 5, "data": "skipped"})
        assert told == [{"type": "gr:nack", "data": {"ack": 0}}]
        told = await attacker.say({"type": "write", "id": 6, "data": "skipped"})
        assert told == []
        told = await attacker.say({"type": "own", "id": 1})
        assert (told[0]["type"], told[0]["id"]) == ("gr:result", 1)
        for _ in range(3):
            house.clock.advance(1.1)
            told = await attacker.say({"type": "write", "id": 7, "data": "skipped"})
            assert told == [{"type": "gr:nack", "data": {"ack": 1}}]
        house.clock.advance(1.1)
        is_close(
            await attacker.say({"type": "write", "id": 7, "data": "skipped"}),
            "bad_frame",
            "resume",
        )

    story(attack)


@pytest.mark.parametrize(
    ("raw", "code", "retry"),
    [
        (b"", "bad_frame", "resume"),
        (b"nonsense", "bad_frame", "resume"),
        (b"[]", "bad_frame", "resume"),
        (b"null", "bad_frame", "resume"),
        (b"{}", "bad_frame", "resume"),
        (b'{"type":""}', "bad_frame", "resume"),
        (b'{"type":7,"id":1}', "bad_frame", "resume"),
        (b'{"type":"own","id":0}', "bad_frame", "resume"),
        (b'{"type":"own","id":-1}', "bad_frame", "resume"),
        (b'{"type":"own","id":1.0}', "bad_frame", "resume"),
        (b'{"type":"own","id":"1"}', "bad_frame", "resume"),
        (b'{"type":"own","id":true}', "bad_frame", "resume"),
        (b'{"type":"own","id":null}', "bad_frame", "resume"),
        (b'{"type":"own","id":1', "bad_frame", "resume"),
        (b'{"type":"own","id":1,"label":"other"}', "bad_frame", "resume"),
        (b'{"type":"gr:ack","data":{"seq":99}}', "bad_frame", "resume"),
        (b'{"type":"gr:ack","data":{"seq":-1}}', "bad_frame", "resume"),
        (b'{"type":"gr:ack"}', "bad_frame", "resume"),
        (b'{"type":"gr:ping","data":{"id":"x"}}', "bad_frame", "resume"),
        (b'{"type":"gr:batch","data":{}}', "bad_frame", "resume"),
        (b'{"type":"gr:batch","data":[{"type":"gr:hello"}]}', "bad_frame", "resume"),
        (b'{"type":"gr:batch","data":[{"type":"gr:batch","data":[]}]}', "bad_frame", "resume"),
        (b'{"type":"own","id":1,"data":"\xff"}', "not_utf8", "never"),
        (b'{"type":"own","id":1,"data":"' + b"x" * 70_000 + b'"}', "too_large", "never"),
        (b"[" * 60_000, "bad_frame", "resume"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_g20_malformed_and_oversized(raw: bytes, code: str, retry: str) -> None:
    async def attack(house: House) -> None:
        attacker = Attacker(house)
        await attacker.hello()
        is_close(await attacker.say(raw), code, retry)
        assert attacker.closed
        # The same as a first frame.
        attacker = Attacker(house)
        told = await attacker.say(raw)
        assert told[0]["data"]["code"] in ("bad_frame", "not_utf8")
        assert attacker.closed

    story(attack, max_frame_in=65_536)


@pytest.mark.parametrize(
    ("data", "code", "retry"),
    [
        ({"protocol": 2}, "version", "never"),
        ({"protocol": "1"}, "bad_frame", "resume"),
        ({"token": 7}, "bad_frame", "resume"),
        ({"link": {}}, "bad_frame", "resume"),
        ({"seq": -1}, "bad_frame", "resume"),
        ({"seq": 1.5}, "bad_frame", "resume"),
        ({"label": ""}, "bad_frame", "resume"),
        ({"label": "a" * 65}, "bad_frame", "resume"),
        ({"label": "<script>"}, "bad_frame", "resume"),
        ({"binary": 1}, "bad_frame", "resume"),
        ({"padding": "x" * 9000}, "bad_frame", "resume"),
    ],
)
def test_g20_hellos_that_are_none(data: dict[str, Any], code: str, retry: str) -> None:
    async def attack(house: House) -> None:
        attacker = Attacker(house)
        is_close(await attacker.hello(**data), code, retry)
        assert attacker.closed

    story(attack)


def test_g20_deep_nesting_is_refused_where_it_is() -> None:
    async def attack(house: House) -> None:
        attacker = Attacker(house)
        await attacker.hello()
        deep = b'{"type":"write","id":1,"data":' + b"[" * 200 + b"]" * 200 + b"}"
        (told,) = await attacker.say(deep)
        assert told["data"]["code"] == "bad_payload"
        assert (await attacker.say({"type": "own", "id": 2}))[0]["type"] == "gr:result"

    story(attack)


def test_g20_the_third_bad_frame_is_the_last() -> None:
    async def attack(house: House) -> None:
        attacker = Attacker(house)
        welcome = (await attacker.hello())[0]["data"]
        for retry in ("resume", "resume", "never"):
            told = await attacker.say(b"nonsense")
            is_close(told, "bad_frame", retry)
            attacker = Attacker(house)
            await attacker.hello(token=welcome["token"], link=welcome["link"], seq=1)

    story(attack)


def test_g20_a_flood_is_refused_then_closed() -> None:
    async def attack(house: House) -> None:
        from greenroom.core.hello import Profile

        attacker = Attacker(house, profile=Profile(limited=True))
        await attacker.hello()
        told = await attacker.say(*({"type": "own", "id": n} for n in range(1, 101)))
        codes = [f["data"]["code"] for f in told if f["type"] in ("gr:error", "gr:close")]
        assert codes == ["rate_limited"] * len(codes)
        assert told[-1]["type"] == "gr:close"
        assert told[-1]["data"]["retry"] == "resume"
        assert told[-1]["data"]["after"] > 0

    story(attack, rate=10.0, burst=20)


# -- through a real server ------------------------------------------------------------------------


def test_g20_foreign_pages_stay_outside() -> None:
    """Refused before the handshake; a token in the URL is nothing; no hello, no session."""

    async def main() -> None:
        house = House()
        async with house.open(), served(asgi.application(house.app), lifespan="off") as port:
            url = f"ws://127.0.0.1:{port}/ws"
            for origin in (
                "http://evil.example",
                f"http://127.0.0.1:{port + 1}",
                f"http://localhost:{port}",
                f"https://127.0.0.1:{port + 1}",
                f"http://127.0.0.1:{port}.evil.example",
                "null",
                "",
            ):
                with pytest.raises(InvalidStatus) as refused:
                    async with connect(url, proxy=None, additional_headers={"Origin": origin}):
                        pass
                assert refused.value.response.status_code == 403, origin
            sessions = len(house.app.sessions)
            own = {"Origin": f"http://127.0.0.1:{port}"}
            async with connect(url, proxy=None, additional_headers=own) as ws:
                assert len(house.app.sessions) == sessions
                await ws.send(json.dumps({"type": "gr:hello", "data": {"protocol": 1}}))
                assert json.loads(await ws.recv())["type"] == "gr:welcome"
            # A token in the URL is nothing: what counts is the hello.
            async with connect(f"{url}?token={house.token}", proxy=None) as ws:
                await ws.send(json.dumps({"type": "gr:hello", "data": {"protocol": 1}}))
                welcome = json.loads(await ws.recv())["data"]
                assert welcome["session"] != house.victim.link.session
            async with connect(url, proxy=None) as ws:
                await ws.send(json.dumps({"type": "write", "id": 1}))
                assert json.loads(await ws.recv())["data"]["code"] == "bad_frame"
                with pytest.raises(ConnectionClosed) as closed:
                    await ws.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 4000

    run_clean(LOOPS["asyncio"], main, timeout=30)
