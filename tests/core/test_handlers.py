"""Handlers by name: discovery, claims, ambiguity, subscriptions, and what is reported."""

from __future__ import annotations

import functools
import gc
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.core._turn import Message, Turn
from greenroom.core.errors import BadHandler, BadPayload
from greenroom.core.exposure import handler
from greenroom.core.handlers import CallbackTable, Handler, HandlerTable
from greenroom.core.state import State
from greenroom.core.types import Place


def module(name: str, source: str = "", **values: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(values)
    exec(compile(source, f"/app/{name}.py", "exec"), vars(made))
    return made


def names(table: HandlerTable) -> list[str]:
    return sorted(table.names)


def one(table: HandlerTable, event: str) -> Handler:
    found = table.resolve(event)
    assert len(found) == 1
    return found[0]


def call(one: Handler, payload: Any = None) -> Any:
    return one.plan(Turn(None, Message("add", payload)))


# -- one handler --------------------------------------------------------------------------------


def test_place_and_options() -> None:
    async def load() -> None: ...

    @handler(inline=True)
    def quick() -> None: ...

    @handler(concurrent=True)
    def stop() -> None: ...

    assert Handler(load, "load").place is Place.LOOP
    assert Handler(load, "load").is_async
    assert Handler(lambda: None, "f").place is Place.WORKER
    assert Handler(quick, "quick").place is Place.INLINE
    assert Handler(stop, "stop").concurrent
    assert not Handler(quick, "quick").concurrent


def test_inline_is_seen_through_an_async_wrapper() -> None:
    @handler(inline=True)
    def quick() -> None: ...

    @functools.wraps(quick)
    async def wrapper() -> None: ...

    with pytest.raises(BadHandler, match="async"):
        Handler(wrapper, "quick")


def test_generators_are_no_handlers() -> None:
    def generator(state: Any) -> Any:
        yield state

    async def stream(state: Any) -> Any:
        yield state

    for fn in (generator, stream, functools.partial(generator)):
        with pytest.raises(BadHandler, match="is a generator"):
            Handler(fn, "f")


def test_a_payload_is_checked_before_the_call() -> None:
    calls: list[int] = []

    def add(payload: int) -> None:
        calls.append(payload)

    plan = Handler(add, "add")
    call(plan, 5)
    with pytest.raises(BadPayload, match="handler add: Expected `int`"):
        call(plan, "5")
    assert calls == [5]


# -- discovery ----------------------------------------------------------------------------------

ADD = "def add(payload): return 'from ' + __name__\n"


def test_a_module_is_registered_under_bare_and_qualified_names() -> None:
    table = HandlerTable()
    table.add_module(module("shop", ADD + "async def load(state): ...\ndef _hidden(): ...\n"))
    assert names(table) == ["add", "load", "shop.add", "shop.load"]
    assert one(table, "add") is one(table, "shop.add")
    assert call(one(table, "add")) == "from shop"
    assert one(table, "add").qualified == "shop.add"
    assert one(table, "add").where == "/app/shop.py:1"
    assert table.resolve("_hidden") == ()
    assert table.resolve("nothing") == ()


def test_a_package_keeps_its_whole_name() -> None:
    table = HandlerTable()
    table.add_module(module("shop.cart", ADD))
    assert names(table) == ["add", "shop.cart.add"]


def test_what_cannot_be_a_handler_is_left_out_with_one_line() -> None:
    table = HandlerTable()
    table.add_module(module("shop", ADD + "def total(prices): ...\ndef rows(): yield 1\n"))
    assert names(table) == ["add", "shop.add"]
    report = table.report()
    assert report[0] == "browsers may call 1 function"
    assert report[1] == "  add  /app/shop.py:1, also shop.add"
    assert report[2].startswith("  left out: shop.total (/app/shop.py:2): nothing can be given to")
    assert "prices" in report[2]
    assert report[3].startswith("  left out: shop.rows (/app/shop.py:3): is a generator")
    assert len(report) == 4


def test_what_asks_for_a_refused_parameter_is_an_error_that_says_what_to_do() -> None:
    for source in ("def draw(state, ui): ...", "def draw(state, ui=None): ..."):
        table = HandlerTable()
        table.refused = {"ui": "write the page in HTML"}
        with pytest.raises(BadHandler, match=r"draw \(/app/shop.py:1\).*'ui'.*the page in HTML"):
            table.add_module(module("shop", source))
        shop = module("shop", source + "\ndef rows(*ui): ...\ndef add(state): ...\n")
        table.claim(shop.draw)  # something else, which is told by whoever made it that
        table.add_module(shop)
        assert names(table) == ["add", "shop.add"]
        HandlerTable().add_module(module("shop", source))  # elsewhere it is left out, as ever


def test_what_was_never_meant_to_be_a_handler_is_not_told_how_to_become_one() -> None:
    table = HandlerTable()
    shop = module("shop", "def who(cookies, headers): ...\n")
    table.claim(shop.who)  # as a session verifier
    table.add_module(shop)
    assert table.report()[1:] == [
        "  left out: shop.who (/app/shop.py:1): registered as something else"
    ]


def test_a_decorated_function_that_cannot_be_a_handler_is_an_error() -> None:
    table = HandlerTable()
    with pytest.raises(BadHandler, match="prices"):
        table.add_module(module("shop", "@handler\ndef total(prices): ...\n", handler=handler))
    with pytest.raises(BadHandler, match="'_total' cannot be the name"):
        table.add_module(module("shop", "@handler\ndef _total(): ...\n", handler=handler))


def test_a_name_of_its_own() -> None:
    table = HandlerTable()
    source = "@handler(name='open')\ndef _open(): ...\nagain = _open\n"
    table.add_module(module("shop", source, handler=handler))
    assert names(table) == ["open", "shop.open"]


def test_two_functions_under_one_qualified_name_are_an_error() -> None:
    source = "@handler(name='x')\ndef a(): ...\n@handler(name='x')\ndef b(): ...\n"
    with pytest.raises(BadHandler, match=r"two functions are called 'shop\.x': .*:1 and .*:3"):
        HandlerTable().add_module(module("shop", source, handler=handler))


@pytest.mark.parametrize("thing", [lambda: None, "shop", [1]])
def test_a_non_module_is_told_the_cure(thing: Any) -> None:
    with pytest.raises(TypeError, match="import the module and pass it"):
        HandlerTable().add_module(thing)


def test_the_main_module_wins_a_bare_name() -> None:
    for order in (("main", "other"), ("other", "main")):
        table = HandlerTable()
        for name in order:
            table.add_module(module(name, ADD), main=name == "main")
        assert call(one(table, "add")) == "from main"
        assert call(one(table, "other.add")) == "from other"


def test_another_ambiguous_bare_name_is_not_registered() -> None:
    table = HandlerTable()
    table.add_module(module("one", ADD))
    table.add_module(module("two", ADD))
    assert names(table) == ["one.add", "two.add"]
    assert table.resolve("add") == ()
    assert table.report()[-1] == (
        "  not as 'add', which could be any of one.add (/app/one.py:1), two.add (/app/two.py:1): "
        "use the full name"
    )


def test_one_function_in_two_modules_is_not_ambiguous() -> None:
    helpers = module("helpers", ADD)
    user = module("user", "", add=helpers.add)
    table = HandlerTable(root=Path("/app"))
    table.add_module(helpers)
    table.add_module(user)
    assert names(table) == ["add", "helpers.add", "user.add"]
    assert table.report()[0] == "browsers may call 1 function"
    listed = HandlerTable()
    listed.add(helpers.add)
    listed.add_module(helpers)
    assert names(listed) == ["add", "helpers.add"]


def test_looking_at_a_module_again_replaces_what_it_had() -> None:
    table = HandlerTable()
    shop = module("shop", ADD + "def gone(): ...\n")
    table.add_module(shop)
    del shop.gone
    vars(shop)["new"] = types.FunctionType((lambda: None).__code__, vars(shop), "new")
    table.add_module(shop)
    assert names(table) == ["add", "new", "shop.add", "shop.new"]


def test_only_decorated_functions_when_the_settings_say_so() -> None:
    table = HandlerTable("decorated")
    table.add_module(module("shop", ADD + "@handler\ndef pay(): ...\n", handler=handler))
    assert names(table) == ["pay", "shop.pay"]
    assert "  left out: shop.add (/app/shop.py:1): not decorated" in table.report()
    with pytest.raises(BadHandler, match="expose='decorated'"):
        table.add(lambda: None, name="add")


# -- listed by hand -----------------------------------------------------------------------------


class Cart:
    def save(self, state: Any) -> str:
        return "saved"

    def __call__(self) -> None: ...


def test_functions_and_methods_are_listed() -> None:
    table = HandlerTable()
    assert table.add(Cart().save).name == "save"
    table.add(functools.partial(lambda n: n, 5), name="five")
    assert call(one(table, "five")) == 5
    assert "save" in table.names
    assert "five" in table.names


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (lambda: None, "cannot be the name"),
        (Cart(), "cannot be the name"),
        (Cart, "is a class"),
        (5, "is not callable"),
        (lambda prices: None, "nothing can be given to prices"),
    ],
)
def test_what_is_listed_and_cannot_be_is_an_error(thing: Any, said: str) -> None:
    with pytest.raises(BadHandler, match=said):
        HandlerTable().add(thing)


def test_two_listed_functions_of_one_name_are_an_error() -> None:
    table = HandlerTable()
    first = Cart().save
    table.add(first)
    table.add(first)
    with pytest.raises(BadHandler, match="two functions"):
        table.add(lambda: None, name="save")


# -- claims -------------------------------------------------------------------------------------

Claim = Callable[[HandlerTable, Any], object]


@pytest.mark.parametrize(
    "claim",
    [
        lambda table, fn: table.claim(fn),
        lambda table, fn: table.on("shop:add", fn),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_what_is_registered_as_something_else_is_no_handler(claim: Claim, first: bool) -> None:
    table, shop = HandlerTable(), module("shop", ADD + "def keep(): ...\n")
    if first:
        claim(table, shop.add)
    table.add_module(shop)
    if not first:
        assert "add" in table.names
        claim(table, shop.add)
    assert names(table) == ["keep", "shop.keep"]
    assert any("shop.add" in line and "something else" in line for line in table.report())


def test_a_wrapper_of_what_was_claimed_is_claimed_too() -> None:
    source = (
        "import functools\n"
        "def inner(): ...\n"
        "@functools.wraps(inner)\n"
        "def outer(*args): return inner(*args)\n"
    )
    table, shop = HandlerTable(), module("shop", source)
    table.claim(shop.inner)
    table.add_module(shop)
    assert names(table) == []


def test_what_is_named_as_a_handler_too_stays_one() -> None:
    table = HandlerTable()
    shop = module("shop", ADD + "@handler\ndef pay(): ...\n", handler=handler)
    table.claim(shop.pay)
    table.add_module(shop)
    table.add(shop.add)
    table.claim(shop.add)
    assert {"add", "pay"} <= set(table.names)


def test_a_subscriber_of_a_state_made_before_its_app_is_no_handler() -> None:
    shop = module("shop", ADD + "def watch(state, payload): ...\n")
    State({"count": 0}).subscribe_mutation("count", shop.watch)
    table = HandlerTable()
    table.add_module(shop)
    assert names(table) == ["add", "shop.add"]
    assert "shop.watch (/app/shop.py:2): registered as something else" in table.report()[-1]
    table.add(shop.watch)  # named as one, too
    assert "watch" in names(table)


def test_a_claim_ends_an_ambiguity() -> None:
    table, first, second = HandlerTable(), module("one", ADD), module("two", ADD)
    table.add_module(first)
    table.add_module(second)
    table.claim(first.add)
    assert call(one(table, "add")) == "from two"


def test_a_claim_keeps_nothing_alive() -> None:
    table = HandlerTable()

    def listen() -> None: ...

    died = weakref.ref(listen)
    table.claim(listen)
    table.on("app:save", listen).off()
    table.claim([].append)
    del listen
    gc.collect()
    assert died() is None
    assert len(table._claimed) == 0


def test_a_claim_that_concerns_no_handler_changes_nothing() -> None:
    table = HandlerTable()
    table.add_module(module("shop", ADD))
    before = table.names
    table.claim(lambda: None)
    assert table.names is before


# -- on() ---------------------------------------------------------------------------------------


def heard(table: HandlerTable, event: str, label: str = "main") -> list[Any]:
    return [call(found) for found in table.resolve(event, label)]


def test_callbacks_run_in_order_behind_the_handler() -> None:
    table = HandlerTable()
    table.on("add", lambda: "first")
    table.on("add", lambda: "second")
    table.add_module(module("shop", ADD))
    assert heard(table, "add") == ["from shop", "first", "second"]
    assert heard(table, "shop.add") == ["from shop"]


def test_listeners_to_everything_hear_all_and_answer_nothing() -> None:
    table = HandlerTable()
    told: list[Any] = []

    def listen(data: Any) -> str:
        told.append(data)
        return "ignored"

    table.add_module(module("shop", ADD))
    table.on("*", listen)
    table.on("app:save", lambda: "saved")
    found = table.resolve("app:save")
    assert [each.answers for each in found] == [False, True]
    assert heard(table, "app:save") == [None, "saved"]
    assert heard(table, "add") == ["from shop", None]
    assert heard(table, "never:declared") == [None]
    assert len(told) == 3


def test_an_async_listener_is_awaited_and_answers_nothing(arun: Callable[..., Any]) -> None:
    told: list[Any] = []

    async def listen(data: Any) -> str:
        told.append(data)
        return "ignored"

    table = HandlerTable()
    direct = table.on("*", listen).handler
    wrapped = table.on("*", functools.partial(lambda fn, data: fn(data), listen)).handler

    async def story() -> None:
        assert await call(direct, 1) is None

    arun(story)
    assert direct.place is Place.LOOP
    assert wrapped.place is Place.WORKER
    assert told == [1]


def test_labels_are_filtered() -> None:
    table = HandlerTable()
    table.on("app:save", lambda: "everywhere")
    table.on("app:save", lambda: "side", label="side")
    table.on("*", lambda: None, label="log")
    assert heard(table, "app:save") == ["everywhere"]
    assert heard(table, "app:save", "side") == ["everywhere", "side"]
    assert heard(table, "app:save", "log") == ["everywhere", None]
    assert heard(table, "other:event", "log") == [None]
    assert table.resolve("other:event", "main") == ()


def test_callbacks_are_reported() -> None:
    table = HandlerTable()

    def save() -> None: ...

    table.on("app:save", save)
    table.on("*", save, label="log")
    where = f"{__file__}:{save.__code__.co_firstlineno}"
    assert table.report() == [
        "browsers may call 0 functions",
        f"  on 'app:save'  {where}",
        f"  on '*' from 'log'  {where}",
    ]


def test_a_session_has_a_table_of_its_own() -> None:
    table = CallbackTable()
    assert table.resolve("app:save") == ()
    subscription = table.on("app:save", lambda: 1)
    assert table.resolve("app:save") == (subscription.handler,)
    assert table.subscriptions == (subscription,)
    subscription.off()
    assert table.resolve("app:save") == ()


def test_off() -> None:
    table = HandlerTable()
    first = table.on("app:save", lambda: 1)
    second = table.on("app:save", lambda: 2)
    first.off()
    first.off()
    assert heard(table, "app:save") == [2]
    second.off()
    assert table.resolve("app:save") == ()


@pytest.mark.parametrize("event", ["gr:hello", "gr:x:y"])
def test_the_protocols_names_are_reserved(event: str) -> None:
    with pytest.raises(ValueError, match="belong to the protocol"):
        HandlerTable().on(event, lambda: None)


@pytest.mark.parametrize("event", ["", "1a:b", "a:", "a::b", "a b", "_x", "a:b:c:d", "**", "a\n"])
def test_names_no_event_has(event: str) -> None:
    with pytest.raises(ValueError, match="is no event"):
        HandlerTable().on(event, lambda: None)


@pytest.mark.parametrize("event", ["a:b", "a:b-c", "a:b:c", "add", "shop.add", "*", "grid:x"])
def test_names_events_have(event: str) -> None:
    assert HandlerTable().on(event, lambda: None).event == event


def test_a_callback_that_mixes_is_an_error_that_names_the_event() -> None:
    with pytest.raises(BadHandler, match=r"callback of 'app:save' .*mixes"):
        HandlerTable().on("app:save", lambda evt, label: None)


Act = tuple[str, str, str | None]
EVENTS = ("a:x", "a:y", "plain", "*")


ACTS = st.tuples(
    st.sampled_from(("on", "off")), st.sampled_from(EVENTS), st.sampled_from((None, "l", "m"))
)


@given(st.lists(ACTS, max_size=12))
def test_resolve_agrees_with_a_plain_list(acts: list[Act]) -> None:
    table = HandlerTable()
    model: list[Any] = []
    for verb, event, label in acts:
        if verb == "on":
            model.append(table.on(event, lambda: None, label=label))
        elif model:
            model.pop(len(acts) % len(model)).off()
    for event in ("a:x", "a:y", "plain", "unknown"):
        for label in ("l", "m", "main"):
            expected = [
                each.handler
                for each in model
                if each.event in (event, "*") and each.label in (None, label)
            ]
            assert list(table.resolve(event, label)) == expected


# -- what else runs in turns --------------------------------------------------------------------


def test_subscribers_of_the_state_are_injected() -> None:
    told: list[Any] = []
    state = State({"a": 1, "b": 2})

    def changed(context: Any, payload: Any, event_type: Any, state: Any, n: int = 0) -> None:
        told.append((context["mutation"], payload, event_type, state["b"], n))

    state.subscribe_mutation("a", changed)
    state["a"] = 5
    assert told == [("a", {"previous_value": 1, "new_value": 5}, "mutation", 2, 0)]
    with pytest.raises(BadHandler, match="subscriber"):
        state.subscribe_mutation("a", lambda old, new: None)


def test_hooks_and_reactions() -> None:
    table = HandlerTable()
    assert call(table.make_hook(lambda context: context["handler"])) == "add"
    reaction = table.make_callback("model:created", lambda model, label: (model, label))
    assert call(reaction, 5) == (5, "main")
    assert reaction.name == "model:created"
    with pytest.raises(BadHandler, match="reaction to 'model:created'"):
        table.make_callback("model:created", lambda a, b, state: None)
    assert table.make_middleware(lambda: None).kind == "plain"
    assert names(table) == []
