/* Socket and pipe calls that must be made whole, in slices short enough to notice a stop flag. */
#include <sys/time.h>
#include <unistd.h>

#include "internal.h"

static struct timeval slice(int64_t ns) {
    struct timeval t = {.tv_sec = ns / 1000000000, .tv_usec = ns % 1000000000 / 1000};
    if (ns && !t.tv_sec && !t.tv_usec) t.tv_usec = 1; /* rounded down to 0 it would mean for ever */
    return t;
}

int set_slices(int fd, int64_t receive_ns, int64_t send_ns) {
    struct timeval receive = slice(receive_ns), send = slice(send_ns);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &receive, sizeof receive)) return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send, sizeof send)) return -errno;
    return 0;
}

int send_all(int kind, int fd, const unsigned char *bytes, size_t length, int64_t patience_ns, const int32_t *stop) {
    size_t sent = 0;
    int64_t deadline_ns = 0; /* set when first needed: the clock is not read in a send that goes through */
    while (sent < length) {
        ssize_t n = kind == LAB_PIPE ? write(fd, bytes + sent, length - sent)
                                     : send(fd, bytes + sent, length - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        else if (__atomic_load_n(stop, __ATOMIC_RELAXED))
            return -ECANCELED;
        else if (!deadline_ns)
            deadline_ns = now_ns() + patience_ns;
        else if (now_ns() > deadline_ns)
            return -ETIME;
    }
    return 0;
}

int receive_more(int kind, int fd, unsigned char *bytes, size_t length, size_t *have, int flags,
                 struct ancillary *ancillary) {
    unsigned char *to = bytes + *have;
    size_t room = length - *have;
    ssize_t n = kind == LAB_PIPE ? read(fd, to, room)
                : ancillary      ? receive_with(fd, to, room, flags, ancillary)
                                 : recv(fd, to, room, flags);
    if (n < 0) return errno == EINTR ? 0 : -errno;
    if (n == 0) return -ECONNRESET;
    *have += (size_t)n;
    if (*have < length) return 0;
    *have = 0;
    return 1;
}
