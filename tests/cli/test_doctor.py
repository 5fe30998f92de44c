"""`greenroom doctor`: what it shows, and the code it ends with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom import cli
from greenroom.cli import doctor


def test_a_healthy_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == cli.OK
    said = capsys.readouterr().out
    for word in ("CPython", "orjson", "msgspec", "uvloop", "open files", "_scheduler", "asgi"):
        assert word in said, word
    assert "`greenroom run` serves with: websocket (picows 2.3.1)" in said
    assert "problem" not in said


def test_another_picows_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("picows.version.__version__", "2.4.0")
    for name in ("websocket", "wire"):
        monkeypatch.delitem(sys.modules, f"greenroom.adapters.{name}", raising=False)
        monkeypatch.delattr(f"greenroom.adapters.{name}", raising=False)
    assert cli.main(["doctor"]) == cli.OK
    said = capsys.readouterr().out
    assert "serves with: asgi" in said
    assert "made for picows 2.3.1, and this is 2.4.0" in said


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "greenroom", "doctor", "--events"],
            check=False,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_application(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "doctored.py"
    path.write_text("def add(payload): return payload\n\ndef odd(one): pass\n")
    assert cli.main(["doctor", str(path)]) == cli.OK
    said = capsys.readouterr().out
    assert "browsers may call 1 function" in said
    assert "doctored.py:1" in said
    assert "left out: doctored.odd" in said


def test_an_application_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "nowhere.py"]) == cli.NOT_FOUND
    assert "nowhere.py" in capsys.readouterr().err


def test_what_is_missing_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "NEEDED", (*doctor.NEEDED, "not-a-package-of-ours"))
    assert cli.main(["doctor"]) == cli.UNHEALTHY
    said = capsys.readouterr().out
    assert "not-a-package-of-ours: missing" in said
    assert "problem: not-a-package-of-ours is not installed" in said


def test_a_core_that_was_not_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "_gone.pyi").touch()
    monkeypatch.setattr(doctor, "CORE", tmp_path)
    assert cli.main(["doctor"]) == cli.UNHEALTHY
    assert "_gone: missing" in capsys.readouterr().out
