/* Blocks of pcapng (draft-ietf-opsawg-pcapng) in this machine's byte order, which the section header tells.
 *
 * A block is its type, its length, a body, options, and its length again, each part padded to 32 bits; an option is its
 * code, its length, and a value padded likewise. */
#include "capture.h"

enum { HEADER = 8, TRAILER = 4, OPTION_HEADER = 4, MAX_OPTION = 65535, PACKET_BODY = 20 };
_Static_assert(HEADER + PACKET_BODY == 28, "as PACKET_ROOM has it");

static size_t padded(size_t bytes) {
    return (bytes + 3) / 4 * 4;
}

static unsigned char *put(unsigned char *to, const void *from, size_t bytes) {
    memcpy(to, from, bytes);
    memset(to + bytes, 0, padded(bytes) - bytes);
    return to + padded(bytes);
}

static unsigned char *put32(unsigned char *to, uint32_t value) {
    return put(to, &value, sizeof value);
}


static size_t value_length(const struct option *option) {
    return option->length < MAX_OPTION ? option->length : MAX_OPTION;
}

static unsigned char *put_option(unsigned char *to, const struct option *option) {
    uint16_t head[] = {option->code, (uint16_t)value_length(option)};
    return put(put(to, head, sizeof head), option->value, value_length(option));
}

size_t pcapng_size(size_t body, const struct option *options, size_t count) {
    size_t size = HEADER + padded(body) + (count ? OPTION_HEADER : 0) + TRAILER;
    for (size_t i = 0; i < count; i++) size += OPTION_HEADER + padded(value_length(&options[i]));
    return size;
}

void pcapng_put(unsigned char *to, uint32_t type, const void *body, size_t length, const struct option *options,
                size_t count) {
    uint32_t size = (uint32_t)pcapng_size(length, options, count);
    to = put(put32(put32(to, type), size), body, length);
    for (size_t i = 0; i < count; i++) to = put_option(to, &options[i]);
    if (count) to = put32(to, OPTION_END);
    put32(to, size);
}

unsigned char *pcapng_frame(unsigned char *to) {
    return to + HEADER + PACKET_BODY;
}

/* The options of a number: its code and length are one word, and every frame has one. */
static unsigned char *put_number(unsigned char *to, uint16_t code, const void *value, uint16_t bytes) {
    uint16_t head[] = {code, bytes};
    return put(put(to, head, sizeof head), value, bytes);
}

size_t pcapng_packet(unsigned char *to, const struct packet *packet) {
    unsigned char *end = pcapng_frame(to) + packet->captured, *after = pcapng_frame(to) + padded(packet->captured);
    memset(end, 0, (size_t)(after - end));
    after = put_number(after, PACKET_FLAGS, &packet->flags, sizeof packet->flags);
    if (packet->dropped) after = put_number(after, PACKET_DROPPED, &packet->dropped, sizeof packet->dropped);
    if (packet->id) after = put_number(after, PACKET_ID, &packet->id, sizeof packet->id);
    after = put32(after, OPTION_END);
    uint32_t size = (uint32_t)(after + TRAILER - to);
    put32(after, size);
    to = put32(put32(to, BLOCK_ENHANCED_PACKET), size);
    to = put32(put32(to, packet->interface), (uint32_t)((uint64_t)packet->time_ns >> 32));
    put32(put32(put32(to, (uint32_t)packet->time_ns), packet->captured), packet->length);
    return size;
}
