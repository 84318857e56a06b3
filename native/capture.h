/* What the C files of a capture share among themselves: ring → copies → pcapng → output, joined by capture.c. */
#pragma once

#include <linux/if_packet.h>

#include "frames.h"

#ifndef TP_STATUS_GSO_TCP /* younger than some headers */
#define TP_STATUS_GSO_TCP (1 << 8)
#endif

/* The walker alone writes a capture's counters; others may read. */
static inline void add(int64_t *counter, int64_t more) {
    __atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

/* ---- ring.c: frames as the kernel hands them over ---- */

/* The frame that is next in a ring. */
struct sighting {
    int64_t time_ns;
    const unsigned char *bytes; /* in the ring, until the next call of ring_pop */
    uint32_t captured;
    uint32_t length;
    uint32_t status;     /* TP_STATUS_* */
    uint16_t tag;        /* of a VLAN that the kernel took out, where status says so */
    uint16_t tag_type;
    uint8_t kind;        /* PACKET_HOST, … */
    bool after_loss;     /* the kernel dropped frames between this one and the one before */
};

struct ring {
    int fd;
    uint32_t block_bytes, blocks;
    unsigned char *memory;
    uint32_t block;       /* the one to read */
    uint32_t left;        /* frames in it that are not popped yet; 0: it is the kernel's, as far as we know */
    unsigned char *at;    /* the first of them */
    bool after_loss;      /* that one comes after a loss */
    uint64_t lost;        /* frames that the next one to be written shall tell of */
    int64_t settled_ns;   /* no frame older than this is still to come */
};

/* Maps the ring of a bound socket. 0 or -errno. */
int ring_map(struct ring *ring, const struct lab_ring *plan);
void ring_unmap(struct ring *ring);
/* Whether there is a frame to be read; if so, it is in *next. */
bool ring_peek(struct ring *ring, struct sighting *next);
/* Goes on to the next frame; gives the block back when it was the last one's. */
void ring_pop(struct ring *ring);
/* Where there is no frame to be read: advances settled_ns, unless some wait in the block that the kernel is filling. */
void ring_settle(struct ring *ring);
/* Whether half of its blocks wait to be read. */
bool ring_pressed(const struct ring *ring);
/* Adds what the kernel counted since it was last asked. */
void ring_count(const struct ring *ring, struct lab_interface_counts *counts);
/* Lets no further frame in. */
void ring_shut(const struct ring *ring);

/* ---- copies.c: which two frames on lo are one packet ---- */

#define LANE_ROOM 65536 /* copies that may be on their way through one CPU's queue */

/* The packets that went out on one CPU's lo, and have not come in again. They do so in the same order. */
struct lane {
    struct waiting {
        uint64_t key;
        uint64_t id;
    } *waiting;           /* LANE_ROOM of them, a ring */
    uint32_t first, count;
    bool sure;            /* the first one is the next to come in */
    int run;              /* unsure: so many copies in a row seem to have been found, ... */
    uint64_t last_found;  /* ... the last of them with this id */
    int64_t last_ns;      /* when a frame was last seen */
    struct lab_interface_counts *counts; /* where what is linked is counted */
};

/* Of a frame's bytes and its length. */
uint64_t frame_key(const unsigned char *bytes, size_t captured, size_t length);
/* 0 or -ENOMEM. now_ns: frames may have been on their way since before then. */
int lane_init(struct lane *lane, struct lab_interface_counts *counts, int64_t now_ns);
/* Forgets what is on its way: something is missing. */
void lane_break(struct lane *lane);
/* A packet goes out, and is given this id. */
void lane_out(struct lane *lane, uint64_t key, uint64_t id, int64_t time_ns);
/* A packet comes in: the id that it was given, or 0 where that is not sure. */
uint64_t lane_in(struct lane *lane, uint64_t key, int64_t time_ns);

/* ---- pcapng.c: blocks ---- */

struct option {
    uint16_t code;
    const void *value;
    size_t length; /* what does not fit 16 bits is cut */
};

/* Bytes of a block with this body and these options. */
size_t pcapng_size(size_t body, const struct option *options, size_t count);
/* Writes it. */
void pcapng_put(unsigned char *to, uint32_t type, const void *body, size_t length, const struct option *options,
                size_t count);

/* An enhanced packet block around a frame: the caller puts the frame's bytes at pcapng_frame(to), then has it closed. */
struct packet {
    int64_t time_ns;
    uint32_t interface;
    uint32_t captured, length;
    uint32_t flags;
    uint64_t dropped; /* 0: no such option */
    uint64_t id;      /* likewise */
};
#define PACKET_ROOM (28 + LAB_SNAPLEN + 4 + 40 + 4) /* a VLAN tag, options, the length */
unsigned char *pcapng_frame(unsigned char *to);
/* Returns the bytes of the block. */
size_t pcapng_packet(unsigned char *to, const struct packet *packet);

/* ---- output.c: bytes into a file, or into a pipe ---- */

/* A ring of bytes between the thread that makes them and the one that writes them. Numbers are offsets in the file. */
struct output {
    int file_fd, direct_fd, ready_fd;
    int wake_fd;            /* written to when writing has failed */
    bool seekable;
    unsigned char *memory;  /* aligned to pages */
    int64_t bytes;          /* its size, a multiple of LAB_WRITE_BYTES */
    unsigned char *bounce;  /* PACKET_ROOM: where a block is made that will lie around the ring's end */
    int64_t head;           /* made; below, all under the lock */
    int64_t shown;          /* head, as the writer knows it */
    int64_t written;        /* what a reader of the file finds there */
    int64_t free_from;      /* what lies before may be overwritten in memory */
    int64_t wanted;         /* all before it shall be written at once */
    int64_t due_ns;         /* when what is shown and not written shall be, of CLOCK_MONOTONIC */
    bool running, finished, abandoned;
    int error;              /* of a write: errno */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* any of these */
    pthread_t writer;
};

/* Starts the writer. 0 or -errno. */
int output_start(struct output *output, const struct lab_capture_plan *plan, int wake_fd);
/* Whether nothing will be written any more. */
bool output_failed(const struct output *output);
/* Room for a block of at most PACKET_ROOM bytes; waits for the writer if there is none. NULL if that has failed. */
unsigned char *output_room(struct output *output, size_t bytes);
/* That room now holds so many bytes of the file. */
void output_commit(struct output *output, const unsigned char *room, size_t bytes);
/* There is nothing to commit for now: a pipe's reader gets what there is, a file's soon. */
void output_rest(struct output *output);
/* Has all written that was committed, and then ends the writer. */
void output_finish(struct output *output);
/* Has everyone who waits for a file, or for a pipe's reader, give up. */
void output_abandon(struct output *output);
/* Waits for the writer's end; it was told to finish, was abandoned, or failed. */
void output_free(struct output *output);
/* Has all written that was committed. */
void output_flush(struct output *output);

/* ---- capture.c: the handle ---- */

/* Statistics carry at most so many comments. */
#define LAB_MAX_COMMENTS 20000

struct lab_capture {
    struct output output;   /* its lock guards the requests, too */
    struct ring *rings;
    struct lane *lanes;     /* one a ring; without `waiting` where nothing is to be linked */
    struct pollfd *polled;  /* one a ring, and wake_fd */
    uint32_t *interface_of; /* a ring's */
    struct lab_instruction *program;
    struct lab_interface_counts *interfaces;
    struct lab_capture_counts counts;
    int ring_count, interface_count;
    int wake_fd;
    int64_t limit;
    int64_t start_ns;
    int64_t last_ns;        /* no frame younger than this is taken */
    int64_t end_ns;         /* the same time, of CLOCK_MONOTONIC */
    int64_t newest_ns;      /* the time of the youngest frame taken */
    uint64_t ids;           /* given to packets */
    int64_t held_ns;        /* since when frames are held back, of CLOCK_MONOTONIC; 0: none are */
    unsigned char ports[LAB_PORT_BYTES]; /* those seen, a bit each */
    int *link_types;        /* an interface's */
    int64_t *device_drops;  /* an interface's own; -1: not known */
    bool shut;              /* no further frame will come */
    bool walking;
    pthread_t walker;
    struct option *comments;
    size_t comment_count;
    char *texts;            /* theirs */

    /* Requests; under the lock. */
    int64_t asked, settled; /* tickets given, and those whose frames are all committed ... */
    int64_t settled_offset; /* ... up to here */
    bool stopping;
};

/* ---- sections.c: the blocks around the frames ---- */

void write_headers(struct lab_capture *capture, const struct lab_capture_plan *plan);
void write_statistics(struct lab_capture *capture, uint32_t interface);

/* ---- walker.c: frames from the rings to the output ---- */

void *walk(void *capture);
