"""Middlewares: what they are for, each as a small app."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.core.visitor import Visitor
from tests.seeds.samples import main, patch_of, samples, told
from tests.support.scripts import script

STATE = '{"n": 1, "error": None, "events": 0, "answered": 0}'
HANDLERS = """

def add(state):
    print("inside")
    state["n"] += 1
    return state["n"]


async def add_later(state):
    print("inside")
    state["n"] += 1
    return state["n"]


def divide(state):
    state["n"] = 100
    return 1 / 0
"""


@told("Middlewares")
def test_middlewares_run_before_and_after_every_handler(
    arun: Any, tmp_path: Path, seed: str
) -> None:
    log, *_ = samples(seed, "Middlewares")

    async def story() -> None:
        async with script(tmp_path, main(log + HANDLERS, STATE)) as app:
            visitor = await Visitor(app).open()
            for number, event in enumerate(("add", "add_later", "main.add"), 2):
                assert await visitor.call(event) == number
                *_, before, inside, after = [record.text for record in visitor.session.log]
                assert (before, inside) == (f"before {event}", "inside")
                assert after == f"after {event}: {number}"
            await visitor.call("divide")  # it fails, and nobody said what then
            assert "before divide" in [record.text for record in visitor.session.log]
            assert not [r for r in visitor.session.log if "after divide" in r.text]
            visitor.line.close()

    arun(story)


@told("Middlewares")
def test_middlewares_handle_errors(arun: Any, tmp_path: Path, seed: str) -> None:
    _, errors, *_ = samples(seed, "Middlewares")

    async def story() -> None:
        async with script(tmp_path, main(errors + HANDLERS, STATE)) as app:
            visitor = await Visitor(app).open()
            # What the handler had assigned is undone, what the middleware assigns is sent.
            assert await patch_of(visitor, "divide") == {"=": {"/error": "division by zero"}}
            assert visitor.frames[-1]["data"] is None  # answered, and with no error
            assert visitor.session.state["n"] == 1
            assert await patch_of(visitor, "add") == {"=": {"/n": 2}}
            visitor.line.close()

    arun(story)


@told("Middlewares")
def test_middlewares_manage_sessions(arun: Any, tmp_path: Path, seed: str) -> None:
    _, _, members, _ = samples(seed, "Middlewares")
    members += (
        '\n\n@gr.session_verifier\ndef _who(cookies):\n    return {"member": "card" in cookies}'
    )

    async def story() -> None:
        async with script(tmp_path, main(members + HANDLERS, STATE)) as app:
            guest, member = (
                await Visitor(app).open(),
                await Visitor(app, cookies={"card": "1"}).open(),
            )
            assert (await guest.call("add"))["code"] == "handler_error"
            assert guest.session.state["n"] == 1, "the handler did not run"
            assert "inside" not in [record.text for record in guest.session.log]
            assert await member.call("add") == 2
            guest.line.close()
            member.line.close()

    arun(story)


@told("Middlewares")
def test_middlewares_modify_the_state(arun: Any, tmp_path: Path, seed: str) -> None:
    *_, count = samples(seed, "Middlewares")

    async def story() -> None:
        async with script(tmp_path, main(count + HANDLERS, STATE)) as app:
            visitor = await Visitor(app).open()
            patch = await patch_of(visitor, "add")  # one turn, one patch
            assert patch == {"=": {"/n": 2, "/events": 1, "/answered": 1}}
            assert (await visitor.call("divide"))["code"] == "handler_error"
            assert visitor.session.state == {"n": 2, "error": None, "events": 1, "answered": 1}
            visitor.line.close()

    arun(story)
