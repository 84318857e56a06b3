/* The least a program can do to send one packet again and again over a raw socket: the limit that the lab's own loop is
 * held against. Shares no source with native/.
 * Usage: sender 4|6 COUNT < PACKET, from its IP header on; prints the packets sent, and the seconds it took. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, MOST = 65536 };

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int count, char **words) {
    static unsigned char packet[MOST];
    struct sockaddr_in to4 = {.sin_family = AF_INET};
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6};
    struct mmsghdr batch[BATCH] = {0};
    if (count != 3) return fputs("usage: sender 4|6 COUNT < PACKET\n", stderr), 2;
    int family = atoi(words[1]) == 6 ? AF_INET6 : AF_INET;
    long total = atol(words[2]), sent = 0;
    struct iovec bytes = {packet, fread(packet, 1, MOST, stdin)};
    if (bytes.iov_len < sizeof(struct ip6_hdr)) return fputs("no packet on standard input\n", stderr), 2;
    memcpy(&to4.sin_addr, packet + offsetof(struct iphdr, daddr), sizeof to4.sin_addr);
    memcpy(&to6.sin6_addr, packet + offsetof(struct ip6_hdr, ip6_dst), sizeof to6.sin6_addr);
    for (int i = 0; i < BATCH; i++) {
        struct msghdr *message = &batch[i].msg_hdr;
        message->msg_name = family == AF_INET ? (void *)&to4 : (void *)&to6;
        message->msg_namelen = family == AF_INET ? sizeof to4 : sizeof to6;
        message->msg_iov = &bytes, message->msg_iovlen = 1;
    }
    int fd = socket(family, SOCK_RAW, IPPROTO_RAW);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", sizeof "lo")) fail("a raw socket on lo");
    double begun_s = now_s();
    while (sent < total) {
        int n = sendmmsg(fd, batch, total - sent < BATCH ? (unsigned)(total - sent) : BATCH, 0);
        if (n < 0 && errno != ENOBUFS) fail("sendmmsg");
        if (n > 0) sent += n;
    }
    printf("%ld %.9f\n", sent, now_s() - begun_s);
    return 0;
}
