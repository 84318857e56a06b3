/* Every address of a range is asked whether it answers: echo requests in batches, and their replies.
 *
 * On lo a reply is queued before the call that sent its request returns, so a batch's replies are all there to be read
 * when it has been sent. That holds for nobody else, nor while the kernel puts deliveries off (ksoftirqd): then a reply
 * is waited for, and who stays silent is asked again. */
#include <netinet/ip.h>
#include <linux/icmp.h>
#include <poll.h>

#include "internal.h"
#include "sweep.h"

enum {
    BATCH = LAB_SWEEP_BATCH,
    IP_HEADER = 20,
    REPLY_ROOM = 60 + 64, /* the longest IPv4 header, and more than a reply of ours */
    LAG_MS = 1,           /* for replies that are not there at once */
    FRUITLESS = 16,       /* waits for those in a row that brought nothing, before there are no more */
    ERRORS = sizeof ((struct lab_sweep *)0)->errors / sizeof(int64_t),
};

/* What is sent. The payload says which address was asked, as the sequence number is too short to. */
struct request {
    unsigned char type, code, sum[2], id[2], number[2];
    uint64_t nonce;
    uint64_t address;
};
_Static_assert(sizeof(struct request) == 8 + 16, "no padding is sent");

struct sweeper {
    struct lab_sweep *sweep;
    unsigned char *answered, *refused;
    const int32_t *stop;
    int64_t next;      /* the next address to look at in this try, from the first one */
    int64_t open;      /* requests of the last batch, less the replies since */
    int fruitless;
    int64_t indexes[BATCH]; /* of the addresses of a batch */
    struct request requests[BATCH];
    struct sockaddr_in to[BATCH];
    struct iovec out_parts[BATCH], in_parts[BATCH];
    struct mmsghdr out[BATCH], in[BATCH];
    unsigned char replies[BATCH][REPLY_ROOM];
};

/* ---- bitmaps, and counters that another thread reads ---- */

static bool has(const unsigned char *map, int64_t i) {
    return map[i / 8] >> i % 8 & 1;
}

static void mark(unsigned char *map, int64_t i) {
    map[i / 8] = (unsigned char)(map[i / 8] | 1 << i % 8);
}

static void add(int64_t *counter, int64_t more) {
    __atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

static bool stopped(const struct sweeper *s) {
    return __atomic_load_n(s->stop, __ATOMIC_RELAXED);
}

/* ---- requests ---- */

static void sweeper_init(struct sweeper *s) {
    for (int i = 0; i < BATCH; i++) {
        struct request *request = &s->requests[i];
        *request = (struct request){.type = ICMP_ECHO, .nonce = s->sweep->nonce};
        put16(request->id, s->sweep->icmp_id);
        s->to[i] = (struct sockaddr_in){.sin_family = AF_INET};
        s->out_parts[i] = (struct iovec){.iov_base = request, .iov_len = sizeof *request};
        s->in_parts[i] = (struct iovec){.iov_base = s->replies[i], .iov_len = REPLY_ROOM};
        s->out[i].msg_hdr = (struct msghdr){.msg_name = &s->to[i], .msg_namelen = sizeof s->to[i],
                                            .msg_iov = &s->out_parts[i], .msg_iovlen = 1};
        s->in[i].msg_hdr = (struct msghdr){.msg_iov = &s->in_parts[i], .msg_iovlen = 1};
    }
}

static void write_request(struct sweeper *s, int at, int64_t index) {
    struct request *request = &s->requests[at];
    uint32_t address = s->sweep->first + (uint32_t)index;
    s->indexes[at] = index;
    s->to[at].sin_addr.s_addr = htonl(address);
    request->address = address;
    put16(request->number, address & 0xffff);
    request->sum[0] = request->sum[1] = 0;
    put16(request->sum, ~sum16(request, sizeof *request) & 0xffff);
}

/* Writes requests to the next addresses that have not been settled. Returns how many. */
static int write_batch(struct sweeper *s) {
    int n = 0;
    int64_t count = s->sweep->count;
    while (n < BATCH && s->next < count) {
        int64_t i = s->next++;
        if (!has(s->answered, i) && !has(s->refused, i)) write_request(s, n++, i);
    }
    return n;
}

/* ---- replies ---- */

/* The request that a message answers, in *request; which address it came from. False: it is no reply to one of ours. */
static bool is_ours(const struct sweeper *s, const unsigned char *bytes, size_t length, struct request *request,
                    uint32_t *source) {
    const struct lab_sweep *sweep = s->sweep;
    size_t header = length >= IP_HEADER ? (size_t)(bytes[0] & 15) * 4 : 0;
    if (header < IP_HEADER || length != header + sizeof *request) return false;
    memcpy(request, bytes + header, sizeof *request);
    memcpy(source, bytes + offsetof(struct iphdr, saddr), sizeof *source);
    *source = ntohl(*source);
    return request->type == ICMP_ECHOREPLY && request->code == 0 && get16(request->id) == sweep->icmp_id &&
           request->nonce == sweep->nonce && get16(request->number) == (request->address & 0xffff) &&
           request->address - sweep->first < (uint64_t)sweep->count;
}

static void file_reply(struct sweeper *s, const unsigned char *bytes, size_t length) {
    struct lab_sweep *sweep = s->sweep;
    struct request request;
    uint32_t source;
    if (!is_ours(s, bytes, length, &request, &source)) {
        sweep->foreign++;
        return;
    }
    int64_t index = (int64_t)(request.address - sweep->first);
    s->open--;
    if (source != request.address) {
        sweep->other_source++;
    } else if (has(s->answered, index)) {
        sweep->duplicates++;
    } else {
        mark(s->answered, index);
        add(&sweep->answered, 1);
    }
}

/* Reads what is there. 0 or -errno. */
static int take_replies(struct sweeper *s) {
    for (;;) {
        int got = recvmmsg(s->sweep->fd, s->in, BATCH, MSG_DONTWAIT, NULL);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno == EAGAIN ? 0 : -errno;
        for (int i = 0; i < got; i++) file_reply(s, s->replies[i], s->in[i].msg_len);
        if (got < BATCH) return 0;
    }
}

/* Waits until there is something to read (POLLIN), or room to send (POLLOUT). 1, 0: not in that time; -errno. */
static int wait_for(const struct sweeper *s, short what, int ms) {
    struct pollfd fd = {.fd = s->sweep->fd, .events = what};
    int ready = poll(&fd, 1, ms);
    return ready < 0 && errno != EINTR ? -errno : ready > 0;
}

/* Reads the replies to a batch, also if they are late, but for ranges where nobody replies: those are not worth it. */
static int settle_batch(struct sweeper *s) {
    int error = take_replies(s);
    while (!error && s->open > 0 && s->fruitless < FRUITLESS && !stopped(s)) {
        int64_t before = s->open;
        int ready = wait_for(s, POLLIN, LAG_MS);
        error = ready < 0 ? ready : take_replies(s);
        if (s->open < before) continue;
        s->fruitless++;
        break;
    }
    if (s->open <= 0) s->fruitless = 0;
    return error;
}

/* At the end of a try: whoever still answers is heard. */
static int settle(struct sweeper *s) {
    const struct lab_sweep *sweep = s->sweep;
    int64_t heard_ns = now_ns();
    int error = 0;
    while (!error && sweep->answered + sweep->refused < sweep->count && !stopped(s)) {
        int64_t left_ns = heard_ns + sweep->patience_ns - now_ns();
        if (left_ns <= 0) return 0;
        int ready = wait_for(s, POLLIN, (int)(earlier(left_ns, LAB_SLICE_NS) / 1000000) + 1);
        if (ready > 0) heard_ns = now_ns();
        error = ready < 0 ? ready : take_replies(s);
    }
    return error;
}

/* ---- sending ---- */

static bool lacks_room(int error) {
    return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}

static void refuse(struct sweeper *s, int64_t index, int error) {
    struct lab_sweep *sweep = s->sweep;
    sweep->errors[error < ERRORS ? error : 0]++;
    mark(s->refused, index);
    sweep->refused++;
}

/* Sends a batch, also if the kernel has no room for a while. 0 or -errno. */
static int send_batch(struct sweeper *s, int n) {
    struct lab_sweep *sweep = s->sweep;
    int64_t deadline_ns = 0;
    for (int at = 0; at < n && !stopped(s);) {
        int sent = sendmmsg(sweep->fd, s->out + at, (unsigned)(n - at), MSG_DONTWAIT);
        int error = sent < 0 ? errno : 0;
        if (error == EINTR) continue;
        if (error == EBADF || error == ENOTSOCK) return -error;
        if (sent > 0) {
            at += sent;
            s->open += sent;
            sweep->sent += sent;
            deadline_ns = 0;
        } else if (!lacks_room(error)) {
            refuse(s, s->indexes[at++], error);
        } else {
            sweep->retried++;
            if (!deadline_ns) deadline_ns = now_ns() + STALL_NS;
            if (now_ns() > deadline_ns) return -ENOBUFS;
            int ready = wait_for(s, POLLOUT, LAG_MS);
            if (ready >= 0) ready = take_replies(s);
            if (ready < 0) return ready;
        }
    }
    return 0;
}

/* Asks all that are not settled, once. 0 or -errno. */
static int try_all(struct sweeper *s) {
    struct lab_sweep *sweep = s->sweep;
    int error = 0;
    s->next = 0;
    s->fruitless = 0;
    while (!error && !stopped(s)) {
        int n = write_batch(s);
        if (!n) return 0;
        s->open = 0;
        error = send_batch(s, n);
        if (!error) error = settle_batch(s);
        if (!error && sweep->asked < s->next) __atomic_store_n(&sweep->asked, s->next, __ATOMIC_RELAXED);
    }
    return error;
}

int64_t lab_sweep_run(struct lab_sweep *sweep, unsigned char *answered, unsigned char *refused, const int32_t *stop) {
    bool sound = sweep->fd >= 0 && sweep->icmp_id <= 0xffff && sweep->tries >= 1 && sweep->tries <= LAB_MAX_TRIES &&
                 sweep->count >= 0 && sweep->count <= (int64_t)UINT32_MAX + 1 - sweep->first &&
                 sweep->patience_ns >= 0 && sweep->patience_ns <= LAB_MAX_TIMEOUT_NS;
    if (!sound) return -EINVAL;
    struct sweeper s = {.sweep = sweep, .answered = answered, .refused = refused, .stop = stop};
    sweeper_init(&s);
    int error = 0;
    while (!error && sweep->tried < sweep->tries && sweep->answered + sweep->refused < sweep->count && !stopped(&s)) {
        sweep->tried++;
        error = try_all(&s);
        if (!error) error = settle(&s);
    }
    return error ? error : sweep->answered;
}
