"""Globals, and standard output: what belongs to the process, and what to one session of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.seeds.samples import IMPORT, main, patch_of, samples, told
from tests.support.scripts import script, write
from tests.support.server import ServerProcess

from greenroom.client import connect

AI = """
class CatIdentifierAI:
    made = 0

    def __init__(self):
        CatIdentifierAI.made += 1
        self.asked = []

    def process(self, picture):
        self.asked.append(picture)
        return picture == "cat"
"""
LOOK = "\n\ndef look():\n    return [CatIdentifierAI.made, len(my_ai.asked)]\n"


# -- globals --------------------------------------------------------------------------------------


@told("Globals")
def test_globals_are_made_once_and_serve_everybody(arun: Any, tmp_path: Path, seed: str) -> None:
    (sample,) = samples(seed, "Globals")

    async def story() -> None:
        async with script(tmp_path, main(sample + LOOK, names=AI)) as app:
            alice, bob = await Visitor(app).open(), await Visitor(app).open()
            assert await patch_of(alice, "evaluate", "cat") == {"=": {"/is_a_cat": True}}
            assert await patch_of(bob, "evaluate", "dog") == {"=": {"/is_a_cat": False}}
            assert alice.session.state["is_a_cat"] is True  # the result is her own
            for visitor in (alice, bob):
                assert await visitor.call("look") == [1, 2]  # what worked it out is everybody's
                visitor.line.close()

    arun(story)


@told("Globals")
def test_globals_may_be_attributes_of_modules(arun: Any, tmp_path: Path, seed: str) -> None:
    (sample,) = samples(seed, "Globals")
    sample = sample.replace("my_ai =", "models.my_ai =").replace(
        "my_ai.process", "models.my_ai.process"
    )
    files = {
        "main.py": f"{IMPORT}import models\nfrom models import CatIdentifierAI\n{sample}\n\n"
        "def look():\n    return [CatIdentifierAI.made, len(models.my_ai.asked)]\n",
        "models.py": AI,
    }

    async def story() -> None:
        async with script(tmp_path, files) as app:
            alice, bob = await Visitor(app).open(), await Visitor(app).open()
            await alice.call("evaluate", "cat")
            await bob.call("evaluate", "cat")
            assert await bob.call("look") == [1, 2]
            alice.line.close()
            bob.line.close()

    arun(story)


# -- standard output ------------------------------------------------------------------------------


@told("Standard output")
def test_standard_output_is_in_the_log_of_who_printed(
    arun: Any, tmp_path: Path, seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (sample,) = samples(seed, "Standard output")

    async def story() -> None:
        async with script(tmp_path, main(sample)) as app:
            alice, bob = await Visitor(app).open(), await Visitor(app).open()
            await alice.call("payload_inspector", {"a": 1})
            await bob.call("payload_inspector", "b")
            assert [record.text for record in alice.session.log] == ["Payload: {'a': 1}"]
            assert [record.text for record in bob.session.log] == ["Payload: 'b'"]
            assert [r.text for r in app.log if "world" in r.text] == ["Hello world"]
            assert not [r.text for r in app.log if "Payload" in r.text]
            alice.line.close()
            bob.line.close()

    arun(story)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "Hello" in line or "Payload" in line] == [
        *("Hello world", "Payload: {'a': 1}", "Payload: 'b'")
    ]


@told("Standard output")
def test_standard_output_reaches_the_terminal_at_every_start(tmp_path: Path, seed: str) -> None:
    """`greenroom run`, and a client over its socket; then the same once more."""
    (sample,) = samples(seed, "Standard output")
    folder = write(tmp_path, main(sample))

    async def inspect(port: int) -> None:
        async with connect(f"ws://127.0.0.1:{port}/ws") as client:
            await client.call("payload_inspector", [1, "two"])

    with ServerProcess(folder) as server:
        for start in (1, 2):
            server.said("Hello world", start)
            asyncio.run(inspect(server.port))
            server.said("Payload: [1, 'two']", start)
            if start == 1:
                server.restart()
        log = [line.strip() for line in server.log]
        assert log.count("Hello world") == log.count("Payload: [1, 'two']") == 2
