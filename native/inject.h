/* What Python may call to inject packets. As api.h, and by its rules. Times are nanoseconds of CLOCK_MONOTONIC.
 *
 * Packets are numbered from 0. Packet n is frame n modulo frame_count, so a list of frames may be sent several times; of
 * a single frame, fields may vary with n. Several threads share one list, each with a lane of its own: of every packet
 * it can be told which lane it is on, and each thread sends those of its lane, in order. */

/* Packets that are handed to the kernel in one call, at most. */
#define LAB_BATCH 64
#define LAB_MAX_LANES 64
#define LAB_MAX_FIELDS 16
#define LAB_MAX_SUMS 4
/* The longest frame that may vary, and the longest of all: what lo carries by default, with an Ethernet header. */
#define LAB_MAX_TEMPLATE 65550
/* The most packets of one injection. */
#define LAB_MAX_PACKETS 1000000000000

/* How a packet leaves. */
enum lab_way {
    LAB_LEFT_OUT = 0, /* it does not: such a frame must not be given */
    LAB_L2 = 1,       /* as a frame, from a packet socket that is bound to the interface */
    LAB_RAW4 = 2,     /* as a packet with its IPv4 header, from a raw socket (IPPROTO_RAW) */
    LAB_RAW6 = 3,     /* as a packet with its IPv6 header, likewise */
    LAB_TAP = 4       /* written to the descriptor of a tun or tap device, from which it comes in */
};
#define LAB_WAYS 5

/* Where a field's value comes from. k = n / every. */
enum lab_value {
    LAB_COUNTING = 0, /* first + step * (k % count) */
    LAB_RANDOM = 1,   /* first + a draw from 0 to count - 1: the same for the same seed and k */
    LAB_LISTED = 2,   /* list[k % count] */
    LAB_CLOCK = 3     /* CLOCK_REALTIME in ns, read when the packet was made, up to a batch before it left */
};

/* Bits of a frame that vary: a number in network order. No two fields share a byte. */
struct lab_field {
    int32_t offset;   /* of its first byte in the frame */
    int32_t bytes;    /* 1 to 8 */
    int32_t shift;    /* how many bits of the last byte lie behind it: 0 to 7 */
    int32_t kind;     /* enum lab_value */
    uint64_t mask;    /* the bits of the value that are its own; those above them in these bytes stay as they are */
    uint64_t first;
    int64_t step;
    uint64_t count;   /* LAB_COUNTING, LAB_RANDOM: 0: 2^64 */
    uint64_t every;   /* packets with the same value, at least 1 */
    uint64_t seed;
    const uint64_t *list;
    int32_t sums;     /* bit i: it is covered by checksum i */
    int32_t flow;     /* non-zero: packets that differ in it are of different flows */
};

/* An Internet checksum over a field, kept right while the field varies: it must be right in the frame that is given. */
struct lab_sum {
    int32_t at;       /* of its two bytes in the frame */
    int32_t start;    /* of what it covers: an even number of bytes lie between it and all that is summed at an even place */
    int32_t udp;      /* non-zero: 0 is sent as 0xffff */
    int32_t reserved;
};

/* What to send. Shared by all lanes, and not changed while they run. */
struct lab_packets {
    const unsigned char *bytes; /* of all frames */
    const int64_t *offsets;     /* of each frame's first byte that is to be sent */
    const int32_t *lengths;     /* bytes to send */
    const uint8_t *ways;        /* enum lab_way */
    const uint8_t *lanes;       /* NULL: all of lane 0, or as the fields tell */
    const int64_t *due_ns;      /* LAB_TIMES: from the first one's, ascending; else NULL */
    int64_t frame_count;
    const struct lab_field *fields; /* for frame_count 1 */
    const struct lab_sum *sums;
    int32_t field_count;
    int32_t sum_count;
};

/* When packets are due. */
enum lab_pace {
    LAB_TOPSPEED = 0, /* at once */
    LAB_PERIODIC = 1, /* packet n at n * numerator / denominator */
    LAB_POISSON = 2,  /* with gaps drawn from the exponential distribution with that mean; the same for the same seed */
    LAB_BITS = 3,     /* when all bits of the packets before it, of frames as they are sent, have had that time each */
    LAB_TIMES = 4     /* at due_ns, and span_ns later each time the frames are sent again */
};

/* The lateness of packets is counted in bins, by powers of two, in 64 parts each: so to 1.6 %. The last one is open. */
#define LAB_LATE_BINS 2304

/* One lane's part: what to do (in), and what came of it (out: zeroed before; sent may be read while it runs). */
struct lab_lane {
    int32_t fds[LAB_WAYS];  /* by enum lab_way; -1: none is needed */
    int32_t ifindex;        /* for link-local addresses */
    int32_t lane;           /* which one this is */
    int32_t lanes;          /* of how many */
    int32_t pace;           /* enum lab_pace */
    int32_t reserved;
    int64_t numerator;      /* of a period, in ns */
    int64_t denominator;
    int64_t span_ns;
    int64_t burst;          /* so many packets in a row are due when the first of them is; at least 1; not LAB_TIMES */
    uint64_t seed;
    int64_t total;          /* packets, of all lanes */
    int64_t start_ns;       /* when packet 0 is due; not before it, with LAB_TOPSPEED; 0: now */
    int64_t limit_ns;       /* send nothing that is due so long after start_ns, and nothing LAB_SLICE_NS later (with
                               LAB_TOPSPEED: nothing after it); 0: no limit */
    int64_t stall_ns;       /* end when the kernel has taken nothing for so long */

    int64_t sent;
    int64_t bytes;          /* of those */
    int64_t failed;         /* packets that the kernel refused for good */
    int64_t retried;        /* refusals for want of room (EAGAIN, ENOBUFS), after which it was tried again */
    int64_t begun_ns;       /* right before the first call */
    int64_t ended_ns;       /* right after the last */
    int64_t margin_ns;      /* how long before a packet was due it stopped sleeping */
    int64_t last_due_ns;    /* when the last one that was sent was due, from packet 0 */
    int64_t late_sum_ns;    /* of when packets were handed to the kernel less when they were due: of each sent one, */
    int64_t late_min_ns;    /* but with LAB_TOPSPEED; within one call by its share of the time that this took */
    int64_t late_max_ns;
    int64_t first_failed;   /* the packet that was refused first */
    int32_t first_error;    /* why */
    int32_t reserved_too;
    int64_t errors[134];    /* refusals for good, by errno; 0: one beyond */
    int64_t late[LAB_LATE_BINS];
};

/* Bytes of scratch memory that a lane needs for these packets. */
int64_t lab_inject_scratch(const struct lab_packets *packets);

/* Whether all of it can be sent: 0; or -EINVAL: a number is out of range; -EFAULT: a place lies outside its frame. */
int64_t lab_inject_check(const struct lab_packets *packets, const struct lab_lane *lane, int64_t bytes_length);

/* Sends the packets of a lane, when they are due, none before. What is late is sent at once; nothing is skipped.
 *
 * packets, lane: checked. scratch: lab_inject_scratch() bytes. *stop: any other thread sets it; noticed within
 * LAB_SLICE_NS. Nothing is allocated. A packet that the kernel refuses is counted as failed, and the rest goes on.
 * Returns 0: all was dealt with, or a limit was reached; 1: stopped; or -errno, what ended it: the interface went away
 * or down (-ENXIO, -ENODEV, -ENETDOWN), it took nothing for stall_ns (-ENOBUFS, -EAGAIN), or a descriptor is no good. */
int64_t lab_inject_run(const struct lab_packets *packets, struct lab_lane *lane, unsigned char *scratch,
                       const int32_t *stop);

/* The shortest lateness of that bin in ns, or -EINVAL. */
int64_t lab_late_edge(int32_t bin);
