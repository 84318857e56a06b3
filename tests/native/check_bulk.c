/* Many bytes: all of them arrive, each as it was sent; datagrams are told apart; and what ends a transfer. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "check.h"
#include "bulk.h"

enum { ROOM = 64 };

static struct lab_bulk bulk;
static unsigned char *out, *in; /* of just the size that is needed, so that AddressSanitizer sees more */
static struct lab_bulk_sample samples[ROOM];
static int32_t stop;

static int any_cpu(void) {
    cpu_set_t allowed;
    CHECK(!sched_getaffinity(0, sizeof allowed, &allowed));
    int cpu = CPU_SETSIZE - 1;
    while (!CPU_ISSET((size_t)cpu, &allowed)) cpu--;
    return cpu;
}

/* What would be a transfer of a little while. */
static void prepare(int kind, int out_fd, int in_fd, int64_t size) {
    bulk = (struct lab_bulk){.kind = kind, .out_fd = out_fd, .in_fd = in_fd, .far_cpu = out_fd < 0 ? -1 : any_cpu(),
                             .verify = 1, .size = size, .duration_ns = 20 * SECOND, .patience_ns = 40 * MS,
                             .interval_ns = MS, .sample_room = ROOM, .nonce = 0x0123456789abcdef};
    snprintf(trying, sizeof trying, "kind %d, %lld bytes", kind, (long long)size);
    out = malloc((size_t)size);
    in = malloc((size_t)size);
    CHECK(out && in);
    for (int64_t i = 0; i < size; i++) out[i] = (unsigned char)(i * 31 + i / 251);
    memset(samples, 0, sizeof samples);
    tamper_not();
    signal(SIGPIPE, SIG_IGN); /* as in Python */
}

static void begin_udp(int64_t size) {
    int near, far;
    open_ends(LAB_UDP, &near, &far);
    prepare(LAB_BULK_DATAGRAM, near, far, size);
}

/* Sockets or a pipe that carry a stream: 0 TCP, 1 unix, 2 a pipe. */
static void begin_stream(int which, int64_t size) {
    int fds[2]; /* to read from, and to write to */
    if (which == 0) open_ends(LAB_TCP, &fds[1], &fds[0]);
    if (which == 1) CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
    if (which == 2) CHECK(!pipe2(fds, O_NONBLOCK));
    prepare(which == 2 ? LAB_BULK_PIPE : LAB_BULK_STREAM, fds[1], fds[0], size);
}

static int64_t run_bulk(void) {
    return lab_bulk_run(&bulk, out, in, samples, &stop);
}

static void end(void) {
    if (bulk.out_fd >= 0) close(bulk.out_fd);
    if (bulk.in_fd >= 0) close(bulk.in_fd);
    free(out);
    free(in);
}

/* Samples go up, in time and in bytes, an interval apart at least. */
static void check_samples(int64_t result) {
    CHECK_EQUAL(result, bulk.samples);
    CHECK(result <= bulk.sample_room);
    for (int64_t i = 0; i < result; i++) {
        int64_t before_ns = i ? samples[i - 1].at_ns : bulk.begun_ns;
        CHECK(samples[i].at_ns >= before_ns + bulk.interval_ns);
        CHECK(samples[i].at_ns <= bulk.last_ns);
        CHECK(samples[i].bytes > (i ? samples[i - 1].bytes : 0));
        CHECK(samples[i].bytes <= bulk.received);
    }
    if (result < ROOM) CHECK_EQUAL(samples[result].at_ns, 0);
}

static void check_whole(int64_t result) {
    check_samples(result);
    CHECK_EQUAL(bulk.received, bulk.sent);
    CHECK_EQUAL(bulk.wrong, 0);
    CHECK_EQUAL(bulk.far_error, 0);
    CHECK_EQUAL(bulk.late, 0);
    CHECK(bulk.near_cpu_ns > 0);
    CHECK_EQUAL(bulk.far_cpu_ns > 0, bulk.far_cpu >= 0);
}

/* ---- what arrives ---- */

/* The limit is no multiple of the size, so the last message is shorter. */
static void all_bytes_of(int which) {
    const int64_t sizes[] = {1, 7, 4096, 65536, 300001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        begin_stream(which, sizes[i]);
        bulk.limit_bytes = sizes[i] * 53 + sizes[i] / 3;
        check_whole(run_bulk());
        CHECK_EQUAL(bulk.received, bulk.limit_bytes);
        CHECK_EQUAL(bulk.messages, 53 + (sizes[i] >= 3));
        end();
    }
}

static void all_bytes_of_tcp(void) {
    all_bytes_of(0);
}

static void all_bytes_of_unix_and_pipes(void) {
    all_bytes_of(1);
    all_bytes_of(2);
}

static void it_ends_when_the_time_is_over(void) {
    for (int which = 0; which < 3; which++) {
        begin_stream(which, 65536);
        bulk.duration_ns = 30 * MS;
        int64_t start_ns = now_ns();
        check_whole(run_bulk());
        CHECK(bulk.received > 0);
        CHECK(now_ns() - start_ns >= 30 * MS);
        CHECK(now_ns() - start_ns < PROMPT_NS);
        end();
    }
}

static void samples_stop_where_there_is_no_room(void) {
    begin_stream(1, 100);
    bulk.sample_room = 3;
    bulk.interval_ns = 1;
    bulk.limit_bytes = 100000;
    CHECK_EQUAL(run_bulk(), 3);
    CHECK_EQUAL(samples[3].at_ns, 0);
    CHECK_EQUAL(bulk.received, 100000);
    end();
}

static void memory_is_copied(void) {
    const int64_t sizes[] = {1, 4096, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        prepare(LAB_BULK_MEMCPY, -1, -1, sizes[i]);
        memset(in, 0xff, (size_t)sizes[i]);
        bulk.limit_bytes = sizes[i] * 10;
        check_whole(run_bulk());
        CHECK_EQUAL(bulk.messages, 10);
        CHECK(!memcmp(in, out, (size_t)sizes[i]));
        end();
    }
    prepare(LAB_BULK_MEMCPY, -1, -1, 4096);
    bulk.duration_ns = 10 * MS;
    check_whole(run_bulk());
    CHECK(bulk.last_ns - bulk.begun_ns >= 10 * MS);
    end();
}

/* A byte that was changed on its way is told. */
static void wrong_bytes_are_counted(void) {
    begin_stream(1, 1000);
    unsigned char other[3] = {1, 2, 3};
    memcpy(out, "xyz", 3);
    send_plain(bulk.out_fd, other, 3); /* it counts as the first three that were sent, and shifts all others */
    bulk.limit_bytes = 50000;
    int64_t result = run_bulk();
    CHECK(result >= 0);
    CHECK(bulk.wrong > 40000);
    end();
}

/* ---- datagrams ---- */

/* Room for all, as nobody makes the writer wait. */
static void make_room(void) {
    int room = 1 << 20;
    CHECK(!setsockopt(bulk.in_fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room));
}

static void datagrams_are_counted(void) {
    const int64_t sizes[] = {LAB_MIN_DATAGRAM, 100, 1440};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        begin_udp(sizes[i]);
        make_room();
        bulk.limit_bytes = sizes[i] * 50;
        check_whole(run_bulk());
        CHECK_EQUAL(bulk.messages, 50);
        CHECK_EQUAL(bulk.arrived, 50);
        CHECK_EQUAL(bulk.duplicates + bulk.reordered + bulk.foreign, 0);
        end();
    }
}

static void lost_datagrams_are_no_error(void) {
    enum action actions[50] = {[0] = LOSE, [17] = LOSE, [18] = LOSE, [49] = LOSE};
    begin_udp(100);
    make_room();
    bulk.limit_bytes = 5000;
    tamper.requests = (struct way){.fd = bulk.out_fd, .actions = actions, .count = 50};
    check_samples(run_bulk());
    CHECK_EQUAL(bulk.sent, 5000);
    CHECK_EQUAL(bulk.arrived, 46);
    CHECK_EQUAL(bulk.received, 4600);
    CHECK_EQUAL(bulk.wrong + bulk.reordered + bulk.duplicates, 0);
    end();
}

static void datagrams_twice_and_out_of_order(void) {
    enum action actions[50] = {[3] = TWICE, [10] = HOLD_PAST_NEXT, [49] = TWICE};
    begin_udp(100);
    make_room();
    bulk.limit_bytes = 5000;
    tamper.requests = (struct way){.fd = bulk.out_fd, .actions = actions, .count = 50};
    check_samples(run_bulk());
    CHECK_EQUAL(bulk.arrived, 50);
    CHECK_EQUAL(bulk.duplicates, 2);
    CHECK_EQUAL(bulk.reordered, 1);
    CHECK_EQUAL(bulk.received, 5000);
    end();
}

static void strange_datagrams_are_none_of_ours(void) {
    enum action actions[50] = {[5] = OTHER_NONCE, [6] = CUT, [7] = CUT_SHORT, [8] = EMPTY};
    begin_udp(100);
    make_room();
    bulk.limit_bytes = 5000;
    tamper.requests = (struct way){.fd = bulk.out_fd, .actions = actions, .count = 50};
    check_samples(run_bulk());
    CHECK_EQUAL(bulk.arrived, 46);
    CHECK_EQUAL(bulk.foreign, 4);
    end();
}

/* Numbers far ahead, and far behind: what is older than the window can't be known, and counts as new. */
static void numbers_beyond_the_window(void) {
    const uint64_t numbers[] = {LAB_BULK_WINDOW + 5, 3, LAB_BULK_WINDOW + 5, 3, 6, 6, 3 * LAB_BULK_WINDOW};
    struct {
        uint64_t nonce, number;
    } message;
    begin_udp(sizeof message);
    make_room();
    message.nonce = bulk.nonce;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        message.number = numbers[i];
        send_plain(bulk.out_fd, &message, sizeof message);
    }
    bulk.limit_bytes = sizeof message;
    CHECK(run_bulk() >= 0);
    /* 3 (twice) and 0, which this run sends itself, are too old to be known; 6 is not, the second time. */
    CHECK_EQUAL(bulk.arrived, 7 + 1 - 2);
    CHECK_EQUAL(bulk.duplicates, 2);
    CHECK_EQUAL(bulk.reordered, 4);
    end();
}

/* ---- what ends it ---- */

static void *stop_later(void *argument) {
    (void)argument;
    usleep(20000);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void a_stopped_transfer_is_whole_so_far(void) {
    for (int which = 0; which < 5; which++) {
        if (which < 3) begin_stream(which, 65536);
        if (which == 3) begin_udp(1440);
        if (which == 4) prepare(LAB_BULK_MEMCPY, -1, -1, 65536);
        pthread_t stopper;
        CHECK(!pthread_create(&stopper, NULL, stop_later, NULL));
        int64_t start_ns = now_ns(), result = run_bulk();
        CHECK(!pthread_join(stopper, NULL));
        CHECK(now_ns() - start_ns < PROMPT_NS);
        if (which == 3)
            check_samples(result);
        else
            check_whole(result);
        CHECK(bulk.received > 0);
        end();
        stop = 0;
    }
}

/* A message that takes longer than the time, or than anybody who stops it would wait. */
static void a_long_message_does_not_hold_it(void) {
    for (int which = 0; which < 3; which++) {
        begin_stream(which, 100 << 20);
        bulk.verify = 0;
        bulk.duration_ns = MS;
        tamper.recv = (struct fault){.fd = bulk.in_fd, .most = 4096};
        int64_t start_ns = now_ns();
        check_whole(run_bulk());
        CHECK(now_ns() - start_ns < PROMPT_NS);
        CHECK(bulk.received > 0 && bulk.received < bulk.size);
        end();
    }
}

/* Nobody reads what is written: it ends when it is stopped, and when the time is over; what did not come is told. */
static void a_deaf_end_does_not_hold_it(void) {
    for (int stopping = 0; stopping < 2; stopping++) {
        int near, silent, idle, far;
        open_ends(LAB_TCP, &near, &silent);
        open_ends(LAB_TCP, &idle, &far);
        prepare(LAB_BULK_STREAM, near, far, 65536);
        bulk.duration_ns = stopping ? 20 * SECOND : 10 * MS;
        pthread_t stopper;
        if (stopping) CHECK(!pthread_create(&stopper, NULL, stop_later, NULL));
        int64_t start_ns = now_ns();
        CHECK_EQUAL(run_bulk(), 0);
        if (stopping) CHECK(!pthread_join(stopper, NULL));
        CHECK_EQUAL(bulk.received, 0);
        CHECK(bulk.sent > 0);
        CHECK_EQUAL(bulk.late, !stopping);
        CHECK(now_ns() - start_ns < (stopping ? PROMPT_NS : STALL_NS + PROMPT_NS));
        close(silent);
        close(idle);
        end();
        stop = 0;
    }
}

/* The far end of what is written to, or read from, is gone: both ends know soon. */
static void a_closed_peer_ends_both(void) {
    for (int which = 0; which < 2; which++) {
        int near, silent, idle, far;
        open_ends(LAB_TCP, &near, &silent);
        open_ends(LAB_TCP, &idle, &far);
        prepare(LAB_BULK_STREAM, near, far, 65536);
        close(which ? idle : silent);
        int64_t start_ns = now_ns(), result = run_bulk();
        CHECK(now_ns() - start_ns < PROMPT_NS);
        CHECK(result == -EPIPE || result == -ECONNRESET);
        CHECK_EQUAL(bulk.far_error, which ? ECONNRESET : 0);
        close(which ? silent : idle);
        end();
    }
}

static void a_pipe_that_nobody_reads(void) {
    begin_stream(2, 65536);
    int null = open("/dev/null", O_RDONLY); /* which is at its end */
    CHECK(dup2(null, bulk.in_fd) == bulk.in_fd);
    CHECK_EQUAL(run_bulk(), -EPIPE);
    CHECK_EQUAL(bulk.far_error, ECONNRESET);
    close(null);
    end();
}

static void descriptors_that_are_no_good(void) {
    for (int kind = LAB_BULK_STREAM; kind <= LAB_BULK_PIPE; kind++) {
        for (int which = 0; which < 2; which++) {
            if (kind == LAB_BULK_DATAGRAM)
                begin_udp(100);
            else
                begin_stream(kind == LAB_BULK_PIPE ? 2 : 0, 100);
            close(which ? bulk.in_fd : bulk.out_fd);
            int64_t start_ns = now_ns(), result = run_bulk();
            CHECK(now_ns() - start_ns < PROMPT_NS);
            if (kind != LAB_BULK_PIPE || !which) CHECK_EQUAL(result, -EBADF);
            if (kind == LAB_BULK_PIPE && which) CHECK(result == -EPIPE && bulk.far_error == EBADF);
            CHECK_EQUAL(bulk.received, 0);
            end();
        }
    }
}

static void a_lack_of_room_is_tried_again(void) {
    begin_udp(100);
    make_room();
    bulk.limit_bytes = 5000;
    tamper.send = (struct fault){.fd = bulk.out_fd, .error = ENOBUFS, .first = 7, .times = 3};
    check_whole(run_bulk());
    CHECK_EQUAL(bulk.messages, 50);
    end();
    begin_udp(100);
    tamper.send = (struct fault){.fd = bulk.out_fd, .error = EPERM, .first = 7, .times = 1};
    CHECK_EQUAL(run_bulk(), -EPERM);
    end();
}

static void signals_and_pieces_change_nothing(void) {
    begin_stream(0, 5000);
    bulk.limit_bytes = 100000;
    tamper.send = (struct fault){.fd = bulk.out_fd, .error = EINTR, .first = 3, .times = 5, .most = 700};
    tamper.recv = (struct fault){.fd = bulk.in_fd, .error = EINTR, .first = 2, .times = 5, .most = 333};
    check_whole(run_bulk());
    CHECK_EQUAL(bulk.received, 100000);
    end();
}

static void a_reader_without_a_thread_or_a_cpu(void) {
    begin_stream(1, 100);
    tamper.thread_error = EAGAIN;
    CHECK_EQUAL(run_bulk(), -EAGAIN);
    tamper.thread_error = 0;
    bulk.far_cpu = CPU_SETSIZE - 1; /* no machine has so many that this one would be among them */
    CHECK_EQUAL(run_bulk(), -EPIPE);
    CHECK_EQUAL(bulk.far_error, EINVAL);
    end();
}

static void fields_of_a_transfer_out_of_range(void) {
    begin_stream(1, 100);
    bulk.limit_bytes = 1000;
    struct lab_bulk sound = bulk;
#define REFUSED(change)                     \
    do {                                    \
        bulk.change;                        \
        CHECK_EQUAL(run_bulk(), -EINVAL);   \
        CHECK_EQUAL(bulk.begun_ns, 0);      \
        bulk = sound;                       \
    } while (0)
    REFUSED(kind = -1);
    REFUSED(kind = LAB_BULK_MEMCPY + 1);
    REFUSED(kind = LAB_BULK_MEMCPY); /* it has no ends */
    REFUSED(out_fd = -1);
    REFUSED(in_fd = -1);
    REFUSED(far_cpu = -1);
    REFUSED(far_cpu = CPU_SETSIZE);
    REFUSED(size = 0);
    REFUSED(size = LAB_MAX_MESSAGE + 1LL);
    REFUSED(duration_ns = 0);
    REFUSED(duration_ns = LAB_MAX_TIMEOUT_NS + 1);
    REFUSED(limit_bytes = -1);
    REFUSED(patience_ns = -1);
    REFUSED(interval_ns = 0);
    REFUSED(sample_room = -1);
    sound.kind = LAB_BULK_DATAGRAM, bulk = sound;
    REFUSED(size = LAB_MIN_DATAGRAM - 1);
    bulk.kind = LAB_BULK_STREAM;
    check_whole(run_bulk());
    end();
}

const struct check bulk_checks[] = {
    CASE(all_bytes_of_tcp, BOTH_FAMILIES | THREADS),
    CASE(all_bytes_of_unix_and_pipes, THREADS),
    CASE(it_ends_when_the_time_is_over, THREADS),
    CASE(samples_stop_where_there_is_no_room, THREADS),
    CASE(memory_is_copied, 0),
    CASE(wrong_bytes_are_counted, THREADS),
    CASE(datagrams_are_counted, BOTH_FAMILIES | THREADS),
    CASE(lost_datagrams_are_no_error, BOTH_FAMILIES | THREADS),
    CASE(datagrams_twice_and_out_of_order, BOTH_FAMILIES | THREADS),
    CASE(strange_datagrams_are_none_of_ours, BOTH_FAMILIES | THREADS),
    CASE(numbers_beyond_the_window, THREADS),
    CASE(a_stopped_transfer_is_whole_so_far, THREADS),
    CASE(a_long_message_does_not_hold_it, THREADS),
    CASE(a_deaf_end_does_not_hold_it, THREADS),
    CASE(a_closed_peer_ends_both, THREADS),
    CASE(a_pipe_that_nobody_reads, THREADS),
    CASE(descriptors_that_are_no_good, THREADS),
    CASE(a_lack_of_room_is_tried_again, THREADS),
    CASE(signals_and_pieces_change_nothing, THREADS),
    CASE(a_reader_without_a_thread_or_a_cpu, THREADS),
    CASE(fields_of_a_transfer_out_of_range, THREADS),
    {0},
};
