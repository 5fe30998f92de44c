# cython: language_level=3, auto_pickle=False
"""One numbered frame, and how it becomes bytes. Compiled code only: nothing here is for Python.

Who owns what. A :class:`Frame` belongs to one log of one stream, and is touched on the app's loop
only. Its payload is immutable and shared with the frames of other streams; the heads of envelopes
are made once per name and kept in two small tables. An envelope is joined by copying its pieces:
head, number, id, payload, end.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from libc.string cimport memcpy

from ._patch cimport Patch

from ._patch import render
from .packet import dumps
from .types import Packet

__all__ = ["Frame"]

cdef extern from "Python.h":
    object PyType_GenericAlloc(PyTypeObject* type, Py_ssize_t items)
    void PyObject_GC_UnTrack(void*) noexcept

cdef bytes STATE_HEAD = b'{"type":"gr:state","seq":'
cdef bytes SNAPSHOT_HEAD = b'{"type":"gr:snapshot","seq":'
cdef bytes RESULT_HEAD = b'{"type":"gr:result","seq":'
cdef bytes ERROR_HEAD = b'{"type":"gr:error","seq":'
cdef bytes SIGNAL_HEAD = b'{"type":"gr:signal","seq":'
cdef bytes DATA = b',"data":'
cdef bytes NULL_TEXT = b"null"
cdef bytes BRACE = b"}"
cdef bytes TWO_BRACES = b"}}"

cdef type _Packet = Packet
cdef dict _heads = {}                      # event type -> head of its frames
cdef dict _mids = {}                # signal name -> what stands before its data
cdef int MANY_NAMES = 1024


@cython.final
@cython.freelist(256)
@cython.no_gc
cdef class Frame:
    """One frame of a log. Holds bytes, patches and its neighbour: nothing can close a circle."""

    def __cinit__(self):
        self.buffers = ()


cdef Frame new_frame(Kind kind, bytes head, bytes mid, bytes end):
    cdef Frame frame = Frame.__new__(Frame)
    frame.kind = kind
    frame.head = head
    frame.mid = mid
    frame.end = end
    return frame


cdef Frame new_patch(object patch):
    cdef Frame frame = new_frame(PATCH, STATE_HEAD, DATA, BRACE)
    frame.payload = patch
    return frame


cdef Frame new_mark():
    return new_frame(MARK, SNAPSHOT_HEAD, DATA, BRACE)


cdef int become_snapshot(Frame mark, object encoded, bint binary) except -1:
    mark.payload, mark.buffers = form(encoded, binary)
    mark.kind = SNAPSHOT
    mark.head = SNAPSHOT_HEAD  # it may have been a patch
    return 0


cdef Frame new_event(str type, bytes end):
    cdef bytes head = <bytes>_heads.get(type)
    if head is None:
        head = b'{"type":%b,"seq":' % dumps(type)
        if len(_heads) >= MANY_NAMES:
            _heads.clear()
        _heads[type] = head
    return new_frame(EVENT, head, DATA, end)


cdef Frame new_signal(str name):
    cdef bytes mid = <bytes>_mids.get(name)
    if mid is None:
        mid = b',"data":{"name":%b,"data":' % dumps(name)
        if len(_mids) >= MANY_NAMES:
            _mids.clear()
        _mids[name] = mid
    return new_frame(SIGNAL, SIGNAL_HEAD, mid, TWO_BRACES)


cdef Frame new_answer(Kind kind, long long id):
    cdef Frame frame = new_frame(kind, RESULT_HEAD if kind == RESULT else ERROR_HEAD, DATA, BRACE)
    frame.id = id
    return frame


# The form of the last payload that was no plain bytes, so that a broadcast forms it once.
cdef object _formed_from = None
cdef bint _formed_binary = False
cdef tuple _formed = None


cdef tuple form(object encoded, bint binary):
    global _formed_from, _formed_binary, _formed
    cdef list buffers
    cdef bytes data
    if type(encoded) is bytes:
        return encoded, ()
    if encoded is None:
        return NULL_TEXT, ()
    if encoded is not _formed_from or binary != _formed_binary:
        buffers = []
        if isinstance(encoded, Patch):
            data = encoded.render(binary, buffers)
        else:
            data = render(encoded, binary, buffers)
        _formed_from, _formed_binary, _formed = encoded, binary, (data, tuple(buffers))
    return _formed


cdef Py_ssize_t size_of(tuple buffers) noexcept:
    cdef Py_ssize_t size = 0
    for buffer in buffers:
        size += PyBytes_GET_SIZE(<bytes>buffer)
    return size


@cython.cdivision(True)  # by ten
cdef inline int _digits(long long number, char* out) noexcept:
    """Write a positive number; return how many digits it has."""
    cdef char turned[20]
    cdef int n = 0, i
    cdef unsigned long long rest = <unsigned long long>number
    while True:
        turned[n] = <char>(48 + rest % 10)
        n += 1
        rest //= 10
        if rest == 0:
            break
    for i in range(n):
        out[i] = turned[n - 1 - i]
    return n


cdef inline char* _copy(char* to, bytes what) noexcept:
    cdef Py_ssize_t n = PyBytes_GET_SIZE(what)
    memcpy(to, PyBytes_AS_STRING(what), n)
    return to + n


cdef bytes envelope(Frame frame):
    """The frame's bytes: head, number, id, payload, end."""
    cdef char seq[20]
    cdef char id[20]
    cdef int seq_digits = _digits(frame.seq, seq), id_digits = 0
    cdef bytes payload = <bytes>frame.payload
    cdef Py_ssize_t size = (
        PyBytes_GET_SIZE(frame.head) + seq_digits + PyBytes_GET_SIZE(frame.mid)
        + PyBytes_GET_SIZE(payload) + PyBytes_GET_SIZE(frame.end)
    )
    if frame.id:
        id_digits = _digits(frame.id, id)
        size += 6 + id_digits
    cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
    cdef char* at = _copy(PyBytes_AS_STRING(data), frame.head)
    memcpy(at, seq, seq_digits)
    at += seq_digits
    if id_digits:
        memcpy(at, b',"id":', 6)
        at += 6
        memcpy(at, id, id_digits)
        at += id_digits
    at = _copy(at, frame.mid)
    at = _copy(at, payload)
    _copy(at, frame.end)
    return data


cdef object packet(bytes data, tuple buffers):
    """A Packet, as Packet(data, buffers) makes it, at a quarter of the price.

    It holds bytes and a tuple of bytes, nothing that could close a circle: the collector need not
    look at it, and a burst of packets does not make it look at everything else.
    """
    cdef object made = PyType_GenericAlloc(<PyTypeObject*>_Packet, 2)
    Py_INCREF(data)
    PyTuple_SET_ITEM(made, 0, data)
    Py_INCREF(buffers)
    PyTuple_SET_ITEM(made, 1, buffers)
    PyObject_GC_UnTrack(<void*>made)
    return made
