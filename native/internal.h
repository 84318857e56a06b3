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

static inline int64_t read_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t now_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}

/* ---- 16 bits in network order ---- */

static inline void put16(unsigned char *at, uint32_t value) {
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
}

static inline uint32_t get16(const unsigned char *at) {
    return (uint32_t)at[0] << 8 | at[1];
}

/* ---- clock.c ---- */

/* CLOCK_REALTIME less CLOCK_MONOTONIC, from the narrowest of some brackets, whose width it is uncertain by. */
int64_t clock_offset(int64_t *width_ns);

/* ---- checksum.c ---- */

/* The Internet checksum's sum (RFC 1071) of up to 4 GiB, in 16 bits: sums of parts may be added, and folded again. */
uint32_t sum16(const void *from, size_t length);

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
    int64_t kernel_ns; /* the kernel's receive stamp, with stamps */
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

/* ---- wait.c: how an end waits ---- */

/* The flags of a receive call: in LAB_BLOCK alone it may sleep. */
static inline int receive_flags(int wait) {
    return wait == LAB_BLOCK ? 0 : MSG_DONTWAIT;
}

/* Whether it asks again and again, and never sleeps. */
static inline bool polls(int wait) {
    return wait == LAB_SPIN || wait == LAB_YIELD;
}

/* Before a receive call: LAB_EPOLL sleeps here for at most `ms` (0: only looks). 0: receive now; -EAGAIN: nothing came;
 * -errno. */
int wait_input(int wait, int epoll_fd, int ms);
/* How late this thread wakes from a sleep, as far as a few of them show: so long before a time it must stop sleeping. */
int64_t sleep_margin(void);
/* Waits until `due_ns`: asleep until the margin if it may sleep, for longer than that, and then reading the clock. False:
 * *stop was set. */
bool wait_until(int64_t due_ns, int64_t margin_ns, int wait, const int32_t *stop);

/* ---- stamps.c: the kernel's stamps ---- */

/* Messages whose stamps may be under way; the kernel's queue holds no more than 255. */
#define STAMP_RING 1024
/* Probes after which the stamps are read at the latest: each has two or three at either end. */
#define STAMP_PROBES 32

/* The messages that leave one end, which the kernel numbers from the moment stamping was turned on. */
struct stamped_end {
    int fd;
    uint32_t stride;  /* what its numbers grow by: 1, or the size of a message in a byte stream */
    int64_t sent;     /* messages; known to the sender only */
    int64_t newest;   /* of those whose stamps have been read; known to the reader only */
    int32_t broken;   /* a send failed, so the numbers can't be trusted any more */
    uint64_t seqs[STAMP_RING]; /* whose message it was; written by the sender, read by the reader */
};

struct stamping {
    struct lab_stamps *rows; /* NULL: stamps are not asked for */
    int64_t count;
    int64_t foreign;
    int64_t offset_ns, width_ns; /* the last clock_offset */
    int64_t step_ns;             /* sum of its changes */
    struct stamped_end near, far;
};

/* What comes beside a message. */
struct ancillary {
    int64_t kernel_ns; /* the kernel's receive stamp, or 0 */
    int ttl;           /* or 0 */
    struct sockaddr_storage from;
};

/* Turns stamping on at both ends; nothing if rows is NULL. 0 or -errno. */
int stamping_begin(struct stamping *stamping, const struct lab_stream *stream, struct lab_stamps *rows);
void stamping_end(struct stamping *stamping);
/* Before a message is sent: whose it is. */
void stamping_note(struct stamped_end *end, uint64_t seq);
/* The kernel may or may not have numbered the message that it did not take. */
void stamping_failed(struct stamped_end *end);
/* Files the stamps that have come, and looks whether the clock was set. */
void stamping_read(struct stamping *stamping);
/* recv with what comes beside the message. */
ssize_t receive_with(int fd, unsigned char *bytes, size_t length, int flags, struct ancillary *ancillary);

/* ---- reflector.c: the far end ---- */

struct reflector {
    int fd;
    int out_fd; /* where replies leave: fd itself, but for pipes */
    int epoll_fd;
    int wait;   /* enum lab_wait */
    int kind;   /* LAB_UDP, LAB_TCP or LAB_PIPE */
    int cpu;    /* -1: no thread of its own */
    clockid_t clock;
    size_t size;
    uint64_t nonce;
    unsigned char *bytes; /* one message */
    size_t have;          /* bytes of an unfinished TCP message */
    int64_t foreign;
    int error;           /* why the thread ended, or 0; read after `ended` */
    const int32_t *stop; /* ends a reply that cannot be sent: the stream's flag, or `finished` for a thread */
    int64_t hold_ns, stall_ns; /* as in lab_stream; stall_ns is 0 once it is over */
    uint64_t stall_seq;
    struct stamping *stamping; /* or NULL */
    struct lab_usage usage;    /* of the thread; read after it was joined */
    int32_t finished;          /* set by the near end, read by the thread */
    int32_t ended;             /* set by the thread, read by the near end */
};

void reflector_init(struct reflector *reflector, const struct lab_stream *stream, struct stamping *stamping,
                    unsigned char *bytes, const int32_t *stop);
/* Receives one request and answers it. flags: of the receive call. 1: done, its number in *seq; 0: not one of ours, or
 * goodbye; -errno. */
int reflector_serve(struct reflector *reflector, int flags, uint64_t *seq);
/* Runs reflector_serve in `thread` until goodbye, `finished` or an error. Returns 0 or -errno. */
int reflector_start(struct reflector *reflector, pthread_t *thread);
/* Waits for the thread, which goodbye or `finished` ends; should goodbye have been lost, shuts its socket down. */
void reflector_join(struct reflector *reflector, pthread_t thread);

/* ---- near.c: one message at the near end ---- */

/* Everything one stream needs, on the stack of lab_stream_run. */
struct near {
    struct lab_stream *stream;
    struct lab_record *records;
    const int32_t *stop;
    clockid_t clock;      /* what stamps are read from */
    int64_t end_ns;       /* CLOCK_MONOTONIC, when limit_ns are over */
    int out_fd;           /* where probes leave: the stream's near_fd, but for pipes */
    int slice_ms;         /* how long epoll may sleep before it looks at the stop flag and the time */
    struct message request;
    unsigned char *bytes; /* where replies are received */
    size_t have;          /* bytes of an unfinished TCP reply */
    uint64_t highest;     /* 1 + the highest recorded sequence number answered so far */
    bool ask_first;       /* the reply may be there when send() returns: ask before sleeping */
    bool inline_far;      /* this thread plays the reflector too */
    bool samples;         /* TTL and source cost a recvmsg: only the first reply pays it */
    bool ttl_seen;        /* it has been paid */
    int64_t unanswered;   /* probes sent since the last reply */
    struct stamping stamping;
    /* The reflector's thread writes to its part: keep that off the lines used here. */
    _Alignas(64) struct reflector far;
    _Alignas(64) struct sockaddr_storage to; /* ICMP sockets stay unconnected, so that the reply's source is observed */
    socklen_t to_length;
};

/* Stamps and sends one probe. 0; -EAGAIN if the kernel took no copy; another -errno ends the stream. */
int near_send(struct near *near, struct lab_record *row, uint64_t seq);
/* Receives one message and stamps it. flags: of the receive call. 1: a reply of ours; 0: another message, or not yet a
 * whole one; -errno. */
int near_receive(struct near *near, int flags, struct reply *reply);
/* Files a reply under its probe. Returns whether that settles the probe `awaited`. */
bool near_record(struct near *near, const struct reply *reply, uint64_t awaited, bool first_look);
/* 0: go on waiting; 1: the stream was stopped or the time (CLOCK_MONOTONIC) is up; -EPIPE: nobody will answer. */
int near_give_up(const struct near *near, int64_t deadline_ns);

/* ---- limit_ns, for every kind: CLOCK_MONOTONIC, which nobody sets ---- */

/* When a stream that begins now must have ended. */
static inline int64_t end_of(const struct lab_stream *stream) {
    return stream->limit_ns ? now_ns() + stream->limit_ns : INT64_MAX;
}

/* Whether that time is over; tells the stream so. */
static inline bool limited(struct lab_stream *stream, int64_t end_ns) {
    if (end_ns == INT64_MAX || now_ns() <= end_ns) return false;
    stream->limited = 1;
    return true;
}

static inline int64_t earlier(int64_t one_ns, int64_t other_ns) {
    return one_ns < other_ns ? one_ns : other_ns;
}

/* ---- closed.c, schedule.c: when probes are sent ---- */

/* Sends `warmup` probes that are not recorded, then `count` that are. 0 or -errno. */
int closed_run(struct near *near, int64_t warmup, int64_t count);
/* Sends stream->count probes when they are due. 0 or -errno. */
int schedule_run(struct near *near);

/* ---- shm.c: messages that two threads leave in shared memory ---- */

/* Runs a LAB_SHM stream: as lab_stream_run. */
int64_t shm_run(struct lab_stream *stream, struct lab_record *records, unsigned char *scratch, const int32_t *stop);

/* ---- sequence.c: kinds whose probes carry no message ---- */

/* Runs a LAB_SYSCALL, LAB_TCP_CONNECT or LAB_TCP_SYN stream: as lab_stream_run. */
int64_t sequence_run(struct lab_stream *stream, struct lab_record *records, const int32_t *stop);

/* One probe, into a zeroed row. `number` is its row, or negative in the warm-up. 0, or -errno to end the stream. */
typedef int probe_function(void *state, struct lab_record *row, int64_t number);
/* Sends the stream's probes one after another, as lab_stream_run says. */
int64_t each_probe(struct lab_stream *stream, struct lab_record *records, const int32_t *stop, probe_function *probe,
                   void *state);
/* What an end does between two looks: nothing (it blocks in the look, or spins), sched_yield, or epoll_wait for at
 * most a slice. 0 or -errno. */
int between_looks(const struct lab_stream *stream);

int64_t syscall_run(struct lab_stream *stream, struct lab_record *records, const int32_t *stop);
int64_t connect_run(struct lab_stream *stream, struct lab_record *records, const int32_t *stop);
int64_t syn_run(struct lab_stream *stream, struct lab_record *records, const int32_t *stop);

/* ---- stream.c ---- */

/* The stream's target and far_port, as the kernel wants them. Returns the length. */
socklen_t target_address(const struct lab_stream *stream, struct sockaddr_storage *to);
/* The timeout in even parts of at most LAB_SLICE_NS, so that a lost probe costs its timeout, and a timer tick a part. */
int64_t slice_of(const struct lab_stream *stream);
/* Moves the rows' stamps from CLOCK_REALTIME, which the kernel stamps with, to CLOCK_MONOTONIC, by offset_ns. */
void to_monotonic(const struct lab_stream *stream, struct lab_record *records);

/* ---- thread.c: threads of our own ---- */

/* Pins the calling thread. 0 or -errno. */
int pin(int cpu);
/* Adds what the calling thread went through since it was `sign` < 0, or before: call with -1, and later with 1. */
void add_usage(struct lab_usage *usage, int sign);
/* Lets the calling thread run before others, where that is allowed: those that send what it must not lose. */
void go_first(void);
/* Starts a thread on that CPU (-1: on any), if it can be had, with all signals blocked, which are the business of Python's main
 * thread. 0 or -errno. */
int start_thread(pthread_t *thread, int cpu, void *(*run)(void *), void *argument);

/* ---- socket.c: calls that must be made whole ---- */

/* Writes all of a message, waiting in slices. 0, or -errno; -ECANCELED once *stop is set, -ETIME after `patience_ns`.
 * `kind` (enum lab_kind) tells pipes from sockets, also below. */
int send_all(int kind, int fd, const unsigned char *bytes, size_t length, int64_t patience_ns, const int32_t *stop);
/* Continues a message of `length` bytes of which *have are there. 1 when whole, 0 when not yet, -errno. ancillary: what
 * came beside its last piece, or NULL. */
int receive_more(int kind, int fd, unsigned char *bytes, size_t length, size_t *have, int flags,
                 struct ancillary *ancillary);
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
