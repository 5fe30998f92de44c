"""Scripts as `greenroom run` loads them: which functions are handlers, what an import leaves."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor

from greenroom import App, Settings, cli
from greenroom.cli import CommandError
from greenroom.cli.load import Loaded, load, unload

Files = dict[str, str]
Script = Callable[..., Loaded]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """`script({"main.py": ...}, target="shop")` writes files below a folder and loads them."""
    path, modules = list(sys.path), dict(sys.modules)
    loaded: list[Loaded] = []

    def start(files: Files, target: str = ".", *, below: str = "", **settings: Any) -> Loaded:
        folder = tmp_path / below
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
        where = target if ":" in target else str(folder / target)
        loaded.append(load(where, Settings(**settings)))
        return loaded[-1]

    yield start
    for each in reversed(loaded):
        unload(each)
    assert sys.path == path
    left = [name for name in sys.modules if name not in modules and _is_below(name, tmp_path)]
    assert left == []


def _is_below(name: str, folder: Path) -> bool:
    return str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder))


def bare(app: App) -> list[str]:
    """The names of handlers, without the qualified ones."""
    return sorted(name for name in app.handlers.names if "." not in name)


def left_out(app: App) -> dict[str, str]:
    return {name: why for name, _, why in app.handlers.left_out}


def texts(log: Any) -> list[str]:
    return [record.text for record in log]


async def calls(app: App, *names: str) -> list[Any]:
    """What the handlers answer a browser, one after the other."""
    visitor = await Visitor(app).open()
    try:
        return [await visitor.call(name) for name in names]
    finally:
        visitor.line.close()


# -- handlers of several files --------------------------------------------------------------------


def test_handlers_of_modules_lists_chains_and_packages(arun: Any, script: Script) -> None:
    """main registers one; that one others, from inside; and a package its own modules."""
    loaded = script(
        {
            "main.py": """
                import greenroom as gr
                import first
                from helpers import inc, _secret, reset as start_again

                gr.init_state({"count": 0})
                gr.init_handlers(first)

                def here(state): return "here"
            """,
            "first.py": """
                import greenroom as gr
                import second, third
                from parts import wheel

                gr.init_handlers([second, third])
                gr.init_handlers(module for module in (wheel,))

                def one(state): return "one"
                def _hidden(state): ...
            """,
            "second.py": """
                import greenroom as gr
                import last

                gr.init_handlers(last)

                def two(state): return "two"
            """,
            "third.py": "def three(state): return 'three'",
            "last.py": "def four(state): return 'four'",
            "helpers.py": """
                def inc(state): state["count"] += 1; return state["count"]
                def reset(state): state["count"] = 0
                def unused(state): ...
                def _secret(state): ...
            """,
            "parts/__init__.py": "",
            "parts/wheel.py": "from .rim import spin\ndef turn(state): return 'turn'",
            "parts/rim.py": "def spin(state): return 'spin'",
        }
    )
    app = loaded.app
    assert bare(app) == [
        *("four", "here", "inc", "one", "spin", "start_again", "three", "turn", "two")
    ]
    assert {"main.inc", "first.one", "last.four", "parts.wheel.turn"} <= set(app.handlers.names)
    assert left_out(app) == {}

    async def story() -> None:
        async with app:
            names = (
                "one",
                "two",
                "last.four",
                "inc",
                "main.inc",
                "start_again",
                "parts.wheel.spin",
            )
            assert await calls(app, *names) == ["one", "two", "four", 1, 2, None, "spin"]
            for hidden in ("_hidden", "_secret", "helpers.unused", "unused", "gr"):
                assert (await calls(app, hidden))[0]["code"] == "not_found"

    arun(story)


def test_what_is_no_handler_is_left_out_with_its_reason(script: Script, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "far_away.py").write_text("def far(state): ...\n")
    sys.path.append(str(elsewhere))
    try:
        app = script(
            below="app",
            files={
                "main.py": """
                    import functools
                    from dataclasses import dataclass, field
                    from json import dumps
                    import greenroom as gr
                    from greenroom import handler, init_state
                    from far_away import far

                    def add(state, payload=1): ...
                    alias = add
                    shout = lambda state: "!"
                    five = functools.partial(add, payload=5)
                    six = gr.handler(name="half_a_dozen")(functools.partial(add, payload=6))
                    quick = functools.cache(add)

                    class Cart:
                        def put(self, state): ...
                        def __call__(self, state): ...

                    put = Cart().put
                    cart = Cart()

                    def rows(state): yield 1
                    async def stream(state): yield 1
                    def total(prices): ...

                    @gr.middleware()
                    def around(): yield

                    @gr.session_verifier
                    def check(headers): return True

                    @gr.on_open
                    def opened(state): ...

                    @gr.on_close
                    def closed(state): ...

                    @gr.on("cart:add")
                    def added(data): ...

                    @gr.events.event("sig:all")
                    def react(data): ...

                    @gr.events.event("sig:session")
                    def react_in_session(data, state): ...

                    @gr.events.query("q:all")
                    def answer(data): ...

                    class Shop(gr.State):
                        count: int = 0

                        @gr.property("count")
                        def double(self): return self.count * 2

                    template = Shop({"count": 0})
                    def watch(state, payload): ...
                    template.subscribe_mutation("count", watch)
                    gr.init_state(template)

                    @gr.handler
                    @gr.on("cart:clear")
                    def both(state): ...
                """
            },
        ).app
    finally:
        sys.path.remove(str(elsewhere))
        sys.modules.pop("far_away", None)
    assert bare(app) == ["add", "alias", "both", "half_a_dozen", "shout"]
    why = left_out(app)
    not_a_function = "only functions are handlers by themselves: define one"
    assert why["main.five"] == f"a functools.partial, and {not_a_function}"
    assert why["main.put"] == f"a bound method, and {not_a_function}"
    assert why["main.cart"] == f"an object (Cart) that can be called, and {not_a_function}"
    assert why["main.quick"].endswith(not_a_function)
    assert "is a generator" in why["main.rows"]
    assert "is a generator" in why["main.stream"]
    assert "nothing can be given to prices" in why["main.total"]
    assert "it is not from the application's folder" in why["main.far"]
    claimed = (
        *("around", "check", "opened", "closed", "added", "react", "react_in_session", "answer"),
        "watch",
    )
    for name in claimed:
        assert why[f"main.{name}"].startswith("registered as something else"), name
    assert len(why) == 8 + len(claimed)
    assert (
        app.handlers.report()[-1]
        == "  left out, since they are parts of libraries: main.dataclass, main.field, main.dumps"
    )


def test_a_module_of_another_place_is_taken_at_its_word(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not what it took from elsewhere itself."""
    installed = tmp_path / "site-packages"
    (installed / "plugin_of_tests").mkdir(parents=True)
    (installed / "plugin_of_tests/__init__.py").write_text("from .inner import far\nimport json")
    (installed / "plugin_of_tests/inner.py").write_text("def far(state): ...")
    (installed / "plugin_of_tests/handlers.py").write_text("def near(state): ...")
    monkeypatch.syspath_prepend(str(installed))
    main = """
        import greenroom as gr, plugin_of_tests, plugin_of_tests.handlers
        gr.init_handlers([plugin_of_tests, plugin_of_tests.handlers])
    """
    app = script({"main.py": main}, below="app").app
    assert bare(app) == ["near"]
    assert "plugin_of_tests.far" in app.handlers.report()[-1]
    for name in [name for name in sys.modules if name.startswith("plugin_of_tests")]:
        del sys.modules[name]


def test_one_that_subscribes_later_is_no_handler_from_then_on(arun: Any, script: Script) -> None:
    app = script(
        {
            "main.py": """
                import greenroom as gr
                gr.init_state({"count": 0})

                @gr.on_open
                def opened(state):
                    state.subscribe_mutation("count", watch)

                def watch(state, payload): ...
            """
        }
    ).app

    async def story() -> None:
        async with app:
            assert (await calls(app, "watch"))[0]["code"] == "not_found"
            assert "main.watch" in left_out(app)

    arun(story)


def test_start_up_is_told_in_the_apps_log(arun: Any, script: Script) -> None:
    app = script(
        {
            "main.py": """
                print("while it is imported")
                def add(state): ...
                def total(prices): ...
            """
        }
    ).app

    async def story() -> None:
        async with app:
            said = texts(app.log)
            assert said[:2] == ["while it is imported", "browsers may call 1 function"]
            assert any("left out: main.total" in text and "prices" in text for text in said)

    arun(story)


def test_clashes(script: Script) -> None:
    files = {
        "main.py": """
            import greenroom as gr, orders, stock
            gr.init_handlers([orders, stock])
            def save(state): return "main"
        """,
        "orders.py": "def save(state): ...\ndef list(state): ...",
        "stock.py": "def save(state): ...\ndef list(state): ...",
    }
    app = script(files).app
    names = app.handlers.names
    assert names["save"] is names["main.save"]
    assert "list" not in names
    assert {"orders.list", "stock.list", "orders.save", "stock.save"} <= set(names)
    assert any("not as 'list', which could be any of" in line for line in app.handlers.report())

    twice = """
        import greenroom as gr
        def one(state): ...
        @gr.handler(name="one")
        def two(state): ...
    """
    with pytest.raises(CommandError, match=r"two functions are called 'main\.one': .*:3 and .*:4"):
        script({"main.py": twice}, below="twice")


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ("'helpers'", "TypeError", "init_handlers takes modules, got 'helpers': import the module"),
        ("b'helpers'", "TypeError", "got b'helpers'"),
        ("None", "TypeError", "got None"),
        ("{'helpers': helpers}", "TypeError", "takes modules, got {'helpers'"),
        ("helpers.inc", "TypeError", "single functions are listed in App(handlers=[...])"),
        ("[helpers, helpers.inc]", "TypeError", "takes modules, got <function inc"),
        ("helpers.Thing", "TypeError", "takes modules, got <class"),
        ("json", "BadHandler", "'json' is a module of the standard library ("),
        ("sys", "BadHandler", "'sys' is a module of the standard library (built in)"),
        ("[helpers, json.decoder]", "BadHandler", "'json.decoder' is a module of the standard"),
    ],
)
def test_what_is_no_module_of_an_application(
    given: str, kind: str, said: str, script: Script
) -> None:
    files = {
        "helpers.py": "def inc(state): ...\nclass Thing: ...",
        "main.py": f"""
            import json, json.decoder, sys
            import greenroom as gr, helpers
            try:
                gr.init_handlers({given})
            except Exception as error:
                problem = error
        """,
    }
    app = script(files).app
    problem = sys.modules["main"].problem
    assert type(problem).__name__ == kind
    assert said in str(problem)
    assert bare(app) == []  # also what was right in the list: all of it or nothing


# -- names and places -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name"),
    [("my-app.py", "my_app"), ("shop.v2.py", "shop_v2"), ("queue.py", "queue_app")],
)
def test_a_file_may_have_any_name(file: str, name: str, script: Script) -> None:
    app = script({file: "def add(state): ..."}, file).app
    assert sorted(app.handlers.names) == ["add", f"{name}.add"]


def test_a_file_called_like_a_module_of_pythons_own_is_warned_of(script: Script) -> None:
    app = script(
        {
            "main.py": "import calendar_of_ours as c\nfrom asyncio import sleep",
            "calendar_of_ours.py": "",
            "calendar.py": "",
            "json.py": "",
            "xmlrpc/__init__.py": "",
            "email/no_package.txt": "",
        }
    ).app
    said = [record.text for record in app.log if record.level == "warning"]
    assert [text.split(" has the name")[0] for text in said] == [
        *("calendar.py", "json.py", "xmlrpc")
    ]
    assert "`import json` gives the other: rename it" in said[1]


def test_a_module_of_the_application_wins_over_an_installed_one(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "helpers_of_both.py").write_text("def who(state): return 'installed'")
    monkeypatch.syspath_prepend(str(installed))
    main = "from helpers_of_both import who"
    files = {"main.py": main, "helpers_of_both.py": "def who(state): return 'ours'"}
    app = script(files, below="app").app
    assert app.handlers.names["who"].fn(None) == "ours"


def test_a_relative_import_says_how_to_have_a_package(script: Script) -> None:
    with pytest.raises(CommandError, match=r"no known parent package\n\n.*__init__\.py") as caught:
        script({"main.py": "from . import helpers", "helpers.py": ""})
    assert caught.value.code == cli.IMPORT_FAILED
    files = {"__init__.py": "", "main.py": "from .helpers import inc"}
    app = script({**files, "helpers.py": "def inc(state): ..."}, below="shop").app
    assert sorted(app.handlers.names) == ["inc", "shop.main.inc"]


def test_a_file_with_an_app_of_its_own_registers_with_that_one(script: Script) -> None:
    main = """
        import greenroom as gr
        print("importing")
        app = gr.App(state={"mine": True})
    """
    app = script({"main.py": main}).app
    assert app is sys.modules["main"].app
    assert texts(app.log) == ["importing"]
    both = main + "\n        @gr.on('app:save')\n        def save(data): ...\n"
    with pytest.raises(CommandError, match=r"makes an App of its own, .*gr\.on would be nobody's"):
        script({"main.py": both}, below="both")


def test_an_app_of_a_module_has_what_its_import_printed(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    module = """
        import greenroom as gr
        print("importing")
        def make():
            print("making")
            return gr.App(state={})
    """
    loaded = script({"module_of_mine.py": module}, "module_of_mine:make")
    assert texts(loaded.app.log) == ["importing", "making"]
    del sys.modules["module_of_mine"]  # a module like any other: it stays


def test_an_async_factory_is_none(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"async_module_of_mine.py": "async def make(): ..."}
    with pytest.raises(CommandError, match="is no app but a coroutine: name an App, or a function"):
        script(files, "async_module_of_mine:make")
    assert "async_module_of_mine" not in sys.modules


# -- what an import leaves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["raise ValueError('no')", "raise KeyboardInterrupt", "def broken(:", "import gone"]
)
def test_an_import_that_fails_leaves_nothing(text: str, script: Script, tmp_path: Path) -> None:
    path = list(sys.path)
    before = {"main.py": "import lib_of_main\nfirst = True", "lib_of_main.py": "x = 1"}
    script(before)
    first = sys.modules["main"]
    (tmp_path / "main.py").write_text(f"import lib_of_main\nimport other_lib\n{text}\n")
    (tmp_path / "other_lib.py").write_text("")
    with pytest.raises((CommandError, KeyboardInterrupt)):
        script({})
    assert sys.path == [str(tmp_path), *path]  # of the first, which is still loaded
    assert sys.modules["main"] is first
    assert sys.modules["lib_of_main"] is first.lib_of_main
    assert "other_lib" not in sys.modules


def test_two_scripts_of_one_process_share_no_module(script: Script) -> None:
    def files(name: str) -> Files:
        return {
            "main.py": """
                import greenroom as gr
                import helpers
                from parts.inner import who

                gr.init_handlers(helpers)
                gr.init_state({"who": helpers.NAME})

                @gr.middleware()
                def note(state):
                    state["noted"] = helpers.NAME
            """,
            "helpers.py": f"NAME = {name!r}\nseen = []\ndef see(): seen.append(NAME); return seen",
            "parts/__init__.py": "",
            "parts/inner.py": f"def who(app):\n    import greenroom as gr\n"
            f"    return [{name!r}, gr.current_app() is app]",
        }

    loaded = [script(files(name), below=name) for name in ("one", "two")]
    again = load(str(loaded[0].folder), Settings())  # and one of them once more
    try:
        apps = [*(each.app for each in loaded), again.app]
        assert [sorted(app.handlers.names) for app in apps] == [
            ["helpers.see", "main.who", "see", "who"]
        ] * 3

        async def story() -> None:
            for app in apps:
                await app.start()
            try:
                for app, name in zip(apps, ("one", "two", "one"), strict=True):
                    visitor = await Visitor(app).open()
                    assert await visitor.call("who") == [name, True]
                    assert visitor.session.state == {"who": name, "noted": name}
                    assert await visitor.call("see") == [name]
                    visitor.line.close()
                see = apps[0].handlers.names["see"].fn
                assert see() == ["one", "one"]  # a global of the first script alone
            finally:
                for app in apps:
                    await app.stop()

        asyncio.run(story())
    finally:
        unload(again)


def test_doctor_and_run_take_back_what_they_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = list(sys.path)
    (tmp_path / "main.py").write_text(
        "import lib_of_doctor, functools\n"
        "def add(state): ...\n"
        "def odd(one): ...\n"
        "five = functools.partial(add)\n"
        "from json import loads\n"
    )
    (tmp_path / "lib_of_doctor.py").write_text("")
    assert cli.main(["doctor", str(tmp_path)]) == cli.OK
    said = capsys.readouterr().out
    for line in (
        *("browsers may call 1 function", "add  ", "left out: main.odd", "left out: main.five"),
        "left out, since they are parts of libraries: main.loads",
    ):
        assert line in said
    assert cli.main(["run", str(tmp_path), "--host", "256.0.0.1"]) == cli.BAD_HOST
    assert sys.path == path
    assert "lib_of_doctor" not in sys.modules
    assert "main" not in sys.modules or not _is_below("main", tmp_path)
