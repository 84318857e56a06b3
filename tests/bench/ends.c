/* The ends of the wire's bench: they play both sides of a packet flow in one thread, and wait as a plain program does.
 * Shares no source with native/. Calls return a count, or -errno. */
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 32, FRAME = 64, PATIENCE_NS = 1000000000 };

static int64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* Sends `count` frames into one packet socket and receives them from another, `window` under way at most, so that none
 * need be dropped. Returns those received, which is fewer if nothing came for a second; *took_ns is from first to last.
 */
int64_t ends_flood(int from, int to, int cpu, int64_t count, int64_t window, int64_t *took_ns) {
    uint8_t frame[FRAME] = {[12] = 0x88, [13] = 0xb5}, bytes[BATCH][2048];
    struct iovec out = {frame, sizeof frame}, in[BATCH];
    struct mmsghdr outs[BATCH] = {0}, ins[BATCH] = {0};
    memset(frame, 0xff, 6);
    for (int i = 0; i < BATCH; i++) {
        in[i] = (struct iovec){bytes[i], sizeof bytes[i]};
        outs[i].msg_hdr = (struct msghdr){.msg_iov = &out, .msg_iovlen = 1};
        ins[i].msg_hdr = (struct msghdr){.msg_iov = &in[i], .msg_iovlen = 1};
    }
    pin(cpu);
    int64_t sent = 0, received = 0, start = clock_ns(), last = start;
    while (received < count && clock_ns() - last < PATIENCE_NS) {
        int64_t room = window - (sent - received);
        if (room > count - sent) room = count - sent;
        if (room > BATCH) room = BATCH;
        int n = room >= BATCH || (room && sent + room == count) ? sendmmsg(from, outs, (unsigned)room, 0) : 0;
        if (n < 0 && errno != ENOBUFS && errno != EAGAIN) return -errno;
        if (n > 0) sent += n;
        n = recvmmsg(to, ins, BATCH, MSG_DONTWAIT, NULL);
        if (n < 0 && errno != EAGAIN) return -errno;
        if (n > 0) received += n, last = clock_ns();
    }
    *took_ns = last - start;
    return received;
}

/* How late this thread sees `count` moments that lie `ahead_ns` ahead, having slept until `spin_ns` before them. */
int64_t ends_wait(int cpu, int64_t count, int64_t ahead_ns, int64_t spin_ns, int64_t *late_ns) {
    pin(cpu);
    for (int64_t i = 0; i < count; i++) {
        int64_t due = clock_ns() + ahead_ns, wake = due - spin_ns, now;
        struct timespec until = {wake / 1000000000, wake % 1000000000};
        int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        if (error) return -error;
        while ((now = clock_ns()) < due) continue;
        late_ns[i] = now - due;
    }
    return count;
}
