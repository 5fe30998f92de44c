# cython: language_level=3
"""The plan of one numbered frame. The theory and the thread rule are in _frame.pyx."""

cdef enum Kind:
    PATCH = 1     # payload is a Patch until it is handed over, then bytes
    MARK = 2      # a snapshot that is to be made when its turn comes; holds no bytes
    SNAPSHOT = 3  # a mark that was handed over
    EVENT = 4     # from here on: frames that are neither merged nor swallowed ("solid")
    SIGNAL = 5
    RESULT = 6    # from here on: answers, which carry an id
    ERROR = 7


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


cdef Frame new_frame(Kind kind, bytes head, bytes mid, bytes end)
cdef Frame new_patch(object patch)
cdef Frame new_mark()
cdef Frame new_event(str type, bytes end)
cdef Frame new_signal(str name)
cdef Frame new_answer(Kind kind, long long id)
cdef int become_snapshot(Frame mark, object encoded, bint binary) except -1

cdef tuple form(object encoded, bint binary)   # (JSON text, buffers) of an encoded value or patch
cdef bytes envelope(Frame frame)               # the frame as it goes out
cdef object packet(bytes data, tuple buffers)
cdef Py_ssize_t size_of(tuple buffers) noexcept      # of bytes objects
