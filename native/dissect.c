/* A frame's bytes into fields: the layers of link, network and transport.
 *
 * Every length in a frame may lie, and its end may be missing. So no byte is looked at that was not captured, nor one
 * behind the end of the packet that it should belong to; a header of which a part is missing ends the walk. */
#include "frames.h"

enum {
    TYPE_IP4 = 0x0800, TYPE_IP6 = 0x86dd,
    TYPE_TAG = 0x8100, TYPE_SERVICE_TAG = 0x88a8, TYPE_OLD_TAG = 0x9100,
    TYPE_UNKNOWN = 0,
    MIN_TYPE = 0x0600 /* what is less is the length of an IEEE 802.3 frame */
};
enum { ETHERNET_HEADER = 14, TAG = 4, SLL_HEADER = 16, SLL2_HEADER = 20, NULL_HEADER = 4 };
enum { IP4_HEADER = 20, IP6_HEADER = 40, SHORTEST_EXTENSION = 8, FRAGMENT_HEADER = 8 };
enum { UDP_HEADER = 8, TCP_HEADER = 20, ICMP_HEADER = 8 };
enum { IP4_MORE = 0x2000, IP4_OFFSET = 0x1fff, IP6_MORE = 1, IP6_OFFSET = 0xfff8 };
enum { ECHO_REPLY_4 = 0, ECHO_REQUEST_4 = 8, ECHO_REQUEST_6 = 128, ECHO_REPLY_6 = 129 };
enum { HEADER_HIP = 139, HEADER_SHIM6 = 140 }; /* IPv6 extension headers that netinet/in.h does not name */
enum { TCP_END = 0, TCP_NOTHING = 1, TCP_MSS = 2, TCP_SCALE = 3, TCP_SACK_PERMITTED = 4, TCP_SACK = 5, TCP_TIMES = 8 };
enum { DIRECTION_IN = 1, DIRECTION_OUT = 2, SLL_OUTGOING = 4 };

/* Where the walk through a frame stands. All are counted from its first byte. */
struct walk {
    struct lab_frame *frame;
    const unsigned char *bytes;
    size_t at;   /* the header that comes next */
    size_t seen; /* the end of what may be looked at: captured, and within the packet; never before `at` */
    size_t end;  /* of the packet, on the wire; never before `seen` */
    bool whole;  /* the packet was captured to its end */
    const unsigned char *destination; /* what the checksum counts as such: IPv6 may be routed to it by way of others */
};

static inline uint32_t get32(const unsigned char *at) {
    return get16(at) << 16 | get16(at + 2);
}

static inline size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The next `length` bytes; NULL if not all of them may be looked at. */
static inline const unsigned char *next(const struct walk *walk, size_t length) {
    return length <= walk->seen - walk->at ? walk->bytes + walk->at : NULL;
}

/* What the packet's own header says of its end. */
static void ends_at(struct walk *walk, size_t end) {
    walk->whole = end <= walk->seen;
    walk->end = least(walk->end, end);
    walk->seen = least(walk->seen, end);
}

/* ---- transport ---- */

static void has_payload(const struct walk *walk) {
    walk->frame->has |= LAB_HAS_PAYLOAD;
    walk->frame->payload_offset = (uint32_t)walk->at;
    walk->frame->payload_length = (uint32_t)(walk->end - walk->at);
}

static void tcp_option(struct lab_frame *frame, const unsigned char *option, size_t length) {
    if (option[0] == TCP_MSS && length == 4) {
        frame->has |= LAB_HAS_MSS;
        frame->tcp_mss = (uint16_t)get16(option + 2);
    } else if (option[0] == TCP_SCALE && length == 3) {
        frame->has |= LAB_HAS_WINDOW_SCALE;
        frame->tcp_window_scale = option[2];
    } else if (option[0] == TCP_SACK_PERMITTED && length == 2) {
        frame->has |= LAB_HAS_SACK_PERMITTED;
    } else if (option[0] == TCP_TIMES && length == 10) {
        frame->has |= LAB_HAS_TIMESTAMPS;
        frame->tcp_ts_value = get32(option + 2);
        frame->tcp_ts_echo = get32(option + 6);
    } else if (option[0] == TCP_SACK && length % 8 == 2) { /* 40 bytes of options hold four blocks at most */
        frame->tcp_sacks = (uint8_t)(length / 8);
        for (size_t i = 0; i < 2U * frame->tcp_sacks; i++) frame->tcp_sack[i] = get32(option + 2 + 4 * i);
    }
}

/* option, end: the bytes of the list that may be looked at. */
static void tcp_options(struct lab_frame *frame, const unsigned char *option, const unsigned char *end) {
    while (option < end && *option != TCP_END) {
        if (*option == TCP_NOTHING) {
            option++;
            continue;
        }
        if (end - option < 2 || option[1] < 2 || end - option < option[1]) return;
        tcp_option(frame, option, option[1]);
        option += option[1];
    }
}

static void tcp(struct walk *walk) {
    struct lab_frame *frame = walk->frame;
    const unsigned char *header = next(walk, TCP_HEADER);
    if (!header) return;
    frame->has |= LAB_HAS_TCP;
    frame->tcp_seq = get32(header + 4);
    frame->tcp_ack = get32(header + 8);
    frame->tcp_flags = get16(header + 12) & 0xfff;
    frame->tcp_window = (uint16_t)get16(header + 14);
    size_t length = (size_t)(header[12] >> 4) * 4;
    if (length < TCP_HEADER) return;
    tcp_options(frame, header + TCP_HEADER, header + least(length, walk->seen - walk->at));
    if (!next(walk, length)) return;
    walk->at += length;
    has_payload(walk);
}

static void udp(struct walk *walk) {
    const unsigned char *header = next(walk, UDP_HEADER);
    if (!header) return;
    size_t length = get16(header + 4);
    if (length && length < UDP_HEADER) return;
    /* Of a jumbogram it is 0; of a datagram in fragments it counts them all. */
    if (length && (length <= walk->end - walk->at || !(walk->frame->has & LAB_HAS_FRAGMENT)))
        ends_at(walk, walk->at + length);
    walk->at += UDP_HEADER;
    has_payload(walk);
}

static void icmp(struct walk *walk) {
    struct lab_frame *frame = walk->frame;
    const unsigned char *header = next(walk, 2);
    if (!header) return;
    frame->has |= LAB_HAS_ICMP;
    frame->icmp_type = header[0];
    frame->icmp_code = header[1];
    if (!next(walk, ICMP_HEADER)) return;
    bool echo = frame->family == 4 ? header[0] == ECHO_REQUEST_4 || header[0] == ECHO_REPLY_4
                                   : header[0] == ECHO_REQUEST_6 || header[0] == ECHO_REPLY_6;
    if (echo) {
        frame->has |= LAB_HAS_ECHO;
        frame->icmp_id = (uint16_t)get16(header + 4);
        frame->icmp_seq = (uint16_t)get16(header + 6);
    }
    walk->at += ICMP_HEADER;
    has_payload(walk);
}

static void transport(struct walk *walk, bool checksums) {
    struct lab_frame *frame = walk->frame;
    size_t begin = walk->at;
    bool ports = frame->protocol == IPPROTO_TCP || frame->protocol == IPPROTO_UDP;
    if (frame->fragment_offset) {
        has_payload(walk);
        return;
    }
    if (ports && next(walk, 4)) {
        frame->has |= LAB_HAS_PORTS;
        frame->source_port = (uint16_t)get16(walk->bytes + walk->at);
        frame->destination_port = (uint16_t)get16(walk->bytes + walk->at + 2);
    }
    if (frame->protocol == IPPROTO_TCP) tcp(walk);
    else if (frame->protocol == IPPROTO_UDP) udp(walk);
    else if (frame->protocol == (frame->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) icmp(walk);
    else has_payload(walk);
    if (checksums && frame->has & (LAB_HAS_PORTS | LAB_HAS_ICMP) && !frame->more_fragments)
        frame->checksum = checksum_state(frame, walk->destination, walk->bytes + begin, walk->end - begin, walk->whole);
}

/* ---- network ---- */

static void ip4(struct walk *walk, bool checksums) {
    struct lab_frame *frame = walk->frame;
    const unsigned char *header = next(walk, IP4_HEADER);
    if (!header || header[0] >> 4 != 4 || (header[0] & 0xf) * 4 < IP4_HEADER) return;
    size_t length = (size_t)(header[0] & 0xf) * 4, total = get16(header + 2);
    uint32_t fragment = get16(header + 6);
    frame->has |= LAB_HAS_IP;
    frame->family = 4;
    frame->network_offset = (uint16_t)walk->at;
    frame->ttl = header[8];
    frame->protocol = header[9];
    memcpy(frame->source, header + 12, 4);
    memcpy(frame->destination, header + 16, 4);
    walk->destination = frame->destination;
    if (fragment & (IP4_MORE | IP4_OFFSET)) {
        frame->has |= LAB_HAS_FRAGMENT;
        frame->fragment_id = get16(header + 4);
        frame->fragment_offset = (fragment & IP4_OFFSET) * 8;
        frame->more_fragments = (fragment & IP4_MORE) != 0;
    }
    if (total) ends_at(walk, walk->at + total); /* 0: segmentation is left to the device, or more than 16 bits hold */
    if (!next(walk, length)) return;
    walk->at += length;
    transport(walk, checksums);
}

/* Where a packet with this routing header goes in the end; NULL: its type is not known. */
static const unsigned char *routed_to(const unsigned char *header, size_t length, const unsigned char *destination) {
    enum { SOURCE_ROUTE = 0, HOME_ADDRESS = 2, SEGMENTS = 4, HEAD = 8, ADDRESS = 16 };
    if (header[3] == 0) return destination; /* it is there */
    if (length < HEAD + ADDRESS) return NULL;
    if (header[2] == SEGMENTS) return header + HEAD; /* the last comes first */
    if (header[2] == SOURCE_ROUTE || header[2] == HOME_ADDRESS) return header + length - ADDRESS;
    return NULL;
}

static bool is_extension(uint8_t protocol) {
    switch (protocol) {
    case IPPROTO_HOPOPTS: case IPPROTO_ROUTING: case IPPROTO_FRAGMENT: case IPPROTO_AH: case IPPROTO_DSTOPTS:
    case IPPROTO_MH: case HEADER_HIP: case HEADER_SHIM6: return true;
    default: return false;
    }
}

/* Steps over one extension header. False: not all of it is there. */
static bool step_over_extension(struct walk *walk) {
    struct lab_frame *frame = walk->frame;
    const unsigned char *header = next(walk, SHORTEST_EXTENSION);
    if (!header) return false;
    size_t length = ((size_t)header[1] + 1) * 8;
    if (frame->protocol == IPPROTO_AH) length = ((size_t)header[1] + 2) * 4;
    if (frame->protocol == IPPROTO_FRAGMENT) length = FRAGMENT_HEADER;
    if (!next(walk, length)) return false;
    if (frame->protocol == IPPROTO_ROUTING && walk->destination)
        walk->destination = routed_to(header, length, walk->destination);
    if (frame->protocol == IPPROTO_FRAGMENT) {
        frame->has |= LAB_HAS_FRAGMENT;
        frame->fragment_id = get32(header + 4);
        frame->fragment_offset = get16(header + 2) & IP6_OFFSET;
        frame->more_fragments = header[3] & IP6_MORE;
    }
    frame->protocol = header[0];
    walk->at += length;
    return true;
}

static void ip6(struct walk *walk, bool checksums) {
    struct lab_frame *frame = walk->frame;
    const unsigned char *header = next(walk, IP6_HEADER);
    if (!header || header[0] >> 4 != 6) return;
    size_t length = get16(header + 4);
    frame->has |= LAB_HAS_IP;
    frame->family = 6;
    frame->network_offset = (uint16_t)walk->at;
    frame->protocol = header[6];
    frame->ttl = header[7];
    memcpy(frame->source, header + 8, 16);
    memcpy(frame->destination, header + 24, 16);
    walk->destination = frame->destination;
    walk->at += IP6_HEADER;
    /* 0 also stands for what 16 bits don't hold: a jumbogram, or segmentation that is left to the device. */
    if (length || walk->end - walk->at <= UINT16_MAX) ends_at(walk, walk->at + length);
    for (int i = 0; is_extension(frame->protocol) && !frame->fragment_offset; i++)
        if (i == LAB_MAX_EXTENSIONS || !step_over_extension(walk)) return;
    transport(walk, checksums);
}

/* ---- link ---- */

/* Steps over VLAN tags, and returns the type of what comes behind them. */
static uint32_t tagged(struct walk *walk, uint32_t type) {
    struct lab_frame *frame = walk->frame;
    for (int i = 0; type == TYPE_TAG || type == TYPE_SERVICE_TAG || type == TYPE_OLD_TAG; i++) {
        const unsigned char *tag = next(walk, TAG);
        if (!tag || i == LAB_MAX_TAGS) return TYPE_UNKNOWN;
        if (i == 0) frame->has |= LAB_HAS_VLAN, frame->vlan = (uint16_t)get16(tag);
        type = get16(tag + 2);
        walk->at += TAG;
    }
    if (type >= MIN_TYPE) {
        frame->has |= LAB_HAS_ETHERTYPE;
        frame->ethertype = (uint16_t)type;
    }
    return type;
}

/* Linux's cooked captures tell the direction in place of a link's header. */
static void cooked_direction(struct lab_frame *frame, uint32_t packet_type) {
    if (!frame->direction) frame->direction = packet_type == SLL_OUTGOING ? DIRECTION_OUT : DIRECTION_IN;
}

/* BSD's address family, in the byte order of whoever captured. */
static uint32_t type_of_family(const unsigned char *family) {
    uint32_t value = get32(family);
    if (value > UINT16_MAX) value = __builtin_bswap32(value);
    switch (value) {
    case 2: return TYPE_IP4;
    case 10: case 24: case 28: case 30: return TYPE_IP6; /* Linux, NetBSD and OpenBSD, FreeBSD, Darwin */
    default: return TYPE_UNKNOWN;
    }
}

static uint32_t type_by_version(const struct walk *walk) {
    const unsigned char *header = next(walk, 1);
    return !header ? TYPE_UNKNOWN : header[0] >> 4 == 4 ? TYPE_IP4 : header[0] >> 4 == 6 ? TYPE_IP6 : TYPE_UNKNOWN;
}

/* Steps over the link's header, and returns the type of what comes behind it. */
static uint32_t link_layer(struct walk *walk, uint32_t link_type) {
    const unsigned char *header;
    switch (link_type) {
    case LINK_ETHERNET: {
        if (!(header = next(walk, ETHERNET_HEADER))) return TYPE_UNKNOWN;
        walk->at += ETHERNET_HEADER;
        uint32_t type = tagged(walk, get16(header + 12));
        if (type != TYPE_UNKNOWN && type < MIN_TYPE) ends_at(walk, walk->at + type);
        return type;
    }
    case LINK_LINUX_SLL:
        if (!(header = next(walk, SLL_HEADER))) return TYPE_UNKNOWN;
        walk->at += SLL_HEADER;
        cooked_direction(walk->frame, get16(header));
        return tagged(walk, get16(header + 14));
    case LINK_LINUX_SLL2:
        if (!(header = next(walk, SLL2_HEADER))) return TYPE_UNKNOWN;
        walk->at += SLL2_HEADER;
        cooked_direction(walk->frame, header[10]);
        return tagged(walk, get16(header));
    case LINK_NULL: case LINK_LOOP:
        if (!(header = next(walk, NULL_HEADER))) return TYPE_UNKNOWN;
        walk->at += NULL_HEADER;
        return type_of_family(header);
    case LINK_RAW: case LINK_RAW_BSD: case LINK_RAW_OPENBSD: return type_by_version(walk);
    case LINK_IPV4: return TYPE_IP4;
    case LINK_IPV6: return TYPE_IP6;
    default: return TYPE_UNKNOWN;
    }
}

void lab_dissect(struct lab_frame *frame, const unsigned char *bytes, uint32_t link_type, int32_t checksums) {
    uint8_t direction = frame->direction;
    const size_t given = offsetof(struct lab_frame, has);
    memset((unsigned char *)frame + given, 0, sizeof *frame - given);
    frame->direction = direction;
    struct walk walk = {.frame = frame, .bytes = bytes, .seen = frame->captured};
    walk.end = frame->length > frame->captured ? frame->length : frame->captured;
    walk.whole = walk.end == walk.seen;
    switch (link_layer(&walk, link_type)) {
    case TYPE_IP4: ip4(&walk, checksums != 0); break;
    case TYPE_IP6: ip6(&walk, checksums != 0); break;
    case TYPE_UNKNOWN: break;
    default: has_payload(&walk); break;
    }
}
