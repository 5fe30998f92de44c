# Plan of the room: what is kept of a state that nobody looks at.

from ._state cimport Journal, State, Where


cdef class Below:
    cdef type kind       # None: it is the template's, but for the changes
    cdef Where where
    cdef tuple changes


cdef tuple differences(State node, State origin, Py_ssize_t* nodes, bint* plain)
cdef int restore(State node, tuple changes) except -1
