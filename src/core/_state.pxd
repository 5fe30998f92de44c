# Plan of the room: the state tree, what was assigned to it, and who may.

from cpython.object cimport PyObject

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    ctypedef struct PyTypeObject:
        PyObject* tp_dict
    PyTypeObject* Py_TYPE(object value)
    PyTypeObject PyLong_Type, PyUnicode_Type, PyFloat_Type, PyBool_Type
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    Py_UCS4 PyUnicode_READ_CHAR(object text, Py_ssize_t index)

cdef enum:  # Journal.alert
    DUE = 1  # somebody waits for a partial push
    WATCHED = 2  # there are subscriptions
    CALCULATED = 4  # there are calculated properties


cdef class Where:
    cdef readonly tuple keys  # from the root
    cdef bytes prefix  # opening quote, escaped JSON Pointer, "/"; None: a key has no text
    cdef int depth  # containers on the way, this one included: 1 for the root
    cdef bint silent  # private or without text: nothing here or below is encoded
    cdef tuple made_by  # (class, name) of the property whose value is here, or above; or None


cdef class Cell:
    cdef object value  # the template's own mutable leaf; sessions get deep copies


cdef class Shared:
    cdef readonly object value  # one object for all sessions


cdef class Field:
    cdef readonly str key
    cdef readonly object kind  # what a nested state is made of, or None
    cdef readonly bint opaque  # a dict stays a plain dict
    cdef readonly bint needed  # a nested state that is always there
    cdef readonly object default  # MISSING when there is none


cdef class Grown:
    cdef list items  # the list itself
    cdef Py_ssize_t size  # how long it was
    cdef list was  # None, or the list that others hold too: it stayed as it was, items is a copy
    cdef bint whole  # it was assigned again as well: send all of it


cdef class Plan:  # the calculated properties that a schema has
    cdef readonly dict properties  # name -> Calculated, each after those it is calculated from
    cdef readonly Needs needs


cdef class Needs:  # of a place, relative to the node that has the properties
    cdef readonly tuple here  # names of properties that are calculated from just this place
    cdef readonly tuple all  # from here or from below
    cdef readonly dict below  # key -> Needs


cdef class Journal:
    cdef PyThreadState* owner  # the thread that may assign; NULL between turns
    cdef PyThreadState* encoder  # the thread that is calling encoders
    cdef PyObject* root  # borrowed: the root clears it when it goes
    cdef PyThreadState* calculator  # the thread that is calculating a property
    cdef int alert  # DUE, WATCHED and CALCULATED bits
    cdef int cascade  # how deep subscribers assign inside subscribers
    cdef readonly bint alone  # a State on its own: always assignable, never rolled back
    cdef bint sent  # something was shipped in this turn: see the segments in _state.pyx
    cdef bint structural  # a nested state was placed, removed or marked since all was shipped
    cdef bint shipping  # a shipped patch is on its way to the loop
    cdef bint clients  # somebody has a snapshot
    cdef bint own_watches  # the tree of subscriptions is not the template's
    cdef long long position  # patches shipped so far
    cdef list dirty  # nodes with a log; None when empty
    cdef list older  # nodes with a prev; None when empty
    cdef set missing  # paths that clients do not have because they could not be encoded, or None
    cdef set planned  # addresses of the nodes with properties, without the root's
    cdef list pending  # nodes with stale properties; None when there are none
    cdef object watches  # Watches: the tree of subscriptions
    cdef object on_due
    cdef list later  # calls of async subscribers
    cdef list unencodable  # (path, type name)
    cdef list marked  # Shared: of a State on its own, which a template may be made of; or None
    cdef dict kept  # id -> (value that reported its change in this turn, how to undo that or None)
    cdef object __weakref__


cdef class State:
    cdef dict d
    cdef dict log  # key -> its value at the later of turn start and last ship
    cdef dict prev  # key -> its value at the earlier one
    cdef Journal journal  # None in a template
    cdef Where where
    cdef dict fields  # key -> Field, those of its class; None: no schema
    cdef Plan plan  # the calculated properties of its class, or None
    cdef dict stale  # name -> Calculated, None while it is being calculated; or None
    cdef PyThreadState* gate  # the thread whose assignments need no further check
    cdef PyObject* last  # a key of log whose value is a scalar; looked at when the gate is open
    cdef bint borrowed  # d is the template's: copy it before a change
    cdef bint detached  # removed from its tree

    cdef object read(self, object key)
    cdef object bring(self, str key, object value)
    cdef int own(self) except -1
    cdef str name(self, object key)
    cdef int admit(self) except -1
    cdef int assign(self, object key, object value) except -1
    cdef int store(self, str key, object new) except -1
    cdef object put(self, str key, object new)
    cdef int remove(self, str key) except -1
    cdef int grow(self, object key, list items) except -1
    cdef dict filled(self)


cdef class StateView:
    cdef State node


cdef struct Hooks:
    int (*told)(State node, str key, object old, bint had, object new, bint has) except -1
    int (*renew)(State node, str key) except -1
    int (*settle)(State node) except -1
    int (*begin)(State node) except -1


cdef Hooks hooks
cdef object MISSING  # stands for no value in records
cdef Where ROOT

cdef inline bint scalar(object value) noexcept:
    """Values that can neither change nor run code when they go."""
    cdef PyTypeObject* kind = Py_TYPE(value)
    return (
        kind == &PyLong_Type
        or kind == &PyUnicode_Type
        or kind == &PyFloat_Type
        or kind == &PyBool_Type
        or value is None
    )


cdef inline bint private(str key) noexcept:
    return PyUnicode_GET_LENGTH(key) > 0 and PyUnicode_READ_CHAR(key, 0) == c'_'


cdef inline State root_of(Journal journal):
    """The root, while somebody holds it: one that is just going still has its address here."""
    if journal.root == NULL or journal.root.ob_refcnt <= 0:
        return None
    return <State> <object> journal.root


cdef Where place_below(Where parent, str key)
cdef State make_node(type kind)
cdef dict poured(dict fields, dict values)
cdef type kind_of(Field field, object value)
cdef str spell(tuple keys)
cdef str key_name(object key, Where where)
cdef int check_depth(object value, Where where, str key, list reporters=*) except -1
cdef int take_in(object value, Where where, str key, Journal journal, bint everybody) except -1
cdef int undo_reporters(Journal journal) except -1
cdef int set_detached(State node, bint detached) except -1
cdef Grown grown(list items, bint whole)
cdef dict raw(State node, bint own)
cdef State twin(State original, Journal journal)
cdef object shown(object value, Journal journal)
cdef bint is_marked(object value, Journal journal)
cdef int move_records(State node, str key, list items, list copy) except -1
cdef object convert(object value, Where where, str key, Journal journal, dict fields)
cdef bint calculated(State node, str key) except -1
cdef object not_yours(State node, str key, type kind)
cdef Where made_place(State node, str name)
cdef int enrol(State node) except -1
cdef int settled(State node) except -1
cdef int drop_stale(Journal journal) except -1
cdef StateView make_view(State node)
cdef list kept_any(list things, object thing)
