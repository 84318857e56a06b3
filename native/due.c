/* When packets are due, by a schedule that no delay moves: each time is worked out from the first packet's. */
#include <math.h>

#include "inject_parts.h"

void pacer_init(struct pacer *p, const struct lab_packets *packets, const struct lab_lane *lane) {
    *p = (struct pacer){.lane = lane, .times_ns = packets->due_ns};
    p->mean_ns = (double)lane->numerator / (double)lane->denominator;
}

/* units * numerator / denominator, exactly, rounded down. */
static int64_t scaled(const struct lab_lane *lane, uint64_t units) {
    return (int64_t)((unsigned __int128)units * (uint64_t)lane->numerator / (uint64_t)lane->denominator);
}

/* From the exponential distribution with mean 1; the draw is never 0. */
static double exponential(struct pacer *p) {
    return -log(((double)(draw(p->lane->seed, p->draws++) >> 11) + 1) * 0x1p-53);
}

static int64_t due(struct pacer *p, int64_t n, int64_t frame, int32_t length) {
    uint64_t bits = p->bits;
    double at_ns = p->at_ns;
    switch (p->lane->pace) {
    case LAB_PERIODIC: return scaled(p->lane, (uint64_t)n);
    case LAB_POISSON:
        p->at_ns += p->mean_ns * exponential(p);
        return (int64_t)at_ns;
    case LAB_BITS:
        p->bits += 8 * (uint64_t)length;
        return scaled(p->lane, bits);
    case LAB_TIMES:
        if (frame == 0 && n) p->turn_ns += p->lane->span_ns;
        return p->turn_ns + p->times_ns[frame];
    default: return 0;
    }
}

int64_t pacer_next(struct pacer *p, int64_t n, int64_t frame, int32_t length) {
    int64_t at_ns = due(p, n, frame, length);
    if (p->in_burst == 0) p->burst_ns = at_ns;
    if (++p->in_burst >= p->lane->burst) p->in_burst = 0;
    return p->burst_ns;
}

/* ---- lateness ---- */

enum { PARTS = 64, PARTS_BITS = 6 };

int late_bin(int64_t late_ns) {
    if (late_ns < PARTS) return late_ns < 0 ? 0 : (int)late_ns;
    int power = 63 - __builtin_clzll((uint64_t)late_ns) - PARTS_BITS;
    int64_t bin = (int64_t)power * PARTS + (late_ns >> power);
    return bin < LAB_LATE_BINS ? (int)bin : LAB_LATE_BINS - 1;
}

int64_t lab_late_edge(int32_t bin) {
    if (bin < 0 || bin >= LAB_LATE_BINS) return -EINVAL;
    if (bin < PARTS) return bin;
    return (int64_t)(bin % PARTS + PARTS) << (bin / PARTS - 1);
}
