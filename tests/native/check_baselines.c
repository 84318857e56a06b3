/* Streams over what is no network: unix sockets, pipes, and memory that two CPUs share. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "check.h"

/* ---- ends ---- */

/* A baseline: how the loop treats it, and the type of unix socket that it is, or 0. */
struct baseline {
    const char *name;
    int kind, type;
};

static const struct baseline unix_stream = {"unix-stream", LAB_TCP, SOCK_STREAM};
static const struct baseline unix_dgram = {"unix-dgram", LAB_UDP, SOCK_DGRAM};
static const struct baseline unix_seqpacket = {"unix-seqpacket", LAB_UDP, SOCK_SEQPACKET};
static const struct baseline pipes = {"pipe", LAB_PIPE, 0};
static const struct baseline shm = {"shm", LAB_SHM, 0};
static const struct baseline *const all[] = {&unix_stream, &unix_dgram, &unix_seqpacket, &pipes, &shm};

static void open_unix(int type, struct lab_stream *s) {
    int fds[2], room = 4 * LAB_MAX_PAYLOAD;
    CHECK(!socketpair(AF_UNIX, type, 0, fds));
    for (int i = 0; i < 2; i++) CHECK(!setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
    s->near_fd = fds[0];
    s->far_fd = fds[1];
}

static void open_pipes(struct lab_stream *s) {
    int there[2], back[2], flags = s->wait == LAB_SPIN ? O_NONBLOCK : 0;
    CHECK(!pipe2(there, flags) && !pipe2(back, flags));
    s->near_fd = back[0], s->near_out_fd = there[1];
    s->far_fd = there[0], s->far_out_fd = back[1];
    signal(SIGPIPE, SIG_IGN); /* as in Python */
}

static struct trial trial_of(const struct baseline *baseline, struct setup setup) {
    struct trial trial = trial_over(setup, -1, -1);
    struct lab_stream *s = &trial.stream;
    snprintf(trying, sizeof trying, "%s, %s, far CPU %d, %d bytes", baseline->name,
             setup.wait == LAB_SPIN ? "spin" : "block", s->far_cpu, s->size);
    s->kind = baseline->kind;
    s->family = AF_UNIX;
    s->near_out_fd = s->far_out_fd = -1;
    if (baseline->type) open_unix(baseline->type, s);
    if (baseline->kind == LAB_PIPE) open_pipes(s);
    return trial;
}

static void close_ends(struct trial *trial) {
    const struct lab_stream *s = &trial->stream;
    const int fds[] = {s->near_fd, s->far_fd, s->near_out_fd, s->far_out_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0) close(fds[i]);
    free(trial->rows);
    free(trial->scratch);
}

/* ---- what comes back ---- */

/* Every row is that of a message that came back, whole, from a far end that had it in between. */
static void check_rows(const struct trial *trial) {
    const struct lab_stream *s = &trial->stream;
    CHECK_EQUAL(trial->result, s->count);
    CHECK_EQUAL(s->done, s->count);
    CHECK_EQUAL(s->far_error, 0);
    CHECK(!s->source_seen && !s->reply_ttl);
    for (const struct lab_record *row = trial->rows; row < trial->rows + s->count; row++) {
        CHECK_EQUAL(row->status, LAB_RECEIVED);
        CHECK_EQUAL(row->reply_bytes, s->size);
        CHECK_EQUAL(row->flags & ~LAB_FLAG_INLINE, 0);
        CHECK(row->due_ns == row->tx_ns && row->tx_ns <= row->tx_done_ns && row->tx_done_ns <= row->rx_ns);
        CHECK(row->tx_ns <= row->far_rx_ns && row->far_rx_ns <= row->far_tx_ns && row->far_tx_ns <= row->rx_ns);
        if (row > trial->rows) CHECK(row[-1].rx_ns <= row->tx_ns);
    }
}

/* Every size by every way of waiting; three streams over the same ends. What one leaves there is its goodbye at most,
 * where the reflector saw first that the stream had finished. */
static void received(const struct baseline *baseline, enum placement placement, int wait) {
    const int sizes[] = {LAB_MIN_PAYLOAD, 56, 57, 1440, LAB_MAX_PAYLOAD};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct trial trial = trial_of(
            baseline, (struct setup){.placement = placement, .wait = wait, .size = sizes[i], .warmup = 7});
        for (int again = 0; again < 3; again++) {
            trial.stream.nonce++;
            memset(trial.rows, 0, (size_t)trial.stream.count * sizeof *trial.rows);
            trial_run(&trial);
            check_rows(&trial);
            CHECK_EQUAL(trial.stream.foreign, 0);
            CHECK(trial.stream.far_foreign <= again);
        }
        close_ends(&trial);
    }
}

static void each_kernel_baseline(enum placement placement, int wait) {
    for (size_t i = 0; all[i] != &shm; i++) received(all[i], placement, wait);
}

static void baselines_inline(void) {
    for (int wait = LAB_BLOCK; wait <= LAB_SPIN; wait++) each_kernel_baseline(INLINE, wait);
}

static void baselines_same_cpu(void) {
    each_kernel_baseline(SAME_CPU, LAB_BLOCK);
}

static void baselines_cross_cpu(void) {
    for (int wait = LAB_BLOCK; wait <= LAB_SPIN; wait++) each_kernel_baseline(CROSS_CPU, wait);
}

static void shm_received(void) {
    received(&shm, CROSS_CPU, LAB_SPIN);
}

/* Wherever the caller's memory begins, the lanes are whole cache lines and lie within it. */
static void shm_scratch_of_any_alignment(void) {
    for (size_t shift = 0; shift < 64; shift += 7) {
        struct trial trial = trial_of(&shm, (struct setup){.placement = CROSS_CPU, .wait = LAB_SPIN, .count = 5});
        unsigned char *memory = malloc(LAB_SCRATCH_BYTES + shift), *own = trial.scratch;
        CHECK(memory);
        trial.scratch = memory + shift;
        trial_run(&trial);
        check_rows(&trial);
        free(memory);
        trial.scratch = own;
        close_ends(&trial);
    }
}

static void warmup_only_of_baselines(void) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct trial trial =
            trial_of(all[i], (struct setup){.placement = CROSS_CPU, .wait = LAB_SPIN, .warmup = 5, .count = 1});
        trial.stream.count = 0;
        CHECK_EQUAL(trial_run(&trial), 0);
        CHECK_EQUAL(trial.rows[0].tx_ns, 0);
        close_ends(&trial);
    }
}

/* ---- what ends them ---- */

/* Sets the stop flag from a thread of its own, once the stream has got somewhere. */
static void *stop_later(void *argument) {
    struct trial *trial = argument;
    usleep(20000);
    __atomic_store_n(&trial->stop, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void stopped_baselines_keep_their_rows(void) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct trial trial =
            trial_of(all[i], (struct setup){.placement = CROSS_CPU, .wait = LAB_SPIN, .count = 4000000});
        pthread_t stopper;
        CHECK(!pthread_create(&stopper, NULL, stop_later, &trial));
        trial_run(&trial);
        CHECK(!pthread_join(stopper, NULL));
        CHECK(trial.result >= 0 && trial.result < trial.stream.count);
        CHECK_EQUAL(trial.result, trial.stream.done);
        trial.stream.count = trial.result;
        check_rows(&trial);
        close_ends(&trial);
    }
}

/* The clock leaps past the timeout at each look: no message is lost, so the stream ends. */
static void shm_that_is_not_answered_in_time(void) {
    struct trial trial = trial_of(
        &shm, (struct setup){.placement = CROSS_CPU, .wait = LAB_SPIN, .count = 100000, .timeout_ns = 1});
    tamper.leap_ns = SECOND;
    CHECK_EQUAL(trial_run(&trial), -ETIME);
    CHECK(trial.stream.done < trial.stream.count);
    CHECK_EQUAL(trial.rows[trial.stream.done].status, LAB_LOST);
    CHECK_EQUAL(trial.rows[trial.stream.done].rx_ns, 0);
    CHECK_EQUAL(trial.stream.far_error, 0);
    close_ends(&trial);
}

static void shm_cannot_be_pinned(void) {
    struct trial trial = trial_of(&shm, (struct setup){.placement = CROSS_CPU, .wait = LAB_SPIN});
    trial.stream.far_cpu = CPU_SETSIZE - 1; /* no machine has so many that this one would be among them */
    CHECK_EQUAL(trial_run(&trial), -EPIPE);
    CHECK_EQUAL(trial.stream.far_error, EINVAL);
    CHECK_EQUAL(trial.stream.done, 0);
    CHECK(trial.took_ns < PROMPT_NS);
    close_ends(&trial);
}

static void shm_without_a_thread(void) {
    struct trial trial = trial_of(&shm, (struct setup){.placement = CROSS_CPU, .wait = LAB_SPIN});
    tamper.thread_error = EAGAIN;
    CHECK_EQUAL(trial_run(&trial), -EAGAIN);
    CHECK_EQUAL(trial.stream.done, 0);
    close_ends(&trial);
}

/* Whoever reads from a pipe that nobody writes to any more is told so, and so is who writes to one that nobody reads. */
static void pipe_whose_far_end_is_closed(void) {
    for (int which = 0; which < 2; which++) {
        struct trial trial = trial_of(&pipes, (struct setup){.placement = INLINE});
        struct lab_stream *s = &trial.stream;
        int *closed = which ? &s->far_out_fd : &s->far_fd;
        int null = open("/dev/null", which ? O_WRONLY : O_RDONLY);
        CHECK(dup2(null, *closed) == *closed);
        CHECK(trial_run(&trial) < 0);
        CHECK_EQUAL(s->done, 0);
        close(null);
        close_ends(&trial);
    }
}

static void fields_of_baselines_out_of_range(void) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct trial trial = trial_of(all[i], (struct setup){.placement = CROSS_CPU, .wait = LAB_SPIN});
        struct lab_stream good = trial.stream;
#define REFUSED(change)                                \
    do {                                               \
        trial.stream.change;                           \
        CHECK_EQUAL(trial_run(&trial), -EINVAL);       \
        CHECK_EQUAL(trial.stream.done, 0);             \
        trial.stream = good;                           \
    } while (0)
        REFUSED(kind = LAB_SHM + 1);
        REFUSED(size = LAB_MIN_PAYLOAD - 1);
        REFUSED(size = LAB_MAX_PAYLOAD + 1);
        REFUSED(count = -1);
        REFUSED(timeout_ns = 0);
        REFUSED(far_cpu = CPU_SETSIZE);
        if (all[i] == &shm) {
            REFUSED(far_fd = 0);  /* it has no ends */
            REFUSED(far_cpu = -1); /* and is played by two */
            REFUSED(wait = LAB_BLOCK);
        } else {
            REFUSED(far_fd = -1);
        }
        trial_run(&trial);
        check_rows(&trial);
        close_ends(&trial);
    }
}

const struct check baseline_checks[] = {
    CASE(baselines_inline, 0),
    CASE(baselines_same_cpu, THREADS),
    CASE(baselines_cross_cpu, THREADS),
    CASE(shm_received, THREADS),
    CASE(shm_scratch_of_any_alignment, THREADS),
    CASE(warmup_only_of_baselines, THREADS),
    CASE(stopped_baselines_keep_their_rows, THREADS),
    CASE(shm_that_is_not_answered_in_time, THREADS),
    CASE(shm_cannot_be_pinned, THREADS),
    CASE(shm_without_a_thread, 0),
    CASE(pipe_whose_far_end_is_closed, 0),
    CASE(fields_of_baselines_out_of_range, THREADS),
    {0},
};
