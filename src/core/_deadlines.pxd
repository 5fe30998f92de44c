# Plan of the room: deadlines of subjects, and the one timer that wakes them.

from cpython.object cimport PyObject


cdef class Entry:
    cdef double when
    cdef unsigned long long number   # the older one of two goes first
    cdef PyObject* subject           # borrowed; _deadlines.pyx says when it may be looked at


cdef class Deadlines:
    cdef object clock
    cdef list heap
    cdef unsigned long long count
    cdef Py_ssize_t full             # so many entries are looked through
    cdef object timer
    cdef double timer_at

    cdef int look_through(self) except -1
    cdef int arm(self) except -1
