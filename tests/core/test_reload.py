"""New code in a running app, without a watcher: what is swapped, what stays, what is shown."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import os
import sys
import textwrap
import threading
import traceback
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor

from greenroom import App, Closed, State
from greenroom import property as gr_property
from greenroom.core.reload import Reloader

numbers = itertools.count()


class Project:
    """A folder with the code of an application, as `greenroom run` would load it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"gr_project_{next(numbers)}"
        self.saved = 0.0

    def save(self, text: str, name: str | None = None) -> None:
        """Write a file; every save has the same time stamp, as two in one second can have."""
        path = self.folder / f"{name or self.name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        self.saved = self.saved or path.stat().st_mtime
        os.utime(path, (self.saved, self.saved))

    def load(self) -> App:
        app = App(root=self.folder)
        with app.registering():
            module = importlib.import_module(self.name)
        own = getattr(module, "app", None)
        if isinstance(own, App):
            return own
        app.handlers.add_module(module, main=True)
        return app

    @contextlib.asynccontextmanager
    async def running(self, text: str) -> AsyncGenerator[tuple[App, Reloader]]:
        self.save(text)
        app = self.load()

        def explain(error: BaseException) -> str:
            return "".join(traceback.format_exception(error))

        async with app:
            yield app, Reloader(app, self.folder, self.load, explain)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Project]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = set(sys.modules)
    yield Project(tmp_path)
    for name in set(sys.modules) - before:
        del sys.modules[name]


def leave(*visitors: Visitor) -> None:
    for visitor in visitors:
        visitor.line.close()


async def again(project: Project, reloader: Reloader, text: str) -> None:
    project.save(text)
    assert await reloader.reload()


COUNTER = """
    import greenroom as gr
    gr.init_state({"counter": 0, "old": 1, "deep": {"x": 1}})

    def add(state):
        state["counter"] += 1
        return state["counter"]

    def gone(): pass
"""


def test_sessions_live_on_with_new_code_and_new_keys(project: Project, arun: Any) -> None:
    async def story() -> None:
        async with project.running(COUNTER) as (app, reloader):
            visitor = await Visitor(app).open()
            assert await visitor.call("add") == 1
            await again(
                project,
                reloader,
                """
                import greenroom as gr
                gr.init_state({"counter": 50, "rows": [1], "deep": {"x": 2, "y": {"z": [3]}}})

                def add(state):
                    state["counter"] += 10
                    state["rows"].append(2)
                    state["rows"] = state["rows"]
                    return state["counter"]
                """,
            )
            assert (await visitor.until("gr:reloaded"))["data"] == {"pages": []}
            patch = await visitor.until("gr:state")
            assert patch["data"] == {"=": {"/rows": [1], "/deep/y": {"z": [3]}}}
            assert await visitor.call("add") == 11
            assert (await visitor.call("gone"))["code"] == "not_found"
            assert visitor.session.state.to_dict() == {
                "counter": 11,
                "old": 1,
                "rows": [1, 2],
                "deep": {"x": 1, "y": {"z": [3]}},
            }
            other = await Visitor(app).open()
            first = next(f for f in other.frames if f["type"] == "gr:snapshot")
            assert first["data"] == {"counter": 50, "rows": [1], "deep": {"x": 2, "y": {"z": [3]}}}
            leave(visitor, other)

    arun(story)


def test_only_what_is_new_is_added(project: Project, arun: Any) -> None:
    text = """
        import greenroom as gr
        gr.init_state({{"a": 1, "b": {{"c": 1}}, {} }})

        def drop(state):
            del state["a"]
            state["b"] = 5
    """

    async def story() -> None:
        async with project.running(text.format("")) as (app, reloader):
            visitor = await Visitor(app).open()
            await visitor.call("drop")
            await again(project, reloader, text.format('"b": {"c": 1, "d": 2}, "e": 3'))
            await visitor.until("gr:state")
            assert visitor.session.state.to_dict() == {"b": 5, "e": 3}
            leave(visitor)

    arun(story)


def test_every_module_of_the_folder_is_new_and_no_other(project: Project, arun: Any) -> None:
    main = f"""
        import json
        import greenroom as gr
        from parts_{project.name} import first
        import pack_{project.name}.inner as inner

        HELD = []

        def look():
            HELD.append(1)
            return [first.WORD, first.word(), inner.WORD, len(HELD), id(json)]
    """
    # Two modules that import each other, in a package; and a folder without an __init__.py.
    one = "from . import second\nWORD = '{}'\ndef word(): return second.first.WORD\n"

    async def story() -> None:
        project.save("", f"parts_{project.name}/__init__")
        project.save("from . import first", f"parts_{project.name}/second")
        project.save(one.format("a"), f"parts_{project.name}/first")
        project.save("WORD = 'x'", f"pack_{project.name}/inner")
        async with project.running(main) as (app, reloader):
            visitor = await Visitor(app).open()
            before = await visitor.call("look")
            assert before[:4] == ["a", "a", "x", 1]
            # The same size and the same time: what was compiled before is not to be trusted.
            project.save(one.format("b"), f"parts_{project.name}/first")
            project.save("WORD = 'y'", f"pack_{project.name}/inner")
            assert await reloader.reload()
            assert await visitor.call("look") == ["b", "b", "y", 1, before[4]]
            leave(visitor)

    arun(story)


BROKEN = {
    "syntax": "def add(state:\n",
    "import": "import there_is_no_such_module\n",
    "raises": "import greenroom as gr\ngr.init_state({'late': 1})\n1 / 0\n",
    "handler": "import greenroom as gr\n@gr.handler\ndef add(nobody, gives): pass\n",
    "state": "import greenroom as gr, threading\ngr.init_state({'lock': threading.Lock()})\n",
    "signal": "import greenroom as gr\ngr.current_app().events.query('nonsense')(int)\n",
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_code_changes_nothing_and_is_shown(how: str, project: Project, arun: Any) -> None:
    async def story() -> None:
        async with project.running(COUNTER) as (app, reloader):
            visitor = await Visitor(app).open()
            modules = dict(sys.modules)
            finders = list(sys.meta_path)
            entries, index = app.handlers.names, app.handlers.index
            project.save(BROKEN[how])
            assert not await reloader.reload()
            assert {n: m for n, m in sys.modules.items() if n in modules} == modules
            assert sys.modules[project.name] is modules[project.name]
            assert sys.meta_path == finders
            assert (app.handlers.names, app.handlers.index) == (entries, index)
            shown = (await visitor.until("gr:broken"))["data"]["traceback"]
            assert f"{project.name}.py" in shown
            assert "the new code does not run" in app.log.records()[-1].text
            assert await visitor.call("add") == 1

            late = Visitor(app)  # whoever comes now is told, too, behind its snapshot
            await late.hello()
            assert [(await late.next())["type"] for _ in range(2)] == ["gr:snapshot", "gr:broken"]
            assert late.frames[-1]["data"]["traceback"] == shown

            await again(project, reloader, COUNTER)
            for each in (visitor, late):
                await each.until("gr:reloaded")
            assert await visitor.call("add") == 2
            last = Visitor(app)
            await last.hello()
            await last.call("add")
            assert "gr:broken" not in [frame["type"] for frame in last.frames]
            leave(visitor, late, last)

    arun(story)


def test_what_was_accepted_ends_with_the_code_it_was_accepted_with(
    project: Project, arun: Any
) -> None:
    text = """
        import asyncio
        import greenroom as gr
        begun, go = asyncio.Event(), asyncio.Event()

        async def work(state):
            begun.set()
            await go.wait()
            return {0}

        def quick(): return {0}
        async def job():
            await go.wait()
            gr.emit("app:job", {0})
        def start(session):
            session.spawn(job)
    """

    async def story() -> None:
        async with project.running(text.format("'old'")) as (app, reloader):
            old = sys.modules[project.name]
            visitor = await Visitor(app).open()
            await visitor.call("start")
            running, queued = visitor.send("work"), visitor.send("quick")
            await old.begun.wait()
            await again(project, reloader, text.format("'new'"))
            new = sys.modules[project.name]
            assert new is not old
            later = visitor.send("quick")
            await visitor.line.settled()
            old.go.set()
            assert [await visitor.answer(n) for n in (running, queued, later)] == [
                *("old", "old", "new")
            ]
            assert "old" in [f.get("data") for f in visitor.frames if f["type"] == "app:job"]
            leave(visitor)

    arun(story)


def test_everything_that_registers_is_replaced(project: Project, arun: Any) -> None:
    text = """
        import greenroom as gr
        events = gr.current_app().events
        events.create_signal("model:told", internal=False)
        HEARD = []

        @gr.on("app:press")
        def press(data): return ["{0}", data]

        handle = gr.current_app().on("app:other", lambda data: "{0}")

        @events.event("model:changed")
        def heard(data): HEARD.append(("{0}", data))

        @events.query("model:count", internal=False)
        def count(data): return "{0}"

        gr.show("<p>{0}</p>", label="panel")
        gr.show("<p>same</p>", label="side")
    """

    async def story() -> None:
        async with project.running(text.format("old")) as (app, reloader):
            old = sys.modules[project.name]
            visitor = await Visitor(app).open(label="panel")
            assert await visitor.call("gr:subscribe", {"name": "model:told"}) is True
            kept = visitor.session.on("app:mine", lambda data: f"mine {data}")
            heard: list[Any] = []

            async def listen() -> None:
                async for data in app.events.listen("model:told"):
                    heard.append(data)

            listening = asyncio.ensure_future(listen())
            await asyncio.sleep(0)
            await app.events.trigger("model:changed", 1)
            await again(project, reloader, text.format("new"))
            new = sys.modules[project.name]
            assert (await visitor.until("gr:reloaded"))["data"] == {"pages": ["panel"]}
            assert await visitor.call("app:press", 3) == ["new", 3]
            assert await visitor.call("gr:query", {"name": "model:count", "data": None}) == "new"
            assert await visitor.call("app:mine", 4) == "mine 4"
            kept.off()
            assert (await visitor.call("app:mine"))["code"] == "not_found"
            new.handle.off()  # made for the app beside, and moved
            assert (await visitor.call("app:other"))["code"] == "not_found"
            await app.events.trigger("model:told", 5)
            assert (await visitor.until("gr:signal"))["data"] == {"name": "model:told", "data": 5}
            await app.events.trigger("model:changed", 2)
            await app.stop(5)  # reactions empty their queues
            assert (old.HEARD, new.HEARD) == ([("old", 1)], [("new", 2)])
            assert heard == [5]
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    arun(story)


def test_hooks_middlewares_and_verifiers_are_the_new_ones(project: Project, arun: Any) -> None:
    text = """
        import greenroom as gr
        gr.init_state({{"marks": []}})

        @gr.middleware()
        def around(state): state["marks"] = [*state["marks"], "{0} around"]

        @gr.on_open
        def opened(state): state["marks"] = [*state["marks"], "{0} opened"]

        @gr.on_close
        def closed(): CLOSED.append("{0}")

        @gr.session_verifier
        def check(): return {{"by": "{0}"}}

        CLOSED = []

        def marks(state): return list(state["marks"])
    """

    async def story() -> None:
        async with project.running(text.format("old")) as (app, reloader):
            visitor = await Visitor(app).open()
            assert await visitor.call("marks") == ["old opened", "old around"]
            await again(project, reloader, text.format("new"))
            assert await visitor.call("marks") == ["old opened", "old around", "new around"]
            other = await Visitor(app).open()
            assert await other.call("marks") == ["new opened", "new around"]
            assert other.session.userinfo == {"by": "new"}
            closing = other.session
            closing.close()
            await other.until("gr:close")
            assert sys.modules[project.name].CLOSED == ["new"]
            leave(visitor)

    arun(story)


def test_an_app_that_a_module_makes_is_the_running_one_by_another_name(
    project: Project, arun: Any
) -> None:
    text = """
        import greenroom as gr

        def allowed(session, action, name, data): return {1}

        app = gr.App(state={{"n": 0}}, settings=gr.Settings(authorize=allowed))
        events = app.events
        events.create_signal("model:told", internal=False)

        @app.on("app:press")
        async def press(session):
            app.emit("app:pressed", "{0}")
            app.broadcast("app:all", "{0}")
            await events.trigger("model:told", "{0}")
            return [len(app.sessions), app.running, app.phase]
    """

    async def story() -> None:
        async with project.running(text.format("old", True)) as (app, reloader):
            visitor, other = await Visitor(app).open(), await Visitor(app).open()
            assert await visitor.call("gr:subscribe", {"name": "model:told"}) is True
            await again(project, reloader, text.format("new", False))
            assert sys.modules[project.name].app is not app
            assert await visitor.call("app:press") == [2, True, "running"]
            said = {f["type"]: f["data"] for f in visitor.frames if f["type"].startswith("app:")}
            assert said == {"app:pressed": "new", "app:all": "new"}
            told = [f["data"] for f in visitor.frames if f["type"] == "gr:signal"]
            assert told == [{"name": "model:told", "data": "new"}]
            refused = await visitor.call("gr:subscribe", {"name": "model:told"})
            assert refused["code"] == "unauthorized"
            leave(visitor, other)

    arun(story)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_factory_is_asked_for_what_sessions_lack(kind: str, project: Project, arun: Any) -> None:
    text = """
        import greenroom as gr

        {0} make(): return {1}
        gr.init_state(make)
        def put(state): state["a"] = 9
    """

    async def story() -> None:
        async with project.running(text.format(kind, {"a": 1})) as (app, reloader):
            visitor = await Visitor(app).open()
            await visitor.call("put")
            await again(project, reloader, text.format(kind, {"a": 2, "b": [3]}))
            await visitor.until("gr:state")
            assert visitor.session.state.to_dict() == {"a": 9, "b": [3]}
            await again(project, reloader, text.format(kind, "1 / 0"))  # found out when it is asked
            assert "factory failed" in app.log.records()[-1].text
            leave(visitor)

    arun(story)


def test_the_app_goes_on_while_new_code_is_imported(project: Project, arun: Any) -> None:
    async def story() -> None:
        async with project.running(COUNTER) as (app, reloader):
            visitor = await Visitor(app).open()
            gate = threading.Event()
            begun = threading.Event()
            holder = sys.modules["gr_gate"] = type(sys)("gr_gate")
            holder.__dict__.update(gate=gate, begun=begun)
            project.save("import gr_gate\ngr_gate.begun.set()\ngr_gate.gate.wait(20)\n")
            reloading = asyncio.ensure_future(reloader.reload())
            await asyncio.to_thread(begun.wait)
            assert await visitor.call("add") == 1
            gate.set()
            assert await reloading
            assert (await visitor.call("add"))["code"] == "not_found"
            leave(visitor)

    arun(story)


def test_code_that_never_ends_while_it_is_imported_holds_up_nothing(
    project: Project, arun: Any
) -> None:
    async def story() -> None:
        async with project.running("def add(): return 1") as (app, reloader):
            visitor = await Visitor(app).open()
            gate, begun = threading.Event(), threading.Event()
            holder = sys.modules["gr_gate"] = type(sys)("gr_gate")
            holder.__dict__.update(gate=gate, begun=begun)
            project.save("import gr_gate\ngr_gate.begun.set()\ngr_gate.gate.wait()\n")
            reloading = asyncio.ensure_future(reloader.reload())
            await asyncio.to_thread(begun.wait)
            assert await visitor.call("add") == 1
            reloading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reloading
            leave(visitor)
            # What a runner does at its end: it waits for whatever holds the threads of the loop.
            await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), 10)
            gate.set()
            for thread in threading.enumerate():
                if thread.name == "greenroom-import":
                    thread.join()

    arun(story)


def test_code_that_ends_the_program_is_broken_code(project: Project, arun: Any) -> None:
    async def story() -> None:
        async with project.running("def add(): return 1") as (app, reloader):
            visitor = await Visitor(app).open()
            project.save("raise SystemExit(3)")
            assert not await reloader.reload()
            assert "SystemExit: 3" in str(app.broken)
            assert await visitor.call("add") == 1
            leave(visitor)

    arun(story)


def test_adopting_is_for_another_app_and_while_it_runs(arun: Any) -> None:
    async def story() -> None:
        app = App()
        with pytest.raises(Closed):
            app.adopt(App())
        async with app, App() as other:
            for wrong in (app, other):
                with pytest.raises(ValueError, match="never started"):
                    app.adopt(wrong)

    arun(story)


def test_a_notebook_adopts_what_it_has_put_together(arun: Any) -> None:
    def old() -> str:
        return "old"

    def new(app: Any) -> int:
        return len(app.sessions)

    async def story() -> None:
        async with App(state={"a": 1}, handlers=[old]) as app:
            visitor = await Visitor(app).open()
            assert await visitor.call("old") == "old"
            app.adopt(App(state={"a": 5, "b": 2}, handlers=[new]))
            assert await visitor.call("new") == 1
            assert (await visitor.call("old"))["code"] == "not_found"
            assert visitor.session.state.to_dict() == {"a": 1, "b": 2}
            leave(visitor)

    arun(story)


def test_a_new_property_is_for_new_sessions(arun: Any) -> None:
    """In an open one it would be a key that nobody calculates."""

    class Before(State):
        a: int = 1

    class After(State):
        a: int = 1
        b: int = 2

        @gr_property("a")
        def twice(self) -> int:
            return self.a * 2

    def count(state: Any) -> Any:
        state["a"] += 1
        return state["twice"]

    async def story() -> None:
        async with App(state=Before, handlers=[count]) as app:
            visitor = await Visitor(app).open()
            app.adopt(App(state=After, handlers=[count]))
            assert await visitor.call("count") is None  # behind the turn that adds the new keys
            assert visitor.session.state.to_dict() == {"a": 2, "b": 2}
            other = await Visitor(app).open()
            assert await other.call("count") == 4
            leave(visitor, other)

    arun(story)


def test_what_new_code_calculates_is_not_put_into_the_value_of_old_code(arun: Any) -> None:
    class Before(State):
        a: int = 1

        @gr_property("a")
        def shown(self) -> dict[str, Any]:
            return {"a": self.a, "in": {}}

    class Property(State):
        a: int = 1
        b: int = 2

        @gr_property("a")
        def shown(self) -> dict[str, Any]:
            return {"a": self.a, "in": {"b": 2}, "more": 1}

    class Plain(State):
        a: int = 1
        b: int = 2
        shown: Any = {"more": 1}  # noqa: RUF012 -- fields are no class attributes

    async def story() -> None:
        for after in (Property, Plain):
            async with App(state=Before) as app:
                session = app.open_session()
                app.adopt(App(state=after))
                async with session.turn() as state:  # behind the one that brings what is new
                    assert state == {"a": 1, "b": 2, "shown": {"a": 1, "in": {}}}

    arun(story)


def test_a_state_that_was_assigned_before_it_was_adopted_is_taken_as_it_is(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"a": 1}) as app:
            session = app.open_session()
            beginning = State({"a": 1})
            other = App(state=beginning)
            beginning["b"] = 2
            app.adopt(other)
            async with session.turn() as state:  # behind the one that brings what is new
                assert state["b"] == 2
            assert app.open_session().state == {"a": 1, "b": 2}

    arun(story)
