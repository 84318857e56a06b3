/* Fuzzes lab_read, lab_filter_check and lab_filter_run: the input is a file, and its last bytes a filter's program.
 *
 * Whatever it is: nothing outside is touched (the sanitizers look), every place that is returned lies inside, and a file
 * that was half there at the first call gives what the whole file gives. */
#include <stdlib.h>

#include "frames.h"

enum { MOST_ROWS = 512, MOST_TABLE = 128, MOST_INSTRUCTIONS = 24, MOST_CALLS = 1 << 16 };

#define MUST(claim)             \
    do {                        \
        if (!(claim)) abort();  \
    } while (0)

struct table {
    struct lab_reader reader;
    struct lab_source sources[MOST_TABLE];
    struct lab_note notes[MOST_TABLE];
    struct lab_frame frames[MOST_ROWS];
    int64_t rows;
};

/* Reads on with rows `at_once`, and as few sources and notes as will do. */
static void read_on(struct table *table, const unsigned char *bytes, size_t length, int64_t at_once,
                    const struct lab_filter *filters, int64_t filter_count) {
    struct lab_column column = {.to = table->frames, .offset = 0, .bytes = sizeof(struct lab_frame)};
    struct lab_reader *reader = &table->reader;
    reader->checksums = 1;
    int64_t room = 1;
    for (int calls = 0; calls < MOST_CALLS && table->rows + at_once <= MOST_ROWS; calls++) {
        table->rows += lab_read(reader, bytes, (int64_t)length, table->sources, room, table->notes, room, &column, 1,
                                table->rows, at_once, filters, filter_count);
        if (reader->status == LAB_READ_ROOM && room < MOST_TABLE) room *= 2;
        else if (reader->status != LAB_READ_MORE) return;
    }
}

static void check_places(const struct table *table, size_t length) {
    int64_t end = (int64_t)length;
    const struct lab_reader *reader = &table->reader;
    MUST(reader->offset >= 0 && reader->offset <= end && reader->frames == table->rows);
    for (int64_t i = 0; i < table->rows; i++) {
        const struct lab_frame *frame = &table->frames[i];
        MUST(frame->offset > 0 && frame->offset + frame->captured <= end && frame->captured <= frame->length);
        MUST(frame->interface < reader->source_count && frame->comment_offset + frame->comment_length <= end);
    }
    for (int64_t i = 0; i < reader->source_count; i++) {
        const struct lab_source *source = &table->sources[i];
        MUST(source->units > 0 && source->name_offset + source->name_length <= end);
        MUST(source->description_offset + source->description_length <= end);
        MUST(source->filter_offset + source->filter_length <= end);
    }
    for (int64_t i = 0; i < reader->note_count; i++)
        MUST(table->notes[i].offset + table->notes[i].length <= end);
}

/* The file in memory of exactly so many bytes. */
static unsigned char *copy(const uint8_t *data, size_t size) {
    unsigned char *bytes = malloc(size);
    if (size) memcpy(bytes, data, size);
    return bytes;
}

/* The longest program that the file's last bytes are; 0 instructions: none. */
static int64_t find_program(const uint8_t *data, size_t size, struct lab_instruction *program) {
    for (int64_t count = MOST_INSTRUCTIONS; count > 0; count--) {
        size_t bytes = (size_t)count * sizeof *program;
        if (bytes > size) continue;
        memcpy(program, data + size - bytes, bytes);
        if (lab_filter_check(program, count) == 0) return count;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct table whole, grown;
    struct lab_instruction program[MOST_INSTRUCTIONS];
    struct lab_filter filter = {.program = program, .link_type = LINK_ETHERNET};
    struct lab_filter *filters = find_program(data, size, program) ? &filter : NULL;
    memset(&whole, 0, sizeof whole);
    memset(&grown, 0, sizeof grown);

    unsigned char *bytes = copy(data, size), *half = copy(data, size / 2);
    read_on(&whole, bytes, size, 1, filters, filters != NULL);
    check_places(&whole, size);
    read_on(&grown, half, size / 2, 1, filters, filters != NULL);
    check_places(&grown, size / 2);
    read_on(&grown, bytes, size, 1, filters, filters != NULL);
    MUST(grown.rows == whole.rows && grown.reader.status == whole.reader.status);
    MUST(!memcmp(grown.frames, whole.frames, sizeof whole.frames));
    free(bytes);
    free(half);
    return 0;
}
