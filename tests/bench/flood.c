/* Sends one UDP frame again and again through lo, from a thread on each of some CPUs, as fast as a packet socket goes.
 * It is delivered, to a socket that nobody reads. Shares no source with native/.
 * Usage: flood 4|6 BYTES SECONDS CPU…, BYTES being the frame's; prints the frames sent, and the seconds it took. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { ETHERNET = 14, MOST = 1514, BATCH = 64, MOST_CPUS = 64 };

static unsigned char frame[MOST];
static size_t frame_bytes;
static double end_s;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The Internet checksum (RFC 1071) of an even number of bytes, over `sum`. */
static uint16_t checksum(const void *bytes, size_t length, uint32_t sum) {
    const uint16_t *words = bytes;
    for (size_t i = 0; i < length / 2; i++) sum += words[i];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* A UDP socket at a port of its own, whose queue is soon full. Returns the port, in network order. */
static in_port_t receiver(int family) {
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in at4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = family == 6 ? sizeof at : sizeof at4;
    if (family == 4) memcpy(&at, &at4, sizeof at4);
    int fd = socket(at.sin6_family, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, length) || getsockname(fd, (struct sockaddr *)&at, &length))
        fail("a UDP socket");
    return at.sin6_port; /* at the same place in both */
}

static void make_frame(int family, in_port_t port) {
    uint16_t rest = (uint16_t)(frame_bytes - ETHERNET); /* the packet */
    size_t header = family == 6 ? sizeof(struct ip6_hdr) : sizeof(struct iphdr);
    struct udphdr udp = {.source = port, .dest = port, .len = htons((uint16_t)(rest - header))};
    *(uint16_t *)(frame + ETHERNET - 2) = htons(family == 6 ? 0x86dd : 0x0800);
    if (family == 6) {
        struct ip6_hdr ip = {.ip6_src = IN6ADDR_LOOPBACK_INIT, .ip6_dst = IN6ADDR_LOOPBACK_INIT};
        ip.ip6_flow = htonl(6u << 28), ip.ip6_plen = udp.len, ip.ip6_nxt = IPPROTO_UDP, ip.ip6_hlim = 64;
        memcpy(frame + ETHERNET, &ip, sizeof ip);
        memcpy(frame + ETHERNET + header, &udp, sizeof udp);
        /* The addresses and the datagram, and of the pseudo-header also the length and the protocol. */
        udp.check = checksum(frame + ETHERNET + 8, rest - 8u, udp.len + (uint32_t)htons(IPPROTO_UDP));
    } else {
        struct iphdr ip = {.version = 4, .ihl = 5, .tot_len = htons(rest), .ttl = 64, .protocol = IPPROTO_UDP};
        ip.saddr = ip.daddr = htonl(INADDR_LOOPBACK);
        ip.check = checksum(&ip, sizeof ip, 0);
        memcpy(frame + ETHERNET, &ip, sizeof ip); /* UDP over IPv4 may go without a checksum */
    }
    memcpy(frame + ETHERNET + header, &udp, sizeof udp);
}

static void *flood(void *argument) {
    int64_t *sent = argument;
    struct sockaddr_ll lo = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("lo"), .sll_halen = 6};
    struct iovec bytes = {frame, frame_bytes};
    struct mmsghdr batch[BATCH] = {0};
    for (int i = 0; i < BATCH; i++)
        batch[i].msg_hdr = (struct msghdr){.msg_name = &lo, .msg_namelen = sizeof lo, .msg_iov = &bytes, .msg_iovlen = 1};
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0) fail("a packet socket");
    while (now_s() < end_s) {
        int n = sendmmsg(fd, batch, BATCH, 0);
        if (n < 0 && errno != ENOBUFS) fail("sendmmsg");
        if (n > 0) *sent += n;
    }
    return NULL;
}

int main(int count, char **words) {
    if (count < 5 || count > 4 + MOST_CPUS) return fputs("usage: flood 4|6 BYTES SECONDS CPU…\n", stderr), 2;
    frame_bytes = (size_t)atoi(words[2]);
    if (frame_bytes % 2 || frame_bytes < 64 || frame_bytes > MOST) return fputs("BYTES: 64 to 1514, even\n", stderr), 2;
    int family = atoi(words[1]), threads = count - 4;
    make_frame(family, receiver(family));
    static struct {
        _Alignas(64) int64_t sent; /* in a cache line of its own */
        pthread_t thread;
    } senders[MOST_CPUS];
    double begun_s = now_s();
    end_s = begun_s + atof(words[3]);
    for (int i = 0; i < threads; i++) {
        cpu_set_t cpu;
        pthread_attr_t pinned;
        CPU_ZERO(&cpu);
        CPU_SET(atoi(words[4 + i]), &cpu);
        pthread_attr_init(&pinned);
        pthread_attr_setaffinity_np(&pinned, sizeof cpu, &cpu);
        errno = pthread_create(&senders[i].thread, &pinned, flood, &senders[i].sent);
        if (errno) fail("a thread");
    }
    int64_t sent = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(senders[i].thread, NULL);
        sent += senders[i].sent;
    }
    printf("%lld %.6f\n", (long long)sent, now_s() - begun_s);
    return 0;
}
