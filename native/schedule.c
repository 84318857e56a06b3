/* The open loop: probes are sent when they are due, whether or not those before them were answered.
 *
 * One thread watches the clock for what is due and the socket for what has come; where it plays the far end too, that
 * one's socket as well. No probe is skipped: what could not be sent in time is sent late, and tx - due says so. Between
 * two late probes it looks at the sockets, so that making up for lost time fills no queue. */
#include <poll.h>
#include <sched.h>

#include "internal.h"

/* From here to the first probe, beside the margin. */
#define LEAD_NS 1000000

struct open_loop {
    struct near *near;
    int64_t start_ns;   /* when the first probe is due */
    int64_t next;       /* the probe to send */
    int64_t open;       /* probes under way */
    int64_t unread;     /* probes sent since the stamps were read */
    int64_t refused_ns; /* when the kernel first refused the next probe; 0: it has not */
};

static int64_t due(const struct open_loop *l) {
    return l->start_ns + l->near->records[l->next].due_ns;
}

/* Sends the next probe. If the kernel takes no copy of it, it stays due. 0 or -errno. */
static int send_next(struct open_loop *l, int64_t now) {
    struct near *n = l->near;
    struct lab_record *row = &n->records[l->next];
    int error = near_send(n, row, (uint64_t)l->next);
    if (error == -EAGAIN) {
        if (!l->refused_ns) l->refused_ns = now;
        return now - l->refused_ns > STALL_NS ? -ENOBUFS : 0;
    }
    if (error) return error;
    row->due_ns = due(l) + n->stream->offset_ns;
    l->refused_ns = 0;
    l->next++;
    l->unread++;
    if (++l->open > n->stream->most_open) n->stream->most_open = l->open;
    return 0;
}

/* Serves one request, if this thread does, and takes one reply. Whether there was any, or -errno. */
static int look(struct open_loop *l, bool just_sent) {
    struct near *n = l->near;
    uint64_t served;
    struct reply reply;
    int asked = n->inline_far ? reflector_serve(&n->far, MSG_DONTWAIT, &served) : -EAGAIN;
    if (asked < 0 && asked != -EAGAIN) {
        n->far.error = -asked;
        return -EPIPE;
    }
    int got = near_receive(n, MSG_DONTWAIT, &reply);
    if (got < 0 && got != -EAGAIN) return got;
    if (got > 0) {
        bool first_look = just_sent && reply.seq == (uint64_t)l->next - 1;
        if (near_record(n, &reply, reply.seq, first_look) && reply.seq < SEQ_UNRECORDED) l->open--;
    }
    return asked >= 0 || got >= 0;
}

/* Nothing is due before `until_ns`, and nothing has come: sleeps if it may, and there is time to. 0 or -errno. */
static int rest(struct open_loop *l, int64_t until_ns, int64_t now) {
    struct near *n = l->near;
    struct lab_stream *s = n->stream;
    int64_t sleep_ns = until_ns - s->margin_ns - now;
    if (polls(s->wait) || sleep_ns <= 0) {
        if (s->wait == LAB_YIELD || s->shares_cpu) sched_yield();
        return 0;
    }
    if (l->unread) {
        stamping_read(&n->stamping);
        l->unread = 0;
    }
    /* An epoll can be polled itself, with a timeout in nanoseconds. */
    struct pollfd fds[] = {
        {.fd = s->wait == LAB_EPOLL ? s->near_epoll_fd : s->near_fd, .events = POLLIN},
        {.fd = s->wait == LAB_EPOLL ? s->far_epoll_fd : s->far_fd, .events = POLLIN},
    };
    struct timespec most = {.tv_nsec = sleep_ns < LAB_SLICE_NS ? sleep_ns : LAB_SLICE_NS};
    if (ppoll(fds, n->inline_far ? 2 : 1, &most, NULL) < 0 && errno != EINTR) return -errno;
    if ((fds[0].revents | fds[1].revents) & POLLERR) stamping_read(&n->stamping); /* which would not let it sleep */
    return 0;
}

/* Rows up to the first probe that is still under way, whose row would look lost. */
static int64_t settled(const struct open_loop *l) {
    const struct lab_stream *s = l->near->stream;
    int64_t now = read_clock(l->near->clock);
    for (int64_t i = 0; i < l->next; i++) {
        const struct lab_record *row = &l->near->records[i];
        if (row->status == LAB_LOST && row->tx_ns + s->timeout_ns >= now) return i;
    }
    return l->next;
}

static int run(struct open_loop *l) {
    struct near *n = l->near;
    struct lab_stream *s = n->stream;
    int64_t all_settled_ns = 0;
    for (unsigned turns = 1; !__atomic_load_n(n->stop, __ATOMIC_RELAXED); turns++) {
        int64_t now = now_ns();
        bool sending = l->next < s->count && now >= due(l);
        int error = sending ? send_next(l, now) : 0;
        if (error) return error;
        if (sending) all_settled_ns = now_ns() + s->timeout_ns;
        int heard = look(l, sending);
        if (heard < 0) return heard;
        if (l->next == s->count && (!l->open || now > all_settled_ns)) return 0;
        if (s->patience && n->unanswered >= s->patience) return -ETIMEDOUT;
        if (turns % SPINS_PER_CHECK == 0 && near_give_up(n, INT64_MAX) < 0) return -EPIPE;
        if (limited(s, n->end_ns)) return 0;
        if (l->unread >= STAMP_PROBES) {
            stamping_read(&n->stamping);
            l->unread = 0;
        }
        if (sending || heard) continue;
        error = rest(l, l->next < s->count ? due(l) : all_settled_ns, now);
        if (error) return error;
    }
    return 0;
}

int schedule_run(struct near *n) {
    struct open_loop l = {.near = n};
    if (!polls(n->stream->wait)) n->stream->margin_ns = sleep_margin();
    l.start_ns = now_ns() + n->stream->margin_ns + LEAD_NS;
    int error = run(&l);
    n->stream->done = settled(&l);
    return error;
}
