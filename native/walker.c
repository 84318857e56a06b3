/* The thread that takes frames from the rings in the order of their times, and makes blocks of them.
 *
 * A frame may be taken once no ring can still come up with an older one. A ring with a frame to read is known to be that
 * far; one without is settled up to now, unless frames wait in the block that the kernel is filling, which it hands over
 * within its time-out. So order costs a millisecond, or that time-out at worst; and it yields where it would cost frames:
 * when a ring is half full. */
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "capture.h"

enum { STEP_MS = 1, LOOK_MS = 100 };
/* Frames after which requests are looked for, however many more there are. */
enum { MOST_FRAMES = 65536 };
#define PATIENCE_NS 2000000000  /* of a ring that keeps frames to itself */
#define MOST_HELD_NS 1000000000 /* a frame waits no longer for older ones: the clock may have been set back */

/* ---- a frame ---- */

static uint32_t flags_of(const struct sighting *seen) {
    static const uint32_t reception[] = {
        [PACKET_HOST] = FLAG_IN | FLAG_UNICAST,
        [PACKET_BROADCAST] = FLAG_IN | FLAG_BROADCAST,
        [PACKET_MULTICAST] = FLAG_IN | FLAG_MULTICAST,
        [PACKET_OTHERHOST] = FLAG_IN | FLAG_PROMISCUOUS,
        [PACKET_OUTGOING] = FLAG_OUT,
    };
    uint32_t flags = seen->kind <= PACKET_OUTGOING ? reception[seen->kind] : 0;
    if (seen->status & TP_STATUS_CSUMNOTREADY) flags |= FLAG_CHECKSUM_NOT_READY;
    if (seen->status & TP_STATUS_CSUM_VALID) flags |= FLAG_CHECKSUM_VALID;
    if (seen->status & TP_STATUS_GSO_TCP) flags |= FLAG_TCP_SEGMENTS_LEFT;
    return flags;
}

enum { ADDRESSES = 12, TAG = 4 };

/* Copies a frame's bytes, and puts back the VLAN tag that the kernel took out. Returns how many were put. */
static uint32_t copy_frame(unsigned char *to, const struct sighting *seen) {
    bool tagged = seen->status & TP_STATUS_VLAN_VALID && seen->captured >= ADDRESSES;
    if (!tagged) {
        memcpy(to, seen->bytes, seen->captured);
        return 0;
    }
    memcpy(to, seen->bytes, ADDRESSES);
    put16(to + ADDRESSES, seen->status & TP_STATUS_VLAN_TPID_VALID ? seen->tag_type : 0x8100);
    put16(to + ADDRESSES + 2, seen->tag);
    memcpy(to + ADDRESSES + TAG, seen->bytes + ADDRESSES, seen->captured - ADDRESSES);
    return TAG;
}

/* What links this frame to its other copy, or 0. */
static uint64_t link_copy(struct lab_capture *capture, struct lane *lane, const unsigned char *bytes,
                          const struct packet *packet) {
    if (!lane->waiting) return 0;
    uint64_t key = frame_key(bytes, packet->captured, packet->length);
    if (!(packet->flags & FLAG_OUT)) return lane_in(lane, key, packet->time_ns);
    lane_out(lane, key, ++capture->ids, packet->time_ns);
    return capture->ids;
}

/* Asks the kernel how many frames are missing before this one. */
static uint64_t count_loss(struct lab_capture *capture, int ring, struct lab_interface_counts *counts) {
    int64_t before = counts->dropped;
    ring_count(&capture->rings[ring], counts);
    if (capture->lanes[ring].waiting) lane_break(&capture->lanes[ring]);
    return (uint64_t)(counts->dropped - before);
}

/* Marks its ports, so that of all sockets those can be told that are about what was captured. */
static void mark_ports(struct lab_capture *capture, const unsigned char *bytes, const struct packet *packet) {
    struct lab_frame frame; /* lab_dissect clears what it does not set */
    frame.captured = packet->captured, frame.length = packet->length, frame.flags = packet->flags, frame.direction = 0;
    lab_dissect(&frame, bytes, (uint32_t)capture->link_types[packet->interface], 0);
    if (!(frame.has & LAB_HAS_PORTS)) return;
    const uint16_t ports[] = {frame.source_port, frame.destination_port};
    for (int i = 0; i < 2; i++) {
        unsigned char *at = &capture->ports[ports[i] / 8], bit = (unsigned char)(1 << ports[i] % 8);
        if (!(*at & bit)) __atomic_store_n(at, *at | bit, __ATOMIC_RELAXED);
    }
}

/* Makes a block of the frame. False: it is not wanted, or can't be written. */
static bool take(struct lab_capture *capture, int ring, const struct sighting *seen) {
    uint32_t interface = capture->interface_of[ring];
    struct lab_interface_counts *counts = &capture->interfaces[interface];
    struct packet packet = {.time_ns = seen->time_ns, .interface = interface, .flags = flags_of(seen)};
    if (seen->after_loss) capture->rings[ring].lost += count_loss(capture, ring, counts);
    packet.dropped = capture->rings[ring].lost;
    unsigned char *room = output_room(&capture->output, PACKET_ROOM - LAB_SNAPLEN + seen->captured);
    if (!room) return false;
    unsigned char *bytes = pcapng_frame(room);
    uint32_t tag = copy_frame(bytes, seen);
    packet.captured = seen->captured + tag, packet.length = seen->length + tag;
    if (capture->program && !lab_filter_run(capture->program, bytes, packet.captured, packet.length)) {
        add(&counts->refused, 1);
        return false;
    }
    mark_ports(capture, bytes, &packet);
    packet.id = link_copy(capture, &capture->lanes[ring], bytes, &packet);
    output_commit(&capture->output, room, pcapng_packet(room, &packet));
    capture->rings[ring].lost = 0;
    add(&counts->frames, 1);
    if (packet.captured < packet.length) add(&counts->truncated, 1);
    add(&capture->counts.frames, 1);
    add(&capture->counts.bytes, packet.length);
    if (packet.time_ns < capture->newest_ns && capture->ring_count > 1) add(&capture->counts.disordered, 1);
    if (packet.time_ns > capture->newest_ns) capture->newest_ns = packet.time_ns;
    return true;
}

/* ---- the order of frames from several rings ---- */

/* Up to when a ring has told all. */
static int64_t told_until(struct ring *ring, bool pressed) {
    struct sighting next;
    if (ring_peek(ring, &next)) return next.time_ns;
    return pressed ? INT64_MAX : ring->settled_ns;
}

static bool pressed(const struct lab_capture *capture) {
    for (int i = 0; i < capture->ring_count; i++)
        if (ring_pressed(&capture->rings[i])) return true;
    return false;
}

/* Finds the ring that has told least, and until when the others have; in a hurry, by the frames that are there. */
static int furthest_behind(struct lab_capture *capture, bool hurry, int64_t *others_ns) {
    hurry |= pressed(capture);
    int behind = 0;
    int64_t its_ns = INT64_MAX;
    *others_ns = INT64_MAX;
    for (int i = 0; i < capture->ring_count; i++) {
        int64_t told_ns = told_until(&capture->rings[i], hurry);
        if (told_ns < its_ns) {
            *others_ns = its_ns;
            its_ns = told_ns, behind = i;
        } else if (told_ns < *others_ns) {
            *others_ns = told_ns;
        }
    }
    return behind;
}

static bool has_frame(struct ring *ring) {
    struct sighting next;
    return ring_peek(ring, &next);
}

static bool has_frames(struct lab_capture *capture) {
    for (int i = 0; i < capture->ring_count; i++)
        if (has_frame(&capture->rings[i])) return true;
    return false;
}

static void settle_idle(struct lab_capture *capture) {
    for (int i = 0; i < capture->ring_count; i++)
        if (!has_frame(&capture->rings[i])) ring_settle(&capture->rings[i]);
}

static void shut(struct lab_capture *capture) {
    for (int i = 0; i < capture->ring_count; i++) ring_shut(&capture->rings[i]);
    capture->shut = true;
}

static void end_early(struct lab_capture *capture) {
    shut(capture);
    __atomic_store_n(&capture->counts.ended, 1, __ATOMIC_RELAXED);
    output_flush(&capture->output);
    (void)!eventfd_write(capture->output.ready_fd, 1);
}

static bool ended(const struct lab_capture *capture) {
    return capture->counts.ended;
}

/* Takes at most `most` frames of one ring up to a time. Returns how many. */
static int take_until(struct lab_capture *capture, int ring, int64_t until_ns, int most) {
    struct sighting next;
    int count = 0;
    while (!ended(capture) && count < most && ring_peek(&capture->rings[ring], &next) && next.time_ns <= until_ns) {
        if (next.time_ns > capture->last_ns) {
            end_early(capture);
            break;
        }
        bool taken = take(capture, ring, &next);
        ring_pop(&capture->rings[ring]);
        if (output_failed(&capture->output) || (taken && capture->counts.frames == capture->limit)) end_early(capture);
        count++;
    }
    if (count) capture->held_ns = 0;
    return count;
}

/* Takes the frames whose turn it is, but for a flood that never ends. Returns whether some are held back. */
static bool take_all(struct lab_capture *capture) {
    bool hurry = capture->held_ns && now_ns() - capture->held_ns > MOST_HELD_NS;
    for (int left = MOST_FRAMES; left && !ended(capture) && has_frames(capture);) {
        int64_t others_ns;
        int behind = furthest_behind(capture, hurry, &others_ns);
        if (!has_frame(&capture->rings[behind])) {
            settle_idle(capture);
            behind = furthest_behind(capture, hurry, &others_ns);
            if (!has_frame(&capture->rings[behind])) {
                if (!capture->held_ns) capture->held_ns = now_ns();
                return true;
            }
        }
        left -= take_until(capture, behind, others_ns, left);
    }
    return false;
}

/* ---- requests of other threads ---- */

/* A request that the walker has seen: it is settled once all rings have told everything up to a time. */
struct request {
    int64_t ticket;      /* 0: none */
    int64_t until_ns;    /* CLOCK_REALTIME */
    int64_t patience_ns; /* CLOCK_MONOTONIC */
};

static struct request next_request(struct lab_capture *capture, bool *stopping) {
    pthread_mutex_lock(&capture->output.lock);
    int64_t ticket = capture->asked > capture->settled ? capture->asked : 0;
    *stopping = capture->stopping;
    pthread_mutex_unlock(&capture->output.lock);
    if (!ticket) return (struct request){0};
    if (*stopping && !capture->shut) shut(capture);
    return (struct request){ticket, read_clock(CLOCK_REALTIME), now_ns() + PATIENCE_NS};
}

static bool told_all(struct lab_capture *capture, const struct request *request) {
    if (ended(capture)) return true;
    if (now_ns() > request->patience_ns && !has_frames(capture)) {
        __atomic_store_n(&capture->counts.given_up, capture->counts.given_up + 1, __ATOMIC_RELAXED);
        return true;
    }
    settle_idle(capture);
    for (int i = 0; i < capture->ring_count; i++)
        if (told_until(&capture->rings[i], false) <= request->until_ns) return false;
    return true;
}

/* Ends a capture whose time is over, once all frames of that time are there. Returns whether some may still come. */
static bool expire(struct lab_capture *capture) {
    if (ended(capture) || now_ns() < capture->end_ns) return false;
    const struct request last = {.until_ns = capture->last_ns, .patience_ns = capture->end_ns + PATIENCE_NS};
    if (!told_all(capture, &last)) return true;
    end_early(capture);
    return false;
}

static void settle(struct lab_capture *capture, const struct request *request) {
    output_flush(&capture->output);
    pthread_mutex_lock(&capture->output.lock);
    capture->settled = request->ticket;
    capture->settled_offset = capture->output.head;
    pthread_cond_broadcast(&capture->output.changed);
    pthread_mutex_unlock(&capture->output.lock);
}

/* ---- the walker ---- */

/* An interface went down: it may come up again, or be deleted without another word. */
static void notice_down(struct lab_capture *capture, int ring) {
    int error;
    socklen_t length = sizeof error;
    (void)getsockopt(capture->rings[ring].fd, SOL_SOCKET, SO_ERROR, &error, &length);
    bool first = !ring || capture->interface_of[ring - 1] != capture->interface_of[ring];
    struct lab_interface_counts *counts = &capture->interfaces[capture->interface_of[ring]];
    if (first) __atomic_store_n(&counts->down, counts->down + 1, __ATOMIC_RELAXED);
    /* When it comes up, its sockets join again one by one, and the first see the frames of all CPUs. */
    if (capture->lanes[ring].waiting) lane_break(&capture->lanes[ring]);
}

static bool is_gone(int fd) {
    struct sockaddr_ll name = {0};
    socklen_t length = sizeof name;
    return !getsockname(fd, (struct sockaddr *)&name, &length) && name.sll_ifindex <= 0;
}

/* Looks for interfaces that were deleted; without any that is left, the capture's time is over. */
static void look_for_gone(struct lab_capture *capture) {
    bool left = false;
    for (int i = 0; i < capture->ring_count; i++) {
        struct lab_interface_counts *counts = &capture->interfaces[capture->interface_of[i]];
        if (counts->down && is_gone(capture->rings[i].fd)) {
            __atomic_store_n(&counts->gone, 1, __ATOMIC_RELAXED);
            capture->polled[i].fd = -1;
        }
        left |= !counts->gone;
    }
    if (left || now_ns() > capture->end_ns) return;
    capture->last_ns = read_clock(CLOCK_REALTIME);
    capture->end_ns = now_ns();
}

static bool some_down(const struct lab_capture *capture) {
    for (int i = 0; i < capture->interface_count; i++)
        if (capture->interfaces[i].down && !capture->interfaces[i].gone) return true;
    return false;
}

/* How long poll may sleep: until the capture's time is over, and not long while an interface might be deleted. */
static int sleep_ms(const struct lab_capture *capture) {
    if (capture->end_ns == INT64_MAX) return some_down(capture) ? LOOK_MS : -1;
    int64_t left_ms = (capture->end_ns - now_ns()) / 1000000 + 1;
    int64_t most_ms = some_down(capture) ? LOOK_MS : INT_MAX;
    return left_ms < 0 ? 0 : left_ms < most_ms ? (int)left_ms : (int)most_ms;
}

/* Sleeps until there is a frame, or a request; with frames held back or a request open, for a moment only. */
static void rest(struct lab_capture *capture, bool shortly) {
    output_rest(&capture->output);
    struct pollfd *wake = &capture->polled[capture->ring_count];
    bool rings = !shortly && !ended(capture);
    int ready = rings ? poll(capture->polled, (nfds_t)capture->ring_count + 1, sleep_ms(capture))
                      : poll(wake, 1, shortly ? STEP_MS : -1);
    eventfd_t words;
    if (ready > 0 && wake->revents) (void)!eventfd_read(capture->wake_fd, &words);
    if (!rings) return;
    for (int i = 0; ready > 0 && i < capture->ring_count; i++)
        if (capture->polled[i].revents & POLLERR) notice_down(capture, i);
    if (some_down(capture)) look_for_gone(capture);
}

static void finish(struct lab_capture *capture) {
    for (int i = 0; i < capture->ring_count; i++) {
        ring_count(&capture->rings[i], &capture->interfaces[capture->interface_of[i]]);
        if (capture->lanes[i].waiting) lane_break(&capture->lanes[i]);
    }
    for (int i = 0; i < capture->interface_count; i++) write_statistics(capture, (uint32_t)i);
}

void *walk(void *argument) {
    struct lab_capture *capture = argument;
    struct request request = {0};
    bool stopping = false;
    go_first();
    while (!__atomic_load_n(&capture->output.abandoned, __ATOMIC_RELAXED)) {
        bool held = take_all(capture);
        if (output_failed(&capture->output) && !ended(capture)) end_early(capture);
        if (!request.ticket) request = next_request(capture, &stopping);
        if (request.ticket && told_all(capture, &request)) {
            if (stopping) finish(capture);
            settle(capture, &request);
            if (stopping) break;
            request.ticket = 0;
        }
        rest(capture, expire(capture) || held || request.ticket);
    }
    output_finish(&capture->output);
    settle(capture, &(struct request){.ticket = INT64_MAX}); /* whoever asks now has nothing to wait for */
    return NULL;
}
