"""`greenroom run --reload` with real files: what editors do, and what is loaded again."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import textwrap
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.support.server import ServerProcess

from greenroom import cli
from greenroom.client import Client, connect

RUNS = "the new code runs"
BROKEN = "the new code does not run"
MAIN = """
    import greenroom as gr
    from helpers import STEP
    gr.init_state({"counter": 0})

    def add(state):
        state["counter"] += STEP
        return state["counter"]
"""


def save(path: Path, text: str) -> None:
    """In one step: a file that is emptied first may be looked at while it is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r+" if path.exists() else "w") as file:
        file.write(textwrap.dedent(text))
        file.truncate()


class Stage:
    """A server that watches, and a client that has been there from the beginning."""

    def __init__(self, server: ServerProcess, client: Client) -> None:
        self.server = server
        self.client = client
        self.events: list[tuple[str, Any]] = []
        for event in ("gr:broken", "gr:reloaded"):
            client.on(event, lambda data, event, _: self.events.append((event, data)))

    async def said(self, text: str, times: int = 1) -> None:
        await asyncio.to_thread(self.server.said, text, times)


def played(path: Path, story: Callable[[Stage], Coroutine[Any, Any, None]]) -> ServerProcess:
    async def main() -> None:
        async with connect(f"ws://127.0.0.1:{server.port}/ws") as client:
            stage = Stage(server, client)
            await stage.said("watching")
            async with asyncio.timeout(60):
                await story(stage)

    with ServerProcess(path, "--reload") as server:
        asyncio.run(main())
    return server


def test_saving_renaming_deleting_and_several_files_at_once(tmp_path: Path) -> None:
    save(tmp_path / "main.py", MAIN)
    save(tmp_path / "helpers.py", "STEP = 1")

    async def story(stage: Stage) -> None:
        client = stage.client
        session = client.session
        assert await client.call("add") == 1
        save(tmp_path / "helpers.py", "STEP = 2")
        await stage.said(RUNS)
        assert await client.call("add") == 3

        beside = tmp_path / "main.py.new"  # as many editors do: beside, and then renamed
        save(beside, MAIN.replace('"counter": 0', '"counter": 9, "fresh": "yes"'))
        os.replace(beside, tmp_path / "main.py")
        await stage.said(RUNS, 2)
        assert await client.call("add") == 5
        assert client.state == {"counter": 5, "fresh": "yes"}

        os.unlink(tmp_path / "helpers.py")
        await stage.said("No module named 'helpers'")
        assert await client.call("add") == 7
        assert "No module named 'helpers'" in stage.events[-1][1]["traceback"]

        # All of these belong together, and none of them works without the others.
        save(tmp_path / "parts" / "__init__.py", "from .inner import VALUE")
        save(tmp_path / "parts" / "inner.py", "VALUE = 100")
        save(tmp_path / "helpers.py", "from parts import VALUE as STEP")
        await stage.said(RUNS, 3)  # a busy machine may see some of them before the others
        assert await client.call("add") == 107
        assert [event for event, _ in stage.events].count("gr:broken") >= 1
        assert stage.events[-1] == ("gr:reloaded", {"pages": []})

        os.unlink(tmp_path / "main.py")
        await stage.said("has no main.py")
        assert await client.call("add") == 207
        assert client.session == session

    log = "".join(played(tmp_path, story).log)
    assert BROKEN in log
    assert "Traceback" in log  # in the terminal, too


def test_what_the_new_code_leaves_out_is_said_once(tmp_path: Path) -> None:
    odd = "\n    def total(prices): ...\n"
    save(tmp_path / "main.py", MAIN + odd)
    save(tmp_path / "helpers.py", "STEP = 1")

    async def story(stage: Stage) -> None:
        save(tmp_path / "main.py", MAIN + "\n" + odd + "    def rows(): yield 1\n")
        await stage.said(RUNS)
        await stage.said("left out: main.rows: is a generator")
        save(tmp_path / "helpers.py", "STEP = 2")
        await stage.said(RUNS, 2)

    log = "".join(played(tmp_path, story).log)
    assert log.count("left out: main.rows") == 1
    assert log.count("left out: main.total") == 1  # at the start


def test_pages_are_told_and_data_is_not_code(tmp_path: Path) -> None:
    save(tmp_path / "main.py", MAIN)
    save(tmp_path / "helpers.py", "STEP = 1")
    save(tmp_path / "public" / "index.html", "<p>one</p>")

    async def story(stage: Stage) -> None:
        save(tmp_path / "notes.txt", "no code")
        save(tmp_path / ".hidden.py.swp", "what an editor keeps")
        save(tmp_path / "public" / "index.html", "<p>two</p>")
        await stage.said("pages load again")
        assert await stage.client.call("add") == 1
        assert stage.events == [("gr:reloaded", {"pages": True})]
        save(tmp_path / "helpers.py", "STEP = 2")
        await stage.said(RUNS)
        assert await stage.client.call("add") == 3

    assert "".join(played(tmp_path, story).log).count(RUNS) == 1


@pytest.mark.parametrize("name", ["make", "app"])
def test_a_module_or_a_factory_in_a_package(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "shop"
    save(package / "__init__.py", "")
    save(package / "prices.py", "PRICE = 3")
    save(
        package / "web.py",
        """
        import greenroom as gr
        from . import prices

        def price(): return prices.PRICE

        def make():
            app = gr.App(state={"a": 1}, handlers=[price])

            @app.on("app:count")
            def count(): return [len(app.sessions), prices.PRICE]

            return app

        app = make()
        """,
    )
    monkeypatch.chdir(tmp_path)

    async def story(stage: Stage) -> None:
        assert await stage.client.call("price") == 3
        save(package / "prices.py", "PRICE = 4")
        await stage.said(RUNS)
        assert await stage.client.call("price") == 4
        assert await stage.client.call("app:count") == [1, 4]

    played(Path(f"shop.web:{name}"), story)


def test_without_the_watcher_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "main.py", "")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "watchfiles" else find(name)
    )
    assert cli.main(["run", str(tmp_path), "--reload"]) == 2
    assert "pip install 'greenroom[reload]'" in capsys.readouterr().err


def test_a_drain_ends_the_watching(tmp_path: Path) -> None:
    save(tmp_path / "main.py", MAIN)
    save(tmp_path / "helpers.py", "STEP = 1")
    with ServerProcess(tmp_path, "--reload") as server:
        server.said("watching")
        server.tell(signal.SIGTERM)
        server.said("stopping")
        save(tmp_path / "main.py", "1 / 0")
        assert server.ended() == 0
    assert BROKEN not in "".join(server.log)
