# Plan of the room: see _segments.pyx.

from ._state cimport Grown, Journal, State

cdef int merge_older(State node, dict log) except -1
cdef bint extends(Grown kept, object late) noexcept
cdef list drop_prev(Journal journal, list trash)
cdef int finish(Journal journal, bint keep) except -1
cdef int revert(Journal journal) except -1
