/* The layers of frames that were made by hand, of every link type; whole, cut at every byte, and changed at random. */
#include "check.h"
#include "frames.h"

enum { CHANGES = 20000, MAX_SAMPLE = 512 };

struct sample {
    const char *name;
    uint32_t link_type;
    const char *hex; /* spaces part the headers' fields */
    struct lab_frame want; /* its flags are given; its length too, if the frame was cut */
};

#define ETHERNET "020000000002 020000000001 "
#define IP4_PAIR "7f000001 7f00004d "
#define IP6_PAIR "20010db8000000000000000000000001 20010db8000000000000000000000002 "
#define PORTS "9c40 0035 "
#define TCP_START "9c41 1f90 11223344 55667788 "

#define IS_TYPE(type) .ethertype = (type)
#define IS_IP4(at) .network_offset = (at), .family = 4, .source = {127, 0, 0, 1}, .destination = {127, 0, 0, 77}
#define IS_IP6(at)                                                                          \
    .network_offset = (at), .family = 6, .source = {0x20, 1, 0xd, 0xb8, [15] = 1},          \
    .destination = {0x20, 1, 0xd, 0xb8, [15] = 2}
#define IS_UDP .protocol = IPPROTO_UDP, .source_port = 40000, .destination_port = 53
#define IS_TCP                                                                 \
    .protocol = IPPROTO_TCP, .source_port = 40001, .destination_port = 8080,   \
    .tcp_seq = 0x11223344, .tcp_ack = 0x55667788, .tcp_window = 0x7fff
#define PAYLOAD(offset, length) .payload_offset = (offset), .payload_length = (length)

enum {
    TYPE = LAB_HAS_ETHERTYPE, IP = LAB_HAS_IP, REST = LAB_HAS_PAYLOAD,
    UDP = LAB_HAS_PORTS | REST, TCP = LAB_HAS_PORTS | LAB_HAS_TCP | REST, ICMP = LAB_HAS_ICMP | REST,
};

static const struct sample samples[] = {
    {"UDP, padded", LINK_ETHERNET,
     ETHERNET "0800 " "45 00 0021 1234 0000 40 11 6a4a " IP4_PAIR
              PORTS "000d 3b49 6162636465 00000000000000000000000000",
     {.has = TYPE | IP | UDP, IS_TYPE(0x0800), IS_IP4(14), .ttl = 64, IS_UDP, PAYLOAD(42, 5),
      .checksum = LAB_CHECKSUM_GOOD}},
    {"SYN with every option", LINK_ETHERNET,
     ETHERNET "0800 " "45 00 003c 1234 0000 40 06 6a3a " IP4_PAIR TCP_START "a0 02 7fff fe61 0000 "
              "0204ffd7 0402 080a0102030400000000 01 030307",
     {.has = TYPE | IP | TCP | LAB_HAS_MSS | LAB_HAS_SACK_PERMITTED | LAB_HAS_TIMESTAMPS | LAB_HAS_WINDOW_SCALE,
      IS_TYPE(0x0800), IS_IP4(14), .ttl = 64, IS_TCP, .tcp_flags = 2, .tcp_mss = 65495, .tcp_ts_value = 0x01020304,
      .tcp_window_scale = 7, PAYLOAD(74, 0), .checksum = LAB_CHECKSUM_GOOD}},
    {"three SACK blocks", LINK_ETHERNET,
     ETHERNET "86dd " "60000000 003f 06 3f " IP6_PAIR TCP_START "f0 10 7fff 6491 0000 "
              "01 01 080a0000000500000006 01 01 051a 0000000a00000014 0000001e00000028 000000320000003c 78797a",
     {.has = TYPE | IP | TCP | LAB_HAS_TIMESTAMPS, IS_TYPE(0x86dd), IS_IP6(14), .ttl = 63, IS_TCP, .tcp_flags = 16,
      .tcp_ts_value = 5, .tcp_ts_echo = 6, .tcp_sacks = 3, .tcp_sack = {10, 20, 30, 40, 50, 60}, PAYLOAD(114, 3),
      .checksum = LAB_CHECKSUM_GOOD}},
    {"echo request behind IPv4 options", LINK_ETHERNET,
     ETHERNET "0800 " "48 00 002c 0001 0000 01 01 ad77 "
              IP4_PAIR "070b040000000000000000 00 0800 5a38 beef 0007 70696e67",
     {.has = TYPE | IP | ICMP | LAB_HAS_ECHO, IS_TYPE(0x0800), IS_IP4(14), .ttl = 1, .protocol = IPPROTO_ICMP,
      .icmp_type = 8,
      .icmp_id = 0xbeef, .icmp_seq = 7, PAYLOAD(54, 4), .checksum = LAB_CHECKSUM_GOOD}},
    {"echo reply behind two tags", LINK_ETHERNET,
     ETHERNET "88a8 6005 8100 004d 86dd " "60000000 000c 3a 3f " IP6_PAIR "8100 446a 0001 0002 706f6e67",
     {.has = LAB_HAS_VLAN | TYPE | IP | ICMP | LAB_HAS_ECHO, .vlan = 0x6005, IS_TYPE(0x86dd), IS_IP6(22), .ttl = 63,
      .protocol = IPPROTO_ICMPV6, .icmp_type = 129, .icmp_id = 1, .icmp_seq = 2, PAYLOAD(70, 4),
      .checksum = LAB_CHECKSUM_GOOD}},
    {"first fragment", LINK_ETHERNET,
     ETHERNET "0800 " "45 00 002c 1234 2000 40 11 4a3f " IP4_PAIR PORTS "0030 0000 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
     {.has = TYPE | IP | UDP | LAB_HAS_FRAGMENT, IS_TYPE(0x0800), IS_IP4(14), .ttl = 64, IS_UDP, .fragment_id = 0x1234,
      .more_fragments = 1, PAYLOAD(42, 16)}},
    {"last fragment", LINK_ETHERNET,
     ETHERNET "0800 " "45 00 002c 1234 0003 40 11 6a3c " IP4_PAIR "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
     {.has = TYPE | IP | REST | LAB_HAS_FRAGMENT, IS_TYPE(0x0800), IS_IP4(14), .ttl = 64, .protocol = IPPROTO_UDP,
      .fragment_id = 0x1234, .fragment_offset = 24, PAYLOAD(34, 24)}},
    {"four extension headers, the last of a fragment that is all", LINK_ETHERNET,
     ETHERNET "86dd " "60000000 004d 00 3f " IP6_PAIR "2b 00 010400000000 " "3c 04 00 02 00000000 "
              "20010db8000000000000000000000003 20010db8000000000000000000000004 " "2c 00 010400000000 "
              "11 00 0000 0000cafe " PORTS "000d c415 68656c6c6f",
     {.has = TYPE | IP | UDP | LAB_HAS_FRAGMENT, IS_TYPE(0x86dd), IS_IP6(14), .ttl = 63, IS_UDP, .fragment_id = 0xcafe,
      PAYLOAD(126, 5), .checksum = LAB_CHECKSUM_GOOD}},
    {"first fragment of IPv6", LINK_ETHERNET,
     ETHERNET "86dd " "60000000 0020 2c 3f " IP6_PAIR "11 00 0001 cafebabe " PORTS "0030 0000 "
              "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
     {.has = TYPE | IP | UDP | LAB_HAS_FRAGMENT, IS_TYPE(0x86dd), IS_IP6(14), .ttl = 63, IS_UDP,
      .fragment_id = 0xcafebabe,
      .more_fragments = 1, PAYLOAD(70, 16)}},
    {"last fragment of IPv6", LINK_ETHERNET,
     ETHERNET "86dd " "60000000 0018 2c 3f " IP6_PAIR "3c 00 0018 cafebabe " "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
     {.has = TYPE | IP | REST | LAB_HAS_FRAGMENT, IS_TYPE(0x86dd), IS_IP6(14), .ttl = 63, .protocol = IPPROTO_DSTOPTS,
      .fragment_id = 0xcafebabe, .fragment_offset = 24, PAYLOAD(62, 16)}},
    {"ARP", LINK_ETHERNET, ETHERNET "0806 " "0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002",
     {.has = TYPE | REST, IS_TYPE(0x0806), PAYLOAD(14, 28)}},
    {"a spanning tree, padded", LINK_ETHERNET, "0180c2000000 020000000001 0007 " "424203 00000000 0000000000000000",
     {.has = REST, PAYLOAD(14, 7)}},
    {"port unreachable", LINK_RAW,
     "45 00 0038 1234 0000 40 01 6a43 " IP4_PAIR "0303 fb64 00000000 " "45 00 001c 1234 0000 40 11 6a4f " IP4_PAIR PORTS
     "0008 651a",
     {.has = IP | ICMP, IS_IP4(0), .ttl = 64, .protocol = IPPROTO_ICMP, .icmp_type = 3, .icmp_code = 3, PAYLOAD(28, 28),
      .checksum = LAB_CHECKSUM_GOOD}},
    {"UDP without a checksum, cooked", LINK_LINUX_SLL,
     "0004 0304 0006 000000000000 0000 0800 " "45 00 001d 1234 0000 40 11 6a4e " IP4_PAIR PORTS "0009 0000 78",
     {.has = TYPE | IP | UDP, IS_TYPE(0x0800), IS_IP4(16), .ttl = 64, IS_UDP, PAYLOAD(44, 1), .direction = 2,
      .checksum = LAB_CHECKSUM_ABSENT}},
    {"reset, cooked anew", LINK_LINUX_SLL2,
     "86dd 0000 00000001 0304 00 06 0000000000000000 " "60000000 0014 06 3f " IP6_PAIR TCP_START "50 14 7fff 0736 0000",
     {.has = TYPE | IP | TCP, IS_TYPE(0x86dd), IS_IP6(20), .ttl = 63, IS_TCP, .tcp_flags = 20, PAYLOAD(80, 0),
      .direction = 1,
      .checksum = LAB_CHECKSUM_GOOD}},
    {"no link header, from Darwin", LINK_NULL, "1e000000 " "60000000 0009 11 3f " IP6_PAIR PORTS "0009 99f1 6e",
     {.has = IP | UDP, IS_IP6(4), .ttl = 63, IS_UDP, PAYLOAD(52, 1), .checksum = LAB_CHECKSUM_GOOD}},
    {"no link header, from OpenBSD", LINK_LOOP,
     "00000002 " "45 00 001c 1234 0000 40 01 6a5f " IP4_PAIR "0000 fff8 0003 0004",
     {.has = IP | ICMP | LAB_HAS_ECHO, IS_IP4(4), .ttl = 64, .protocol = IPPROTO_ICMP, .icmp_id = 3, .icmp_seq = 4,
      PAYLOAD(32, 0), .checksum = LAB_CHECKSUM_GOOD}},
    {"segments left, length 0", LINK_ETHERNET,
     ETHERNET "0800 " "45 00 0000 0001 0000 40 06 7ca9 " IP4_PAIR TCP_START "50 18 7fff eeee 0000 676767676767",
     {.has = TYPE | IP | TCP, IS_TYPE(0x0800), IS_IP4(14), .ttl = 64, IS_TCP, .tcp_flags = 24, PAYLOAD(54, 6),
      .checksum = LAB_CHECKSUM_LEFT, .flags = FLAG_TCP_SEGMENTS_LEFT}},
    {"more than 16 bits tell, cut", LINK_ETHERNET,
     ETHERNET "86dd " "60000000 0000 06 40 " IP6_PAIR TCP_START "50 18 7fff eeee 0000 676767676767",
     {.has = TYPE | IP | TCP, IS_TYPE(0x86dd), IS_IP6(14), .ttl = 64, IS_TCP, .tcp_flags = 24, PAYLOAD(74, 100006),
      .checksum = LAB_CHECKSUM_LEFT, .flags = FLAG_CHECKSUM_NOT_READY, .length = 100080}},
    {"verified by the kernel, cut", LINK_RAW,
     "45 00 0421 1234 0000 40 11 664a " IP4_PAIR PORTS "040d 3b49 6162636465",
     {.has = IP | UDP, IS_IP4(0), .ttl = 64, IS_UDP, PAYLOAD(28, 1029), .checksum = LAB_CHECKSUM_VALID,
      .flags = FLAG_CHECKSUM_VALID, .length = 1057}},
    {"nothing behind the IPv6 header, padded", LINK_ETHERNET,
     ETHERNET "86dd " "60000000 0000 3b 40 " IP6_PAIR "000000000000",
     {.has = TYPE | IP | REST, IS_TYPE(0x86dd), IS_IP6(14), .ttl = 64, .protocol = IPPROTO_NONE, PAYLOAD(54, 0)}},
    {"authenticated", LINK_IPV6,
     "60000000 0024 33 3f " IP6_PAIR "06 02 0000 00000001 00000001 31323334 " TCP_START "50 11 7fff 0739 0000",
     {.has = IP | TCP, IS_IP6(0), .ttl = 63, IS_TCP, .tcp_flags = 17, PAYLOAD(76, 0), .checksum = LAB_CHECKSUM_GOOD}},
    {"routed by segments, one left", LINK_RAW_OPENBSD,
     "60000000 0031 2b 3f " IP6_PAIR "11 04 04 01 01000000 20010db8000000000000000000000009 "
     "20010db8000000000000000000000002 " PORTS "0009 94ea 73",
     {.has = IP | UDP, IS_IP6(0), .ttl = 63, IS_UDP, PAYLOAD(88, 1), .checksum = LAB_CHECKSUM_GOOD}},
    {"the pseudo-header's checksum alone", LINK_IPV4,
     "45 00 0020 1234 0000 40 11 6a4b " IP4_PAIR PORTS "000c fe6b 70617274",
     {.has = IP | UDP, IS_IP4(0), .ttl = 64, IS_UDP, PAYLOAD(28, 4), .checksum = LAB_CHECKSUM_LEFT}},
    {"a wrong checksum over an odd length", LINK_RAW_BSD,
     "45 00 002b 1234 0000 40 06 6a4b " IP4_PAIR TCP_START "50 10 7fff 1111 0000 6f6464",
     {.has = IP | TCP, IS_IP4(0), .ttl = 64, IS_TCP, .tcp_flags = 16, PAYLOAD(40, 3), .checksum = LAB_CHECKSUM_BAD}},
    {"IPv6 UDP without a checksum", LINK_RAW, "60000000 0009 11 3f " IP6_PAIR PORTS "0009 0000 6e",
     {.has = IP | UDP, IS_IP6(0), .ttl = 63, IS_UDP, PAYLOAD(48, 1), .checksum = LAB_CHECKSUM_BAD}},
    {"an option longer than the list", LINK_RAW,
     "45 00 0036 1234 0000 40 06 6a40 " IP4_PAIR TCP_START "80 02 7fff ea76 0000 020405b4 08 00 03 03 09 000000 2e2e",
     {.has = IP | TCP | LAB_HAS_MSS, IS_IP4(0), .ttl = 64, IS_TCP, .tcp_flags = 2, .tcp_mss = 1460, PAYLOAD(52, 2),
      .checksum = LAB_CHECKSUM_GOOD}},
    {"a TCP header too short to be one", LINK_RAW,
     "45 00 0028 1234 0000 40 06 6a4e " IP4_PAIR TCP_START "40 10 7fff 0000 0000",
     {.has = IP | LAB_HAS_PORTS | LAB_HAS_TCP, IS_IP4(0), .ttl = 64, IS_TCP, .tcp_flags = 16}},
    {"a datagram longer than its packet", LINK_RAW,
     "45 00 0021 1234 0000 40 11 6a4a " IP4_PAIR PORTS "0063 0ddf 73686f7274",
     {.has = IP | UDP, IS_IP4(0), .ttl = 64, IS_UDP, PAYLOAD(28, 5)}},
    {"a datagram shorter than its packet", LINK_RAW,
     "45 00 0023 1234 0000 40 11 6a48 " IP4_PAIR PORTS "000d 3b49 6162636465 ffff",
     {.has = IP | UDP, IS_IP4(0), .ttl = 64, IS_UDP, PAYLOAD(28, 5), .checksum = LAB_CHECKSUM_GOOD}},
    {"a datagram shorter than its header", LINK_RAW, "45 00 001d 1234 0000 40 11 6a4e " IP4_PAIR PORTS "0007 1234 78",
     {.has = IP | LAB_HAS_PORTS, IS_IP4(0), .ttl = 64, IS_UDP}},
    {"ports alone", LINK_RAW, "45 00 0018 1234 0000 40 11 6a53 " IP4_PAIR PORTS,
     {.has = IP | LAB_HAS_PORTS, IS_IP4(0), .ttl = 64, IS_UDP}},
    {"a packet shorter than its header", LINK_RAW, "45 00 0010 1234 0000 40 11 0000 " IP4_PAIR PORTS,
     {.has = IP, IS_IP4(0), .ttl = 64, .protocol = IPPROTO_UDP}},
    {"a version that the type contradicts", LINK_ETHERNET, ETHERNET "86dd " "45 00 001c 1234 0000 40 01 6a5f " IP4_PAIR,
     {.has = TYPE, IS_TYPE(0x86dd)}},
    {"an unknown link", 147, ETHERNET "0800 ", {.has = 0}},
};
enum { SAMPLES = sizeof samples / sizeof *samples };

/* ---- what they have in common ---- */

static size_t from_hex(unsigned char *to, const char *hex) {
    size_t length = 0;
    for (unsigned value; *hex; hex += 2) {
        hex += strspn(hex, " ");
        if (!*hex) break;
        CHECK(length < MAX_SAMPLE && sscanf(hex, "%2x", &value) == 1);
        to[length++] = (unsigned char)value;
    }
    return length;
}

static size_t on_wire(const struct sample *sample, size_t captured) {
    return sample->want.length ? sample->want.length : captured;
}

/* Dissects the first `captured` of `length` bytes in memory of just that size, so that AddressSanitizer sees every byte
 * that is read behind it. The frame is filled with rubbish first. */
static struct lab_frame dissected(const struct sample *sample, const unsigned char *bytes, size_t captured,
                                  size_t length) {
    struct lab_frame frame;
    unsigned char *room = malloc(1 + captured); /* of no bytes, malloc would give one */
    memcpy(room + 1, bytes, captured);
    memset(&frame, 0xa5, sizeof frame);
    frame.captured = (uint32_t)captured;
    frame.length = (uint32_t)length;
    frame.flags = sample->want.flags;
    frame.direction = 0;
    lab_dissect(&frame, room + 1, sample->link_type, 1);
    free(room);
    return frame;
}

/* What lab_dissect fills. */
static const unsigned char *layers(const struct lab_frame *frame) {
    return (const unsigned char *)frame + offsetof(struct lab_frame, has);
}
enum { LAYERS = sizeof(struct lab_frame) - offsetof(struct lab_frame, has) };

/* ---- the checks ---- */

static void every_field_is_as_made(void) {
    for (int i = 0; i < SAMPLES; i++) {
        unsigned char bytes[MAX_SAMPLE];
        size_t length = from_hex(bytes, samples[i].hex);
        struct lab_frame frame = dissected(&samples[i], bytes, length, on_wire(&samples[i], length));
        snprintf(trying, sizeof trying, "%s", samples[i].name);
        CHECK_EQUAL(frame.has, samples[i].want.has);
        CHECK_EQUAL(frame.checksum, samples[i].want.checksum);
        for (size_t at = 0; at < LAYERS; at++)
            if (layers(&frame)[at] != layers(&samples[i].want)[at])
                fail_equal(__FILE__, __LINE__, "byte of the layers, as it should be", (long long)at,
                           layers(&samples[i].want)[at]);
    }
}

/* Fields of `cut` are those of `whole`, or 0 as their layer's bit is not there. */
static void check_cut(const struct lab_frame *cut, const struct lab_frame *whole) {
    CHECK_EQUAL(cut->has & ~whole->has, 0);
#define SAME(bit, field) \
    CHECK(!memcmp(&cut->field, cut->has & (bit) ? &whole->field : &(struct lab_frame){0}.field, sizeof cut->field))
    SAME(LAB_HAS_VLAN, vlan);
    SAME(LAB_HAS_ETHERTYPE, ethertype);
    SAME(LAB_HAS_IP, family);
    SAME(LAB_HAS_IP, source);
    SAME(LAB_HAS_IP, destination);
    SAME(LAB_HAS_IP, ttl);
    SAME(LAB_HAS_IP, network_offset);
    SAME(LAB_HAS_FRAGMENT, fragment_id);
    SAME(LAB_HAS_FRAGMENT, fragment_offset);
    SAME(LAB_HAS_FRAGMENT, more_fragments);
    SAME(LAB_HAS_PORTS, source_port);
    SAME(LAB_HAS_PORTS, destination_port);
    SAME(LAB_HAS_ICMP, icmp_type);
    SAME(LAB_HAS_ICMP, icmp_code);
    SAME(LAB_HAS_ECHO, icmp_id);
    SAME(LAB_HAS_ECHO, icmp_seq);
    SAME(LAB_HAS_TCP, tcp_flags);
    SAME(LAB_HAS_TCP, tcp_seq);
    SAME(LAB_HAS_TCP, tcp_ack);
    SAME(LAB_HAS_TCP, tcp_window);
    SAME(LAB_HAS_MSS, tcp_mss);
    SAME(LAB_HAS_WINDOW_SCALE, tcp_window_scale);
    SAME(LAB_HAS_TIMESTAMPS, tcp_ts_value);
    SAME(LAB_HAS_TIMESTAMPS, tcp_ts_echo);
    SAME(cut->tcp_sacks ? LAB_HAS_TCP : 0, tcp_sacks);
    SAME(cut->tcp_sacks ? LAB_HAS_TCP : 0, tcp_sack);
    SAME(LAB_HAS_PAYLOAD, payload_offset);
    SAME(LAB_HAS_PAYLOAD, payload_length);
#undef SAME
}

/* Of a frame that is cut anywhere, what is still told is what the whole frame tells. */
static void no_field_is_told_of_bytes_that_are_cut(void) {
    for (int i = 0; i < SAMPLES; i++) {
        unsigned char bytes[MAX_SAMPLE];
        size_t length = from_hex(bytes, samples[i].hex), wire = on_wire(&samples[i], length);
        struct lab_frame whole = dissected(&samples[i], bytes, length, wire);
        uint32_t had = 0;
        for (size_t captured = 0; captured < length; captured++) {
            struct lab_frame cut = dissected(&samples[i], bytes, captured, wire);
            snprintf(trying, sizeof trying, "%s, %zu of %zu bytes", samples[i].name, captured, length);
            check_cut(&cut, &whole);
            CHECK_EQUAL(had & ~cut.has, 0); /* more bytes tell more */
            if (cut.checksum == LAB_CHECKSUM_GOOD || cut.checksum == LAB_CHECKSUM_BAD)
                CHECK(captured >= whole.payload_offset + whole.payload_length);
            had = cut.has;
        }
    }
}

/* xorshift64: the same bytes on every run. */
static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Whatever the bytes are, none is read that is not there, and the payload lies within the frame. */
static void frames_may_hold_anything(void) {
    uint64_t random = 1;
    for (int i = 0; i < SAMPLES; i++) {
        unsigned char made[MAX_SAMPLE], bytes[MAX_SAMPLE];
        size_t length = from_hex(made, samples[i].hex);
        for (int change = 0; change < CHANGES; change++) {
            memcpy(bytes, made, length);
            for (uint64_t few = next_random(&random) % 4; few; few--)
                bytes[next_random(&random) % length] = (unsigned char)next_random(&random);
            size_t captured = next_random(&random) % 2 ? length : next_random(&random) % length;
            struct lab_frame frame = dissected(&samples[i], bytes, captured, length);
            snprintf(trying, sizeof trying, "%s, change %d", samples[i].name, change);
            CHECK(frame.payload_offset <= captured);
            CHECK(frame.payload_offset + frame.payload_length <= length);
            CHECK(frame.tcp_sacks <= 4 && frame.checksum <= LAB_CHECKSUM_ABSENT);
        }
    }
}

/* A list of headers or tags as long as that, and one more. */
static void check_limit(struct sample sample, const char *head, const char *each, const char *tail, int limit,
                        uint32_t beyond) {
    for (int count = limit; count <= limit + 1; count++) {
        char hex[2 * MAX_SAMPLE];
        unsigned char bytes[MAX_SAMPLE];
        strcpy(hex, head);
        for (int i = 0; i < count; i++) strcat(hex, each);
        strcat(hex, tail);
        size_t length = from_hex(bytes, hex);
        snprintf(trying, sizeof trying, "%s, %d of them", sample.name, count);
        CHECK_EQUAL(dissected(&sample, bytes, length, length).has, count == limit ? sample.want.has : beyond);
    }
}

static void walks_have_a_limit(void) {
    check_limit((struct sample){"tags", LINK_ETHERNET, .want.has = LAB_HAS_VLAN | TYPE | REST}, ETHERNET, "8100 0001 ",
                "0806 1234", LAB_MAX_TAGS, LAB_HAS_VLAN);
    check_limit((struct sample){"extension headers", LINK_RAW, .want.has = IP | REST}, "60000000 00a0 3c 3f " IP6_PAIR,
                "3c00010400000000", "3b00010400000000", LAB_MAX_EXTENSIONS - 1, IP);
}

/* The sum, by the book. */
static void sums_are_the_same_however_they_are_added(void) {
    enum { MOST = 70000 };
    unsigned char *bytes = malloc(MOST);
    uint64_t random = 1, sum = 0;
    for (size_t i = 0; i < MOST; i++) bytes[i] = next_random(&random) % 4 ? 0xff : (unsigned char)next_random(&random);
    for (size_t length = 0; length <= MOST; length++) {
        uint64_t folded = sum;
        while (folded >> 16) folded = (folded & 0xffff) + (folded >> 16);
        if (length < 100 || length > MOST - 100) CHECK_EQUAL(sum16(bytes, length), folded);
        if (length < MOST) sum += length % 2 ? bytes[length] : (uint64_t)bytes[length] << 8;
    }
    free(bytes);
}

const struct check dissect_checks[] = {
    CASE(every_field_is_as_made, 0),
    CASE(no_field_is_told_of_bytes_that_are_cut, 0),
    CASE(frames_may_hold_anything, 0),
    CASE(walks_have_a_limit, 0),
    CASE(sums_are_the_same_however_they_are_added, 0),
    {0},
};
