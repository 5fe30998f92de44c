"""Which functions of a module browsers may call.

A module's public functions are its handlers: those it defines, and those it imports from another
file of the same application. A function of a library is never one, however it came into the
module: what lies in site-packages, in the standard library or below a ``sys.prefix`` is not of the
application, and neither is Greenroom itself.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import sysconfig
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from .errors import BadHandler
from .plans import describe, is_async, layers
from .types import HANDLER_NAME

__all__ = [
    "LIBRARY",
    "Offered",
    "Options",
    "application_root",
    "discover",
    "handler",
    "is_library",
    "is_standard",
    "module_name",
    "of_application",
    "options_of",
]

MARK: Final = "__greenroom_handler__"  # where a function keeps what @handler said
LIBRARY: Final = "a library's"  # why most functions that a module imports are no handlers
LIBRARIES: Final = frozenset({"site-packages", "dist-packages"})
OURS: Final = os.path.realpath(Path(__file__).parent.parent)


# -- the decorator --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """What ``@handler`` said about a function."""

    inline: bool = False
    concurrent: bool = False
    name: str | None = None


def handler(
    fn: Any = None, *, inline: bool = False, concurrent: bool = False, name: str | None = None
) -> Any:
    """Decorator, with or without parentheses: a function browsers may call, with options.

    Plain functions need none of this. ``inline`` runs a sync function on the loop itself, for a few
    microseconds of work; ``concurrent`` starts it beside the session's turns; ``name`` is what
    clients call it. A decorated function that cannot be a handler is an error, not left out.
    """
    if fn is None:
        return functools.partial(handler, inline=inline, concurrent=concurrent, name=name)
    if inline and is_async(fn):
        raise BadHandler(
            f"handler {describe(fn)} is async: it runs on the loop already, so drop inline=True"
        )
    if name is not None and (not HANDLER_NAME.match(name) or "." in name):
        raise BadHandler(
            f"handler {describe(fn)}: {name!r} cannot be its name. A name has letters, digits and "
            f"underscores and does not begin with one; for namespace:name use on()"
        )
    try:
        setattr(fn, MARK, Options(inline=inline, concurrent=concurrent, name=name))
    except AttributeError:
        raise BadHandler(
            f"handler {describe(fn)} takes no options: decorate the function where it is defined, "
            f"or wrap it in functools.partial"
        ) from None
    return fn


def options_of(fn: Any) -> Options | None:
    """What ``@handler`` said about ``fn`` or about what it wraps."""
    for layer in layers(fn):
        if isinstance(options := getattr(layer, MARK, None), Options):
            return options
    return None


# -- whose function it is -------------------------------------------------------------------------


def module_name(module: ModuleType) -> str:
    """The name handlers are qualified with; ``__main__`` goes by the name of its file."""
    if module.__name__ != "__main__":
        return module.__name__
    file = getattr(module, "__file__", None)
    return Path(file).stem if file else "main"


def application_root(module: ModuleType) -> Path | None:
    """The folder of the module's application: of its top package, else of its file."""
    package, dot, _ = module.__name__.partition(".")
    top = sys.modules.get(package, module) if dot else module
    for candidate in (top, module):
        if file := getattr(candidate, "__file__", None):
            return Path(os.path.realpath(file)).parent
        for folder in getattr(candidate, "__path__", ()):
            return Path(os.path.realpath(folder))
    return None


class Offered(NamedTuple):
    """A function that a module offers, and whether it is a handler by itself."""

    name: str  # of the attribute
    fn: Any
    why: str | None  # None: it is; LIBRARY: part of one; else why it is not


def discover(module: ModuleType, root: Path | None = None) -> Iterator[Offered]:
    """The functions in ``module``, under their attribute names, and which of them are handlers.

    A leading underscore hides a function, unless it is decorated under that name. ``root`` is the
    folder whose files are the application; by default that of the module.
    """
    folder = application_root(module) if root is None else Path(os.path.realpath(root))
    for attribute, value in list(vars(module).items()):
        decorated = _is_decorated(value)
        if attribute.startswith("_") and not (
            decorated and getattr(value, "__name__", None) == attribute
        ):
            continue
        if inspect.isfunction(value) or decorated:
            if _defined_in(value, module) or (folder is not None and _below(value, folder)):
                yield Offered(attribute, value, None)
            elif not _is_ours(value):
                yield Offered(attribute, value, _foreigner(value, folder))
        elif (kind := _kind_of(value)) is not None:
            written = _written(value)
            if written is not None and (
                written.__globals__ is vars(module)
                or (folder is not None and _below(written, folder))
            ):
                why = f"{kind}, and only functions are handlers by themselves: define one"
                yield Offered(attribute, written, why)


def _foreigner(fn: Any, folder: Path | None) -> str:
    """Why a function of another file is no handler."""
    code = getattr(_innermost(fn), "__code__", None)
    file = LIBRARY if code is None else code.co_filename
    if folder is None or file.startswith("<") or is_library(file, str(folder)):
        return LIBRARY
    return (
        f"it is not from the application's folder, {folder}: import its module and pass that to "
        f"init_handlers"
    )


def _kind_of(value: Any) -> str | None:
    """What to call something that can be called and is no function, as far as it is a candidate."""
    if isinstance(value, (type, ModuleType)) or not callable(value):
        return None
    if isinstance(value, functools.partial):
        return "a functools.partial"
    if isinstance(value, types.MethodType):
        return "a bound method"
    return f"an object ({type(value).__name__}) that can be called"


def _written(found: object) -> types.FunctionType | None:
    """The function somebody wrote below something that can be called; runs no code of theirs."""
    value: Any = found
    for _ in range(20):
        if isinstance(value, types.FunctionType):
            return value
        if isinstance(value, functools.partial):
            value = value.func
        elif isinstance(value, types.MethodType):
            value = value.__func__
        elif isinstance(value, type):
            return None
        else:
            try:
                value = _below_object(value)
            except Exception:  # noqa: BLE001 what cannot even be looked at is no function
                return None
    return None


def _below_object(value: object) -> Any:
    wrapped = inspect.getattr_static(value, "__wrapped__", None)
    return wrapped or inspect.getattr_static(type(value), "__call__", None)


def _is_decorated(value: Any) -> bool:
    """Whether ``@handler`` was put on this very object; never runs code of the module's values."""
    if isinstance(value, (type, ModuleType)):
        return False
    try:
        return isinstance(inspect.getattr_static(value, MARK, None), Options)
    except Exception:  # noqa: BLE001 an object that cannot even be looked at is no function
        return False


def _innermost(fn: Any) -> Any:
    """The function somebody wrote, below all wrappers."""
    found = fn
    for layer in layers(fn):
        if inspect.isfunction(layer):
            found = layer
    return found


def _defined_in(fn: Any, module: ModuleType) -> bool:
    return getattr(_innermost(fn), "__globals__", None) is vars(module)


def _below(fn: Any, folder: Path) -> bool:
    code = getattr(_innermost(fn), "__code__", None)
    return code is not None and of_application(code.co_filename, str(folder))


def _is_ours(fn: Any) -> bool:
    code = getattr(_innermost(fn), "__code__", None)
    return code is not None and _is_in(os.path.realpath(code.co_filename), OURS)


@functools.lru_cache(maxsize=4096)
def of_application(file: str, folder: str) -> bool:
    """Whether a source file belongs to the application in ``folder``."""
    if file.startswith("<"):  # made up at run time, by some library or other
        return False
    return _is_in(os.path.realpath(file), folder) and not is_library(file, folder)


@functools.lru_cache(maxsize=4096)
def is_library(file: str, folder: str) -> bool:
    """Whether a source file belongs to a library, as seen from the application in ``folder``."""
    path = os.path.realpath(file)
    if LIBRARIES.intersection(Path(path).parts):
        return True
    return any(_is_in(path, foreign) for foreign in _foreign(folder))


def is_standard(module: ModuleType) -> bool:
    """Whether a module is of the standard library."""
    if module.__name__.partition(".")[0] not in sys.stdlib_module_names:
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return not hasattr(module, "__path__")
    path = os.path.realpath(file)
    if LIBRARIES.intersection(Path(path).parts):
        return False
    folders = (sysconfig.get_path(key) for key in ("stdlib", "platstdlib"))
    return any(_is_in(path, os.path.realpath(folder)) for folder in folders if folder)


def _foreign(folder: str) -> Iterator[str]:
    """Folders whose files are of no application.

    A prefix that holds the whole application (/usr and /usr/src/app) says nothing about its files.
    """
    yield OURS
    for key in ("stdlib", "platstdlib", "purelib", "platlib"):
        if path := sysconfig.get_path(key):
            yield os.path.realpath(path)
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        path = os.path.realpath(prefix)
        if path == folder or not _is_in(folder, path):
            yield path


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
