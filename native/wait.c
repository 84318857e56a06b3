/* How an end waits: for a message, and for a time. */
#include <sched.h>
#include <sys/epoll.h>

#include "internal.h"

enum { MARGIN_SLEEPS = 16, MARGIN_SLEEP_NS = 50000, MAX_MARGIN_NS = 1000000 };

int wait_input(int wait, int epoll_fd, int ms) {
    if (wait != LAB_EPOLL) return 0;
    struct epoll_event event;
    int ready = epoll_wait(epoll_fd, &event, 1, ms);
    if (ready < 0) return errno == EINTR ? -EAGAIN : -errno;
    /* An epoll says nothing of a descriptor that was closed: the receive call does. */
    return ready || ms ? 0 : -EAGAIN;
}

static void sleep_until(int64_t at_ns) {
    struct timespec at = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL); /* a signal only ends it early */
}

int64_t sleep_margin(void) {
    int64_t worst = 0;
    for (int i = 0; i < MARGIN_SLEEPS; i++) {
        int64_t at_ns = now_ns() + MARGIN_SLEEP_NS;
        sleep_until(at_ns);
        int64_t late_ns = now_ns() - at_ns;
        if (late_ns > worst) worst = late_ns;
    }
    return worst < MAX_MARGIN_NS ? worst : MAX_MARGIN_NS;
}

bool wait_until(int64_t due_ns, int64_t margin_ns, int wait, const int32_t *stop) {
    for (;;) {
        int64_t now = now_ns();
        if (now >= due_ns) return true;
        if (__atomic_load_n(stop, __ATOMIC_RELAXED)) return false;
        int64_t sleep_ns = due_ns - margin_ns - now;
        if (wait == LAB_YIELD)
            sched_yield();
        else if (wait != LAB_SPIN && sleep_ns > margin_ns) /* a shorter one would err by more than itself */
            sleep_until(now + (sleep_ns < LAB_SLICE_NS ? sleep_ns : LAB_SLICE_NS));
    }
}
