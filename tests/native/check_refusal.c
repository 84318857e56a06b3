/* Streams that can't be: wrong fields, descriptors that are no sockets, a reflector that can't begin. */
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "check.h"

/* ---- wrong fields ---- */

/* With this change the stream is refused before anything is sent. */
#define REFUSED(change)                                                    \
    do {                                                                   \
        struct lab_stream before = trial.stream;                           \
        trial.stream.change;                                               \
        snprintf(trying, sizeof trying, "%s", #change);                    \
        CHECK_EQUAL(trial_run(&trial), -EINVAL);                           \
        CHECK_EQUAL(trial.stream.done, 0);                                 \
        CHECK_EQUAL(tamper.requests.sent + tamper.requests.unrecorded, 0); \
        trial.stream = before;                                             \
    } while (0)

static void check_fields(struct setup setup) {
    struct trial trial = trial_open(setup);
    REFUSED(kind = -1);
    REFUSED(kind = LAB_SHM + 1);
    REFUSED(kind = LAB_ICMP_RAW); /* has no far end */
    REFUSED(kind = LAB_ICMP_PING);
    REFUSED(family = AF_UNSPEC);
    REFUSED(family = AF_PACKET);
    REFUSED(wait = -1);
    REFUSED(wait = LAB_YIELD + 1);
    if (setup.wait == LAB_EPOLL)
        REFUSED(near_epoll_fd = -1);
    else
        REFUSED(wait = LAB_EPOLL); /* without one */
    REFUSED(arrivals = -1);
    REFUSED(arrivals = LAB_SCHEDULED + 1);
    REFUSED(think_ns = -1);
    REFUSED(limit_ns = -1);
    REFUSED(hold_ns = -1);
    REFUSED(hold_ns = LAB_MAX_TIMEOUT_NS + 1);
    REFUSED(stall_ns = -1);
    REFUSED(stall_seq = -1);
    REFUSED(size = LAB_MIN_PAYLOAD - 1);
    REFUSED(size = 0);
    REFUSED(size = -1);
    REFUSED(size = LAB_MAX_PAYLOAD + 1);
    REFUSED(size = INT_MAX);
    REFUSED(count = -1);
    REFUSED(warmup = -1);
    REFUSED(timeout_ns = 0);
    REFUSED(timeout_ns = -1);
    REFUSED(far_fd = -1);
    REFUSED(far_cpu = CPU_SETSIZE);
    trial_run(&trial);
    check_all_received(&trial);
    trial_close(&trial);
}

static void fields_out_of_range(void) {
    each_variant(check_fields);
}

/* Needs no right to send: all is refused before the socket is looked at. */
static void fields_out_of_range_icmp(void) {
    for (int kind = LAB_ICMP_RAW; kind <= LAB_ICMP_PING; kind++) {
        int near, far;
        open_ends(LAB_UDP, &near, &far);
        struct trial trial = trial_over((struct setup){.kind = kind}, near, -1);
        REFUSED(far_fd = far);
        REFUSED(far_cpu = 0);
        REFUSED(hold_ns = 1); /* the kernel does not wait */
        REFUSED(stall_ns = 1);
        REFUSED(size = LAB_MIN_PAYLOAD_ICMP - 1);
        REFUSED(size = LAB_MAX_PAYLOAD + 1);
        REFUSED(kind = LAB_UDP);
        REFUSED(family = AF_UNIX);
        trial_close(&trial);
    }
}

/* No stream was ever unanswered -1 times. */
static void negative_patience(void) {
    struct trial trial = trial_open((struct setup){.kind = LAB_UDP});
    REFUSED(patience = -1);
    trial_close(&trial);
}

/* 16 bits are sent: more could never match. */
static void identifier_of_17_bits(void) {
    int near = open_socket(SOCK_DGRAM);
    struct trial trial = trial_over((struct setup){.kind = LAB_ICMP_RAW}, near, -1);
    REFUSED(icmp_id = 0x10000);
    trial_close(&trial);
}

/* tx + timeout must not overflow. */
static void longest_timeout(void) {
    struct trial trial = trial_open((struct setup){.kind = LAB_UDP, .timeout_ns = LAB_MAX_TIMEOUT_NS});
    REFUSED(timeout_ns = LAB_MAX_TIMEOUT_NS + 1);
    REFUSED(timeout_ns = INT64_MAX);
    trial_run(&trial);
    check_all_received(&trial);
    trial_close(&trial);
}

/* ---- sockets that are none ---- */

static void check_bad_descriptors(struct setup setup) {
    struct trial trial = trial_open(setup);
    struct lab_stream good = trial.stream;
    int closed = dup(good.near_fd), file = open("/dev/null", O_RDWR);
    close(closed);
    trial.stream.near_fd = closed;
    CHECK_EQUAL(trial_run(&trial), -EBADF);
    trial.stream.near_fd = -1;
    CHECK_EQUAL(trial_run(&trial), -EBADF);
    trial.stream.near_fd = file;
    CHECK_EQUAL(trial_run(&trial), -ENOTSOCK);
    trial.stream = good;
    trial.stream.far_fd = closed;
    CHECK_EQUAL(trial_run(&trial), -EBADF);
    trial.stream.far_fd = file;
    CHECK_EQUAL(trial_run(&trial), -ENOTSOCK);
    CHECK_EQUAL(trial.stream.done, 0);
    trial.stream = good;
    trial_close(&trial);
}

static void descriptors_that_are_no_sockets(void) {
    each_variant(check_bad_descriptors);
}

/* A socket, but not one that anything can be received from. */
static void check_unconnected_far(struct setup setup) {
    if (setup.kind != LAB_TCP) return;
    struct trial trial = trial_open(setup);
    trial.stream.far_fd = socket(family, SOCK_STREAM, 0);
    CHECK_EQUAL(trial_run(&trial), -EPIPE);
    CHECK_EQUAL(trial.stream.far_error, ENOTCONN);
    CHECK_EQUAL(trial.stream.done, 0);
    trial_close(&trial);
}

static void reflector_cannot_receive(void) {
    each_variant(check_unconnected_far);
}

static void reflector_cannot_be_pinned(void) {
    for (int kind = LAB_UDP; kind <= LAB_TCP; kind++) {
        struct trial trial = trial_open((struct setup){.kind = kind, .placement = OWN_THREAD});
        trial.stream.far_cpu = CPU_SETSIZE - 1; /* no machine has so many that this one would be among them */
        CHECK_EQUAL(trial_run(&trial), -EPIPE);
        CHECK_EQUAL(trial.stream.far_error, EINVAL);
        CHECK(trial.took_ns < PROMPT_NS);
        trial_close(&trial);
    }
}

static void no_thread_to_be_had(void) {
    struct trial trial = trial_open((struct setup){.kind = LAB_UDP, .placement = OWN_THREAD});
    sigset_t before, after;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    tamper.thread_error = EAGAIN;
    CHECK_EQUAL(trial_run(&trial), -EAGAIN);
    CHECK_EQUAL(trial.stream.done, 0);
    CHECK_EQUAL(trial.rows[0].tx_ns, 0);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (int i = 1; i < SIGRTMAX; i++) CHECK_EQUAL(sigismember(&before, i), sigismember(&after, i));
    trial_close(&trial);
}

const struct check refusal_checks[] = {
    CASE(fields_out_of_range, BOTH_FAMILIES),
    CASE(fields_out_of_range_icmp, BOTH_FAMILIES),
    CASE(negative_patience, BOTH_FAMILIES),
    CASE(identifier_of_17_bits, BOTH_FAMILIES),
    CASE(longest_timeout, BOTH_FAMILIES),
    CASE(descriptors_that_are_no_sockets, BOTH_FAMILIES),
    CASE(reflector_cannot_receive, BOTH_FAMILIES | THREADS),
    CASE(reflector_cannot_be_pinned, BOTH_FAMILIES | THREADS),
    CASE(no_thread_to_be_had, BOTH_FAMILIES),
    {0},
};
