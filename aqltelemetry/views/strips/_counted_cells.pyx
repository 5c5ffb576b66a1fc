# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled part of counting durations in cells; no function holds the interpreter lock."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

DEF STEPS = 16  # buckets for each power of two
DEF TOP_BITS = 8  # of the mantissa: between two numbers of so many bits lies one edge at most

cdef uint64_t MANTISSA = (<uint64_t> 1 << 52) - 1
cdef uint64_t[STEPS + 1] EDGES  # the mantissas of 2 ** (n / STEPS)
cdef uint8_t[1 << TOP_BITS] FIRST_STEP  # the step of the smallest mantissa with these bits


def _prepare():
    cdef int step = 0, top
    for number in range(STEPS):
        EDGES[number] = bits_of(2.0 ** (number / <double> STEPS)) & MANTISSA
    EDGES[STEPS] = MANTISSA + 1
    for top in range(1 << TOP_BITS):
        while EDGES[step + 1] <= <uint64_t> top << (52 - TOP_BITS):
            step += 1
        FIRST_STEP[top] = step


cdef inline uint64_t bits_of(double value) noexcept nogil:
    cdef uint64_t bits
    memcpy(&bits, &value, sizeof(bits))
    return bits


cdef inline bint is_finite(double value) noexcept nogil:
    return (bits_of(value) >> 52) & 0x7FF != 0x7FF


cdef inline Py_ssize_t bucket_of(double value, int64_t first, Py_ssize_t buckets) noexcept nogil:
    """Return the bucket of a finite value; the first and the last one hold what is beyond."""
    cdef uint64_t bits, mantissa
    cdef int64_t step, bucket
    if value <= 0:
        return 0
    bits = bits_of(value)
    mantissa = bits & MANTISSA
    step = FIRST_STEP[mantissa >> (52 - TOP_BITS)]
    if mantissa >= EDGES[step + 1]:
        step += 1
    bucket = (<int64_t> (bits >> 52) - 1023) * STEPS + step - first
    if bucket < 0:
        return 0
    return bucket if bucket < buckets else buckets - 1


cdef inline Py_ssize_t code_at(const uint8_t* codes, int size, Py_ssize_t row) noexcept nogil:
    if size == 1:
        return (<const int8_t*> codes)[row]
    if size == 2:
        return (<const int16_t*> codes)[row]
    if size == 4:
        return (<const int32_t*> codes)[row]
    return (<const int64_t*> codes)[row]


cdef class Window:
    """Time bins, of which only a span is drawn."""

    cdef int64_t begin_ns, end_ns, first_ns, width_ns
    cdef readonly Py_ssize_t bins

    def __init__(self, int64_t begin_ns, int64_t end_ns, int64_t first_ns, int64_t width_ns, Py_ssize_t bins):
        self.begin_ns, self.end_ns = begin_ns, end_ns
        self.first_ns, self.width_ns, self.bins = first_ns, width_ns, bins


cdef struct Bin:
    # The bin of the last row, and the times that lie in it; most rows are in that of the row before.
    int64_t begin_ns
    int64_t end_ns
    Py_ssize_t number


cdef inline bint find_bin(Window window, int64_t at_ns, Bin* bin) noexcept nogil:
    """Set the bin of a time; return False if it is outside of the span."""
    if bin.begin_ns <= at_ns < bin.end_ns:
        return True
    if at_ns < window.begin_ns or at_ns >= window.end_ns:
        return False
    bin.number = (at_ns - window.first_ns) // window.width_ns
    bin.begin_ns = max(window.first_ns + bin.number * window.width_ns, window.begin_ns)
    bin.end_ns = min(window.first_ns + (bin.number + 1) * window.width_ns, window.end_ns)
    return True


def count_labels(
    Window window not None,
    const int64_t[::1] times_ns,
    const double[::1] values,
    const uint8_t[::1] codes,
    const int32_t[::1] name_of_code,
    int64_t[:, ::1] counts,
    double[::1] lowest,
    double[::1] highest,
):
    """Add to the numbers of rows by name and bin, and extend the range of the values of names.

    `codes` are the bytes of each row's code, of 1, 2, 4 or 8 bytes.
    """
    cdef Py_ssize_t rows = times_ns.shape[0], row, name
    cdef int size
    cdef double value
    cdef Bin bin = Bin(0, 0, 0)
    if not rows:
        return
    size = codes.shape[0] // rows
    with nogil:
        for row in range(rows):
            if find_bin(window, times_ns[row], &bin):
                name = name_of_code[code_at(&codes[0], size, row)]
                counts[name, bin.number] += 1
                value = values[row]
                if is_finite(value):
                    if value < lowest[name]:
                        lowest[name] = value
                    if value > highest[name]:
                        highest[name] = value


cdef class Part:
    """Rows, and the groups that each belongs to.

    `label_groups` has two groups for each label's code, `process_groups` one for each process's;
    -1 for none. The third one counts only if the first one does.
    """

    cdef const int64_t[::1] times_ns
    cdef const double[::1] values
    cdef const uint8_t[::1] labels, processes
    cdef const int32_t[:, ::1] label_groups
    cdef const int32_t[::1] process_groups
    cdef int label_bytes, process_bytes

    def __init__(
        self,
        const int64_t[::1] times_ns,
        const double[::1] values,
        const uint8_t[::1] labels,
        const uint8_t[::1] processes,
        const int32_t[:, ::1] label_groups,
        const int32_t[::1] process_groups,
    ):
        cdef Py_ssize_t rows = max(times_ns.shape[0], 1)
        self.times_ns, self.values = times_ns, values
        self.labels, self.processes = labels, processes
        self.label_groups, self.process_groups = label_groups, process_groups
        self.label_bytes = labels.shape[0] // rows
        self.process_bytes = processes.shape[0] // rows

    cdef inline int groups(self, Py_ssize_t row, Py_ssize_t* found) noexcept nogil:
        """Set the groups of a row; return how many they are."""
        cdef Py_ssize_t label = code_at(&self.labels[0], self.label_bytes, row)
        cdef int number = 0
        cdef Py_ssize_t group = self.label_groups[label, 1]
        if group >= 0:
            found[0] = group
            number = 1
        group = self.label_groups[label, 0]
        if group < 0:
            return number
        found[number] = group
        number += 1
        group = self.process_groups[code_at(&self.processes[0], self.process_bytes, row)]
        if group >= 0:
            found[number] = group
            number += 1
        return number


def count(
    Window window not None,
    Part part not None,
    int64_t first,
    int32_t[:, ::1] counts,
    double[::1] largest,
):
    """Add to the numbers of values by cell and bucket, and to the largest value of each cell."""
    cdef Py_ssize_t row, cell, buckets = counts.shape[1], bucket
    cdef Py_ssize_t[3] groups
    cdef int number
    cdef double value
    cdef Bin bin = Bin(0, 0, 0)
    with nogil:
        for row in range(part.times_ns.shape[0]):
            if not find_bin(window, part.times_ns[row], &bin):
                continue
            number = part.groups(row, groups)
            if not number:
                continue
            value = part.values[row]
            if not is_finite(value):
                continue
            bucket = bucket_of(value, first, buckets)
            while number:
                number -= 1
                cell = groups[number] * window.bins + bin.number
                counts[cell, bucket] += 1
                if value > largest[cell]:
                    largest[cell] = value


def gather(
    Window window not None,
    Part part not None,
    int64_t first,
    int32_t[:, ::1] places,
    int32_t[:, ::1] total_places,
    double[::1] out,
):
    """Copy the values of some buckets to their places, which are advanced; -1 for no place.

    `places` are by cell and bucket, `total_places` by group and bucket.
    """
    cdef Py_ssize_t row, cell, buckets = places.shape[1], bucket, group
    cdef Py_ssize_t[3] groups
    cdef int number
    cdef double value
    cdef Bin bin = Bin(0, 0, 0)
    with nogil:
        for row in range(part.times_ns.shape[0]):
            if not find_bin(window, part.times_ns[row], &bin):
                continue
            number = part.groups(row, groups)
            if not number:
                continue
            value = part.values[row]
            if not is_finite(value):
                continue
            bucket = bucket_of(value, first, buckets)
            while number:
                number -= 1
                group = groups[number]
                cell = group * window.bins + bin.number
                if places[cell, bucket] >= 0:
                    out[places[cell, bucket]] = value
                    places[cell, bucket] += 1
                if group < total_places.shape[0] and total_places[group, bucket] >= 0:
                    out[total_places[group, bucket]] = value
                    total_places[group, bucket] += 1


def locate(
    const int32_t[:, ::1] counts,
    const int64_t[:, ::1] ranks,
    int32_t[:, ::1] buckets,
    int32_t[:, ::1] offsets,
    int32_t[:, ::1] places,
    Py_ssize_t start,
):
    """Find the bucket of each rank, and its rank there; return the end of all places.

    Each row of `counts` has a row of `ranks`, which are below its sum; those below 0 are left out.
    A bucket that is found gets a place in `places` for all of its values, from `start` on.
    """
    cdef Py_ssize_t row, column, bucket, before
    cdef int32_t number
    with nogil:
        for row in range(counts.shape[0]):
            bucket, before = -1, 0
            number = 0
            for column in range(ranks.shape[1]):
                if ranks[row, column] < 0:
                    continue
                if ranks[row, column] < before:
                    bucket, before, number = -1, 0, 0
                while before + number <= ranks[row, column]:
                    before += number
                    bucket += 1
                    number = counts[row, bucket]
                buckets[row, column] = bucket
                offsets[row, column] = ranks[row, column] - before
                if places[row, bucket] < 0:
                    places[row, bucket] = start
                    start += number
    return start


def sort_runs(const int32_t[::1] starts, const int32_t[::1] counts, double[::1] values):
    """Sort each of several runs of values, none of which is long."""
    cdef Py_ssize_t run, row, at, start, count, gap
    cdef double value
    with nogil:
        for run in range(starts.shape[0]):
            start, count = starts[run], counts[run]
            gap = 1
            while gap < count // 3:
                gap = gap * 3 + 1
            while gap:  # Shell's sort
                for row in range(gap, count):
                    value, at = values[start + row], row
                    while at >= gap and values[start + at - gap] > value:
                        values[start + at] = values[start + at - gap]
                        at -= gap
                    values[start + at] = value
                gap //= 3


_prepare()
