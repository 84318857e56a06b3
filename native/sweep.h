/* What Python may call to ask every address of a range whether it answers. As api.h, and by its rules. Addresses are
 * numbers in host order. */

/* Requests that are handed to the kernel in one call, at most: their replies must fit in the receive buffer. */
#define LAB_SWEEP_BATCH 128
/* The most times that an address is asked. */
#define LAB_MAX_TRIES 100

/* What to ask (in), and what came of it (out, zeroed before; asked and answered may be read while it runs). */
struct lab_sweep {
    int32_t fd;          /* a raw IPv4 ICMP socket that passes echo replies with icmp_id only, with room for a batch */
    uint32_t icmp_id;
    uint32_t first;      /* the first address */
    int32_t tries;       /* ask those that are silent so often, at least 1 */
    int64_t count;       /* addresses; the last of them is at most 255.255.255.255 */
    uint64_t nonce;      /* tells these requests from any others */
    int64_t patience_ns; /* after each try, a reply is waited for as long as none comes for so long */

    int64_t asked;        /* addresses that were asked, or would have been, at least once */
    int64_t answered;     /* addresses from which the reply came, that was asked for there */
    int64_t refused;      /* addresses that the kernel would send nothing to */
    int64_t sent;         /* requests, of all tries */
    int64_t tried;        /* how often the range was gone through; more than once only for what was silent */
    int64_t retried;      /* refusals for want of room, after which it was tried again */
    int64_t duplicates;   /* replies from addresses that had answered */
    int64_t other_source; /* replies to requests of ours, from another address than the one asked */
    int64_t foreign;      /* other messages */
    int64_t errors[134];  /* addresses refused, by errno; 0: one beyond */
};

/* Sends an echo request to each address, and files what answers: a reply counts if it carries the nonce and the address
 * that was asked, and comes from there. Whoever is silent is asked again.
 *
 * answered, refused: (count + 7) / 8 zeroed bytes each; bit i % 8 of byte i / 8 is of address first + i. *stop: any
 * other thread sets it; noticed within LAB_SLICE_NS. Nothing is allocated.
 * Returns the addresses that answered, also when stopped, or -errno: -EINVAL (a number out of range), -ENOBUFS (the
 * kernel took no request for two seconds), or what the socket said when it was read. */
int64_t lab_sweep_run(struct lab_sweep *sweep, unsigned char *answered, unsigned char *refused, const int32_t *stop);
