# The plan of _ready.pyx: the ready queue, and what it lines up.
#
# A queue is linked through the sessions themselves.

from cpython.object cimport PyObject

from greenroom.core._lanes cimport LANES
from greenroom.core._mailbox cimport Mailbox
from greenroom.core._turn cimport Message

cdef extern from *:
    """
    /* Ask for memory that is needed soon. A hint: any address will do, nothing is read here. */
    #if defined(__GNUC__)
      #define greenroom_prefetch(at) __builtin_prefetch(at)
    #else
      #define greenroom_prefetch(at) ((void) (at))
    #endif
    """
    void prefetch "greenroom_prefetch"(void *at) noexcept nogil

cdef enum Queue:             # where a session waits for its next turn
    NOWHERE = 0
    LOOP = 1
    POOL = 2


cdef inline int queue_of(Message message) noexcept:
    """Where the turn of a message begins; a held turn is given out by the loop."""
    return POOL if message.place == 2 and not message.hold else LOOP


cdef class Runnable(Mailbox):
    cdef public object ledger            # what its turns write
    cdef Runnable ready_next
    cdef PyObject *ready_prev            # borrowed
    cdef unsigned char where             # Queue
    cdef unsigned char ready_lane
    cdef bint busy                       # somebody has it: it is in no queue


cdef class ReadyQueue:
    # Sessions with work, by the highest lane they have work in. A session is in it at most once.
    # Visible to the garbage collector: sessions, scheduler and queue form a circle.
    cdef list head                       # by lane: its first session or None
    cdef PyObject *tail[LANES]           # borrowed
    cdef unsigned char passed[LANES]     # how often each lane was passed over since it was served
    cdef unsigned char lanes             # bitmap of lanes that are not empty
    cdef Py_ssize_t count
    cdef int which                       # Queue
    cdef void put(self, Runnable session, int lane)
    cdef void drop(self, Runnable session)
    cdef Runnable take(self)             # the next one, or None
