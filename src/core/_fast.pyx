# cython: language_level=3
"""Mailboxes, the queues of ready sessions, and the loops that run turns.

Who may touch what
    Any thread may post to a mailbox; whoever takes a session out of a ready queue (the loop's
    drain, or one worker) is the only one to take messages from it, until it lets go. ``busy`` says
    that somebody has it; a busy session is in no queue, and a session that is not busy is in
    exactly the queue of its next message, or has no message. The inbox may be filled by any
    thread and is emptied by the loop.

Why that is enough
    Every change of a list runs between two moments at which the interpreter may switch threads:
    it runs no Python code, allocates nothing the collector counts, and drops no last reference.
    So no lock is taken anywhere, and ``post`` costs what its stores cost. Without the GIL each of
    these stretches would need a critical section on its session and its queue; they are marked
    with "one stretch".

Wake-ups
    The loop is woken once per burst (``armed``, and nobody wakes it while a drain runs, because
    the drain looks again before it ends, in one stretch). Of the sleeping workers one is woken at
    a time (``waking``); a worker that leaves work behind wakes the next.

Cut in the middle
    An exception in a handler ends its turn by rollback, SystemExit too: no session may end the
    others. What a session's ``settle`` raises is reported and the session goes on. A
    KeyboardInterrupt is not the handler's: it ends the turn like any exception and is then raised
    out of the drain, as asyncio does.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.pythread cimport (
    NOWAIT_LOCK,
    WAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_get_thread_ident,
    PyThread_release_lock,
)
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.set cimport PySet_GET_SIZE

from greenroom.core._turn cimport CURRENT, NEW, OVER, QUEUED, RUNNING, CallPlan, Message, Turn

from greenroom.core._ledger cimport Ledger

from asyncio import CancelledError, Future, InvalidStateError
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from functools import partial
from types import coroutine

from . import _turn
from .errors import Busy, Closed

cdef extern from *:
    """
    #if defined(_WIN32)
      #include <windows.h>
      static double greenroom_monotonic(void) {
          LARGE_INTEGER f, c;
          QueryPerformanceFrequency(&f); QueryPerformanceCounter(&c);
          return (double)c.QuadPart / (double)f.QuadPart;
      }
    #else
      #include <time.h>
      #if defined(__APPLE__)
        #define GREENROOM_CLOCK CLOCK_UPTIME_RAW  /* what time.monotonic() reads there */
      #else
        #define GREENROOM_CLOCK CLOCK_MONOTONIC
      #endif
      static double greenroom_monotonic(void) {
          struct timespec t;
          clock_gettime(GREENROOM_CLOCK, &t);
          return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
      }
    #endif
    /* Ask for memory that is needed soon. A hint: any address will do, nothing is read here. */
    #if defined(__GNUC__)
      #define greenroom_prefetch(at) __builtin_prefetch(at)
    #else
      #define greenroom_prefetch(at) ((void) (at))
    #endif
    #define greenroom_dict_keys(dict) ((void *) ((PyDictObject *) (dict))->ma_keys)
    /* Whether `await value` works: coroutines, futures, anything with __await__. */
    static int greenroom_awaitable(PyObject *value) {
        PyAsyncMethods *methods = Py_TYPE(value)->tp_as_async;
        return methods != NULL && methods->am_await != NULL;
    }
    """
    double greenroom_monotonic() noexcept nogil
    void greenroom_prefetch(void *at) noexcept nogil
    void *greenroom_dict_keys(PyObject *dict) noexcept nogil
    int greenroom_awaitable(PyObject *value) noexcept

cdef extern from "Python.h":
    object PyContext_Copy(object ctx)
    int PyContext_Enter(object ctx) except -1
    int PyContext_Exit(object ctx) except -1
    object PyContextVar_Set(object var, PyObject *value)
    int PyCoro_CheckExact(object value)
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(object iterator, PyObject *value, PyObject **result)
    PyObject *Py_None
    object PyObject_Vectorcall(object callable, PyObject **args, size_t nargsf, object kwnames)

# A cimported class is no name of this module; these are handed on.
for name in ("CallPlan", "Message", "Turn", "current_turn", "enter_turn", "leave_turn"):
    globals()[name] = getattr(_turn, name)
del name

cdef tuple CONTEXT = ("context",)     # the names for a vectorcall
cdef double DRAIN_TIME = 0.005       # after so long a drain lets the loop look at its sockets
cdef int LOWEST[16]                  # bitmap of lanes -> its first lane
LOWEST[:] = [0, 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0]


cdef inline bint has_async(object ledger) except -1:
    """Whether the turn's assignments have called async subscribers."""
    if type(ledger) is Ledger:
        return (<Ledger> ledger).journal.later is not None
    return bool(ledger.later)


cdef inline bint has_stale(object ledger) except -1:
    """Whether properties have to be calculated before the turn can end."""
    return type(ledger) is Ledger and (<Ledger> ledger).journal.pending is not None


cdef inline int open_turn(object ledger) except -1:
    if type(ledger) is Ledger:
        (<Ledger> ledger).open()
    else:
        ledger.open()
    return 0


cdef inline int commit_turn(object ledger, bint keep) except -1:
    if type(ledger) is Ledger:
        (<Ledger> ledger).commit(keep)
    else:
        ledger.commit(keep)
    return 0


cdef inline int choose_lane(unsigned char lanes, unsigned char *passed) noexcept:
    """Which of the lanes in `lanes` (not 0) is served next."""
    cdef int lane, best = -1
    cdef unsigned char most = RIPE - 1
    for lane in range(LANES):
        if passed[lane] > most and lanes >> lane & 1:
            most = passed[lane]
            best = lane
    return best if best >= 0 else LOWEST[lanes]


cdef inline void serve_lane(unsigned char lanes, unsigned char *passed, int lane) noexcept:
    """Note that `lane` was served while all of `lanes` had work."""
    cdef int other
    passed[lane] = 0
    lanes &= ~(1 << lane)
    if lanes:
        for other in range(LANES):
            if lanes >> other & 1 and passed[other] < 255:
                passed[other] += 1


cdef inline void look_ahead(Actor first) noexcept:
    """Ask for the memory of the next turns: with many sessions, waiting for it is most of a turn.

    Each step of a session's way (actor, ledger, journal and root, dict, keys) can be asked for
    only when the one before has arrived, so three sessions are on their way at a time.
    """
    cdef Actor actor = first
    cdef Ledger ledger
    if type(actor.ledger) is Ledger:
        ledger = <Ledger> actor.ledger
        if ledger.tree.d is not None:
            greenroom_prefetch(greenroom_dict_keys(<PyObject *> ledger.tree.d))
    actor = actor.ready_next
    if actor is None:
        return
    if type(actor.ledger) is Ledger:
        ledger = <Ledger> actor.ledger
        greenroom_prefetch(<void *> ledger.tree.d)
    actor = actor.ready_next
    if actor is not None and type(actor.ledger) is Ledger:
        ledger = <Ledger> actor.ledger
        greenroom_prefetch(<void *> ledger.journal)
        greenroom_prefetch(<void *> ledger.tree)


# ---------------------------------------------------------------------------- the ready queue


@cython.final
cdef class ReadyQueue:
    """Sessions with work, in order, by the highest lane they have work in."""

    def __cinit__(self):
        self.head = [None] * LANES

    def __len__(self):
        return self.count

    cdef void put(self, Actor actor, int lane):
        # one stretch
        actor.where = self.which
        actor.ready_lane = lane
        actor.ready_prev = self.tail[lane]
        if self.tail[lane] is NULL:
            self.head[lane] = actor
            self.lanes |= 1 << lane
            self.passed[lane] = 0
        else:
            (<Actor> self.tail[lane]).ready_next = actor
        self.tail[lane] = <PyObject *> actor
        self.count += 1

    cdef void drop(self, Actor actor):
        # one stretch; the caller holds a reference of its own
        cdef int lane = actor.ready_lane
        cdef Actor following = actor.ready_next
        if actor.ready_prev is NULL:
            self.head[lane] = following
        else:
            (<Actor> actor.ready_prev).ready_next = following
        if following is None:
            self.tail[lane] = actor.ready_prev
        else:
            following.ready_prev = actor.ready_prev
        if self.tail[lane] is NULL:
            self.lanes &= ~(1 << lane)
        actor.ready_next = None
        actor.ready_prev = NULL
        actor.where = NOWHERE
        self.count -= 1

    cdef Actor take(self):
        # one stretch; the session is the caller's, `busy`, from here on
        cdef int lane
        if self.lanes == 0:
            return None
        lane = choose_lane(self.lanes, self.passed)
        serve_lane(self.lanes, self.passed, lane)
        actor = <Actor> self.head[lane]
        if actor.ready_next is not None:
            look_ahead(actor)
        self.drop(actor)
        actor.busy = True  # here: the caller's next step may free another session, which runs code
        return actor


# ---------------------------------------------------------------------------- the mailbox


@cython.trashcan(True)
cdef class Actor:
    """A mailbox, the turn that runs, and the session's place in the ready queue.

    A subclass provides ``settle(turn, error)``, ``push_partial(turn)`` and may provide
    ``dropped(message, error)``.
    """

    def __init__(self, id, ledger, Core scheduler not None):
        self.id = id
        self.ledger = ledger
        self.core = scheduler

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
        lane = LOWEST[self.lanes]
        message = <Message> self.head[choose_lane(self.lanes, self.passed)]
        queue = self.core.pool_queue if message.place == 2 and not message.hold \
            else self.core.loop_queue
        if self.where:
            if self.where == queue.which and self.ready_lane == lane:
                return
            (self.core.loop_queue if self.where == LOOP else self.core.pool_queue).drop(self)
        queue.put(self, lane)
        self.core.notify(queue.which)

    def post(self, Message message not None):
        """Put a message into the mailbox; from any thread.

        Raises Busy when the mailbox is full and Closed when the session has ended or the app
        drains; then nothing was queued. A ``concurrent`` message starts at once beside the turns.
        """
        cdef Core core = self.core
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
        greenroom_prefetch(<void *> self.ledger)
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
            message = self.take(LOWEST[self.lanes])
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

    def __len__(self):
        return self.count

    def __bool__(self):
        return True

    @property
    def queued_bytes(self):
        """The sizes of the queued messages together."""
        return self.nbytes

    @property
    def ready(self):
        """Where it waits for its next turn: "loop", "pool" or None."""
        return (None, "loop", "pool")[self.where]


# ---------------------------------------------------------------------------- the scheduler's core


@cython.final
cdef class Worker:
    """One thread of the pool. ``Core.work`` is its life."""

    def __init__(self, bint spare=False):
        self.spare = spare

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock is NULL:
            raise MemoryError()
        PyThread_acquire_lock(self.lock, WAIT_LOCK)

    def __dealloc__(self):
        if self.lock is not NULL:
            PyThread_acquire_lock(self.lock, NOWAIT_LOCK)
            PyThread_release_lock(self.lock)
            PyThread_free_lock(self.lock)


cdef class Core:
    """The compiled half of the scheduler: queues, drain, workers' loop, and how turns end.

    ``scheduler.Scheduler`` is its one subclass and provides ``start_job``, ``run_turn``,
    ``finish_subscribers``, ``make_shell``, ``start_worker``, ``report`` and ``watch``.
    """

    def __cinit__(self):
        self.loop_queue = ReadyQueue()
        self.loop_queue.which = LOOP
        self.pool_queue = ReadyQueue()
        self.pool_queue.which = POOL
        self.inbox = deque()
        self.parts = deque()
        self.closing = []
        self.workers = []
        self.idle = []
        self.suspended = {}
        self.asks = []
        self.middlewares = ()
        self.quantum_turns = 16
        self.quantum_time = 0.001
        self.max_messages = 1000
        self.max_workers = 1
        self.enter_task = _enter_task
        self.leave_task = _leave_task

    # -- time, threads, counters ------------------------------------------------------------

    cdef double now(self):
        return greenroom_monotonic() if self.clock_time is None else self.clock_time()

    def attach(self, loop, context):
        """Serve ``loop``, the running loop of this thread; every turn runs in a copy of context."""
        self.loop = loop
        self.base = context
        self.wake_here = loop.call_soon
        self.wake_loop = loop.call_soon_threadsafe
        self.make_future = loop.create_future
        self.run_here = self.run_ready
        self.loop_thread = PyThread_get_thread_ident()
        self.stopped = False
        self.armed = False
        if self.loop_queue.count or self.inbox:
            self.arm()
        if self.pool_queue.count:
            self.wake_worker()

    def detach(self):
        """Serve no loop any more; workers end when they find no work."""
        self.stopped = True
        for worker in self.idle:
            PyThread_release_lock((<Worker> worker).lock)
        self.idle.clear()
        self.loop = self.wake_here = self.wake_loop = self.make_future = self.run_here = None
        self.loop_thread = 0
        self.shell = None

    cdef bint is_loop(self) noexcept:
        return self.loop_thread == PyThread_get_thread_ident()

    def on_loop(self):
        """Whether the calling thread is the loop's."""
        return self.loop_thread == PyThread_get_thread_ident()

    def count(self, str counter, long long more=1):
        """Count something. Any thread: a sum in Python would be three steps, this is one."""
        if counter == "cancelled":
            self.cancelled += more
        elif counter == "expired":
            self.expired += more
        elif counter == "dropped":
            self.dropped += more
        elif counter == "sent":
            self.sent += more
        elif counter == "refused_busy":
            self.refused_busy += more
        elif counter == "refused_closed":
            self.refused_closed += more
        elif counter == "emitted":
            self.emitted += more
        elif counter == "shipped":
            self.shipped += more
        elif counter == "unheard":
            self.unheard += more
        elif counter == "late_calls":
            self.late_calls += more
        else:
            raise ValueError(f"no counter {counter!r}")

    def undo_outbox(self, Turn turn not None):
        """The turn failed: what it wanted to send is not sent. On the thread that runs it."""
        if turn.outbox is not None:
            self.undone += len(turn.outbox)
            turn.outbox = None

    @property
    def refused(self):
        """Messages that were never accepted."""
        return self.refused_busy + self.refused_closed

    @property
    def pending(self):
        """Accepted messages that are not over: queued or running."""
        return self.accepted - (
            self.run + self.failed + self.cancelled + self.expired + self.dropped
        )

    # -- wake-ups ---------------------------------------------------------------------------

    cdef void arm(self):
        cdef PyObject *args[2]
        if self.armed or self.draining or self.loop_thread == 0:
            return
        self.armed = True
        here = self.loop_thread == PyThread_get_thread_ident()
        wake = self.wake_here if here else self.wake_loop
        args[0] = <PyObject *> self.run_here
        args[1] = <PyObject *> self.base  # not the caller's context: that may be a turn's
        try:
            PyObject_Vectorcall(wake, args, 1, CONTEXT)
        except RuntimeError:  # the loop was closed under us: nothing will run there any more
            self.armed = False

    cdef void notify(self, int queue):
        if queue == LOOP:
            self.arm()
        else:
            self.wake_worker()

    cdef void wake_worker(self):
        # one stretch from the look at the idle ones on, unless a thread has to be started
        cdef Worker worker
        if self.waking or self.loop_thread == 0:
            return
        if not self.sweeping and self.is_loop():  # before the turn begins: it is looked at at once
            self.watch()
            if self.waking:
                return
        if self.idle:
            worker = self.idle.pop()
            self.waking = True
            PyThread_release_lock(worker.lock)
        elif len(self.workers) < self.max_workers:
            self.waking = True
            try:
                self.start_worker(False)
            except Exception as error:  # no more threads to be had: those there are must do
                self.waking = False
                self.report("a worker thread could not be started", error)
                return
        else:
            return
        if not self.sweeping:  # it ends when all threads sleep
            self.sweeping = True
            self.post_to_loop(self.watch)

    def post_to_loop(self, call not None, *args):
        """Have ``call(*args)`` called on the loop, after what was handed over before; any thread.

        The loop is woken once per burst.
        """
        self.inbox.append(partial(call, *args) if args else call)
        self.arm()

    def at_end_of_burst(self, call not None):
        """Have ``call()`` called when the loop has done what is ready now. On the loop."""
        self.closing.append(call)
        self.arm()

    def call_on_worker(self, call not None):
        """Have ``call()`` called on a worker, before sessions that wait; any thread."""
        self.parts.append(call)
        self.wake_worker()

    # -- asking -----------------------------------------------------------------------------

    def ask(self, Actor actor not None, Message message not None, double timeout):
        """Post a message; a future of the loop with its answer. On the loop.

        After ``timeout`` seconds (0: never) the future gets Timeout, and the message is dropped
        when its turn has not begun. All asks share one timer, which is a few ms late.
        """
        return self.ask_here(actor, message, timeout)

    cdef object ask_here(self, Actor actor, Message message, double timeout):
        cdef double deadline = self.now() + timeout if timeout > 0.0 else 0.0
        future = self.make_future()
        message.reply = future
        if deadline:  # before it is posted: a worker may end it at once, and forgets it then
            message.deadline = deadline
            message.session = actor
            self.waiting_asks += 1
        try:
            actor.post(message)
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

    # -- the loop's side --------------------------------------------------------------------

    def run_ready(self):
        """Deliver what came back from workers and run the turns that wait for the loop."""
        cdef Actor actor
        cdef Message message
        cdef double end = 0.0
        cdef int rounds = 0
        self.armed = False
        if self.draining:  # a handler runs the loop inside its turn: the outer drain goes on
            return
        self.draining = True
        try:
            while True:
                if self.inbox:
                    item = self.inbox.popleft()
                    if type(item) is Message:
                        message = <Message> item
                        self.answer(message, message.value, message.failure, True)
                        message.value = message.failure = None
                    else:
                        try:
                            item()
                        except Exception as error:
                            self.report("a call on the loop failed", error)
                else:
                    actor = self.loop_queue.take()
                    if actor is None:
                        if not self.closing:
                            break
                        self.end_burst()
                        continue
                    self.serve(actor, LOOP, None)
                rounds += 1
                if not rounds & 15:
                    if end == 0.0:
                        end = greenroom_monotonic() + DRAIN_TIME
                    elif greenroom_monotonic() > end:
                        self.end_burst()
                        break
        finally:
            self.draining = False
            if self.loop_queue.count or self.inbox or self.closing:
                self.arm()

    cdef int end_burst(self) except -1:
        calls, self.closing = self.closing, []
        for call in calls:
            try:
                call()
            except Exception as error:
                self.report("a call at the end of a burst failed", error)
        return 0

    cdef int serve(self, Actor actor, int queue, Worker worker) except -1:
        """Run turns of one session until it has none, its quantum is used up or a turn stays."""
        cdef Message message
        cdef int turns = 0
        cdef int lane
        cdef double start = 0.0
        while actor.lanes:
            lane = choose_lane(actor.lanes, actor.passed)
            message = <Message> actor.head[lane]
            if (<int> POOL if message.place == 2 and not message.hold else <int> LOOP) != queue:
                break
            if turns:
                if turns >= self.quantum_turns:
                    break
                if turns == 1:
                    start = greenroom_monotonic()
                elif (queue == POOL or not turns & 3) \
                        and greenroom_monotonic() - start > self.quantum_time:
                    break
            turns += 1
            message = actor.take(lane)
            if self.begin(actor, message, queue, worker) == AWAY:
                return 0
            message = None  # its end may run code: not between the next look and the next take
        self.release(actor)
        return 0

    cdef void release(self, Actor actor):
        # one stretch
        actor.busy = False
        if actor.lanes:
            actor.make_ready()

    cdef int begin(self, Actor actor, Message message, int queue, Worker worker) except -1:
        cdef Turn turn
        cdef CallPlan plan
        cdef object result = None
        cdef object error = None
        cdef object context
        cdef int outcome
        if message.deadline and type(message.reply) is Future and message.reply.done():
            message.stage = OVER  # whoever asked was cancelled meanwhile
            self.forget(message)
            self.cancelled += 1
            self.drop(actor, message, CancelledError())
            return DONE
        message.stage = RUNNING
        self.begun += 1
        turn = Turn.__new__(Turn)
        turn.session = actor
        turn.message = message
        turn.ledger = actor.ledger
        turn.app = self.app
        if type(actor.ledger) is Ledger:
            turn.face = (<Ledger> actor.ledger).known()
        actor.running = turn
        if message.hold:
            return self.give(turn)
        if worker is not None:
            worker.turn = turn
            turn.started = self.now()
        context = PyContext_Copy(self.base)
        if len(message.handlers) != 1 or (message.wrapped and self.middlewares):
            turn.variables = context
            turn.started = self.now()
            return self.carry(turn, self.run_turn(turn, queue == LOOP), queue == LOOP, worker)
        try:
            handler = message.handlers[0]
            plan = handler.plan
            open_turn(turn.ledger)
            PyContext_Enter(context)
            try:
                PyContextVar_Set(CURRENT, <PyObject *> turn)
                result = plan.call(turn)
            finally:
                PyContext_Exit(context)
        except BaseException as raised:
            error = raised
        if result is not None and greenroom_awaitable(<PyObject *> result):
            turn.variables = context
            if turn.started == 0.0:
                turn.started = self.now()
            if queue == LOOP and PyCoro_CheckExact(result):
                outcome = self.step(turn, result)
            else:
                outcome = self.carry(
                    turn, self.await_result(result, queue == LOOP), queue == LOOP, worker
                )
        else:
            outcome = self.conclude(turn, result, error, queue == LOOP)
        if worker is not None:
            worker.turn = None
        return outcome

    cdef int carry(self, Turn turn, object coro, bint on_loop, Worker worker) except -1:
        """Run a coroutine as the rest of ``turn``; on a worker until it asks for the loop."""
        cdef PyObject *value = NULL
        cdef PySendResult sent
        cdef object error = None
        cdef object result = None
        if on_loop:
            return self.step(turn, coro)
        PyContext_Enter(turn.variables)
        try:
            PyContextVar_Set(CURRENT, <PyObject *> turn)
            sent = PyIter_Send(coro, Py_None, &value)
            if sent == PYGEN_ERROR:
                raise_current()
        except BaseException as raised:
            error = raised
            sent = PYGEN_ERROR
        finally:
            PyContext_Exit(turn.variables)
        if value is not NULL:
            result = <object> value
            Py_DECREF(result)
        if worker is not None:
            worker.turn = None
        if sent == PYGEN_NEXT:  # it wants the loop
            self.suspended[turn] = None
            self.post_to_loop(partial(self.resume, turn, coro))
            return AWAY
        return self.conclude(turn, result, error, False)

    def resume(self, Turn turn, coro):
        """Go on with a turn that a worker handed over. On the loop."""
        self.suspended.pop(turn, None)
        if not turn.concurrent:
            turn.ledger.adopt()
        if self.step(turn, coro) == DONE:
            self.release(turn.session)

    cdef int step(self, Turn turn, object coro) except -1:
        """Take the first step of a coroutine as the spare task; a task goes on if it suspends."""
        cdef PyObject *value = NULL
        cdef PySendResult sent
        cdef object error = None
        cdef object result = None
        cdef object shell = self.shell
        if shell is None:
            shell = self.make_shell()
        self.shell = None
        task = shell.task
        self.enter_task(self.loop, task)
        try:
            PyContext_Enter(turn.variables)
            try:
                PyContextVar_Set(CURRENT, <PyObject *> turn)
                sent = PyIter_Send(coro, Py_None, &value)
                if sent == PYGEN_ERROR:
                    raise_current()
            finally:
                PyContext_Exit(turn.variables)
        except BaseException as raised:
            error = raised
            sent = PYGEN_ERROR
        finally:
            self.leave_task(self.loop, task)
        if value is not NULL:
            result = <object> value
            Py_DECREF(result)
        if sent == PYGEN_NEXT:
            turn.task = task
            self.suspended[turn] = None
            self.watch()
            shell.go_on(coro, turn.variables, result, partial(self.ended, turn))
            return AWAY
        if shell.gate.done():  # the coroutine cancelled its own task and ended all the same
            if error is None and task.cancelling():
                error = CancelledError()
        else:
            self.shell = shell
        return self.conclude(turn, result, error, True)

    def ended(self, Turn turn, value, error):
        """A suspended turn has come to its end. On the loop, in the turn's task."""
        self.suspended.pop(turn, None)
        if self.conclude(turn, value, error, True) == DONE and not turn.concurrent:
            self.release(turn.session)

    # -- how turns end ----------------------------------------------------------------------

    cdef int calculate(self, Turn turn) except -1:
        """Calculate the properties that are stale, as a part of the turn."""
        context = PyContext_Copy(self.base)
        PyContext_Enter(context)
        try:
            PyContextVar_Set(CURRENT, <PyObject *> turn)
            turn.ledger.settle()
        finally:
            PyContext_Exit(context)
        return 0

    cdef int conclude(self, Turn turn, object value, object error, bint on_loop) except -1:
        """Commit or roll back, ship, answer, count. AWAY when async subscribers come first."""
        cdef Actor actor = <Actor> turn.session
        cdef Message message = turn.message
        cdef object ledger = turn.ledger
        cdef bint keep
        if not turn.concurrent:
            if error is None and has_async(ledger):
                if turn.variables is None:
                    turn.variables = PyContext_Copy(self.base)
                coro = self.finish_subscribers(turn, value)
                # Not stepped here: this may be the end of a task, and tasks do not nest.
                self.suspended[turn] = None
                self.post_to_loop(partial(self.resume, turn, coro))
                return AWAY
            try:
                if error is not None and has_async(ledger):
                    ledger.take_async()  # of assignments that are undone: nobody is to hear of them
                keep = self.keep_on_error and not isinstance(error, CancelledError)
                if (error is None or keep) and has_stale(ledger):
                    try:
                        self.calculate(turn)
                    except BaseException as raised:
                        if error is None:
                            error = raised
                        else:
                            self.report(f"a property failed after {message!r}", raised)
                if error is None or keep:
                    commit_turn(ledger, actor.linked)
                else:
                    ledger.rollback(actor.linked)
                    if turn.outbox is not None:
                        self.undo_outbox(turn)
            except Exception as broken:
                self.report(f"the turn of {message!r} could not be ended", broken)
                error = broken
        if error is not None:
            if turn.timed_out and isinstance(error, CancelledError):
                error = self.timed_out_error(turn)
            if isinstance(error, CancelledError):
                self.cancelled += 1
            else:
                self.failed += 1
            value = None
        else:
            self.run += 1
            if message.silent:
                value = None
        turn.result = value
        turn.error = error
        turn.ended = True
        turn.task = None
        turn.variables = None
        message.stage = OVER
        if message.deadline:
            self.forget(message)
        if actor.linked or error is not None or turn.outbox is not None \
                or message.link is not None \
                or (message.reply is not None and type(message.reply) is not Future):
            try:
                actor.settle(turn, error)
            except Exception as broken:
                self.report(f"session {actor.id!r} could not ship a turn", broken)
                self.undo_outbox(turn)
                self.answer(message, None, broken, on_loop)
        elif message.reply is not None:
            self.answer(message, value, error, on_loop)
        if not turn.concurrent:
            actor.running = None
        if actor.closed:
            actor.over()
        if error is not None:
            # Its traceback holds frames that hold the turn. Only who spawned a job may still ask
            # the turn for it; it has been logged with all its lines.
            if turn.concurrent and not message.concurrent:
                error.__traceback__ = error.__context__ = error.__cause__ = None
            else:
                turn.error = None
        if self.refusing:
            self.look_for_end()
        if on_loop and error is not None and isinstance(error, KeyboardInterrupt):
            if not turn.concurrent:
                self.release(actor)
            raise error
        return DONE

    cdef void answer(self, Message message, object value, object error, bint on_loop):
        """Tell whoever waits for a message how it ended."""
        reply = message.reply
        if reply is None:
            return
        try:
            if type(reply) is Future or isinstance(reply, Future):
                if not on_loop:
                    message.value = value
                    message.failure = error
                    self.inbox.append(message)
                    self.arm()
                    return
                message.reply = None
                if error is None:
                    reply.set_result(value)
                elif reply.done():
                    pass
                elif isinstance(error, CancelledError):
                    reply.cancel()
                elif isinstance(error, StopIteration):
                    reply.set_exception(RuntimeError(f"the handler raised {error!r}"))
                else:
                    reply.set_exception(error)
            else:
                message.reply = None
                if error is None:
                    reply.answer(value)
                else:
                    reply.fail(error)
        except InvalidStateError:
            pass  # nobody waits for it any more
        except Exception as broken:
            self.report(f"the answer to {message!r} could not be given", broken)

    def drop(self, Actor actor, Message message, error):
        """Tell a session that an accepted message ends without a turn."""
        try:
            actor.dropped(message, error)
        except Exception as broken:
            self.report(f"session {actor.id!r} could not drop {message!r}", broken)
        if self.refusing:
            self.look_for_end()

    # -- held turns -------------------------------------------------------------------------

    cdef int give(self, Turn turn) except -1:
        """Hand a turn to whoever asked to hold one; it ends when they call finish()."""
        cdef Message message = turn.message
        reply = message.reply
        message.reply = None
        turn.started = self.now()
        self.suspended[turn] = None
        try:
            if isinstance(reply, Future):
                given = not reply.done()
                if given:
                    reply.set_result(turn)
            else:
                given = reply.answer(turn) is not False
        except Exception as broken:
            self.report(f"a held turn of {turn.session.id!r} could not be given", broken)
            given = False
        if given:
            self.watch()
            return AWAY
        self.suspended.pop(turn, None)
        turn.ended = True
        message.stage = OVER
        self.cancelled += 1
        (<Actor> turn.session).running = None
        if self.refusing:
            self.look_for_end()
        return DONE

    def finish(self, Turn turn not None, error=None):
        """End a held turn, on the thread that holds it: commit, or roll back when there is error.

        True when it ended. False when async subscribers have to run first: then it ends on the
        loop, and the message's ``reply`` is answered.
        """
        if turn.ended:
            raise RuntimeError(f"{turn!r} has ended already")
        self.suspended.pop(turn, None)
        cdef bint on_loop = self.loop_thread == PyThread_get_thread_ident()
        if self.conclude(turn, None, error, on_loop) == AWAY:
            return False
        self.release(turn.session)
        return True

    def abandon(self, Turn turn not None):
        """Give back a held turn that was never used."""
        if turn.ended:
            return
        self.suspended.pop(turn, None)
        turn.ended = True
        turn.message.stage = OVER
        self.cancelled += 1
        (<Actor> turn.session).running = None
        self.release(turn.session)
        if self.refusing:
            self.look_for_end()

    # -- jobs beside the turns --------------------------------------------------------------

    def step_job(self, Turn turn not None, coro):
        """Take the first step of a job; true when it has ended. On the loop."""
        return self.step(turn, coro) == DONE

    def begin_job(self, Actor actor not None, Message message not None, job):
        """Count a message that starts beside the turns, and have its job end with the session.

        Raises Closed when the session has ended, and Busy when it has too many jobs.
        """
        cdef set fresh = set()
        cdef Py_ssize_t count
        if message.stage != NEW:
            raise ValueError(f"{message!r} was posted before: make a new message")
        # one stretch
        count = 0 if actor.jobs is None else PySet_GET_SIZE(actor.jobs)
        if actor.closed or (self.max_messages and count >= self.max_messages):
            if actor.closed:
                self.refused_closed += 1
                raise Closed(f"session {actor.id!r} has ended")
            self.refused_busy += 1
            raise Busy(f"session {actor.id!r} has {count} jobs running: try again later")
        if actor.jobs is None:
            actor.jobs = fresh
        (<set> actor.jobs).add(job)
        message.stage = RUNNING
        self.accepted += 1

    # -- what is going on -------------------------------------------------------------------

    def busy_actors(self):
        """Sessions that wait in a queue or whose turn runs."""
        cdef ReadyQueue queue
        cdef Actor actor
        found = {turn.session for turn in self.suspended}
        found.update([(<Worker> worker).turn.session for worker in self.workers
                      if (<Worker> worker).turn is not None])
        for queue in (self.loop_queue, self.pool_queue):
            for lane in range(LANES):
                actor = <Actor> queue.head[lane]
                while actor is not None:
                    found.add(actor)
                    actor = actor.ready_next
        return found

    @property
    def waiting_in_pool(self):
        """Sessions that wait for a worker."""
        return self.pool_queue.count

    @property
    def idle_workers(self):
        """Worker threads that sleep."""
        return len(self.idle)

    # -- the pool's side --------------------------------------------------------------------

    def work(self, Worker worker not None):
        """The life of a worker thread."""
        cdef Actor actor
        cdef void *lock = worker.lock
        self.waking = False
        while True:
            if self.parts:
                call = self.parts.popleft()
                if self.parts or self.pool_queue.count:
                    self.wake_worker()
                try:
                    call()
                except BaseException as error:
                    self.report("a call on a worker failed", error)
                call = None
                continue
            actor = self.pool_queue.take()
            if actor is not None:
                if self.pool_queue.count:
                    self.wake_worker()
                try:
                    self.serve(actor, POOL, worker)
                except BaseException as error:
                    self.report("a worker failed", error)
                actor = None
                continue
            if self.stopped or worker.spare:
                break
            # one stretch from the look at the queues to here
            self.idle.append(worker)
            with nogil:
                PyThread_acquire_lock(lock, WAIT_LOCK)
            self.waking = False
        if worker in self.workers:
            self.workers.remove(worker)


cdef int raise_current() except -1:
    """Raise the exception that a C call has just set."""
    return -1


@coroutine
def hop():
    """In the coroutine of a turn that runs on a worker: go on, on the loop."""
    yield
