/* Streams where all goes well: what is recorded, by either end's placement. */
#include <sched.h>
#include <signal.h>
#include <sys/time.h>

#include "check.h"

/* ---- all received ---- */

static int64_t inline_flags(const struct trial *trial) {
    int64_t found = 0;
    for (int64_t i = 0; i < trial->stream.count; i++) found += trial->rows[i].flags & LAB_FLAG_INLINE;
    return found;
}

/* Every probe of every size comes back, and nothing else is taken for a probe. */
static void received(int kind, enum placement placement, int wait) {
    const int sizes[] = {LAB_MIN_PAYLOAD, 56, 1440, LAB_MAX_PAYLOAD};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct trial trial = trial_open(
            (struct setup){.kind = kind, .placement = placement, .wait = wait, .size = sizes[i], .count = 200});
        tamper.recvmsg.fd = trial.stream.near_fd;
        trial_run(&trial);
        check_all_received(&trial);
        CHECK_EQUAL(tamper.recvmsg.calls, kind == LAB_UDP); /* the first reply pays for all */
        CHECK_EQUAL(trial.stream.foreign, 0);
        CHECK_EQUAL(trial.stream.far_foreign, 0);
        /* Who sleeps first never asks a queue; who asks first finds some reply there, as lo delivers within send(). */
        if (placement != INLINE && wait == LAB_BLOCK) CHECK_EQUAL(inline_flags(&trial), 0);
        if (placement == INLINE) CHECK(inline_flags(&trial) > 0);
        trial_close(&trial);
    }
}

static void received_inline(void) {
    for (int kind = LAB_UDP; kind <= LAB_TCP; kind++)
        for (int wait = LAB_BLOCK; wait <= LAB_SPIN; wait++) received(kind, INLINE, wait);
}

/* Two ends that spin on one CPU would wait for the scheduler: block only. */
static void received_same_cpu(void) {
    for (int kind = LAB_UDP; kind <= LAB_TCP; kind++) received(kind, SAME_CPU, LAB_BLOCK);
}

static void received_cross_cpu(void) {
    for (int kind = LAB_UDP; kind <= LAB_TCP; kind++)
        for (int wait = LAB_BLOCK; wait <= LAB_SPIN; wait++) received(kind, CROSS_CPU, wait);
}

/* ---- what is sent, and by whom ---- */

static void check_warmup(struct setup setup) {
    setup.warmup = 13, setup.count = 20;
    struct trial trial = trial_open(setup);
    trial_run(&trial);
    check_all_received(&trial);
    CHECK_EQUAL(tamper.requests.unrecorded, 13);
    CHECK_EQUAL(tamper.replies.unrecorded, 13);
    CHECK_EQUAL(tamper.requests.sent, 20);
    CHECK_EQUAL(tamper.replies.sent, 20);
    /* A reflector's thread is told to end, so that the call returns at once; it doesn't answer that. */
    CHECK_EQUAL(tamper.requests.goodbyes, setup.placement != INLINE);
    CHECK_EQUAL(tamper.replies.goodbyes, 0);
    trial_close(&trial);
}

static void warmup_is_not_recorded(void) {
    each_variant(check_warmup);
}

static void check_nothing(struct setup setup) {
    setup.warmup = 3;
    struct trial trial = trial_open(setup);
    trial.stream.count = 0;
    CHECK_EQUAL(trial_run(&trial), 0);
    CHECK_EQUAL(tamper.requests.unrecorded, 3);
    CHECK_EQUAL(trial.rows[0].tx_ns, 0);
    trial_close(&trial);
}

static void warmup_only(void) {
    each_variant(check_nothing);
}

/* The same ends, one stream after another: nothing of the first is taken for the second's. */
static void check_again(struct setup setup) {
    struct trial trial = trial_open(setup);
    for (int i = 0; i < 3; i++) {
        trial.stream.nonce += 1;
        memset(trial.rows, 0, (size_t)trial.stream.count * sizeof *trial.rows);
        trial_run(&trial);
        check_all_received(&trial);
    }
    trial_close(&trial);
}

static void ends_are_used_again(void) {
    each_variant(check_again);
}

/* The first reply's source is compared with the target that the caller names, and kept. */
static void check_source(struct setup setup) {
    if (setup.kind != LAB_UDP) return;
    for (setup.warmup = 0; setup.warmup <= 1; setup.warmup++) {
        struct trial trial = trial_open(setup);
        trial.stream.target[3] ^= 0x40;
        CHECK_EQUAL(trial_run(&trial), trial.stream.count);
        for (int64_t i = 0; i < trial.stream.count; i++) {
            bool read = i == 0 && !setup.warmup;
            CHECK_EQUAL(trial.rows[i].flags & ~LAB_FLAG_INLINE, read ? LAB_FLAG_OTHER_SOURCE : 0);
        }
        CHECK(trial.stream.source_seen);
        trial.stream.target[3] ^= 0x40;
        CHECK(!memcmp(trial.stream.reply_source, trial.stream.target, family == AF_INET ? 4 : 16));
        trial_close(&trial);
    }
}

static void other_source_is_flagged(void) {
    each_variant(check_source);
}

/* Called in the reflector's thread. */
static void look_around(void *argument) {
    const struct trial *trial = argument;
    sigset_t blocked;
    CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &blocked));
    CHECK(sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGALRM) && sigismember(&blocked, SIGTERM));
    CHECK_EQUAL(sched_getcpu(), trial->stream.far_cpu);
}

static void reflector_thread_is_pinned_and_takes_no_signals(void) {
    sigset_t before, after;
    struct trial trial = trial_open((struct setup){.kind = LAB_UDP, .placement = OWN_THREAD});
    tamper.send = (struct fault){.fd = trial.stream.far_fd, .hook = look_around, .argument = &trial};
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    trial_run(&trial);
    check_all_received(&trial);
    CHECK_EQUAL(tamper.send.calls, trial.stream.count);
    /* It sleeps without a timer, which would cost each round trip a little. */
    struct timeval slice = {.tv_sec = -1};
    socklen_t length = sizeof slice;
    CHECK(!getsockopt(trial.stream.far_fd, SOL_SOCKET, SO_RCVTIMEO, &slice, &length));
    CHECK(!slice.tv_sec && !slice.tv_usec);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (int i = 1; i < SIGRTMAX; i++) CHECK_EQUAL(sigismember(&before, i), sigismember(&after, i));
    trial_close(&trial);
}

const struct check stream_checks[] = {
    CASE(received_inline, BOTH_FAMILIES),
    CASE(received_same_cpu, BOTH_FAMILIES | THREADS),
    CASE(received_cross_cpu, BOTH_FAMILIES | THREADS),
    CASE(warmup_is_not_recorded, BOTH_FAMILIES | THREADS),
    CASE(warmup_only, BOTH_FAMILIES | THREADS),
    CASE(ends_are_used_again, BOTH_FAMILIES | THREADS),
    CASE(other_source_is_flagged, BOTH_FAMILIES),
    CASE(reflector_thread_is_pinned_and_takes_no_signals, BOTH_FAMILIES | THREADS),
    {0},
};
