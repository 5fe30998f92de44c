# Lanes: which of several waiting lines is served next, in a mailbox and in a ready queue alike.
#
# `lanes` is a bitmap of the lanes that have work, `passed` how often each was passed over since it
# was served. Who has these two calls `choose_lane`, serves that lane, and notes it with
# `serve_lane`; a lane that had no work and gets some begins with `passed` 0.

cdef enum:
    LANES = 4                # types.Lane
    # Passed over so often, a lane goes first. With four lanes three may ripen together, and the
    # last of them must not wait longer than 16.
    RIPE = 13


cdef inline int highest_lane(unsigned char lanes) noexcept:
    """The first of the lanes in `lanes` (not 0)."""
    return 0 if lanes & 1 else 1 if lanes & 2 else 2 if lanes & 4 else 3


cdef inline int choose_lane(unsigned char lanes, unsigned char *passed) noexcept:
    """Which of the lanes in `lanes` (not 0) is served next."""
    cdef int lane, best = -1
    cdef unsigned char most = RIPE - 1
    for lane in range(LANES):
        if passed[lane] > most and lanes >> lane & 1:
            most = passed[lane]
            best = lane
    return best if best >= 0 else highest_lane(lanes)


cdef inline void serve_lane(unsigned char lanes, unsigned char *passed, int lane) noexcept:
    """Note that `lane` was served while all of `lanes` had work."""
    cdef int other
    passed[lane] = 0
    lanes &= ~(1 << lane)
    if lanes:
        for other in range(LANES):
            if lanes >> other & 1 and passed[other] < 255:
                passed[other] += 1
