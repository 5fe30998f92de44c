# The plan of _asks.pyx: the scheduler's clock, and the asks that have a deadline on it.

from greenroom.core._turn cimport Message


cdef class Asks:
    cdef public object clock_time        # None: the monotonic clock, else a callable
    cdef public double ask_timeout       # Settings.ask_timeout
    cdef public double next_look         # when the timer that is set looks; 0: none is set
    cdef object make_future              # the loop's create_future, bound
    cdef list asks                       # messages; those that are over stay for a while
    cdef Py_ssize_t waiting_asks         # those that are not
    cdef double now(self)
    cdef object ask_here(self, object session, Message message, double timeout)
    cdef void forget(self, Message message)
