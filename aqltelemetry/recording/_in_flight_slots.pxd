# What the compiled twins of the hosts call without going through Python.
from libc.stdint cimport int64_t

cdef int64_t claim_slot(object method, object path, int64_t begin_ns) noexcept
cdef void release_slot(int64_t handle) noexcept
