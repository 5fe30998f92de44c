# cython: language_level=3
"""Deadlines: one timer for everything that has to be looked at later.

Owner: the app's loop; nothing here may be called from another thread.

Whoever has something due (a link, a session, a connection) has a method ``deadline()``, the time
at which it wants to be looked at or None, and a method ``due(now)`` that looks. It is *watched*
once and stays in the heap until it has no deadline any more. A deadline that moved later is found
out when the old one is reached, so moving one costs nothing; one that moved earlier is told by
watching again.

The heap keeps nobody alive: an hour's closed sessions would be in it. An entry has the bare address
of its subject, and the subject holds the entry (``watched``). So an entry that only the heap holds
is over: its subject has gone, or has a newer one; and an address is looked at in no other case.
Cut in the middle: an entry that is over is dropped when it comes up, or when the heap has doubled
since it was last looked through: at most every other entry is one of those.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject

from heapq import heapify, heappop, heappush

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject* thing) noexcept

__all__ = ["Deadlines"]

cdef Py_ssize_t SMALL = 64


@cython.final
@cython.freelist(64)
cdef class Entry:
    """That somebody wants to be looked at."""

    cdef double when
    cdef unsigned long long number   # the older one of two goes first
    cdef PyObject* subject           # borrowed; see above when it may be looked at

    def __lt__(Entry self, Entry other):
        return self.when < other.when or (self.when == other.when and self.number < other.number)


cdef object subject_of(PyObject* entry):
    """Who waits for an entry to which the heap, or the caller in its place, has one reference."""
    cdef PyObject* subject = (<Entry> entry).subject
    if entry.ob_refcnt < 2 or subject.ob_refcnt <= 0:  # or it is just going
        return None
    return <object> subject


cdef list unseen(list entries):
    """Entries lead nowhere: the collector need not look at a hundred thousand of them."""
    PyObject_GC_UnTrack(<PyObject*> entries)
    return entries


@cython.final
cdef class Deadlines:
    """A heap of subjects by deadline, and the one timer that wakes it."""

    cdef object clock
    cdef list heap
    cdef unsigned long long count
    cdef Py_ssize_t full     # so many entries are looked through
    cdef object timer
    cdef double timer_at

    def __init__(self, clock):
        self.clock = clock
        self.heap = unseen([])
        self.full = SMALL

    def __len__(self):
        return PyList_GET_SIZE(self.heap)

    def watch(self, subject):
        """Look at ``subject`` when its deadline comes; cheap when it is watched already."""
        cdef object wanted = subject.deadline()
        cdef object watched
        cdef Entry entry
        if wanted is None:
            return
        watched = subject.watched
        if watched is not None and (<Entry?> watched).when <= <double> wanted:
            return
        entry = Entry.__new__(Entry)
        entry.when = wanted
        entry.number = self.count
        entry.subject = <PyObject*> subject
        self.count += 1
        subject.watched = entry
        heappush(self.heap, entry)
        if PyList_GET_SIZE(self.heap) > self.full:
            self.look_through()
        self.arm()

    def stop(self):
        """Forget everything."""
        cdef list heap = self.heap
        cdef Py_ssize_t at
        self.heap = unseen([])
        for at in range(PyList_GET_SIZE(heap)):
            subject = subject_of(PyList_GET_ITEM(heap, at))
            if subject is not None:
                subject.watched = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    cdef int look_through(self) except -1:
        """Drop the entries that nobody waits for any more."""
        cdef list heap = self.heap, kept = []
        cdef Py_ssize_t at
        for at in range(PyList_GET_SIZE(heap)):  # one stretch: nobody is asked, nobody adds one
            if PyList_GET_ITEM(heap, at).ob_refcnt > 1:
                kept.append(<object> PyList_GET_ITEM(heap, at))
        heapify(kept)
        self.heap = unseen(kept)
        self.full = max(SMALL, 2 * PyList_GET_SIZE(kept))
        return 0

    cdef int arm(self) except -1:
        cdef double when
        if not self.heap:
            return 0
        when = (<Entry> PyList_GET_ITEM(self.heap, 0)).when
        if self.timer is not None:
            if self.timer_at <= when:
                return 0
            self.timer.cancel()
        self.timer_at = when
        self.timer = self.clock.call_at(when, self.run)
        return 0

    def run(self):
        """The timer has come."""
        cdef double now = self.clock.time()
        cdef list looked = []  # watched again afterwards: one that stays due must not hold us here
        cdef Entry entry
        self.timer = None
        try:
            while self.heap and (<Entry> PyList_GET_ITEM(self.heap, 0)).when <= now:
                entry = heappop(self.heap)
                subject = subject_of(<PyObject*> entry)
                if subject is None:
                    continue
                subject.watched = None
                looked.append(subject)
                wanted = subject.deadline()
                if wanted is not None and wanted <= now:
                    subject.due(now)
        finally:  # also when one of them raises: the others are still waited for
            for subject in looked:
                self.watch(subject)
            self.arm()
