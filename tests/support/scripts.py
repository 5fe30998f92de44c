"""Apps as `greenroom run` has them: files in a folder, loaded by its own loader."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from pathlib import Path

from greenroom import App, Settings
from greenroom.cli.load import load


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Put files into a folder, which is returned."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


@contextlib.contextmanager
def imports_of(folder: Path) -> Generator[None]:
    """What is imported from below ``folder`` meanwhile is forgotten at the end."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file is not None and Path(file).is_relative_to(folder):
                del sys.modules[name]


@contextlib.asynccontextmanager
async def script(
    folder: Path, files: Mapping[str, str], settings: Settings | None = None
) -> AsyncGenerator[App]:
    """Write an app's files, load its ``main.py``, and run it."""
    write(folder, files)
    with imports_of(folder):
        async with load(str(folder), settings or Settings()).app as app:
            yield app
