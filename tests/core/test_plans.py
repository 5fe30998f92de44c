"""What a function wants, and what is said when it cannot be given."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.core._turn import CallPlan, Message, Turn
from greenroom.core.errors import BadHandler
from greenroom.core.plans import (
    INJECTABLE,
    Filling,
    call_injected,
    fill_by_name,
    fill_callback,
    fill_reaction,
    is_async,
    location,
    plan_for,
)
from greenroom.core.types import Slot


class Ledger:
    root = "the state"
    view = "the view"


class Session:
    id = "s1"


SESSION, APP = Session(), object()
VALUES = {
    "state": "the state",
    "payload": 5,
    "data": 5,
    "context": {"handler": "app:add", "label": "side", "session_id": "s1", "target": "b1"},
    "session": SESSION,
    "app": APP,
    "event_type": "app:add",
    "label": "side",
}


def turn() -> Turn:
    message = Message("app:add", 5, context={"target": "b1"}, label="side")
    return Turn(SESSION, message, ledger=Ledger(), app=APP)


def run(fn: Callable[..., Any], filling: Filling[Slot] | None = None) -> Any:
    """Call `fn` as a turn does, through the compiled plan."""
    found = fill_by_name(fn, INJECTABLE) if filling is None else filling
    return CallPlan(fn, found.positional, found.keywords)(turn())


def refused(fn: Callable[..., Any], fill: Callable[..., Any] | None = None) -> str:
    with pytest.raises(BadHandler) as caught:
        fill(fn) if fill else fill_by_name(fn, INJECTABLE)
    return str(caught.value)


# -- by name ------------------------------------------------------------------------------------


def test_every_name_gets_its_value_in_any_order() -> None:
    def backwards(label, event_type, app, session, context, data, payload, state):  # type: ignore[no-untyped-def]
        return locals()

    assert run(backwards) == VALUES


def test_keyword_only_and_positional_only_parameters() -> None:
    assert run(lambda state, /, payload, *, label: (state, payload, label)) == (
        "the state",
        5,
        "side",
    )


def test_nothing_is_wanted() -> None:
    assert run(lambda: "ran") == "ran"


def test_defaults_are_left_alone_unless_injectable() -> None:
    assert run(lambda n=3, state=None, *, k=4, label="x": (n, state, k, label)) == (
        3,
        "the state",
        4,
        "side",
    )


def test_what_follows_a_default_goes_by_keyword() -> None:
    filling = fill_by_name(lambda state, n=3, payload=None: None, INJECTABLE)
    assert filling.positional == (Slot.STATE,)
    assert filling.keywords == (("payload", Slot.PAYLOAD),)


def test_positional_only_behind_a_default_is_said() -> None:
    def odd(n=3, state=None, /):  # type: ignore[no-untyped-def]
        return n, state

    assert "'state' is positional-only" in refused(odd)


@given(st.permutations(sorted(INJECTABLE)), st.data())
def test_any_signature_gets_what_it_names(names: list[str], data: st.DataObject) -> None:
    names = names[: data.draw(st.integers(0, len(names)))]
    kinds = sorted(data.draw(st.sampled_from((0, 1, 3))) for _ in names)
    parameters = [
        inspect.Parameter(name, inspect._ParameterKind(kind))
        for name, kind in zip(names, kinds, strict=True)
    ]
    signature = inspect.Signature(parameters)

    def fn(*args: Any, **kwargs: Any) -> Any:
        return signature.bind(*args, **kwargs).arguments

    fn.__signature__ = signature  # type: ignore[attr-defined]
    assert run(fn) == {name: VALUES[name] for name in names}


def test_a_parameter_nobody_can_fill_names_function_place_and_cure() -> None:
    def save(state, path):  # type: ignore[no-untyped-def]
        return state, path

    said = refused(save)
    line = save.__code__.co_firstlineno
    assert f"save ({__file__}:{line})" in said
    assert "nothing can be given to path" in said
    assert "state, payload, data, context, session, app, event_type, label" in said


def silent() -> None: ...


silent.__signature__ = "none"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (5, "is not callable"),
        (dict, "is a class"),
        (silent, "does not tell its parameters"),
    ],
)
def test_things_that_are_no_functions(thing: Any, said: str) -> None:
    assert said in refused(thing)


# -- through layers -----------------------------------------------------------------------------


def passing(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


class Box:
    def method(self, state: Any, payload: Any) -> Any:
        return self, state, payload

    @passing
    def wrapped(self, state: Any, payload: Any) -> Any:
        return self, state, payload

    @classmethod
    def of_class(cls, payload: Any) -> Any:
        return cls, payload

    @staticmethod
    def of_nothing(payload: Any) -> Any:
        return payload

    def __call__(self, payload: Any, *, label: Any) -> Any:
        return self, payload, label


BOX = Box()


@pytest.mark.parametrize(
    ("fn", "result"),
    [
        (passing(lambda payload, state: (payload, state)), (5, "the state")),
        (passing(passing(lambda *, payload, state: (payload, state))), (5, "the state")),
        (functools.partial(lambda n, state: (n, state), 1), (1, "the state")),
        (functools.partial(lambda state, n: (state, n), n=1), ("the state", 1)),
        (functools.partial(passing(lambda n, state: (n, state)), 1), (1, "the state")),
        (passing(functools.partial(lambda n, state: (n, state), 1)), (1, "the state")),
        (BOX.method, (BOX, "the state", 5)),
        (BOX.wrapped, (BOX, "the state", 5)),
        (Box.of_class, (Box, 5)),
        (Box.of_nothing, 5),
        (BOX, (BOX, 5, "side")),
        (functools.lru_cache(lambda payload: payload), 5),
    ],
)
def test_layers_are_followed(fn: Any, result: Any) -> None:
    assert run(fn) == result


def test_what_a_partial_has_bound_stays_bound() -> None:
    fn = functools.partial(lambda state, payload: (state, payload), payload="mine")
    assert run(fn) == ("the state", "mine")


def test_a_wrapper_is_called_with_the_names_it_has_itself() -> None:
    def fn(state: Any, n: Any) -> Any:
        return state, n

    @functools.wraps(fn)
    def fills_n(state: Any) -> Any:
        return fn(state, 7)

    assert run(fills_n) == ("the state", 7)
    assert run(passing(fills_n)) == ("the state", 7)


def test_a_wrapper_may_want_more_than_it_hands_on() -> None:
    def fn(payload: Any) -> Any:
        return payload

    @functools.wraps(fn)
    def checks(session: Any, *args: Any, **kwargs: Any) -> Any:
        return session, fn(*args, **kwargs)

    assert run(checks) == (SESSION, 5)


def test_a_wrapper_that_hands_on_what_it_wants_too() -> None:
    def fn(state: Any, payload: Any, *, label: Any) -> Any:
        return state, payload, label

    @functools.wraps(fn)
    def looks(state: Any, *args: Any, **kwargs: Any) -> Any:
        return fn(state, *args, **kwargs)

    assert run(looks) == ("the state", 5, "side")


def test_a_wrapper_that_hands_on_positions_or_keywords_alone() -> None:
    def fn(state: Any, payload: Any) -> Any:
        return state, payload

    @functools.wraps(fn)
    def positions(*args: Any) -> Any:
        return fn(*args)

    @functools.wraps(fn)
    def keywords(**kwargs: Any) -> Any:
        return fn(**kwargs)

    @functools.wraps(fn)
    def leading(state: Any, *args: Any) -> Any:
        return fn(state, *args)

    for wrapper in (positions, keywords, leading):
        assert run(wrapper) == ("the state", 5)


def test_a_wrapper_that_cannot_hand_on_what_is_wanted_is_named() -> None:
    def keyword(*, state: Any) -> Any:
        return state

    @functools.wraps(keyword)
    def positions(*args: Any) -> Any:
        return keyword(*args)  # type: ignore[call-arg]

    def position(state: Any, /) -> Any:
        return state

    @functools.wraps(position)
    def keywords(**kwargs: Any) -> Any:
        return position(**kwargs)  # type: ignore[call-arg]

    def two(payload: Any, state: Any) -> Any:
        return payload, state

    @functools.wraps(two)
    def shuffles(state: Any, *args: Any) -> Any:
        return two(*args, state)  # type: ignore[call-arg]

    assert "its wrapper positions" in refused(positions)
    assert "its wrapper keywords" in refused(keywords)
    assert "wrapped by shuffles" in refused(shuffles)


def test_a_wrapper_made_without_wraps_says_how_to_make_it() -> None:
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    assert "functools.wraps" in refused(wrapper)


def test_a_declared_signature_is_believed() -> None:
    def fn(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    fn.__signature__ = inspect.signature(lambda payload, *, label: None)  # type: ignore[attr-defined]
    assert run(fn) == ((5,), {"label": "side"})


def test_asynchronous_functions_are_seen_from_outside() -> None:
    async def coroutine() -> None: ...

    class Async:
        async def __call__(self) -> None: ...

        async def method(self) -> None: ...

    assert is_async(coroutine)
    assert is_async(functools.partial(coroutine))
    assert is_async(Async())
    assert is_async(functools.partial(Async()))
    assert is_async(Async().method)
    assert not is_async(passing(coroutine))
    assert not is_async(BOX)
    assert not is_async(Async)
    assert not is_async(len)


def test_a_location_is_that_of_what_was_written() -> None:
    def fn() -> None: ...

    expected = f"{__file__}:{fn.__code__.co_firstlineno}"
    assert location(passing(functools.partial(fn))) == expected
    assert location(len) == "builtins"


# -- callbacks of on() --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "result"),
    [
        (lambda: (), ()),
        (lambda evt: (evt,), (5,)),
        (lambda evt, kind: (evt, kind), (5, "app:add")),
        (lambda evt, kind, where: (evt, kind, where), (5, "app:add", "side")),
        (lambda *args: args, (5, "app:add", "side")),
        (lambda evt, *rest: (evt, *rest), (5, "app:add", "side")),
        (lambda evt, i=7: (evt, i), (5, 7)),
        (lambda i=7: (i,), (7,)),
        (lambda data, event_type, label: (data, event_type, label), (5, "app:add", "side")),
        (lambda label, state, i=7: (label, state, i), ("side", "the state", 7)),
        (lambda data, *args: (data, args), (5, ())),
    ],
)
def test_callbacks(fn: Any, result: Any) -> None:
    assert run(fn, fill_callback(fn)) == result


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (lambda evt, label: None, "mixes names that are injected (label) with others (evt)"),
        (lambda evt, label="x": None, "mixes"),
        (lambda a, b, c, d: None, "takes 4 arguments"),
        (lambda *, evt: None, "keyword-only"),
        (lambda **kwargs: None, "functools.wraps"),
    ],
)
def test_callbacks_that_cannot_be(fn: Any, said: str) -> None:
    assert said in refused(fn, fill_callback)


# -- reactions in sessions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "result"),
    [
        (lambda model, session: (model, session), (5, SESSION)),
        (lambda state, model: (state, model), ("the state", 5)),
        (lambda state, data: (state, data), ("the state", 5)),
        (lambda state, *, model: (state, model), ("the state", 5)),
        (lambda state: state, "the state"),
    ],
)
def test_reactions(fn: Any, result: Any) -> None:
    assert run(fn, fill_reaction(fn)) == result


@pytest.mark.parametrize(
    "fn", [lambda model, other, session: None, lambda model, data, session: None]
)
def test_reactions_take_their_data_once(fn: Any) -> None:
    assert "one argument for the data" in refused(fn, fill_reaction)


# -- outside of turns ---------------------------------------------------------------------------


def test_a_verifier_gets_what_it_names() -> None:
    plan = plan_for(
        lambda headers, session=None: (headers, session), ("cookies", "headers", "session")
    )
    assert plan(cookies=1, headers=2, session=3) == (2, 3)
    assert not plan.is_async


def test_a_verifier_that_wants_something_else() -> None:
    def check(headers, user):  # type: ignore[no-untyped-def]
        return headers, user

    with pytest.raises(BadHandler, match=r"verifier check .*nothing can be given to user"):
        plan_for(check, ("cookies", "headers", "session"), "verifier")


def test_one_call() -> None:
    assert call_injected(lambda *, b, a=0: (a, b), a=1, b=2, c=3) == (1, 2)
