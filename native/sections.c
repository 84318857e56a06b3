/* The blocks around a capture's frames: what it was made with, whose interfaces and names it holds, and what came of it. */
#include <arpa/inet.h>
#include <stdlib.h>

#include "capture.h"

enum { HOSTS_ROOM = 65536 };

/* A block may be larger than what is made room for at once. */
static void write_block(struct lab_capture *capture, uint32_t type, const void *body, size_t length,
                        const struct option *options, size_t count) {
    size_t size = pcapng_size(length, options, count);
    unsigned char *block = malloc(size);
    if (!block) return;
    pcapng_put(block, type, body, length, options, count);
    for (size_t at = 0; at < size;) {
        size_t part = size - at < PACKET_ROOM ? size - at : PACKET_ROOM;
        unsigned char *room = output_room(&capture->output, part);
        if (!room) break;
        memcpy(room, block + at, part);
        output_commit(&capture->output, room, part);
        at += part;
    }
    free(block);
}

static size_t text_option(struct option *options, size_t count, uint16_t code, const char *text) {
    if (!text || !*text) return count;
    options[count] = (struct option){.code = code, .value = text, .length = strlen(text)};
    return count + 1;
}

static void write_section(struct lab_capture *capture, const struct lab_capture_plan *plan) {
    struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t length[2]; /* not known: all bits set */
    } body = {.magic = BYTE_ORDER_MAGIC, .major = 1, .length = {UINT32_MAX, UINT32_MAX}};
    struct option options[3];
    size_t count = text_option(options, 0, SECTION_HARDWARE, plan->hardware);
    count = text_option(options, count, SECTION_OS, plan->system);
    count = text_option(options, count, SECTION_APPLICATION, plan->application);
    write_block(capture, BLOCK_SECTION, &body, sizeof body, options, count);
}

static void write_interface(struct lab_capture *capture, const struct lab_capture_plan *plan,
                            const struct lab_interface *interface) {
    struct {
        uint16_t link_type, reserved;
        uint32_t snaplen;
    } body = {.link_type = (uint16_t)interface->link_type, .snaplen = LAB_SNAPLEN};
    const unsigned char nanoseconds = 9; /* 10 to the power of minus so much */
    char filter[PACKET_ROOM / 4] = "";   /* a zero in front says that it is libpcap's language */
    struct option options[5];
    size_t count = text_option(options, 0, INTERFACE_NAME, interface->name);
    count = text_option(options, count, INTERFACE_DESCRIPTION, interface->description);
    options[count++] = (struct option){.code = INTERFACE_RESOLUTION, .value = &nanoseconds, .length = 1};
    size_t length = interface->filter ? strnlen(interface->filter, sizeof filter - 1) : 0;
    if (length) memcpy(filter + 1, interface->filter, length);
    if (length) options[count++] = (struct option){.code = INTERFACE_FILTER, .value = filter, .length = length + 1};
    count = text_option(options, count, INTERFACE_OS, plan->system);
    write_block(capture, BLOCK_INTERFACE, &body, sizeof body, options, count);
}

/* One record: "ADDRESS NAME". Returns its bytes, or 0 if it is none, or does not fit. */
static size_t put_host(unsigned char *to, size_t room, const char *host) {
    unsigned char address[16];
    char text[INET6_ADDRSTRLEN];
    const char *name = strchr(host, ' ');
    size_t digits = name ? (size_t)(name - host) : sizeof text;
    if (digits >= sizeof text) return 0;
    memcpy(text, host, digits);
    text[digits] = 0;
    uint16_t bytes = inet_pton(AF_INET, text, address) == 1 ? 4 : inet_pton(AF_INET6, text, address) == 1 ? 16 : 0;
    size_t name_bytes = strlen(name + 1) + 1, padded = (bytes + name_bytes + 3) / 4 * 4;
    if (!bytes || name_bytes > 256 || 4 + padded > room) return 0;
    uint16_t head[] = {bytes == 4 ? 1 : 2, (uint16_t)(bytes + name_bytes)};
    memset(to, 0, 4 + padded);
    memcpy(to, head, sizeof head);
    memcpy(to + 4, address, bytes);
    memcpy(to + 4 + bytes, name + 1, name_bytes);
    return 4 + padded;
}

static void write_hosts(struct lab_capture *capture, const struct lab_capture_plan *plan) {
    unsigned char *records = malloc(HOSTS_ROOM);
    size_t length = 0;
    for (int64_t i = 0; records && i < plan->host_count; i++)
        length += put_host(records + length, HOSTS_ROOM - 4 - length, plan->hosts[i]);
    if (length) {
        memset(records + length, 0, 4); /* no more records */
        write_block(capture, BLOCK_NAMES, records, length + 4, NULL, 0);
    }
    free(records);
}

static void put_time(uint32_t halves[2], int64_t time_ns) {
    halves[0] = (uint32_t)((uint64_t)time_ns >> 32);
    halves[1] = (uint32_t)time_ns;
}

void write_statistics(struct lab_capture *capture, uint32_t interface) {
    const struct lab_interface_counts *counts = &capture->interfaces[interface];
    uint32_t body[3] = {interface}, start[2], end[2];
    int64_t accepted = counts->received - counts->refused;
    put_time(start, capture->start_ns);
    put_time(end, read_clock(CLOCK_REALTIME));
    memcpy(body + 1, end, sizeof end);
    const struct option about[] = {
        {STATISTICS_START, start, sizeof start},
        {STATISTICS_END, end, sizeof end},
        {STATISTICS_RECEIVED, &counts->received, 8},
        {STATISTICS_ACCEPTED, &accepted, 8},
        {STATISTICS_OS_DROPPED, &counts->dropped, 8},
        {STATISTICS_DELIVERED, &counts->frames, 8},
        {STATISTICS_DROPPED, &capture->device_drops[interface], 8}, /* last, as it may not be known */
    };
    size_t known = sizeof about / sizeof *about - (capture->device_drops[interface] < 0);
    size_t comments = interface ? 0 : capture->comment_count;
    struct option *options = calloc(known + comments, sizeof *options);
    if (!options) return;
    memcpy(options, about, known * sizeof *about);
    if (comments) memcpy(options + known, capture->comments, comments * sizeof *options);
    write_block(capture, BLOCK_STATISTICS, body, sizeof body, options, known + comments);
    free(options);
}

void write_headers(struct lab_capture *capture, const struct lab_capture_plan *plan) {
    write_section(capture, plan);
    for (int i = 0; i < plan->interface_count; i++) write_interface(capture, plan, &plan->interfaces[i]);
    write_hosts(capture, plan);
}
