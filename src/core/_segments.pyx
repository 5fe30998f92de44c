# cython: language_level=3
"""The two segments of one log: what commit, undo and rollback do with the records of assignments.

Two moments matter: T, when the turn began (undo), and F, when the last patch was shipped. A node's
``log`` holds values at the *later* of the two, ``prev`` at the *earlier* one, for the keys changed
between them; ``Journal.sent`` says that T is the earlier. An assignment touches ``log`` only.

========================  ====================================================================
ship in a turn            unsent: prev goes; then prev := prev over log, sent
ship between turns        both go
commit                    sent: prev goes; then prev := prev over log, unsent
undo, rollback            log is undone; sent: values change places with prev, unsent
a patch is made from      log, and prev over it when unsent
========================  ====================================================================

A key whose value cannot be encoded yet (beside a running turn) keeps both its records: they say
what it was at T and at F under either meaning.

Who may call what: the turn's owner. Each function is one step under the GIL: it runs no Python code
before its last store and drops old values last.
"""

from cpython.dict cimport PyDict_DelItem, PyDict_Next, PyDict_SetItem
from cpython.list cimport PyList_GET_SIZE, PyList_GetSlice
from cpython.object cimport PyObject
from ._state cimport (
    MISSING,
    Grown,
    Journal,
    State,
    drop_stale,
    kept_any,
    move_records,
    set_detached,
)

cdef extern from "Python.h":
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    int PyGC_Disable() noexcept
    int PyGC_Enable() noexcept


cdef int merge_older(State node, dict log) except -1:
    """prev := prev over log. A list record that was assigned since must be sent whole."""
    cdef PyObject* k
    cdef PyObject* v
    cdef PyObject* kept
    cdef Py_ssize_t at = 0
    if node.prev is None:
        node.prev = log
        return 1
    while PyDict_Next(log, &at, &k, &v):
        kept = PyDict_GetItemWithError(node.prev, <object> k)
        if kept == NULL:
            PyDict_SetItem(node.prev, <object> k, <object> v)
        elif type(<object> kept) is Grown and not extends(<Grown> <object> kept, <object> v):
            (<Grown> <object> kept).whole = True
    return 0


cdef bint extends(Grown kept, object late) noexcept:
    return type(late) is Grown and (<Grown> late).items is kept.items and not (<Grown> late).whole


cdef list drop_prev(Journal journal, list trash):
    cdef State node
    if journal.older is not None:
        for node in journal.older:
            if node.prev is not None:
                trash.append(node.prev)
                node.prev = None
        trash.append(journal.older)
        journal.older = None
    return trash


cdef int finish(Journal journal, bint keep) except -1:
    """T goes: what commit and mark do. Values are dropped last."""
    cdef list nodes = journal.dirty
    cdef list trash = None
    cdef State node
    cdef dict log = None
    cdef Py_ssize_t i
    if nodes is None and (keep and not journal.sent or journal.older is None):
        journal.sent = False
        return 0
    if journal.older is not None and (journal.sent or not keep):
        trash = []
        drop_prev(journal, trash)
    journal.sent = False
    journal.dirty = None
    if nodes is not None:
        for i in range(PyList_GET_SIZE(nodes)):
            node = <State> nodes[i]
            log = node.log
            node.log = None
            node.gate = NULL
            if keep and log:
                if node.prev is None:
                    if journal.older is None:
                        journal.older = [node]
                    else:
                        journal.older.append(node)
                if merge_older(node, log):
                    continue
            if PyList_GET_SIZE(nodes) > 1:
                trash = kept_any(trash, log)
    if journal.older is None:
        journal.structural = False
    return 0


cdef int put_back(
    State node, str key, object record, list removed, list back, list trash
) except -1:
    """Give a key the value of its record."""
    cdef PyObject* found = PyDict_GetItemWithError(node.d, key)
    cdef Grown tail
    cdef object value = record
    if found != NULL:
        trash.append(<object> found)
    if record is MISSING:
        if found != NULL:
            if isinstance(<object> found, State):
                removed.append(<object> found)
            PyDict_DelItem(node.d, key)
        return 0
    if type(record) is Grown:
        tail = <Grown> record
        value = tail.items if tail.was is None else tail.was
        if value is tail.items and PyList_GET_SIZE(tail.items) > tail.size:
            # Not shortened in place: whoever holds the list has what it was in the turn.
            value = PyList_GetSlice(tail.items, 0, tail.size)
            move_records(node, key, tail.items, <list> value)
    if isinstance(value, State):
        back.append((node, key, value))
    if found != NULL and <object> found is not value and isinstance(<object> found, State):
        removed.append(<object> found)
    PyDict_SetItem(node.d, key, value)
    return 0


cdef int revert(Journal journal) except -1:
    """Give everything assigned since T the value it had then; clients' values become ``prev``."""
    cdef list nodes = journal.dirty
    cdef list trash = []
    cdef list removed = []
    cdef list back = []
    cdef State node
    cdef dict log, swapped
    cdef PyObject* k
    cdef PyObject* v
    cdef PyObject* found
    cdef Py_ssize_t at
    cdef bint collecting
    if journal.pending is not None:
        drop_stale(journal)  # at T nothing was stale
    if nodes is None and not journal.sent:
        return 0
    collecting = PyGC_Disable()
    try:
        journal.dirty = None
        if nodes is not None:
            for node in nodes:
                log = node.log
                node.log = None
                node.gate = NULL
                trash.append(log)
                at = 0
                while PyDict_Next(log, &at, &k, &v):
                    put_back(node, <str> <object> k, <object> v, removed, back, trash)
        if journal.sent and journal.older is not None:
            for node in journal.older:
                log = node.prev
                swapped = {}
                at = 0
                while PyDict_Next(log, &at, &k, &v):
                    found = PyDict_GetItemWithError(node.d, <object> k)
                    if found == NULL:
                        PyDict_SetItem(swapped, <object> k, MISSING)
                    else:
                        PyDict_SetItem(swapped, <object> k, <object> found)
                    put_back(node, <str> <object> k, <object> v, removed, back, trash)
                trash.append(log)
                node.prev = swapped
        journal.sent = False
        for node in removed:
            set_detached(node, True)
        for owner, key, value in back:
            found = PyDict_GetItemWithError((<State> owner).d, key)
            if (
                found == <PyObject*> value  # it may have been removed again, by the older record
                and not (<State> owner).detached
                and (<State> value).journal is journal
            ):
                set_detached(<State> value, False)
    finally:
        if collecting:
            PyGC_Enable()
    return 0
