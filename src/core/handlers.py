"""Handlers: the functions clients may run, their names, and who hears which event.

Threads. A `HandlerTable` is written while an app is put together, on any one thread, and by ``on``
and ``off`` later; every change makes new dicts and puts them in place in one step, so that
``resolve`` may be called from any thread at any time.

Who is who. An *entry* is a function under one qualified name (``module.name``). Its bare name is
its own as long as no other module has one of the same; the main module wins. What was claimed as
something else (a reaction, query, middleware, verifier, hook, callback or subscriber) is hidden
again, unless it was listed or decorated: then somebody wrote down that browsers may call it.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final, Literal, NamedTuple

from ._fast import CallPlan
from .errors import BadHandler
from .exposure import Options, discover, module_name, options_of
from .middlewares import Middleware
from .payloads import converter
from .plans import (
    INJECTABLE,
    Filling,
    describe,
    fill_by_name,
    fill_callback,
    fill_reaction,
    is_async,
    layers,
    location,
    name_of,
)
from .types import DEFAULT_LABEL, EVENT_NAME, HANDLER_NAME, Place, Slot

__all__ = ["Handler", "HandlerTable", "LeftOut", "Subscription"]

Function = Callable[..., Any]

EVERYTHING: Final = "*"
RESERVED: Final = "gr:"


class Handler:
    """A function as a turn calls it."""

    __slots__ = (
        "answers",
        "concurrent",
        "fn",
        "is_async",
        "name",
        "place",
        "plan",
        "qualified",
        "where",
    )

    fn: Function
    plan: CallPlan
    place: Place  # async: LOOP, sync: WORKER, inline: INLINE
    is_async: bool
    concurrent: bool  # starts beside the session's turns
    answers: bool  # False for a listener to everything: its result is dropped
    name: str  # what clients call it; for callbacks the event
    qualified: str  # module.name
    where: str  # file:line

    def __init__(
        self,
        fn: Function,
        name: str,
        *,
        qualified: str = "",
        filling: Filling[Slot] | None = None,
        what: str = "handler",
        answers: bool = True,
    ) -> None:
        options = options_of(fn) or Options()
        if filling is None:
            filling = fill_by_name(fn, INJECTABLE, what, payload=Slot.PAYLOAD)
        self.fn = fn
        self.is_async = _is_coroutine_function(fn, options, what)
        convert = converter(fn, filling.payloads, what)
        target = fn if answers else _without_answer(fn, self.is_async)
        self.plan = CallPlan(target, filling.positional, filling.keywords, convert)
        self.place = (
            Place.LOOP if self.is_async else Place.INLINE if options.inline else Place.WORKER
        )
        self.concurrent = options.concurrent
        self.answers = answers
        self.name = name
        self.qualified = qualified or name
        self.where = location(fn)

    def __repr__(self) -> str:
        return f"<Handler {self.qualified} {self.place.name} {self.where}>"


def _is_coroutine_function(fn: Any, options: Options, what: str) -> bool:
    for layer in layers(fn):
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            raise BadHandler(
                f"{what} {describe(fn)} is a generator: clients would get no answer. Assign state "
                f"as the work goes on, and return the result"
            )
    found = is_async(fn)
    if found and options.inline:
        raise BadHandler(f"{what} {describe(fn)} is async: drop inline=True, it runs on the loop")
    return found


def _without_answer(fn: Function, coroutine: bool) -> Function:
    """``fn``, whose result nobody gets."""
    if coroutine:

        async def listen(*args: Any, **kwargs: Any) -> None:
            await fn(*args, **kwargs)

        return listen

    async def finish(result: Awaitable[Any]) -> None:
        await result

    def hear(*args: Any, **kwargs: Any) -> Awaitable[None] | None:
        result = fn(*args, **kwargs)
        return finish(result) if inspect.isawaitable(result) else None

    return hear


class Subscription:
    """What ``on`` returns: ``off()`` ends it; more than once is fine."""

    __slots__ = ("_end", "event", "handler", "label")

    def __init__(
        self,
        event: str,
        handler: Handler,
        label: str | None,
        end: Callable[[Subscription], None],
    ) -> None:
        self._end = end
        self.event = event
        self.handler = handler
        self.label = label

    def off(self) -> None:
        """Stop hearing the event. A turn that has begun still runs the callback."""
        self._end(self)

    def __repr__(self) -> str:
        return f"<Subscription {self.event!r} label={self.label!r} {self.handler.where}>"


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


class HandlerTable:
    """Everything that answers to a name: handlers, and the subscriptions of ``on``.

    ``expose`` is ``Settings.expose``; ``root`` the folder of the application, where modules do not
    say it themselves.
    """

    def __init__(
        self, expose: Literal["public", "decorated"] = "public", *, root: Path | None = None
    ) -> None:
        self._expose = expose
        self._root = root
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}  # by qualified name
        self._unfit: dict[str, list[LeftOut]] = {}  # by module
        self._claimed: dict[int, Any] = {}  # by id; held, so that an id stays theirs
        self._subscriptions: tuple[Subscription, ...] = ()
        # What resolve() looks at; replaced as a whole.
        self._names: Mapping[str, Handler] = MappingProxyType({})
        self._ambiguous: dict[str, list[Handler]] = {}
        self._fixed: dict[str, tuple[Handler, ...]] = {}
        self._by_label: dict[str, tuple[tuple[str | None, Handler], ...]] = {}
        self._everything: tuple[tuple[str | None, Handler], ...] = ()

    # -- registering --------------------------------------------------------------------------

    def add_module(
        self, module: ModuleType, *, main: bool = False, root: Path | None = None
    ) -> None:
        """Register the public functions of a module as handlers; again: look at it anew.

        Functions that cannot be called as handlers are left out and reported; decorated ones raise
        BadHandler. Raises TypeError for something that is no module.
        """
        if not isinstance(module, ModuleType):
            raise TypeError(
                f"init_handlers takes modules, got {module!r}: import the module and pass it, as "
                f"in `import my_handlers; init_handlers(my_handlers)`; single functions are listed "
                f"in App(handlers=[...])"
            )
        source = module_name(module)
        found: dict[str, _Entry] = {}
        unfit: list[LeftOut] = []
        for attribute, fn in discover(module, root or self._root):
            options = options_of(fn)
            if options is None and self._expose == "decorated":
                unfit.append(LeftOut(f"{source}.{attribute}", location(fn), "not decorated"))
                continue
            try:
                entry = self._entry(fn, attribute, source, main, explicit=options is not None)
            except BadHandler as error:
                if options is not None:
                    raise
                why = str(error).removeprefix(f"handler {describe(fn)}").lstrip(": ")
                unfit.append(LeftOut(f"{source}.{attribute}", location(fn), why))
                continue
            qualified = entry.handler.qualified
            other = found.get(qualified)
            if other is not None and other.handler.fn is not fn:
                raise _twice(qualified, other.handler, entry.handler)
            found[qualified] = entry
        with self._lock:
            kept = {name: e for name, e in self._entries.items() if e.source != source}
            for qualified, entry in found.items():
                listed = kept.get(qualified)
                if listed is None:
                    kept[qualified] = entry
                elif listed.handler.fn is not entry.handler.fn:
                    raise _twice(qualified, listed.handler, entry.handler)
            self._entries = kept
            self._unfit[source] = unfit
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
        with self._lock:
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
        with self._lock:
            self._claimed[id(fn)] = fn
            self._rebuild()

    def on(self, event: str, callback: Function, *, label: str | None = None) -> Subscription:
        """Run ``callback`` for ``event``: ``namespace:name``, a handler's plain name, or ``*``.

        ``label``: only when it comes from the view of that label. Raises BadHandler for a callback
        that cannot be called, ValueError for a name no event has.
        """
        _check_event(event)
        what = f"callback of {event!r}"
        handler = Handler(
            callback,
            event,
            qualified=f"{getattr(callback, '__module__', '')}.{name_of(callback)}",
            filling=fill_callback(callback, what),
            what=what,
            answers=event != EVERYTHING,
        )
        subscription = Subscription(event, handler, label, self._drop)
        with self._lock:
            self._claimed[id(callback)] = callback
            self._subscriptions = (*self._subscriptions, subscription)
            self._rebuild()
        return subscription

    def _drop(self, subscription: Subscription) -> None:
        with self._lock:
            left = tuple(s for s in self._subscriptions if s is not subscription)
            if len(left) != len(self._subscriptions):
                self._subscriptions = left
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

    def resolve(self, event: str, label: str | None = DEFAULT_LABEL) -> tuple[Handler, ...] | None:
        """What runs for ``event`` from the view ``label``, in order; None: nothing does.

        The handler of that name comes first, then callbacks in the order they were registered.
        """
        found = self._fixed.get(event)
        if found is not None:
            return found
        entries = self._by_label.get(event)
        if entries is None:
            entries = self._everything
        return tuple([h for only, h in entries if only is None or only == label]) or None

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
        """What browsers may call and what was left out: lines for the start-up log and doctor."""
        names: dict[Handler, list[str]] = {}
        for name, handler in self._names.items():
            names.setdefault(handler, []).append(name)
        functions = len({id(handler.fn) for handler in names})
        lines = [f"browsers may call {functions} function{'' if functions == 1 else 's'}"]
        for handler, known in sorted(names.items(), key=lambda item: item[0].qualified):
            also = "".join(f", also {name}" for name in known[1:])
            lines.append(f"  {known[0]}  {handler.where}{also}")
        for name, handlers in sorted(self._ambiguous.items()):
            rivals = ", ".join(f"{handler.qualified} ({handler.where})" for handler in handlers)
            lines.append(f"  not as {name!r}, which could be any of {rivals}: use the full name")
        for name, where, why in self.left_out:
            lines.append(f"  left out: {name} ({where}): {why}")
        return lines

    # -- the index ------------------------------------------------------------------------------

    def _is_claimed(self, fn: Any) -> bool:
        return any(id(layer) in self._claimed for layer in layers(fn))

    def _rebuild(self) -> None:
        """Make anew what resolve() looks at. Under the lock."""
        bare: dict[str, list[_Entry]] = {}
        for entry in self._entries.values():
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

        heard: dict[str, list[tuple[str | None, Handler]]] = {}
        everything: list[tuple[str | None, Handler]] = []
        for name, handler in names.items():
            heard[name] = [(None, handler)]
        for subscription in self._subscriptions:
            if subscription.event != EVERYTHING:
                heard.setdefault(subscription.event, [])
        for subscription in self._subscriptions:
            item = (subscription.label, subscription.handler)
            if subscription.event == EVERYTHING:
                everything.append(item)
                for items in heard.values():
                    items.append(item)
            else:
                heard[subscription.event].append(item)

        self._fixed = {
            event: tuple(handler for _, handler in items)
            for event, items in heard.items()
            if all(only is None for only, _ in items)
        }
        self._by_label = {
            event: tuple(items) for event, items in heard.items() if event not in self._fixed
        }
        self._everything = tuple(everything)
        self._names = MappingProxyType(names)
        self._ambiguous = ambiguous


def _twice(qualified: str, first: Handler, second: Handler) -> BadHandler:
    return BadHandler(
        f"two functions are called {qualified!r}: {first.where} and {second.where}. Rename one, or "
        f"give it another name with @handler(name=...)"
    )


def _check_event(event: str) -> None:
    if event == EVERYTHING:
        return
    if event.startswith(RESERVED):
        raise ValueError(f"{event!r}: names that begin with gr: belong to the protocol")
    if not (EVENT_NAME.match(event) or HANDLER_NAME.match(event)):
        raise ValueError(
            f"{event!r} is no event: use namespace:name, a handler's plain name, or * for all"
        )
