/* Socket calls that must be made whole, in slices short enough to notice a stop flag. */
#include <sys/time.h>

#include "internal.h"

int set_slice(int fd, int64_t ns) {
    struct timeval slice = {.tv_sec = ns / 1000000000, .tv_usec = ns % 1000000000 / 1000};
    if (!slice.tv_sec && !slice.tv_usec) slice.tv_usec = 1; /* 0 would mean for ever */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof slice)) return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof slice)) return -errno;
    return 0;
}

int send_all(int fd, const unsigned char *bytes, size_t length, const int32_t *stop) {
    size_t sent = 0;
    while (sent < length) {
        ssize_t n = send(fd, bytes + sent, length - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        else if (__atomic_load_n(stop, __ATOMIC_RELAXED))
            return -ECANCELED;
    }
    return 0;
}

int receive_more(int fd, unsigned char *bytes, size_t length, size_t *have, int flags) {
    ssize_t n = recv(fd, bytes + *have, length - *have, flags);
    if (n < 0) return errno == EINTR ? 0 : -errno;
    if (n == 0) return -ECONNRESET;
    *have += (size_t)n;
    if (*have < length) return 0;
    *have = 0;
    return 1;
}
