"""docs/globals.md: what it says of code that changes. Its blocks run in `test_docs_run.py`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.support.scripts import imports_of, write

from greenroom import App, Settings
from greenroom.cli.load import load
from greenroom.core.reload import Reloader

MAIN = """
import threading
import heavy_of_globals

print("importing {number}")
made = object()
lock = threading.Lock()
hits = 0

def hit(state):
    global hits
    with lock:
        hits += 1
    state["hits"] = (state["hits"] or 0) + 1
    return [hits, state["hits"], id(heavy_of_globals.model)]
"""


def test_what_a_reload_does_with_globals(
    arun: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the folder are new, those of a module outside stay, and so does the state."""
    app_folder, outside = tmp_path / "app", tmp_path / "outside"
    write(outside, {"heavy_of_globals.py": "model = object()"})
    monkeypatch.syspath_prepend(str(outside))

    async def story() -> None:
        write(app_folder, {"main.py": MAIN.format(number=1)})
        loaded = load(str(app_folder), Settings())
        app = loaded.app
        reloader = Reloader(app, loaded.folder, lambda: load(str(app_folder), Settings()).app)
        async with app:
            visitor = await Visitor(app).open()
            first = await visitor.call("hit")
            assert first[:2] == [1, 1]
            assert (await visitor.call("hit"))[:2] == [2, 2]
            write(app_folder, {"main.py": MAIN.format(number=2)})
            assert await reloader.reload()
            again = await visitor.call("hit")
            assert again[:2] == [1, 3]  # the global is new, the state is not
            assert again[2] == first[2]  # made once
            said = [record.text for record in app.log if record.text.startswith("importing")]
            assert said == ["importing 1", "importing 2"]
            visitor.line.close()

    with imports_of(tmp_path):
        arun(story)


def test_handlers_of_two_sessions_run_at_the_same_time(arun: Any) -> None:
    meeting = threading.Barrier(2)

    def meet(state: Any) -> None:
        meeting.wait(30)  # passed only while another session's handler stands here, too
        state["met"] = True

    async def story() -> None:
        async with App(state={"met": False}, handlers=[meet], settings=Settings(workers=2)) as app:
            one, two = app.open_session(), app.open_session()
            asks = [session.ask("meet", timeout=30) for session in (one, two)]
            for ask in asks:
                await ask
            assert one.state["met"]
            assert two.state["met"]

    arun(story)
