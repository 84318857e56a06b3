/* What Python may call to move many bytes from one end to the other. As api.h, and by its rules. */

/* The largest message, and the smallest that tells datagrams apart. */
#define LAB_MAX_MESSAGE 268435456
#define LAB_MIN_DATAGRAM 16
/* Of so many datagrams it is known whether they have come, up to the highest number; older ones count as new. */
#define LAB_BULK_WINDOW 65536

enum lab_bulk_kind {
    LAB_BULK_STREAM = 0,   /* connected stream sockets in blocking mode: TCP, and unix */
    LAB_BULK_DATAGRAM = 1, /* connected UDP sockets in blocking mode */
    LAB_BULK_PIPE = 2,     /* the ends of a pipe, non-blocking */
    LAB_BULK_MEMCPY = 3    /* no descriptors: one thread copies memory */
};

/* How far the reader was. */
struct lab_bulk_sample {
    int64_t at_ns;
    int64_t bytes; /* received since the beginning */
};

/* What to move (in), and what came of it (out, zeroed before). */
struct lab_bulk {
    int32_t kind;         /* enum lab_bulk_kind */
    int32_t out_fd;       /* where the writer, the calling thread, writes; -1 for LAB_BULK_MEMCPY, as the next two */
    int32_t in_fd;        /* where the reader, a thread of its own, reads */
    int32_t far_cpu;      /* the reader's CPU */
    int32_t verify;       /* non-zero: the reader compares each byte with what was sent */
    int32_t reserved;
    int64_t size;         /* bytes of a message */
    int64_t duration_ns;  /* write for so long, more than 0 */
    int64_t limit_bytes;  /* but no more than this; 0: no limit */
    int64_t patience_ns;  /* LAB_BULK_DATAGRAM: when all is sent and nothing has come for so long, nothing more will */
    int64_t interval_ns;  /* between two samples, at least */
    int64_t sample_room;  /* rows */
    uint64_t nonce;       /* tells these datagrams from any others */

    int64_t begun_ns;     /* before the first message */
    int64_t sent;         /* bytes that the kernel took */
    int64_t messages;     /* that were begun to be sent */
    int64_t received;     /* bytes; of datagrams, each once */
    int64_t arrived;      /* datagrams, each once */
    int64_t duplicates;   /* datagrams that had come before */
    int64_t reordered;    /* that came after one that was sent later */
    int64_t foreign;      /* other messages */
    int64_t wrong;        /* bytes that were not what was sent, if verified */
    int64_t last_ns;      /* when the last of them was received */
    int64_t samples;      /* rows filled */
    int64_t near_cpu_ns;  /* CPU time of the writer, */
    int64_t far_cpu_ns;   /* and of the reader */
    int32_t far_error;    /* errno that ended the reader, or 0 */
    int32_t late;         /* whether bytes that the kernel had taken did not come within two seconds */
    struct lab_usage near_usage, far_usage;
};

/* Writes messages as fast as they are taken, until the time or the bytes are over, and has them read meanwhile.
 *
 * out: bulk->size bytes to send, again and again; of datagrams the first LAB_MIN_DATAGRAM are overwritten. in: as many,
 * where they are read to. samples: bulk->sample_room rows, one for each interval in which something came. *stop: any
 * other thread sets it to end it early, within LAB_SLICE_NS. Nothing is allocated.
 * Returns the samples, or -errno: -EINVAL (a number out of range), -EPIPE (the reader ended; see far_error), or what
 * the writer's descriptor said. */
int64_t lab_bulk_run(struct lab_bulk *bulk, unsigned char *out, unsigned char *in, struct lab_bulk_sample *samples,
                     const int32_t *stop);
