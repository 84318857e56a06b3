/* What the checks of native/ share: how a case fails, the ends and rows of a stream, and what tampers with its calls.
 *
 * A case is a function without arguments that returns if all is well. Each runs in a process of its own, so it may
 * leave sockets, signal handlers and faults behind. */
#pragma once

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "frames.h"

/* ---- check.c: cases ---- */

enum {
    BOTH_FAMILIES = 1, /* runs as NAME-4 and NAME-6 */
    THREADS = 2,       /* has more than one thread, so ThreadSanitizer should see it */
};

struct check {
    const char *name;
    void (*run)(void);
    int traits;
};
#define CASE(function, traits) {#function, function, traits}

extern const struct check stream_checks[], stop_checks[], loss_checks[], refusal_checks[], failure_checks[],
    message_checks[], icmp_checks[], wire_checks[], impair_checks[], baseline_checks[], schedule_checks[],
    stamp_checks[], noise_checks[], syscall_checks[], connect_checks[], syn_checks[], dissect_checks[],
    reader_checks[], lane_checks[], capture_checks[], inject_checks[], sweep_checks[],
    bulk_checks[];

extern int family;       /* AF_INET or AF_INET6: what the running case is about */
extern char trying[160]; /* the variant being tried, for messages */

_Noreturn void fail(const char *file, int line, const char *claim);
_Noreturn void fail_equal(const char *file, int line, const char *claim, long long left, long long right);
/* Ends the case: this machine can't run it. */
_Noreturn void skip(const char *what, int error);

#define CHECK(claim)                                    \
    do {                                                \
        if (!(claim)) fail(__FILE__, __LINE__, #claim); \
    } while (0)
#define CHECK_EQUAL(left, right)                                                                 \
    do {                                                                                         \
        long long left_ = (long long)(left), right_ = (long long)(right);                        \
        if (left_ != right_) fail_equal(__FILE__, __LINE__, #left " == " #right, left_, right_); \
    } while (0)

/* ---- trial.c: one stream ---- */

enum placement { INLINE, SAME_CPU, CROSS_CPU, OWN_THREAD /* cross-cpu if there are two CPUs, else same-cpu */ };

/* 0 stands for a default: 56 bytes, 100 probes, a timeout of 10 s. */
struct setup {
    int kind; /* enum lab_kind */
    enum placement placement;
    int wait; /* enum lab_wait */
    int size;
    int64_t count, warmup, timeout_ns, patience;
};

struct trial {
    struct lab_stream stream;
    struct lab_stamps *stamps; /* as many, or NULL */
    struct lab_record *rows; /* exactly stream.count of them, so that AddressSanitizer sees one too many */
    unsigned char *scratch;  /* exactly LAB_SCRATCH_BYTES */
    int32_t stop;
    int64_t result, took_ns;
    int ttl; /* what a socket of this family sends with */
};

#define MS 1000000LL
#define SECOND (1000 * MS)
/* For what should take no time: long enough for a machine that is busy with other things. */
#define PROMPT_NS SECOND
_Static_assert(PROMPT_NS < STALL_NS, "what is prompt has not been given up");

int cpu_count(void);
/* Enters a network namespace of its own, where this process has the rights that it lacks outside, with lo up. */
void enter_own_network(void);
/* A socket that is bound to the loopback address; skips the case if there is no such address. */
int open_socket(int type);
/* The port that a socket is bound to. */
uint16_t port_of(int fd);
/* Connected sockets for kind LAB_UDP or LAB_TCP, set up as lab.world does it. */
void open_ends(int kind, int *near, int *far);
/* A stream over the given ends; far is -1 for ICMP. Pins the calling thread. */
struct trial trial_over(struct setup setup, int near, int far);
/* A stream over new ends. */
struct trial trial_open(struct setup setup);
/* A stream whose probes arrive nowhere: its ends are connected, but not to each other. */
struct trial trial_deaf(struct setup setup);
/* Runs the stream and keeps what it returned and how long it took. */
int64_t trial_run(struct trial *trial);
/* Closes the ends. */
void trial_close(struct trial *trial);
/* Row `seq` is that of a probe that was answered in time, all stamps in order. */
void check_received(const struct trial *trial, int64_t seq);
/* The stream ran to its end, and every row is such a row. */
void check_all_received(const struct trial *trial);
/* Calls `check` for UDP and TCP, in every wait mode, inline and (where two CPUs allow it, if spinning) with a thread. */
void each_variant(void (*check)(struct setup));

/* ---- tamper.c: what a bad network or a short kernel does, done to the calls of the code under test ---- */

/* What becomes of one message. */
enum action {
    PASS,
    LOSE,
    TWICE,
    HOLD_TO_NEXT,   /* sent right before the next message of its way */
    HOLD_PAST_NEXT, /* sent right after it */
    HALF,           /* the second half is held to the next (TCP) */
    PIECES,         /* sent a few bytes at a time (TCP) */
    BEYOND,         /* numbered beyond the last probe */
    OTHER_NONCE,
    CUT,       /* to CUT_BYTES (UDP) */
    CUT_SHORT, /* to less than the smallest message (UDP) */
    EMPTY,     /* no bytes at all (UDP) */
};
enum { CUT_BYTES = 40 };

/* The messages that leave one end. */
struct way {
    int fd;
    const enum action *actions; /* by sequence number; NULL: all pass */
    uint64_t count;             /* of them */
    int64_t sent, unrecorded, goodbyes;
    unsigned char held[LAB_MAX_PAYLOAD];
    size_t held_length;
    bool held_past;
};

/* Sends by a call that is not tampered with. */
void send_plain(int fd, const void *bytes, size_t length);

/* What becomes of calls on one descriptor. */
struct fault {
    int fd;
    int64_t first;        /* the first call it hits, from 0 */
    int64_t times;        /* how many calls it hits */
    int64_t every;        /* one call in so many goes through all the same; 0: none does */
    int error;            /* errno to fail with; 0: the call goes through */
    void (*hook)(void *); /* called before call `first` */
    void *argument;
    size_t most;   /* bytes that a call takes or gives at once; 0: all (TCP); sendmmsg: messages */
    int64_t calls; /* so far */
};

struct tamper {
    struct way requests, replies;
    struct fault send, recv, recvmsg; /* `send` is for sendto too */
    struct fault connect, accept;     /* `accept` is accept4 */
    struct fault read, write;         /* of the wire */
    struct fault sendmmsg, recvmmsg;  /* of a sweep */
    int64_t swallowed;                /* so many calls of sendmmsg say that they sent, and don't */
    int thread_error;                 /* what pthread_create fails with, or 0 */
    long coarse_ns;                   /* the clock stands still for so long at a time; 0: it does not */
    int64_t leap_ns;                  /* each look at it moves it on by so much */
    int64_t real_step_ns;             /* CLOCK_REALTIME is set forward by so much ... */
    int64_t real_step_after;          /* ... after so many looks at it */
    const int64_t *times_ns;          /* CLOCK_MONOTONIC says these one after the other, and the last for ever; or NULL */
    int64_t times_left;               /* of them */
};
extern struct tamper tamper;

/* Tampers with nothing. */
void tamper_not(void);
/* Tampers with the messages of this stream. Actions are by sequence number, stream.count of them; NULL: pass. */
void tamper_with(const struct trial *trial, const enum action *requests, const enum action *replies);
