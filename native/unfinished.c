/* Interim: what of taps.h is not there yet, so that the rest can be built. Goes with the last of it. */
#include "frames.h"

__attribute__((weak)) int64_t lab_filter_check(const struct lab_instruction *program, int64_t length) {
    return (void)program, (void)length, -ENOSYS;
}
__attribute__((weak)) int64_t lab_filter_run(const struct lab_instruction *program, const unsigned char *frame,
                                             int64_t captured, int64_t length) {
    return (void)program, (void)frame, (void)captured, (void)length, -ENOSYS;
}
__attribute__((weak)) int64_t lab_read(struct lab_reader *reader, const unsigned char *bytes, int64_t length,
                                       struct lab_source *sources, int64_t source_room, struct lab_note *notes,
                                       int64_t note_room, const struct lab_column *columns, int64_t column_count,
                                       int64_t first_row, int64_t limit, const struct lab_instruction *program,
                                       int64_t program_length) {
    (void)reader, (void)bytes, (void)length, (void)sources, (void)source_room, (void)notes, (void)note_room;
    (void)columns, (void)column_count, (void)first_row, (void)limit, (void)program, (void)program_length;
    return -ENOSYS;
}
__attribute__((weak)) void lab_dissect(struct lab_frame *frame, const unsigned char *bytes, uint32_t link_type,
                                       int32_t checksums) {
    (void)frame, (void)bytes, (void)link_type, (void)checksums;
}
