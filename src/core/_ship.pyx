# cython: language_level=3
"""Shipping: from records to patches and snapshots.

A ship has two halves. The *seal* writes all operations that need no encoder, moves the boundary F
to now and copies what is left; it runs no Python code and cannot start the collector, so it is one
step under the GIL. Then the values that are left (``Late``) are encoded, with encoders that may
run anything but assign; by then assignments are recorded against the new boundary.

Who may call what: the turn's owner, or the loop between turns; with ``foreign`` the loop beside a
running turn, which takes plain values only: the others keep their records and wait.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_Contains, PyDict_Next, PyDict_Size
from cpython.list cimport PyList_GET_SIZE, PyList_GetSlice
from cpython.object cimport PyObject
from ._patch cimport (
    APPEND,
    DELETE,
    SET,
    Draft,
    Patch,
    draft_begin,
    draft_end,
    draft_finish,
    draft_op,
    draft_scalar,
)
from ._segments cimport extends, merge_older
from ._state cimport (
    MISSING,
    Cell,
    Grown,
    Journal,
    PyThreadState,
    State,
    Where,
    grown,
    kept_any,
    private,
    scalar,
    spell,
)
from ._text cimport (
    Buf,
    buf_finish,
    buf_give,
    buf_take,
    default_encoder,
    loads,
    put,
    put_any,
    put_key,
    put_leaf,
    put_pointer,
    put_tail,
)

from ._state import set_shipping
from ._text import TooDeep, decode_value, render
from .errors import Unencodable
from .types import MAX_DEPTH as _MAX_DEPTH

cdef extern from "Python.h":
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    int PyGC_Disable() noexcept
    int PyGC_Enable() noexcept
    PyThreadState* PyThreadState_Get() noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    Py_ssize_t PyUnicode_Tailmatch(
        object text, object part, Py_ssize_t start, Py_ssize_t end, int direction
    ) except -1

cdef int LIMIT = _MAX_DEPTH


@cython.final
cdef class Tree:
    """A private copy of a subtree, whose leaves still have to be encoded."""


cdef list kept_add(list nodes, State node):
    if nodes is None:
        return [node]
    nodes.append(node)
    return nodes


# ---------------------------------------------------------------- writing trees

cdef enum:
    NOT_PLAIN = 0
    DONE = 1


@cython.final
cdef class Writer:
    """How a subtree is written in one step: what to do with values that are not plain."""
    cdef Journal journal
    cdef bint waits  # leave them out and remember them; otherwise give up
    cdef list owed  # keys from the root of what was left out
    cdef bint pending  # leave out, or remember, what has not been shipped


cdef inline dict records(State node, object key, Journal journal):
    """The dict that has the key's value at F, if it changed since."""
    if journal is None or node.journal is not journal:
        return None
    if not journal.sent and node.prev is not None and key in node.prev:
        return node.prev
    if node.log is not None and key in node.log:
        return node.log
    return None


cdef int put_node(Buf* buf, State node, Writer writer) except -1:
    """Write a node's object. Runs no Python code. NOT_PLAIN: the buffer is as it was."""
    cdef Py_ssize_t start = buf.len
    cdef Py_ssize_t mark
    cdef Py_ssize_t at = 0
    cdef PyObject* k
    cdef PyObject* v
    cdef bint first = True
    cdef bint wrap = "$bytes" in node.d or "$dict" in node.d or "$file" in node.d
    cdef bint fresh = node.journal is writer.journal and (
        node.log is not None or node.prev is not None
    )
    cdef Where where = node.where
    cdef int done
    cdef str key
    cdef object value
    if wrap:
        put(buf, b'{"$dict":', 9)
    put(buf, b"{", 1)
    while PyDict_Next(node.d, &at, &k, &v):
        key = <str> <object> k
        value = <object> v
        if private(key):
            continue
        if fresh and writer.pending and records(node, key, writer.journal) is not None:
            writer.owed.append((where.keys, key))
            if writer.waits:
                continue
        mark = buf.len
        if not first:
            put(buf, b",", 1)
        if not put_key(buf, key):
            buf.len = mark
            if writer.waits:
                continue
            buf.len = start
            return NOT_PLAIN
        if type(value) is Cell:
            value = (<Cell> value).value
        if isinstance(value, State):
            done = put_node(buf, <State> value, writer)
        else:
            done = put_leaf(buf, value, LIMIT - where.depth)
        if done:
            first = False
            continue
        buf.len = mark
        if not writer.waits:
            buf.len = start
            return NOT_PLAIN
        writer.owed.append((where.keys, key))
    put(buf, b"}", 1)
    if wrap:
        put(buf, b"}", 1)
    return DONE


cdef Tree grab(State node, Writer writer):
    """Copy a subtree in one step, so that its leaves can be encoded in peace."""
    cdef Tree tree = Tree.__new__(Tree)
    cdef PyObject* k
    cdef PyObject* v
    cdef Py_ssize_t at = 0
    cdef object value
    tree.where = node.where
    tree.pairs = []
    while PyDict_Next(node.d, &at, &k, &v):
        if private(<str> <object> k):
            continue
        value = <object> v
        if writer is not None and records(node, <object> k, writer.journal) is not None:
            writer.owed.append((node.where.keys, <object> k))
        if isinstance(value, State):
            value = grab(<State> value, writer)
        elif type(value) is Cell:
            value = (<Cell> value).value
        tree.pairs.append((<object> k, value))
    return tree


cdef int put_tree(Buf* buf, Tree tree, list holes, list failed, set missing) except -1:
    """Write a grabbed subtree, calling encoders. What fails is left out and named in ``failed``."""
    cdef bint first = True
    cdef bint wrap = False
    cdef Py_ssize_t mark
    cdef Py_ssize_t marked
    for key, _ in tree.pairs:
        if key == "$bytes" or key == "$dict" or key == "$file":
            wrap = True
    if wrap:
        put(buf, b'{"$dict":', 9)
    put(buf, b"{", 1)
    for key, value in tree.pairs:
        if missing is not None and path_text(tree.where, key) in missing:
            continue
        mark = buf.len
        marked = len(holes)
        if not first:
            put(buf, b",", 1)
        if not put_key(buf, key):
            buf.len = mark
            failed.append((tree.where, key, "str that is not valid Unicode"))
            continue
        if type(value) is Tree:
            put_tree(buf, <Tree> value, holes, failed, missing)
        else:
            why = try_leaf(buf, value, holes, LIMIT - tree.where.depth)
            if why is not None:
                buf.len = mark
                del holes[marked:]
                failed.append((tree.where, key, why))
                continue
        first = False
    put(buf, b"}", 1)
    if wrap:
        put(buf, b"}", 1)
    return 0


cdef str try_leaf(Buf* buf, object value, list holes, int room):
    """Write a value with encoders: None, or the type that has no form, and why where known."""
    try:
        if not put_leaf(buf, value, room):
            put_any(buf, value, default_encoder, holes, room)
        return None
    except TooDeep:
        return f"{type(value).__name__} nested deeper than {LIMIT}"
    except Exception as error:
        return getattr(error, "kind", None) or f"{type(value).__name__} ({reason(error)})"


cdef str reason(object error):
    """What is wrong with a value that has a form on the wire, or an encoder that fails."""
    try:
        text = str(error)[:200]
    except Exception:
        text = ""
    if text and isinstance(error, Unencodable):
        return text
    name = type(error).__name__
    return f"{name}: {text}" if text else name


cdef bytes path_text(Where where, str key):
    """The pointer of a key as it stands in patches, with quotes; None when it has no text."""
    cdef Buf buf
    if where.prefix is None:
        return None
    buf.data = NULL
    buf_take(&buf)
    try:
        if not put_pointer(&buf, where.prefix, key):
            return None
        return PyBytes_FromStringAndSize(buf.data, buf.len)
    finally:
        buf_give(&buf)


cdef object whole(State node, list holes, list failed, set missing):
    """The encoded text of a subtree, encoders called."""
    cdef Buf buf
    cdef Tree tree
    cdef bint collecting = PyGC_Disable()
    try:
        tree = grab(node, None)
    finally:
        if collecting:
            PyGC_Enable()
    buf.data = NULL
    buf_take(&buf)
    try:
        put_tree(&buf, tree, holes, failed, missing)
        return buf_finish(&buf, holes)
    finally:
        buf_give(&buf)


# ---------------------------------------------------------------- patches

@cython.final
cdef class Late:
    """A set whose value must be encoded after the seal."""
    cdef Where where
    cdef str key
    cdef object value  # a leaf or a Tree
    cdef bint created
    cdef list base  # an append: None, or the list it was taken from


@cython.final
@cython.freelist(4)
cdef class Shipment:
    """What one ship carries from its seal to its end."""
    cdef list late  # Late
    cdef list trash  # dropped last
    cdef dict wholes
    cdef dict kept  # of the node at hand: key -> its value at F, for what must wait
    cdef bint foreign
    cdef bint alone


cdef bint covered(State root, State node) except -1:
    """True when an ancestor goes out whole or is gone, so that the node need not speak."""
    cdef State at = root
    cdef Journal journal = root.journal
    cdef PyObject* found
    for key in node.where.keys:
        if records(at, key, journal) is not None:
            return True
        found = PyDict_GetItemWithError(at.d, key)
        if found == NULL or not isinstance(<object> found, State):
            return True
        at = <State> <object> found
    return at is not node


cdef int forget_missing(Journal journal, bytes path) except -1:
    """Clients get all of ``path`` anew: nothing at or below it is missing now."""
    head = path[:-1] + b"/"
    journal.missing.discard(path)
    gone = [one for one in journal.missing if (<bytes> one).startswith(head)]
    journal.missing.difference_update(gone)
    return 0


cdef int seal_key(
    Draft* draft, Shipment shipment, State node, str key, object record, bint whole_list
) except -1:
    """Write the operation of one key, or leave it for later, or let it wait."""
    cdef Journal journal = node.journal
    cdef Where where = node.where
    cdef PyObject* found
    cdef Buf* part
    cdef Py_ssize_t mark, at
    cdef bint created = record is MISSING
    cdef int done
    cdef Late late
    cdef Grown tail
    cdef bytes path = None
    cdef Writer writer
    cdef object value
    if private(key):
        return 0
    found = PyDict_GetItemWithError(node.d, key)
    if journal.missing:
        path = path_text(where, key)
        if path in journal.missing:
            created = True
        if path is not None:
            forget_missing(journal, path)
    if found == NULL:
        if created:
            return 0
        part = &draft.part[DELETE]
        mark = part.len
        if put_pointer(part, where.prefix, key):
            draft_op(draft, DELETE, mark, 0, False)
        return 0
    value = <object> found
    if type(value) is str and type(record) is str and not created:
        at = PyUnicode_GET_LENGTH(record)
        if (
            0 < at < PyUnicode_GET_LENGTH(value)
            and PyUnicode_Tailmatch(value, record, 0, at, -1) == 1
        ):
            part = &draft.part[APPEND]
            mark = part.len
            if put_pointer(part, where.prefix, key):
                put(part, b":", 1)
                done = part.len
                if put_tail(part, <str> value, at):
                    draft_op(draft, APPEND, mark, done, False)
                    if shipment.alone:
                        shipment.wholes[pointer(where, key)] = value
                    return 0
            part.len = mark
    elif type(record) is Grown and not created:
        tail = <Grown> record
        if (
            value is tail.items
            and not tail.whole
            and not whole_list
            and PyList_GET_SIZE(tail.items) >= tail.size
        ):
            items = PyList_GetSlice(tail.items, tail.size, PyList_GET_SIZE(tail.items))
            if not items:
                return 0
            part = &draft.part[APPEND]
            mark = part.len
            if put_pointer(part, where.prefix, key):
                put(part, b":", 1)
                done = part.len
                if put_leaf(part, items, LIMIT - where.depth):
                    draft_op(draft, APPEND, mark, done, False)
                    return 0
            part.len = mark
            if shipment.foreign:
                keep_waiting(shipment, key, record)
                return 0
            late = Late.__new__(Late)
            late.where = where
            late.key = key
            late.value = items
            late.base = list(tail.items)
            shipment.late = kept_any(shipment.late, late)
            return 0
    part = &draft.part[SET]
    mark = part.len
    if not put_pointer(part, where.prefix, key):
        report(journal, where, key, "str that is not valid Unicode")
        return 0
    put(part, b":", 1)
    at = part.len
    if type(value) is Cell:
        value = (<Cell> value).value
    if isinstance(value, State):
        writer = Writer.__new__(Writer)
        writer.journal = journal
        done = put_node(part, <State> value, writer)
    else:
        done = put_leaf(part, value, LIMIT - where.depth)
    if done:
        draft_op(draft, SET, mark, at, created)
        return 0
    part.len = mark
    if shipment.foreign:
        keep_waiting(shipment, key, MISSING if created else record)
        return 0
    late = Late.__new__(Late)
    late.where = where
    late.key = key
    late.created = created
    late.value = grab(<State> value, None) if isinstance(value, State) else value
    shipment.late = kept_any(shipment.late, late)
    return 0


cdef inline bint seal_scalar(Draft* draft, State node, PyObject* key, PyObject* record) except -1:
    """The common case without detours: a scalar that is set. False: go the long way."""
    cdef PyObject* found = PyDict_GetItemWithError(node.d, <object> key)
    if found == NULL or not scalar(<object> found) or private(<str> key):
        return False
    if type(<object> found) is str and type(<object> record) is str:
        return False
    return draft_scalar(
        draft, node.where.prefix, <str> key, <object> found, record == <PyObject*> MISSING
    )


cdef int keep_waiting(Shipment shipment, str key, object record) except -1:
    cdef Grown copy
    if shipment.kept is None:
        shipment.kept = {}
    if type(record) is Grown:  # the record of T may be the same object
        copy = grown((<Grown> record).items, (<Grown> record).whole)
        copy.size = (<Grown> record).size
        copy.was = (<Grown> record).was
        record = copy
    shipment.kept[key] = record
    return 0


cdef str pointer(Where where, str key):
    keys = where.keys + (key,)
    return "".join(["/" + one.replace("~", "~0").replace("/", "~1") for one in keys])


cdef int report(Journal journal, Where where, str key, str kind) except -1:
    if journal.unencodable is None:
        journal.unencodable = []
    journal.unencodable.append((spell(where.keys + (key,)), kind))
    return 0


cdef int seal(Draft* draft, Shipment shipment, Journal journal, State root, bint turn) except -1:
    """Write all operations that need no encoder and move the boundary F to now.

    Runs no Python code. ``turn``: values at T must be kept.
    """
    cdef list nodes = journal.dirty
    cdef list older = journal.older
    cdef list dirty = None
    cdef list kept_older = None
    cdef bint structural = journal.structural
    cdef bint sent = journal.sent
    cdef State node
    cdef dict log, prev, kept
    cdef PyObject* k
    cdef PyObject* v
    cdef PyObject* late
    cdef Py_ssize_t at, i, left
    cdef list mutes = None
    cdef bint mute
    cdef bint simple = not journal.missing
    if not sent and older is not None:
        if nodes is None:
            nodes = older
            journal.older = None  # the list is taken apart below
        else:
            nodes = older + [one for one in nodes if (<State> one).prev is None]
    # Which nodes speak is settled before any record moves: `covered` reads records.
    if structural and nodes is not None:
        mutes = [covered(root, node) if (<State> node).where.depth > 1 else False for node in nodes]
    if nodes is None:
        nodes = []
    for i in range(PyList_GET_SIZE(nodes)):
        node = <State> nodes[i]
        log = node.log
        prev = None if sent else node.prev
        shipment.kept = None
        mute = node.detached or node.where.silent or (mutes is not None and mutes[i])
        if not mute:
            if prev is not None:
                at = 0
                left = PyDict_Size(prev)
                while left > 0 and PyDict_Next(prev, &at, &k, &v):
                    left -= 1
                    if simple and log is None and seal_scalar(draft, node, k, v):
                        continue
                    late = NULL if log is None else PyDict_GetItemWithError(log, <object> k)
                    seal_key(
                        draft,
                        shipment,
                        node,
                        <str> <object> k,
                        <object> v,
                        late != NULL
                        and type(<object> v) is Grown
                        and not extends(<Grown> <object> v, <object> late),
                    )
            if log is not None:
                at = 0
                left = PyDict_Size(log)
                while left > 0 and PyDict_Next(log, &at, &k, &v):
                    left -= 1
                    if simple and prev is None and seal_scalar(draft, node, k, v):
                        continue
                    if prev is None or not PyDict_Contains(prev, <object> k):
                        seal_key(draft, shipment, node, <str> <object> k, <object> v, False)
        # The records move.
        kept = shipment.kept
        node.gate = NULL
        if log is not None:
            node.log = None
        if prev is not None:
            node.prev = None
            if node.detached:
                shipment.trash = kept_any(shipment.trash, prev)
            else:
                nodes[i] = prev  # the tree holds the node; the list holds what is dropped last
        if not turn:
            if log is not None:
                shipment.trash = kept_any(shipment.trash, log)
            if kept is not None:
                node.prev = kept
                kept_older = kept_add(kept_older, node)
            continue
        if log:
            if node.prev is None:
                merge_older(node, log)
                kept_older = kept_add(kept_older, node)
            else:
                merge_older(node, log)
                shipment.trash = kept_any(shipment.trash, log)
        if kept is not None:
            # What waits needs its value at T even if it changed before T only.
            if node.prev is None:
                node.prev = {}
                kept_older = kept_add(kept_older, node)
            for key in kept:
                if key not in node.prev:
                    node.prev[key] = node.d.get(key, MISSING)
            node.log = kept
            dirty = kept_add(dirty, node)
    journal.dirty = dirty
    if not turn:
        journal.older = kept_older
    elif sent:
        # Nodes that had a prev keep it and stay listed.
        if kept_older is not None:
            journal.older = kept_older if older is None else older + kept_older
    else:
        journal.older = kept_older
    journal.sent = turn
    if journal.older is None and journal.dirty is None:
        journal.structural = False
    return 0


cdef Patch make_patch(Journal journal, State root, bint foreign, bint empty):
    """Seal, encode, count: the whole of ``ship``. None when there is nothing, unless ``empty``."""
    cdef Draft draft
    cdef Shipment shipment
    cdef list holes = None
    cdef bint collecting
    cdef bint turn = journal.owner != NULL and not journal.alone
    cdef Late late
    if journal.dirty is None and (journal.sent or journal.older is None) and not empty:
        return None
    shipment = Shipment.__new__(Shipment)
    shipment.foreign = foreign
    shipment.alone = journal.alone
    shipment.wholes = {} if journal.alone else None
    draft_begin(&draft)
    try:
        collecting = PyGC_Disable()
        try:
            seal(&draft, shipment, journal, root, turn)
        finally:
            if collecting:
                PyGC_Enable()
        if shipment.late:
            holes = []
            journal.encoder = PyThreadState_Get()
            try:
                for late in shipment.late:
                    ship_late(&draft, journal, late, holes)
            finally:
                journal.encoder = NULL
        if draft.count == 0 and not empty:
            return None
        if draft.count:
            journal.position += 1
        return draft_finish(&draft, holes, shipment.wholes, journal.position)
    finally:
        draft_end(&draft)


cdef int ship_late(Draft* draft, Journal journal, Late late, list holes) except -1:
    cdef int kind = SET if late.base is None else APPEND
    cdef Buf* part = &draft.part[kind]
    cdef Py_ssize_t mark = part.len
    cdef Py_ssize_t at
    cdef list inner = []
    cdef list failed = []
    cdef str why = None
    cdef bytes path
    put_pointer(part, late.where.prefix, late.key)
    path = PyBytes_FromStringAndSize(part.data + mark, part.len - mark)
    put(part, b":", 1)
    at = part.len
    if type(late.value) is Tree:
        put_tree(part, <Tree> late.value, inner, failed, None)
    else:
        why = try_leaf(part, late.value, inner, LIMIT - late.where.depth)
    if why is None:
        draft_op(draft, kind, mark, at, late.created)
        holes.extend([(kind, offset, blob) for offset, blob in inner])
        lost(journal, failed)
        return 0
    part.len = mark
    if not late.created:
        part = &draft.part[DELETE]
        mark = part.len
        put(part, path, len(path))
        draft_op(draft, DELETE, mark, 0, False)
    lost(journal, [(late.where, late.key, why)])
    return 0


cdef int lost(Journal journal, list failed) except -1:
    """Note what clients do not get."""
    for where, key, why in failed:
        report(journal, where, key, why)
        path = path_text(where, key)
        if path is not None:
            if journal.missing is None:
                journal.missing = set()
            journal.missing.add(path)
    return 0


cdef int keep_at_turn(Journal journal, State node, str key, object value) except -1:
    """Record a value at T that has not changed between T and F."""
    if node.prev is None:
        node.prev = {}
        journal.older = kept_add(journal.older, node)
    if key not in node.prev:
        node.prev[key] = value
    return 0


cdef int force(Journal journal, State root, tuple keys, str key) except -1:
    """See to it that the next patch sets a key whole, whatever clients have.

    After an undo too: in a turn that has sent something, ``prev`` is what is left then.
    """
    cdef State node = root
    cdef dict target
    cdef PyObject* found
    cdef object value
    for name in keys:
        value = node.read(name)
        if not isinstance(value, State):
            return 0
        node = <State> value
    target = records(node, key, journal)
    if target is not None:
        value = target[key]
        if type(value) is Grown:
            (<Grown> value).whole = True
        if journal.sent:
            keep_at_turn(journal, node, key, value)
        return 0
    found = PyDict_GetItemWithError(node.d, key)
    if found == NULL:
        return 0
    node.own()
    if journal.sent:
        if node.log is None:
            node.log = {}
            journal.dirty = kept_add(journal.dirty, node)
        node.log[key] = <object> found
        keep_at_turn(journal, node, key, <object> found)
    else:
        if node.prev is None:
            node.prev = {}
            journal.older = kept_add(journal.older, node)
        node.prev[key] = <object> found
    return 0


# ---------------------------------------------------------------- snapshots

cdef tuple make_snapshot(Journal journal, State root, bint foreign):
    """(encoded state, position)."""
    cdef Writer writer = Writer.__new__(Writer)
    cdef Buf buf
    cdef list holes = []
    cdef list failed = []
    cdef object text = None
    cdef Tree tree = None
    cdef long long position
    cdef bint collecting
    writer.journal = journal
    writer.waits = foreign
    writer.pending = True
    writer.owed = []
    if not journal.clients:
        journal.missing = None
    buf.data = NULL
    buf_take(&buf)
    try:
        collecting = PyGC_Disable()
        try:
            position = journal.position
            if journal.missing and not foreign or not put_node(&buf, root, writer):
                buf.len = 0
                writer.owed = []
                tree = grab(root, writer)
            for keys, key in writer.owed:
                force(journal, root, keys, key)
        finally:
            if collecting:
                PyGC_Enable()
        if tree is not None:
            journal.encoder = PyThreadState_Get()
            try:
                put_tree(&buf, tree, holes, failed, journal.missing)
            finally:
                journal.encoder = NULL
        text = buf_finish(&buf, holes)
    finally:
        buf_give(&buf)
    if failed:
        if journal.clients:  # others may have them: the next patch says how it is
            for where, key, why in failed:
                report(journal, where, key, why)
                force(journal, root, (<Where> where).keys, key)
        else:
            lost(journal, failed)
    journal.clients = True
    return text, position


# ---------------------------------------------------------------- for State

def take_patch(State root not None):
    """The patch of a State on its own; may be empty."""
    return make_patch(root.journal, root, False, True)


def to_dict(State node not None):
    """What a client has of a subtree."""
    cdef list failed = []
    cdef list holes = []
    return decode_value(loads(render(whole(node, holes, failed, None), False, [])))


set_shipping(take_patch, to_dict)
