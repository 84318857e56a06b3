/* What a file says of itself: its sections, its interfaces and their statistics, and the comments on them. */
#include "reading.h"

/* Keeps a comment, up to LAB_MAX_NOTES of them. False: there is no room. */
static bool note(const struct reading *r, const struct block *block, const struct option *option) {
    int64_t *count = &r->reader->note_count;
    if (option->code != OPTION_COMMENT || *count == LAB_MAX_NOTES) return true;
    if (*count == r->note_room) return false;
    r->notes[(*count)++] = (struct lab_note){.offset = option->at, .length = option->length, .block = block->kind};
    return true;
}

/* A count, or what there is of it in an int64_t. */
static int64_t count64(const struct reading *r, const struct option *option) {
    uint64_t count = number64(r, option->at);
    return count > INT64_MAX ? INT64_MAX : (int64_t)count;
}

int read_section(struct reading *r, const struct block *block) {
    enum { HEAD = 16 };
    if (block->end - block->body < HEAD) return LAB_READ_LENGTH;
    if (number16(r, block->body + 4) != 1) return LAB_READ_VERSION;
    struct lab_reader *reader = r->reader;
    struct option option;
    int64_t at = block->body + HEAD;
    int got;
    while ((got = next_option(r, &at, block->end, &option)) > 0) {
        if (!note(r, block, &option)) return LAB_READ_ROOM;
        if (option.code == SECTION_APPLICATION && !block->at) {
            reader->application_offset = option.at;
            reader->application_length = option.length;
        }
    }
    if (got) return -got;
    if (block->at) reader->section++;
    reader->first_source = reader->source_count;
    return GO_ON;
}

/* Units in a second of if_tsresol: a power of 10, or of 2 if its top bit is set. 0: too many for 64 bits. */
static uint64_t units_of(unsigned char resolution) {
    unsigned power = resolution & 0x7f;
    if (resolution & 0x80) return power < 64 ? (uint64_t)1 << power : 0;
    if (power > 19) return 0;
    uint64_t units = 1;
    while (power--) units *= 10;
    return units;
}

static void read_interface_option(const struct reading *r, const struct option *option, struct lab_source *source) {
    switch (option->code) {
    case INTERFACE_NAME:
        source->name_offset = option->at;
        source->name_length = option->length;
        break;
    case INTERFACE_DESCRIPTION:
        source->description_offset = option->at;
        source->description_length = option->length;
        break;
    case INTERFACE_FILTER: /* behind a byte that says what it is: 0 for an expression */
        if (option->length < 1 || r->bytes[option->at]) break;
        source->filter_offset = option->at + 1;
        source->filter_length = option->length - 1;
        break;
    case INTERFACE_RESOLUTION:
        if (option->length == 1) source->units = units_of(r->bytes[option->at]);
        break;
    case INTERFACE_OFFSET:
        if (option->length == 8) source->offset_s = (int64_t)number64(r, option->at);
        break;
    }
}

int room_for_source(const struct reading *r) {
    if (r->reader->source_count == LAB_MAX_SOURCES) return LAB_READ_SOURCES;
    return r->reader->source_count < r->source_room ? GO_ON : LAB_READ_ROOM;
}

int add_source(const struct reading *r) {
    struct lab_source *source = &r->sources[r->reader->source_count];
    source->section = (uint32_t)r->reader->section;
    source->received = source->dropped = source->accepted = source->os_dropped = source->delivered = -1;
    bool found = !r->filters;
    for (int64_t i = 0; i < r->filter_count; i++) found |= r->filters[i].link_type == source->link_type;
    if (!found) return LAB_READ_LINK_TYPE;
    r->reader->source_count++;
    return GO_ON;
}

int read_interface(struct reading *r, const struct block *block) {
    enum { HEAD = 8, MICROSECONDS = 6 };
    if (block->end - block->body < HEAD) return LAB_READ_LENGTH;
    int got = room_for_source(r);
    if (got != GO_ON) return got;
    struct lab_source *source = &r->sources[r->reader->source_count];
    *source = (struct lab_source){.link_type = number16(r, block->body), .snaplen = number32(r, block->body + 4)};
    source->units = units_of(MICROSECONDS);
    struct option option;
    int64_t at = block->body + HEAD;
    while ((got = next_option(r, &at, block->end, &option)) > 0) {
        if (!note(r, block, &option)) return LAB_READ_ROOM;
        read_interface_option(r, &option, source);
    }
    if (got) return -got;
    return source->units ? add_source(r) : LAB_READ_RESOLUTION;
}

/* Of an interface that is not described, only the comments are taken. */
int read_statistics(struct reading *r, const struct block *block) {
    enum { HEAD = 12 };
    if (block->end - block->body < HEAD) return LAB_READ_LENGTH;
    int64_t row = source_row(r, number32(r, block->body));
    struct lab_source unknown, *source = row < 0 ? &unknown : &r->sources[row];
    struct option option;
    int64_t at = block->body + HEAD;
    int got;
    while ((got = next_option(r, &at, block->end, &option)) > 0) {
        if (!note(r, block, &option)) return LAB_READ_ROOM;
        if (option.length != 8) continue;
        switch (option.code) {
        case STATISTICS_RECEIVED: source->received = count64(r, &option); break;
        case STATISTICS_DROPPED: source->dropped = count64(r, &option); break;
        case STATISTICS_ACCEPTED: source->accepted = count64(r, &option); break;
        case STATISTICS_OS_DROPPED: source->os_dropped = count64(r, &option); break;
        case STATISTICS_DELIVERED: source->delivered = count64(r, &option); break;
        }
    }
    return got ? -got : GO_ON;
}

