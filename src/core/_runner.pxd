# The plan of _runner.pyx: the loop and its workers.

from greenroom.core._asks cimport Asks
from greenroom.core._ready cimport ReadyQueue, Runnable
from greenroom.core._turn cimport Message, Turn


cdef class Worker:
    # One thread of the pool.
    cdef void *lock                      # PyThread_type_lock; taken while it sleeps
    cdef readonly Turn turn              # what it runs, for the sweep
    cdef readonly bint spare             # above Settings.workers: ends when it finds no work
    cdef public object thread


cdef class Runner(Asks):
    # what it serves
    cdef public object loop
    cdef public object base              # contextvars.Context that every turn gets a copy of
    cdef unsigned long loop_thread       # 0: not started
    cdef public bint refusing            # drain: only control messages are accepted
    cdef public int max_messages         # of one mailbox; 0: no limit
    cdef public Py_ssize_t max_bytes
    # the loop's side
    cdef readonly ReadyQueue loop_queue
    cdef readonly object inbox           # deque of callables and answered messages
    cdef list closing                    # callables for the end of this burst
    cdef object wake_here, wake_loop     # call_soon and call_soon_threadsafe of the loop
    cdef object run_here                 # our run_ready, bound
    cdef bint armed                      # a drain is on its way
    cdef bint draining                   # a drain runs: it will see what comes
    # the pool's side
    cdef readonly ReadyQueue pool_queue
    cdef readonly object parts           # deque of callables for workers; they go first
    cdef readonly list workers
    cdef list idle                       # Workers that sleep, last one first
    cdef bint waking                     # a worker was woken and has not begun
    cdef public bint sweeping            # somebody has asked for the next look at long turns
    cdef public int max_workers
    cdef readonly bint stopped
    # what it has counted
    cdef readonly long long sent         # posted or spawned, whatever came of it
    cdef public long long accepted, run, failed, cancelled, expired, dropped
    cdef readonly long long refused_busy, refused_closed
    cdef readonly long long emitted      # events for clients, each of which ends in one of these:
    cdef readonly long long shipped      # entered the stream of a link
    cdef readonly long long unheard      # the session had no client for it
    cdef readonly long long undone       # the turn that made it failed
    cdef readonly long long late_calls   # handed to the loop of an app that has stopped
    cdef public long long begun          # turns begun, for the growth of the pool
    cdef bint is_loop(self) noexcept     # whether the calling thread is the loop's
    cdef void arm(self)
    cdef void notify(self, int queue)
    cdef void wake_worker(self)
    cdef int end_burst(self) except -1
    cdef int serve(self, Runnable session, int queue, Worker worker) except -1
    cdef void answer(self, Message message, object value, object error, bint on_loop)
