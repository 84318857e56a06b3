/* Decisions about frames, and which are neighbour discovery. No sockets. The draws themselves are derived anew in
 * tests/unit/test_wire.py. */
#include "check.h"

enum { FRAMES = 200000 };

static struct verdict decide_one(const struct lab_impairment *impairment, int64_t number) {
    bool bad = false;
    return decide(impairment, draw_key(1, 0), number, &bad);
}

/* ---- delays ---- */

static void check_delays(const struct lab_impairment *impairment) {
    int64_t previous = -1, changes = 0;
    for (int64_t number = 0; number < FRAMES; number++) {
        int64_t delay_ns = decide_one(impairment, number).delay_ns;
        CHECK(delay_ns >= 0);
        if (impairment->distribution == LAB_UNIFORM) CHECK(delay_ns <= impairment->delay_ns + impairment->ipdv_ns);
        if (impairment->distribution == LAB_PARETO) CHECK(delay_ns >= impairment->delay_ns);
        changes += delay_ns != previous;
        previous = delay_ns;
    }
    CHECK(impairment->ipdv_ns < 1000 ? changes >= 1 : changes > FRAMES / 4);
}

/* To the ends of what may be asked: no overflow, nothing below zero. */
static void no_delay_is_negative(void) {
    const int64_t spans[] = {0, 1, 1000, SECOND, LAB_MAX_TIMEOUT_NS};
    for (int distribution = LAB_UNIFORM; distribution <= LAB_PARETO; distribution++)
        for (int cut = LAB_CLIP; cut <= LAB_REDRAW; cut++)
            for (int i = 0; i < 25; i++) {
                struct lab_impairment impairment = {.delay_ns = spans[i / 5], .ipdv_ns = spans[i % 5], .limit = 1};
                impairment.distribution = distribution, impairment.cut = cut;
                snprintf(trying, sizeof trying, "distribution %d, cut %d, delay %lld, ipdv %lld", distribution, cut,
                         (long long)impairment.delay_ns, (long long)impairment.ipdv_ns);
                CHECK(impairment_valid(&impairment));
                check_delays(&impairment);
            }
}

/* ---- chances ---- */

static void certain_and_impossible(void) {
    struct lab_impairment never = {.delay_ns = MS, .limit = 1}, always = never;
    always.duplicate = always.reorder = always.corrupt = 1;
    for (int64_t number = 0; number < FRAMES; number++) {
        struct verdict verdict = decide_one(&never, number);
        CHECK(!verdict.lost && !verdict.duplicated && !verdict.reordered && !verdict.corrupted && verdict.delay_ns == MS);
        verdict = decide_one(&always, number);
        CHECK(!verdict.lost && verdict.duplicated && verdict.reordered && verdict.corrupted && verdict.delay_ns == 0);
    }
    always.loss = 1;
    struct verdict verdict = decide_one(&always, 0);
    CHECK(verdict.lost && !verdict.duplicated && !verdict.reordered && !verdict.corrupted);
}

/* Each in its own share, and two at once in the product of theirs: the draws of one frame are independent. */
static void chances_are_independent(void) {
    const struct lab_impairment impairment = {.duplicate = 0.2, .reorder = 0.3, .corrupt = 0.5, .limit = 1};
    int64_t seen[8] = {0};
    for (int64_t number = 0; number < FRAMES; number++) {
        struct verdict verdict = decide_one(&impairment, number);
        seen[verdict.duplicated | verdict.reordered << 1 | verdict.corrupted << 2]++;
    }
    for (int i = 0; i < 8; i++) {
        double expected = FRAMES * (i & 1 ? 0.2 : 0.8) * (i & 2 ? 0.3 : 0.7) * (i & 4 ? 0.5 : 0.5);
        double off = (double)seen[i] - expected;
        CHECK(off * off < 25 * expected); /* five standard deviations */
    }
}

static void a_chain_that_always_steps_alternates(void) {
    const struct lab_impairment impairment = {.loss_bad = 1, .to_bad = 1, .to_good = 1, .limit = 1};
    bool bad = false;
    for (int64_t number = 0; number < 1000; number++)
        CHECK_EQUAL(decide(&impairment, 0, number, &bad).lost, number % 2);
}

/* ---- neighbour discovery ---- */

/* Asks with a heap buffer of just that length, so that AddressSanitizer sees every byte read behind it. */
static bool found(const unsigned char *bytes, size_t length, size_t header) {
    unsigned char *room = malloc(length + 1);
    memcpy(room + 1, bytes, length);
    bool is = is_discovery(room + 1, length, header);
    free(room);
    return is;
}

static void discovery_is_told_by_type(void) {
    for (size_t header = 0; header <= 14; header += 14) {
        unsigned char frame[64] = {0};
        if (header) frame[12] = 0x86, frame[13] = 0xdd;
        frame[header] = 0x60, frame[header + 6] = 58;
        for (int type = 0; type < 256; type++) {
            frame[header + 40] = (unsigned char)type;
            CHECK_EQUAL(found(frame, header + 41, header), (type >= 130 && type <= 137) || type == 143);
            CHECK(!found(frame, header + 40, header));
        }
        frame[header + 40] = 135;
        for (size_t length = 0; length < sizeof frame; length++)
            CHECK_EQUAL(found(frame, length, header), length > header + 40);
        frame[header] = 0x45;
        CHECK(!found(frame, sizeof frame, header));
    }
    const unsigned char arp[60] = {[12] = 0x08, [13] = 0x06};
    for (size_t length = 0; length <= sizeof arp; length++) {
        CHECK_EQUAL(found(arp, length, 14), length > 14);
        CHECK(!found(arp, length, 0));
    }
}

const struct check impair_checks[] = {
    CASE(no_delay_is_negative, 0),
    CASE(certain_and_impossible, 0),
    CASE(chances_are_independent, 0),
    CASE(a_chain_that_always_steps_alternates, 0),
    CASE(discovery_is_told_by_type, 0),
    {0},
};
