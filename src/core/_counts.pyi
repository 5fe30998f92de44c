"""What the links of an app count, all in one place, so that nothing is lost when a link ends."""

from typing import final

__all__ = ["Counts"]

@final
class Counts:
    """Counters of frames. ``_counts.pxd`` says what each one counts."""

    received: int
    accepted: int
    bare: int
    repeated: int
    gapped: int
    acks: int
    pings: int
    hellos: int
    byes: int
    batches: int
    parts: int
    bad: int
    discarded: int
    nacks: int
    over_rate: int
    results: int
    forgotten: int
    open_ids: int
    late: int
    patches: int
    snapshots: int
    events: int
    signals: int
    merged: int
    swallowed: int
    missed: int
    unsent: int
    sent: int
    cancelled_out: int
    collapsed: int
    lost_unsent: int
    kept: int
    acknowledged: int
    unkept: int
    trimmed: int
    superseded: int
    renewed: int
    lost_sent: int
    resumes: int
    renewals: int
    resent: int
    emptied: int
    bytes_out: int
    refusals: int
    refusals_sent: int
    refusals_dropped: int
    refusals_due: int
    @property
    def errors(self) -> dict[str, int]:
        """Answers that are errors, by code."""
