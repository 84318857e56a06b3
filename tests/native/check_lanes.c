/* Linking the two copies of a packet: in order, with equal bytes, and after something is missing. No sockets. */
#include "capture.h"
#include "check.h"

static struct lab_interface_counts counts;
static struct lane lane;
static uint64_t ids;

/* A lane on which nothing had passed for long. */
static void begin(void) {
    memset(&counts, 0, sizeof counts);
    ids = 0;
    CHECK_EQUAL(lane_init(&lane, &counts, 0), 0);
}

/* A packet with this key goes out, or comes in, at the next nanosecond. Returns its id, or what it was linked to. */
static int64_t time_ns = SECOND;

static uint64_t out(uint64_t key) {
    lane_out(&lane, key, ++ids, ++time_ns);
    return ids;
}

static uint64_t in(uint64_t key) {
    return lane_in(&lane, key, ++time_ns);
}

static void expect(int64_t linked, int64_t unlinked) {
    CHECK_EQUAL(counts.linked, linked);
    CHECK_EQUAL(counts.unlinked, unlinked);
    free(lane.waiting);
}

/* ---- order ---- */

static void equal_packets_are_linked_in_order(void) {
    begin();
    for (int burst = 1; burst <= 64; burst++) {
        uint64_t first = ids + 1;
        for (int i = 0; i < burst; i++) out(7);
        for (int i = 0; i < burst; i++) CHECK_EQUAL(in(7), first + (uint64_t)i);
    }
    expect(64 * 65 / 2, 0);
}

static void what_never_comes_in_is_counted(void) {
    begin();
    for (int i = 0; i < 10; i++) out(7);
    CHECK_EQUAL(in(7), 1);
    lane_break(&lane);
    expect(1, 9);
}

static void a_queue_that_nothing_leaves_is_forgotten(void) {
    begin();
    for (int i = 0; i < LANE_ROOM + 5; i++) out(7);
    CHECK_EQUAL(lane.count, 5);
    CHECK_EQUAL(in(7), 0);
    expect(0, LANE_ROOM + 1);
}

/* ---- doubt ---- */

/* The capture began in the midst of a flood of equal packets: which is which, nobody can tell. */
static void nothing_is_linked_where_the_beginning_was_not_seen(void) {
    begin();
    lane.last_ns = time_ns;
    for (int i = 0; i < 1000; i++) {
        out(7);
        CHECK_EQUAL(in(7), 0);
    }
    expect(0, 1000); /* and as many wait */
}

static void silence_settles_who_is_who(void) {
    begin();
    lane.last_ns = time_ns;
    out(7);
    CHECK_EQUAL(in(7), 0);
    lane_break(&lane);
    time_ns += SECOND;
    uint64_t id = out(7);
    CHECK_EQUAL(in(7), id);
    expect(1, 2);
}

/* One vanished between the taps: no other is taken for it for ever. */
static void silence_forgets_who_never_came(void) {
    begin();
    out(7);
    for (int i = 0; i < 10; i++) {
        time_ns += SECOND;
        uint64_t id = out(7);
        CHECK_EQUAL(in(7), id);
    }
    expect(10, 1);
}

/* Equal packets after a loss: the next to come in may be any of them. */
static void a_loss_unlinks_equal_packets(void) {
    begin();
    for (int i = 0; i < 64; i++) out(7);
    lane_break(&lane); /* 32 more went out unseen, and then: */
    for (int i = 0; i < 32; i++) out(7);
    for (int i = 0; i < 128; i++) CHECK_EQUAL(in(7), 0);
    lane_break(&lane);
    expect(0, 64 + 32 + 128);
}

static void different_packets_are_found_again_after_a_loss(void) {
    begin();
    for (uint64_t key = 1; key <= 64; key++) out(key);
    lane_break(&lane);
    for (uint64_t key = 97; key <= 128; key++) out(key); /* 65 to 96 went out unseen */
    for (uint64_t key = 1; key <= 96; key++) CHECK_EQUAL(in(key), 0);
    for (uint64_t key = 97; key < 104; key++) CHECK_EQUAL(in(key), 0); /* these alone might be mistaken */
    for (uint64_t key = 104; key <= 128; key++) CHECK_EQUAL(in(key), key - 32);
    expect(25, 64 + 96 + 2 * 7);
}

/* One copy is missing, and no ring was full: the packet was dropped on its way, or took another CPU's queue. */
static void a_copy_that_is_missing_unlinks_few(void) {
    begin();
    for (uint64_t key = 1; key <= 1000; key++) {
        out(key);
        if (key == 500) continue;
        uint64_t id = in(key);
        CHECK_EQUAL(id, key < 500 || key > 508 ? key : 0);
    }
    expect(1000 - 9, 1 + 2 * 8); /* 500, and both copies of those after it that restored the order */
}

/* A queue of packets of some kinds, at random, with losses: packets that go out or come in unseen. Returns how many links
 * were wrong. */
static int64_t wrong_links(uint64_t seed, uint32_t kinds) {
    enum { ROOM = 256, STEPS = 20000 };
    struct waiting queue[ROOM];
    uint32_t first = 0, count = 0;
    int64_t wrong = 0;
    uint64_t state = seed;
    begin();
    for (int step = 0, unseen = 0; step < STEPS; step++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        uint32_t draw = (uint32_t)(state >> 33);
        if (!unseen && draw % 1500 == 0) {
            unseen = 1 + (int)(draw >> 12) % 40;
            lane_break(&lane);
        }
        bool goes_out = count == 0 || (count < ROOM && (draw >> 8) % 2);
        if (goes_out) {
            uint64_t key = draw % kinds * 2654435761U;
            queue[(first + count++) % ROOM] = (struct waiting){.key = key, .id = unseen ? 0 : out(key)};
        } else {
            struct waiting packet = queue[first++ % ROOM];
            uint64_t id = unseen ? 0 : in(packet.key);
            count--;
            wrong += id && id != packet.id;
        }
        unseen -= unseen > 0;
    }
    snprintf(trying, sizeof trying, "seed %llu, %u kinds: %lld right, %lld wrong", (unsigned long long)seed, kinds,
             (long long)(counts.linked - wrong), (long long)wrong);
    free(lane.waiting);
    return wrong;
}

static void no_link_is_wrong(void) {
    for (uint64_t seed = 1; seed <= 50; seed++) {
        CHECK_EQUAL(wrong_links(seed, UINT32_MAX), 0); /* no two are alike */
        CHECK(counts.linked > 5000);
        for (uint32_t kinds = 1; kinds <= 64; kinds *= 2) CHECK_EQUAL(wrong_links(seed, kinds), 0);
    }
}

/* ---- keys ---- */

static void keys_tell_bytes_and_lengths_apart(void) {
    unsigned char bytes[200], copy[200];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 37);
    for (size_t length = 1; length <= sizeof bytes; length++) {
        uint64_t key = frame_key(bytes, length, length);
        memcpy(copy, bytes, sizeof copy);
        CHECK(frame_key(copy, length, length) == key);
        CHECK(frame_key(bytes, length, length + 1) != key);
        CHECK(frame_key(bytes, length - 1, length) != key);
        for (size_t bit = 0; bit < length * 8; bit++) {
            copy[bit / 8] ^= (unsigned char)(1 << bit % 8);
            CHECK(frame_key(copy, length, length) != key);
            copy[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
    }
}

const struct check lane_checks[] = {
    CASE(equal_packets_are_linked_in_order, 0),
    CASE(what_never_comes_in_is_counted, 0),
    CASE(a_queue_that_nothing_leaves_is_forgotten, 0),
    CASE(nothing_is_linked_where_the_beginning_was_not_seen, 0),
    CASE(silence_settles_who_is_who, 0),
    CASE(silence_forgets_who_never_came, 0),
    CASE(a_loss_unlinks_equal_packets, 0),
    CASE(different_packets_are_found_again_after_a_loss, 0),
    CASE(a_copy_that_is_missing_unlinks_few, 0),
    CASE(no_link_is_wrong, 0),
    CASE(keys_tell_bytes_and_lengths_apart, 0),
    {0},
};
