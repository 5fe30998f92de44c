# cython: language_level=3
"""The text of values: buffers, JSON, the special forms, and back.

Who owns what: a Buf lives on the stack of the function that fills it; its memory comes from a small
store of spare blocks that is only touched with the GIL held.

Who may call what: everything here may be called from any thread. ``put_leaf``, ``put_tail``,
``put_key``, ``put_pointer`` and ``scan`` run no Python code of anybody's: whoever calls only these
between two of its own steps is atomic under the GIL. ``put_any`` calls encoders and is not.

Encoded text is UTF-8 JSON without spaces. Bytes-values leave a *hole* where the value of "$bytes"
goes: base64 on text links, the index of a buffer on binary ones.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_Substring
from libc.string cimport memcpy

import json
from base64 import b64decode, b64encode
from json.encoder import encode_basestring

from .errors import Unencodable
from .types import MAX_DEPTH as _MAX_DEPTH
from .types import Bytes, FileRef

try:
    import orjson
except ImportError:  # free-threaded CPython has no wheel of it: the standard library does
    orjson = None

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1
    unsigned long long PyLong_AsUnsignedLongLong(object value) except? 0xFFFFFFFFFFFFFFFF
    bint PyUnicode_IS_ASCII(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    Py_UCS4 PyUnicode_READ_CHAR(object text, Py_ssize_t index)
    object PyUnicode_FromObject(object text)

cdef object dumps = None if orjson is None else orjson.dumps
cdef object loads = json.loads if orjson is None else orjson.loads
cdef object default_encoder = None
cdef int LIMIT = _MAX_DEPTH
cdef type BytesType = Bytes
cdef type FileRefType = FileRef
cdef object bad_value = Unencodable


class TooDeep(ValueError):
    """A value is nested deeper than MAX_DEPTH, or contains itself."""


def set_default(encoder):
    """Install what turns values of unknown types into known ones (``greenroom.core.encode``)."""
    global default_encoder
    default_encoder = encoder


# ---------------------------------------------------------------- buffers

cdef enum:
    SPARES = 8
    SPARE_SIZE = 4096
    KEEP_SIZE = 65536

cdef char* spare[SPARES]
cdef Py_ssize_t spare_cap[SPARES]
cdef int spares = 0


cdef int buf_take(Buf* buf) except -1:
    global spares
    buf.len = 0
    if spares:
        spares -= 1
        buf.data = spare[spares]
        buf.cap = spare_cap[spares]
        return 0
    buf.data = <char*> PyMem_Malloc(SPARE_SIZE)
    buf.cap = SPARE_SIZE
    if buf.data == NULL:
        buf.cap = 0
        raise MemoryError
    return 0


cdef void buf_give(Buf* buf) noexcept:
    global spares
    if buf.data == NULL:
        return
    if spares < SPARES and buf.cap <= KEEP_SIZE:
        spare[spares] = buf.data
        spare_cap[spares] = buf.cap
        spares += 1
    else:
        PyMem_Free(buf.data)
    buf.data = NULL
    buf.cap = 0
    buf.len = 0


cdef int buf_grow(Buf* buf, Py_ssize_t more) except -1:
    cdef Py_ssize_t cap = buf.cap * 2
    cdef char* data
    if cap < buf.len + more:
        cap = buf.len + more
    if cap < 256:
        cap = 256
    data = <char*> PyMem_Realloc(buf.data, cap)
    if data == NULL:
        raise MemoryError
    buf.data = data
    buf.cap = cap
    return 0


cdef int buf_room(Buf* buf, Py_ssize_t more) except -1:
    if buf.cap - buf.len < more:
        return buf_grow(buf, more)
    return 0


cdef inline int put1(Buf* buf, char c) except -1:
    if buf.cap == buf.len:
        buf_grow(buf, 1)
    buf.data[buf.len] = c
    buf.len += 1
    return 0


cdef inline int put_n(Buf* buf, const char* data, Py_ssize_t size) except -1:
    if buf.cap - buf.len < size:
        buf_grow(buf, size)
    memcpy(buf.data + buf.len, data, size)
    buf.len += size
    return 0


cdef int put(Buf* buf, const char* data, Py_ssize_t size) except -1:
    return put_n(buf, data, size)


cdef inline int put_bytes(Buf* buf, bytes text) except -1:
    return put_n(buf, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


# ---------------------------------------------------------------- scalars

cdef bytes text_slow(str value):
    """The JSON text of a string, or None when it is not valid Unicode."""
    try:
        if dumps is not None:
            return dumps(value)
        return encode_basestring(value).encode()
    except (TypeError, ValueError):
        return None


cdef int put_str(Buf* buf, str value) except -1:
    """Write a string with its quotes: 1, or 0 and nothing when it is not valid Unicode."""
    cdef Py_ssize_t size
    cdef const char* data
    cdef bytes text
    if PyUnicode_IS_ASCII(value):
        size = PyUnicode_GET_LENGTH(value)
        data = <const char*> PyUnicode_DATA(value)
        if clean(data, size):
            if buf.cap - buf.len < size + 2:
                buf_grow(buf, size + 2)
            buf.data[buf.len] = c'"'
            memcpy(buf.data + buf.len + 1, data, size)
            buf.data[buf.len + size + 1] = c'"'
            buf.len += size + 2
            return 1
    text = text_slow(value)
    if text is None:
        return 0
    put_bytes(buf, text)
    return 1


cdef int put_int(Buf* buf, object value) except -1:
    """Write an int of 64 bits: 1, or 0 and nothing when it is larger."""
    cdef int overflow = 0
    cdef long long number = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef unsigned long long left
    if buf.cap - buf.len < 24:
        buf_grow(buf, 24)
    if overflow == 0:
        buf.len += digits(buf.data + buf.len, number)
        return 1
    if overflow < 0:
        return 0
    try:
        left = PyLong_AsUnsignedLongLong(value)
    except OverflowError:
        return 0
    # The top digit does not fit into a signed number: write it by itself.
    buf.len += digits(buf.data + buf.len, <long long> (left // 10))
    buf.data[buf.len] = c'0' + <char> (left % 10)
    buf.len += 1
    return 1


cdef int put_float(Buf* buf, double value, object boxed) except -1:
    cdef Py_ssize_t size
    if value - value != 0.0:  # infinite, or not a number
        return put_n(buf, b"null", 4)
    if buf.cap - buf.len < 24:
        buf_grow(buf, 24)
    size = short_float(buf.data + buf.len, value)
    if size:
        buf.len += size
        return 0
    if dumps is not None:
        return put_bytes(buf, dumps(boxed))
    return put_bytes(buf, float.__repr__(boxed).encode())


cdef int put_tail(Buf* buf, str value, Py_ssize_t start) except -1:
    """Write value[start:] as a JSON string: 1, or 0 and nothing when it is not valid Unicode."""
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(value) - start
    cdef const char* data
    if PyUnicode_IS_ASCII(value):
        data = <const char*> PyUnicode_DATA(value) + start
        if clean(data, size):
            buf_room(buf, size + 2)
            buf.data[buf.len] = c'"'
            memcpy(buf.data + buf.len + 1, data, size)
            buf.data[buf.len + size + 1] = c'"'
            buf.len += size + 2
            return 1
    return put_str(buf, PyUnicode_Substring(value, start, start + size))


cdef int put_key(Buf* buf, str key) except -1:
    """Write ``"key":``: 1, or 0 and nothing when the key is not valid Unicode."""
    if not put_str(buf, key):
        return 0
    put1(buf, c':')
    return 1


cdef int put_pointer(Buf* buf, bytes prefix, str key) except -1:
    """Write prefix, key escaped for a JSON Pointer, closing quote: 1, or 0 and nothing.

    There is room for one byte more then.
    """
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(key)
    cdef Py_ssize_t head = PyBytes_GET_SIZE(prefix)
    cdef const char* data
    cdef bytes text
    if PyUnicode_IS_ASCII(key):
        data = <const char*> PyUnicode_DATA(key)
        if clean_key(data, size):
            if buf.cap - buf.len < head + size + 2:
                buf_grow(buf, head + size + 2)
            memcpy(buf.data + buf.len, PyBytes_AS_STRING(prefix), head)
            memcpy(buf.data + buf.len + head, data, size)
            buf.data[buf.len + head + size] = c'"'
            buf.len += head + size + 1
            return 1
    text = text_slow(key.replace("~", "~0").replace("/", "~1"))
    if text is None:
        return 0
    put_n(buf, PyBytes_AS_STRING(prefix), head)
    put_n(buf, PyBytes_AS_STRING(text) + 1, PyBytes_GET_SIZE(text) - 1)
    buf_room(buf, 1)
    return 1


# ---------------------------------------------------------------- values

cdef inline bint special(str key) noexcept:
    """A key that a plain dict may not just show: private, or one of the protocol's own."""
    cdef Py_UCS4 first
    if PyUnicode_GET_LENGTH(key) == 0:
        return False
    first = PyUnicode_READ_CHAR(key, 0)
    return first == c'_' or first == c'$'


cdef Plain scan(object value, int room) noexcept:
    """How plain a value is, with ``room`` levels of nesting left. Runs no Python code."""
    cdef type kind = type(value)
    cdef Plain worst = DIRECT, one
    cdef Py_ssize_t i, at = 0
    cdef PyObject* k
    cdef PyObject* v
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return DIRECT
    if kind is list:
        if room <= 0:
            return OPAQUE
        i = 0
        while i < PyList_GET_SIZE(value):
            one = scan(<object> PyList_GET_ITEM(value, i), room - 1)
            if one == OPAQUE:
                return OPAQUE
            if one < worst:
                worst = one
            i += 1
        return worst
    if kind is dict:
        if room <= 0:
            return OPAQUE
        while PyDict_Next(value, &at, &k, &v):
            if type(<object> k) is not str:
                return OPAQUE
            if special(<str> k):
                worst = REWRITE
            one = scan(<object> v, room - 1)
            if one == OPAQUE:
                return OPAQUE
            if one < worst:
                worst = one
        return worst
    if kind is tuple:
        if room <= 0:
            return OPAQUE
        for i in range(PyTuple_GET_SIZE(value)):
            if scan(<object> PyTuple_GET_ITEM(value, i), room - 1) == OPAQUE:
                return OPAQUE
        return REWRITE
    return OPAQUE


cdef int put_leaf(Buf* buf, object value, int room) except -1:
    """Write a plain value: 1, or 0 and nothing when it is not plain or has no form.

    Runs no Python code. ``room`` is how many levels of nesting are left.
    """
    cdef type kind = type(value)
    cdef Py_ssize_t mark
    cdef Plain how
    if kind is str:
        return put_str(buf, <str> value)
    if kind is int:
        return put_int(buf, value)
    if value is None:
        put_n(buf, b"null", 4)
        return 1
    if value is True:
        put_n(buf, b"true", 4)
        return 1
    if value is False:
        put_n(buf, b"false", 5)
        return 1
    if kind is float:
        put_float(buf, <double> value, value)
        return 1
    if kind is not list and kind is not dict and kind is not tuple:
        return 0
    how = scan(value, room)
    if how == OPAQUE:
        return 0
    if how == DIRECT and dumps is not None:
        try:
            put_bytes(buf, dumps(value))
            return 1
        except (TypeError, ValueError):  # a big int or a string that is no Unicode
            pass
    mark = buf.len
    try:
        put_any(buf, value, None, None, room)
    except (TypeError, ValueError):
        buf.len = mark
        return 0
    return 1


cdef int put_items(Buf* buf, list items, object default, list holes, int room) except -1:
    cdef bint first = True
    if room <= 0:
        raise TooDeep
    put1(buf, c'[')
    for item in items:
        if not first:
            put1(buf, c',')
        first = False
        put_any(buf, item, default, holes, room - 1)
    put1(buf, c']')
    return 0


cdef int put_dict(Buf* buf, dict pairs, object default, list holes, int room) except -1:
    cdef bint first = True
    cdef bint wrap
    cdef str key
    if room <= 0:
        raise TooDeep
    wrap = "$bytes" in pairs or "$dict" in pairs or "$file" in pairs
    if wrap:
        put_n(buf, b'{"$dict":', 9)
    put1(buf, c'{')
    for name, value in pairs.items():
        if not isinstance(name, str):
            raise bad_value(f"keys must be strings, not {type(name).__name__} ({name!r})")
        key = exact(name)
        if PyUnicode_GET_LENGTH(key) and PyUnicode_READ_CHAR(key, 0) == c'_':
            continue
        if not first:
            put1(buf, c',')
        first = False
        if not put_key(buf, key):
            raise bad_value(f"the key {key!r} is not valid Unicode")
        put_any(buf, value, default, holes, room - 1)
    put1(buf, c'}')
    if wrap:
        put1(buf, c'}')
    return 0


cdef str exact(object text):
    return <str> text if type(text) is str else <str> PyUnicode_FromObject(text)


cdef int put_blob(Buf* buf, object value, list holes) except -1:
    """Write ``{"$bytes":,"mime":...}`` and remember the hole."""
    mime = getattr(value, "mime", "") if isinstance(value, BytesType) else ""
    name = getattr(value, "name", "") if isinstance(value, BytesType) else ""
    raw = value if type(value) is bytes else bytes(value)
    if holes is None:
        raise bad_value("bytes cannot be encoded here")
    put_n(buf, b'{"$bytes":', 10)
    holes.append((buf.len, raw))
    if mime:
        put_n(buf, b',"mime":', 8)
        put_any(buf, str(mime), None, None, 1)
    if name:
        put_n(buf, b',"name":', 8)
        put_any(buf, str(name), None, None, 1)
    put1(buf, c'}')
    return 0


cdef int put_file(Buf* buf, object ref) except -1:
    """Write ``{"$file":...}``."""
    put_n(buf, b'{"$file":', 9)
    put_any(buf, str(ref[0]), None, None, 1)
    put_n(buf, b',"name":', 8)
    put_any(buf, str(ref[1]), None, None, 1)
    put_n(buf, b',"mime":', 8)
    put_any(buf, str(ref[2]), None, None, 1)
    put_n(buf, b',"size":', 8)
    put_any(buf, int(ref[3]), None, None, 1)
    put1(buf, c'}')
    return 0


cdef int put_any(Buf* buf, object value, object default, list holes, int room) except -1:
    """Write any value; call encoders where needed. Raises Unencodable or TooDeep.

    Containers are copied before they are walked: an encoder, or another thread while it runs, may
    change them.
    """
    cdef type kind = type(value)
    if kind is str:
        if put_str(buf, <str> value):
            return 0
        raise bad_value("a str with lone surrogates is not valid Unicode and cannot be encoded")
    if kind is int:
        if not put_int(buf, value):
            put1(buf, c'"')
            put_bytes(buf, str(value).encode())
            put1(buf, c'"')
        return 0
    if value is None or kind is bool or kind is float:
        put_leaf(buf, value, 0)
        return 0
    if kind is list:
        return put_items(buf, list(<list> value), default, holes, room)
    if kind is dict:
        return put_dict(buf, dict(<dict> value), default, holes, room)
    if kind is tuple or kind is set or kind is frozenset:
        return put_items(buf, list(value), default, holes, room)
    if kind is bytes or kind is bytearray or kind is memoryview or kind is BytesType:
        return put_blob(buf, value, holes)
    if kind is FileRefType:
        return put_file(buf, value)
    if default is not None:
        other = default(value)
        if other is not value:
            if room <= 0:
                raise TooDeep
            return put_any(buf, other, default, holes, room - 1)
    if isinstance(value, str):
        return put_any(buf, exact(value), default, holes, room)
    if isinstance(value, int):
        return put_any(buf, int.__add__(value, 0), default, holes, room)
    if isinstance(value, float):
        return put_any(buf, float.__pos__(value), default, holes, room)
    if isinstance(value, (bytes, bytearray)):
        return put_blob(buf, value, holes)
    if isinstance(value, dict):
        return put_dict(buf, dict(value), default, holes, room)
    if isinstance(value, (list, tuple, set, frozenset)):
        return put_items(buf, list(value), default, holes, room)
    raise no_form(value)


cdef object no_form(object value):
    kind = type(value)
    error = bad_value(
        f"{kind.__module__}.{kind.__qualname__} has no form on the wire: register an encoder, "
        f"gr.encoders[{kind.__qualname__}] = function"
    )
    error.kind = kind.__name__
    return error


cdef str deep_path(object value):
    """Names the first keys on the way to what is nested too deep."""
    # Depth first, without recursion; what it holds is one iterator for each level.
    cdef list ways = [inside(value)]
    cdef list keys = []
    cdef object key, found
    while ways:
        for key, found in ways[len(ways) - 1]:
            if isinstance(found, (dict, list, tuple)):
                keys.append(key)
                if len(keys) >= LIMIT:
                    return "".join([f"[{key!r}]" for key in keys[:6]]) + "..."
                ways.append(inside(found))
                break
        else:
            ways.pop()
            if keys:
                keys.pop()
    return ""


cdef object inside(object value):
    """Keys and values of a container, one after the other, without private ones."""
    if isinstance(value, dict):
        return iter([(k, v) for k, v in value.items() if not str(k).startswith("_")])
    return enumerate(value) if isinstance(value, (list, tuple)) else iter(())


# ---------------------------------------------------------------- encoded values

@cython.final
cdef class Segmented:
    """JSON text that holds bytes-values: ``pieces`` of text and the ``buffers`` between them."""

    def __init__(self, tuple pieces, tuple buffers):
        if len(pieces) != len(buffers) + 1:
            raise ValueError("there must be one piece more than buffers")
        self.pieces = pieces
        self.buffers = buffers
        self.nbytes = sum([len(p) for p in pieces]) + sum([base64_size(len(b)) for b in buffers])

    def __len__(self):
        return self.nbytes

    def __eq__(self, other):
        if not isinstance(other, Segmented):
            return NotImplemented
        return self.pieces == other.pieces and self.buffers == other.buffers

    def __hash__(self):
        return hash((self.pieces, self.buffers))

    def __repr__(self):
        return f"Segmented({self.pieces!r}, {len(self.buffers)} buffers)"


cdef Py_ssize_t base64_size(Py_ssize_t size) noexcept:
    return (size + 2) // 3 * 4 + 2


cdef object buf_finish(Buf* buf, list holes):
    """bytes, or a Segmented when there are holes. The buffer stays the caller's."""
    cdef Py_ssize_t at = 0
    if not holes:
        return PyBytes_FromStringAndSize(buf.data, buf.len)
    pieces = []
    for offset, _ in holes:
        pieces.append(PyBytes_FromStringAndSize(buf.data + at, <Py_ssize_t> offset - at))
        at = offset
    pieces.append(PyBytes_FromStringAndSize(buf.data + at, buf.len - at))
    return Segmented(tuple(pieces), tuple([raw for _, raw in holes]))


def encode_value(value, default=None):
    """The JSON text of a value: bytes, or a Segmented when it holds bytes-values."""
    cdef Buf buf
    cdef list holes = []
    buf.data = NULL
    buf_take(&buf)
    try:
        if not put_leaf(&buf, value, LIMIT):
            buf.len = 0
            put_any(&buf, value, default_encoder if default is None else default, holes, LIMIT)
        return buf_finish(&buf, holes)
    except TooDeep:
        raise ValueError(
            f"nested deeper than {LIMIT}, or containing itself, at {deep_path(value)}"
        ) from None
    finally:
        buf_give(&buf)


def is_plain(value):
    """True when encoding the value runs no Python code: scalars, lists, tuples, dicts of such."""
    return scan(value, LIMIT) != OPAQUE


def render(encoded, bint binary, list buffers):
    """Final JSON text. With ``binary``, appends the value's buffers to ``buffers``."""
    cdef Segmented parts
    if type(encoded) is bytes:
        return encoded
    parts = encoded
    return splice(parts.pieces, parts.buffers, binary, buffers)


cdef bytes splice(tuple pieces, tuple blobs, bint binary, list buffers):
    out = [pieces[0]]
    for i in range(len(blobs)):
        if binary:
            out.append(str(len(buffers)).encode())
            buffers.append(blobs[i])
        else:
            out.append(b'"' + b64encode(blobs[i]) + b'"')
        out.append(pieces[i + 1])
    return b"".join(out)


# ---------------------------------------------------------------- decoding

def decode_value(value, buffers=()):
    """Turn a parsed wire value into what handlers see: ``$bytes`` into Bytes, ``$file`` into
    FileRef, ``$dict`` unwrapped.

    Raises ValueError when it is nested deeper than MAX_DEPTH or a special form is malformed.
    """
    return undo_forms(value, buffers, LIMIT, True)


cdef int survey(object value, int level, int* deepest) except -1:
    """1 when special forms are in the value; notes how deep it is."""
    cdef int found = 0
    if level > deepest[0]:
        deepest[0] = level
    if level > 2 * LIMIT:  # each level may be wrapped once in "$dict"
        raise TooDeep
    if type(value) is dict:
        if "$bytes" in <dict> value or "$dict" in <dict> value or "$file" in <dict> value:
            found = 1
        for item in (<dict> value).values():
            if type(item) is dict or type(item) is list:
                found |= survey(item, level + 1, deepest)
    else:
        for item in <list> value:
            if type(item) is dict or type(item) is list:
                found |= survey(item, level + 1, deepest)
    return found


cdef object undo_forms(object value, object buffers, int room, bint blobs):
    cdef int deepest = 0
    if type(value) is not dict and type(value) is not list:
        return value
    try:
        if survey(value, 1, &deepest):
            return rewrite(value, buffers, room, blobs, False)
        if deepest > room:
            raise TooDeep
        return value
    except TooDeep:
        raise ValueError(f"nested deeper than {LIMIT} at {deep_path(value)}") from None


cdef object rewrite(object value, object buffers, int room, bint blobs, bint literal):
    cdef dict pairs
    if type(value) is list:
        if room <= 0:
            raise TooDeep
        return [rewrite(item, buffers, room - 1, blobs, False) for item in <list> value]
    if type(value) is not dict:
        return value
    pairs = value
    if not literal:
        if "$dict" in pairs:
            inner = pairs["$dict"]
            if len(pairs) != 1 or type(inner) is not dict:
                raise ValueError('"$dict" must be the only key and hold an object')
            return rewrite(inner, buffers, room, blobs, True)
        if "$bytes" in pairs:
            return blob(pairs, buffers) if blobs else value
        if "$file" in pairs:
            return file_ref(pairs) if blobs else value
    if room <= 0:
        raise TooDeep
    return {key: rewrite(item, buffers, room - 1, blobs, False) for key, item in pairs.items()}


def holds_file(value):
    """Whether a decoded value names a file that travels beside the stream."""
    cdef type kind = type(value)
    if kind is FileRefType:
        return True
    if kind is dict:
        for item in (<dict> value).values():
            if holds_file(item):
                return True
    elif kind is list:
        for item in <list> value:
            if holds_file(item):
                return True
    return False


cdef object file_ref(dict pairs):
    name, mime, size = pairs.get("name", ""), pairs.get("mime", ""), pairs.get("size", 0)
    if (
        type(pairs["$file"]) is not str or type(name) is not str or type(mime) is not str
        or type(size) is not int or set(pairs) - {"$file", "name", "mime", "size"}
    ):
        raise ValueError('"$file" is an id, and goes with "name", "mime" (strings) and "size"')
    return FileRefType(pairs["$file"], name, mime, size)


cdef object blob(dict pairs, object buffers):
    what = pairs["$bytes"]
    mime = pairs.get("mime", "")
    name = pairs.get("name", "")
    if type(mime) is not str or type(name) is not str or set(pairs) - {"$bytes", "mime", "name"}:
        raise ValueError('"$bytes" goes with "mime" and "name" (strings) and nothing else')
    if type(what) is int:
        if not 0 <= what < len(buffers):
            raise ValueError(f'"$bytes" names buffer {what}, but {len(buffers)} came along')
        return BytesType(buffers[what], mime, name)
    if type(what) is not str:
        raise ValueError('"$bytes" must be base64 text or the index of a buffer')
    try:
        return BytesType(b64decode(what, validate=True), mime, name)
    except ValueError:
        raise ValueError('"$bytes" is not valid base64') from None
