"""A real server, a real browser, and pages that may do nothing wrong.

Test functions here may be coroutines: they run on the loop of a thread that belongs to the browser,
so that the tests of other folders keep the main thread's loop for themselves. There is one browser
for all tests and one context (cookies, storage) for each test.

Every page is watched. A request to another host, an error in the console or an uncaught exception
fails the test that opened it; what a test provokes on purpose it says with ``watch.expect(...)``.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    async_playwright,
    expect,
)

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ADDRESS = r"(https?://127\.0\.0\.1:(\d+))"
TIMEOUT = 60  # seconds one test may take
QUIET = [  # a browser that talks to nobody but the page's own server
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-client-side-phishing-detection",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-features=MediaRouter,OptimizationHints,Translate",
    "--use-fake-device-for-media-stream",  # a camera; who may use it is the context's to say
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]

expect.set_options(timeout=15_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


# -- the browser --------------------------------------------------------------------------------


class Theatre:
    """The thread whose loop drives the browser."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="browser", daemon=True)
        self.thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = TIMEOUT) -> T:
        async def limited() -> T:
            async with asyncio.timeout(timeout):
                return await coroutine

        return asyncio.run_coroutine_threadsafe(limited(), self.loop).result()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="session")
def theatre() -> Generator[Theatre]:
    theatre = Theatre()
    yield theatre
    theatre.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function on the browser's loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    theatre = pyfuncitem.funcargs["theatre"]
    assert isinstance(theatre, Theatre)
    theatre.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(scope="session")
def browser(theatre: Theatre) -> Generator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.fail(
            f"no browser: none of {', '.join(PROGRAMS)} is on the PATH, and these tests prove "
            "nothing without one (apt-get install chromium)",
            pytrace=False,
        )
    stack = contextlib.AsyncExitStack()

    async def launch() -> Browser:
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=program, args=QUIET)
        stack.push_async_callback(browser.close)
        return browser

    yield theatre.run(launch())
    theatre.run(stack.aclose())


class Watch:
    """Notes what pages must not do."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.requests: list[str] = []
        self._expected: list[re.Pattern[str]] = []

    def expect(self, pattern: str) -> None:
        """A fault that contains ``pattern`` is meant to happen in this test."""
        self._expected.append(re.compile(pattern))

    def context(self, context: BrowserContext) -> None:
        context.on("request", self._request)
        context.on("page", self._page)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.faults.append(f"uncaught: {error.error}"))

    def verdict(self) -> list[str]:
        return [f for f in self.faults if not any(p.search(f) for p in self._expected)]

    def _page(self, page: Page) -> None:
        page.on("websocket", lambda socket: self._url(socket.url))

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        self._url(request.url)

    def _url(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.faults.append(f"a request to another host: {url}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"console {message.type}: {message.text}")


class Visit(Protocol):
    """Opens a page at a URL, as a visitor of its own: ``await visit(url, viewport={...})``."""

    def __call__(self, url: str, **context: Any) -> Coroutine[Any, Any, Page]: ...


@pytest.fixture
def watch() -> Generator[Watch]:
    watch = Watch()
    yield watch
    assert not watch.verdict(), "\n".join(watch.verdict())


@pytest.fixture
def visit(theatre: Theatre, browser: Browser, watch: Watch) -> Generator[Visit]:
    contexts: list[BrowserContext] = []

    async def open_page(url: str, **options: Any) -> Page:
        context = await browser.new_context(**options)
        contexts.append(context)
        watch.context(context)
        page = await context.new_page()
        await page.goto(url)
        return page

    yield open_page
    for context in contexts:
        theatre.run(context.close())


# -- the server ---------------------------------------------------------------------------------


class Server:
    """A program that serves, in a process of its own and on a port of its own, which it says."""

    def __init__(self, *command: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", "0"],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log: list[str] = []
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read, name="server log", daemon=True)
        self._reader.start()
        self._started.wait(30)
        found = re.search(ADDRESS, "".join(self.log))
        if found is None:
            self.stop()
            pytest.fail(f"{' '.join(command)} did not start:\n{''.join(self.log)}", pytrace=False)
        self.port = int(found[2])
        self.url = f"{found[1]}/"

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.log.append(line)
                if re.search(ADDRESS, line):
                    self._started.set()
        self._started.set()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()


@pytest.fixture(scope="session")
def serve() -> Generator[Callable[..., Server]]:
    """``serve("greenroom", "run", PATH, GREENROOM_DEBUG="1")``: one server for equal arguments."""
    servers: dict[object, Server] = {}

    def start(*command: str, **environment: str) -> Server:
        key = (command, *sorted(environment.items()))
        if key not in servers:
            servers[key] = Server(*command, **environment)
        return servers[key]

    yield start
    for server in servers.values():
        server.stop()
