/* The wire between two socket pairs: its loop under faults and under those who watch it, its queue, its log. */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "check.h"

enum { FRAME_BYTES = 256, HOUR_S = 3600 };

/* A wire in a thread of its own; outer[side] is what its fds[side] is connected to. */
struct line {
    struct lab_wire wire;
    struct lab_wire_event *events; /* exactly log_size of them, and exactly as much scratch as asked for */
    unsigned char *scratch;
    int32_t stop;
    int outer[2];
    int64_t result;
    int slack_before, slack_after;
    pthread_t thread;
};

/* Numbered, as its events are. */
struct numbered {
    unsigned char ethernet[14];
    uint16_t pad;
    int64_t number;
    unsigned char filler[40];
};

static struct line line_make(int64_t limit, int64_t log_size) {
    struct line line = {.wire = {.wake_fd = eventfd(0, EFD_NONBLOCK),
                                 .frame_bytes = FRAME_BYTES,
                                 .header_bytes = 14,
                                 .log_size = log_size}};
    for (int side = 0; side < 2; side++) {
        int pair[2], room = 1 << 18;
        CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
        line.outer[side] = pair[0];
        line.wire.fds[side] = pair[1];
        line.wire.impairments[side].limit = limit;
        CHECK(!fcntl(pair[1], F_SETFL, O_NONBLOCK));
        for (int end = 0; end < 2; end++) CHECK(!setsockopt(pair[end], SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
    }
    tamper_not();
    return line;
}

static void *line_run(void *argument) {
    struct line *line = argument;
    line->slack_before = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
    line->result = lab_wire_run(&line->wire, line->events, line->scratch, &line->stop);
    line->slack_after = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
    return NULL;
}

static void line_start(struct line *line) {
    int64_t bytes = lab_wire_scratch(&line->wire);
    CHECK(bytes > 0);
    line->scratch = malloc((size_t)bytes);
    line->events = calloc((size_t)line->wire.log_size, sizeof *line->events);
    CHECK(!pthread_create(&line->thread, NULL, line_run, line));
}

static void line_wake(const struct line *line) {
    if (line->wire.wake_fd >= 0) CHECK(!eventfd_write(line->wire.wake_fd, 1));
}

static void line_join(struct line *line) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 20;
    CHECK(!pthread_timedjoin_np(line->thread, NULL, &limit));
    CHECK_EQUAL(line->slack_before, line->slack_after);
}

static void line_stop(struct line *line) {
    __atomic_store_n(&line->stop, 1, __ATOMIC_RELEASE);
    line_wake(line);
    line_join(line);
}

static void send_numbered(const struct line *line, int side, int64_t number) {
    struct numbered frame = {.number = number};
    send_plain(line->outer[side], &frame, sizeof frame);
}

/* Waits for a frame to come out at a side; -1 if it is another size. */
static int64_t receive_numbered(const struct line *line, int side) {
    struct numbered frame;
    return recv(line->outer[side], &frame, sizeof frame, 0) == sizeof frame ? frame.number : -1;
}

static int64_t peek(const int64_t *counter) {
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* Waits until a counter, or the log, has come so far. */
static void await(const int64_t *counter, int64_t value) {
    int64_t deadline_ns = now_ns() + 20 * SECOND;
    while (peek(counter) < value) {
        CHECK(now_ns() < deadline_ns);
        sched_yield();
    }
}

/* ---- forwarding, watched ---- */

struct watcher {
    struct line *line;
    int32_t over;
    int64_t looks;
};

/* Copies the log again and again; each copy holds whole events, in order. */
static void *watch(void *argument) {
    struct watcher *watcher = argument;
    const struct lab_wire *wire = &watcher->line->wire;
    struct lab_wire_event *copy = malloc((size_t)wire->log_size * sizeof *copy);
    int64_t newest = 0;
    while (!__atomic_load_n(&watcher->over, __ATOMIC_ACQUIRE)) {
        int64_t first, count = lab_wire_events(wire, watcher->line->events, copy, &first);
        CHECK(count >= 0 && count <= wire->log_size && first >= 0 && first + count >= newest);
        for (int64_t i = 0; i < count; i++) {
            struct numbered frame;
            memcpy(&frame, copy[i].snap, sizeof frame);
            CHECK_EQUAL(frame.number, copy[i].number);
            CHECK(copy[i].length == sizeof frame && copy[i].tx_ns >= copy[i].due_ns);
        }
        newest = first + count;
        watcher->looks++;
    }
    free(copy);
    return NULL;
}

/* Both ways, with a log that is far too short, while one thread reads it and another changes how the wire waits. */
static void wire_is_watched_while_it_runs(void) {
    const int64_t count = 3000;
    struct line line = line_make(100, 8);
    struct watcher watcher = {.line = &line};
    pthread_t thread;
    line_start(&line);
    CHECK(!pthread_create(&thread, NULL, watch, &watcher));
    for (int64_t number = 0; number < count; number++) {
        if (number % 100 == 0) {
            __atomic_store_n(&line.wire.wait, number % 200 ? LAB_SPIN : LAB_BLOCK, __ATOMIC_RELAXED);
            line_wake(&line);
        }
        for (int side = 0; side < 2; side++) {
            send_numbered(&line, side, number);
            CHECK_EQUAL(receive_numbered(&line, !side), number);
        }
    }
    await(&line.wire.logged, 2 * count);
    __atomic_store_n(&watcher.over, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    line_stop(&line);
    CHECK(watcher.looks > 0);
    CHECK_EQUAL(line.result, 2 * count);
    for (int side = 0; side < 2; side++) CHECK_EQUAL(line.wire.counters[side].forwarded, count);
}

/* ---- the queue ---- */

/* With IPDV in a full queue: none before it is due, none due later before one due sooner, none beyond the limit. */
static void queue_leaves_in_order_of_due_times(void) {
    const int64_t limit = 50, count = 80;
    struct line line = line_make(limit, 2 * count);
    line.wire.impairments[0] = (struct lab_impairment){
        .delay_ns = 600 * MS, .ipdv_ns = 200 * MS, .distribution = LAB_UNIFORM, .limit = limit};
    line_start(&line);
    for (int64_t number = 0; number < count; number++) send_numbered(&line, 0, number);
    await(&line.wire.counters[0].arrived, count);
    await(&line.wire.logged, count);
    line_stop(&line);
    struct lab_wire_event *events = line.events;
    int64_t dropped = 0, due_ns = 0;
    for (int64_t i = 0; i < count; i++) {
        if (events[i].flags & LAB_WIRE_QUEUE) {
            CHECK(!events[i].due_ns && !events[i].tx_ns);
            dropped++;
            continue;
        }
        CHECK(events[i].tx_ns >= events[i].due_ns && events[i].due_ns >= due_ns);
        due_ns = events[i].due_ns;
        CHECK_EQUAL(receive_numbered(&line, 1), events[i].number);
    }
    CHECK_EQUAL(dropped, line.wire.counters[0].queue);
    CHECK_EQUAL(line.wire.counters[0].forwarded, count - dropped);
    CHECK(dropped >= 1); /* unless sending took longer than the shortest delay */
}

/* Every place is taken, those of neighbour discovery too, and every frame is as long as may be. */
static void queue_is_filled_to_the_last_place(void) {
    const int64_t limit = 5;
    unsigned char frame[FRAME_BYTES + 20] = {[12] = 0x08, [13] = 0x06};
    struct line line = line_make(limit, 200);
    line.wire.spare = 1;
    line.wire.impairments[0].delay_ns = HOUR_S * SECOND;
    line.wire.impairments[0].duplicate = 1;
    line_start(&line);
    for (int i = 0; i < LAB_SPARED_ROOM + 10; i++) {
        frame[13] = i < limit ? 0x05 : 0x06;
        send_plain(line.outer[0], frame, i % 2 ? FRAME_BYTES : FRAME_BYTES - 1);
    }
    send_plain(line.outer[0], frame, FRAME_BYTES + 1);
    send_plain(line.outer[0], frame, sizeof frame);
    struct lab_wire_counters *c = &line.wire.counters[0];
    await(&c->oversize, 2);
    CHECK_EQUAL(peek(&c->held), limit + LAB_SPARED_ROOM);
    line_stop(&line);
    CHECK_EQUAL(c->discarded, limit + LAB_SPARED_ROOM);
    CHECK_EQUAL(c->held, 0);
    CHECK_EQUAL(c->arrived + c->duplicated, c->discarded + c->queue + c->oversize);
    CHECK_EQUAL(line.result, 0);
}

/* ---- calls that fail ---- */

/* The kernel refuses every other write: those frames are unsent, and nothing else comes of it. */
static void refused_frames_are_unsent(void) {
    const int errors[] = {EAGAIN, ENOBUFS, ENOMEM, ENETDOWN, ENXIO, EIO, EMSGSIZE, EINVAL};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        struct line line = line_make(10, 20);
        snprintf(trying, sizeof trying, "%s", strerror(errors[i]));
        tamper.write = (struct fault){.fd = line.wire.fds[1], .times = 10, .every = 2, .error = errors[i]};
        line_start(&line);
        for (int64_t number = 0; number < 10; number++) send_numbered(&line, 0, number);
        await(&line.wire.logged, 10);
        line_stop(&line);
        CHECK_EQUAL(line.result, 5);
        CHECK_EQUAL(line.wire.counters[0].unsent, 5);
        for (int64_t number = 0; number < 10; number++) {
            CHECK_EQUAL(line.events[number].flags, number % 2 ? LAB_WIRE_UNSENT : 0);
            CHECK_EQUAL(!line.events[number].tx_ns, number % 2);
        }
    }
}

static void interrupted_calls_are_made_again(void) {
    struct line line = line_make(10, 20);
    tamper.write = (struct fault){.fd = line.wire.fds[1], .times = 15, .every = 3, .error = EINTR};
    tamper.read = (struct fault){.fd = line.wire.fds[0], .times = 15, .every = 3, .error = EINTR};
    line_start(&line);
    for (int64_t number = 0; number < 10; number++) send_numbered(&line, 0, number);
    for (int64_t number = 0; number < 10; number++) CHECK_EQUAL(receive_numbered(&line, 1), number);
    line_stop(&line);
    CHECK_EQUAL(line.result, 10);
}

/* A device that goes down says so once. */
static void a_side_that_was_down_is_read_again(void) {
    struct line line = line_make(10, 20);
    tamper.read = (struct fault){.fd = line.wire.fds[0], .times = 1, .error = ENETDOWN};
    line_start(&line);
    send_numbered(&line, 0, 1);
    CHECK_EQUAL(receive_numbered(&line, 1), 1);
    line_stop(&line);
}

static void a_dead_side_ends_the_wire(void) {
    for (int write = 0; write <= 1; write++)
        for (int wait = LAB_BLOCK; wait <= LAB_SPIN; wait++) {
            struct line line = line_make(10, 20);
            struct fault fault = {.fd = line.wire.fds[write], .first = 0, .times = INT64_MAX, .error = EBADF};
            *(write ? &tamper.write : &tamper.read) = fault;
            line.wire.wait = wait;
            line_start(&line);
            send_numbered(&line, 0, 0);
            line_join(&line);
            CHECK_EQUAL(line.result, -EBADF);
            CHECK_EQUAL(line.wire.counters[0].unsent, write);
        }
}

static void a_side_that_is_shut_ends_the_wire(void) {
    struct line line = line_make(10, 20);
    line_start(&line);
    close(line.outer[1]);
    line_join(&line);
    CHECK_EQUAL(line.result, -ECONNRESET);
}

/* ---- stopping ---- */

static void wire_is_stopped(void) {
    for (int wait = LAB_BLOCK; wait <= LAB_SPIN; wait++)
        for (int wakes = 0; wakes <= 1; wakes++) {
            struct line line = line_make(10, 20);
            line.wire.wait = wait;
            if (!wakes) line.wire.wake_fd = -1; /* looks at the flag all the same */
            line.wire.impairments[0].delay_ns = HOUR_S * SECOND;
            line_start(&line);
            send_numbered(&line, 0, 0);
            await(&line.wire.counters[0].held, 1);
            line_stop(&line);
            CHECK_EQUAL(line.result, 0);
            CHECK_EQUAL(line.events[0].flags, LAB_WIRE_DISCARDED);
        }
}

/* ---- wrong fields ---- */

/* With this change the wire is refused. */
#define REFUSED(change)                                                                           \
    do {                                                                                          \
        struct lab_wire before = line.wire;                                                       \
        line.wire.change;                                                                         \
        snprintf(trying, sizeof trying, "%s", #change);                                           \
        CHECK_EQUAL(lab_wire_scratch(&line.wire), -EINVAL);                                       \
        CHECK_EQUAL(lab_wire_run(&line.wire, line.events, line.scratch, &line.stop), -EINVAL);    \
        line.wire = before;                                                                       \
    } while (0)

static void wire_fields_out_of_range(void) {
    struct line line = line_make(10, 20);
    REFUSED(fds[0] = -1);
    REFUSED(fds[1] = -1);
    REFUSED(wake_fd = -2);
    REFUSED(wait = LAB_SPIN + 1);
    REFUSED(frame_bytes = 63);
    REFUSED(frame_bytes = LAB_MAX_FRAME + 1);
    REFUSED(header_bytes = 1);
    REFUSED(spin_ns = -1);
    REFUSED(log_size = 0);
    REFUSED(log_size = LAB_MAX_LOG + 1);
    REFUSED(impairments[0].limit = 0);
    REFUSED(impairments[1].limit = LAB_MAX_LIMIT + 1);
    REFUSED(impairments[0].delay_ns = LAB_MAX_TIMEOUT_NS + 1);
    REFUSED(impairments[1].ipdv_ns = -1);
    REFUSED(impairments[0].distribution = LAB_PARETO + 1);
    REFUSED(impairments[1].cut = -1);
    REFUSED(impairments[0].loss = 1.1);
    REFUSED(impairments[1].loss = 0.0 / 0.0);
    REFUSED(impairments[0].rate_bps = 1);
    line.stop = 1;
    line_start(&line);
    line_join(&line);
    CHECK_EQUAL(line.result, 0);
}

const struct check wire_checks[] = {
    CASE(wire_is_watched_while_it_runs, THREADS),
    CASE(queue_leaves_in_order_of_due_times, THREADS),
    CASE(queue_is_filled_to_the_last_place, THREADS),
    CASE(refused_frames_are_unsent, 0),
    CASE(interrupted_calls_are_made_again, 0),
    CASE(a_side_that_was_down_is_read_again, 0),
    CASE(a_dead_side_ends_the_wire, 0),
    CASE(a_side_that_is_shut_ends_the_wire, 0),
    CASE(wire_is_stopped, THREADS),
    CASE(wire_fields_out_of_range, 0),
    {0},
};
