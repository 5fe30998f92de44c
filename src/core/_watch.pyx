# cython: language_level=3
"""Subscriptions: who hears of which assignment, in which order, and what happens on a failure.

The rule
    An assignment of a path tells, when it is stored: first the subscribers of the path itself, in
    the order in which they subscribed; then those of the paths below it whose value existed before
    or exists now; then those of the calculated properties that are made stale, which are calculated
    for it first (nested ones before those of their parents). An assignment below a path does not
    tell of the path. Sync subscribers run inside the assignment, async ones are left with the
    journal: the turn runs them after the handler, in order.

Who owns what
    The tree of the template is shared by its sessions until one of them subscribes or cancels; that
    one makes its own. A cancelled Watch is dead in every tree; a tree drops it when it is pruned.

Who may call what: whoever may assign. Everything here belongs to one session, the depth of the
cascade too.

Cut in the middle: what a subscriber raises leaves the assignment, and what was assigned waits for
the turn to be rolled back. Those behind it are not called.
"""

cimport cython
from . cimport _state
from ._calculated cimport spoil
from ._state cimport (
    CALCULATED,
    DUE,
    WATCHED,
    Journal,
    State,
    root_of,
    shown,
    spell,
)

from ._state import set_subscribing
from .errors import StaleTurn

cdef extern from "Python.h":
    object PyUnicode_FromObject(object text)

cdef enum:
    CASCADE = 128

cdef object adapter = None


def set_subscriber_adapter(adapt):
    """Install what turns a subscriber into ``call(payload, context, state)``.

    A call whose ``is_async`` attribute is true runs after the handler, before the commit.
    """
    global adapter
    adapter = adapt


# ---------------------------------------------------------------- paths

cpdef tuple parse_path(object path):
    """The keys of a path: ``"a.b"``, with ``\\.`` for a literal dot, or a tuple of keys."""
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


# ---------------------------------------------------------------- subscribing

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


def subscribe(State node not None, path, handler, initial):
    """``State.subscribe_mutation``."""
    cdef Journal journal = node.journal
    cdef Handle handle = Handle.__new__(Handle)
    cdef Watch watch
    if journal is None:
        raise StaleTurn("this state has no session")
    paths = path if isinstance(path, list) else [path]
    if not paths:
        raise ValueError("subscribe to at least one path")
    places = [(parse_path(one), one) for one in paths]
    call = adapter(handler)
    if journal.pending is not None:
        _state.hooks.settle(node)  # properties are calculated at once from now on
    own_watches(journal)
    handle.journal = journal
    handle.watches = []
    for keys, one in places:
        watch = Watch.__new__(Watch)
        watch.call = call
        watch.later = bool(getattr(call, "is_async", False))
        watch.path = one if isinstance(one, str) else spell(keys)
        plant(journal.watches, node.where.keys + keys, watch)
        handle.watches.append(watch)
    journal.alert |= WATCHED
    if initial:
        for (keys, _), watch in zip(places, handle.watches):
            value = node
            for key in keys:
                value = (<State> value).read(key) if isinstance(value, State) else None
            ring(journal, watch, None, value, "init")
    return handle


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


cdef list watched(Watches tree, tuple above):
    """The paths in a tree that somebody subscribes to."""
    cdef list paths = []
    if tree is not None:
        if tree.here:
            paths.append(above)
        if tree.below is not None:
            for key, item in tree.below.items():
                paths.extend(watched(item, above + (key,)))
    return paths


# ---------------------------------------------------------------- telling

cdef int told(
    State node, str key, object old, bint had, object new, bint has
) except -1:
    """Call the subscribers an assignment concerns, and whoever waits for a push."""
    cdef Journal journal = node.journal
    cdef tuple path = node.where.keys + (key,)
    cdef Watches here
    cdef list due = None
    cdef dict marked = None
    cdef list renewed = None
    cdef Watch watch
    if journal.alert & CALCULATED:
        if journal.alert & WATCHED:
            marked = {}
        spoil(node, path, marked)
    if journal.alert & WATCHED:
        if marked:
            renewed = calculate_watched(journal, marked)
        here = find(journal.watches, path)
        if here is not None:
            due = []
            collect(journal, here, old, had, new, has, due)
        if renewed:
            due = [] if due is None else due
            for here, owner, name, before in renewed:
                collect(journal, here, before, True, (<State> owner).read(name), True, due)
    if due:
        if journal.cascade >= CASCADE:
            raise RecursionError(
                f"subscribers assign in a circle, {CASCADE} deep, last {spell(path)}"
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


cdef list calculate_watched(Journal journal, dict marked):
    """Calculate what somebody subscribes to: (who, node, name, the value it had)."""
    cdef list found = []
    cdef Watches here
    cdef State node
    for node, name in marked.values():
        here = find(journal.watches, node.where.keys + (name,))
        if here is not None:
            found.append((here, node, name, node.d[name]))
    if len(found) > 1:
        found.sort(key=place_in_line)
    for _, node, name, _ in found:
        node.read(name)
    return found


def place_in_line(entry):
    """Deepest first; in one state, each behind those it is calculated from."""
    cdef State node = entry[1]
    return -node.where.depth, list(node.plan.properties).index(entry[2])


cdef Watches find(Watches tree, tuple path):
    for key in path:
        if tree is None or tree.below is None:
            return None
        tree = tree.below.get(key)
    return tree


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
    root = root_of(journal)
    if watch.later:
        defer(journal, watch, Later(watch.call, payload, context, root))
        return 0
    result = watch.call(payload, context, root)
    if result is not None and hasattr(result, "__await__"):
        if journal.alone and hasattr(result, "close"):
            result.close()
        defer(journal, watch, Later(None, result, None, None))
    return 0


cdef int defer(Journal journal, Watch watch, object call) except -1:
    if journal.alone:
        raise RuntimeError(
            f"{watch.path} has an async subscriber, which runs at the end of a session's turn: a "
            "State on its own has no turns, so assign it before you subscribe"
        )
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


_state.hooks.told = told
set_subscribing(subscribe)
