# The plan of _actor.pyx: a session as the scheduler sees it.

from greenroom.core._ready cimport Runnable
from greenroom.core._runner cimport Runner
from greenroom.core._turn cimport Turn


cdef class Actor(Runnable):
    cdef readonly object id
    cdef Runner core                     # the scheduler
    cdef readonly unsigned long long posted  # messages it was ever sent, but for hooks and timers
    cdef readonly Turn running
    cdef public bint linked              # it has links: settle() is called for every turn
    cdef public bint closed
    cdef public object waiting           # sessions its turn waits for (waits.py), or None
    cdef public object timers            # set of live timers (timers.py), or None
    cdef public object jobs              # set of live jobs (jobs.py), or None
    cdef object __weakref__
    cdef void make_ready(self)
    cdef void release(self)
    cpdef object over(self)
