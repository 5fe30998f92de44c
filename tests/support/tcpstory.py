"""One seeded story over real sockets: uvicorn, a proxy that cuts at a byte, and one visitor."""

from __future__ import annotations

import random
from functools import partial

from tests.support.dialler import Dialler
from tests.support.proxy import Proxy
from tests.support.stage import Stage, random_ops
from tests.support.verdict import Verdict
from tests.support.visitor import Visitor

SPAN = 1500  # bytes; a cut comes so soon after a dial, the handshake included


class TcpStory(Verdict):
    """The proxy cuts each of the first connections at a byte of its own; then it is good."""

    def __init__(self, stage: Stage, proxy: Proxy, rng: random.Random, *, cuts: int) -> None:
        super().__init__(stage)
        self.proxy = proxy
        self.rng = rng
        self.cuts = cuts
        self.visitor = Visitor(f"t{rng.randrange(10**9)}-", stage.clock.time)
        self.visitors = [self.visitor]
        self.watch(self.visitor)

    def arm(self) -> None:
        """Before each dial: where will it be cut, and was the client away for long?"""
        rng, proxy = self.rng, self.proxy
        for up in (False, True):
            proxy.cut_after(None, up=up)
        if self.cuts:
            self.cuts -= 1
            proxy.cut_after(rng.randrange(SPAN), up=rng.random() < 0.5, gently=rng.random() < 0.5)
            if rng.random() < 0.1:
                self.stage.clock.advance(self.stage.app.settings.window + 1)

    def has_room(self, room: int) -> bool:
        return len(self.visitor.unanswered) <= room

    async def play(self, events: int) -> None:
        rng, visitor = self.rng, self.visitor
        async with Dialler(visitor, self.proxy.port, before=self.arm) as dialler:
            for number in range(1, events + 1):
                name, tag = self.stage.choose(rng), f"{visitor.name}{number}"
                self.asked[tag] = name
                ops = random_ops(rng, rng.randrange(4))
                await dialler.submit(name, {"tag": tag, "ops": ops}, tag=tag)
                await dialler.until(partial(self.has_room, rng.randrange(4)))
            await dialler.answered()
            await dialler.answered(await dialler.submit("barrier", tag="barrier"))
            self.check()
