/* What becomes of one frame: pure functions, so that a seed tells every decision beforehand.
 *
 * Draw k of frame n of direction d is a hash of (seed, d, n, k), not the next value of a generator: the same frame is
 * lost whether or not others are delayed or duplicated too. The hash steps through three nested sequences of
 * splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014). */
#include <math.h>

#include "internal.h"

/* The draws of one frame, by k. Delays come last, as they may be drawn again: two draws a try. */
enum { DRAW_LOSS, DRAW_STATE, DRAW_DUPLICATE, DRAW_REORDER, DRAW_CORRUPT, DRAW_BIT, DRAW_DELAY };
enum { TRIES = 32, MIN_RATE_BPS = 1000 };
#define PARETO_SHAPE 3.0

/* ---- draws ---- */

/* Value `index` of the splitmix64 sequence that starts at `key`. */
static uint64_t splitmix(uint64_t key, uint64_t index) {
    uint64_t z = key + (index + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

uint64_t draw_key(uint64_t seed, int direction) {
    return splitmix(seed, (uint64_t)direction);
}

/* In [0, 1), of the 53 bits that a double holds. */
static double unit(uint64_t frame, unsigned k) {
    return (double)(splitmix(frame, k) >> 11) * 0x1p-53;
}

static bool happens(double probability, uint64_t frame, unsigned k) {
    return probability > 0 && unit(frame, k) < probability;
}

/* ---- decisions ---- */

/* How much later than the delay, in units of ipdv. */
static double deviate(int distribution, uint64_t frame, unsigned k) {
    double u = 1 - unit(frame, k); /* in (0, 1] */
    if (distribution == LAB_UNIFORM) return 1 - 2 * u;
    if (distribution == LAB_PARETO) return (PARETO_SHAPE - 1) * (pow(u, -1 / PARETO_SHAPE) - 1);
    return sqrt(-2 * log(u)) * cos(2 * M_PI * unit(frame, k + 1)); /* Box and Muller, 1958 */
}

static int64_t delay_of(const struct lab_impairment *impairment, uint64_t frame) {
    if (!impairment->ipdv_ns) return impairment->delay_ns;
    for (unsigned try = 0; try < TRIES; try++) {
        double by = (double)impairment->ipdv_ns * deviate(impairment->distribution, frame, DRAW_DELAY + 2 * try);
        int64_t delay_ns = impairment->delay_ns + llround(by);
        if (delay_ns >= 0) return delay_ns;
        if (impairment->cut == LAB_CLIP) break;
    }
    return 0;
}

/* Loss as the state has it, then the state's next step: Gilbert and Elliott's chain, as netem's gemodel. */
static bool is_lost(const struct lab_impairment *impairment, uint64_t frame, bool *bad) {
    bool lost = happens(*bad ? impairment->loss_bad : impairment->loss, frame, DRAW_LOSS);
    if (happens(*bad ? impairment->to_good : impairment->to_bad, frame, DRAW_STATE)) *bad = !*bad;
    return lost;
}

struct verdict decide(const struct lab_impairment *impairment, uint64_t key, int64_t number, bool *bad) {
    uint64_t frame = splitmix(key, (uint64_t)number);
    struct verdict verdict = {.lost = is_lost(impairment, frame, bad)};
    if (verdict.lost) return verdict;
    verdict.duplicated = happens(impairment->duplicate, frame, DRAW_DUPLICATE);
    verdict.reordered = happens(impairment->reorder, frame, DRAW_REORDER);
    verdict.corrupted = happens(impairment->corrupt, frame, DRAW_CORRUPT);
    if (verdict.corrupted) verdict.bit = splitmix(frame, DRAW_BIT);
    if (!verdict.reordered) verdict.delay_ns = delay_of(impairment, frame);
    return verdict;
}

/* ---- what may be asked, and who is spared ---- */

/* False for NaN too. */
static bool probability(double p) {
    return p >= 0 && p <= 1;
}

static bool duration(int64_t ns) {
    return ns >= 0 && ns <= LAB_MAX_TIMEOUT_NS;
}

bool impairment_valid(const struct lab_impairment *i) {
    return duration(i->delay_ns) && duration(i->ipdv_ns) && i->distribution >= LAB_UNIFORM &&
           i->distribution <= LAB_PARETO && (i->cut == LAB_CLIP || i->cut == LAB_REDRAW) && probability(i->loss) &&
           probability(i->loss_bad) && probability(i->to_bad) && probability(i->to_good) &&
           probability(i->duplicate) && probability(i->reorder) && probability(i->corrupt) &&
           (i->rate_bps == 0 || i->rate_bps >= MIN_RATE_BPS) && i->limit >= 1 && i->limit <= LAB_MAX_LIMIT;
}

/* Whether an ICMPv6 message is neighbour discovery (RFC 4861), or multicast listener discovery (RFC 2710, 3810). */
static bool is_discovery_type(unsigned char type) {
    enum { QUERY = 130, REDIRECT = 137, REPORT_2 = 143 };
    return (type >= QUERY && type <= REDIRECT) || type == REPORT_2;
}

/* For a frame that is not itself wrapped in another. */
static bool discovers(const unsigned char *frame, size_t length, size_t header) {
    enum { IP6_HEADER = 40, NEXT_HEADER = 6, HOP_BY_HOP = 0, OPTION = 8, ICMP6 = 58 };
    static const unsigned char arp[] = {0x08, 0x06}, ip6[] = {0x86, 0xdd};
    if (length <= header) return false;
    if (header) {
        const unsigned char *type = frame + header - 2;
        if (!memcmp(type, arp, 2)) return true;
        if (memcmp(type, ip6, 2)) return false;
    }
    const unsigned char *ip = frame + header, *message = ip + IP6_HEADER;
    if (length <= header + IP6_HEADER || ip[0] >> 4 != 6) return false;
    if (ip[NEXT_HEADER] == ICMP6) return is_discovery_type(message[0]);
    /* Multicast listener discovery comes behind an option, "router alert". */
    return ip[NEXT_HEADER] == HOP_BY_HOP && length > header + IP6_HEADER + OPTION && message[0] == ICMP6 &&
           message[1] == 0 && is_discovery_type(message[OPTION]);
}

/* Whether a frame is IPv4 without options, and UDP to VXLAN's port (RFC 7348). */
static bool is_vxlan(const unsigned char *frame, size_t length, size_t header) {
    enum { PROTOCOL = 9, UDP = 17, TO_PORT = 22 };
    static const unsigned char port[] = {4789 >> 8, 4789 & 0xff};
    const unsigned char *ip = frame + header;
    return length > header + LAB_VXLAN_BYTES && ip[0] == 0x45 && ip[PROTOCOL] == UDP && !memcmp(ip + TO_PORT, port, 2);
}

bool is_discovery(const unsigned char *frame, size_t length, size_t header) {
    enum { ETHERNET = 14 };
    if (!is_vxlan(frame, length, header)) return discovers(frame, length, header);
    size_t outer = header + LAB_VXLAN_BYTES;
    return discovers(frame + outer, length - outer, ETHERNET);
}
