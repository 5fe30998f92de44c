"""One seeded story of visitors, a server and a bad network, in memory; and what must hold after it.

The network carries some bytes, or cuts a line between any two of them, for both sides or first for
one; the client's frames may reach the app after the client has given the line up. Time stands still
unless the story moves it: by a little, so that pings and acknowledgements fall due, or beyond the
window. In the end the network is good and everybody is let through.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from tests.support.byteline import ByteLine
from tests.support.stage import Stage, canonical, random_ops
from tests.support.visitor import Visitor

STEPS_AT_THE_END = 20_000


class Story:
    """The visitors of one session, and the lines between them and the stage."""

    def __init__(self, stage: Stage, rng: random.Random, *, visitors: int, events: int) -> None:
        self.stage = stage
        self.rng = rng
        self.lines: dict[Visitor, ByteLine] = {}
        self.ghosts: list[ByteLine] = []  # lines that only the app still believes in
        self.tokens: list[str] = []
        self.visitors = [self._visitor(name) for name in "abcd"[:visitors]]
        self.left = events
        self.cuts = 0
        self.asked: dict[str, str] = {}  # tag: handler
        self.began = len(stage.journal)

    def _visitor(self, name: str) -> Visitor:
        visitor = Visitor(f"{name}{self.rng.randrange(10**9)}-", self.stage.clock.time)

        def look(root: dict[str, Any]) -> None:
            session = visitor.link.session
            assert session is not None
            assert canonical(root) in self.stage.history[session], (
                f"{name} was shown a state that never was: {canonical(root)}"
            )

        visitor.on_state = look
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
        ]
        names, weights = zip(*actions, strict=True)
        self.connect()
        for _ in range(steps):
            rng.choices(names, weights)[0]()
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

    def advance(self, seconds: float) -> None:
        self.stage.clock.advance(seconds)
        for visitor in self.visitors:
            visitor.tick()
            self.pump(visitor)

    # -- lines --------------------------------------------------------------------------------

    def dial(self, visitor: Visitor) -> None:
        assert not visitor.over, visitor.closes
        if visitor.link.token is None and self.tokens:
            visitor.link.token = self.tokens[-1]  # a further view of the same session
        self.lines[visitor] = ByteLine(self.stage.app, visitor)

    def pump(self, visitor: Visitor) -> None:
        line = self.lines.get(visitor)
        if line is not None and line.visitor is visitor:
            line.pump()

    def session_of(self, visitor: Visitor) -> Any:
        return self.stage.app.sessions.get(visitor.link.session or "")

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
                if visitor.live and not pending and not visitor.unanswered and line.quiet:
                    if visitor not in barriers:
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

    # -- what must hold -----------------------------------------------------------------------

    def check_convergence(self) -> None:
        """G1: everybody has exactly the server's state."""
        for visitor in self.visitors:
            session = self.session_of(visitor)
            assert session is not None
            assert canonical(visitor.state) == canonical(session.state.to_dict())

    def check_at_most_once(self) -> None:
        """G2: no duplicate, no gap, in order; and who is told ``lost`` was really cut off."""
        journal = self.stage.journal[self.began :]
        counts = Counter(journal)
        assert not [tag for tag, count in counts.items() if count > 1]
        for visitor in self.visitors:
            mine = [tag for tag in journal if tag.startswith(visitor.name)]
            sent = [tag for tag in visitor.sent if tag != "barrier"]
            assert mine == [tag for tag in sent if counts[tag]], "out of order"
            assert not visitor.again, "settled twice"
            for tag in sent:
                code = visitor.outcomes[tag].code
                if code == "lost":
                    assert visitor.gaps or visitor.renewals, f"{tag} is lost without a reason"
                else:
                    assert counts[tag] == 1, f"{tag} was answered with {code!r} but did not run"
                    assert code == ("handler_error" if "fail" in self.asked[tag] else "")
                    if not code:
                        assert visitor.outcomes[tag].value == tag

    def check_events(self) -> None:
        """What the server emitted arrives once and in order; all of it, unless there was a gap."""
        for visitor in self.visitors:
            got = [data for type, data in visitor.events if type == "app:did"]
            assert not [type for type, _ in visitor.events if type == "app:never"]
            assert len(got) == len(set(got)), "an event came twice"
            if visitor.renewals:
                continue
            emitted = self.stage.emitted[visitor.link.session or ""]
            assert got == [tag for tag in emitted if tag in set(got)], "events out of order"
            if not visitor.gaps and len(self.visitors) == 1:
                assert got == emitted, "events are missing"

    def check(self) -> None:
        self.check_convergence()
        self.check_at_most_once()
        self.check_events()
        self.stage.check_conservation()
