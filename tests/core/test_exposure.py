"""Which functions of a module are the application's."""

from __future__ import annotations

import functools
import importlib
import json
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from greenroom.core import exposure
from greenroom.core.errors import BadHandler
from greenroom.core.exposure import Options, application_root, discover, handler, options_of

Make = Callable[..., ModuleType]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """`make("pkg/helpers.py", source)` writes a file below the application and imports it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(path: str, source: str = "") -> ModuleType:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
        importlib.invalidate_caches()
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(module: ModuleType, root: Path | None = None) -> list[str]:
    return sorted(offered.name for offered in discover(module, root) if offered.why is None)


def test_public_functions_that_the_module_defines(make: Make) -> None:
    module = make(
        "app_a.py",
        "import functools\n"
        "def add(state): ...\n"
        "async def load(state): ...\n"
        "quick = lambda state: None\n"
        "alias = add\n"
        "def _hidden(state): ...\n"
        "class Thing:\n"
        "    def method(self, state): ...\n"
        "bound = Thing().method\n"
        "bind = functools.partial(add)\n"
        "number = 5\n",
    )
    assert names(module) == ["add", "alias", "load", "quick"]


def test_functions_imported_from_another_file_of_the_application(make: Make) -> None:
    make("app_helpers.py", "def increment(state): ...\n")
    make("app_parts/__init__.py")
    make("app_parts/more.py", "def decrement(state): ...\n")
    module = make(
        "app_b.py",
        "from app_helpers import increment\n"
        "from app_parts.more import decrement\n"
        "from json import dumps\n"
        "from os.path import join\n"
        "from pytest import raises\n"
        "from greenroom.core.exposure import handler, discover\n",
    )
    assert names(module) == ["decrement", "increment"]


def test_only_below_the_root(make: Make, tmp_path: Path) -> None:
    make("elsewhere.py", "def far(state): ...\n")
    make("inner/__init__.py")
    make("inner/near.py", "def close(state): ...\n")
    module = make(
        "inner/main.py",
        "from elsewhere import far\nfrom inner.near import close\ndef own(state): ...\n",
    )
    assert application_root(module) == tmp_path / "inner"
    assert names(module) == ["close", "own"]
    assert names(module, tmp_path) == ["close", "far", "own"]


def test_a_library_below_the_root_is_still_a_library(make: Make, tmp_path: Path) -> None:
    (tmp_path / "venv/lib/site-packages").mkdir(parents=True)
    sys.path.insert(0, str(tmp_path / "venv/lib/site-packages"))
    (tmp_path / "venv/lib/site-packages/a_library.py").write_text("def leak(state): ...\n")
    try:
        module = make("app_c.py", "from a_library import leak\ndef own(state): ...\n")
    finally:
        sys.path.pop(0)
        sys.modules.pop("a_library", None)
    assert names(module, tmp_path) == ["own"]


def test_a_prefix_below_the_root_is_not_the_application(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("env/tool.py", "def leak(state): ...\n")
    module = make("app_d.py", "from env.tool import leak\ndef own(state): ...\n")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    exposure.of_application.cache_clear()
    assert names(module, tmp_path) == ["own"]


def test_a_prefix_that_holds_the_application_does_not_hide_it(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("place/helper.py", "def near(state): ...\n")
    module = make("place/main.py", "from place.helper import near\n")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    exposure.of_application.cache_clear()
    assert names(module, tmp_path / "place") == ["near"]


def test_the_standard_library_below_the_root_is_not_the_application(make: Make) -> None:
    module = make("app_e.py", "from json import dumps\ndef own(state): ...\n")
    root = Path(sysconfig.get_path("stdlib")).parent
    assert Path(json.__file__).is_relative_to(root)
    assert names(module, root) == ["own"]


def test_our_own_functions_are_nobodys_handlers(make: Make) -> None:
    module = make(
        "app_k.py", "from greenroom.core.exposure import application_root\ndef own(): ...\n"
    )
    assert names(module, Path(exposure.__file__).parent) == ["own"]


def test_a_wrapper_of_the_application_around_a_library_is_the_librarys(make: Make) -> None:
    make(
        "app_deco.py",
        "import functools\n"
        "def deco(fn):\n"
        "    @functools.wraps(fn)\n"
        "    def wrapper(*args, **kwargs):\n"
        "        return fn(*args, **kwargs)\n"
        "    return wrapper\n",
    )
    module = make(
        "app_f.py",
        "import json\n"
        "from app_deco import deco\n"
        "from contextlib import contextmanager\n"
        "dumps = deco(json.dumps)\n"
        "@deco\n"
        "def mine(state): ...\n"
        "@contextmanager\n"
        "def library_wraps_mine(state): yield\n",
    )
    assert names(module) == ["deco", "library_wraps_mine", "mine"]


def test_functions_made_at_run_time_belong_to_the_module_they_live_in(make: Make) -> None:
    module = make("app_g.py", "exec('def made(state): ...')\n")
    foreign = make("app_h.py", "from app_g import made\n")
    assert names(module) == ["made"]
    assert names(foreign) == []
    assert names(foreign, Path.cwd()) == []  # what has no file is not below any folder


def test_a_notebook_has_no_file() -> None:
    module = ModuleType("__main__")
    exec("def cell(state): ...", vars(module))
    assert application_root(ModuleType("no_such_module")) is None
    assert names(module) == ["cell"]
    assert exposure.module_name(module) == "main"


def test_the_main_module_goes_by_the_name_of_its_file() -> None:
    module = ModuleType("__main__")
    module.__file__ = "/srv/shop.py"
    assert exposure.module_name(module) == "shop"
    assert exposure.module_name(json) == "json"


# -- the decorator ------------------------------------------------------------------------------


def test_the_decorator_with_and_without_parentheses() -> None:
    @handler
    def plain() -> None: ...

    @handler()
    def empty() -> None: ...

    @handler(inline=True, concurrent=True, name="quick")
    def full() -> None: ...

    assert options_of(plain) == options_of(empty) == Options()
    assert options_of(full) == Options(inline=True, concurrent=True, name="quick")
    assert options_of(lambda: None) is None
    assert callable(plain)


def test_options_are_found_through_wrappers() -> None:
    @handler(inline=True)
    def fn() -> None: ...

    @functools.wraps(fn)
    def wrapper() -> None: ...

    class Box:
        @handler(name="boxed")
        def method(self) -> None: ...

    assert options_of(wrapper) == Options(inline=True)
    assert options_of(functools.partial(fn)) == Options(inline=True)
    assert options_of(Box().method) == Options(name="boxed")


@pytest.mark.parametrize("name", ["", "_x", "a b", "app:save", "a.b", "1-2"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(BadHandler, match="cannot be its name"):
        handler(name=name)(lambda: None)


def test_inline_and_async_contradict_each_other() -> None:
    async def fn() -> None: ...

    with pytest.raises(BadHandler, match="runs on the loop already"):
        handler(inline=True)(fn)


def test_what_takes_no_options_says_so() -> None:
    with pytest.raises(BadHandler, match="takes no options"):
        handler(len)


def test_decorated_things_are_discovered(make: Make) -> None:
    module = make(
        "app_i.py",
        "import functools\n"
        "from greenroom.core.exposure import handler\n"
        "@handler(name='open')\n"
        "def _open(state): ...\n"
        "def add(n, state): ...\n"
        "add_one = handler(functools.partial(add, 1))\n"
        "_private_alias = add_one\n",
    )
    assert names(module) == ["_open", "add", "add_one"]


def test_a_hostile_module_value_is_not_run(make: Make) -> None:
    module = make(
        "app_j.py",
        "class Trap:\n"
        "    def __getattr__(self, name): raise SystemExit(name)\n"
        "    def __call__(self, state): ...\n"
        "trap = Trap()\n",
    )
    assert names(module) == []


def test_any_object_may_be_described(make: Make) -> None:
    proxies: list[Any] = [ModuleType("m"), object(), 5, None, Options]
    assert [exposure._is_decorated(proxy) for proxy in proxies] == [False] * 5
