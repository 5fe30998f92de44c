# cython: language_level=3
"""The plan of the way of an event: frame -> mailbox -> turn -> streams -> transport."""

from ._actor cimport Actor
from ._counts cimport Counts
from ._runner cimport Runner
from ._stream cimport Request, Stream
from ._turn cimport Message, Turn

cdef class SessionCore(Actor):
    cdef public object app
    cdef public object table          # HandlerTable: who hears which event
    cdef public object _listeners     # CallbackTable of session.on, or None
    cdef public LinksCore _links      # from its first client on
    cdef public object _log           # SessionLog, or None
    cdef public double last_active    # on the app's clock
    cdef public double rests          # when its state is to rest, on the app's clock; or never
    cdef public double created        # time.time()
    cdef dict info                    # what the application noted about its user, or None
    cdef public bint acknowledged     # a client has shown that it is one
    cdef public bint by_hello         # opened by a client's hello, not by open_session

    cpdef tuple resolve(self, str event, str label)
    cpdef object ship(self, bint foreign=*)
    cpdef object deliver(self, object patch, list outbox=*, object answer=*, Message message=*)
    cpdef object hand_over(
        self, object patch, list outbox, object answer=*, Message message=*, bint shipped=*
    )
    cdef object encode_answer(self, Message message, object result)
    cdef int enter(self, Stream link, Request request, Py_ssize_t size) except -1
    cdef Message make(
        self, str event, object payload, int lane, object priority, object context, tuple handlers
    )


cdef class LinksCore:
    cdef readonly SessionCore session
    cdef readonly dict by_id          # id -> link; those that wait for their client too
    cdef readonly Outlet outlet

    cpdef object push_patch(self, object patch)
    cpdef object committed(self)
    cpdef object flush(self)
    cpdef object flush_soon(self, Stream link)


cdef class ConnectionCore:
    cdef public object transport
    cdef public Stream link           # None until its hello is answered
    cdef public LinksCore links
    cdef public bint closed
    cdef bint dirty                   # it waits in its outlet
    cdef readonly Outlet outlet
    cdef public long long number      # of the connections of this app, in the order they were made
    cdef public double asked          # when it came, or said its last hello

    cpdef object flush(self)


cdef class Outlet:
    # The connections of an app that may have something to send.
    cdef Runner core
    cdef readonly Counts counts
    cdef list dirty

    cdef int touch(self, ConnectionCore connection) except -1
