/* Streams that are stopped, and streams that signals interrupt. */
#include <semaphore.h>
#include <signal.h>
#include <sys/time.h>

#include "check.h"

/* ---- stopping ---- */

static void check_stopped_before(struct setup setup) {
    struct trial trial = trial_open(setup);
    trial.stop = 1;
    CHECK_EQUAL(trial_run(&trial), 0);
    CHECK_EQUAL(trial.stream.done, 0);
    CHECK(trial.took_ns < PROMPT_NS);
    trial_close(&trial);
}

static void stop_set_before(void) {
    each_variant(check_stopped_before);
}

struct stopper {
    struct trial *trial;
    sem_t go, returned;
    bool rescued;
};

static void give_go(void *stopper) {
    sem_post(&((struct stopper *)stopper)->go);
}

/* A stream that doesn't heed the flag would never return: then whatever holds it up is ended, and the case fails. */
static void *stop_when_told(void *argument) {
    struct stopper *stopper = argument;
    struct timespec limit;
    while (sem_wait(&stopper->go)) continue;
    __atomic_store_n(&stopper->trial->stop, 1, __ATOMIC_RELEASE);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += PROMPT_NS / SECOND;
    if (!sem_timedwait(&stopper->returned, &limit)) return NULL;
    stopper->rescued = true;
    tamper.send.times = 0;
    shutdown(stopper->trial->stream.near_fd, SHUT_RDWR);
    shutdown(stopper->trial->stream.far_fd, SHUT_RDWR);
    return NULL;
}

/* Another thread sets the flag when `fd` sends its `after`-th message; from then on, sending fails with `error`. */
static void run_and_stop(struct trial *trial, int fd, int64_t after, int error) {
    struct stopper stopper = {.trial = trial};
    pthread_t thread;
    sem_init(&stopper.go, 0, 0);
    sem_init(&stopper.returned, 0, 0);
    CHECK(!pthread_create(&thread, NULL, stop_when_told, &stopper));
    tamper.send = (struct fault){
        .fd = fd, .first = after, .times = INT64_MAX, .error = error, .hook = give_go, .argument = &stopper};
    trial_run(trial);
    sem_post(&stopper.returned);
    pthread_join(thread, NULL);
    CHECK(!stopper.rescued);
}

static void check_stopped_amid(struct setup setup) {
    setup.count = 1 << 20;
    struct trial trial = trial_open(setup);
    run_and_stop(&trial, trial.stream.near_fd, 50, 0);
    CHECK(trial.result >= 50 && trial.result < setup.count);
    CHECK_EQUAL(trial.stream.done, trial.result);
    for (int64_t i = 0; i < trial.result; i++) check_received(&trial, i);
    trial_close(&trial);
}

static void stop_set_amid(void) {
    each_variant(check_stopped_amid);
}

/* No reply ever comes: it is the wait that must notice the flag, long before the timeout. */
static void check_stopped_waiting(struct setup setup) {
    setup.timeout_ns = 3600 * SECOND;
    struct trial trial = trial_deaf(setup);
    run_and_stop(&trial, trial.stream.near_fd, 0, 0);
    CHECK_EQUAL(trial.result, 0);
    trial_close(&trial);
}

static void stop_set_while_waiting(void) {
    each_variant(check_stopped_waiting);
}

/* A TCP peer that reads nothing makes send() fail with EAGAIN at the end of each slice: sending must notice. */
static void check_stopped_sending(struct setup setup) {
    if (setup.kind != LAB_TCP) return;
    struct trial trial = trial_open(setup);
    run_and_stop(&trial, trial.stream.near_fd, 20, EAGAIN);
    CHECK_EQUAL(trial.result, 20);
    trial_close(&trial);
}

static void stop_set_while_sending(void) {
    each_variant(check_stopped_sending);
}

/* The reflector's sending likewise. */
static void check_stopped_replying(struct setup setup) {
    if (setup.kind != LAB_TCP) return;
    struct trial trial = trial_open(setup);
    run_and_stop(&trial, trial.stream.far_fd, 20, EAGAIN);
    CHECK_EQUAL(trial.result, 20);
    trial_close(&trial);
}

static void stop_set_while_replying(void) {
    each_variant(check_stopped_replying);
}

/* ---- a TCP message that can't be sent ---- */

static int32_t *stop_at_alarm;

static void ring(int signal) {
    (void)signal;
    tamper.send.times = 0;
    __atomic_store_n(stop_at_alarm, 1, __ATOMIC_RELEASE);
}

/* Runs a stream that must end without help, whatever it makes of its probes. */
static void run_unstopped(struct trial *trial) {
    const struct sigaction action = {.sa_handler = ring};
    const struct itimerval once = {.it_value.tv_sec = 5};
    stop_at_alarm = &trial->stop;
    CHECK(!sigaction(SIGALRM, &action, NULL));
    CHECK(!setitimer(ITIMER_REAL, &once, NULL));
    trial_run(trial);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    CHECK(!trial->stop);
}

/* From now on each look at the clock finds it 1 ms on, so that STALL_NS takes no time. */
static void hurry(void *unused) {
    (void)unused;
    __atomic_store_n(&tamper.leap_ns, MS, __ATOMIC_RELAXED);
}

static void check_stall(struct setup setup) {
    if (setup.kind != LAB_TCP) return;
    for (int far = 0; far <= 1; far++) {
        setup.count = 6, setup.timeout_ns = 20 * MS;
        struct trial trial = trial_open(setup);
        int fd = far ? trial.stream.far_fd : trial.stream.near_fd;
        tamper.send = (struct fault){.fd = fd, .first = 2, .times = INT64_MAX, .error = EAGAIN, .hook = hurry};
        run_unstopped(&trial);
        /* A reflector that is stuck in its own thread doesn't reply: the timeouts may be over before it gives up. */
        bool lost = far && setup.placement != INLINE && trial.result == setup.count;
        if (!lost) {
            CHECK_EQUAL(trial.result, far ? -EPIPE : -ETIME);
            CHECK_EQUAL(trial.stream.far_error, far ? ETIME : 0);
        }
        CHECK_EQUAL(trial.rows[2].status, far ? LAB_LOST : LAB_UNSENT);
        trial_close(&trial);
    }
}

static void stalled_sending_is_given_up(void) {
    each_variant(check_stall);
}

/* ---- signals ---- */

static pthread_t near_thread;
static volatile sig_atomic_t ticks, elsewhere;

/* Ends by itself, so that whoever waits for silence is not kept for ever. */
static void tick(int signal) {
    (void)signal;
    if (!pthread_equal(pthread_self(), near_thread)) elsewhere = 1;
    if (++ticks == 10000) setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
}

static void storm(struct trial *trial) {
    const struct itimerval each = {.it_interval.tv_usec = 200, .it_value.tv_usec = 200};
    const struct sigaction action = {.sa_handler = tick}; /* no SA_RESTART: calls fail with EINTR */
    near_thread = pthread_self();
    ticks = 0;
    CHECK(!sigaction(SIGALRM, &action, NULL));
    CHECK(!setitimer(ITIMER_REAL, &each, NULL));
    trial_run(trial);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    CHECK(ticks > 10);
    CHECK(!elsewhere);
}

static void check_storm(struct setup setup) {
    setup.count = 4000;
    struct trial trial = trial_open(setup);
    storm(&trial);
    check_all_received(&trial);
    trial_close(&trial);
}

static void signals_lose_nothing(void) {
    each_variant(check_storm);
}

/* The timeout holds although no wait ever lasts a whole slice. */
static void check_silent_storm(struct setup setup) {
    setup.patience = 2, setup.timeout_ns = 60 * MS;
    struct trial trial = trial_deaf(setup);
    storm(&trial);
    CHECK_EQUAL(trial.result, -ETIMEDOUT);
    CHECK_EQUAL(trial.stream.done, 2);
    CHECK(trial.took_ns < SECOND);
    trial_close(&trial);
}

static void signals_hold_up_no_timeout(void) {
    each_variant(check_silent_storm);
}

const struct check stop_checks[] = {
    CASE(stop_set_before, BOTH_FAMILIES | THREADS),
    CASE(stop_set_amid, BOTH_FAMILIES | THREADS),
    CASE(stop_set_while_waiting, BOTH_FAMILIES | THREADS),
    CASE(stop_set_while_sending, BOTH_FAMILIES | THREADS),
    CASE(stop_set_while_replying, BOTH_FAMILIES | THREADS),
    CASE(stalled_sending_is_given_up, BOTH_FAMILIES),
    CASE(signals_lose_nothing, BOTH_FAMILIES),
    CASE(signals_hold_up_no_timeout, BOTH_FAMILIES),
    {0},
};
