# cython: language_level=3
"""The state tree: what handlers read and assign, and the record of what they assigned.

Who owns what
    A Ledger belongs to one session and holds the root. Every node (State) holds its values, the
    Journal of its session and its place (Where). A node never moves: what is assigned elsewhere is
    copied, so a place is computed once and no node points to its parent. The Journal holds nodes
    only while they have records: a session without pending ones is freed without the collector.
    A session's node begins with the dict of its template's node (``borrowed``) and copies it at the
    first write, or when a nested state or a mutable leaf is read for the first time.

Who may call what
    Assigning: the thread that opened the turn (``Ledger.open``, ``adopt``). Reading: any thread.
    ``ship(foreign=True)`` and ``snapshot(foreign=True)``: the loop, also beside a running turn.
    Each step below runs no Python code between its first read and its last store, cannot start the
    collector in between, and drops old values last, so the GIL makes it atomic.

The records
    ``log`` and ``prev`` of a node are two segments of one log: see ``_segments.pyx``.
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
from ._text cimport Buf, buf_give, buf_take, put_pointer

from copy import deepcopy

from .errors import Detached, StaleTurn
from .types import MAX_DEPTH as _MAX_DEPTH

cdef extern from "Python.h":
    PyThreadState* PyThreadState_Get() noexcept
    void PyType_Modified(PyTypeObject* kind)
    bint PyType_IsSubtype(type kind, type base) noexcept
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    PyObject* PyDict_SetDefault(object mapping, object key, object value) except NULL
    object PyUnicode_FromObject(object text)

cdef int LIMIT = _MAX_DEPTH
cdef enum:
    CASCADE = 128

cdef object MISSING = object()
cdef object adapter = None


def set_subscriber_adapter(adapt):
    """Install what turns a subscriber into ``call(payload, context, state)``.

    A call whose ``is_async`` attribute is true runs after the handler, before the commit.
    """
    global adapter
    adapter = adapt


cdef object take = None  # of _ship: the patch of a State on its own
cdef object serialise = None  # of _ship: what a client has of a subtree


def set_shipping(take_patch, to_dict):
    """Install what makes patches and plain copies; the floor above does (``_ship``)."""
    global take, serialise
    take = take_patch
    serialise = to_dict


cdef type mutable = None  # of core.mutable: the class of values that report their own changes
cdef object note = None  # and what is told where they lie
cdef object undone = None  # and that their turn was undone


def set_mutable(kind, note_place, after_undo):
    """Install ``MutableValue``, and who notes where such values lie and hears of an undo."""
    global mutable, note, undone
    mutable = kind
    note = note_place
    undone = after_undo


cdef list kept_any(list things, object thing):
    """A list with one thing more; None is the empty one."""
    if things is None:
        return [thing]
    things.append(thing)
    return things


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
                raise TypeError(
                    f"the keys of a path are strings, not {type(key).__name__}: {path!r}"
                )
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

    # -- for values that report their own changes (core.mutable)

    @property
    def assignable(self):
        """Whether the calling thread may assign now."""
        return self.alone or self.owner == PyThreadState_Get()

    @property
    def settled(self):
        """True when nothing was assigned that a rollback could take back."""
        return self.dirty is None and not self.sent

    def lies_at(self, tuple keys, value):
        """Whether the leaf at ``keys`` is ``value``, or holds it in lists, tuples and dicts."""
        return leaf_with(self, keys, value) is not None

    def mark(self, tuple keys, value, bint tell=True):
        """Assign the leaf at ``keys`` to itself where ``value`` still lies there.

        Without ``tell`` subscribers do not hear of it.
        """
        cdef State node = leaf_with(self, keys, value)
        cdef str key
        if node is None:
            return
        key = keys[len(keys) - 1]
        node.admit()
        if tell:
            node.store(key, node.d[key])
        elif not PyDict_Contains(node.log, key):
            PyDict_SetItem(node.log, key, node.d[key])

    def keep(self, value, undo):
        """Keep, for the undo of the turn, how to undo ``value``. The first of a turn counts."""
        if not self.alone:
            if self.kept is None:
                self.kept = {}
            self.kept.setdefault(id(value), (value, undo))


def journal_of(State node not None):
    """The journal of a state; None in a template."""
    return node.journal


cdef State leaf_with(Journal journal, tuple keys, object value):
    """The node whose leaf, at the last of ``keys``, is or holds ``value``; None when none does."""
    cdef State node
    cdef PyObject* found
    cdef Py_ssize_t last = len(keys) - 1
    if journal.root == NULL:
        return None
    node = <State> <object> journal.root
    for key in keys[:last]:
        child = node.read(key)
        if not isinstance(child, State):
            return None
        node = <State> child
    found = PyDict_GetItemWithError(node.d, keys[last])
    if found != NULL and holds(<object> found, value, LIMIT):
        return node
    return None


cdef bint holds(object leaf, object value, int room) except -1:
    """Whether a leaf is ``value`` or holds it in plain containers. Runs no Python code."""
    cdef type kind = type(leaf)
    cdef PyObject* k
    cdef PyObject* v
    cdef Py_ssize_t at = 0
    if leaf is value:
        return True
    if room <= 0:
        return False
    if kind is list or kind is tuple:
        for item in leaf:
            if not scalar(item) and holds(item, value, room - 1):
                return True
    elif kind is dict:
        while PyDict_Next(leaf, &at, &k, &v):
            if not scalar(<object> v) and holds(<object> v, value, room - 1):
                return True
    return False


cdef int settle(Journal journal) except -1:
    """The turn was undone: values that report their own changes go back too, or are sent again."""
    if journal.kept is not None:
        undone(journal, list(journal.kept.values()))


# ---------------------------------------------------------------- schemas

cdef object declare = None  # of core.schema: gives a State class its Fields
cdef object resolve = None  # and their types, when the class is first used


def set_schema(declare_fields, resolve_fields):
    """Install what reads the annotations of State classes (``core.schema``)."""
    global declare, resolve
    declare = declare_fields
    resolve = resolve_fields


@cython.final
cdef class Field:
    """An annotated attribute of a State class: reads and assigns the key of its name."""

    def __init__(self, str key, kind, bint opaque, bint needed, *default):
        self.key = key
        self.kind = kind
        self.opaque = opaque
        self.needed = needed
        self.default = default[0] if default else MISSING

    def __get__(self, State node, owner):
        if node is None:
            return self
        return node.read(self.key)

    def __set__(self, State node, value):
        node[self.key] = value

    def __repr__(self):
        return f"<field {self.key}>"


cdef dict fields_of(type kind):
    """The fields of a State class, None when it has none."""
    cdef object found = kind.__dict__.get("__fields__")
    if found is None:
        found = {} if resolve is None else resolve(kind)
    return found or None


cdef State make_node(type kind):
    """An empty node of a State class. Its ``__init__`` is not called."""
    cdef State node
    if kind is State:
        return State.__new__(State)
    node = kind.__new__(kind)
    node.fields = fields_of(kind)
    return node


cdef dict poured(dict fields, dict values):
    """The values over the defaults of a schema, which are copied."""
    cdef Field field
    cdef dict all_of_it = {}
    for key, field in fields.items():
        if key in values:
            all_of_it[key] = values[key]
        elif field.default is not MISSING:
            value = field.default
            if isinstance(value, State):
                value = build(deepcopy(raw(<State> value, True)), ROOT, None, type(value), False)
            elif type(value) is not Shared:
                value = deepcopy(value)
            all_of_it[key] = value
        elif field.needed:
            all_of_it[key] = {}
    all_of_it.update(values)
    return all_of_it


cdef type kind_of(Field field, object value):
    """The class of the node that is made for a dict or a state."""
    if field is not None and field.kind is not None:
        return type(value) if isinstance(value, field.kind) else field.kind
    return type(value) if isinstance(value, State) else State


# ---------------------------------------------------------------- values on their way in

cdef int too_deep(object value, int room, list reporters) except -1:
    """1 when plain containers in the value are nested deeper than ``room``.

    Adds the values in them that report their own changes to ``reporters``, unless that is None.
    """
    cdef type kind = type(value)
    cdef PyObject* k
    cdef PyObject* v
    cdef Py_ssize_t at = 0
    if kind is list or kind is tuple:
        if room <= 0:
            return 1
        for item in value:
            if not scalar(item) and too_deep(item, room - 1, reporters):
                return 1
    elif kind is dict:
        if room <= 0:
            return 1
        while PyDict_Next(value, &at, &k, &v):
            if not scalar(<object> v) and too_deep(<object> v, room - 1, reporters):
                return 1
    elif reporters is not None and PyType_IsSubtype(kind, mutable):
        reporters.append(value)
    return 0


cdef int check_depth(object value, Where where, str key, list reporters=None) except -1:
    if too_deep(value, LIMIT - where.depth, reporters):
        raise ValueError(
            f"nested deeper than {LIMIT}, or containing itself: {spell(where.keys + (key,))}"
        )
    return 0


cdef int take_in(object value, Where where, str key, Journal journal, bint everybody) except -1:
    """Check a leaf that comes to a place, and note what of it reports its own changes.

    ``everybody``: it is one object for all sessions, so it reports in whose turn it is changed.
    """
    cdef list reporters = [] if mutable is not None and (journal is not None or everybody) else None
    check_depth(value, where, key, reporters)
    if reporters:
        note(None if everybody else journal, where.keys + (key,), reporters)
    return 0


cdef object convert(object value, Where where, str key, Journal journal, dict fields):
    """What is stored for a value assigned to ``key`` of the node at ``where``."""
    cdef Field field = None
    if scalar(value):
        return value
    if fields is not None:
        field = fields.get(key)
    if type(value) is StateView:
        value = (<StateView> value).node
    elif type(value) is Shared:
        value = (<Shared> value).value
        take_in(value, where, key, journal, True)
        return value
    if field is not None and field.opaque:
        if isinstance(value, State):
            value = raw(<State> value, True)
    elif type(value) is Cell and isinstance((<Cell> value).value, dict):
        value = deepcopy((<Cell> value).value)
        return build(value, place_below(where, key), journal, kind_of(field, value), True)
    elif isinstance(value, State):
        kind = kind_of(field, value)
        return build(
            (<State> value).d, place_below(where, key), journal, kind, kind is not type(value)
        )
    elif isinstance(value, dict):
        return build(value, place_below(where, key), journal, kind_of(field, value), True)
    take_in(value, where, key, journal, False)
    return value


cdef State build(dict source, Where where, Journal journal, type kind, bint fill):
    """A new node with a copy of the dict; dicts and states in it become nodes as well.

    ``fill``: what it lacks of its schema begins with the defaults.
    """
    cdef State node = make_node(kind)
    cdef dict d = {}
    cdef str name
    if fill and node.fields is not None:
        source = poured(node.fields, source)
    for key, value in list(source.items()):
        name = key_name(key, where)
        d[name] = convert(value, where, name, journal, node.fields)
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
        f"state keys are strings, not {type(key).__name__}: {key!r} in "
        f"{spell(where.keys) or 'the root'}"
    )


cdef State twin(State original, Journal journal):
    """The session's node for a node of its template."""
    cdef State node = make_node(type(original))
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
        cdef type kind = type(self)
        cdef type given = None
        if self.journal is not None:
            raise TypeError("a state cannot be initialised twice")
        journal = Journal.__new__(Journal)
        journal.alone = True
        journal.root = <PyObject*> self
        if kind is not State:
            self.fields = fields_of(kind)
        if values is None and self.fields is None:
            self.d = {}
        else:
            if type(values) is StateView:
                values = (<StateView> values).node
            if isinstance(values, State):
                given = type(values)
                values = (<State> values).d
            elif not isinstance(values, dict):
                values = dict(values or ())
            copy = build(values, ROOT, journal, kind, kind is not given)
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
            take_in(mine, self.where, key, self.journal, False)
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
        return serialise(self)

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
        if self.fields is not None and name in self.fields:
            self[name] = value
            return
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
        if self.fields is not None and name in self.fields:
            del self[name]
            return
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
                new = convert(value, self.where, name, self.journal, self.fields)
        elif not scalar(value):
            new = convert(value, self.where, name, self.journal, self.fields)
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
        take_in(items, self.where, name, self.journal, False)
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
        """Delete all keys; the fields of a schema begin with their defaults again."""
        self.replace({})

    def replace(self, values, /):
        """Make this state equal to ``values``: the other keys are deleted.

        The fields of a schema that ``values`` does not name begin with their defaults again.
        """
        cdef dict fresh = {}
        cdef str name
        if isinstance(values, State):
            values = (<State> values).d
        elif type(values) is StateView:
            values = (<StateView> values).node.d
        elif not isinstance(values, dict):
            values = dict(values)
        if self.fields is not None:
            values = poured(self.fields, values)
        for key, value in list(values.items()):
            name = self.name(key)
            fresh[name] = convert(value, self.where, name, self.journal, self.fields)
        for key in list(self.d):
            if key not in fresh:
                self.remove(key)
        for key, value in fresh.items():
            self.admit()  # subscribers ran
            self.store(key, value)

    def take_patch(self):
        """What was assigned since the last call, as a Patch. For a State on its own."""
        if self.journal is None or not self.journal.alone:
            raise RuntimeError(
                "a session's patches are taken by its links: take_patch() is for a State on its own"
            )
        if self.journal.root != <PyObject*> self:
            raise RuntimeError("take_patch() is called on the root, not on a nested state")
        return take(self)

    # -- subscriptions

    def subscribe_mutation(self, path, handler, initial=False):
        """Call ``handler`` whenever a path is assigned or deleted, or lost or won with a parent.

        Paths are ``"a.b"`` (``\\.`` for a literal dot), tuples of keys, or a list of those. The
        handler gets ``payload`` {"previous_value", "new_value"} and ``context``
        {"event": "mutation", "mutation": path}, by name. Returns a handle with ``cancel()``.
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
                    f"subscribers assign in a circle, {CASCADE} deep, last "
                    f"{spell(self.where.keys + (key,))}"
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


def declare_subclass(cls, **arguments):
    """``State.__init_subclass__``."""
    super(State, cls).__init_subclass__(**arguments)
    if declare is not None:
        declare(cls)


# Cython does not let a compiled class define it, so it is put into the finished one.
(<dict> (<PyTypeObject*> State).tp_dict)["__init_subclass__"] = classmethod(declare_subclass)
PyType_Modified(<PyTypeObject*> State)


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
        if self.node is not None:
            if name in self.node.d or self.node.fields is not None and name in self.node.fields:
                return faced(self.node.read(name))
            for kind in type(self.node).__mro__:  # methods and properties of a schema read us
                if kind is State:
                    break
                found = kind.__dict__.get(name)
                if found is not None:
                    get = getattr(type(found), "__get__", None)
                    return found if get is None else get(found, self, type(self))
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
