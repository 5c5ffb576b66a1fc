# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled writer of CSV rows: a column of observations becomes text.

It runs without the interpreter's lock: the event loop and the threads of the application run
meanwhile. Where they have no processor, they wait for a piece of the work anyway, so none
should take half a millisecond.
"""

from cpython cimport array
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc


cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

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
    bint are_whole(const double* values, Py_ssize_t count) nogil
    char* put_rows(char* to, const int64_t* timepoints, const int64_t* values, Py_ssize_t rows,
                   bint exact, const char* tail, size_t tail_bytes) nogil


cdef enum:
    NUMBERS_BYTES = 48


cdef struct Block:
    char* begin
    char* end
    int64_t from_ns
    int64_t to_ns


def format_rows(
    array.array timepoints, array.array values, bytes tail, Py_ssize_t block_rows,
    memory, Py_ssize_t begin,
):
    """Write the rows of a column into `memory`, from `begin` on, in blocks of `block_rows`.

    Return for each block where it begins and ends, and its first and last timepoint. Integer
    values are nanoseconds and written as seconds. Return None if the values are floats that are
    not all whole numbers: their text is made in Python.
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
