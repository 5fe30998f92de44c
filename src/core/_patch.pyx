# cython: language_level=3
"""Patches and the text of values.

Who owns what: a Patch owns its text and its table of operations, both made once and never changed,
so any thread may read it. A Draft and a Buf live on the stack of the function that fills them; their
memory comes from a small store of spare blocks that is only touched with the GIL held.

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
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

import json
from base64 import b64decode, b64encode
from json.encoder import encode_basestring
from operator import itemgetter

from .errors import Unencodable
from .types import MAX_DEPTH, Bytes

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
cdef int LIMIT = MAX_DEPTH
cdef type BytesType = Bytes
cdef object bad_value = Unencodable


class TooDeep(ValueError):
    """A value is nested deeper than MAX_DEPTH, or contains itself."""


def set_default(encoder):
    """Install what turns values of types unknown here into known ones (``greenroom.core.encode``)."""
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

cdef extern from *:
    """
    /* True when none of the eight bytes is below 0x20, a quote or a backslash (all are ASCII). */
    static inline int gr_clean8(const char *p) {
        uint64_t x, y, z;
        memcpy(&x, p, 8);
        y = x ^ 0x2222222222222222ULL;
        z = x ^ 0x5C5C5C5C5C5C5C5CULL;
        return 0 == (0x8080808080808080ULL & (
            (x - 0x2020202020202020ULL) | (y - 0x0101010101010101ULL) | (z - 0x0101010101010101ULL)));
    }
    static inline int gr_clean(const char *p, Py_ssize_t n) {
        while (n >= 8) { if (!gr_clean8(p)) return 0; p += 8; n -= 8; }
        while (n-- > 0) {
            unsigned char c = (unsigned char)*p++;
            if (c < 0x20 || c == '"' || c == '\\\\') return 0;
        }
        return 1;
    }
    /* Write a number's decimal digits; at most 20 characters. */
    static inline Py_ssize_t gr_digits(char *out, long long number) {
        unsigned long long left = number < 0 ? 0ULL - (unsigned long long)number : (unsigned long long)number;
        char *start = out;
        unsigned long long power = 10000;
        int count = 4, i;
        if (number < 0) *out++ = '-';
        if (left < 10000) {
            count = left < 10 ? 1 : left < 100 ? 2 : left < 1000 ? 3 : 4;
        } else {
            while (count < 20 && left >= power) { count++; if (count < 20) power *= 10; }
        }
        for (i = count - 1; i > 0; i--) { out[i] = (char)('0' + left % 10); left /= 10; }
        out[0] = (char)('0' + left);
        return out + count - start;
    }
    /* Write a float of at most three decimals and 14 digits; 0 for others. Decimals of up to 15
       digits that parse to one double are one decimal: so this is the shortest form there is. */
    static inline Py_ssize_t gr_short_float(char *out, double value) {
        char *start = out;
        double scaled = value * 1000.0;
        long long number, rest;
        if (!(scaled < 1e14 && scaled > -1e14) || value == 0.0) return 0;
        number = (long long)scaled;
        if ((double)number != scaled || (double)number / 1000.0 != value) return 0;
        if (number < 0) { *out++ = '-'; number = -number; }
        out += gr_digits(out, number / 1000);
        rest = number % 1000;
        *out++ = '.';
        *out++ = (char)('0' + rest / 100);
        if (rest % 100) {
            *out++ = (char)('0' + rest / 10 % 10);
            if (rest % 10) *out++ = (char)('0' + rest % 10);
        }
        return out - start;
    }
    /* Copy a key; 0 when a character of it must be escaped. */
    static inline int gr_copy_key(char *out, const char *p, Py_ssize_t n) {
        Py_ssize_t i;
        for (i = 0; i < n; i++) {
            unsigned char c = (unsigned char)p[i];
            if (c < 0x20 || c == '"' || c == '\\\\' || c == '~' || c == '/') return 0;
            out[i] = (char)c;
        }
        return 1;
    }
    static inline int gr_clean_key(const char *p, Py_ssize_t n) {
        while (n-- > 0) {
            unsigned char c = (unsigned char)*p++;
            if (c < 0x20 || c == '"' || c == '\\\\' || c == '~' || c == '/') return 0;
        }
        return 1;
    }
    """
    int gr_clean(const char* p, Py_ssize_t n) noexcept
    int gr_clean_key(const char* p, Py_ssize_t n) noexcept
    int gr_copy_key(char* out, const char* p, Py_ssize_t n) noexcept
    Py_ssize_t gr_digits(char* out, long long number) noexcept
    Py_ssize_t gr_short_float(char* out, double value) noexcept


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
        if gr_clean(data, size):
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
        buf.len += gr_digits(buf.data + buf.len, number)
        return 1
    if overflow < 0:
        return 0
    try:
        left = PyLong_AsUnsignedLongLong(value)
    except OverflowError:
        return 0
    # The top digit does not fit into a signed number: write it by itself.
    buf.len += gr_digits(buf.data + buf.len, <long long> (left // 10))
    buf.data[buf.len] = c'0' + <char> (left % 10)
    buf.len += 1
    return 1


cdef int put_float(Buf* buf, double value, object boxed) except -1:
    cdef Py_ssize_t size
    if value - value != 0.0:  # infinite, or not a number
        return put_n(buf, b"null", 4)
    if buf.cap - buf.len < 24:
        buf_grow(buf, 24)
    size = gr_short_float(buf.data + buf.len, value)
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
        if gr_clean(data, size):
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
        if gr_clean_key(data, size):
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
    wrap = "$bytes" in pairs or "$dict" in pairs
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


cdef int put_any(Buf* buf, object value, object default, list holes, int room) except -1:
    """Write any value; call encoders where needed. Raises Unencodable or TooDeep.

    Containers are copied before they are walked: an encoder, or another thread while it runs, may
    change them.
    """
    cdef type kind = type(value)
    if kind is str:
        if put_str(buf, <str> value):
            return 0
        raise bad_value("a str that is not valid Unicode (it has lone surrogates) cannot be encoded")
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
    if default is not None:
        try:
            other = default(value)
        except bad_value:
            other = value
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
    cdef object found
    # Depth first, without recursion: (value, key) pairs with their depth.
    stack = [(value, ())]
    while stack:
        found, keys = stack.pop()
        if len(keys) > LIMIT:
            shown = "".join(f"[{key!r}]" for key in keys[:6])
            return f"{shown}..."
        if isinstance(found, dict):
            stack.extend((item, (*keys, key)) for key, item in found.items())
        elif isinstance(found, (list, tuple)):
            stack.extend((item, (*keys, i)) for i, item in enumerate(found))
    return ""


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
    for offset, raw in holes:
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
    """Turn a parsed wire value into what handlers see: ``$bytes`` into Bytes, ``$dict`` unwrapped.

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
        if "$bytes" in <dict> value or "$dict" in <dict> value:
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
    if room <= 0:
        raise TooDeep
    return {key: rewrite(item, buffers, room - 1, blobs, False) for key, item in pairs.items()}


cdef object blob(dict pairs, object buffers):
    what = pairs["$bytes"]
    mime = pairs.get("mime", "")
    name = pairs.get("name", "")
    if type(mime) is not str or type(name) is not str or set(pairs) - {"$bytes", "mime", "name"}:
        raise ValueError('"$bytes" goes with "mime" and "name", which are strings, and nothing else')
    if type(what) is int:
        if not 0 <= what < len(buffers):
            raise ValueError(f'"$bytes" names buffer {what}, but {len(buffers)} came with the frame')
        return BytesType(buffers[what], mime, name)
    if type(what) is not str:
        raise ValueError('"$bytes" must be base64 text or the index of a buffer')
    try:
        return BytesType(b64decode(what, validate=True), mime, name)
    except ValueError:
        raise ValueError('"$bytes" is not valid base64') from None


# ---------------------------------------------------------------- drafts

cdef Op* spare_ops = NULL
cdef Py_ssize_t spare_ops_room = 0


cdef int draft_begin(Draft* draft) except -1:
    draft.part[SET].data = NULL
    draft.part[DELETE].data = NULL
    draft.part[APPEND].data = NULL
    draft.part[SET].len = draft.part[DELETE].len = draft.part[APPEND].len = 0
    draft.part[SET].cap = draft.part[DELETE].cap = draft.part[APPEND].cap = 0
    draft.count = 0
    draft.room = 0
    draft.ops = NULL
    buf_take(&draft.part[SET])
    put_n(&draft.part[SET], b'{"=":{', 6)
    return 0


cdef void draft_end(Draft* draft) noexcept:
    global spare_ops, spare_ops_room
    buf_give(&draft.part[SET])
    buf_give(&draft.part[DELETE])
    buf_give(&draft.part[APPEND])
    if draft.ops != NULL:
        if spare_ops == NULL and draft.room <= 1024:
            spare_ops = draft.ops
            spare_ops_room = draft.room
        else:
            PyMem_Free(draft.ops)
        draft.ops = NULL


cdef int draft_op(
    Draft* draft, int kind, Py_ssize_t path, Py_ssize_t value, bint created
) except -1:
    """Note the operation just written to its part: path from ``path``, value from ``value``.

    The caller has written path, colon, value, and a comma follows here.
    """
    global spare_ops, spare_ops_room
    cdef Op* op
    cdef Op* more
    cdef Buf* part = &draft.part[kind]
    if draft.count == draft.room:
        if draft.ops == NULL and spare_ops != NULL:
            draft.ops = spare_ops
            draft.room = spare_ops_room
            spare_ops = NULL
        else:
            more = <Op*> PyMem_Realloc(draft.ops, (draft.room * 2 + 16) * sizeof(Op))
            if more == NULL:
                raise MemoryError
            draft.ops = more
            draft.room = draft.room * 2 + 16
    op = &draft.ops[draft.count]
    op.kind = kind
    op.created = created
    op.path = path
    if kind == DELETE:
        op.path_len = part.len - path
        op.value = op.value_len = 0
    else:
        op.path_len = value - 1 - path
        op.value = value
        op.value_len = part.len - value
    draft.count += 1
    return put1(part, c',')


cdef int draft_scalar(Draft* draft, bytes prefix, str key, object value, bint created) except -1:
    """Write and note the set of a simple scalar in one go: 1, or 0 and nothing.

    The common case of a patch: one check for room, then straight on.
    """
    cdef Buf* part = &draft.part[SET]
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(key)
    cdef Py_ssize_t head = PyBytes_GET_SIZE(prefix)
    cdef Py_ssize_t length = 0
    cdef const char* data = NULL
    cdef type kind = type(value)
    cdef long long number = 0
    cdef int overflow = 0
    cdef char* out
    cdef char* start
    cdef Op* op
    if not PyUnicode_IS_ASCII(key) or draft.count == draft.room:
        return 0
    if kind is int:
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            return 0
    elif kind is str:
        if not PyUnicode_IS_ASCII(value):
            return 0
        length = PyUnicode_GET_LENGTH(value)
        data = <const char*> PyUnicode_DATA(value)
        if not gr_clean(data, length):
            return 0
    if part.cap - part.len < head + size + length + 32:
        buf_grow(part, head + size + length + 32)
    start = out = part.data + part.len
    memcpy(out, PyBytes_AS_STRING(prefix), head)
    out += head
    if not gr_copy_key(out, <const char*> PyUnicode_DATA(key), size):
        return 0
    out += size
    out[0] = c'"'
    out[1] = c':'
    out += 2
    op = &draft.ops[draft.count]
    op.kind = SET
    op.created = created
    op.path = part.len
    op.path_len = head + size + 1
    op.value = part.len + head + size + 2
    if kind is int:
        out += gr_digits(out, number)
    elif kind is str:
        out[0] = c'"'
        memcpy(out + 1, data, length)
        out[length + 1] = c'"'
        out += length + 2
    elif kind is float:
        length = gr_short_float(out, <double> value)
        if not length:
            return 0
        out += length
    elif value is None:
        memcpy(out, b"null", 4)
        out += 4
    elif value is True:
        memcpy(out, b"true", 4)
        out += 4
    else:
        memcpy(out, b"false", 5)
        out += 5
    op.value_len = (out - start) - (head + size + 2)
    out[0] = c','
    part.len += out - start + 1
    draft.count += 1
    return 1


cdef Patch draft_finish(Draft* draft, list holes, dict wholes, long long position):
    """The Patch of a draft (even an empty one). ``holes``: (kind, offset in part, bytes)."""
    cdef Patch patch = Patch.__new__(Patch)
    cdef Buf* sets = &draft.part[SET]
    cdef Py_ssize_t bases[3]
    cdef Py_ssize_t i
    cdef bint some = sets.len > 6
    cdef Buf* part
    bases[SET] = 0
    bases[DELETE] = bases[APPEND] = 0
    # "=" was written in place, with its head; the others follow it.
    if some:
        sets.data[sets.len - 1] = c'}'  # over the last comma
    else:
        sets.len = 1  # keep the brace
    for i in range(1, 3):
        part = &draft.part[i]
        if part.len:
            if some:
                put1(sets, c',')
            some = True
            if i == DELETE:
                put_n(sets, b'"-":[', 5)
            else:
                put_n(sets, b'"+":{', 5)
            bases[i] = sets.len
            put_n(sets, part.data, part.len)
            sets.data[sets.len - 1] = c']' if i == DELETE else c'}'
    put1(sets, c'}')
    patch.text = PyBytes_FromStringAndSize(sets.data, sets.len)
    patch.position = position
    patch.nbytes = sets.len
    patch.wholes = wholes
    if draft.count:
        patch.ops = <Op*> PyMem_Malloc(draft.count * sizeof(Op))
        if patch.ops == NULL:
            raise MemoryError
        memcpy(patch.ops, draft.ops, draft.count * sizeof(Op))
        patch.count = draft.count
        if bases[DELETE] or bases[APPEND]:
            for i in range(draft.count):
                patch.ops[i].path += bases[patch.ops[i].kind]
                patch.ops[i].value += bases[patch.ops[i].kind]
    if holes:
        placed = [(<Py_ssize_t> offset + bases[<int> kind], raw) for kind, offset, raw in holes]
        placed.sort(key=itemgetter(0))
        patch.holes = tuple(placed)
        for _, raw in placed:
            patch.nbytes += base64_size(len(raw))
    return patch


# ---------------------------------------------------------------- patches

@cython.final
@cython.freelist(16)
cdef class Patch:
    """The net operations (set, delete, append) that bring a copy of the state up to date."""

    def __cinit__(self):
        self.ops = NULL

    def __init__(self):
        raise TypeError("patches come from State.take_patch(), Patch.merge() or Patch.from_ops()")

    def __dealloc__(self):
        PyMem_Free(self.ops)

    def __len__(self):
        return self.count

    def __bool__(self):
        return self.count > 0

    def __repr__(self):
        return f"Patch({self.count} operations, {self.nbytes} bytes)"

    @property
    def has_buffers(self):
        """True when a value holds bytes, which binary links send beside the text."""
        return self.holes is not None

    # -- the wire

    def encode(self):
        """The text form, ready to be the ``data`` of a ``gr:state`` frame."""
        if self.holes is None:
            return self.text
        return self.render(False, [])

    def render(self, bint binary, list buffers):
        """Like ``encode``; with ``binary``, appends the buffers to ``buffers`` and names them."""
        cdef Py_ssize_t at = 0
        if self.holes is None:
            return self.text
        pieces = []
        for offset, _ in self.holes:
            pieces.append(self.text[at:offset])
            at = offset
        pieces.append(self.text[at:])
        return splice(tuple(pieces), tuple([raw for _, raw in self.holes]), binary, buffers)

    # -- for people

    @property
    def set(self):
        """Decoded: path -> value."""
        return self.decoded("=", True)

    @property
    def delete(self):
        """Paths that go."""
        return loads(self.text if self.holes is None else self.encode()).get("-", [])

    @property
    def append(self):
        """Decoded: path -> tail of the string, or items of the list."""
        return self.decoded("+", True)

    cdef object decoded(self, str part, bint blobs):
        cdef dict found = loads(self.encode()).get(part, {})
        return {path: undo_forms(value, (), LIMIT, blobs) for path, value in found.items()}

    def created(self):
        """The set of paths this patch makes, which clients did not have before."""
        cdef Py_ssize_t i
        out = set()
        for i in range(self.count):
            if self.ops[i].kind == SET and self.ops[i].created:
                out.add(loads(self.path_of(i)))
        return out

    cdef bytes path_of(self, Py_ssize_t i):
        cdef Op* op = &self.ops[i]
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.text) + op.path, op.path_len)

    def to_json_patch(self, before=None):
        """The same as an RFC 6902 document.

        It has no string append: the whole string is set. Patches of ``take_patch()`` know it; for
        others pass ``before``, the state the patch applies to.
        """
        created = self.created()
        ops = [{"op": "remove", "path": path} for path in self.delete]
        for path, value in self.decoded("=", False).items():
            ops.append({"op": "add" if path in created else "replace", "path": path, "value": value})
        for path, value in self.decoded("+", False).items():
            if type(value) is not str:
                ops.extend({"op": "add", "path": path + "/-", "value": item} for item in value)
                continue
            if self.wholes is not None and path in self.wholes:
                whole = self.wholes[path]
            elif before is not None:
                whole = find(before, path) + value
            else:
                raise ValueError(f"{path} is appended to: pass before=, the state before the patch")
            ops.append({"op": "replace", "path": path, "value": whole})
        return ops

    # -- algebra

    @staticmethod
    def merge(Patch first not None, Patch second not None):
        """One patch that does what both do in turn, or None when their paths get in each other's way."""
        cdef dict old = entries(first)
        cdef dict new = entries(second)
        if overlap(old, new) or overlap(new, old):
            return None
        for path, late in new.items():
            early = old.get(path)
            if early is None:
                old[path] = late
                continue
            joined = join(early, late)
            if joined is None:
                return None
            if joined is NOTHING:
                del old[path]
            else:
                old[path] = joined
        wholes = None
        if first.wholes is not None or second.wholes is not None:
            wholes = {**(first.wholes or {}), **(second.wholes or {})}
        return assemble(old, wholes, second.position)

    @classmethod
    def from_ops(cls, set=None, delete=(), append=None, *, created=(), position=0):
        """A patch made by hand. ``created`` names the set paths that clients do not have."""
        ops = {}
        for kind, found in ((SET, set or {}), (APPEND, append or {})):
            for path, value in found.items():
                encoded = encode_value(value)
                text, holes = encoded, []
                if type(encoded) is not bytes:
                    text, holes = b"", []
                    for piece, raw in zip(encoded.pieces, encoded.buffers):
                        text += piece
                        holes.append((len(text), raw))
                    text += encoded.pieces[-1]
                ops[pointer_text(path)] = (kind, path in created, text, holes)
        for path in delete:
            ops[pointer_text(path)] = (DELETE, False, b"", [])
        return assemble(ops, None, position)


cdef object NOTHING = object()


cdef bytes pointer_text(str path):
    text = text_slow(path)
    if text is None or not path.startswith("/"):
        raise ValueError(f"{path!r} is no JSON Pointer below the root")
    return text


cdef object find(object tree, str path):
    for part in path.split("/")[1:]:
        tree = tree[part.replace("~1", "/").replace("~0", "~")]
    return tree


cdef dict entries(Patch patch):
    """path with quotes -> (kind, created, value text, holes relative to the value)."""
    cdef dict out = {}
    cdef Py_ssize_t i
    cdef Op* op
    for i in range(patch.count):
        op = &patch.ops[i]
        value = PyBytes_FromStringAndSize(PyBytes_AS_STRING(patch.text) + op.value, op.value_len)
        holes = []
        if patch.holes is not None:
            holes = [
                (<Py_ssize_t> at - op.value, raw)
                for at, raw in patch.holes
                if op.value <= <Py_ssize_t> at < op.value + op.value_len
            ]
        out[patch.path_of(i)] = (op.kind, bool(op.created), value, holes)
    return out


cdef bint overlap(dict paths, dict others):
    """True when a path of ``others`` is a proper prefix of one of ``paths``."""
    cdef bytes path
    cdef Py_ssize_t at
    for path in paths:
        at = path.find(b"/", 2)
        while at != -1:
            if path[:at] + b'"' in others:
                return True
            at = path.find(b"/", at + 1)
    return False


cdef object join(tuple early, tuple late):
    """The operation that does both, NOTHING, or None when there is none."""
    kind, created, value, holes = early
    if late[0] == DELETE:
        return NOTHING if kind == SET and created else late
    if late[0] == SET:
        return (SET, kind == SET and created, late[2], late[3])
    # an append joins an earlier set or append of the same sort
    if kind == DELETE or value[:1] != late[2][:1] or value[:1] not in (b'"', b"["):
        return None
    if value == b"[]":
        return (kind, created, late[2], late[3])
    if late[2] == b"[]":
        return early
    head = value[:-1] + (b"," if value[:1] == b"[" else b"")
    moved = [(len(head) + at - 1, raw) for at, raw in late[3]]
    return (kind, created, head + late[2][1:], holes + moved)


cdef Patch assemble(dict ops, dict wholes, long long position):
    cdef Draft draft
    cdef Buf* part
    cdef Py_ssize_t path, value
    cdef list holes = []
    draft_begin(&draft)
    try:
        for name, (kind, created, text, inner) in ops.items():
            part = &draft.part[<int> kind]
            path = part.len
            put_bytes(part, name)
            value = 0
            if kind != DELETE:
                put1(part, c':')
                value = part.len
                put_bytes(part, text)
                holes.extend([(kind, value + at, raw) for at, raw in inner])
            draft_op(&draft, kind, path, value, created)
        return draft_finish(&draft, holes, wholes, position)
    finally:
        draft_end(&draft)
