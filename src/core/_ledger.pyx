# cython: language_level=3
"""Templates and ledgers: the state sessions begin with, and one session's state with its turns.

Who owns what: a Template owns its tree and never changes it. A Ledger belongs to one session and
owns the root of its state; sessions share the template's dicts until they assign. A ledger begins
at rest and may go back there: then it has no tree, only what differs from the template
(``_rest.pyx``); whatever needs the tree wakes it.

Who may call what: ``open``, ``adopt``, ``commit``, ``undo``, ``rollback``, ``mark`` and ``ship``:
the thread that runs the turn. ``ship(foreign=True)``, ``snapshot`` and ``forget``: the loop.
``end``: the loop, and after the last turn whoever ran it. ``rest``: the loop; it is one step.
``due`` may be set from anywhere.
"""

cimport cython
from cpython.object cimport PyObject
from ._calculated cimport first_value, settle_all
from ._patch cimport Patch
from ._rest cimport differences, restore
from ._segments cimport drop_prev, finish, merge_older, revert
from ._ship cimport kept_add, make_patch, make_snapshot
from ._state cimport (
    CALCULATED,
    DUE,
    ROOT,
    WATCHED,
    Cell,
    Field,
    Journal,
    PyThreadState,
    Shared,
    State,
    StateView,
    Where,
    calculated,
    check_depth,
    drop_stale,
    enrol,
    key_name,
    is_marked,
    kind_of,
    made_place,
    make_node,
    make_view,
    place_below,
    poured,
    private,
    raw,
    scalar,
    settled,
    spell,
    take_in,
    undo_reporters,
)
from ._watch cimport Watches, copy_watches, prune, watched

from collections.abc import Mapping
from copy import deepcopy
from sys import intern
from weakref import getweakrefcount

cdef extern from "Python.h":
    PyThreadState* PyThreadState_Get() noexcept
    int PyGC_Disable() noexcept  # what it was
    int PyGC_Enable() noexcept
    bint PyObject_GC_IsTracked(PyObject* thing) noexcept
    void PyObject_GC_Track(PyObject* thing) noexcept
    void PyObject_GC_UnTrack(PyObject* thing) noexcept


cdef Journal RESTING = Journal.__new__(Journal)  # says no to everything, and is never changed


# ---------------------------------------------------------------- the ledger

@cython.final
@cython.no_gc_clear
cdef class Ledger:
    """One session's state with its turns: opened by ``Template.open()``."""

    def __init__(self):
        raise TypeError("ledgers come from Template.open()")

    # -- rest

    @property
    def resting(self):
        """Whether nothing is kept but what differs from the template."""
        return self.journal is RESTING

    def rest(self):
        """Keep only what differs from the template; False when that cannot be now.

        It cannot during a turn, while anybody has or waits for something of it (clients,
        subscriptions, a ``view`` or a nested state that somebody holds), with calculated
        properties, with attributes that are no keys, or when keys have another order than the
        template's. What is asked of it afterwards wakes it.
        """
        cdef Journal journal = self.journal
        cdef State tree = self.tree
        cdef Py_ssize_t nodes = 0
        cdef bint plain = True
        cdef tuple changes = None
        if journal is RESTING:
            return True
        if (
            journal.owner != NULL or journal.encoder != NULL or journal.calculator != NULL
            or journal.sent or journal.shipping or journal.clients or journal.own_watches
            or journal.alert & ~WATCHED or journal.dirty is not None or journal.older is not None
            or journal.pending is not None or journal.planned is not None
            or journal.missing is not None or journal.on_due is not None
            or journal.later is not None or journal.unencodable is not None
            or journal.marked is not None or journal.kept is not None
            or getweakrefcount(journal)  # values that report their own changes
            or (self.face is not None and (<PyObject*> self.face).ob_refcnt != 1)
            # the ledger's, the face's, and `tree`
            or (<PyObject*> tree).ob_refcnt != 2 + (self.face is not None)
        ):
            return False
        collects = PyGC_Disable()  # or somebody's finalizer could run in between
        try:
            changes = differences(tree, self.template.root, &nodes, &plain)
            # the nodes', the ledger's and `journal`
            if changes is None or (<PyObject*> journal).ob_refcnt != nodes + 2:
                return False
            _face, self.face = self.face, None  # what goes, goes last
            self.before = journal.position
            self.changes = changes or None
            self.journal = RESTING
            self.tree = self.template.root
            if plain and PyObject_GC_IsTracked(<PyObject*> self):
                PyObject_GC_UnTrack(<PyObject*> self)  # until `end`; it has numbers and texts
        finally:
            if collects:
                PyGC_Enable()
        return True

    cdef int wake(self) except -1:
        """Make the tree and its journal again."""
        while self.journal is RESTING:  # nothing runs between the last look and the return
            self.make_tree()
        return 0

    cdef int make_tree(self) except -1:
        """Make them, unless another thread is faster; it may even have had a turn and a rest."""
        cdef State origin = self.template.root, tree
        cdef Journal journal = Journal.__new__(Journal)
        cdef tuple changes = self.changes
        tree = make_node(type(origin))  # may run anything, and so may the collector
        tree.d = origin.d
        tree.borrowed = True
        tree.where = ROOT
        tree.journal = journal
        journal.root = <PyObject*> tree
        if self.template.watches is not None:
            journal.watches = self.template.watches
            journal.alert = WATCHED
        if tree.plan is not None:
            enrol(tree)
        if changes is not None:
            restore(tree, changes)
        if self.journal is RESTING and self.changes is changes:
            journal.position = self.before
            self.journal = journal
            self.tree = tree
            self.changes = None
            if not PyObject_GC_IsTracked(<PyObject*> self):
                PyObject_GC_Track(<PyObject*> self)
        return 0

    cdef State known(self):
        """The root; None at rest."""
        return None if self.journal is RESTING else self.tree

    @property
    def root(self):
        """The root; it wakes what is at rest."""
        if self.journal is RESTING:
            self.wake()
        return self.tree

    # -- the turn

    cpdef object open(self):
        """Begin a turn; the calling thread owns it."""
        if self.journal is RESTING:
            self.wake()
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

    cpdef object settle(self):
        """Calculate the properties that are stale. Raises the first error; then none is stale."""
        if self.journal.pending is not None:
            settle_all(self.journal, False)

    cpdef object commit(self, bint keep):
        """End the turn. Without ``keep`` nobody needs to hear of it.

        What ``settle`` would raise is raised before anything ends.
        """
        cdef Journal journal = self.journal
        if journal.pending is not None:
            settle_all(journal, False)
        journal.owner = NULL
        if journal.dirty is not None or journal.sent or (not keep and journal.older is not None):
            finish(journal, keep)
        journal.kept = None

    cpdef object mark(self):
        """Move the moment ``undo`` and ``rollback`` go back to, to now."""
        self.settle()
        finish(self.journal, True)
        self.journal.kept = None

    cpdef object undo(self):
        """Give everything assigned in this turn its value at the start; the turn goes on."""
        revert(self.journal)
        undo_reporters(self.journal)

    cpdef object rollback(self, bint keep):
        """Undo, then end the turn."""
        revert(self.journal)
        try:
            undo_reporters(self.journal)
            if self.journal.pending is not None:
                settle_all(self.journal, True)
        finally:  # an interrupt gets through, the turn ends all the same
            drop_stale(self.journal)  # what raised keeps its last value
            self.commit(keep)

    # -- clients

    cpdef object ship(self, bint foreign=False):
        """Seal and encode what was not shipped: a Patch, or None when there is nothing.

        ``foreign``: from beside the turn; takes plain values only, the others wait. Otherwise
        ``shipping`` is true until ``shipped()`` is called, when there is a patch.
        """
        cdef Journal journal = self.journal
        cdef Patch patch
        if journal is RESTING:
            return None
        if foreign:
            if journal.shipping or journal.encoder != NULL:
                return None
            return make_patch(journal, self.tree, True, False)
        journal.shipping = True
        try:
            if journal.pending is not None:
                settle_all(journal, True)
            patch = make_patch(journal, self.tree, False, False)
        except BaseException:
            journal.shipping = False
            raise
        if patch is None:
            journal.shipping = False
        return patch

    cpdef object shipped(self):
        """The last patch is in the inbox of the loop."""
        if self.journal is not RESTING:
            self.journal.shipping = False

    cpdef object snapshot(self, bint foreign=False):
        """(encoded state, position). Call ``ship()`` first.

        ``foreign``: values that are not plain, or not shipped, are left out and come with the next
        patch.
        """
        self.wake()
        return make_snapshot(self.journal, self.tree, foreign)

    cpdef object forget(self):
        """The last link went: nobody has anything."""
        cdef Journal journal = self.journal
        cdef list trash = []
        cdef State node
        if journal is RESTING:
            return
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

    cpdef object end(self):
        """The session is over: nothing that was subscribed or assigned holds anything any more.

        During a turn, or while a patch is encoded, the records stay; call it again afterwards.
        """
        cdef Journal journal = self.journal
        if not PyObject_GC_IsTracked(<PyObject*> self):
            PyObject_GC_Track(<PyObject*> self)  # the template's values may lead back to it
        if journal is RESTING:
            return
        trash = (journal.watches, journal.on_due, journal.later)  # they go last
        journal.watches = None
        journal.own_watches = False
        journal.alert &= CALCULATED
        journal.on_due = None
        if journal.owner == NULL and journal.encoder == NULL and not journal.shipping:
            journal.later = None
            drop_stale(journal)
            finish(journal, False)
        trash = None

    cpdef list take_async(self):
        """The calls of async subscribers of this turn; each returns an awaitable."""
        cdef list later = self.journal.later
        self.journal.later = None
        return [] if later is None else later

    @property
    def view(self):
        """The read-only face of the state."""
        self.wake()
        if self.face is None:
            self.face = make_view(self.tree)
        return self.face

    @property
    def position(self):
        """Patches shipped so far."""
        return self.before if self.journal is RESTING else self.journal.position

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
        return (
            journal.dirty is not None
            or journal.pending is not None
            or (not journal.sent and journal.older is not None)
        )

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
        self.wake()
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
        self.wake()
        self.journal.on_due = value

    def take_unencodable(self):
        """(path, type name) of what clients did not get, since the last call."""
        found = self.journal.unencodable
        self.journal.unencodable = None
        return [] if found is None else found

    @property
    def unencodable(self):
        """(path, type name and reason) of what clients did not get, since ``take_unencodable``."""
        return [] if self.journal.unencodable is None else list(self.journal.unencodable)


# ---------------------------------------------------------------- the template

cdef str intern_key(str key):
    """The interned string: look-ups by the literals of handlers then need no comparison."""
    return <str> intern(key)


cdef object prove = None  # callable(value, private) -> 0 share, 1 copy at first read; raises


def set_leaf_rule(rule):
    """Install what says whether sessions need copies of a template's leaf (``core.state``)."""
    global prove
    prove = rule


cdef State freeze(dict source, Where where, type kind, bint fill, Journal origin):
    """A template's node: leaves that could change are put into cells.

    ``fill``: what it lacks of its schema begins with the defaults. Properties are calculated.
    """
    cdef State node = make_node(kind)
    cdef dict d = {}
    cdef str name
    cdef Where made
    node.where = where
    if fill and node.fields is not None:
        source = poured(node.fields, source)
    for key, value in list(source.items()):
        name = intern_key(key_name(key, where))
        if not calculated(node, name):
            d[name] = frozen(value, where, node.fields, name, origin)
    node.d = d
    if node.plan is not None:
        for name in node.plan.properties:
            made = made_place(node, <str> name)
            d[name] = frozen(first_value(node, name), made, node.fields, name, None)
    return node


cdef object frozen(object value, Where where, dict fields, str name, Journal origin):
    """What a template's node has for a value; ``origin``: of the State on its own it comes from."""
    cdef Cell cell
    cdef Field field = None if fields is None else fields.get(name)
    if type(value) is Cell:
        value = (<Cell> value).value
    if type(value) is StateView:
        value = (<StateView> value).node
    if field is not None and field.opaque and isinstance(value, State):
        value = raw(<State> value, True)
    if isinstance(value, State):
        own = kind_of(field, value)
        if (<State> value).journal is not None:
            origin = (<State> value).journal
        return freeze(
            (<State> value).d, place_below(where, name), own, own is not type(value), origin
        )
    if type(value) is Shared:
        value = (<Shared> value).value
        take_in(value, where, name, None, True)
        return value
    if is_shared(value, field, origin):
        take_in(value, where, name, None, True)
        return value
    if isinstance(value, dict) and (field is None or not field.opaque):
        return freeze(value, place_below(where, name), kind_of(field, value), True, origin)
    if not scalar(value):
        check_depth(value, where, name)
        if prove(value, where.silent or private(name), spell(where.keys + (name,))):
            cell = Cell.__new__(Cell)
            # The caller keeps the original and may change it.
            cell.value = deepcopy(value)
            return cell
    return value


cdef bint is_shared(object value, Field field, Journal origin):
    """Whether it had the mark of ``gr.shared``, which went when a State took it."""
    if field is not None and type(field.default) is Shared:
        if (<Shared> field.default).value is value:
            return True
    return origin is not None and is_marked(value, origin)


cdef tuple outline(State node):
    cdef dict keys = {
        key: outline(<State> value) if isinstance(value, State) else None
        for key, value in node.d.items()
    }
    return type(node), keys


@cython.final
@cython.no_gc_clear
cdef class Template:
    """The state sessions begin with. Never changes; sessions share it until they assign.

    ``schema``: the State class that the values are poured into.
    """

    def __init__(self, values=None, schema=None, /):
        cdef Watches watches = None
        cdef Journal origin = None
        cdef type kind = State if schema is None else schema
        cdef bint fill = True
        if values is None:
            values = {}
        if isinstance(values, State):
            origin = (<State> values).journal
            if origin is not None:
                watches = origin.watches
            settled(<State> values)
            if isinstance(values, kind):
                kind = type(values)
                fill = False
            values = (<State> values).d
        elif isinstance(values, Mapping):
            values = dict(values)
        else:
            raise TypeError(f"the state is a dict or a gr.State, not {type(values).__name__}")
        self.root = freeze(values, ROOT, kind, fill, origin)
        if watches is not None:
            watches = copy_watches(watches)
            if prune(watches):
                self.watches = watches

    cpdef Ledger open(self):
        """The ledger of a new session."""
        cdef Ledger ledger = Ledger.__new__(Ledger)
        ledger.template = self
        ledger.journal = RESTING
        ledger.tree = self.root
        PyObject_GC_UnTrack(<PyObject*> ledger)  # it has nothing of its own yet
        return ledger

    def outline(self):
        """What lies where: (class of the state, {key: the outline of a nested state, or None})."""
        return outline(self.root)

    def watched(self):
        """The paths that are subscribed to."""
        return watched(self.watches, ())

    def __repr__(self):
        return f"Template({raw(self.root, False)!r})"
