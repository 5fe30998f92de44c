"""Plain Python functions, and external handlers: what browsers may call, and by which name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.seeds.samples import IMPORT, main, patch_of, samples, told
from tests.support.scripts import script


def with_its_colon(sample: str) -> str:
    """The seeds print ``def handle_click()`` without a colon, and one of them without its body."""
    sample = sample.replace("def handle_click()\n", "def handle_click():\n")
    return sample if "print" in sample else sample + '    print("Hello")\n'


async def code_of(visitor: Visitor, event: str) -> str | None:
    """The error an event is answered with."""
    answer = await visitor.call(event)
    return answer["code"] if isinstance(answer, dict) else None


@told("Plain Python functions")
def test_plain_functions_of_main_answer_to_their_names(
    arun: Any, tmp_path: Path, seed: str
) -> None:
    sample = with_its_colon(samples(seed, "Plain Python functions")[0])

    async def story() -> None:
        async with script(tmp_path, main(sample)) as app:
            assert list(app.handlers.names) == ["handle_click", "main.handle_click"]
            visitor = await Visitor(app).open()
            assert await visitor.call("handle_click") is None
            assert await visitor.call("main.handle_click") is None
            assert [record.text for record in visitor.session.log] == ["Hello", "Hello"]
            visitor.line.close()

    arun(story)


@told("Plain Python functions")
def test_plain_functions_may_be_imported(arun: Any, tmp_path: Path, seed: str) -> None:
    sample = with_its_colon(samples(seed, "Plain Python functions")[0])
    files = {"main.py": "from buttons import handle_click", "buttons.py": sample}

    async def story() -> None:
        async with script(tmp_path, files) as app:
            visitor = await Visitor(app).open()
            assert await visitor.call("handle_click") is None
            assert [record.text for record in visitor.session.log] == ["Hello"]
            visitor.line.close()

    arun(story)


@told("Plain Python functions")
def test_plain_functions_with_an_underscore_are_hidden(
    arun: Any, tmp_path: Path, seed: str
) -> None:
    sample = samples(seed, "Plain Python functions")[1]
    sample += "\n\ndef _callable(state):\n    return 1\n"

    async def story() -> None:
        async with script(tmp_path, main(sample, names="import numpy as np\n")) as app:
            assert not app.handlers.names
            assert not app.handlers.left_out, "what is hidden is not even looked at"
            visitor = await Visitor(app).open()
            for name in ("_reticulate", "main._reticulate", "_callable", "main._callable"):
                assert await code_of(visitor, name) == await code_of(visitor, "nothing_at_all")
                assert await code_of(visitor, name) == "not_found"
            assert sys.modules["main"]._reticulate(3).shape == (3, 100)  # for Python it is there
            visitor.line.close()

    arun(story)


# -- external handlers ----------------------------------------------------------------------------


@told("External handlers")
@pytest.mark.parametrize(
    "given", ["up", "[up, down]", "(up, down)", "up), gr.init_handlers([down]"]
)
def test_external_handlers_of_a_module_and_of_a_list(
    arun: Any, tmp_path: Path, seed: str, given: str
) -> None:
    up, down = samples(seed, "External handlers")
    files = {
        "main.py": f"{IMPORT}import up, down\n\ngr.init_handlers({given})\n"
        'gr.init_state({"counter": 4})\n',
        "up.py": up,
        "down.py": down,
    }

    async def story() -> None:
        async with script(tmp_path, files) as app:
            visitor = await Visitor(app).open()
            assert await patch_of(visitor, "increment") == {"=": {"/counter": 5}}
            assert await patch_of(visitor, "up.increment") == {"=": {"/counter": 6}}
            if "down" in given:
                assert await patch_of(visitor, "decrement") == {"=": {"/counter": 5}}
            else:
                assert await code_of(visitor, "decrement") == "not_found"
            visitor.line.close()

    arun(story)


@told("External handlers")
def test_external_handlers_are_tried_one_by_one(arun: Any, tmp_path: Path, seed: str) -> None:
    up, _ = samples(seed, "External handlers")
    files = {
        "main.py": f"{IMPORT}import up\n\ngr.init_handlers(up)\ngr.init_state({{'counter': 4}})",
        "up.py": f"from json import dumps\n\n{up}\n\ndef _secret(state):\n    pass\n\n"
        "def total(prices):\n    return sum(prices)\n",
    }

    async def story() -> None:
        async with script(tmp_path, files) as app:
            assert set(app.handlers.names) == {"increment", "up.increment"}
            (left,) = app.handlers.left_out  # and it is said which one, and why
            assert (left.name, "prices" in left.why) == ("up.total", True)
            visitor = await Visitor(app).open()
            for name in ("_secret", "up._secret", "total", "dumps"):
                assert await code_of(visitor, name) == "not_found"
            visitor.line.close()

    arun(story)


@told("External handlers")
def test_external_handlers_chain(arun: Any, tmp_path: Path, seed: str) -> None:
    """main imports the last module of the chain, which registers the one before it."""
    up, down = samples(seed, "External handlers")
    files = {
        "main.py": f"{IMPORT}import up\n\ngr.init_handlers(up)\ngr.init_state({{'counter': 4}})",
        "up.py": f"{IMPORT}import down\n\ngr.init_handlers(down)\n{up}",
        "down.py": f"{IMPORT}{down}",
    }

    async def story() -> None:
        async with script(tmp_path, files) as app:
            visitor = await Visitor(app).open()
            assert await patch_of(visitor, "increment") == {"=": {"/counter": 5}}
            assert await patch_of(visitor, "decrement") == {"=": {"/counter": 4}}
            visitor.line.close()

    arun(story)
