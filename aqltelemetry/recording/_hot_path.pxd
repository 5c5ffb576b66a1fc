# What other compiled modules call without going through Python.
from libc.stdint cimport int64_t

cdef bint is_recording() noexcept
cdef int64_t monotonic_ns() except? -1
cdef int append(object label, int64_t end_ns, int64_t duration_ns) except -1
