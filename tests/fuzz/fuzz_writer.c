/* Fuzzes the blocks that a capture writes: the input says what a file shall hold, frames and options of any length.
 *
 * Whatever that is: nothing outside is written (the sanitizers look), each block is as long as was said before it was
 * made, and lab_read finds in the file what was put there. */
#include <stdlib.h>

#include "capture.h"

enum { MOST_FRAMES = 64, MOST_OPTIONS = 8, MOST_NOTES = 64, ROOM = 1 << 20 };

#define MUST(claim)            \
    do {                       \
        if (!(claim)) abort(); \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

/* The input, taken from the front; when it is used up, zeros. */
struct source {
    const unsigned char *bytes;
    size_t left;
};

static uint64_t draw(struct source *source, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes && source->left; i++, source->left--) value = value << 8 | *source->bytes++;
    return value;
}

static const unsigned char *draw_bytes(struct source *source, size_t *length) {
    const unsigned char *from = source->bytes;
    if (*length > source->left) *length = source->left;
    source->bytes += *length;
    source->left -= *length;
    return from;
}

/* Makes a block in memory that is exactly as long as pcapng_size said. */
static size_t put_block(unsigned char *file, size_t at, uint32_t type, const void *body, size_t length,
                        const struct option *options, size_t count) {
    size_t bytes = pcapng_size(length, options, count);
    unsigned char *exact = malloc(bytes);
    pcapng_put(exact, type, body, length, options, count);
    MUST(at + bytes <= ROOM);
    memcpy(file + at, exact, bytes);
    free(exact);
    return at + bytes;
}

static size_t draw_options(struct source *source, struct option *options) {
    size_t count = draw(source, 1) % MOST_OPTIONS;
    for (size_t i = 0; i < count; i++) {
        size_t length = draw(source, 2) % 300;
        const unsigned char *value = draw_bytes(source, &length);
        options[i] = (struct option){.code = OPTION_COMMENT, .value = value, .length = length};
    }
    return count;
}

/* A frame, and the memory of just its block. */
static size_t put_frame(unsigned char *file, size_t at, struct source *source, struct packet *packet) {
    size_t length = draw(source, 2) % 2000;
    const unsigned char *bytes = draw_bytes(source, &length);
    *packet = (struct packet){
        .time_ns = (int64_t)(draw(source, 8) >> 1),
        .captured = (uint32_t)length,
        .length = (uint32_t)(length + draw(source, 2)),
        .flags = (uint32_t)draw(source, 4),
        .dropped = draw(source, 8),
        .id = draw(source, 8),
    };
    size_t options = 8 + (packet->dropped ? 12 : 0) + (packet->id ? 12 : 0) + 4;
    size_t exact = 28 + (length + 3) / 4 * 4 + options + 4;
    unsigned char *block = malloc(exact);
    if (length) memcpy(pcapng_frame(block), bytes, length);
    MUST(pcapng_packet(block, packet) == exact);
    MUST(at + exact <= ROOM);
    memcpy(file + at, block, exact);
    free(block);
    return at + exact;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    static unsigned char file[ROOM];
    static struct packet packets[MOST_FRAMES];
    static struct lab_frame frames[MOST_FRAMES + 1];
    struct source source = {input, size};
    struct option options[MOST_OPTIONS];
    const uint32_t section[] = {BYTE_ORDER_MAGIC, 1, UINT32_MAX, UINT32_MAX}, interface[] = {LINK_ETHERNET, LAB_SNAPLEN};
    const unsigned char nanoseconds = 9;
    size_t notes = draw_options(&source, options);
    size_t at = put_block(file, 0, BLOCK_SECTION, section, sizeof section, options, notes);
    const struct option resolution = {.code = INTERFACE_RESOLUTION, .value = &nanoseconds, .length = 1};
    at = put_block(file, at, BLOCK_INTERFACE, interface, sizeof interface, &resolution, 1);
    int64_t count = (int64_t)draw(&source, 1) % MOST_FRAMES;
    for (int64_t i = 0; i < count; i++) at = put_frame(file, at, &source, &packets[i]);

    struct lab_source found_interface;
    struct lab_note found_notes[MOST_NOTES];
    struct lab_column rows = {.to = frames, .offset = 0, .bytes = sizeof(struct lab_frame)};
    struct lab_reader reader = {0};
    int64_t got = lab_read(&reader, file, (int64_t)at, &found_interface, 1, found_notes, MOST_NOTES, &rows, 1, 0,
                           MOST_FRAMES + 1, NULL, 0);
    MUST(reader.status == LAB_READ_END || reader.status == LAB_READ_MORE);
    MUST(got == count && reader.note_count == (int64_t)notes);
    for (size_t i = 0; i < notes; i++) {
        MUST(found_notes[i].length == options[i].length);
        MUST(!memcmp(file + found_notes[i].offset, options[i].value, options[i].length));
    }
    for (int64_t i = 0; i < count; i++) {
        const struct packet *put = &packets[i];
        MUST(frames[i].time_ns == put->time_ns && frames[i].captured == put->captured);
        MUST(frames[i].length == put->length && frames[i].flags == put->flags);
        MUST(frames[i].dropped == put->dropped && frames[i].packet_id == put->id);
    }
    return 0;
}
