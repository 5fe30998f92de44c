# cython: language_level=3
"""The state tree: what handlers read and assign, and the record of what they assigned.

Who owns what
    A Ledger belongs to one session and holds the root. Every node (State) holds its values, the
    Journal of its session and its place (Where). A node never moves: what is assigned elsewhere is
    copied, so a place is computed once and no node points to its parent. The Journal holds nodes only
    while they have records, so a session without pending records is freed without the collector.
    A session's node begins with the dict of its template's node (``borrowed``) and copies it at the
    first write, or when a nested state or a mutable leaf is read for the first time.

Who may call what
    Assigning: the thread that opened the turn (``Ledger.open``, ``adopt``). Reading: any thread.
    ``ship(foreign=True)`` and ``snapshot(foreign=True)``: the loop, also beside a running turn.
    Each step below runs no Python code between its first read and its last store, cannot start the
    collector in between, and drops old values last, so the GIL makes it atomic.

The two segments of one log
    Two moments matter: T, when the turn began (undo), and F, when the last patch was shipped. ``log``
    holds values at the *later* of the two, ``prev`` at the *earlier* one, for the keys changed between
    them; ``Journal.sent`` says that T is the earlier. An assignment touches ``log`` only.

    ========================  ====================================================================
    ship in a turn            unsent: prev goes; then prev := prev over log, sent
    ship between turns        both go
    commit                    sent: prev goes; then prev := prev over log, unsent
    undo, rollback            log is undone; sent: values change places with prev, unsent
    a patch is made from      log, and prev over it when unsent
    ========================  ====================================================================

    A key whose value cannot be encoded yet (beside a running turn) keeps both its records: they
    say what it was at T and at F under either meaning.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.dict cimport (
    PyDict_Contains,
    PyDict_Copy,
    PyDict_DelItem,
    PyDict_Next,
    PyDict_SetItem,
    PyDict_Size,
)
from cpython.list cimport PyList_GET_SIZE, PyList_GetSlice, PyList_SetSlice
from cpython.object cimport PyObject
from ._patch cimport (
    APPEND,
    DELETE,
    SET,
    Buf,
    Draft,
    Patch,
    buf_finish,
    buf_give,
    buf_take,
    default_encoder,
    draft_begin,
    draft_end,
    draft_finish,
    draft_op,
    draft_scalar,
    loads,
    put,
    put_any,
    put_key,
    put_leaf,
    put_pointer,
    put_tail,
)

from copy import deepcopy
from sys import intern

from ._patch import TooDeep, decode_value, render
from .errors import Detached, StaleTurn
from .types import MAX_DEPTH

cdef extern from "Python.h":
    PyThreadState* PyThreadState_Get() noexcept
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    PyObject* PyDict_SetDefault(object mapping, object key, object value) except NULL
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    Py_UCS4 PyUnicode_READ_CHAR(object text, Py_ssize_t index)
    Py_ssize_t PyUnicode_Tailmatch(
        object text, object part, Py_ssize_t start, Py_ssize_t end, int direction
    ) except -1
    object PyUnicode_FromObject(object text)
    int PyGC_Disable() noexcept
    int PyGC_Enable() noexcept
    ctypedef struct PyTypeObject:
        pass
    PyTypeObject* Py_TYPE(object value)
    PyTypeObject PyLong_Type, PyUnicode_Type, PyFloat_Type, PyBool_Type

cdef int LIMIT = MAX_DEPTH
cdef enum:
    CASCADE = 128

cdef object MISSING = object()
cdef type NoneKind = type(None)
cdef object adapter = None


def set_subscriber_adapter(adapt):
    """Install what turns a subscriber into ``call(payload, context, state)``.

    A call whose ``is_async`` attribute is true runs after the handler, before the commit.
    """
    global adapter
    adapter = adapt


cdef inline bint scalar(object value) noexcept:
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


# ---------------------------------------------------------------- places

@cython.final
cdef class Where:
    """A place in the tree. Shared by the template's node and all sessions' nodes there."""


cdef Where root_place():
    cdef Where where = Where.__new__(Where)
    where.keys = ()
    where.prefix = b'"/'
    where.depth = 1
    where.silent = False
    return where


cdef Where ROOT = root_place()


cdef Where place_below(Where parent, str key):
    cdef Where where = Where.__new__(Where)
    cdef Buf buf
    where.keys = parent.keys + (key,)
    where.depth = parent.depth + 1
    where.silent = parent.silent or private(key)
    if where.depth > LIMIT:
        raise ValueError(f"nested deeper than {LIMIT}, or containing itself: {spell(where.keys)}")
    if parent.prefix is not None:
        buf.data = NULL
        buf_take(&buf)
        try:
            if put_pointer(&buf, parent.prefix, key):
                buf.data[buf.len - 1] = c'/'  # instead of the closing quote
                where.prefix = PyBytes_FromStringAndSize(buf.data, buf.len)
        finally:
            buf_give(&buf)
    if where.prefix is None:
        where.silent = True
    return where


cdef str spell(tuple keys):
    """A path as subscribers write it; a long one is shortened."""
    shown = [key.replace(".", "\\.") for key in keys]
    if len(shown) > 12:
        shown = [*shown[:6], "...", *shown[-3:]]
    return ".".join(shown)


cdef tuple parse_path(object path):
    if isinstance(path, tuple):
        for key in path:
            if not isinstance(key, str):
                raise TypeError(f"the keys of a path are strings, not {type(key).__name__}: {path!r}")
        if not path:
            raise ValueError("a path needs at least one key")
        return tuple([PyUnicode_FromObject(key) for key in path])
    if not isinstance(path, str):
        raise TypeError(f"a path is a string or a tuple of keys, not {type(path).__name__}")
    keys, part, i = [], [], 0
    while i < len(path):
        if path[i] == "\\" and path[i + 1 : i + 2] == ".":
            part.append(".")
            i += 2
            continue
        if path[i] == ".":
            keys.append("".join(part))
            part = []
        else:
            part.append(path[i])
        i += 1
    keys.append("".join(part))
    if "" in keys:
        raise ValueError(f"empty key in the path {path!r}; for the key '' use a tuple of keys")
    return tuple(keys)


# ---------------------------------------------------------------- small parts

@cython.final
cdef class Cell:
    """A mutable leaf of a template. Never handed out: sessions get copies of its value."""


@cython.final
cdef class Shared:
    """``gr.shared(value)``: the one object of this value is meant for all sessions."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"shared({self.value!r})"


@cython.final
cdef class Grown:
    """Record of a list that grew by append: what it was is its first ``size`` items."""


@cython.final
cdef class Tree:
    """A private copy of a subtree, whose leaves still have to be encoded."""


cdef Grown grown(list items, bint whole):
    cdef Grown record = Grown.__new__(Grown)
    record.items = items
    record.size = PyList_GET_SIZE(items)
    record.whole = whole
    return record


@cython.final
@cython.no_gc_clear
cdef class Journal:
    """What a session's nodes share: who may assign, and which nodes have records."""


# ---------------------------------------------------------------- values on their way in

cdef int too_deep(object value, int room) except -1:
    """1 when plain containers in the value are nested deeper than ``room``."""
    cdef type kind = type(value)
    cdef PyObject* k
    cdef PyObject* v
    cdef Py_ssize_t at = 0
    if kind is list or kind is tuple:
        if room <= 0:
            return 1
        for item in value:
            if not scalar(item) and too_deep(item, room - 1):
                return 1
    elif kind is dict:
        if room <= 0:
            return 1
        while PyDict_Next(value, &at, &k, &v):
            if not scalar(<object> v) and too_deep(<object> v, room - 1):
                return 1
    return 0


cdef int check_depth(object value, Where where, str key) except -1:
    if too_deep(value, LIMIT - where.depth):
        raise ValueError(
            f"nested deeper than {LIMIT}, or containing itself: {spell(where.keys + (key,))}"
        )
    return 0


cdef object convert(object value, Where where, str key, Journal journal):
    """What is stored for a value assigned to ``key`` of the node at ``where``."""
    if scalar(value):
        return value
    if isinstance(value, State):
        return build((<State> value).d, place_below(where, key), journal)
    if isinstance(value, dict):
        return build(value, place_below(where, key), journal)
    if type(value) is StateView:
        return build((<StateView> value).node.d, place_below(where, key), journal)
    if type(value) is Shared:
        return (<Shared> value).value
    check_depth(value, where, key)
    return value


cdef State build(dict source, Where where, Journal journal):
    """A new node with a copy of the dict; dicts and states in it become nodes as well."""
    cdef State node = State.__new__(State)
    cdef dict d = {}
    cdef str name
    for key, value in list(source.items()):
        name = key_name(key, where)
        d[name] = convert(value, where, name, journal)
    node.d = d
    node.journal = journal
    node.where = where
    return node


cdef str key_name(object key, Where where):
    if type(key) is str:
        return <str> key
    if isinstance(key, str):
        return <str> PyUnicode_FromObject(key)  # a subclass may hash as it likes
    raise TypeError(
        f"state keys are strings, not {type(key).__name__}: {key!r} in {spell(where.keys) or 'the root'}"
    )


cdef State twin(State original, Journal journal):
    """The session's node for a node of its template."""
    cdef State node = State.__new__(State)
    node.d = original.d
    node.borrowed = True
    node.where = original.where
    node.journal = journal
    return node


cdef int set_detached(State node, bint detached) except -1:
    """Mark a subtree as removed from its tree, or as back in it."""
    cdef PyObject* k
    cdef PyObject* v
    cdef Py_ssize_t at = 0
    node.detached = detached
    node.gate = NULL
    if node.borrowed:
        return 0  # all below is the template's
    while PyDict_Next(node.d, &at, &k, &v):
        if isinstance(<object> v, State) and (<State> v).journal is node.journal:
            set_detached(<State> v, detached)
    return 0


cdef object shown(object value, Journal journal):
    """A value that may still be the template's, made safe to hand to a subscriber."""
    cdef State node
    if type(value) is Cell:
        return deepcopy((<Cell> value).value)
    if isinstance(value, State) and (<State> value).journal is not journal:
        node = twin(<State> value, journal)
        node.detached = True
        return node
    if type(value) is Grown:
        return PyList_GetSlice((<Grown> value).items, 0, (<Grown> value).size)
    return value


# ---------------------------------------------------------------- the node

@cython.no_gc_clear
cdef class State:
    """A mapping of string keys whose assignments are tracked. Nested dicts are States too.

    ``State({...})`` on its own may always be assigned and gives its changes by ``take_patch()``.
    A session's state may be assigned by the turn that was given it. A missing key reads as None.
    """

    def __init__(self, values=None, /):
        cdef Journal journal
        cdef State copy
        if self.journal is not None:
            raise TypeError("a state cannot be initialised twice")
        journal = Journal.__new__(Journal)
        journal.alone = True
        journal.root = <PyObject*> self
        if values is None:
            self.d = {}
        else:
            if isinstance(values, State):
                values = (<State> values).d
            elif type(values) is StateView:
                values = (<StateView> values).node.d
            elif not isinstance(values, dict):
                values = dict(values)
            copy = build(values, ROOT, journal)
            self.d = copy.d
        self.where = ROOT
        self.journal = journal

    def __dealloc__(self):
        if self.journal is not None and self.journal.root == <PyObject*> self:
            self.journal.root = NULL

    # -- reading

    cdef object read(self, object key):
        """The value of a key, made the session's own; None when it is missing."""
        cdef PyObject* found
        if type(key) is not str:
            if not isinstance(key, str):
                return None
            key = PyUnicode_FromObject(key)
        found = PyDict_GetItemWithError(self.d, key)
        if found == NULL:
            return None
        value = <object> found
        if scalar(value):
            return value
        if type(value) is Cell or (
            isinstance(value, State) and (<State> value).journal is not self.journal
        ):
            return self.bring(<str> key, value)
        return value

    cdef object bring(self, str key, object value):
        """Make the session's own node or copy for a value that is still the template's."""
        cdef PyObject* found
        if type(value) is Cell:
            mine = deepcopy((<Cell> value).value)  # may run anything
        else:
            mine = twin(<State> value, self.journal)
            (<State> mine).detached = self.detached
        self.own()
        found = PyDict_GetItemWithError(self.d, key)
        if found != NULL and <object> found is value:
            PyDict_SetItem(self.d, key, mine)
            return mine
        return self.read(key)  # somebody else was faster

    cdef int own(self) except -1:
        cdef dict copy
        if self.borrowed:
            copy = PyDict_Copy(self.d)  # may run the collector, and that may do this very thing
            if self.borrowed:
                self.d = copy
                self.borrowed = False
        return 0

    cdef dict filled(self):
        """A copy of the values, each made the session's own."""
        cdef dict copy = PyDict_Copy(self.d)
        for key, value in list(copy.items()):
            if type(value) is Cell or isinstance(value, State):
                copy[key] = self.read(key)
        return copy

    def __getitem__(self, key):
        return self.read(key)

    def __contains__(self, key):
        return isinstance(key, str) and PyUnicode_FromObject(key) in self.d

    def __len__(self):
        return PyDict_Size(self.d)

    def __iter__(self):
        return iter(list(self.d))

    def __reversed__(self):
        return iter(list(self.d)[::-1])

    def keys(self):
        """The keys at this moment."""
        return dict.fromkeys(self.d).keys()

    def values(self):
        """The values at this moment; nested ones are States."""
        return self.filled().values()

    def items(self):
        """The pairs at this moment; nested values are States."""
        return self.filled().items()

    def get(self, key, default=None):
        """The value of a key, or ``default``."""
        if key in self:
            return self.read(key)
        return default

    def __eq__(self, other):
        if isinstance(other, State):
            return self.to_raw_state() == (<State> other).to_raw_state()
        if type(other) is StateView:
            return self.to_raw_state() == (<StateView> other).node.to_raw_state()
        if isinstance(other, dict):
            return self.to_raw_state() == other
        return NotImplemented

    def __repr__(self):
        return f"{type(self).__name__}({raw(self, False)!r})"

    def __getattr__(self, name):
        # Only called for names that are no attributes.
        if self.d is not None and name in self.d:
            return self.read(name)
        raise AttributeError(
            f"the state has no key {name!r}; state[{name!r}] is None for a missing key"
        )

    def __dir__(self):
        return sorted({*object.__dir__(self), *[key for key in self.d if key.isidentifier()]})

    def to_raw_state(self):
        """A plain copy, private keys included. Leaves are the objects themselves."""
        return raw(self, True)

    def to_dict(self):
        """A copy that can be serialised: what a client has, without private keys."""
        cdef list failed = []
        cdef list holes = []
        return decode_value(loads(render(whole(self, holes, failed, None), False, [])))

    # -- assigning

    cdef str name(self, object key):
        return <str> key if type(key) is str else key_name(key, self.where)

    cdef int admit(self) except -1:
        """Check that this thread may assign here, and be ready to record it."""
        cdef Journal journal = self.journal
        cdef PyThreadState* me = PyThreadState_Get()
        cdef dict fresh = None
        if self.log is None:
            fresh = {}
        if self.borrowed:
            self.own()
        if self.detached:
            raise Detached(
                f"{spell(self.where.keys)} was removed or replaced; what was assigned would reach "
                "nobody: read it anew from its parent"
            )
        if journal is None:
            raise StaleTurn("this state has no session")
        if journal.encoder == me:
            raise StaleTurn(
                "an encoder assigned to the state it is encoding: assign before, in the handler"
            )
        if journal.alone:
            journal.owner = me
        elif journal.owner != me:
            raise StaleTurn(
                "the state was assigned outside its turn: use `with session.turn() as state:` "
                "(`async with` on the loop)"
                if journal.owner == NULL
                else "the state was assigned beside the running turn of its session, from another "
                "thread: use `with session.turn() as state:` there"
            )
        if self.log is None:
            self.log = fresh
            if journal.dirty is None:
                journal.dirty = [self]
            else:
                journal.dirty.append(self)
        self.gate = me
        self.last = NULL
        return 0

    def __setitem__(self, key, value):
        # The fast path: the node is admitted, nothing has to be told, the value is a scalar and
        # so is what it replaces (a nested state would have to be marked as removed).
        cdef PyObject* old
        cdef Py_ssize_t records
        if (
            self.gate != NULL
            and self.gate == PyThreadState_Get()
            and self.journal.alert == 0
            and type(key) is str
            and scalar(value)
        ):
            if self.last == <PyObject*> key:
                PyDict_SetItem(self.d, key, value)  # again: recorded, and a scalar before
                return
            old = PyDict_GetItemWithError(self.d, key)
            if old == NULL or scalar(<object> old):
                records = PyDict_Size(self.log)
                PyDict_SetDefault(self.log, key, MISSING if old == NULL else <object> old)
                if PyDict_Size(self.log) != records:
                    self.last = <PyObject*> key  # this very object, which log keeps alive
                PyDict_SetItem(self.d, key, value)
                return
        self.assign(key, value)

    def __delitem__(self, key):
        if not isinstance(key, str):
            return
        self.remove(self.name(key))

    def __setattr__(self, name, value):
        found = getattr(type(self), name, None)
        if found is not None or hasattr(type(self), name):
            if hasattr(type(found), "__set__"):
                object.__setattr__(self, name, value)
                return
            raise AttributeError(f"{name} is a method of the state: assign state[{name!r}]")
        if name in self.d:
            self.assign(name, value)
            return
        raise AttributeError(f"the state has no key {name!r}: make it by state[{name!r}] = ...")

    def __delattr__(self, name):
        if hasattr(type(self), name) or name not in self.d:
            raise AttributeError(name)
        self.remove(name)

    cdef int assign(self, object key, object value) except -1:
        cdef str name = self.name(key)
        cdef PyObject* found
        cdef object new = value
        if isinstance(value, State) or type(value) is StateView:
            found = PyDict_GetItemWithError(self.d, name)
            if type(value) is StateView:
                value = (<StateView> value).node
            if found == <PyObject*> value:
                new = value  # marks all of it
            else:
                new = convert(value, self.where, name, self.journal)
        elif not scalar(value):
            new = convert(value, self.where, name, self.journal)
        self.admit()
        return self.store(name, new)

    cdef int store(self, str key, object new) except -1:
        """Record and store. The node is admitted; ``new`` is a leaf or a node made for here."""
        cdef PyObject* found = PyDict_GetItemWithError(self.d, key)
        cdef PyObject* record = PyDict_GetItemWithError(self.log, key)
        cdef bint had = found != NULL
        cdef object old = MISSING
        if had:
            old = <object> found
        if record == NULL:
            PyDict_SetItem(self.log, key, old)
        elif type(<object> record) is Grown and (<Grown> <object> record).items is new:
            (<Grown> <object> record).whole = True
        if isinstance(new, State):
            self.journal.structural = True
            if isinstance(old, State) and old is not new:
                set_detached(<State> old, True)
        elif isinstance(old, State):
            self.journal.structural = True
            set_detached(<State> old, True)
        self.last = <PyObject*> key if record == NULL and scalar(new) else NULL
        PyDict_SetItem(self.d, key, new)
        if self.journal.alert:
            self.told(key, old, had, new, True)
        return 0

    cdef int remove(self, str key) except -1:
        cdef PyObject* found
        cdef object old
        self.admit()
        found = PyDict_GetItemWithError(self.d, key)
        if found == NULL:
            return 0
        old = <object> found
        if not PyDict_Contains(self.log, key):
            PyDict_SetItem(self.log, key, old)
        if isinstance(old, State):
            self.journal.structural = True
            set_detached(<State> old, True)
        PyDict_DelItem(self.d, key)
        if self.journal.alert:
            self.told(key, old, True, None, False)
        return 0

    cdef int grow(self, object key, list items) except -1:
        cdef str name = self.name(key)
        cdef PyObject* record
        cdef PyObject* found
        cdef Grown spare
        cdef list target, before
        cdef Py_ssize_t size
        check_depth(items, self.where, name)
        value = self.read(name)
        if value is None and name not in self.d:
            return self.assign(name, items)
        if not isinstance(value, list):
            raise TypeError(
                f"{spell(self.where.keys + (name,))} is no list but {type(value).__name__}: only "
                "lists can be appended to"
            )
        target = <list> value
        spare = grown(target, False)
        before = list(target) if self.journal is not None and self.journal.alert else None
        self.admit()
        found = PyDict_GetItemWithError(self.d, name)
        if found != <PyObject*> target:
            raise RuntimeError(f"{name} was replaced while it was appended to")
        record = PyDict_GetItemWithError(self.log, name)
        size = PyList_GET_SIZE(target)
        spare.size = size
        if record == NULL:
            PyDict_SetItem(self.log, name, spare)
        elif record == <PyObject*> target:  # it was assigned to itself: what it was is unknown
            spare.whole = True
            PyDict_SetItem(self.log, name, spare)
        PyList_SetSlice(target, size, size, items)
        if self.journal.alert:
            self.told(name, before, True, target, True)
        return 0

    def append(self, key, item):
        """Append to the list at ``key``; clients get the item, not the list."""
        self.grow(key, [item])

    def extend(self, key, items):
        """Append several items to the list at ``key``; clients get the items, not the list."""
        self.grow(key, list(items))

    def update(self, values=(), /, **more):
        """Assign several keys."""
        if isinstance(values, (State, StateView)):
            values = values.items()
        for key, value in dict(values, **more).items():
            self[key] = value

    def setdefault(self, key, default=None):
        """The value of a key; a missing one is assigned ``default`` first."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key, default=None):
        """Delete a key and return its value, or ``default``."""
        if key not in self:
            return default
        value = self[key]
        del self[key]
        return value

    def popitem(self):
        """Delete the last key and return it with its value."""
        if not self.d:
            raise KeyError("the state is empty")
        key = list(self.d)[-1]
        return key, self.pop(key)

    def clear(self):
        """Delete all keys."""
        self.replace({})

    def replace(self, values, /):
        """Make this state equal to ``values``: the other keys are deleted."""
        cdef dict fresh = {}
        cdef str name
        if isinstance(values, State):
            values = (<State> values).d
        elif type(values) is StateView:
            values = (<StateView> values).node.d
        elif not isinstance(values, dict):
            values = dict(values)
        for key, value in list(values.items()):
            name = self.name(key)
            fresh[name] = convert(value, self.where, name, self.journal)
        for key in list(self.d):
            if key not in fresh:
                self.remove(key)
        for key, value in fresh.items():
            self.admit()  # subscribers ran
            self.store(key, value)

    def take_patch(self):
        """What was assigned since the last call, as a Patch. For a State on its own."""
        if self.journal is None or not self.journal.alone:
            raise RuntimeError("a session's patches are taken by its links: take_patch() is for a State on its own")
        if self.journal.root != <PyObject*> self:
            raise RuntimeError("take_patch() is called on the root, not on a nested state")
        return make_patch(self.journal, self, False, True)

    # -- subscriptions

    def subscribe_mutation(self, path, handler, initial=False):
        """Call ``handler`` whenever a path is assigned or deleted, or lost or won with a parent.

        Paths are ``"a.b"`` (``\\.`` for a literal dot), tuples of keys, or a list of those. The
        handler gets ``payload`` {"previous_value", "new_value"} and ``context`` {"event": "mutation",
        "mutation": path}, by name. Returns a handle with ``cancel()``.
        """
        cdef Handle handle = Handle.__new__(Handle)
        cdef Watch watch
        if self.journal is None:
            raise StaleTurn("this state has no session")
        paths = path if isinstance(path, list) else [path]
        if not paths:
            raise ValueError("subscribe to at least one path")
        places = [(parse_path(one), one) for one in paths]
        call = adapter(handler)
        own_watches(self.journal)
        handle.journal = self.journal
        handle.watches = []
        for keys, one in places:
            watch = Watch.__new__(Watch)
            watch.call = call
            watch.later = bool(getattr(call, "is_async", False))
            watch.path = one if isinstance(one, str) else spell(keys)
            plant(self.journal.watches, self.where.keys + keys, watch)
            handle.watches.append(watch)
        self.journal.alert |= WATCHED
        if initial:
            for (keys, _), watch in zip(places, handle.watches):
                value = self
                for key in keys:
                    value = (<State> value).read(key) if isinstance(value, State) else None
                ring(self.journal, watch, None, value, "init")
        return handle

    cdef int told(self, str key, object old, bint had, object new, bint has) except -1:
        """Call the subscribers an assignment concerns, and whoever waits for a push."""
        cdef Journal journal = self.journal
        cdef Watches here = journal.watches
        cdef list due = []
        cdef Watch watch
        if journal.alert & WATCHED:
            for name in self.where.keys + (key,):
                if here is None:
                    break
                here = None if here.below is None else <Watches> here.below.get(name)
            if here is not None:
                collect(journal, here, old, had, new, has, due)
        if due:
            if journal.cascade >= CASCADE:
                raise RecursionError(
                    f"subscribers assign in a circle, {CASCADE} deep, last {spell(self.where.keys + (key,))}"
                )
            journal.cascade += 1
            try:
                for watch, before, after in due:
                    if not watch.cancelled:
                        ring(journal, watch, before, after, "mutation")
            finally:
                journal.cascade -= 1
        if journal.alert & DUE:
            journal.alert &= ~DUE
            if journal.on_due is not None:
                journal.on_due()
        return 0


cdef dict raw(State node, bint own):
    cdef dict out = {}
    for key, value in list(node.d.items()):
        if isinstance(value, State):
            out[key] = raw(<State> (node.read(key) if own else value), own)
        elif type(value) is Cell:
            out[key] = node.read(key) if own else (<Cell> value).value
        else:
            out[key] = value
    return out


# ---------------------------------------------------------------- subscriptions

@cython.final
cdef class Watch:
    """One subscription of one path."""


@cython.final
cdef class Watches:
    """Subscriptions by path: those of this place, and those below."""


@cython.final
cdef class Handle:
    """A subscription. ``cancel`` ends it; calling it again does nothing."""

    def cancel(self):
        cdef Watch watch
        for watch in self.watches:
            watch.cancelled = True
        own_watches(self.journal)
        if not prune(self.journal.watches):
            self.journal.alert &= ~WATCHED


cdef Watches copy_watches(Watches original):
    cdef Watches copy = Watches.__new__(Watches)
    copy.here = []
    if original is not None:
        copy.here.extend(original.here)
        if original.below is not None:
            copy.below = {key: copy_watches(item) for key, item in original.below.items()}
    return copy


cdef int own_watches(Journal journal) except -1:
    if not journal.own_watches:
        journal.watches = copy_watches(journal.watches)
        journal.own_watches = True
    return 0


cdef int plant(Watches tree, tuple keys, Watch watch) except -1:
    for key in keys:
        if tree.below is None:
            tree.below = {}
        if key not in tree.below:
            tree.below[key] = copy_watches(None)
        tree = tree.below[key]
    tree.here.append(watch)
    return 0


cdef bint prune(Watches tree) except -1:
    """Drop what is cancelled; False when nothing is left."""
    cdef list below
    tree.here = [watch for watch in tree.here if not (<Watch> watch).cancelled]
    if tree.below is not None:
        below = list(tree.below.items())
        tree.below = {key: item for key, item in below if prune(item)} or None
    return bool(tree.here) or tree.below is not None


cdef int collect(
    Journal journal, Watches here, object old, bint had, object new, bint has, list due
) except -1:
    cdef dict before = None
    cdef dict after = None
    cdef bint was, exists
    if here.here:
        first = shown(old, journal) if had else None
        for watch in here.here:
            due.append((watch, first, new if has else None))
    if here.below is None:
        return 0
    if had and isinstance(old, State):
        before = (<State> old).d
    if has and isinstance(new, State):
        after = (<State> new).d
    for key, item in here.below.items():
        was = before is not None and key in before
        exists = after is not None and key in after
        if was or exists:
            collect(
                journal,
                item,
                before[key] if was else None,
                was,
                (<State> new).read(key) if exists else None,
                exists,
                due,
            )
    return 0


cdef int ring(Journal journal, Watch watch, object before, object after, str event) except -1:
    payload = {"previous_value": before, "new_value": after}
    context = {"event": event, "mutation": watch.path}
    root = None if journal.root == NULL else <object> journal.root
    if watch.later:
        defer(journal, Later(watch.call, payload, context, root))
        return 0
    result = watch.call(payload, context, root)
    if result is not None and hasattr(result, "__await__"):
        defer(journal, Later(None, result, None, None))
    return 0


cdef int defer(Journal journal, object call) except -1:
    if journal.later is None:
        journal.later = []
    journal.later.append(call)
    return 0


@cython.final
cdef class Later:
    """A call of an async subscriber, made after the handler; returns an awaitable."""
    cdef object call
    cdef object payload
    cdef object context
    cdef object root

    def __init__(self, call, payload, context, root):
        self.call = call
        self.payload = payload
        self.context = context
        self.root = root

    def __call__(self):
        if self.call is None:
            return self.payload
        return self.call(self.payload, self.context, self.root)


# ---------------------------------------------------------------- undo and commit

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


cdef inline bint extends(Grown kept, object late) noexcept:
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


cdef int put_back(State node, str key, object record, list removed, list back, list trash) except -1:
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
        value = tail.items
        if PyList_GET_SIZE(tail.items) > tail.size:
            trash.append(PyList_GetSlice(tail.items, tail.size, PyList_GET_SIZE(tail.items)))
            PyList_SetSlice(tail.items, tail.size, PyList_GET_SIZE(tail.items), [])
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
                    PyDict_SetItem(swapped, <object> k, MISSING if found == NULL else <object> found)
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
    cdef bint wrap = "$bytes" in node.d or "$dict" in node.d
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
        if writer is not None and writer.pending and records(node, <object> k, writer.journal) is not None:
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
        if key == "$bytes" or key == "$dict":
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
    """Write a value with encoders: None, or the name of the type that has no form."""
    try:
        if not put_leaf(buf, value, room):
            put_any(buf, value, default_encoder, holes, room)
        return None
    except TooDeep:
        return f"{type(value).__name__} nested deeper than {LIMIT}"
    except Exception as error:
        return getattr(error, "kind", type(value).__name__)


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


cdef list kept_add(list nodes, State node):
    if nodes is None:
        return [node]
    nodes.append(node)
    return nodes


cdef list kept_any(list things, object thing):
    if things is None:
        return [thing]
    things.append(thing)
    return things


cdef Patch make_patch(Journal journal, State root, bint foreign, bint empty):
    """Seal, encode, count: the whole of ``ship``. None when there is nothing, unless ``empty``."""
    cdef Draft draft
    cdef Shipment shipment
    cdef Patch patch
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


cdef int force(Journal journal, State root, tuple keys, str key) except -1:
    """See to it that the next patch sets a key whole, whatever clients have."""
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
        elif type(value) is str:
            node_mark(target, key, value)
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
    else:
        if node.prev is None:
            node.prev = {}
            journal.older = kept_add(journal.older, node)
        node.prev[key] = <object> found
    return 0


cdef int node_mark(dict target, str key, object value) except -1:
    return 0


# ---------------------------------------------------------------- the ledger

@cython.final
@cython.no_gc_clear
cdef class Ledger:
    """One session's state with its turns: opened by ``Template.open()``."""

    def __init__(self):
        raise TypeError("ledgers come from Template.open()")

    # -- the turn

    cpdef object open(self):
        """Begin a turn; the calling thread owns it."""
        if self.journal.owner != NULL:
            raise RuntimeError("a turn of this session is open already")
        self.journal.owner = PyThreadState_Get()

    cpdef object adopt(self):
        """The open turn goes on in the calling thread."""
        cdef PyThreadState* me = PyThreadState_Get()
        cdef State node
        if self.journal.owner == NULL:
            raise RuntimeError("no turn of this session is open")
        if self.journal.owner != me:
            self.journal.owner = me
            if self.journal.dirty is not None:
                for node in self.journal.dirty:
                    node.gate = NULL

    cpdef object commit(self, bint keep):
        """End the turn. Without ``keep`` nobody needs to hear of it."""
        cdef Journal journal = self.journal
        journal.owner = NULL
        if journal.dirty is not None or journal.sent or (not keep and journal.older is not None):
            finish(journal, keep)

    cpdef object mark(self):
        """Move the moment ``undo`` and ``rollback`` go back to, to now."""
        finish(self.journal, True)

    cpdef object undo(self):
        """Give everything assigned in this turn its value at the start; the turn goes on."""
        revert(self.journal)

    cpdef object rollback(self, bint keep):
        """Undo, then end the turn."""
        revert(self.journal)
        self.commit(keep)

    # -- clients

    cpdef object ship(self, bint foreign=False):
        """Seal and encode what was not shipped: a Patch, or None when there is nothing.

        ``foreign``: from beside the turn; takes plain values only, the others wait. Otherwise
        ``shipping`` is true until ``shipped()`` is called, when there is a patch.
        """
        cdef Journal journal = self.journal
        cdef Patch patch
        if foreign:
            if journal.shipping or journal.encoder != NULL:
                return None
            return make_patch(journal, self.root, True, False)
        journal.shipping = True
        try:
            patch = make_patch(journal, self.root, False, False)
        except BaseException:
            journal.shipping = False
            raise
        if patch is None:
            journal.shipping = False
        return patch

    cpdef object shipped(self):
        """The last patch is in the inbox of the loop."""
        self.journal.shipping = False

    cpdef object snapshot(self, bint foreign=False):
        """(encoded state, position). Call ``ship()`` first.

        ``foreign``: values that are not plain, or not shipped, are left out and come with the next
        patch.
        """
        cdef Journal journal = self.journal
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
                if journal.missing and not foreign or not put_node(&buf, self.root, writer):
                    buf.len = 0
                    writer.owed = []
                    tree = grab(self.root, writer)
                for keys, key in writer.owed:
                    force(journal, self.root, keys, key)
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
                    force(journal, self.root, (<Where> where).keys, key)
            else:
                lost(journal, failed)
        journal.clients = True
        return text, position

    cpdef object forget(self):
        """The last link went: nobody has anything."""
        cdef Journal journal = self.journal
        cdef list trash = []
        cdef State node
        cdef dict log
        journal.clients = False
        journal.missing = None
        if not journal.sent:
            drop_prev(journal, trash)
            if journal.dirty is None:
                journal.structural = False
            return
        # prev has values at T, log those at F: from now on log has those at T.
        journal.sent = False
        nodes = journal.older
        journal.older = None
        if journal.dirty is not None:
            for node in journal.dirty:
                node.gate = NULL
                if node.prev is not None:
                    merge_older(node, node.log)
                    trash.append(node.log)
                    node.log = node.prev
                    node.prev = None
        if nodes is not None:
            for node in nodes:
                if node.prev is not None:
                    node.log = node.prev
                    node.prev = None
                    journal.dirty = kept_add(journal.dirty, node)

    cpdef list take_async(self):
        """The calls of async subscribers of this turn; each returns an awaitable."""
        cdef list later = self.journal.later
        self.journal.later = None
        return [] if later is None else later

    @property
    def view(self):
        """The read-only face of the state."""
        if self.face is None:
            self.face = make_view(self.root)
        return self.face

    @property
    def position(self):
        """Patches shipped so far."""
        return self.journal.position

    @property
    def in_turn(self):
        """True while a turn is open."""
        return self.journal.owner != NULL

    @property
    def owned(self):
        """True when the open turn belongs to the calling thread."""
        return self.journal.owner == PyThreadState_Get()

    @property
    def dirty(self):
        """True when something was assigned that has not been shipped."""
        cdef Journal journal = self.journal
        return journal.dirty is not None or (not journal.sent and journal.older is not None)

    @property
    def shipping(self):
        """True from the start of a ship until ``shipped()``."""
        return self.journal.shipping or self.journal.encoder != NULL

    @property
    def run_async(self):
        """Whether async subscribers wait for the end of the handler (``take_async``)."""
        return bool(self.journal.later)

    @property
    def due(self):
        """Set it to have ``on_due`` called by the next assignment."""
        return (self.journal.alert & DUE) != 0

    @due.setter
    def due(self, bint value):
        if value:
            self.journal.alert |= DUE
        else:
            self.journal.alert &= ~DUE

    @property
    def on_due(self):
        """Called by the owner, after the assignment that found ``due`` set."""
        return self.journal.on_due

    @on_due.setter
    def on_due(self, value):
        self.journal.on_due = value

    def take_unencodable(self):
        """(path, type name) of what clients did not get, since the last call."""
        found = self.journal.unencodable
        self.journal.unencodable = None
        return [] if found is None else found

    @property
    def unencodable(self):
        """(path, type name) of what clients did not get, since ``take_unencodable``."""
        return [] if self.journal.unencodable is None else list(self.journal.unencodable)


# ---------------------------------------------------------------- the view

cdef StateView make_view(State node):
    cdef StateView view = StateView.__new__(StateView)
    view.node = node
    return view


cdef object faced(object value):
    return make_view(<State> value) if isinstance(value, State) else value


@cython.final
@cython.no_gc_clear
cdef class StateView:
    """A state that can be read only: ``session.state``. Nested values are views too.

    Lists and other leaves are the objects themselves: change them in a turn only.
    """

    def __init__(self):
        raise TypeError("views come from session.state")

    def __getitem__(self, key):
        return faced(self.node.read(key))

    def __getattr__(self, name):
        if self.node is not None and name in self.node.d:
            return faced(self.node.read(name))
        raise AttributeError(
            f"the state has no key {name!r}; state[{name!r}] is None for a missing key"
        )

    def __contains__(self, key):
        return key in self.node

    def __len__(self):
        return len(self.node)

    def __iter__(self):
        return iter(self.node)

    def __reversed__(self):
        return reversed(self.node)

    def keys(self):
        """The keys at this moment."""
        return self.node.keys()

    def values(self):
        """The values at this moment; nested ones are views."""
        return {key: faced(value) for key, value in self.node.filled().items()}.values()

    def items(self):
        """The pairs at this moment; nested values are views."""
        return {key: faced(value) for key, value in self.node.filled().items()}.items()

    def get(self, key, default=None):
        """The value of a key, or ``default``."""
        return faced(self.node.get(key, default))

    def __eq__(self, other):
        return self.node == other

    def __repr__(self):
        return f"StateView({raw(self.node, False)!r})"

    def __dir__(self):
        return sorted({*object.__dir__(self), *[key for key in self.node.d if key.isidentifier()]})

    def to_raw_state(self):
        """A plain copy, private keys included. Leaves are the objects themselves."""
        return self.node.to_raw_state()

    def to_dict(self):
        """A copy that can be serialised: what a client has, without private keys."""
        return self.node.to_dict()

    def __setitem__(self, key, value):
        raise read_only()

    def __delitem__(self, key):
        raise read_only()

    def __setattr__(self, name, value):
        raise read_only()

    def __delattr__(self, name):
        raise read_only()

    def append(self, key, item):
        """Refused: see StaleTurn."""
        raise read_only()

    def extend(self, key, items):
        """Refused: see StaleTurn."""
        raise read_only()


cdef object read_only():
    return StaleTurn(
        "session.state is for reading: assign in `with session.turn() as state:` (`async with` on "
        "the loop), or to the `state` a handler is given"
    )


# ---------------------------------------------------------------- the template

cdef str intern_key(str key):
    """The interned string: look-ups by the literals of handlers then need no comparison."""
    return <str> intern(key)


cdef object prove = None  # callable(value, private) -> 0 share, 1 copy at first read; raises


def set_leaf_rule(rule):
    """Install what says of a template's leaf whether sessions share it (``greenroom.core.state``)."""
    global prove
    prove = rule


cdef State freeze(dict source, Where where):
    """A template's node: leaves that could change are put into cells."""
    cdef State node = State.__new__(State)
    cdef dict d = {}
    cdef str name
    cdef Cell cell
    node.where = where
    for key, value in list(source.items()):
        name = intern_key(key_name(key, where))
        if type(value) is Cell:
            value = (<Cell> value).value
        if isinstance(value, State):
            value = freeze((<State> value).d, place_below(where, name))
        elif isinstance(value, dict):
            value = freeze(value, place_below(where, name))
        elif type(value) is Shared:
            value = (<Shared> value).value
        elif not scalar(value):
            check_depth(value, where, name)
            if prove(value, where.silent or private(name), spell(where.keys + (name,))):
                cell = Cell.__new__(Cell)
                # The caller keeps the original and may change it.
                cell.value = deepcopy(value)
                value = cell
        d[name] = value
    node.d = d
    return node


@cython.final
@cython.no_gc_clear
cdef class Template:
    """The state sessions begin with. Never changes; sessions share it until they assign."""

    def __init__(self, values=None, /):
        cdef Watches watches = None
        if values is None:
            values = {}
        if isinstance(values, State):
            if (<State> values).journal is not None:
                watches = (<State> values).journal.watches
            values = (<State> values).d
        elif not isinstance(values, dict):
            raise TypeError(f"the state is a dict or a gr.State, not {type(values).__name__}")
        self.root = freeze(values, ROOT)
        if watches is not None:
            watches = copy_watches(watches)
            if prune(watches):
                self.watches = watches

    cpdef Ledger open(self):
        """The ledger of a new session."""
        cdef Journal journal = Journal.__new__(Journal)
        cdef State root = State.__new__(State)
        cdef Ledger ledger = Ledger.__new__(Ledger)
        root.d = self.root.d
        root.borrowed = True
        root.where = ROOT
        root.journal = journal
        journal.root = <PyObject*> root
        if self.watches is not None:
            journal.watches = self.watches
            journal.alert = WATCHED
        ledger.journal = journal
        ledger.root = root
        return ledger

    def __repr__(self):
        return f"Template({raw(self.root, False)!r})"
