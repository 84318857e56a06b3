/* Packets that differ from one frame in some fields, with checksums that stay right (RFC 1624): of all that does not
 * vary the sum is known, so only that of the fields is added. */
#include "inject_parts.h"

static uint32_t fold(uint32_t sum) {
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

static uint64_t bytes_of(const struct lab_field *field, const unsigned char *frame) {
    uint64_t bytes = 0;
    for (int i = 0; i < field->bytes; i++) bytes = bytes << 8 | frame[field->offset + i];
    return bytes;
}

/* What the field's bytes add to a sum. */
static uint32_t share(const struct lab_field *field, const struct lab_sum *sum, uint64_t bytes) {
    uint32_t words = 0;
    for (; bytes; bytes >>= 16) words += bytes & 0xffff;
    words = fold(words);
    bool swapped = (field->offset + field->bytes - sum->start) % 2;
    return swapped ? (words >> 8 | words << 8) & 0xffff : words;
}

static bool covers(const struct lab_field *field, int sum) {
    return field->sums >> sum & 1;
}

void variants_init(struct variants *v, const struct lab_packets *packets) {
    const unsigned char *frame = packets->bytes + packets->offsets[0];
    v->packets = packets;
    for (int i = 0; i < packets->sum_count; i++) {
        const struct lab_sum *sum = &packets->sums[i];
        uint32_t constant = ~get16(frame + sum->at) & 0xffff;
        for (int j = 0; j < packets->field_count; j++) {
            const struct lab_field *field = &packets->fields[j];
            if (covers(field, i)) constant += 0xffff - share(field, sum, bytes_of(field, frame));
        }
        v->constant[i] = fold(constant);
    }
}

static uint64_t value(const struct lab_field *field, uint64_t n) {
    uint64_t k = field->every > 1 ? n / field->every : n;
    switch (field->kind) {
    case LAB_COUNTING: return field->first + (uint64_t)field->step * (field->count ? k % field->count : k);
    case LAB_LISTED: return field->list[k % field->count];
    case LAB_RANDOM: {
        uint64_t drawn = draw(field->seed, k);
        return field->first + (field->count ? (uint64_t)((unsigned __int128)drawn * field->count >> 64) : drawn);
    }
    default: return (uint64_t)read_clock(CLOCK_REALTIME);
    }
}

void variants_make(const struct variants *v, uint64_t n, unsigned char *frame) {
    const struct lab_packets *packets = v->packets;
    uint32_t sums[LAB_MAX_SUMS];
    memcpy(sums, v->constant, sizeof sums);
    for (int j = 0; j < packets->field_count; j++) {
        const struct lab_field *field = &packets->fields[j];
        uint64_t bytes = bytes_of(field, frame), mask = field->mask << field->shift;
        bytes = (bytes & ~mask) | (value(field, n) << field->shift & mask);
        for (int i = 0; i < field->bytes; i++)
            frame[field->offset + i] = (unsigned char)(bytes >> 8 * (field->bytes - 1 - i));
        for (int i = 0; i < packets->sum_count; i++)
            if (covers(field, i)) sums[i] += share(field, &packets->sums[i], bytes);
    }
    for (int i = 0; i < packets->sum_count; i++) {
        uint32_t checksum = ~fold(sums[i]) & 0xffff;
        put16(frame + packets->sums[i].at, checksum || !packets->sums[i].udp ? checksum : 0xffff);
    }
}

uint32_t variants_flow(const struct variants *v, uint64_t n) {
    uint64_t mixed = 0;
    for (int j = 0; j < v->packets->field_count; j++)
        if (v->packets->fields[j].flow) mixed = draw(mixed, value(&v->packets->fields[j], n));
    return (uint32_t)(mixed >> 32);
}
