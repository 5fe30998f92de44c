# cython: language_level=3
"""Patches: made in one go by a Draft, merged and shown as operations.

Who owns what: a Patch owns its text and its table of operations, both made once and never changed,
so any thread may read it. A Draft lives on the stack of the function that fills it; its memory
comes from spare blocks that are only touched with the GIL held.

Who may call what: everything here may be called from any thread. ``draft_op`` and ``draft_scalar``
run no Python code.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.string cimport memcpy
from ._text cimport (
    Buf,
    base64_size,
    buf_give,
    buf_room,
    buf_take,
    clean,
    copy_key,
    digits,
    loads,
    put,
    short_float,
    splice,
    text_slow,
    undo_forms,
)

from operator import itemgetter

from ._text import Segmented, decode_value, encode_value, is_plain, render, set_default
from .types import MAX_DEPTH as _MAX_DEPTH

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1
    bint PyUnicode_IS_ASCII(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

__all__ = [
    "Patch",
    "Segmented",
    "decode_value",
    "encode_value",
    "is_plain",
    "render",
    "set_default",
]

cdef int LIMIT = _MAX_DEPTH


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
    put(&draft.part[SET], b'{"=":{', 6)
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
    return put(part, b",", 1)


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
        if not clean(data, length):
            return 0
    if part.cap - part.len < head + size + length + 32:
        buf_room(part, head + size + length + 32)
    start = out = part.data + part.len
    memcpy(out, PyBytes_AS_STRING(prefix), head)
    out += head
    if not copy_key(out, <const char*> PyUnicode_DATA(key), size):
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
        out += digits(out, number)
    elif kind is str:
        out[0] = c'"'
        memcpy(out + 1, data, length)
        out[length + 1] = c'"'
        out += length + 2
    elif kind is float:
        length = short_float(out, <double> value)
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
                put(sets, b",", 1)
            some = True
            if i == DELETE:
                put(sets, b'"-":[', 5)
            else:
                put(sets, b'"+":{', 5)
            bases[i] = sets.len
            put(sets, part.data, part.len)
            sets.data[sets.len - 1] = c']' if i == DELETE else c'}'
    put(sets, b"}", 1)
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
            verb = "add" if path in created else "replace"
            ops.append({"op": verb, "path": path, "value": value})
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
        """One patch that does what both do in turn; None when their paths meet unequally."""
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
            put(part, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
            value = 0
            if kind != DELETE:
                put(part, b":", 1)
                value = part.len
                put(part, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
                holes.extend([(kind, value + at, raw) for at, raw in inner])
            draft_op(&draft, kind, path, value, created)
        return draft_finish(&draft, holes, wholes, position)
    finally:
        draft_end(&draft)
