/* Bytes of a request, whose reply some bytes are, and the clock. No sockets. */
#include "check.h"

enum { ID = 0xbeef, MARGIN = 64, SOME = 200000 };
#define NONCE 0x0123456789abcdefULL

static const int every_kind[] = {LAB_ICMP_RAW, LAB_ICMP_PING, LAB_UDP, LAB_TCP};

static struct lab_stream stream_of(int kind, int size) {
    snprintf(trying, sizeof trying, "IPv%d, kind %d, %d bytes", family == AF_INET ? 4 : 6, kind, size);
    return (struct lab_stream){.kind = kind, .family = family, .size = size, .icmp_id = ID, .nonce = NONCE};
}

/* xorshift64: the same bytes on every run. */
static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- requests ---- */

/* RFC 1071 by the book: what the receiver computes over header, checksum and data. */
static unsigned sum_of(const unsigned char *bytes, size_t length) {
    unsigned long sum = 0;
    for (size_t i = 0; i < length; i++) sum += i % 2 ? bytes[i] : (unsigned long)bytes[i] << 8;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (unsigned)sum;
}

static void check_request(const struct message *message, int kind, int size, uint64_t seq) {
    bool icmp = kind == LAB_ICMP_RAW || kind == LAB_ICMP_PING;
    const unsigned char *bytes = message->bytes;
    struct payload head;
    memcpy(&head, bytes + (icmp ? 8 : 0), LAB_MIN_PAYLOAD_ICMP);
    CHECK(head.nonce == NONCE && head.seq == seq);
    CHECK_EQUAL(message->length, (size_t)size + (icmp ? 8 : 0));
    if (!icmp) return;
    CHECK_EQUAL(bytes[0], family == AF_INET ? 8 : 128);
    CHECK_EQUAL(bytes[1], 0);
    CHECK_EQUAL(bytes[4] << 8 | bytes[5], ID);
    CHECK_EQUAL(bytes[6] << 8 | bytes[7], (int)(seq & 0xffff));
    /* Elsewhere the kernel computes it. */
    if (kind == LAB_ICMP_RAW && family == AF_INET)
        CHECK_EQUAL(sum_of(bytes, message->length), 0xffff);
    else
        CHECK(!bytes[2] && !bytes[3]);
}

static void check_requests(int kind, int size) {
    const uint64_t special[] = {0, 1, 0xffff, 0x10000, 1ULL << 32, SEQ_UNRECORDED, SEQ_GOODBYE, 0};
    struct lab_stream stream = stream_of(kind, size);
    unsigned char *bytes = malloc((size_t)size + 8);
    struct message message;
    uint64_t random = 1;
    message_prepare(&message, &stream, bytes);
    for (int i = 0; i < 300; i++) {
        uint64_t seq = i < 8 ? special[i] : next_random(&random);
        message_number(&message, seq);
        check_request(&message, kind, size, seq);
    }
    free(bytes);
}

static void requests_are_well_formed(void) {
    const int sizes[] = {16, 17, 31, 32, 33, 56, 57, 1440, 1441, LAB_MAX_PAYLOAD - 1, LAB_MAX_PAYLOAD};
    for (int k = 0; k < 4; k++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            if (every_kind[k] < LAB_UDP || sizes[i] >= LAB_MIN_PAYLOAD) check_requests(every_kind[k], sizes[i]);
}

/* ---- replies ---- */

/* A reply as the kernel or the reflector would give it, made by hand. */
struct given {
    unsigned char bytes[256];
    size_t length, ip, icmp; /* length of all; lengths of the headers, 0 where there is none */
};

static struct given reply_to(const struct lab_stream *stream, uint64_t seq, size_t ip_words) {
    struct given given = {0};
    bool icmp = stream->kind == LAB_ICMP_RAW || stream->kind == LAB_ICMP_PING;
    struct payload head = {.nonce = stream->nonce, .seq = seq, .far_rx_ns = 111, .far_tx_ns = 222};
    given.ip = stream->kind == LAB_ICMP_RAW && family == AF_INET ? 4 * ip_words : 0;
    given.icmp = icmp ? 8 : 0;
    given.length = given.ip + given.icmp + (size_t)stream->size;
    memset(given.bytes, 0xee, given.length);
    if (given.ip) {
        given.bytes[0] = (unsigned char)(0x40 | ip_words);
        given.bytes[8] = 63;
        memcpy(given.bytes + 12, (unsigned char[]){127, 0, 0, 1}, 4);
    }
    unsigned char *at = given.bytes + given.ip;
    if (icmp) {
        at[0] = family == AF_INET ? 0 : 129;
        at[1] = 0;
        at[4] = ID >> 8, at[5] = ID & 0xff;
        at[6] = (unsigned char)(seq >> 8), at[7] = (unsigned char)seq;
    }
    memcpy(at + given.icmp, &head, icmp ? LAB_MIN_PAYLOAD_ICMP : sizeof head);
    return given;
}

/* Asks with a heap buffer of just that length, so that AddressSanitizer sees every byte read behind it. */
static bool matches(const struct lab_stream *stream, const unsigned char *bytes, size_t length, struct reply *reply) {
    unsigned char request[8 + 256];
    struct message message;
    unsigned char *room = malloc(1 + length); /* of no bytes, malloc would give one */
    message_prepare(&message, stream, request);
    memcpy(room + 1, bytes, length);
    bool matched = message_match(&message, room + 1, length, reply);
    free(room);
    return matched;
}

static bool given_matches(const struct lab_stream *stream, const struct given *given) {
    struct reply reply = {0};
    return matches(stream, given->bytes, given->length, &reply);
}

static void replies_are_read(void) {
    for (int k = 0; k < 4; k++) {
        for (size_t words = 5; words <= 15; words++) {
            struct lab_stream stream = stream_of(every_kind[k], 57);
            struct given given = reply_to(&stream, 0x8000000000000123, words);
            struct reply reply = {.rx_ns = 7};
            CHECK(matches(&stream, given.bytes, given.length, &reply));
            CHECK(reply.seq == 0x8000000000000123 && reply.rx_ns == 7);
            CHECK_EQUAL(reply.bytes, 57);
            CHECK_EQUAL(reply.far_rx_ns, given.icmp ? 0 : 111);
            CHECK_EQUAL(reply.far_tx_ns, given.icmp ? 0 : 222);
            CHECK_EQUAL(reply.has_source, given.ip > 0);
            CHECK_EQUAL(reply.ttl, given.ip ? 63 : 0);
            if (given.ip) CHECK(!memcmp(reply.source, given.bytes + 12, 4));
        }
    }
}

/* Every reply that is cut anywhere matches as long as what tells whose it is is there, and then says its length. */
static void replies_cut_anywhere(void) {
    for (int k = 0; k < 4; k++) {
        struct lab_stream stream = stream_of(every_kind[k], 57);
        struct given given = reply_to(&stream, 5, 6);
        size_t least = given.ip + (given.icmp ? 8 + LAB_MIN_PAYLOAD_ICMP : LAB_MIN_PAYLOAD);
        for (size_t length = 0; length <= given.length; length++) {
            struct reply reply = {0};
            bool matched = matches(&stream, given.bytes, length, &reply);
            CHECK_EQUAL(matched, length >= least);
            if (matched) CHECK_EQUAL(reply.bytes, (int)(length - given.ip - given.icmp));
        }
    }
}

/* Whether the reply still matches with `value` at `at`. */
static bool with_byte(const struct lab_stream *stream, size_t at, int value) {
    struct given given = reply_to(stream, 5, 5);
    given.bytes[at] = (unsigned char)value;
    return given_matches(stream, &given);
}

static void replies_of_others(void) {
    for (int k = 0; k < 4; k++) {
        struct lab_stream stream = stream_of(every_kind[k], 57);
        struct given given = reply_to(&stream, 5, 5);
        size_t payload = given.ip + given.icmp;
        CHECK(given_matches(&stream, &given));
        for (size_t i = 0; i < 8; i++) CHECK(!with_byte(&stream, payload + i, given.bytes[payload + i] ^ 0x10));
        if (!given.icmp) continue;
        int type = family == AF_INET ? 0 : 129;
        for (int other = 0; other < 256; other++) CHECK_EQUAL(with_byte(&stream, given.ip, other), other == type);
        /* A ping socket gets only its own; the identifier is the kernel's, not the one asked for. */
        bool any = stream.kind == LAB_ICMP_PING;
        CHECK_EQUAL(with_byte(&stream, given.ip + 4, (ID >> 8) ^ 1), any);
        CHECK_EQUAL(with_byte(&stream, given.ip + 5, (ID & 0xff) ^ 1), any);
    }
}

static void ip_headers_that_lie(void) {
    struct lab_stream stream = stream_of(LAB_ICMP_RAW, 57);
    struct given given;
    for (size_t words = 0; words <= 4; words++) { /* what follows such a header would be a good reply */
        given = reply_to(&stream, 5, words);
        CHECK(!given_matches(&stream, &given));
        CHECK(!with_byte(&stream, 0, 0x40 | (int)words));
    }
    given = reply_to(&stream, 5, 5);
    for (size_t length = 20; length < 60; length++) {
        struct reply reply = {0};
        given.bytes[0] = 0x4f; /* 60 bytes of header, it says */
        CHECK(!matches(&stream, given.bytes, length, &reply));
    }
}

/* ---- anything at all ---- */

/* What message_match should say, in the plainest words. */
static bool is_reply(const struct lab_stream *stream, const unsigned char *bytes, size_t length) {
    size_t at = 0, head = LAB_MIN_PAYLOAD;
    if (stream->kind == LAB_ICMP_RAW && family == AF_INET) {
        if (length < 20) return false;
        at = 4u * (bytes[0] % 16);
        if (at < 20) return false;
    }
    if (stream->kind == LAB_ICMP_RAW || stream->kind == LAB_ICMP_PING) {
        if (length < at + 8 || bytes[at] != (family == AF_INET ? 0 : 129)) return false;
        if (stream->kind == LAB_ICMP_RAW && (bytes[at + 4] * 256 + bytes[at + 5]) != ID) return false;
        at += 8;
        head = LAB_MIN_PAYLOAD_ICMP;
    }
    uint64_t nonce;
    if (length < at + head) return false;
    memcpy(&nonce, bytes + at, sizeof nonce);
    return nonce == NONCE;
}

/* Changes some bytes of a good reply, mostly in its headers, and cuts or lengthens it. */
static void maim(struct given *given, uint64_t *random) {
    for (uint64_t changes = next_random(random) % 3; changes; changes--) {
        uint64_t r = next_random(random);
        size_t at = r % 2 ? (r >> 8) % given->length : (r >> 8) % 29;
        given->bytes[at] = (unsigned char)(r >> 32);
    }
    if (next_random(random) % 2) given->length = next_random(random) % (given->length + MARGIN);
}

static void maimed_replies(void) {
    uint64_t random = 0x5eed;
    long matched[4] = {0}, refused[4] = {0};
    for (int i = 0; i < SOME; i++) {
        struct lab_stream stream = stream_of(every_kind[i % 4], 57);
        struct given given = reply_to(&stream, next_random(&random), next_random(&random) % 16);
        maim(&given, &random);
        bool match = given_matches(&stream, &given);
        CHECK_EQUAL(match, is_reply(&stream, given.bytes, given.length));
        if (match)
            matched[i % 4]++;
        else
            refused[i % 4]++;
    }
    for (int k = 0; k < 4; k++) CHECK(matched[k] > SOME / 100 && refused[k] > SOME / 100);
}

/* ---- clock.c ---- */

static void clock_cost_is_plausible(void) {
    int64_t step = 0;
    CHECK_EQUAL(lab_clock_cost(0, &step), -EINVAL);
    CHECK_EQUAL(lab_clock_cost(-1, &step), -EINVAL);
    int64_t before = now_ns();
    int64_t cost_ps = lab_clock_cost(100000, &step);
    int64_t took_ns = now_ns() - before;
    CHECK(cost_ps > 0 && cost_ps / 1000 <= took_ns / 100000);
    CHECK(step > 0 && step <= took_ns);
}

/* Most reads of such a clock see no difference; the smallest that is seen is its step. */
static void clock_step_of_a_coarse_clock(void) {
    int64_t step = 0;
    tamper.coarse_ns = 100000;
    CHECK(lab_clock_cost(1000000, &step) > 0);
    CHECK(step > 0 && step % tamper.coarse_ns == 0);
    tamper.coarse_ns = SECOND; /* no difference at all, or one */
    CHECK(lab_clock_cost(10, &step) >= 0);
    CHECK(step == 0 || step == SECOND);
}

const struct check message_checks[] = {
    CASE(requests_are_well_formed, BOTH_FAMILIES),
    CASE(replies_are_read, BOTH_FAMILIES),
    CASE(replies_cut_anywhere, BOTH_FAMILIES),
    CASE(replies_of_others, BOTH_FAMILIES),
    CASE(ip_headers_that_lie, 0),
    CASE(maimed_replies, BOTH_FAMILIES),
    CASE(clock_cost_is_plausible, 0),
    CASE(clock_step_of_a_coarse_clock, 0),
    {0},
};
