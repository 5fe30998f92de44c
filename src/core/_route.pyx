# cython: language_level=3, auto_pickle=False
"""The way of an event: from a client's frame into the mailbox, from the turn into the streams.

What is here runs once or more per event; the classes are the compiled halves of Session, Links and
Connection, which hold all the rest and are the place to read first.

Threads. ``resolve`` may be called from any thread, ``settle`` and ``ship`` by the thread that runs
the turn. Everything else is for the app's loop: a turn that ended on a worker encodes its patch
and its answer there, puts one record into the inbox and is done; ``deliver`` takes the records in
the order in which they were made.

Cut in the middle: a record that is in the inbox is delivered, and one that is not leaves no trace
with any client. What is delivered enters the streams of all links before any of it is handed over.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject

from greenroom.core._counts cimport Counts
from greenroom.core._actor cimport Actor
from greenroom.core._patch cimport Patch
from greenroom.core._ledger cimport Ledger
from greenroom.core._runner cimport Runner
from greenroom.core._stream cimport Request, Stream
from greenroom.core._turn cimport Message, Turn, find_turn

from functools import partial

from ._patch import encode_value
from .errors import NotFound

__all__ = ["TRANSPORT_ROOM", "ConnectionCore", "LinksCore", "Outlet", "SessionCore"]

cdef extern from "Python.h":
    bint PyObject_GC_IsTracked(PyObject* thing) noexcept
    void PyObject_GC_Track(PyObject* thing) noexcept
    void PyObject_GC_UnTrack(PyObject* thing) noexcept

cdef Py_ssize_t ROOM = 64 * 1024  # a transport with more buffered is handed nothing
cdef int INTERACTIVE = 1, NORMAL = 2        # types.Lane
cdef bytes NULL_TEXT = b"null"
TRANSPORT_ROOM = ROOM


cdef class SessionCore(Actor):
    """What a session does for every event. ``Session`` is the one subclass.

    It provides ``answer``, ``report``, ``explain`` and ``push_event``.
    """

    def __init__(self, app, id, ledger):
        Actor.__init__(self, id, ledger, app.scheduler)
        self.app = app
        self.table = app.handlers

    @property
    def userinfo(self):
        """What the verifiers and the application noted about its user; any thread."""
        cdef dict made
        if self.info is None:
            made = {}
            if self.info is None:  # one stretch: what another thread was given is the one
                self.info = made
        return self.info

    @userinfo.setter
    def userinfo(self, dict noted not None):
        self.info = noted

    cpdef tuple resolve(self, str event, str label):
        """The handlers and callbacks of an event, in the order they run; empty for none."""
        cdef tuple handlers
        cdef PyObject* found = PyDict_GetItem(<dict?>self.table.index.fixed, event)
        handlers = self.table.resolve(event, label) if found == NULL else <tuple?><object>found
        if self._listeners is not None:
            handlers = handlers + <tuple?>self._listeners.resolve(event, label)
        return handlers

    # -- messages ---------------------------------------------------------------------------

    cdef int enter(self, Stream link, Request request, Py_ssize_t size) except -1:
        """Post the event that a client's frame of ``size`` bytes carries."""
        cdef tuple handlers = self.resolve(request.type, link.label)
        if not handlers:
            raise NotFound(f"no handler {request.type!r}")
        first = handlers[0]
        cdef Message message = Message.__new__(Message)
        message.event = request.type
        message.payload = request.data
        message.handlers = handlers
        message.context = request.context
        message.lane = INTERACTIVE
        message.place = first.place
        message.size = size
        message.label = link.label
        message.link = link
        message.id = request.id
        message.wrapped = True
        message.concurrent = first.concurrent
        self.post(message)
        return 0

    cdef Message make(
        self, str event, object payload, int lane, object priority, object context, tuple handlers
    ):
        if not handlers:
            handlers = self.resolve(event, "main")
            if not handlers:
                self.unknown(event)
        first = handlers[0]
        cdef Message message = Message.__new__(Message)
        message.event = event
        message.payload = payload
        message.handlers = handlers
        message.context = None if context is None else dict(context)
        message.lane = lane if priority is None else priority
        message.place = first.place
        message.label = "main"
        message.wrapped = True
        message.concurrent = first.concurrent
        return message

    def message(
        self, str event not None, payload=None, int lane=NORMAL, priority=None, context=None,
        tuple handlers=None,
    ):
        """A message that nobody has posted. Raises NotFound for an event without a handler."""
        return self.make(event, payload, lane, priority, context, handlers)

    def ask(
        self, str event not None, payload=None, *, timeout=None, priority=None, context=None,
        tuple handlers=None,
    ):
        """Put a message into the mailbox and wait for its handler's result.

        On the loop ``await`` it; in a thread call ``.result()`` of it. Raises Timeout after
        ``timeout`` seconds (``Settings.ask_timeout``; 0 waits for ever), Cycle at once when the
        two would wait for each other, Busy, NotFound, or what the handler raised.
        """
        cdef Runner core = self.core
        cdef Message message = self.make(event, payload, NORMAL, priority, context, handlers)
        if timeout is None and core.is_loop() and find_turn() is None:  # nobody is held up
            return core.ask_here(self, message, core.ask_timeout)
        return core.ask_anywhere(self, message, timeout)

    # -- how turns end ----------------------------------------------------------------------

    def settle(self, Turn turn, error):
        """A turn has ended: ship what it made. On the thread that ran it, once."""
        cdef Message message = turn.message
        cdef Runner core = self.core
        cdef Ledger ledger = self.ledger
        cdef object answer = None
        cdef object patch = None
        if error is not None:
            self.report(message, error)
        if message.link is not None:
            if error is not None:
                answer = self.answer(message, None, error)
            elif message.id is not None:
                answer = self.encode_answer(message, turn.result)
        if not turn.concurrent:  # a job assigns in turns of its own
            if self.linked:
                patch = self.ship()
            if ledger.journal.on_due is not None:
                ledger.on_due = None
                ledger.due = False
        if not core.is_loop():
            self.hand_over(patch, turn.outbox, answer, message, not turn.concurrent)
            turn.outbox = None
        else:
            self.deliver(patch, turn.outbox, answer, message)
            if not turn.concurrent:
                ledger.shipped()
        if self._log is not None:
            self._log.flush()  # a line that was printed without its end
        if message.reply is not None:
            core.answer(message, turn.result, error, core.is_loop())

    cpdef object hand_over(
        self, object patch, list outbox, object answer=None, Message message=None, bint shipped=True
    ):
        """Have ``deliver`` called on the loop. ``shipped``: the worker's ship ends with this."""
        cdef Runner core = self.core
        cdef Ledger ledger = self.ledger
        record = partial(self.deliver, patch, outbox, answer, message)
        # One stretch: a loop that saw the record but not the end of the ship would put off a
        # snapshot with nobody left to wake it.
        core.inbox.append(record)
        if shipped:
            ledger.journal.shipping = False
        core.arm()

    def enter_table(self):
        """Its app holds it from now on, until ``over``.

        So the collector has no use for looking at it, which takes long where there are many.
        """
        if PyObject_GC_IsTracked(<PyObject*> self):
            PyObject_GC_UnTrack(<PyObject*> self)

    cpdef object over(self):
        """It has closed: what it was given or has made holds it no longer.

        Called at the end, and again after each turn or job that went on beyond it.
        """
        if self._listeners is not None:
            self._listeners.clear()
        if self._log is not None:
            self._log.on_record = None
        (<Ledger> self.ledger).end()
        if not PyObject_GC_IsTracked(<PyObject*> self):
            PyObject_GC_Track(<PyObject*> self)

    cdef object encode_answer(self, Message message, object result):
        """The encoded result, or an Answer when something is wrong with it."""
        if result is None:
            return NULL_TEXT
        try:
            encoded = encode_value(result)
        except Exception:  # encoders and to_dict() are anybody's code
            return self.answer(message, result, None)
        if type(encoded) is bytes \
                and PyBytes_GET_SIZE(<bytes>encoded) <= (<Stream>message.link).frame_bytes:
            return encoded
        return self.answer(message, result, None)

    cpdef object ship(self, bint foreign=False):
        """What clients do not have yet, as a patch; what cannot be encoded goes into the log."""
        cdef Ledger ledger = self.ledger
        patch = ledger.ship(foreign)
        if ledger.journal.unencodable is not None:
            self.explain(ledger.take_unencodable())
        return patch

    cpdef object deliver(
        self, object patch, list outbox=None, object answer=None, Message message=None
    ):
        """Patch, events and answer enter the streams in one step. On the loop.

        The answer is the encoded result of ``message``, or an Answer. The outbox is emptied.
        """
        cdef LinksCore links = self._links
        if links is not None and patch is not None:
            links.push_patch(patch)
        while outbox:
            out = outbox.pop(0)
            out.session.push_event(out.type, out.data, out.label)
        if type(answer) is bytes:
            (<Stream>message.link).result(message.id, answer)
        elif answer is not None:
            answer.push()
        if links is not None:
            links.committed()


cdef class LinksCore:
    """What the links of a session do for every event. ``Links`` is the one subclass."""

    def __init__(self, SessionCore session not None, Outlet outlet not None):
        self.session = session
        self.outlet = outlet
        self.by_id = {}

    def post_event(self, Stream link not None, Request request not None, Py_ssize_t size):
        """Post what a client's frame of ``size`` bytes carries, or raise why not."""
        self.session.enter(link, request, size)

    cpdef object push_patch(self, object patch):
        """Put a patch into every stream."""
        for link in self.by_id.values():
            (<Stream>link).push_patch(<Patch?>patch)

    cpdef object committed(self):
        """A commit was added whole: now the limits are looked at, and what can go goes soon."""
        cdef double now = self.outlet.core.now()
        for link in self.by_id.values():
            (<Stream>link).committed(now)
        self.flush()

    cpdef object flush(self):
        """Every connected link may have something for its transport."""
        for link in self.by_id.values():
            self.flush_soon(<Stream>link)

    cpdef object flush_soon(self, Stream link):
        """The link may have something for its transport."""
        if link.connection is not None:
            self.outlet.touch(<ConnectionCore?>link.connection)


cdef class ConnectionCore:
    """What a connection does for every packet. ``Connection`` is the one subclass.

    It provides ``first``, ``end``, ``lost`` and ``failed``.
    """

    def __init__(self, transport, Outlet outlet not None):
        self.transport = transport
        self.outlet = outlet

    def receive(self, packet):
        """One packet has arrived."""
        cdef Stream link = self.link
        cdef Request request = None
        cdef LinksCore links = self.links
        cdef SessionCore session
        cdef double now
        cdef list requests
        cdef Py_ssize_t size
        if self.closed:
            self.outlet.counts.received += 1
            self.outlet.counts.discarded += 1
            return
        now = self.outlet.core.now()
        if link is None:
            self.first(packet, now)
            return
        data, buffers = packet
        if not buffers:
            request = link.read_event(data, now)
        if request is None:
            requests = link.receive(packet, now)
            if requests:
                size = link.text_bytes // len(requests)  # frames of a batch share it
                for request in requests:
                    links.request(link, request, size)
            self.outlet.touch(self)
            return
        session = links.session
        session.last_active = now
        session.acknowledged = True
        try:
            session.enter(link, request, len(data))
        except Exception as error:
            links.refuse(link, request, error)

    def drained(self):
        """The transport has room again."""
        self.outlet.touch(self)

    cpdef object flush(self):
        """Hand the transport what its link has ready, in one write, and close if it is over."""
        cdef Stream link = self.link
        cdef list packets
        self.dirty = False
        if link is None or self.closed:
            return
        packets = link.take(
            self.outlet.core.now(), ROOM - <Py_ssize_t>self.transport.buffered
        )
        if packets:
            try:
                self.transport.send(packets)
            except Exception as error:
                self.failed(error)
                return
            # The link holds the rest back as if all this were waiting; where it has left at once
            # the transport was never full, and nobody would say that it has drained.
            if link.blocked and self.transport.buffered <= ROOM:
                self.outlet.touch(self)
        if link.closing is not None:
            self.lost(link.closing)


@cython.final
cdef class Outlet:
    """Connections that may have something to send: they are flushed when a burst has ended."""

    def __init__(self, Runner core not None, Counts counts not None):
        self.core = core
        self.counts = counts
        self.dirty = []

    cdef int touch(self, ConnectionCore connection) except -1:
        if connection.dirty or connection.closed:
            return 0
        connection.dirty = True
        self.dirty.append(connection)
        if len(self.dirty) == 1:
            self.core.at_end_of_burst(self.flush)
        return 0

    def mark(self, ConnectionCore connection not None):
        """A connection may have something to send."""
        self.touch(connection)

    def flush(self):
        """Flush them."""
        dirty, self.dirty = self.dirty, []
        for connection in dirty:
            try:
                (<ConnectionCore>connection).flush()
            except Exception as error:  # the others have their turn all the same
                self.core.report("a connection could not be served", error)
