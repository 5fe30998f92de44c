"""Whose output it is: stdout and logging reach the log of exactly the session that made them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import logging
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.core import capture
from greenroom.core._turn import Message, Turn, enter_turn
from greenroom.core.lines import Lines
from greenroom.core.log import AppLog, SessionLog


class Session:
    def __init__(self, name: str) -> None:
        self.id = name
        self.log = SessionLog()


def in_turn(session: Any, fn: Callable[[], Any], event: str = "add") -> Any:
    """Run `fn` as a turn of `session` does: in a context of its own."""

    def run() -> Any:
        enter_turn(Turn(session, Message(event)))
        return fn()

    return contextvars.copy_context().run(run)


def texts(log: Any) -> list[str]:
    return [record.text for record in log]


@contextlib.contextmanager
def routed() -> Iterator[io.StringIO]:
    """Output is routed; gives what reached the real stdout. (pytest swaps sys.stdout by itself
    between a fixture and its test, so this is none.)
    """
    before, real = sys.stdout, io.StringIO()
    sys.stdout = real
    try:
        capture.install()
        try:
            yield real
        finally:
            capture.uninstall()
        assert sys.stdout is real
    finally:
        sys.stdout = before
    assert not capture.installed()
    assert logging.root.parent is None


def test_a_turn_prints_to_its_session_and_to_stdout() -> None:
    with routed() as real:
        session = Session("a")
        print("before")
        in_turn(session, lambda: print("hello", 1, sep=" - "), "save")
        print("after")
        assert real.getvalue() == "before\nhello - 1\nafter\n"
        assert [(r.text, r.handler, r.level) for r in session.log] == [
            ("hello - 1", "save", "info")
        ]


def test_sessions_in_threads_do_not_mix() -> None:
    with routed() as real:
        sessions = [Session(name) for name in "abcd"]
        gate = threading.Barrier(4)

        def work(session: Session) -> None:
            gate.wait()
            for number in range(100):
                in_turn(session, lambda: print(session.id, number))  # noqa: B023 runs at once

        threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        written = Counter[str]()
        for session in sessions:
            said = [f"{session.id} {number}" for number in range(100)]
            assert texts(session.log) == said
            written.update("".join(f"{text}\n" for text in said))
        # print() writes in pieces, and on a terminal those of threads may mix: nothing is lost
        assert Counter(real.getvalue()) == written


def test_sessions_in_tasks_do_not_mix(arun: Callable[..., Any]) -> None:
    with routed():
        sessions = [Session(name) for name in "abc"]

        async def story() -> None:
            async def child(session: Session) -> None:
                await asyncio.sleep(0)
                print("child of", session.id)

            async def turn(session: Session) -> None:
                enter_turn(Turn(session, Message("add")))
                for number in range(3):
                    print(session.id, number)
                    await asyncio.sleep(0)
                await asyncio.create_task(child(session))

            await asyncio.gather(*(asyncio.create_task(turn(session)) for session in sessions))

        arun(story)
        for session in sessions:
            name = session.id
            assert texts(session.log) == [f"{name} 0", f"{name} 1", f"{name} 2", f"child of {name}"]


def test_output_of_no_turn_goes_to_the_log_of_its_context() -> None:
    with routed():
        app, session = AppLog(), Session("a")
        with app.capturing():
            print("importing")
            in_turn(session, lambda: print("in a turn"))
        print("later")
        assert texts(app) == ["importing"]
        assert texts(session.log) == ["in a turn"]


def test_two_apps_share_the_router_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    real = io.StringIO()
    monkeypatch.setattr(sys, "stdout", real)
    first, second = AppLog(), AppLog()
    first.start()
    router = sys.stdout
    second.start()
    assert sys.stdout is router
    with first.capturing():
        print("one")
    with second.capturing():
        print("two")
    first.stop()
    assert sys.stdout is router
    second.stop()
    assert sys.stdout is real
    assert (texts(first), texts(second)) == (["one"], ["two"])
    assert real.getvalue() == "one\ntwo\n"


def test_lines_begun_and_not_ended() -> None:
    with routed():
        session = Session("a")

        def in_pieces() -> None:
            print("be", end="")
            print("gun")

        in_turn(session, in_pieces)
        assert texts(session.log) == ["begun"]
        told: list[str] = []
        session.log.on_record = lambda record: told.append(record.text)
        in_turn(session, lambda: print("rest", end=""))
        assert told == []
        session.log.flush()  # as at the end of every turn that somebody hears of
        session.log.flush()
        assert told == ["rest"]
        in_turn(session, lambda: print("more", end=""))
        assert texts(session.log) == ["begun", "rest", "more"]  # and when somebody looks


LONG = "x" * 9_000


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ([LONG, "\n"], [LONG]),  # as print writes it: no empty line behind it
        ([LONG + "\n"], [LONG]),
        ([LONG, "\n", "\n"], [LONG, ""]),
        ([LONG, "", "tail", "\n"], [LONG, "tail"]),
        ([LONG, LONG, "\nrest"], [LONG, LONG, "rest"]),
        (["one\n" + LONG, "\n", "two\n"], ["one", LONG, "two"]),
    ],
)
def test_a_line_that_is_too_long_does_not_wait_for_its_end(
    pieces: list[str], found: list[str]
) -> None:
    lines = Lines()
    told = [text for piece in pieces for text, _ in lines.feed(piece, None)]
    assert told + [text for text, _ in lines.rest()] == found


def test_lines_that_nobody_ends_are_bounded() -> None:
    """Tasks that outlive their turns, say, each with a line of its own."""
    with routed():
        session = Session("a")
        turns = [Turn(session, Message("add")) for _ in range(1_000)]
        for number, turn in enumerate(turns):
            context = contextvars.copy_context()
            context.run(enter_turn, turn)
            context.run(print, number, end="")
        kept = texts(session.log)
        assert sorted(map(int, kept)) == [*range(800, 1_000)]


def test_lines_of_jobs_beside_each_other_do_not_join() -> None:
    """Two turns of one session on one thread, which take turns at writing."""
    with routed() as real:
        session = Session("a")
        contexts = [contextvars.copy_context() for _ in range(2)]
        turns = [Turn(session, Message(name)) for name in ("one", "two")]
        for context, turn in zip(contexts, turns, strict=True):
            context.run(enter_turn, turn)
        for piece in ("a", "b\n"):
            for number, context in enumerate(contexts):
                context.run(print, f"{number}{piece}", end="")
        assert [(r.text, r.handler) for r in session.log] == [("0a0b", "one"), ("1a1b", "two")]
        assert real.getvalue() == "0a1a0b\n1b\n"


@given(st.lists(st.text(alphabet="ab\n\r", max_size=6), max_size=8))
def test_pieces_join_to_lines(pieces: list[str]) -> None:
    lines = Lines()
    found = [text for piece in pieces for text, _ in lines.feed(piece, None)]
    found += [text for text, _ in lines.rest()]
    *whole, rest = "".join(pieces).split("\n")
    drawn = [[part for part in line.split("\r") if part] for line in whole + [rest] * bool(rest)]
    assert found == [parts[-1] if parts else "" for parts in drawn]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("\x1b[1;31mred\x1b[0m and plain", "red and plain"),
        ("\x1b]0;a title\x07\x1b[2K\x1b[?25lhidden", "hidden"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10%\r50%\r100%", "100%"),
        ("\r\x1b[K\r", ""),
        ("windows\r", "windows"),
        ("a lone \x1b", "a lone \x1b"),
    ],
)
def test_a_line_is_kept_as_a_terminal_shows_it(written: str, kept: str) -> None:
    with routed() as real:
        session = Session("a")
        in_turn(session, lambda: print(written))
        assert texts(session.log) == [kept]
        assert real.getvalue() == written + "\n"


def test_a_session_without_a_log_does_no_harm() -> None:
    with routed() as real:
        in_turn(None, lambda: print("nobody's"))
        assert real.getvalue() == "nobody's\n"


def test_the_router_is_a_text_stream_like_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    real = io.TextIOWrapper(raw, encoding="latin-1", errors="replace", write_through=True)
    monkeypatch.setattr(sys, "stdout", real)
    capture.install()
    try:
        router = sys.stdout
        assert isinstance(router, io.TextIOBase)
        assert (router.encoding, router.errors, router.newlines) == ("latin-1", "replace", None)
        assert router.writable()
        assert router.seekable()
        assert not router.isatty()
        router.writelines(["a", "b"])
        router.flush()
        router.close()
        assert not router.closed
        with pytest.raises(io.UnsupportedOperation):
            router.fileno()
        with pytest.raises(TypeError):
            router.write(5)  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            _ = router.nothing  # type: ignore[attr-defined]
    finally:
        capture.uninstall()
    assert raw.getvalue() == b"ab"


def test_bytes_go_to_the_real_stream_and_as_text_to_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    real = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    monkeypatch.setattr(sys, "stdout", real)
    session = Session("a")
    capture.install()
    try:

        def write() -> None:
            assert sys.stdout.buffer.write("größe\n".encode()) == 8
            sys.stdout.buffer.writelines([b"one\n", memoryview(b"two")])
            sys.stdout.buffer.write(b"\xff\n")
            sys.stdout.buffer.flush()
            assert sys.stdout.buffer.writable()

        in_turn(session, write)
    finally:
        capture.uninstall()
    assert texts(session.log) == ["größe", "one", "two\ufffd"]
    assert raw.getvalue() == "größe\none\ntwo".encode() + b"\xff\n"


def test_without_a_stdout_the_log_still_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    session = Session("a")
    capture.install()
    try:
        in_turn(session, lambda: print("no console", flush=True))
    finally:
        capture.uninstall()
    assert sys.stdout is None
    assert texts(session.log) == ["no console"]


def test_what_was_put_over_the_router_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    real = io.StringIO()
    monkeypatch.setattr(sys, "stdout", real)
    session = Session("a")
    capture.install()
    inner = sys.stdout

    class Over:
        def write(self, text: str) -> int:
            return inner.write(text)

        def flush(self) -> None: ...

    over = Over()
    sys.stdout = over
    capture.uninstall()
    assert sys.stdout is over
    in_turn(session, lambda: print("unheard"))
    capture.install()  # on top of it, and the one below is silent
    in_turn(session, lambda: print("once"))
    capture.uninstall()
    assert sys.stdout is over
    assert texts(session.log) == ["once"]
    assert real.getvalue() == "unheard\nonce\n"


def test_uninstalling_what_was_not_installed() -> None:
    with pytest.raises(RuntimeError):
        capture.uninstall()


# -- logging ------------------------------------------------------------------------------------


def test_log_records_reach_the_session_too(caplog: pytest.LogCaptureFixture) -> None:
    with routed():
        session = Session("a")
        logger = logging.getLogger("some.library")

        def work() -> None:
            logger.debug("too quiet")
            logger.warning("%d left", 3)
            logging.error("from the root")  # noqa: LOG015
            try:
                raise KeyError("k")
            except KeyError:
                logger.exception("it failed")
            logger.critical("the end")

        in_turn(session, work, "save")
        logger.warning("outside")
        assert [(r.level, r.text, r.handler) for r in session.log] == [
            ("warning", "3 left", "save"),
            ("error", "from the root", "save"),
            ("error", "it failed", "save"),
            ("error", "the end", "save"),
        ]
        details = [record.traceback for record in session.log]
        assert details[2] is not None
        assert details[2].endswith("KeyError: 'k'")
        assert len(caplog.records) == 5  # where they went before, they still go


def test_a_record_whose_arguments_do_not_fit() -> None:
    log = SessionLog()
    log.logged(logging.LogRecord("lib", logging.INFO, "", 1, "%d left", ("three",), None))
    assert texts(log) == ["%d left"]


def test_a_logger_that_keeps_to_itself_is_not_overheard() -> None:
    with routed():
        session = Session("a")
        logger = logging.getLogger("secretive")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        in_turn(session, lambda: logger.error("secret"))
        assert texts(session.log) == []


def run(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True)


SCRIPT = """
import logging
from greenroom.core import capture
capture.install()
logging.warning("first")            # as without us: basicConfig by itself, with a prefix
logging.root.handlers.clear()
logging.getLogger("lib").warning("unheard of")     # as without us: the text alone
logging.getLogger("lib").info("quiet")
logging.basicConfig(level=logging.INFO, format="configured %(message)s")
logging.getLogger("lib").info("heard")
capture.uninstall()
logging.info("bye")
"""


def test_the_applications_own_logging_is_as_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines() == [
        "WARNING:root:first",
        "unheard of",
        "configured heard",
        "configured bye",
    ]


def test_the_interpreter_ends_in_peace_while_output_is_routed() -> None:
    script = "from greenroom.core import capture; capture.install(); print('x', end='')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("x", "")
