/* Many bytes from one end to the other, as fast as they are taken: a thread that writes, and one that reads.
 *
 * What is received is what counts. Of a stream, the writer says how many bytes there will be before it sends the last
 * of them, so that the reader knows at once when it has all. Datagrams may be lost, so a silence tells it. */
#include <poll.h>
#include <unistd.h>

#include "internal.h"
#include "bulk.h"

enum { WORD_BITS = 64, SLICE_MS = LAB_SLICE_NS / 1000000, DONE = -1, PIECE = 1 << 20 };

/* Datagrams begin with this. */
struct head {
    uint64_t nonce, number;
};
_Static_assert(sizeof(struct head) == LAB_MIN_DATAGRAM, "what the smallest datagram holds");

struct transfer {
    struct lab_bulk *bulk;
    unsigned char *out, *in;
    const int32_t *stop;
    int64_t deadline_ns;
    int64_t promised;     /* bytes that will have been sent; INT64_MAX: not known yet. Set by the writer */
    int32_t finished;     /* the writer sends no more: an errno that ended it, or DONE; so too */
    int32_t reader_ended; /* set by the reader */
    /* The reader's own, off the lines that the writer uses. */
    _Alignas(64) struct lab_bulk_sample *samples;
    int64_t received, arrived, duplicates, reordered, foreign, wrong, last_ns; /* as in lab_bulk */
    int64_t filled, next_ns, silent_ns;
    int32_t late;
    uint64_t next;        /* 1 + the highest number seen */
    uint64_t seen[LAB_BULK_WINDOW / WORD_BITS];
};

static bool stopped(const struct transfer *t) {
    return __atomic_load_n(t->stop, __ATOMIC_RELAXED);
}

/* ---- both ends ---- */

/* Whether a call that failed may be made again: at once, or when there is room or data, for which a pipe is watched. */
static bool may_retry(const struct transfer *t, int fd, short what, int error) {
    if (error == EINTR) return true;
    if (error != EAGAIN && !(error == ENOBUFS && what == POLLOUT)) return false;
    struct pollfd one = {.fd = fd, .events = what};
    if (t->bulk->kind == LAB_BULK_PIPE || error == ENOBUFS) (void)poll(&one, 1, SLICE_MS);
    return true;
}

static int64_t cpu_ns(void) {
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

/* ---- the reader ---- */

/* Files how far it is, once an interval. */
static void sample(struct transfer *t, int64_t now) {
    const struct lab_bulk *bulk = t->bulk;
    t->last_ns = now;
    if (now < t->next_ns || t->filled == bulk->sample_room) return;
    t->samples[t->filled++] = (struct lab_bulk_sample){.at_ns = now, .bytes = t->received};
    t->next_ns = now + bulk->interval_ns; /* no interval is shorter, should a look be late */
}

/* How many of `length` bytes are not those of the message. */
static int64_t differing(const unsigned char *bytes, const unsigned char *message, size_t length) {
    if (!memcmp(bytes, message, length)) return 0;
    int64_t wrong = 0;
    for (size_t i = 0; i < length; i++) wrong += bytes[i] != message[i];
    return wrong;
}

/* The next `length` bytes of a stream, which repeats the message. */
static void verify_stream(struct transfer *t, size_t length) {
    size_t size = (size_t)t->bulk->size, at = (size_t)t->received % size;
    size_t whole = length < size - at ? length : size - at;
    t->wrong += differing(t->in, t->out + at, whole) + differing(t->in + whole, t->out, length - whole);
}

/* Notes that this datagram has come. Returns whether it has not before. */
static bool note_number(struct transfer *t, uint64_t number) {
    uint64_t *word = &t->seen[number % LAB_BULK_WINDOW / WORD_BITS], bit = (uint64_t)1 << number % WORD_BITS;
    if (number < t->next) {
        if (t->next - number <= LAB_BULK_WINDOW && *word & bit) {
            t->duplicates++;
            return false;
        }
        t->reordered++;
        if (t->next - number > LAB_BULK_WINDOW) return true; /* its place is another's now */
    } else if (number - t->next >= LAB_BULK_WINDOW) {
        memset(t->seen, 0, sizeof t->seen);
    } else {
        for (uint64_t n = t->next; n < number; n++)
            t->seen[n % LAB_BULK_WINDOW / WORD_BITS] &= ~((uint64_t)1 << n % WORD_BITS);
    }
    if (number >= t->next) t->next = number + 1;
    *word |= bit;
    return true;
}

static void count_datagram(struct transfer *t, size_t length) {
    const struct lab_bulk *bulk = t->bulk;
    struct head head = {0};
    if (length >= sizeof head) memcpy(&head, t->in, sizeof head);
    if (length != (size_t)bulk->size || head.nonce != bulk->nonce) {
        t->foreign++;
    } else if (note_number(t, head.number)) {
        if (bulk->verify) t->wrong += differing(t->in + sizeof head, t->out + sizeof head, length - sizeof head);
        t->received += (int64_t)length;
        t->arrived++;
    }
}

/* Whether nothing more will come, as far as is known after a call that returned `length` bytes (0: none came). */
static bool is_over(struct transfer *t, size_t length, int64_t now) {
    const struct lab_bulk *bulk = t->bulk;
    bool datagram = bulk->kind == LAB_BULK_DATAGRAM;
    if (!datagram && t->received == __atomic_load_n(&t->promised, __ATOMIC_ACQUIRE)) return true;
    int finished = length ? 0 : __atomic_load_n(&t->finished, __ATOMIC_ACQUIRE);
    if (!finished) {
        t->silent_ns = 0;
        return false;
    }
    if (datagram) return now - t->last_ns >= bulk->patience_ns;
    if (!t->silent_ns) t->silent_ns = now; /* something may have come since that call */
    bool given_up = finished != DONE || stopped(t);
    t->late = !given_up && now - t->silent_ns >= STALL_NS;
    return t->late || (given_up && now - t->silent_ns >= LAB_SLICE_NS / 2);
}

/* Reads until all has come. 0, or the errno that ended it. */
static int read_all(struct transfer *t) {
    const struct lab_bulk *bulk = t->bulk;
    size_t size = (size_t)bulk->size;
    bool datagram = bulk->kind == LAB_BULK_DATAGRAM, pipe = bulk->kind == LAB_BULK_PIPE, over = false;
    while (!over) {
        ssize_t got = pipe ? read(bulk->in_fd, t->in, size) : recv(bulk->in_fd, t->in, size, 0);
        if (got < 0 && !may_retry(t, bulk->in_fd, POLLIN, errno)) return errno;
        if (got == 0 && !datagram) return ECONNRESET;
        size_t length = got > 0 ? (size_t)got : 0;
        int64_t now = now_ns();
        if (got >= 0 && datagram) {
            count_datagram(t, length);
        } else if (length) {
            if (bulk->verify) verify_stream(t, length);
            t->received += got;
        }
        if (length) sample(t, now);
        over = is_over(t, length, now);
    }
    return 0;
}

static void *reader(void *argument) {
    struct transfer *t = argument;
    struct lab_bulk *bulk = t->bulk;
    add_usage(&bulk->far_usage, -1);
    int error = -pin(bulk->far_cpu);
    if (!error) error = read_all(t);
    bulk->far_error = error;
    bulk->far_cpu_ns = cpu_ns();
    add_usage(&bulk->far_usage, 1);
    __atomic_store_n(&t->reader_ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* ---- the writer ---- */

/* Hands the first `length` bytes to the kernel, a long message in pieces, as a call that gets on is not interrupted. 1;
 * 0: stopped or out of time before all were taken; -errno. */
static int hand_over(struct transfer *t, size_t length) {
    struct lab_bulk *bulk = t->bulk;
    size_t taken = 0;
    for (;;) {
        const unsigned char *from = t->out + taken;
        size_t piece = length - taken < PIECE ? length - taken : PIECE;
        ssize_t sent = bulk->kind == LAB_BULK_PIPE ? write(bulk->out_fd, from, piece)
                                                   : send(bulk->out_fd, from, piece, MSG_NOSIGNAL);
        if (sent < 0 && !may_retry(t, bulk->out_fd, POLLOUT, errno)) return -errno;
        if (sent > 0) {
            taken += (size_t)sent;
            bulk->sent += sent;
        }
        if (taken == length) return 1;
        if (__atomic_load_n(&t->reader_ended, __ATOMIC_ACQUIRE)) return -EPIPE;
        if (stopped(t) || now_ns() > t->deadline_ns) return 0;
    }
}

/* One message, and whether it is the last, which the reader is told before. 1: go on; 0: that was it; -errno. */
static int write_message(struct transfer *t) {
    struct lab_bulk *bulk = t->bulk;
    int64_t left = bulk->limit_bytes ? bulk->limit_bytes - bulk->sent : INT64_MAX;
    bool datagram = bulk->kind == LAB_BULK_DATAGRAM;
    size_t length = (size_t)(!datagram && left < bulk->size ? left : bulk->size);
    bool last = stopped(t) || now_ns() >= t->deadline_ns || left <= bulk->size;
    if (last) __atomic_store_n(&t->promised, bulk->sent + (int64_t)length, __ATOMIC_RELEASE);
    if (datagram) {
        struct head head = {.nonce = bulk->nonce, .number = (uint64_t)bulk->messages};
        memcpy(t->out, &head, sizeof head);
    }
    bulk->messages++;
    int done = hand_over(t, length);
    return done < 0 ? done : done && !last;
}

static int write_all(struct transfer *t) {
    int more;
    do more = write_message(t);
    while (more > 0);
    /* The last message may not have been taken whole. */
    __atomic_store_n(&t->promised, t->bulk->sent, __ATOMIC_RELEASE);
    __atomic_store_n(&t->finished, more < 0 ? -more : DONE, __ATOMIC_RELEASE);
    return more;
}

static int transfer_run(struct transfer *t) {
    struct lab_bulk *bulk = t->bulk;
    int error = 0;
    if (bulk->kind != LAB_BULK_PIPE) error = set_slices(bulk->in_fd, LAB_SLICE_NS, 0);
    if (!error && bulk->kind != LAB_BULK_PIPE) error = set_slices(bulk->out_fd, 0, LAB_SLICE_NS);
    if (error) return error;
    pthread_t thread;
    int64_t cpu_before_ns = cpu_ns();
    add_usage(&bulk->near_usage, -1);
    bulk->begun_ns = now_ns();
    t->next_ns = bulk->begun_ns + bulk->interval_ns;
    t->deadline_ns = bulk->begun_ns + bulk->duration_ns;
    error = start_thread(&thread, bulk->far_cpu, reader, t);
    if (error) return error;
    error = write_all(t);
    bulk->near_cpu_ns = cpu_ns() - cpu_before_ns;
    add_usage(&bulk->near_usage, 1);
    pthread_join(thread, NULL);
    return bulk->far_error && !error ? -EPIPE : error;
}

/* ---- memory ---- */

static int copy_run(struct transfer *t) {
    struct lab_bulk *bulk = t->bulk;
    size_t size = (size_t)bulk->size;
    int64_t cpu_before_ns = cpu_ns(), now = now_ns();
    add_usage(&bulk->near_usage, -1);
    bulk->begun_ns = now;
    t->next_ns = now + bulk->interval_ns;
    int64_t limit = bulk->limit_bytes ? bulk->limit_bytes : INT64_MAX;
    while (!stopped(t) && now < bulk->begun_ns + bulk->duration_ns && t->received < limit) {
        memcpy(t->in, t->out, size);
        __asm__ volatile("" : : "r"(t->in) : "memory"); /* or the compiler leaves out what nobody reads */
        bulk->messages++;
        t->received += bulk->size;
        now = now_ns();
        if (bulk->verify) t->wrong += differing(t->in, t->out, size);
        sample(t, now);
    }
    bulk->near_cpu_ns = cpu_ns() - cpu_before_ns;
    add_usage(&bulk->near_usage, 1);
    bulk->sent = t->received;
    return 0;
}

static bool is_sound(const struct lab_bulk *bulk) {
    bool copy = bulk->kind == LAB_BULK_MEMCPY;
    int64_t smallest = bulk->kind == LAB_BULK_DATAGRAM ? LAB_MIN_DATAGRAM : 1;
    return bulk->kind >= LAB_BULK_STREAM && bulk->kind <= LAB_BULK_MEMCPY && bulk->size >= smallest &&
           bulk->size <= LAB_MAX_MESSAGE && bulk->duration_ns > 0 && bulk->duration_ns <= LAB_MAX_TIMEOUT_NS &&
           bulk->limit_bytes >= 0 && bulk->interval_ns > 0 && bulk->patience_ns >= 0 && bulk->sample_room >= 0 &&
           copy == (bulk->out_fd < 0) && copy == (bulk->in_fd < 0) && copy == (bulk->far_cpu < 0) &&
           bulk->far_cpu < CPU_SETSIZE;
}

int64_t lab_bulk_run(struct lab_bulk *bulk, unsigned char *out, unsigned char *in, struct lab_bulk_sample *samples,
                     const int32_t *stop) {
    if (!is_sound(bulk)) return -EINVAL;
    struct transfer t = {.bulk = bulk, .out = out, .in = in, .stop = stop, .promised = INT64_MAX, .samples = samples};
    int error = bulk->kind == LAB_BULK_MEMCPY ? copy_run(&t) : transfer_run(&t);
    bulk->received = t.received;
    bulk->arrived = t.arrived;
    bulk->duplicates = t.duplicates;
    bulk->reordered = t.reordered;
    bulk->foreign = t.foreign;
    bulk->wrong = t.wrong;
    bulk->last_ns = t.last_ns;
    bulk->late = t.late;
    bulk->samples = t.filled;
    return error ? error : t.filled;
}
