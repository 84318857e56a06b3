/* Reads pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng) into columns.
 *
 * Nothing that a file says is believed before it was compared with what is there: every place is reckoned in 64 bits
 * from the lengths of the blocks, and never lies beyond the end. The state changes only behind a whole block, so that a
 * call that found half of one can be made again when the file has grown. */
#include "reading.h"

/* Of the file that one call may pass: some milliseconds' worth. */
enum { MOST_BYTES = 1 << 24 };

/* ---- frames ---- */

/* Nanoseconds since 1970, rounded down from the source's units. */
static int64_t time_of(const struct reading *r, const struct lab_source *source, uint64_t ticks) {
    unsigned __int128 since = source->units == NS ? ticks : (unsigned __int128)ticks * NS / source->units;
    __int128 ns = (__int128)since + (__int128)source->offset_s * NS;
    if (ns >= INT64_MIN && ns <= INT64_MAX) return (int64_t)ns;
    r->reader->late_time = 1;
    return ns < 0 ? INT64_MIN : INT64_MAX;
}

static void store(const struct reading *r, const struct lab_frame *frame) {
    int64_t row = r->first_row + r->rows;
    for (int64_t i = 0; i < r->column_count; i++) {
        const struct lab_column *column = &r->columns[i];
        const unsigned char *from = (const unsigned char *)frame + column->offset;
        unsigned char *to = (unsigned char *)column->to + row * column->bytes;
        switch (column->bytes) { /* copies of a known size are one instruction */
        case 1: *to = *from; break;
        case 2: memcpy(to, from, 2); break;
        case 4: memcpy(to, from, 4); break;
        case 8: memcpy(to, from, 8); break;
        case 16: memcpy(to, from, 16); break;
        default: memcpy(to, from, (size_t)column->bytes);
        }
    }
}

static bool matches(const struct reading *r, const struct lab_frame *frame, uint32_t link_type) {
    for (int64_t i = 0; i < r->filter_count; i++)
        if (r->filters[i].link_type == link_type)
            return lab_filter_run(r->filters[i].program, r->bytes + frame->offset, frame->captured, frame->length);
    return !r->filters;
}

/* Files a frame, of which all is known but what its bytes tell. */
static int take(struct reading *r, struct lab_frame *frame) {
    uint32_t link_type = r->sources[frame->interface].link_type;
    if (frame->length < frame->captured) frame->length = frame->captured; /* so many were there */
    if (!matches(r, frame, link_type)) {
        r->reader->skipped++;
        return GO_ON;
    }
    uint32_t direction = frame->flags & FLAG_DIRECTION;
    frame->direction = direction == FLAG_IN || direction == FLAG_OUT ? (uint8_t)direction : 0;
    if (r->layers) lab_dissect(frame, r->bytes + frame->offset, link_type, r->reader->checksums);
    store(r, frame);
    r->rows++;
    return GO_ON;
}

/* A frame of which nothing is known yet. What its bytes tell is left to lab_dissect. */
static inline void begin_frame(struct lab_frame *frame, int64_t offset, int64_t row) {
    memset(frame, 0, offsetof(struct lab_frame, has));
    frame->offset = offset;
    frame->interface = (uint32_t)row;
}

/* What a frame's options tell of it. */
static int read_frame_options(const struct reading *r, const struct block *block, int64_t at, struct lab_frame *frame) {
    struct option option;
    int got;
    while ((got = next_option(r, &at, block->end, &option)) > 0) {
        if (option.code == OPTION_COMMENT && !frame->comment_offset) {
            frame->comment_offset = option.at;
            frame->comment_length = option.length;
        }
        if (is_number(&option, PACKET_FLAGS, 4)) frame->flags = number32(r, option.at);
        if (block->kind == BLOCK_PACKET) continue; /* which has no other options */
        if (is_number(&option, PACKET_DROPPED, 8)) frame->dropped = number64(r, option.at);
        if (is_number(&option, PACKET_ID, 8)) frame->packet_id = number64(r, option.at);
    }
    return got ? -got : GO_ON;
}

/* BLOCK_ENHANCED_PACKET, or BLOCK_PACKET, which differs in that a number of frames lost shares the interface's word. */
static int read_packet(struct reading *r, const struct block *block) {
    enum { HEAD = 20, DROPPED_UNKNOWN = 0xffff };
    if (block->end - block->body < HEAD) return LAB_READ_LENGTH;
    bool obsolete = block->kind == BLOCK_PACKET;
    int64_t row = source_row(r, obsolete ? number16(r, block->body) : number32(r, block->body));
    if (row < 0) return LAB_READ_INTERFACE;
    struct lab_frame frame;
    begin_frame(&frame, block->body + HEAD, row);
    frame.captured = number32(r, block->body + 12);
    frame.length = number32(r, block->body + 16);
    if (frame.captured > block->end - frame.offset) return LAB_READ_LENGTH;
    uint64_t ticks = (uint64_t)number32(r, block->body + 4) << 32 | number32(r, block->body + 8);
    frame.time_ns = time_of(r, &r->sources[row], ticks);
    if (obsolete) frame.dropped = number16(r, block->body + 2);
    if (frame.dropped == DROPPED_UNKNOWN) frame.dropped = 0;
    int got = read_frame_options(r, block, frame.offset + ((int64_t)frame.captured + 3) / 4 * 4, &frame);
    return got == GO_ON ? take(r, &frame) : got;
}

/* BLOCK_SIMPLE_PACKET: of the section's first interface, at no time. */
static int read_simple_packet(struct reading *r, const struct block *block) {
    enum { HEAD = 4 };
    if (block->end - block->body < HEAD) return LAB_READ_LENGTH;
    int64_t row = source_row(r, 0);
    if (row < 0) return LAB_READ_INTERFACE;
    struct lab_frame frame;
    begin_frame(&frame, block->body + HEAD, row);
    frame.length = frame.captured = number32(r, block->body);
    uint32_t snaplen = r->sources[row].snaplen;
    if (snaplen && frame.captured > snaplen) frame.captured = snaplen;
    if (frame.captured > block->end - frame.offset) return LAB_READ_LENGTH;
    return take(r, &frame);
}

/* ---- blocks of pcapng ---- */

/* Takes the byte order that a section says it has. False: it says none. */
static bool read_byte_order(struct reading *r, int64_t at) {
    r->swapped = false;
    uint32_t magic = number32(r, at);
    r->swapped = magic == __builtin_bswap32(BYTE_ORDER_MAGIC);
    return r->swapped || magic == BYTE_ORDER_MAGIC;
}

static int read_block(struct reading *r, const struct block *block) {
    switch (block->kind) {
    case BLOCK_SECTION: return read_section(r, block);
    case BLOCK_INTERFACE: return read_interface(r, block);
    case BLOCK_STATISTICS: return read_statistics(r, block);
    case BLOCK_PACKET: case BLOCK_ENHANCED_PACKET:
        return r->rows < r->limit ? read_packet(r, block) : LAB_READ_MORE;
    case BLOCK_SIMPLE_PACKET: return r->rows < r->limit ? read_simple_packet(r, block) : LAB_READ_MORE;
    default: return GO_ON;
    }
}

/* Reads the block at reader->offset, and moves that behind it. GO_ON, or why it stays. */
static int next_block(struct reading *r) {
    enum { ENDS = 12 }; /* its type, and its length in front and behind */
    int64_t at = r->reader->offset, left = r->length - at, notes = r->reader->note_count;
    if (left == 0) return LAB_READ_END;
    if (left < ENDS) return LAB_READ_CUT;
    uint32_t kind = number32(r, at); /* a section's reads the same in both byte orders */
    if (kind == BLOCK_SECTION && !read_byte_order(r, at + 8)) return LAB_READ_NO_CAPTURE;
    int64_t length = number32(r, at + 4);
    if (length < ENDS || length % 4) return LAB_READ_LENGTH;
    if (length > left) return LAB_READ_CUT;
    if (number32(r, at + length - 4) != length) return LAB_READ_LENGTH;
    struct block block = {.kind = kind, .at = at, .body = at + 8, .end = at + length - 4};
    int got = read_block(r, &block);
    if (got == GO_ON) r->reader->offset += length;
    else r->reader->note_count = notes; /* those of this block come again */
    return got;
}

/* ---- records of pcap ---- */

#define PCAP_MICROSECONDS 0xA1B2C3D4U
#define PCAP_NANOSECONDS 0xA1B23C4DU
#define PCAP_MODIFIED 0xA1B2CD34U /* by Kuznetzov: eight bytes more in front of each frame */
enum { PCAP_HEADER = 24, PCAP_RECORD = 16, PCAP_RECORD_MODIFIED = 24 };

/* Reads the record at reader->offset, and moves that behind it: as next_block. */
static int next_record(struct reading *r) {
    int64_t at = r->reader->offset, left = r->length - at;
    int64_t head = number32(r, 0) == PCAP_MODIFIED ? PCAP_RECORD_MODIFIED : PCAP_RECORD;
    if (left == 0) return LAB_READ_END;
    if (left < head) return LAB_READ_CUT;
    if (r->rows == r->limit) return LAB_READ_MORE;
    struct lab_frame frame;
    begin_frame(&frame, at + head, 0);
    frame.captured = number32(r, at + 8);
    frame.length = number32(r, at + 12);
    if (frame.captured > left - head) return LAB_READ_CUT;
    frame.time_ns = time_of(r, r->sources, number32(r, at) * r->sources->units + number32(r, at + 4));
    r->reader->offset = frame.offset + frame.captured;
    return take(r, &frame);
}

static int begin_pcap(struct reading *r) {
    enum { LINK_TYPE = 0xffff }; /* the upper half tells of checksums that frames end with */
    uint32_t magic = number32(r, 0);
    if (r->length < PCAP_HEADER) return LAB_READ_CUT;
    if (number16(r, 4) != 2 || number16(r, 6) != 4) return LAB_READ_VERSION;
    int got = room_for_source(r);
    if (got != GO_ON) return got;
    r->sources[0] = (struct lab_source){.link_type = number32(r, 20) & LINK_TYPE, .snaplen = number32(r, 16)};
    r->sources[0].units = magic == PCAP_NANOSECONDS ? NS : NS / 1000;
    got = add_source(r);
    if (got != GO_ON) return got;
    r->reader->format = LAB_PCAP;
    r->reader->offset = PCAP_HEADER;
    return GO_ON;
}

/* ---- files ---- */

/* Finds out what kind of file it is. GO_ON, or why it can't be read. */
static int begin(struct reading *r) {
    enum { MAGIC = 4, SECTION_MAGIC = 12 };
    if (r->length < MAGIC) return LAB_READ_CUT;
    if (number32(r, 0) == BLOCK_SECTION) {
        if (r->length < SECTION_MAGIC) return LAB_READ_CUT;
        if (!read_byte_order(r, 8)) return LAB_READ_NO_CAPTURE;
        r->reader->format = LAB_PCAPNG;
        return GO_ON;
    }
    r->swapped = false;
    for (int order = 0; order < 2; order++, r->swapped = true) {
        uint32_t magic = number32(r, 0);
        if (magic == PCAP_MICROSECONDS || magic == PCAP_NANOSECONDS || magic == PCAP_MODIFIED) return begin_pcap(r);
    }
    return LAB_READ_NO_CAPTURE;
}

/* Whether a column holds what lab_dissect tells: all from `has` on. The direction, too, of frames that have it in them. */
static bool needs_layers(const struct lab_column *columns, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if ((size_t)(columns[i].offset + columns[i].bytes) > offsetof(struct lab_frame, has)) return true;
    return false;
}

int64_t lab_read(struct lab_reader *reader, const unsigned char *bytes, int64_t length, struct lab_source *sources,
                 int64_t source_room, struct lab_note *notes, int64_t note_room, const struct lab_column *columns,
                 int64_t column_count, int64_t first_row, int64_t limit, const struct lab_filter *filters,
                 int64_t filter_count) {
    struct reading r = {
        .reader = reader, .bytes = bytes, .length = length, .swapped = reader->swapped,
        .layers = needs_layers(columns, column_count),
        .sources = sources, .source_room = source_room, .notes = notes, .note_room = note_room,
        .columns = columns, .column_count = column_count, .filters = filters, .filter_count = filter_count,
        .first_row = first_row, .limit = limit,
    };
    int got = length < reader->offset ? LAB_READ_CUT : reader->format ? GO_ON : begin(&r);
    for (int64_t end = reader->offset + MOST_BYTES; got == GO_ON;)
        got = reader->offset > end ? LAB_READ_MORE : reader->format == LAB_PCAP ? next_record(&r) : next_block(&r);
    reader->status = got;
    reader->swapped = r.swapped;
    reader->frames += r.rows;
    reader->fault_offset = reader->offset;
    return r.rows;
}
