# cython: language_level=3
"""The plan of what an app's links count. Every field is one place where a frame can end, or the
way into one; the equations between them are in stats.py."""


cdef class Counts:
    # frames from clients, each of which ends in one of the others
    cdef public long long received
    cdef public long long accepted       # the next id: consumed, and owed one answer
    cdef public long long bare           # a request without an id: run or refused, not answered
    cdef public long long repeated       # an id that was taken before
    cdef public long long gapped         # an id beyond a gap: thrown away, it comes again
    cdef public long long acks
    cdef public long long pings          # pongs too
    cdef public long long hellos
    cdef public long long byes
    cdef public long long batches        # what is in a batch is received by itself
    cdef public long long parts          # what the parts make is received by itself
    cdef public long long bad            # cost the connection
    cdef public long long discarded      # came after the end of a connection was decided
    cdef public long long nacks          # sent; not an end
    cdef public long long over_rate      # frames that could not be paid for; not an end

    # accepted ids
    cdef public long long results
    cdef readonly dict errors            # code -> how many
    cdef public long long forgotten      # the link ended first
    cdef public long long open_ids       # now
    cdef public long long late           # answers that nobody was owed any more; not an end

    # frames to clients: what is offered to streams, ...
    cdef public long long patches
    cdef public long long snapshots
    cdef public long long events
    cdef public long long signals
    # ... what never enters the unsent log, ...
    cdef public long long merged         # patches joined with an unsent neighbour
    cdef public long long swallowed      # patches that a snapshot has or will have
    cdef public long long missed         # events, signals, answers for a link that is away too long
    # ... how frames leave the unsent log, ...
    cdef public long long unsent         # now
    cdef public long long sent           # got a number, and were handed over
    cdef public long long cancelled_out  # patches that undid each other while they waited
    cdef public long long collapsed      # patches replaced by a snapshot
    cdef public long long lost_unsent    # the log was emptied
    # ... and how they leave the sent log.
    cdef public long long kept           # now
    cdef public long long acknowledged
    cdef public long long unkept         # too large to be kept
    cdef public long long trimmed        # the oldest, beyond the limits of the log
    cdef public long long superseded     # by the snapshot of a renewal
    cdef public long long renewed        # went back into the unsent log, for a new number
    cdef public long long lost_sent      # the log was emptied
    # no ends
    cdef public long long resumes        # clients that came back and went on where they were
    cdef public long long renewals       # clients that came back and began with a snapshot
    cdef public long long resent         # frames sent once more after a resume
    cdef public long long emptied        # how often both logs of a link were emptied
    cdef public long long bytes_out

    # unnumbered errors about frames without an id
    cdef public long long refusals
    cdef public long long refusals_sent
    cdef public long long refusals_dropped
    cdef public long long refusals_due   # now

    cdef int error(self, str code) except -1
