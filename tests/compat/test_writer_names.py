"""The old names: all of them are here, or say what to use instead."""

from __future__ import annotations

import importlib
import io
import re
import types
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.support.scripts import imports_of, write

import greenroom as gr
import greenroom.compat.writer as wf
from greenroom.cli import CommandError
from greenroom.cli.load import load
from greenroom.compat.writer import absent

PAGE = Path(__file__).parents[2] / "docs/coming-from-writer.md"

# What `import writer as wf` and `import streamsync as ss` offer, by hand from their releases 1.28
# and 0.5, without what only their own code uses.
THEIRS = """
    BytesWrapper Config FileWrapper Readable State StreamsyncState StreamsyncUIManager VERSION
    WriterState WriterUIManager EditableDataFrame ai auth base_cmc_tree base_component_tree
    blueprints core core_ui get_app_process init_handlers init_state init_ui initial_state
    middleware new_initial_state pack_bytes pack_file property serve session_manager
    session_verifier ui
"""
CORE = """
    BytesWrapper Config EventHandlerRegistry FileWrapper MutableValue State StateProxy
    StreamsyncState WriterSession WriterState get_app_process get_session initial_state
    new_initial_state reset_base_component_tree session_manager session_verifier state_serialiser
"""
OF_A_STATE = """
    add_log_entry add_mail add_notification calculated_property call_frontend_function clear_mail
    file_download get_clone get_new import_frontend_module import_script import_stylesheet ingest
    items mail open_url remove set_page set_route_vars subscribe_mutation to_dict to_raw_state
    user_state
"""
OF_VALUES = {
    wf.MutableValue: ["mutate", "mutated", "reset_mutation"],
    wf.EditableDataFrame: ["df", "record", "record_add", "record_remove", "record_update"],
}
ARGUMENTS = ["ui", "blueprint_runner", "workflow_runner", "vault"]


def offered(place: Any, name: str) -> bool:
    """Whether a name is there; otherwise it must say what to use instead."""
    if name not in absent.NAMES:
        return hasattr(place, name)
    with pytest.raises(wf.NotOffered, match=f"^{name} is not part of Greenroom: "):
        getattr(place, name)
    return False


@pytest.mark.parametrize(
    ("place", "names"),
    [(wf, THEIRS), (wf.core, CORE), (wf.WriterState({}), OF_A_STATE)],
    ids=["wf", "wf.core", "state"],
)
def test_every_name_is_here_or_says_what_to_use_instead(place: Any, names: str) -> None:
    asked = set(names.split())
    here = {name for name in asked if offered(place, name)}
    assert asked - here == asked & set(absent.NAMES)
    with pytest.raises(AttributeError):
        _ = place.no_such_name


def test_values_have_their_old_methods() -> None:
    for kind, names in OF_VALUES.items():
        assert all(hasattr(kind, name) for name in names)


def test_every_name_of_ours_is_one_of_theirs_and_says_what_it_is() -> None:
    assert wf.__all__ == sorted(wf.__all__)
    more = {"NotOffered", "MutableValue", "EditableDataframe", "StreamsyncState"}
    assert set(wf.__all__) - more <= set(THEIRS.split())
    for name in wf.__all__:
        assert getattr(wf, name).__doc__, name


@pytest.mark.parametrize("name", sorted({*f"{THEIRS} {CORE} {OF_A_STATE}".split(), *ARGUMENTS}))
def test_the_page_for_those_who_come_has_a_row_for_every_name(name: str) -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in row.split("|")[1] for row in rows), f"no row names {name}"


def test_what_the_page_calls_ours_is_there() -> None:
    rows = [line.split("|") for line in PAGE.read_text("utf-8").splitlines() if line[:2] == "| "]
    told = " ".join(cell for row in rows if len(row) > 4 for cell in row[2:5])
    named = re.findall(r"`(?:[^`]*[^`\w.])?(gr|session)\.(\w+)", told)
    assert {("gr", "EditableTable"), ("session", "set_page")} <= set(named)
    for place, name in named:
        assert hasattr({"gr": gr, "session": gr.Session}[place], name), f"{place}.{name}"


def test_the_state_and_the_table_go_on_with_our_names_as_the_page_says(arun: Any) -> None:
    class Shop(gr.State):
        count: int

    async def story() -> None:
        app = gr.App()
        with app.registering():
            initial_state = Shop({"count": 1, "heard": 0, "rows": gr.EditableTable([{"n": 1}])})
            gr.init_state(initial_state)
            initial_state.subscribe_mutation("count", lambda state: state.update(heard=1))
            initial_state["title"] = "more"

        def work(state: Shop, session: gr.Session) -> Any:
            assert isinstance(state, Shop)
            state.count += 1
            state["rows"].add({"n": 2})
            state["rows"].update(0, {"n": 5})
            state["rows"].remove(1)
            session.notify("M", title="T", kind="success")
            return state["rows"].data

        app.handlers.add(work)
        async with app:
            session = app.open_session()
            assert await session.ask("work") == [{"n": 5}]
            assert (session.state["heard"], session.state["title"]) == (1, "more")

    arun(story)


@pytest.mark.parametrize("module", ["ai", "auth", "blueprints", "serve", "ui"])
def test_modules_that_are_not_here_say_so_when_something_is_imported_from_them(module: str) -> None:
    found = importlib.import_module(f"greenroom.compat.writer.{module}")
    with pytest.raises(wf.NotOffered, match=f"^{module} is not part"):
        _ = found.Anything
    with pytest.raises(AttributeError):
        _ = found.__path__
    with pytest.raises(wf.NotOffered):
        exec(f"from greenroom.compat.writer.{module} import Anything")


# -- arguments that nothing is given to -----------------------------------------------------------


def module_of(source: str) -> types.ModuleType:
    made = types.ModuleType("handlers")
    exec(source, vars(made))
    return made


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_a_handler_that_wants_what_is_not_here_is_refused_at_registration(argument: str) -> None:
    app = gr.App()
    with app.registering():
        with pytest.raises(gr.BadHandler, match=f"handler draw .*wants '{argument}'.*: "):
            wf.init_handlers(module_of(f"def draw(state, {argument}): ..."))
        with pytest.raises(gr.BadHandler, match="middleware"):
            exec(f"@wf.middleware()\ndef around({argument}=None): yield", {"wf": wf})
        state = wf.init_state({"a": 1})
        with pytest.raises(gr.BadHandler, match="subscriber"):
            state.subscribe_mutation("a", eval(f"lambda {argument}: None"))
    # and so are those of main.py, which the loader registers
    with pytest.raises(gr.BadHandler, match=argument):
        app.handlers.add_module(module_of(f"def draw({argument}): ..."), main=True)


def test_what_is_not_here_stops_the_start_with_what_to_use_instead(tmp_path: Path) -> None:
    begin = "import greenroom.compat.writer as wf\nwf.init_state({})\n"
    for line, said in (
        ("def draw(state, ui): ...", r"draw \(.*main.py:3\) wants 'ui'.*page in HTML"),
        ("from greenroom.compat.writer.ai import Conversation", "ai is not part of Greenroom: "),
        ("ui = wf.init_ui()", "init_ui is not part of Greenroom: .*HTML"),
    ):
        write(tmp_path, {"main.py": begin + line})
        with imports_of(tmp_path), pytest.raises(CommandError, match=said):
            load(str(tmp_path), gr.Settings())


@pytest.mark.parametrize(
    "line", ["import greenroom.compat.writer as ss", "from greenroom.compat.writer import State"]
)
def test_so_it_does_in_an_app_that_has_no_state_to_init(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"main.py": f"{line}\ndef draw(ui): ...\n"})
    with imports_of(tmp_path), pytest.raises(CommandError, match=r"wants 'ui'.*page in HTML"):
        load(str(tmp_path), gr.Settings())


def test_without_an_app_the_cure_is_shown() -> None:
    with pytest.raises(gr.NoApp, match=r"app\.registering"):
        wf.init_state({})
    with pytest.raises(gr.NoApp):
        wf.WriterState({}).open_url("/")


def test_a_root_schema_is_a_writer_state() -> None:
    app = gr.App()
    with app.registering():
        for wrong in (wf.State, dict, 5):
            schema: Any = wrong
            with pytest.raises(TypeError, match="WriterState"):
                wf.init_state({}, schema=schema)


# -- what the names do ----------------------------------------------------------------------------


def test_what_is_marked_as_shared_is_one_object_for_all_sessions(arun: Any) -> None:
    catalogue = {"A1": object()}

    async def story() -> None:
        app = gr.App()
        with app.registering():
            wf.init_state({"all": gr.shared(catalogue), "n": {"all": gr.shared(catalogue)}})
        async with app:
            for session in (app.open_session(), app.open_session()):
                assert session.state["all"] is session.state["n"]["all"] is catalogue

    arun(story)


def test_a_state_has_its_old_methods() -> None:
    class Part(wf.State):
        name: str = "new"

    class Root(wf.WriterState):
        part: Part

    state = Root({"part": {"name": "a"}, "old": 1})
    state.part.ingest({"more": 1})
    assert state == {"part": {"name": "new", "more": 1}, "old": 1}
    state.part.remove("more")
    state.remove("missing")
    state.ingest({"count": 1, "_secret": 2})
    assert state.to_dict() == {"count": 1, "part": {"name": "new"}}
    assert state.to_raw_state()["_secret"] == 2
    assert state["missing"] is None
    assert state.count == 1
    seen: list[Any] = []

    def note(payload: Any, context: Any) -> None:
        seen.append((context["event"], payload["new_value"]))

    state.part.subscribe_mutation("name", note, initial_triggered=True)
    state.part.name = "b"
    assert seen == [("init", "new"), ("mutation", "b")]


def test_mutable_values_remember_that_they_changed() -> None:
    class Counter(wf.MutableValue):
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def to_dict(self) -> dict[str, int]:
            return {"count": self.count}

    value = Counter()
    assert not value.mutated()
    value.mutate()
    assert value.mutated()
    value.reset_mutation()
    assert not value.mutated()
    assert isinstance(value, gr.MutableValue)


def test_files_are_packed_by_the_old_signatures(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"one")
    packed = wf.pack_file(str(path), mime_type="text/csv")
    path.write_bytes(b"two")
    assert (packed, packed.mime, packed.name) == (b"one", "text/csv", "a.csv")  # read once, then
    assert wf.pack_file(io.BytesIO(b"x")).mime == "application/octet-stream"
    assert wf.pack_bytes(b"x", mime_type="image/png").mime == "image/png"
    assert isinstance(wf.pack_bytes(b"x"), wf.BytesWrapper)


def test_a_download_is_of_bytes_never_of_a_path() -> None:
    state = wf.WriterState({})
    wrong: Any = "/etc/passwd"
    with pytest.raises(TypeError, match=r"pack_file.*session\.download"):
        state.file_download(wrong, "x")


def test_log_entries_go_to_the_session_or_to_the_app(arun: Any) -> None:
    async def story() -> None:
        app = gr.App()
        with app.registering():
            state = wf.init_state({})
            state.add_log_entry("info", "Start", "first")

        def work(state: Any) -> None:
            state.add_log_entry("error", "Query", "it failed", "SELECT 1")
            state.add_log_entry("warning", "Query", "slow")

        app.handlers.add(work)
        async with app:
            visitor = await Visitor(app).open()
            await visitor.call("work")
            log = [(record.level, record.text) for record in visitor.session.log]
            assert log == [("error", "Query: it failed\nSELECT 1"), ("warning", "Query: slow")]
            visitor.line.close()
        assert "Start: first" in [record.text for record in app.log]

    arun(story)


def test_beside_the_turns_mail_leaves_at_once(arun: Any) -> None:
    @gr.handler(concurrent=True)
    def work(state: Any) -> None:  # it gets the state to read
        state.add_notification("info", "Work", "half way")
        state.add_mail("progress", 50)

    async def story() -> None:
        app = gr.App(handlers=[work])
        with app.registering():
            wf.init_state({})
        async with app:
            visitor = await Visitor(app).open()
            await visitor.call("work")
            told = [(f["type"], f["data"]) for f in visitor.frames[-3:-1]]
            assert told == [
                ("gr:notify", {"message": "half way", "title": "Work", "kind": "info"}),
                ("mail:progress", 50),
            ]
            visitor.line.close()

    arun(story)


def test_the_session_of_a_turn_has_its_old_names(arun: Any) -> None:
    found: list[Any] = []

    def who(state: Any) -> None:
        found.append(wf.core.get_session())
        found[0].session_state["seen"] = True

    async def story() -> None:
        async with gr.App(handlers=[who]) as app:
            session = app.open_session(cookies={"a": "b"}, headers={"c": "d"}, userinfo={"e": 1})
            await session.ask("who")
            one = found[0]
            assert (one.session_id, one.cookies, one.headers) == (
                session.id,
                {"a": "b"},
                {"c": "d"},
            )
            assert one.userinfo == {"e": 1}
            assert one.last_active_timestamp == session.last_active
            assert session.state["seen"] is True

    arun(story)
    assert wf.core.get_session() is None
