# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `records`: the free slots of a segment, and reading its records.

What works on many records does so without the interpreter's lock: the event loop and the
threads of the application run meanwhile. Where they have no processor, they wait for a piece
of the work anyway, so none should take half a millisecond.
"""

cimport cython
from cpython cimport array
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport INT16_MAX, int16_t, int64_t, uint32_t
from libc.stdlib cimport free, malloc

import array
import mmap

from aqltelemetry.journal import records as pure


cdef extern from "record.h":
    ctypedef struct Row:
        int64_t at_ns
        int64_t value
        uint32_t label_id
    bint is_intact(const Row* row, uint32_t position) nogil
    bint is_used(const Row* row) nogil
    bint is_little_endian()


cdef extern from *:
    """
    static void store_zero(char *at) {
        *(volatile char *)at = 0;
    }
    """
    bint add_overflow "__builtin_add_overflow"(int64_t, int64_t, int64_t*) nogil
    void store_zero(char* at) nogil


if not is_little_endian():
    raise ImportError("segments are little-endian")
make_crc_tables()

TOUCHED_BYTES = 256 << 10
cdef Py_ssize_t PAGE_BYTES = mmap.PAGESIZE

cdef enum:
    RECORD_BYTES = 24
    LABEL_SLOTS = 1024
    COLUMNS = 512
    SLOTS = 8192
    RECORDS_A_STOP = 4096

cdef array.array _INTEGERS = array.array("q")


cdef struct Anchor:
    int64_t at_ns
    int64_t offset_ns


cdef struct Ids:
    uint32_t first_id
    uint32_t table_id
    uint32_t all


cdef struct Target:
    bint is_known
    Py_ssize_t count
    int64_t* timepoints
    int64_t* values


@cython.final
cdef class Slots:
    """Iterates over the positions of a segment's free slots.

    Taking a position is one step under the interpreter's lock, by `next` as by the compiled
    hot path, and `operator.length_hint` returns exactly how many are left. The hot path takes
    none after `_stop`, so that a record goes the slow way now and then; `next` moves that on.
    """

    def __cinit__(self, mapped, dict ids, positions):
        self._next, self._end = positions.start, positions.start + len(positions) * RECORD_BYTES
        self._stop = min(self._end, self._next + RECORD_BYTES * RECORDS_A_STOP)
        self._ids = ids
        PyObject_GetBuffer(mapped, &self._view, PyBUF_WRITABLE)
        self._base = <char*>self._view.buf
        if positions.step != RECORD_BYTES or (positions and self._end > self._view.len):
            raise ValueError("these are not the slots of a segment")

    def __dealloc__(self):
        PyBuffer_Release(&self._view)

    def __iter__(self):
        return self

    def __next__(self):
        cdef Py_ssize_t position = self._next
        if position >= self._end:
            raise StopIteration
        if position >= self._stop:
            self._stop = min(self._end, position + RECORD_BYTES * RECORDS_A_STOP)
        self._next = position + RECORD_BYTES
        return position

    def __length_hint__(self):
        return (self._end - self._next) // RECORD_BYTES


free_slots = Slots


def share(Slots slots, dict ids):
    """Look series up in other ids from here on; once."""
    # The first ones are kept, since a look-up in them may be in progress.
    slots._first_ids = slots._ids
    slots._ids = ids


def stop_after(Slots slots, Py_ssize_t records):
    """Send the record after so many the slow way."""
    slots._stop = min(slots._end, slots._next + RECORD_BYTES * records)


def touch(mapped, Py_ssize_t start, Py_ssize_t stop):
    """Store a zero into each page of `mapped` from `start` to before `stop`."""
    cdef Py_buffer view
    cdef Py_ssize_t at = start
    PyObject_GetBuffer(mapped, &view, PyBUF_WRITABLE)
    with nogil:
        while at < min(stop, view.len):
            store_zero(<char*>view.buf + at)
            at += PAGE_BYTES
    PyBuffer_Release(&view)


def read_records(data, tuple positions, tuple first_ids, ids, anchors, bint check, rest):
    """Return `(id, timepoints, values)` of each series in some slots, and how many are damaged.

    As `records.read_records`, which reads what this can't.
    """
    found = _read(data, positions, first_ids, ids, anchors, check, rest)
    if found is None:
        found = pure.read_records(data, positions, first_ids, ids, anchors, check, rest)
    return found


cdef object _read(data, tuple positions, tuple first_ids, ids, anchors, bint check, rest):
    """Return what `read_records` does, or None where only the pure twin can."""
    cdef Py_ssize_t start = positions[0], stop = positions[1]
    cdef Ids named
    cdef Py_ssize_t slots = max((stop - start) // RECORD_BYTES, 0), slot, index, count
    cdef Py_ssize_t first, behind
    cdef Py_ssize_t damaged = 0, seen = 0, known = len(anchors)
    cdef array.array timepoints, values
    named.first_id, named.table_id, named.all = first_ids[0], first_ids[1], LABEL_SLOTS + first_ids[2]
    cdef Py_ssize_t* order = <Py_ssize_t*>malloc(named.all * sizeof(Py_ssize_t))
    cdef Target* targets = <Target*>malloc(named.all * sizeof(Target))
    cdef Anchor* table = <Anchor*>malloc(known * sizeof(Anchor))
    cdef int16_t* series = <int16_t*>malloc(slots * sizeof(int16_t) + 1)
    cdef const Row* rows
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    rows = <const Row*>(<char*>view.buf + start)
    try:
        if start % 8 or stop > view.len:
            raise ValueError("these are not the slots of a segment")
        if named.all > INT16_MAX:
            raise ValueError("too many series")
        if order is NULL or targets is NULL or table is NULL or series is NULL:
            raise MemoryError
        for index in range(named.all):
            targets[index].is_known = index >= LABEL_SLOTS
            targets[index].count = 0
        for label_id in ids:
            if not named.first_id <= label_id < named.first_id + LABEL_SLOTS:
                return None
            targets[<uint32_t>label_id - named.first_id].is_known = True
        for index, (at_ns, offset_ns) in enumerate(anchors):
            table[index] = Anchor(at_ns, offset_ns)
        for first in range(0, slots, SLOTS):
            behind = min(first + SLOTS, slots)
            with nogil:
                damaged += count_rows(
                    rows, first, behind, start, named, targets, order, &seen, series, check
                )
            rest()
        columns = []
        for slot in range(seen):
            index = order[slot]
            timepoints = array.clone(_INTEGERS, targets[index].count, False)
            values = array.clone(_INTEGERS, targets[index].count, False)
            targets[index].timepoints = <int64_t*>timepoints.data.as_longlongs
            targets[index].values = <int64_t*>values.data.as_longlongs
            targets[index].count = 0
            columns.append((id_of(named, index), timepoints, values))
            if slot % COLUMNS == COLUMNS - 1:
                rest()
        with nogil:
            if not fill(rows, slots, targets, series, table, known):
                damaged = -1
        return None if damaged < 0 else (columns, damaged)
    finally:
        PyBuffer_Release(&view)
        free(order)
        free(targets)
        free(table)
        free(series)


cdef inline uint32_t index_of(Ids named, uint32_t label_id) noexcept nogil:
    """Say which of all series an id is of; that of a segment's own comes before the table's."""
    cdef uint32_t index = label_id - named.first_id
    if index < LABEL_SLOTS:
        return index
    index = label_id - named.table_id
    return LABEL_SLOTS + index if index < named.all - LABEL_SLOTS else named.all


cdef inline uint32_t id_of(Ids named, Py_ssize_t index) noexcept nogil:
    if index < LABEL_SLOTS:
        return named.first_id + <uint32_t>index
    return named.table_id + <uint32_t>(index - LABEL_SLOTS)


cdef Py_ssize_t count_rows(
    const Row* rows, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t start, Ids named,
    Target* targets, Py_ssize_t* order, Py_ssize_t* seen, int16_t* series, bint check
) noexcept nogil:
    """Note the series of some slots, -1 for none, count them, return how many are damaged."""
    cdef Py_ssize_t slot, damaged = 0
    cdef uint32_t index
    for slot in range(first, stop):
        series[slot] = -1
        if check and not is_intact(&rows[slot], start + slot * RECORD_BYTES):
            damaged += is_used(&rows[slot])
        elif rows[slot].label_id:
            index = index_of(named, rows[slot].label_id)
            if index < named.all and targets[index].is_known:
                series[slot] = index
                if not targets[index].count:
                    order[seen[0]] = index
                    seen[0] += 1
                targets[index].count += 1
            else:
                damaged += 1
    return damaged


cdef bint fill(
    const Row* rows, Py_ssize_t slots, Target* targets, const int16_t* series,
    const Anchor* anchors, Py_ssize_t known
) noexcept nogil:
    """Put each record into its column, by the rules of `clock.to_epoch`; False if it can't."""
    cdef Py_ssize_t slot, anchor = 0
    cdef int64_t timepoint, floor
    cdef Target* target
    for slot in range(slots):
        if series[slot] < 0:
            continue
        while anchor + 1 < known and anchors[anchor + 1].at_ns <= rows[slot].at_ns:
            anchor += 1
        while anchor and anchors[anchor].at_ns > rows[slot].at_ns:
            anchor -= 1
        if add_overflow(rows[slot].at_ns, anchors[anchor].offset_ns, &timepoint):
            return False
        if anchor and anchors[anchor - 1].offset_ns > anchors[anchor].offset_ns:
            if add_overflow(anchors[anchor].at_ns, anchors[anchor - 1].offset_ns, &floor):
                return False
            timepoint = max(timepoint, floor)
        target = &targets[series[slot]]
        target.timepoints[target.count] = timepoint
        target.values[target.count] = rows[slot].value
        target.count += 1
    return True
