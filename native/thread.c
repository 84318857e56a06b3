/* Threads of our own: where they run, what they go through, and whose signals they leave alone. */
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/resource.h>

#include "internal.h"

enum { URGENT = -10 }; /* a nice value */

int pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) ? -errno : 0;
}

void add_usage(struct lab_usage *usage, int sign) {
    struct rusage now;
    getrusage(RUSAGE_THREAD, &now);
    usage->voluntary += sign * now.ru_nvcsw;
    usage->involuntary += sign * now.ru_nivcsw;
    usage->minor_faults += sign * now.ru_minflt;
    usage->major_faults += sign * now.ru_majflt;
}

void go_first(void) {
    (void)setpriority(PRIO_PROCESS, 0, URGENT); /* without the right to it, all else is as it would be */
}

struct start {
    int cpu;
    void *(*run)(void *);
    void *argument;
    sem_t placed;
};

static void *begin(void *argument) {
    struct start *start = argument;
    void *(*run)(void *) = start->run, *its_argument = start->argument;
    if (start->cpu >= 0) (void)pin(start->cpu); /* if it can't be, `run` finds out */
    sem_post(&start->placed);
    return run(its_argument);
}

/* A thread begins on its creator's CPU. If that polls there at real-time priority, it would never get to leave: hence
 * the creator sleeps until it has. */
int start_thread(pthread_t *thread, int cpu, void *(*run)(void *), void *argument) {
    struct start start = {.cpu = cpu, .run = run, .argument = argument};
    sigset_t all, before;
    sigfillset(&all);
    int error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error) return -error;
    sem_init(&start.placed, 0, 0);
    error = pthread_create(thread, NULL, begin, &start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    while (!error && sem_wait(&start.placed) && errno == EINTR) continue;
    sem_destroy(&start.placed);
    return -error;
}
