/* Whether each address of a range answers: every one that does, none that does not, and what else comes in. */
#include <linux/icmp.h>
#include <unistd.h>

#include "check.h"
#include "sweep.h"

enum { ID = 0xbee5, COUNT = 1003, MAP_BYTES = (COUNT + 7) / 8 };

static const uint32_t first = 0x7f010203; /* 127.1.2.3 */

static struct lab_sweep sweep;
static unsigned char *answered, *refused; /* of just the size that is needed, so that AddressSanitizer sees more */
static int32_t stop;

static int open_raw(void) {
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    if (fd < 0 && (errno == EPERM || errno == EACCES)) {
        enter_own_network();
        fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    }
    if (fd < 0) skip("no raw socket", errno);
    return fd;
}

/* A sweep over a socket that was set up as lab.sweeps does it, but for the filter of its identifier. */
static void begin(uint32_t from, int64_t count) {
    int room = LAB_SWEEP_BATCH * 2048, fd = open_raw();
    struct icmp_filter only_replies = {.data = ~1U};
    CHECK(!setsockopt(fd, SOL_RAW, ICMP_FILTER, &only_replies, sizeof only_replies));
    CHECK(!setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room));
    sweep = (struct lab_sweep){.fd = fd, .icmp_id = ID, .first = from, .count = count, .tries = 3,
                               .nonce = 0x0123456789abcdef, .patience_ns = 100 * MS};
    size_t bytes = (size_t)(count + 7) / 8;
    answered = calloc(bytes + !bytes, 1);
    refused = calloc(bytes + !bytes, 1);
    CHECK(answered && refused);
    tamper_not();
    tamper.sendmmsg.fd = tamper.recvmmsg.fd = fd;
}

static int64_t run_sweep(void) {
    return lab_sweep_run(&sweep, answered, refused, &stop);
}

static void end(void) {
    close(sweep.fd);
    free(answered);
    free(refused);
}

static bool bit(const unsigned char *map, int64_t i) {
    return map[i / 8] >> i % 8 & 1;
}

/* All answered but those that the kernel refused, and the maps say the same as the counts. */
static void check_whole(void) {
    CHECK_EQUAL(sweep.asked, sweep.count);
    CHECK_EQUAL(sweep.answered + sweep.refused, sweep.count);
    int64_t in_maps[2] = {0, 0};
    for (int64_t i = 0; i < (sweep.count + 7) / 8 * 8; i++) { /* the spare bits at the end too */
        CHECK(!(bit(answered, i) && bit(refused, i)));
        CHECK(i < sweep.count || !(bit(answered, i) || bit(refused, i)));
        in_maps[0] += bit(answered, i);
        in_maps[1] += bit(refused, i);
    }
    CHECK_EQUAL(in_maps[0], sweep.answered);
    CHECK_EQUAL(in_maps[1], sweep.refused);
}

static void every_address_of_a_range_answers(void) {
    const int64_t counts[] = {0, 1, 7, 8, 9, LAB_SWEEP_BATCH - 1, LAB_SWEEP_BATCH, LAB_SWEEP_BATCH + 1, COUNT};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        begin(first, counts[i]);
        CHECK_EQUAL(run_sweep(), counts[i]);
        check_whole();
        CHECK_EQUAL(sweep.refused, 0);
        CHECK_EQUAL(sweep.duplicates + sweep.other_source, 0);
        CHECK(sweep.sent >= counts[i]); /* more if something was late */
        end();
    }
}

/* The last address of 127.0.0.0/8 is a broadcast address, which a socket must ask for. */
static void the_broadcast_address_is_refused(void) {
    begin(0x7fffffff - 20, 21);
    CHECK_EQUAL(run_sweep(), 20);
    check_whole();
    CHECK(bit(refused, 20));
    CHECK_EQUAL(sweep.errors[EACCES], 1);
    end();
}

/* The kernel sends a part of a batch; why it stopped there, it says when the rest is handed to it. */
static void refused_addresses_are_no_others(void) {
    begin(first, COUNT);
    tamper.sendmmsg.most = 5;
    tamper.sendmmsg.error = ENETUNREACH;
    tamper.sendmmsg.first = 1;
    tamper.sendmmsg.times = 2;
    CHECK_EQUAL(run_sweep(), COUNT - 2);
    check_whole();
    CHECK(bit(refused, 5) && bit(refused, 6));
    CHECK_EQUAL(sweep.errors[ENETUNREACH], 2);
    end();
}

static void what_was_lost_is_asked_again(void) {
    begin(first, COUNT);
    tamper.swallowed = 2;
    CHECK_EQUAL(run_sweep(), COUNT);
    check_whole();
    CHECK_EQUAL(sweep.tried, 2);
    CHECK_EQUAL(sweep.sent, COUNT + 2 * LAB_SWEEP_BATCH);
    end();
}

static void silence_ends_after_so_many_tries(void) {
    begin(first, COUNT);
    tamper.swallowed = INT64_MAX;
    int64_t start_ns = now_ns();
    CHECK_EQUAL(run_sweep(), 0);
    CHECK(now_ns() - start_ns >= 3 * 100 * MS);
    CHECK_EQUAL(sweep.asked, COUNT);
    CHECK_EQUAL(sweep.tried, 3);
    CHECK_EQUAL(sweep.sent, 3 * COUNT);
    CHECK_EQUAL(sweep.answered + sweep.refused, 0);
    end();
}

static void a_lack_of_room_is_waited_for(void) {
    const int errors[] = {ENOBUFS, EAGAIN, EINTR};
    for (int i = 0; i < 3; i++) {
        begin(first, COUNT);
        tamper.sendmmsg.error = errors[i];
        tamper.sendmmsg.first = 2;
        tamper.sendmmsg.times = 3;
        CHECK_EQUAL(run_sweep(), COUNT);
        check_whole();
        CHECK_EQUAL(sweep.retried, errors[i] == EINTR ? 0 : 3);
        end();
    }
}

static void a_lack_of_room_without_end_ends_it(void) {
    begin(first, COUNT);
    tamper.sendmmsg.error = ENOBUFS;
    tamper.sendmmsg.first = 1;
    tamper.sendmmsg.times = INT64_MAX;
    tamper.leap_ns = SECOND;
    CHECK_EQUAL(run_sweep(), -ENOBUFS);
    CHECK_EQUAL(sweep.answered, LAB_SWEEP_BATCH);
    end();
}

static void a_socket_that_is_no_good(void) {
    begin(first, COUNT);
    tamper.recvmmsg.error = ENETDOWN;
    tamper.recvmmsg.first = 1;
    tamper.recvmmsg.times = 1;
    CHECK_EQUAL(run_sweep(), -ENETDOWN);
    CHECK_EQUAL(sweep.answered, LAB_SWEEP_BATCH);
    end();
    begin(first, COUNT);
    close(sweep.fd);
    CHECK_EQUAL(run_sweep(), -EBADF);
    CHECK_EQUAL(sweep.sent + sweep.refused, 0);
    end();
}

/* ---- messages that are no reply ---- */

struct forgery {
    unsigned char type, code, sum[2], id[2], number[2];
    uint64_t nonce, address;
};

/* Sends what looks like a reply, from the address `source`, before the sweep has begun. */
static void forge(struct forgery forgery, uint32_t source, size_t length) {
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = open_raw();
    CHECK(!bind(fd, (struct sockaddr *)&from, sizeof from));
    CHECK(!connect(fd, (struct sockaddr *)&to, sizeof to));
    put16(forgery.sum, ~sum16(&forgery, length) & 0xffff);
    send_plain(fd, &forgery, length);
    close(fd);
}

static struct forgery good(uint32_t address) {
    struct forgery forgery = {.type = ICMP_ECHOREPLY, .nonce = sweep.nonce, .address = address};
    put16(forgery.id, ID);
    put16(forgery.number, address & 0xffff);
    return forgery;
}

static void forgeries_count_as_what_they_are(void) {
    begin(first, COUNT);
    struct forgery fake = good(first + 3);
    forge(fake, first + 4, sizeof fake); /* from another address */
    fake.nonce++;
    forge(fake, first + 3, sizeof fake);
    fake = good(first + 3);
    fake.id[0]++;
    forge(fake, first + 3, sizeof fake);
    fake = good(first + 3);
    fake.number[0]++;
    forge(fake, first + 3, sizeof fake);
    fake = good(first + 3);
    fake.code++;
    forge(fake, first + 3, sizeof fake);
    forge(good(first + 3), first + 3, sizeof fake - 1);
    forge(good(first - 1), first - 1, sizeof fake); /* not in the range */
    forge(good(first + COUNT), first + COUNT, sizeof fake);
    CHECK_EQUAL(run_sweep(), COUNT);
    check_whole();
    CHECK_EQUAL(sweep.other_source, 1);
    CHECK_EQUAL(sweep.duplicates, 0);
    CHECK(sweep.foreign >= 7); /* other programs may ping this machine too */
    end();
}

static void a_second_reply_is_a_duplicate(void) {
    begin(first, COUNT);
    for (int i = 0; i < 2; i++) forge(good(first + 3), first + 3, sizeof(struct forgery));
    CHECK_EQUAL(run_sweep(), COUNT);
    check_whole();
    CHECK_EQUAL(sweep.duplicates, 2); /* one of the forged, and the true one */
    end();
}

/* ---- what ends it ---- */

static void *stop_later(void *argument) {
    (void)argument;
    usleep(20000);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void a_stopped_sweep_keeps_what_it_has(void) {
    begin(0x7f000000, 1 << 24);
    pthread_t stopper;
    CHECK(!pthread_create(&stopper, NULL, stop_later, NULL));
    int64_t result = run_sweep();
    CHECK(!pthread_join(stopper, NULL));
    CHECK(result > 0 && result < sweep.count);
    CHECK_EQUAL(result, sweep.answered);
    CHECK(sweep.asked >= sweep.answered && sweep.asked < sweep.count);
    end();
    begin(first, COUNT);
    CHECK_EQUAL(run_sweep(), 0);
    CHECK_EQUAL(sweep.sent + sweep.asked, 0);
    end();
    stop = 0;
}

static void fields_of_a_sweep_out_of_range(void) {
    begin(first, COUNT);
    struct lab_sweep sound = sweep;
#define REFUSED(change)                      \
    do {                                     \
        sweep.change;                        \
        CHECK_EQUAL(run_sweep(), -EINVAL);   \
        CHECK_EQUAL(sweep.sent, 0);          \
        sweep = sound;                       \
    } while (0)
    REFUSED(fd = -1);
    REFUSED(icmp_id = 0x10000);
    REFUSED(tries = 0);
    REFUSED(tries = LAB_MAX_TRIES + 1);
    REFUSED(count = -1);
    REFUSED(count = (int64_t)UINT32_MAX + 2 - first);
    REFUSED(patience_ns = -1);
    REFUSED(patience_ns = LAB_MAX_TIMEOUT_NS + 1);
    CHECK_EQUAL(run_sweep(), COUNT);
    end();
}

const struct check sweep_checks[] = {
    CASE(every_address_of_a_range_answers, 0),
    CASE(the_broadcast_address_is_refused, 0),
    CASE(refused_addresses_are_no_others, 0),
    CASE(what_was_lost_is_asked_again, 0),
    CASE(silence_ends_after_so_many_tries, 0),
    CASE(a_lack_of_room_is_waited_for, 0),
    CASE(a_lack_of_room_without_end_ends_it, 0),
    CASE(a_socket_that_is_no_good, 0),
    CASE(forgeries_count_as_what_they_are, 0),
    CASE(a_second_reply_is_a_duplicate, 0),
    CASE(a_stopped_sweep_keeps_what_it_has, THREADS),
    CASE(fields_of_a_sweep_out_of_range, 0),
    {0},
};
