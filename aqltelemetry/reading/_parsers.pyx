# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled parser of CSV rows, for rows as the sink of this package writes them.

It reads and parses without the interpreter's lock, so that several threads can do so while others
run Python. It refuses text of any other form, which the parsers in Python then read.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp


cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <locale.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/stat.h>
    #include <unistd.h>

    #define READ_BEHIND 64

    typedef struct {
        char *text;
        uint32_t size;
        uint32_t hash;
        int32_t code;
    } entry;

    /* A hash table of the fields of labels as they are written, which it owns. */
    typedef struct {
        entry *entries;
        uint32_t capacity;
        int32_t count;
        int32_t max_count;
    } table;

    typedef struct {
        int64_t *timepoints;
        double *measurements;
        int32_t *label_codes;
        int64_t *pids;
        int64_t *pid_rows;
        int64_t room;
        int64_t pid_room;
    } columns;

    static uint32_t hash_of(const char *text, size_t size) {
        uint32_t hash = 2166136261u;
        for (size_t at = 0; at < size; at++)
            hash = (hash ^ (unsigned char)text[at]) * 16777619u;
        return hash;
    }

    static entry *place_of(entry *entries, uint32_t capacity, const char *text, uint32_t size,
                           uint32_t hash) {
        uint32_t at = hash & (capacity - 1);
        while (entries[at].text != NULL) {
            entry *found = entries + at;
            if (found->hash == hash && found->size == size && !memcmp(found->text, text, size))
                return found;
            at = (at + 1) & (capacity - 1);
        }
        return entries + at;
    }

    static int grow(table *labels) {
        uint32_t capacity = labels->capacity * 2;
        entry *entries = calloc(capacity, sizeof(entry));
        if (entries == NULL)
            return 0;
        for (uint32_t at = 0; at < labels->capacity; at++) {
            entry *known = labels->entries + at;
            if (known->text != NULL)
                *place_of(entries, capacity, known->text, known->size, known->hash) = *known;
        }
        free(labels->entries);
        labels->entries = entries;
        labels->capacity = capacity;
        return 1;
    }

    /* Returns the code of a label, which may be a new one; -1 if there is no memory. */
    static int32_t code_of(table *labels, const char *text, size_t size) {
        uint32_t hash = hash_of(text, size);
        entry *place = place_of(labels->entries, labels->capacity, text, (uint32_t)size, hash);
        if (place->text != NULL)
            return place->code;
        if (2 * (uint32_t)labels->count >= labels->capacity) {
            if (!grow(labels))
                return -1;
            place = place_of(labels->entries, labels->capacity, text, (uint32_t)size, hash);
        }
        place->text = malloc(size + 1);
        if (place->text == NULL)
            return -1;
        memcpy(place->text, text, size);
        place->size = (uint32_t)size;
        place->hash = hash;
        place->code = labels->count++;
        return place->code;
    }

    static inline int is_digit(char c) {
        return (unsigned char)(c - '0') < 10;
    }

    /* Reads 8 digits at once; returns 0 if there are others among them. */
    static inline int eight_digits(const char *text, uint64_t *number) {
        uint64_t value;
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
        value = 0;
        for (int at = 0; at < 8; at++) {
            if (!is_digit(text[at]))
                return 0;
            value = value * 10 + (text[at] - '0');
        }
        *number = value;
        return 1;
    #endif
        memcpy(&value, text, 8);
        if (((value & 0xF0F0F0F0F0F0F0F0) | (((value + 0x0606060606060606) & 0xF0F0F0F0F0F0F0F0) >> 4))
            != 0x3333333333333333)
            return 0;
        value -= 0x3030303030303030;
        value = value * 10 + (value >> 8);
        *number = (((value & 0x000000FF000000FF) * 0x000F424000000064)
                   + (((value >> 16) & 0x000000FF000000FF) * 0x0000271000000001)) >> 32;
        return 1;
    }

    /* Reads an integer of at most 18 digits that `end` follows; returns what is behind it. */
    static const char *read_integer(const char *text, char end, int64_t *number) {
        int is_negative = *text == '-';
        const char *first = text += is_negative;
        int64_t value = 0;
        while (is_digit(*text) && text - first < 18)
            value = value * 10 + (*text++ - '0');
        if (text == first || *text != end)
            return NULL;
        *number = is_negative ? -value : value;
        return text + 1;
    }

    /* As the sink writes times from 2001 to 2262: 19 digits. */
    static inline const char *read_timepoint(const char *text, int64_t *number) {
        uint64_t high, middle;
        if (text[0] == '1' && text[19] == ',' && eight_digits(text, &high)
            && eight_digits(text + 8, &middle) && is_digit(text[16]) && is_digit(text[17])
            && is_digit(text[18])) {
            *number = (int64_t)((high * 100000000 + middle) * 1000 + (text[16] - '0') * 100
                                + (text[17] - '0') * 10 + (text[18] - '0'));
            return text + 20;
        }
        return read_integer(text, ',', number);
    }

    static const double powers_of_ten[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10,
        1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

    /* Reads any number by the C library, which rounds to the nearest. */
    static const char *read_long_float(const char *text, double *number) {
        const char *end = text;
        char *stop;
        if (*end == '-')
            end++;
        if (!memcmp(end, "inf,", 4) || !memcmp(text, "nan,", 4)) {
            *number = strtod(text, &stop);
            return end + 4;
        }
        if (!is_digit(*end))
            return NULL;
        while (end - text < 40
               && (is_digit(*end) || *end == '.' || *end == 'e' || *end == '-' || *end == '+'))
            end++;
        if (*end != ',')
            return NULL;
        *number = strtod(text, &stop);
        if (stop != end || *number - *number != 0)
            return NULL;
        return end + 1;
    }

    /* Reads a float. Up to 2**53, an integer divided by a power of ten up to 10**22 is exact:
       Clinger, "How to Read Floating Point Numbers Accurately", 1990. */
    static inline const char *read_float(const char *text, double *number) {
        uint64_t value = 0, fraction;
        const char *at = text, *first;
        int is_negative = *at == '-';
        first = at += is_negative;
        if (at[0] == '0' && at[1] == '.' && at[11] == ',' && eight_digits(at + 2, &fraction)
            && is_digit(at[10])) {
            *number = (double)(fraction * 10 + (at[10] - '0')) / 1e9;
            if (is_negative)
                *number = -*number;
            return at + 12;
        }
        while (is_digit(*at) && at - first < 16)
            value = value * 10 + (*at++ - '0');
        if (at == first)
            return read_long_float(text, number);
        if (*at == '.') {
            const char *point = at++;
            while (is_digit(*at) && at - first < 17)
                value = value * 10 + (*at++ - '0');
            if (*at == ',' && at > point + 1 && value <= (UINT64_C(1) << 53)) {
                *number = (double)value / powers_of_ten[at - point - 1];
                if (is_negative)
                    *number = -*number;
                return at + 1;
            }
        } else if (*at == ',' && value <= (UINT64_C(1) << 53)) {
            *number = is_negative ? -(double)value : (double)value;
            return at + 1;
        }
        return read_long_float(text, number);
    }

    /* Returns the comma behind a label, quoted or not; NULL if it is not a plain one. */
    static const char *end_of_label(const char *text, const char *end) {
        if (*text != '"') {
            while (text < end && *text != ',') {
                if ((unsigned char)*text < ' ')
                    return NULL;
                text++;
            }
            return text < end ? text : NULL;
        }
        for (text++; text < end; text++) {
            if ((unsigned char)*text < ' ')
                return NULL;
            if (*text == '"' && *++text != '"')
                return *text == ',' ? text : NULL;
        }
        return NULL;
    }

    /* Reads rows until `end`, which is behind a line end; 64 bytes behind it can be read.
       Returns the number of rows, or -1 if one of them has another form, or if there are more than
       `to` has room for. */
    static int64_t read_rows(const char *text, const char *end, columns to, table *labels,
                             int64_t *runs) {
        const char *tail = "";
        size_t tail_bytes = 0;
        int64_t row = 0, pid = 0, known_runs = 0;
        int32_t code = 0;
        while (text < end) {
            if (row == to.room)
                return -1;
            text = read_timepoint(text, to.timepoints + row);
            if (text == NULL || text >= end)
                return -1;
            text = read_float(text, to.measurements + row);
            if (text == NULL || text >= end)
                return -1;
            if (!tail_bytes || (size_t)(end - text) < tail_bytes
                || memcmp(text, tail, tail_bytes)) {
                const char *comma = end_of_label(text, end), *next;
                int64_t own_pid;
                if (comma == NULL)
                    return -1;
                next = read_integer(comma + 1, '\\n', &own_pid);
                if (next == NULL || next > end)
                    return -1;
                code = code_of(labels, text, comma - text);
                if (code < 0)
                    return -1;
                if (!known_runs || own_pid != pid) {
                    if (known_runs == to.pid_room)
                        return -1;
                    pid = own_pid;
                    to.pids[known_runs] = pid;
                    to.pid_rows[known_runs++] = row;
                }
                tail = text;
                tail_bytes = next - text;
            }
            to.label_codes[row++] = code;
            text += tail_bytes;
        }
        *runs = known_runs;
        return text == end ? row : -1;
    }

    /* Returns the size of a file, 0 if it is not known. */
    static int64_t size_of(int directory, const char *name) {
        struct stat status;
        return fstatat(directory, name, &status, 0) ? 0 : status.st_size;
    }

    /* Reads a whole file into a buffer that grows; returns its size, or -1. */
    static int64_t read_file(int directory, const char *name, char **text, int64_t *room) {
        struct stat status;
        int64_t size = 0, got = 1;
        int fd = openat(directory, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            return -1;
        if (fstat(fd, &status) || !S_ISREG(status.st_mode)) {
            close(fd);
            return -1;
        }
        if (*room < status.st_size + READ_BEHIND) {
            char *larger = realloc(*text, status.st_size + READ_BEHIND);
            if (larger == NULL) {
                close(fd);
                return -1;
            }
            *text = larger;
            *room = status.st_size + READ_BEHIND;
        }
        /* Some file systems return fewer bytes than there are: read until the end. */
        while (got > 0 && size < *room - READ_BEHIND) {
            got = read(fd, *text + size, *room - READ_BEHIND - size);
            size += got > 0 ? got : 0;
            if (got < 0 && errno == EINTR)
                got = 1;
        }
        close(fd);
        return got < 0 ? -1 : size;
    }
    """
    ctypedef struct entry:
        char* text
        unsigned int size
        int code

    ctypedef struct table:
        entry* entries
        unsigned int capacity
        int count

    ctypedef struct columns:
        int64_t* timepoints
        double* measurements
        int32_t* label_codes
        int64_t* pids
        int64_t* pid_rows
        int64_t room
        int64_t pid_room

    int64_t read_rows(
        const char* text, const char* end, columns to, table* labels, int64_t* runs
    ) nogil

    int64_t size_of(int directory, const char* name) nogil

    int64_t read_file(int directory, const char* name, char** text, int64_t* room) nogil

    struct lconv:
        char* decimal_point

    lconv* localeconv()


cdef enum:
    MIN_ROW_BYTES = 7
    FIRST_CAPACITY = 1024
    READ_BEHIND_BYTES = 64


cdef class LabelTable:
    """The labels of parsed rows, as they are written in the files, by their codes.

    It also has the buffer that `parse_files` reads files into.
    """

    cdef table labels
    cdef char* text
    cdef int64_t room

    def __cinit__(self):
        self.labels.capacity = FIRST_CAPACITY
        self.labels.entries = <entry*>calloc(FIRST_CAPACITY, sizeof(entry))
        if self.labels.entries is NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef unsigned int at
        free(self.text)
        if self.labels.entries is not NULL:
            for at in range(self.labels.capacity):
                free(self.labels.entries[at].text)
            free(self.labels.entries)

    def __len__(self):
        return self.labels.count

    def fields(self, int first):
        """Return the fields with the codes from `first` on, quoted as they were."""
        cdef unsigned int at
        cdef entry found
        fields = [b""] * (self.labels.count - first)
        for at in range(self.labels.capacity):
            found = self.labels.entries[at]
            if found.text is not NULL and found.code >= first:
                fields[found.code - first] = found.text[:found.size]
        return fields


def parse_rows(
    rows, Py_ssize_t start, Py_ssize_t end, LabelTable labels,
    timepoints, measurements, label_codes, pids, pid_rows, Py_ssize_t first,
):
    """Parse the rows of a file, from `start` to `end`, into arrays from index `first` on.

    The arrays are of int64, float64, int32, int64 and int64. `pid_rows` are the rows from which
    on the PID is that in `pids`, counted from `first`; both are overwritten from 0 on.

    Return the number of rows and the number of PIDs, or None if the text has another form.
    """
    cdef Py_buffer text, buffers[5]
    cdef columns to
    cdef int64_t found = -1, runs = 0
    cdef Py_ssize_t needed = (end - start) // MIN_ROW_BYTES + 1
    cdef int taken = 0
    cdef const char* base
    if start == end:
        return 0, 0
    PyObject_GetBuffer(rows, &text, PyBUF_SIMPLE)
    try:
        for array in (timepoints, measurements, label_codes, pids, pid_rows):
            PyObject_GetBuffer(array, &buffers[taken], PyBUF_WRITABLE)
            taken += 1
        if not 0 <= start < end <= text.len - READ_BEHIND_BYTES:
            raise ValueError("the rows must be in the buffer, and 64 bytes behind them")
        if min(
            buffers[0].len // 8 - first, buffers[1].len // 8 - first, buffers[2].len // 4 - first,
            buffers[3].len // 8, buffers[4].len // 8,
        ) < needed or first < 0:
            raise ValueError("the arrays are too small")
        base = <const char*>text.buf
        if base[end - 1] != b"\n" or localeconv().decimal_point[0] != b".":
            return None
        to.timepoints = <int64_t*>buffers[0].buf + first
        to.measurements = <double*>buffers[1].buf + first
        to.label_codes = <int32_t*>buffers[2].buf + first
        to.pids = <int64_t*>buffers[3].buf
        to.pid_rows = <int64_t*>buffers[4].buf
        to.room = to.pid_room = needed
        with nogil:
            found = read_rows(base + start, base + end, to, &labels.labels, &runs)
    finally:
        while taken:
            taken -= 1
            PyBuffer_Release(&buffers[taken])
        PyBuffer_Release(&text)
    return None if found < 0 else (found, runs)


def parse_files(
    int directory_fd, list names, bytes header, LabelTable labels,
    int64_t[::1] timepoints, double[::1] measurements, int32_t[::1] label_codes,
    int64_t[::1] pids, int64_t[::1] pid_rows, int64_t[::1] ends, int64_t[::1] pid_ends,
):
    """Read and parse whole files, one after the other, into arrays from index 0 on.

    `names` are bytes. `pid_rows` are the rows from which on the PID is that in `pids`; each file
    begins with a PID. `ends` and `pid_ends` are filled with how many rows and PIDs there are until
    the end of each file.

    Return the number of files that were read: all before the first one that can't be read, does
    not begin with the header, has rows of another form, or does not fit into the arrays.
    """
    cdef Py_ssize_t number = len(names), at, file = 0, run
    cdef int64_t size, rows = 0, runs = 0, found, found_runs
    cdef const char** paths
    cdef const char* head = header
    cdef Py_ssize_t head_size = len(header)
    cdef columns to
    room = min(timepoints.shape[0], measurements.shape[0], label_codes.shape[0])
    pid_room = min(pids.shape[0], pid_rows.shape[0])
    if min(ends.shape[0], pid_ends.shape[0]) < number or not head_size:
        raise ValueError("the arrays are too small")
    if not number or not room or not pid_room or localeconv().decimal_point[0] != b".":
        return 0
    paths = <const char**>malloc(number * sizeof(char*))
    if paths is NULL:
        raise MemoryError
    try:
        for at in range(number):
            paths[at] = names[at]
        to.room, to.pid_room = room, pid_room
        with nogil:
            while file < number:
                size = read_file(directory_fd, paths[file], &labels.text, &labels.room)
                if size < head_size or memcmp(labels.text, head, head_size):
                    break
                found = found_runs = 0
                if size > head_size:
                    if labels.text[size - 1] != c"\n":
                        break
                    to.timepoints = &timepoints[0] + rows
                    to.measurements = &measurements[0] + rows
                    to.label_codes = &label_codes[0] + rows
                    to.pids, to.pid_rows = &pids[0] + runs, &pid_rows[0] + runs
                    found = read_rows(
                        labels.text + head_size, labels.text + size, to, &labels.labels,
                        &found_runs,
                    )
                    if found < 0:
                        break
                for run in range(found_runs):
                    to.pid_rows[run] += rows
                rows += found
                runs += found_runs
                to.room -= found
                to.pid_room -= found_runs
                ends[file] = rows
                pid_ends[file] = runs
                file += 1
    finally:
        free(paths)
    return file


def total_bytes(int directory_fd, list names):
    """Return the sum of the sizes of files; `names` are bytes. An unknown size counts 0."""
    cdef Py_ssize_t number = len(names), at
    cdef int64_t total = 0
    cdef const char** paths = <const char**>malloc((number + 1) * sizeof(char*))
    if paths is NULL:
        raise MemoryError
    try:
        for at in range(number):
            paths[at] = names[at]
        with nogil:
            for at in range(number):
                total += size_of(directory_fd, paths[at])
    finally:
        free(paths)
    return total
