# cython: language_level=3
"""Actors: what can be sent a message, and has at most one turn at a time.

Who may touch what
    Any thread may post. ``make_ready`` and ``release`` keep what ``_ready.pyx`` promises: they put
    a session that nobody has where its next message runs, in one stretch with the change that
    made it so. Cancelling, shutting and clearing are the loop's.

Cut in the middle
    A message that was refused has left no trace but its count. What is dropped is taken out of the
    mailbox before anybody is told.
"""

cimport cython
from cpython.object cimport PyObject

from greenroom.core._lanes cimport LANES, choose_lane, highest_lane
from greenroom.core._ready cimport LOOP, NOWHERE, POOL, ReadyQueue, prefetch, queue_of
from greenroom.core._runner cimport Runner
from greenroom.core._turn cimport NEW, OVER, QUEUED, Message, Turn

from asyncio import CancelledError

from .errors import Busy, Closed


@cython.trashcan(True)
cdef class Actor(Runnable):
    """A mailbox, the turn that runs, and the session's place in the ready queue.

    A subclass provides ``settle(turn, error)``, ``push_partial(turn)`` and may provide
    ``dropped(message, error)``.
    """

    def __init__(self, id, ledger, Runner scheduler not None):
        self.id = id
        self.ledger = ledger
        self.core = scheduler

    cdef void make_ready(self):
        """Put it where its next message runs; for a session nobody has."""
        # one stretch, apart from the wake-up at the end
        cdef Message message
        cdef ReadyQueue queue
        cdef int lane
        if self.lanes == 0:
            if self.where:
                (self.core.loop_queue if self.where == LOOP else self.core.pool_queue).drop(self)
            return
        lane = highest_lane(self.lanes)
        message = <Message> self.head[choose_lane(self.lanes, self.passed)]
        queue = self.core.pool_queue if queue_of(message) == POOL else self.core.loop_queue
        if self.where:
            if self.where == queue.which and self.ready_lane == lane:
                return
            (self.core.loop_queue if self.where == LOOP else self.core.pool_queue).drop(self)
        queue.put(self, lane)
        self.core.notify(queue.which)

    cdef void release(self):
        """Let go of it: whoever had it has done with it."""
        # one stretch
        self.busy = False
        if self.lanes:
            self.make_ready()

    def post(self, Message message not None):
        """Put a message into the mailbox; from any thread.

        Raises Busy when the mailbox is full and Closed when the session has ended or the app
        drains; then nothing was queued. A ``concurrent`` message starts at once beside the turns.
        """
        cdef Runner core = self.core
        cdef int lane
        if core is None:
            raise TypeError(f"{type(self).__name__}.__init__ did not call Actor.__init__")
        if message.stage != NEW:
            raise ValueError(f"{message!r} was posted before: make a new message")
        lane = message.lane
        if not 0 <= lane < LANES:
            raise ValueError(f"lane must be 0 to 3 (types.Lane), got {lane}")
        core.sent += 1
        if self.closed or (core.refusing and lane):
            core.refused_closed += 1
            raise Closed(
                f"session {self.id!r} has ended" if self.closed
                else "the app is stopping and takes nothing new"
            )
        if message.concurrent:
            core.start_job(self, message)
            self.posted += 1
            return
        if lane and (
            (core.max_messages and self.count >= core.max_messages)
            or (core.max_bytes and message.size and self.nbytes + message.size > core.max_bytes)
        ):
            core.refused_busy += 1
            raise Busy(
                f"the mailbox of session {self.id!r} is full ({self.count} messages, "
                f"{self.nbytes} bytes): try again later"
            )
        core.accepted += 1
        if 0 < lane < LANES - 1:
            self.posted += 1
        prefetch(<void *> self.ledger)
        self.append(message)
        # A message in the highest lane of a waiting session may change where it waits.
        if not self.busy and (self.where == NOWHERE or lane < self.ready_lane):
            self.make_ready()

    def remove(self, Message message not None, error=None, *, str counter="cancelled"):
        """Take a message out of the mailbox before its turn: true when it was still there.

        It counts as ``counter`` (cancelled, expired or dropped) and ``dropped(message, error)`` is
        called; ``error`` is CancelledError when none is given.
        """
        if message.stage != QUEUED or not self.unlink(message):
            return False
        message.stage = OVER
        if message.deadline:
            self.core.forget(message)
        if not self.busy:
            self.make_ready()
        self.core.count(counter)
        self.dropped(message, CancelledError() if error is None else error)
        return True

    def dropped(self, Message message not None, error):
        """An accepted message ends without a turn. Answers its ``reply``; a session adds to it."""
        self.core.answer(message, None, error, self.core.on_loop())

    @property
    def scheduler(self):
        """The scheduler that runs its turns."""
        return self.core

    def cancel_event(self, link, id):
        """Cancel the message of a client's frame; false when it is over or unknown. On the loop."""
        cdef PyObject *item
        cdef Message message = None
        if self.running is not None:
            message = self.running.message
            if message.link is link and message.id == id:
                return self.cancel_message(message) is not None
        for lane in range(LANES):
            item = self.head[lane]
            while item is not NULL:
                message = <Message> item
                if message.link is link and message.id == id:
                    return self.cancel_message(message) is not None
                item = message.next
        for job in tuple(self.jobs or ()):
            message = job.message
            if message.link is link and message.id == id:
                return bool(job.cancel())
        return False

    def cancel_message(self, Message message not None):
        """Cancel a message: "queued", "running" or None when it is over or unknown. On the loop.

        Queued: it never runs. Running: an async turn gets CancelledError, a sync one sees
        ``gr.cancelled()``.
        """
        cdef Turn turn
        if message.stage == QUEUED:
            return "queued" if self.remove(message) else None
        turn = self.running
        if turn is not None and turn.message is message and not turn.ended:
            turn.cancelled = True
            if turn.task is not None:
                turn.task.cancel()
            return "running"
        for job in tuple(self.jobs or ()):
            if job.message is message:
                return "running" if job.cancel() else None
        return None

    def shut(self):
        """End the mailbox: what is queued is dropped with Closed, and nothing more is accepted.

        A turn that runs goes on. Timers and jobs are cancelled.
        """
        self.closed = True
        self.clear(Closed(f"session {self.id!r} has ended"))
        for timer in tuple(self.timers or ()):
            timer.cancel()
        for job in tuple(self.jobs or ()):
            job.cancel()

    def clear(self, error):
        """Drop every queued message with ``error``; how many there were."""
        cdef Message message
        cdef int dropped = 0
        while self.lanes:
            message = self.take(highest_lane(self.lanes))
            message.stage = OVER
            if message.deadline:
                self.core.forget(message)
            self.core.dropped += 1
            dropped += 1
            self.dropped(message, error)
        if not self.busy:
            self.make_ready()
        return dropped

    def settle(self, Turn turn, error):
        """Ship what a turn made, and answer ``turn.message.reply``. Overridden by the session.

        Called on the thread that ran the turn, after commit or rollback, when the session is
        linked, has an outbox, failed, or has a link or a reply that is no future to answer.
        """
        self.core.answer(turn.message, turn.result, error, self.core.on_loop())

    def push_partial(self, Turn turn):
        """Ship what a long turn has so far. Overridden by the session."""

    cpdef object over(self):
        """A turn of a closed session has ended. Overridden by the session."""

    def add_timer(self, timer):
        """Have a timer cancelled when the session closes. Raises Closed when it has."""
        cdef set fresh = set()
        # one stretch
        if self.closed:
            raise Closed(f"session {self.id!r} has ended")
        if self.timers is None:
            self.timers = fresh
        (<set> self.timers).add(timer)
