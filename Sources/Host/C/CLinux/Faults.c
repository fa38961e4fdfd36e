#define _GNU_SOURCE
#include "Faults.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { most = 1024 };

// The handler reads these while others write: a length is stored after its start and cleared before it.
static struct {
    _Atomic uintptr_t start;
    _Atomic size_t length;
    _Atomic int is_taken;
    _Atomic int is_lost;
} mappings[most];

static struct sigaction before;
static int handler_error;
static pthread_once_t once = PTHREAD_ONCE_INIT;

// Async-signal-safe: atomic loads and stores, and system calls.
static void handle(int number, siginfo_t *information, void *context) {
    (void)context;
    int saved = errno;
    uintptr_t place = (uintptr_t)information->si_addr;
    for (int index = 0; information->si_code > 0 && index < most; index++) {
        size_t length = atomic_load(&mappings[index].length);
        uintptr_t start = atomic_load(&mappings[index].start);
        if (length == 0 || place < start || place - start >= length) continue;
        // Private, so that two threads that fault at once do no harm; not reserved, for most of it is never touched.
        void *zeroes = mmap((void *)start, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
        if (zeroes == MAP_FAILED) break;
        atomic_store(&mappings[index].is_lost, 1);
        errno = saved;
        return;
    }
    // Nobody's business here: the instruction faults again, and what was to be done about that is done; so it is about what was sent.
    sigaction(number, &before, NULL);
    if (information->si_code <= 0) raise(number);
    errno = saved;
}

static void install(void) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    handler_error = sigaction(SIGBUS, &action, &before) < 0 ? errno : 0;
}

int causeway_watch_mapping(void *start, size_t length) {
    pthread_once(&once, install);
    if (handler_error != 0 || length == 0) {
        errno = handler_error != 0 ? handler_error : EINVAL;
        return -1;
    }
    for (int index = 0; index < most; index++) {
        int none = 0;
        if (!atomic_compare_exchange_strong(&mappings[index].is_taken, &none, 1)) continue;
        atomic_store(&mappings[index].is_lost, 0);
        atomic_store(&mappings[index].start, (uintptr_t)start);
        atomic_store(&mappings[index].length, length);
        return index;
    }
    errno = ENOSPC;
    return -1;
}

int causeway_mapping_is_lost(int number) { return atomic_load(&mappings[number].is_lost); }

void causeway_unwatch_mapping(int number) {
    atomic_store(&mappings[number].length, 0);
    atomic_store(&mappings[number].is_taken, 0);
}
