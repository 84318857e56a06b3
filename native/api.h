/* What Python may call, and the memory that the two sides share.
 *
 * This file is read twice, by the C compiler and by cffi, so it holds declarations only: no #include, no #if.
 * Rules of the boundary: Python opens and configures the sockets and allocates every buffer; C fills them and keeps
 * no pointer past the call, and the descriptors stay open until it returns. A call returns a count, or -errno. C never
 * prints, exits or calls Python.
 * All times are nanoseconds of CLOCK_MONOTONIC unless a name says otherwise. */

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
    LAB_SHM = 5   /* memory that two CPUs share: no descriptor, a far_cpu, LAB_SPIN */
};
enum lab_wait { LAB_BLOCK = 0, LAB_SPIN = 1 };

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
    int64_t due_ns;      /* when it should have been sent; equal to tx_ns in a closed loop */
    int64_t tx_ns;       /* read right before send() */
    int64_t tx_done_ns;  /* read right after send() returned */
    int64_t rx_ns;       /* read right after the call that returned the reply */
    int64_t far_rx_ns;   /* the reflector's, right after its receive; 0 where the kernel replies */
    int64_t far_tx_ns;   /* the reflector's, right before its send */
    int32_t reply_bytes; /* payload bytes of the reply */
    uint16_t flags;      /* LAB_FLAG_* */
    uint8_t status;      /* enum lab_status */
    uint8_t reply_ttl;   /* TTL or hop limit of the reply; 0: not read, as raw IPv4 alone shows it with every reply */
    int64_t reserved;    /* pads a record to one cache line */
};

/* One stream: what to send and how to wait (in), and what came of it (out). */
struct lab_stream {
    int32_t near_fd;          /* where probes leave and replies arrive */
    int32_t far_fd;           /* where the reflector listens; -1: the kernel replies, or LAB_SHM */
    int32_t near_out_fd;      /* where probes leave, for LAB_PIPE, whose near_fd only receives */
    int32_t far_out_fd;       /* the reflector's, likewise */
    int32_t kind;             /* enum lab_kind */
    int32_t family;           /* AF_INET or AF_INET6; AF_UNIX where there are no addresses */
    int32_t wait;             /* enum lab_wait, for both ends */
    int32_t far_cpu;          /* CPU of the reflector's own thread; -1: the calling thread plays both ends */
    int32_t size;             /* payload bytes of a probe */
    uint32_t icmp_id;         /* identifier of echo requests (a ping socket chooses its own) */
    unsigned char target[16]; /* the address asked, network order; 4 bytes of it for IPv4 */
    uint64_t nonce;           /* tells this stream's messages from any other's */
    int64_t count;            /* probes to record */
    int64_t warmup;           /* probes to send first and not record */
    int64_t timeout_ns;       /* a reply later than this after tx_ns is late */
    int64_t patience;         /* end after so many probes unanswered in a row, warm-up included; 0: never */

    int64_t done;             /* rows filled */
    int64_t foreign;          /* messages at the near end that were no reply of this stream */
    int64_t far_foreign;      /* messages at the far end that were no request of this stream */
    int32_t far_error;        /* errno that ended the reflector, or 0 */
    int32_t source_seen;      /* whether the next two are set */
    int32_t reply_ttl;        /* TTL or hop limit of the first reply, warm-up included; 0: not told (TCP) */
    unsigned char reply_source[16]; /* source address of that reply */
};

/* Sends stream->warmup + stream->count probes, each when the one before it is answered or has timed out.
 *
 * records: stream->count zeroed rows. scratch: LAB_SCRATCH_BYTES bytes. *stop: any other thread sets it to non-zero to
 * end the stream; it ends within LAB_SLICE_NS. Nothing is allocated.
 * Returns the rows filled (fewer than count when stopped), or -errno with stream->done rows filled:
 * -EINVAL (a field out of range), -EPIPE (the reflector ended; see far_error), -ETIMEDOUT (patience ran out),
 * -ETIME (a TCP message could not be sent), or what the socket said. */
int64_t lab_stream_run(struct lab_stream *stream, struct lab_record *records, unsigned char *scratch,
                       const int32_t *stop);

/* Reads the clock `reads` times. Returns the mean cost of one read in picoseconds, and in *step_ns the smallest
 * non-zero difference seen: the clock's true resolution. */
int64_t lab_clock_cost(int64_t reads, int64_t *step_ns);
