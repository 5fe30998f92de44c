# cython: language_level=3
"""A mailbox: what one session still has to do, in order, by lane.

Who may touch what
    Any thread may append. Only who has the session (it is ``busy``, see ``_ready.pyx``) takes a
    message for a turn; the loop may take out what is not to have one any more.

Why that is enough
    Every change of a lane is one stretch between two moments at which the interpreter may switch
    threads: it runs no Python code, allocates nothing the collector counts, and drops no last
    reference. So no lock is taken, and an append costs what its stores cost. Without the GIL each
    stretch would need a critical section on the mailbox.

Cut in the middle: there is no middle.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from greenroom.core._lanes cimport LANES, serve_lane
from greenroom.core._turn cimport QUEUED, Message


cdef class Mailbox:
    """Messages in the order in which their turns run, by lane."""

    def __dealloc__(self):
        cdef PyObject *item
        cdef PyObject *following
        for lane in range(LANES):
            item = self.head[lane]
            while item is not NULL:
                following = (<Message> item).next
                (<Message> item).next = NULL
                Py_DECREF(<object> item)
                item = following

    cdef Message take(self, int lane):
        # one stretch
        cdef PyObject *item = self.head[lane]
        message = <Message> item
        serve_lane(self.lanes, self.passed, lane)
        self.head[lane] = message.next
        message.next = NULL
        if self.head[lane] is NULL:
            self.tail[lane] = NULL
            self.lanes &= ~(1 << lane)
        self.count -= 1
        self.nbytes -= message.size
        Py_DECREF(message)  # the list's; `message` holds one
        return message

    cdef int append(self, Message message) except -1:
        # one stretch
        cdef int lane = message.lane
        cdef PyObject *item = <PyObject *> message
        Py_INCREF(message)
        message.stage = QUEUED
        message.next = NULL
        if self.tail[lane] is NULL:
            self.head[lane] = item
            self.lanes |= 1 << lane
            self.passed[lane] = 0
        else:
            (<Message> self.tail[lane]).next = item
        self.tail[lane] = item
        self.count += 1
        self.nbytes += message.size
        return 0

    cdef bint unlink(self, Message message):
        # one stretch; walks the lane
        cdef int lane = message.lane
        cdef PyObject *item = self.head[lane]
        cdef PyObject *before = NULL
        while item is not NULL and item is not <PyObject *> message:
            before = item
            item = (<Message> item).next
        if item is NULL:
            return False
        if before is NULL:
            self.head[lane] = message.next
        else:
            (<Message> before).next = message.next
        if message.next is NULL:
            self.tail[lane] = before
        if self.head[lane] is NULL:
            self.lanes &= ~(1 << lane)
        message.next = NULL
        self.count -= 1
        self.nbytes -= message.size
        Py_DECREF(message)
        return True

    def __len__(self):
        return self.count

    def __bool__(self):
        return True

    @property
    def queued_bytes(self):
        """The sizes of the queued messages together."""
        return self.nbytes
