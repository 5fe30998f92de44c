# cython: language_level=3
"""The plan of the outgoing stream. The theory and the thread rule are in _stream.pyx."""

from ._counts cimport Counts
from ._frame cimport Frame
from ._ids cimport Ids
from ._patch cimport Patch

cdef enum Mode:
    LIVE = 0      # frames are taken in and handed over
    HELD = 1      # frames are taken in; there is nobody to hand them to, or not yet
    ANSWERS = 2   # only answers are taken in, up to answer_bytes
    SHUT = 3      # nothing is taken in


cdef class Tally:
    cdef readonly Counts counts       # of all streams that share this tally
    cdef readonly Py_ssize_t total    # bytes in all logs of all streams that share this tally
    cdef public Py_ssize_t limit      # committed() calls enforce() above it


cdef class Request:
    cdef readonly str kind
    cdef readonly object id           # int, or None: a frame without an answer
    cdef readonly str type
    cdef readonly object data
    cdef readonly object context      # a dict of the client's keys, or None


cdef class Stream:
    # who
    cdef readonly str label
    cdef readonly bint binary
    cdef readonly Tally tally
    cdef readonly Counts counts       # the tally's
    cdef object snapshot              # () -> (encoded, position), or None: not now
    cdef bytes event_end              # ,"label":"main"}
    cdef public object connection     # what carries it now, or None; owned by the links

    # the incoming half: what an ordinary event changes; the rest is the link's
    cdef public str state             # of link_table.py
    cdef public object closing        # the Close this connection must end with, or None
    cdef public double heard_at       # when the client was last heard of
    cdef public int nack_row          # nacks without progress
    cdef public Py_ssize_t crowd      # more unanswered events are refused; 0: no limit
    cdef public Py_ssize_t largest    # bytes of a packet; 0: no limit
    cdef public double rate           # frames a second that are paid back; 0: no limit
    cdef public double burst          # frames that may be owed
    cdef public double debt           # frames taken in, less what was paid back ...
    cdef public double debt_at        # ... by then
    cdef public int refused_row       # frames in a row that could not be paid for

    # numbers
    cdef readonly long long seq       # last number given
    cdef public long long ack         # highest client id accepted; told in nacks
    cdef readonly long long base      # a resume is possible from here on ...
    cdef readonly bint broken         # ... unless frames were lost before they had a number
    cdef bint met                     # a client has been attached before
    cdef readonly long long position  # of the last snapshot handed over; older patches are in it
    cdef Ids unanswered               # accepted ids of events that have no answer yet
    cdef Ids asides                   # the same of gr: frames, which are not "in flight"

    # unsent log
    cdef Frame head
    cdef Frame tail
    cdef bint marked                  # it holds a mark, which swallows patches
    cdef readonly Py_ssize_t patch_bytes
    cdef readonly Py_ssize_t solid_bytes

    # sent log
    cdef Frame first
    cdef Frame last
    cdef Frame cursor                 # next frame to send again after a resume
    cdef readonly Py_ssize_t sent_bytes

    # unnumbered frames that are due, in the order in which they go out
    cdef bytes welcome
    cdef bint nack_due
    cdef list refusals                # errors about frames without id, best effort
    cdef bint pong_due
    cdef bint ping_due

    # the transport
    cdef int mode
    cdef readonly bint blocked        # it had no room for all there was
    cdef double quiet_since           # it took nothing of what there is since then; -1: nothing is
    cdef Py_ssize_t part_bytes        # its limit for one message, 0: none; more goes in parts
    cdef bint batching                # it cannot join messages: they go in one gr:batch
    cdef long long parted             # frames of this connection that went in parts

    # limits
    cdef Py_ssize_t log_bytes         # of each log
    cdef Py_ssize_t frame_bytes       # of an event or a result
    cdef double window                # seconds a sent frame is kept
    cdef double dead                  # seconds after which a full log is a slow consumer's

    # what comes in
    cpdef Request read_event(self, bytes data, double now)

    # what enters
    cpdef bint push_patch(self, Patch patch)
    cpdef bint push_event(self, str type, object encoded, str label=*)
    cpdef bint push_signal(self, str name, object encoded)
    cpdef bint result(self, long long id, object encoded)
    cpdef accept(self, long long id, bint aside=*)

    # what leaves
    cpdef list take(self, double now, Py_ssize_t room)
    cpdef committed(self, double now)

    # inside
    cdef void _append(self, Frame frame) noexcept
    cdef void _append_solid(self, Frame frame) noexcept
    cdef void _enter_mark(self) noexcept
    cdef void _forget_ids(self) noexcept
    cdef void _forget_refusals(self) noexcept
    cdef void _unlink_patches(self, bint mark) noexcept
    cdef int _solid(self, Frame frame, object encoded) except -1
    cdef void _drop_first(self) noexcept
    cdef void _trim(self, double now) noexcept
    cdef int _settle(self, long long id) except -1
    cdef int _hand_over(self, double now, list out, Py_ssize_t* room) except -1
    cdef int _put(self, bytes data, tuple buffers, list out, Py_ssize_t* room) except -1
    cdef bint _make_snapshot(self, Frame frame) except -1
    cdef int _check(self, double now) except -1
    cdef void _clear_unsent(self) noexcept
    cdef void _clear_sent(self) noexcept
