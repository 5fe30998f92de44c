# cython: language_level=3
"""Calculated properties: ``gr.property``. When they are calculated, and by whom.

The rule
    The value of a property is an ordinary key: it is in snapshots, patches and records, and a
    rollback gives it back like any other. An assignment at, above or below one of its paths makes
    it *stale*, and with it what is calculated from it; nothing runs then. It is calculated

    - when it is read, and when its state is copied or compared (``to_dict``, ``items``, ``==``),
    - before a patch is made, so that a partial push has it too,
    - at the end of the turn, before the commit,

    so a property of which a thousand dependencies were assigned is calculated once. One that
    somebody subscribes to is calculated inside each assignment instead: see ``_watch.pyx``. A new
    state (a template's too) has all of its properties at once.

Who may calculate
    The turn's owner; for a State on its own anybody, one thread at a time. Others read the last
    value. The function may not assign to the state: ``Journal.calculator`` is the thread that is in
    one. Nobody else may assign inside of what it returned: ``Where.made_by``.

Cut in the middle
    A function that raises leaves its property stale and is tried again by the next read; at the end
    of the turn it rolls the turn back. A rollback makes nothing stale: at the start of a turn
    nothing was. Where a failed turn is kept, the property keeps its last value until something it
    is calculated from is assigned again.

Nothing is planted per session: a Plan hangs on the class, and an assignment looks for it in the
nodes from the root down to the one that was assigned, if the journal has seen one at all. Where
nobody holds the root any more, it looks through all nodes with properties that are left: the
journal knows their addresses, and a node that goes takes its own away first.
"""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject
from . cimport _state
from ._state cimport (
    Journal,
    Needs,
    PyThreadState,
    State,
    StateView,
    convert,
    drop_stale,
    enrol,
    made_place,
    not_yours,
    root_of,
    set_detached,
    twin,
)

cdef enum:
    FEW = 16  # nodes with stale properties that are looked through to find those of a place

cdef extern from "Python.h":
    PyThreadState* PyThreadState_Get() noexcept
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL


@cython.final
cdef class Calculated:
    """An attribute of a State class that is calculated from others: made by ``gr.property``."""

    def __init__(self, fn, tuple paths):
        self.fn = fn
        self.paths = paths

    def __set_name__(self, owner, str name):
        if self.name is None:
            self.name = name

    def __get__(self, node, owner):
        cdef State state
        if node is None:
            return self
        if not isinstance(node, State):
            raise TypeError(
                f"{self.name} is a gr.property of a {type(node).__name__}: it belongs into a class "
                "that inherits from gr.State"
            )
        state = <State> node
        if state.plan is not None and state.plan.properties.get(self.name) is self:
            return state.read(self.name)
        return self.fn(state)  # super().name, of one that overrides this

    def __set__(self, State node, value):
        raise not_yours(node, self.name, AttributeError)

    def __delete__(self, State node):
        raise not_yours(node, self.name, AttributeError)

    def __repr__(self):
        return f"<calculated property {self.name}>"


# ---------------------------------------------------------------- becoming stale

cdef int spoil(State node, tuple path, dict marked) except -1:
    """Make stale what is calculated from ``path`` (from the root), a key of ``node``.

    ``marked`` collects the properties as (node, name), by the address of the node and the name,
    also those that were stale before.
    """
    cdef State at = root_of(node.journal)
    cdef PyObject* found
    cdef Py_ssize_t i
    cdef Py_ssize_t last = len(path) - 1
    if at is not None:
        for i in range(last):
            if at.plan is not None:
                spoil_of(at, path, i, marked)
            found = PyDict_GetItemWithError(at.d, path[i])
            if found == NULL or not isinstance(<object> found, State):
                break
            at = <State> <object> found
    elif node.journal.planned is not None:
        for at in alive(node.journal.planned):
            i = at.where.depth - 1
            if at is not node and not at.detached and at.where.keys == path[:i]:
                spoil_of(at, path, i, marked)
    if node.plan is not None:
        spoil_of(node, path, last, marked)
    return 0


cdef list alive(set addresses):
    """The nodes at some addresses, but those that are just going. Cannot start the collector."""
    cdef list nodes = []
    cdef PyObject* node
    for address in addresses:
        node = <PyObject*> <size_t> address
        if node.ob_refcnt > 0:
            nodes.append(<object> node)
    return nodes


cdef int spoil_of(State node, tuple path, Py_ssize_t start, dict marked) except -1:
    """The properties of one node; ``path[start:]`` is the path from there."""
    cdef Needs needs = node.plan.needs
    cdef Py_ssize_t i
    cdef Py_ssize_t end = len(path)
    for i in range(start, end):
        if needs.below is None:
            return 0
        needs = needs.below.get(path[i])
        if needs is None:
            return 0
        for name in needs.here if i + 1 < end else needs.all:
            mark(node, <str> name, marked)
    return 0


cdef int mark(State node, str name, dict marked) except -1:
    cdef Journal journal = node.journal
    if marked is None:
        if node.stale is not None and name in node.stale:
            return 0  # and so is all that is calculated from it, or was calculated without it
    else:
        known = (<size_t> <PyObject*> node, name)
        if known in marked:
            return 0
        marked[known] = (node, name)
    if node.stale is None:
        node.stale = {}
        if journal.pending is None:
            journal.pending = [node]
        else:
            journal.pending.append(node)
    if name not in node.stale:
        node.stale[name] = node.plan.properties[name]
    return spoil(node, node.where.keys + (name,), marked)


# ---------------------------------------------------------------- calculating

cdef object calculate(State node, str name):
    """Call the function. Meanwhile this thread cannot assign."""
    cdef Journal journal = node.journal
    cdef PyThreadState* before = journal.calculator
    cdef PyThreadState* me = PyThreadState_Get()
    journal.calculator = me
    try:
        return (<Calculated> node.plan.properties[name]).fn(node)
    finally:
        journal.calculator = before if before == me else NULL  # never that of another thread


cdef object taken(State node, str name, object value):
    """What is stored of what the function returned: nobody assigns inside of it."""
    cdef bint nested = isinstance(value, (dict, State, StateView))
    place = made_place(node, name) if nested else node.where
    return convert(value, place, name, node.journal, node.fields)


cdef int renew(State node, str name) except -1:
    """Calculate a stale property, if this thread may; otherwise its last value stands."""
    cdef Journal journal = node.journal
    cdef PyThreadState* before = journal.calculator
    cdef PyThreadState* me = PyThreadState_Get()
    cdef bint detached
    if not journal.alone and journal.owner != me or journal.encoder == me:
        return 0
    if before != me and before != NULL:
        if journal.alone:
            return 0  # another thread is in a property of this State on its own
        before = NULL  # another thread makes a state that it may not assign
    prop = node.stale[name]
    if prop is None:
        raise RecursionError(f"{type(node).__name__}.{name} is calculated from itself")
    node.stale[name] = None
    journal.calculator = me
    try:
        value = taken(node, name, calculate(node, name))
    except BaseException as error:
        node.stale[name] = prop
        error.add_note(f"while {type(node).__name__}.{name} was calculated")
        raise
    finally:
        journal.calculator = before
    del node.stale[name]
    # In the property of another one this thread does assign now; and a removed state is kept right
    # for whoever reads it, or brings it back by a rollback.
    detached = node.detached
    node.detached = False
    journal.calculator = NULL
    try:
        node.admit()
        _old = node.put(name, value)  # it goes last: others may run then
    finally:
        journal.calculator = before
        node.detached = detached
    if detached:
        node.gate = NULL
        if isinstance(value, State):
            set_detached(<State> value, True)
    return 0


cdef int settle(State top) except -1:
    """Calculate what is stale at a node and below it."""
    cdef tuple keys = top.where.keys
    cdef Py_ssize_t depth = len(keys)
    cdef State node
    if PyList_GET_SIZE(top.journal.pending) > FEW and depth:
        return settle_below(top)
    for node in list(top.journal.pending):
        if node is top or node.where.keys[:depth] == keys:
            settle_node(node)
    return 0


cdef int settle_below(State node) except -1:
    """The same by a walk, which costs what is below, however much is stale elsewhere."""
    settle_node(node)
    if not node.borrowed:  # else all below is the template's
        for value in list(node.d.values()):
            if isinstance(value, State) and (<State> value).journal is node.journal:
                settle_below(<State> value)
    return 0


cdef int settle_node(State node) except -1:
    """Calculate what is stale at a node."""
    if node.stale is not None:
        for name in list(node.stale):
            if node.stale.get(name) is not None:
                renew(node, <str> name)
    return 0


cdef int settle_all(Journal journal, bint lenient) except -1:
    """Calculate all that is stale; then nothing is, and the first error is raised.

    What a removed state raises is not: it keeps its last value. ``lenient``: what raises stays
    stale, and its error waits for the end of the turn.
    """
    cdef State node
    cdef object failure = None
    cdef bint left = False
    for node in list(journal.pending):
        for name in list(node.stale):
            if name not in node.stale:
                continue  # another one needed it
            if node.stale[name] is None:
                left = True  # just being calculated, by something that makes a patch
                continue
            try:
                renew(node, <str> name)
            except Exception as error:
                left = True
                if node.detached:
                    continue  # of what was removed, nobody gets it
                if failure is None:
                    failure = error
                elif not lenient:
                    failure.add_note(f"{type(node).__name__}.{name} failed as well: {error!r}")
    if not lenient or not left:
        drop_stale(journal)
    if failure is not None and not lenient:
        raise failure
    return 0


# ---------------------------------------------------------------- new states

cdef object fails(State node, str name, error):
    return ValueError(
        f"{type(node).__name__}.{name} cannot be calculated for a new state: "
        f"{type(error).__name__}: {error}. Give what it reads a default, or let it return "
        "something without it"
    )


cdef int begin(State node) except -1:
    """Calculate all properties of a new node."""
    enrol(node)
    for name in node.plan.properties:
        try:
            value = calculate(node, <str> name)
            node.d[name] = taken(node, <str> name, value)
        except Exception as error:
            raise fails(node, name, error) from error
    return 0


cdef object first_value(State node, str name):
    """A property of a template's node, calculated in a session's node that is thrown away."""
    cdef Journal journal = Journal.__new__(Journal)
    journal.alone = True
    try:
        return calculate(twin(node, journal), name)
    except Exception as error:
        raise fails(node, name, error) from error


_state.hooks.renew = renew
_state.hooks.settle = settle
_state.hooks.begin = begin
