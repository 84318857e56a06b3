/* A capture's handle: what it is made of, and what other threads may ask of it. */
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "capture.h"

enum { COMMENTS_ROOM = 4000000 };

/* ---- beginning ---- */

static bool sound(const struct lab_capture_plan *plan) {
    if (plan->pieces < 2 || plan->pieces > LAB_MAX_PIECES) return false;
    if (plan->ring_count < 1 || plan->interface_count < 1 || plan->file_fd < 0 || plan->limit < 0 ||
        plan->limit_ns < 0 || plan->limit_ns > LAB_MAX_CAPTURE_NS) return false;
    for (int i = 0; i < plan->ring_count; i++)
        if (plan->rings[i].interface < 0 || plan->rings[i].interface >= plan->interface_count) return false;
    return !plan->program || !lab_filter_check(plan->program, plan->program_length);
}

static int init_rings(struct lab_capture *capture, const struct lab_capture_plan *plan) {
    for (int i = 0; i < plan->ring_count; i++) {
        const struct lab_ring *ring = &plan->rings[i];
        capture->polled[i] = (struct pollfd){.fd = ring->fd, .events = POLLIN};
        capture->interface_of[i] = (uint32_t)ring->interface;
        int error = ring_map(&capture->rings[i], ring);
        if (!error && plan->interfaces[ring->interface].loopback)
            error = lane_init(&capture->lanes[i], &capture->interfaces[ring->interface], capture->start_ns);
        if (error) return error;
    }
    capture->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    capture->polled[plan->ring_count] = (struct pollfd){.fd = capture->wake_fd, .events = POLLIN};
    return capture->wake_fd < 0 ? -errno : 0;
}

static int allocate(struct lab_capture *capture, const struct lab_capture_plan *plan) {
    size_t rings = (size_t)plan->ring_count, program = (size_t)plan->program_length * sizeof *plan->program;
    capture->rings = calloc(rings, sizeof *capture->rings);
    capture->lanes = calloc(rings, sizeof *capture->lanes);
    capture->polled = calloc(rings + 1, sizeof *capture->polled);
    capture->interface_of = calloc(rings, sizeof *capture->interface_of);
    capture->interfaces = calloc((size_t)plan->interface_count, sizeof *capture->interfaces);
    capture->link_types = calloc((size_t)plan->interface_count, sizeof *capture->link_types);
    capture->device_drops = calloc((size_t)plan->interface_count, sizeof *capture->device_drops);
    capture->program = plan->program ? malloc(program) : NULL;
    if (!capture->rings || !capture->lanes || !capture->polled || !capture->interface_of || !capture->interfaces ||
        !capture->link_types || !capture->device_drops || (plan->program && !capture->program))
        return -ENOMEM;
    if (plan->program) memcpy(capture->program, plan->program, program);
    for (int i = 0; i < plan->interface_count; i++) capture->link_types[i] = plan->interfaces[i].link_type;
    return 0;
}

static int begin(struct lab_capture *capture, const struct lab_capture_plan *plan) {
    capture->wake_fd = -1;
    capture->ring_count = plan->ring_count;
    capture->interface_count = plan->interface_count;
    capture->limit = plan->limit;
    capture->start_ns = read_clock(CLOCK_REALTIME);
    capture->last_ns = plan->limit_ns ? capture->start_ns + plan->limit_ns : INT64_MAX;
    capture->end_ns = plan->limit_ns ? now_ns() + plan->limit_ns : INT64_MAX;
    int error = allocate(capture, plan);
    if (!error) error = init_rings(capture, plan);
    if (!error) error = output_start(&capture->output, plan, capture->wake_fd);
    if (error) return error;
    write_headers(capture, plan);
    error = start_thread(&capture->walker, -1, walk, capture);
    capture->walking = !error;
    return error;
}

struct lab_capture *lab_capture_start(const struct lab_capture_plan *plan, int32_t *error) {
    struct lab_capture *capture = sound(plan) ? calloc(1, sizeof *capture) : NULL;
    *error = capture ? begin(capture, plan) : sound(plan) ? -ENOMEM : -EINVAL;
    if (!*error) return capture;
    if (capture) lab_capture_close(capture);
    return NULL;
}

/* ---- while it runs ---- */

static int64_t load(const int64_t *counter) {
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void lab_capture_counts(const struct lab_capture *capture, struct lab_capture_counts *counts,
                        struct lab_interface_counts *interfaces) {
    const struct lab_capture_counts *now = &capture->counts;
    *counts = (struct lab_capture_counts){
        .frames = load(&now->frames),
        .bytes = load(&now->bytes),
        .file_bytes = load(&capture->output.written),
        .disordered = load(&now->disordered),
        .given_up = __atomic_load_n(&now->given_up, __ATOMIC_RELAXED),
        .error = __atomic_load_n(&capture->output.error, __ATOMIC_RELAXED),
        .ended = __atomic_load_n(&now->ended, __ATOMIC_ACQUIRE),
    };
    for (int i = 0; i < capture->interface_count; i++) {
        const struct lab_interface_counts *its = &capture->interfaces[i];
        interfaces[i] = (struct lab_interface_counts){
            .received = load(&its->received),
            .frames = load(&its->frames),
            .refused = load(&its->refused),
            .dropped = load(&its->dropped),
            .freezes = load(&its->freezes),
            .truncated = load(&its->truncated),
            .linked = load(&its->linked),
            .unlinked = load(&its->unlinked),
            .down = __atomic_load_n(&its->down, __ATOMIC_RELAXED),
            .gone = __atomic_load_n(&its->gone, __ATOMIC_RELAXED),
        };
    }
}

void lab_capture_ports(const struct lab_capture *capture, unsigned char ports[LAB_PORT_BYTES]) {
    for (int i = 0; i < LAB_PORT_BYTES; i++) ports[i] = __atomic_load_n(&capture->ports[i], __ATOMIC_RELAXED);
}

static int64_t ask(struct lab_capture *capture, bool stop) {
    pthread_mutex_lock(&capture->output.lock);
    int64_t ticket = ++capture->asked;
    capture->stopping |= stop;
    pthread_mutex_unlock(&capture->output.lock);
    (void)!eventfd_write(capture->wake_fd, 1);
    return ticket;
}

int64_t lab_capture_flush(struct lab_capture *capture) {
    return ask(capture, false);
}

/* Keeps as many comments as one block has room for. */
static void keep_comments(struct lab_capture *capture, const char *const *comments, int64_t count) {
    if (count > LAB_MAX_COMMENTS) count = LAB_MAX_COMMENTS;
    capture->comments = calloc((size_t)count + 1, sizeof *capture->comments);
    capture->texts = malloc(COMMENTS_ROOM);
    size_t used = 0;
    for (int64_t i = 0; capture->comments && capture->texts && i < count; i++) {
        size_t length = strlen(comments[i]);
        if (used + length > COMMENTS_ROOM) break;
        memcpy(capture->texts + used, comments[i], length);
        capture->comments[capture->comment_count++] =
            (struct option){.code = OPTION_COMMENT, .value = capture->texts + used, .length = length};
        used += length;
    }
}

int64_t lab_capture_stop(struct lab_capture *capture, const char *const *comments, int64_t comment_count,
                         const int64_t *interface_drops) {
    if (!capture->stopping) {
        keep_comments(capture, comments, comment_count);
        memcpy(capture->device_drops, interface_drops, (size_t)capture->interface_count * sizeof *interface_drops);
    }
    return ask(capture, true);
}

int64_t lab_capture_wait(struct lab_capture *capture, int64_t ticket, int64_t timeout_ns) {
    struct output *output = &capture->output;
    int64_t deadline_ns = now_ns() + timeout_ns;
    struct timespec until = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
    int late = 0;
    pthread_mutex_lock(&output->lock);
    while (!late && !output->error && !(capture->settled >= ticket && output->written >= capture->settled_offset))
        late = pthread_cond_timedwait(&output->changed, &output->lock, &until);
    int64_t result = output->error ? -output->error : late ? -ETIME : 0;
    pthread_mutex_unlock(&output->lock);
    return result;
}

/* ---- the end ---- */

void lab_capture_close(struct lab_capture *capture) {
    if (capture->output.running) {
        output_abandon(&capture->output);
        if (capture->walking) {
            (void)!eventfd_write(capture->wake_fd, 1);
            pthread_join(capture->walker, NULL);
        }
        output_free(&capture->output);
    }
    for (int i = 0; capture->rings && i < capture->ring_count; i++) ring_unmap(&capture->rings[i]);
    for (int i = 0; capture->lanes && i < capture->ring_count; i++) free(capture->lanes[i].waiting);
    if (capture->wake_fd >= 0) close(capture->wake_fd);
    free(capture->rings);
    free(capture->lanes);
    free(capture->polled);
    free(capture->interface_of);
    free(capture->interfaces);
    free(capture->link_types);
    free(capture->device_drops);
    free(capture->program);
    free(capture->comments);
    free(capture->texts);
    free(capture);
}
