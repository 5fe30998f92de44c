"""The compiled modules and the link that gives Cython our package's name. All else: pyproject.toml.

Every ``src/core/_*.pyx`` becomes the extension ``greenroom.core._*``. The package lives in a folder
called ``src``, and Cython looks for a module's own ``.pxd`` in a folder called like the package: it
would pass over ours without a word and build classes without fields. So ``build/named/greenroom``
points at ``src``, and Cython, mypy and pyright are all told to look into ``build/named``.

Switches, each an environment variable that is on when it is not empty and not "0":

GREENROOM_TRACE         line tracing for coverage; leaves the .c files beside the .pyx
GREENROOM_SANITIZE      AddressSanitizer and UndefinedBehaviorSanitizer
GREENROOM_DEBUG_COUNTS  live objects of compiled classes can be counted (``core/_live.pyx``)

The last two also switch the free lists off: what was freed is freed, for the sanitizer to see and
for the counts. `make sanitize` and `make counts` build with them beside the ordinary build.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def switched_on(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


TRACE = switched_on("GREENROOM_TRACE")
SANITIZE = switched_on("GREENROOM_SANITIZE")
DEBUG_COUNTS = switched_on("GREENROOM_DEBUG_COUNTS")
WINDOWS = sys.platform == "win32"


def named_tree() -> str:
    """Make build/named/greenroom stand for src/; return build/named."""
    source, link = ROOT / "src", ROOT / "build" / "named" / "greenroom"
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() or not link.exists():
        try:
            if not link.is_symlink():
                link.symlink_to(Path("..", "..", "src"), target_is_directory=True)
            return str(link.parent)
        except OSError:  # no right to make links here: stand-ins will do
            pass
    wanted = [*source.rglob("*.pxd"), *source.rglob("__init__.py")]
    for original in wanted:
        copy = link / original.relative_to(source)
        if not copy.exists() or copy.stat().st_mtime < original.stat().st_mtime:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(original, copy)
    return str(link.parent)


def extension(source: Path) -> Extension:
    if WINDOWS:
        compile_args, link_args = ["/O2"], []
    else:
        compile_args, link_args = ["-O3", "-fno-strict-aliasing", "-Wno-unused-function"], []
    if SANITIZE:
        compile_args = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
        link_args = ["-fsanitize=address,undefined"]
    macros = [("GREENROOM_DEBUG_COUNTS", str(int(DEBUG_COUNTS)))]
    if SANITIZE or DEBUG_COUNTS:
        macros.append(("CYTHON_USE_FREELISTS", "0"))
    if TRACE:
        macros += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]
    return Extension(
        f"greenroom.core.{source.stem}",
        [source.relative_to(ROOT).as_posix()],
        # Structs are checked by size across modules, so a changed .pxd rebuilds them all.
        depends=[p.relative_to(ROOT).as_posix() for p in sorted(source.parent.glob("*.pxd"))],
        define_macros=macros,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )


def remove_gone(folder: Path) -> None:
    """Remove what was compiled from sources that are no more: nobody is to import or ship it."""
    sources = {path.stem for path in (ROOT / "src" / "core").glob("_*.pyx")}
    for left in folder.glob("_*"):
        if left.suffix in (".so", ".pyd", ".c") and left.name.partition(".")[0] not in sources:
            left.unlink()


class BuildExt(build_ext):
    """Setuptools' command (which is Cython's underneath), told where our name is."""

    def finalize_options(self) -> None:
        if self.inplace or self.editable_mode:
            # One place for `pip install -e .` and `setup.py build_ext --inplace`, so that the
            # second finds the work of the first; one per switch, so that switching rebuilds.
            names = {"trace": TRACE, "sanitize": SANITIZE, "counts": DEBUG_COUNTS}
            tags = [sys.implementation.cache_tag, *(name for name, on in names.items() if on)]
            self.build_lib = os.path.join("build", "inplace", "-".join(tags), "lib")
            self.build_temp = os.path.join("build", "inplace", "-".join(tags), "temp")
        super().finalize_options()
        self.cython_include_dirs = [named_tree()]
        self.cython_c_in_temp = not TRACE  # coverage reads the .c beside the .pyx
        self.cython_directives = {
            "language_level": "3",
            "auto_pickle": False,  # these two keep names out of the modules
            "autotestdict": False,  # that their stubs would have to explain
            "linetrace": TRACE,
        }

    def run(self) -> None:
        for folder in (ROOT / "src" / "core", Path(self.build_lib) / "greenroom" / "core"):
            remove_gone(folder)
        super().run()

    def copy_extensions_to_source(self) -> None:
        # What lies in src/ may be newer and yet come from other switches.
        force, self.force = self.force, True
        super().copy_extensions_to_source()
        self.force = force


setup(
    ext_modules=[extension(p) for p in sorted((ROOT / "src" / "core").glob("_*.pyx"))],
    cmdclass={"build_ext": BuildExt},
)
