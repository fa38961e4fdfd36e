// registry [uid | NAME]: memory registered for devices, and what becomes of it when its owner unmaps, moves or discards it without a word. Prints what is not as it
// should be. With "uid" as another user without rights; NAME: a space of a real device's, in the place of the software one.
#define _GNU_SOURCE
#include <causeway_translation.h>

#include "expect.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *name = "software";
static causeway_registry *registry;
static causeway_space *space, *other;
enum { page = 4096 };

static int message(char *words, size_t size) { return causeway_registry_message(registry, words, size); }

static char *pages(size_t count)
{
    char *memory = mmap(NULL, count * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        exit(1);
    memset(memory, 0x5a, count * page);
    return memory;
}

static int reaches(causeway_space *space, const void *memory)
{
    uint64_t iova, row;
    return causeway_space_bus_address(space, memory, 1, &iova, &row) == 0;
}

// What a listener is told, in letters; it refuses what begins at `unwanted`.
struct told {
    char events[32];
    size_t count;
    void *unwanted, *last;
    int nested; // what the registry answers to a call from here
};

static int listen(void *context, uint32_t event, void *memory, uint64_t byte_count)
{
    struct told *told = context;
    uint64_t a, b;
    if (told->count < sizeof told->events - 1)
        told->events[told->count++] = "+-!"[event];
    told->last = memory;
    told->nested = causeway_registry_get_size(registry, &a, &b);
    return memory == told->unwanted || byte_count == 0 ? -EACCES : 0;
}

static void registering(void)
{
    struct told told = {.count = 0}, second = {.count = 0};
    uint64_t id = 0, last = 0, count = 0, bytes = 0;
    char *memory = pages(16);
    struct causeway_account now;
    IS(-EINVAL, causeway_registry_register(registry, memory + 1, page, 3));
    SAYS("whole pages");
    IS(-EINVAL, causeway_registry_register(registry, memory, page, CAUSEWAY_WRITE));
    SAYS("permissions 0x2");
    IS(-EINVAL, causeway_registry_listen(registry, NULL, NULL, &id));
    IS(0, causeway_registry_register(registry, memory, 4 * page, 3));
    IS(0, causeway_registry_join(registry, space));
    IS(-EEXIST, causeway_registry_join(registry, space));
    SAYS("in this registry already");
    IS(1, reaches(space, memory + 4 * page - 1));
    IS(0, causeway_registry_listen(registry, listen, &told, &id));
    IS(0, strcmp(told.events, "+"));
    IS(-EDEADLK, told.nested);
    IS(-EEXIST, causeway_registry_register(registry, memory + 3 * page, 2 * page, 3));
    SAYS("are registered already");
    IS(0, causeway_registry_register(registry, memory + 4 * page, 2 * page, CAUSEWAY_READ));
    IS(0, strcmp(told.events, "++"));

    // What one refuses nobody has.
    told.unwanted = memory + 8 * page;
    IS(0, causeway_registry_listen(registry, listen, &second, &last));
    IS(-EACCES, causeway_registry_register(registry, memory + 8 * page, page, 3));
    SAYS("a listener refused 4096 bytes");
    IS(0, strcmp(second.events, "++"));
    IS(0, reaches(space, memory + 8 * page));
    IS(0, causeway_space_get_account(space, &now));
    IS(6 * page, now.used);
    IS(-EDQUOT, causeway_registry_join(registry, other)); // its budget is 5 pages
    SAYS("would have to be locked");
    IS(0, reaches(other, memory));
    IS(0, causeway_registry_end_listening(registry, last));
    IS(0, strcmp(second.events, "++--"));
    IS(1, second.last == memory);
    IS(-ENOENT, causeway_registry_end_listening(registry, last));
    IS(-ENOENT, causeway_registry_leave(registry, other));

    IS(-ERANGE, causeway_registry_unregister(registry, memory, 2 * page));
    SAYS("would cut the registration of 16384 bytes");
    IS(-ERANGE, causeway_registry_unregister(registry, memory + page, page));
    IS(-ENOENT, causeway_registry_unregister(registry, memory, 0));
    IS(-ENOENT, causeway_registry_unregister(registry, memory, 7 * page));
    IS(-ENOENT, causeway_registry_unregister(registry, memory + 9 * page, page));
    IS(0, causeway_registry_get_size(registry, &count, &bytes));
    IS(2, count);
    IS(6 * page, bytes);
    IS(0, causeway_registry_unregister(registry, memory, 6 * page)); // two at once
    IS(0, strcmp(told.events, "+++--")); // the one that it refused itself does not go
    IS(0, reaches(space, memory));
    IS(0, causeway_registry_end_listening(registry, id));
    IS(0, causeway_registry_leave(registry, space));
    munmap(memory, 16 * page);
}

// ---- The watch ----

// Whether the call that takes the memory away has returned; and what a listener finds while it has not.
static atomic_int returned;
struct seen {
    atomic_int events, early, reached, value;
    int looks; // whether the memory is still there to be looked at
};

static int watch(void *context, uint32_t event, void *memory, uint64_t byte_count)
{
    struct seen *seen = context;
    (void)byte_count;
    if (event != CAUSEWAY_WITHDRAWN)
        return 0;
    // Give a call that waits for nobody the time to return.
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    seen->early += !returned;
    // The space has joined after the listener: what goes is told in the reverse order.
    seen->reached += reaches(space, memory);
    if (seen->looks)
        seen->value = *(volatile unsigned char *)memory;
    seen->events++;
    return 0;
}

enum way { UNMAP, UNMAP_PART, OVERLAY, MOVE, GROW_AWAY, DISCARD, FREE, REMOVE, WAYS };
static const uint32_t causes[WAYS] = {
    CAUSEWAY_WITHDRAWN_UNMAPPED, CAUSEWAY_WITHDRAWN_UNMAPPED, CAUSEWAY_WITHDRAWN_UNMAPPED, CAUSEWAY_WITHDRAWN_MOVED,
    CAUSEWAY_WITHDRAWN_MOVED, CAUSEWAY_WITHDRAWN_DISCARDED, CAUSEWAY_WITHDRAWN_DISCARDED, CAUSEWAY_WITHDRAWN_DISCARDED,
};

static int take_away(char *memory, enum way way)
{
    void *elsewhere;
    switch (way) {
    case UNMAP: return munmap(memory, 8 * page);
    case UNMAP_PART: return munmap(memory + 3 * page, page);
    case OVERLAY: return mmap(memory + page, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED;
    case MOVE:
        elsewhere = mmap(NULL, 8 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return mremap(memory, 8 * page, 8 * page, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) == MAP_FAILED;
    case GROW_AWAY: return mremap(memory, 8 * page, 4096 * page, MREMAP_MAYMOVE) == MAP_FAILED;
    case DISCARD: return madvise(memory + page, 2 * page, MADV_DONTNEED);
    case FREE: return madvise(memory, 8 * page, MADV_FREE);
    case REMOVE: return madvise(memory, 8 * page, MADV_REMOVE);
    default: return -1;
    }
}

static void one_way(enum way way, int is_file)
{
    struct causeway_withdrawal was = {0};
    struct seen seen = {.looks = way >= DISCARD};
    uint64_t id = 0, count = 0, bytes = 0, before = causeway_registry_withdrawal_count(registry);
    char *memory, *neighbour = pages(1);
    if (is_file) {
        int file = memfd_create("watched", 0);
        IS(0, ftruncate(file, 8 * page));
        memory = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        memset(memory, 0x5a, 8 * page);
        close(file);
    } else {
        memory = pages(8);
    }
    IS(0, causeway_registry_register(registry, memory, 8 * page, 3));
    IS(0, causeway_registry_register(registry, neighbour, page, 3));
    IS(0, causeway_registry_listen(registry, watch, &seen, &id));
    IS(0, causeway_registry_join(registry, space));
    IS(1, reaches(space, memory) && reaches(space, memory + 7 * page));
    returned = 0;
    IS(0, take_away(memory, way));
    returned = 1;
    // All of it has happened by now.
    IS(1, seen.events);
    IS(1, seen.early);
    IS(0, seen.reached);
    if (seen.looks)
        IS(0x5a, seen.value);
    IS(0, reaches(space, memory));
    IS(1, reaches(space, neighbour));
    IS(0, causeway_registry_get_size(registry, &count, &bytes));
    IS(page, bytes);
    for (int i = 0; i < 1000 && causeway_registry_withdrawal_count(registry) == before; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    while (causeway_registry_next_withdrawal(registry, &was) == -ENOENT && causeway_registry_withdrawal_count(registry) == before)
        ;
    IS(1, was.address == (uintptr_t)memory && was.byte_count == 8 * page);
    IS(causes[way], was.cause);
    IS(way == UNMAP_PART ? (uintptr_t)memory + 3 * page : was.start, was.start);
    IS(-ENOENT, causeway_registry_unregister(registry, memory, 8 * page));
    // What is there now can be registered anew.
    if (way == DISCARD || way == FREE || way == REMOVE || way == OVERLAY) {
        memory[0] = 1, memory[page] = 2;
        IS(0, causeway_registry_register(registry, memory, 8 * page, 3));
        IS(1, reaches(space, memory));
        IS(0, causeway_registry_unregister(registry, memory, 8 * page));
    }
    IS(0, causeway_registry_leave(registry, space));
    IS(0, causeway_registry_end_listening(registry, id));
    IS(0, causeway_registry_unregister(registry, neighbour, page));
    struct causeway_account now;
    IS(0, causeway_space_get_account(space, &now));
    IS(0, now.used);
}

// Without a watch the device goes on reaching what is not there any more: what all of this is for.
static void unwatched(void)
{
    causeway_registry *plain = NULL, *watched = registry;
    char *memory = pages(8);
    IS(0, causeway_registry_create(0, &plain, NULL, 0));
    IS(0, causeway_registry_join(plain, space));
    IS(0, causeway_registry_register(plain, memory, 8 * page, 3));
    munmap(memory, 8 * page);
    IS(1, reaches(space, memory));
    IS(0, causeway_registry_unregister(plain, memory, 8 * page));
    IS(0, reaches(space, memory));
    causeway_registry_destroy(plain);
    registry = watched;
}

// Memory that cannot be watched is not registered; nor what somebody else watches.
static void unwatchable(void)
{
    causeway_registry *second = NULL;
    char *memory = pages(2), words[200];
    FILE *file = fopen("/proc/self/exe", "r");
    void *program = mmap(NULL, page, PROT_READ, MAP_SHARED, fileno(file), 0);
    IS(-EINVAL, causeway_registry_register(registry, program, page, CAUSEWAY_READ));
    SAYS("cannot be watched");
    fclose(file);
    munmap(program, page);
    IS(0, causeway_registry_register(registry, memory, page, 3));
    IS(0, causeway_registry_create(CAUSEWAY_REGISTRY_WATCHED, &second, words, sizeof words));
    IS(-EBUSY, causeway_registry_register(second, memory, page, 3));
    causeway_registry_destroy(second);
    IS(0, causeway_registry_unregister(registry, memory, page));
    munmap(memory, 2 * page);
    IS(-EINVAL, causeway_registry_create(2, &second, words, sizeof words));
    IS(-EINVAL, causeway_registry_create(0, NULL, words, sizeof words));
    IS(-EINVAL, causeway_registry_register(NULL, memory, page, 3));
    causeway_registry_destroy(NULL);
}

// Many threads unmap what is registered while others register: every unmap returns, nothing is left.
static void *churn(void *argument)
{
    (void)argument;
    for (int i = 0; i < 100; i++) {
        char *memory = pages(2);
        if (causeway_registry_register(registry, memory, 2 * page, 3) == 0 && i % 3 == 0)
            causeway_registry_unregister(registry, memory, 2 * page);
        munmap(memory, 2 * page);
    }
    return NULL;
}

static void many(void)
{
    pthread_t threads[4];
    uint64_t count = 1, bytes = 1;
    IS(0, causeway_registry_join(registry, space));
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, churn, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    IS(0, causeway_registry_get_size(registry, &count, &bytes));
    IS(0, count);
    struct causeway_account now;
    IS(0, causeway_space_get_account(space, &now));
    IS(0, now.used);
    IS(0, causeway_registry_leave(registry, space));
}

// A process that ends, by itself or by a signal, with watched memory: at once, whatever is registered.
static void ending(void)
{
    for (int way = 0; way < 2; way++) {
        pid_t child = fork();
        if (child == 0) {
            // Its own: threads do not come along.
            char words[200];
            causeway_registry *own = NULL;
            causeway_space *reached = NULL;
            alarm(20);
            if (causeway_registry_create(CAUSEWAY_REGISTRY_WATCHED, &own, words, sizeof words) != 0
                || causeway_space_open(name, 0, &reached, words, sizeof words) != 0 || causeway_registry_join(own, reached) != 0
                || causeway_registry_register(own, pages(8), 8 * page, 3) != 0)
                _exit(1);
            if (way == 0)
                exit(0);
            raise(SIGKILL);
        }
        int status = -1;
        waitpid(child, &status, 0);
        IS(1, way == 0 ? WIFEXITED(status) && WEXITSTATUS(status) == 0 : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
}

int main(int argc, char **argv)
{
    char words[300] = "";
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1 && strcmp(argv[1], "uid") != 0)
        name = argv[1];
    else if (argc > 1 && (setgid(65534) != 0 || setuid(65534) != 0))
        return 1;
    alarm(120);
    ending();
    if (causeway_space_open(name, 0, &space, words, sizeof words) != 0
        || causeway_space_open("software", 5 * page, &other, words, sizeof words) != 0
        || causeway_registry_create(CAUSEWAY_REGISTRY_WATCHED, &registry, words, sizeof words) != 0) {
        printf("%s\n", words);
        return 1;
    }
    registering();
    for (enum way way = 0; way < WAYS; way++) {
        if (way != REMOVE) // only of files
            one_way(way, 0);
        if (way != FREE) // only of private memory
            one_way(way, 1);
    }
    unwatched();
    unwatchable();
    many();
    causeway_registry_destroy(registry);
    causeway_space_destroy(space);
    causeway_space_destroy(other);
    return failures != 0;
}
