"""From what was typed behind `greenroom run` to an app: find it, import it, register it.

Everything that can be wrong has a message that says what to do and an exit code of its own. When
the user's own module raises, its traceback is shown without our frames and those of `import`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from ..core.app import App
from ..core.errors import GreenroomError
from ..core.exposure import application_root
from ..core.log import AppLog
from ..core.reload import FromSource
from ..core.settings import Settings
from . import IMPORT_FAILED, NOT_AN_APP, NOT_FOUND, PERMISSION, USAGE, CommandError
from .imports import forget, importing, misleading_names

__all__ = ["Loaded", "load", "read_settings", "unload"]

OURS: Final = str(Path(__file__).resolve().parents[1])
SPEC: Final = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)\Z")
DOTTED: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+\Z")


class Loaded(NamedTuple):
    """An app that is ready to start."""

    app: App
    title: str
    public: Path | None  #: the folder beside main.py, where there is one
    folder: Path  #: of its modules
    path: str | None = None  #: what this added to sys.path


def read_settings(**overrides: Any) -> Settings:
    """Settings from the environment. Raises CommandError that names the wrong variable."""
    try:
        return Settings.from_env(**overrides)
    except ValueError as error:
        raise CommandError(USAGE, str(error)) from None


def load(target: str, settings: Settings) -> Loaded:
    """The app that ``target`` names. Raises CommandError."""
    path = Path(target)
    try:
        exists = path.exists()
    except PermissionError:
        raise CommandError(PERMISSION, f"{target} may not be read") from None
    except (OSError, ValueError) as error:
        raise CommandError(NOT_FOUND, f"{target!r} cannot be looked at: {error}") from None
    if not target.strip():
        raise CommandError(USAGE, "the path is empty: name a file or a folder, or . for this one")
    spec = SPEC.match(target)
    if spec is not None and not exists:
        if spec[1].endswith(".py") and Path(spec[1]).is_file():
            module = spec[1].removesuffix(".py")
            message = f"a file is named without an object: {spec[1]}, or {module}:{spec[2]}"
            raise CommandError(NOT_FOUND, message)
        return _from_spec(spec[1], spec[2], settings)
    if not exists:
        raise CommandError(NOT_FOUND, _not_found(target))
    if path.is_dir():
        path /= "main.py"
        if not _is_file(path, target):
            raise CommandError(
                NOT_FOUND, f"the folder {target} has no main.py; name the file that should run"
            )
    if path.suffix != ".py":
        raise CommandError(NOT_AN_APP, f"{target} is no Python file: its name must end in .py")
    return _from_file(path.resolve(), settings)


def _is_file(path: Path, target: str) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        raise CommandError(PERMISSION, f"{target} may not be read") from None


def _not_found(target: str) -> str:
    message = f"there is no file or folder {target!r} in {Path.cwd()}"
    if DOTTED.match(target) and not target.endswith(".py"):
        message += f"; for an app in a module say {target}:app"
    return message


def unload(loaded: Loaded) -> None:
    """Take back what :func:`load` left behind: for hosts that go on without the app."""
    forget(loaded.path, loaded.folder)


# -- a file ---------------------------------------------------------------------------------------


def _from_file(path: Path, settings: Settings) -> Loaded:
    """Import a file as the module it is, with a new app as the current one."""
    top = path.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    package = path.relative_to(top).parent.parts
    root = top / package[0] if package else top
    app = App(settings=settings, root=root)
    for problem in misleading_names(top, path):
        app.log.warning(problem)
    with app.registering(), importing(top, root) as added:
        module = _import(lambda: _import_file(package, path), path.name)
        own = getattr(module, "app", None)
        if isinstance(own, App):
            _check_unused(app, path.name)
            own.log.absorb(app.log)
            app = own  # it brings its own: what it has registered is what it serves
            if settings.debug:
                app.settings = app.settings.but(debug=True)
        else:
            if _is_of_writer(module):  # though it may have called none of the old verbs
                from ..compat.writer.absent import PARAMETERS

                app.handlers.refused = PARAMETERS
            try:
                app.handlers.add_module(module, main=True, root=root)
            except (GreenroomError, TypeError) as error:
                raise CommandError(IMPORT_FAILED, f"{path.name}: {error}") from None
    public = path.parent / "public"
    title = path.parent.name or path.stem
    return Loaded(app, title, public if public.is_dir() else None, root, added)


def _is_of_writer(module: ModuleType) -> bool:
    """Whether it has imported ``greenroom.compat.writer`` or a name of it."""
    for value in vars(module).values():
        if isinstance(value, ModuleType):
            home: object = value.__name__
        elif isinstance(value, (type, FunctionType)):
            home = value.__module__
        else:
            continue
        if isinstance(home, str) and home.startswith("greenroom.compat.writer"):
            return True
    return False


def _check_unused(app: App, file: str) -> None:
    """Raise CommandError when something was registered in the place of the file's own app."""
    used = {
        "middleware": app.middlewares,
        "session_verifier": app.verifiers,
        "on_open": app.open_hooks,
        "on_close": app.close_hooks,
        "on": app.handlers.subscriptions,
        "init_handlers": app.handlers.names,
        "show": app.views,
    }
    if names := ", ".join(f"gr.{name}" for name, registered in used.items() if registered):
        raise CommandError(
            IMPORT_FAILED,
            f"{file} makes an App of its own, so what it registers with {names} would be nobody's: "
            "use the methods of that app, or make none",
        )


def _import_file(package: tuple[str, ...], path: Path) -> ModuleType:
    if package:
        return importlib.import_module(".".join([*package, path.stem]))
    name = re.sub(r"\W", "_", path.stem)
    while name in sys.modules or name in sys.stdlib_module_names:
        name += "_app"  # a file called like another module: that one stays
    spec = importlib.util.spec_from_file_location(name, path, loader=FromSource(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


# -- module:name ----------------------------------------------------------------------------------


def _from_spec(module_name: str, attribute: str, settings: Settings) -> Loaded:
    """An App, or what a factory makes."""
    log = AppLog()  # of the time before there is an app
    with log.capturing(), importing(Path.cwd()) as added:
        module, value = _find(module_name, attribute)
    value.log.absorb(log)
    if settings.debug:
        value.settings = value.settings.but(debug=True)
    place = Path(getattr(module, "__file__", None) or ".").resolve().parent
    public = place / "public"
    root = application_root(module) or place
    return Loaded(value, module_name, public if public.is_dir() else None, root, added)


def _find(module_name: str, attribute: str) -> tuple[ModuleType, App]:
    try:
        found = importlib.util.find_spec(module_name)
    except ModuleNotFoundError:
        found = None
    except Exception:  # noqa: BLE001 -- a parent package that fails: shown below
        found = importlib.util.spec_from_loader(module_name, None)
    if found is None:
        raise CommandError(NOT_FOUND, f"there is no module {module_name!r} in {Path.cwd()}")
    value: Any = _import(lambda: importlib.import_module(module_name), module_name)
    module = value
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise CommandError(NOT_FOUND, f"the module {module_name} has no {attribute!r}")
        value = getattr(value, part)
    if not isinstance(value, App) and callable(value):
        factory: Callable[[], Any] = value
        value = _import(factory, f"{module_name}:{attribute}")
    if not isinstance(value, App):
        kind = type(value).__name__
        if inspect.iscoroutine(value):
            value.close()  # an async factory: nobody will await it
        raise CommandError(
            NOT_AN_APP,
            f"{module_name}:{attribute} is no app but a {kind}: name an App, or a function "
            f"without arguments that returns one",
        )
    return module, value


# -- the user's code ------------------------------------------------------------------------------


def _import(work: Callable[[], Any], what: str) -> Any:
    """Run the user's code; what it raises is shown as if we were not there."""
    try:
        return work()
    except PermissionError as error:
        if error.filename is not None and str(error.filename).endswith(what):
            raise CommandError(PERMISSION, f"{error.filename} may not be read") from None
        raise CommandError(IMPORT_FAILED, _report(error, what)) from None
    except SystemExit as error:
        raise CommandError(
            IMPORT_FAILED, f"{what} ended the program itself, with exit code {error.code}"
        ) from None
    except Exception as error:  # noqa: BLE001 -- whatever a module raises is shown
        raise CommandError(IMPORT_FAILED, _report(error, what)) from None


def _report(error: BaseException, what: str) -> str:
    report = traceback.TracebackException.from_exception(error)
    _strip(report)
    text = f"{what} could not be imported\n\n" + "".join(report.format()).rstrip()
    if isinstance(error, ImportError) and "no known parent package" in str(error):
        text += (
            f"\n\n{what} is no part of a package: write `import helpers` for the file beside it, "
            "or make its folder a package with a file __init__.py"
        )
    return text


def _strip(report: traceback.TracebackException) -> None:
    """Take our frames and those of the import system out, in causes too."""
    kept = [
        frame
        for frame in report.stack
        if not frame.filename.startswith(("<frozen importlib", "<frozen runpy"))
        and not str(Path(frame.filename).resolve()).startswith(OURS)
    ]
    report.stack = traceback.StackSummary.from_list(kept)
    for other in (report.__cause__, report.__context__):
        if other is not None:
            _strip(other)
