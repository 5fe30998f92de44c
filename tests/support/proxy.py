"""A TCP proxy that misbehaves on request: what stands between a client and a server in our tests.

It runs on a loop in a thread of its own, so that sync and async tests can use it alike::

    with Proxy(server_port) as proxy:
        connect(proxy.port)
        proxy.cut()            # every connection is reset; new ones are welcome
        proxy.refuse()         # every connection is reset, and so are new ones ...
        proxy.accept()         # ... until now
        proxy.stall()          # nothing moves, nothing is lost, nothing is closed ...
        proxy.flow()           # ... until now
        proxy.swallow()        # half open: bytes vanish, and neither side is told
        proxy.cut_after(100)   # reset a connection once this many bytes went towards the client
        proxy.cut_after(100, up=True)   # ... or towards the server

Every method returns when it has happened. ``up`` and ``down`` count the bytes handed on to the
server and to the client, ``swallowed`` those that vanished, ``connections`` how many there were.
Bytes that are on the way when a connection is cut are lost, as on a real line.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

CHUNK = 64 * 1024


class Proxy:
    """Forwards connections to ``127.0.0.1:target`` until told otherwise."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.up = 0
        self.down = 0
        self.swallowed = 0
        self.connections = 0
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._swallowing = False
        self._cuts: dict[bool, _Cut | None] = {}  # the next one on the way up, or down
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- what tests call ----------------------------------------------------------------------

    def cut(self) -> int:
        """Reset every connection; returns how many."""
        return self._do(self._cut)

    def refuse(self) -> int:
        """Reset every connection, and each new one as soon as it is made."""
        return self._do(self._refuse, True)

    def accept(self) -> None:
        """Welcome new connections again."""
        self._do(self._refuse, False)

    def stall(self) -> None:
        """Take no byte from either side; what they send waits in their own buffers."""
        self._do(self._moving.clear)

    def flow(self) -> None:
        """Undo :meth:`stall` and :meth:`swallow`; what was swallowed is gone."""
        self._do(self._flow)

    def swallow(self) -> None:
        """Take every byte and hand on none: half-open connections, seen from both sides."""
        self._do(self._swallow)

    def cut_after(self, count: int | None, *, up: bool = False, gently: bool = False) -> None:
        """Hand ``count`` more bytes to the client, or to the server, then reset that connection.

        ``gently`` closes it, so that all those bytes arrive: a reset may overtake them. A count of
        None takes the order back.
        """
        self._do(self._cuts.__setitem__, up, None if count is None else _Cut(count, gently))

    def wait_until(self, condition: Callable[[Proxy], bool], timeout: float = 10) -> None:
        """Return as soon as ``condition(proxy)`` is true: ``lambda proxy: proxy.swallowed``."""

        async def wait() -> None:
            async with asyncio.timeout(timeout):
                while not condition(self):
                    await asyncio.sleep(0.005)

        self._wait(wait())

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return self._do(lambda: len(self._pairs))

    # -- on the loop --------------------------------------------------------------------------

    def _do(self, action: Callable[..., T], *args: object) -> T:
        async def run() -> T:
            return action(*args)

        return self._wait(run())

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _start(self) -> None:
        self._moving = asyncio.Event()
        self._moving.set()
        self._server = await asyncio.start_server(self._welcome, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        self._refuse(True)  # with its connection gone, each task ends by itself
        self._flow()
        await asyncio.gather(*self._tasks)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._turned_away(writer):
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            reset(writer)
            return
        pair = _Pair(writer, far_writer)
        self._pairs.add(pair)
        self._turned_away(writer)  # refused while we dialled: the pumps end at once
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer, pair, up=True))
                group.create_task(self._pump(far_reader, writer, pair, up=False))
        except* OSError:
            pair.reset()
        finally:
            pair.reset()
            self._pairs.discard(pair)

    def _turned_away(self, writer: asyncio.StreamWriter) -> bool:
        if self._refusing:
            reset(writer)
        return self._refusing

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: _Pair,
        *,
        up: bool,
    ) -> None:
        while data := await reader.read(CHUNK):
            await self._moving.wait()
            if self._swallowing:
                self.swallowed += len(data)
                continue
            cut = self._cuts.get(up)
            if cut is not None:
                data = data[: cut.left]
                cut.left -= len(data)
            if up:
                self.up += len(data)
            else:
                self.down += len(data)
            writer.write(data)
            await writer.drain()
            if cut is not None and not cut.left:
                self._cuts[up] = None
                if cut.gently:
                    pair.close()
                pair.reset()
                return
        await self._moving.wait()
        if not self._swallowing and not writer.is_closing():
            writer.write_eof()

    def _cut(self) -> int:
        pairs = tuple(self._pairs)
        for pair in pairs:
            pair.reset()
        return len(pairs)

    def _refuse(self, refusing: bool) -> int:
        self._refusing = refusing
        return self._cut() if refusing else 0

    def _swallow(self) -> None:
        self._swallowing = True

    def _flow(self) -> None:
        self._swallowing = False
        self._moving.set()


class _Cut:
    """A cut to come: after so many bytes of one direction, over all connections."""

    def __init__(self, left: int, gently: bool) -> None:
        self.left = left
        self.gently = gently


class _Pair:
    """The two halves of one forwarded connection."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near = near
        self.far = far

    def close(self) -> None:
        self.near.close()
        self.far.close()

    def reset(self) -> None:
        reset(self.near)
        reset(self.far)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset: what is on the way is lost, and the other side knows at once."""
    if not writer.is_closing():
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
