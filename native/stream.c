/* One stream, from its description to its rows. closed.c and schedule.c send it, near.c and reflector.c are its ends. */
#include <pthread.h>
#include <sched.h>

#include "internal.h"

/* ---- setting up ---- */

static bool valid_time(int64_t ns) {
    return ns >= 0 && ns <= LAB_MAX_TIMEOUT_NS;
}

static bool valid(const struct lab_stream *s, bool stamps) {
    bool icmp = s->kind == LAB_ICMP_RAW || s->kind == LAB_ICMP_PING;
    bool network = s->family == AF_INET || s->family == AF_INET6;
    bool local = s->family == AF_UNIX && !icmp;
    int smallest = icmp ? LAB_MIN_PAYLOAD_ICMP : LAB_MIN_PAYLOAD;
    bool shm = s->kind == LAB_SHM;
    return s->kind >= LAB_ICMP_RAW && s->kind <= LAB_SHM && (network || local) && s->wait >= LAB_BLOCK &&
           s->wait <= LAB_YIELD && s->size >= smallest && s->size <= LAB_MAX_PAYLOAD && s->count >= 0 &&
           s->warmup >= 0 && s->patience >= 0 && s->timeout_ns > 0 && valid_time(s->timeout_ns) &&
           s->icmp_id <= 0xffff && (icmp || shm) == (s->far_fd < 0) && s->far_cpu < CPU_SETSIZE &&
           (s->far_cpu < 0 || !icmp) && (!shm || (s->far_cpu >= 0 && s->wait == LAB_SPIN)) &&
           (s->arrivals == LAB_CLOSED || (s->arrivals == LAB_SCHEDULED && !shm && !s->think_ns)) &&
           (s->wait != LAB_EPOLL || (s->near_epoll_fd >= 0 && (icmp || s->far_epoll_fd >= 0) && !stamps)) &&
           (!stamps || (network && s->kind <= LAB_TCP)) && valid_time(s->think_ns) && valid_time(s->limit_ns) &&
           valid_time(s->hold_ns) && valid_time(s->stall_ns) && s->stall_seq >= 0 &&
           (!(s->hold_ns || s->stall_ns) || s->far_fd >= 0);
}

socklen_t target_address(const struct lab_stream *s, struct sockaddr_storage *to) {
    if (s->family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)to;
        in->sin_family = AF_INET;
        in->sin_port = htons(s->far_port);
        memcpy(&in->sin_addr, s->target, 4);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(s->far_port);
    memcpy(&in6->sin6_addr, s->target, 16);
    return sizeof *in6;
}

int64_t slice_of(const struct lab_stream *s) {
    int64_t parts = (s->timeout_ns + LAB_SLICE_NS - 1) / LAB_SLICE_NS;
    return s->timeout_ns / parts;
}

static int near_init(struct near *n, struct lab_stream *s, struct lab_record *records, struct lab_stamps *stamps,
                     unsigned char *scratch, const int32_t *stop) {
    *n = (struct near){.stream = s, .records = records, .stop = stop, .bytes = scratch + BUFFER_BYTES};
    n->clock = stamps ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    message_prepare(&n->request, s, scratch);
    int error = stamping_begin(&n->stamping, s, stamps);
    if (error) return error;
    s->offset_ns = n->stamping.offset_ns;
    reflector_init(&n->far, s, &n->stamping, scratch + 2 * BUFFER_BYTES, stop);
    n->inline_far = s->far_fd >= 0 && s->far_cpu < 0;
    n->ask_first = s->far_fd < 0 || n->inline_far;
    n->samples = s->kind <= LAB_UDP && s->family != AF_UNIX && !n->request.ip_header;
    n->out_fd = s->kind == LAB_PIPE ? s->near_out_fd : s->near_fd;
    int64_t slice = slice_of(s);
    n->slice_ms = slice < 1000000 ? 1 : (int)(slice / 1000000);
    if (s->kind == LAB_PIPE) return 0; /* no addresses, and no timeouts */
    n->to_length = target_address(s, &n->to);
    error = set_slices(s->near_fd, slice, slice);
    /* A reflector's thread sleeps without a timer, which would cost a blocked round trip 2 %: goodbye wakes it. */
    if (!error && s->far_fd >= 0) error = set_slices(s->far_fd, n->inline_far ? slice : 0, slice);
    return error;
}

/* ---- the stream ---- */

/* Replies that are queued when the last probe is settled: duplicates, and late ones. */
static void drain(struct near *n) {
    struct reply reply;
    if (n->stream->kind == LAB_PIPE) return; /* it keeps order and loses nothing; a read might block */
    for (int i = 0; i < 4096; i++) {
        int got = near_receive(n, MSG_DONTWAIT, &reply);
        if (got < 0) return;
        if (got > 0) near_record(n, &reply, SEQ_GOODBYE, false);
    }
}

static int run(struct near *n) {
    struct lab_stream *s = n->stream;
    bool scheduled = s->arrivals == LAB_SCHEDULED;
    n->end_ns = end_of(s);
    add_usage(&s->near_usage, -1);
    int error = closed_run(n, s->warmup, scheduled ? 0 : s->count);
    bool over = __atomic_load_n(n->stop, __ATOMIC_RELAXED) || s->limited;
    if (!error && scheduled && !over) error = schedule_run(n);
    add_usage(&s->near_usage, 1);
    if (!error) drain(n);
    return error;
}

/* Runs the stream while a reflector thread answers it. */
static int run_with_reflector(struct near *n) {
    pthread_t thread;
    int error = reflector_start(&n->far, &thread);
    if (error) return error;
    error = run(n);
    __atomic_store_n(&n->far.finished, 1, __ATOMIC_RELEASE);
    struct lab_record goodbye;
    if (error != -ETIME) (void)near_send(n, &goodbye, SEQ_GOODBYE); /* a connection that stalled would stall again */
    reflector_join(&n->far, thread);
    return error;
}

void to_monotonic(const struct lab_stream *s, struct lab_record *records) {
    for (int64_t i = 0; i < s->count; i++) {
        struct lab_record *row = &records[i];
        int64_t *stamps[] = {&row->due_ns,    &row->tx_ns,     &row->tx_done_ns, &row->rx_ns,
                             &row->far_rx_ns, &row->far_tx_ns, &row->user_rx_ns};
        for (size_t k = 0; row->tx_ns && k < sizeof stamps / sizeof *stamps; k++)
            if (*stamps[k]) *stamps[k] -= s->offset_ns;
    }
}

int64_t lab_stream_run(struct lab_stream *stream, struct lab_record *records, struct lab_stamps *stamps,
                       unsigned char *scratch, const int32_t *stop) {
    struct near n;
    size_t output = offsetof(struct lab_stream, done);
    memset((char *)stream + output, 0, sizeof *stream - output);
    if (stream->kind >= LAB_SYSCALL) return stamps ? -EINVAL : sequence_run(stream, records, stop);
    if (!valid(stream, stamps)) return -EINVAL;
    if (stream->kind == LAB_SHM) return shm_run(stream, records, scratch, stop);
    int error = near_init(&n, stream, records, stamps, scratch, stop);
    if (!error) error = n.far.fd >= 0 && !n.inline_far ? run_with_reflector(&n) : run(&n);
    stamping_end(&n.stamping);
    stream->far_foreign = n.far.foreign;
    stream->far_error = n.far.error;
    stream->far_usage = n.far.usage;
    stream->step_ns = n.stamping.step_ns;
    stream->stamps_foreign = n.stamping.foreign;
    if (stamps) to_monotonic(stream, records);
    return error ? error : stream->done;
}
