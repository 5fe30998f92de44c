"""Conservation (G23): nothing that went into an app has vanished without being counted.

::

    async with app:
        ...                      # clients, cuts, floods
        assert_conserved(app)    # at a quiet point, and again after the app has stopped

On the app's loop only.
"""

from __future__ import annotations

from typing import Any

from ..core.app import App
from ..core.stats import unbalanced

__all__ = ["assert_conserved"]


def assert_conserved(app: App) -> None:
    """Raise AssertionError that names the equations of ``app.stats()`` which do not hold.

    Call it at a quiet point, on the app's loop: nothing is being done there or on a worker. Turns
    may be suspended, mailboxes and logs filled: what is pending is looked for and compared with
    what the counters say. The equations are in ``docs/operations.md``.
    """
    told = app.stats()
    broken = unbalanced(told)
    for name, (said, found) in _looked_at(app, told).items():
        if said != found:
            broken.append(f"{name}: {said} are counted, {found} are there")
    if broken:
        raise AssertionError("not conserved:\n  " + "\n  ".join(broken))


def _looked_at(app: App, told: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """By name: how many there should be now, and how many there are when everybody is asked."""
    scheduler = app.scheduler
    turns = set(scheduler.running_turns())
    actors = {turn.session for turn in turns} | scheduler.busy_actors() | {*app.sessions.values()}
    jobs = {job for actor in actors for job in actor.jobs or ()}
    turns |= {job.turn for job in jobs if not job.done}
    links = [link for session in app.sessions.values() for link in session.links.values()]
    held = [link.frames_held() for link in links]
    return {
        "messages.pending": (
            told["messages"]["pending"],
            len(turns) + sum(len(actor) for actor in actors),
        ),
        "links": (told["links"], len(links)),
        "answers.open": (told["answers"]["open"], sum(link.open_ids for link in links)),
        "frames_out.unsent": (told["frames_out"]["unsent"], sum(unsent for unsent, _ in held)),
        "frames_out.kept": (told["frames_out"]["kept"], sum(kept for _, kept in held)),
        "frames_out.log_bytes": (
            told["frames_out"]["log_bytes"],
            sum(link.unsent_bytes + link.sent_bytes for link in links),
        ),
    }
