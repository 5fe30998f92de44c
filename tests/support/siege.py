"""A server under attack, a bystander who must not notice, and the bill at the end.

::

    async with siege("asgi") as place:
        async with place.attack() as enemy:
            ...
        place.bill(...)       # what the attack may have cost, from counters

The bystander is a session of its own that asks and asks again, from the beginning to the end; an
attack is only over when he was answered several times after its last byte. At the end of every
siege the counters are in balance (G23).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any, Final

from tests.support.hostile import PATIENCE, Hostile, event
from tests.support.served import served_as_run

import greenroom as gr
from greenroom.testing import ManualClock
from greenroom.testing.conservation import assert_conserved

ADAPTERS: Final = ("asgi", "websocket")

__all__ = ["ADAPTERS", "Siege", "siege"]

LISTENING: Final = "0A"  # in /proc/net/tcp
STEP: Final = 5.0  # seconds a manual clock may jump
BREATH: Final = 0.005  # seconds between two questions of the bystander
PEER: Final = {"X-Forwarded-For": "203.0.113.9"}  # a foreign address, seen through a proxy


class Records(logging.Handler):
    """Every record that would reach a terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    @property
    def nbytes(self) -> int:
        return sum(len(text) + 1 for text in self.texts)


class Siege:
    """A running server. ``app`` is its app, ``records`` its log."""

    def __init__(self, app: gr.App, port: int, adapter: str, records: Records) -> None:
        self.app = app
        self.port = port
        self.adapter = adapter
        self.records = records
        self.answered = 0  # of the bystander's questions
        self.breath = BREATH
        self.bystander: asyncio.Task[None]
        self._news = asyncio.Event()

    # -- attackers ----------------------------------------------------------------------------

    async def dial(self, **options: Any) -> Hostile:
        return await Hostile.dial(self.port, **options)

    async def upgrade(self, **options: Any) -> Hostile:
        return await Hostile.upgrade(self.port, **options)

    async def open(self, *args: Any, **options: Any) -> Hostile:
        return await Hostile.open(self.port, *args, **options)

    def link(self, enemy: Hostile) -> Any:
        """The server's half of an attacker's link."""
        return self.app.sessions[enemy.welcome["session"]].links[enemy.welcome["link"]]

    def stats(self) -> dict[str, Any]:
        return self.app.stats()

    def sockets(self) -> int:
        """How many sockets of clients this process holds in its server's half."""
        here = f":{self.port:04X}"
        ours = 0
        for name in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                local, _, state, *rest = line.split()[1:]
                inode = rest[5]
                ours += local.endswith(here) and state != LISTENING and inode != "0"
        return ours

    # -- the bystander ------------------------------------------------------------------------

    async def undisturbed(self, times: int = 3) -> None:
        """The bystander is answered again, and again."""
        wanted = self.answered + times
        async with asyncio.timeout(PATIENCE):
            while self.answered < wanted and not self.bystander.done():
                self._news.clear()
                await self._news.wait()

    async def wait(self, clock: ManualClock, seconds: float) -> None:
        """Let time pass; the bystander is heard of meanwhile."""
        while seconds > 0:
            clock.advance(min(seconds, STEP))
            seconds -= STEP
            await self.undisturbed(1)

    async def stand_by(self) -> None:
        try:
            await self._ask_again_and_again()
        finally:
            self._news.set()

    async def _ask_again_and_again(self) -> None:
        async with await self.open() as peer:
            number = 0
            while True:
                number += 1
                await peer.say(event(number, "add", 1))
                frame = await peer.answer(number)
                assert frame["type"] == "gr:result", frame
                assert frame["data"] == number, frame
                await peer.say({"type": "gr:ack", "data": {"seq": frame["seq"]}})
                self.answered = number
                self._news.set()
                await asyncio.sleep(self.breath)

    # -- the bill -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def memory(self) -> Generator[Memory]:
        """What Python allocates meanwhile. The attacker's own things should exist before."""
        tracemalloc.start()
        try:
            yield Memory()
        finally:
            tracemalloc.stop()


class Memory:
    """Bytes allocated since it was made, now and at most."""

    def __init__(self) -> None:
        self._before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()

    @property
    def now(self) -> int:
        return tracemalloc.get_traced_memory()[0] - self._before

    @property
    def peak(self) -> int:
        return tracemalloc.get_traced_memory()[1] - self._before


@gr.handler(inline=True)
def add(state: Any, payload: int) -> int:
    state["count"] += payload
    return int(state["count"])


def fail(payload: Any) -> None:
    raise RuntimeError("this handler always fails")


@contextlib.asynccontextmanager
async def siege(
    adapter: str = "asgi",
    *,
    handlers: Any = (),
    prepare: Callable[[gr.App], object] = lambda app: None,
    clock: Any = None,
    breath: float = BREATH,
    public: Path | None = None,
    **settings: Any,
) -> AsyncGenerator[Siege]:
    """Serve an app as ``greenroom run`` would, with a bystander."""
    defaults: dict[str, Any] = {
        "workers": 2,
        "workers_max": 4,
        "watchdog": 0.0,
        "drain": 0.0,
        "trusted_proxies": ("127.0.0.1",),
        "secret": "of a fortress" * 3,
    }
    app = gr.App(
        {"count": 0, "text": "", "rows": []},
        [add, fail, *handlers],
        gr.Settings(**(defaults | settings)),
        clock=clock,
    )
    prepare(app)
    records = Records()
    logger, ours = logging.getLogger(), logging.getLogger("greenroom")
    level = ours.level
    logger.addHandler(records)
    ours.setLevel(logging.WARNING)
    try:
        async with served_as_run(app, adapter, public=public) as port:
            place = Siege(app, port, adapter, records)
            place.breath = breath
            task = place.bystander = asyncio.create_task(place.stand_by())
            try:
                await place.undisturbed()
                yield place
                await place.undisturbed()
            finally:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    task.result()
        assert_conserved(app)
    finally:
        logger.removeHandler(records)
        ours.setLevel(level)
