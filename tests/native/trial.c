/* The ends and rows of one stream, and what a good row looks like. */
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check.h"

/* ---- CPUs ---- */

static cpu_set_t allowed;

static void read_allowed(void) {
    if (!CPU_COUNT(&allowed)) sched_getaffinity(0, sizeof allowed, &allowed);
}

int cpu_count(void) {
    read_allowed();
    return CPU_COUNT(&allowed);
}

/* The last CPU that this process may use, or the one `before` it. */
static int cpu_from_end(int before) {
    read_allowed();
    int cpu = CPU_SETSIZE - 1;
    for (;; cpu--)
        if (CPU_ISSET((size_t)cpu, &allowed) && before-- == 0) return cpu;
}

static int place(enum placement placement) {
    cpu_set_t near;
    CPU_ZERO(&near);
    CPU_SET((size_t)cpu_from_end(0), &near);
    CHECK(!sched_setaffinity(0, sizeof near, &near));
    if (placement == INLINE) return -1;
    if (placement == SAME_CPU || (placement == OWN_THREAD && cpu_count() < 2)) return cpu_from_end(0);
    if (cpu_count() < 2) skip("two ends on two CPUs need two CPUs", 0);
    return cpu_from_end(1);
}

/* ---- sockets ---- */

/* 127.0.0.1 or ::1, port 0. Returns its length. */
static socklen_t loopback(struct sockaddr_storage *address) {
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    memset(address, 0, sizeof *address);
    if (family == AF_INET)
        memcpy(address, &in4, sizeof in4);
    else
        memcpy(address, &in6, sizeof in6);
    return family == AF_INET ? sizeof in4 : sizeof in6;
}

int open_socket(int type) {
    struct sockaddr_storage any_port;
    socklen_t length = loopback(&any_port);
    int fd = socket(family, type, 0);
    if (fd < 0 && errno == EAFNOSUPPORT) skip("no sockets of this family", errno);
    CHECK(fd >= 0);
    if (bind(fd, (struct sockaddr *)&any_port, length)) skip("no loopback address of this family", errno);
    return fd;
}

static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) skip(path, errno);
    close(fd);
}

void enter_own_network(void) {
    char map[32];
    unsigned uid = getuid(), gid = getgid();
    if (unshare(CLONE_NEWNET)) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET)) skip("no rights here, and no namespace to have them in", errno);
        snprintf(map, sizeof map, "0 %u 1", uid);
        write_file("/proc/self/uid_map", map);
        write_file("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "0 %u 1", gid);
        write_file("/proc/self/gid_map", map);
    }
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (ioctl(fd, SIOCSIFFLAGS, &lo)) skip("lo can't be brought up in a namespace", errno);
    close(fd);
    snprintf(map, sizeof map, "%u %u", getgid(), getgid());
    write_file("/proc/sys/net/ipv4/ping_group_range", map);
}

uint16_t port_of(int fd) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    CHECK(!getsockname(fd, (struct sockaddr *)&address, &length));
    return ntohs(family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
                                   : ((struct sockaddr_in6 *)&address)->sin6_port);
}

static int connect_to(int from, int to) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    CHECK(!getsockname(to, (struct sockaddr *)&address, &length));
    return connect(from, (struct sockaddr *)&address, length);
}

static void open_udp(int *near, int *far) {
    *near = open_socket(SOCK_DGRAM);
    *far = open_socket(SOCK_DGRAM);
    CHECK(!connect_to(*near, *far));
    CHECK(!connect_to(*far, *near));
    int yes = 1;
    if (family == AF_INET)
        CHECK(!setsockopt(*near, IPPROTO_IP, IP_RECVTTL, &yes, sizeof yes));
    else
        CHECK(!setsockopt(*near, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &yes, sizeof yes));
}

static void open_tcp(int *near, int *far) {
    int listener = open_socket(SOCK_STREAM);
    int fds[2], yes = 1, room = 4 * LAB_MAX_PAYLOAD;
    *near = fds[0] = open_socket(SOCK_STREAM);
    CHECK(!listen(listener, 1));
    CHECK(!connect_to(*near, listener));
    *far = fds[1] = accept(listener, NULL, NULL);
    CHECK(*far >= 0);
    close(listener);
    for (int i = 0; i < 2; i++) {
        CHECK(!setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes));
        CHECK(!setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
    }
}

void open_ends(int kind, int *near, int *far) {
    if (kind == LAB_TCP)
        open_tcp(near, far);
    else
        open_udp(near, far);
}

static int default_ttl(void) {
    int fd = socket(family, SOCK_DGRAM, 0), ttl = -1;
    socklen_t length = sizeof ttl;
    if (family == AF_INET)
        CHECK(!getsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, &length));
    else
        CHECK(!getsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &ttl, &length));
    close(fd);
    return ttl;
}

/* ---- a trial ---- */

static void describe(const struct setup *setup) {
    static const char *kinds[] = {"raw", "ping", "udp", "tcp"};
    static const char *placements[] = {"inline", "same-cpu", "cross-cpu", "own thread"};
    static const char *waits[] = {"block", "spin", "epoll", "yield"};
    snprintf(trying, sizeof trying, "IPv%d %s, %s, %s, %d bytes", family == AF_INET ? 4 : 6, kinds[setup->kind],
             placements[setup->placement], waits[setup->wait], setup->size);
}

/* An epoll that watches fd, if the stream needs one. */
static int watch(int wait, int fd) {
    if (wait != LAB_EPOLL || fd < 0) return -1;
    int epoll = epoll_create1(0);
    CHECK(epoll >= 0);
    CHECK(!epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN}));
    return epoll;
}

struct trial trial_over(struct setup setup, int near, int far) {
    if (!setup.size) setup.size = 56;
    if (!setup.count) setup.count = 100;
    if (!setup.timeout_ns) setup.timeout_ns = 10 * SECOND;
    describe(&setup);
    struct trial trial = {
        .stream = {.near_fd = near,
                   .far_fd = far,
                   .near_epoll_fd = watch(setup.wait, near),
                   .far_epoll_fd = watch(setup.wait, far),
                   .kind = setup.kind,
                   .family = family,
                   .wait = setup.wait,
                   .far_cpu = place(setup.placement),
                   .shares_cpu = setup.placement == SAME_CPU || (setup.placement == OWN_THREAD && cpu_count() < 2),
                   .size = setup.size,
                   .icmp_id = 0xbeef,
                   .nonce = 0x0123456789abcdef,
                   .count = setup.count,
                   .warmup = setup.warmup,
                   .timeout_ns = setup.timeout_ns,
                   .patience = setup.patience},
        .rows = calloc((size_t)setup.count, sizeof *trial.rows),
        .scratch = malloc(LAB_SCRATCH_BYTES),
        .ttl = default_ttl(),
    };
    CHECK(trial.rows && trial.scratch);
    struct sockaddr_storage target;
    loopback(&target);
    if (family == AF_INET)
        memcpy(trial.stream.target, &((struct sockaddr_in *)&target)->sin_addr, 4);
    else
        memcpy(trial.stream.target, &((struct sockaddr_in6 *)&target)->sin6_addr, 16);
    tamper_with(&trial, NULL, NULL);
    return trial;
}

struct trial trial_open(struct setup setup) {
    int near, far;
    open_ends(setup.kind, &near, &far);
    return trial_over(setup, near, far);
}

/* The two other ends stay open, and nobody reads them. */
struct trial trial_deaf(struct setup setup) {
    int near, far, silent, idle;
    open_ends(setup.kind, &near, &silent);
    open_ends(setup.kind, &idle, &far);
    return trial_over(setup, near, far);
}

int64_t trial_run(struct trial *trial) {
    int64_t start_ns = now_ns();
    trial->result = lab_stream_run(&trial->stream, trial->rows, trial->stamps, trial->scratch, &trial->stop);
    trial->took_ns = now_ns() - start_ns;
    return trial->result;
}

void trial_close(struct trial *trial) {
    close(trial->stream.near_fd);
    if (trial->stream.far_fd >= 0) close(trial->stream.far_fd);
    if (trial->stream.near_epoll_fd >= 0) close(trial->stream.near_epoll_fd);
    if (trial->stream.far_epoll_fd >= 0) close(trial->stream.far_epoll_fd);
    free(trial->rows);
    free(trial->stamps);
    free(trial->scratch);
}

/* ---- what a good row looks like ---- */

/* Where it costs a call of its own, TTL is read of the first reply only. */
static int expected_ttl(const struct trial *trial, int64_t seq) {
    bool comes_along = trial->stream.kind == LAB_ICMP_RAW && family == AF_INET;
    bool first = seq == 0 && !trial->stream.warmup && trial->stream.kind != LAB_TCP;
    return comes_along || first ? trial->ttl : 0;
}

void check_received(const struct trial *trial, int64_t seq) {
    const struct lab_record *row = &trial->rows[seq];
    CHECK_EQUAL(row->status, LAB_RECEIVED);
    CHECK_EQUAL(row->due_ns, row->tx_ns);
    CHECK(row->tx_ns > 0 && row->tx_ns <= row->tx_done_ns);
    CHECK(row->tx_done_ns <= row->rx_ns);
    CHECK(row->rx_ns - row->tx_ns <= trial->stream.timeout_ns);
    if (trial->stream.far_fd < 0) {
        CHECK(!row->far_rx_ns && !row->far_tx_ns);
    } else {
        CHECK(row->tx_ns <= row->far_rx_ns && row->far_rx_ns <= row->far_tx_ns);
        CHECK(row->far_tx_ns <= row->rx_ns);
    }
    CHECK_EQUAL(row->reply_bytes, trial->stream.size);
    CHECK_EQUAL(row->reply_ttl, expected_ttl(trial, seq));
    CHECK_EQUAL(row->flags & ~LAB_FLAG_INLINE, 0);
    CHECK_EQUAL(row->user_rx_ns, 0);
    if (!seq) return;
    const struct lab_record *before = row - 1;
    CHECK(before->tx_done_ns <= row->tx_ns);
    if (before->status == LAB_RECEIVED) CHECK(before->rx_ns <= row->tx_ns); /* a probe waits for the one before it */
}

void check_all_received(const struct trial *trial) {
    const struct lab_stream *s = &trial->stream;
    CHECK_EQUAL(trial->result, s->count);
    CHECK_EQUAL(s->done, s->count);
    CHECK_EQUAL(s->far_error, 0);
    for (int64_t i = 0; i < s->count; i++) check_received(trial, i);
    CHECK_EQUAL(s->source_seen, s->kind != LAB_TCP);
    CHECK_EQUAL(s->reply_ttl, s->kind != LAB_TCP ? trial->ttl : 0);
    if (s->source_seen) CHECK(!memcmp(s->reply_source, s->target, family == AF_INET ? 4 : 16));
}

void each_variant(void (*check)(struct setup)) {
    for (int kind = LAB_UDP; kind <= LAB_TCP; kind++) {
        check((struct setup){.kind = kind, .placement = INLINE, .wait = LAB_BLOCK});
        check((struct setup){.kind = kind, .placement = INLINE, .wait = LAB_SPIN});
        check((struct setup){.kind = kind, .placement = INLINE, .wait = LAB_EPOLL});
        check((struct setup){.kind = kind, .placement = OWN_THREAD, .wait = LAB_BLOCK});
        check((struct setup){.kind = kind, .placement = OWN_THREAD, .wait = LAB_EPOLL});
        check((struct setup){.kind = kind, .placement = OWN_THREAD, .wait = LAB_YIELD});
        if (cpu_count() > 1) check((struct setup){.kind = kind, .placement = OWN_THREAD, .wait = LAB_SPIN});
    }
}
