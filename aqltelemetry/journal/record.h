/* The records of a segment in C: their check sums, how one is stored, how one is checked.

   Each extension that includes this has a table of its own, and calls make_crc_tables once. */
#ifndef AQLTELEMETRY_RECORD_H
#define AQLTELEMETRY_RECORD_H

#include <stdint.h>
#include <string.h>

static uint32_t crc_tables[8][256];

static void make_crc_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0);
        crc_tables[0][byte] = crc;
    }
    for (int table = 1; table < 8; table++)
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t before = crc_tables[table - 1][byte];
            crc_tables[table][byte] = (before >> 8) ^ crc_tables[0][before & 255];
        }
}

static inline uint32_t crc_word(uint32_t crc, uint64_t word) {
    word ^= crc;
    return crc_tables[7][word & 255] ^ crc_tables[6][word >> 8 & 255]
        ^ crc_tables[5][word >> 16 & 255] ^ crc_tables[4][word >> 24 & 255]
        ^ crc_tables[3][word >> 32 & 255] ^ crc_tables[2][word >> 40 & 255]
        ^ crc_tables[1][word >> 48 & 255] ^ crc_tables[0][word >> 56];
}

static inline uint32_t crc_half(uint32_t crc, uint32_t half) {
    half ^= crc;
    return crc_tables[3][half & 255] ^ crc_tables[2][half >> 8 & 255]
        ^ crc_tables[1][half >> 16 & 255] ^ crc_tables[0][half >> 24];
}

/* Return what zlib.crc32(record[:20], position) returns. */
static inline uint32_t record_crc(uint64_t at, uint64_t value, uint32_t id, uint32_t position) {
    return ~crc_half(crc_word(crc_word(~position, at), value), id);
}

/* Store a record. Its id and CRC-32 are the last word, and are not visible before the others. */
static inline void store_record(char *slot, uint64_t at, uint64_t value, uint32_t id,
                                uint32_t position) {
    uint64_t *words = (uint64_t *)slot;
    uint64_t last = (uint64_t)record_crc(at, value, id, position) << 32 | id;
    __atomic_store_n(words, at, __ATOMIC_RELAXED);
    __atomic_store_n(words + 1, value, __ATOMIC_RELAXED);
    __atomic_store_n(words + 2, last, __ATOMIC_RELEASE);
}

typedef struct {
    int64_t at_ns, value;
    uint32_t label_id, crc;
} Row;

/* As format.is_intact does. */
static inline int is_intact(const Row *row, uint32_t position) {
    return row->crc == record_crc((uint64_t)row->at_ns, (uint64_t)row->value, row->label_id,
                                  position);
}

static inline int is_used(const Row *row) {
    return row->at_ns || row->value || row->label_id || row->crc;
}

static inline int is_little_endian(void) {
    const uint16_t one = 1;
    return *(const char *)&one;
}

#endif
