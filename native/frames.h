/* What the C files of capture and of reading share among themselves. Nothing here is known to Python. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "internal.h"
#include "taps.h"

/* ---- link types (tcpdump.org/linktypes.html) ---- */

enum {
    LINK_NULL = 0,
    LINK_ETHERNET = 1,
    LINK_RAW_BSD = 12, /* as old files name it, by the system that wrote them */
    LINK_RAW_OPENBSD = 14,
    LINK_RAW = 101,
    LINK_LOOP = 108,
    LINK_LINUX_SLL = 113,
    LINK_IPV4 = 228,
    LINK_IPV6 = 229,
    LINK_LINUX_SLL2 = 276
};

/* ---- pcapng (draft-ietf-opsawg-pcapng): blocks and options ---- */

enum {
    BLOCK_SECTION = 0x0A0D0D0A,
    BLOCK_INTERFACE = 1,
    BLOCK_PACKET = 2, /* obsolete */
    BLOCK_SIMPLE_PACKET = 3,
    BLOCK_NAMES = 4,
    BLOCK_STATISTICS = 5,
    BLOCK_ENHANCED_PACKET = 6
};
#define BYTE_ORDER_MAGIC 0x1A2B3C4DU

enum {
    OPTION_END = 0,
    OPTION_COMMENT = 1,
    SECTION_HARDWARE = 2, SECTION_OS = 3, SECTION_APPLICATION = 4,
    INTERFACE_NAME = 2, INTERFACE_DESCRIPTION = 3, INTERFACE_RESOLUTION = 9, INTERFACE_FILTER = 11, INTERFACE_OS = 12,
    INTERFACE_OFFSET = 14,
    PACKET_FLAGS = 2, PACKET_DROPPED = 4, PACKET_ID = 5,
    STATISTICS_START = 2, STATISTICS_END = 3, STATISTICS_RECEIVED = 4, STATISTICS_DROPPED = 5, STATISTICS_ACCEPTED = 6,
    STATISTICS_OS_DROPPED = 7, STATISTICS_DELIVERED = 8
};

/* epb_flags */
enum {
    FLAG_IN = 1, FLAG_OUT = 2, FLAG_DIRECTION = 3,
    FLAG_UNICAST = 1 << 2, FLAG_MULTICAST = 2 << 2, FLAG_BROADCAST = 3 << 2, FLAG_PROMISCUOUS = 4 << 2,
    FLAG_CHECKSUM_NOT_READY = 1 << 9, FLAG_CHECKSUM_VALID = 1 << 10, FLAG_TCP_SEGMENTS_LEFT = 1 << 11
};

/* ---- checksum.c ---- */

/* enum lab_checksum of a dissected frame's ICMP, ICMPv6, TCP or UDP, which is not in fragments.
 *
 * destination: that of the pseudo-header; NULL: not known. segment, length: header and payload; whole: all of them are
 * there. */
uint8_t checksum_state(const struct lab_frame *frame, const unsigned char *destination, const unsigned char *segment,
                       size_t length, bool whole);
