/* The system call that does nothing. */
#include "check.h"

static struct trial open_syscall(struct setup setup) {
    struct trial trial = trial_over(setup, -1, -1);
    trial.stream.kind = LAB_SYSCALL;
    trial.stream.family = AF_UNIX;
    return trial;
}

static void syscalls(void) {
    struct trial trial = open_syscall((struct setup){.count = 1000, .warmup = 10});
    CHECK_EQUAL(trial_run(&trial), 1000);
    for (const struct lab_record *row = trial.rows; row < trial.rows + 1000; row++) {
        CHECK_EQUAL(row->status, LAB_RECEIVED);
        CHECK_EQUAL(row->flags, LAB_FLAG_INLINE);
        CHECK(row->due_ns == row->tx_ns && row->tx_ns <= row->rx_ns && row->tx_done_ns == row->rx_ns);
        CHECK(!row->reply_bytes && !row->far_rx_ns && !row->user_rx_ns);
        if (row > trial.rows) CHECK(row[-1].rx_ns <= row->tx_ns);
    }
    CHECK(!trial.stream.source_seen);
    trial_close(&trial);
}

static void syscalls_that_take_too_long_are_late(void) {
    struct trial trial = open_syscall((struct setup){.count = 10, .timeout_ns = 1});
    tamper.leap_ns = MS;
    CHECK_EQUAL(trial_run(&trial), 10);
    for (int i = 0; i < 10; i++) CHECK_EQUAL(trial.rows[i].status, LAB_LATE);
    trial_close(&trial);
}

static void syscalls_end_at_the_limit(void) {
    struct trial trial = open_syscall((struct setup){.count = 1000});
    trial.stream.limit_ns = 100 * MS;
    tamper.leap_ns = MS;
    CHECK(trial_run(&trial) > 0);
    CHECK(trial.stream.limited && trial.result < 1000);
    CHECK_EQUAL(trial.result, trial.stream.done);
    trial_close(&trial);
}

static void syscalls_stopped_before_the_first(void) {
    struct trial trial = open_syscall((struct setup){.count = 1000});
    trial.stop = 1;
    CHECK_EQUAL(trial_run(&trial), 0);
    trial_close(&trial);
}

static void fields_of_syscalls_out_of_range(void) {
    struct trial trial = open_syscall((struct setup){.count = 10});
    const struct lab_stream good = trial.stream;
#define REFUSED(change)                          \
    do {                                         \
        trial.stream.change;                     \
        CHECK_EQUAL(trial_run(&trial), -EINVAL); \
        CHECK_EQUAL(trial.stream.done, 0);       \
        trial.stream = good;                     \
    } while (0)
    REFUSED(kind = LAB_TCP_SYN + 1);
    REFUSED(wait = LAB_SPIN);
    REFUSED(wait = LAB_YIELD + 1);
    REFUSED(near_fd = 0);
    REFUSED(far_fd = 0);
    REFUSED(far_cpu = 0);
    REFUSED(arrivals = LAB_SCHEDULED);
    REFUSED(think_ns = 1);
    REFUSED(hold_ns = 1);
    REFUSED(count = -1);
    REFUSED(warmup = -1);
    REFUSED(timeout_ns = 0);
    REFUSED(limit_ns = -1);
    REFUSED(patience = -1);
    CHECK_EQUAL(trial_run(&trial), 10);
    trial_close(&trial);
}

const struct check syscall_checks[] = {
    CASE(syscalls, 0),
    CASE(syscalls_that_take_too_long_are_late, 0),
    CASE(syscalls_end_at_the_limit, 0),
    CASE(syscalls_stopped_before_the_first, 0),
    CASE(fields_of_syscalls_out_of_range, 0),
    {0},
};
