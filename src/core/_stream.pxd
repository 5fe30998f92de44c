# cython: language_level=3
"""The plan of the outgoing stream. The theory and the thread rule are in _stream.pyx."""

cdef enum Kind:
    PATCH = 1     # payload is a Patch until it is handed over, then bytes
    MARK = 2      # a snapshot that is to be made when its turn comes; holds no bytes
    SNAPSHOT = 3  # a mark that was handed over
    EVENT = 4     # from here on: frames that are neither merged nor swallowed ("solid")
    SIGNAL = 5
    RESULT = 6    # from here on: answers, which carry an id
    ERROR = 7

cdef enum Mode:
    LIVE = 0      # frames are taken in and handed over
    HELD = 1      # frames are taken in; there is nobody to hand them to, or not yet
    ANSWERS = 2   # only answers are taken in, up to answer_bytes
    SHUT = 3      # nothing is taken in


cdef class Frame:
    cdef Frame next            # the younger neighbour in the same log
    cdef int kind
    cdef long long seq         # 0 until handed over; afterwards nothing here changes
    cdef long long id          # of answers, else 0
    cdef double sent_at
    cdef Py_ssize_t nbytes     # what it counts for in its log
    cdef bytes head            # up to the number: {"type":"...","seq":
    cdef bytes mid             # between number (or id) and payload
    cdef bytes end             # after the payload
    cdef object payload        # bytes; of unsent patches a Patch
    cdef tuple buffers         # what the payload refers to by index


cdef class Tally:
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
    cdef object snapshot              # () -> (encoded, position), or None: not now
    cdef bytes event_end              # ,"label":"main"}

    # numbers
    cdef readonly long long seq       # last number given
    cdef public long long ack         # highest client id accepted; told in nacks
    cdef readonly long long base      # a resume is possible from here on ...
    cdef readonly bint broken         # ... unless frames were lost before they had a number
    cdef readonly long long position  # of the last snapshot handed over; older patches are in it
    cdef set unanswered               # accepted ids that have no answer yet

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

    # counters
    cdef readonly long long frames_out
    cdef readonly long long bytes_out
    cdef readonly long long resent
    cdef readonly long long merged
    cdef readonly long long collapsed
    cdef readonly long long emptied
    cdef readonly long long dropped

    # what enters
    cpdef bint push_patch(self, object patch)
    cpdef bint push_event(self, str type, object encoded, str label=*)
    cpdef bint push_signal(self, str name, object encoded)
    cpdef bint result(self, long long id, object encoded)

    # what leaves
    cpdef list take(self, double now, Py_ssize_t room)
    cpdef committed(self, double now)

    # inside
    cdef void _append(self, Frame frame)
    cdef void _unlink_patches(self, bint mark)
    cdef Frame _solid(self, int kind, bytes head, bytes mid, bytes end, object encoded)
    cdef void _drop_first(self)
    cdef void _trim(self, double now)
    cdef int _hand_over(self, Frame frame, double now, list out, Py_ssize_t* room) except -1
    cdef int _put(self, bytes data, tuple buffers, list out, Py_ssize_t* room) except -1
    cdef bint _make_snapshot(self, Frame frame) except -1
    cdef int _check(self, double now) except -1
    cdef void _clear_unsent(self)
    cdef void _clear_sent(self)
