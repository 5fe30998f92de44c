"""Where the modules of an application come from, and what their import leaves behind.

A script's folder is on ``sys.path`` as long as it is loaded, first, as Python has it for the files
it is given: handlers may import, too. Two scripts in one process have modules of their own,
whatever their names: those that an earlier script brought give way in ``sys.modules`` to those of
the same name beside a later one, and live on in whoever imported them. So an import inside of a
function finds the newer of two. A script that is loaded again is imported anew.

Cut in the middle: an import that raises leaves nothing behind, and what gave way is back.

Threads: one import at a time, on whichever thread.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ..core.exposure import of_application

__all__ = ["forget", "importing", "misleading_names"]

_brought: dict[str, ModuleType] = {}  # the modules that scripts of this process have imported


@contextlib.contextmanager
def importing(top: Path, script: Path | None = None) -> Generator[str | None]:
    """Inside the block modules are looked for below ``top`` first; gives what ``sys.path`` lacked.

    ``script``: the folder of one, whose modules are imported anew.
    """
    path = str(top)
    lacked = path not in sys.path
    aside = {} if script is None else {n: m for n, m in _brought.items() if _gives_way(n, m, top)}
    before = set(sys.modules) - set(aside)
    folder = script or top
    sys.path.insert(0, path)
    for name in aside:
        del sys.modules[name]
    importlib.invalidate_caches()  # a file may be new
    try:
        yield path if lacked else None
    except BaseException:
        if lacked:
            _drop(path)
        for name in _new(before, folder):
            del sys.modules[name]
        sys.modules.update(aside)
        raise
    finally:
        if not lacked:
            _drop(path)  # ours; the other stays where it was
    if script is not None:
        _brought.update(_new(before, folder))


def forget(path: str | None, folder: Path) -> None:
    """Take back what an import left behind: an entry of ``sys.path``, the modules of a folder."""
    if path is not None:
        _drop(path)
    for name, module in tuple(_brought.items()):
        if _is_of(module, folder):
            del _brought[name]
            if sys.modules.get(name) is module:
                del sys.modules[name]


def misleading_names(top: Path, main: Path) -> Iterator[str]:
    """What to say of the files beside ``main`` that are called like modules of Python's own."""
    packages = (file.parent for file in top.glob("*/__init__.py"))
    for path in sorted([*top.glob("*.py"), *packages]):
        name = path.name.removesuffix(".py")
        if path != main and name in sys.stdlib_module_names - {"test"}:
            which = "the other" if name in sys.modules else "this one, to libraries too"
            yield (
                f"{path.name} has the name of a module of the standard library, and "
                f"`import {name}` gives {which}: rename it"
            )


def _drop(path: str) -> None:
    """The first of these; a script may have changed ``sys.path`` itself."""
    if path in sys.path:
        sys.path.remove(path)


def _gives_way(name: str, module: ModuleType, top: Path) -> bool:
    """Whether a module that a script brought makes room for one below ``top``."""
    if sys.modules.get(name) is not module:
        return False
    first = name.partition(".")[0]
    return (top / f"{first}.py").is_file() or (top / first).is_dir()


def _new(before: set[str], folder: Path) -> dict[str, ModuleType]:
    """The modules of a folder that were not there before."""
    known = tuple(sys.modules.items())
    return {name: module for name, module in known if name not in before and _is_of(module, folder)}


def _is_of(module: Any, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    places = [file] if isinstance(file, str) else list(getattr(module, "__path__", ()))
    return any(of_application(place, os.path.realpath(folder)) for place in places)
