"""`greenroom run` as people use it: a process, a port, signals, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.rawws import LOCALHOST, client_tls
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from greenroom import Settings, cli
from greenroom.adapters.serving import GRACE, url_of
from greenroom.cli import load, run

MAIN = """
import greenroom as gr

gr.init_state({"counter": 0})

def add(state, payload: int = 1):
    state["counter"] += payload
    return state["counter"]

def odd(one, two):
    pass
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GREENROOM_")}
    return kept | {"PYTHONUNBUFFERED": "1"} | more


def failing(*args: str, cwd: Path, **env: str) -> tuple[int, str]:
    """Run to the end; the exit code and what was said."""
    done = subprocess.run(
        [sys.executable, "-m", "greenroom", *args],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


class Running:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line.rstrip())
            if line.startswith("greenroom:"):
                break
        found = re.search(r"https?://[^ ]+:(\d+)$", self.said[-1]) if self.said else None
        assert found is not None, self.said
        self.port = int(found[1])

    def get(self, path: str, **headers: str) -> tuple[int, Any, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for the end; the exit code and everything that was said."""
        assert self.process.stdout is not None
        self.said += self.process.stdout.read().splitlines()
        return self.process.wait(timeout=30), "\n".join(self.said)


@contextmanager
def running(*args: str, cwd: Path, **env: str) -> Generator[Running]:
    process = subprocess.Popen(
        [sys.executable, "-m", "greenroom", "run", *args, "--port", "0"],
        cwd=cwd,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Running(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


async def hello(ws: Any) -> dict[str, Any]:
    data = {"protocol": 1, "token": None, "link": None, "seq": 0, "label": "main", "binary": False}
    await ws.send(json.dumps({"type": "gr:hello", "data": data}))
    welcome = json.loads(await ws.recv())
    assert welcome["type"] == "gr:welcome"
    snapshot = json.loads(await ws.recv())
    assert snapshot["type"] == "gr:snapshot"
    return dict(snapshot["data"])


async def answer(ws: Any, number: int) -> Any:
    while True:
        frame = json.loads(await ws.recv())
        for one in frame["data"] if frame["type"] == "gr:batch" else [frame]:
            if one.get("id") == number:
                return one["data"]


def test_a_session_from_hello_to_the_drain(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": MAIN, "public/index.html": "<h1>Mine</h1>"})
    with running(".", cwd=tmp_path) as server:
        status, headers, body = server.get("/")
        assert (status, body) == (200, b"<h1>Mine</h1>")
        assert "server" not in headers
        assert server.get("/main.py")[0] == 404
        assert server.get("/", Host="evil.example")[0] == 400

        async def story() -> None:
            url = f"ws://127.0.0.1:{server.port}/ws"
            async with connect(url, proxy=None) as ws:
                assert await hello(ws) == {"counter": 0}
                await ws.send('{"type":"add","id":1,"data":5}')
                assert await answer(ws, 1) == 5
                server.process.send_signal(signal.SIGTERM)
                last = ""
                with pytest.raises(ConnectionClosed) as caught:
                    while True:
                        last = str(await ws.recv())
                close = json.loads(last)
                assert close["type"] == "gr:close"
                assert close["data"]["code"] == "draining"
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1001

        asyncio.run(asyncio.wait_for(story(), 30))
        code, said = server.ended()
        assert code == 0
        assert "browsers may call 1 function" in said
        assert re.search(r"add  .*main\.py:6", said)
        assert "left out: main.odd" in said


@pytest.mark.parametrize("asgi", [True, False])
def test_which_adapter_serves_and_tls(asgi: bool, tmp_path: Path) -> None:
    write(tmp_path, {"main.py": MAIN})
    options = ["--cert", str(LOCALHOST), *(["--asgi"] if asgi else [])]
    with running("main.py", *options, cwd=tmp_path) as server:

        async def story() -> str:
            url = f"wss://localhost:{server.port}/ws"
            async with connect(url, proxy=None, ssl=client_tls()) as ws:
                assert await hello(ws) == {"counter": 0}
                await ws.send('{"type":"add","id":1,"data":5}')
                assert await answer(ws, 1) == 5
                assert ws.response is not None
                return str(ws.response.headers)

        headers = asyncio.run(asyncio.wait_for(story(), 30))
        assert ("date:" in headers.lower()) is asgi  # only uvicorn tells the time
        code, said = server.stop()
        assert code == 0
        assert "on https://127.0.0.1:" in said


@pytest.mark.parametrize("asgi", [False, True])
def test_a_browser_that_is_idle_does_not_hold_it_up(asgi: bool, tmp_path: Path) -> None:
    write(tmp_path, {"main.py": MAIN})
    options = ["--cert", str(LOCALHOST), *(["--asgi"] if asgi else [])]
    with running("main.py", *options, cwd=tmp_path) as server:
        line = http.client.HTTPSConnection("127.0.0.1", server.port, context=client_tls())
        line.request("GET", "/greenroom.js")
        assert line.getresponse().read()
        began = time.monotonic()
        code, said = server.stop(signal.SIGINT)  # the line stays open, and says no goodbye
        line.close()
    assert code == 0
    assert time.monotonic() - began < GRACE - 1
    assert "Cancel" not in said


def test_certificates_that_are_none(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": MAIN, "cert.pem": "nonsense"})
    for options, code, word in (
        (["--key", "key.pem"], cli.USAGE, "--cert"),
        (["--cert", "missing.pem"], cli.NOT_FOUND, "missing.pem"),
        (["--cert", "cert.pem", "--key", "missing.pem"], cli.NOT_FOUND, "missing.pem"),
        (["--cert", "cert.pem"], cli.USAGE, "cert.pem"),
    ):
        found, said = failing("run", "main.py", *options, cwd=tmp_path)
        assert found == code
        assert word in said


def test_the_debug_page_and_ctrl_c(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": MAIN})
    with running("main.py", "--debug", cwd=tmp_path) as server:
        status, headers, body = server.get("/")
        assert status == 200
        assert b'data-handler="add"' in body
        assert b"main.odd" in body
        assert b'<link rel="icon"' in body  # or browsers ask for /favicon.ico, and log a 404
        assert "unsafe-inline" not in headers["content-security-policy"]
        for module in ("debug.js", "debug.css", "page.js"):
            assert server.get(f"/greenroom/{module}")[0] == 200
        code, said = server.stop(signal.SIGINT)
        assert code == 0
        assert "stopping" in said


def test_files_under_names_of_ours_are_named(tmp_path: Path) -> None:
    ours = {"public/greenroom/a.js": "", "public/healthz": "", "public/file/a.txt": ""}
    write(tmp_path, {"main.py": MAIN, "public/index.html": "<p>one</p>", "public/view": ""} | ours)
    with running("main.py", cwd=tmp_path) as server:
        _, said = server.stop()
    for name in ("greenroom/", "healthz", "file/"):
        assert f"public/{name} is not served" in said
    assert said.count("is not served") == 3


def test_without_a_page_it_says_so(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": MAIN})
    with running("main.py", cwd=tmp_path) as server:
        assert server.get("/")[0] == 404
        _, said = server.stop()
        assert "no page" in said


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    slow = """
        import threading
        import greenroom as gr

        def wait(state):
            print("waiting", flush=True)
            threading.Event().wait(5)
    """
    write(tmp_path, {"main.py": slow})
    with running("main.py", cwd=tmp_path, GREENROOM_DRAIN="60") as server:
        process = server.process

        async def story() -> None:
            async with connect(f"ws://127.0.0.1:{server.port}/ws", proxy=None) as ws:
                await hello(ws)
                await ws.send('{"type":"wait","id":1}')
                await asyncio.to_thread(read_until, process, "waiting")
                process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(read_until, process, "stopping")
                process.send_signal(signal.SIGTERM)
                with pytest.raises(ConnectionClosed):
                    while True:
                        await ws.recv()

        asyncio.run(asyncio.wait_for(story(), 30))
        assert process.wait(timeout=30) == 128 + signal.SIGTERM


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the process ended without saying {text!r}")


def test_it_stops_although_nobody_reads_what_it_says(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": MAIN, "public/index.html": "<h1>Mine</h1>"})
    with running(".", cwd=tmp_path) as server:
        assert server.get("/")[0] == 200  # it has said all it says at the start
        assert server.process.stdout is not None
        server.process.stdout.close()
        server.process.terminate()
        server.process.wait(timeout=30)


@pytest.mark.parametrize("target", ["mine:application", "mine:make", "mine:nested.app"])
def test_an_app_or_a_factory_in_a_module(target: str, tmp_path: Path) -> None:
    module = """
        import greenroom as gr

        def add(payload): return payload
        application = gr.App(handlers=[add])
        def make(): return application
        class nested: app = application
    """
    write(tmp_path, {"mine.py": module})
    with running(target, cwd=tmp_path) as server:
        _, said = server.stop()
        assert "browsers may call 1 function" in said


def test_a_file_in_a_package_is_imported_as_part_of_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "shop/__init__.py": "",
            "shop/main.py": "from .cart import put\n",
            "shop/cart.py": "def put(payload): return payload\n",
        },
    )
    with running("shop", cwd=tmp_path) as server:
        _, said = server.stop()
        assert re.search(r"put  .*cart\.py:1", said)


def test_an_app_of_the_files_own_is_served(tmp_path: Path) -> None:
    main = """
        import greenroom as gr
        def only(payload): return payload
        def not_me(payload): return payload
        app = gr.App(handlers=[only])
    """
    write(tmp_path, {"main.py": main})
    with running("main.py", cwd=tmp_path) as server:
        _, said = server.stop()
        assert "browsers may call 1 function" in said


# -- what is wrong, said and coded ----------------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    code, said = failing("run", "missing.py", cwd=tmp_path)
    assert code == cli.NOT_FOUND
    assert "missing.py" in said
    code, said = failing("run", "pkg.module", cwd=tmp_path)
    assert code == cli.NOT_FOUND
    assert "pkg.module:app" in said
    write(tmp_path, {"main.py": MAIN})
    code, said = failing("run", "main.py:app", cwd=tmp_path)
    assert code == cli.NOT_FOUND
    assert said == "greenroom: a file is named without an object: main.py, or main:app\n"


def test_a_folder_without_main(tmp_path: Path) -> None:
    code, said = failing("run", ".", cwd=tmp_path)
    assert code == cli.NOT_FOUND
    assert "no main.py" in said


def test_no_such_module_or_name(tmp_path: Path) -> None:
    write(tmp_path, {"mine.py": "x = 1\n"})
    assert failing("run", "other:app", cwd=tmp_path)[0] == cli.NOT_FOUND
    code, said = failing("run", "mine:app", cwd=tmp_path)
    assert code == cli.NOT_FOUND
    assert "mine has no 'app'" in said


def test_not_an_app(tmp_path: Path) -> None:
    write(tmp_path, {"mine.py": "x = 1\ndef make(): return 'no'\n", "notes.txt": ""})
    for target, word in {"mine:x": "int", "mine:make": "str", "notes.txt": ".py"}.items():
        code, said = failing("run", target, cwd=tmp_path)
        assert code == cli.NOT_AN_APP
        assert word in said


def test_the_traceback_is_the_users_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.py": "import helper\n",
            "helper.py": "def work():\n    return 1 / 0\n\nwork()\n",
        },
    )
    code, said = failing("run", "main.py", cwd=tmp_path)
    assert code == cli.IMPORT_FAILED
    assert "ZeroDivisionError" in said
    files = re.findall(r'File "([^"]+)", line (\d+)', said)
    assert [(Path(name).name, line) for name, line in files] == [
        ("main.py", "1"),
        ("helper.py", "4"),
        ("helper.py", "2"),
    ]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import not_there\n", "not_there"),
        ("raise SystemExit(3)\n", "exit code 3"),
        ("import greenroom as gr\n\n@gr.handler()\ndef f(one, two): pass\n", "one, two"),
        ("import greenroom as gr\n\ngr.init_state({'k': open(__file__)})\n", "gr.shared"),
    ],
)
def test_an_import_that_fails(text: str, word: str, tmp_path: Path) -> None:
    write(tmp_path, {"main.py": text})
    code, said = failing("run", "main.py", cwd=tmp_path)
    assert code == cli.IMPORT_FAILED
    assert word in said
    assert os.sep + "cli" + os.sep not in said


def test_a_port_in_use(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": MAIN})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, said = failing("run", "main.py", "--port", port, cwd=tmp_path)
    assert code == cli.IN_USE
    assert port in said


@pytest.mark.parametrize("port", ["-1", "65536", "http", ""])
def test_a_port_that_is_none(port: str, tmp_path: Path) -> None:
    code, said = failing("run", "main.py", "--port", port, cwd=tmp_path)
    assert code == cli.USAGE
    assert "--port" in said


def test_a_host_that_is_none(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": MAIN})
    code, _ = failing("run", "main.py", "--host", "192.0.2.1", "--port", "0", cwd=tmp_path)
    assert code == cli.BAD_HOST
    code, _ = failing("run", "main.py", "--host", "not a host", cwd=tmp_path)
    assert code == cli.BAD_HOST


def test_a_setting_that_is_wrong(tmp_path: Path) -> None:
    code, said = failing("run", "main.py", cwd=tmp_path, GREENROOM_WORKERS="many")
    assert code == cli.USAGE
    assert "GREENROOM_WORKERS" in said


def test_permission_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied(socket.socket):
        def bind(self, _address: Any) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Denied)
    with pytest.raises(cli.CommandError) as caught:
        run.listen("127.0.0.1", 80)
    assert caught.value.code == cli.PERMISSION


@pytest.mark.parametrize(("verb", "target"), [("is_file", "."), ("exists", "main.py")])
def test_a_folder_that_may_not_be_entered(
    verb: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, verb, denied)
    with pytest.raises(cli.CommandError, match="may not be read") as caught:
        load.load(target, Settings())
    assert caught.value.code == cli.PERMISSION


def test_an_empty_path(tmp_path: Path) -> None:
    code, said = failing("run", "", cwd=tmp_path)
    assert code == cli.USAGE
    assert "the path is empty" in said


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for args in (["--help"], ["run", "--help"], ["doctor", "--help"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(args)
        assert caught.value.code == 0
        assert "exit codes" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == cli.USAGE


def test_urls_are_what_a_browser_takes() -> None:
    with run.listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        assert url_of(sock, "127.0.0.1") == f"http://127.0.0.1:{port}"
        assert url_of(sock, "0.0.0.0") == f"http://localhost:{port}"
        assert url_of(sock, "::1") == f"http://[::1]:{port}"
