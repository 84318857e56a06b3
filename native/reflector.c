/* The far end: receives a request, stamps it, sends it back.
 *
 * Played by the calling thread (placement inline) or by a thread of its own that ends with the stream. It answers
 * only messages that carry the stream's nonce. UDP sockets are connected, so what comes is from the near end. */
#include "internal.h"

void reflector_init(struct reflector *reflector, const struct lab_stream *stream, unsigned char *bytes,
                    const int32_t *stop) {
    *reflector = (struct reflector){
        .fd = stream->far_fd,
        .out_fd = stream->kind == LAB_PIPE ? stream->far_out_fd : stream->far_fd,
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
static int read_request(struct reflector *reflector, int flags, size_t *length) {
    if (reflector->kind != LAB_UDP) {
        *length = reflector->size;
        return receive_more(reflector->kind, reflector->fd, reflector->bytes, reflector->size, &reflector->have, flags);
    }
    ssize_t n = recv(reflector->fd, reflector->bytes, BUFFER_BYTES, flags);
    if (n < 0) return errno == EINTR ? 0 : -errno;
    if (n == 0) return -ESHUTDOWN; /* no request is empty: the socket was shut down */
    *length = (size_t)n;
    return 1;
}

/* What was asked for to try the measurement itself: a known delay, and one long stop. */
static void hold(struct reflector *reflector, uint64_t seq, int64_t rx_ns) {
    int64_t until_ns = rx_ns + reflector->hold_ns;
    if (reflector->stall_ns && seq < SEQ_UNRECORDED && seq >= reflector->stall_seq) {
        until_ns += reflector->stall_ns;
        reflector->stall_ns = 0;
    }
    while (now_ns() < until_ns && !__atomic_load_n(reflector->stop, __ATOMIC_RELAXED)) continue;
}

int reflector_serve(struct reflector *reflector, int flags, uint64_t *seq) {
    size_t length = 0;
    int got = read_request(reflector, flags, &length);
    if (got <= 0) return got;
    int64_t rx_ns = now_ns();
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
    head.far_tx_ns = now_ns();
    memcpy(reflector->bytes, &head, sizeof head);
    if (reflector->kind != LAB_UDP) {
        int sent = send_all(reflector->kind, reflector->out_fd, reflector->bytes, length, STALL_NS, reflector->stop);
        return sent < 0 ? sent : 1;
    }
    ssize_t n;
    do n = send(reflector->fd, reflector->bytes, length, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    /* A full queue loses this reply, which the near end will count; it does not end the reflector. */
    if (n < 0 && errno != ENOBUFS && errno != EAGAIN) return -errno;
    return 1;
}

static void *reflect(void *argument) {
    struct reflector *reflector = argument;
    int flags = reflector->wait == LAB_SPIN ? MSG_DONTWAIT : 0;
    uint64_t seq = 0;
    int error = pin(reflector->cpu);
    for (unsigned spins = 1; !error; spins++) {
        int got = reflector_serve(reflector, flags, &seq);
        if (seq == SEQ_GOODBYE) break;
        if (got > 0) continue;
        if (got < 0 && got != -EAGAIN) error = got;
        if ((!flags || spins % SPINS_PER_CHECK == 0) && __atomic_load_n(&reflector->finished, __ATOMIC_ACQUIRE)) break;
    }
    /* Once the near end has finished, how the socket went away is no error of ours. */
    if (__atomic_load_n(&reflector->finished, __ATOMIC_ACQUIRE)) error = 0;
    reflector->error = -error;
    __atomic_store_n(&reflector->ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

int reflector_start(struct reflector *reflector, pthread_t *thread) {
    return start_thread(thread, reflect, reflector);
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
