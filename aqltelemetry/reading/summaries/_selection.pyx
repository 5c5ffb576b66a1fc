# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled part of selection: it finds order statistics without sorting.

Floats are compared by their bits, as integers that are in the same order. The values of a group
are counted in up to 2,048 intervals of equal width of these integers; only those in an interval
with a wanted rank are looked at again, in the same way. That is selection by radix: each step takes
three passes over what is left, and there are at most eight. It runs without the interpreter's lock.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc


cdef extern from *:
    """
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>

    #define FEW 24
    #define MANY 4096
    #define FEW_BUCKETS 256
    #define MANY_BUCKETS 2048
    #define MAX_RANKS 32

    /* Keys in one interval, which have some of the wanted ranks. */
    typedef struct {
        uint64_t *keys;
        int64_t count;
        int64_t first;
        uint64_t least;
        uint64_t most;
        int ranks;
        int wanted;
    } part;

    /* A value as an integer that sorts in the same order; NaN is the largest. */
    static inline uint64_t key_of(double value) {
        uint64_t bits;
        memcpy(&bits, &value, 8);
        bits ^= (uint64_t)((int64_t)bits >> 63) | UINT64_C(0x8000000000000000);
        return value == value ? bits : UINT64_MAX;
    }

    static inline double value_of(uint64_t key) {
        double value;
        uint64_t bits = key >> 63 ? key ^ UINT64_C(0x8000000000000000) : ~key;
        memcpy(&value, &bits, 8);
        return value;
    }

    static void sort_few(uint64_t *keys, int64_t count) {
        for (int64_t at = 1; at < count; at++) {
            uint64_t key = keys[at];
            int64_t to = at;
            for (; to > 0 && keys[to - 1] > key; to--)
                keys[to] = keys[to - 1];
            keys[to] = key;
        }
    }

    /* Copies the keys of each part to its place. */
    static void gather(const part *of, int shift, const int8_t *places, part *parts) {
        for (int64_t at = 0; at < of->count; at++) {
            uint64_t key = of->keys[at];
            int place = places[(key - of->least) >> shift];
            if (place >= 0) {
                part *to = parts + place;
                to->keys[to->count++] = key;
                if (key < to->least)
                    to->least = key;
                if (key > to->most)
                    to->most = key;
            }
        }
    }

    /* Stores the values with the wanted ranks, which are in ascending order; may reorder the keys.
       `of->first` is the rank of the smallest key. Returns 0 if there is no memory. */
    static int select_ranks(const part *of, const int64_t *ranks, double *out) {
        int64_t counts[MANY_BUCKETS], before = of->first, kept = 0;
        int8_t places[MANY_BUCKETS];
        part parts[MAX_RANKS];
        int buckets = of->count > MANY ? MANY_BUCKETS : FEW_BUCKETS;
        int shift = 0, number = 0, rank = 0, is_done = 1;
        uint64_t *rest;
        if (of->count <= FEW || of->least == of->most) {
            if (of->least != of->most)
                sort_few(of->keys, of->count);
            for (; rank < of->wanted; rank++)
                out[rank] = value_of(of->keys[ranks[rank] - of->first]);
            return 1;
        }
        while ((of->most - of->least) >> shift >= (uint64_t)buckets)
            shift++;
        memset(counts, 0, buckets * sizeof(counts[0]));
        memset(places, -1, buckets);
        for (int64_t at = 0; at < of->count; at++)
            counts[(of->keys[at] - of->least) >> shift]++;
        for (int bucket = 0; rank < of->wanted; before += counts[bucket++]) {
            part *to = parts + number;
            int begin = rank;
            while (rank < of->wanted && ranks[rank] < before + counts[bucket])
                rank++;
            if (rank == begin)
                continue;
            *to = (part){NULL, counts[bucket], before, UINT64_MAX, 0, begin, rank - begin};
            kept += counts[bucket];
            places[bucket] = (int8_t)number++;
        }
        rest = malloc(kept * sizeof(rest[0]));
        if (rest == NULL)
            return 0;
        for (int64_t each = 0, end = 0; each < number; each++) {
            parts[each].keys = rest + end;
            end += parts[each].count;
            parts[each].count = 0;
        }
        gather(of, shift, places, parts);
        for (int each = 0; is_done && each < number; each++)
            is_done = select_ranks(parts + each, ranks + parts[each].ranks,
                                   out + parts[each].ranks);
        free(rest);
        return is_done;
    }

    /* Selects from the values of several runs; `keys` has room for as many. */
    static int select_of_runs(const double *values, const int64_t *begins, const int64_t *ends,
                              int64_t runs, const int64_t *ranks, int wanted, uint64_t *keys,
                              double *out) {
        part all = {keys, 0, 0, UINT64_MAX, 0, 0, wanted};
        for (int64_t run = 0; run < runs; run++) {
            for (int64_t at = begins[run]; at < ends[run]; at++) {
                uint64_t key = key_of(values[at]);
                all.least = key < all.least ? key : all.least;
                all.most = key > all.most ? key : all.most;
                keys[all.count++] = key;
            }
        }
        return select_ranks(&all, ranks, out);
    }
    """
    enum:
        MAX_RANKS

    int select_of_runs(
        const double* values, const int64_t* begins, const int64_t* ends, int64_t runs,
        const int64_t* ranks, int wanted, uint64_t* keys, double* out,
    ) nogil


def select(
    const double[::1] values, const int64_t[::1] begins, const int64_t[::1] ends,
    const int64_t[::1] firsts, const int64_t[:, ::1] ranks, double[:, ::1] out,
):
    """Find order statistics of groups of values.

    `firsts` has the number of the first run of each group, and the number of all runs. A run is
    `values[begins[i]:ends[i]]`. `ranks` are at most 32 for each group, in ascending order from 0 on;
    each must be less than the number of values of the group. `out` is filled with the values that
    would have these ranks if the group were sorted, NaN last. Raises ValueError if an index is
    wrong, and MemoryError.
    """
    cdef Py_ssize_t groups = ranks.shape[0], wanted = ranks.shape[1], group, run, each
    cdef int64_t most = 0, count
    cdef bint is_valid, is_done = True
    cdef uint64_t* keys
    if firsts.shape[0] != groups + 1 or out.shape[0] != groups or out.shape[1] != wanted:
        raise ValueError("there must be ranks and a place for each group")
    is_valid = wanted <= MAX_RANKS and begins.shape[0] == ends.shape[0] and firsts[0] >= 0
    for group in range(groups if is_valid else 0):
        count = 0
        if firsts[group] > firsts[group + 1] or firsts[group + 1] > begins.shape[0]:
            is_valid = False
            break
        for run in range(firsts[group], firsts[group + 1]):
            if not 0 <= begins[run] <= ends[run] <= values.shape[0]:
                is_valid = False
            count += ends[run] - begins[run]
        for each in range(wanted):
            if not (ranks[group, each - 1] if each else 0) <= ranks[group, each] < count:
                is_valid = False
        most = max(most, count)
    if not is_valid:
        raise ValueError("a run or a rank is wrong")
    if not groups or not wanted:
        return
    keys = <uint64_t*>malloc(most * sizeof(uint64_t))
    if keys is NULL:
        raise MemoryError
    with nogil:
        for group in range(groups):
            run = firsts[group]
            if not select_of_runs(
                &values[0], &begins[run], &ends[run], firsts[group + 1] - run,
                &ranks[group, 0], <int>wanted, keys, &out[group, 0],
            ):
                is_done = False
                break
    free(keys)
    if not is_done:
        raise MemoryError
