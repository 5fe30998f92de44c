# Plan of the room: from records to patches and snapshots.

from ._patch cimport Patch
from ._state cimport Journal, State, Where


cdef class Tree:
    cdef Where where
    cdef list pairs  # (key, leaf or Tree): a copy of a subtree that nobody else changes


cdef list kept_add(list nodes, State node)
cdef Patch make_patch(Journal journal, State root, bint foreign, bint empty)
cdef tuple make_snapshot(Journal journal, State root, bint foreign)
