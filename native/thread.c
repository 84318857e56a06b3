/* Threads of our own: where they run, what they go through, and whose signals they leave alone. */
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

#include "internal.h"

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

int start_thread(pthread_t *thread, void *(*run)(void *), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    int error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error) return -error;
    error = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}
