/* Captures on the lo of a network of our own, read back by our own reader; and where they can't be written. */
#include "capture.h"
#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { PORT = 9, BLOCK = 1 << 20, BLOCKS = 8, RINGS = 2, MOST = 20000, SIZE = 64 };

/* Everything of one capture; zeroed, and then what differs is set. */
struct taking {
    struct lab_ring rings[RINGS];
    struct lab_interface interface;
    struct lab_capture_plan plan;
    struct lab_capture *capture;
    struct lab_capture_counts counts;
    struct lab_interface_counts its;
};

/* Shares lo's frames between sockets, by CPU. */
static int open_ring(int group) {
    int fd = socket(AF_PACKET, SOCK_RAW, 0), version = TPACKET_V3;
    CHECK(fd >= 0);
    struct tpacket_req3 request = {.tp_block_size = BLOCK, .tp_block_nr = BLOCKS, .tp_frame_size = 2048};
    request.tp_frame_nr = BLOCK / 2048 * BLOCKS, request.tp_retire_blk_tov = 20;
    CHECK_EQUAL(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version), 0);
    CHECK_EQUAL(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request), 0);
    struct sockaddr_ll lo = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    lo.sll_ifindex = (int)if_nametoindex("lo");
    CHECK_EQUAL(bind(fd, (struct sockaddr *)&lo, sizeof lo), 0);
    int fanout = PACKET_FANOUT_CPU << 16 | group;
    CHECK_EQUAL(setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &fanout, sizeof fanout), 0);
    return fd;
}

static void open_all(struct taking *taking, int file_fd, bool seekable) {
    enter_own_network();
    for (int i = 0; i < RINGS; i++)
        taking->rings[i] = (struct lab_ring){.fd = open_ring(1), .block_bytes = BLOCK, .blocks = BLOCKS};
    taking->interface = (struct lab_interface){.name = "lo", .link_type = LINK_ETHERNET, .loopback = 1};
    taking->plan.rings = taking->rings, taking->plan.ring_count = RINGS;
    taking->plan.interfaces = &taking->interface, taking->plan.interface_count = 1;
    taking->plan.file_fd = file_fd, taking->plan.direct_fd = -1, taking->plan.seekable = seekable;
    taking->plan.ready_fd = eventfd(0, EFD_NONBLOCK);
    taking->plan.pieces = 8;
}

static void start(struct taking *taking) {
    int32_t error;
    taking->capture = lab_capture_start(&taking->plan, &error);
    CHECK_EQUAL(error, 0);
    CHECK(taking->capture);
}

static const int64_t no_drops[] = {-1};

static int64_t stop(struct taking *taking) {
    const char *comments[] = {"one", "", "two"};
    int64_t result = lab_capture_wait(taking->capture, lab_capture_stop(taking->capture, comments, 3, no_drops), 20 * SECOND);
    lab_capture_counts(taking->capture, &taking->counts, &taking->its);
    return result;
}

static int open_file(void) {
    FILE *file = tmpfile();
    CHECK(file);
    return fileno(file);
}

/* Sends datagrams to a port where somebody listens and nobody reads, numbered from `first` on. */
static void send_some(int first, int count) {
    static int sender = -1, listener;
    struct sockaddr_storage to = {.ss_family = (sa_family_t)family};
    socklen_t length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    ((struct sockaddr_in *)&to)->sin_port = htons(PORT);
    if (family == AF_INET) ((struct sockaddr_in *)&to)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else ((struct sockaddr_in6 *)&to)->sin6_addr = in6addr_loopback;
    if (sender < 0) {
        listener = socket(family, SOCK_DGRAM, 0), sender = socket(family, SOCK_DGRAM, 0);
        CHECK_EQUAL(bind(listener, (struct sockaddr *)&to, length), 0);
        CHECK_EQUAL(connect(sender, (struct sockaddr *)&to, length), 0);
    }
    for (int i = first; i < first + count; i++) {
        char bytes[SIZE] = {0};
        memcpy(bytes, &i, sizeof i);
        CHECK_EQUAL(send(sender, bytes, sizeof bytes, 0), SIZE);
    }
}

/* ---- reading back ---- */

struct found {
    int64_t frames;
    int64_t time_ns[MOST];
    int64_t offset[MOST];
    uint64_t id[MOST];
    uint64_t dropped[MOST];
    uint8_t direction[MOST];
    struct lab_source source;
    struct lab_note notes[8];
    struct lab_reader reader;
    unsigned char *bytes;
};
static struct found found;

static void read_back(int fd) {
    int64_t length = lseek(fd, 0, SEEK_END);
    found.bytes = malloc((size_t)length);
    CHECK_EQUAL(pread(fd, found.bytes, (size_t)length, 0), length);
    const struct lab_column columns[] = {
        {found.time_ns, offsetof(struct lab_frame, time_ns), 8}, {found.offset, offsetof(struct lab_frame, offset), 8},
        {found.id, offsetof(struct lab_frame, packet_id), 8},    {found.dropped, offsetof(struct lab_frame, dropped), 8},
        {found.direction, offsetof(struct lab_frame, direction), 1},
    };
    memset(&found.reader, 0, sizeof found.reader);
    found.frames = lab_read(&found.reader, found.bytes, length, &found.source, 1, found.notes, 8, columns, 5, 0, MOST,
                            NULL, 0);
}

static int number_of(int64_t frame) {
    int number;
    size_t headers = 14 + (family == AF_INET ? 20 : 40) + 8;
    memcpy(&number, found.bytes + found.offset[frame] + headers, sizeof number);
    return number;
}

/* Both copies of each of `count` datagrams, linked, in the order of their times. */
static void expect_pairs(int count) {
    static uint64_t id_of[MOST];
    static int seen[MOST][3];
    memset(seen, 0, sizeof seen);
    CHECK_EQUAL(found.frames, 2 * count);
    for (int64_t i = 0; i < found.frames; i++) {
        int number = number_of(i);
        CHECK(number >= 0 && number < count);
        CHECK(!i || found.time_ns[i] >= found.time_ns[i - 1]);
        CHECK(found.id[i] != 0);
        if (found.direction[i] == FLAG_OUT) id_of[number] = found.id[i];
        else CHECK_EQUAL(found.id[i], id_of[number]);
        CHECK_EQUAL(seen[number][found.direction[i]]++, 0);
    }
}

/* ---- what is captured ---- */

static void every_frame_is_there_twice_and_linked(void) {
    static struct taking taking;
    int file = open_file();
    open_all(&taking, file, true);
    start(&taking);
    send_some(0, MOST / 2); /* at once: a start means started */
    CHECK_EQUAL(stop(&taking), 0);
    CHECK_EQUAL(taking.counts.frames, MOST);
    CHECK_EQUAL(taking.its.linked, MOST / 2);
    CHECK_EQUAL(taking.its.unlinked + taking.its.dropped + taking.its.truncated + taking.its.refused, 0);
    CHECK_EQUAL(taking.its.received, MOST);
    lab_capture_close(taking.capture);
    read_back(file);
    CHECK_EQUAL(found.reader.status, LAB_READ_END);
    expect_pairs(MOST / 2);
    CHECK_EQUAL(found.source.received, MOST);
    CHECK_EQUAL(found.source.os_dropped, 0);
    CHECK_EQUAL(found.reader.note_count, 3);
}

static void what_was_seen_can_be_read_while_it_goes_on(void) {
    static struct taking taking;
    int file = open_file();
    open_all(&taking, file, true);
    start(&taking);
    for (int sent = 100; sent <= 1000; sent += 100) {
        send_some(sent - 100, 100);
        CHECK_EQUAL(lab_capture_wait(taking.capture, lab_capture_flush(taking.capture), 20 * SECOND), 0);
        read_back(file);
        expect_pairs(sent);
    }
    CHECK_EQUAL(stop(&taking), 0);
    lab_capture_close(taking.capture);
}

/* Whoever reads the file needs not ask for it, not even where frames never cease. */
static void steady_frames_reach_the_file(void) {
    enum { STEP = 5 * MS, STEPS = 1000 };
    static struct taking taking;
    int file = open_file();
    open_all(&taking, file, true);
    start(&taking);
    int sent = 0;
    for (found.frames = 0; !found.frames && sent < STEPS; sent++) {
        send_some(sent, 1);
        nanosleep(&(struct timespec){.tv_nsec = STEP}, NULL);
        read_back(file);
    }
    CHECK(found.frames > 0);
    CHECK_EQUAL(stop(&taking), 0);
    lab_capture_close(taking.capture);
}

static void it_ends_after_so_many_frames(void) {
    static struct taking taking;
    int file = open_file();
    open_all(&taking, file, true);
    taking.plan.limit = 100;
    start(&taking);
    send_some(0, 1000);
    CHECK_EQUAL(lab_capture_wait(taking.capture, lab_capture_flush(taking.capture), 20 * SECOND), 0);
    lab_capture_counts(taking.capture, &taking.counts, &taking.its);
    CHECK(taking.counts.ended);
    CHECK_EQUAL(stop(&taking), 0);
    lab_capture_close(taking.capture);
    read_back(file);
    expect_pairs(50);
}

static void a_program_here_refuses_frames(void) {
    static struct taking taking;
    const struct lab_instruction nothing[] = {{BPF_RET, 0, 0, 0}};
    int file = open_file();
    open_all(&taking, file, true);
    taking.plan.program = nothing, taking.plan.program_length = 1;
    start(&taking);
    send_some(0, 100);
    CHECK_EQUAL(stop(&taking), 0);
    CHECK_EQUAL(taking.its.refused, 200);
    CHECK_EQUAL(taking.counts.frames, 0);
    lab_capture_close(taking.capture);
    read_back(file);
    CHECK_EQUAL(found.frames, 0);
}

/* A pipe, and what came out of it. */
static int pipe_fds[2];
static unsigned char *piped;
static int64_t piped_length;
enum { PIPED = 1 << 28 };

static void drain_pipe(void) {
    struct pollfd ready = {.fd = pipe_fds[0], .events = POLLIN};
    while (poll(&ready, 1, 10) > 0) {
        ssize_t got = read(pipe_fds[0], piped + piped_length, (size_t)(PIPED - piped_length));
        CHECK(got >= 0);
        if (!got) return;
        piped_length += got;
    }
}

static void wait_for(struct taking *taking, int64_t ticket) {
    while (lab_capture_wait(taking->capture, ticket, 0) == -ETIME) drain_pipe();
    CHECK_EQUAL(lab_capture_wait(taking->capture, ticket, 0), 0);
}

/* Frames of the pipe: a linked pair holds the same number, and losses are told. */
static void expect_linked_rightly(const struct taking *taking, int sent) {
    int64_t frames = taking->counts.frames, linked = 0;
    uint64_t *drops = calloc((size_t)frames, 8), *ids = calloc((size_t)frames, 8), *first = calloc((size_t)sent, 8);
    int64_t *offsets = calloc((size_t)frames, 8), dropped = 0;
    const struct lab_column columns[] = {{drops, offsetof(struct lab_frame, dropped), 8},
                                         {ids, offsetof(struct lab_frame, packet_id), 8},
                                         {offsets, offsetof(struct lab_frame, offset), 8}};
    struct lab_reader reader = {0};
    int64_t got = 0;
    do got += lab_read(&reader, piped, piped_length, &found.source, 1, found.notes, 8, columns, 3, got, frames - got, NULL, 0);
    while (reader.status == LAB_READ_MORE && got < frames);
    CHECK_EQUAL(got, frames);
    found.bytes = piped;
    for (int64_t i = 0; i < frames; i++) {
        dropped += (int64_t)drops[i];
        found.offset[0] = offsets[i];
        uint64_t *its = &first[number_of(0)];
        if (*its && ids[i]) CHECK_EQUAL(ids[i], *its);
        linked += *its && ids[i];
        if (!*its) *its = ids[i];
    }
    CHECK_EQUAL(dropped, taking->its.dropped); /* as frames came after the last loss */
    CHECK_EQUAL(found.source.os_dropped, taking->its.dropped);
    CHECK_EQUAL(linked, taking->its.linked);
    CHECK_EQUAL(2 * taking->its.linked + taking->its.unlinked, frames);
}

/* The walker is kept waiting by a pipe that nobody reads, so the rings fill up: two of 8 MiB, behind 32 MiB of blocks. */
static void a_loss_is_told_where_it_was(void) {
    enum { FLOOD = 400000, MORE = 1000 };
    static struct taking taking;
    piped = malloc(PIPED);
    CHECK_EQUAL(pipe(pipe_fds), 0);
    open_all(&taking, pipe_fds[1], false);
    start(&taking);
    CHECK_EQUAL(pin(sched_getcpu()), 0); /* so that the ring that loses frames gets those after the loss, too */
    send_some(0, FLOOD);
    wait_for(&taking, lab_capture_flush(taking.capture));
    send_some(FLOOD, MORE);
    wait_for(&taking, lab_capture_stop(taking.capture, NULL, 0, no_drops));
    drain_pipe();
    lab_capture_counts(taking.capture, &taking.counts, &taking.its);
    lab_capture_close(taking.capture);
    CHECK(taking.its.dropped > 0 && taking.its.freezes > 0);
    CHECK_EQUAL(taking.its.received, 2 * (FLOOD + MORE));
    CHECK_EQUAL(taking.counts.frames + taking.its.dropped, taking.its.received);
    CHECK(taking.its.linked > MORE / 2);
    expect_linked_rightly(&taking, FLOOD + MORE);
}

/* ---- where it can't be written ---- */

static void a_full_disk_ends_it(void) {
    static struct taking taking;
    int full = open("/dev/full", O_RDWR);
    if (full < 0) skip("/dev/full", errno);
    open_all(&taking, full, true);
    start(&taking);
    send_some(0, 1000);
    CHECK_EQUAL(lab_capture_wait(taking.capture, lab_capture_flush(taking.capture), 20 * SECOND), -ENOSPC);
    lab_capture_counts(taking.capture, &taking.counts, &taking.its);
    CHECK_EQUAL(taking.counts.error, ENOSPC);
    CHECK_EQUAL(stop(&taking), -ENOSPC);
    lab_capture_close(taking.capture);
}

static void a_reader_that_went_away_ends_it(void) {
    static struct taking taking;
    CHECK_EQUAL(pipe(pipe_fds), 0);
    open_all(&taking, pipe_fds[1], false);
    start(&taking);
    close(pipe_fds[0]);
    send_some(0, 10);
    CHECK_EQUAL(stop(&taking), -EPIPE);
    lab_capture_close(taking.capture);
}

/* Nobody reads the pipe, and nobody waits for it. */
static void it_can_be_abandoned(void) {
    static struct taking taking;
    CHECK_EQUAL(pipe(pipe_fds), 0);
    open_all(&taking, pipe_fds[1], false);
    start(&taking);
    send_some(0, 5000);
    CHECK_EQUAL(lab_capture_wait(taking.capture, lab_capture_stop(taking.capture, NULL, 0, no_drops), 100 * MS), -ETIME);
    lab_capture_close(taking.capture);
}

static void a_plan_that_is_not_sound_is_refused(void) {
    static struct taking taking;
    int32_t error = 0;
    open_all(&taking, -1, true);
    CHECK(!lab_capture_start(&taking.plan, &error));
    CHECK_EQUAL(error, -EINVAL);
    taking.plan.file_fd = open_file();
    taking.rings[1].interface = 1;
    CHECK(!lab_capture_start(&taking.plan, &error));
    CHECK_EQUAL(error, -EINVAL);
    taking.rings[1].interface = 0;
    taking.rings[1].blocks = 1 << 20;
    CHECK(!lab_capture_start(&taking.plan, &error));
    CHECK(error < 0);
}

const struct check capture_checks[] = {
    CASE(every_frame_is_there_twice_and_linked, BOTH_FAMILIES | THREADS),
    CASE(what_was_seen_can_be_read_while_it_goes_on, BOTH_FAMILIES | THREADS),
    CASE(steady_frames_reach_the_file, THREADS),
    CASE(it_ends_after_so_many_frames, BOTH_FAMILIES | THREADS),
    CASE(a_program_here_refuses_frames, THREADS),
    CASE(a_loss_is_told_where_it_was, BOTH_FAMILIES),
    CASE(a_full_disk_ends_it, THREADS),
    CASE(a_reader_that_went_away_ends_it, THREADS),
    CASE(it_can_be_abandoned, THREADS),
    CASE(a_plan_that_is_not_sound_is_refused, 0),
    {0},
};
