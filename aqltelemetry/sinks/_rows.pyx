# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twins of what works on many records: reading a segment, writing its rows.

The work itself is done without the interpreter's lock: the event loop and the threads
of the application go on meanwhile. Where there is no processor left for them, they wait
for a piece of the work all the same, so none should take half a millisecond.
"""

from cpython cimport array
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport INT16_MAX, int16_t, int64_t, uint32_t
from libc.stdlib cimport free, malloc

import array


cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    static uint32_t crc_table[256];

    static void make_crc_table(void) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t crc = byte;
            for (int bit = 0; bit < 8; bit++)
                crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0);
            crc_table[byte] = crc;
        }
    }

    typedef struct {
        int64_t at_ns, value;
        uint32_t label_id, crc;
    } Row;

    /* What `format.is_intact` says. */
    static int is_intact(const Row *row, uint32_t position) {
        const unsigned char *record = (const unsigned char *)row;
        uint32_t crc = ~position;
        for (int byte = 0; byte < 20; byte++)
            crc = (crc >> 8) ^ crc_table[(crc ^ record[byte]) & 255];
        return row->crc == ~crc;
    }

    static int is_used(const Row *row) {
        return row->at_ns || row->value || row->label_id || row->crc;
    }

    static void store_zero(char *at) {
        *(volatile char *)at = 0;
    }

    static const char digit_pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
        "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";

    static inline char *put_nine(char *to, uint32_t number) {
        uint32_t pair;
        for (int at = 7; at > 0; at -= 2) {
            pair = number % 100;
            number /= 100;
            memcpy(to + at, digit_pairs + 2 * pair, 2);
        }
        *to = (char)('0' + number);
        return to + 9;
    }

    static inline char *put_number(char *to, uint64_t number) {
        char digits[20];
        char *from = digits + 20;
        do {
            *--from = (char)('0' + number % 10);
            number /= 10;
        } while (number);
        memcpy(to, from, digits + 20 - from);
        return to + (digits + 20 - from);
    }

    static inline char *put_sign(char *to, int64_t number) {
        *to = '-';
        return to + (number < 0);
    }

    static inline uint64_t magnitude(int64_t number) {
        return number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    }

    /* As `repr` does: numbers below 10**16 are written out. */
    static int is_whole(double value) {
        return value > -1e16 && value < 1e16 && value == (double)(int64_t)value;
    }

    static char *put_whole(char *to, double value) {
        uint64_t bits;
        memcpy(&bits, &value, 8);
        if (bits >> 63)
            *to++ = '-';
        to = put_number(to, magnitude((int64_t)value));
        memcpy(to, ".0", 2);
        return to + 2;
    }

    /* Rows of some timepoints and values, from `to` on; returns their end. With `exact`,
       values are nanoseconds, and seconds in the text; else they are whole floats. */
    static char *put_rows(char *to, const int64_t *timepoints, const int64_t *values,
                          Py_ssize_t rows, int exact, const char *tail, size_t tail_bytes) {
        uint64_t second = UINT64_MAX;
        char seconds[24];
        size_t seconds_chars = 0;
        for (Py_ssize_t row = 0; row < rows; row++) {
            uint64_t at = magnitude(timepoints[row]);
            if (timepoints[row] < 1000000000) {
                to = put_number(put_sign(to, timepoints[row]), at);
            } else {
                if (at / 1000000000 != second) {
                    second = at / 1000000000;
                    seconds_chars = put_number(seconds, second) - seconds;
                }
                memcpy(to, seconds, sizeof seconds);
                to = put_nine(to + seconds_chars, (uint32_t)(at % 1000000000));
            }
            *to++ = ',';
            if (exact) {
                uint64_t value = magnitude(values[row]);
                to = put_sign(to, values[row]);
                if (value < 1000000000)
                    *to++ = '0';
                else
                    to = put_number(to, value / 1000000000);
                *to++ = '.';
                to = put_nine(to, (uint32_t)(value % 1000000000));
            } else {
                double value;
                memcpy(&value, values + row, 8);
                to = put_whole(to, value);
            }
            memcpy(to, tail, tail_bytes);
            to += tail_bytes;
        }
        return to;
    }

    static int are_whole(const double *values, Py_ssize_t count) {
        for (Py_ssize_t at = 0; at < count; at++)
            if (!is_whole(values[at]))
                return 0;
        return 1;
    }
    """
    void make_crc_table()
    ctypedef struct Row:
        int64_t at_ns
        int64_t value
        uint32_t label_id
    bint is_intact(const Row* row, uint32_t position) nogil
    bint are_whole(const double* values, Py_ssize_t count) nogil
    char* put_rows(char* to, const int64_t* timepoints, const int64_t* values, Py_ssize_t rows,
                   bint exact, const char* tail, size_t tail_bytes) nogil
    bint add_overflow "__builtin_add_overflow"(int64_t, int64_t, int64_t*) nogil
    void store_zero(char* at) nogil
    bint is_used(const Row* row) nogil


make_crc_table()

cdef enum:
    RECORD_BYTES = 24
    LABEL_SLOTS = 1024
    COLUMNS = 512
    SLOTS = 8192
    NUMBERS_BYTES = 48

cdef array.array _INTEGERS = array.array("q")


cdef struct Block:
    char* begin
    char* end
    int64_t from_ns
    int64_t to_ns


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


def touch(mapped, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t page_bytes):
    """Store a zero into each page of `mapped` from `start` on, to before `stop`."""
    cdef Py_buffer view
    cdef Py_ssize_t at = start
    PyObject_GetBuffer(mapped, &view, PyBUF_WRITABLE)
    with nogil:
        while at < min(stop, view.len):
            store_zero(<char*>view.buf + at)
            at += page_bytes
    PyBuffer_Release(&view)


def read_records(data, tuple positions, tuple first_ids, ids, anchors, bint check, rest):
    """Return `(id, timepoints, values)` of each series in a run of slots, and the damaged.

    The series are in the order of their first records, their values as integers,
    whatever they mean; `anchors` are in order. `first_ids` are the segment's, of which
    `ids` are known, the table's, and how many of the table's there may be: whether those
    are known is left to the caller. `rest` is called between pieces of the work that hold
    the interpreter's lock. None where only the pure twin can do it.
    """
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


def format_rows(
    array.array timepoints, array.array values, bytes tail, Py_ssize_t block_rows,
    memory, Py_ssize_t begin,
):
    """Write the rows of a column into `memory`, in blocks.

    Return of each where it begins and ends, and its least and greatest timepoint.
    Integer values are nanoseconds, written as seconds; None where floats are not all
    whole numbers, whose text is Python's business.
    """
    cdef Py_ssize_t rows = len(timepoints), start, number, tail_bytes = len(tail)
    cdef Py_ssize_t number_of_blocks = (rows + block_rows - 1) // block_rows
    cdef bint exact = values.typecode == "q", is_done = False
    cdef const int64_t* at = <int64_t*>timepoints.data.as_longlongs
    cdef const int64_t* value = <int64_t*>values.data.as_longlongs
    cdef const char* tail_text = tail
    cdef char* to
    cdef Block* blocks
    cdef Py_buffer view
    if timepoints.typecode != "q" or values.itemsize != 8 or len(values) != rows:
        raise ValueError("a column has as many timepoints as values")
    PyObject_GetBuffer(memory, &view, PyBUF_WRITABLE)
    blocks = <Block*>malloc(number_of_blocks * sizeof(Block) + 1)
    try:
        if blocks is NULL:
            raise MemoryError
        if begin < 0 or begin + rows * (NUMBERS_BYTES + tail_bytes) > view.len:
            raise ValueError("the memory is too small")
        to = <char*>view.buf + begin
        with nogil:
            if exact or are_whole(<const double*>value, rows):
                is_done = True
                for number in range(number_of_blocks):
                    start = number * block_rows
                    blocks[number].begin = to
                    write_block(
                        &blocks[number], at + start, value + start,
                        min(block_rows, rows - start), exact, tail_text, tail_bytes,
                    )
                    to = blocks[number].end
        if not is_done:
            return None
        return [
            (
                blocks[number].begin - <char*>view.buf, blocks[number].end - <char*>view.buf,
                blocks[number].from_ns, blocks[number].to_ns,
            )
            for number in range(number_of_blocks)
        ]
    finally:
        PyBuffer_Release(&view)
        free(blocks)


cdef void write_block(
    Block* block, const int64_t* timepoints, const int64_t* values, Py_ssize_t rows,
    bint exact, const char* tail, Py_ssize_t tail_bytes
) noexcept nogil:
    cdef Py_ssize_t row
    block.end = put_rows(block.begin, timepoints, values, rows, exact, tail, tail_bytes)
    block.from_ns = block.to_ns = timepoints[0]
    for row in range(1, rows):
        block.from_ns = min(block.from_ns, timepoints[row])
        block.to_ns = max(block.to_ns, timepoints[row])
