/* The Internet checksum (RFC 1071), and what can be said of a frame's. */
#include <arpa/inet.h>

#include "frames.h"

enum { TCP_FIELD = 16, UDP_FIELD = 6, ICMP_FIELD = 2 };

static uint16_t fold(uint64_t sum) {
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* The sum is the same in either byte order, but for the order of its own two bytes: so words are added as they lie. */
uint32_t sum16(const void *from, size_t length) {
    const unsigned char *bytes = from;
    uint64_t sum = 0;
    size_t words = length / sizeof(uint32_t);
    for (size_t i = 0; i < words; i++) {
        uint32_t word;
        memcpy(&word, bytes + i * sizeof word, sizeof word);
        sum += word;
    }
    uint32_t rest = 0;
    memcpy(&rest, bytes + words * sizeof rest, length % sizeof rest);
    return ntohs(fold(sum + rest));
}

/* Of addresses, protocol and length. */
static uint64_t pseudo_header(const struct lab_frame *frame, const unsigned char *destination, size_t length) {
    size_t address = frame->family == 4 ? 4 : 16;
    return (uint64_t)sum16(frame->source, address) + sum16(destination, address) + frame->protocol + length;
}

uint8_t checksum_state(const struct lab_frame *frame, const unsigned char *destination, const unsigned char *segment,
                       size_t length, bool whole) {
    bool icmp4 = frame->protocol == IPPROTO_ICMP, udp = frame->protocol == IPPROTO_UDP;
    size_t field = udp ? UDP_FIELD : frame->protocol == IPPROTO_TCP ? TCP_FIELD : ICMP_FIELD;
    if (frame->flags & (FLAG_CHECKSUM_NOT_READY | FLAG_TCP_SEGMENTS_LEFT)) return LAB_CHECKSUM_LEFT;
    bool header = frame->has & LAB_HAS_PAYLOAD; /* it is whole */
    if (header && udp && frame->family == 4 && get16(segment + field) == 0) return LAB_CHECKSUM_ABSENT;
    if (!header || !whole || !destination)
        return frame->flags & FLAG_CHECKSUM_VALID ? LAB_CHECKSUM_VALID : LAB_CHECKSUM_NONE;
    uint64_t pseudo = icmp4 ? 0 : pseudo_header(frame, destination, length);
    if (fold(pseudo + sum16(segment, length)) == UINT16_MAX && !(udp && get16(segment + field) == 0))
        return LAB_CHECKSUM_GOOD;
    return !icmp4 && get16(segment + field) == fold(pseudo) ? LAB_CHECKSUM_LEFT : LAB_CHECKSUM_BAD;
}
