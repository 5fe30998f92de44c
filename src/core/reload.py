"""New code in a running app: sessions and their clients live on.

The rule. New code is imported *aside*: every module of the application's folder anew, as fresh
module objects, which register into an app of their own that is never started. Only when all of that
went well the running app adopts what was registered there, in one step on the loop, between turns.
If anything raises, the running app has not been touched, and the old modules are back in
``sys.modules``.

What becomes of what:

==========================  =====================================================================
turns that run or wait      end with the code they were accepted with
jobs, timers                keep their functions, and what these see of their old module
reactions of the bus        run for what they were given already; then the new ones hear
session.on, listen()        stay
sessions                    keep their state; keys that the initial state has now and had not
                            before are added in a turn, so clients get them as a patch; and
                            their classes: new properties and subscriptions are for new sessions
deleted keys, views         stay where they are
removed handlers            ``not_found`` from the next message on
module globals              are new: what shall survive lives in state, or outside of the folder
Settings                    stay, but ``authorize``, which is code
==========================  =====================================================================

With a state factory nobody knows what is new in it: it is asked again for each live session, and
gives that session the keys it lacks.

Threads. The import runs on a thread of its own, one at a time, while the app goes on; what imports
a module of the folder meanwhile (an import inside of a function) may get the new one. :func:`adopt`
is for the loop. Code that never ends while it is imported cannot be stopped: the old goes on, and
its end does not wait for the new.

Clients hear of it by two events, ``gr:broken`` and ``gr:reloaded`` (docs/protocol.md). Whoever
comes while the newest code is broken is told, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextvars import Context
from functools import partial
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from ._turn import Message
from .encode import encode_value
from .errors import Closed
from .exposure import handler, of_application
from .parts import Handler
from .properties import is_calculated
from .state import State, Template
from .types import Lane, Place

if TYPE_CHECKING:
    from .app import App
    from .session import Session

__all__ = ["FromSource", "Reloader", "adopt", "imported_aside"]

Path_: TypeAlias = tuple[str, ...]  # the keys that lead to a value


class Reloader:
    """Keeps one running app at the newest code that works.

    ``load`` imports the application of ``folder`` and returns its app, not started; it is called
    on a thread. ``explain`` makes a text of what it raised.
    """

    def __init__(
        self,
        app: App,
        folder: Path,
        load: Callable[[], App],
        explain: Callable[[BaseException], str] = repr,
    ) -> None:
        self._app = app
        self._folder = folder
        self._load = load
        self._explain = explain
        self._lock = asyncio.Lock()

    async def reload(self) -> bool:
        """Import the code anew and go on with it; False when it does not run and the old does."""
        app = self._app
        async with self._lock:
            try:
                other = await _on_a_thread(partial(Context().run, self._import))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a module raises
                app.broken = self._explain(error)
                app.log.error(f"the new code does not run, the old goes on:\n{app.broken}")
                _tell(app, "gr:broken", {"traceback": app.broken})
                return False
            pages = {label: view.html for label, view in app.views.items()}
            if other is not app:  # what is not of the folder was not imported again
                app.adopt(other)
            app.broken = None
            changed = [label for label, html in pages.items() if app.views[label].html != html]
            _tell(app, "gr:reloaded", {"pages": changed})
            if app.factory is not None:
                for session in tuple(app.sessions.values()):
                    await _ask_factory(app, app.factory, session)
            return True

    def refresh(self) -> None:
        """What pages are made of has changed, not the code: they load themselves again."""
        _tell(self._app, "gr:reloaded", {"pages": True})

    def _import(self) -> App:
        with imported_aside(self._folder):
            return self._load()


async def _on_a_thread(work: Callable[[], App]) -> App:
    """What ``work()`` gives, of a thread that nobody waits for when the program ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[App] = loop.create_future()

    def run() -> None:
        settle: Callable[[], object]
        try:
            settle = partial(done.set_result, work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            settle = partial(done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(tell, settle)
        del settle  # a frame that holds what was raised through it is a circle

    def tell(settle: Callable[[], object]) -> None:
        if not done.done():  # else nobody waits any more
            settle()

    threading.Thread(target=run, name="greenroom-import", daemon=True).start()
    return await done


def _tell(app: App, event: str, data: Any) -> None:
    sessions = tuple(app.sessions.values())
    app.scheduler.count("emitted", len(sessions))
    for session in sessions:
        session.push_event(event, encode_value(data))


# -- importing aside ------------------------------------------------------------------------------


class FromSource(importlib.machinery.SourceFileLoader):
    """Compiles the file itself: what was cached may be of an earlier save in the same second."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Finder(MetaPathFinder):
    """Finds the modules of a folder, to be compiled from source."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if (
            spec is None
            or spec.origin is None
            or not of_application(spec.origin, str(self._folder))
        ):
            return None
        if type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = FromSource(fullname, spec.origin)
        return spec


@contextlib.contextmanager
def imported_aside(folder: Path) -> Generator[None]:
    """Inside the block modules of ``folder`` are imported anew; if it raises the old are back."""
    folder = folder.resolve()
    old = {name: module for name, module in tuple(sys.modules.items()) if _of(module, folder)}
    finder = _Finder(folder)
    importlib.invalidate_caches()  # a file may be new
    for name in old:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    except BaseException:
        for name, module in tuple(sys.modules.items()):
            if _of(module, folder):
                del sys.modules[name]
        sys.modules.update(old)
        raise
    finally:
        sys.meta_path.remove(finder)


def _of(module: Any, folder: Path) -> bool:
    """Whether a module is of the application; also a package without a file of its own."""
    if getattr(module, "__name__", None) == "__main__":
        return False
    file = getattr(module, "__file__", None)
    places = [file] if isinstance(file, str) else list(getattr(module, "__path__", ()))
    return any(of_application(place, str(folder)) for place in places)


# -- adopting -------------------------------------------------------------------------------------


def adopt(app: App, other: App) -> None:
    """:meth:`App.adopt`."""
    if other is app or other.phase != "new":
        raise ValueError("adopt takes another app, which was never started")
    if app.phase != "running":
        raise Closed("an app adopts another while it runs")
    other.seal()
    before, after = app.template, other.template
    app.handlers.adopt(other.handlers)
    app.middlewares = app.scheduler.middlewares = other.middlewares
    app.verifiers = other.verifiers
    app.open_hooks, app.close_hooks = other.open_hooks, other.close_hooks
    app.events.adopt(other.events)
    app.views.update(other.views)
    app.template, app.factory = after, other.factory
    app.settings = app.settings.but(authorize=other.settings.authorize)
    app.log.absorb(other.log)  # what the import printed
    # Its modules hold it, as a global or in closures; it has the same insides from now on.
    other.__dict__ = app.__dict__
    if before is not None and after is not None:
        old = set(_keys(before.open().root))
        added = [path for path in _keys(after.open().root) if path not in old]
        for session in tuple(app.sessions.values()) if added else ():
            _give(session, after, added)


def _keys(state: State, above: Path_ = ()) -> Iterator[Path_]:
    """The paths of all keys, those of nested states behind their own.

    Not of a template's own root: what is read there is copied no more.
    """
    for key, value in state.items():
        yield (*above, key)
        if isinstance(value, State):
            yield from _keys(value, (*above, key))


async def _ask_factory(app: App, factory: Callable[..., Any], session: Session) -> None:
    try:
        template = app.make_template(await app.call(factory))
    except Exception as error:
        app.log.exception("the new state factory failed for a session that is open", error)
    else:
        _give(session, template, [(key,) for key in template.open().root])


def _give(session: Session, template: Template, paths: Sequence[Path_]) -> None:
    """Add what a session lacks of these, in a turn, with values of its own."""

    def add_new_keys(state: State) -> None:
        values = template.open().root
        for path in paths:
            target: Any = state
            value: Any = values
            for key in path[:-1]:
                target, value = target.get(key), value[key]
                if not isinstance(target, State):
                    break  # the session holds something else there
            else:
                if path[-1] not in target and not is_calculated(value, path[-1]):
                    target[path[-1]] = value[path[-1]]

    hook = Handler(handler(inline=True)(add_new_keys), "gr:reloaded", what="hook")
    message = Message(
        "gr:reloaded", None, (hook,), lane=Lane.CONTROL, place=Place.INLINE, wrapped=False
    )
    with contextlib.suppress(Closed):  # it has ended meanwhile
        session.post(message)
