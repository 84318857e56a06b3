/* Schedules: no probe is skipped, none leaves before it is due, and what delays them is told apart. And think time. */
#include <unistd.h>

#include "check.h"

#define PERIOD_NS (200 * 1000LL)

static struct trial trial_scheduled(struct setup setup) {
    struct trial trial = trial_open(setup);
    trial.stream.arrivals = LAB_SCHEDULED;
    for (int64_t i = 0; i < trial.stream.count; i++) trial.rows[i].due_ns = i * PERIOD_NS;
    return trial;
}

/* The first `sent` probes left, none before it was due, and each was due when the schedule said. */
static void check_schedule(const struct trial *trial, int64_t sent) {
    for (int64_t i = 0; i < sent; i++) {
        const struct lab_record *row = &trial->rows[i];
        CHECK_EQUAL(row->due_ns - trial->rows[0].due_ns, i * PERIOD_NS);
        CHECK(row->due_ns <= row->tx_ns);
        if (i) CHECK(row[-1].tx_done_ns <= row->tx_ns);
    }
}

static void check_answered(const struct trial *trial, int64_t seq) {
    const struct lab_record *row = &trial->rows[seq];
    CHECK_EQUAL(row->status, LAB_RECEIVED);
    CHECK(row->tx_ns <= row->far_rx_ns && row->far_rx_ns <= row->far_tx_ns && row->far_tx_ns <= row->rx_ns);
    CHECK_EQUAL(row->flags & (LAB_FLAG_DUPLICATE | LAB_FLAG_REORDERED | LAB_FLAG_OTHER_SIZE), 0);
}

static void check_all_answered(const struct trial *trial) {
    CHECK_EQUAL(trial->result, trial->stream.count);
    CHECK_EQUAL(trial->stream.done, trial->stream.count);
    CHECK_EQUAL(trial->stream.foreign, 0);
    check_schedule(trial, trial->stream.count);
    for (int64_t i = 0; i < trial->stream.count; i++) check_answered(trial, i);
    CHECK(trial->stream.most_open >= 1 && trial->stream.most_open <= trial->stream.count);
}

static void check_kept(struct setup setup) {
    setup.warmup = 7;
    struct trial trial = trial_scheduled(setup);
    trial_run(&trial);
    check_all_answered(&trial);
    bool sleeps = setup.wait == LAB_BLOCK || setup.wait == LAB_EPOLL;
    CHECK_EQUAL(trial.stream.margin_ns > 0, sleeps);
    CHECK(trial.took_ns >= (trial.stream.count - 1) * PERIOD_NS);
    trial_close(&trial);
}

static void schedule_is_kept(void) {
    each_variant(check_kept);
}

/* The reflector stops; if it has a thread, the sender goes on. Either way nothing is skipped, and who was due meanwhile
 * waited until the end. */
static void check_stalled(struct setup setup) {
    enum { AT = 20, LATER = AT + 30 };
    struct trial trial = trial_scheduled(setup);
    trial.stream.stall_seq = AT;
    trial.stream.stall_ns = 30 * PERIOD_NS;
    trial_run(&trial);
    check_all_answered(&trial);
    const struct lab_record *rows = trial.rows;
    CHECK(rows[AT].far_tx_ns - rows[AT].far_rx_ns >= trial.stream.stall_ns);
    for (int i = AT + 1; i < trial.stream.count; i++) CHECK(rows[i].rx_ns >= rows[AT].far_tx_ns);
    if (setup.placement == INLINE)
        for (int i = AT + 1; i < LATER; i++) CHECK(rows[i].tx_ns >= rows[AT].far_tx_ns);
    else
        CHECK(trial.stream.most_open > 1);
    trial_close(&trial);
}

static void stall_skips_no_probe(void) {
    each_variant(check_stalled);
}

/* A probe that the kernel takes no copy of stays due. */
static void check_refused(struct setup setup) {
    if (setup.kind == LAB_TCP) return;
    struct trial trial = trial_scheduled(setup);
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .error = ENOBUFS, .first = 30, .times = 5};
    trial_run(&trial);
    check_all_answered(&trial);
    trial_close(&trial);
}

static void refused_probes_stay_due(void) {
    each_variant(check_refused);
}

static void kernel_takes_no_more(void) {
    struct trial trial = trial_scheduled((struct setup){.kind = LAB_UDP, .timeout_ns = 10 * MS});
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .error = ENOBUFS, .first = 30, .times = INT64_MAX};
    CHECK_EQUAL(trial_run(&trial), -ENOBUFS);
    CHECK_EQUAL(trial.stream.done, 30);
    CHECK(trial.took_ns >= STALL_NS);
    trial_close(&trial);
}

static void check_lost(struct setup setup) {
    enum { COUNT = 100 };
    if (setup.kind == LAB_TCP) return;
    enum action actions[COUNT] = {[10] = LOSE, [11] = LOSE, [99] = LOSE, [50] = TWICE, [60] = HOLD_PAST_NEXT};
    setup.timeout_ns = 200 * MS;
    struct trial trial = trial_scheduled(setup);
    tamper_with(&trial, actions, NULL);
    CHECK_EQUAL(trial_run(&trial), COUNT);
    check_schedule(&trial, COUNT);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQUAL(trial.rows[i].status, actions[i] == LOSE ? LAB_LOST : LAB_RECEIVED);
    CHECK(trial.rows[50].flags & LAB_FLAG_DUPLICATE);
    CHECK(trial.rows[60].flags & LAB_FLAG_REORDERED);
    CHECK(trial.took_ns >= setup.timeout_ns); /* it waited for the last */
    trial_close(&trial);
}

static void losses_are_told(void) {
    each_variant(check_lost);
}

static void check_deaf(struct setup setup) {
    setup.patience = 10;
    struct trial trial = trial_deaf(setup);
    trial.stream.arrivals = LAB_SCHEDULED;
    for (int64_t i = 0; i < trial.stream.count; i++) trial.rows[i].due_ns = i * PERIOD_NS;
    CHECK_EQUAL(trial_run(&trial), -ETIMEDOUT);
    CHECK(trial.took_ns < PROMPT_NS);
    trial_close(&trial);
}

static void nothing_comes_back(void) {
    each_variant(check_deaf);
}

static void set_stop(void *trial) {
    __atomic_store_n(&((struct trial *)trial)->stop, 1, __ATOMIC_RELEASE);
}

static void check_stopped(struct setup setup) {
    enum { AT = 40 };
    struct trial trial = trial_scheduled(setup);
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .first = AT, .hook = set_stop, .argument = &trial};
    int64_t done = trial_run(&trial);
    CHECK(done <= AT + 1 && done == trial.stream.done);
    for (int64_t i = 0; i < done; i++) check_answered(&trial, i); /* none is told lost that was under way */
    CHECK(trial.took_ns < PROMPT_NS);
    trial_close(&trial);
}

static void schedule_is_stopped(void) {
    each_variant(check_stopped);
}

static void shut_it(void *fd) {
    CHECK(!shutdown(*(int *)fd, SHUT_RDWR));
}

static void check_far_dies(struct setup setup) {
    if (setup.kind == LAB_UDP && setup.wait != LAB_BLOCK) return; /* the kernel says EAGAIN, as if one might come */
    struct trial trial = trial_scheduled(setup);
    int fd = trial.stream.far_fd;
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .first = 20, .hook = shut_it, .argument = &fd};
    trial_run(&trial);
    CHECK(trial.result == -EPIPE || trial.result == -ECONNRESET);
    CHECK(trial.stream.done <= 21);
    for (int64_t i = 0; i < trial.stream.done; i++) check_answered(&trial, i);
    CHECK(trial.took_ns < PROMPT_NS);
    trial_close(&trial);
}

static void far_end_dies_on_schedule(void) {
    check_far_dies((struct setup){.kind = LAB_TCP, .placement = INLINE});
    check_far_dies((struct setup){.kind = LAB_TCP, .placement = OWN_THREAD});
    check_far_dies((struct setup){.kind = LAB_UDP, .placement = OWN_THREAD});
}

/* Nine calls in ten fail for no reason. */
static void check_storms(struct setup setup) {
    const int errors[] = {EAGAIN, EINTR};
    for (int e = 0; e < 2; e++) {
        struct trial trial = trial_scheduled(setup);
        tamper.recv = (struct fault){.fd = trial.stream.near_fd, .error = errors[e], .times = INT64_MAX, .every = 10};
        trial_run(&trial);
        check_all_answered(&trial);
        trial_close(&trial);
    }
}

static void storms_on_schedule(void) {
    each_variant(check_storms);
}

static void check_limited(struct setup setup) {
    for (int scheduled = 0; scheduled <= 1; scheduled++) {
        setup.count = 100000;
        struct trial trial = scheduled ? trial_scheduled(setup) : trial_open(setup);
        trial.stream.limit_ns = 20 * MS;
        CHECK_EQUAL(trial_run(&trial), trial.stream.done);
        CHECK_EQUAL(trial.stream.limited, 1);
        CHECK(trial.stream.done < trial.stream.count);
        CHECK(trial.took_ns < PROMPT_NS);
        trial_close(&trial);
    }
}

static void time_is_limited(void) {
    each_variant(check_limited);
}

/* Neither a think time nor a wait for a reply outlasts the limit; a probe that it cuts short is not counted. */
static void check_cut_short(struct setup setup) {
    setup.warmup = 0, setup.timeout_ns = 10 * SECOND;
    for (int thinks = 0; thinks <= 1; thinks++) {
        struct trial trial = thinks ? trial_open(setup) : trial_deaf(setup);
        trial.stream.limit_ns = 20 * MS;
        trial.stream.think_ns = thinks ? 10 * SECOND : 0;
        CHECK_EQUAL(trial_run(&trial), 0);
        CHECK_EQUAL(trial.stream.limited, 1);
        CHECK(trial.took_ns < PROMPT_NS);
        trial_close(&trial);
    }
}

static void limit_cuts_short(void) {
    each_variant(check_cut_short);
}

static void check_thinking(struct setup setup) {
    struct trial trial = trial_open(setup);
    trial.stream.think_ns = PERIOD_NS;
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    for (int64_t i = 0; i < trial.stream.count; i++) {
        const struct lab_record *row = &trial.rows[i];
        check_answered(&trial, i);
        CHECK(row->due_ns <= row->tx_ns);
        if (i) CHECK(row->due_ns - row[-1].rx_ns >= PERIOD_NS);
    }
    trial_close(&trial);
}

static void think_time_is_kept(void) {
    each_variant(check_thinking);
}

/* Two threads on one CPU take turns; the reflector's are counted apart. */
static void usage_is_told(void) {
    struct trial trial = trial_open((struct setup){.kind = LAB_UDP, .placement = SAME_CPU});
    trial_run(&trial);
    CHECK(trial.stream.near_usage.voluntary + trial.stream.near_usage.involuntary > 0);
    CHECK(trial.stream.far_usage.voluntary + trial.stream.far_usage.involuntary > 0);
    trial_close(&trial);
    trial = trial_open((struct setup){.kind = LAB_UDP, .placement = INLINE});
    trial_run(&trial);
    CHECK_EQUAL(trial.stream.far_usage.voluntary + trial.stream.far_usage.involuntary, 0);
    trial_close(&trial);
}

const struct check schedule_checks[] = {
    CASE(schedule_is_kept, BOTH_FAMILIES | THREADS),
    CASE(stall_skips_no_probe, BOTH_FAMILIES | THREADS),
    CASE(refused_probes_stay_due, BOTH_FAMILIES),
    CASE(kernel_takes_no_more, 0),
    CASE(losses_are_told, BOTH_FAMILIES),
    CASE(nothing_comes_back, BOTH_FAMILIES),
    CASE(schedule_is_stopped, BOTH_FAMILIES | THREADS),
    CASE(far_end_dies_on_schedule, BOTH_FAMILIES | THREADS),
    CASE(storms_on_schedule, BOTH_FAMILIES),
    CASE(time_is_limited, BOTH_FAMILIES | THREADS),
    CASE(limit_cuts_short, BOTH_FAMILIES | THREADS),
    CASE(think_time_is_kept, BOTH_FAMILIES),
    CASE(usage_is_told, 0),
    {0},
};
