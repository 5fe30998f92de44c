"""Whose output it is, from end to end: real turns of real apps, wherever their code runs.

`test_capture.py` has the router by itself, `test_log.py` the ring that keeps records.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from tests.core.visitor import Visitor

import greenroom as gr
from greenroom import App, Settings
from greenroom.core.lines import Lines
from greenroom.core.log import SessionLog

logger = logging.getLogger("app.orders")


@contextlib.contextmanager
def real_stdout() -> Iterator[io.StringIO]:
    """What reaches the terminal. Not pytest's own, which changes between fixture and test."""
    before, real = sys.stdout, io.StringIO()
    sys.stdout = real
    try:
        yield real
        assert sys.stdout is real, "stdout stayed redirected"
    finally:
        sys.stdout = before


def texts(log: Any) -> list[str]:
    return [record.text for record in log]


def app_texts(app: App) -> list[str]:
    """Without what it says of handlers as it starts."""
    return [t for t in texts(app.log) if not t.startswith(("browsers may", "  "))]


# -- where code of a turn runs --------------------------------------------------------------------


def on_worker() -> None:
    print("said")


async def on_loop() -> None:
    print("said")


async def across_awaits() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    print("said")


@gr.handler(inline=True)
def inline() -> None:
    print("said")


@gr.handler(concurrent=True)
async def concurrent() -> None:
    await asyncio.sleep(0)
    print("said")


@gr.handler(concurrent=True)
def concurrent_on_worker() -> None:
    print("said")


async def in_to_thread() -> None:
    await asyncio.to_thread(print, "said")


async def in_a_task() -> None:
    async def task() -> None:
        await asyncio.sleep(0)
        print("said")

    await asyncio.create_task(task())


async def in_a_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(across_awaits())


async def in_a_callback_of_the_loop() -> None:
    done = asyncio.Event()

    def call() -> None:
        print("said")
        done.set()

    asyncio.get_running_loop().call_soon(call)
    await done.wait()


def in_a_loop_of_its_own() -> None:
    asyncio.run(across_awaits())


def in_a_thread_with_the_context() -> None:
    thread = threading.Thread(target=contextvars.copy_context().run, args=(print, "said"))
    thread.start()
    thread.join()


def in_an_executor_with_the_context() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.copy_context().run, print, "said").result()


async def in_an_executor_of_the_loop_with_the_context() -> None:
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, contextvars.copy_context().run, print, "said")


def by_a_subscriber(state: Any) -> None:
    state.subscribe_mutation("watched", lambda payload: print("said"))
    state["watched"] = 1


def by_an_async_subscriber(state: Any) -> None:
    async def told() -> None:
        await asyncio.sleep(0)
        print("said")

    state.subscribe_mutation("watched", told)
    state["watched"] = 1


def by_writing() -> None:
    sys.stdout.write("sa")
    sys.stdout.write("id\n")


def by_lines() -> None:
    sys.stdout.writelines(["said", "\n"])


def without_an_end() -> None:
    print("said", end="")


def in_pieces_with_flushes() -> None:
    for piece in ("s", "a", "i", "d"):
        print(piece, end="", flush=True)
    print()


def and_raise() -> None:
    print("said")
    raise LookupError("after it")


EVERYWHERE = [
    *(on_worker, on_loop, across_awaits, inline, concurrent, concurrent_on_worker),
    *(in_to_thread, in_a_task, in_a_task_group, in_a_callback_of_the_loop, in_a_loop_of_its_own),
    *(in_a_thread_with_the_context, in_an_executor_with_the_context),
    *(in_an_executor_of_the_loop_with_the_context, by_a_subscriber, by_an_async_subscriber),
    *(by_writing, by_lines, without_an_end, in_pieces_with_flushes, and_raise),
]


@pytest.mark.parametrize("handler", EVERYWHERE, ids=lambda fn: fn.__name__)
def test_what_a_handler_prints_reaches_stdout_and_its_sessions_log_alone(
    arun: Any, handler: Callable[..., Any]
) -> None:
    async def story() -> None:
        with real_stdout() as real:
            async with App(handlers=[handler]) as app:
                visitor, other = [await Visitor(app).open() for _ in range(2)]
                await visitor.call(handler.__name__)
                session = visitor.session
                async with session.turn():
                    pass  # behind the end of the other, so what it began is flushed
                said = [(r.text, r.handler) for r in session.log if r.level == "info"]
                assert said == [("said", handler.__name__)]
                assert len(other.session.log) == 0
                assert "said" not in texts(app.log)
                visitor.line.close()
                other.line.close()
            assert real.getvalue().strip("\n") == "said"

    arun(story)


def in_a_bare_thread() -> None:
    thread = threading.Thread(target=print, args=("said",))
    thread.start()
    thread.join()


def in_a_bare_executor() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(print, "said").result()


async def in_a_bare_executor_of_the_loop() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print, "said")


def on_stderr() -> None:
    print("said", file=sys.stderr)


def by_another_program() -> None:
    done = subprocess.run([sys.executable, "-c", "print('said')"], capture_output=True, check=True)
    assert done.stdout == b"said\n"


@pytest.mark.parametrize(
    "handler",
    [
        *(in_a_bare_thread, in_a_bare_executor, in_a_bare_executor_of_the_loop),
        *(on_stderr, by_another_program),
    ],
    ids=lambda fn: fn.__name__,
)
def test_what_no_turn_prints_is_in_no_sessions_log(arun: Any, handler: Any) -> None:
    """The limits that docs/handlers.md tells."""

    async def story() -> None:
        with real_stdout():
            async with App(handlers=[handler]) as app:
                session = app.open_session()
                await session.ask(handler.__name__)
                assert texts(session.log) == []
                assert "said" not in texts(app.log)

    arun(story)


def test_what_else_runs_in_turns_prints_to_its_session(arun: Any) -> None:
    async def story() -> None:
        done = asyncio.Event()
        app = App(state={"count": 0})

        @app.middleware()
        def around(event_type: str) -> Iterator[None]:
            print(f"before {event_type}")
            yield
            print(f"after {event_type}")

        @app.middleware()
        async def checked() -> None:
            print("checked")

        app.on_open(lambda: print("opened"))
        app.on("app:save", lambda: print("saved"))
        app.events.event("sig:all")(lambda data, session: print("reacted"))

        async def job() -> None:
            await asyncio.sleep(0)
            print("worked")
            done.set()

        with real_stdout():
            async with app:
                session, other = app.open_session(), app.open_session()
                await session.ask("app:save")
                session.spawn(job)
                await done.wait()
                async with session.turn():
                    print("held")
                await asyncio.to_thread(_hold, session)
                said = texts(session.log)
                assert [text for text in said if "spawn" not in text and "job" not in text] == [
                    *("opened", "before app:save", "checked", "saved", "after app:save"),
                    *(["worked"] if "before job" not in said else ["checked", "worked"]),
                    *("held", "held on a thread"),
                ]
                assert texts(other.log) == ["opened"]
                await app.events.trigger("sig:all")
                for each in (session, other):
                    async with each.turn():
                        pass
                    assert "reacted" in texts(each.log)

    arun(story)


def _hold(session: Any) -> None:
    with session.turn():
        print("held on a thread")


def test_what_rich_draws_is_kept_without_its_colours(arun: Any) -> None:
    def table() -> None:
        rows = Table("item", "price")
        rows.add_row("[bold red]chair[/]", "12")
        for console in (Console(width=40), Console(width=40, force_terminal=True)):
            console.print(rows)
            console.print("[green]done[/]")
            console.out("bare", style="blue")

    async def story() -> None:
        with real_stdout() as real:
            async with App(handlers=[table]) as app:
                session = app.open_session()
                await session.ask("table")
                said = texts(session.log)
                assert said[: len(said) // 2] == said[len(said) // 2 :]
                assert any(re.search("chair.*12", text) for text in said)
                assert said[-2:] == ["done", "bare"]
                assert not any("\x1b" in text for text in said)
            assert "\x1b[" in real.getvalue()  # the terminal gets them

    arun(story)


# -- output of no turn ----------------------------------------------------------------------------


def test_what_the_app_runs_in_no_session_prints_to_its_own_log(arun: Any) -> None:
    async def story() -> None:
        reacted = asyncio.Event()

        def make_state() -> dict[str, Any]:
            print("a new state")
            return {}

        app, other = App(state=make_state), App()

        @app.events.event("sig:all")
        async def react(data: Any) -> None:
            print("reacted")
            logger.warning("of the app")
            reacted.set()

        @app.events.query("q:all")
        def answer(data: Any) -> None:
            print("asked")

        with real_stdout() as real:
            async with app, other:
                visitor = await Visitor(app).open()
                await app.events.trigger("sig:all")
                await reacted.wait()
                await app.events.request("q:all")
                said = ["a new state", "reacted", "of the app", "asked"]
                assert app_texts(app) == said
                assert app_texts(other) == []
                assert texts(visitor.session.log) == []
                visitor.line.close()
            assert real.getvalue() == "a new state\nreacted\nasked\n"

    arun(story)


def test_what_is_printed_while_an_app_registers_is_in_its_log(arun: Any) -> None:
    async def story() -> None:
        app, other = App(), App()
        with real_stdout() as real:
            with app.registering():
                print("my_events is imported")
                with other.registering():
                    print("and what it imports")
            print("outside")
            async with app:
                print("outside, too")  # the context of whoever started it is not ours
            assert app_texts(app) == ["my_events is imported"]
            assert app_texts(other) == ["and what it imports"]
            assert real.getvalue().count("\n") == 4

    arun(story)


def test_a_stdout_that_nobody_reads_any_more_fails_no_turn(
    arun: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A closed pipe or terminal: what is printed is kept, and that it is gone is said once."""

    class Gone(io.StringIO):
        def write(self, text: Any, /) -> int:
            raise BrokenPipeError(32, "Broken pipe")

        @property
        def buffer(self) -> Any:
            return self

        def flush(self) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    def say(state: Any) -> None:
        for number in range(3):
            print("said", number)
        sys.stdout.buffer.write(b"said in bytes\n")
        sys.stdout.flush()
        state["count"] += 1

    async def story() -> None:
        caplog.clear()
        before, sys.stdout = sys.stdout, Gone()
        try:
            async with App(state={"count": 0}, handlers=[say]) as app:
                session = app.open_session()
                await session.ask("say")
                await session.ask("say")
                assert session.state["count"] == 2
                said = [text for text in texts(session.log) if text.startswith("said")]
                assert said == ["said 0", "said 1", "said 2", "said in bytes"] * 2
                lost = [r for r in caplog.records if "takes nothing any more" in r.message]
                assert len(lost) == 1
                with pytest.raises(BrokenPipeError):
                    print("of nobody")  # who is no handler learns of it
                with pytest.raises(BrokenPipeError):
                    sys.stdout.buffer.write(b"of nobody")
        finally:
            sys.stdout = before

    arun(story)


@pytest.mark.parametrize("how", ["pipe", "closed"])
def test_nor_does_it_end_a_thread_of_the_application(
    arun: Any, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    class Gone(io.StringIO):
        def write(self, text: Any, /) -> int:
            raise BrokenPipeError(32, "Broken pipe")

        @property
        def buffer(self) -> Any:
            return self

    ended: list[str] = []

    def watch() -> None:
        print("of no turn")
        sys.stdout.buffer.write(b"of no turn")
        sys.stdout.flush()
        ended.append(threading.current_thread().name)

    def start(session: Any) -> None:
        print("of the turn")
        thread = threading.Thread(target=watch, name="watch")  # without the context of the turn
        thread.start()
        thread.join()

    async def story() -> None:
        caplog.clear()
        before, sys.stdout = sys.stdout, Gone() if how == "pipe" else io.TextIOWrapper(io.BytesIO())
        try:
            async with App(handlers=[start]) as app:
                if how == "closed":
                    cast("Any", sys.stdout).real.close()
                session = app.open_session()
                await session.ask("start")
                assert ended == ["watch"]
                assert [text for text in texts(session.log) if "turn" in text] == ["of the turn"]
                lost = [r for r in caplog.records if "takes nothing any more" in r.message]
                assert len(lost) == 1
        finally:
            sys.stdout = before

    arun(story)


def test_a_text_that_stdout_cannot_encode_is_an_error_of_who_prints_it(arun: Any) -> None:
    def say() -> None:
        print("caf\xe9")

    async def story() -> None:
        real = io.TextIOWrapper(io.BytesIO(), "ascii")
        before, sys.stdout = sys.stdout, real
        try:
            async with App(handlers=[say]) as app:
                with pytest.raises(UnicodeEncodeError):
                    await app.open_session().ask("say")
        finally:
            sys.stdout = before

    arun(story)


# -- logging --------------------------------------------------------------------------------------


def test_log_records_reach_the_session_and_the_applications_own_logging(
    arun: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def order(payload: Any) -> None:
        logger.info("ordered %s", payload)
        try:
            raise LookupError("sold out")
        except LookupError:
            logger.exception("not ordered")

    async def later() -> None:
        await asyncio.to_thread(logger.warning, "from a thread")

    async def story() -> None:
        caplog.clear()
        caplog.set_level(logging.INFO, "app")
        async with App(handlers=[order, later]) as app:
            session, other = app.open_session(), app.open_session()
            await session.ask("order", "a chair")
            await session.ask("later")
            assert [(r.level, r.text, r.handler) for r in session.log] == [
                ("info", "ordered a chair", "order"),
                ("error", "not ordered", "order"),
                ("warning", "from a thread", "later"),
            ]
            assert "LookupError: sold out" in str(session.log.records()[1].traceback)
            assert texts(other.log) == []
            heard = [r.message for r in caplog.records if r.name == "app.orders"]
            assert heard == ["ordered a chair", "not ordered", "from a thread"]

    arun(story)


def test_a_record_that_cannot_be_read_fails_no_turn(arun: Any) -> None:
    """As in logging itself, which tells of it on stderr."""

    class Odd:
        def __str__(self) -> str:
            raise LookupError("no words")

    def say(state: Any) -> None:
        logger.warning(Odd())
        logger.warning("it is %s", Odd())
        state["count"] += 1

    async def story() -> None:
        async with App(state={"count": 0}, handlers=[say]) as app:
            session = app.open_session()
            await session.ask("say")
            assert session.state["count"] == 1
            assert texts(session.log) == ["<Odd>", "it is %s"]

    raised, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        arun(story)
    finally:
        logging.raiseExceptions = raised


@pytest.mark.parametrize("kind", ["stream", "rich", "print"])
def test_a_record_that_the_application_logs_to_stdout_is_in_the_log_once(
    arun: Any, kind: str
) -> None:
    """As most containers have it: `logging.basicConfig(stream=sys.stdout)` in main.py."""

    class Printing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(self.format(record))

    def make(stream: Any) -> logging.Handler:
        if kind == "stream":
            return logging.StreamHandler(stream)
        return RichHandler(console=Console(file=stream)) if kind == "rich" else Printing()

    def order() -> None:
        logger.warning("ordered")
        apart.warning("by itself")
        print("printed")

    async def fail() -> None:
        raise LookupError("sold out")

    apart = logging.getLogger("app.apart")
    apart.propagate = False  # what does not come up to us is only what is printed

    async def story() -> None:
        with real_stdout() as real:
            async with App(handlers=[order, fail]) as app:
                handler = make(sys.stdout)
                logging.root.addHandler(handler)
                apart.addHandler(handler)
                try:
                    session = app.open_session()
                    await session.ask("order")
                    said = texts(session.log)
                    assert (said[0], len(said)) == ("ordered", 3)
                    assert "by itself" in said[1]
                    assert said[2] == "printed"
                    with pytest.raises(LookupError):
                        await session.ask("fail")
                    assert texts(session.log)[3:] == ["'fail' failed: LookupError: sold out"]
                    assert sum("sold out" in text for text in texts(app.log)) == 1
                finally:
                    logging.root.removeHandler(handler)
                    apart.removeHandler(handler)
            for text in ("ordered", "by itself", "printed", "sold out"):
                assert text in real.getvalue()

    arun(story)


# -- many at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_sessions_that_print_at_once_never_get_each_others_text(arun: Any, kind: str) -> None:
    """Eight sessions print in pieces, each round at the same time on eight threads."""

    sessions, rounds = 8, 30

    async def story() -> None:
        meeting = threading.Barrier(sessions)

        def chat(session: Any) -> None:
            for number in range(rounds):
                meeting.wait(30)
                print(session.id, end=" ")
                print(number, end="", flush=True)
                sys.stdout.write("\n")
                logger.warning("%s logs %d", session.id, number)

        async def chat_async(session: Any) -> None:
            for number in range(rounds):
                print(session.id, end=" ")
                await asyncio.sleep(0)
                print(number, end="")
                await asyncio.sleep(0)
                print()
                logger.warning("%s logs %d", session.id, number)

        handler = chat if kind == "sync" else chat_async
        with real_stdout() as real:
            async with App(handlers=[handler], settings=Settings(workers=sessions)) as app:
                crowd = [app.open_session() for _ in range(sessions)]
                await asyncio.gather(*[one.ask(handler.__name__, timeout=30) for one in crowd])
                for one in crowd:
                    expected = []
                    for number in range(rounds):
                        expected += [f"{one.id} {number}", f"{one.id} logs {number}"]
                    assert texts(one.log) == expected
            assert all(real.getvalue().count(one.id) == rounds for one in crowd)

    arun(story)


def test_stdout_is_what_it_was_also_after_handlers_that_raised_and_apps_that_overlap(
    arun: Any,
) -> None:
    async def story() -> None:
        with real_stdout() as real:
            one, two = App(handlers=[and_raise]), App(handlers=[on_worker])
            await one.start()
            routed = sys.stdout
            await two.start()
            assert sys.stdout is routed  # one router for all
            first, second = one.open_session(), two.open_session()
            with pytest.raises(LookupError):
                await first.ask("and_raise")
            assert sys.stdout is routed
            await one.stop()
            assert sys.stdout is routed  # the other still wants it
            await second.ask("on_worker")
            await two.stop()
            assert sys.stdout is real
            assert "said" in texts(first.log)
            assert texts(second.log) == ["said"]
            print("still heard")
            assert real.getvalue() == "said\nsaid\nstill heard\n"

    arun(story)


def test_threads_of_one_turn_that_speak_first_at_once_have_one_log(
    arun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find none, and each makes one: the same stays for both."""
    meeting = threading.Barrier(2)

    class SlowLog(SessionLog):
        def __init__(self, *args: Any, **more: Any) -> None:
            meeting.wait(30)
            super().__init__(*args, **more)

    class SlowLines(Lines):
        def __init__(self) -> None:
            meeting.wait(30)
            super().__init__()

    async def both() -> None:
        await asyncio.gather(*[asyncio.to_thread(print, name, end="") for name in "ab"])

    async def story() -> None:
        monkeypatch.setattr("greenroom.core.session.SessionLog", SlowLog)
        monkeypatch.setattr("greenroom.core.log.Lines", SlowLines)
        async with App(handlers=[both]) as app:
            session = app.open_session()
            await session.ask("both")
            assert sorted(texts(session.log)) == ["a", "b"]

    arun(story)


def test_what_a_turn_has_started_prints_to_its_session_also_after_its_end(arun: Any) -> None:
    async def story() -> None:
        going, done = asyncio.Event(), asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def work() -> None:
            await going.wait()
            print("done at last")
            done.set()

        async def start() -> None:
            tasks.append(asyncio.create_task(work()))

        async with App(handlers=[start]) as app:
            session, other = app.open_session(), app.open_session()
            await session.ask("start")
            await other.ask("start")
            going.set()
            await asyncio.gather(*tasks)
            for each in (session, other):
                assert [(r.text, r.handler) for r in each.log] == [("done at last", "start")]
            assert done.is_set()

    arun(story)


# -- bounds ---------------------------------------------------------------------------------------


def test_a_log_is_bounded_in_records_and_in_length(arun: Any) -> None:
    def babble(payload: int) -> None:
        for number in range(payload):
            print(number)

    def rant(payload: int) -> None:
        for _ in range(payload):
            print("x" * 100_000)

    def endless(payload: int) -> None:
        for _ in range(payload):
            print("y" * 1_000, end="")

    async def story() -> None:
        with real_stdout() as real:
            async with App(handlers=[babble, rant, endless]) as app:
                session = app.open_session()
                await session.ask("babble", 1_000)
                assert texts(session.log) == [str(number) for number in range(800, 1_000)]
                await session.ask("rant", 100)
                assert sum(map(len, texts(session.log))) <= 256 * 1024
                assert texts(session.log)[-1].endswith("x... (91808 characters more)")
                await session.ask("endless", 1_000)
                assert sum(map(len, texts(session.log))) <= 256 * 1024
                assert all(len(text) < 10_000 for text in texts(session.log))
                assert texts(session.log)[-1].endswith("y")
            assert real.getvalue().count("x") == 10_000_000  # the terminal gets everything
            assert real.getvalue().count("y") == 1_000_000

    arun(story)


# -- browsers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", ["", "debug", "log_to_client"])
def test_browsers_see_the_log_of_their_session_only_where_it_is_switched_on(
    arun: Any, switch: str
) -> None:
    settings = Settings(debug=switch == "debug", log_to_client=switch == "log_to_client")

    async def story() -> None:
        async with App(handlers=[on_worker, and_raise], settings=settings) as app:
            visitor, view, other = Visitor(app), Visitor(app), Visitor(app)
            await visitor.open()
            await view.open(token=visitor.welcome["token"])
            await other.open()
            await visitor.call("on_worker")
            await visitor.call("and_raise")
            await view.call("on_worker")
            await other.call("on_worker")
            await visitor.call("on_worker")

            def said(one: Visitor) -> list[Any]:
                return [frame["data"] for frame in one.frames if frame["type"] == "gr:log"]

            if not switch:
                assert said(visitor) == said(view) == said(other) == []
            else:
                assert len(said(visitor)) == 5
                assert [record["text"] for record in said(other)] == ["said"]
                assert [record["text"] for record in said(view)] == [
                    *("said", "said", "'and_raise' failed: LookupError: after it", "said"),
                ]
                traceback = said(visitor)[2].get("traceback")
                assert (traceback is not None) == (switch == "debug")
            for one in (visitor, view, other):
                one.line.close()

    arun(story)
