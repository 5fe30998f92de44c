"""``greenroom run`` in a process of its own, which can be killed and started again on its port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")
PATIENCE = 60.0


class ServerProcess:
    """A server; ``port`` stays the same over restarts."""

    def __init__(self, path: Path, *options: str, **environment: str) -> None:
        self.path = path
        self.options = options
        self.environment = environment
        self.port = 0
        self.log: list[str] = []
        self._grown = threading.Condition()
        self.starts = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it; returns when it listens."""
        assert self._process is None
        ready = threading.Event()
        process = self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "greenroom", "run", str(self.path)),
                *("--port", str(self.port), *self.options),
            ],
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def read() -> None:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    with self._grown:
                        self.log.append(line)
                        self._grown.notify_all()
                    found = ADDRESS.search(line)
                    if found is not None:
                        self.port = int(found[1])
                        ready.set()
            ready.set()

        self._reader = threading.Thread(target=read, name="server log", daemon=True)
        self._reader.start()
        self.starts += 1
        if not ready.wait(PATIENCE) or not self.port or process.poll() is not None:
            self.kill()
            raise AssertionError("the server did not start:\n" + "".join(self.log))

    def said(self, text: str, times: int = 1) -> None:
        """Wait until so many lines with ``text`` were said, since the beginning."""

        def enough() -> bool:
            return sum(text in line for line in self.log) >= times

        with self._grown:
            assert self._grown.wait_for(enough, PATIENCE), f"no {text!r} in:\n" + "".join(self.log)

    def tell(self, how: signal.Signals) -> None:
        """Send a signal; it goes on until it ends by itself."""
        assert self._process is not None
        self._process.send_signal(how)

    def ended(self) -> int:
        """Wait for the end; the exit code."""
        process, self._process = self._process, None
        assert process is not None
        code = process.wait(PATIENCE)
        self._reader.join()
        return code

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it: nothing of it gets a chance to say goodbye, unless ``how`` lets it."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(PATIENCE)
            self._reader.join()

    def restart(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.kill(how)
        self.start()
