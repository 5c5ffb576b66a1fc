# What the compiled hot path uses of a segment's records, without going through Python.
from libc.stdint cimport uint32_t, uint64_t


cdef extern from "record.h":
    void make_crc_tables()
    void store_record(
        char* slot, uint64_t at, uint64_t value, uint32_t label_id, uint32_t position
    )


cdef class Slots:
    cdef Py_buffer _view
    cdef char* _base
    cdef dict _ids, _first_ids
    cdef Py_ssize_t _next, _stop, _end
