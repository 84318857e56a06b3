/* A raw SYN, to which the kernel of the far end replies with SYN-ACK (an open port) or RST (a closed one).
 *
 * Nothing stays half open: the kernel of the near end knows no connection, and resets what a SYN-ACK would have begun.
 * On lo and veth it does so within our send(), so that a clock read after it would count that too. The figure is
 * therefore the kernel's stamp of the reply. Kernel stamps are of CLOCK_REALTIME, and so is all that is read here until
 * the stream is over.
 *
 * Where the way loses segments, a SYN-ACK or that reset may be lost. The far end then holds the connection half open,
 * and takes later SYNs from the same port to be part of it. So after a probe without an answer we reset what may be
 * left ourselves.
 *
 * A SYN carries no number: its initial sequence number stands for it, which the reply acknowledges. */
#include <stdlib.h>

#include "internal.h"

enum { SEGMENT = 20, IP4_MIN_HEADER = 20, FLAG_SYN = 0x02, FLAG_RST = 0x04, FLAG_ACK = 0x10, MOST_DRAINED = 4096 };

/* Odd, so that a multiple of it tells the factor, modulo 2^32; large, so that numbers one apart are far apart. */
#define ISN_STRIDE 0x9e3779b1U

struct syn {
    struct lab_stream *stream;
    struct lab_record *records;
    const int32_t *stop;
    int64_t end_ns;        /* as in struct near */
    unsigned char segment[SEGMENT];
    uint32_t sum;          /* ones' complement sum of segment and pseudo-header, but for sequence number and flags */
    uint32_t isn, inverse; /* of probe 0; of the stride */
    int64_t highest;       /* 1 + the highest recorded probe answered so far */
    int64_t latest;        /* the number of the latest probe that was answered */
    int64_t awaited;       /* the number of the probe under way, or of the last */
    struct lab_record *row; /* its row */
    bool answered;         /* whether it was */
};

/* What one call received. */
struct seen {
    int64_t number;
    bool is_reply; /* or an ACK, which says that an older SYN is still pending */
    int64_t kernel_ns, user_ns; /* CLOCK_REALTIME; kernel_ns 0: not stamped */
    int ttl;
};

/* ---- setting up ---- */

/* The number that `odd` times it is 1, modulo 2^32: by Newton, each step of which doubles the right bits, from 3. */
static uint32_t inverse_of(uint32_t odd) {
    uint32_t inverse = odd;
    for (int bits = 3; bits < 32; bits *= 2) inverse *= 2 - odd * inverse;
    return inverse;
}

/* The segment but for its sequence number, flags and checksum, and the sum over it and the pseudo-header (RFC 9293,
 * section 3.1). The kernel writes the IP header, so its source address is read from the socket. 0 or -errno. */
static int prepare(struct syn *syn) {
    const struct lab_stream *stream = syn->stream;
    struct sockaddr_storage source;
    socklen_t length = sizeof source;
    if (getsockname(stream->near_fd, (struct sockaddr *)&source, &length)) return -errno;
    put16(syn->segment, stream->near_port);
    put16(syn->segment + 2, stream->far_port);
    syn->segment[12] = SEGMENT / 4 << 4;
    put16(syn->segment + 14, 0xffff); /* the window */
    syn->sum = sum16(syn->segment, SEGMENT) + IPPROTO_TCP + SEGMENT;
    if (stream->family == AF_INET)
        syn->sum += sum16(&((struct sockaddr_in *)&source)->sin_addr, 4) + sum16(stream->target, 4);
    else
        syn->sum += sum16(&((struct sockaddr_in6 *)&source)->sin6_addr, 16) + sum16(stream->target, 16);
    syn->isn = (uint32_t)(stream->nonce ^ stream->nonce >> 32);
    syn->inverse = inverse_of(ISN_STRIDE);
    return 0;
}

/* Makes the segment that of probe `number`: its SYN, or the reset of what its SYN began. */
static void write_segment(struct syn *syn, int64_t number, unsigned char flag) {
    uint32_t isn = syn->isn + (uint32_t)number * ISN_STRIDE + (flag == FLAG_RST);
    put16(syn->segment + 4, isn >> 16);
    put16(syn->segment + 6, isn & 0xffff);
    syn->segment[13] = flag;
    uint32_t sum = syn->sum + (isn >> 16) + (isn & 0xffff) + flag;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    put16(syn->segment + 16, ~sum & 0xffff);
}

/* ---- receiving ---- */

/* Whether the bytes answer this stream; if so, sets what they say, and the TTL where the IP header is there. */
static bool match(const struct syn *syn, const unsigned char *bytes, size_t length, struct seen *seen) {
    const struct lab_stream *stream = syn->stream;
    if (stream->family == AF_INET) {
        size_t header = length ? (size_t)(bytes[0] & 0xf) * 4 : 0;
        if (header < IP4_MIN_HEADER || length < header) return false;
        seen->ttl = bytes[8];
        bytes += header;
        length -= header;
    }
    if (length < SEGMENT) return false;
    bool ours = get16(bytes) == stream->far_port && get16(bytes + 2) == stream->near_port;
    if (!ours || !(bytes[13] & FLAG_ACK)) return false;
    seen->is_reply = bytes[13] & (FLAG_SYN | FLAG_RST);
    uint32_t acknowledged = get16(bytes + 8) << 16 | get16(bytes + 10);
    seen->number = (int32_t)((acknowledged - 1 - syn->isn) * syn->inverse);
    return seen->number >= -stream->warmup && seen->number <= syn->awaited;
}

/* Receives one segment. 1: a reply of this stream, 0: not (yet), -errno; -ENODATA: a reply that has no stamp. */
static int receive(struct syn *syn, int flags, struct seen *seen) {
    unsigned char bytes[128]; /* an IPv4 header and a TCP header with all the options that there may be are 120 */
    struct ancillary with;
    ssize_t got = receive_with(syn->stream->near_fd, bytes, sizeof bytes, flags, &with);
    *seen = (struct seen){.user_ns = read_clock(CLOCK_REALTIME), .kernel_ns = with.kernel_ns, .ttl = with.ttl};
    if (got < 0) return errno == EINTR ? 0 : -errno;
    if (!match(syn, bytes, (size_t)got, seen)) {
        syn->stream->foreign++;
        return 0;
    }
    if (!seen->is_reply) return 0;
    return seen->kernel_ns ? 1 : -ENODATA;
}

/* Files a reply under its probe; those of the warm-up have no rows, but for the one under way. */
static void file_reply(struct syn *syn, const struct seen *seen, bool first_look) {
    struct lab_stream *stream = syn->stream;
    if (!stream->source_seen) {
        stream->source_seen = 1; /* the socket is connected: no one else could have sent it */
        stream->reply_ttl = seen->ttl;
        memcpy(stream->reply_source, stream->target, sizeof stream->target);
    }
    if (seen->number == syn->awaited)
        syn->answered = true;
    else if (seen->number < 0)
        return;
    if (seen->number > syn->latest) syn->latest = seen->number;
    struct lab_record *row = seen->number == syn->awaited ? syn->row : &syn->records[seen->number];
    if (row->status == LAB_RECEIVED || row->status == LAB_LATE) {
        row->flags |= LAB_FLAG_DUPLICATE;
        return;
    }
    row->rx_ns = seen->kernel_ns;
    row->user_rx_ns = seen->user_ns;
    row->reply_ttl = (uint8_t)seen->ttl;
    row->status = row->rx_ns - row->tx_ns > stream->timeout_ns ? LAB_LATE : LAB_RECEIVED;
    if (first_look) row->flags |= LAB_FLAG_INLINE;
    if (seen->number < syn->highest) row->flags |= LAB_FLAG_REORDERED;
    if (syn->highest <= seen->number) syn->highest = seen->number + 1;
}

/* ---- one probe ---- */

/* 0 when the reply came or its time is up, -errno when the stream must end. The deadline is of CLOCK_MONOTONIC, which
 * nobody sets. */
static int await_reply(struct syn *syn, int64_t deadline_ns) {
    struct seen seen;
    int got = receive(syn, MSG_DONTWAIT, &seen);
    for (bool first_look = true;; first_look = false) {
        if (got > 0) file_reply(syn, &seen, first_look);
        if (got < 0 && got != -EAGAIN) return got;
        if (syn->answered || __atomic_load_n(syn->stop, __ATOMIC_RELAXED) || now_ns() > deadline_ns) return 0;
        int error = got == -EAGAIN ? between_looks(syn->stream) : 0;
        if (error) return error;
        got = receive(syn, receive_flags(syn->stream->wait), &seen);
    }
}

/* Resets what the probe under way began, if its SYN-ACK was lost, and what the latest one that was answered began, if
 * the kernel's reset was. That these can get lost too is why errors don't matter. */
static void reset_leftovers(struct syn *syn) {
    write_segment(syn, syn->awaited, FLAG_RST);
    (void)!send(syn->stream->near_fd, syn->segment, SEGMENT, MSG_DONTWAIT);
    write_segment(syn, syn->latest, FLAG_RST);
    (void)!send(syn->stream->near_fd, syn->segment, SEGMENT, MSG_DONTWAIT);
}

static int probe(void *state, struct lab_record *row, int64_t number) {
    struct syn *syn = state;
    syn->row = row;
    syn->awaited = number;
    syn->answered = false;
    write_segment(syn, number, FLAG_SYN);
    int64_t deadline_ns = earlier(now_ns() + syn->stream->timeout_ns, syn->end_ns);
    ssize_t sent;
    do {
        row->due_ns = row->tx_ns = read_clock(CLOCK_REALTIME);
        sent = send(syn->stream->near_fd, syn->segment, SEGMENT, 0);
        row->tx_done_ns = read_clock(CLOCK_REALTIME);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) return errno == ENOBUFS || errno == EAGAIN ? 0 : -errno;
    row->status = LAB_LOST;
    int error = await_reply(syn, deadline_ns);
    if (!error && !syn->answered) reset_leftovers(syn);
    return error;
}

/* ---- the stream ---- */

/* Replies that are queued when the last probe is settled: duplicates, and late ones. */
static void drain(struct syn *syn) {
    struct seen seen;
    if (!syn->stream->done) return;
    syn->awaited = syn->stream->done - 1;
    syn->row = syn->records + syn->awaited;
    for (int i = 0; i < MOST_DRAINED; i++) {
        int got = receive(syn, MSG_DONTWAIT, &seen);
        if (got < 0) return;
        if (got > 0 && seen.number >= 0) file_reply(syn, &seen, false);
    }
}

int64_t syn_run(struct lab_stream *stream, struct lab_record *records, const int32_t *stop) {
    struct syn syn = {.stream = stream, .records = records, .stop = stop, .latest = INT64_MIN, .end_ns = end_of(stream)};
    if ((stream->family != AF_INET && stream->family != AF_INET6) || !stream->near_port || !stream->far_port ||
        stream->far_fd >= 0 || stream->count > INT32_MAX || stream->warmup > INT32_MAX)
        return -EINVAL;
    int64_t slice = slice_of(stream), width_ns, end_width_ns;
    int error = prepare(&syn);
    if (!error) error = set_slices(stream->near_fd, slice, slice);
    if (error) return error;
    stream->offset_ns = clock_offset(&width_ns);
    int64_t result = each_probe(stream, records, stop, probe, &syn);
    drain(&syn);
    /* Whoever sets the clock shifts CLOCK_REALTIME against CLOCK_MONOTONIC; what slews it, slews both. */
    int64_t change_ns = clock_offset(&end_width_ns) - stream->offset_ns;
    if (llabs(change_ns) > width_ns + end_width_ns) stream->step_ns = change_ns;
    to_monotonic(stream, records);
    return result;
}
