# The plan of _mailbox.pyx: the messages of one session.
#
# Lanes are linked through the messages themselves, on owned pointers: whoever links a message into
# a lane gives it a reference, whoever takes it out gets that reference.

from cpython.object cimport PyObject

from greenroom.core._lanes cimport LANES
from greenroom.core._turn cimport Message


cdef class Mailbox:
    cdef PyObject *head[LANES]
    cdef PyObject *tail[LANES]
    cdef unsigned char passed[LANES]
    cdef unsigned char lanes             # bitmap of lanes that are not empty
    cdef int count                       # messages in all lanes
    cdef Py_ssize_t nbytes               # their sizes
    cdef Message take(self, int lane)    # the first of a lane that is not empty
    cdef int append(self, Message message) except -1
    cdef bint unlink(self, Message message)  # false when it was not there
