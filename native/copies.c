/* Linking the two copies of a packet on lo: it passes the tap as it goes out, and again as it comes in.
 *
 * Between them it waits in a queue of its CPU, first in, first out. One ring holds one CPU's frames in the order in which
 * they passed, so what comes in is the oldest of what went out there; its bytes confirm that. Equal bytes alone would not
 * do: probes of one stream may have the same. Where a frame is missing (the ring was full, the packet was dropped, or
 * took another CPU's queue) the order no longer tells, and nothing is linked until it does again:
 *
 * - some packets went out one after the other and came in so, and none is like another that is on its way; or
 * - a packet goes out when none had passed for a while: those that were on their way then will not come any more. */
#include <stdlib.h>

#include "capture.h"

/* No queue holds a packet for so long: a frame that passes after such a silence was sent after it. */
enum { SILENCE_NS = 10000000 };
/* How many of those on their way are looked at to find the order again: netdev_max_backlog by default. */
enum { SEARCHED = 1000 };
/* How many in a row must have come in as they went out. */
enum { SURE_RUN = 8 };

/* ---- keys ---- */

static uint64_t load64(const unsigned char *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* The product's halves, folded: each bit of the result hangs on all of both. */
static uint64_t fold(uint64_t a, uint64_t b) {
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t frame_key(const unsigned char *bytes, size_t captured, size_t length) {
    static const uint64_t odd[] = {0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5};
    uint64_t one = odd[0] ^ length, two = odd[1] ^ captured;
    const unsigned char *end = bytes + captured;
    for (; end - bytes >= 32; bytes += 32) { /* two chains, as each must wait for its last product */
        one = fold(load64(bytes) ^ one, load64(bytes + 8) ^ odd[2]);
        two = fold(load64(bytes + 16) ^ two, load64(bytes + 24) ^ odd[3]);
    }
    unsigned char rest[32] = {0};
    memcpy(rest, bytes, (size_t)(end - bytes));
    one = fold(load64(rest) ^ one, load64(rest + 8) ^ odd[2]);
    two = fold(load64(rest + 16) ^ two, load64(rest + 24) ^ odd[3]);
    return fold(one ^ odd[2], two ^ odd[3]);
}

/* ---- the queue ---- */

static struct waiting *waiting_at(struct lane *lane, uint32_t place) {
    return &lane->waiting[(lane->first + place) % LANE_ROOM];
}

/* Forgets the oldest ones: their other copies were not found. */
static void forget(struct lane *lane, uint32_t count) {
    lane->first = (lane->first + count) % LANE_ROOM;
    lane->count -= count;
    add(&lane->counts->unlinked, count);
}

static void take_oldest(struct lane *lane) {
    lane->first = (lane->first + 1) % LANE_ROOM;
    lane->count--;
    add(&lane->counts->linked, 1);
}

int lane_init(struct lane *lane, struct lab_interface_counts *counts, int64_t now_ns) {
    *lane = (struct lane){.waiting = calloc(LANE_ROOM, sizeof *lane->waiting), .counts = counts, .last_ns = now_ns};
    return lane->waiting ? 0 : -ENOMEM;
}

void lane_break(struct lane *lane) {
    forget(lane, lane->count);
    lane->sure = false;
    lane->run = 0;
}

void lane_out(struct lane *lane, uint64_t key, uint64_t id, int64_t time_ns) {
    if (time_ns - lane->last_ns > SILENCE_NS) {
        lane_break(lane);
        lane->sure = true;
    }
    lane->last_ns = time_ns;
    if (lane->count == LANE_ROOM) lane_break(lane); /* it is not a queue that packets come back from */
    *waiting_at(lane, lane->count++) = (struct waiting){.key = key, .id = id};
}

/* Looks for the place in the queue where the copies that come in are now. Returns the id of this one's packet if it and
 * those before it leave no doubt. */
static uint64_t search(struct lane *lane, uint64_t key) {
    if (lane->count > SEARCHED) forget(lane, lane->count - SEARCHED);
    uint32_t found = 0, matches = 0;
    for (uint32_t place = 0; place < lane->count && matches < 2; place++) /* of a flood all are alike: don't read on */
        if (waiting_at(lane, place)->key == key) found = place, matches++;
    uint64_t id = matches == 1 ? waiting_at(lane, found)->id : 0;
    bool follows = id && found && lane->run && waiting_at(lane, found - 1)->id == lane->last_found;
    lane->run = follows ? lane->run + 1 : id != 0;
    lane->last_found = id;
    if (lane->run < SURE_RUN) return 0;
    forget(lane, found);
    take_oldest(lane);
    lane->sure = true;
    return id;
}

uint64_t lane_in(struct lane *lane, uint64_t key, int64_t time_ns) {
    lane->last_ns = time_ns;
    uint64_t id = 0;
    if (lane->sure && lane->count && waiting_at(lane, 0)->key == key) {
        id = waiting_at(lane, 0)->id;
        take_oldest(lane);
    } else if (lane->sure) {
        lane_break(lane);
    } else {
        id = search(lane, key);
    }
    if (!id) add(&lane->counts->unlinked, 1);
    return id;
}
