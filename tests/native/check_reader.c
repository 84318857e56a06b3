/* Files of frames, whole, growing, cut and damaged. Each file lies in memory of exactly its length, so that
 * AddressSanitizer sees one byte too far. */
#include "check.h"

enum { MOST = 4096, SNAPLEN = 262144 };

/* ---- files ---- */

struct file {
    unsigned char bytes[MOST];
    size_t length;
    bool swapped;
};

static void add32(struct file *file, uint32_t number) {
    if (file->swapped) number = __builtin_bswap32(number);
    memcpy(file->bytes + file->length, &number, 4);
    file->length += 4;
}

/* Two numbers of 16 bits. */
static void add16s(struct file *file, uint32_t first, uint32_t second) {
    bool first_is_low = file->swapped == (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
    add32(file, first_is_low ? first | second << 16 : first << 16 | second);
}

static void add_text(struct file *file, const char *text, size_t length) {
    memcpy(file->bytes + file->length, text, length);
    file->length += (length + 3) / 4 * 4;
}

static void add_option(struct file *file, uint32_t code, const char *value, uint32_t length) {
    add16s(file, code, length);
    add_text(file, value, length);
}

static size_t begin_block(struct file *file, uint32_t kind) {
    add32(file, kind);
    add32(file, 0);
    return file->length - 8;
}

static void end_block(struct file *file, size_t at) {
    size_t end = file->length;
    file->length = at + 4;
    add32(file, (uint32_t)(end + 4 - at));
    file->length = end;
    add32(file, (uint32_t)(end + 4 - at));
}

static void add_section(struct file *file) {
    size_t at = begin_block(file, BLOCK_SECTION);
    add32(file, BYTE_ORDER_MAGIC);
    add16s(file, 1, 0);
    add32(file, UINT32_MAX);
    add32(file, UINT32_MAX);
    add_option(file, OPTION_COMMENT, "section", 7);
    add_option(file, SECTION_APPLICATION, "check", 5);
    end_block(file, at);
}

static void add_interface(struct file *file, uint32_t link_type, unsigned char resolution) {
    size_t at = begin_block(file, BLOCK_INTERFACE);
    add16s(file, link_type, 0);
    add32(file, SNAPLEN);
    add_option(file, OPTION_COMMENT, "interface", 9);
    add_option(file, INTERFACE_NAME, "lo", 2);
    add_option(file, INTERFACE_FILTER, "\0udp", 4);
    add_option(file, INTERFACE_RESOLUTION, (const char *)&resolution, 1);
    add16s(file, OPTION_END, 0);
    end_block(file, at);
}

static const unsigned char packet[] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0,                                 /* Ethernet */
    0x45, 0, 0, 31, 0, 1, 0, 0, 64, IPPROTO_UDP, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1, /* IPv4 */
    0x16, 0x2e, 0, 53, 0, 11, 0, 0, 'a', 'b', 'c',                               /* UDP */
};
#define PACKET ((const char *)packet)

static void add_frame(struct file *file, uint32_t kind, uint32_t interface, uint32_t time) {
    size_t at = begin_block(file, kind);
    if (kind == BLOCK_PACKET) add16s(file, interface, 3);
    else add32(file, interface);
    add32(file, 0);
    add32(file, time);
    add32(file, sizeof packet);
    add32(file, sizeof packet + 9);
    add_text(file, PACKET, sizeof packet);
    add_option(file, PACKET_FLAGS, "\1\1\1\1", 4);
    add_option(file, OPTION_COMMENT, "frame", 5);
    add_option(file, PACKET_ID, "\0\0\0\0\0\0\0\1", 8);
    end_block(file, at);
}

static void add_statistics(struct file *file) {
    size_t at = begin_block(file, BLOCK_STATISTICS);
    for (int i = 0; i < 3; i++) add32(file, 0);
    add_option(file, STATISTICS_RECEIVED, "\7\7\7\7\7\7\7\7", 8);
    add_option(file, OPTION_COMMENT, "statistics", 10);
    end_block(file, at);
}

/* Every kind of block, in two sections of either byte order. */
static struct file pcapng(void) {
    struct file file = {0};
    for (int order = 0; order < 2; order++) {
        file.swapped = order;
        add_section(&file);
        add_interface(&file, LINK_ETHERNET, 9);
        add_frame(&file, BLOCK_ENHANCED_PACKET, 0, 1);
        add_interface(&file, LINK_RAW, 0x80 | 10);
        add_frame(&file, BLOCK_PACKET, 1, 2);
        end_block(&file, begin_block(&file, 4711));
        size_t at = begin_block(&file, BLOCK_SIMPLE_PACKET);
        add32(&file, sizeof packet);
        add_text(&file, PACKET, sizeof packet);
        end_block(&file, at);
        add_statistics(&file);
    }
    return file;
}

static struct file pcap(void) {
    struct file file = {.swapped = true};
    add32(&file, 0xA1B2C3D4);
    add16s(&file, 2, 4);
    const uint32_t rest[] = {0, 0, SNAPLEN, LINK_ETHERNET};
    for (int i = 0; i < 4; i++) add32(&file, rest[i]);
    for (uint32_t i = 1; i <= 3; i++) {
        const uint32_t head[] = {i, 0, sizeof packet, sizeof packet + i};
        for (int j = 0; j < 4; j++) add32(&file, head[j]);
        memcpy(file.bytes + file.length, packet, sizeof packet);
        file.length += sizeof packet;
    }
    return file;
}

/* ---- reading ---- */

/* `ip`, for Ethernet and without a link layer. */
static const struct lab_instruction ethernet_ip[] = {{0x28, 0, 0, 12}, {0x15, 0, 1, 0x800}, {6, 0, 0, 1}, {6, 0, 0, 0}};
static const struct lab_instruction raw_all[] = {{6, 0, 0, 1}};
static const struct lab_filter filters[] = {{ethernet_ip, LINK_ETHERNET}, {raw_all, LINK_RAW}};

struct table {
    struct lab_reader reader;
    struct lab_source *sources; /* exactly as many as there is room for */
    struct lab_note *notes;
    int64_t source_room, note_room, rows, calls;
    struct lab_frame frames[64];
};

static void give_room(struct table *table) {
    table->sources = realloc(table->sources, (size_t)++table->source_room * sizeof *table->sources);
    table->notes = realloc(table->notes, (size_t)++table->note_room * sizeof *table->notes);
}

/* Reads on, a row at a time, with room for one more source and note whenever it is wanted. */
static void read_on(struct table *table, const unsigned char *bytes, size_t length) {
    struct lab_column column = {.to = table->frames, .offset = 0, .bytes = sizeof(struct lab_frame)};
    struct lab_reader *reader = &table->reader;
    reader->checksums = 1;
    do {
        int64_t got = lab_read(reader, bytes, (int64_t)length, table->sources, table->source_room, table->notes,
                               table->note_room, &column, 1, table->rows, 1, filters, 2);
        CHECK(got == 0 || got == 1);
        table->rows += got;
        if (reader->status == LAB_READ_ROOM) give_room(table);
        CHECK(table->rows < 64 && table->calls++ < 10 * MOST);
    } while (reader->status == LAB_READ_MORE || reader->status == LAB_READ_ROOM);
    CHECK_EQUAL(reader->frames, table->rows);
}

static void forget(struct table *table) {
    free(table->sources);
    free(table->notes);
}

static unsigned char *exactly(const struct file *file, size_t length) {
    unsigned char *bytes = malloc(length);
    memcpy(bytes, file->bytes, length);
    return bytes;
}

/* What the table points to lies in the file. */
static void check_places(const struct table *table, size_t length) {
    int64_t end = (int64_t)length;
    for (int64_t i = 0; i < table->rows; i++) {
        const struct lab_frame *frame = &table->frames[i];
        CHECK(frame->offset > 0 && frame->offset + frame->captured <= end);
        CHECK(frame->captured <= frame->length && frame->interface < table->reader.source_count);
        CHECK(frame->comment_offset >= 0 && frame->comment_offset + frame->comment_length <= end);
    }
    for (int64_t i = 0; i < table->reader.note_count; i++)
        CHECK(table->notes[i].offset > 0 && table->notes[i].offset + table->notes[i].length <= end);
    for (int64_t i = 0; i < table->reader.source_count; i++) {
        const struct lab_source *source = &table->sources[i];
        CHECK(source->units > 0 && source->name_offset + source->name_length <= end);
        CHECK(source->filter_offset + source->filter_length <= end);
    }
}

static struct table read_whole(const struct file *file) {
    struct table table = {0};
    unsigned char *bytes = exactly(file, file->length);
    read_on(&table, bytes, file->length);
    check_places(&table, file->length);
    free(bytes);
    return table;
}

/* ---- cases ---- */

static void a_file_is_read_whole(void) {
    struct file file = pcapng();
    struct table table = read_whole(&file);
    CHECK_EQUAL(table.reader.status, LAB_READ_END);
    CHECK_EQUAL(table.rows, 6);
    CHECK_EQUAL(table.reader.source_count, 4);
    CHECK_EQUAL(table.reader.note_count, 8);
    CHECK_EQUAL(table.reader.section, 1);
    const int64_t times[] = {1, 2 * 1000000000LL / 1024, 0};
    for (int i = 0; i < 6; i++) {
        const struct lab_frame *frame = &table.frames[i];
        CHECK_EQUAL(frame->time_ns, times[i % 3]);
        CHECK_EQUAL(frame->captured, sizeof packet);
        CHECK_EQUAL(frame->interface, i / 3 * 2 + (i % 3 == 1));
        CHECK_EQUAL(frame->dropped, i % 3 == 1 ? 3 : 0);
        CHECK_EQUAL(frame->direction, i % 3 == 2 ? 0 : 1);
        CHECK(!memcmp(file.bytes + frame->offset, packet, sizeof packet));
    }
    CHECK_EQUAL(table.sources[2].received, 0x0707070707070707);
    forget(&table);
    file = pcap();
    table = read_whole(&file);
    CHECK_EQUAL(table.rows, 3);
    CHECK_EQUAL(table.frames[2].time_ns, 3000000000);
    CHECK_EQUAL(table.frames[2].length, sizeof packet + 3);
    forget(&table);
}

/* A byte more at every call. */
static void a_file_that_grows_is_read_as_if_it_had_been_whole(void) {
    const struct file files[] = {pcapng(), pcap()};
    for (int i = 0; i < 2; i++) {
        struct table whole = read_whole(&files[i]), growing = {0};
        for (size_t length = 0; length <= files[i].length; length++) {
            snprintf(trying, sizeof trying, "file %d, %zu bytes", i, length);
            unsigned char *bytes = exactly(&files[i], length);
            read_on(&growing, bytes, length);
            check_places(&growing, length);
            CHECK(growing.reader.status == LAB_READ_END || growing.reader.status == LAB_READ_CUT);
            free(bytes);
        }
        CHECK_EQUAL(growing.rows, whole.rows);
        CHECK(!memcmp(growing.frames, whole.frames, sizeof whole.frames));
        CHECK_EQUAL(growing.reader.source_count, whole.reader.source_count);
        CHECK(!memcmp(growing.sources, whole.sources, (size_t)whole.reader.source_count * sizeof *whole.sources));
        CHECK_EQUAL(growing.reader.note_count, whole.reader.note_count);
        CHECK(!memcmp(growing.notes, whole.notes, (size_t)whole.reader.note_count * sizeof *whole.notes));
        forget(&whole);
        forget(&growing);
    }
}

static void a_file_that_shrank_is_not_read(void) {
    struct file file = pcap();
    struct table table = read_whole(&file);
    unsigned char *bytes = exactly(&file, 1);
    read_on(&table, bytes, 1);
    CHECK_EQUAL(table.reader.status, LAB_READ_CUT);
    CHECK_EQUAL(table.rows, 3);
    free(bytes);
    forget(&table);
}

static void read_damaged(const struct file *file) {
    struct table table = read_whole(file);
    forget(&table);
}

static void no_damage_leads_beyond_the_end(void) {
    const struct file files[] = {pcapng(), pcap()};
    const uint32_t numbers[] = {0, 1, 4, 12, 0x7fffffff, 0x80000000, 0xfffffffc, UINT32_MAX};
    for (int i = 0; i < 2; i++) {
        for (size_t at = 0; at + 4 <= files[i].length; at++) {
            struct file damaged = files[i];
            snprintf(trying, sizeof trying, "file %d, byte %zu", i, at);
            for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++) {
                memcpy(damaged.bytes + at, &numbers[j], 4);
                read_damaged(&damaged);
                memcpy(damaged.bytes + at, files[i].bytes + at, 4);
                damaged.bytes[at] = (unsigned char)(numbers[j] >> 24);
                read_damaged(&damaged);
                damaged.bytes[at] = files[i].bytes[at];
            }
        }
    }
}

/* Comments enough for LAB_MAX_NOTES, and one more. */
static void notes_have_a_limit(void) {
    enum { OF_BLOCK = 4096, BLOCKS = LAB_MAX_NOTES / OF_BLOCK + 1, BYTES = 12 + 8 + 4 * OF_BLOCK };
    struct file section = {0};
    add_section(&section);
    size_t length = section.length + (size_t)BLOCKS * BYTES;
    unsigned char *bytes = calloc(1, length), *at = bytes + section.length;
    memcpy(bytes, section.bytes, section.length);
    for (int i = 0; i < BLOCKS; i++, at += BYTES) {
        const uint32_t head[] = {BLOCK_INTERFACE, BYTES}, comment = OPTION_COMMENT;
        memcpy(at, head, sizeof head);
        for (int j = 0; j < OF_BLOCK; j++) memcpy(at + 16 + 4 * j, &comment, 4);
        memcpy(at + BYTES - 4, head + 1, 4);
    }
    struct lab_reader reader = {0};
    struct lab_note *notes = calloc(LAB_MAX_NOTES, sizeof *notes);
    struct lab_source sources[BLOCKS];
    CHECK_EQUAL(lab_read(&reader, bytes, (int64_t)length, sources, BLOCKS, notes, LAB_MAX_NOTES, NULL, 0, 0, 1, NULL, 0), 0);
    CHECK_EQUAL(reader.status, LAB_READ_END);
    CHECK_EQUAL(reader.note_count, LAB_MAX_NOTES);
    free(bytes);
    free(notes);
}

/* Loads of every size from every place. */
static void a_filter_touches_only_its_frame(void) {
    for (size_t length = 0; length < 12; length++) {
        unsigned char *frame = malloc(length);
        for (size_t i = 0; i < length; i++) frame[i] = (unsigned char)(i + 1);
        for (int size = 0; size < 3; size++) {
            const uint32_t bytes = 4U >> size;
            for (uint32_t at = 0; at < 16; at++) {
                const struct lab_instruction absolute[] = {{(uint16_t)(0x20 | size << 3), 0, 0, at}, {0x16, 0, 0, 0}};
                const struct lab_instruction indirect[] = {
                    {1, 0, 0, at}, {(uint16_t)(0x40 | size << 3), 0, 0, 0}, {0x16, 0, 0, 0}};
                CHECK_EQUAL(lab_filter_check(absolute, 2), 0);
                CHECK_EQUAL(lab_filter_check(indirect, 3), 0);
                int64_t found = lab_filter_run(absolute, frame, (int64_t)length, 1500);
                CHECK_EQUAL(found != 0, at + bytes <= length);
                CHECK_EQUAL(found, lab_filter_run(indirect, frame, (int64_t)length, 1500));
            }
        }
        free(frame);
    }
}

const struct check reader_checks[] = {
    CASE(a_file_is_read_whole, 0),
    CASE(a_file_that_grows_is_read_as_if_it_had_been_whole, 0),
    CASE(a_file_that_shrank_is_not_read, 0),
    CASE(no_damage_leads_beyond_the_end, 0),
    CASE(notes_have_a_limit, 0),
    CASE(a_filter_touches_only_its_frame, 0),
    {0},
};
