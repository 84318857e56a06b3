/* Messages that two threads leave for each other in memory: the floor of every round trip between two CPUs.
 *
 * Each direction has a lane: a sequence number and, right behind it, the message. Up to 56 bytes of message share one
 * cache line with the number, so that a round trip moves that line to the other CPU and another one back. Whoever
 * writes a lane stores the number last (release); whoever reads it polls the number (acquire). Nothing can be lost. */
#include <sched.h>

#include "internal.h"

#define LINE_BYTES 64

struct lane {
    _Alignas(LINE_BYTES) uint64_t number; /* of the message that is there; SHM_GOODBYE: there will be no more */
    unsigned char message[LAB_MAX_PAYLOAD];
};
_Static_assert(offsetof(struct lane, message) == sizeof(uint64_t), "number and message share a line");
_Static_assert(2 * sizeof(struct lane) + LINE_BYTES <= LAB_SCRATCH_BYTES, "two lanes, wherever scratch begins");

#define SHM_GOODBYE UINT64_MAX

struct shm {
    struct lane *there, *back;
    size_t size;
    int cpu;
    int error; /* of the far thread; read after it was joined */
};

static void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The far end: copies each message into the other lane, with its own stamps. */
static void *reflect(void *argument) {
    struct shm *shm = argument;
    shm->error = -pin(shm->cpu);
    if (shm->error) {
        __atomic_store_n(&shm->back->number, SHM_GOODBYE, __ATOMIC_RELEASE);
        return NULL;
    }
    for (uint64_t wanted = 1;; wanted++) {
        uint64_t number;
        while ((number = __atomic_load_n(&shm->there->number, __ATOMIC_ACQUIRE)) < wanted) cpu_relax();
        if (number == SHM_GOODBYE) return NULL;
        int64_t rx_ns = now_ns();
        struct payload head;
        memcpy(shm->back->message, shm->there->message, shm->size);
        memcpy(&head, shm->back->message, sizeof head);
        head.far_rx_ns = rx_ns;
        head.far_tx_ns = now_ns();
        memcpy(shm->back->message, &head, sizeof head);
        __atomic_store_n(&shm->back->number, number, __ATOMIC_RELEASE);
    }
}

/* One round trip. False if the stream was stopped, the far end is gone or the time is up, with the row as it is then. */
static bool exchange(const struct shm *shm, uint64_t number, struct lab_record *row, int64_t timeout_ns,
                     const int32_t *stop) {
    row->due_ns = row->tx_ns = now_ns();
    __atomic_store_n(&shm->there->number, number, __ATOMIC_RELEASE);
    row->tx_done_ns = now_ns();
    row->status = LAB_LOST;
    uint64_t there;
    for (unsigned spins = 1; (there = __atomic_load_n(&shm->back->number, __ATOMIC_ACQUIRE)) != number; spins++) {
        if (there == SHM_GOODBYE) return false;
        cpu_relax();
        if (spins % SPINS_PER_CHECK) continue;
        if (__atomic_load_n(stop, __ATOMIC_RELAXED) || now_ns() - row->tx_ns > timeout_ns) return false;
    }
    row->rx_ns = now_ns();
    struct payload head;
    memcpy(&head, shm->back->message, sizeof head);
    row->far_rx_ns = head.far_rx_ns;
    row->far_tx_ns = head.far_tx_ns;
    row->reply_bytes = (int32_t)shm->size;
    row->status = LAB_RECEIVED;
    return true;
}

int64_t shm_run(struct lab_stream *stream, struct lab_record *records, unsigned char *scratch, const int32_t *stop) {
    uintptr_t aligned = ((uintptr_t)scratch + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    struct lane *lanes = (struct lane *)aligned;
    struct shm shm = {.there = &lanes[0], .back = &lanes[1], .size = (size_t)stream->size, .cpu = stream->far_cpu};
    memset(lanes, 0, 2 * sizeof *lanes);
    pthread_t thread;
    int error = start_thread(&thread, shm.cpu, reflect, &shm);
    if (error) return error;
    struct lab_record spare = {0};
    bool whole = true, over = false;
    int64_t end_ns = end_of(stream);
    for (int64_t i = -stream->warmup; whole && !over && i < stream->count; i++) {
        struct payload head = {.nonce = stream->nonce, .seq = (uint64_t)i};
        memcpy(shm.there->message, &head, sizeof head);
        whole = exchange(&shm, (uint64_t)(i + stream->warmup + 1), i < 0 ? &spare : &records[i], stream->timeout_ns, stop);
        if (whole && i >= 0) stream->done++;
        over = limited(stream, end_ns);
    }
    /* A far end that doesn't answer in time is no loss: it can't be given up for the next message. */
    bool stopped = __atomic_load_n(stop, __ATOMIC_RELAXED);
    __atomic_store_n(&shm.there->number, SHM_GOODBYE, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    stream->far_error = shm.error;
    if (shm.error) return -EPIPE;
    return whole || stopped ? stream->done : -ETIME;
}
