/* What Python may call to capture frames, and to read files of them. As api.h, and by its rules, but for two things:
 *
 * - A capture outlives the call that starts it. Its handle owns the mapped rings, the write buffers and two threads
 *   until lab_capture_close; the descriptors stay Python's, and stay open until then.
 * - Times are nanoseconds of CLOCK_REALTIME since 1970, as taps stamp and files keep them. */

/* Bytes of a frame that are kept: all, as the largest that lo carries by default have 65,549. */
#define LAB_SNAPLEN 262144
/* Frames are written in pieces of so many bytes, aligned likewise in memory and in the file. */
#define LAB_WRITE_BYTES 4194304
#define LAB_MAX_PIECES 4096

/* ---- filters: classic BPF, as libpcap compiles it ---- */

#define LAB_MAX_PROGRAM 4096 /* instructions; the kernel's limit */

/* struct sock_filter. */
struct lab_instruction {
    uint16_t code;
    uint8_t if_true;
    uint8_t if_false;
    uint32_t k;
};

/* A program without a way to leave it, to run for ever, or to touch anything but its frame and its scratch memory: 0.
 * Otherwise -EINVAL. */
int64_t lab_filter_check(const struct lab_instruction *program, int64_t length);

/* Runs a checked program on one frame, of which `captured` bytes are there of `length`. Returns what the program does:
 * 0 if the frame does not match. */
int64_t lab_filter_run(const struct lab_instruction *program, const unsigned char *frame, int64_t captured,
                       int64_t length);

/* ---- capture ---- */

/* The longest that a capture may be told to last: a year. */
#define LAB_MAX_CAPTURE_NS 31536000000000000

/* An interface, as the file will describe it. Texts are UTF-8; "" leaves an option out. */
struct lab_interface {
    const char *name;
    const char *description;
    const char *filter;
    int32_t link_type;  /* LINKTYPE_* */
    int32_t loopback;   /* non-zero: what goes out comes in again, and the two copies of a frame are to be linked */
};

/* One ring (TPACKET_V3) on one CPU's frames of an interface. Its socket is bound, and captures already. */
struct lab_ring {
    int32_t fd;
    int32_t interface;   /* its index */
    int32_t block_bytes;
    int32_t blocks;
};

/* What to capture, and where to. */
struct lab_capture_plan {
    const struct lab_ring *rings;
    const struct lab_interface *interfaces;
    const struct lab_instruction *program; /* a filter to be run here; NULL: the sockets have theirs */
    int64_t program_length;
    int32_t ring_count;
    int32_t interface_count;
    int32_t file_fd;     /* where to write: a file at its beginning, or a pipe */
    int32_t direct_fd;   /* the same file, opened with O_DIRECT; -1: none */
    int32_t ready_fd;    /* an eventfd that is written to whenever more can be read from the file, and at the end */
    int32_t seekable;    /* non-zero: file_fd is a file, not a pipe */
    int32_t pieces;      /* of LAB_WRITE_BYTES, that may wait to be written: 2 to LAB_MAX_PIECES */
    int32_t reserved;
    int64_t limit;       /* end after so many frames; 0: never */
    int64_t limit_ns;    /* end after so long: take no frame that is younger; 0: never */
    const char *const *hosts; /* names for addresses: "ADDRESS NAME", one a text */
    int64_t host_count;
    const char *hardware;
    const char *system;
    const char *application;
};

/* Of one interface, so far. */
struct lab_interface_counts {
    int64_t received;  /* frames that the kernel had for the tap */
    int64_t frames;    /* of them, those that were taken from the rings and matched */
    int64_t refused;   /* those that were taken, and did not match the program that is run here */
    int64_t dropped;   /* and those that the kernel dropped, as a ring was full */
    int64_t freezes;   /* how often a ring was full */
    int64_t truncated; /* frames of which a part is missing */
    int64_t linked;    /* pairs of copies of one frame */
    int64_t unlinked;  /* frames without their other copy, where copies are to be linked */
    int32_t down;      /* how often it went down */
    int32_t gone;      /* non-zero: it was deleted */
};

/* Of the whole, so far. */
struct lab_capture_counts {
    int64_t frames;     /* taken and matched */
    int64_t bytes;      /* theirs, on the wire */
    int64_t file_bytes; /* written */
    int64_t disordered; /* frames that came out of their ring when a younger one of another had been written */
    int32_t error;      /* the errno of the write that failed, or 0 */
    int32_t given_up;   /* how often a ring kept frames to itself for so long that they were not waited for */
    int32_t ended;      /* non-zero: it ended by itself: by a limit, by an error, or as no interface is left */
};

struct lab_capture;
#define LAB_PORT_BYTES 8192

/* Begins: writes the section's and the interfaces' headers, and starts the threads. NULL, with -errno in *error. */
struct lab_capture *lab_capture_start(const struct lab_capture_plan *plan, int32_t *error);

/* At this moment; any thread may ask. interfaces: a row each. */
void lab_capture_counts(const struct lab_capture *capture, struct lab_capture_counts *counts,
                        struct lab_interface_counts *interfaces);

/* Which ports of TCP and UDP were seen in frames so far: 65,536 bits, the lowest of the first byte is port 0. */
void lab_capture_ports(const struct lab_capture *capture, unsigned char ports[LAB_PORT_BYTES]);

/* Has all written that the taps have seen when this is called. Returns a ticket for lab_capture_wait. Any thread. */
int64_t lab_capture_flush(struct lab_capture *capture);

/* Ends: lets no further frame in, and has all written that came before, then the statistics of each interface, the first
 * one's with the comments. interface_drops: what each interface itself dropped meanwhile; -1: not known. Returns a ticket;
 * once. */
int64_t lab_capture_stop(struct lab_capture *capture, const char *const *comments, int64_t comment_count,
                         const int64_t *interface_drops);

/* Waits for what the ticket stands for, for at most timeout_ns. 0; -ETIME; or what failed: -errno of a write. */
int64_t lab_capture_wait(struct lab_capture *capture, int64_t ticket, int64_t timeout_ns);

/* Frees it. What was not stopped, or not waited for, is abandoned: the file ends with whatever block was written last. */
void lab_capture_close(struct lab_capture *capture);

/* ---- files ---- */

/* Limits on what a file may ask of a reader. */
#define LAB_MAX_SOURCES 65536 /* interfaces */
#define LAB_MAX_NOTES 1048576 /* comments outside frames */
#define LAB_MAX_EXTENSIONS 16 /* IPv6 extension headers of one packet */
#define LAB_MAX_TAGS 8        /* VLAN tags of one frame */

enum lab_format { LAB_PCAP = 1, LAB_PCAPNG = 2 };

/* Why a reader stopped. Numbers from LAB_READ_BAD on are faults of the file at `fault_offset`, which it can't pass. */
enum lab_read_status {
    LAB_READ_MORE = 0, /* the rows are full, or it took a while */
    LAB_READ_END = 1,  /* the file ends behind a whole block */
    LAB_READ_CUT = 2,  /* the file ends within a block: cut short, or still being written */
    LAB_READ_LINK_TYPE = 3, /* no filter is there for the link type in the row behind the last source: give one */
    LAB_READ_ROOM = 4, /* the next block has more sources or notes than there is room for: give more of both */
    LAB_READ_BAD = 16,
    LAB_READ_NO_CAPTURE = 16, /* it is neither pcap nor pcapng */
    LAB_READ_VERSION = 17,    /* of a version that is not 2.4 (pcap), 1.x (pcapng) */
    LAB_READ_LENGTH = 18,     /* a block's lengths contradict each other */
    LAB_READ_INTERFACE = 19,  /* a frame of an interface that was not described */
    LAB_READ_SOURCES = 20,    /* more than LAB_MAX_SOURCES interfaces */
    LAB_READ_OPTION = 21,     /* an option that is longer than its block */
    LAB_READ_RESOLUTION = 22  /* more units of time in a second than 64 bits count */
};

/* An interface that a file describes. Texts are places in the file; length 0: none. Counts: -1 where not told. */
struct lab_source {
    int64_t name_offset;
    int64_t description_offset;
    int64_t filter_offset;
    int64_t offset_s;    /* if_tsoffset */
    uint64_t units;      /* of its times in a second */
    int64_t received;    /* isb_ifrecv */
    int64_t dropped;     /* isb_ifdrop */
    int64_t accepted;    /* isb_filteraccept */
    int64_t os_dropped;  /* isb_osdrop */
    int64_t delivered;   /* isb_usrdeliv */
    uint32_t name_length;
    uint32_t description_length;
    uint32_t filter_length;
    uint32_t snaplen;
    uint32_t section;    /* the index of its section in the file */
    uint32_t link_type;
};

/* A comment outside frames. */
struct lab_note {
    int64_t offset;     /* of its text in the file */
    uint32_t length;
    uint32_t block;     /* the type of its block */
};

/* What is known of a frame. Numbers of layers that it has not are 0; `has` tells. Addresses: network order, IPv4 in the
 * first four bytes. All numbers in host order. */
struct lab_frame {
    int64_t time_ns;
    int64_t offset;              /* of its first byte in the file */
    uint64_t packet_id;          /* the same for two copies of one packet; 0: none */
    uint64_t dropped;            /* frames lost between this one and the one before on its interface */
    int64_t comment_offset;      /* of its first comment in the file; 0: none */
    uint32_t comment_length;
    uint32_t length;             /* on the wire */
    uint32_t captured;
    uint32_t interface;          /* row of its lab_source */
    uint32_t flags;              /* epb_flags */
    uint32_t has;                /* LAB_HAS_* */
    unsigned char source[16];
    unsigned char destination[16];
    uint32_t fragment_id;
    uint32_t fragment_offset;    /* bytes */
    uint32_t payload_offset;     /* from the frame's first byte: behind the last header that is known */
    uint32_t payload_length;     /* on the wire, without padding */
    uint32_t tcp_seq;
    uint32_t tcp_ack;
    uint32_t tcp_ts_value;
    uint32_t tcp_ts_echo;
    uint32_t tcp_sack[8];        /* left and right edges */
    uint16_t vlan;               /* the outermost tag: priority and number */
    uint16_t ethertype;          /* behind the tags */
    uint16_t source_port;
    uint16_t destination_port;
    uint16_t icmp_id;            /* of echo, request and reply */
    uint16_t icmp_seq;
    uint16_t tcp_flags;          /* the lower 12 bits of bytes 12 and 13 */
    uint16_t tcp_window;         /* not scaled */
    uint16_t tcp_mss;
    uint16_t network_offset;     /* from the frame's first byte: of its IP header; with LAB_HAS_IP */
    uint8_t tcp_window_scale;
    uint8_t tcp_sacks;           /* blocks in tcp_sack: 0 to 4 */
    uint8_t direction;           /* 0: unknown, 1: in, 2: out */
    uint8_t family;              /* 0, 4 or 6 */
    uint8_t protocol;            /* behind the extension headers; IPPROTO_* */
    uint8_t ttl;                 /* or hop limit */
    uint8_t more_fragments;
    uint8_t icmp_type;
    uint8_t icmp_code;
    uint8_t checksum;            /* enum lab_checksum */
    uint8_t reserved[4];
};

#define LAB_HAS_VLAN 1
#define LAB_HAS_ETHERTYPE 2
#define LAB_HAS_IP 4             /* family, addresses, protocol, ttl, fragments */
#define LAB_HAS_PORTS 8
#define LAB_HAS_ICMP 16          /* type and code, of ICMP and of ICMPv6 */
#define LAB_HAS_ECHO 32          /* icmp_id and icmp_seq */
#define LAB_HAS_TCP 64           /* flags, seq, ack, window */
#define LAB_HAS_MSS 128
#define LAB_HAS_WINDOW_SCALE 256
#define LAB_HAS_SACK_PERMITTED 512
#define LAB_HAS_TIMESTAMPS 1024
#define LAB_HAS_PAYLOAD 2048     /* payload_offset and payload_length: the headers before it are whole */
#define LAB_HAS_FRAGMENT 4096    /* it is a fragment: fragment_id, fragment_offset, more_fragments */

/* The checksum of ICMP, ICMPv6, TCP or UDP. */
enum lab_checksum {
    LAB_CHECKSUM_NONE = 0,    /* no such layer, a fragment, or not all of it is there */
    LAB_CHECKSUM_GOOD = 1,
    LAB_CHECKSUM_BAD = 2,
    LAB_CHECKSUM_LEFT = 3,    /* left to the device: the kernel said so, or it is the pseudo-header's alone */
    LAB_CHECKSUM_VALID = 4,   /* the kernel said that it was verified, and the bytes can't tell (cut) */
    LAB_CHECKSUM_ABSENT = 5   /* UDP without */
};

/* A column to be filled: `bytes` at `offset` of each lab_frame, one after another, into `to`. */
struct lab_column {
    void *to;
    int32_t offset;
    int32_t bytes;
};

/* Where a reader stands: zeroed before the first call, and kept by Python between calls. The file may grow between. */
struct lab_reader {
    int64_t offset;        /* of the next block */
    int64_t frames;        /* that matched so far */
    int64_t skipped;       /* that did not match */
    int64_t fault_offset;
    int64_t source_count;  /* rows of sources filled */
    int64_t note_count;
    int64_t first_source;  /* of this section */
    int32_t section;       /* its index */
    int32_t format;        /* enum lab_format; 0: not begun */
    int32_t swapped;       /* non-zero: this section is of the other byte order */
    int32_t status;        /* enum lab_read_status */
    int32_t checksums;     /* in: non-zero to verify them */
    int32_t late_time;     /* non-zero: a time lay beyond what 64 bits of nanoseconds hold, and was clamped */
    int64_t application_offset; /* shb_userappl of the first section */
    int64_t application_length;
};

/* The program that frames of a link type have to match. */
struct lab_filter {
    const struct lab_instruction *program; /* checked */
    uint32_t link_type;
};

/* Reads up to `limit` matching frames into rows `first_row`, … of the columns, and all blocks up to the next frame.
 *
 * bytes, length: the whole file. sources, notes: room for that many rows. filters: one for each link type of the file;
 * NULL: no filter. A call may return after some milliseconds with LAB_READ_MORE and fewer rows than `limit`, so that the
 * caller can look whether it shall go on.
 * Returns the rows filled; reader->status tells why it stopped. */
int64_t lab_read(struct lab_reader *reader, const unsigned char *bytes, int64_t length, struct lab_source *sources,
                 int64_t source_room, struct lab_note *notes, int64_t note_room, const struct lab_column *columns,
                 int64_t column_count, int64_t first_row, int64_t limit, const struct lab_filter *filters,
                 int64_t filter_count);

/* Fills the layers of a frame from its bytes: sets `has` and all that it speaks of, and the layers' other fields to 0.
 * link_type: LINKTYPE_*. frame->length, captured, flags and direction are given; a direction of 0 is set if a cooked
 * link type tells it. checksums: non-zero to verify them; else `checksum` is LAB_CHECKSUM_NONE. */
void lab_dissect(struct lab_frame *frame, const unsigned char *bytes, uint32_t link_type, int32_t checksums);
