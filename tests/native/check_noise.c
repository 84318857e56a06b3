/* The noise floor: known gaps land in known bins, and a clock that can't be right is told. */
#include "check.h"

static int64_t counts[LAB_NOISE_BINS];
static struct lab_noise noise;

/* Runs it with a clock that says these times. */
static int64_t run_with(const int64_t *times_ns, int64_t n, int64_t duration_ns, int64_t threshold_ns) {
    tamper.times_ns = times_ns;
    tamper.times_left = n;
    int64_t result = lab_noise_run(duration_ns, threshold_ns, counts, &noise);
    tamper.times_ns = NULL;
    return result;
}

static void known_gaps_land_in_known_bins(void) {
    /* gaps: 0, 3, 25, 25, 1000, 1001 and 70000 ns */
    const int64_t times_ns[] = {5 * SECOND - 50, 5 * SECOND - 50, 5 * SECOND - 47, 5 * SECOND - 22, 5 * SECOND + 3,
                                5 * SECOND + 1003, 5 * SECOND + 2004, 5 * SECOND + 72004};
    CHECK_EQUAL(run_with(times_ns, 8, 72054, 1000), 7);
    CHECK_EQUAL(noise.reads, 7);
    CHECK_EQUAL(noise.duration_ns, 72054);
    CHECK_EQUAL(noise.longest_ns, 70000);
    CHECK_EQUAL(noise.interruptions, 2); /* a gap of just the threshold is none */
    CHECK_EQUAL(noise.stolen_ns, 71001);
    const struct {
        int64_t low, high, count;
    } bins[] = {{0, 1, 1}, {3, 4, 1}, {24, 28, 2}, {896, 1024, 2}, {65536, 81920, 1}};
    int64_t found = 0;
    for (int32_t bin = 0, b = 0; bin < LAB_NOISE_BINS; bin++) {
        found += counts[bin];
        if (!counts[bin]) continue;
        CHECK_EQUAL(lab_noise_edge(bin), bins[b].low);
        CHECK_EQUAL(lab_noise_edge(bin + 1), bins[b].high);
        CHECK_EQUAL(counts[bin], bins[b].count);
        b++;
    }
    CHECK_EQUAL(found, 7);
}

/* Both the shortest and the longest gap of every bin, and what is longer than any. */
static void bins_leave_no_gap_out(void) {
    CHECK_EQUAL(lab_noise_edge(0), 0);
    for (int32_t bin = 0; bin < LAB_NOISE_BINS; bin++) {
        bool last = bin == LAB_NOISE_BINS - 1;
        int64_t edges_ns[] = {lab_noise_edge(bin), last ? INT64_MAX / 2 : lab_noise_edge(bin + 1) - 1};
        CHECK(edges_ns[0] <= edges_ns[1]);
        CHECK(edges_ns[0] < 16 || edges_ns[1] + 1 - edges_ns[0] <= edges_ns[0] / 4 || last);
        for (int i = 0; i < 2; i++) {
            memset(counts, 0, sizeof counts);
            const int64_t times_ns[] = {1, 1 + edges_ns[i], 1 + LAB_MAX_NOISE_NS + edges_ns[i]};
            run_with(times_ns, 3, edges_ns[i] && edges_ns[i] < LAB_MAX_NOISE_NS ? edges_ns[i] : 1, 1);
            CHECK(counts[bin] >= 1);
        }
    }
    CHECK_EQUAL(lab_noise_edge(-1), -EINVAL);
    CHECK_EQUAL(lab_noise_edge(LAB_NOISE_BINS), -EINVAL);
}

static void a_clock_that_goes_back_is_told(void) {
    const int64_t times_ns[] = {SECOND, SECOND + 20, SECOND + 19};
    CHECK_EQUAL(run_with(times_ns, 3, 1000, 1000), -ERANGE);
}

static void a_clock_that_stands_still_is_told(void) {
    const int64_t times_ns[] = {SECOND};
    CHECK_EQUAL(run_with(times_ns, 1, 1000, 1000), -ERANGE);
    const int64_t then_ns[] = {SECOND, SECOND + 1};
    CHECK_EQUAL(run_with(then_ns, 2, 1000, 1000), 1000 / LAB_FASTEST_READ_NS + 1);
    CHECK_EQUAL(noise.duration_ns, 1);
}

static void a_real_clock_is_watched_for_as_long_as_asked(void) {
    CHECK(lab_noise_run(5 * MS, 1000, counts, &noise) > 0);
    CHECK(noise.duration_ns >= 5 * MS);
    CHECK(noise.stolen_ns <= noise.duration_ns && noise.longest_ns <= noise.duration_ns);
    int64_t gaps = 0;
    for (int bin = 0; bin < LAB_NOISE_BINS; bin++) gaps += counts[bin];
    CHECK_EQUAL(gaps, noise.reads);
}

static void times_out_of_range_are_refused(void) {
    CHECK_EQUAL(lab_noise_run(0, 1000, counts, &noise), -EINVAL);
    CHECK_EQUAL(lab_noise_run(LAB_MAX_NOISE_NS + 1, 1000, counts, &noise), -EINVAL);
    CHECK_EQUAL(lab_noise_run(1000, 0, counts, &noise), -EINVAL);
}

const struct check noise_checks[] = {
    CASE(known_gaps_land_in_known_bins, 0),
    CASE(bins_leave_no_gap_out, 0),
    CASE(a_clock_that_goes_back_is_told, 0),
    CASE(a_clock_that_stands_still_is_told, 0),
    CASE(a_real_clock_is_watched_for_as_long_as_asked, 0),
    CASE(times_out_of_range_are_refused, 0),
    {0},
};
