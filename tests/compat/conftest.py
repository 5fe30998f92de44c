"""An app directory written for Writer Framework, as it runs here after changing its imports."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from tests.support.scripts import imports_of
from tests.support.served import served_as_run

import greenroom as gr
from greenroom.cli.load import Loaded, load

HERE = Path(__file__).parent
MODULES = ("main", "model", "orders", "returns", "catalogue")
IMPORTS = (
    (re.compile(r"^import writer as wf$", re.MULTILINE), "import greenroom.compat.writer as wf"),
    (re.compile(r"^from writer(?=[. ])", re.MULTILINE), "from greenroom.compat.writer"),
)


def migrated(text: str) -> str:
    """The text of a module with its import lines changed, and nothing else."""
    for theirs, ours in IMPORTS:
        text = theirs.sub(ours, text)
    return text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The app directory, migrated; Writer makes it the current folder, so does its user now."""
    folder = tmp_path / "shop"
    shutil.copytree(HERE / "app", folder)
    for module in folder.glob("*.py"):
        module.write_text(migrated(module.read_text("utf-8")), "utf-8")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def shop(folder: Path) -> Generator[Loaded]:
    """The app as `greenroom run` loads it."""
    with imports_of(folder):
        yield load(str(folder), gr.Settings())


@contextlib.asynccontextmanager
async def open_for_clients(shop: Loaded) -> AsyncGenerator[str]:
    """Serve it as `greenroom run` does; the address of the socket."""
    async with served_as_run(shop.app, "websocket", public=shop.public) as port:
        yield f"ws://127.0.0.1:{port}/ws"
