/* The three-way handshake, as connect(2) sees it.
 *
 * One socket makes all connections. Between two probes it is disconnected (connect to AF_UNSPEC), which resets an
 * established connection: a reset leaves no TIME_WAIT, so that ports don't run out, and frees the port that the kernel
 * had chosen. The kernel at the far end completes the handshake by itself. What a listener of ours has queued is
 * accepted and closed between two probes too, so that its queue never fills. */
#include <sys/epoll.h>
#include <unistd.h>

#include "internal.h"

/* Connections that may be queued by the time we look: ours, and what strangers do to an open port. */
#define MOST_ACCEPTED 64

struct connector {
    struct lab_stream *stream;
    const int32_t *stop;
    struct sockaddr_storage to;
    socklen_t to_length;
    int64_t end_ns; /* as in struct near */
};

/* 1: connected; 0: not yet; -ETIMEDOUT: the kernel gave up; another -errno ends the stream. */
static int ask(const struct connector *c) {
    if (!connect(c->stream->near_fd, (const struct sockaddr *)&c->to, c->to_length) || errno == EISCONN) return 1;
    return errno == EINPROGRESS || errno == EALREADY || errno == EINTR ? 0 : -errno;
}

static int disconnect(int fd) {
    const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    while (connect(fd, &nowhere, sizeof nowhere))
        if (errno != EINTR) return -errno;
    return 0;
}

/* Closes what our listener has accepted. 0, or -EPIPE with far_error set. */
static int close_accepted(struct lab_stream *stream) {
    for (int i = 0; stream->far_fd >= 0 && i < MOST_ACCEPTED; i++) {
        int fd = accept4(stream->far_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            close(fd);
        } else if (errno == EAGAIN) {
            return 0;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            stream->far_error = errno;
            return -EPIPE;
        }
    }
    return 0;
}

static int probe(void *state, struct lab_record *row, int64_t number) {
    const struct connector *c = state;
    const struct lab_stream *stream = c->stream;
    (void)number;
    row->due_ns = row->tx_ns = now_ns();
    int got = ask(c);
    int64_t rx_ns = row->tx_done_ns = now_ns();
    int asked = 1;
    /* On lo the handshake ends within the first call, which says so when asked again. */
    int64_t deadline_ns = earlier(row->tx_ns + stream->timeout_ns, c->end_ns);
    for (; !got && rx_ns <= deadline_ns && !__atomic_load_n(c->stop, __ATOMIC_RELAXED); asked++) {
        if (asked > 1) got = between_looks(stream);
        if (!got) got = ask(c);
        rx_ns = now_ns();
    }
    if (got < 0 && got != -ETIMEDOUT) return got;
    row->status = LAB_LOST;
    if (got > 0) {
        row->rx_ns = rx_ns;
        row->status = rx_ns - row->tx_ns > stream->timeout_ns ? LAB_LATE : LAB_RECEIVED;
        if (stream->wait != LAB_BLOCK && asked <= 2) row->flags = LAB_FLAG_INLINE;
    }
    int error = disconnect(stream->near_fd);
    return error ? error : close_accepted(c->stream);
}

int64_t connect_run(struct lab_stream *stream, struct lab_record *records, const int32_t *stop) {
    struct connector c = {.stream = stream, .stop = stop, .end_ns = end_of(stream)};
    if ((stream->family != AF_INET && stream->family != AF_INET6) || !stream->far_port) return -EINVAL;
    c.to_length = target_address(stream, &c.to);
    int error = set_slices(stream->near_fd, 0, slice_of(stream));
    if (error) return error;
    /* A connection is made when the socket becomes writable. */
    struct epoll_event writable = {.events = EPOLLOUT};
    if (stream->wait == LAB_EPOLL && epoll_ctl(stream->near_epoll_fd, EPOLL_CTL_MOD, stream->near_fd, &writable))
        return -errno;
    return each_probe(stream, records, stop, probe, &c);
}
