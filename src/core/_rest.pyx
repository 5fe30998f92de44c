# cython: language_level=3
"""What a state differs in from its template: all that is kept of one that nobody looks at.

A tuple of keys and values, in the order of the keys; MISSING is the value of a key that went, and a
:class:`Below` that of a nested state. Nothing else of the tree is kept: its nodes are made anew.

Who may call what: the ledger (``rest``, ``wake``), which says when. ``differences`` runs no Python
code and drops no last reference; the caller keeps the collector from running meanwhile.
"""

cimport cython
from cpython.dict cimport PyDict_DelItem, PyDict_Next, PyDict_SetItem
from cpython.object cimport PyObject

from ._state cimport MISSING, State, Where, make_node, scalar, twin

from weakref import getweakrefcount

cdef extern from "Python.h":
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    object PyObject_GenericGetDict(object thing, void* context)


@cython.final
cdef class Below:
    """A nested state that differs from the template's, or that the template does not have."""

    cdef type kind       # None: it is the template's, but for the changes
    cdef Where where
    cdef tuple changes


cdef dict NOTHING = {}


cdef bint irreplaceable(State node) except -1:
    """Whether a new node would lack something that Python put on this one.

    An attribute that is no key (a ``cached_property``, what a setter keeps), or a weak reference.
    """
    cdef type kind = type(node), base
    if kind is State:
        return False
    for base in kind.__mro__:
        if base is State:
            break
        if base.__dict__.get("__slots__"):
            return True
    try:
        return getweakrefcount(node) or PyObject_GenericGetDict(node, NULL)
    except AttributeError:  # its classes have ``__slots__ = ()``
        return False


cdef tuple differences(State node, State origin, Py_ssize_t* nodes, bint* plain):
    """What has to be done to ``origin``, or an empty state when it is None, to get ``node``.

    None: it cannot be said, or somebody holds a nested state. Adds up the nodes that were looked
    at, and says whether all values are scalars (``plain``).
    """
    cdef dict theirs = NOTHING if origin is None else origin.d
    cdef list changes
    cdef PyObject *key
    cdef PyObject *value
    cdef PyObject *known
    cdef PyObject *before
    cdef Py_ssize_t at = 0, other = 0, shared = 0
    nodes[0] += 1
    if node.plan is not None or node.stale is not None or node.detached or irreplaceable(node):
        return None
    if node.d is theirs:
        return ()
    changes = []
    while PyDict_Next(theirs, &other, &known, &before):
        if PyDict_GetItemWithError(node.d, <object> known) == NULL:
            changes += (<object> known, MISSING)
            continue
        shared += 1
        if not PyDict_Next(node.d, &at, &key, &value):
            return None
        if key != known and <str> <object> key != <str> <object> known:
            return None  # it went and came back: the keys have another order
        if value != before and not add_change(changes, node, key, value, before, nodes, plain):
            return None
    while PyDict_Next(node.d, &at, &key, &value):
        if not add_change(changes, node, key, value, NULL, nodes, plain):
            return None
    return tuple(changes)


cdef bint add_change(
    list changes, State node, PyObject* key, PyObject* value, PyObject* before,
    Py_ssize_t* nodes, bint* plain,
) except -1:
    """Note what a key has; False: it cannot be said."""
    cdef State child, origin = None
    cdef Below below
    if not isinstance(<object> value, State):
        plain[0] = plain[0] and scalar(<object> value)
        changes += (<object> key, <object> value)
        return True
    if value.ob_refcnt != 1:  # the dict's
        return False
    child = <State> <object> value
    if child.journal is not node.journal:
        return False
    if before != NULL and isinstance(<object> before, State):
        if type(<object> before) is type(child):
            origin = <State> <object> before
    below = Below.__new__(Below)
    below.changes = differences(child, origin, nodes, plain)
    if below.changes is None:
        return False
    if origin is not None and not below.changes:
        return True  # it was only read
    if origin is None:
        below.kind = type(child)
        below.where = child.where
    plain[0] = False
    changes += (<object> key, below)
    return True


cdef int restore(State node, tuple changes) except -1:
    """Make of a node that has what its template has what ``differences`` was told of."""
    cdef State child
    cdef Below below
    cdef Py_ssize_t at
    node.own()
    for at in range(0, len(changes), 2):
        key, value = changes[at], changes[at + 1]
        if value is MISSING:
            PyDict_DelItem(node.d, key)
            continue
        if type(value) is Below:
            below = <Below> value
            if below.kind is None:
                child = twin(<State?> node.d[key], node.journal)
            else:
                child = make_node(below.kind)
                child.d = {}
                child.where = below.where
                child.journal = node.journal
            restore(child, below.changes)
            value = child
        PyDict_SetItem(node.d, key, value)
    return 0
