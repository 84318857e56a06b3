/* The far end: receives a request, stamps it, sends it back.
 *
 * Played by the calling thread (placement inline) or by a thread of its own that ends with the stream. It answers
 * only messages that carry the stream's nonce. UDP sockets are connected, so what comes is from the near end. */
#include <sched.h>

#include "internal.h"

void reflector_init(struct reflector *reflector, const struct lab_stream *stream, struct stamping *stamping,
                    unsigned char *bytes, const int32_t *stop) {
    *reflector = (struct reflector){
        .fd = stream->far_fd,
        .out_fd = stream->kind == LAB_PIPE ? stream->far_out_fd : stream->far_fd,
        .epoll_fd = stream->far_epoll_fd,
        .stamping = stamping->rows ? stamping : NULL,
        .clock = stamping->rows ? CLOCK_REALTIME : CLOCK_MONOTONIC,
        .wait = stream->wait,
        .kind = stream->kind,
        .cpu = stream->far_cpu,
        .size = (size_t)stream->size,
        .nonce = stream->nonce,
        .bytes = bytes,
        .stop = stream->far_cpu < 0 ? stop : &reflector->finished,
        .hold_ns = stream->hold_ns,
        .stall_ns = stream->stall_ns,
        .stall_seq = (uint64_t)stream->stall_seq,
    };
}

/* Reads one message. 1 with its length in *length, 0 if it is not whole yet, -errno. */
static int read_request(struct reflector *reflector, int flags, size_t *length, struct ancillary *with) {
    if (reflector->kind != LAB_UDP) {
        *length = reflector->size;
        return receive_more(reflector->kind, reflector->fd, reflector->bytes, reflector->size, &reflector->have, flags,
                            with);
    }
    ssize_t n = with ? receive_with(reflector->fd, reflector->bytes, BUFFER_BYTES, flags, with)
                     : recv(reflector->fd, reflector->bytes, BUFFER_BYTES, flags);
    if (n < 0) return errno == EINTR ? 0 : -errno;
    if (n == 0) return -ESHUTDOWN; /* no request is empty: the socket was shut down */
    *length = (size_t)n;
    return 1;
}

/* With the kernel's stamps: files that of the request, and notes whose reply leaves next. */
static void stamp(struct stamping *stamping, uint64_t seq, const struct ancillary *with) {
    if (seq < (uint64_t)stamping->count && !stamping->rows[seq].far_rx_real_ns)
        stamping->rows[seq].far_rx_real_ns = with->kernel_ns;
    stamping_note(&stamping->far, seq);
}

/* What was asked for to try the measurement itself: a known delay, and one long stop. */
static void hold(struct reflector *reflector, uint64_t seq, int64_t rx_ns) {
    int64_t until_ns = rx_ns + reflector->hold_ns;
    if (reflector->stall_ns && seq < SEQ_UNRECORDED && seq >= reflector->stall_seq) {
        until_ns += reflector->stall_ns;
        reflector->stall_ns = 0;
    }
    while (read_clock(reflector->clock) < until_ns && !__atomic_load_n(reflector->stop, __ATOMIC_RELAXED)) continue;
}

int reflector_serve(struct reflector *reflector, int flags, uint64_t *seq) {
    size_t length = 0;
    struct ancillary with;
    int got = read_request(reflector, flags, &length, reflector->stamping ? &with : NULL);
    if (got <= 0) return got;
    int64_t rx_ns = read_clock(reflector->clock);
    struct payload head;
    memcpy(&head, reflector->bytes, sizeof head);
    if (length < sizeof head || head.nonce != reflector->nonce) {
        reflector->foreign++;
        return 0;
    }
    *seq = head.seq;
    if (head.seq == SEQ_GOODBYE) return 0;
    if (reflector->hold_ns || reflector->stall_ns) hold(reflector, head.seq, rx_ns);
    head.far_rx_ns = rx_ns;
    if (reflector->stamping) stamp(reflector->stamping, head.seq, &with);
    head.far_tx_ns = read_clock(reflector->clock);
    memcpy(reflector->bytes, &head, sizeof head);
    if (reflector->kind != LAB_UDP) {
        int sent = send_all(reflector->kind, reflector->out_fd, reflector->bytes, length, STALL_NS, reflector->stop);
        return sent < 0 ? sent : 1;
    }
    ssize_t n;
    do n = send(reflector->fd, reflector->bytes, length, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0) return 1;
    if (reflector->stamping) stamping_failed(&reflector->stamping->far);
    /* A full queue loses this reply, which the near end will count; it does not end the reflector. */
    return errno == ENOBUFS || errno == EAGAIN ? 1 : -errno;
}

static void *reflect(void *argument) {
    struct reflector *reflector = argument;
    int wait = reflector->wait;
    uint64_t seq = 0;
    int error = pin(reflector->cpu);
    add_usage(&reflector->usage, -1);
    for (unsigned tries = 1; !error; tries++) {
        int got = wait_input(wait, reflector->epoll_fd, LAB_SLICE_NS / 1000000);
        if (!got) got = reflector_serve(reflector, receive_flags(wait), &seq);
        if (seq == SEQ_GOODBYE) break;
        if (got > 0) continue;
        if (got < 0 && got != -EAGAIN) error = got;
        if (got < 0 && wait == LAB_YIELD) sched_yield();
        if ((!polls(wait) || tries % SPINS_PER_CHECK == 0) && __atomic_load_n(&reflector->finished, __ATOMIC_ACQUIRE))
            break;
    }
    add_usage(&reflector->usage, 1);
    /* Once the near end has finished, how the socket went away is no error of ours. */
    if (__atomic_load_n(&reflector->finished, __ATOMIC_ACQUIRE)) error = 0;
    reflector->error = -error;
    __atomic_store_n(&reflector->ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

int reflector_start(struct reflector *reflector, pthread_t *thread) {
    return start_thread(thread, reflector->cpu, reflect, reflector);
}

void reflector_join(struct reflector *reflector, pthread_t thread) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LAB_SLICE_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    if (!pthread_timedjoin_np(thread, NULL, &until)) return;
    shutdown(reflector->fd, SHUT_RDWR);
    pthread_join(thread, NULL);
}
