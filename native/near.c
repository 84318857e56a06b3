/* One message at the near end: sent and stamped, or received, stamped and filed under its probe.
 *
 * What lies between a probe's tx and rx stamps is the measurement: send, one clock read, the wait for the reply, and,
 * where this thread plays the far end too, that end's receive, two clock reads and send. Numbering, matching and
 * recording happen before the first stamp or after the last. */
#include "internal.h"

/* ---- sending ---- */

static int send_request(const struct near *n) {
    const struct message *m = &n->request;
    int fd = n->out_fd;
    if (n->stream->kind >= LAB_TCP) {
        int64_t timeout_ns = n->stream->timeout_ns;
        return send_all(n->stream->kind, fd, m->bytes, m->length, timeout_ns > STALL_NS ? timeout_ns : STALL_NS, n->stop);
    }
    ssize_t sent;
    do {
        if (m->header)
            sent = sendto(fd, m->bytes, m->length, 0, (const struct sockaddr *)&n->to, n->to_length);
        else
            sent = send(fd, m->bytes, m->length, 0);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) return 0;
    return errno == ENOBUFS ? -EAGAIN : -errno;
}

int near_send(struct near *n, struct lab_record *row, uint64_t seq) {
    message_number(&n->request, seq);
    if (n->stamping.rows) stamping_note(&n->stamping.near, seq);
    row->tx_ns = read_clock(n->clock);
    int error = send_request(n);
    row->tx_done_ns = read_clock(n->clock);
    if (error) {
        if (n->stamping.rows) stamping_failed(&n->stamping.near);
        return error;
    }
    row->status = LAB_LOST;
    n->unanswered++;
    return 0;
}

/* ---- receiving ---- */

/* What the message came with, into the reply. */
static void keep_ancillary(const struct ancillary *with, struct reply *reply) {
    reply->kernel_ns = with->kernel_ns;
    if (with->ttl) reply->ttl = (uint8_t)with->ttl;
    reply->has_source = with->from.ss_family == AF_INET || with->from.ss_family == AF_INET6;
    if (with->from.ss_family == AF_INET)
        memcpy(reply->source, &((const struct sockaddr_in *)&with->from)->sin_addr, 4);
    else
        memcpy(reply->source, &((const struct sockaddr_in6 *)&with->from)->sin6_addr, 16);
}

static size_t address_length(const struct lab_stream *s) {
    return s->family == AF_INET ? 4 : 16;
}

/* Keeps the source and TTL of the first reply, for the stream as a whole. */
static void note_first(struct near *n, const struct reply *reply) {
    n->ttl_seen = true;
    n->stream->source_seen = reply->has_source;
    n->stream->reply_ttl = reply->ttl;
    memcpy(n->stream->reply_source, reply->source, address_length(n->stream));
}

/* Takes the message that was looked at off the queue, with its TTL and source if they can be had. */
static void take_looked_at(int fd, struct reply *reply) {
    unsigned char none;
    struct ancillary with;
    if (receive_with(fd, &none, sizeof none, MSG_DONTWAIT, &with) >= 0)
        keep_ancillary(&with, reply);
    else
        recv(fd, &none, sizeof none, MSG_DONTWAIT);
}

/* Takes one message, whole or in part, and stamps it. Its length; 0 also if it is not yet whole; -errno.
 *
 * Beside the payload, only raw IPv4 shows TTL and source at no cost. Elsewhere recvmsg would add 0.4 us to a round
 * trip of 6, so only the first reply, that of a warm-up probe where there is one, is looked at, stamped, and then taken
 * with recvmsg. A look is some 60 ns quicker than a plain recv, so no more probes are read in this way. With the
 * kernel's stamps, which cost that anyway, every reply is. */
static ssize_t take(struct near *n, int flags, struct reply *reply) {
    int fd = n->stream->near_fd;
    bool stamps = n->stamping.rows;
    struct ancillary with;
    ssize_t got;
    if (n->stream->kind >= LAB_TCP) {
        got = receive_more(n->stream->kind, fd, n->bytes, n->request.length, &n->have, flags, stamps ? &with : NULL);
        reply->rx_ns = read_clock(n->clock);
        if (got > 0 && stamps) reply->kernel_ns = with.kernel_ns;
        return got > 0 ? (ssize_t)n->request.length : got;
    }
    if (stamps) {
        got = receive_with(fd, n->bytes, BUFFER_BYTES, flags, &with);
        reply->rx_ns = read_clock(n->clock);
        if (got >= 0) keep_ancillary(&with, reply);
    } else {
        bool sample = n->samples && !n->ttl_seen;
        got = recv(fd, n->bytes, BUFFER_BYTES, sample ? flags | MSG_PEEK : flags);
        reply->rx_ns = read_clock(n->clock);
        if (got >= 0 && sample) take_looked_at(fd, reply);
    }
    return got >= 0 ? got : -errno;
}

int near_receive(struct near *n, int flags, struct reply *reply) {
    reply->ttl = 0;
    reply->has_source = false;
    reply->kernel_ns = 0;
    ssize_t got = take(n, flags, reply);
    if (got == -EINTR || (got == 0 && n->stream->kind >= LAB_TCP)) return 0;
    if (got < 0) return (int)got;
    if (message_match(&n->request, n->bytes, (size_t)got, reply)) {
        if (reply->has_source && !n->ttl_seen) note_first(n, reply);
        return 1;
    }
    n->stream->foreign++;
    return 0;
}

/* ---- filing ---- */

bool near_record(struct near *n, const struct reply *reply, uint64_t awaited, bool first_look) {
    if (reply->seq == awaited) n->unanswered = 0;
    if (reply->seq >= SEQ_UNRECORDED) return reply->seq == awaited;
    if (reply->seq >= (uint64_t)n->stream->count) return false;
    struct lab_record *row = &n->records[reply->seq];
    if (row->status == LAB_RECEIVED || row->status == LAB_LATE) {
        row->flags |= LAB_FLAG_DUPLICATE;
        return false;
    }
    row->rx_ns = reply->rx_ns;
    row->far_rx_ns = reply->far_rx_ns;
    row->far_tx_ns = reply->far_tx_ns;
    row->reply_bytes = reply->bytes;
    row->reply_ttl = reply->ttl;
    row->status = reply->rx_ns - row->tx_ns > n->stream->timeout_ns ? LAB_LATE : LAB_RECEIVED;
    if (n->stamping.rows) n->stamping.rows[reply->seq].near_rx_real_ns = reply->kernel_ns;
    if (first_look) row->flags |= LAB_FLAG_INLINE;
    if (reply->seq < n->highest) row->flags |= LAB_FLAG_REORDERED;
    if (reply->bytes != n->stream->size) row->flags |= LAB_FLAG_OTHER_SIZE;
    if (n->highest <= reply->seq) n->highest = reply->seq + 1;
    if (reply->has_source && memcmp(reply->source, n->stream->target, address_length(n->stream)))
        row->flags |= LAB_FLAG_OTHER_SOURCE;
    return reply->seq == awaited;
}

/* ---- when to end ---- */

int near_give_up(const struct near *n, int64_t deadline_ns) {
    if (__atomic_load_n(&n->far.ended, __ATOMIC_ACQUIRE)) return -EPIPE;
    return __atomic_load_n(n->stop, __ATOMIC_RELAXED) || now_ns() > deadline_ns;
}
