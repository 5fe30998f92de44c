# Plan of the room: operations, drafts and patches.

from ._text cimport Buf

cdef enum:  # kinds of operations
    SET = 0
    DELETE = 1
    APPEND = 2

cdef struct Op:
    Py_ssize_t path  # where the opening quote of its path is; in a Draft: within its part
    Py_ssize_t path_len  # with both quotes
    Py_ssize_t value  # where its value begins (nothing for DELETE)
    Py_ssize_t value_len
    unsigned char kind  # SET, DELETE or APPEND
    unsigned char created  # of a SET: clients did not have the key before

cdef struct Draft:
    Buf part[3]  # by kind: the inner text of "=", "-" and "+"
    Op* ops
    Py_ssize_t count
    Py_ssize_t room


cdef class Patch:
    cdef Op* ops
    cdef Py_ssize_t count
    cdef bytes text  # the text form; nothing stands where a buffer goes
    cdef tuple holes  # None, or (offset in text, bytes) pairs in order
    cdef dict wholes  # None, or pointer -> the whole string after a string append
    cdef readonly long long position  # the ledger's count of patches, this one included
    cdef readonly Py_ssize_t nbytes  # size of the text form

    cdef object decoded(self, str part, bint blobs)
    cdef bytes path_of(self, Py_ssize_t i)


cdef int draft_begin(Draft* draft) except -1
cdef void draft_end(Draft* draft) noexcept
cdef int draft_op(
    Draft* draft, int kind, Py_ssize_t path, Py_ssize_t value, bint created
) except -1
cdef int draft_scalar(Draft* draft, bytes prefix, str key, object value, bint created) except -1
cdef Patch draft_finish(Draft* draft, list holes, dict wholes, long long position)
