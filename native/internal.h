/* What the C files share among themselves. Nothing here is known to Python. */
#pragma once

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#include "api.h"

_Static_assert(sizeof(struct lab_record) == 64, "a record is one cache line");
_Static_assert(offsetof(struct lab_record, reply_bytes) == 48, "six stamps come first");
_Static_assert(sizeof(struct lab_stamps) == 64, "stamps are one cache line");

_Static_assert(sizeof(struct lab_impairment) == 96, "no gap that Python would not see");
_Static_assert(sizeof(struct lab_wire_event) % sizeof(uint64_t) == 0, "events are copied by the word");
_Static_assert(offsetof(struct lab_wire_event, snap) + LAB_SNAP_BYTES == sizeof(struct lab_wire_event), "no padding");
_Static_assert(LAB_SNAP_BYTES >= 14 + 40 + 60 + LAB_MIN_PAYLOAD_ICMP, "a snap holds nonce and number of any probe");

/* A payload plus the largest headers seen in front of it (IPv4 with options, and ICMP). */
#define BUFFER_BYTES (LAB_MAX_PAYLOAD + 541)
_Static_assert(3 * BUFFER_BYTES == LAB_SCRATCH_BYTES, "three buffers of one message each");

/* Looks at the flag this often where looking costs as much as the work. */
#define SPINS_PER_CHECK 64

/* A TCP message that cannot be handed to the kernel for so long (or the timeout, if longer) ends the stream: part of it
 * may have gone, so it cannot be given up for the next one. */
#define STALL_NS 2000000000

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- message.c: bytes of a request, and whose reply it is ---- */

/* Sequence numbers of probes that are not recorded have the top bit set; this one ends the reflector. */
#define SEQ_UNRECORDED ((uint64_t)1 << 63)
#define SEQ_GOODBYE UINT64_MAX

/* The head of every payload, in host order: both ends run on one machine. */
struct payload {
    uint64_t nonce;
    uint64_t seq;
    int64_t far_rx_ns;
    int64_t far_tx_ns;
};
_Static_assert(sizeof(struct payload) == LAB_MIN_PAYLOAD, "what the smallest message holds");
_Static_assert(offsetof(struct payload, far_rx_ns) == LAB_MIN_PAYLOAD_ICMP, "ICMP carries no reflector's stamps");

struct message {
    unsigned char *bytes; /* header (ICMP only) and payload */
    size_t length;        /* of both */
    size_t header;        /* bytes before the payload */
    uint32_t sum;         /* ones' complement sum of all but the sequence numbers */
    bool checksum;        /* whether the sender fills in the ICMP checksum (raw IPv4) */
    bool ip_header;       /* whether replies come with their IPv4 header (raw IPv4) */
    const struct lab_stream *stream;
};

struct reply {
    uint64_t seq;
    int64_t rx_ns;
    int64_t far_rx_ns;
    int64_t far_tx_ns;
    int32_t bytes;
    uint8_t ttl;
    bool has_source;
    unsigned char source[16];
};

void message_prepare(struct message *message, const struct lab_stream *stream, unsigned char *bytes);
void message_number(struct message *message, uint64_t seq);
bool message_match(const struct message *message, const unsigned char *bytes, size_t length, struct reply *reply);

/* ---- reflector.c: the far end ---- */

struct reflector {
    int fd;
    int out_fd; /* where replies leave: fd itself, but for pipes */
    int wait;   /* enum lab_wait */
    int kind;   /* LAB_UDP, LAB_TCP or LAB_PIPE */
    int cpu;  /* -1: no thread of its own */
    size_t size;
    uint64_t nonce;
    unsigned char *bytes; /* one message */
    size_t have;          /* bytes of an unfinished TCP message */
    int64_t foreign;
    int error;        /* why the thread ended, or 0; read after `ended` */
    const int32_t *stop; /* ends a reply that cannot be sent: the stream's flag, or `finished` for a thread */
    int64_t hold_ns, stall_ns; /* as in lab_stream; stall_ns is 0 once it is over */
    uint64_t stall_seq;
    int32_t finished; /* set by the near end, read by the thread */
    int32_t ended;    /* set by the thread, read by the near end */
};

void reflector_init(struct reflector *reflector, const struct lab_stream *stream, unsigned char *bytes,
                    const int32_t *stop);
/* Receives one request and answers it. 1: done, its number in *seq; 0: not one of ours, or goodbye; -errno. */
int reflector_serve(struct reflector *reflector, int flags, uint64_t *seq);
/* Runs reflector_serve in `thread` until goodbye, `finished` or an error. Returns 0 or -errno. */
int reflector_start(struct reflector *reflector, pthread_t *thread);
/* Waits for the thread, which goodbye or `finished` ends; should goodbye have been lost, shuts its socket down. */
void reflector_join(struct reflector *reflector, pthread_t thread);

/* ---- shm.c: messages that two threads leave in shared memory ---- */

/* Runs a LAB_SHM stream: as lab_stream_run. */
int64_t shm_run(struct lab_stream *stream, struct lab_record *records, unsigned char *scratch, const int32_t *stop);

/* ---- threads of our own ---- */

/* Pins the calling thread. 0 or -errno. */
int pin(int cpu);
/* Starts a thread with all signals blocked, which are the business of Python's main thread. 0 or -errno. */
int start_thread(pthread_t *thread, void *(*run)(void *), void *argument);

/* ---- socket.c: calls that must be made whole ---- */

/* Writes all of a message, waiting in slices. 0, or -errno; -ECANCELED once *stop is set, -ETIME after `patience_ns`.
 * `kind` (enum lab_kind) tells pipes from sockets, also below. */
int send_all(int kind, int fd, const unsigned char *bytes, size_t length, int64_t patience_ns, const int32_t *stop);
/* Continues a message of `length` bytes of which *have are there. 1 when whole, 0 when not yet, -errno. */
int receive_more(int kind, int fd, unsigned char *bytes, size_t length, size_t *have, int flags);
/* Makes blocking calls on the socket return after at most so long; 0: never. 0 or -errno. */
int set_slices(int fd, int64_t receive_ns, int64_t send_ns);

/* ---- impair.c: what becomes of one frame ---- */

/* The decisions about one frame. */
struct verdict {
    bool lost, duplicated, reordered, corrupted;
    uint64_t bit;     /* the one to flip, modulo those there are */
    int64_t delay_ns; /* 0 if reordered */
};

bool impairment_valid(const struct lab_impairment *impairment);
/* The key of a direction's draws. */
uint64_t draw_key(uint64_t seed, int direction);
/* Decides about frame `number`. *bad: the Gilbert-Elliott state, which must be carried from frame to frame. */
struct verdict decide(const struct lab_impairment *impairment, uint64_t key, int64_t number, bool *bad);
/* Whether a frame, or the one inside it if it is VXLAN, is ARP or ICMPv6 discovery, of neighbours or of multicast
 * listeners: what the kernel sends by itself, and when it likes. header: bytes of link layer. */
bool is_discovery(const unsigned char *frame, size_t length, size_t header);

/* ---- events.c: what the wire did, for a reader in another thread ---- */

void event_log(struct lab_wire *wire, struct lab_wire_event *ring, const struct lab_wire_event *event);
