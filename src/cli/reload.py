"""`greenroom run --reload`: watch the files of an application, and run what was saved.

What a change leads to: a ``.py`` file of the application's folder that appears, changes or goes
imports the code anew (``core/reload.py``); anything in the public folder makes the pages load
themselves again. Files that are saved together are one change: it is looked at when nothing more
has come for :data:`STEP` ms. Folders are watched, so editors that write beside a file and rename
are seen like others.

Cut in the middle: leaving the block ends the watcher; a reload that is under way is not adopted.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import sys
import traceback
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from ..core.app import App
from ..core.reload import Reloader
from . import USAGE, CommandError
from .load import Loaded, load, read_settings

__all__ = ["check_watcher", "watching"]

STEP: Final = 50  # milliseconds without a further change after which changes are looked at
LONGEST: Final = 1600  # milliseconds after which they are in any case


def check_watcher() -> None:
    """Raise CommandError when the package that watches files is missing."""
    if importlib.util.find_spec("watchfiles") is None:
        raise CommandError(
            USAGE, "--reload needs the package watchfiles: pip install 'greenroom[reload]'"
        )


@contextlib.asynccontextmanager
async def watching(loaded: Loaded, target: str | None) -> AsyncGenerator[None]:
    """Inside the block the application follows its files; without a ``target`` it does not."""
    if target is None:
        yield
        return
    task = asyncio.get_running_loop().create_task(_watch(loaded, target), name="greenroom-reload")
    loaded.app.listeners.append(task.cancel)  # an app that drains takes nothing new
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _watch(loaded: Loaded, target: str) -> None:
    settings = read_settings(**({"debug": True} if loaded.app.settings.debug else {}))
    reloader = Reloader(loaded.app, loaded.folder, lambda: load(target, settings).app, _explain)
    public = loaded.public and loaded.public.resolve()
    known = _left_out(loaded.app)
    try:
        async for paths in _changes(loaded.folder.resolve(), public):
            pages = {path for path in paths if public is not None and _below(path, public)}
            code = any(path.suffix == ".py" for path in paths - pages)
            if code and await reloader.reload():  # else the log has told why
                print("greenroom: the new code runs", flush=True)
                before, known = known, _left_out(loaded.app)
                for text in known - before:
                    print(f"  {text}", flush=True)
                    loaded.app.log.info(text)
            if pages:
                print("greenroom: pages load again", flush=True)
                reloader.refresh()
    except Exception as error:  # noqa: BLE001 - the server goes on without
        print(f"greenroom: files are not watched any more: {error}", file=sys.stderr, flush=True)


def _left_out(app: App) -> set[str]:
    """What browsers may not call and why; without lines, which every change moves."""
    return {f"left out: {name}: {why}" for name, _, why in app.handlers.left_out}


async def _changes(folder: Path, public: Path | None) -> AsyncGenerator[set[Path]]:
    """The files that changed, time after time."""
    from watchfiles import (
        Change,
        DefaultFilter,
        awatch,  # pyright: ignore[reportUnknownVariableType] - its optional loops
    )

    ignored = DefaultFilter()

    def wanted(change: Change, path: str) -> bool:
        return ignored(change, os.path.relpath(path, folder))  # where we stand hides nothing

    folders = [folder] if public is None or _below(public, folder) else [folder, public]
    found = awatch(
        *folders,
        watch_filter=wanted,
        step=STEP,
        debounce=LONGEST,
        ignore_permission_denied=True,
    )
    first = asyncio.ensure_future(anext(found))
    await asyncio.sleep(0)  # from here on nothing is missed
    print(f"greenroom: watching {folder}", flush=True)
    yield {Path(name) for _, name in await first}
    async for changes in found:
        yield {Path(name) for _, name in changes}


def _below(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _explain(error: BaseException) -> str:
    if isinstance(error, CommandError):  # made for people already
        return str(error)
    return "".join(traceback.format_exception(error))
