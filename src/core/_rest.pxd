# Plan of the room: what is kept of a state that nobody looks at.

from ._state cimport Journal, State

cdef tuple differences(State node, State origin, Py_ssize_t* nodes, bint* plain)
cdef int restore(State node, tuple changes) except -1
