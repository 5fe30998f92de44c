# cython: language_level=3
"""Asks: messages whose answer somebody waits for, and not for ever.

Who may touch what
    ``ask`` and ``overdue`` are the loop's, and so is the list. A message may end on a worker:
    ``forget`` says so in the message itself, and what is over stays in the list until it is
    looked through. Each message is forgotten once: by who ends it, by who takes it out of its
    mailbox, or by ``overdue``.

Cut in the middle
    An ask whose message was not accepted is forgotten and its future belongs to nobody. A future
    that is cancelled leaves its message in the mailbox; its turn does not begin.
"""

from greenroom.core._clock cimport monotonic
from greenroom.core._turn cimport Message


cdef class Asks:
    """The scheduler's clock, and the asks that have a deadline on it.

    The scheduler provides ``set_timer``.
    """

    def __cinit__(self):
        self.asks = []

    cdef double now(self):
        return monotonic() if self.clock_time is None else self.clock_time()

    def ask(self, session not None, Message message not None, double timeout):
        """Post a message; a future of the loop with its answer. On the loop.

        After ``timeout`` seconds (0: never) the future gets Timeout, and the message is dropped
        when its turn has not begun. All asks share one timer, which is a few ms late.
        """
        return self.ask_here(session, message, timeout)

    cdef object ask_here(self, object session, Message message, double timeout):
        cdef double deadline = self.now() + timeout if timeout > 0.0 else 0.0
        future = self.make_future()
        message.reply = future
        if deadline:  # before it is posted: a worker may end it at once, and forgets it then
            message.deadline = deadline
            message.session = session
            self.waiting_asks += 1
        try:
            session.post(message)
        except BaseException:
            if message.deadline:
                self.forget(message)
            raise
        if message.deadline:
            if len(self.asks) > 2 * self.waiting_asks + 64:
                self.asks = [item for item in self.asks if (<Message> item).deadline]
            self.asks.append(message)
            if self.next_look == 0.0 or deadline < self.next_look:
                self.set_timer(deadline)
        return future

    cdef void forget(self, Message message):
        """An ask is over: its deadline does not matter any more."""
        message.deadline = 0.0
        message.session = None
        self.waiting_asks -= 1

    def overdue(self):
        """The asks whose deadline has passed, with their sessions; and the next deadline or 0."""
        cdef Message message
        cdef double now = self.now()
        cdef double following = 0.0
        late = []
        rest = []
        for message in self.asks:
            if message.deadline == 0.0:
                continue
            if message.deadline <= now:
                late.append((message, message.session))
                self.forget(message)
            else:
                rest.append(message)
                if following == 0.0 or message.deadline < following:
                    following = message.deadline
        self.asks = rest
        return late, following
