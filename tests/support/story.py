"""One seeded story of visitors, a server and a bad network, in memory; and what must hold after it.

The network carries some bytes, or cuts a line between any two of them, for both sides or first for
one; the client's frames may reach the app after the client has given the line up. Time stands still
unless the story moves it: by a little, so that pings and acknowledgements fall due, or beyond the
window. In the end the network is good and everybody is let through.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.support.byteline import ByteLine
from tests.support.stage import Stage, random_ops
from tests.support.verdict import Verdict
from tests.support.visitor import Visitor

STEPS_AT_THE_END = 20_000


class Story(Verdict):
    """The visitors of one session, and the lines between them and the stage.

    With ``restarts`` the server is sometimes killed or stopped, and another takes its place.
    """

    def __init__(
        self,
        stage: Stage,
        rng: random.Random,
        *,
        visitors: int,
        events: int,
        restarts: Callable[[], Awaitable[Stage]] | None = None,
    ) -> None:
        super().__init__(stage)
        self.rng = rng
        self.restarts = restarts
        self.lines: dict[Visitor, ByteLine] = {}
        self.ghosts: list[ByteLine] = []  # lines that only the app still believes in
        self.shared = rng.random() < 0.8  # are they views of one session?
        self.visitors = [self._visitor(name) for name in "abcd"[:visitors]]
        self.dead: list[Stage] = []
        self.left = events
        self.cuts = 0

    def _visitor(self, name: str) -> Visitor:
        visitor = Visitor(f"{name}{self.rng.randrange(10**9)}-", self.stage.clock.time)

        self.watch(visitor)
        return visitor

    # -- what can happen ----------------------------------------------------------------------

    async def play(self, steps: int) -> None:
        """So many things happen, and then the network is good."""
        rng = self.rng
        actions = [
            (self.submit, 6),
            (self.carry, 30),
            (self.connect, 4),
            (self.cut, 2),
            (self.ghost, 1),
            (self.wait_a_little, 2),
            (self.wait_long, 0.4),
            (self.tell, 1),
            (self.restart, 1 if self.restarts else 0),
        ]
        names, weights = zip(*actions, strict=True)
        self.connect()
        for _ in range(steps):
            happened = rng.choices(names, weights)[0]()
            if happened is not None:
                await happened
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
        while self.left:
            self.submit()
        await self.finish()

    def some(self) -> Visitor:
        return self.rng.choice(self.visitors)

    def submit(self) -> None:
        if self.left:
            self.left -= 1
            visitor = self.some()
            name = self.stage.choose(self.rng)
            tag = f"{visitor.name}{len(visitor.sent) + 1}"
            ops = random_ops(self.rng, self.rng.randrange(5))
            self.asked[tag] = name
            visitor.submit(name, {"tag": tag, "ops": ops}, tag=tag)
            self.pump(visitor)

    def tell(self) -> None:
        """The server does something of its own accord."""
        session = self.session_of(self.some())
        if session is not None:
            session.tell("do", {"tag": f"told{self.rng.random()}", "ops": random_ops(self.rng, 2)})

    def carry(self) -> None:
        lines = [*self.lines.values(), *self.ghosts]
        if lines:
            line = self.rng.choice(lines)
            count = self.rng.choice((1, 7, 40, 200, 2000, None))
            self.rng.choice((line.up, line.down))(count)

    def connect(self) -> None:
        for visitor in self.visitors:
            if not visitor.connected and self.rng.random() < 0.7:
                self.dial(visitor)

    def cut(self) -> None:
        if self.lines:
            visitor = self.rng.choice(list(self.lines))
            line = self.lines.pop(visitor)
            self.cuts += 1
            if self.rng.random() < 0.5:
                line.up(self.rng.randrange(300))  # what was on its way may still arrive
                line.cut()
            else:
                line.drop()
                self.ghosts.append(line)

    def ghost(self) -> None:
        """The app hears of the end of a line that its client gave up."""
        if self.ghosts:
            line = self.ghosts.pop(self.rng.randrange(len(self.ghosts)))
            line.up(self.rng.randrange(300))
            line.lapse()

    def wait_a_little(self) -> None:
        self.advance(self.rng.choice((0.3, 1.0, 5.0, 21.0)))

    def wait_long(self) -> None:
        self.advance(self.stage.app.settings.window + 1)

    async def restart(self) -> None:
        """The server goes, with everything it knew, and another one comes."""
        assert self.restarts is not None
        old, self.stage = self.stage, await self.restarts()
        if self.rng.random() < 0.5:
            await old.app.stop(0.0)  # it says goodbye, and runs or refuses what it has
            for line in self.lines.values():
                line.down(self.rng.choice((0, 100, None)))
        else:
            old.dead = True
            self.dead.append(old)
        for line in [*self.lines.values(), *self.ghosts]:
            line.upward.clear()
            line.cut()
        self.lines.clear()
        self.ghosts.clear()

    def advance(self, seconds: float) -> None:
        self.stage.clock.advance(seconds)
        for visitor in self.visitors:
            visitor.tick()
            self.pump(visitor)

    # -- lines --------------------------------------------------------------------------------

    def dial(self, visitor: Visitor) -> None:
        assert not visitor.over, visitor.closes
        if visitor.link.token is None and self.shared:  # a further view of the same session
            others = [other.link.token for other in self.visitors if other.link.token]
            visitor.link.token = self.rng.choice(others) if others else None
        self.lines[visitor] = ByteLine(self.stage.app, visitor)

    def pump(self, visitor: Visitor) -> None:
        line = self.lines.get(visitor)
        if line is not None and line.visitor is visitor:
            line.pump()

    # -- the end ------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Let everybody through, until nobody waits for anything."""
        for line in self.ghosts:
            line.up()
            line.lapse()
        barriers: dict[Visitor, str] = {}
        for _ in range(STEPS_AT_THE_END):
            await asyncio.sleep(0)
            for visitor in self.visitors:
                if not visitor.connected:
                    assert not visitor.over, visitor.closes
                    self.dial(visitor)
                line = self.lines[visitor]
                line.up()
                line.down()
                pending = self.stage.app.stats()["messages"]["pending"]
                waits = pending or visitor.unanswered or not line.quiet
                if visitor.live and not waits and visitor not in barriers:
                    barriers[visitor] = visitor.submit("barrier", tag="barrier")
                    line.pump()
            if len(barriers) == len(self.visitors) and not any(
                visitor.unanswered or not self.lines[visitor].quiet for visitor in self.visitors
            ):
                return
        raise AssertionError(
            f"somebody still waits: {[(v.name, v.link.state, v.unanswered) for v in self.visitors]}"
        )

    async def leave(self) -> None:
        """Everybody goes, and the session ends."""
        for visitor in self.visitors:
            session = self.session_of(visitor)
            if session is not None:
                session.close("the story is over")
        while any(self.session_of(visitor) is not None for visitor in self.visitors):
            await asyncio.sleep(0)
        for line in self.lines.values():
            line.cut()
        for stage in self.dead:
            await stage.app.stop(0.0)
