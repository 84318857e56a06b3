/* Bytes on their way to a file or a pipe: a ring of them, and a thread that writes.
 *
 * To a file, whole pieces go past the page cache (O_DIRECT), where the file system can: what is written through it is
 * copied once more, and is waited for when the kernel thinks that it is too much. While frames are few, what there is of
 * a piece goes through the page cache five times a second, so that readers find it, and once more with the whole piece.
 * Thus the file always holds a beginning of what was made, and no byte else. */
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "capture.h"

enum { SHOWN_BYTES = LAB_WRITE_BYTES / 4, LOOK_MS = 100 };
#define MOST_IDLE_NS 200000000 /* what was made waits no longer for its piece to become whole */
_Static_assert(PACKET_ROOM <= SHOWN_BYTES, "a block fits in many times");

/* ---- the thread that makes them ---- */

bool output_failed(const struct output *output) {
    return __atomic_load_n(&output->error, __ATOMIC_RELAXED) || __atomic_load_n(&output->abandoned, __ATOMIC_RELAXED);
}

unsigned char *output_room(struct output *output, size_t bytes) {
    int64_t needed = output->head + (int64_t)bytes - output->bytes;
    if (__atomic_load_n(&output->free_from, __ATOMIC_ACQUIRE) < needed) {
        output_flush(output);
        pthread_mutex_lock(&output->lock);
        while (output->free_from < needed && !output_failed(output))
            pthread_cond_wait(&output->changed, &output->lock);
        pthread_mutex_unlock(&output->lock);
    }
    if (output_failed(output)) return NULL;
    size_t place = (size_t)(output->head % output->bytes);
    return place + bytes <= (size_t)output->bytes ? output->memory + place : output->bounce;
}

/* Tells the writer how far it has come; `now`: to be written at once. */
static void show(struct output *output, bool now) {
    pthread_mutex_lock(&output->lock);
    output->shown = output->head;
    if (now) output->wanted = output->head;
    pthread_cond_broadcast(&output->changed);
    pthread_mutex_unlock(&output->lock);
}

void output_commit(struct output *output, const unsigned char *room, size_t bytes) {
    if (room == output->bounce) {
        size_t place = (size_t)(output->head % output->bytes), whole = (size_t)output->bytes - place;
        size_t first = bytes < whole ? bytes : whole;
        memcpy(output->memory + place, room, first);
        memcpy(output->memory, room + first, bytes - first);
    }
    output->head += (int64_t)bytes;
    if (output->head - output->shown >= SHOWN_BYTES) show(output, false);
}

void output_rest(struct output *output) {
    if (output->head != output->shown) show(output, !output->seekable);
}

void output_flush(struct output *output) {
    show(output, true);
}

/* ---- the thread that writes ---- */

/* A pipe takes PIPE_BUF bytes at once without making us wait for its reader. */
static ssize_t write_to_pipe(struct output *output, const unsigned char *bytes, size_t length) {
    struct pollfd pipe = {.fd = output->file_fd, .events = POLLOUT};
    while (!output_failed(output)) {
        int ready = poll(&pipe, 1, LOOK_MS);
        if (ready < 0 && errno != EINTR) return -1;
        if (ready > 0) return write(output->file_fd, bytes, length < PIPE_BUF ? length : PIPE_BUF);
    }
    return errno = ECANCELED, -1;
}

/* Writes the bytes from one offset to another, which lie in one piece of memory. 0 or errno. */
static int write_out(struct output *output, int fd, int64_t from, int64_t to) {
    while (from < to) {
        const unsigned char *bytes = output->memory + from % output->bytes;
        size_t length = (size_t)(to - from);
        ssize_t written = output->seekable ? pwrite(fd, bytes, length, from) : write_to_pipe(output, bytes, length);
        if (written < 0 && errno != EINTR && errno != EAGAIN) return errno;
        if (written == 0) return ENOSPC; /* as no file should */
        if (written > 0) from += written;
    }
    return 0;
}

/* What to write next. */
struct job {
    int fd; /* -1: nothing */
    int64_t from, to;
};

static struct job next_job(const struct output *output) {
    int64_t whole = output->direct_fd < 0 ? output->written : output->free_from;
    int64_t end = (whole / LAB_WRITE_BYTES + 1) * LAB_WRITE_BYTES; /* of the piece: the ring's end is one, too */
    if (output->shown >= end)
        return (struct job){output->direct_fd < 0 ? output->file_fd : output->direct_fd, whole, end};
    if (output->wanted > output->written) return (struct job){output->file_fd, output->written, output->shown};
    return (struct job){.fd = -1};
}

/* Sleeps until there may be something to do; what waited for long enough shall be written. Holds the lock. */
static void await_work(struct output *output) {
    struct timespec until = {.tv_sec = output->due_ns / 1000000000, .tv_nsec = output->due_ns % 1000000000};
    if (output->shown == output->written) {
        pthread_cond_wait(&output->changed, &output->lock);
        output->due_ns = now_ns() + MOST_IDLE_NS;
    } else if (pthread_cond_timedwait(&output->changed, &output->lock, &until) == ETIMEDOUT) {
        output->wanted = output->shown;
    }
}

/* Others read it without the lock. */
static void set_written(struct output *output, int64_t offset) {
    __atomic_store_n(&output->written, offset, __ATOMIC_RELAXED);
}

/* Does one job without the lock, and says what came of it. */
static void work(struct output *output, struct job job) {
    pthread_mutex_unlock(&output->lock);
    int error = write_out(output, job.fd, job.from, job.to);
    pthread_mutex_lock(&output->lock);
    output->due_ns = now_ns() + MOST_IDLE_NS;
    bool direct = job.fd == output->direct_fd;
    if (error == EINVAL && direct) { /* the file system takes the flag, but no such write */
        output->direct_fd = -1;
        error = 0;
        if (output->written < output->free_from) set_written(output, output->free_from);
    } else if (!error) {
        if (output->written < job.to) set_written(output, job.to);
        if (direct) __atomic_store_n(&output->free_from, job.to, __ATOMIC_RELEASE);
    }
    if (output->direct_fd < 0) __atomic_store_n(&output->free_from, output->written, __ATOMIC_RELEASE);
    __atomic_store_n(&output->error, error, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&output->changed);
    (void)!eventfd_write(output->ready_fd, 1);
    if (error) (void)!eventfd_write(output->wake_fd, 1);
}

static void *write_until_finished(void *argument) {
    struct output *output = argument;
    go_first();
    pthread_mutex_lock(&output->lock);
    while (!output_failed(output)) {
        struct job job = next_job(output);
        if (job.fd >= 0)
            work(output, job);
        else if (output->finished)
            break;
        else
            await_work(output);
    }
    pthread_mutex_unlock(&output->lock);
    return NULL;
}

/* ---- both ---- */

static void init_lock(struct output *output) {
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&output->lock, NULL);
    pthread_cond_init(&output->changed, &clock);
    pthread_condattr_destroy(&clock);
}

int output_start(struct output *output, const struct lab_capture_plan *plan, int wake_fd) {
    *output = (struct output){
        .file_fd = plan->file_fd,
        .direct_fd = plan->seekable ? plan->direct_fd : -1,
        .ready_fd = plan->ready_fd,
        .wake_fd = wake_fd,
        .bytes = (int64_t)plan->pieces * LAB_WRITE_BYTES,
        .seekable = plan->seekable,
        .bounce = malloc(PACKET_ROOM),
    };
    init_lock(output);
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
    void *memory = mmap(NULL, (size_t)output->bytes, PROT_READ | PROT_WRITE, anonymous, -1, 0);
    output->memory = memory == MAP_FAILED ? NULL : memory;
    int error = output->bounce && output->memory ? 0 : -ENOMEM;
    if (!error) error = start_thread(&output->writer, -1, write_until_finished, output);
    output->running = !error;
    if (error) output_free(output);
    return error;
}

void output_finish(struct output *output) {
    pthread_mutex_lock(&output->lock);
    output->finished = true;
    output->shown = output->wanted = output->head;
    pthread_cond_broadcast(&output->changed);
    pthread_mutex_unlock(&output->lock);
}

void output_abandon(struct output *output) {
    pthread_mutex_lock(&output->lock);
    __atomic_store_n(&output->abandoned, true, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&output->changed);
    pthread_mutex_unlock(&output->lock);
}

void output_free(struct output *output) {
    if (output->running) pthread_join(output->writer, NULL);
    if (output->memory) munmap(output->memory, (size_t)output->bytes);
    free(output->bounce);
    pthread_cond_destroy(&output->changed);
    pthread_mutex_destroy(&output->lock);
}
