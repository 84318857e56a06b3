/* What the lab's loop does between two probes, without a kernel: the loop itself, linked with
 * --wrap=sendto,recv,recvmsg so that they return at once, the reply being the request. Beside it the same probes sent by
 * hand and not recorded: numbered, stamped as often, matched. The difference is what recording costs, and all that
 * belongs to it: the row, the flags, the looks at the stop flag.
 * Usage: recording 4|6 COUNT REPEATS; prints a line a repeat, in ns: a probe of either, and a clock read. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

enum { SIZE = 56, HEADER_4 = 20, ECHO_REPLY_4 = 0, ECHO_REPLY_6 = 129, READS = 100000 };

static const unsigned char *sent;
static size_t sent_length;
static int family;

ssize_t __wrap_sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t n) {
    (void)fd, (void)flags, (void)to, (void)n;
    sent = bytes;
    sent_length = length;
    return (ssize_t)length;
}

ssize_t __wrap_recv(int fd, void *into, size_t length, int flags) {
    unsigned char *bytes = into;
    size_t header = family == AF_INET ? HEADER_4 : 0;
    (void)fd, (void)flags, (void)length;
    if (header) bytes[0] = 0x45; /* version 4, five words */
    memcpy(bytes + header, sent, sent_length);
    bytes[header] = family == AF_INET ? ECHO_REPLY_4 : ECHO_REPLY_6;
    return (ssize_t)(header + sent_length);
}

/* Asked once, for the first reply's hop limit: there is none. */
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags) {
    (void)fd, (void)flags;
    message->msg_controllen = 0;
    return (ssize_t)sent_length;
}

static void fail(const char *what, int64_t error) {
    fprintf(stderr, "%s: %s\n", what, strerror((int)-error));
    exit(1);
}

static void *touched(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) fail("mmap", -errno);
    return memory;
}

static double recorded_ns(struct lab_stream *stream, struct lab_record *records, unsigned char *scratch) {
    int32_t stop = 0;
    int64_t done = lab_stream_run(stream, records, NULL, scratch, &stop);
    if (done != stream->count) fail("lab_stream_run", done < 0 ? done : -EIO);
    for (int64_t i = 0; i < done; i++)
        if (records[i].status != LAB_RECEIVED) fail("a probe was not recorded", -EIO);
    return (double)(records[done - 1].rx_ns - records[0].tx_ns) / (double)done;
}

static double unrecorded_ns(const struct lab_stream *stream, unsigned char *scratch) {
    struct sockaddr_storage to = {0};
    struct message message;
    struct reply reply = {0};
    message_prepare(&message, stream, scratch);
    int64_t begun_ns = now_ns();
    for (int64_t i = 0; i < stream->count; i++) {
        message_number(&message, (uint64_t)i);
        (void)now_ns();
        (void)sendto(stream->near_fd, message.bytes, message.length, 0, (struct sockaddr *)&to, sizeof to);
        (void)now_ns();
        ssize_t got = recv(stream->near_fd, scratch + BUFFER_BYTES, BUFFER_BYTES, MSG_DONTWAIT);
        reply.rx_ns = now_ns();
        if (!message_match(&message, scratch + BUFFER_BYTES, (size_t)got, &reply)) fail("no reply of ours", -EBADMSG);
    }
    return (double)(reply.rx_ns - begun_ns) / (double)stream->count;
}

int main(int count, char **words) {
    if (count != 4) fail("usage: recording 4|6 COUNT REPEATS", -EINVAL);
    family = words[1][0] == '6' ? AF_INET6 : AF_INET;
    struct lab_stream stream = {.kind = LAB_ICMP_RAW, .family = family, .near_fd = socket(AF_INET, SOCK_DGRAM, 0)};
    stream.far_fd = stream.near_out_fd = stream.far_out_fd = stream.near_epoll_fd = stream.far_epoll_fd = -1;
    stream.far_cpu = -1;
    stream.size = SIZE;
    stream.icmp_id = 7;
    stream.nonce = 0x5eed;
    stream.timeout_ns = 1000000000;
    stream.count = atoll(words[2]);
    int64_t repeats = atoll(words[3]);
    /* Rows of their own for each repeat, which no cache holds any more, as in a long stream. */
    struct lab_record *records = touched((size_t)(stream.count * repeats) * sizeof *records);
    unsigned char *scratch = touched(LAB_SCRATCH_BYTES);
    for (int64_t i = 0; i < repeats; i++) {
        double with = recorded_ns(&stream, records + i * stream.count, scratch), without = unrecorded_ns(&stream, scratch);
        int64_t step;
        printf("%.2f %.2f %.2f\n", with, without, (double)lab_clock_cost(READS, &step) / 1000);
    }
    return 0;
}
