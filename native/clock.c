/* What reading the clock costs, and how finely it steps. */
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
