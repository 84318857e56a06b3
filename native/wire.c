/* The wire: forwards frames between two descriptors, and does to them what their direction's impairment says.
 *
 * A frame is read into a free place of its direction's queue. If it is due at once it is written from there; else the
 * place joins a heap that is ordered by the time when its frame is due, an absolute time, so that no delay adds to
 * another's error. Nothing is ever copied but the second of a duplicated frame. */
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "internal.h"

/* Frames that are read, or written, in one go. Few, as frames that are due wait meanwhile, at 1 to 3 us each. */
enum { BATCH = 8 };
enum { MIN_FRAME = 64, ETHERNET = 14, CACHE_LINE = 64 };

/* A frame, behind what will be said of it. */
struct frame {
    struct lab_wire_event event;
    unsigned char bytes[];
};

/* Of a direction's places, the first `held` are a heap, the soonest due on top; the others' frames are free. */
struct place {
    int64_t due_ns;
    int64_t order; /* frames that are due at the same time leave as they came */
    struct frame *frame;
};

struct direction {
    const struct lab_impairment *impairment;
    struct lab_wire_counters *counters;
    int from, to;
    uint8_t index;
    bool bad;            /* the Gilbert-Elliott state */
    uint64_t key;        /* of its draws */
    int64_t numbers;     /* frames that took draws */
    int64_t orders;      /* frames that were held */
    int64_t line_end_ns; /* when the frame before has been sent at the rate */
    int64_t held;
    struct place *places;
};

/* Everything one wire needs, on the stack of lab_wire_run. */
struct run {
    struct lab_wire *wire;
    struct lab_wire_event *events;
    const int32_t *stop;
    struct direction directions[2];
};

/* ---- memory ---- */

static size_t round_up(size_t bytes) {
    return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

/* A frame, and one byte more that tells if there was more of it. */
static size_t frame_room(const struct lab_wire *wire) {
    return round_up(sizeof(struct frame) + (size_t)wire->frame_bytes + 1);
}

/* One more than may be held: where the next frame is read. */
static size_t places_of(const struct lab_impairment *impairment) {
    return (size_t)impairment->limit + LAB_SPARED_ROOM + 1;
}

int64_t lab_wire_scratch(const struct lab_wire *wire) {
    int32_t wait = __atomic_load_n(&wire->wait, __ATOMIC_RELAXED);
    bool sound = wire->fds[0] >= 0 && wire->fds[1] >= 0 && wire->wake_fd >= -1 &&
                 (wait == LAB_BLOCK || wait == LAB_SPIN) && wire->frame_bytes >= MIN_FRAME &&
                 wire->frame_bytes <= LAB_MAX_FRAME && (wire->header_bytes == 0 || wire->header_bytes == ETHERNET) &&
                 wire->spin_ns >= 0 && wire->spin_ns <= LAB_MAX_TIMEOUT_NS && wire->log_size >= 1 &&
                 wire->log_size <= LAB_MAX_LOG;
    size_t bytes = CACHE_LINE; /* to begin at a whole one */
    for (int i = 0; i < 2 && sound; i++) {
        const struct lab_impairment *impairment = &wire->impairments[i];
        sound = impairment_valid(impairment);
        if (sound) bytes += round_up(places_of(impairment) * sizeof(struct place));
        if (sound) bytes += places_of(impairment) * frame_room(wire);
    }
    return sound ? (int64_t)bytes : -EINVAL;
}

static struct direction direction_init(struct lab_wire *wire, uint8_t index, unsigned char **memory) {
    const struct lab_impairment *impairment = &wire->impairments[index];
    size_t count = places_of(impairment);
    struct direction d = {
        .impairment = impairment,
        .counters = &wire->counters[index],
        .from = wire->fds[index],
        .to = wire->fds[!index],
        .index = index,
        .key = draw_key(wire->seed, index),
        .places = (struct place *)*memory,
    };
    *memory += round_up(count * sizeof(struct place));
    for (size_t i = 0; i < count; i++, *memory += frame_room(wire)) d.places[i].frame = (struct frame *)*memory;
    return d;
}

static void run_init(struct run *run, struct lab_wire *wire, struct lab_wire_event *events, unsigned char *scratch,
                     const int32_t *stop) {
    unsigned char *memory = scratch + (CACHE_LINE - (uintptr_t)scratch % CACHE_LINE) % CACHE_LINE;
    *run = (struct run){.wire = wire, .events = events, .stop = stop};
    for (uint8_t i = 0; i < 2; i++) run->directions[i] = direction_init(wire, i, &memory);
}

/* ---- the queue ---- */

static bool sooner(const struct place *a, const struct place *b) {
    return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->order < b->order);
}

/* This thread alone writes them; others may read. */
static void set(int64_t *counter, int64_t value) {
    __atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

static void add_one(int64_t *counter) {
    set(counter, *counter + 1);
}

/* Where the next frame is read. */
static struct frame *free_frame(const struct direction *d) {
    return d->places[d->held].frame;
}

/* Makes the free frame one of the held. */
static void hold(struct direction *d) {
    struct place *places = d->places, place = places[d->held];
    int64_t at = d->held;
    place.due_ns = place.frame->event.due_ns;
    place.order = d->orders++;
    for (int64_t up; at && sooner(&place, &places[up = (at - 1) / 2]); at = up) places[at] = places[up];
    places[at] = place;
    set(&d->counters->held, ++d->held);
}

/* Takes out the frame that is due first. It stays as it is until the next is read. */
static struct frame *let_go(struct direction *d) {
    struct place *places = d->places, first = places[0];
    int64_t count = d->held - 1, at = 0;
    struct place last = places[count];
    for (int64_t down; (down = 2 * at + 1) < count; at = down) {
        if (down + 1 < count && sooner(&places[down + 1], &places[down])) down++;
        if (!sooner(&places[down], &last)) break;
        places[at] = places[down];
    }
    places[at] = last;
    places[count] = first;
    set(&d->counters->held, d->held = count);
    return first.frame;
}

/* ---- sending ---- */

/* Files what became of a frame for good: what is counted is in the log. */
static void conclude(struct run *run, struct direction *d, const struct lab_wire_event *event) {
    struct lab_wire_counters *c = d->counters;
    int64_t *fate = event->flags & LAB_WIRE_LOST        ? &c->lost
                    : event->flags & LAB_WIRE_QUEUE     ? &c->queue
                    : event->flags & LAB_WIRE_OVERSIZE  ? &c->oversize
                    : event->flags & LAB_WIRE_UNSENT    ? &c->unsent
                    : event->flags & LAB_WIRE_DISCARDED ? &c->discarded
                                                        : &c->forwarded;
    event_log(run->wire, run->events, event);
    add_one(fate);
}

static void drop(struct run *run, struct direction *d, struct lab_wire_event *event, uint16_t why) {
    event->flags |= why;
    conclude(run, d, event);
}

/* Whether a write that failed so says something of this frame or this moment, and not of all that will follow.
 * EIO and ENETDOWN: the device is down; ENXIO: it is gone, but so may be the other end's whole world; EINVAL: no frame
 * that this device would send, such as one that a flipped bit made so. */
static bool passing(int error) {
    return error == EAGAIN || error == ENOBUFS || error == ENOMEM || error == ENETDOWN || error == ENXIO ||
           error == EIO || error == EMSGSIZE || error == EINVAL;
}

/* Writes a frame. 0, also if the kernel would not take it; -errno if it will take no other. */
static int forward(struct run *run, struct direction *d, struct frame *frame, int64_t now) {
    ssize_t written;
    do written = write(d->to, frame->bytes, (size_t)frame->event.length);
    while (written < 0 && errno == EINTR);
    int error = written < 0 ? errno : 0;
    frame->event.tx_ns = error ? 0 : now;
    if (error) frame->event.flags |= LAB_WIRE_UNSENT;
    conclude(run, d, &frame->event);
    return passing(error) ? 0 : -error;
}

/* Writes frames that are due. Returns how many, BATCH at most, or -errno. */
static int send_due(struct run *run, struct direction *d) {
    for (int sent = 0; sent < BATCH; sent++) {
        int64_t now = d->held ? now_ns() : 0;
        if (!d->held || d->places[0].due_ns > now) return sent;
        int error = forward(run, d, let_go(d), now);
        if (error) return error;
    }
    return BATCH;
}

/* Sends the free frame on its way: out of the other side, into the queue, or nowhere if that is full. 0 or -errno. */
static int dispatch(struct run *run, struct direction *d, int64_t delay_ns) {
    const struct lab_impairment *impairment = d->impairment;
    struct lab_wire_event *event = &free_frame(d)->event;
    int64_t room = impairment->limit + (event->flags & LAB_WIRE_SPARED ? LAB_SPARED_ROOM : 0);
    int64_t end_ns = event->rx_ns, rate = impairment->rate_bps;
    if (rate) {
        if (end_ns < d->line_end_ns) end_ns = d->line_end_ns;
        end_ns += ((int64_t)event->length * 8 * 1000000000 + rate - 1) / rate;
    }
    event->due_ns = end_ns + delay_ns;
    bool first = !d->held || d->places[0].due_ns > event->due_ns;
    if (event->due_ns == event->rx_ns && first) return forward(run, d, free_frame(d), now_ns());
    if (d->held >= room) {
        event->due_ns = 0;
        drop(run, d, event, LAB_WIRE_QUEUE);
        return 0;
    }
    d->line_end_ns = end_ns;
    hold(d);
    return 0;
}

/* ---- arrivals ---- */

static void describe(const struct direction *d, struct frame *frame, size_t length) {
    size_t snapped = length < LAB_SNAP_BYTES ? length : LAB_SNAP_BYTES;
    struct lab_wire_event *event = &frame->event;
    event->rx_ns = now_ns();
    event->due_ns = event->tx_ns = 0;
    event->number = -1;
    event->length = (int32_t)length;
    event->flags = 0;
    event->direction = d->index;
    event->snapped = (uint8_t)snapped;
    memcpy(event->snap, frame->bytes, snapped);
    memset(event->snap + snapped, 0, LAB_SNAP_BYTES - snapped);
}

/* Draws what becomes of a frame, and notes it. */
static struct verdict judge(struct run *run, struct direction *d, struct lab_wire_event *event,
                         const unsigned char *bytes) {
    struct lab_wire_counters *c = d->counters;
    size_t header = (size_t)run->wire->header_bytes;
    if (run->wire->spare && is_discovery(bytes, (size_t)event->length, header)) {
        event->flags |= LAB_WIRE_SPARED;
        add_one(&c->spared);
        return (struct verdict){.delay_ns = d->impairment->delay_ns};
    }
    event->number = d->numbers++;
    struct verdict verdict = decide(d->impairment, d->key, event->number, &d->bad);
    verdict.corrupted &= (size_t)event->length > header;
    if (verdict.duplicated) event->flags |= LAB_WIRE_DUPLICATED, add_one(&c->duplicated);
    if (verdict.reordered) event->flags |= LAB_WIRE_REORDERED, add_one(&c->reordered);
    if (verdict.corrupted) event->flags |= LAB_WIRE_CORRUPTED, add_one(&c->corrupted);
    return verdict;
}

/* Flips one bit beyond the link layer's header. */
static void corrupt(struct frame *frame, size_t header, uint64_t draw) {
    uint64_t bit = draw % (((uint64_t)frame->event.length - header) * 8);
    frame->bytes[header + bit / 8] ^= (unsigned char)(1 << bit % 8);
}

/* Deals with the frame that was read into the free one. 0 or -errno. */
static int arrive(struct run *run, struct direction *d, size_t length) {
    struct frame *frame = free_frame(d);
    struct lab_wire_event *event = &frame->event;
    describe(d, frame, length);
    add_one(&d->counters->arrived);
    if (length > (size_t)run->wire->frame_bytes) {
        drop(run, d, event, LAB_WIRE_OVERSIZE);
        return 0;
    }
    struct verdict verdict = judge(run, d, event, frame->bytes);
    if (verdict.lost) {
        drop(run, d, event, LAB_WIRE_LOST);
        return 0;
    }
    if (verdict.corrupted) corrupt(frame, (size_t)run->wire->header_bytes, verdict.bit);
    int error = dispatch(run, d, verdict.delay_ns);
    if (error || !verdict.duplicated) return error;
    struct frame *copy = free_frame(d); /* the same one, unless that is held now */
    if (copy != frame) memcpy(copy, frame, sizeof *frame + length);
    copy->event.tx_ns = 0;
    copy->event.flags &= LAB_WIRE_REORDERED | LAB_WIRE_CORRUPTED;
    copy->event.flags |= LAB_WIRE_COPY;
    return dispatch(run, d, verdict.delay_ns);
}

/* Reads frames. Returns how many, BATCH at most, or -errno. */
static int take_arrived(struct run *run, struct direction *d) {
    for (int taken = 0; taken < BATCH; taken++) {
        ssize_t got = read(d->from, free_frame(d)->bytes, (size_t)run->wire->frame_bytes + 1);
        /* A device that went down says so once; it may come back. */
        if (got < 0 && (errno == EAGAIN || errno == EINTR || errno == ENETDOWN)) return taken;
        if (got < 0) return -errno;
        if (got == 0) return -ECONNRESET;
        int error = arrive(run, d, (size_t)got);
        if (error) return error;
    }
    return BATCH;
}

/* ---- the loop ---- */

/* Sleeps until there is a frame to read, one that is (nearly) due, or word from another thread. 0 or -errno. */
static int rest(struct run *run) {
    struct lab_wire *wire = run->wire;
    struct pollfd fds[] = {
        {.fd = wire->fds[0], .events = POLLIN}, {.fd = wire->fds[1], .events = POLLIN},
        {.fd = wire->wake_fd, .events = POLLIN}};
    int64_t longest_ns = wire->wake_fd < 0 ? LAB_SLICE_NS : INT64_MAX, now = now_ns();
    for (const struct direction *d = run->directions; d < run->directions + 2; d++) {
        if (!d->held) continue;
        int64_t left_ns = d->places[0].due_ns - wire->spin_ns - now;
        if (left_ns < longest_ns) longest_ns = left_ns;
    }
    if (longest_ns <= 0) {
        if (wire->spin_ns) sched_yield(); /* to an end that shares this CPU and has something to do */
        return 0;
    }
    struct timespec limit = {.tv_sec = longest_ns / 1000000000, .tv_nsec = longest_ns % 1000000000};
    if (ppoll(fds, 3, longest_ns == INT64_MAX ? NULL : &limit, NULL) < 0) return errno == EINTR ? 0 : -errno;
    uint64_t words;
    if (fds[2].revents && read(wire->wake_fd, &words, sizeof words) < 0 && errno != EAGAIN) return -errno;
    return 0;
}

/* Both directions once, a batch each. Returns whether there may be more to do at once, or -errno. */
static int turn(struct run *run) {
    int most = 0;
    for (struct direction *d = run->directions; d < run->directions + 2; d++) {
        int taken = take_arrived(run, d);
        int sent = taken < 0 ? taken : send_due(run, d);
        if (sent < 0) return sent;
        if (most < taken) most = taken;
        if (most < sent) most = sent;
    }
    return most == BATCH;
}

static int forward_until_stopped(struct run *run) {
    int error = 0;
    while (error >= 0 && !__atomic_load_n(run->stop, __ATOMIC_ACQUIRE)) {
        error = turn(run);
        bool block = __atomic_load_n(&run->wire->wait, __ATOMIC_RELAXED) == LAB_BLOCK;
        if (error == 0 && block) error = rest(run);
    }
    return error < 0 ? error : 0;
}

int64_t lab_wire_run(struct lab_wire *wire, struct lab_wire_event *events, unsigned char *scratch,
                     const int32_t *stop) {
    struct run run;
    if (lab_wire_scratch(wire) < 0) return -EINVAL;
    run_init(&run, wire, events, scratch, stop);
    /* By default the kernel may wake a thread 50 us late, so that several wake-ups can be one. */
    int slack_ns = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    int error = forward_until_stopped(&run);
    prctl(PR_SET_TIMERSLACK, slack_ns, 0, 0, 0);
    for (struct direction *d = run.directions; d < run.directions + 2; d++)
        while (d->held) drop(&run, d, &let_go(d)->event, LAB_WIRE_DISCARDED);
    return error ? error : wire->counters[0].forwarded + wire->counters[1].forwarded;
}
