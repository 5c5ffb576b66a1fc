/* A slot of the requests in flight in C; journal/in_flight.py describes it. */
#ifndef AQLTELEMETRY_IN_FLIGHT_H
#define AQLTELEMETRY_IN_FLIGHT_H

#include "record.h"
#include <sys/syscall.h>
#include <unistd.h>

enum { METHOD_BYTES = 16, TEXT_BYTES = 224, TEXT_WORD = 4, REQUEST_KIND = 1 };

/* Return the kernel's number of this thread, which is asked for once a thread and generation. */
static inline uint32_t thread_number(int64_t generation) {
    static __thread uint32_t number;
    static __thread int64_t asked;
    if (asked != generation) {
        asked = generation;
        number = (uint32_t)syscall(SYS_gettid);
    }
    return number;
}

/* Store a request. The control word is the last one, and is not visible before the others. */
static inline void store_slot(char *slot, uint32_t position, int64_t begin_ns, uint32_t thread,
                              const char *method, size_t method_bytes, const char *path,
                              size_t path_bytes) {
    uint64_t *words = (uint64_t *)slot;
    char *text = slot + 8 * TEXT_WORD;
    if (method_bytes > METHOD_BYTES)
        method_bytes = METHOD_BYTES;
    if (path_bytes > TEXT_BYTES - method_bytes - 1)
        path_bytes = TEXT_BYTES - method_bytes - 1;
    const char *query = memchr(path, '?', path_bytes);
    if (query)
        path_bytes = (size_t)(query - path);
    size_t length = method_bytes + 1 + path_bytes;
    if (length % 8)
        words[TEXT_WORD + length / 8] = 0;
    memcpy(text, method, method_bytes);
    text[method_bytes] = ' ';
    memcpy(text + method_bytes + 1, path, path_bytes);
    words[1] = (uint64_t)begin_ns;
    words[2] = thread;
    words[3] = 0;
    uint32_t control = (uint32_t)length | REQUEST_KIND << 16;
    uint32_t crc = crc_half(~position, control);
    size_t end = TEXT_WORD + (length + 7) / 8;
    for (size_t word = 1; word < end; word++)
        crc = crc_word(crc, words[word]);
    __atomic_store_n(words, (uint64_t)~crc << 32 | control, __ATOMIC_RELEASE);
}

static inline void free_slot(char *slot) {
    __atomic_store_n((uint64_t *)slot, 0, __ATOMIC_RELEASE);
}

#endif
