# The plan of _turn.pyx: a message, the turn that executes it, and how a function is called in it.

from cpython.object cimport PyObject

cdef enum:
    MAX_SLOTS = 16           # parameters of one call plan; there are 7 slots and a few aliases

cdef enum Stage:             # the life of a message, forwards only
    NEW = 0                  # made, nobody has it
    QUEUED = 1               # in a mailbox
    RUNNING = 2              # its turn (or job) has begun
    OVER = 3                 # answered, failed, cancelled, expired or refused


cdef class Message:
    # what is to be done; written by whoever makes the message, read by all
    cdef public str event            # "namespace:name", a plain name, or what a hook is for
    cdef public object payload
    cdef public dict context         # the client's keys, or None
    cdef public tuple handlers       # Handler objects (a .plan each); () for a held turn
    cdef public str label            # the view it came from
    cdef public int lane             # types.Lane
    cdef public int place            # types.Place of its first part
    cdef public Py_ssize_t size      # bytes it counts in the mailbox
    cdef public bint wrapped         # middlewares run around it
    cdef public bint concurrent      # starts beside the turns
    cdef public bint hold            # a held turn: reply.answer(turn), and the holder ends it
    # who hears how it ended
    cdef public object reply         # None, a Future of the loop, or an object with answer/fail
    cdef public object link          # the link of a client's frame, or None
    cdef public object id            # that frame's id, or None
    cdef public bint silent          # the answer is null, whatever the handlers return
    # the mailbox's; nobody else writes these
    cdef PyObject *next              # the one behind it in its lane; owned by the mailbox
    cdef int stage                   # Stage
    cdef readonly object session     # of an ask with a deadline, until it is over
    cdef readonly double deadline    # when an ask gives up, on the scheduler's clock; 0: never
    cdef public object value         # the answer on its way from a worker to the loop
    cdef public object failure       # or the exception


cdef class Turn:
    cdef readonly object session     # the Actor
    cdef readonly Message message
    cdef readonly object ledger      # the session's Ledger
    cdef readonly object app
    cdef public list outbox          # frames for clients, in order; None until the first
    cdef public object result        # of the first registered callback
    cdef public object error         # how it failed, or None
    cdef public object task          # the asyncio task that runs it, while it is suspended or runs
    cdef public object variables     # its contextvars.Context
    cdef public double started       # on the scheduler's clock
    cdef public double pushed        # when it was last shipped in part; 0: never
    cdef public bint cancelled       # what gr.cancelled() says
    cdef public object wake          # ends the wait of a thread for a turn, in here; None: no wait
    cdef public bint timed_out       # cancelled because of Settings.turn_timeout
    cdef readonly bint concurrent    # a job beside the turns: reads only, emits at once
    cdef readonly bint ended
    cdef public bint reported             # the sweep has said that it exceeds turn_timeout
    cdef object face                 # what the slot STATE gives; None until asked for
    cdef dict told                   # what the slot CONTEXT gives; None until asked for
    cpdef object cancel(self)
    cdef object get_state(self)
    cdef dict get_context(self)


cdef class CallPlan:
    cdef readonly object fn
    cdef readonly tuple positional   # slots of the leading positional arguments
    cdef readonly tuple keywords     # (parameter name, slot) of the others
    cdef readonly object convert     # payload -> what PAYLOAD gives, or None
    cdef tuple names                 # the names of the keywords, as vectorcall wants them
    cdef Py_ssize_t count            # positional and keyword arguments together
    cdef Py_ssize_t leading          # positional ones
    cdef unsigned char slots[MAX_SLOTS]
    cdef object call(self, Turn turn)


cdef object CURRENT                  # the ContextVar behind current_turn()
cdef Turn find_turn()                # the running turn of this context, or None
