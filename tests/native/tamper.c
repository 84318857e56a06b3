/* Stands between the code under test and the kernel (ld --wrap), and does to messages and calls what the tables say.
 *
 * Each way and each fault is about one descriptor, so only the thread that uses it touches its counters. */
#include <unistd.h>

#include "check.h"

struct tamper tamper;

ssize_t __real_send(int fd, const void *bytes, size_t length, int flags);
ssize_t __real_sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t n);
ssize_t __real_recv(int fd, void *bytes, size_t length, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
int __real_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int __real_recvmmsg(int fd, struct mmsghdr *messages, unsigned room, int flags, struct timespec *timeout);
ssize_t __real_read(int fd, void *bytes, size_t length);
ssize_t __real_write(int fd, const void *bytes, size_t length);
int __real_connect(int fd, const struct sockaddr *to, socklen_t length);
int __real_accept4(int fd, struct sockaddr *from, socklen_t *length, int flags);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __real_clock_gettime(clockid_t clock, struct timespec *time);

ssize_t __wrap_send(int fd, const void *bytes, size_t length, int flags);
ssize_t __wrap_sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t n);
ssize_t __wrap_recv(int fd, void *bytes, size_t length, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned room, int flags, struct timespec *timeout);
ssize_t __wrap_read(int fd, void *bytes, size_t length);
ssize_t __wrap_write(int fd, const void *bytes, size_t length);
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t length);
int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *length, int flags);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);

void tamper_not(void) {
    tamper = (struct tamper){
        .requests.fd = -1,
        .replies.fd = -1,
        .send.fd = -1,
        .recv.fd = -1,
        .recvmsg.fd = -1,
        .sendmmsg.fd = -1,
        .recvmmsg.fd = -1,
        .connect.fd = -1,
        .accept.fd = -1,
        .read.fd = -1,
        .write.fd = -1,
    };
}

void tamper_with(const struct trial *trial, const enum action *requests, const enum action *replies) {
    uint64_t count = (uint64_t)trial->stream.count;
    tamper_not();
    tamper.requests = (struct way){.fd = trial->stream.near_fd, .actions = requests, .count = count};
    tamper.replies = (struct way){.fd = trial->stream.far_fd, .actions = replies, .count = count};
}

void send_plain(int fd, const void *bytes, size_t length) {
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    CHECK(sendmsg(fd, &(struct msghdr){.msg_iov = &part, .msg_iovlen = 1}, 0) == (ssize_t)length);
}

/* Whether this call fails; errno says why. */
static bool strikes(struct fault *fault, int fd) {
    if (fd != fault->fd) return false;
    int64_t call = fault->calls++;
    if (call == fault->first && fault->hook) fault->hook(fault->argument);
    if (!fault->error || call < fault->first || call - fault->first >= fault->times) return false;
    if (fault->every && call % fault->every == 0) return false;
    errno = fault->error;
    return true;
}

/* Counts a message and says what becomes of it. TCP may give the rest of a message that is no message: it passes. */
static enum action meet(struct way *way, const unsigned char *payload, struct payload *head) {
    memcpy(head, payload, LAB_MIN_PAYLOAD_ICMP);
    if (head->seq == SEQ_GOODBYE)
        way->goodbyes++;
    else if (head->seq >= SEQ_UNRECORDED)
        way->unrecorded++;
    else
        way->sent++;
    return way->actions && head->seq < way->count ? way->actions[head->seq] : PASS;
}

static void hold(struct way *way, const unsigned char *bytes, size_t length, bool past) {
    memcpy(way->held, bytes, length);
    way->held_length = length;
    way->held_past = past;
}

static void let_go(struct way *way) {
    CHECK_EQUAL(__real_send(way->fd, way->held, way->held_length, MSG_NOSIGNAL), (ssize_t)way->held_length);
    way->held_length = 0;
}

static void send_changed(int fd, const unsigned char *bytes, size_t length, struct payload head) {
    unsigned char changed[LAB_MAX_PAYLOAD];
    memcpy(changed, bytes, length);
    memcpy(changed, &head, LAB_MIN_PAYLOAD_ICMP);
    CHECK_EQUAL(__real_send(fd, changed, length, MSG_NOSIGNAL), (ssize_t)length);
}

/* Does something else than to send the message as it is. */
static void mistreat(struct way *way, enum action action, const unsigned char *bytes, size_t length,
                     struct payload head) {
    int fd = way->fd;
    size_t step = 7;
    switch (action) {
        case PASS:
        case LOSE: break;
        case TWICE:
            for (int i = 0; i < 2; i++) CHECK(__real_send(fd, bytes, length, MSG_NOSIGNAL) > 0);
            break;
        case HOLD_TO_NEXT: hold(way, bytes, length, false); break;
        case HOLD_PAST_NEXT: hold(way, bytes, length, true); break;
        case HALF:
            CHECK(__real_send(fd, bytes, length / 2, MSG_NOSIGNAL) > 0);
            hold(way, bytes + length / 2, length - length / 2, false);
            break;
        case PIECES:
            for (size_t at = 0; at < length; at += step)
                CHECK(__real_send(fd, bytes + at, length - at < step ? length - at : step, MSG_NOSIGNAL) > 0);
            break;
        case BEYOND:
            head.seq += way->count;
            send_changed(fd, bytes, length, head);
            break;
        case OTHER_NONCE:
            head.nonce++;
            send_changed(fd, bytes, length, head);
            break;
        case CUT: CHECK(__real_send(fd, bytes, CUT_BYTES, 0) == CUT_BYTES); break;
        case CUT_SHORT: CHECK(__real_send(fd, bytes, LAB_MIN_PAYLOAD - 1, 0) > 0); break;
        case EMPTY: CHECK(__real_send(fd, bytes, 0, 0) == 0); break;
    }
}

static ssize_t carry(struct way *way, const void *bytes, size_t length, int flags) {
    struct payload head;
    enum action action = meet(way, bytes, &head);
    bool after = way->held_length && way->held_past;
    ssize_t sent = (ssize_t)length;
    if (way->held_length && !after) let_go(way);
    if (action == PASS)
        sent = __real_send(way->fd, bytes, length, flags);
    else
        mistreat(way, action, bytes, length, head);
    if (after) let_go(way);
    return sent;
}

/* ---- the calls ---- */

ssize_t __wrap_send(int fd, const void *bytes, size_t length, int flags) {
    if (strikes(&tamper.send, fd)) return -1;
    bool little = fd == tamper.send.fd && tamper.send.most && tamper.send.most < length;
    if (little) return __real_send(fd, bytes, tamper.send.most, flags);
    if (fd == tamper.requests.fd) return carry(&tamper.requests, bytes, length, flags);
    if (fd == tamper.replies.fd) return carry(&tamper.replies, bytes, length, flags);
    return __real_send(fd, bytes, length, flags);
}

/* ICMP: its header first, and losing is all that can be done to a request. */
ssize_t __wrap_sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t n) {
    struct payload head;
    if (strikes(&tamper.send, fd)) return -1;
    if (meet(&tamper.requests, (const unsigned char *)bytes + 8, &head) == LOSE) return (ssize_t)length;
    return __real_sendto(fd, bytes, length, flags, to, n);
}

ssize_t __wrap_recv(int fd, void *bytes, size_t length, int flags) {
    if (strikes(&tamper.recv, fd)) return -1;
    bool little = fd == tamper.recv.fd && tamper.recv.most && tamper.recv.most < length;
    return __real_recv(fd, bytes, little ? tamper.recv.most : length, flags);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags) {
    return strikes(&tamper.recvmsg, fd) ? -1 : __real_recvmsg(fd, message, flags);
}

int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
    if (strikes(&tamper.sendmmsg, fd)) return -1;
    bool ours = fd == tamper.sendmmsg.fd;
    if (ours && tamper.sendmmsg.calls <= tamper.swallowed) return (int)count;
    return __real_sendmmsg(fd, messages, ours && tamper.sendmmsg.most ? (unsigned)tamper.sendmmsg.most : count, flags);
}

int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned room, int flags, struct timespec *timeout) {
    return strikes(&tamper.recvmmsg, fd) ? -1 : __real_recvmmsg(fd, messages, room, flags, timeout);
}

ssize_t __wrap_read(int fd, void *bytes, size_t length) {
    return strikes(&tamper.read, fd) ? -1 : __real_read(fd, bytes, length);
}

ssize_t __wrap_write(int fd, const void *bytes, size_t length) {
    return strikes(&tamper.write, fd) ? -1 : __real_write(fd, bytes, length);
}

int __wrap_connect(int fd, const struct sockaddr *to, socklen_t length) {
    return strikes(&tamper.connect, fd) ? -1 : __real_connect(fd, to, length);
}

int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *length, int flags) {
    return strikes(&tamper.accept, fd) ? -1 : __real_accept4(fd, from, length, flags);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    if (tamper.thread_error) return tamper.thread_error;
    return __real_pthread_create(thread, attributes, run, argument);
}

static int64_t leapt_ns;

int __wrap_clock_gettime(clockid_t clock, struct timespec *time) {
    if (tamper.times_ns && clock == CLOCK_MONOTONIC) {
        *time = (struct timespec){.tv_sec = *tamper.times_ns / SECOND, .tv_nsec = *tamper.times_ns % SECOND};
        if (tamper.times_left > 1) tamper.times_ns++, tamper.times_left--;
        return 0;
    }
    int failed = __real_clock_gettime(clock, time);
    if (tamper.coarse_ns) time->tv_nsec -= time->tv_nsec % tamper.coarse_ns;
    if (clock == CLOCK_REALTIME && tamper.real_step_ns &&
        __atomic_fetch_sub(&tamper.real_step_after, 1, __ATOMIC_RELAXED) <= 0)
        time->tv_sec += tamper.real_step_ns / SECOND;
    int64_t leap_ns = clock == CLOCK_MONOTONIC ? __atomic_load_n(&tamper.leap_ns, __ATOMIC_RELAXED) : 0;
    if (leap_ns) {
        int64_t ns = time->tv_nsec + __atomic_add_fetch(&leapt_ns, leap_ns, __ATOMIC_RELAXED);
        time->tv_sec += ns / SECOND;
        time->tv_nsec = ns % SECOND;
    }
    return failed;
}
