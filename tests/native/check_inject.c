/* Injection: what varies and its checksums, schedules, and what is handed to the kernel, down a pair of unix sockets. */
#include <fcntl.h>
#include <unistd.h>

#include "check.h"
#include "inject_parts.h"

/* ---- what varies ---- */

enum { FRAMES = 1000, FRAME = 80, NUMBER_AT = 40 };

static unsigned char bytes[FRAMES * FRAME];
static int64_t offsets[FRAMES];
static int32_t lengths[FRAMES];
static uint8_t ways[FRAMES], lanes[FRAMES];
static struct lab_packets packets;
static struct lab_lane lane;

/* Frames whose bytes at NUMBER_AT are their number, all of one way. */
static void set_up(int64_t count, int way) {
    memset(&lane, 0, sizeof lane);
    for (uint32_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 7 + i / 256);
    for (int64_t i = 0; i < FRAMES; i++) {
        offsets[i] = i * FRAME, lengths[i] = FRAME, ways[i] = (uint8_t)way;
        memcpy(bytes + i * FRAME + NUMBER_AT, &i, sizeof i);
    }
    packets = (struct lab_packets){.bytes = bytes, .offsets = offsets, .lengths = lengths, .ways = ways};
    packets.frame_count = count;
    for (int i = 0; i < LAB_WAYS; i++) lane.fds[i] = -1;
    lane.lanes = 1, lane.burst = 1, lane.denominator = 1, lane.stall_ns = 20 * SECOND, lane.total = count;
}

/* The checksum of a frame from `start` on, in place. */
static void fill_in(unsigned char *frame, const struct lab_sum *sum) {
    put16(frame + sum->at, 0);
    uint32_t checksum = ~sum16(frame + sum->start, (size_t)(FRAME - sum->start)) & 0xffff;
    put16(frame + sum->at, checksum);
}

static void checksums_stay_right_wherever_a_field_lies(void) {
    set_up(1, LAB_L2);
    struct lab_sum sum = {.at = 12, .start = 2};
    packets.sums = &sum, packets.sum_count = 1;
    for (int size = 1; size <= 8; size++)
        for (int at = 14; at <= FRAME - size; at++)
            for (int shift = 0; shift < 8; shift++) {
                snprintf(trying, sizeof trying, "%d bytes at %d, shifted by %d", size, at, shift);
                uint64_t room = size == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * size) - 1;
                struct lab_field field = {.offset = at, .bytes = size, .shift = shift, .kind = LAB_RANDOM, .every = 1,
                                          .seed = (uint64_t)at, .mask = (room >> shift) & 0xfffffffffffff3ff, .sums = 1};
                packets.fields = &field, packets.field_count = 1;
                fill_in(bytes, &sum);
                struct variants variants;
                variants_init(&variants, &packets);
                unsigned char frame[FRAME], whole[FRAME];
                memcpy(frame, bytes, FRAME);
                for (uint64_t n = 0; n < 5; n++) {
                    variants_make(&variants, n, frame);
                    memcpy(whole, frame, FRAME);
                    fill_in(whole, &sum);
                    CHECK(!memcmp(whole, frame, FRAME));
                    for (int i = 14; i < FRAME; i++) CHECK(frame[i] == bytes[i] || (i >= at && i < at + size));
                    uint64_t value = 0, before = 0;
                    for (int i = at; i < at + size; i++) value = value << 8 | frame[i], before = before << 8 | bytes[i];
                    CHECK_EQUAL(value & ~(field.mask << shift), before & ~(field.mask << shift));
                }
            }
}

static uint64_t number_at(const unsigned char *frame, int at, int size) {
    uint64_t number = 0;
    for (int i = 0; i < size; i++) number = number << 8 | frame[at + i];
    return number;
}

static void values_count_and_repeat_as_they_should(void) {
    set_up(1, LAB_L2);
    const uint64_t list[] = {80, 443, 8080};
    struct lab_field fields[] = {
        {.offset = 0, .bytes = 2, .mask = 0xffff, .kind = LAB_COUNTING, .first = 1000, .step = 3, .count = 7, .every = 1},
        {.offset = 2, .bytes = 8, .mask = UINT64_MAX, .kind = LAB_COUNTING, .first = 5, .step = -1, .every = 1},
        {.offset = 10, .bytes = 4, .mask = 0xffffffff, .kind = LAB_LISTED, .list = list, .count = 3, .every = 4},
        {.offset = 14, .bytes = 2, .mask = 0xffff, .kind = LAB_RANDOM, .first = 100, .count = 5, .every = 2, .seed = 9},
        {.offset = 16, .bytes = 8, .mask = UINT64_MAX, .kind = LAB_CLOCK, .every = 1},
    };
    packets.fields = fields, packets.field_count = 5;
    struct variants variants;
    variants_init(&variants, &packets);
    unsigned char frame[FRAME], again[FRAME];
    uint64_t before = 0, seen = 0;
    for (uint64_t n = 0; n < 1000; n++) {
        variants_make(&variants, n, frame);
        variants_make(&variants, n, again);
        CHECK(!memcmp(frame, again, 16));
        CHECK_EQUAL(number_at(frame, 0, 2), 1000 + 3 * (n % 7));
        CHECK_EQUAL(number_at(frame, 2, 8), 5 - n);
        CHECK_EQUAL(number_at(frame, 10, 4), list[n / 4 % 3]);
        uint64_t drawn = number_at(frame, 14, 2);
        CHECK(drawn >= 100 && drawn < 105);
        seen |= (uint64_t)1 << (drawn - 100);
        if (n % 2) CHECK_EQUAL(drawn, before);
        before = drawn;
        int64_t clock_ns = (int64_t)number_at(frame, 16, 8);
        CHECK(clock_ns <= read_clock(CLOCK_REALTIME) && clock_ns > 1500000000 * SECOND);
    }
    CHECK_EQUAL(seen, 31);
}

/* ---- when ---- */

static int64_t due_ns(struct pacer *pacer, int64_t n) {
    return pacer_next(pacer, n, n % packets.frame_count, FRAME);
}

static void schedules_are_exact(void) {
    set_up(3, LAB_L2);
    struct pacer pacer;
    lane.pace = LAB_PERIODIC, lane.numerator = 1000, lane.denominator = 3;
    pacer_init(&pacer, &packets, &lane);
    for (int64_t n = 0; n < 100000; n++) CHECK_EQUAL(due_ns(&pacer, n), n * 1000 / 3);
    lane.burst = 4;
    pacer_init(&pacer, &packets, &lane);
    for (int64_t n = 0; n < 1000; n++) CHECK_EQUAL(due_ns(&pacer, n), n / 4 * 4 * 1000 / 3);
    lane.pace = LAB_BITS, lane.numerator = SECOND, lane.denominator = 100000000, lane.burst = 1;
    pacer_init(&pacer, &packets, &lane);
    for (int64_t n = 0; n < 1000; n++) CHECK_EQUAL(due_ns(&pacer, n), n * 8 * FRAME * 10);
    const int64_t times_ns[] = {0, 10, 700};
    lane.pace = LAB_TIMES, lane.span_ns = 1050, packets.due_ns = times_ns;
    pacer_init(&pacer, &packets, &lane);
    for (int64_t n = 0; n < 30; n++) CHECK_EQUAL(due_ns(&pacer, n), times_ns[n % 3] + n / 3 * 1050);
}

static void poisson_gaps_are_exponential_and_the_same_again(void) {
    set_up(1, LAB_L2);
    struct pacer pacer, again;
    lane.pace = LAB_POISSON, lane.numerator = 1000, lane.seed = 7;
    pacer_init(&pacer, &packets, &lane);
    pacer_init(&again, &packets, &lane);
    enum { DRAWS = 100000 };
    int64_t before = 0, above_mean = 0;
    for (int64_t n = 0; n < DRAWS; n++) {
        int64_t at_ns = due_ns(&pacer, n);
        CHECK_EQUAL(due_ns(&again, n), at_ns);
        CHECK(n ? at_ns >= before : at_ns == 0);
        above_mean += at_ns - before > 1000;
        before = at_ns;
    }
    CHECK(before > DRAWS * 980LL && before < DRAWS * 1020LL); /* six standard deviations */
    CHECK(above_mean > DRAWS * 0.358 && above_mean < DRAWS * 0.378); /* 1/e, and seven */
}

static void every_lateness_has_its_bin(void) {
    for (int bin = 0; bin < LAB_LATE_BINS; bin++) {
        int64_t edge = lab_late_edge(bin);
        CHECK_EQUAL(late_bin(edge), bin);
        if (bin) CHECK_EQUAL(late_bin(edge - 1), bin - 1);
        if (bin) CHECK(edge - lab_late_edge(bin - 1) <= 1 + edge / 64);
    }
    CHECK_EQUAL(late_bin(-5), 0);
    CHECK_EQUAL(late_bin(INT64_MAX), LAB_LATE_BINS - 1);
    CHECK_EQUAL(lab_late_edge(-1), -EINVAL);
    CHECK_EQUAL(lab_late_edge(LAB_LATE_BINS), -EINVAL);
}

/* ---- sending ---- */

struct taker {
    int fd;
    int64_t numbers[8 * FRAMES]; /* as they came */
    int64_t count;
    pthread_t thread;
};

static void *take(void *argument) {
    struct taker *taker = argument;
    unsigned char frame[FRAME];
    while (recv(taker->fd, frame, sizeof frame, 0) == FRAME)
        memcpy(&taker->numbers[taker->count++], frame + NUMBER_AT, sizeof(int64_t));
    return NULL;
}

static int pair(int other[1]) {
    int ends[2];
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends));
    CHECK(!fcntl(ends[0], F_SETFL, O_NONBLOCK));
    other[0] = ends[1];
    return ends[0];
}

static int64_t run_lane(struct lab_lane *given, const int32_t *stop) {
    CHECK_EQUAL(lab_inject_check(&packets, given, sizeof bytes), 0);
    int64_t size = lab_inject_scratch(&packets);
    unsigned char *scratch = malloc((size_t)size);
    int64_t result = lab_inject_run(&packets, given, scratch, stop);
    free(scratch);
    return result;
}

static const int32_t never;

/* Sends by the lane that was set up to a taker, and closes both. */
static int64_t send_to(struct taker *taker) {
    taker->count = 0;
    int fd = pair(&taker->fd);
    lane.fds[ways[0]] = fd;
    pthread_create(&taker->thread, NULL, take, taker);
    int64_t result = run_lane(&lane, &never);
    close(fd);
    pthread_join(taker->thread, NULL);
    close(taker->fd);
    return result;
}

static struct taker taker;

static void all_arrive_in_order_and_again(void) {
    const int each[] = {LAB_L2, LAB_TAP};
    for (int i = 0; i < 2; i++) {
        set_up(FRAMES, each[i]);
        lane.total = 5 * FRAMES + 3;
        CHECK_EQUAL(send_to(&taker), 0);
        CHECK_EQUAL(taker.count, lane.total);
        for (int64_t n = 0; n < taker.count; n++) CHECK_EQUAL(taker.numbers[n], n % FRAMES);
        CHECK_EQUAL(lane.sent, lane.total);
        CHECK_EQUAL(lane.bytes, lane.total * FRAME);
        CHECK_EQUAL(lane.failed, 0);
        CHECK(lane.ended_ns > lane.begun_ns);
    }
}

static void none_leaves_before_it_is_due(void) {
    set_up(FRAMES, LAB_L2);
    lane.pace = LAB_PERIODIC, lane.numerator = 20000, lane.total = 500, lane.start_ns = now_ns() + MS;
    CHECK_EQUAL(send_to(&taker), 0);
    CHECK_EQUAL(taker.count, 500);
    CHECK(lane.late_min_ns >= 0);
    CHECK(lane.late_max_ns >= lane.late_min_ns);
    CHECK(lane.begun_ns >= lane.start_ns && lane.ended_ns >= lane.start_ns + 499 * 20000);
    int64_t counted = 0;
    for (int i = 0; i < LAB_LATE_BINS; i++) counted += lane.late[i];
    CHECK_EQUAL(counted, 500);
}

static void a_limit_ends_it_at_the_exact_count(void) {
    set_up(FRAMES, LAB_L2);
    lane.pace = LAB_PERIODIC, lane.numerator = 100000, lane.total = 1000000, lane.limit_ns = 20 * MS;
    CHECK_EQUAL(send_to(&taker), 0);
    CHECK_EQUAL(taker.count, 200);
    set_up(FRAMES, LAB_L2);
    lane.total = LAB_MAX_PACKETS, lane.limit_ns = 5 * MS;
    lane.fds[LAB_L2] = open("/dev/null", O_WRONLY);
    for (int i = 0; i < FRAMES; i++) ways[i] = LAB_TAP;
    lane.fds[LAB_TAP] = lane.fds[LAB_L2];
    CHECK_EQUAL(run_lane(&lane, &never), 0);
    CHECK(lane.sent > 0 && lane.sent < lane.total);
    CHECK(lane.ended_ns - lane.begun_ns < 5 * MS + PROMPT_NS);
}

static void lanes_share_the_packets(void) {
    enum { LANES = 3 };
    static struct taker takers[LANES];
    for (int varying = 0; varying < 2; varying++) {
        bool seen[4 * FRAMES] = {0};
        int64_t found = 0;
        for (int which = 0; which < LANES; which++) {
            set_up(FRAMES, LAB_L2);
            for (int i = 0; i < FRAMES; i++) lanes[i] = (uint8_t)(i % 7 % LANES);
            struct lab_field field = {.offset = NUMBER_AT, .bytes = 2, .mask = 0xffff, .kind = LAB_COUNTING, .step = 1,
                                      .count = 100, .every = 1, .flow = 1};
            if (varying) packets.frame_count = 1, packets.fields = &field, packets.field_count = 1;
            else packets.lanes = lanes;
            lane.lane = which, lane.lanes = LANES, lane.total = 4 * FRAMES;
            CHECK_EQUAL(send_to(&takers[which]), 0);
            found += takers[which].count;
            CHECK(takers[which].count > FRAMES / 2);
            if (varying) continue;
            for (int64_t n = 0; n < takers[which].count; n++) {
                int64_t number = takers[which].numbers[n], turn = n / (takers[which].count / 4);
                CHECK_EQUAL(lanes[number], which);
                CHECK(!seen[turn * FRAMES + number]);
                seen[turn * FRAMES + number] = true;
                if (n % (takers[which].count / 4)) CHECK(number > takers[which].numbers[n - 1]);
            }
        }
        CHECK_EQUAL(found, 4 * FRAMES);
    }
}

/* ---- what goes wrong ---- */

static void a_queue_that_nobody_empties_ends_it(void) {
    set_up(FRAMES, LAB_L2);
    int other, fd = pair(&other);
    lane.fds[LAB_L2] = fd, lane.total = 100 * FRAMES, lane.stall_ns = 30 * MS;
    CHECK_EQUAL(run_lane(&lane, &never), -EAGAIN);
    CHECK(lane.sent > 0 && lane.sent < lane.total);
    CHECK(lane.retried > 0);
    CHECK_EQUAL(lane.failed, 0);
    close(fd), close(other);
}

static int32_t flag;

static void *set_flag(void *argument) {
    struct lab_lane *running = argument;
    while (!__atomic_load_n(&running->sent, __ATOMIC_RELAXED)) continue;
    __atomic_store_n(&flag, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void a_stop_ends_it_wherever_it_is(void) {
    for (int paced = 0; paced < 2; paced++) {
        set_up(FRAMES, LAB_L2);
        int other, fd = pair(&other);
        lane.fds[LAB_L2] = fd, lane.total = LAB_MAX_PACKETS;
        if (paced) lane.pace = LAB_PERIODIC, lane.numerator = 100 * SECOND, lane.total = 100; /* waits for a packet */
        pthread_t stopper;
        flag = 0;
        pthread_create(&stopper, NULL, set_flag, &lane);
        int64_t began_ns = now_ns();
        CHECK_EQUAL(run_lane(&lane, &flag), 1);
        CHECK(now_ns() - began_ns < PROMPT_NS);
        pthread_join(stopper, NULL);
        close(fd), close(other);
    }
}

/* Also where it has no packet of its own, at topspeed and far ahead of a schedule, and while nobody takes any. */
static void a_lane_of_none_ends_by_stop_and_limit(void) {
    for (int paced = 0; paced < 2; paced++)
        for (int limited = 0; limited < 2; limited++) {
            set_up(FRAMES, LAB_L2);
            lane.fds[LAB_L2] = 0, lane.lane = 1, lane.lanes = 2, lane.total = LAB_MAX_PACKETS;
            if (paced) lane.pace = LAB_PERIODIC, lane.numerator = 10;
            if (limited) lane.limit_ns = 5 * MS;
            int32_t stopped = !limited;
            int64_t began_ns = now_ns();
            CHECK_EQUAL(run_lane(&lane, &stopped), !limited);
            CHECK(now_ns() - began_ns < PROMPT_NS);
            CHECK_EQUAL(lane.sent, 0);
            CHECK_EQUAL(lane.begun_ns, 0);
        }
    set_up(FRAMES, LAB_L2);
    int other, fd = pair(&other);
    lane.fds[LAB_L2] = fd, lane.total = LAB_MAX_PACKETS, lane.limit_ns = 5 * MS;
    CHECK_EQUAL(run_lane(&lane, &never), 0);
    CHECK(lane.sent > 0 && lane.retried > 0);
    close(fd), close(other);
}

static void what_is_refused_is_counted_and_the_rest_goes_on(void) {
    set_up(FRAMES, LAB_L2);
    int ends[2];
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends));
    int size = 1; /* the least that the kernel grants is some 4.5 kB */
    CHECK(!setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
    lengths[2] = 60000;
    packets.frame_count = 5;
    lane.fds[LAB_L2] = ends[0], lane.total = 5;
    CHECK_EQUAL(run_lane(&lane, &never), 0);
    CHECK_EQUAL(lane.sent, 4);
    CHECK_EQUAL(lane.failed, 1);
    CHECK_EQUAL(lane.errors[EMSGSIZE], 1);
    CHECK_EQUAL(lane.first_failed, 2);
    CHECK_EQUAL(lane.first_error, EMSGSIZE);
    close(ends[0]), close(ends[1]);
}

static void a_descriptor_that_is_no_good_ends_it(void) {
    set_up(FRAMES, LAB_L2);
    lane.fds[LAB_L2] = open("/dev/null", O_WRONLY);
    CHECK_EQUAL(run_lane(&lane, &never), -ENOTSOCK);
    close(lane.fds[LAB_L2]);
    CHECK_EQUAL(run_lane(&lane, &never), -EBADF);
    CHECK_EQUAL(lane.sent, 0);
}

#define REFUSED(error, change)                                                    \
    do {                                                                          \
        set_up(FRAMES, LAB_L2);                                                   \
        lane.fds[LAB_L2] = 0;                                                     \
        struct lab_field field = {.bytes = 2, .mask = 0xffff, .every = 1};        \
        struct lab_sum sum = {.at = 10};                                          \
        (void)field, (void)sum;                                                   \
        change;                                                                   \
        snprintf(trying, sizeof trying, "%s", #change);                           \
        CHECK_EQUAL(lab_inject_check(&packets, &lane, sizeof bytes), error);      \
    } while (0)
#define ONE_FIELD packets.frame_count = 1, packets.fields = &field, packets.field_count = 1
#define ONE_SUM ONE_FIELD, packets.sums = &sum, packets.sum_count = 1

static void what_can_never_be_is_refused(void) {
    REFUSED(0, (void)0);
    REFUSED(0, ONE_SUM);
    REFUSED(-EINVAL, lane.fds[LAB_L2] = -1);
    REFUSED(-EINVAL, ways[7] = LAB_LEFT_OUT);
    REFUSED(-EINVAL, ways[7] = LAB_WAYS);
    REFUSED(-EINVAL, lane.lanes = 0);
    REFUSED(-EINVAL, lane.lane = 1);
    REFUSED(-EINVAL, (packets.lanes = lanes, lanes[3] = 1));
    REFUSED(-EINVAL, lane.total = LAB_MAX_PACKETS + 1);
    REFUSED(-EINVAL, lane.pace = LAB_PERIODIC);
    REFUSED(-EINVAL, lane.pace = LAB_TIMES);
    REFUSED(-EINVAL, (lane.pace = LAB_PERIODIC, lane.numerator = INT64_MAX, lane.total = 2));
    REFUSED(-EINVAL, (lane.pace = LAB_BITS, lane.numerator = SECOND, lane.total = LAB_MAX_PACKETS));
    REFUSED(0, (lane.pace = LAB_BITS, lane.numerator = SECOND, lane.total = LAB_MAX_PACKETS, lane.limit_ns = 1));
    REFUSED(-EINVAL, (lane.pace = LAB_POISSON, lane.numerator = INT64_MAX, lane.limit_ns = 1));
    REFUSED(-EFAULT, offsets[3] = -1);
    REFUSED(-EFAULT, lengths[3] = 0);
    REFUSED(-EFAULT, lengths[FRAMES - 1] = FRAME + 1);
    REFUSED(-EINVAL, (packets.fields = &field, packets.field_count = 1));
    REFUSED(-EINVAL, (ONE_FIELD, field.bytes = 9));
    REFUSED(-EINVAL, (ONE_FIELD, field.every = 0));
    REFUSED(-EINVAL, (ONE_FIELD, field.kind = LAB_LISTED));
    REFUSED(-EINVAL, (ONE_FIELD, field.sums = 1));
    REFUSED(-EFAULT, (ONE_FIELD, field.offset = FRAME - 1));
    REFUSED(-EFAULT, (ONE_SUM, sum.at = FRAME - 1));
}

const struct check inject_checks[] = {
    CASE(checksums_stay_right_wherever_a_field_lies, 0),
    CASE(values_count_and_repeat_as_they_should, 0),
    CASE(schedules_are_exact, 0),
    CASE(poisson_gaps_are_exponential_and_the_same_again, 0),
    CASE(every_lateness_has_its_bin, 0),
    CASE(all_arrive_in_order_and_again, THREADS),
    CASE(none_leaves_before_it_is_due, THREADS),
    CASE(a_limit_ends_it_at_the_exact_count, THREADS),
    CASE(lanes_share_the_packets, THREADS),
    CASE(a_queue_that_nobody_empties_ends_it, 0),
    CASE(a_stop_ends_it_wherever_it_is, THREADS),
    CASE(a_lane_of_none_ends_by_stop_and_limit, 0),
    CASE(what_is_refused_is_counted_and_the_rest_goes_on, 0),
    CASE(a_descriptor_that_is_no_good_ends_it, 0),
    CASE(what_can_never_be_is_refused, 0),
    {0},
};
