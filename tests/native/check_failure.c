/* Streams that end before their time or go on all the same: sockets that die, calls that fail. */
#include <unistd.h>

#include "check.h"

/* ---- sockets that die ---- */

enum { ALIVE = 20 }; /* probes that are answered before */

/* Row ALIVE is the first that got no reply, and the rows before it are whole. */
static void check_died(const struct trial *trial) {
    CHECK_EQUAL(trial->stream.done, ALIVE);
    for (int i = 0; i < ALIVE; i++) check_received(trial, i);
    CHECK(trial->rows[ALIVE].status != LAB_RECEIVED);
    CHECK_EQUAL(trial->rows[ALIVE + 1].tx_ns, 0);
    CHECK(trial->took_ns < PROMPT_NS);
}

static bool one_of(int64_t error, int64_t a, int64_t b) {
    return error == a || error == b;
}

static void close_it(void *fd) {
    close(*(int *)fd);
}

static void shut_it(void *fd) {
    CHECK(!shutdown(*(int *)fd, SHUT_RDWR));
}

/* Does that to the far socket right before probe ALIVE is sent. */
static struct trial run_until(struct setup setup, void (*hook)(void *)) {
    struct trial trial = trial_open(setup);
    int fd = trial.stream.far_fd;
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .first = ALIVE, .hook = hook, .argument = &fd};
    trial_run(&trial);
    return trial;
}

/* The reflector's own error, unless the near end hears of it from the network first. */
static void check_far_shut(struct setup setup) {
    struct trial trial = run_until(setup, shut_it);
    int far_error = trial.stream.far_error;
    if (setup.kind == LAB_UDP) {
        CHECK_EQUAL(trial.result, -EPIPE);
        CHECK(one_of(far_error, ESHUTDOWN, EPIPE));
    } else {
        CHECK(one_of(trial.result, -EPIPE, -ECONNRESET));
        CHECK(!far_error || one_of(far_error, EPIPE, ECONNRESET));
    }
    check_died(&trial);
    trial_close(&trial);
}

static void far_end_is_shut_down(void) {
    each_variant(check_far_shut);
}

/* No request ever comes: the reflector's own receive must tell that none will. */
static void check_far_shut_early(struct setup setup) {
    if (setup.kind == LAB_UDP && setup.wait != LAB_BLOCK) return; /* the kernel says EAGAIN, as if one might come */
    struct trial trial = trial_deaf(setup);
    CHECK(!shutdown(trial.stream.far_fd, SHUT_RD));
    CHECK_EQUAL(trial_run(&trial), -EPIPE);
    CHECK_EQUAL(trial.stream.far_error, setup.kind == LAB_UDP ? ESHUTDOWN : ECONNRESET);
    CHECK_EQUAL(trial.stream.done, 0);
    CHECK(trial.took_ns < PROMPT_NS);
    trial_close(&trial);
}

static void far_end_is_shut_down_before(void) {
    each_variant(check_far_shut_early);
}

static void check_far_closed(struct setup setup) {
    struct trial trial = run_until(setup, close_it);
    CHECK(trial.result == -ECONNREFUSED || one_of(trial.result, -EPIPE, -ECONNRESET));
    if (trial.result == -EPIPE) CHECK(one_of(trial.stream.far_error, EBADF, ECONNRESET));
    check_died(&trial);
    trial.stream.far_fd = -1;
    trial_close(&trial);
}

static void far_end_is_closed(void) {
    each_variant(check_far_closed);
}

/* The reflector lives, but the near end's peer is another socket, which is gone: the network says so. */
static void check_peer_gone(struct setup setup) {
    int near, peer, idle, far;
    open_ends(setup.kind, &near, &peer);
    open_ends(setup.kind, &idle, &far);
    setup.timeout_ns = 50 * MS; /* inline, the reflector waits for the request first */
    struct trial trial = trial_over(setup, near, far);
    close(peer);
    trial_run(&trial);
    if (setup.kind == LAB_UDP)
        CHECK_EQUAL(trial.result, -ECONNREFUSED);
    else
        CHECK(one_of(trial.result, -EPIPE, -ECONNRESET));
    CHECK_EQUAL(trial.stream.far_error, 0);
    CHECK(trial.stream.done <= 1);
    trial_close(&trial);
}

static void peer_is_gone(void) {
    each_variant(check_peer_gone);
}

/* Half a TCP connection: probes can be sent, but no reply can come. */
static void check_peer_silent(struct setup setup) {
    int near, peer, idle, far;
    if (setup.kind != LAB_TCP || setup.placement == INLINE) return; /* inline, it is the reflector that waits */
    open_ends(setup.kind, &near, &peer);
    open_ends(setup.kind, &idle, &far);
    struct trial trial = trial_over(setup, near, far);
    CHECK(!shutdown(peer, SHUT_WR));
    CHECK_EQUAL(trial_run(&trial), -ECONNRESET);
    CHECK_EQUAL(trial.stream.done, 0);
    CHECK(trial.took_ns < PROMPT_NS);
    trial_close(&trial);
}

static void peer_sends_no_more(void) {
    each_variant(check_peer_silent);
}

/* ---- calls that fail ---- */

/* The kernel takes no copy of some probes: they are unsent, and the stream goes on. */
static void check_no_buffers(struct setup setup) {
    if (setup.kind == LAB_TCP) return; /* waits until there is room */
    const int errors[] = {ENOBUFS, EAGAIN};
    for (int e = 0; e < 2; e++) {
        struct trial trial = trial_open(setup);
        tamper.send = (struct fault){.fd = trial.stream.near_fd, .error = errors[e], .first = 7, .times = 3};
        CHECK_EQUAL(trial_run(&trial), trial.stream.count);
        for (int64_t i = 0; i < trial.stream.count; i++) {
            const struct lab_record *row = &trial.rows[i];
            if (i < 7 || i > 9)
                check_received(&trial, i);
            else
                CHECK(row->status == LAB_UNSENT && row->tx_ns && row->tx_done_ns && !row->rx_ns && !row->flags);
        }
        trial_close(&trial);
    }
}

static void near_end_has_no_buffers(void) {
    each_variant(check_no_buffers);
}

/* An unsent probe is not an unanswered one. */
static void unsent_tries_no_patience(void) {
    struct trial trial = trial_open((struct setup){.kind = LAB_UDP, .patience = 2});
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .error = ENOBUFS, .first = 7, .times = 30};
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    trial_close(&trial);
}

/* The same at the far end: a reply is lost, no more. */
static void check_far_no_buffers(struct setup setup) {
    if (setup.kind == LAB_TCP) return;
    const int errors[] = {ENOBUFS, EAGAIN};
    for (int e = 0; e < 2; e++) {
        setup.timeout_ns = 400 * MS;
        struct trial trial = trial_open(setup);
        tamper.send = (struct fault){.fd = trial.stream.far_fd, .error = errors[e], .first = 7, .times = 1};
        CHECK_EQUAL(trial_run(&trial), trial.stream.count);
        CHECK_EQUAL(trial.rows[7].status, LAB_LOST);
        for (int64_t i = 0; i < trial.stream.count; i++)
            if (i != 7) check_received(&trial, i);
        trial_close(&trial);
    }
}

static void far_end_has_no_buffers(void) {
    each_variant(check_far_no_buffers);
}

static void check_forbidden(struct setup setup) {
    struct trial trial = trial_open(setup);
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .error = EPERM, .first = ALIVE, .times = 1};
    CHECK_EQUAL(trial_run(&trial), -EPERM);
    CHECK_EQUAL(trial.stream.far_error, 0);
    CHECK_EQUAL(trial.rows[ALIVE].status, LAB_UNSENT);
    check_died(&trial);
    trial_close(&trial);
}

static void near_end_may_not_send(void) {
    each_variant(check_forbidden);
}

static void check_far_forbidden(struct setup setup) {
    struct trial trial = trial_open(setup);
    tamper.send = (struct fault){.fd = trial.stream.far_fd, .error = EPERM, .first = ALIVE, .times = 1};
    CHECK_EQUAL(trial_run(&trial), -EPIPE);
    CHECK_EQUAL(trial.stream.far_error, EPERM);
    check_died(&trial);
    trial_close(&trial);
}

static void far_end_may_not_send(void) {
    each_variant(check_far_forbidden);
}

static void check_receive_fails(struct setup setup) {
    struct trial trial = trial_open(setup);
    tamper.recv = (struct fault){.fd = trial.stream.near_fd, .error = ENOMEM, .first = 0, .times = 1};
    CHECK_EQUAL(trial_run(&trial), -ENOMEM);
    CHECK_EQUAL(trial.stream.done, 0);
    CHECK_EQUAL(trial.stream.far_error, 0);
    tamper.recv = (struct fault){.fd = trial.stream.far_fd, .error = ENOMEM, .first = 0, .times = 1};
    CHECK_EQUAL(trial_run(&trial), -EPIPE);
    CHECK_EQUAL(trial.stream.far_error, ENOMEM);
    trial_close(&trial);
}

static void receiving_fails(void) {
    each_variant(check_receive_fails);
}

/* Nine calls in ten fail for no reason; what matters is that each is made again. */
static void check_call_storm(struct setup setup, struct fault *fault, bool far, int error) {
    struct trial trial = trial_open(setup);
    int fd = far ? trial.stream.far_fd : trial.stream.near_fd;
    *fault = (struct fault){.fd = fd, .error = error, .times = INT64_MAX, .every = 10};
    trial_run(&trial);
    check_all_received(&trial);
    CHECK(fault->calls >= 10 * trial.stream.count - 10);
    trial_close(&trial);
}

static void check_call_storms(struct setup setup) {
    for (int far = 0; far <= 1; far++) {
        check_call_storm(setup, &tamper.recv, far, EAGAIN);
        check_call_storm(setup, &tamper.recv, far, EINTR);
        check_call_storm(setup, &tamper.send, far, EINTR);
        if (setup.kind == LAB_TCP) check_call_storm(setup, &tamper.send, far, EAGAIN);
    }
}

static void failed_calls_are_made_again(void) {
    each_variant(check_call_storms);
}

/* TCP calls may do half of what is asked. */
static void check_short_calls(struct setup setup) {
    if (setup.kind != LAB_TCP) return;
    for (int far = 0; far <= 1; far++) {
        struct trial trial = trial_open(setup);
        int fd = far ? trial.stream.far_fd : trial.stream.near_fd;
        tamper.send = (struct fault){.fd = fd, .most = 11};
        tamper.recv = (struct fault){.fd = fd, .most = 13};
        trial_run(&trial);
        check_all_received(&trial);
        CHECK(tamper.send.calls >= 6 * trial.stream.count && tamper.recv.calls >= 5 * trial.stream.count);
        trial_close(&trial);
    }
}

static void short_calls_are_continued(void) {
    each_variant(check_short_calls);
}

/* A reply whose TTL and source can't be had is a reply all the same. */
static void check_no_ancillary(struct setup setup) {
    if (setup.kind == LAB_TCP) return;
    struct trial trial = trial_open(setup);
    tamper.recvmsg = (struct fault){.fd = trial.stream.near_fd, .error = ENOMEM, .times = 1};
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    CHECK_EQUAL(trial.rows[0].status, LAB_RECEIVED);
    CHECK_EQUAL(trial.rows[0].reply_ttl, 0);
    CHECK_EQUAL(trial.rows[0].flags & LAB_FLAG_DUPLICATE, 0); /* it was taken off the queue in another way */
    CHECK(trial.stream.source_seen); /* asked again until it is known */
    CHECK_EQUAL(trial.stream.reply_ttl, trial.ttl);
    trial_close(&trial);
}

static void ttl_cannot_be_read(void) {
    each_variant(check_no_ancillary);
}

const struct check failure_checks[] = {
    CASE(far_end_is_shut_down, BOTH_FAMILIES | THREADS),
    CASE(far_end_is_shut_down_before, BOTH_FAMILIES | THREADS),
    CASE(far_end_is_closed, BOTH_FAMILIES),
    CASE(peer_is_gone, BOTH_FAMILIES | THREADS),
    CASE(peer_sends_no_more, BOTH_FAMILIES | THREADS),
    CASE(near_end_has_no_buffers, BOTH_FAMILIES),
    CASE(unsent_tries_no_patience, BOTH_FAMILIES),
    CASE(far_end_has_no_buffers, BOTH_FAMILIES | THREADS),
    CASE(near_end_may_not_send, BOTH_FAMILIES | THREADS),
    CASE(far_end_may_not_send, BOTH_FAMILIES | THREADS),
    CASE(receiving_fails, BOTH_FAMILIES | THREADS),
    CASE(failed_calls_are_made_again, BOTH_FAMILIES | THREADS),
    CASE(short_calls_are_continued, BOTH_FAMILIES | THREADS),
    CASE(ttl_cannot_be_read, BOTH_FAMILIES),
    {0},
};
