"""Handlers: the functions clients may run, and their names.

Threads. A `HandlerTable` is written while an app is put together, on any one thread, and by ``on``
and ``off`` later; every change makes new dicts and puts them in place in one step, so that
``resolve`` may be called from any thread at any time.

Who is who. An *entry* is a function under one qualified name (``module.name``). Its bare name is
its own as long as no other module has one of the same; the main module wins. What was claimed as
something else (a reaction, query, middleware, verifier, hook, callback or subscriber) is hidden
again, unless it was listed or decorated: then somebody wrote down that browsers may call it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Literal, NamedTuple, cast
from weakref import WeakValueDictionary

from .callbacks import CallbackTable, Heard, Subscription, table_lock
from .current import app_at_hand
from .errors import BadHandler
from .exposure import LIBRARY, discover, handler, is_standard, module_name, options_of
from .middlewares import Middleware
from .parts import Handler
from .plans import (
    describe,
    fill_reaction,
    layers,
    location,
    name_of,
    refuse_parameters,
)
from .state import set_subscriber_adapter
from .subscribers import Subscriber
from .types import HANDLER_NAME

__all__ = [
    "CallbackTable",
    "Handler",
    "HandlerTable",
    "LeftOut",
    "Subscription",
    "check_modules",
    "handler",
]

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Entry:
    handler: Handler
    source: str  # the module it was found in; "" when it was listed
    main: bool
    explicit: bool  # listed or decorated: what else it is registered as does not hide it


class LeftOut(NamedTuple):
    """A function that browsers may not call although its module offers it."""

    name: str
    where: str
    why: str


class HandlerTable(CallbackTable):
    """Everything that answers to a name: handlers, and the subscriptions of ``on``.

    ``expose`` is ``Settings.expose``; ``root`` the folder of the application, where modules do not
    say it themselves.
    """

    def __init__(
        self, expose: Literal["public", "decorated"] = "public", *, root: Path | None = None
    ) -> None:
        super().__init__()
        self._expose = expose
        self._root = root
        self._entries: dict[str, _Entry] = {}  # by qualified name
        self._unfit: dict[str, list[LeftOut]] = {}  # by module
        self._foreign: dict[str, list[str]] = {}  # by module: functions of libraries
        # By id. Weakly: sessions register closures by the thousand. What cannot be held weakly is
        # no plain function, and only those are discovered.
        self._claimed: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._layers: frozenset[int] = frozenset()  # ids of the entries' functions, and below
        #: Parameters that nothing is given to, and why. A function that a module offers and that
        #: wants one is an error, not left out: it was written to be a handler, for another runtime.
        self.refused: Mapping[str, str] = MappingProxyType({})
        self._names: Mapping[str, Handler] = MappingProxyType({})
        self._ambiguous: dict[str, list[Handler]] = {}

    # -- registering --------------------------------------------------------------------------

    def add_module(
        self, module: ModuleType, *, main: bool = False, root: Path | None = None
    ) -> None:
        """Register the public functions of a module as handlers; again: look at it anew.

        Functions that cannot be called as handlers are left out and reported; decorated ones raise
        BadHandler, and so does a module of the standard library. Raises TypeError for something
        that is no module.
        """
        check_module(module)
        source = module_name(module)
        found: dict[str, _Entry] = {}
        unfit: list[LeftOut] = []
        foreign: list[str] = []
        for attribute, fn, why in discover(module, root or self._root):
            if why is LIBRARY:
                foreign.append(f"{source}.{attribute}")
                continue
            if why is not None:
                unfit.append(LeftOut(f"{source}.{attribute}", location(fn), why))
                continue
            options = options_of(fn)
            if options is None and self._expose == "decorated":
                unfit.append(LeftOut(f"{source}.{attribute}", location(fn), "not decorated"))
                continue
            if self.refused and not self._is_claimed(fn):
                refuse_parameters(fn, self.refused)
            try:
                entry = self._entry(fn, attribute, source, main, explicit=options is not None)
            except BadHandler as error:
                if options is not None:
                    raise
                cause = "registered as something else"  # a verifier, say: not meant to be one
                if not self._is_claimed(fn):
                    cause = str(error).removeprefix(f"handler {describe(fn)}").lstrip(": ")
                unfit.append(LeftOut(f"{source}.{attribute}", location(fn), cause))
                continue
            qualified = entry.handler.qualified
            other = found.get(qualified)
            if other is not None and other.handler.fn is not fn:
                raise _twice(qualified, other.handler, entry.handler)
            found[qualified] = entry
        with table_lock:
            kept = {name: e for name, e in self._entries.items() if e.source != source}
            for qualified, entry in found.items():
                listed = kept.get(qualified)
                if listed is None:
                    kept[qualified] = entry
                elif listed.handler.fn is not entry.handler.fn:
                    raise _twice(qualified, listed.handler, entry.handler)
            self._entries = kept
            self._unfit[source] = unfit
            self._foreign[source] = foreign
            self._rebuild()

    def add(self, fn: Function, *, name: str | None = None) -> Handler:
        """Register one function, listed by hand. Raises BadHandler if it cannot be a handler."""
        options = options_of(fn)
        if options is None and self._expose == "decorated":
            raise BadHandler(
                f"handler {describe(fn)} is not decorated with @handler, and "
                f"Settings(expose='decorated') exposes nothing else"
            )
        source = str(getattr(fn, "__module__", None) or type(fn).__module__)
        if source == "__main__":
            source = "main"
        entry = self._entry(fn, name or name_of(fn), source, main=False, explicit=True, listed=True)
        qualified = entry.handler.qualified
        with table_lock:
            other = self._entries.get(qualified)
            if other is not None and other.handler.fn is not fn:
                raise _twice(qualified, other.handler, entry.handler)
            self._entries = {**self._entries, qualified: entry}
            self._rebuild()
        return entry.handler

    def _entry(
        self,
        fn: Any,
        attribute: str,
        source: str,
        main: bool,
        *,
        explicit: bool,
        listed: bool = False,
    ) -> _Entry:
        options = options_of(fn)
        name = options.name if options is not None and options.name is not None else attribute
        handler = Handler(fn, name, qualified=f"{source}.{name}")
        if not HANDLER_NAME.match(name) or "." in name:
            raise BadHandler(
                f"handler {describe(fn)}: {name!r} cannot be the name of a handler; give it one "
                f"with @handler(name=...)"
            )
        return _Entry(handler, "" if listed else source, main, explicit)

    def claim(self, fn: Function) -> None:
        """Say that ``fn`` is registered as something else, and so is no handler by itself.

        Holds for wrappers around it too, and whether it is discovered before or after. Listed and
        decorated handlers stay handlers.
        """
        with table_lock:
            if self._note_claim(fn):
                self._rebuild()

    def _note_claim(self, fn: Any) -> bool:
        """Remember a claim; whether it concerns a handler that is here already."""
        try:
            self._claimed[id(fn)] = fn
        except TypeError:
            return False
        return id(fn) in self._layers

    def on(self, event: str, callback: Function, *, label: str | None = None) -> Subscription:
        subscription = super().on(event, callback, label=label)
        self.claim(callback)
        return subscription

    def adopt(self, other: HandlerTable) -> None:
        """Hold what another table holds, and nothing of what was here; handles end it here."""
        with table_lock:
            for subscription in other.subscriptions:
                subscription.move(self._drop)
            self._entries, self._unfit, self._claimed = other._entries, other._unfit, other._claimed
            self._foreign = other._foreign
            self._subscriptions = other.subscriptions
            self._rebuild()

    # -- making what else runs in turns ---------------------------------------------------------

    def make_middleware(self, fn: Function) -> Middleware:
        """A function that runs around turns. Raises BadHandler if it cannot."""
        return Middleware(fn)

    def make_hook(self, fn: Function, what: str = "hook") -> Handler:
        """A function that runs in a turn of its own (on_open, on_close), injected by name."""
        return Handler(fn, name_of(fn), what=what)

    def make_callback(self, event: str, fn: Function) -> Handler:
        """A reaction or query in a session: one argument for the data, others by name."""
        what = f"reaction to {event!r}"
        return Handler(fn, event, filling=fill_reaction(fn, what), what=what)

    # -- looking up -----------------------------------------------------------------------------

    @property
    def names(self) -> Mapping[str, Handler]:
        """The handlers clients may call, under their bare and their qualified names."""
        return self._names

    @property
    def left_out(self) -> list[LeftOut]:
        """What the registered modules offer and browsers still may not call, and why."""
        result = [item for items in self._unfit.values() for item in items]
        for entry in self._entries.values():
            if not entry.explicit and self._is_claimed(entry.handler.fn):
                handler = entry.handler
                why = "registered as something else; decorate it with @handler to expose it"
                result.append(LeftOut(handler.qualified, handler.where, why))
        return result

    def report(self) -> list[str]:
        """What browsers may call and what was left out: lines for the start-up log and doctor.

        The first line says how many functions are handlers; callbacks of ``on`` follow them.
        """
        known: dict[Handler, list[str]] = {}
        for name, found in self._names.items():
            known.setdefault(found, []).append(name)
        functions = len({id(found.fn) for found in known})
        lines = [f"browsers may call {functions} function{'' if functions == 1 else 's'}"]
        for found, names in sorted(known.items(), key=lambda item: item[0].qualified):
            also = "".join(f", also {name}" for name in names[1:])
            lines.append(f"  {names[0]}  {found.where}{also}")
        for each in self.subscriptions:
            label = "" if each.label is None else f" from {each.label!r}"
            lines.append(f"  on {each.event!r}{label}  {each.handler.where}")
        for name, rivals in sorted(self._ambiguous.items()):
            others = ", ".join(f"{rival.qualified} ({rival.where})" for rival in rivals)
            lines.append(f"  not as {name!r}, which could be any of {others}: use the full name")
        for name, where, why in self.left_out:
            lines.append(f"  left out: {name} ({where}): {why}")
        if foreign := [name for names in self._foreign.values() for name in names]:
            lines.append(f"  left out, since they are parts of libraries: {', '.join(foreign)}")
        return lines

    # -- the index ------------------------------------------------------------------------------

    def _is_claimed(self, fn: Any) -> bool:
        return any(
            claimed.get(id(layer)) is layer
            for layer in layers(fn)
            for claimed in (self._claimed, _subscribers)
        )

    def _rebuild(self) -> None:
        """Make anew what resolve() looks at. Under the lock."""
        entries = self._entries.values()
        self._layers = frozenset(id(each) for e in entries for each in layers(e.handler.fn))
        bare: dict[str, list[_Entry]] = {}
        for entry in entries:
            if entry.explicit or not self._is_claimed(entry.handler.fn):
                bare.setdefault(entry.handler.name, []).append(entry)
        names: dict[str, Handler] = {}
        ambiguous: dict[str, list[Handler]] = {}
        for name, rivals in bare.items():
            first = next((entry for entry in rivals if entry.main), rivals[0])
            if first.main or all(entry.handler.fn is first.handler.fn for entry in rivals):
                names[name] = first.handler
            else:
                ambiguous[name] = [entry.handler for entry in rivals]
        for rivals in bare.values():
            names.update((entry.handler.qualified, entry.handler) for entry in rivals)

        self._names = MappingProxyType(names)
        self._ambiguous = ambiguous
        self._put(self._subscriptions)

    def _first(self) -> dict[str, Heard]:
        return {name: ((None, found),) for name, found in self._names.items()}


def _twice(qualified: str, first: Handler, second: Handler) -> BadHandler:
    return BadHandler(
        f"two functions are called {qualified!r}: {first.where} and {second.where}. Rename one, or "
        f"give it another name with @handler(name=...)"
    )


def check_module(module: object) -> None:
    """Raise TypeError for what is no module, BadHandler for one of the standard library."""
    if not isinstance(module, ModuleType):
        raise TypeError(
            f"init_handlers takes modules, got {module!r:.200}: import the module and pass it, as "
            f"in `import my_handlers; init_handlers(my_handlers)`; single functions are listed "
            f"in App(handlers=[...])"
        )
    if is_standard(module):
        file = getattr(module, "__file__", None) or "built in"
        raise BadHandler(
            f"init_handlers: {module.__name__!r} is a module of the standard library ({file}), "
            f"whose functions nobody may call. If a file of yours has that name, rename it"
        )


def check_modules(modules: object) -> list[ModuleType]:
    """What init_handlers takes, as a list. Raises like check_module."""
    given: list[object] = [modules]
    if isinstance(modules, Iterable) and not isinstance(modules, (str, bytes, Mapping, ModuleType)):
        given = list(cast("Iterable[object]", modules))
    for module in given:
        check_module(module)
    return cast("list[ModuleType]", given)


# Subscribers of the state are injected like handlers, from whatever turn makes the assignment; and
# they are no handlers by themselves. A state may be made, and subscribed to, before there is an
# app: so these claims are known to all tables.
_subscribers: WeakValueDictionary[int, Any] = WeakValueDictionary()


def _subscriber(fn: Function) -> Subscriber:
    subscriber = Subscriber(fn)
    with suppress(TypeError):  # what cannot be held weakly is no plain function
        _subscribers[id(fn)] = fn
    app = app_at_hand()
    if app is not None:
        app.handlers.claim(fn)
    return subscriber


set_subscriber_adapter(_subscriber)
