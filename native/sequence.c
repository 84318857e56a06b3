/* Kinds whose probes carry no message: what their loops have in common. No two of their probes are under way at once,
 * and the kernel replies by itself, so there is no reflector. */
#include <sched.h>

#include "internal.h"

static bool valid(const struct lab_stream *s) {
    return s->kind >= LAB_SYSCALL && s->kind <= LAB_TCP_SYN && s->wait >= LAB_BLOCK && s->wait <= LAB_YIELD &&
           s->arrivals == LAB_CLOSED && s->think_ns == 0 && s->far_cpu < 0 && s->hold_ns == 0 && s->stall_ns == 0 && s->count >= 0 && s->warmup >= 0 &&
           s->patience >= 0 && s->timeout_ns > 0 && s->timeout_ns <= LAB_MAX_TIMEOUT_NS && s->limit_ns >= 0 &&
           (s->wait != LAB_EPOLL || s->near_epoll_fd >= 0);
}

int64_t sequence_run(struct lab_stream *stream, struct lab_record *records, const int32_t *stop) {
    if (!valid(stream)) return -EINVAL;
    int64_t (*const runs[])(struct lab_stream *, struct lab_record *, const int32_t *) = {
        [LAB_SYSCALL] = syscall_run, [LAB_TCP_CONNECT] = connect_run, [LAB_TCP_SYN] = syn_run};
    add_usage(&stream->near_usage, -1);
    int64_t result = runs[stream->kind](stream, records, stop);
    add_usage(&stream->near_usage, 1);
    return result;
}

int64_t each_probe(struct lab_stream *stream, struct lab_record *records, const int32_t *stop, probe_function *probe,
                   void *state) {
    int64_t unanswered = 0, end_ns = end_of(stream);
    for (int64_t i = -stream->warmup; i < stream->count; i++) {
        struct lab_record spare = {0}, *row = i < 0 ? &spare : &records[i];
        int error = probe(state, row, i);
        bool over = limited(stream, end_ns);
        /* A probe cut short by the stop flag or the limit is no lost probe: its row is not counted. */
        if (__atomic_load_n(stop, __ATOMIC_RELAXED) || (over && !error && row->status <= LAB_LOST)) break;
        if (error) return error;
        if (i >= 0) stream->done++;
        unanswered = row->status == LAB_LOST ? unanswered + 1 : 0;
        if (stream->patience && unanswered >= stream->patience) return -ETIMEDOUT;
        if (over) break;
    }
    return stream->done;
}

int between_looks(const struct lab_stream *stream) {
    if (stream->wait == LAB_YIELD) sched_yield();
    /* Whole milliseconds, rounded up: a slice of 0 would not sleep. */
    int error = wait_input(stream->wait, stream->near_epoll_fd, (int)(slice_of(stream) / 1000000) + 1);
    return error == -EAGAIN ? 0 : error;
}
