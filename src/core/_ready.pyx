# cython: language_level=3
"""The ready queue: sessions with work, in the order in which they are served.

Who may touch what
    ``busy`` says that somebody has the session: the loop's drain, one worker, or a turn that is
    suspended or held. A busy session is in no queue, and a session that is not busy is in exactly
    the queue of its next message, or has no message. Any thread may put a session that nobody has
    into a queue or drop it from there; who takes it out has it until they let go.

Why that is enough
    As in ``_mailbox.pyx``: every change is one stretch.

Cut in the middle: there is no middle. A session that was taken is the taker's to let go.
"""

cimport cython
from cpython.object cimport PyObject

from greenroom.core._lanes cimport LANES, choose_lane, serve_lane
from greenroom.core._ledger cimport Ledger

cdef extern from *:
    """
    #define greenroom_dict_keys(dict) ((void *) ((PyDictObject *) (dict))->ma_keys)
    """
    void *dict_keys "greenroom_dict_keys"(PyObject *dict) noexcept nogil


cdef class Runnable(Mailbox):
    """A mailbox whose messages run: what a ready queue lines up."""

    @property
    def ready(self):
        """Where it waits for its next turn: "loop", "pool" or None."""
        return (None, "loop", "pool")[self.where]


@cython.final
cdef class ReadyQueue:
    """Sessions with work, in order, by the highest lane they have work in."""

    def __cinit__(self):
        self.head = [None] * LANES

    def __len__(self):
        return self.count

    cdef void put(self, Runnable session, int lane):
        # one stretch
        session.where = self.which
        session.ready_lane = lane
        session.ready_prev = self.tail[lane]
        if self.tail[lane] is NULL:
            self.head[lane] = session
            self.lanes |= 1 << lane
            self.passed[lane] = 0
        else:
            (<Runnable> self.tail[lane]).ready_next = session
        self.tail[lane] = <PyObject *> session
        self.count += 1

    cdef void drop(self, Runnable session):
        # one stretch; the caller holds a reference of its own
        cdef int lane = session.ready_lane
        cdef Runnable following = session.ready_next
        if session.ready_prev is NULL:
            self.head[lane] = following
        else:
            (<Runnable> session.ready_prev).ready_next = following
        if following is None:
            self.tail[lane] = session.ready_prev
        else:
            following.ready_prev = session.ready_prev
        if self.tail[lane] is NULL:
            self.lanes &= ~(1 << lane)
        session.ready_next = None
        session.ready_prev = NULL
        session.where = NOWHERE
        self.count -= 1

    cdef Runnable take(self):
        # one stretch; the session is the caller's, `busy`, from here on
        cdef int lane
        if self.lanes == 0:
            return None
        lane = choose_lane(self.lanes, self.passed)
        serve_lane(self.lanes, self.passed, lane)
        session = <Runnable> self.head[lane]
        if session.ready_next is not None:
            look_ahead(session)
        self.drop(session)
        session.busy = True  # here: the next step may free another session, which runs code
        return session


cdef inline void look_ahead(Runnable first) noexcept:
    """Ask for the memory of the next turns: with many sessions, waiting for it is most of a turn.

    Each step of a session's way (session, ledger, journal and root, dict, keys) can be asked for
    only when the one before has arrived, so three sessions are on their way at a time.
    """
    cdef Runnable session = first
    cdef Ledger ledger
    if type(session.ledger) is Ledger:
        ledger = <Ledger> session.ledger
        if ledger.tree.d is not None:
            prefetch(dict_keys(<PyObject *> ledger.tree.d))
    session = session.ready_next
    if session is None:
        return
    if type(session.ledger) is Ledger:
        ledger = <Ledger> session.ledger
        prefetch(<void *> ledger.tree.d)
    session = session.ready_next
    if session is not None and type(session.ledger) is Ledger:
        ledger = <Ledger> session.ledger
        prefetch(<void *> ledger.journal)
        prefetch(<void *> ledger.tree)
