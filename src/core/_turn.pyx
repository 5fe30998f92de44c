# cython: language_level=3
"""A message, the turn that executes it, and how a function is called in it.

Threads. A message is written by its maker until it is posted, then by the mailbox alone (see
``_mailbox.pyx``). A turn is run by one thread at a time, its owner, and everything in it belongs to
that thread; the exceptions are ``cancelled`` and ``timed_out``, which the loop sets beside it, and
``outbox``, which the loop may swap for an empty one between two appends when it ships a long turn
in part. A call plan never changes and may be used by all threads at once.

Cut in the middle: a message that was not posted has no effect. A turn whose handler raised is
rolled back by whoever runs it; nothing here ends a turn.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF

cdef extern from "Python.h":
    object PyContextVar_New(const char *name, PyObject *default)
    int PyContextVar_Get(object var, PyObject *default, PyObject **value) except -1
    object PyContextVar_Set(object var, PyObject *value)
    int PyContextVar_Reset(object var, PyObject *token) except -1
    object PyObject_Vectorcall(object callable, PyObject **args, size_t nargsf, PyObject *kwnames)
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET

CURRENT = PyContextVar_New("greenroom_turn", NULL)


def enter_turn(Turn turn not None):
    """Make ``turn`` the current one of this context; a token for leave_turn()."""
    return PyContextVar_Set(CURRENT, <PyObject *> turn)


def leave_turn(token):
    """Undo enter_turn()."""
    PyContextVar_Reset(CURRENT, <PyObject *> token)


cdef Turn find_turn():
    cdef PyObject *found = NULL
    PyContextVar_Get(CURRENT, NULL, &found)
    if found is NULL:
        return None
    turn = <object> found
    Py_XDECREF(found)
    return <Turn> turn


def current_turn():
    """The turn this context belongs to, or None.

    A task that was started in a turn and outlives it still sees it, with ``ended`` true.
    """
    return find_turn()


@cython.final
@cython.freelist(512)
cdef class Message:
    """One thing for a session to do: a client's event, a tell, a timer, a signal, a query."""

    def __init__(
        self,
        str event,
        payload=None,
        tuple handlers=(),
        *,
        dict context=None,
        int lane=2,
        int place=0,
        Py_ssize_t size=0,
        str label="main",
        reply=None,
        link=None,
        id=None,
        bint wrapped=True,
        bint concurrent=False,
        bint hold=False,
        bint silent=False,
    ):
        if not 0 <= lane <= 3:
            raise ValueError(f"lane must be 0 to 3 (types.Lane), got {lane}")
        self.event = event
        self.payload = payload
        self.handlers = handlers
        self.context = context
        self.lane = lane
        self.place = place
        self.size = size
        self.label = label
        self.reply = reply
        self.link = link
        self.id = id
        self.wrapped = wrapped
        self.concurrent = concurrent
        self.hold = hold
        self.silent = silent

    @property
    def stage(self):
        """Where it is in its life: 0 new, 1 queued, 2 running, 3 over."""
        return self.stage

    def __repr__(self):
        words = ("new", "queued", "running", "over")
        return f"<Message {self.event!r} {words[self.stage]}>"


@cython.final
@cython.freelist(64)
cdef class Turn:
    """The execution of one message by one session."""

    def __init__(self, session=None, Message message=None, *, ledger=None, app=None,
                 variables=None, bint concurrent=False, double started=0.0):
        self.session = session
        self.message = message
        self.ledger = ledger
        self.app = app
        self.variables = variables
        self.concurrent = concurrent
        self.started = started

    cdef object get_state(self):
        if self.face is None:
            self.face = self.ledger.view if self.concurrent else self.ledger.root
        return self.face

    cdef dict get_context(self):
        cdef dict told = self.told
        if told is None:
            message = self.message
            told = {} if message.context is None else message.context.copy()
            told["handler"] = message.event
            told["label"] = message.label
            told["session_id"] = None if self.session is None else self.session.id
            self.told = told
        return told

    @property
    def state(self):
        """The writable root; for a job beside the turns the read-only view."""
        return self.get_state()

    @property
    def payload(self):
        """What the message carries, as it came."""
        return self.message.payload

    @property
    def context(self):
        """A dict of its own: the client's keys under ``handler``, ``label`` and ``session_id``."""
        return self.get_context()

    @property
    def event_type(self):
        """The name of the event."""
        return self.message.event

    @property
    def label(self):
        """The label of the view the message came from."""
        return self.message.label

    def end(self):
        """Mark it as over. The runner's; what outlives the turn sees ``ended``."""
        self.ended = True
        self.task = None
        self.variables = None  # it holds the turn, so keeping it would make a circle

    def __repr__(self):
        event = None if self.message is None else self.message.event
        owner = None if self.session is None else self.session.id
        return f"<Turn {event!r} of {owner!r}{' (ended)' if self.ended else ''}>"


@cython.final
cdef class CallPlan:
    """How to call one function in a turn: which slot of the turn each argument gets.

    ``positional`` are the slots (types.Slot) of the leading arguments, ``keywords`` pairs of
    parameter name and slot. ``convert`` turns the payload into what the function declared, or
    raises BadPayload.
    """

    def __init__(self, fn, positional=(), keywords=(), convert=None):
        self.fn = fn
        self.positional = tuple(int(slot) for slot in positional)
        self.keywords = tuple((str(name), int(slot)) for name, slot in keywords)
        self.convert = convert
        slots = self.positional + tuple(slot for _, slot in self.keywords)
        if len(slots) > MAX_SLOTS:
            raise ValueError(f"a call plan has at most {MAX_SLOTS} arguments, got {len(slots)}")
        for index, slot in enumerate(slots):
            if not 0 <= slot <= 6:
                raise ValueError(f"slot must be 0 to 6 (types.Slot), got {slot}")
            self.slots[index] = slot
        self.names = tuple(name for name, _ in self.keywords)
        self.leading = len(self.positional)
        self.count = len(slots)

    @cython.wraparound(False)
    cdef object call(self, Turn turn):
        # The arguments are held by `held` (references) and pointed to by `args` (one free place
        # before them, which vectorcall may borrow for a bound method's self).
        cdef PyObject *args[MAX_SLOTS + 1]
        cdef object converted = None
        cdef object value
        cdef Py_ssize_t i
        cdef int slot
        args[0] = NULL
        for i in range(self.count):
            slot = self.slots[i]
            if slot == 0:
                # face, told and the message's fields are kept alive by the turn, and the turn by
                # the caller, so a borrowed pointer is enough.
                value = turn.face if turn.face is not None else turn.get_state()
            elif slot == 1:
                if self.convert is not None:
                    if converted is None:
                        converted = self.convert(turn.message.payload)
                    value = converted
                else:
                    value = turn.message.payload
            elif slot == 2:
                value = turn.told if turn.told is not None else turn.get_context()
            elif slot == 3:
                value = turn.session
            elif slot == 4:
                value = turn.app
            elif slot == 5:
                value = turn.message.event
            else:
                value = turn.message.label
            args[i + 1] = <PyObject *> value
        return PyObject_Vectorcall(
            self.fn,
            &args[1],
            <size_t> self.leading | PY_VECTORCALL_ARGUMENTS_OFFSET,
            <PyObject *> self.names if self.names else NULL,
        )

    def __call__(self, Turn turn not None):
        """Call the function with what ``turn`` has for it."""
        return self.call(turn)

    def __repr__(self):
        return f"<CallPlan of {getattr(self.fn, '__qualname__', self.fn)!r}>"
