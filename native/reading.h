/* What reader.c and descriptions.c share: one call of lab_read, and the numbers and options of a block. */
#pragma once

#include "frames.h"

#define NS 1000000000U

/* What enum lab_read_status lacks: read on. */
enum { GO_ON = -1 };

/* One call of lab_read. */
struct reading {
    struct lab_reader *reader;
    const unsigned char *bytes;
    int64_t length;
    bool swapped;
    bool layers; /* some column needs them */
    struct lab_source *sources;
    int64_t source_room;
    struct lab_note *notes;
    int64_t note_room;
    const struct lab_column *columns;
    int64_t column_count;
    const struct lab_filter *filters;
    int64_t filter_count;
    int64_t first_row, rows, limit;
};

/* A block of pcapng without its ends. */
struct block {
    uint32_t kind;
    int64_t at, body, end; /* places in the file: of its first byte, of its body, and behind that */
};

struct option {
    uint32_t code, length;
    int64_t at; /* of its value */
};

static inline uint16_t number16(const struct reading *r, int64_t at) {
    uint16_t number;
    memcpy(&number, r->bytes + at, sizeof number);
    return r->swapped ? __builtin_bswap16(number) : number;
}

static inline uint32_t number32(const struct reading *r, int64_t at) {
    uint32_t number;
    memcpy(&number, r->bytes + at, sizeof number);
    return r->swapped ? __builtin_bswap32(number) : number;
}

static inline uint64_t number64(const struct reading *r, int64_t at) {
    uint64_t number;
    memcpy(&number, r->bytes + at, sizeof number);
    return r->swapped ? __builtin_bswap64(number) : number;
}

/* Takes the option at *at, and moves *at behind it. 1: there is one; 0: there is none before `end`; -LAB_READ_OPTION. */
static inline int next_option(const struct reading *r, int64_t *at, int64_t end, struct option *option) {
    if (end - *at < 4) return 0;
    *option = (struct option){.code = number16(r, *at), .length = number16(r, *at + 2), .at = *at + 4};
    if (option->code == OPTION_END) return 0;
    if (option->length > end - option->at) return -LAB_READ_OPTION;
    *at = option->at + (option->length + 3) / 4 * 4;
    return 1;
}

static inline bool is_number(const struct option *option, uint32_t code, uint32_t bytes) {
    return option->code == code && option->length == bytes;
}

/* The row of an interface of this section, or -1. */
static inline int64_t source_row(const struct reading *r, uint32_t interface) {
    int64_t row = r->reader->first_source + interface;
    return row < r->reader->source_count ? row : -1;
}

/* ---- descriptions.c: what a file says of itself ---- */

/* Whether a source may be added. GO_ON, or why not. */
int room_for_source(const struct reading *r);
/* Counts the source that was written behind the last, if there is a filter for its frames or none at all. */
int add_source(const struct reading *r);
/* Take in a block. GO_ON, or why they can't. */
int read_section(struct reading *r, const struct block *block);
int read_interface(struct reading *r, const struct block *block);
int read_statistics(struct reading *r, const struct block *block);
