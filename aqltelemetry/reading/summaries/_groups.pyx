# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled part of grouping: it sorts values by small keys, by counting."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t

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
