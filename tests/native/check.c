/* Runs one case by name, or all of them, each in a process of its own.
 *
 *     check [NAME]     check --list     check --list-threads
 *
 * Exit 0: as it should be; 1: not so; 77: this machine can't run it (one case), and why. */
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { SKIPPED = 77, LIMIT_MS = 50000 };

int family;
char trying[160];

/* The code under test allocates nothing, and LeakSanitizer wants rights that containers don't give. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0";
}

static _Noreturn void leave(int code) {
    fflush(stdout);
    _exit(code);
}

_Noreturn void fail(const char *file, int line, const char *claim) {
    printf("%s:%d: not so: %s (%s)\n", file, line, claim, trying);
    leave(1);
}

_Noreturn void fail_equal(const char *file, int line, const char *claim, long long left, long long right) {
    printf("%s:%d: not so: %s: %lld and %lld (%s)\n", file, line, claim, left, right, trying);
    leave(1);
}

_Noreturn void skip(const char *what, int error) {
    printf("%s%s%s\n", what, error ? ": " : "", error ? strerror(error) : "");
    leave(SKIPPED);
}

/* In the child: 0, 1 or 77 by way of its exit code. */
static _Noreturn void run_here(const struct check *check, int of_family) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    family = of_family;
    if (family == AF_INET6) close(open_socket(SOCK_DGRAM)); /* skips where there is no IPv6 */
    check->run();
    leave(0);
}

static int run_case(const struct check *check, int of_family, const char *name) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) run_here(check, of_family);
    struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN};
    int status;
    if (child < 0 || ended.fd < 0) return 1;
    if (poll(&ended, 1, LIMIT_MS) == 0) {
        printf("%s: still running after %d ms\n", name, LIMIT_MS);
        kill(child, SIGKILL);
    }
    close(ended.fd);
    waitpid(child, &status, 0);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    printf("%s %s\n", code == 0 ? "ok" : code == SKIPPED ? "skipped" : "FAILED", name);
    return code;
}

/* Whether the arguments ask for this case; lists its name if they ask for that. */
static bool chosen(const char *argument, const struct check *check, const char *name) {
    if (!argument) return true;
    bool list = !strcmp(argument, "--list");
    bool threads = !strcmp(argument, "--list-threads");
    if (list || (threads && check->traits & THREADS)) puts(name);
    return !strcmp(argument, name);
}

int main(int argc, char **argv) {
    const struct check *files[] = {stream_checks,  stop_checks,    loss_checks,  refusal_checks,
                                   failure_checks, message_checks, icmp_checks,  wire_checks,
                                   impair_checks,  baseline_checks, schedule_checks, stamp_checks,
                                   noise_checks,   syscall_checks, connect_checks, syn_checks,
                                   dissect_checks, reader_checks,  lane_checks,  capture_checks,
                                   inject_checks,  sweep_checks,   bulk_checks};
    const char *argument = argc > 1 ? argv[1] : NULL;
    int worst = 0, found = argument && !strncmp(argument, "--list", 6);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        for (const struct check *check = files[i]; check->name; check++) {
            bool both = check->traits & BOTH_FAMILIES;
            for (int version = 4; version <= (both ? 6 : 4); version += 2) {
                char name[80];
                snprintf(name, sizeof name, both ? "%s-%d" : "%s", check->name, version);
                if (!chosen(argument, check, name)) continue;
                int code = run_case(check, version == 4 ? AF_INET : AF_INET6, name);
                found = 1;
                if (argument) return code;
                if (code && code != SKIPPED) worst = 1;
            }
        }
    }
    if (!found) printf("no case %s\n", argument);
    return found ? worst : 1;
}
