# cython: language_level=3, auto_pickle=False
"""How many objects of each compiled class live: for tests, in a build that counts.

``GREENROOM_DEBUG_COUNTS=1`` makes such a build (``make counts``); in others :func:`start` raises.
Counting costs the classes no line: :func:`start` puts itself between each class and its memory
(``tp_alloc`` and ``tp_free``), which every object passes once, its subclasses in Python included.

Threads: any; a count is changed under the GIL. Cut in the middle: there is no middle, and no way
back. What was made before the start is not counted, and must outlive the counting.
"""

from cpython.object cimport PyObject

import sys

cdef extern from *:
    """
    #define GREENROOM_CLASSES 256
    typedef struct {
        PyTypeObject *type;
        freefunc free;
        long long live;
    } greenroom_count;
    static greenroom_count greenroom_counts[GREENROOM_CLASSES];
    static int greenroom_classes = 0;

    static greenroom_count *greenroom_count_of(PyTypeObject *type) {
        for (int i = 0; i < greenroom_classes; i++)
            if (greenroom_counts[i].type == type) return &greenroom_counts[i];
        return NULL;
    }
    static PyObject *greenroom_alloc(PyTypeObject *type, Py_ssize_t items) {
        PyObject *object = PyType_GenericAlloc(type, items);
        greenroom_count *count = greenroom_count_of(type);
        if (object != NULL && count != NULL) count->live++;
        return object;
    }
    static void greenroom_free(void *object) {
        greenroom_count *count = greenroom_count_of(Py_TYPE((PyObject *) object));
        count->live--;
        count->free(object);
    }
    /* 1: counted from now on; 0: it was already; -1: it has its own memory, or there is no room. */
    static int greenroom_watch(PyObject *kind) {
        PyTypeObject *type = (PyTypeObject *) kind;
        if (greenroom_count_of(type) != NULL) return 0;
        if (type->tp_alloc != PyType_GenericAlloc || greenroom_classes == GREENROOM_CLASSES)
            return -1;
        greenroom_counts[greenroom_classes].type = type;
        greenroom_counts[greenroom_classes].free = type->tp_free;
        greenroom_counts[greenroom_classes].live = 0;
        greenroom_classes++;
        Py_INCREF(type);
        type->tp_alloc = greenroom_alloc;
        type->tp_free = greenroom_free;
        return 1;
    }
    """
    ctypedef struct greenroom_count:
        PyObject *type
        long long live
    greenroom_count greenroom_counts[]
    int greenroom_classes
    int greenroom_watch(PyObject *type)
    bint GREENROOM_DEBUG_COUNTS

COUNTING = bool(GREENROOM_DEBUG_COUNTS)


def start():
    """Count every compiled class that is imported, and its subclasses, from now on.

    Again: also what was imported since. Raises RuntimeError in a build that cannot count.
    """
    if not COUNTING:
        raise RuntimeError("this build does not count: make counts, or GREENROOM_DEBUG_COUNTS=1")
    for name, module in list(sys.modules.items()):
        if name.startswith("greenroom.core._") and name != __name__:
            for thing in list(vars(module).values()):
                if isinstance(thing, type) and thing.__module__ == name:
                    watch(thing)


cdef int watch(type kind) except -1:
    if greenroom_watch(<PyObject *> kind) < 0:
        raise RuntimeError(f"{kind!r} cannot be counted")
    for below in type.__subclasses__(kind):
        watch(below)
    return 0


def live():
    """How many objects there are of each class, of those made since the start; zeros left out."""
    cdef int i
    found = {}
    for i in range(greenroom_classes):
        if greenroom_counts[i].live:
            kind = <object> greenroom_counts[i].type
            found[f"{kind.__module__}.{kind.__qualname__}"] = greenroom_counts[i].live
    return found
