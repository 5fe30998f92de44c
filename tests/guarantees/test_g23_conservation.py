"""G23: conservation. What went in has come out, or is still there, by the app's own counters.

A crowd of clients does everything the protocol allows and much that it does not, the server has a
life of its own, the network cuts and stalls, and time passes in leaps. After every step, as soon as
nothing moves any more, every equation of ``greenroom.core.stats`` holds; also when the app has
stopped in the middle of it all. (Every other test checks the same when its app stops.)
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import LOOPS, run_clean
from tests.support.crowd import STEPS, Crowd
from tests.support.seeds import ONLY, replayable, seeds

from greenroom.testing import assert_conserved

steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2**32)), max_size=60)


async def tell(story: list[tuple[str, int]], end: int) -> Counter[str]:
    """Tell a story; the most that each counter came to."""
    crowd = Crowd()
    most: Counter[str] = Counter()
    async with crowd.app:
        for name, number in story:
            crowd.step(name, number)
            await crowd.quiet()
            try:
                assert_conserved(crowd.app)
            except AssertionError as error:
                error.add_note(f"after {name!r} {number}")
                raise
            most |= Counter(dict(leaves(crowd.app.stats())))
        await crowd.leave(random.Random(end))
    assert_conserved(crowd.app)
    return most | Counter(dict(leaves(crowd.app.stats())))


def leaves(stats: Mapping[str, Any], path: str = "") -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for name, value in stats.items():
        if isinstance(value, dict):
            found += leaves(value, f"{path}{name}.")
        else:
            found.append((f"{path}{name}", value))
    return found


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps, st.integers(0, 2**32))
def test_g23_whatever_happens(story: list[tuple[str, int]], end: int) -> None:
    asyncio.run(tell(story, end))


def test_g23_long_stories_meet_every_end() -> None:
    """The same from seeds, longer; and there is no counter that no story has met."""
    met: Counter[str] = Counter()
    known = {name for name, _ in leaves(Crowd().app.stats())}

    async def main() -> None:
        for seed in seeds(0.15):
            rng = random.Random(seed)
            story = [(rng.choice(STEPS), rng.randrange(2**32)) for _ in range(150)]
            with replayable(seed):
                met.update(await tell(story, seed))

    run_clean(LOOPS.get("uvloop", asyncio.new_event_loop), main, timeout=3600)
    never = {name for name in known - met.keys() - ELSEWHERE if not name.startswith("files.")}
    assert ONLY is not None or not never
    codes = {name.removeprefix("closes.") for name in met if name.startswith("closes.")}
    assert ONLY is not None or codes >= {"eof", "too_large", "slow_consumer", "rate_limited"}


#: What this crowd cannot do, beside files: other tests see these counted.
ELSEWHERE = {"messages.blocked", "messages.waiting_in_pool"}
