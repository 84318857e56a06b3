/* The kernel's stamps: each under its own probe, in order, and none where it can't be known whose it is. */
#include <unistd.h>

#include "check.h"

#include <linux/net_tstamp.h>

/* The kernel begins to stamp what comes in some time after a socket first asked for it: waits until it does. Such a
 * socket stays open, so that it goes on. */
static void have_stamps(void) {
    int fd = open_socket(SOCK_DGRAM), flags = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    struct sockaddr_storage self;
    socklen_t length = sizeof self;
    unsigned char byte = 0;
    CHECK(!setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof flags));
    CHECK(!getsockname(fd, (struct sockaddr *)&self, &length));
    CHECK(!connect(fd, (struct sockaddr *)&self, length));
    for (int64_t until_ns = now_ns() + 5 * SECOND; now_ns() < until_ns;) {
        struct ancillary with;
        send_plain(fd, &byte, 1);
        int64_t sent_ns = read_clock(CLOCK_REALTIME);
        CHECK(receive_with(fd, &byte, 1, 0, &with) == 1);
        if (with.kernel_ns && with.kernel_ns <= sent_ns) return;
    }
    skip("the kernel stamps nothing that comes in", 0);
}

static struct trial trial_stamped(struct setup setup) {
    struct trial trial = trial_open(setup);
    trial.stamps = calloc((size_t)trial.stream.count, sizeof *trial.stamps);
    CHECK(trial.stamps);
    return trial;
}

/* From tx to rx, with the probe's own stamps moved to the kernel's clock. */
static void check_order(const struct trial *trial, int64_t seq) {
    const struct lab_record *row = &trial->rows[seq];
    const struct lab_stamps *s = &trial->stamps[seq];
    int64_t offset = trial->stream.offset_ns;
    int64_t stamps[] = {row->tx_ns + offset,    s->near_sched_real_ns,   s->near_soft_real_ns, s->far_rx_real_ns,
                        row->far_rx_ns + offset, row->far_tx_ns + offset, s->far_sched_real_ns, s->far_soft_real_ns,
                        s->near_rx_real_ns,     row->rx_ns + offset};
    for (size_t k = 1; k < sizeof stamps / sizeof *stamps; k++) CHECK(stamps[k - 1] <= stamps[k]);
    if (trial->stream.kind == LAB_TCP)
        CHECK(s->ack_real_ns >= row->far_rx_ns + offset && s->ack_real_ns <= row->rx_ns + offset);
    else
        CHECK_EQUAL(s->ack_real_ns, 0);
}

static bool sleeps_by_epoll(struct setup setup) {
    return setup.wait == LAB_EPOLL; /* which every stamp would wake: refused */
}

static void check_stamped(struct setup setup) {
    if (sleeps_by_epoll(setup)) return;
    setup.count = 500, setup.warmup = 77;
    struct trial trial = trial_stamped(setup);
    int64_t before_ns = now_ns();
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    for (int64_t i = 0; i < trial.stream.count; i++) {
        CHECK_EQUAL(trial.rows[i].status, LAB_RECEIVED);
        CHECK_EQUAL(trial.rows[i].due_ns, trial.rows[i].tx_ns);
        check_order(&trial, i);
    }
    CHECK(trial.rows[0].tx_ns >= before_ns && trial.rows[0].tx_ns <= now_ns()); /* CLOCK_MONOTONIC again */
    CHECK_EQUAL(trial.stream.stamps_foreign, 0);
    CHECK_EQUAL(trial.stream.step_ns, 0);
    /* Nothing is left for the next stream on the same sockets, which goes without. */
    free(trial.stamps);
    trial.stamps = NULL;
    memset(trial.rows, 0, (size_t)trial.stream.count * sizeof *trial.rows);
    trial.stream.warmup = 0;
    trial.stream.nonce++; /* the goodbye of the first may still be queued */
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    CHECK_EQUAL(trial.stream.offset_ns, 0);
    trial_close(&trial);
}

static void stamps_are_in_order(void) {
    have_stamps();
    each_variant(check_stamped);
}

static void check_stamped_schedule(struct setup setup) {
    if (sleeps_by_epoll(setup) || setup.kind == LAB_TCP) return; /* of segments that are merged, one has the stamp */
    struct trial trial = trial_stamped(setup);
    trial.stream.arrivals = LAB_SCHEDULED;
    for (int64_t i = 0; i < trial.stream.count; i++) trial.rows[i].due_ns = i * 200000;
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    for (int64_t i = 0; i < trial.stream.count; i++) {
        CHECK_EQUAL(trial.rows[i].due_ns - trial.rows[0].due_ns, i * 200000);
        CHECK(trial.rows[i].due_ns <= trial.rows[i].tx_ns);
        check_order(&trial, i);
    }
    trial_close(&trial);
}

static void stamps_on_schedule(void) {
    have_stamps();
    each_variant(check_stamped_schedule);
}

/* The kernel may have numbered what it did not take: from there on, that end has no stamps rather than wrong ones. */
static void check_broken(struct setup setup) {
    enum { AT = 64 };
    if (sleeps_by_epoll(setup) || setup.kind == LAB_TCP) return;
    setup.timeout_ns = 100 * MS;
    struct trial trial = trial_stamped(setup);
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .error = ENOBUFS, .first = AT, .times = 1};
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    CHECK_EQUAL(trial.rows[AT].status, LAB_UNSENT);
    for (int64_t i = 0; i < trial.stream.count; i++) {
        if (i < AT) check_order(&trial, i);
        if (i >= AT) CHECK_EQUAL(trial.stamps[i].near_sched_real_ns, 0);
        if (i > AT) CHECK(trial.stamps[i].near_rx_real_ns > 0 && trial.stamps[i].far_sched_real_ns > 0);
    }
    CHECK(trial.stream.stamps_foreign > 0);
    trial_close(&trial);
}

static void failed_send_ends_its_stamps(void) {
    have_stamps();
    each_variant(check_broken);
}

/* Somebody sets the wall clock forward while the stream runs. */
static void check_set_clock(struct setup setup) {
    if (sleeps_by_epoll(setup)) return;
    setup.count = 300;
    struct trial trial = trial_stamped(setup);
    tamper.real_step_ns = 3600 * SECOND;
    tamper.real_step_after = 1000;
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    CHECK(trial.stream.step_ns > 3599 * SECOND && trial.stream.step_ns < 3601 * SECOND);
    for (int64_t i = 0; i < trial.stream.count; i++) CHECK(trial.rows[i].status >= LAB_LATE); /* none was given up */
    trial_close(&trial);
}

static void clock_is_set(void) {
    have_stamps();
    each_variant(check_set_clock);
}

static void stamps_are_refused(void) {
    struct trial trial = trial_stamped((struct setup){.kind = LAB_UDP});
    int fd = trial.stream.near_fd;
    close(fd);
    CHECK_EQUAL(trial_run(&trial), -EBADF);
    CHECK_EQUAL(trial.stream.done, 0);
    trial.stream.wait = LAB_EPOLL;
    trial.stream.near_epoll_fd = trial.stream.far_epoll_fd = 0;
    CHECK_EQUAL(trial_run(&trial), -EINVAL);
}

const struct check stamp_checks[] = {
    CASE(stamps_are_in_order, BOTH_FAMILIES | THREADS),
    CASE(stamps_on_schedule, BOTH_FAMILIES | THREADS),
    CASE(failed_send_ends_its_stamps, BOTH_FAMILIES | THREADS),
    CASE(clock_is_set, BOTH_FAMILIES | THREADS),
    CASE(stamps_are_refused, 0),
    {0},
};
