/* Fuzzes lab_dissect: the input is a link type (2 bytes), how many bytes are missing at the end (4), epb_flags (2), and
 * the frame.
 *
 * Whatever it is: no byte is read that was not captured (the sanitizers look), what is told lies within the frame, no
 * layer is told without the one below, and verifying checksums changes nothing else. */
#include <stdio.h>
#include <stdlib.h>

#include "frames.h"

enum { LINK_TYPE_AT = 0, MISSING_AT = 2, FLAGS_AT = 6, FRAME_AT = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static void check(bool claim, const char *what) {
    if (claim) return;
    fprintf(stderr, "not so: %s\n", what);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    if (size < FRAME_AT) return -1;
    uint64_t captured = size - FRAME_AT;
    uint32_t missing = (uint32_t)get16(input + MISSING_AT) << 16 | get16(input + MISSING_AT + 2);
    if (captured + missing > UINT32_MAX) return -1;
    struct lab_frame frame, plain;
    memset(&frame, 0xa5, sizeof frame);
    frame.captured = (uint32_t)captured;
    frame.length = (uint32_t)captured + missing;
    frame.flags = get16(input + FLAGS_AT);
    frame.direction = 0;
    plain = frame;
    /* libFuzzer's input ends where its memory does, so AddressSanitizer sees every byte that is read behind it. */
    lab_dissect(&frame, input + FRAME_AT, get16(input + LINK_TYPE_AT), 1);
    lab_dissect(&plain, input + FRAME_AT, get16(input + LINK_TYPE_AT), 0);
    check(frame.payload_offset <= captured, "the payload begins within what was captured");
    check((uint64_t)frame.payload_offset + frame.payload_length <= frame.length, "the payload ends within the frame");
    check(frame.tcp_sacks <= 4, "there are at most four SACK blocks");
    check(frame.has & LAB_HAS_IP || !(frame.has & ~(uint32_t)(LAB_HAS_VLAN | LAB_HAS_ETHERTYPE | LAB_HAS_PAYLOAD)),
          "there is no transport without IP");
    check(frame.has & LAB_HAS_PORTS || !(frame.has & LAB_HAS_TCP), "there is no TCP without ports");
    check(frame.has & LAB_HAS_ICMP || !(frame.has & LAB_HAS_ECHO), "there is no echo without ICMP");
    check(!frame.checksum || frame.has & (LAB_HAS_PORTS | LAB_HAS_ICMP), "there is no checksum without a transport");
    frame.checksum = LAB_CHECKSUM_NONE;
    check(!memcmp(&frame, &plain, sizeof frame), "checksums change nothing but their own state");
    return 0;
}
