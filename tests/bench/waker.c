/* How late a program is on this machine that does nothing but keep a schedule. Shares no source with native/.
 * Usage: waker sleep|spin PERIOD_NS COUNT; prints how late it was each time, in ns, as int64 of this machine.
 * sleep: by clock_nanosleep alone. spin: by reading the clock again and again; what is late then, others had the CPU. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int count, char **words) {
    if (count != 4) return fputs("usage: waker sleep|spin PERIOD_NS COUNT\n", stderr), 2;
    int64_t period_ns = atoll(words[2]), times = atoll(words[3]);
    int64_t *late_ns = malloc((size_t)times * sizeof *late_ns);
    if (!late_ns) return perror("malloc"), 1;
    memset(late_ns, 1, (size_t)times * sizeof *late_ns); /* touched before the clock runs */
    int64_t begun_ns = now_ns() + period_ns;
    for (int64_t i = 0; i < times; i++) {
        int64_t due_ns = begun_ns + i * period_ns, now;
        if (words[1][1] == 'l') {
            struct timespec due = {.tv_sec = due_ns / 1000000000, .tv_nsec = due_ns % 1000000000};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
            now = now_ns();
        } else {
            while ((now = now_ns()) < due_ns) continue;
        }
        late_ns[i] = now - due_ns;
    }
    return fwrite(late_ns, sizeof *late_ns, (size_t)times, stdout) != (size_t)times;
}
