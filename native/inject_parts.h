/* What the C files of injection share among themselves. Nothing here is known to Python. */
#pragma once

#include "internal.h"
#include "inject.h"

/* ---- vary.c: packets that differ from a single frame in some fields ---- */

struct variants {
    const struct lab_packets *packets;
    uint32_t constant[LAB_MAX_SUMS]; /* of each checksum: the sum of all that does not vary */
};

void variants_init(struct variants *variants, const struct lab_packets *packets);
/* Makes packet n of a copy of the frame. */
void variants_make(const struct variants *variants, uint64_t n, unsigned char *frame);
/* A number that packets of one flow have in common, spread over all 32 bits. */
uint32_t variants_flow(const struct variants *variants, uint64_t n);

/* ---- due.c: when packets are due ---- */

struct pacer {
    const struct lab_lane *lane;
    const int64_t *times_ns;
    double mean_ns;    /* LAB_POISSON: of the gaps */
    double at_ns;      /* and the time that is reached */
    uint64_t draws;
    uint64_t bits;     /* LAB_BITS: of all packets before this one */
    int64_t turn_ns;   /* LAB_TIMES: when this turn of the frames begins */
    int64_t burst_ns;  /* when the packets of this burst are due */
    int64_t in_burst;  /* how many of them came before */
};

void pacer_init(struct pacer *pacer, const struct lab_packets *packets, const struct lab_lane *lane);
/* When packet n is due, from packet 0. It must be asked of every packet, in order; `frame`: which one it is, of what
 * length in bytes. */
int64_t pacer_next(struct pacer *pacer, int64_t n, int64_t frame, int32_t length);
int late_bin(int64_t late_ns);

/* A draw from 64 bits, evenly distributed, for the number of a seed: Steele, Lea and Flood, Fast splittable pseudorandom
 * number generators (OOPSLA 2014). */
static inline uint64_t draw(uint64_t seed, uint64_t number) {
    uint64_t z = seed + (number + 1) * 0x9E3779B97F4A7C15U;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9U;
    z = (z ^ z >> 27) * 0x94D049BB133111EBU;
    return z ^ z >> 31;
}
