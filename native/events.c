/* The wire's log: a ring that its thread writes and any other may copy meanwhile, without a lock.
 *
 * Two totals frame each write: log_begun is raised before an event's first word changes, logged after its last. A
 * reader copies what was logged, then leaves out what the writer may have begun to overwrite. Words are stored with
 * release and loaded with acquire order, which keeps the totals on their side of the words; on x86 that is free. */
#include "internal.h"

typedef uint64_t __attribute__((may_alias)) word;
enum { WORDS = sizeof(struct lab_wire_event) / sizeof(word) };

void event_log(struct lab_wire *wire, struct lab_wire_event *ring, const struct lab_wire_event *event) {
    int64_t number = wire->logged;
    word *to = (word *)&ring[number % wire->log_size];
    const word *from = (const word *)event;
    __atomic_store_n(&wire->log_begun, number + 1, __ATOMIC_RELAXED);
    for (int i = 0; i < WORDS; i++) __atomic_store_n(&to[i], from[i], __ATOMIC_RELEASE);
    __atomic_store_n(&wire->logged, number + 1, __ATOMIC_RELEASE);
}

int64_t lab_wire_events(const struct lab_wire *wire, const struct lab_wire_event *events, struct lab_wire_event *copy,
                        int64_t *first) {
    int64_t end = __atomic_load_n(&wire->logged, __ATOMIC_ACQUIRE);
    int64_t oldest = end > wire->log_size ? end - wire->log_size : 0;
    for (int64_t number = oldest; number < end; number++) {
        const word *from = (const word *)&events[number % wire->log_size];
        word *to = (word *)&copy[number - oldest];
        for (int i = 0; i < WORDS; i++) to[i] = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
    }
    int64_t whole = __atomic_load_n(&wire->log_begun, __ATOMIC_RELAXED) - wire->log_size;
    if (whole < oldest) whole = oldest;
    if (whole > end) whole = end;
    memmove(copy, copy + (whole - oldest), (size_t)(end - whole) * sizeof *copy);
    *first = whole;
    return end - whole;
}
