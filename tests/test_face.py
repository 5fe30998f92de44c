"""The face: what `import greenroom` offers, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import greenroom

HEAVY = [
    "starlette",
    "uvicorn",
    "websockets",
    "uvloop",
    "fastapi",
    "jupyter",
    "ipykernel",
    "IPython",
    "anywidget",
    "pydantic",
    "numpy",
    "pandas",
    "pytest",
]


def test_all_is_sorted_and_is_exactly_what_is_public() -> None:
    assert greenroom.__all__ == sorted(greenroom.__all__)
    public = {
        name
        for name, value in vars(greenroom).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert public == set(greenroom.__all__)


def test_the_names_are_those_that_users_were_promised() -> None:
    promised = """
        App Session Settings State StateView Patch Bytes Lane View Group Bus Job Delivered
        handler cancelled shared encoders current_app
        init_state init_handlers middleware session_verifier on on_open on_close emit broadcast show
        events
        GreenroomError BadHandler BadPayload Busy Closed Cycle Detached NoApp NoSession NotFound
        Refused StaleTurn Timeout TooLarge Unencodable WouldBlock
    """
    assert set(promised.split()) <= set(greenroom.__all__)


def test_errors_have_one_base_and_a_word_on_the_wire() -> None:
    for name in greenroom.__all__:
        value: Any = getattr(greenroom, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, greenroom.GreenroomError)
            assert value.code.isidentifier()
    assert issubclass(greenroom.Timeout, TimeoutError)


def test_everything_public_says_what_it_is() -> None:
    for name in greenroom.__all__:
        value: Any = getattr(greenroom, name)
        if callable(value):
            assert value.__doc__, name


def imported_by(code: str) -> set[str]:
    """The top-level modules that are there after ``code`` in a process of its own."""
    shown = f"import sys\n{code}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import greenroom",
        "import greenroom\nfor name in greenroom.__all__: getattr(greenroom, name)",
        "import greenroom.client",
        "import greenroom.testing",
        "from greenroom.adapters import memory",
    ],
)
def test_importing_it_imports_no_server_and_no_notebook(code: str) -> None:
    assert imported_by(code).isdisjoint(HEAVY)


def test_the_testing_tools_are_three() -> None:
    import greenroom.testing

    assert greenroom.testing.__all__ == ["ManualClock", "adapter_conformance", "assert_conserved"]


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert greenroom.__version__ == version("greenroom")


def test_the_face_holds_names_only() -> None:
    tree = ast.parse(Path(greenroom.__file__).read_text("utf-8"))
    kinds = {type(node).__name__ for node in tree.body[1:]}
    assert kinds <= {"ImportFrom", "Assign"}
