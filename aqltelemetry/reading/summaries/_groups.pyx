# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled part of grouping: it sorts values by small keys, by counting."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t
from libc.string cimport memcpy

ctypedef fused key_t:
    int8_t
    int16_t
    int32_t
    int64_t


def sort_by_key(const key_t[::1] keys, const double[::1] values, int64_t[::1] ends, double[::1] out):
    """Copy values into `out`, sorted by key; those of equal keys stay in order.

    Values with a negative key are left out. `ends` has an element for each possible key, all 0;
    it is filled with where the values of each key end in `out`. Raises ValueError if a key is
    too large.
    """
    cdef Py_ssize_t rows = keys.shape[0], size = ends.shape[0], row
    cdef int64_t key, count, total = 0
    cdef bint is_valid = True
    if values.shape[0] != rows or out.shape[0] != rows:
        raise ValueError("there must be as many keys as values")
    with nogil:
        for row in range(rows):
            key = keys[row]
            if key >= size:
                is_valid = False
                break
            if key >= 0:
                ends[key] += 1
        if is_valid:
            for key in range(size):
                count = ends[key]
                ends[key] = total
                total += count
            for row in range(rows):
                key = keys[row]
                if key >= 0:
                    out[ends[key]] = values[row]
                    ends[key] += 1
    if not is_valid:
        raise ValueError("a key is too large")


ctypedef fused code_t:
    int8_t
    int16_t
    int32_t


def count_cells(
    const key_t[::1] labels, const code_t[::1] processes, int64_t width, int64_t[::1] counts
):
    """Count the rows of each cell, which is `label * width + process`.

    `counts` has an element for each cell, all 0. Returns whether the rows are sorted by cell.
    Raises ValueError if a code is wrong.
    """
    cdef Py_ssize_t rows = labels.shape[0], size = counts.shape[0], row
    cdef int64_t cell, last = 0
    cdef bint is_valid = processes.shape[0] == rows, are_sorted = True
    if is_valid:
        with nogil:
            for row in range(rows):
                cell = labels[row] * width + processes[row]
                if not 0 <= cell < size:
                    is_valid = False
                    break
                counts[cell] += 1
                are_sorted &= cell >= last
                last = cell
    if not is_valid:
        raise ValueError("a code is wrong")
    return are_sorted


def arrange(
    const key_t[::1] labels, const code_t[::1] processes, int64_t width, int64_t[::1] ends,
    const int64_t[::1] column, int64_t[::1] out,
):
    """Copy a column of 64-bit numbers into `out`, sorted by cell; rows of a cell stay in order.

    `ends` has the begin of each cell in `out`, and is changed to its end. The codes are those that
    `count_cells` has counted. `out` may be longer than the column, for the rows of other calls.
    """
    cdef Py_ssize_t rows = labels.shape[0], row = 0, begin
    cdef int64_t cell
    if processes.shape[0] != rows or column.shape[0] != rows or out.shape[0] < rows:
        raise ValueError("the columns must have equal lengths")
    with nogil:
        while row < rows:
            begin = row
            row += 1
            # Most rows have the label and the process of the one before.
            while (
                row < rows and labels[row] == labels[begin] and processes[row] == processes[begin]
            ):
                row += 1
            cell = labels[begin] * width + processes[begin]
            memcpy(&out[ends[cell]], &column[begin], (row - begin) * 8)
            ends[cell] += row - begin
