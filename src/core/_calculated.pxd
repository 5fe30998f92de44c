# Plan of the room: calculated properties.

from ._state cimport Journal, State


cdef class Calculated:
    cdef readonly object fn  # (state) -> value
    cdef readonly tuple paths  # what it is calculated from: tuples of keys, from its own state
    cdef readonly str name  # of the attribute and the key


cdef int spoil(State node, tuple path, dict marked) except -1
cdef int settle_all(Journal journal, bint lenient) except -1
cdef object first_value(State node, str name)
