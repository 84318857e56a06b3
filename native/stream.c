/* The near end: sends probes one after another and stamps what comes back.
 *
 * What lies between a probe's tx and rx stamps is the measurement: send, one clock read, the wait for the reply, and,
 * where this thread plays the far end too, that end's receive, two clock reads and send. Numbering, matching and
 * recording happen before the first stamp or after the last. */
#include <pthread.h>

#include "internal.h"

/* Everything one stream needs, on the stack of lab_stream_run. */
struct near {
    struct lab_stream *stream;
    struct lab_record *records;
    const int32_t *stop;
    int out_fd;           /* where probes leave: the stream's near_fd, but for pipes */
    struct message request;
    unsigned char *bytes; /* where replies are received */
    size_t have;          /* bytes of an unfinished TCP reply */
    uint64_t highest;     /* 1 + the highest recorded sequence number answered so far */
    bool ask_first;       /* the reply may be there when send() returns: ask before sleeping */
    bool inline_far;      /* this thread plays the reflector too */
    bool samples;         /* TTL and source cost a recvmsg: only the first reply pays it */
    bool ttl_seen;        /* it has been paid */
    int64_t unanswered;   /* probes lost in a row, up to now */
    /* The reflector's thread writes to its part: keep that off the lines used here. */
    _Alignas(64) struct reflector far;
    _Alignas(64) struct sockaddr_storage to; /* ICMP sockets stay unconnected, so that the reply's source is observed */
    socklen_t to_length;
};

/* ---- setting up ---- */

static bool valid(const struct lab_stream *s) {
    bool icmp = s->kind == LAB_ICMP_RAW || s->kind == LAB_ICMP_PING;
    bool network = s->family == AF_INET || s->family == AF_INET6;
    bool local = s->family == AF_UNIX && !icmp;
    int smallest = icmp ? LAB_MIN_PAYLOAD_ICMP : LAB_MIN_PAYLOAD;
    bool shm = s->kind == LAB_SHM;
    return s->kind >= LAB_ICMP_RAW && s->kind <= LAB_SHM && (network || local) &&
           (s->wait == LAB_BLOCK || s->wait == LAB_SPIN) && s->size >= smallest && s->size <= LAB_MAX_PAYLOAD &&
           s->count >= 0 && s->warmup >= 0 && s->patience >= 0 && s->timeout_ns > 0 &&
           s->timeout_ns <= LAB_MAX_TIMEOUT_NS && s->icmp_id <= 0xffff && (icmp || shm) == (s->far_fd < 0) &&
           s->far_cpu < CPU_SETSIZE && (s->far_cpu < 0 || !icmp) &&
           (!shm || (s->far_cpu >= 0 && s->wait == LAB_SPIN)) && s->hold_ns >= 0 && s->hold_ns <= LAB_MAX_TIMEOUT_NS &&
           s->stall_ns >= 0 && s->stall_ns <= LAB_MAX_TIMEOUT_NS && s->stall_seq >= 0 &&
           (!(s->hold_ns || s->stall_ns) || s->far_fd >= 0);
}

static socklen_t target_address(const struct lab_stream *s, struct sockaddr_storage *to) {
    if (s->family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)to;
        in->sin_family = AF_INET;
        memcpy(&in->sin_addr, s->target, 4);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
    in6->sin6_family = AF_INET6;
    memcpy(&in6->sin6_addr, s->target, 16);
    return sizeof *in6;
}

static int near_init(struct near *n, struct lab_stream *s, struct lab_record *records, unsigned char *scratch,
                     const int32_t *stop) {
    *n = (struct near){.stream = s, .records = records, .stop = stop, .bytes = scratch + BUFFER_BYTES};
    message_prepare(&n->request, s, scratch);
    reflector_init(&n->far, s, scratch + 2 * BUFFER_BYTES, stop);
    n->inline_far = s->far_fd >= 0 && s->far_cpu < 0;
    n->ask_first = s->far_fd < 0 || n->inline_far;
    n->samples = s->kind <= LAB_UDP && s->family != AF_UNIX && !n->request.ip_header;
    n->out_fd = s->kind == LAB_PIPE ? s->near_out_fd : s->near_fd;
    if (s->kind == LAB_PIPE) return 0; /* no addresses, and no timeouts */
    n->to_length = target_address(s, &n->to);
    /* The timeout in even parts, so that a lost probe costs no more than its timeout (and a timer tick a part). */
    int64_t parts = (s->timeout_ns + LAB_SLICE_NS - 1) / LAB_SLICE_NS;
    int64_t slice = s->timeout_ns / parts;
    int error = set_slices(s->near_fd, slice, slice);
    /* A reflector's thread sleeps without a timer, which would cost a blocked round trip 2 %: goodbye wakes it. */
    if (!error && s->far_fd >= 0) error = set_slices(s->far_fd, n->inline_far ? slice : 0, slice);
    return error;
}

/* ---- one message ---- */

/* 0; -EAGAIN if the kernel took no copy; another -errno ends the stream. */
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

/* Takes the message that was looked at off the queue, with its TTL and source. */
static void take_with_ancillary(struct near *n, struct reply *reply) {
    struct sockaddr_storage from = {0};
    _Alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int))];
    struct msghdr msg = {.msg_name = &from,
                         .msg_namelen = sizeof from,
                         .msg_control = control,
                         .msg_controllen = sizeof control};
    if (recvmsg(n->stream->near_fd, &msg, MSG_DONTWAIT) < 0) return;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_len >= CMSG_LEN(sizeof(int))) {
        int ttl;
        memcpy(&ttl, CMSG_DATA(c), sizeof ttl);
        reply->ttl = (uint8_t)ttl;
    }
    reply->has_source = true;
    if (from.ss_family == AF_INET)
        memcpy(reply->source, &((struct sockaddr_in *)&from)->sin_addr, 4);
    else
        memcpy(reply->source, &((struct sockaddr_in6 *)&from)->sin6_addr, 16);
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

/* Receives one message and stamps it. 1: a reply of ours, 0: not (yet), -errno.
 *
 * Beside the payload, only raw IPv4 shows TTL and source at no cost. Elsewhere recvmsg would add 0.4 us to a round
 * trip of 6, so only the first reply, that of a warm-up probe where there is one, is looked at (`sample`), stamped, and
 * then taken with recvmsg. A look is some 60 ns quicker than a plain recv, so no more probes are read in this way. */
static int receive_reply(struct near *n, int flags, bool sample, struct reply *reply) {
    int fd = n->stream->near_fd;
    ssize_t got;
    reply->ttl = 0;
    reply->has_source = false;
    if (n->stream->kind >= LAB_TCP) {
        got = receive_more(n->stream->kind, fd, n->bytes, n->request.length, &n->have, flags);
        reply->rx_ns = now_ns();
        if (got <= 0) return (int)got;
        got = (ssize_t)n->request.length;
    } else {
        got = recv(fd, n->bytes, BUFFER_BYTES, sample ? flags | MSG_PEEK : flags);
        reply->rx_ns = now_ns();
        if (got < 0) return errno == EINTR ? 0 : -errno;
        if (sample) take_with_ancillary(n, reply);
    }
    if (message_match(&n->request, n->bytes, (size_t)got, reply)) {
        if (reply->has_source && !n->ttl_seen) note_first(n, reply);
        return 1;
    }
    n->stream->foreign++;
    return 0;
}

/* ---- recording ---- */

/* Files a reply under its probe. Returns whether that settles the probe `awaited`. */
static bool record(struct near *n, const struct reply *reply, uint64_t awaited, bool first_look) {
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
    if (first_look) row->flags |= LAB_FLAG_INLINE;
    if (reply->seq < n->highest) row->flags |= LAB_FLAG_REORDERED;
    if (reply->bytes != n->stream->size) row->flags |= LAB_FLAG_OTHER_SIZE;
    if (n->highest <= reply->seq) n->highest = reply->seq + 1;
    if (reply->has_source && memcmp(reply->source, n->stream->target, address_length(n->stream)))
        row->flags |= LAB_FLAG_OTHER_SOURCE;
    return reply->seq == awaited;
}

/* ---- one probe ---- */

/* 0: go on waiting; 1: the stream was stopped or the probe's time is up; -EPIPE: nobody will answer. */
static int give_up(const struct near *n, int64_t deadline_ns) {
    if (__atomic_load_n(&n->far.ended, __ATOMIC_ACQUIRE)) return -EPIPE;
    return __atomic_load_n(n->stop, __ATOMIC_RELAXED) || now_ns() > deadline_ns;
}

/* Plays the reflector until request `seq` is answered. 0 or what give_up says. */
static int reflect_inline(struct near *n, uint64_t seq, int64_t deadline_ns) {
    int flags = n->stream->wait == LAB_SPIN ? MSG_DONTWAIT : 0;
    uint64_t served = SEQ_GOODBYE;
    for (unsigned spins = 1;; spins++) {
        int got = reflector_serve(&n->far, flags, &served);
        if (got > 0 && served == seq) return 0;
        if (got < 0 && got != -EAGAIN) {
            n->far.error = -got;
            return -EPIPE;
        }
        if (!flags || spins % SPINS_PER_CHECK == 0) {
            int over = give_up(n, deadline_ns);
            if (over) return over;
        }
    }
}

/* Waits for the reply to `seq`. 0 when it came or its time is up, -errno when the stream must end. */
static int await_reply(struct near *n, uint64_t seq, int64_t deadline_ns) {
    bool spin = n->stream->wait == LAB_SPIN;
    bool first_look = n->ask_first || spin;
    bool sample = n->samples && !n->ttl_seen;
    struct reply reply;
    for (unsigned spins = 1;; spins++) {
        bool ask = spin || first_look;
        int got = receive_reply(n, ask ? MSG_DONTWAIT : 0, sample, &reply);
        if (got > 0 && record(n, &reply, seq, first_look)) return 0;
        if (got < 0 && got != -EAGAIN) return got;
        if (got < 0) first_look = false;
        if (!ask || spins % SPINS_PER_CHECK == 0) {
            int over = give_up(n, deadline_ns);
            if (over) return over < 0 ? over : 0;
        }
    }
}

/* Sends one probe and waits for its reply. 0 (answered, lost or unsent), or -errno when the stream must end. */
static int probe(struct near *n, struct lab_record *row, uint64_t seq) {
    message_number(&n->request, seq);
    row->tx_ns = now_ns();
    int error = send_request(n);
    row->tx_done_ns = now_ns();
    row->due_ns = row->tx_ns;
    if (error == -EAGAIN) return 0;
    if (error) return error;
    row->status = LAB_LOST;
    n->unanswered++;
    int64_t deadline_ns = row->tx_ns + n->stream->timeout_ns;
    if (n->inline_far) {
        int over = reflect_inline(n, seq, deadline_ns);
        if (over) return over < 0 ? over : 0;
    }
    return await_reply(n, seq, deadline_ns);
}

/* ---- the stream ---- */

/* Replies that are queued when the last probe is settled: duplicates, and late ones. */
static void drain(struct near *n) {
    struct reply reply;
    if (n->stream->kind == LAB_PIPE) return; /* it keeps order and loses nothing; a read might block */
    for (int i = 0; i < 4096; i++) {
        int got = receive_reply(n, MSG_DONTWAIT, false, &reply);
        if (got < 0) return;
        if (got > 0) record(n, &reply, SEQ_GOODBYE, false);
    }
}

static int64_t run(struct near *n) {
    struct lab_stream *s = n->stream;
    struct lab_record spare = {0};
    for (int64_t i = -s->warmup; i < s->count; i++) {
        bool recorded = i >= 0;
        int error = recorded ? probe(n, &n->records[i], (uint64_t)i)
                             : probe(n, &spare, SEQ_UNRECORDED | (uint64_t)(i + s->warmup));
        /* A probe cut short by the stop flag is no lost probe: its row is not counted. */
        if (__atomic_load_n(n->stop, __ATOMIC_RELAXED)) break;
        if (error) return error;
        if (recorded) s->done++;
        if (s->patience && n->unanswered >= s->patience) return -ETIMEDOUT;
    }
    drain(n);
    return s->done;
}

/* Runs the stream while a reflector thread answers it. */
static int64_t run_with_reflector(struct near *n) {
    pthread_t thread;
    int error = reflector_start(&n->far, &thread);
    if (error) return error;
    int64_t result = run(n);
    __atomic_store_n(&n->far.finished, 1, __ATOMIC_RELEASE);
    message_number(&n->request, SEQ_GOODBYE);
    if (result != -ETIME) (void)send_request(n); /* a connection that stalled would stall again */
    reflector_join(&n->far, thread);
    return result;
}

int64_t lab_stream_run(struct lab_stream *stream, struct lab_record *records, struct lab_stamps *stamps,
                       unsigned char *scratch, const int32_t *stop) {
    struct near n;
    stream->done = stream->foreign = stream->far_foreign = 0;
    stream->far_error = stream->source_seen = 0;
    if (!valid(stream) || stamps) return -EINVAL;
    if (stream->kind == LAB_SHM) return shm_run(stream, records, scratch, stop);
    int error = near_init(&n, stream, records, scratch, stop);
    if (error) return error;
    int64_t result = n.far.fd >= 0 && !n.inline_far ? run_with_reflector(&n) : run(&n);
    stream->far_foreign = n.far.foreign;
    stream->far_error = n.far.error;
    return result;
}
