# Plan of the room: the template sessions begin with, and the ledger of one.

from ._state cimport Journal, State, StateView
from ._watch cimport Watches


cdef class Template:
    cdef readonly State root
    cdef Watches watches

    cpdef Ledger open(self)


cdef class Ledger:
    cdef Template template
    cdef Journal journal   # of a ledger at rest: one for all
    cdef State tree        # of a ledger at rest: the template's
    cdef StateView face
    cdef tuple changes     # of a ledger at rest, to the template; or None
    cdef long long before  # patches shipped before the rest

    cdef int wake(self) except -1
    cdef int make_tree(self) except -1
    cdef State known(self)
    cpdef object open(self)
    cpdef object adopt(self)
    cpdef object settle(self)
    cpdef object commit(self, bint keep)
    cpdef object undo(self)
    cpdef object rollback(self, bint keep)
    cpdef object mark(self)
    cpdef object ship(self, bint foreign=*)
    cpdef object shipped(self)
    cpdef object snapshot(self, bint foreign=*)
    cpdef object forget(self)
    cpdef object end(self)
    cpdef list take_async(self)
