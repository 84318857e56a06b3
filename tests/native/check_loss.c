/* Streams over a bad network: what is lost, late, doubled, out of order, maimed or somebody else's. */
#include "check.h"

/* Long enough that no reply is late unless it is held back, even on a busy machine. */
#define TIMEOUT_NS (100 * MS)
enum { COUNT = 48 };

/* ---- chosen probes ---- */

/* What is done to one probe, and what its row must say. */
struct fate {
    int seq;
    enum action request, reply;
    int status, flags, bytes;
};

static const struct fate fates_udp[] = {
    {.seq = 3, .request = LOSE, .status = LAB_LOST},
    {.seq = 8, .reply = LOSE, .status = LAB_LOST},
    {.seq = 12, .reply = TWICE, .status = LAB_RECEIVED, .flags = LAB_FLAG_DUPLICATE, .bytes = 56},
    {.seq = 16, .request = TWICE, .status = LAB_RECEIVED, .flags = LAB_FLAG_DUPLICATE, .bytes = 56},
    {.seq = 20, .reply = HOLD_TO_NEXT, .status = LAB_LATE, .bytes = 56},
    {.seq = 24, .reply = HOLD_PAST_NEXT, .status = LAB_LATE, .flags = LAB_FLAG_REORDERED, .bytes = 56},
    {.seq = 28, .reply = BEYOND, .status = LAB_LOST},
    {.seq = 32, .reply = CUT, .status = LAB_RECEIVED, .flags = LAB_FLAG_OTHER_SIZE, .bytes = CUT_BYTES},
    {.seq = 36, .reply = CUT_SHORT, .status = LAB_LOST},
    {.seq = 40, .reply = OTHER_NONCE, .status = LAB_LOST},
    {.seq = 44, .reply = EMPTY, .status = LAB_LOST},
};
static const struct fate fates_tcp[] = {
    {.seq = 3, .request = LOSE, .status = LAB_LOST},
    {.seq = 8, .reply = LOSE, .status = LAB_LOST},
    {.seq = 12, .reply = TWICE, .status = LAB_RECEIVED, .flags = LAB_FLAG_DUPLICATE, .bytes = 56},
    {.seq = 16, .request = TWICE, .status = LAB_RECEIVED, .flags = LAB_FLAG_DUPLICATE, .bytes = 56},
    {.seq = 20, .reply = HOLD_TO_NEXT, .status = LAB_LATE, .bytes = 56},
    {.seq = 24, .reply = HOLD_PAST_NEXT, .status = LAB_LATE, .flags = LAB_FLAG_REORDERED, .bytes = 56},
    {.seq = 28, .reply = BEYOND, .status = LAB_LOST},
    {.seq = 32, .reply = HALF, .status = LAB_LATE, .bytes = 56},
    {.seq = 36, .reply = PIECES, .status = LAB_RECEIVED, .bytes = 56},
    {.seq = 40, .reply = OTHER_NONCE, .status = LAB_LOST},
    {.seq = 44, .request = PIECES, .status = LAB_RECEIVED, .bytes = 56},
};
enum { FATES = sizeof fates_udp / sizeof *fates_udp };
_Static_assert(sizeof fates_udp == sizeof fates_tcp, "as many of each");

static void check_fate(const struct trial *trial, const struct fate *fate) {
    const struct lab_record *row = &trial->rows[fate->seq];
    CHECK_EQUAL(row->status, fate->status);
    CHECK_EQUAL(row->flags & ~LAB_FLAG_INLINE, fate->flags);
    CHECK_EQUAL(row->reply_bytes, fate->bytes);
    CHECK(row->tx_ns && row->due_ns == row->tx_ns && row->tx_ns <= row->tx_done_ns);
    if (fate->status == LAB_LOST) {
        CHECK(!row->rx_ns && !row->far_rx_ns && !row->far_tx_ns && !row->flags);
        return;
    }
    CHECK_EQUAL(row->rx_ns - row->tx_ns > TIMEOUT_NS, fate->status == LAB_LATE);
    CHECK(row->tx_ns <= row->far_rx_ns && row->far_rx_ns <= row->far_tx_ns && row->far_tx_ns <= row->rx_ns);
}

/* Which of the fates is that of probe `seq`, or NULL. */
static const struct fate *fate_of(const struct fate *fates, int64_t seq) {
    for (int i = 0; i < FATES; i++)
        if (fates[i].seq == seq) return &fates[i];
    return NULL;
}

static void check_fates(struct setup setup) {
    /* Each loss takes its time, so not every variant: no spinning but by one thread, and inline by either wait. */
    int expected_wait = setup.placement == INLINE && setup.kind == LAB_TCP ? LAB_SPIN : LAB_BLOCK;
    if (setup.wait != expected_wait) return;
    const struct fate *fates = setup.kind == LAB_UDP ? fates_udp : fates_tcp;
    enum action requests[COUNT] = {PASS}, replies[COUNT] = {PASS};
    for (int i = 0; i < FATES; i++) {
        requests[fates[i].seq] = fates[i].request;
        replies[fates[i].seq] = fates[i].reply;
    }
    setup.count = COUNT, setup.timeout_ns = TIMEOUT_NS;
    struct trial trial = trial_open(setup);
    tamper_with(&trial, requests, replies);
    CHECK_EQUAL(trial_run(&trial), COUNT);
    for (int64_t i = 0; i < COUNT; i++) {
        const struct fate *fate = fate_of(fates, i);
        snprintf(trying + strcspn(trying, "#"), 20, "#%d", (int)i);
        if (fate)
            check_fate(&trial, fate);
        else
            check_received(&trial, i);
    }
    CHECK_EQUAL(trial.stream.foreign, setup.kind == LAB_UDP ? 3 : 1); /* CUT_SHORT, OTHER_NONCE, EMPTY */
    CHECK_EQUAL(trial.stream.far_foreign, 0);
    trial_close(&trial);
}

static void chosen_probes_fare_as_they_must(void) {
    each_variant(check_fates);
}

/* A duplicate of the very last reply: found when the queue is drained. The hook runs before that reply is sent. */
static void send_last_reply(void *argument) {
    const struct trial *trial = argument;
    struct {
        struct payload head;
        unsigned char filler[56 - LAB_MIN_PAYLOAD];
    } reply = {.head = {.nonce = trial->stream.nonce, .seq = (uint64_t)trial->stream.count - 1}};
    send_plain(trial->stream.far_fd, &reply, sizeof reply);
}

static void check_last(struct setup setup) {
    if (setup.placement != INLINE) return; /* only there is it certain that both are queued when the first is read */
    struct trial trial = trial_open(setup);
    int64_t last = trial.stream.count - 1;
    tamper.send = (struct fault){.fd = trial.stream.far_fd, .first = last, .hook = send_last_reply, .argument = &trial};
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    for (int64_t i = 0; i < last; i++) check_received(&trial, i);
    CHECK_EQUAL(trial.rows[last].status, LAB_RECEIVED);
    CHECK(trial.rows[last].flags & LAB_FLAG_DUPLICATE);
    trial_close(&trial);
}

static void last_reply_twice(void) {
    each_variant(check_last);
}

/* A reply to a probe of the warm-up, long after it: neither recorded nor foreign. */
static void send_warmup_reply(void *argument) {
    const struct trial *trial = argument;
    struct payload reply = {.nonce = trial->stream.nonce, .seq = SEQ_UNRECORDED | 1};
    unsigned char bytes[56] = {0};
    memcpy(bytes, &reply, sizeof reply);
    send_plain(trial->stream.far_fd, bytes, sizeof bytes);
}

static void check_late_warmup(struct setup setup) {
    setup.warmup = 4;
    struct trial trial = trial_open(setup);
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .first = 30, .hook = send_warmup_reply, .argument = &trial};
    trial_run(&trial);
    check_all_received(&trial);
    CHECK_EQUAL(trial.stream.foreign, 0);
    trial_close(&trial);
}

static void late_reply_to_the_warmup(void) {
    each_variant(check_late_warmup);
}

/* ---- patience ---- */

static void check_patience(struct setup setup) {
    setup.patience = 3, setup.timeout_ns = 10 * MS;
    struct trial trial = trial_deaf(setup);
    CHECK_EQUAL(trial_run(&trial), -ETIMEDOUT);
    CHECK_EQUAL(trial.stream.far_error, 0);
    CHECK_EQUAL(trial.stream.done, 3);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(trial.rows[i].status, LAB_LOST);
        CHECK(trial.rows[i].tx_ns && !trial.rows[i].rx_ns);
    }
    CHECK_EQUAL(trial.rows[3].tx_ns, 0);
    trial_close(&trial);
}

static void patience_runs_out(void) {
    each_variant(check_patience);
}

static void check_impatient_warmup(struct setup setup) {
    setup.patience = 3, setup.warmup = 5, setup.timeout_ns = 5 * MS;
    struct trial trial = trial_deaf(setup);
    CHECK_EQUAL(trial_run(&trial), -ETIMEDOUT);
    CHECK_EQUAL(trial.stream.done, 0);
    CHECK_EQUAL(trial.rows[0].tx_ns, 0);
    trial_close(&trial);
}

static void patience_runs_out_in_the_warmup(void) {
    each_variant(check_impatient_warmup);
}

static void check_endless_patience(struct setup setup) {
    setup.count = 6, setup.timeout_ns = 5 * MS;
    struct trial trial = trial_deaf(setup);
    CHECK_EQUAL(trial_run(&trial), 6);
    for (int i = 0; i < 6; i++) CHECK_EQUAL(trial.rows[i].status, LAB_LOST);
    trial_close(&trial);
}

static void no_patience_no_end(void) {
    each_variant(check_endless_patience);
}

/* Two lost in a row, answered, two lost, ...: three in a row is never reached. */
static void check_renewed_patience(struct setup setup) {
    enum action replies[9];
    for (int i = 0; i < 9; i++) replies[i] = i % 3 == 2 ? PASS : LOSE;
    setup.count = 9, setup.patience = 3, setup.timeout_ns = 20 * MS;
    struct trial trial = trial_open(setup);
    tamper_with(&trial, NULL, replies);
    CHECK_EQUAL(trial_run(&trial), 9);
    trial_close(&trial);
}

static void an_answer_renews_patience(void) {
    each_variant(check_renewed_patience);
}

/* ---- strangers ---- */

/* Sends what is no message of the stream from `fd`; how many that were. UDP may carry any length, TCP whole ones. */
static int send_strange(const struct trial *trial, int fd, bool empty) {
    unsigned char bytes[56] = {0};
    struct payload head = {.nonce = trial->stream.nonce ^ 1, .seq = 50};
    memcpy(bytes, &head, sizeof head);
    send_plain(fd, bytes, sizeof bytes);
    if (trial->stream.kind == LAB_TCP) return 1;
    head.nonce ^= 1;
    memcpy(bytes, &head, sizeof head);
    send_plain(fd, bytes, LAB_MIN_PAYLOAD - 1);
    if (empty) send_plain(fd, bytes, 0);
    return empty ? 3 : 2;
}

static void send_strange_replies(void *argument) {
    const struct trial *trial = argument;
    send_strange(trial, trial->stream.far_fd, true);
}

/* In front of the first reply, whose source is looked at, and of a later one, whose is not. */
static void check_strange_replies(struct setup setup) {
    struct trial trial = trial_open(setup);
    int expected = 2 * send_strange(&trial, trial.stream.far_fd, true);
    tamper.send =
        (struct fault){.fd = trial.stream.near_fd, .first = 5, .hook = send_strange_replies, .argument = &trial};
    trial_run(&trial);
    check_all_received(&trial);
    CHECK_EQUAL(trial.stream.foreign, expected);
    CHECK_EQUAL(trial.stream.far_foreign, 0);
    trial_close(&trial);
}

static void strange_replies_are_counted(void) {
    each_variant(check_strange_replies);
}

/* None is answered: an answer would be foreign at the near end. */
static void check_strange_requests(struct setup setup) {
    struct trial trial = trial_open(setup);
    int expected = send_strange(&trial, trial.stream.near_fd, false);
    trial_run(&trial);
    check_all_received(&trial);
    CHECK_EQUAL(trial.stream.far_foreign, expected);
    CHECK_EQUAL(trial.stream.foreign, 0);
    CHECK_EQUAL(tamper.replies.sent, trial.stream.count);
    trial_close(&trial);
}

static void strange_requests_are_not_answered(void) {
    each_variant(check_strange_requests);
}

const struct check loss_checks[] = {
    CASE(chosen_probes_fare_as_they_must, BOTH_FAMILIES | THREADS),
    CASE(last_reply_twice, BOTH_FAMILIES),
    CASE(late_reply_to_the_warmup, BOTH_FAMILIES),
    CASE(patience_runs_out, BOTH_FAMILIES | THREADS),
    CASE(patience_runs_out_in_the_warmup, BOTH_FAMILIES),
    CASE(no_patience_no_end, BOTH_FAMILIES),
    CASE(an_answer_renews_patience, BOTH_FAMILIES),
    CASE(strange_replies_are_counted, BOTH_FAMILIES | THREADS),
    CASE(strange_requests_are_not_answered, BOTH_FAMILIES | THREADS),
    {0},
};
