/* Echo requests, which the kernel answers: by raw sockets and by ping sockets. */
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <unistd.h>

#include "check.h"

/* ---- sockets ---- */

static int try_icmp(int kind) {
    int type = kind == LAB_ICMP_RAW ? SOCK_RAW : SOCK_DGRAM;
    return socket(family, type, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* As lab.world sets it up: a raw socket gets echo replies only, and the others tell the TTL. */
static int open_icmp(int kind) {
    int fd = try_icmp(kind), yes = 1;
    if (fd < 0 && (errno == EPERM || errno == EACCES)) {
        enter_own_network();
        fd = try_icmp(kind);
    }
    if (fd < 0) skip("no ICMP socket", errno);
    struct icmp_filter only_replies = {.data = ~1U};
    struct icmp6_filter only_replies_6;
    memset(&only_replies_6, 0xff, sizeof only_replies_6);
    only_replies_6.data[129 / 32] &= ~(1U << 129 % 32);
    if (kind == LAB_ICMP_RAW && family == AF_INET)
        CHECK(!setsockopt(fd, SOL_RAW, ICMP_FILTER, &only_replies, sizeof only_replies));
    else if (kind == LAB_ICMP_RAW)
        CHECK(!setsockopt(fd, IPPROTO_ICMPV6, ICMPV6_FILTER, &only_replies_6, sizeof only_replies_6));
    if (family == AF_INET6)
        CHECK(!setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &yes, sizeof yes));
    else if (kind == LAB_ICMP_PING)
        CHECK(!setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &yes, sizeof yes));
    return fd;
}

/* ---- streams ---- */

static void echoes(int kind) {
    const int sizes[] = {LAB_MIN_PAYLOAD_ICMP, 17, 56, 1440, LAB_MAX_PAYLOAD};
    for (int wait = LAB_BLOCK; wait <= LAB_SPIN; wait++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct setup setup = {.kind = kind, .wait = wait, .size = sizes[i], .count = 200, .warmup = 5};
            struct trial trial = trial_over(setup, open_icmp(kind), -1);
            tamper.recvmsg.fd = trial.stream.near_fd;
            trial_run(&trial);
            check_all_received(&trial);
            CHECK_EQUAL(tamper.recvmsg.calls, kind == LAB_ICMP_PING || family == AF_INET6); /* or the IP header tells */
            CHECK_EQUAL(tamper.requests.unrecorded, 5);
            CHECK_EQUAL(tamper.requests.sent, 200);
            trial_close(&trial);
        }
    }
}

static void raw_echoes(void) {
    echoes(LAB_ICMP_RAW);
}

static void ping_echoes(void) {
    echoes(LAB_ICMP_PING);
}

/* A second raw socket sends requests that differ in identifier or nonce: every raw socket sees all replies. */
static void strange_raw_echoes(void) {
    struct trial trial = trial_over((struct setup){.kind = LAB_ICMP_RAW}, open_icmp(LAB_ICMP_RAW), -1);
    struct trial other = trial_over((struct setup){.kind = LAB_ICMP_RAW, .count = 20}, open_icmp(LAB_ICMP_RAW), -1);
    other.stream.icmp_id ^= 1;
    trial_run(&other);
    check_all_received(&other);
    other.stream.icmp_id ^= 1, other.stream.nonce ^= 1;
    memset(other.rows, 0, 20 * sizeof *other.rows);
    trial_run(&other);
    check_all_received(&other);
    trial_run(&trial);
    check_all_received(&trial);
    CHECK(trial.stream.foreign >= 40); /* other programs may ping this machine too */
    trial_close(&other);
    trial_close(&trial);
}

static void lost_echoes(int kind) {
    enum action requests[20] = {[3] = LOSE, [4] = LOSE, [19] = LOSE};
    struct setup setup = {.kind = kind, .count = 20, .timeout_ns = 100 * MS};
    struct trial trial = trial_over(setup, open_icmp(kind), -1);
    tamper_with(&trial, requests, NULL);
    CHECK_EQUAL(trial_run(&trial), 20);
    for (int i = 0; i < 20; i++) {
        if (requests[i] == PASS)
            check_received(&trial, i);
        else
            CHECK(trial.rows[i].status == LAB_LOST && !trial.rows[i].rx_ns && trial.rows[i].tx_ns);
    }
    trial_close(&trial);
}

static void raw_echoes_lost(void) {
    lost_echoes(LAB_ICMP_RAW);
}

static void ping_echoes_lost(void) {
    lost_echoes(LAB_ICMP_PING);
}

/* sendto fails as a full queue or a firewall would make it. */
static void failing_echoes(int kind) {
    struct trial trial = trial_over((struct setup){.kind = kind}, open_icmp(kind), -1);
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .error = ENOBUFS, .first = 7, .times = 1};
    CHECK_EQUAL(trial_run(&trial), trial.stream.count);
    for (int64_t i = 0; i < trial.stream.count; i++)
        if (i != 7) check_received(&trial, i);
    CHECK(trial.rows[7].status == LAB_UNSENT && trial.rows[7].tx_ns);
    tamper.send = (struct fault){.fd = trial.stream.near_fd, .error = EPERM, .first = 7, .times = 1};
    CHECK_EQUAL(trial_run(&trial), -EPERM);
    CHECK_EQUAL(trial.stream.done, 7);
    trial_close(&trial);
}

static void raw_echoes_that_cannot_be_sent(void) {
    failing_echoes(LAB_ICMP_RAW);
}

static void ping_echoes_that_cannot_be_sent(void) {
    failing_echoes(LAB_ICMP_PING);
}

const struct check icmp_checks[] = {
    CASE(raw_echoes, BOTH_FAMILIES),
    CASE(ping_echoes, BOTH_FAMILIES),
    CASE(strange_raw_echoes, BOTH_FAMILIES),
    CASE(raw_echoes_lost, BOTH_FAMILIES),
    CASE(ping_echoes_lost, BOTH_FAMILIES),
    CASE(raw_echoes_that_cannot_be_sent, BOTH_FAMILIES),
    CASE(ping_echoes_that_cannot_be_sent, BOTH_FAMILIES),
    {0},
};
