"""What must hold after a story of cuts, whatever carried its bytes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.support.stage import Stage, canonical
from tests.support.visitor import Visitor


class Verdict:
    """The visitors of one story and the stage it was told on; what they may and may not have."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.visitors: list[Visitor] = []
        self.asked: dict[str, str] = {}  # tag: handler
        self.began = len(stage.diary.journal)

    def watch(self, visitor: Visitor) -> None:
        """Whatever it is shown must have been the state of its session."""

        def look(root: dict[str, Any]) -> None:
            session = visitor.link.session
            assert session is not None
            assert canonical(root) in self.stage.diary.history[session], (
                f"{visitor.name} was shown a state that never was: {canonical(root)}"
            )

        visitor.on_state = look

    def session_of(self, visitor: Visitor) -> Any:
        return self.stage.app.sessions.get(visitor.link.session or "")

    def check(self) -> None:
        self.check_convergence()
        self.check_at_most_once()
        self.check_events()
        self.check_conservation()

    def check_convergence(self) -> None:
        """G1: everybody has exactly the server's state."""
        for visitor in self.visitors:
            session = self.session_of(visitor)
            assert session is not None
            assert canonical(visitor.state) == canonical(session.state.to_dict())

    def check_at_most_once(self) -> None:
        """G2: no duplicate, no gap, in order; and who is told ``lost`` was really cut off."""
        journal = self.stage.diary.journal[self.began :]
        counts = Counter(journal)
        assert not [tag for tag, count in counts.items() if count > 1], "run twice"
        for visitor in self.visitors:
            mine = [tag for tag in journal if tag.startswith(visitor.name)]
            sent = [tag for tag in visitor.sent if tag != "barrier"]
            assert mine == [tag for tag in sent if counts[tag]], "out of order"
            assert not visitor.again, "settled twice"
            for tag in sent:
                code = visitor.outcomes[tag].code
                if code == "lost":
                    assert visitor.gaps or visitor.renewals, f"{tag} is lost without a reason"
                elif code == "closed":
                    assert not counts[tag], f"{tag} was refused and ran"
                    assert visitor.renewals, f"{tag} was refused without a reason"
                else:
                    assert counts[tag] == 1, f"{tag} was answered with {code!r} but did not run"
                    assert code == ("handler_error" if "fail" in self.asked[tag] else "")
                    if not code:
                        assert visitor.outcomes[tag].value == tag

    def check_events(self) -> None:
        """What the server emitted arrives once and in order; all of it, unless there was a gap."""
        for visitor in self.visitors:
            got = [data for name, data in visitor.events if name == "app:did"]
            assert not [name for name, _ in visitor.events if name == "app:never"]
            assert len(got) == len(set(got)), "an event came twice"
            if visitor.renewals:
                continue
            emitted = self.stage.diary.emitted[visitor.link.session or ""]
            assert got == [tag for tag in emitted if tag in got], f"out of order: {emitted}"
            if not visitor.gaps and len(self.visitors) == 1:
                assert got == emitted, "events are missing"

    def check_conservation(self) -> None:
        """G23: every message that was accepted has ended in exactly one way."""
        told = self.stage.app.stats()["messages"]
        ways = ("run", "failed", "cancelled", "expired", "dropped", "pending")
        assert told["accepted"] == sum(told[way] for way in ways), told
