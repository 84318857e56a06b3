/* The kernel's stamps: when a message entered the queueing discipline, was handed to the device, and came in.
 *
 * Those of messages that leave come back on the socket's error queue, with a number that the kernel counts from when
 * stamping was turned on: messages, or bytes of a stream. That queue holds 255 and then drops, so it is read every
 * STAMP_PROBES probes, between two of them. The near end's thread reads both ends' queues: the far end's thread has no
 * moment that belongs to no probe. */
#include "internal.h"

#include <linux/errqueue.h> /* needs time.h before it */
#include <linux/net_tstamp.h>

enum {
    STAMPS = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_TX_SCHED |
             SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY,
    OPT_ID_TCP = 1 << 16, /* Linux 6.2; before, what was not yet acknowledged shifted the numbers, and here nothing is */
};

static int set_flags(int fd, int flags) {
    return setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof flags) ? -errno : 0;
}

static int begin_end(struct stamped_end *end, int fd, const struct lab_stream *stream, int more) {
    bool bytes = stream->kind == LAB_TCP;
    *end = (struct stamped_end){.fd = fd, .stride = bytes ? (uint32_t)stream->size : 1, .newest = -1};
    int error = set_flags(fd, STAMPS | more | (bytes ? OPT_ID_TCP : 0));
    return error == -EINVAL && bytes ? set_flags(fd, STAMPS | more) : error;
}

int stamping_begin(struct stamping *stamping, const struct lab_stream *stream, struct lab_stamps *rows) {
    stamping->rows = rows;
    stamping->count = stream->count;
    stamping->far.fd = -1;
    if (!rows) return 0;
    stamping->offset_ns = clock_offset(&stamping->width_ns);
    int error = begin_end(&stamping->near, stream->near_fd, stream,
                          stream->kind == LAB_TCP ? SOF_TIMESTAMPING_TX_ACK : 0);
    if (!error && stream->far_fd >= 0) error = begin_end(&stamping->far, stream->far_fd, stream, 0);
    return error;
}

void stamping_end(struct stamping *stamping) {
    if (!stamping->rows) return;
    stamping_read(stamping);
    set_flags(stamping->near.fd, 0);
    if (stamping->far.fd >= 0) set_flags(stamping->far.fd, 0);
}

/* ---- whose message a number is ---- */

void stamping_note(struct stamped_end *end, uint64_t seq) {
    __atomic_store_n(&end->seqs[end->sent++ % STAMP_RING], seq, __ATOMIC_RELAXED);
}

void stamping_failed(struct stamped_end *end) {
    __atomic_store_n(&end->broken, 1, __ATOMIC_RELAXED);
}

/* Whose message the kernel's number is of, if that is known. Numbers have 32 bits, and may wrap around. */
static bool message_of(struct stamped_end *end, uint32_t id, uint64_t *seq) {
    uint32_t newest_id = (uint32_t)(end->newest + 1) * end->stride - 1;
    int32_t ahead = (int32_t)(id - newest_id);
    if (ahead % (int32_t)end->stride || __atomic_load_n(&end->broken, __ATOMIC_RELAXED)) return false;
    int64_t number = end->newest + ahead / (int32_t)end->stride;
    if (number < 0 || number <= end->newest - STAMP_RING) return false;
    if (number > end->newest) end->newest = number;
    *seq = __atomic_load_n(&end->seqs[number % STAMP_RING], __ATOMIC_RELAXED);
    return true;
}

/* ---- reading ---- */

static int64_t ns_of(const struct cmsghdr *c) {
    struct scm_timestamping stamps;
    memcpy(&stamps, CMSG_DATA(c), sizeof stamps);
    return (int64_t)stamps.ts[0].tv_sec * 1000000000 + stamps.ts[0].tv_nsec;
}

static bool is_stamp(const struct cmsghdr *c) {
    return c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING;
}

ssize_t receive_with(int fd, unsigned char *bytes, size_t length, int flags, struct ancillary *ancillary) {
    _Alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(sizeof(struct scm_timestamping)) + CMSG_SPACE(sizeof(int))];
    struct iovec into = {.iov_base = bytes, .iov_len = length};
    ancillary->kernel_ns = ancillary->ttl = 0;
    ancillary->from.ss_family = AF_UNSPEC;
    struct msghdr message = {.msg_name = &ancillary->from,
                             .msg_namelen = sizeof ancillary->from,
                             .msg_iov = &into,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, flags);
    if (got < 0) return got;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (is_stamp(c)) ancillary->kernel_ns = ns_of(c);
        if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) ||
            (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT))
            memcpy(&ancillary->ttl, CMSG_DATA(c), sizeof ancillary->ttl);
    }
    return got;
}

/* The field that a stamp belongs in. A device on top of another stamps twice; the first of a kind is kept. */
static void file(struct lab_stamps *row, bool near, uint32_t kind, int64_t at_ns) {
    int64_t *field;
    if (kind == SCM_TSTAMP_SCHED)
        field = near ? &row->near_sched_real_ns : &row->far_sched_real_ns;
    else if (kind == SCM_TSTAMP_SND)
        field = near ? &row->near_soft_real_ns : &row->far_soft_real_ns;
    else
        field = &row->ack_real_ns;
    if (!*field) *field = at_ns;
}

static void read_queue(struct stamping *stamping, struct stamped_end *end) {
    bool near = end == &stamping->near;
    _Alignas(struct cmsghdr) unsigned char
        control[CMSG_SPACE(sizeof(struct scm_timestamping)) +
                CMSG_SPACE(sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in6))];
    for (int i = 0; i < STAMP_RING; i++) {
        struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
        if (recvmsg(end->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
        struct sock_extended_err told = {0};
        int64_t at_ns = 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
            if (is_stamp(c))
                at_ns = ns_of(c);
            else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
                     (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
                memcpy(&told, CMSG_DATA(c), sizeof told);
        }
        if (!at_ns || told.ee_origin != SO_EE_ORIGIN_TIMESTAMPING) continue;
        uint64_t seq;
        if (!message_of(end, told.ee_data, &seq))
            stamping->foreign++;
        else if (seq < (uint64_t)stamping->count) /* not of the warm-up, and no goodbye */
            file(&stamping->rows[seq], near, told.ee_info, at_ns);
    }
}

/* Whoever sets the clock shifts CLOCK_REALTIME against CLOCK_MONOTONIC; what slews it, slews both. */
static void watch_clock(struct stamping *stamping) {
    int64_t width_ns, offset_ns = clock_offset(&width_ns), change = offset_ns - stamping->offset_ns;
    if ((change < 0 ? -change : change) <= width_ns + stamping->width_ns) return;
    stamping->step_ns += change;
    stamping->offset_ns = offset_ns;
    stamping->width_ns = width_ns;
}

void stamping_read(struct stamping *stamping) {
    if (!stamping->rows) return;
    read_queue(stamping, &stamping->near);
    if (stamping->far.fd >= 0) read_queue(stamping, &stamping->far);
    watch_clock(stamping);
}
