/* One ring of a packet socket (TPACKET_V3, packet(7) and the kernel's packet_mmap.rst), read where the kernel writes it.
 *
 * The kernel fills blocks one after another, and hands a block over when it is full or its time is up. If none is free it
 * drops frames until one is ("freezes"), and marks the next block that it hands over TP_STATUS_LOSING, unless somebody
 * has asked for its statistics since. So they are asked for in ring_count alone: where a loss is, and at the end. */
#include <linux/filter.h>
#include <sys/mman.h>

#include "capture.h"

/* A frame is stamped before it is put into its block, and how long before, nobody knows: an interrupt, or a host that
 * runs something else, may come between. */
enum { MARGIN_NS = 1000000 };
/* Where the address behind a frame's header begins. */
enum { HEADER_BYTES = (sizeof(struct tpacket3_hdr) + TPACKET_ALIGNMENT - 1) / TPACKET_ALIGNMENT * TPACKET_ALIGNMENT };

static struct tpacket_block_desc *block_at(const struct ring *ring, uint32_t block) {
    return (struct tpacket_block_desc *)(ring->memory + (size_t)block * ring->block_bytes);
}

static uint32_t block_status(const struct ring *ring, uint32_t block) {
    return __atomic_load_n(&block_at(ring, block)->hdr.bh1.block_status, __ATOMIC_ACQUIRE);
}

int ring_map(struct ring *ring, const struct lab_ring *plan) {
    if (plan->block_bytes <= 0 || plan->blocks < 2) return -EINVAL;
    *ring = (struct ring){.fd = plan->fd, .block_bytes = (uint32_t)plan->block_bytes, .blocks = (uint32_t)plan->blocks};
    size_t bytes = (size_t)ring->block_bytes * ring->blocks;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, 0);
    if (memory == MAP_FAILED) return -errno;
    ring->memory = memory;
    return 0;
}

void ring_unmap(struct ring *ring) {
    if (ring->memory) munmap(ring->memory, (size_t)ring->block_bytes * ring->blocks);
    ring->memory = NULL;
}

/* Gives the block back. A block that the kernel has not begun to fill has no frames for anyone who looks. */
static void give_back(struct ring *ring) {
    struct tpacket_hdr_v1 *header = &block_at(ring, ring->block)->hdr.bh1;
    __atomic_store_n(&header->num_pkts, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&header->block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    ring->block = (ring->block + 1) % ring->blocks;
}

/* Opens the next block that has frames. */
static bool open_block(struct ring *ring) {
    while (!ring->left) {
        uint32_t status = block_status(ring, ring->block);
        if (!(status & TP_STATUS_USER)) return false;
        const struct tpacket_block_desc *block = block_at(ring, ring->block);
        ring->left = block->hdr.bh1.num_pkts;
        ring->at = (unsigned char *)block + block->hdr.bh1.offset_to_first_pkt;
        ring->after_loss |= (status & TP_STATUS_LOSING) != 0;
        if (!ring->left) give_back(ring);
    }
    return true;
}

bool ring_peek(struct ring *ring, struct sighting *next) {
    if (!open_block(ring)) return false;
    const struct tpacket3_hdr *header = (const struct tpacket3_hdr *)ring->at;
    const struct sockaddr_ll *from = (const struct sockaddr_ll *)(ring->at + HEADER_BYTES);
    *next = (struct sighting){
        .time_ns = (int64_t)header->tp_sec * 1000000000 + header->tp_nsec,
        .bytes = ring->at + header->tp_mac,
        .captured = header->tp_snaplen < LAB_SNAPLEN ? header->tp_snaplen : LAB_SNAPLEN,
        .length = header->tp_len,
        .status = header->tp_status,
        .tag = (uint16_t)header->hv1.tp_vlan_tci,
        .tag_type = header->hv1.tp_vlan_tpid,
        .kind = from->sll_pkttype,
        .after_loss = ring->after_loss,
    };
    return true;
}

void ring_pop(struct ring *ring) {
    ring->after_loss = false;
    ring->at += ((const struct tpacket3_hdr *)ring->at)->tp_next_offset;
    __builtin_prefetch(ring->at);
    if (!--ring->left) give_back(ring);
}

void ring_settle(struct ring *ring) {
    int64_t now = read_clock(CLOCK_REALTIME);
    const struct tpacket_hdr_v1 *header = &block_at(ring, ring->block)->hdr.bh1;
    uint32_t waiting = __atomic_load_n(&header->num_pkts, __ATOMIC_ACQUIRE);
    if (waiting || block_status(ring, ring->block) & TP_STATUS_USER) return;
    ring->settled_ns = now - MARGIN_NS;
}

bool ring_pressed(const struct ring *ring) {
    return block_status(ring, (ring->block + ring->blocks / 2) % ring->blocks) & TP_STATUS_USER;
}

void ring_count(const struct ring *ring, struct lab_interface_counts *counts) {
    struct tpacket_stats_v3 since;
    socklen_t length = sizeof since;
    if (getsockopt(ring->fd, SOL_PACKET, PACKET_STATISTICS, &since, &length)) return; /* of a ring it can't fail */
    __atomic_fetch_add(&counts->received, since.tp_packets, __ATOMIC_RELAXED);
    __atomic_fetch_add(&counts->dropped, since.tp_drops, __ATOMIC_RELAXED);
    __atomic_fetch_add(&counts->freezes, since.tp_freeze_q_cnt, __ATOMIC_RELAXED);
}

void ring_shut(const struct ring *ring) {
    struct sock_filter none = {.code = BPF_RET | BPF_K};
    struct sock_fprog program = {.len = 1, .filter = &none};
    (void)setsockopt(ring->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program); /* one instruction: it fits */
}
