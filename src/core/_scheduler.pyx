# cython: language_level=3
"""The turns: how they begin, suspend and end. The compiled half of ``scheduler.Scheduler``.

Who may touch what
    Whoever took a session out of a ready queue is the only one to take messages from it and to
    run its turn, until the turn lets go: that is the loop's drain, one worker, or who holds a held
    turn. A turn that wants the loop is handed over through the inbox, and the worker has done with
    it. ``suspended`` has the turns nobody is running at the moment; the spare task is the loop's.

Cut in the middle
    An exception in a handler ends its turn by rollback, SystemExit too: no session may end the
    others. What a session's ``settle`` raises is reported and the session goes on. A
    KeyboardInterrupt is not the handler's: it ends the turn like any exception and is then raised
    out of the drain, as asyncio does.

The class stays in one piece: every way through it begins in ``begin`` and ends in ``conclude``,
whichever thread, task or holder it comes by.
"""

from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF
from cpython.set cimport PySet_GET_SIZE

from greenroom.core._actor cimport Actor
from greenroom.core._clock cimport monotonic
from greenroom.core._lanes cimport LANES, choose_lane
from greenroom.core._ledger cimport Ledger
from greenroom.core._ready cimport LOOP, POOL, ReadyQueue, Runnable, queue_of
from greenroom.core._runner cimport Runner, Worker
from greenroom.core._turn cimport CURRENT, NEW, OVER, RUNNING, CallPlan, Message, Turn

from asyncio import CancelledError, Future
from asyncio.tasks import _enter_task, _leave_task
from functools import partial
from types import coroutine

from .errors import Busy, Closed

cdef extern from *:
    """
    /* Whether `await value` works: coroutines, futures, anything with __await__. */
    static int greenroom_awaitable(PyObject *value) {
        PyAsyncMethods *methods = Py_TYPE(value)->tp_as_async;
        return methods != NULL && methods->am_await != NULL;
    }
    """
    int is_awaitable "greenroom_awaitable"(PyObject *value) noexcept

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


cdef class SchedulerCore(Runner):
    """The compiled half of the scheduler: how turns begin, suspend and end.

    ``scheduler.Scheduler`` is its one subclass and provides ``start_job``, ``run_turn``,
    ``await_result``, ``finish_subscribers``, ``make_shell``, ``start_worker``, ``set_timer``,
    ``look_for_end``, ``report`` and ``watch``.
    """

    def __cinit__(self):
        self.suspended = {}
        self.middlewares = ()
        self.quantum_turns = 16
        self.quantum_time = 0.001
        self.enter_task = _enter_task
        self.leave_task = _leave_task

    # -- how turns begin --------------------------------------------------------------------

    cdef int serve(self, Runnable session, int queue, Worker worker) except -1:
        """Run turns of one session until it has none, its quantum is used up or a turn stays."""
        cdef Actor actor = <Actor> session
        cdef Message message
        cdef int turns = 0
        cdef int lane
        cdef double start = 0.0
        while actor.lanes:
            lane = choose_lane(actor.lanes, actor.passed)
            message = <Message> actor.head[lane]
            if queue_of(message) != queue:
                break
            if turns:
                if turns >= self.quantum_turns:
                    break
                if turns == 1:
                    start = monotonic()
                elif (queue == POOL or not turns & 3) \
                        and monotonic() - start > self.quantum_time:
                    break
            turns += 1
            message = actor.take(lane)
            if self.begin(actor, message, queue, worker) == AWAY:
                return 0
            message = None  # its end may run code: not between the next look and the next take
        actor.release()
        return 0

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
        if result is not None and is_awaitable(<PyObject *> result):
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
            (<Actor> turn.session).release()

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
            (<Actor> turn.session).release()

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
                            self.report(
                                f"a calculated property failed after {message.event!r} had, and "
                                "keeps its last value",
                                raised,
                            )
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
                actor.release()
            raise error
        return DONE

    def undo_outbox(self, Turn turn not None):
        """The turn failed: what it wanted to send is not sent. On the thread that runs it."""
        if turn.outbox is not None:
            self.undone += len(turn.outbox)
            turn.outbox = None

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
        (<Actor> turn.session).release()
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
        (<Actor> turn.session).release()
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


cdef int raise_current() except -1:
    """Raise the exception that a C call has just set."""
    return -1


@coroutine
def hop():
    """In the coroutine of a turn that runs on a worker: go on, on the loop."""
    yield
