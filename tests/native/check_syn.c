/* Raw SYNs, which the kernel answers: in time, never, twice, or not at all as expected. */
#include <linux/filter.h>
#include <linux/net_tstamp.h>
#include <unistd.h>

#include "check.h"

enum { SYN_ACK = 0x12, RST_ACK = 0x14, ACK = 0x10 };

/* ---- ends ---- */

/* The sockets that keep both ports for us, and a raw one beside the stream's, to forge replies with. */
static struct {
    int reserved, server, forger;
} held;

static int open_raw(void) {
    int fd = socket(family, SOCK_RAW, IPPROTO_TCP);
    if (fd < 0 && (errno == EPERM || errno == EACCES)) {
        enter_own_network();
        fd = socket(family, SOCK_RAW, IPPROTO_TCP);
    }
    if (fd < 0) skip("no raw socket", errno);
    return fd;
}

/* As lab.world does it: segments from the far port to ours alone. */
static void pass_only(int fd, uint16_t from, uint16_t to) {
    uint16_t load = family == AF_INET ? BPF_LD | BPF_H | BPF_IND : BPF_LD | BPF_H | BPF_ABS;
    struct sock_filter code[] = {
        {BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0}, /* of IPv6, a byte that nobody asks for */
        {load, 0, 0, 0},       {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, from},
        {load, 0, 0, 2},       {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, to},
        {BPF_RET | BPF_K, 0, 0, UINT32_MAX}, {BPF_RET | BPF_K, 0, 0, 0},
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    CHECK(!setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
}

static void bind_and_connect(int fd, const struct lab_stream *s) {
    struct sockaddr_storage target = {.ss_family = (sa_family_t)family};
    socklen_t length = sizeof(struct sockaddr_in6);
    if (family == AF_INET) {
        memcpy(&((struct sockaddr_in *)&target)->sin_addr, s->target, 4);
        length = sizeof(struct sockaddr_in);
    } else {
        memcpy(&((struct sockaddr_in6 *)&target)->sin6_addr, s->target, 16);
    }
    CHECK(!bind(fd, (struct sockaddr *)&target, length));
    CHECK(!connect(fd, (struct sockaddr *)&target, length));
}

/* A stream that has no stamps yet. */
static struct trial trial_unstamped(bool open, struct setup setup) {
    int near = open_raw();
    held.forger = open_raw();
    held.reserved = open_socket(SOCK_STREAM);
    held.server = open_socket(SOCK_STREAM);
    if (open) CHECK(!listen(held.server, 16));
    struct trial trial = trial_over(setup, near, -1);
    struct lab_stream *s = &trial.stream;
    s->kind = LAB_TCP_SYN;
    s->near_port = port_of(held.reserved);
    s->far_port = port_of(held.server);
    tamper_not();
    int yes = 1;
    if (family == AF_INET6) CHECK(!setsockopt(near, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &yes, sizeof yes));
    pass_only(near, s->far_port, s->near_port);
    bind_and_connect(near, s);
    bind_and_connect(held.forger, s);
    return trial;
}

/* The kernel's stamps are on when a reply has one. */
static struct trial trial_syn(bool open, struct setup setup) {
    struct trial trial = trial_unstamped(open, setup);
    int flags = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    CHECK(!setsockopt(trial.stream.near_fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof flags));
    struct lab_stream wanted = trial.stream;
    int64_t deadline_ns = now_ns() + 10 * SECOND;
    do {
        CHECK(now_ns() < deadline_ns);
        trial.stream.count = 1;
        trial.stream.warmup = 0;
    } while (trial_run(&trial) == -ENODATA);
    trial.stream = wanted;
    memset(trial.rows, 0, (size_t)wanted.count * sizeof *trial.rows);
    return trial;
}

static void close_syn(struct trial *trial) {
    close(held.reserved);
    close(held.server);
    close(held.forger);
    trial_close(trial);
}

/* Sends what looks like the far end's answer to probe `number`, or `length` bytes of it. */
static void forge(const struct lab_stream *s, int64_t number, unsigned char flags, size_t length) {
    uint32_t isn = (uint32_t)(s->nonce ^ s->nonce >> 32) + (uint32_t)number * 0x9e3779b1U;
    unsigned char segment[20] = {[12] = 0x50, [13] = flags};
    uint16_t from = htons(s->far_port), to = htons(s->near_port);
    uint32_t acknowledged = htonl(isn + 1);
    memcpy(segment, &from, 2);
    memcpy(segment + 2, &to, 2);
    memcpy(segment + 8, &acknowledged, 4);
    send_plain(held.forger, segment, length);
}

/* ---- replies ---- */

static void check_replied(const struct trial *trial, int64_t seq) {
    const struct lab_record *row = &trial->rows[seq];
    CHECK_EQUAL(row->status, LAB_RECEIVED);
    CHECK_EQUAL(row->flags & ~LAB_FLAG_DUPLICATE, LAB_FLAG_INLINE);
    CHECK(row->due_ns == row->tx_ns && row->tx_ns <= row->tx_done_ns);
    CHECK(row->tx_ns <= row->rx_ns && row->rx_ns <= row->tx_done_ns); /* the kernel replies within send() */
    CHECK(row->tx_done_ns <= row->user_rx_ns);
    CHECK_EQUAL(row->reply_ttl, trial->ttl);
    CHECK(!row->reply_bytes && !row->far_rx_ns && !row->far_tx_ns);
}

static void check_all_replied(const struct trial *trial) {
    const struct lab_stream *s = &trial->stream;
    CHECK_EQUAL(trial->result, s->count);
    CHECK_EQUAL(s->done, s->count);
    CHECK_EQUAL(s->foreign, 0);
    for (int64_t i = 0; i < s->count; i++) check_replied(trial, i);
    CHECK(s->source_seen && !memcmp(s->reply_source, s->target, family == AF_INET ? 4 : 16));
    CHECK_EQUAL(s->reply_ttl, trial->ttl);
}

static void syns(void) {
    for (int open = 0; open <= 1; open++) {
        for (int wait = LAB_BLOCK; wait <= LAB_YIELD; wait++) {
            struct trial trial = trial_syn(open, (struct setup){.wait = wait, .count = 200, .warmup = 5});
            int64_t before_ns = now_ns();
            trial_run(&trial);
            int64_t after_ns = now_ns();
            check_all_replied(&trial);
            /* Moved to CLOCK_MONOTONIC, as exactly as the two clocks can be compared. */
            CHECK(trial.rows[0].tx_ns > before_ns - MS && trial.rows[199].user_rx_ns < after_ns + MS);
            CHECK(trial.stream.offset_ns != 0);
            close_syn(&trial);
        }
    }
}

static void syns_without_stamps(void) {
    struct trial trial = trial_unstamped(false, (struct setup){0});
    CHECK_EQUAL(trial_run(&trial), -ENODATA);
    CHECK_EQUAL(trial.stream.done, 0);
    close_syn(&trial);
}

/* A listener that gets no segment answers none. */
static void syns_unanswered(void) {
    for (int wait = LAB_BLOCK; wait <= LAB_YIELD; wait++) {
        struct trial trial = trial_syn(true, (struct setup){.wait = wait, .count = 3, .timeout_ns = 60 * MS});
        struct sock_filter drop = {.code = BPF_RET | BPF_K};
        struct sock_fprog program = {.len = 1, .filter = &drop};
        CHECK(!setsockopt(held.server, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
        CHECK_EQUAL(trial_run(&trial), 3);
        for (int i = 0; i < 3; i++)
            CHECK(trial.rows[i].status == LAB_LOST && !trial.rows[i].rx_ns && !trial.rows[i].user_rx_ns);
        CHECK(trial.took_ns >= 3 * 60 * MS && trial.took_ns < 3 * 60 * MS + PROMPT_NS);
        trial.stream.patience = 2;
        CHECK_EQUAL(trial_run(&trial), -ETIMEDOUT);
        CHECK_EQUAL(trial.stream.done, 2);
        trial.stop = 1;
        CHECK_EQUAL(trial_run(&trial), 0);
        close_syn(&trial);
    }
}

static void syns_that_cannot_be_sent(void) {
    struct trial trial = trial_syn(false, (struct setup){0});
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .error = ENOBUFS, .first = 7, .times = 1};
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    for (int64_t i = 0; i < trial.stream.count; i++)
        if (i != 7) check_replied(&trial, i);
    CHECK(trial.rows[7].status == LAB_UNSENT && trial.rows[7].tx_ns && !trial.rows[7].rx_ns);
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .error = EPERM, .first = 7, .times = 1};
    CHECK_EQUAL(trial_run(&trial), -EPERM);
    CHECK_EQUAL(trial.stream.done, 7);
    close_syn(&trial);
}

static void close_it(void *fd) {
    close(*(int *)fd);
}

static void syns_interrupted_and_closed_underneath(void) {
    struct trial trial = trial_syn(true, (struct setup){0});
    int near = trial.stream.near_fd;
    tamper.send = (struct fault){.fd = near, .error = EINTR, .times = INT64_MAX, .every = 2};
    trial_run(&trial);
    check_all_replied(&trial);
    tamper.send = (struct fault){.fd = -1};
    tamper.recvmsg = (struct fault){.fd = near, .error = EINTR, .times = INT64_MAX, .every = 2};
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    tamper.recvmsg = (struct fault){.fd = near, .first = 20, .hook = close_it, .argument = &near};
    CHECK_EQUAL(trial_run(&trial), -EBADF);
    close_syn(&trial);
}

/* ---- what else may come ---- */

static void forge_some(void *trial) {
    const struct lab_stream *s = &((struct trial *)trial)->stream;
    forge(s, 3, RST_ACK, 20);       /* once more */
    forge(s, 3, ACK, 20);           /* says that a SYN is pending: no reply, but none of somebody else's */
    forge(s, s->count, SYN_ACK, 20); /* to what was never sent */
    forge(s, 1 << 30, RST_ACK, 20);
    forge(s, 4, SYN_ACK & ~ACK, 20); /* acknowledges nothing */
    forge(s, 4, RST_ACK, 12);       /* cut short */
}

static void strange_replies_to_syns(void) {
    struct trial trial = trial_syn(false, (struct setup){0});
    tamper.send =
        (struct fault){.fd = trial.stream.near_fd, .first = 50, .hook = forge_some, .argument = &trial};
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    CHECK_EQUAL(trial.stream.foreign, 4);
    for (int64_t i = 0; i < trial.stream.count; i++) {
        if (i != 50) check_replied(&trial, i); /* whose first look met something else */
        CHECK_EQUAL(trial.rows[i].status, LAB_RECEIVED);
        CHECK_EQUAL(trial.rows[i].flags & LAB_FLAG_DUPLICATE, i == 3 ? LAB_FLAG_DUPLICATE : 0);
    }
    close_syn(&trial);
}

static void fields_of_syns_out_of_range(void) {
    struct trial trial = trial_syn(false, (struct setup){0});
    const struct lab_stream good = trial.stream;
#define REFUSED(change)                          \
    do {                                         \
        trial.stream.change;                     \
        CHECK_EQUAL(trial_run(&trial), -EINVAL); \
        trial.stream = good;                     \
    } while (0)
    REFUSED(family = AF_UNIX);
    REFUSED(near_port = 0);
    REFUSED(far_port = 0);
    REFUSED(far_fd = held.server);
    REFUSED(far_cpu = 0);
    REFUSED(think_ns = 1);
    REFUSED(count = (int64_t)INT32_MAX + 1);
    trial_run(&trial);
    check_all_replied(&trial);
    close_syn(&trial);
}

const struct check syn_checks[] = {
    CASE(syns, BOTH_FAMILIES),
    CASE(syns_without_stamps, BOTH_FAMILIES),
    CASE(syns_unanswered, BOTH_FAMILIES),
    CASE(syns_that_cannot_be_sent, BOTH_FAMILIES),
    CASE(syns_interrupted_and_closed_underneath, 0),
    CASE(strange_replies_to_syns, BOTH_FAMILIES),
    CASE(fields_of_syns_out_of_range, 0),
    {0},
};
