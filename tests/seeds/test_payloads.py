"""Receiving a payload, and the context: what an event brings along."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.seeds.samples import main, patch_of, samples, told
from tests.support.scripts import script

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


# -- receiving a payload --------------------------------------------------------------------------


@told("Receiving a payload")
def test_receiving_a_payload_of_a_text_input(arun: Any, tmp_path: Path, seed: str) -> None:
    sample = samples(seed, "Receiving a payload")[0]

    async def story() -> None:
        async with script(tmp_path, main(sample, '{"value": ""}')) as app:
            visitor = await Visitor(app).open()
            for text in ("h", "i", "Grüße, 世界"):
                patch = await patch_of(visitor, "handle_input_change", text)
                assert patch == {"=": {"/value": text}}
            visitor.line.close()

    arun(story)


@told("Receiving a payload")
def test_receiving_a_payload_of_a_camera(
    arun: Any, tmp_path: Path, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tests/browser has it from a real camera: PNG bytes, for a ``payload`` without a type."""
    sample = samples(seed, "Receiving a payload")[1]
    if "write" not in sample:  # where seed 002 breaks off
        sample = f"{sample.rstrip()}\n\t\tfile_handle.write(image_file)\n"
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    monkeypatch.chdir(pictures)

    async def story() -> None:
        async with script(tmp_path / "app", main(sample)) as app:
            visitor = await Visitor(app).open()
            picture = {"$bytes": base64.b64encode(PNG).decode(), "mime": "image/png"}
            assert await visitor.call("handle_webcam_capture", picture) is None
            assert (pictures / "picture.png").read_bytes() == PNG
            visitor.line.close()

    arun(story)


@told("Receiving a payload")
def test_receiving_a_payload_of_any_shape(arun: Any, tmp_path: Path, seed: str) -> None:
    sample = samples(seed, "Receiving a payload")[0]
    shapes = [True, 2.5, None, "2026-11-21", ["a", "b"], {"name": "Ada", "seats": 2}, [{"x": [1]}]]

    async def story() -> None:
        async with script(tmp_path, main(sample)) as app:
            visitor = await Visitor(app).open()
            for payload in shapes:
                await visitor.call("handle_input_change", payload)
                assert visitor.session.state["value"] == payload
            visitor.line.close()

    arun(story)


# -- context --------------------------------------------------------------------------------------


@told("Context")
def test_context_names_the_element(arun: Any, tmp_path: Path, seed: str) -> None:
    """As `bind` sends it: what happened, and the id of the element it happened to."""
    sample = samples(seed, "Context")[0]

    async def story() -> None:
        async with script(tmp_path, main(sample)) as app:
            visitor = await Visitor(app).open()
            context = {"event": "click", "target": "save-button"}
            patch = await patch_of(visitor, "handle_click", context=context)
            assert patch["="]["/last_source_of_click"] == "save-button"
            # The next event has a context of its own: nothing of the last one is in it.
            assert (await visitor.call("handle_click"))["code"] == "handler_error"
            assert visitor.session.state["last_source_of_click"] == "save-button"
            visitor.line.close()

    arun(story)


@told("Context")
def test_context_names_what_happened(arun: Any, tmp_path: Path, seed: str) -> None:
    assert samples(seed, "Context")
    sample = "def look(context):\n    return context\n"

    async def story() -> None:
        async with script(tmp_path, main(sample)) as app:
            visitor = await Visitor(app).open()
            context = {"event": "click", "target": None, "session_id": "of somebody else"}
            seen = await visitor.call("look", context=context)
            assert (seen["event"], seen["handler"], seen["label"]) == ("click", "look", "main")
            assert seen["session_id"] == visitor.session.id  # a client cannot say who it is
            visitor.line.close()

    arun(story)


@told("Context")
def test_context_of_a_repeater_has_key_and_item(arun: Any, tmp_path: Path, seed: str) -> None:
    sample = samples(seed, "Context")[1]
    content = '{"repeater_content": {"k1": {"name": "one"}, "k2": {"name": "two"}}}'

    async def story() -> None:
        async with script(tmp_path, main(sample, content)) as app:
            visitor, other = await Visitor(app).open(), await Visitor(app).open()
            context = {"keyVariable": "k2", "valueVariable": {"name": "two"}}
            patch = await patch_of(visitor, "handle_repeater_click", context=context)
            assert patch == {"=": {"/repeater_content/k2/last_action": "Clicked"}}
            assert other.session.state["repeater_content"]["k2"] == {"name": "two"}
            visitor.line.close()
            other.line.close()

    arun(story)
