"""What is built and shipped is what the tree says.

The package lives in a folder called `src`, and three things go wrong with that in silence: a `.pxd`
that Cython does not find (classes without fields), a sub-package that is not listed (missing from
the wheel), and `import src` (a second copy of every class). Each has its guard here.
"""

from __future__ import annotations

import ast
import graphlib
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import greenroom

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PYX = sorted(SRC.rglob("*.pyx"))
PXD = sorted(SRC.rglob("*.pxd"))


def dotted(path: Path) -> str:
    """The import name of a file or folder below src/."""
    inner = path.relative_to(SRC)
    return ".".join(["greenroom", *inner.parts[:-1], *([inner.stem] if inner.name else [])])


def packages_in_the_tree() -> set[str]:
    return {dotted(init.parent) for init in SRC.rglob("__init__.py")}


# ---------------------------------------------------------------- packages


def test_every_package_is_listed() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages_in_the_tree()


@pytest.mark.parametrize("name", sorted(packages_in_the_tree()))
def test_every_package_is_importable(name: str) -> None:
    assert importlib.util.find_spec(name) is not None


def test_the_version_is_said_once() -> None:
    assert greenroom.__version__ == PROJECT["project"]["version"]


def test_there_is_one_copy_of_the_package() -> None:
    assert "src" not in sys.modules
    assert not any(name.startswith("src.") for name in sys.modules)


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=dotted)
def test_imports_inside_the_package_are_relative(path: Path) -> None:
    """So that tools which read `src` without an install still see the arrows between files."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            continue
        absolute = [name for name in names if name.partition(".")[0] in ("greenroom", "src")]
        assert not absolute, f"{path}:{node.lineno}: write a relative import for {absolute}"


# ---------------------------------------------------------------- compiled modules

# At least this many bytes a field; what is not listed counts as one.
SIZES = dict.fromkeys(("int", "unsigned int", "long", "float"), 4)
SIZES |= dict.fromkeys(("double", "Py_ssize_t", "size_t", "int64_t", "uint64_t", "long long"), 8)
SIZES |= dict.fromkeys(("object", "dict", "list", "tuple", "set", "str", "bytes"), 8)


def fields_declared(pxd: str) -> dict[str, dict[str, str]]:
    """The fields of each `cdef class` in the text of a .pxd: class -> field -> type."""
    classes: dict[str, dict[str, str]] = {}
    fields: dict[str, str] | None = None
    indent = 0  # of the class body; only lines at that depth declare fields
    for raw in pxd.splitlines():
        line = raw.split("#")[0].rstrip()
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if opening := re.match(r"\s*(?:cdef|ctypedef)\s+(?:public\s+)?class\s+(\w+)", line):
            fields, indent = classes.setdefault(opening[1], {}), 0
            continue
        if depth == 0:
            fields = None
        if fields is None:
            continue
        indent = indent or depth
        declaration = line.strip().removeprefix("cdef ").strip()
        if "(" in declaration or declaration.startswith(("cpdef ", "@", '"', "pass")):
            continue
        declaration = re.sub(r"^(public|readonly)\s+", "", declaration)
        if found := re.fullmatch(
            r"([\w. ]+?(?:\[[^]]*\])?)[\s*]+(\w+(?:\s*,\s*\**\w+)*)", declaration
        ):
            pointer = 8 if "*" in declaration else 0
            for name in found[2].split(","):
                fields[name.strip(" *")] = "object" if pointer else found[1].strip()
    return classes


def test_fields_are_read_from_a_pxd() -> None:
    text = """
cdef enum:
    LANES = 4

cdef class Message:
    # who sends it
    cdef public Message next, prev
    cdef readonly long long number  # counts up
    cdef object payload
    cdef:
        double due
        void* handle
    cdef int lane(self) except -1
    cpdef object get(self, int a, int b)

@cython.final
cdef class Mailbox(Base):
    cdef int count(self) noexcept
"""
    assert fields_declared(text) == {
        "Message": {
            "next": "Message",
            "prev": "Message",
            "number": "long long",
            "payload": "object",
            "due": "double",
            "handle": "object",
        },
        "Mailbox": {},
    }


def declared_classes() -> list[Any]:
    return [
        pytest.param(dotted(path), name, fields, id=f"{dotted(path)}.{name}")
        for path in PXD
        for name, fields in fields_declared(path.read_text("utf-8")).items()
        if fields
    ]


@pytest.mark.parametrize(("module", "name", "fields"), declared_classes())
def test_a_compiled_class_has_its_fields(module: str, name: str, fields: dict[str, str]) -> None:
    cls = getattr(importlib.import_module(module), name)
    wanted = sum(SIZES.get(kind, 1) for kind in fields.values())
    base = cls.__base__
    grown = cls.__basicsize__ - base.__basicsize__
    # The first cdef class of a line may also hold the pointer to its C methods.
    table = 8 if base is object and "__pyx_vtable__" in vars(cls) else 0
    assert grown >= wanted + table, f"{name} has {grown} bytes for {fields}: was its .pxd found?"


@pytest.mark.parametrize("path", PXD, ids=dotted)
def test_no_class_of_a_pxd_is_overlooked(path: Path) -> None:
    text = path.read_text("utf-8")
    opened = re.findall(r"^\s*(?:cdef|ctypedef)\b[^\n(]*\bclass\s+(\w+)", text, re.MULTILINE)
    assert set(fields_declared(text)) == set(opened)


@pytest.mark.parametrize("path", PYX, ids=dotted)
def test_a_compiled_module_has_its_companions(path: Path) -> None:
    module = importlib.import_module(dotted(path))
    assert module.__file__ is not None
    assert module.__file__.endswith((".so", ".pyd"))
    assert path.with_suffix(".pyi").exists(), "a compiled module needs a stub"
    if re.search(r"^cdef class", path.read_text("utf-8"), re.MULTILINE):
        assert path.with_suffix(".pxd").exists(), "fields are declared in the .pxd"


def cimports() -> dict[str, set[str]]:
    """Which modules each compiled module takes C names from."""
    found: dict[str, set[str]] = {}
    for path in [*PYX, *PXD]:
        text = path.read_text("utf-8")
        names = re.findall(r"^from (?:greenroom\.core)?\.(_\w+) cimport", text, re.MULTILINE)
        found.setdefault(path.stem, set()).update(set(names) - {path.stem})
    return found


def test_cimports_go_downwards_only() -> None:
    """What import-linter does not see is held to the same floors."""
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "floors"]
    floor = {name.strip(" ()"): i for i, one in enumerate(layers) for name in one.split(":")}
    taken = cimports()
    assert taken["_route"] >= {"_actor", "_runner"}
    upwards = [(who, what) for who in taken for what in taken[who] if floor[what] < floor[who]]
    assert not upwards
    graphlib.TopologicalSorter(taken).prepare()  # raises CycleError


# ---------------------------------------------------------------- the wheel

SHIPPED = {".py", ".pyi", ".pxd", ".js", ".ts", ".css", ".html"}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    # Its own place for the list of files: an old list in the tree would add what is gone.
    egg_info = ["egg_info", "--egg-base", str(folder)]
    run(sys.executable, "setup.py", "-q", *egg_info, "sdist", "--dist-dir", folder, cwd=ROOT)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    run(*pip, "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, sdist, cwd=folder)
    (archive,) = folder.glob("*.whl")
    return archive


@pytest.mark.slow
def test_the_sdist_can_build_everything(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {path.relative_to(ROOT).as_posix() for path in [*PYX, *PXD]} <= names
    assert {"setup.py", "pyproject.toml", "LICENSE", "tests/test_build.py"} <= names
    assert not [name for name in names if name.endswith((".c", ".so"))]


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_no_sources_of_compiled_code(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [p for p in SRC.rglob("*") if p.suffix in SHIPPED or p.name == "py.typed"]
    wanted = {f"greenroom/{path.relative_to(SRC).as_posix()}" for path in files}
    assert "greenroom/py.typed" in wanted
    assert wanted <= names
    shipped = {name for name in names if ".dist-info/" not in name}
    compiled = {name for name in shipped if name.endswith((".so", ".pyd"))}
    assert {name.partition(".")[0].replace("/", ".") for name in compiled} == set(map(dotted, PYX))
    assert shipped == wanted | compiled


@pytest.mark.slow
def test_the_wheel_imports_from_an_empty_directory(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", "--target", site, wheel, cwd=empty)
    modules = ["greenroom", *map(dotted, PYX)]
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n"
    code += "    print(importlib.import_module(name).__file__)"
    # The editable install appends its finder, so a folder on the path comes first.
    places = run(sys.executable, "-c", code, *modules, cwd=empty, PYTHONPATH=str(site))
    assert [Path(line).is_relative_to(site) for line in places.split()] == [True] * len(modules)
