# Plan of the room: subscriptions.

from ._state cimport Journal


cdef class Watch:
    cdef object call  # (payload, context, state) -> None or an awaitable
    cdef str path  # as the subscriber wrote it
    cdef bint later  # async: run by the turn, not inside the assignment
    cdef bint cancelled


cdef class Watches:
    cdef list here  # Watch
    cdef dict below  # key -> Watches, or None


cdef class Handle:
    cdef list watches  # Watch
    cdef Journal journal


cdef Watches copy_watches(Watches original)
cdef bint prune(Watches tree) except -1
cdef list watched(Watches tree, tuple above)
