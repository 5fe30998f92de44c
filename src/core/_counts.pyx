# cython: language_level=3, auto_pickle=False
"""What the links of an app count, all in one place, so that nothing is lost when a link ends.

Touched on the app's loop only. A count is one C addition where the thing happens; reading them all
costs the same for one link as for ten thousand.
"""

cimport cython

__all__ = ["Counts"]


@cython.final
cdef class Counts:
    """Counters of frames. ``_counts.pxd`` says what each one counts."""

    def __cinit__(self):
        self.errors = {}

    cdef int error(self, str code) except -1:
        """Count one answer that is an error."""
        self.errors[code] = self.errors.get(code, 0) + 1
        return 0
