/* Hands packets to the kernel when they are due, many in one call where they are due together.
 *
 * Whatever is late goes at once, and nothing is skipped. Frames are sent from where they lie; packets that vary are made
 * in copies, one for each place in a batch. */
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "inject_parts.h"

enum { IP4_HEADER = 20, IP4_DESTINATION = 16, IP6_HEADER = 40, IP6_DESTINATION = 24, LINE = 64 };
/* While it passes over packets of other lanes, it looks after so many whether it is to end, and sends what it has. */
enum { LOOK = 1024 };
/* How long it waits before it tries again: for room in a socket, and in a queue behind it, which tells nobody. */
enum { ROOM_NS = 10000000, QUEUE_NS = 50000 };
/* So long before a packet is due it stops sleeping: the host of a virtual machine may be ms late to wake an idle CPU. */
enum { MARGIN_NS = 5000000 };
#define MAX_STALL_NS 3600000000000
/* No schedule may reach farther: three years. */
#define FOR_EVER 100000000000000000

union name {
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

struct sender {
    const struct lab_packets *packets;
    struct lab_lane *lane;
    const int32_t *stop;
    struct variants variants;
    struct pacer pacer;
    int64_t start_ns;
    int64_t end_ns;        /* what is due from then on is not sent */
    int64_t over_ns;       /* nothing is, from then on */
    unsigned char *copies; /* of a frame that varies, one for each place in the batch; else NULL */
    size_t stride;         /* from one to the next */
    int way;               /* of the batch: enum lab_way */
    int count;             /* packets in it */
    int64_t numbers[LAB_BATCH];
    int64_t due_ns[LAB_BATCH];
    struct mmsghdr messages[LAB_BATCH];
    struct iovec pieces[LAB_BATCH];
    union name names[LAB_BATCH];
};

/* ---- checking ---- */

static int64_t check_fields(const struct lab_packets *p) {
    if (p->field_count < 0 || p->field_count > LAB_MAX_FIELDS || p->sum_count < 0 || p->sum_count > LAB_MAX_SUMS)
        return -EINVAL;
    if (!p->field_count) return 0;
    if (p->frame_count != 1 || p->lengths[0] > LAB_MAX_TEMPLATE) return -EINVAL;
    for (int i = 0; i < p->sum_count; i++)
        if (p->sums[i].at < 0 || p->sums[i].at > p->lengths[0] - 2) return -EFAULT;
    for (int i = 0; i < p->field_count; i++) {
        const struct lab_field *field = &p->fields[i];
        bool listed = field->kind == LAB_LISTED;
        if (field->bytes < 1 || field->bytes > 8 || field->shift < 0 || field->shift > 7 || field->every < 1 ||
            field->kind < LAB_COUNTING || field->kind > LAB_CLOCK || (listed && (!field->list || !field->count)))
            return -EINVAL;
        if (field->offset < 0 || field->offset > p->lengths[0] - field->bytes) return -EFAULT;
        if (field->sums >> p->sum_count) return -EINVAL;
    }
    return 0;
}

static int64_t check_frames(const struct lab_packets *p, const struct lab_lane *lane, int64_t bytes_length) {
    static const int32_t shortest[LAB_WAYS] = {[LAB_L2] = 1, [LAB_RAW4] = IP4_HEADER, [LAB_RAW6] = IP6_HEADER, [LAB_TAP] = 1};
    for (int64_t i = 0; i < p->frame_count; i++) {
        int way = p->ways[i];
        if (way < LAB_L2 || way >= LAB_WAYS || lane->fds[way] < 0 || (p->lanes && p->lanes[i] >= lane->lanes))
            return -EINVAL;
        if (p->lengths[i] < shortest[way] || p->offsets[i] < 0 || p->offsets[i] > bytes_length - p->lengths[i])
            return -EFAULT;
    }
    return 0;
}

/* Whether the last packet would be due beyond all reason; with a limit, the second one, as none is due much later. */
static bool is_endless(const struct lab_packets *p, const struct lab_lane *lane) {
    double total = lane->limit_ns ? 1 : (double)lane->total;
    if (lane->pace == LAB_TIMES) {
        double turns = lane->limit_ns ? 1 : total / (double)p->frame_count;
        return turns * (double)lane->span_ns + (double)p->due_ns[p->frame_count - 1] >= FOR_EVER;
    }
    double units = total * (lane->pace == LAB_BITS ? 8 * LAB_MAX_TEMPLATE : 1);
    return units * (double)lane->numerator / (double)lane->denominator >= FOR_EVER;
}

int64_t lab_inject_check(const struct lab_packets *p, const struct lab_lane *lane, int64_t bytes_length) {
    bool paced = lane->pace == LAB_PERIODIC || lane->pace == LAB_POISSON || lane->pace == LAB_BITS;
    if (lane->pace < LAB_TOPSPEED || lane->pace > LAB_TIMES || lane->lanes < 1 || lane->lanes > LAB_MAX_LANES ||
        lane->lane < 0 || lane->lane >= lane->lanes || lane->burst < 1 || lane->total < 0 || p->frame_count < 1 ||
        lane->total > LAB_MAX_PACKETS || lane->limit_ns < 0 || lane->limit_ns > FOR_EVER ||
        lane->start_ns < 0 || lane->stall_ns < 0 || lane->stall_ns > MAX_STALL_NS || lane->span_ns < 0)
        return -EINVAL;
    if (paced && (lane->numerator < 1 || lane->denominator < 1)) return -EINVAL;
    if (lane->pace == LAB_TIMES && (!p->due_ns || lane->burst != 1)) return -EINVAL;
    if (lane->pace != LAB_TOPSPEED && is_endless(p, lane)) return -EINVAL;
    int64_t wrong = check_frames(p, lane, bytes_length);
    return wrong ? wrong : check_fields(p);
}

/* ---- setting up ---- */

static size_t stride_of(const struct lab_packets *p) {
    return p->field_count ? ((size_t)p->lengths[0] + LINE - 1) / LINE * LINE : 0;
}

int64_t lab_inject_scratch(const struct lab_packets *p) {
    return (int64_t)(LINE + sizeof(struct sender) + LAB_BATCH * stride_of(p));
}

static void make_copies(struct sender *s, unsigned char *to) {
    s->copies = to;
    s->stride = stride_of(s->packets);
    for (size_t i = 0; i < LAB_BATCH; i++)
        memcpy(to + i * s->stride, s->packets->bytes + s->packets->offsets[0], (size_t)s->packets->lengths[0]);
    variants_init(&s->variants, s->packets);
}

static struct sender *set_up(const struct lab_packets *packets, struct lab_lane *lane, unsigned char *scratch,
                             const int32_t *stop) {
    struct sender *s = (struct sender *)(scratch + (LINE - (uintptr_t)scratch % LINE) % LINE);
    *s = (struct sender){.packets = packets, .lane = lane, .stop = stop};
    if (packets->field_count) make_copies(s, (unsigned char *)(s + 1));
    pacer_init(&s->pacer, packets, lane);
    for (int i = 0; i < LAB_BATCH; i++) {
        s->messages[i].msg_hdr.msg_iov = &s->pieces[i];
        s->messages[i].msg_hdr.msg_iovlen = 1;
    }
    return s;
}

static bool is_stopped(const struct sender *s) {
    return __atomic_load_n(s->stop, __ATOMIC_RELAXED);
}

/* ---- sending a batch ---- */

static int send_some(struct sender *s, int first) {
    int fd = s->lane->fds[s->way];
    if (s->way == LAB_TAP) return write(fd, s->pieces[first].iov_base, s->pieces[first].iov_len) < 0 ? -1 : 1;
    return sendmmsg(fd, s->messages + first, (unsigned)(s->count - first), MSG_DONTWAIT);
}

/* Whether this is the end of it all, rather than of one packet. */
static bool is_fatal(int error) {
    switch (error) {
    case ENXIO: case ENODEV: case ENETDOWN: case EBADF: case EBADFD: case ENOTSOCK: case EIO: return true;
    default: return false;
    }
}

static void refuse(struct sender *s, int which, int error) {
    struct lab_lane *lane = s->lane;
    enum { ERRORS = sizeof lane->errors / sizeof *lane->errors };
    if (!lane->failed) lane->first_failed = s->numbers[which], lane->first_error = error;
    lane->errors[error < ERRORS ? error : 0]++;
    __atomic_store_n(&lane->failed, lane->failed + 1, __ATOMIC_RELAXED);
    s->numbers[which] = -1;
}

static void wait_for_room(const struct sender *s, int error) {
    struct pollfd fd = {.fd = s->lane->fds[s->way], .events = error == EAGAIN ? POLLOUT : 0};
    ppoll(&fd, 1, &(struct timespec){.tv_nsec = error == EAGAIN ? ROOM_NS : QUEUE_NS}, NULL);
}

/* Adds the batch to the counts. Of one call it is known when it began and ended: the packets are spread between. */
static void account(struct sender *s, int count, int64_t began_ns, int64_t ended_ns) {
    struct lab_lane *lane = s->lane;
    int64_t sent = 0, bytes = 0;
    for (int i = 0; i < count; i++) {
        if (s->numbers[i] < 0) continue;
        bytes += (int64_t)s->pieces[i].iov_len;
        if (lane->pace != LAB_TOPSPEED) {
            int64_t late_ns = began_ns + (ended_ns - began_ns) * i / count - s->due_ns[i];
            if (!(lane->sent + sent) || late_ns < lane->late_min_ns) lane->late_min_ns = late_ns;
            if (late_ns > lane->late_max_ns) lane->late_max_ns = late_ns;
            lane->late_sum_ns += late_ns;
            lane->last_due_ns = s->due_ns[i] - s->start_ns;
            lane->late[late_bin(late_ns)]++;
        }
        sent++;
    }
    lane->bytes += bytes;
    lane->ended_ns = ended_ns;
    __atomic_store_n(&lane->sent, lane->sent + sent, __ATOMIC_RELAXED);
}

/* Sends the batch, or as much of it as can be before a stop or the limit. 0, 1 (stopped) or -errno. */
static int flush(struct sender *s) {
    struct lab_lane *lane = s->lane;
    int64_t began_ns = now_ns(), refused_ns = 0;
    int done = 0, result = 0;
    if (!lane->begun_ns) lane->begun_ns = began_ns;
    while (done < s->count) {
        int sent = send_some(s, done);
        if (sent > 0) {
            done += sent;
            refused_ns = 0;
            continue;
        }
        int error = errno;
        if (error == EAGAIN || error == ENOBUFS) {
            int64_t now = now_ns();
            lane->retried++;
            if (!refused_ns) refused_ns = now;
            result = is_stopped(s) ? 1 : now - refused_ns > lane->stall_ns ? -error : 0;
            if (result || now >= s->over_ns) break;
            wait_for_room(s, error);
        } else if (is_fatal(error)) {
            result = -error;
        } else if (error != EINTR) {
            refuse(s, done++, error);
        }
        if (result) break;
    }
    account(s, done, began_ns, now_ns());
    s->count = 0;
    return result;
}

/* ---- filling a batch ---- */

static void name_destination(struct sender *s, int place, const unsigned char *packet) {
    struct msghdr *message = &s->messages[place].msg_hdr;
    union name *name = &s->names[place];
    if (s->way == LAB_RAW4) {
        name->in = (struct sockaddr_in){.sin_family = AF_INET};
        memcpy(&name->in.sin_addr, packet + IP4_DESTINATION, sizeof name->in.sin_addr);
        message->msg_name = name, message->msg_namelen = sizeof name->in;
    } else if (s->way == LAB_RAW6) {
        name->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
        memcpy(&name->in6.sin6_addr, packet + IP6_DESTINATION, sizeof name->in6.sin6_addr);
        if (IN6_IS_ADDR_LINKLOCAL(&name->in6.sin6_addr) || IN6_IS_ADDR_MC_LINKLOCAL(&name->in6.sin6_addr))
            name->in6.sin6_scope_id = (uint32_t)s->lane->ifindex;
        message->msg_name = name, message->msg_namelen = sizeof name->in6;
    } else {
        message->msg_name = NULL, message->msg_namelen = 0;
    }
}

/* Puts packet n into the batch, which is not full and of its way. */
static void add(struct sender *s, int64_t n, int64_t frame, int64_t due_ns) {
    const struct lab_packets *p = s->packets;
    int place = s->count++;
    unsigned char *packet = (unsigned char *)p->bytes + p->offsets[frame]; /* which nobody writes to */
    if (s->copies) {
        packet = s->copies + (size_t)place * s->stride;
        variants_make(&s->variants, (uint64_t)n, packet);
    }
    s->numbers[place] = n;
    s->due_ns[place] = due_ns;
    s->pieces[place] = (struct iovec){.iov_base = packet, .iov_len = (size_t)p->lengths[frame]};
    name_destination(s, place, packet);
}

static bool is_ours(const struct sender *s, int64_t n, int64_t frame) {
    const struct lab_lane *lane = s->lane;
    if (lane->lanes == 1) return true;
    if (s->packets->lanes) return s->packets->lanes[frame] == lane->lane;
    int64_t chosen = s->copies ? (int64_t)variants_flow(&s->variants, (uint64_t)n) * lane->lanes >> 32 : 0;
    return chosen == lane->lane;
}

/* Waits until a packet is due, having sent those before it. 0, 1 (stopped) or -errno. */
static int await(struct sender *s, int64_t due_ns) {
    if (now_ns() >= due_ns) return 0;
    int result = s->count ? flush(s) : 0;
    if (result) return result;
    return wait_until(due_ns, s->lane->margin_ns, LAB_BLOCK, s->stop) ? 0 : 1;
}

static int run(struct sender *s) {
    const struct lab_packets *p = s->packets;
    const struct lab_lane *lane = s->lane;
    bool paced = lane->pace != LAB_TOPSPEED;
    if (!wait_until(s->start_ns, lane->margin_ns, LAB_BLOCK, s->stop)) return 1;
    for (int64_t n = 0, frame = 0; n < lane->total; n++, frame = frame + 1 < p->frame_count ? frame + 1 : 0) {
        int64_t due_ns = s->start_ns + pacer_next(&s->pacer, n, frame, p->lengths[frame]);
        if (due_ns >= s->end_ns) break;
        bool ours = is_ours(s, n, frame);
        int way = p->ways[frame];
        if (ours ? s->count && (s->count == LAB_BATCH || way != s->way) : n % LOOK == 0) {
            int result = s->count ? flush(s) : 0;
            if (result) return result;
            if (is_stopped(s)) return 1;
            if (now_ns() >= s->over_ns) break;
        }
        if (!ours) continue;
        int result = paced ? await(s, due_ns) : 0;
        if (result) return result;
        s->way = way;
        add(s, n, frame, due_ns);
    }
    return s->count ? flush(s) : 0;
}

int64_t lab_inject_run(const struct lab_packets *packets, struct lab_lane *lane, unsigned char *scratch,
                       const int32_t *stop) {
    struct sender *s = set_up(packets, lane, scratch, stop);
    lane->margin_ns = lane->pace == LAB_TOPSPEED ? 0 : MARGIN_NS;
    s->start_ns = lane->start_ns ? lane->start_ns : now_ns();
    s->end_ns = lane->limit_ns ? s->start_ns + lane->limit_ns : FOR_EVER;
    s->over_ns = s->end_ns + (lane->pace == LAB_TOPSPEED ? 0 : LAB_SLICE_NS);
    return run(s);
}
