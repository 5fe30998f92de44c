# cython: language_level=3
"""The state tree: what handlers read and assign, and the record of what they assigned.

Who owns what
    A Ledger belongs to one session and holds the root. Every node (State) holds its values, the
    Journal of its session and its place (Where). A node never moves: what is assigned elsewhere is
    copied, so a place is computed once and no node points to its parent. The Journal holds nodes
    only while they have records: a session without pending ones is freed without the collector.
    A session's node begins with the dict of its template's node (``borrowed``) and copies it at the
    first write, or when a nested state or a mutable leaf is read for the first time.

    A value that reports its own changes (core.mutable) is told where it lies when it comes to a
    place; ``Journal.kept`` holds those that did so in the turn, until it commits.

Who may call what
    Assigning: the thread that opened the turn (``Ledger.open``, ``adopt``). Reading: any thread.
    ``ship(foreign=True)`` and ``snapshot(foreign=True)``: the loop, also beside a running turn.
    Each step below runs no Python code between its first read and its last store, cannot start the
    collector in between, and drops old values last, so the GIL makes it atomic.

The records
    ``log`` and ``prev`` of a node are two segments of one log: see ``_segments.pyx``.

Above this file: subscriptions (``_watch.pyx``) and calculated properties (``_calculated.pyx``).
They are reached through ``hooks``, and only by nodes and journals that say they have some.
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
    Py_ssize_t Py_REFCNT(PyObject* thing) noexcept
    int PyGC_Disable() noexcept
    int PyGC_Enable() noexcept

cdef int LIMIT = _MAX_DEPTH

cdef object MISSING = object()

# What the files above do for a node; each puts itself in when it is imported.
cdef Hooks hooks
hooks.told = NULL  # of _watch: an assignment was made
hooks.renew = NULL  # of _calculated: a stale property is read
hooks.settle = NULL  # the same for all at a node and below
hooks.begin = NULL  # a node is made
cdef object subscribe = None  # of _watch


def set_subscribing(function):
    """Install what ``subscribe_mutation`` does (``_watch``)."""
    global subscribe
    subscribe = function


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
    where.made_by = parent.made_by
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


cdef bint lone(State node, str key, PyObject* items, Py_ssize_t mine):
    """Whether nothing holds a list but its key, that key's records and ``mine`` of the caller.

    So a list that lies at a second key, in another session or in a global is none, and neither is
    one that ``prev`` has as what it was: assigned to itself, and pushed since. The count may be
    too high for a moment (another thread reads it), which costs a copy, but never too low.
    """
    cdef PyObject* late = NULL
    cdef PyObject* early = NULL
    cdef Py_ssize_t known = 1 + mine
    if node.log is not None:
        late = PyDict_GetItemWithError(node.log, key)
    if node.prev is not None:
        early = PyDict_GetItemWithError(node.prev, key)
    known += late == items or held_by(late, items)
    known += early != late and held_by(early, items)
    return Py_REFCNT(items) <= known


cdef inline bint held_by(PyObject* record, PyObject* items) noexcept:
    return (
        record != NULL
        and type(<object> record) is Grown
        and <PyObject*> (<Grown> <object> record).items == items
    )


cdef int move_records(State node, str key, list items, list copy) except -1:
    """The records of a key that tell how its list grew tell it of a copy from now on."""
    cdef PyObject* record
    for log in (node.log, node.prev):
        record = NULL if log is None else PyDict_GetItemWithError(log, key)
        if held_by(record, <PyObject*> items):
            (<Grown> <object> record).items = copy
    return 0


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
    def unassigned(self):
        """True when nothing was assigned that a rollback could take back."""
        return self.dirty is None and not self.sent

    def lies_at(self, tuple keys, value):
        """Whether the leaf at ``keys`` is ``value``, or holds it in lists, tuples and dicts."""
        return leaf_with(self, keys, value) is not None

    def mark(self, tuple keys, value, bint tell=True):
        """Assign the leaf at ``keys`` to itself where ``value`` still lies there.

        Without ``tell`` it only makes stale what is calculated from it.
        """
        cdef State node = leaf_with(self, keys, value)
        cdef int alert = self.alert
        if node is None:
            return
        key = keys[len(keys) - 1]
        node.admit()
        if tell:
            node.store(key, node.d[key])
            return
        self.alert &= CALCULATED
        try:
            node.store(key, node.d[key])
        finally:
            self.alert |= alert

    def keep(self, value, undo):
        """Keep, for the undo of the turn, how to undo ``value``. The first way of a turn counts."""
        if not self.alone:
            if self.kept is None:
                self.kept = {}
            known = self.kept.get(id(value))
            if known is None or known[1] is None:
                self.kept[id(value)] = (value, undo)


def journal_of(State node not None):
    """The journal of a state; None in a template."""
    return node.journal


cdef State leaf_with(Journal journal, tuple keys, object value):
    """The node whose leaf, at the last of ``keys``, is or holds ``value``; None when none does."""
    cdef State node = root_of(journal)
    cdef PyObject* found
    cdef Py_ssize_t last = len(keys) - 1
    if node is None:
        return None
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


cdef int undo_reporters(Journal journal) except -1:
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


@cython.final
cdef class Plan:
    """The calculated properties of a State class, in the order in which they can be calculated."""

    def __init__(self, dict properties, Needs needs):
        self.properties = properties
        self.needs = needs


@cython.final
cdef class Needs:
    """A place properties are calculated from: those of just this place, and of all below it.

    ``here`` and ``all`` are tuples of names, ``below`` a dict of Needs by key.
    """

    def __init__(self, tuple here, tuple all, dict below):
        self.here = here
        self.all = all
        self.below = below


cdef State make_node(type kind):
    """An empty node of a State class. Its ``__init__`` is not called."""
    cdef State node
    if kind is State:
        return State.__new__(State)
    node = kind.__new__(kind)
    node.fields = fields_of(kind)
    node.plan = kind.__dict__.get("__plan__")
    return node


cdef bint calculated(State node, str key) except -1:
    return node.plan is not None and key in node.plan.properties


cdef Where made_place(State node, str name):
    """Where a node lies, for what its property ``name`` is made of: nobody assigns below it."""
    cdef Where where = Where.__new__(Where)
    if node.where.made_by is not None:
        return node.where  # it is in the value of another property
    where.keys = node.where.keys
    where.prefix = node.where.prefix
    where.depth = node.where.depth
    where.silent = node.where.silent
    where.made_by = (type(node), name)
    return where


cdef inline bint inside(State node) noexcept:
    """Whether a node is in a calculated value; one that was replaced is Detached before that."""
    return node.where is not None and node.where.made_by is not None and not node.detached


cdef inline int refuse(State node, str key, type kind) except -1:
    """Raise ``kind`` if a key is a calculated property, or in the value of one."""
    if inside(node) or calculated(node, key):
        raise not_yours(node, key, kind)
    return 0


cdef object not_yours(State node, str key, type kind):
    """What assigning a calculated property raises, or something in its value."""
    cdef type owner = type(node)
    cdef str place = ""
    if node.where is not None and node.where.made_by is not None:
        place = spell(node.where.keys if key is None else node.where.keys + (key,))
        place += " is part of a calculated value: "
        owner, key = node.where.made_by
    paths = (<Plan> owner.__plan__).properties[key].paths
    return kind(
        f"{place}{owner.__name__}.{key} is calculated from "
        f"{' and '.join([spell(path) for path in paths])}: assign there"
    )


def is_calculated(State node not None, str key):
    """Whether a key of a state is a calculated property, or in the value of one."""
    return node.where.made_by is not None or calculated(node, key)


cdef int enrol(State node) except -1:
    """The journal has a node with properties."""
    cdef Journal journal = node.journal
    journal.alert |= CALCULATED
    if journal.root != <PyObject*> node:
        if journal.planned is None:
            journal.planned = set()
        journal.planned.add(<size_t> <PyObject*> node)
    return 0


cdef int settled(State node) except -1:
    """Calculate what is stale at a node and below it, where this thread may."""
    if node.journal is not None and node.journal.pending is not None:
        hooks.settle(node)
    return 0


cdef int drop_stale(Journal journal) except -1:
    """Properties that are not calculated yet keep their values. Runs no Python code."""
    cdef list pending = journal.pending
    cdef State node
    journal.pending = None
    if pending is not None:
        for node in pending:
            node.stale = None
    return 0


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
                inner = deepcopy(raw(<State> value, True))
                value = build(inner, ROOT, None, type(value), False, None)
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
        if journal is not None and journal.alone:
            # A template made of it shares that, though the mark goes here.
            journal.marked = [value] if journal.marked is None else [*journal.marked, value]
        value = (<Shared> value).value
        take_in(value, where, key, journal, True)
        return value
    if isinstance(value, State):
        settled(<State> value)
    if field is not None and field.opaque:
        if isinstance(value, State):
            value = raw(<State> value, True)
    elif type(value) is Cell and isinstance((<Cell> value).value, dict):
        value = deepcopy((<Cell> value).value)
        return build(value, place_below(where, key), journal, kind_of(field, value), True, None)
    elif isinstance(value, State):
        kind = kind_of(field, value)
        return build(
            (<State> value).d,
            place_below(where, key),
            journal,
            kind,
            kind is not type(value),
            (<State> value).journal,
        )
    elif isinstance(value, dict):
        return build(value, place_below(where, key), journal, kind_of(field, value), True, None)
    take_in(value, where, key, journal, False)
    return value


cdef bint is_marked(object value, Journal journal):
    """Whether ``gr.shared`` marked it when a State on its own took it."""
    if journal.marked is not None:
        for mark in journal.marked:
            if (<Shared> mark).value is value:
                return True
    return False


cdef object brought(object value, Journal origin):
    """A value of a state that is copied: what its copy is given."""
    if scalar(value):
        return value
    if is_marked(value, origin):
        return Shared(value)
    return list(<list> value) if type(value) is list else value


cdef State build(dict source, Where where, Journal journal, type kind, bint fill, Journal origin):
    """A new node with a copy of the dict; dicts and states in it become nodes as well.

    ``fill``: what it lacks of its schema begins with the defaults. ``origin``: the dict
    is a state's, of this journal. Its lists are copied too, since ``append`` changes those in
    place, and what it was told is shared stays as it is. Properties are calculated.
    """
    cdef State node = make_node(kind)
    cdef dict d = {}
    cdef str name
    if fill and node.fields is not None:
        source = poured(node.fields, source)
    for key, value in list(source.items()):
        name = key_name(key, where)
        if calculated(node, name):
            continue
        if origin is not None:
            value = brought(value, origin)
        d[name] = convert(value, where, name, journal, node.fields)
    node.d = d
    node.journal = journal
    node.where = where
    if node.plan is not None and journal is not None:
        hooks.begin(node)
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
    if node.plan is not None:
        enrol(node)
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
        cdef Journal origin
        if self.journal is not None:
            raise TypeError("a state cannot be initialised twice")
        journal = Journal.__new__(Journal)
        journal.alone = True
        journal.root = <PyObject*> self
        if kind is not State:
            self.fields = fields_of(kind)
            self.plan = kind.__dict__.get("__plan__")
        if values is None and self.fields is None and self.plan is None:
            self.d = {}
        else:
            if type(values) is StateView:
                values = (<StateView> values).node
            if isinstance(values, State):
                settled(<State> values)
                given = type(values)
                origin = (<State> values).journal
                copy = build((<State> values).d, ROOT, journal, kind, kind is not given, origin)
            else:
                if not isinstance(values, dict):
                    values = dict(values or ())
                copy = build(values, ROOT, journal, kind, True, None)
            self.d = copy.d
        self.where = ROOT
        self.journal = journal
        if self.plan is not None:
            enrol(self)

    def __dealloc__(self):
        if self.journal is not None:
            if self.journal.root == <PyObject*> self:
                self.journal.root = NULL
            elif self.plan is not None and self.journal.planned is not None:
                self.journal.planned.discard(<size_t> <PyObject*> self)

    # -- reading

    cdef object read(self, object key):
        """The value of a key, made the session's own; None when it is missing."""
        cdef PyObject* found
        if type(key) is not str:
            if not isinstance(key, str):
                return None
            key = PyUnicode_FromObject(key)
        if self.stale is not None and key in self.stale:
            hooks.renew(self, <str> key)
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
        cdef dict copy
        if self.stale is not None:
            for key in list(self.stale):  # nested states see to theirs when they are read
                if self.stale.get(key) is not None:
                    hooks.renew(self, <str> key)
        copy = PyDict_Copy(self.d)
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
        settled(self)
        return raw(self, True)

    def to_dict(self):
        """A copy that can be serialised: what a client has, without private keys."""
        settled(self)
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
        if journal.calculator == me:
            raise TypeError(
                "a calculated property assigned to the state it is calculated from: let it return "
                "the value only, and assign in a handler or subscriber"
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
            if inside(self):
                raise not_yours(self, name, AttributeError)
            self[name] = value
            return
        found = getattr(type(self), name, None)
        if found is not None or hasattr(type(self), name):
            if calculated(self, name):
                raise not_yours(self, name, AttributeError)
            if hasattr(type(found), "__set__"):
                type(found).__set__(found, self, value)
                return
            raise AttributeError(f"{name} is a method of the state: assign state[{name!r}]")
        if inside(self):
            raise not_yours(self, name, AttributeError)
        if name in self.d:
            self.assign(name, value)
            return
        raise AttributeError(f"the state has no key {name!r}: make it by state[{name!r}] = ...")

    def __delattr__(self, name):
        refuse(self, name, AttributeError)
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
        refuse(self, name, TypeError)
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
        """Record, store and tell. The node is admitted; ``new``: a leaf or a node made for here."""
        old = self.put(key, new)
        if self.journal.alert:
            hooks.told(self, key, old, old is not MISSING, new, True)
        return 0

    cdef object put(self, str key, object new):
        """Record and store; the old value, or MISSING."""
        cdef PyObject* found = PyDict_GetItemWithError(self.d, key)
        cdef PyObject* record = PyDict_GetItemWithError(self.log, key)
        cdef object old = MISSING
        if found != NULL:
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
        return old

    cdef int remove(self, str key) except -1:
        cdef PyObject* found
        cdef object old
        refuse(self, key, TypeError)
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
            hooks.told(self, key, old, True, None, False)
        return 0

    cdef int grow(self, object key, list items) except -1:
        cdef str name = self.name(key)
        cdef PyObject* record
        cdef PyObject* found
        cdef Grown spare
        cdef list target
        cdef list grows  # the list that grows: the target, or a copy where others hold that too
        cdef Py_ssize_t size
        cdef bint collecting
        refuse(self, name, TypeError)
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
        value = None  # `lone` counts references
        spare = grown(target, False)
        self.admit()
        found = PyDict_GetItemWithError(self.d, name)
        if found != <PyObject*> target:
            raise RuntimeError(f"{name} was replaced while it was appended to")
        size = PyList_GET_SIZE(target)
        if lone(self, name, found, 2):  # `spare` and `target`
            grows = target
        else:
            collecting = PyGC_Disable()
            try:
                grows = PyList_GetSlice(target, 0, size)
                move_records(self, name, target, grows)
            finally:
                if collecting:
                    PyGC_Enable()
        spare.items = grows
        spare.was = None if grows is target else target
        spare.size = size
        record = PyDict_GetItemWithError(self.log, name)
        if record == NULL:
            PyDict_SetItem(self.log, name, spare)
        elif record == <PyObject*> target and grows is target:
            spare.whole = True  # it was assigned to itself: what it was is unknown
            PyDict_SetItem(self.log, name, spare)
        PyList_SetSlice(grows, size, size, items)
        if grows is not target:
            PyDict_SetItem(self.d, name, grows)
        if self.journal.alert:
            hooks.told(self, name, spare, True, grows, True)
        return 0

    def append(self, key, item):
        """Append to the list at ``key``; clients get the item, not the list.

        A list that anything else holds, another key say, stays as it is: a copy of it grows.
        """
        self.grow(key, [item])

    def extend(self, key, items):
        """Append several items to the list at ``key``; clients get the items, not the list.

        A list that anything else holds, another key say, stays as it is: a copy of it grows.
        """
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
        for key in reversed(self):
            if not calculated(self, key):
                return key, self.pop(key)
        raise KeyError("the state is empty")

    def clear(self):
        """Delete all keys; the fields of a schema begin with their defaults again."""
        self.replace({})

    def replace(self, values, /):
        """Make this state equal to ``values``: the other keys are deleted.

        The fields of a schema that ``values`` does not name begin with their defaults again, and
        its properties are calculated, whatever ``values`` says of them.
        """
        cdef dict fresh = {}
        cdef str name
        cdef Journal origin = None
        refuse(self, None, TypeError)
        if type(values) is StateView:
            values = (<StateView> values).node
        if isinstance(values, State):
            settled(<State> values)
            origin = (<State> values).journal
            values = (<State> values).d
        elif not isinstance(values, dict):
            values = dict(values)
        if self.fields is not None:
            values = poured(self.fields, values)
        for key, value in list(values.items()):
            name = self.name(key)
            if origin is not None:
                value = brought(value, origin)
            if not calculated(self, name):
                fresh[name] = convert(value, self.where, name, self.journal, self.fields)
        for key in list(self.d):
            if key not in fresh and not calculated(self, key):
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
        settled(self)
        if self.journal.calculator == NULL:  # else another thread goes on with what is stale
            drop_stale(self.journal)
        return take(self)

    def subscribe_mutation(self, path, handler, initial=False):
        """Call ``handler`` whenever a path is assigned or deleted, or lost or won with a parent.

        Paths are ``"a.b"`` (``\\.`` for a literal dot), tuples of keys, or a list of those. The
        handler gets ``payload`` {"previous_value", "new_value"} and ``context``
        {"event": "mutation", "mutation": path}, by name. With ``initial`` it is called at once as
        well, with the event "init". Returns a handle with ``cancel()``.
        """
        return subscribe(self, path, handler, initial)


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
