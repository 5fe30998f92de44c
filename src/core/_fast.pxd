# The plan of _fast.pyx: mailboxes, the queues of ready sessions, and the loop that runs turns.
#
# Lists are linked through the messages and sessions themselves. Messages hang on owned pointers:
# whoever links one into a lane gives it a reference, whoever takes it out gets that reference.

from cpython.object cimport PyObject

from greenroom.core._turn cimport CallPlan, Message, Turn

cdef enum:
    LANES = 4                # types.Lane
    # Passed over so often, a lane goes first. With four lanes three may ripen together, and the
    # last of them must not wait longer than 16.
    RIPE = 13

cdef enum Queue:             # where a session waits for its next turn
    NOWHERE = 0
    LOOP = 1
    POOL = 2

cdef enum Outcome:           # of one turn on the thread that began it
    DONE = 0
    AWAY = 1                 # suspended, handed to the other side, or held: it ends later


cdef class ReadyQueue:
    # Sessions with work, by the highest lane they have work in. A session is in it at most once.
    # Visible to the garbage collector: sessions, scheduler and queue form a circle.
    cdef list head                       # by lane: its first session or None
    cdef PyObject *tail[LANES]           # borrowed
    cdef unsigned char passed[LANES]     # how often each lane was passed over since it was served
    cdef unsigned char lanes             # bitmap of lanes that are not empty
    cdef Py_ssize_t count
    cdef int which                       # Queue
    cdef void put(self, Actor actor, int lane)
    cdef void drop(self, Actor actor)
    cdef Actor take(self)


cdef class Actor:
    cdef readonly object id
    cdef public object ledger
    cdef Core core                       # the scheduler
    # the mailbox
    cdef PyObject *head[LANES]
    cdef PyObject *tail[LANES]
    cdef unsigned char passed[LANES]
    cdef unsigned char lanes             # bitmap of lanes that are not empty
    cdef int count                       # messages in all lanes
    cdef Py_ssize_t nbytes               # their sizes
    cdef readonly unsigned long long posted  # messages it was ever sent, but for hooks and timers
    # its place in the ready queue
    cdef Actor ready_next
    cdef PyObject *ready_prev            # borrowed
    cdef unsigned char where             # Queue
    cdef unsigned char ready_lane
    cdef bint busy                       # somebody runs it: it is in no queue
    # what runs
    cdef readonly Turn running
    cdef public bint linked              # it has links: settle() is called for every turn
    cdef public bint closed
    cdef public object waiting           # sessions its turn waits for (waits.py), or None
    cdef public object timers            # set of live timers (timers.py), or None
    cdef public object jobs              # set of live jobs (jobs.py), or None
    cdef object __weakref__
    cdef Message take(self, int lane)
    cdef int append(self, Message message) except -1
    cdef void make_ready(self)
    cdef bint unlink(self, Message message)
    cpdef object over(self)


cdef class Worker:
    # One thread of the pool.
    cdef void *lock                      # PyThread_type_lock; taken while it sleeps
    cdef readonly Turn turn              # what it runs, for the sweep
    cdef readonly bint spare             # above Settings.workers: ends when it finds no work
    cdef public object thread


cdef class Core:
    # what it serves
    cdef public object loop
    cdef public object base              # contextvars.Context that every turn gets a copy of
    cdef public object app
    cdef public tuple middlewares        # around every turn whose message is `wrapped`
    cdef public bint keep_on_error       # Settings.on_error == "keep"
    cdef public int quantum_turns
    cdef public double quantum_time
    cdef public int max_messages         # of one mailbox; 0: no limit
    cdef public Py_ssize_t max_bytes
    cdef public object clock_time        # None: the monotonic clock, else a callable
    cdef unsigned long loop_thread       # 0: not started
    # the loop's side
    cdef readonly ReadyQueue loop_queue
    cdef readonly object inbox           # deque of callables and answered messages
    cdef list closing                    # callables for the end of this burst
    cdef object wake_here, wake_loop     # call_soon and call_soon_threadsafe of the loop
    cdef object make_future, run_here    # its create_future, and our run_ready, bound
    cdef bint armed                      # a drain is on its way
    cdef bint draining                   # a drain runs: it will see what comes
    cdef public object shell             # the spare task (eager.py), or None
    cdef object enter_task, leave_task
    cdef readonly dict suspended         # turns that are between two steps, held or handed over
    # the pool's side
    cdef readonly ReadyQueue pool_queue
    cdef readonly object parts           # deque of callables for workers; they go first
    cdef readonly list workers
    cdef list idle                       # Workers that sleep, last one first
    cdef bint waking                     # a worker was woken and has not begun
    cdef public bint sweeping            # somebody has asked for the next look at long turns
    cdef public int max_workers
    cdef readonly bint stopped
    # asks with a deadline; those that are over stay in the list until it is looked through
    cdef list asks
    cdef Py_ssize_t waiting_asks
    cdef public double next_look         # when the timer that is set looks; 0: none is set
    # what it has counted
    cdef public bint refusing            # drain: only control messages are accepted
    cdef readonly long long sent         # posted or spawned, whatever came of it
    cdef public long long accepted, run, failed, cancelled, expired, dropped
    cdef readonly long long refused_busy, refused_closed
    cdef readonly long long emitted      # events for clients, each of which ends in one of these:
    cdef readonly long long shipped      # entered the stream of a link
    cdef readonly long long unheard      # the session had no client for it
    cdef readonly long long undone       # the turn that made it failed
    cdef readonly long long late_calls   # handed to the loop of an app that has stopped
    cdef public long long begun          # turns begun, for the growth of the pool
    cdef public double ask_timeout       # Settings.ask_timeout
    cdef bint is_loop(self) noexcept     # whether the calling thread is the loop's
    cdef object ask_here(self, Actor actor, Message message, double timeout)
    cdef double now(self)
    cdef int end_burst(self) except -1
    cdef void arm(self)
    cdef void notify(self, int queue)
    cdef void wake_worker(self)
    cdef int serve(self, Actor actor, int queue, Worker worker) except -1
    cdef int begin(self, Actor actor, Message message, int queue, Worker worker) except -1
    cdef int calculate(self, Turn turn) except -1
    cdef int conclude(self, Turn turn, object value, object error, bint on_loop) except -1
    cdef int step(self, Turn turn, object coro) except -1
    cdef int give(self, Turn turn) except -1
    cdef int carry(self, Turn turn, object coro, bint on_loop, Worker worker) except -1
    cdef void forget(self, Message message)
    cdef void answer(self, Message message, object value, object error, bint on_loop)
    cdef void release(self, Actor actor)
