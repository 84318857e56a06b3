/* What Python may call, and the memory that the two sides share.
 *
 * This file is read twice, by the C compiler and by cffi, so it holds declarations only: no #include, no #if.
 * Rules of the boundary: Python opens and configures the sockets and allocates every buffer; C fills them and keeps
 * no pointer past the call, and the descriptors stay open until it returns. A call returns a count, or -errno. C never
 * prints, exits or calls Python.
 * All times are nanoseconds of CLOCK_MONOTONIC; those of CLOCK_REALTIME, as the kernel's stamps are, are named *_real_ns. */

/* The largest payload of one message: what UDP over IPv4 can carry. */
#define LAB_MAX_PAYLOAD 65507
/* The smallest: nonce and sequence number, and for UDP and TCP the reflector's two stamps behind them. */
#define LAB_MIN_PAYLOAD_ICMP 16
#define LAB_MIN_PAYLOAD 32
/* Bytes of scratch memory that a stream needs: three buffers that each hold the largest message and its headers. */
#define LAB_SCRATCH_BYTES 198144
/* The longest timeout: an hour. */
#define LAB_MAX_TIMEOUT_NS 3600000000000
/* How long a blocked call may sleep before it looks at the stop flag. */
#define LAB_SLICE_NS 50000000

enum lab_kind {
    LAB_ICMP_RAW = 0,
    LAB_ICMP_PING = 1,
    LAB_UDP = 2,  /* connected sockets that keep messages apart; unix-dgram and unix-seqpacket too */
    LAB_TCP = 3,  /* connected sockets that don't; unix-stream too */
    LAB_PIPE = 4, /* a pipe each way, non-blocking where it is to spin; it has no timeout */
    LAB_SHM = 5,  /* memory that two CPUs share: no descriptor, a far_cpu, LAB_SPIN */
    /* The next three have no payload (size says nothing of them), no schedule, and no reflector. */
    LAB_SYSCALL = 6,     /* no message, but a system call that does nothing: no descriptor */
    LAB_TCP_CONNECT = 7, /* a TCP socket, non-blocking unless it is to block, that is connected and disconnected again;
                            far_fd listens, non-blocking, if the server is ours */
    LAB_TCP_SYN = 8      /* a raw socket, bound, connected to the target, that gets the kernel's rx stamps; the kernel
                            replies to each SYN with SYN-ACK or RST */
};
/* How an end waits for a message. */
enum lab_wait {
    LAB_BLOCK = 0, /* it sleeps in the call that receives */
    LAB_SPIN = 1,  /* it asks again and again */
    LAB_EPOLL = 2, /* it sleeps in epoll_wait, and then receives */
    LAB_YIELD = 3  /* as LAB_SPIN, but offers its CPU to others in between (sched_yield) */
};
/* When probes are sent. */
enum lab_arrivals {
    LAB_CLOSED = 0,   /* each when the one before it is settled, and think_ns have passed */
    LAB_SCHEDULED = 1 /* when they are due, settled or not: records[i].due_ns holds when, from the first one's time on */
};

/* What became of a probe. Zeroed memory reads as "unsent". */
enum lab_status {
    LAB_UNSENT = 0,   /* the kernel took no copy of it (ENOBUFS, EAGAIN), or the stream stopped before */
    LAB_LOST = 1,     /* no reply at all */
    LAB_LATE = 2,     /* a reply, but after the timeout; it counts as lost (RFC 7680 section 2.6) */
    LAB_RECEIVED = 3
};

/* Bits of lab_record.flags. */
#define LAB_FLAG_INLINE 1       /* the reply was already queued when first asked for */
#define LAB_FLAG_DUPLICATE 2    /* more than one reply came; the stamps are those of the first */
#define LAB_FLAG_REORDERED 4    /* the reply came after that of a later probe */
#define LAB_FLAG_OTHER_SOURCE 8 /* the reply came from another address than the one asked */
#define LAB_FLAG_OTHER_SIZE 16  /* the reply's payload was not as long as the probe's */

/* One probe. The same layout for every kind; a stamp that does not exist is 0. */
struct lab_record {
    int64_t due_ns;      /* when it should have been sent; equal to tx_ns in a closed loop without think time */
    int64_t tx_ns;       /* read right before send() */
    int64_t tx_done_ns;  /* read right after send() returned */
    int64_t rx_ns;       /* read right after the call that returned the reply; LAB_TCP_SYN: the kernel's rx stamp */
    int64_t far_rx_ns;   /* the reflector's, right after its receive; 0 where the kernel replies */
    int64_t far_tx_ns;   /* the reflector's, right before its send */
    int32_t reply_bytes; /* payload bytes of the reply */
    uint16_t flags;      /* LAB_FLAG_* */
    uint8_t status;      /* enum lab_status */
    uint8_t reply_ttl;   /* TTL or hop limit of the reply; 0: not read: raw IPv4 and LAB_TCP_SYN alone show it always */
    int64_t user_rx_ns;  /* LAB_TCP_SYN: read right after the call that returned the reply; elsewhere 0 */
};

/* The kernel's stamps of one probe, CLOCK_REALTIME, in the order in which they are taken; 0: there is none. */
struct lab_stamps {
    int64_t near_sched_real_ns; /* the request enters the queueing discipline (TX_SCHED) */
    int64_t near_soft_real_ns;  /* it is handed to the device (TX_SOFTWARE) */
    int64_t far_rx_real_ns;     /* it enters the far end's stack (RX_SOFTWARE); 0 where the kernel replies, as the next two */
    int64_t far_sched_real_ns;  /* and so the reply */
    int64_t far_soft_real_ns;
    int64_t near_rx_real_ns;
    int64_t ack_real_ns;        /* TCP: the request was acknowledged (TX_ACK); beside the others, not among them */
    int64_t reserved;           /* pads the stamps to one cache line */
};

/* What a thread went through while a stream ran (getrusage). */
struct lab_usage {
    int64_t voluntary;    /* context switches: it slept */
    int64_t involuntary;  /* it was preempted */
    int64_t minor_faults; /* pages that were mapped */
    int64_t major_faults; /* pages that were read */
};

/* One stream: what to send and how to wait (in), and what came of it (out). */
struct lab_stream {
    int32_t near_fd;          /* where probes leave and replies arrive */
    int32_t far_fd;           /* where the reflector listens; -1: the kernel replies, or LAB_SHM */
    int32_t near_out_fd;      /* where probes leave, for LAB_PIPE, whose near_fd only receives */
    int32_t far_out_fd;       /* the reflector's, likewise */
    int32_t kind;             /* enum lab_kind */
    int32_t family;           /* AF_INET or AF_INET6; AF_UNIX where there are no addresses */
    int32_t near_epoll_fd;    /* for LAB_EPOLL: an epoll that watches near_fd for input; else -1 */
    int32_t far_epoll_fd;     /* and far_fd */
    int32_t wait;             /* enum lab_wait, for both ends */
    int32_t arrivals;         /* enum lab_arrivals */
    int32_t far_cpu;          /* CPU of the reflector's own thread; -1: the calling thread plays both ends */
    int32_t shares_cpu;       /* another thread that probes need, the reflector's or a wire's, runs on the caller's CPU:
                                 LAB_SCHEDULED offers it to them while it polls */
    int32_t size;             /* payload bytes of a probe */
    uint32_t icmp_id;         /* identifier of echo requests (a ping socket chooses its own) */
    unsigned char target[16]; /* the address asked, network order; 4 bytes of it for IPv4 */
    uint16_t near_port;       /* LAB_TCP_SYN: where its segments come from */
    uint16_t far_port;        /* LAB_TCP_CONNECT and LAB_TCP_SYN: where they go */
    uint64_t nonce;           /* tells this stream's messages from any other's */
    int64_t count;            /* probes to record */
    int64_t warmup;           /* probes to send first and not record */
    int64_t timeout_ns;       /* a reply later than this after tx_ns is late */
    int64_t patience;         /* end after so many probes unanswered in a row, warm-up included; 0: never */
    int64_t think_ns;         /* LAB_CLOSED: between one probe's end and the next one's beginning */
    int64_t limit_ns;         /* end after so long, without the probe that is then under way; 0: never */
    int64_t hold_ns;          /* the reflector spins so long between its two stamps */
    int64_t stall_ns;         /* and stops once for so long, between the stamps of the first request ... */
    int64_t stall_seq;        /* ... with this number or a later one */

    int64_t done;             /* rows filled */
    int64_t foreign;          /* messages at the near end that were no reply of this stream */
    int64_t far_foreign;      /* messages at the far end that were no request of this stream */
    int32_t far_error;        /* errno that ended the reflector, or 0 */
    int32_t source_seen;      /* whether the next two are set */
    int32_t reply_ttl;        /* TTL or hop limit of the first reply, warm-up included; 0: not told (TCP) */
    unsigned char reply_source[16]; /* source address of that reply */
    int32_t limited;          /* whether limit_ns ended it */
    int64_t most_open;        /* probes under way at once, at most */
    int64_t margin_ns;        /* how long before a probe was due the sender stopped sleeping */
    int64_t offset_ns;        /* with stamps, and LAB_TCP_SYN: CLOCK_REALTIME less CLOCK_MONOTONIC */
    int64_t step_ns;          /* by how much that changed meanwhile: somebody set the clock */
    int64_t stamps_foreign;   /* the kernel's stamps of which it can't be known whose they are */
    struct lab_usage near_usage, far_usage; /* far: of the reflector's own thread */
};

/* Sends stream->warmup probes, each when the one before it is settled (answered, or timed out), and then stream->count
 * probes as stream->arrivals says.
 *
 * records: stream->count rows, zeroed but for due_ns of a schedule. stamps: as many zeroed rows for the kernel's stamps,
 * or NULL; with them, every stamp is read from CLOCK_REALTIME, and those in records are moved to CLOCK_MONOTONIC by
 * offset_ns in the end. scratch: LAB_SCRATCH_BYTES bytes. *stop: any other thread sets it to non-zero to
 * end the stream; it ends within LAB_SLICE_NS. Nothing is allocated.
 * Returns the rows filled (fewer than count when stopped), or -errno with stream->done rows filled:
 * -EINVAL (a field out of range), -EPIPE (the reflector ended; see far_error), -ETIMEDOUT (patience ran out),
 * -ETIME (a TCP message could not be sent), or what the socket said. */
int64_t lab_stream_run(struct lab_stream *stream, struct lab_record *records, struct lab_stamps *stamps,
                       unsigned char *scratch, const int32_t *stop);

/* ---- the wire ---- */

/* Bytes of a frame that its event keeps: Ethernet, IPv6, TCP with the most options, and a payload's nonce and number.
 * Inside VXLAN, all but TCP over IPv6. */
#define LAB_SNAP_BYTES 136
/* Bytes that VXLAN over IPv4 puts between the link layer and the frame inside: IP, UDP and its own header. */
#define LAB_VXLAN_BYTES 36
/* The longest frame: Ethernet with a VLAN tag, and the largest IP packet. */
#define LAB_MAX_FRAME 65553
/* The most frames that a direction may hold. */
#define LAB_MAX_LIMIT 1000000
/* The most events that a log keeps. */
#define LAB_MAX_LOG 16777216
/* Room beyond the limit, for the frames of discovery alone. */
#define LAB_SPARED_ROOM 64

/* How IPDV is distributed around the delay. */
enum lab_distribution {
    LAB_UNIFORM = 0, /* from -ipdv to +ipdv */
    LAB_NORMAL = 1,  /* standard deviation ipdv */
    LAB_PARETO = 2   /* never negative, mean ipdv, shape 3 (Pareto type II): few frames are very late */
};
/* What becomes of a total delay below zero. */
enum lab_cut {
    LAB_CLIP = 0,  /* it is zero */
    LAB_REDRAW = 1 /* it is drawn again; clipped if that was in vain 32 times */
};

/* What is done to the frames of one direction. All zero but limit: nothing. Probabilities are from 0 to 1.
 *
 * A frame is lost first of all. What is not lost waits until the frames before it have been sent at the rate, takes
 * length / rate itself, and is then under way for the delay: a transmitter with a queue, then a long cable. */
struct lab_impairment {
    int64_t delay_ns;
    int64_t ipdv_ns;      /* 0: the delay is constant */
    int32_t distribution; /* enum lab_distribution */
    int32_t cut;          /* enum lab_cut */
    double loss;          /* probability that a frame is lost (Gilbert-Elliott: in the good state, where it begins) */
    double loss_bad;      /* the same, in the bad state */
    double to_bad;        /* probability that the state turns bad after a frame; 0: random loss only */
    double to_good;       /* the same, back to good */
    double duplicate;     /* probability that a frame leaves twice */
    double reorder;       /* probability that a frame skips the delay, and so overtakes others (as in netem) */
    double corrupt;       /* probability that one bit is flipped, beyond the Ethernet header */
    int64_t rate_bps;     /* bits of frame a second, Ethernet header included; 0: no limit, else at least 1000 */
    int64_t limit;        /* frames held at most; one more is dropped */
};

/* Bits of lab_wire_event.flags. The first five: it never left, and tx_ns is 0. */
#define LAB_WIRE_LOST 1        /* by a draw */
#define LAB_WIRE_QUEUE 2       /* the limit was reached */
#define LAB_WIRE_OVERSIZE 4    /* longer than frame_bytes */
#define LAB_WIRE_UNSENT 8      /* the kernel took no copy of it */
#define LAB_WIRE_DISCARDED 16  /* still held when the wire ended */
#define LAB_WIRE_DUPLICATED 32 /* a copy of it left too, or should have */
#define LAB_WIRE_COPY 64       /* this is that copy */
#define LAB_WIRE_REORDERED 128 /* it skipped the delay */
#define LAB_WIRE_CORRUPTED 256 /* one bit was flipped */
#define LAB_WIRE_SPARED 512    /* discovery: delayed only */

/* What the wire did to one frame, written when nothing more will happen to it. */
struct lab_wire_event {
    int64_t rx_ns;     /* read right after it was read */
    int64_t due_ns;    /* when it should leave; 0 if it never should */
    int64_t tx_ns;     /* read right before it was written; 0: it never left */
    int64_t number;    /* of this direction, among the frames that take draws, from 0; -1: it takes none */
    int32_t length;    /* bytes; frame_bytes + 1 if there were more than frame_bytes */
    uint16_t flags;    /* LAB_WIRE_* */
    uint8_t direction; /* the index of the descriptor that it came from */
    uint8_t snapped;   /* bytes of snap that are set */
    unsigned char snap[LAB_SNAP_BYTES]; /* its first bytes as it came */
};

/* Frames of one direction so far.
 * arrived + duplicated = forwarded + lost + queue + oversize + unsent + discarded + held. */
struct lab_wire_counters {
    int64_t arrived;    /* read */
    int64_t spared;
    int64_t lost;
    int64_t duplicated;
    int64_t reordered;
    int64_t corrupted;
    int64_t forwarded;  /* written, copies included */
    int64_t queue;
    int64_t oversize;
    int64_t unsent;
    int64_t discarded;
    int64_t held;       /* at this moment */
};

/* One wire: what it joins and how (in), and what came of it (out, zeroed before; may be read while it runs). */
struct lab_wire {
    int32_t fds[2];       /* near and far side, non-blocking; direction d is of the frames read from fds[d] */
    int32_t wake_fd;      /* an eventfd: write to it after a change of `wait` or *stop; -1: none, and it looks every
                             LAB_SLICE_NS */
    int32_t wait;         /* enum lab_wait; may be changed while it runs */
    int32_t frame_bytes;  /* the longest frame to forward */
    int32_t header_bytes; /* of the link layer: 14 (Ethernet) or 0 (bare IP packets) */
    int64_t spin_ns;      /* when blocking: stop sleeping so long before a frame is due; 0: sleep until it is */
    uint64_t seed;        /* of all draws */
    int32_t spare;        /* non-zero: ARP, and ICMPv6 discovery of neighbours and of multicast listeners, also inside
                             VXLAN, are delayed only, and take no draw */
    int32_t reserved;
    int64_t log_size;     /* events that the ring has room for */
    struct lab_impairment impairments[2];

    struct lab_wire_counters counters[2];
    int64_t log_begun;    /* events that were begun to be written; the ring keeps the newest log_size */
    int64_t logged;       /* events written */
};

/* Bytes of scratch memory that this wire needs, or -EINVAL: a field is out of range. */
int64_t lab_wire_scratch(const struct lab_wire *wire);

/* Forwards frames both ways until *stop is set.
 *
 * events: a ring of wire->log_size rows. scratch: lab_wire_scratch() bytes. *stop: any other thread sets it, and then
 * writes to wake_fd. Nothing is allocated. While it runs, the calling thread's timer slack is 1 ns.
 * Returns the frames forwarded, or -errno: -EINVAL (a field out of range), -ECONNRESET (a side was shut down), or what
 * a side said that could not be read or written for good. A frame that the kernel refuses (no buffers, device down,
 * larger than the MTU) is counted as unsent and ends nothing. */
int64_t lab_wire_run(struct lab_wire *wire, struct lab_wire_event *events, unsigned char *scratch, const int32_t *stop);

/* Copies the events that the ring holds, oldest first, also while the wire runs and overwrites some.
 *
 * copy: room for wire->log_size rows. Returns the rows copied; *first is the number of the first one: so many events
 * were overwritten before. */
int64_t lab_wire_events(const struct lab_wire *wire, const struct lab_wire_event *events, struct lab_wire_event *copy,
                        int64_t *first);

/* ---- the clock ---- */

/* Reads the clock `reads` times. Returns the mean cost of one read in picoseconds, and in *step_ns the smallest
 * non-zero difference seen: the clock's true resolution. */
int64_t lab_clock_cost(int64_t reads, int64_t *step_ns);

/* ---- the noise floor ---- */

/* Bins of gaps: 0, 1, 2 and 3 ns have one each, and every power of two above has four of equal width. The last bin, from
 * 30 s on, holds all that is longer. */
#define LAB_NOISE_BINS 136
/* The longest that a CPU is watched: 10 s. */
#define LAB_MAX_NOISE_NS 10000000000
/* Less than any read of the clock takes: one that stands still ends the loop after duration / this many reads. */
#define LAB_FASTEST_READ_NS 4

/* What a CPU did while it had nothing to do but to read the clock. */
struct lab_noise {
    int64_t reads;
    int64_t duration_ns;   /* from the first to the last */
    int64_t longest_ns;    /* the longest gap between two */
    int64_t interruptions; /* gaps above the threshold ... */
    int64_t stolen_ns;     /* ... and their sum */
};

/* The shortest gap of that bin in ns, or -EINVAL. */
int64_t lab_noise_edge(int32_t bin);

/* Reads the clock again and again for duration_ns on the calling thread.
 *
 * threshold_ns: a longer gap is no mere read of the clock. counts: LAB_NOISE_BINS gaps so far, to which these are added.
 * Returns the reads, or -EINVAL (a time out of range), -ERANGE (the clock went back, or stood still). */
int64_t lab_noise_run(int64_t duration_ns, int64_t threshold_ns, int64_t *counts, struct lab_noise *noise);
