/* The closed loop: each probe is sent when the one before it is settled. */
#include <sched.h>

#include "internal.h"

/* Plays the reflector until request `seq` is answered. 0 or what near_give_up says. */
static int reflect_inline(struct near *n, uint64_t seq, int64_t deadline_ns) {
    int wait = n->stream->wait;
    uint64_t served = SEQ_GOODBYE;
    for (unsigned tries = 1;; tries++) {
        int got = wait_input(wait, n->far.epoll_fd, n->slice_ms);
        if (!got) got = reflector_serve(&n->far, receive_flags(wait), &served);
        if (got > 0 && served == seq) return 0;
        if (got < 0 && got != -EAGAIN) {
            n->far.error = -got;
            return -EPIPE;
        }
        if (!polls(wait) || tries % SPINS_PER_CHECK == 0) {
            int over = near_give_up(n, deadline_ns);
            if (over) return over;
        }
    }
}

/* Waits for the reply to `seq`. 0 when it came or its time is up, -errno when the stream must end. */
static int await_reply(struct near *n, uint64_t seq, int64_t deadline_ns) {
    int wait = n->stream->wait;
    bool first_look = n->ask_first || polls(wait);
    struct reply reply;
    for (unsigned tries = 1;; tries++) {
        bool look = polls(wait) || first_look;
        int got = wait_input(wait, n->stream->near_epoll_fd, look ? 0 : n->slice_ms);
        if (!got) got = near_receive(n, look ? MSG_DONTWAIT : receive_flags(wait), &reply);
        if (got > 0 && near_record(n, &reply, seq, first_look)) return 0;
        if (got < 0 && got != -EAGAIN) return got;
        if (got < 0) first_look = false;
        if (got < 0 && wait == LAB_YIELD) sched_yield();
        if (!look || tries % SPINS_PER_CHECK == 0) {
            int over = near_give_up(n, deadline_ns);
            if (over) return over < 0 ? over : 0;
        }
    }
}

/* Sends one probe and waits for its reply. 0 (answered, lost or unsent), or -errno when the stream must end. */
static int probe(struct near *n, struct lab_record *row, uint64_t seq) {
    int error = near_send(n, row, seq);
    if (error == -EAGAIN) return 0;
    if (error) return error;
    /* Somebody may set CLOCK_REALTIME, which is no reason to lose a probe. */
    int64_t sent_ns = n->clock == CLOCK_MONOTONIC ? row->tx_ns : now_ns();
    int64_t deadline_ns = earlier(sent_ns + n->stream->timeout_ns, n->end_ns);
    if (n->inline_far) {
        int over = reflect_inline(n, seq, deadline_ns);
        if (over) return over < 0 ? over : 0;
    }
    return await_reply(n, seq, deadline_ns);
}

/* A recorded probe, think_ns after the end of the one before it. */
static int next_probe(struct near *n, int64_t i) {
    struct lab_stream *s = n->stream;
    struct lab_record *row = &n->records[i];
    int64_t due_ns = 0;
    if (s->think_ns) {
        due_ns = now_ns() + s->think_ns;
        if (!wait_until(earlier(due_ns, n->end_ns), s->margin_ns, s->wait, n->stop) || due_ns > n->end_ns) return 0;
    }
    int error = probe(n, row, (uint64_t)i);
    row->due_ns = s->think_ns ? due_ns + s->offset_ns : row->tx_ns;
    return error;
}

int closed_run(struct near *n, int64_t warmup, int64_t count) {
    struct lab_stream *s = n->stream;
    struct lab_record spare = {0};
    if (s->think_ns && !polls(s->wait)) s->margin_ns = sleep_margin();
    s->most_open = count > 0;
    for (int64_t i = -warmup; i < count; i++) {
        const struct lab_record *row = i < 0 ? &spare : &n->records[i];
        int error = i < 0 ? probe(n, &spare, SEQ_UNRECORDED | (uint64_t)(i + warmup)) : next_probe(n, i);
        bool over = limited(s, n->end_ns);
        /* A probe cut short by the stop flag or the limit is no lost probe: its row is not counted. */
        if (__atomic_load_n(n->stop, __ATOMIC_RELAXED) || (over && !error && row->status <= LAB_LOST)) break;
        if (error) return error;
        if (i >= 0) s->done++;
        if (n->stamping.rows && (i + warmup) % STAMP_PROBES == STAMP_PROBES - 1) stamping_read(&n->stamping);
        if (s->patience && n->unanswered >= s->patience) return -ETIMEDOUT;
        if (over) break;
    }
    return 0;
}
