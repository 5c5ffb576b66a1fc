# The common parts of the compiled twins of the hosts.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t


cdef extern from "Python.h":
    cdef enum:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT


cdef enum:
    TOTAL
    FIRST_BYTE
    CLIENT_ERROR
    SERVER_ERROR
    DISCONNECT


cdef class Gauge:
    cdef int64_t count


cdef class RequestRecord:
    cdef object kind
    cdef readonly object meter
    cdef long status
    cdef bint disconnected, ended
    cdef int64_t started_ns, first_ns, slot

    cdef int first_byte(self) except -1
    cdef int end(self, tuple labels, bint with_ttfb) except -1


cdef class Awaited:
    cdef object _inner

    cdef int _returned(self, PyObject** result) except -1
    cdef int _raised(self, object exc, PyObject** result) except -1
    cdef int _send(self, PyObject* value, PyObject** result) noexcept
    cdef int _after(self, int sent, PyObject** result) noexcept
    cdef int _after_error(self, PyObject** result) noexcept
    cdef int _throw(self, tuple error, PyObject** result) noexcept
    cdef object _yielded(self, int sent, PyObject* result)


cdef int record_request(
    tuple labels, int64_t started_ns, int64_t first_ns, long status, bint disconnected, object meter
) except -1
cdef object taken(PyObject* new)
cdef object iterator_of(object awaitable)
cdef object get(object mapping, object key, object default)
cdef int am_send_awaited(Awaited self, PyObject* value, PyObject** result) noexcept
