/* The least a program can do to time a round trip on a socket: stamp, send, receive, stamp. The limit that the lab's
 * own loop is held against. Shares no source with native/. One call times `count` round trips into rtt_ns. */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

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

static uint16_t checksum(const uint8_t *bytes, int n) {
    uint32_t sum = 0;
    for (int i = 0; i < n; i += 2) sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* Receives until something comes, spinning or sleeping. */
static long get(int fd, void *buffer, size_t n, int flags) {
    for (;;) {
        long got = recv(fd, buffer, n, flags);
        if (got >= 0 || errno != EAGAIN) return got;
    }
}

/* id: the identifier that the socket's own filter lets through. */
int bare_echo(int fd, int family, const uint8_t *target, int id, int cpu, int size, int spin, long count,
              int64_t *rtt_ns) {
    uint8_t request[2048] = {0}, reply[2048];
    struct sockaddr_in to4 = {.sin_family = AF_INET};
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6};
    const struct sockaddr *to = family == 4 ? (void *)&to4 : (void *)&to6;
    socklen_t to_length = family == 4 ? sizeof to4 : sizeof to6;
    memcpy(&to4.sin_addr, target, 4);
    if (family == 6) memcpy(&to6.sin6_addr, target, 16);
    request[0] = family == 4 ? 8 : 128;
    request[4] = (uint8_t)(id >> 8), request[5] = (uint8_t)id;
    pin(cpu);
    for (long i = 0; i < count; i++) {
        request[6] = (uint8_t)(i >> 8), request[7] = (uint8_t)i;
        request[2] = request[3] = 0;
        uint16_t sum = checksum(request, 8 + size);
        request[2] = (uint8_t)(sum >> 8), request[3] = (uint8_t)sum;
        int64_t start = clock_ns();
        if (sendto(fd, request, (size_t)(8 + size), 0, to, to_length) < 0) return -errno;
        long got = get(fd, reply, sizeof reply, spin ? MSG_DONTWAIT : 0);
        rtt_ns[i] = clock_ns() - start;
        if (got < 0) return -errno;
        if (memcmp(reply + (family == 4 ? 20 : 0) + 4, request + 4, 4)) return -EBADMSG;
    }
    return 0;
}

enum { GOODBYE = 0xff }; /* a message that begins so ends the answering thread */

struct answering {
    int fd, cpu, size, flags;
};

static void *answer(void *argument) {
    struct answering *a = argument;
    uint8_t bytes[2048];
    pin(a->cpu);
    for (;;) {
        long got = recv(a->fd, bytes, (size_t)a->size, a->flags);
        if (got <= 0) continue;
        if (bytes[0] == GOODBYE) return NULL;
        send(a->fd, bytes, (size_t)got, 0);
    }
}

/* UDP and TCP; far_cpu < 0: this thread answers itself. */
int bare_reflect(int near, int far, int near_cpu, int far_cpu, int size, int spin, long count, int64_t *rtt_ns) {
    uint8_t request[2048] = {0}, bytes[2048];
    struct answering a = {.fd = far, .cpu = far_cpu, .size = size, .flags = spin ? MSG_DONTWAIT : 0};
    pthread_t thread;
    int flags = a.flags;
    pin(near_cpu);
    if (far_cpu >= 0 && pthread_create(&thread, NULL, answer, &a)) return -EAGAIN;
    for (long i = 0; i < count; i++) {
        int64_t start = clock_ns();
        if (send(near, request, (size_t)size, 0) < 0) return -errno;
        if (far_cpu < 0) {
            if (get(far, bytes, (size_t)size, flags) < 0) return -errno;
            if (send(far, bytes, (size_t)size, 0) < 0) return -errno;
        }
        if (get(near, bytes, (size_t)size, flags) < 0) return -errno;
        rtt_ns[i] = clock_ns() - start;
    }
    if (far_cpu >= 0) {
        request[0] = GOODBYE;
        send(near, request, (size_t)size, 0);
        pthread_join(thread, NULL);
    }
    return 0;
}
