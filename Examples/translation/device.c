// A device's memory: opened by name, registered once, found by pointer, withdrawn when its owner forgets it.
// device [NAME]: NAME as for causeway_space_open, "software" unless given.
#define _DEFAULT_SOURCE
#include <causeway_translation.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static int told(void *context, uint32_t event, void *memory, uint64_t byte_count)
{
    static const char *const words[] = {"registered", "unregistered", "withdrawn"};
    (void)memory;
    printf("%s: %llu bytes %s\n", (const char *)context, (unsigned long long)byte_count, words[event]);
    return 0;
}

static void fail(const char *what, const char *words)
{
    fprintf(stderr, "%s: %s\n", what, words);
    exit(1);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "software";
    char words[400] = "";
    causeway_space *space;
    causeway_registry *registry;
    uint64_t number, iova, in_row;

    // A budget of 1 MiB within RLIMIT_MEMLOCK.
    if (causeway_space_open(name, 1 << 20, &space, words, sizeof words) != 0)
        fail(name, words);
    if (causeway_registry_create(CAUSEWAY_REGISTRY_WATCHED, &registry, words, sizeof words) != 0)
        fail("registry", words);
    causeway_registry_join(registry, space);
    causeway_registry_listen(registry, told, "driver", &number);

    char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (causeway_registry_register(registry, memory, 1 << 20, CAUSEWAY_READ | CAUSEWAY_WRITE) != 0) {
        causeway_registry_message(registry, words, sizeof words);
        fail("register", words);
    }
    // What the device is told of a buffer.
    if (causeway_space_bus_address(space, memory + 4096 + 16, 8192, &iova, &in_row) == 0)
        printf("a buffer of 8192 bytes: %llu in a row\n", (unsigned long long)in_row);

    // More than the budget: one message with the numbers.
    char *more = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (causeway_registry_register(registry, more, 4096, CAUSEWAY_READ) != 0) {
        causeway_registry_message(registry, words, sizeof words);
        printf("refused: %s\n", words);
    }
    // Its owner forgets: the device loses it before it is gone.
    munmap(memory, 1 << 20);
    printf("found afterwards: %s\n", causeway_space_bus_address(space, memory, 1, &iova, &in_row) == 0 ? "yes" : "no");
    causeway_registry_destroy(registry);
    causeway_space_destroy(space);
    return 0;
}
