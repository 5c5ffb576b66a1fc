# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `in_flight_slots`.

All of it runs with the interpreter's lock held, and between taking a slot and the last store into
it nothing calls Python.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_Clear
from libc.stdint cimport int64_t, uint16_t, uint32_t

from aqltelemetry.journal import in_flight as fmt


cdef extern from "in_flight.h":
    void make_crc_tables()
    bint is_little_endian()
    uint32_t thread_number(int64_t generation)
    void store_slot(
        char* slot, uint32_t position, int64_t begin_ns, uint32_t thread, const char* method,
        size_t method_bytes, const char* path, size_t path_bytes,
    )
    void free_slot(char* slot)


cdef extern from "Python.h":
    bint PyUnicode_Check(object text)
    int PyUnicode_KIND(object text)
    int PyUnicode_1BYTE_KIND
    const void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) noexcept


if not is_little_endian():
    raise ImportError("the slots are little-endian")
make_crc_tables()

NO_HANDLE = 0

cdef enum:
    MOST_SLOTS = 1020
    SLOTS_AT = 1024
    SLOT_BYTES = 256
    NO_SLOT_AT = 512
    SLOT_BITS = 16
    NO_SLOT = 65535


cdef class Table:
    """The slots of one recording; `_generation` distinguishes its handles from earlier ones."""

    cdef Py_buffer _view
    cdef char* _base
    cdef object _map
    cdef int64_t _generation, _without_slot
    cdef int _free, _used
    cdef uint16_t _next[MOST_SLOTS]

    def __cinit__(self, mapped, int64_t generation):
        cdef int slot
        PyObject_GetBuffer(mapped, &self._view, PyBUF_WRITABLE)
        if self._view.len < SLOTS_AT + MOST_SLOTS * SLOT_BYTES or fmt.SLOTS != MOST_SLOTS:
            raise ValueError("this is not a file of slots")
        self._base = <char*>self._view.buf
        self._map = mapped
        self._generation = generation
        # The last one released is claimed next, so that few pages are in use.
        for slot in range(MOST_SLOTS):
            self._next[slot] = MOST_SLOTS - 1 - slot
        self._free = MOST_SLOTS

    def __dealloc__(self):
        PyBuffer_Release(&self._view)

    cdef void _count(self, int change) noexcept:
        self._without_slot += change
        (<int64_t*>(self._base + NO_SLOT_AT))[0] = self._without_slot


cdef Table _table = None
cdef int64_t _generation = 0


def install(mapped):
    """Use the slots of a mapped file from now on; None for none."""
    global _table, _generation
    before = _table
    _generation += 1
    _table = None if mapped is None else Table(mapped, _generation)
    del before


def installed():
    """Return the mapped file in use."""
    return None if _table is None else _table._map


def used():
    """Return how many of the first slots were ever in use."""
    return 0 if _table is None else _table._used


def count():
    """Return how many requests are in flight, with and without a slot."""
    return 0 if _table is None else MOST_SLOTS - _table._free + _table._without_slot


cdef inline const char* _bytes(object text, Py_ssize_t* size) noexcept:
    """Return the bytes of a text, or none where it has none."""
    cdef const char* found
    size[0] = 0
    if not PyUnicode_Check(text):
        return b""
    if PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND:
        size[0] = PyUnicode_GET_LENGTH(text)
        return <const char*>PyUnicode_DATA(text)
    found = PyUnicode_AsUTF8AndSize(text, size)
    if found is NULL:  # it has lone surrogates
        PyErr_Clear()
        size[0] = 0
        return b""
    return found


cdef int64_t claim_slot(object method, object path, int64_t begin_ns) noexcept:
    cdef Table table
    cdef Py_ssize_t method_bytes, path_bytes
    cdef const char* first
    cdef const char* rest
    cdef int slot
    if _table is None:
        return 0
    first = _bytes(method, &method_bytes)
    rest = _bytes(path, &path_bytes)
    # Read after all that may call Python.
    table = _table
    if table is None:
        return 0
    if not table._free:
        table._count(1)
        return table._generation << SLOT_BITS | NO_SLOT
    table._free -= 1
    slot = table._next[table._free]
    if slot >= table._used:
        table._used = slot + 1
    store_slot(
        table._base + SLOTS_AT + slot * SLOT_BYTES, SLOTS_AT + slot * SLOT_BYTES, begin_ns,
        thread_number(table._generation), first, method_bytes, rest, path_bytes,
    )
    return table._generation << SLOT_BITS | slot


cdef void release_slot(int64_t handle) noexcept:
    cdef Table table = _table
    cdef int slot = handle & NO_SLOT
    if table is None or handle >> SLOT_BITS != table._generation:
        return
    if slot == NO_SLOT:
        table._count(-1)
        return
    free_slot(table._base + SLOTS_AT + slot * SLOT_BYTES)
    table._next[table._free] = slot
    table._free += 1


def claim(method, path, int64_t begin_ns):
    """Store a request that begins; return the handle by which it is released."""
    return claim_slot(method, path, begin_ns)


def release(int64_t handle):
    """Free the slot of a request that has ended; a handle of an earlier recording is ignored."""
    release_slot(handle)
