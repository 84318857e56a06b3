/* What else happens on a CPU: the gaps between reads of the clock, while nothing is done but to read it. */
#include "internal.h"

/* A gap's two leading bits below its highest one choose among the four bins of its power of two. */
static int32_t bin_of(int64_t gap_ns) {
    if (gap_ns < 4) return (int32_t)gap_ns;
    int power = 63 - __builtin_clzll((uint64_t)gap_ns);
    int32_t bin = 4 * (power - 1) + (int32_t)(gap_ns >> (power - 2) & 3);
    return bin < LAB_NOISE_BINS ? bin : LAB_NOISE_BINS - 1;
}

int64_t lab_noise_edge(int32_t bin) {
    if (bin < 0 || bin >= LAB_NOISE_BINS) return -EINVAL;
    return bin < 4 ? bin : (int64_t)(4 + bin % 4) << (bin / 4 - 1);
}

int64_t lab_noise_run(int64_t duration_ns, int64_t threshold_ns, int64_t *counts, struct lab_noise *noise) {
    if (duration_ns < 1 || duration_ns > LAB_MAX_NOISE_NS || threshold_ns < 1) return -EINVAL;
    struct lab_noise seen = {0};
    int64_t most = duration_ns / LAB_FASTEST_READ_NS + 1;
    int64_t start = now_ns(), last = start;
    while (seen.reads < most && last - start < duration_ns) {
        int64_t now = now_ns(), gap = now - last;
        if (gap < 0) return -ERANGE;
        last = now;
        seen.reads++;
        counts[bin_of(gap)]++;
        if (gap > seen.longest_ns) seen.longest_ns = gap;
        if (gap > threshold_ns) {
            seen.interruptions++;
            seen.stolen_ns += gap;
        }
    }
    seen.duration_ns = last - start;
    if (!seen.duration_ns) return -ERANGE;
    *noise = seen;
    return seen.reads;
}
