# cython: language_level=3
"""The loop and its workers: they run what is ready, and sleep when nothing is.

Who may touch what
    The inbox and ``parts`` may be filled by any thread; the inbox is emptied by the loop, ``parts``
    by workers. ``closing`` is the loop's. Counters are changed by any thread, each in one step.

Wake-ups
    The loop is woken once per burst (``armed``, and nobody wakes it while a drain runs, because
    the drain looks again before it ends, in one stretch). Of the sleeping workers one is woken at
    a time (``waking``); a worker that leaves work behind wakes the next, and one that finds no
    work is among the idle ones in the same stretch in which it looked. A stretch runs no Python
    code and drops no last reference, so the interpreter switches no thread in it; without the GIL
    each would need a lock.

Cut in the middle
    What a call or an answer raises is reported, and the drain goes on. A KeyboardInterrupt is
    raised out of the drain, as asyncio does; what is left is run by the next one. A loop that was
    closed under us is not woken any more.
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

from greenroom.core._asks cimport Asks
from greenroom.core._clock cimport monotonic
from greenroom.core._ready cimport LOOP, POOL, ReadyQueue, Runnable
from greenroom.core._turn cimport Message

from asyncio import CancelledError, Future, InvalidStateError
from collections import deque
from functools import partial

cdef extern from "Python.h":
    object PyObject_Vectorcall(object callable, PyObject **args, size_t nargsf, object kwnames)

cdef tuple CONTEXT = ("context",)     # the names for a vectorcall
cdef double DRAIN_TIME = 0.005       # after so long a drain lets the loop look at its sockets


@cython.final
cdef class Worker:
    """One thread of the pool. ``Runner.work`` is its life."""

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


cdef class Runner(Asks):
    """The loop and its workers: what they have before them, who wakes whom, and what was counted.

    The scheduler provides ``serve``, ``start_worker``, ``report`` and ``watch``.
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
        self.max_messages = 1000
        self.max_workers = 1

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

    cdef bint is_loop(self) noexcept:
        return self.loop_thread == PyThread_get_thread_ident()

    def on_loop(self):
        """Whether the calling thread is the loop's."""
        return self.loop_thread == PyThread_get_thread_ident()

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

    # -- the loop's side --------------------------------------------------------------------

    def run_ready(self):
        """Deliver what came back from workers and run the turns that wait for the loop."""
        cdef Runnable session
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
                    session = self.loop_queue.take()
                    if session is None:
                        if not self.closing:
                            break
                        self.end_burst()
                        continue
                    self.serve(session, LOOP, None)
                rounds += 1
                if not rounds & 15:
                    if end == 0.0:
                        end = monotonic() + DRAIN_TIME
                    elif monotonic() > end:
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

    cdef int serve(self, Runnable session, int queue, Worker worker) except -1:
        """Run turns of a session that was taken out of ``queue``. Overridden by the scheduler."""
        return 0

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

    # -- the pool's side --------------------------------------------------------------------

    def work(self, Worker worker not None):
        """The life of a worker thread."""
        cdef Runnable session
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
            session = self.pool_queue.take()
            if session is not None:
                if self.pool_queue.count:
                    self.wake_worker()
                try:
                    self.serve(session, POOL, worker)
                except BaseException as error:
                    self.report("a worker failed", error)
                session = None
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

    # -- what is going on -------------------------------------------------------------------

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

    @property
    def waiting_in_pool(self):
        """Sessions that wait for a worker."""
        return self.pool_queue.count

    @property
    def idle_workers(self):
        """Worker threads that sleep."""
        return len(self.idle)
