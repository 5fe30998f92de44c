# cython: language_level=3
"""Numbers that only grow, of which the oldest nearly always leave first: a sorted ring's poor man.

Who may touch what: whoever holds the struct; there is no lock. Most links owe no answer most of the
time, and one that owes none holds no memory beyond a few numbers.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memmove

cdef struct Ids:
    long long* items
    Py_ssize_t start     # of the first one
    Py_ssize_t end       # behind the last one
    Py_ssize_t room

cdef enum:
    FEW = 4              # what an empty one may keep room for


cdef inline Py_ssize_t ids_count(Ids* ids) noexcept:
    return ids.end - ids.start


cdef inline void ids_clear(Ids* ids) noexcept:
    free(ids.items)
    ids.items = NULL
    ids.start = ids.end = ids.room = 0


cdef inline int ids_add(Ids* ids, long long id) except -1:
    """Add a number above all that are there."""
    cdef Py_ssize_t room
    cdef void* items
    if ids.end == ids.room:
        if 2 * ids.start > ids.room:
            memmove(ids.items, ids.items + ids.start, ids_count(ids) * sizeof(long long))
            ids.end -= ids.start
            ids.start = 0
        else:
            room = max(<Py_ssize_t> FEW, 2 * ids.room)
            items = realloc(ids.items, room * sizeof(long long))
            if items == NULL:
                raise MemoryError()
            ids.items = <long long*> items
            ids.room = room
    ids.items[ids.end] = id
    ids.end += 1
    return 0


cdef inline bint ids_drop(Ids* ids, long long id) noexcept:
    """Take a number out; False: it is not there."""
    cdef Py_ssize_t low = ids.start, high = ids.end, middle
    if low == high or id < ids.items[low] or id > ids.items[high - 1]:
        return False
    if ids.items[low] == id:
        ids.start += 1
    else:
        while low < high:
            middle = (low + high) // 2
            if ids.items[middle] < id:
                low = middle + 1
            else:
                high = middle
        if ids.items[low] != id:
            return False
        memmove(ids.items + low, ids.items + low + 1, (ids.end - low - 1) * sizeof(long long))
        ids.end -= 1
    if ids.start == ids.end:
        ids.start = ids.end = 0
        if ids.room > FEW:
            ids_clear(ids)
    return True
