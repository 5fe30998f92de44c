"""`greenroom doctor`: what is installed, what is missing, and what browsers may call."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from ..adapters.base import installed
from ..core.dangling import dangling
from . import NOT_FOUND, OK, UNHEALTHY, USAGE, CommandError, events
from .load import load, read_settings, unload
from .run import fast_adapter

__all__ = ["HELP", "NAME", "add_arguments", "command"]

NAME: Final = "doctor"
HELP: Final = (
    "show what is installed, what an application exposes, and what events carry",
    """\
Show versions, compiled modules, limits of this machine and what optional parts are missing. With
PATH also import the application, without serving it, and list the functions browsers may call,
each with its file and line, those that were left out, and paths of calculated properties and
subscriptions where the initial state has nothing.

With --events show, instead, what the events of a page carry: for each kind of element the HTML that
binds it, the payload that arrives, and a handler to copy. With a NAME show that one:

  greenroom doctor --events              (all of them)
  greenroom doctor --events date         <input type="date">, and its handler
  greenroom doctor --events snapshot     a camera, and its handler

The exit code is 0 when Greenroom can work here, else 9; with PATH also those of `greenroom run`.
""",
)

CORE: Final = Path(__file__).resolve().parents[1] / "core"
NEEDED: Final = ("itsdangerous", "msgspec", "orjson", "starlette", "uvicorn", "websockets")
#: What is used where it is installed, and what for.
OPTIONAL: Final = {
    "uvloop": "a faster event loop (not on Windows)",
    "watchfiles": "`greenroom run --reload`",
    "pydantic": "pydantic models as payload annotations",
}
FEW_FILES: Final = 4096


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", metavar="PATH", nargs="?", help="an application to look at")
    command.add_argument(
        "--events",
        metavar="NAME",
        nargs="?",
        const="",
        help="show what events carry, each with a handler to copy; NAME: that one",
    )


def command(args: argparse.Namespace) -> int:
    if args.events is not None:
        if args.path is not None:
            raise CommandError(USAGE, "--events is about pages, not about an app: leave PATH out")
        return explain(args.events)
    problems: list[str] = []
    for title, lines in (
        ("Python", python()),
        ("Greenroom", compiled(problems)),
        ("Packages", packages(problems)),
        ("Optional", optional()),
        ("Machine", machine()),
        ("Adapters", adapters()),
        ("Settings", settings()),
    ):
        show(title, lines)
    if args.path is not None:
        loaded = load(args.path, read_settings())
        try:
            show(f"Application {loaded.title}", application(loaded.app, loaded.public))
        finally:
            unload(loaded)
    for problem in problems:
        print(f"problem: {problem}")
    return UNHEALTHY if problems else OK


def explain(name: str) -> int:
    """Show an event, or all of them."""
    event = events.find(name)
    if name and event is None:
        names = ", ".join(one.name for one in events.EVENTS)
        raise CommandError(NOT_FOUND, f"there is no event called {name!r}; there are {names}")
    for one in (event,) if event else events.EVENTS:
        print("\n".join(events.show(one)), end="\n\n")
    if event is None:
        print("docs/events.md has the same with more words; show one with --events NAME")
    return OK


def show(title: str, lines: Iterator[str]) -> None:
    print(title)
    for line in lines:
        print(f"  {line}")


def version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# -- sections -------------------------------------------------------------------------------------


def python() -> Iterator[str]:
    yield f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})"
    gil: Any = getattr(sys, "_is_gil_enabled", None)
    if gil is not None and not gil():
        yield "without the GIL: not supported yet"


def compiled(problems: list[str]) -> Iterator[str]:
    yield version_of("greenroom") or "not installed as a distribution"
    stubs = sorted(CORE.glob("_*.pyi"))
    for stub in stubs:
        name = stub.stem
        try:
            module = importlib.import_module(f"..core.{name}", __package__)
        except ImportError as error:
            problems.append(f"the compiled module {name} cannot be imported: {error}")
            yield f"{name}: missing"
        else:
            yield f"{name}: {Path(str(module.__file__)).name}"


def packages(problems: list[str]) -> Iterator[str]:
    for name in NEEDED:
        found = version_of(name)
        if found is None:
            problems.append(f"{name} is not installed: pip install {name}")
        yield f"{name}: {found or 'missing'}"


def optional() -> Iterator[str]:
    for name, use in OPTIONAL.items():
        found = version_of(name)
        yield f"{name}: {found}" if found else f"{name}: not installed; it gives {use}"


def machine() -> Iterator[str]:
    yield f"{platform.platform()}, {os.cpu_count() or 1} processors"
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    yield (
        f"open files: {'unlimited' if soft == unlimited else soft} now, "
        f"{'unlimited' if hard == unlimited else hard} at most"
    )
    if hard not in (unlimited, -1) and hard < FEW_FILES:
        yield f"each client takes one: about {hard - 100} at most (see ulimit -n)"


def adapters() -> Iterator[str]:
    fast, what = fast_adapter()
    if fast is not None:
        yield f"`greenroom run` serves with: websocket ({what})"
    else:
        yield f"`greenroom run` serves with: asgi, which is slower ({what})"
    found = installed()
    for name in sorted(found):
        yield f"{name}: {found[name].value}"
    if not found:
        yield "none are announced"


def settings() -> Iterator[str]:
    values = read_settings()
    names = sorted(name for name in os.environ if name.startswith("GREENROOM_"))
    yield f"from the environment: {', '.join(names) or 'none'}"
    if values.secret is None:
        yield "no GREENROOM_SECRET: sessions end with the process, and one process is the limit"


def application(app: Any, public: Path | None) -> Iterator[str]:
    yield f"public folder: {public or 'none'}"
    yield from app.handlers.report()
    app.seal()
    if app.template is None:
        yield "paths of properties and subscriptions: looked at when the state factory has made one"
    else:
        for one in dangling(app.template):
            yield f"warning: {one.text}" if one.certain else one.text
