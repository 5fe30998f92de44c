# The plan of _scheduler.pyx: how turns begin, suspend and end.

from greenroom.core._actor cimport Actor
from greenroom.core._runner cimport Runner, Worker
from greenroom.core._turn cimport Message, Turn

cdef enum Outcome:           # of one turn on the thread that began it
    DONE = 0
    AWAY = 1                 # suspended, handed to the other side, or held: it ends later


cdef class SchedulerCore(Runner):
    cdef public object app
    cdef public tuple middlewares        # around every turn whose message is `wrapped`
    cdef public bint keep_on_error       # Settings.on_error == "keep"
    cdef public int quantum_turns
    cdef public double quantum_time
    cdef public object shell             # the spare task (eager.py), or None
    cdef object enter_task, leave_task
    cdef readonly dict suspended         # turns that are between two steps, held or handed over
    cdef int begin(self, Actor actor, Message message, int queue, Worker worker) except -1
    cdef int carry(self, Turn turn, object coro, bint on_loop, Worker worker) except -1
    cdef int step(self, Turn turn, object coro) except -1
    cdef int calculate(self, Turn turn) except -1
    cdef int conclude(self, Turn turn, object value, object error, bint on_loop) except -1
    cdef int give(self, Turn turn) except -1
