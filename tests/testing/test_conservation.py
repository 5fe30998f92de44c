"""The check that users and our own tests call at quiet points."""

from __future__ import annotations

from typing import Any

import greenroom as gr
from greenroom.core.stats import unbalanced
from greenroom.testing import assert_conserved


def test_a_balanced_app_passes_and_a_message_that_vanished_is_named(arun: Any) -> None:
    async def main() -> None:
        app = gr.App(None, [], gr.Settings(watchdog=0.0))
        app.on("app:note", lambda: None)
        async with app:
            session = app.open_session()
            await session.ask("app:note")
            assert_conserved(app)
            told = app.stats()
            told["messages"]["run"] -= 1
            (line,) = unbalanced(told)
            assert "messages.accepted = messages.run + " in line
            assert ": 1 is not 0 + " in line
        assert_conserved(app)

    arun(main)
