/* What reading the clock costs, how finely it steps, and how far apart two clocks are. */
#include "internal.h"

int64_t lab_clock_cost(int64_t reads, int64_t *step_ns) {
    int64_t start = now_ns(), last = start, step = INT64_MAX;
    if (reads < 1) return -EINVAL;
    for (int64_t i = 0; i < reads; i++) {
        int64_t t = now_ns();
        if (t != last && t - last < step) step = t - last;
        last = t;
    }
    *step_ns = step == INT64_MAX ? 0 : step;
    return (last - start) * 1000 / reads;
}

int64_t clock_offset(int64_t *width_ns) {
    int64_t offset = 0, narrowest = INT64_MAX;
    for (int i = 0; i < 16; i++) {
        int64_t before = now_ns(), real = read_clock(CLOCK_REALTIME), width = now_ns() - before;
        if (width >= narrowest) continue;
        narrowest = width;
        offset = real - (before + width / 2);
    }
    *width_ns = narrowest;
    return offset;
}
