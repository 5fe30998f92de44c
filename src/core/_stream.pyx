# cython: language_level=3, auto_pickle=False
"""The outgoing stream of one link: what was not sent yet, and what was sent and not acknowledged.

Who owns what. A :class:`Stream` belongs to one link and is touched on the app's loop only; it has
no lock, no clock and no I/O. It owns its frames. Payloads (bytes, patches) are immutable and shared
by the streams of all links, so what one broadcast costs per link is the head of an envelope.
``snapshot()`` and ``Tally.enforce`` run foreign code: both are called between steps, never inside
one, and what they push into this very stream is welcome.

Two logs, each a singly linked list, oldest first::

        push_*                    take                         acknowledge
    ------------->  unsent log  --------->  sent log  ------------------------->  gone
                    no numbers              numbers; frames never change

A frame gets its number when it is handed over for the first time. Until then patches may be merged
with their neighbour, or all of them replaced by one *mark*, which stands for a snapshot that is
made when its turn comes. ``base`` is the highest number that cannot be sent again: a resume is
possible from any point not below it. ``cursor`` walks the sent log again after a resume.

The lists are freed in loops: a log may hold more frames than the C stack has room for.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.string cimport memchr, memcmp

from ._counts cimport Counts
from ._frame cimport (
    ERROR,
    EVENT,
    MARK,
    PATCH,
    RESULT,
    SNAPSHOT,
    Frame,
    become_snapshot,
    envelope,
    form,
    new_answer,
    new_event,
    new_mark,
    new_patch,
    new_signal,
    packet,
    size_of,
)

from ._ids cimport ids_add, ids_clear, ids_count, ids_drop
from ._patch cimport Patch

from .packet import dumps, in_batches, in_parts, spelled_out
from .packet import _loads as loads  # without the look at what is wrong: link.py does that

__all__ = ["Request", "Stream", "Tally"]

cdef Py_ssize_t ROOM = 64                  # what a frame counts for beside its payload
cdef Py_ssize_t KEEP_BYTES = 256 * 1024    # larger patches and snapshots are sent but not kept
cdef Py_ssize_t ANSWER_BYTES = 64 * 1024   # what a link beyond its window keeps
cdef Py_ssize_t NO_LIMIT = 1 << 62
cdef Py_ssize_t MESSAGE = 500              # characters of an error's message
cdef int MANY_REFUSALS = 32                # errors about frames without id that wait for room
cdef Py_ssize_t SMALL_FRAME = 2048         # what read_event looks at
cdef int DEPTH = 100                       # types.MAX_DEPTH
cdef bytes PROTOCOL_HEAD = b'{"type":"gr:'  # how our clients begin the frames of the protocol
cdef object TYPE = "type", LABEL = "label", ID = "id", DATA_KEY = "data", CONTEXT = "context"
cdef str EVENT_REQUEST = "event"
cdef bytes MAIN_END = b',"label":"main"}'  # of nearly all links: one for all of them


cdef object in_one(list packets):
    """Packets without buffers, none of them a welcome, as one ``gr:batch``."""
    cdef list frames = []
    for data, _ in packets:
        frames.append(data)
    return packet(b'{"type":"gr:batch","data":[%b]}' % b",".join(frames), ())


cdef bytes fitted(bytes text):
    """A copy without the room behind it: orjson leaves kilobytes there, and a log keeps many."""
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef class Tally:
    """What all streams that share it count, and the bytes in their logs.

    A subclass says who pays first.
    """

    def __init__(self, Py_ssize_t limit, Counts counts=None):
        self.counts = Counts() if counts is None else counts
        self.total = 0
        self.limit = limit if limit > 0 else NO_LIMIT

    def enforce(self, double now):
        """Called by ``committed`` while ``total`` is above ``limit``."""


@cython.final
@cython.freelist(64)
cdef class Request:
    """Something a client asks for, after the link has accepted it."""

    def __init__(self, str kind not None, object id, str type not None, data=None, context=None):
        self.kind = kind
        self.id = id
        self.type = type
        self.data = data
        self.context = context

    def __repr__(self):
        return f"Request(kind={self.kind!r}, id={self.id!r}, type={self.type!r})"


@cython.no_gc_clear
cdef class Stream:
    """The outgoing half of a link. A link is a subclass and adds the incoming half."""

    def __init__(self, str label not None, bint binary, snapshot, Tally tally not None, *,
                 Py_ssize_t log_bytes, Py_ssize_t frame_bytes, double window, double dead):
        self.label = label
        self.binary = binary
        self.snapshot = snapshot
        self.tally = tally
        self.counts = tally.counts
        self.event_end = MAIN_END if label == "main" else b',"label":%b}' % dumps(label)
        self.log_bytes = log_bytes if log_bytes > 0 else NO_LIMIT // 8
        self.frame_bytes = frame_bytes if frame_bytes > 0 else NO_LIMIT
        self.window = window if window > 0 else 1e300
        self.dead = dead if dead > 0 else 1e300
        self.mode = HELD
        self.quiet_since = -1.0
        self.broken = True  # nobody has anything: the first attach begins with a snapshot
        self._enter_mark()

    def __dealloc__(self):
        if self.counts is not None:  # else it was never made
            self._clear_unsent()
            self._clear_sent()
            self._forget_ids()
            self._forget_refusals()

    # -- what comes in ----------------------------------------------------------------------

    cpdef Request read_event(self, bytes data, double now):
        """An ordinary event: the request, accepted. None: it is not; nothing was done.

        A short way for what arrives nearly always: a small frame of an open link with the next id,
        for the application, within the limits, without special values. What it does is what
        ``ServerLink.receive`` does, which judges all the rest; the vectors run through both.
        """
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef const char* text = PyBytes_AS_STRING(data)
        cdef Py_ssize_t i
        cdef int brackets = 0
        cdef double debt = 0.0
        cdef PyObject* found
        cdef str kind
        if size > SMALL_FRAME or self.state != "open" or (self.largest and size > self.largest) \
                or (size >= 12 and memcmp(text, PyBytes_AS_STRING(PROTOCOL_HEAD), 12) == 0) \
                or memchr(text, c'$', size) != NULL or memchr(text, c'\\', size) != NULL:
            return None
        if size > 2 * DEPTH:
            for i in range(size):
                brackets += text[i] == c'{' or text[i] == c'['
            if brackets > DEPTH:
                return None
        try:
            frame = loads(data)
        except ValueError:
            return None
        if type(frame) is not dict:
            return None
        found = PyDict_GetItem(frame, TYPE)
        if found == NULL or type(<object>found) is not str:
            return None
        kind = <str><object>found
        if not kind or kind.startswith("gr:"):
            return None
        found = PyDict_GetItem(frame, ID)
        if found == NULL or type(<object>found) is not int or <object>found != self.ack + 1:
            return None
        number = <object>found
        found = PyDict_GetItem(frame, LABEL)
        if found != NULL and <object>found is not None and <object>found != self.label:
            return None
        found = PyDict_GetItem(frame, CONTEXT)
        context = None if found == NULL else <object>found
        if context is not None and type(context) is not dict:
            return None
        if self.crowd and ids_count(&self.unanswered) >= self.crowd:
            return None
        if self.rate > 0.0:
            debt = max(0.0, self.debt - (now - self.debt_at) * self.rate) + 1.0
            if debt > self.burst:
                return None
            self.debt = debt
            self.debt_at = now
            self.refused_row = 0
        self.heard_at = now
        self.counts.received += 1
        self.counts.accepted += 1
        self.counts.open_ids += 1
        self.nack_row = 0
        self.ack += 1
        ids_add(&self.unanswered, self.ack)
        found = PyDict_GetItem(frame, DATA_KEY)
        cdef Request request = Request.__new__(Request)
        request.kind = EVENT_REQUEST
        request.id = number
        request.type = kind
        request.data = None if found == NULL else <object>found
        request.context = context
        return request

    # -- what enters ------------------------------------------------------------------------

    cpdef bint push_patch(self, Patch patch):
        """Add a patch, or merge it with its unsent neighbour. False: a snapshot will have it."""
        cdef Frame last = self.tail
        cdef Frame frame
        cdef Patch merged
        cdef Py_ssize_t nbytes
        self.counts.patches += 1
        if self.marked or self.mode >= ANSWERS or patch.position <= self.position:
            self.counts.swallowed += 1
            return False
        nbytes = patch.nbytes + ROOM
        if last is not None and last.kind == PATCH:
            merged = patch if last.payload is None else Patch.merge(last.payload, patch)
            if merged is not None:
                self.counts.merged += 1
                if merged.count:
                    nbytes = merged.nbytes + ROOM
                else:  # they cancel out; the frame stays as a place without a payload
                    merged = None
                    nbytes = 0
                last.payload = merged
                nbytes, last.nbytes = nbytes - last.nbytes, nbytes
                self.patch_bytes += nbytes
                self.tally.total += nbytes
                return True
        frame = new_patch(patch)
        frame.nbytes = nbytes
        self._append(frame)
        return True

    cpdef bint push_event(self, str type, object encoded, str label=None):
        """Add an event. ``label`` is the link's own unless given."""
        cdef bytes end = self.event_end
        self.counts.events += 1
        if self.mode >= ANSWERS:
            self.counts.missed += 1
            return False
        if label is not None and label != self.label:
            end = b',"label":%b}' % dumps(label)
        self._solid(new_event(type, end), encoded)
        return True

    cpdef bint push_signal(self, str name, object encoded):
        """Add a signal that the link has subscribed to."""
        self.counts.signals += 1
        if self.mode >= ANSWERS:
            self.counts.missed += 1
            return False
        self._solid(new_signal(name), encoded)
        return True

    cpdef bint result(self, long long id, object encoded):
        """Answer an accepted id. False: it has been answered, or was never accepted."""
        if type(encoded) is bytes and PyBytes_GET_SIZE(<bytes>encoded) > self.frame_bytes:
            return self.error(id, "handler_error", "the result is larger than max_frame_out")
        if not self._settle(id):
            return False
        self.counts.results += 1
        if self.mode < ANSWERS or self._takes_answer(encoded):
            self._solid(new_answer(RESULT, id), encoded)
        return True

    def error(self, id, str code not None, str message not None, retry_after=None):
        """Answer an accepted id with an error, or (``id`` None) say it unnumbered, best effort."""
        cdef str words = spelled_out(message)  # whatever it says, the caller is answered
        if len(words) > MESSAGE:  # it may quote what was sent: an answer stays small
            words = f"{words[:MESSAGE]}..."
        cdef dict data = {"code": code, "message": words}
        if retry_after is not None:
            data["retry_after"] = retry_after
        cdef bytes encoded = fitted(dumps(data))
        if id is None:
            return self._refusal(encoded)
        if not self._settle(id):
            return False
        self.counts.error(code)
        if self.mode < ANSWERS or self._takes_answer(encoded):
            self._solid(new_answer(ERROR, id), encoded)
        return True

    cdef int _settle(self, long long id) except -1:
        """This id is being answered. 0: it was before."""
        if ids_drop(&self.unanswered, id) or ids_drop(&self.asides, id):
            self.counts.open_ids -= 1
            return 1
        self.counts.late += 1
        return 0

    cdef void _forget_refusals(self) noexcept:
        """The connection they were meant for has gone."""
        if self.refusals is not None:
            self.counts.refusals_dropped += len(self.refusals)
            self.counts.refusals_due -= len(self.refusals)
            self.refusals = None

    cdef void _forget_ids(self) noexcept:
        """The end: what was accepted and has no answer gets none."""
        cdef Py_ssize_t open_ids = ids_count(&self.unanswered) + ids_count(&self.asides)
        self.counts.open_ids -= open_ids
        self.counts.forgotten += open_ids
        ids_clear(&self.unanswered)
        ids_clear(&self.asides)

    def _refusal(self, bytes encoded):
        """Say without a number what a frame without id earned; nobody may be there to hear it."""
        self.counts.refusals += 1
        if self.mode == LIVE:
            if self.refusals is None:
                self.refusals = []
            if len(self.refusals) < MANY_REFUSALS:
                self.refusals.append(b'{"type":"gr:error","data":%b}' % encoded)
                self.counts.refusals_due += 1
                return True
        self.counts.refusals_dropped += 1
        return False

    cdef int _solid(self, Frame frame, object encoded) except -1:
        if type(encoded) is bytes:
            frame.payload = encoded
        else:
            frame.payload, frame.buffers = form(encoded, self.binary)
        self._append_solid(frame)
        return 0

    cdef void _append_solid(self, Frame frame) noexcept:
        frame.nbytes = PyBytes_GET_SIZE(<bytes>frame.payload) + size_of(frame.buffers) + ROOM
        self._append(frame)

    def _takes_answer(self, encoded):
        """Beyond the window: whether there is room for one more answer."""
        cdef Py_ssize_t size
        if self.mode == ANSWERS:
            size = len(form(encoded, False)[0])
            if self.solid_bytes + size + ROOM <= ANSWER_BYTES:
                return True
        self.counts.missed += 1
        return False

    cdef void _enter_mark(self) noexcept:
        """A snapshot is due."""
        self.counts.snapshots += 1
        self._append(new_mark())

    cdef void _append(self, Frame frame) noexcept:
        if self.tail is None:
            self.head = frame
        else:
            self.tail.next = frame
        self.tail = frame
        if frame.kind == PATCH:
            self.patch_bytes += frame.nbytes
        elif frame.kind == MARK:
            self.marked = True
        else:
            self.solid_bytes += frame.nbytes
        self.tally.total += frame.nbytes
        self.counts.unsent += 1

    cpdef committed(self, double now):
        """A commit is in: look at the limits, unless the transport is about to take it all."""
        if self.mode != LIVE or self.blocked:
            if self.quiet_since < 0 and self.head is not None:
                self.quiet_since = now
            self._check(now)
        if self.tally.total > self.tally.limit:
            self.tally.enforce(now)

    # -- what leaves ------------------------------------------------------------------------

    cpdef list take(self, double now, Py_ssize_t room):
        """What the transport may be handed now. ``room``: bytes it may still buffer; below 0: none.

        The frame that uses the room up is still handed over. Frames get their numbers here.
        """
        cdef list out = []
        cdef Frame frame
        cdef object data
        cdef Py_ssize_t before
        cdef bint plain = self.welcome is None and not self.binary
        if self.mode != LIVE:
            return out
        if room >= 0:
            before = room
            if self.welcome is not None:
                data, self.welcome = self.welcome, None
                self._put(<bytes>data, (), out, &room)
            if self.nack_due:
                self.nack_due = False
                self._put(b'{"type":"gr:nack","data":{"ack":%d}}' % self.ack, (), out, &room)
            if self.refusals is not None:
                for data in self.refusals:
                    self._put(<bytes>data, (), out, &room)
                self.counts.refusals_sent += len(self.refusals)
                self.counts.refusals_due -= len(self.refusals)
                self.refusals = None
            if self.pong_due:
                self.pong_due = False
                self._put(b'{"type":"gr:pong","data":{"seq":%d}}' % self.told(), (), out, &room)
            if self.ping_due:
                self.ping_due = False
                self._put(b'{"type":"gr:ping","data":{"seq":%d}}' % self.told(), (), out, &room)
            while self.cursor is not None and room >= 0:
                frame = self.cursor
                self.cursor = frame.next
                self.counts.resent += 1
                self._put(envelope(frame), frame.buffers, out, &room)
            while self.head is not None and room >= 0:
                if not self._hand_over(now, out, &room):
                    break
            if room < before:
                self.quiet_since = -1.0
        self.blocked = room < 0 and (self.head is not None or self.cursor is not None)
        if self.blocked and self.quiet_since < 0:
            self.quiet_since = now
        if self.first is not None:
            self._trim(now)
        if self.head is not None:
            self._check(now)
        if self.batching and len(out) > 1:
            if plain and not self.part_bytes:
                return [in_one(out)]
            return in_batches(out, self.part_bytes)
        return out

    cdef int _hand_over(self, double now, list out, Py_ssize_t* room) except -1:
        """Number the oldest unsent frame and hand it over. 0: it has to wait."""
        cdef Frame frame = self.head
        cdef Patch patch
        cdef bytes data
        cdef Py_ssize_t size
        if frame.kind == MARK:
            if not self._make_snapshot(frame):
                return 0
        elif frame.kind == PATCH and frame.payload is not None:
            patch = frame.payload
            if patch.holes is None:
                frame.payload = patch.text
            else:
                frame.payload, frame.buffers = form(patch, self.binary)
        # Out of the unsent log.
        self.head = frame.next
        if self.head is None:
            self.tail = None
        frame.next = None
        self.tally.total -= frame.nbytes
        self.counts.unsent -= 1
        if frame.kind == PATCH:
            self.patch_bytes -= frame.nbytes
        else:
            self.solid_bytes -= frame.nbytes
        if frame.payload is None:  # patches that cancelled out
            self.counts.cancelled_out += 1
            return 1
        # Its number, for good.
        self.seq += 1
        frame.seq = self.seq
        frame.sent_at = now
        data = envelope(frame)
        size = PyBytes_GET_SIZE(data) + size_of(frame.buffers)
        # Into the sent log.
        if size > KEEP_BYTES and frame.kind <= SNAPSHOT:
            self.base = frame.seq
            self.counts.unkept += 1
        else:
            self.counts.kept += 1
            frame.nbytes = size
            if self.last is None:
                self.first = frame
            else:
                self.last.next = frame
            self.last = frame
            self.sent_bytes += size
            self.tally.total += size
        self.counts.sent += 1
        self._put(data, frame.buffers, out, room)
        return 1

    cdef bint _make_snapshot(self, Frame mark) except -1:
        """Turn the mark at the head into a snapshot. False: not now."""
        cdef object made = self.snapshot()  # may push into this stream: the mark swallows patches
        if made is None or self.mode != LIVE or self.head is not mark:
            return False
        encoded, position = made
        become_snapshot(mark, encoded, self.binary)
        self.position = position
        self.marked = False
        return True

    cdef int _put(self, bytes data, tuple buffers, list out, Py_ssize_t* room) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if self.part_bytes and size > self.part_bytes:
            self.parted += 1
            out.extend(in_parts(data, buffers, self.parted, self.part_bytes))
        else:
            out.append(packet(data, buffers))
        size += size_of(buffers)
        self.counts.bytes_out += size
        room[0] -= size
        return 0

    # -- what is kept -----------------------------------------------------------------------

    def acknowledge(self, long long seq):
        """The client has applied all up to ``seq``. False: nobody ever sent it that much."""
        if seq > self.seq:
            return False
        while self.first is not None and self.first.seq <= seq:
            self._drop_first()
            self.counts.acknowledged += 1
        if seq > self.base:
            self.base = seq
        return True

    cdef void _drop_first(self) noexcept:
        cdef Frame frame = self.first
        self.first = frame.next
        if self.first is None:
            self.last = None
        if self.cursor is frame:
            self.cursor = frame.next
        self.base = frame.seq
        self.sent_bytes -= frame.nbytes
        self.tally.total -= frame.nbytes
        self.counts.kept -= 1
        frame.next = None

    cdef void _trim(self, double now) noexcept:
        """Forget the oldest sent frames beyond the limits; not those that go out again."""
        while self.first is not None and self.first is not self.cursor and (
            self.sent_bytes > self.log_bytes or self.first.sent_at + self.window <= now
        ):
            self._drop_first()
            self.counts.trimmed += 1

    cdef int _check(self, double now) except -1:
        """The limit of the unsent log: patches become a mark; then the consumer is too slow."""
        if self.patch_bytes + self.solid_bytes <= self.log_bytes:
            return 0
        if self.patch_bytes:
            self._unlink_patches(True)
        if self.solid_bytes > self.log_bytes and (
            self.solid_bytes > 4 * self.log_bytes
            or (self.quiet_since >= 0 and now - self.quiet_since >= self.dead)
        ):
            self.overflow(now)
        return 0

    def overflow(self, double now):
        """Events, signals and answers alone are too much. A link may close instead."""
        self.empty()

    def check(self, double now):
        """Look at the limits now: a deadline has come, or the transport has gone."""
        if self.first is not None:
            self._trim(now)
        if self.mode != LIVE or self.blocked:
            self._check(now)

    def collapse(self):
        """Put a mark in the place of all unsent patches."""
        if self.patch_bytes:
            self._unlink_patches(True)

    def release(self):
        """Forget what was sent: only the point from which a resume is possible moves.

        Not what goes out again just now.
        """
        while self.first is not None and self.first is not self.cursor:
            self._drop_first()
            self.counts.trimmed += 1

    def empty(self):
        """Lose everything. The next attach begins with a snapshot."""
        self._clear_unsent()
        self._clear_sent()
        self.broken = True
        self.counts.emptied += 1
        if self.mode < ANSWERS:
            self._enter_mark()

    cdef void _unlink_patches(self, bint mark) noexcept:
        """Take all patches out of the unsent log; put a mark where the first one was."""
        cdef Frame frame = self.head, following, kept = None
        self.head = None
        while frame is not None:
            following = frame.next
            frame.next = None
            if frame.kind == PATCH:
                self.tally.total -= frame.nbytes
                self.counts.unsent -= 1
                self.counts.collapsed += 1
                frame.nbytes = 0
                frame.payload = None
                if mark:
                    mark = False
                    self.marked = True
                    frame.kind = MARK
                    self.counts.snapshots += 1
                    self.counts.unsent += 1
            if frame.kind != PATCH:
                if kept is None:
                    self.head = frame
                else:
                    kept.next = frame
                kept = frame
            frame = following
        self.tail = kept
        self.patch_bytes = 0

    cdef void _clear_unsent(self) noexcept:
        cdef Frame frame = self.head, following
        self.head = self.tail = None
        while frame is not None:
            following = frame.next
            frame.next = None
            frame = following
            self.counts.unsent -= 1
            self.counts.lost_unsent += 1
        self.tally.total -= self.patch_bytes + self.solid_bytes
        self.patch_bytes = self.solid_bytes = 0
        self.marked = False
        self.quiet_since = -1.0

    cdef void _clear_sent(self) noexcept:
        cdef Frame frame = self.first, following
        self.first = self.last = self.cursor = None
        while frame is not None:
            following = frame.next
            frame.next = None
            frame = following
            self.counts.kept -= 1
            self.counts.lost_sent += 1
        self.tally.total -= self.sent_bytes
        self.sent_bytes = 0
        self.base = self.seq

    # -- coming and going -------------------------------------------------------------------

    def resume(self, long long seq):
        """Make the stream follow on what a client has applied. True: it goes on unchanged."""
        if not self.broken and self.base <= seq <= self.seq:
            self.acknowledge(seq)
            self.cursor = self.first
            return True
        self._renew(seq)
        return False

    def _renew(self, long long seq):
        """A snapshot first, then every kept solid frame above ``seq`` as if it were new.

        A client that comes back with the same ``seq`` has not heard of this, or lost what followed:
        it has to hear it again. So no resume is possible until the snapshot has been applied. At
        the very first attach nobody can have missed anything.
        """
        cdef Frame frame, following, unsent
        cdef bint marked = self.marked
        self._unlink_patches(False)
        unsent, self.head, self.tail = self.head, None, None
        frame, self.first, self.last, self.cursor = self.first, None, None, None
        self.tally.total -= self.sent_bytes + self.solid_bytes
        self.sent_bytes = self.solid_bytes = 0
        self.base = self.seq + self.met
        self.met = True
        self.broken = False
        if marked:  # the snapshot that was due anyway comes first now
            self._append(new_mark())
        else:
            self._enter_mark()
        while frame is not None:
            following = frame.next
            frame.next = None
            self.counts.kept -= 1
            if frame.seq <= seq:
                self.counts.acknowledged += 1
            elif frame.kind < EVENT:
                self.counts.superseded += 1
            else:
                self.counts.renewed += 1
                frame.seq = 0
                self._append_solid(frame)
            frame = following
        while unsent is not None:
            following = unsent.next
            unsent.next = None
            self.counts.unsent -= 1
            if unsent.kind >= EVENT:
                self._append(unsent)
            unsent = following

    def pending(self):
        """Accepted ids whose answer is still to come, or is in a frame that will go out."""
        cdef set ids = set()
        cdef Frame frame = self.cursor
        cdef Py_ssize_t at
        for at in range(self.unanswered.start, self.unanswered.end):
            ids.add(self.unanswered.items[at])
        for at in range(self.asides.start, self.asides.end):
            ids.add(self.asides.items[at])
        while frame is not None:
            if frame.id:
                ids.add(frame.id)
            frame = frame.next
        frame = self.head
        while frame is not None:
            if frame.id:
                ids.add(frame.id)
            frame = frame.next
        return sorted(ids)

    def go_live(self, bytes welcome not None, *, bint batching=False, Py_ssize_t part_bytes=0):
        """A connection is there: hand over the welcome, then the stream."""
        self.hold()
        self.welcome = welcome
        self.batching = batching
        self.part_bytes = part_bytes
        self.parted = 0
        self.quiet_since = -1.0
        self.mode = LIVE

    def hold(self):
        """Hand nothing over; what was due and has no number is forgotten."""
        if self.mode == LIVE:
            self.mode = HELD
        self.welcome = None
        self._forget_refusals()
        self.nack_due = self.pong_due = self.ping_due = False
        self.blocked = False

    def lapse(self):
        """The window has passed: lose everything and take nothing but answers from now on."""
        self.hold()
        self.mode = ANSWERS
        self.empty()

    def revive(self):
        """A client came back after the window."""
        if self.mode == ANSWERS:
            self.mode = HELD

    def shut(self):
        """The end: lose everything and take nothing."""
        self.hold()
        self.mode = SHUT
        self.empty()
        self._forget_ids()

    # -- unnumbered frames, and what the link asks ------------------------------------------

    cpdef accept(self, long long id, bint aside=False):
        """``id`` is ``ack + 1``: it is consumed and owed an answer. ``aside``: not in flight."""
        self.ack = id
        self.counts.accepted += 1
        self.counts.open_ids += 1
        if aside:
            ids_add(&self.asides, id)
        else:
            ids_add(&self.unanswered, id)

    def nack(self):
        self.nack_due = True

    def ping(self):
        self.ping_due = True

    def pong(self):
        self.pong_due = True

    def told(self):
        """The number of the last frame handed to this connection."""
        return self.seq if self.cursor is None else self.cursor.seq - 1

    def full_at(self):
        """When the consumer counts as slow if it takes nothing until then, or None."""
        if self.solid_bytes > self.log_bytes and self.quiet_since >= 0:
            return self.quiet_since + self.dead
        return None

    @property
    def unsent_bytes(self):
        return self.patch_bytes + self.solid_bytes

    def frames_held(self):
        """How many frames are unsent, and how many are sent and kept. Walks both logs."""
        cdef Frame frame
        cdef Py_ssize_t unsent = 0, kept = 0
        frame = self.head
        while frame is not None:
            unsent += 1
            frame = frame.next
        frame = self.first
        while frame is not None:
            kept += 1
            frame = frame.next
        return unsent, kept

    @property
    def unacknowledged(self):
        """Whether a frame that was sent waits for its acknowledgement."""
        return self.first is not None

    @property
    def waiting(self):
        """Whether take() may have something to hand over."""
        return self.mode == LIVE and (
            self.head is not None or self.cursor is not None or self.welcome is not None
            or self.nack_due or self.refusals is not None or self.pong_due or self.ping_due
        )

    @property
    def inflight(self):
        """How many accepted events have no answer yet."""
        return ids_count(&self.unanswered)

    @property
    def open_ids(self):
        """How many accepted ids have no answer yet."""
        return ids_count(&self.unanswered) + ids_count(&self.asides)
