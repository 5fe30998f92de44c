"""What a function wants: which injectable value each of its parameters gets.

Everything here happens once, when a function is registered. A function is asked through
``inspect.signature``, layer by layer, so that wrappers, partials, bound methods and callable
objects all say what they want; the answer is a `Filling`, out of which a compiled ``CallPlan``
(for turns) or an `Injected` (for what runs outside of turns) is made. A parameter nothing can
be given to is an error now, with the place in the source, not later when a browser calls.

Three rules fill parameters:

- `fill_by_name`: handlers, middlewares, hooks, verifiers, subscribers;
- `fill_callback`: callbacks of ``on()``, by name or by position;
- `fill_reaction`: signals and queries in a session, the data and then names.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from inspect import Parameter
from typing import Any, Final, Generic, TypeVar

from .errors import BadHandler
from .types import Slot

__all__ = [
    "INJECTABLE",
    "Filling",
    "Injected",
    "Wanted",
    "call_injected",
    "describe",
    "fill_by_name",
    "fill_callback",
    "fill_reaction",
    "is_async",
    "layers",
    "location",
    "name_of",
    "plan_for",
    "refuse_parameters",
    "wanted",
]

T = TypeVar("T")
Function = Callable[..., Any]

INJECTABLE: Final[Mapping[str, Slot]] = types.MappingProxyType(
    {
        "state": Slot.STATE,
        "payload": Slot.PAYLOAD,
        "data": Slot.PAYLOAD,
        "context": Slot.CONTEXT,
        "session": Slot.SESSION,
        "app": Slot.APP,
        "event_type": Slot.EVENT_TYPE,
        "label": Slot.LABEL,
    }
)
BY_POSITION: Final = (Slot.PAYLOAD, Slot.EVENT_TYPE, Slot.LABEL)  # of a callback of on()
COLLECTING: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


# -- naming functions in messages -----------------------------------------------------------------


def layers(fn: Any) -> Iterator[Any]:
    """``fn`` and, from the outside in, what it wraps, binds or calls."""
    seen: set[int] = set()
    while fn is not None and id(fn) not in seen:
        seen.add(id(fn))
        yield fn
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif isinstance(fn, types.MethodType):
            fn = fn.__func__
        elif (inner := getattr(fn, "__wrapped__", None)) is not None:
            fn = inner
        elif isinstance(fn, (types.FunctionType, types.BuiltinFunctionType, type)):
            fn = None
        else:
            fn = _call_of(fn)


def name_of(fn: Any) -> str:
    """What to call it in a message; ``<...>`` for things without a name."""
    for layer in layers(fn):
        if isinstance(name := getattr(layer, "__name__", None), str) and name != "__call__":
            return name
    return f"<{type(fn).__name__}>"


def location(fn: Any) -> str:
    """``file:line`` of the innermost function, or of its module where there is no source."""
    for layer in reversed(list(layers(fn))):
        if (code := getattr(layer, "__code__", None)) is not None:
            return f"{code.co_filename}:{code.co_firstlineno}"
    return str(getattr(fn, "__module__", None) or type(fn).__module__)


def describe(fn: Any) -> str:
    """``name (file:line)``, for messages."""
    return f"{name_of(fn)} ({location(fn)})"


def is_async(fn: Any) -> bool:
    """Whether calling it gives a coroutine, seen from the outermost layer."""
    if inspect.iscoroutinefunction(fn):
        return True
    while isinstance(fn, functools.partial):
        fn = fn.func
    return not isinstance(fn, type) and inspect.iscoroutinefunction(_call_of(fn))


def _call_of(instance: object) -> Any:
    """The function a callable object runs."""
    return inspect.getattr_static(type(instance), "__call__", None)


# -- asking a function ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """One parameter, and which layer of the function declares it."""

    name: str
    kind: Any  # one of Parameter's kinds
    default: Any  # Parameter.empty when there is none
    annotation: Any
    owner: Any

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is Parameter.empty

    @property
    def collecting(self) -> bool:
        """Whether it is ``*args`` or ``**kwargs``."""
        return self.kind in COLLECTING

    def by_keyword(self) -> Wanted:
        return replace(self, kind=Parameter.KEYWORD_ONLY)


def wanted(fn: Function, what: str = "handler") -> list[Wanted]:
    """The parameters a caller of ``fn`` must think of.

    A wrapper that names its parameters is called with those. One that collects them with ``*args``
    and ``**kwargs`` hands on what the function it wraps wants. Raises BadHandler where a wrapper
    cannot hand on what is wanted, and for things without a signature.
    """
    if not callable(fn):
        raise BadHandler(f"{what} {fn!r} is not callable: pass the function itself")
    if isinstance(fn, type):
        raise BadHandler(f"{what} {describe(fn)} is a class: pass a function, or an instance")
    inner = _wrapped(fn)
    try:
        own = _own(fn)
    except (TypeError, ValueError) as error:  # builtins, and wrappers in C
        if inner is not None:
            return wanted(inner, what)
        raise BadHandler(
            f"{what} {describe(fn)} does not tell its parameters ({error}): wrap it in a function"
        ) from None
    collecting = {want.kind for want in own if want.collecting}
    if inner is None or not collecting:
        return own
    rest = wanted(inner, what)
    if isinstance(fn, types.MethodType) and rest and not rest[0].collecting:
        rest = rest[1:]  # what it wraps was written with `self`
    named = [want for want in own if not want.collecting]
    names = [want.name for want in named]
    passed = [want for want in rest if want.name not in names]
    if not named:
        return _handed_on(fn, inner, passed, collecting, what)
    if Parameter.VAR_KEYWORD in collecting:
        more = [want if want.collecting else want.by_keyword() for want in passed]
        return named + _handed_on(fn, inner, more, collecting, what)
    if [want.name for want in rest[: len(names)]] == names:
        return named + _handed_on(fn, inner, rest[len(names) :], collecting, what)
    raise BadHandler(
        f"{what} {describe(inner)} is wrapped by {_bare(fn)}, which names {_list(names)} and takes "
        f"the others as *args: their order is not known. Let the wrapper take **kwargs too"
    )


def _own(fn: Function) -> list[Wanted]:
    """The parameters of the outermost layer alone."""
    target: Any = fn
    bound: Iterable[str] = ()
    if isinstance(fn, functools.partial):
        bound = fn.keywords
        bind: Any = functools.partial
        target = bind(fn.func, *fn.args, **fn.keywords)  # without a __wrapped__
    signature = _signature(target, follow=isinstance(fn, functools.partial))
    return [
        Wanted(p.name, p.kind, p.default, p.annotation, fn)
        for p in signature.parameters.values()
        if p.name not in bound
    ]


def _signature(fn: Any, *, follow: bool) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # an annotation nobody can resolve must not hide the names
        import annotationlib

        return inspect.signature(
            fn, follow_wrapped=follow, annotation_format=annotationlib.Format.FORWARDREF
        )
    return inspect.signature(fn, follow_wrapped=follow)


def _wrapped(fn: Any) -> Any:
    """What a wrapper made with functools.wraps wraps. A partial was followed by its signature."""
    if isinstance(fn, functools.partial):
        return None
    if isinstance(fn, types.MethodType):
        return getattr(fn.__func__, "__wrapped__", None)
    return getattr(fn, "__wrapped__", None)


def _handed_on(
    fn: Any, inner: Any, wants: list[Wanted], collecting: set[Any], what: str
) -> list[Wanted]:
    """What the wrapper ``fn`` can hand on to ``inner``, through the forms it collects."""
    result = [want for want in wants if not want.collecting]
    if Parameter.VAR_KEYWORD not in collecting:
        lost = [w.name for w in result if w.kind is Parameter.KEYWORD_ONLY and w.required]
        result = [w for w in result if w.kind is not Parameter.KEYWORD_ONLY]
    elif Parameter.VAR_POSITIONAL not in collecting:
        lost = [w.name for w in result if w.kind is Parameter.POSITIONAL_ONLY and w.required]
        result = [w.by_keyword() for w in result if w.kind is not Parameter.POSITIONAL_ONLY]
    else:
        lost = []
    if lost:
        raise BadHandler(
            f"{what} {describe(inner)} wants {_list(lost)}, which its wrapper {_bare(fn)} cannot "
            f"hand on: let the wrapper take *args and **kwargs"
        )
    return result


def refuse_parameters(fn: Function, refused: Mapping[str, str], what: str = "handler") -> None:
    """Raise BadHandler when ``fn`` wants one of ``refused``, with or without a default."""
    try:
        wants = wanted(fn, what)
    except BadHandler:
        return  # whoever makes a plan for it says what is wrong
    for want in wants:
        if want.name in refused and not want.collecting:
            raise BadHandler(
                f"{what} {describe(fn)} wants {want.name!r}, which is not here: "
                f"{refused[want.name]}"
            )


# -- filling parameters ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filling(Generic[T]):
    """How to call a function: what goes to the leading arguments, and what to which keyword."""

    positional: tuple[T, ...]
    keywords: tuple[tuple[str, T], ...]
    payloads: tuple[Wanted, ...] = ()  # the parameters that get the payload


def fill_by_name(
    fn: Function, available: Mapping[str, T], what: str = "handler", *, payload: T | None = None
) -> Filling[T]:
    """Give every parameter what ``available`` has under its name; leave other defaults alone.

    ``payload`` is the value whose parameters are listed in the filling. Raises BadHandler for a
    parameter that has neither a name that is available nor a default.
    """
    wants = wanted(fn, what)
    if wants and all(want.collecting for want in wants):
        raise BadHandler(
            f"{what} {describe(fn)} takes only *args or **kwargs, so it is not known what to give "
            f"it. If it is a wrapper, make it with functools.wraps"
        )
    return _fill(fn, wants, available, what, payload)


def _fill(
    fn: Function,
    wants: Iterable[Wanted],
    available: Mapping[str, T],
    what: str,
    payload: T | None,
) -> Filling[T]:
    positional: list[T] = []
    keywords: list[tuple[str, T]] = []
    payloads: list[Wanted] = []
    missing: list[str] = []
    gap = False  # a default was left alone: what comes behind it goes by keyword
    for want in wants:
        if want.collecting:
            continue
        if want.name not in available:
            if want.required:
                missing.append(want.name)
            gap = gap or want.kind is not Parameter.KEYWORD_ONLY
            continue
        value = available[want.name]
        if value == payload:
            payloads.append(want)
        if want.kind is Parameter.KEYWORD_ONLY or (
            gap and want.kind is Parameter.POSITIONAL_OR_KEYWORD
        ):
            keywords.append((want.name, value))
        elif not gap:
            positional.append(value)
        elif not missing:
            raise BadHandler(
                f"{what} {describe(fn)}: {want.name!r} is positional-only behind a parameter that "
                f"keeps its default. Put it first, or drop the `/`"
            )
    if missing:
        raise BadHandler(
            f"{what} {describe(fn)}: nothing can be given to {_list(missing)}. Injectable are "
            f"{_list(available)}; give other parameters a default"
        )
    return Filling(tuple(positional), tuple(keywords), tuple(payloads))


def fill_callback(fn: Function, what: str = "callback") -> Filling[Slot]:
    """A callback of ``on()``: all by name, or ``(data[, event_type[, label]])`` by position.

    Which of the two is decided by the parameters' names. Raises BadHandler for a mixture.
    """
    wants = wanted(fn, what)
    known = [want for want in wants if want.name in INJECTABLE and not want.collecting]
    others = [w for w in wants if w.name not in INJECTABLE and w.required and not w.collecting]
    rest = any(want.kind is Parameter.VAR_POSITIONAL for want in wants)
    if known and others:
        raise BadHandler(
            f"{what} {describe(fn)} mixes names that are injected ({_names(known)}) with others "
            f"({_names(others)}). Name all parameters out of {_list(INJECTABLE)}; or none, and get "
            f"the data, the event type and the label by position"
        )
    if known or not (others or rest):
        return fill_by_name(fn, INJECTABLE, what, payload=Slot.PAYLOAD)
    keyword_only = [want for want in others if want.kind is Parameter.KEYWORD_ONLY]
    if keyword_only:
        raise BadHandler(
            f"{what} {describe(fn)}: nothing can be given to {_names(keyword_only)}, which is "
            f"keyword-only. Injectable by name are {_list(INJECTABLE)}"
        )
    if len(others) > len(BY_POSITION):
        raise BadHandler(
            f"{what} {describe(fn)} takes {len(others)} arguments ({_names(others)}); by position "
            f"there are three: the data, the event type and the label"
        )
    return Filling(BY_POSITION if rest else BY_POSITION[: len(others)], (), tuple(others[:1]))


def fill_reaction(fn: Function, what: str = "reaction") -> Filling[Slot]:
    """A reaction or query that runs in a session: one parameter for the data, others by name."""
    wants = wanted(fn, what)
    others = [w for w in wants if w.required and not w.collecting and w.name not in INJECTABLE]
    named = [w for w in wants if INJECTABLE.get(w.name) is Slot.PAYLOAD]
    if not others:
        return fill_by_name(fn, INJECTABLE, what, payload=Slot.PAYLOAD)
    if len(others) > 1 or named:
        raise BadHandler(
            f"{what} {describe(fn)} takes one argument for the data, not "
            f"{_names([*named, *others])}. Injectable by name are {_list(INJECTABLE)}"
        )
    available = {**INJECTABLE, others[0].name: Slot.PAYLOAD}
    return fill_by_name(fn, available, what, payload=Slot.PAYLOAD)


# -- calling outside of turns ---------------------------------------------------------------------


class Injected:
    """A function that is called with those of some named values that it wants."""

    __slots__ = ("_keywords", "_positional", "fn", "is_async")

    def __init__(self, fn: Function, filling: Filling[str]) -> None:
        self.fn = fn
        self.is_async = is_async(fn)
        self._positional = filling.positional
        self._keywords = filling.keywords

    def __call__(self, **available: Any) -> Any:
        """Call the function; it gets the values it names, the others are dropped."""
        return self.fn(
            *[available[name] for name in self._positional],
            **{name: available[value] for name, value in self._keywords},
        )

    def __repr__(self) -> str:
        return f"<Injected {describe(self.fn)}>"


def plan_for(fn: Function, allowed: Iterable[str], what: str = "function") -> Injected:
    """Make ``fn`` callable with the values of ``allowed`` names that it wants.

    Raises BadHandler for a parameter that is neither allowed nor has a default.
    """
    return Injected(fn, fill_by_name(fn, {name: name for name in allowed}, what))


def call_injected(fn: Function, /, **available: Any) -> Any:
    """Call ``fn`` once with those of ``available`` that it names. For calls that are rare."""
    return plan_for(fn, available)(**available)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _names(wants: Iterable[Wanted]) -> str:
    return _list(want.name for want in wants)


def _bare(fn: Any) -> str:
    """Where the wrapper itself is, not what it wraps."""
    code = getattr(getattr(fn, "__func__", fn), "__code__", None)
    if code is None:
        return repr(fn)
    return f"{code.co_name} ({code.co_filename}:{code.co_firstlineno})"
