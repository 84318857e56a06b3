/* The handshake as connect(2) sees it: connections that are made, refused, dropped, and given up. */
#include <fcntl.h>
#include <linux/filter.h>
#include <unistd.h>

#include "check.h"

static int open_listener(int backlog) {
    int fd = open_socket(SOCK_STREAM);
    CHECK(!listen(fd, backlog));
    CHECK(!fcntl(fd, F_SETFL, O_NONBLOCK));
    return fd;
}

/* A stream that asks the port of `server`, which is ours to serve if `ours`. */
static struct trial trial_to(int server, bool ours, struct setup setup) {
    int near = socket(family, SOCK_STREAM | (setup.wait == LAB_BLOCK ? 0 : SOCK_NONBLOCK), 0);
    CHECK(near >= 0);
    struct trial trial = trial_over(setup, near, -1);
    trial.stream.kind = LAB_TCP_CONNECT;
    trial.stream.far_fd = ours ? server : -1;
    trial.stream.far_port = port_of(server);
    tamper_not();
    return trial;
}

static void check_connected(const struct trial *trial, int64_t seq) {
    const struct lab_record *row = &trial->rows[seq];
    CHECK_EQUAL(row->status, LAB_RECEIVED);
    CHECK_EQUAL(row->flags, trial->stream.wait == LAB_BLOCK ? 0 : LAB_FLAG_INLINE);
    CHECK(row->due_ns == row->tx_ns && row->tx_ns > 0 && row->tx_ns <= row->tx_done_ns);
    CHECK(row->tx_done_ns <= row->rx_ns && row->rx_ns - row->tx_ns <= trial->stream.timeout_ns);
    CHECK(!row->reply_bytes && !row->far_rx_ns && !row->far_tx_ns && !row->user_rx_ns);
}

static void check_all_connected(const struct trial *trial) {
    CHECK_EQUAL(trial->result, trial->stream.count);
    CHECK_EQUAL(trial->stream.done, trial->stream.count);
    for (int64_t i = 0; i < trial->stream.count; i++) check_connected(trial, i);
}

static void connections(void) {
    for (int wait = LAB_BLOCK; wait <= LAB_YIELD; wait++) {
        struct trial trial = trial_to(open_listener(2), true, (struct setup){.wait = wait, .count = 200, .warmup = 5});
        trial_run(&trial);
        check_all_connected(&trial);
        CHECK(accept(trial.stream.far_fd, NULL, NULL) < 0 && errno == EAGAIN); /* none is left */
        trial_close(&trial);
    }
}

/* Nobody accepts: as many connections as its queue has room for. */
static void connections_to_somebody_elses_server(void) {
    int server = open_listener(16);
    struct trial trial = trial_to(server, false, (struct setup){.count = 10});
    trial_run(&trial);
    check_all_connected(&trial);
    for (int i = 0; i < 10; i++) CHECK(accept(server, NULL, NULL) >= 0);
    trial_close(&trial);
}

static void connections_refused(void) {
    for (int wait = LAB_BLOCK; wait <= LAB_YIELD; wait++) {
        struct trial trial = trial_to(open_socket(SOCK_STREAM), false, (struct setup){.wait = wait});
        CHECK_EQUAL(trial_run(&trial), -ECONNREFUSED);
        CHECK_EQUAL(trial.stream.done, 0);
        CHECK(trial.took_ns < PROMPT_NS);
        trial_close(&trial);
    }
}

/* The listener gets no segment: SYNs arrive nowhere. */
static void make_deaf(int fd, bool deaf) {
    struct sock_filter drop = {.code = BPF_RET | BPF_K};
    struct sock_fprog program = {.len = 1, .filter = &drop};
    CHECK(!setsockopt(fd, SOL_SOCKET, deaf ? SO_ATTACH_FILTER : SO_DETACH_FILTER, &program, sizeof program));
}

/* What is not answered is lost, at the price of its timeout, and the same socket goes on. */
static void connections_unanswered(void) {
    for (int wait = LAB_BLOCK; wait <= LAB_YIELD; wait++) {
        struct trial trial =
            trial_to(open_listener(2), true, (struct setup){.wait = wait, .count = 3, .timeout_ns = 60 * MS});
        make_deaf(trial.stream.far_fd, true);
        CHECK_EQUAL(trial_run(&trial), 3);
        for (int i = 0; i < 3; i++) {
            CHECK_EQUAL(trial.rows[i].status, LAB_LOST);
            CHECK(!trial.rows[i].rx_ns && trial.rows[i].tx_ns);
        }
        CHECK(trial.took_ns >= 3 * 60 * MS && trial.took_ns < 3 * 60 * MS + PROMPT_NS);
        trial.stream.patience = 2;
        CHECK_EQUAL(trial_run(&trial), -ETIMEDOUT);
        CHECK_EQUAL(trial.stream.done, 2);
        make_deaf(trial.stream.far_fd, false);
        memset(trial.rows, 0, 3 * sizeof *trial.rows);
        trial.stream.timeout_ns = SECOND;
        trial_run(&trial);
        check_all_connected(&trial);
        trial_close(&trial);
    }
}

static void *stop_later(void *argument) {
    usleep(20000);
    __atomic_store_n((int32_t *)argument, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void connections_stopped(void) {
    for (int wait = LAB_BLOCK; wait <= LAB_YIELD; wait++) {
        struct trial trial = trial_to(open_listener(2), true, (struct setup){.wait = wait, .timeout_ns = 3600 * SECOND});
        pthread_t stopper;
        make_deaf(trial.stream.far_fd, true);
        CHECK(!pthread_create(&stopper, NULL, stop_later, &trial.stop));
        CHECK_EQUAL(trial_run(&trial), 0);
        CHECK(!pthread_join(stopper, NULL));
        CHECK(trial.took_ns < PROMPT_NS);
        trial_close(&trial);
    }
}

/* A probe takes two calls if it blocks: one to connect, and one to disconnect. */
static void connections_that_fail(void) {
    struct trial trial = trial_to(open_listener(2), true, (struct setup){.count = 20});
    int near = trial.stream.near_fd;
    tamper.connect = (struct fault){.fd = near, .error = EINTR, .times = INT64_MAX, .every = 3};
    trial_run(&trial);
    check_all_connected(&trial);
    const int errors[] = {EADDRNOTAVAIL, EHOSTUNREACH, EPERM, EBADF, ENOMEM};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        for (int call = 14; call <= 15; call++) {
            tamper.connect = (struct fault){.fd = near, .error = errors[i], .first = call, .times = 1};
            memset(trial.rows, 0, 20 * sizeof *trial.rows);
            CHECK_EQUAL(trial_run(&trial), -errors[i]);
            CHECK_EQUAL(trial.stream.done, 7);
        }
    /* The kernel gave up by itself. */
    tamper.connect = (struct fault){.fd = near, .error = ETIMEDOUT, .first = 14, .times = 1};
    memset(trial.rows, 0, 20 * sizeof *trial.rows);
    CHECK_EQUAL(trial_run(&trial), 20);
    for (int i = 0; i < 20; i++)
        if (i != 7) check_connected(&trial, i);
    CHECK_EQUAL(trial.rows[7].status, LAB_LOST);
    trial_close(&trial);
}

static void connections_whose_listener_fails(void) {
    struct trial trial = trial_to(open_listener(64), true, (struct setup){.count = 20});
    int listener = trial.stream.far_fd;
    tamper.accept = (struct fault){.fd = listener, .error = ECONNABORTED, .times = INT64_MAX, .every = 2};
    trial_run(&trial);
    check_all_connected(&trial);
    tamper.accept = (struct fault){.fd = listener, .error = EMFILE, .first = 14, .times = 1};
    CHECK_EQUAL(trial_run(&trial), -EPIPE);
    CHECK_EQUAL(trial.stream.far_error, EMFILE);
    CHECK(trial.stream.done < 20);
    trial_close(&trial);
}

static void close_it(void *fd) {
    close(*(int *)fd);
}

static void connections_closed_underneath(void) {
    for (int wait = LAB_BLOCK; wait <= LAB_YIELD; wait++) {
        struct trial trial = trial_to(open_listener(2), true, (struct setup){.wait = wait});
        int near = trial.stream.near_fd;
        tamper.connect = (struct fault){.fd = near, .first = 30, .hook = close_it, .argument = &near};
        CHECK_EQUAL(trial_run(&trial), -EBADF);
        CHECK(trial.stream.done < trial.stream.count);
        trial_close(&trial);
    }
}

static void fields_of_connections_out_of_range(void) {
    struct trial trial = trial_to(open_listener(2), true, (struct setup){0});
    const struct lab_stream good = trial.stream;
#define REFUSED(change)                          \
    do {                                         \
        trial.stream.change;                     \
        CHECK_EQUAL(trial_run(&trial), -EINVAL); \
        trial.stream = good;                     \
    } while (0)
    REFUSED(family = AF_UNIX);
    REFUSED(far_port = 0);
    REFUSED(far_cpu = 0);
    REFUSED(wait = -1);
    REFUSED(wait = LAB_EPOLL); /* without one */
    REFUSED(arrivals = LAB_SCHEDULED);
    REFUSED(stall_ns = 1);
    REFUSED(timeout_ns = LAB_MAX_TIMEOUT_NS + 1);
    trial_run(&trial);
    check_all_connected(&trial);
    trial_close(&trial);
}

const struct check connect_checks[] = {
    CASE(connections, BOTH_FAMILIES),
    CASE(connections_to_somebody_elses_server, BOTH_FAMILIES),
    CASE(connections_refused, BOTH_FAMILIES),
    CASE(connections_unanswered, BOTH_FAMILIES),
    CASE(connections_stopped, THREADS),
    CASE(connections_that_fail, BOTH_FAMILIES),
    CASE(connections_whose_listener_fails, 0),
    CASE(connections_closed_underneath, 0),
    CASE(fields_of_connections_out_of_range, 0),
    {0},
};
