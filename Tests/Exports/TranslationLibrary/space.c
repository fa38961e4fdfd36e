// space NAME [PCI-ADDRESS]: causeway_space_… by the rules that the header says, on the software space or on a real device's. Prints what is not as it
// should be, and on a real device what it is like. NAME's budget is 64 pages.
#define _GNU_SOURCE
#include <causeway_translation.h>

#include "expect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static causeway_space *space;

static int message(char *words, size_t size) { return causeway_space_message(space, words, size); }

enum { page = 4096 };

static char *pages(size_t count)
{
    char *memory = mmap(NULL, count * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static struct causeway_account account(void)
{
    struct causeway_account now;
    IS(0, causeway_space_get_account(space, &now));
    return now;
}

// Fixed addresses, ranges of them, and what is refused.
static void mapping(void)
{
    struct causeway_addresses ranges[16], reserved[16];
    struct causeway_space_info info;
    size_t count = 0, gaps = 0;
    uint64_t iova = 0, ended = 0, row = 0;
    void *back = NULL;
    char *memory = pages(16);

    IS(0, causeway_space_get_info(space, &info));
    IS(0, info.mappings);
    IS(1, info.page_sizes >> 12 & 1);
    IS(0, causeway_space_addresses(space, CAUSEWAY_ADDRESSES_ALLOWED, ranges, 16, &count));
    IS(0, causeway_space_addresses(space, CAUSEWAY_ADDRESSES_RESERVED, reserved, 16, &gaps));
    int holds = 0, window = 0;
    for (size_t i = 0; i < count; i++)
        holds |= ranges[i].first <= 0x10000000 && ranges[i].last >= 0x10ffffff;
    for (size_t i = 0; i < gaps; i++)
        window |= reserved[i].first <= 0xfee00000 && reserved[i].last >= 0xfeefffff;
    IS(1, holds);
    IS(1, window);
    IS(-ENOBUFS, causeway_space_addresses(space, CAUSEWAY_ADDRESSES_ALLOWED, NULL, 0, &count));
    IS(-EINVAL, causeway_space_addresses(space, 3, ranges, 16, &count));
    SAYS("addresses of kind 3");

    IS(-EINVAL, causeway_space_map(space, memory + 1, page, 3, CAUSEWAY_ANYWHERE, &iova));
    SAYS("whole pages");
    IS(-EINVAL, causeway_space_map(space, memory, 0, 3, CAUSEWAY_ANYWHERE, &iova));
    IS(-EINVAL, causeway_space_map(space, memory, UINT64_MAX & ~4095ull, 3, CAUSEWAY_ANYWHERE, &iova));
    IS(-EINVAL, causeway_space_map(space, memory, page, 0, CAUSEWAY_ANYWHERE, &iova));
    SAYS("permissions 0x0");
    IS(-EINVAL, causeway_space_map(space, memory, page, 3, 0x1001, &iova));
    SAYS("multiple of 4096");
    IS(-ERANGE, causeway_space_map(space, memory, page, 3, 0xfee00000, &iova));
    SAYS("cannot be given");
    IS(-ERANGE, causeway_space_map(space, memory, page, 3, 0xfffffffffffff000ull, &iova));
    IS(0, causeway_space_map(space, memory, 4 * page, 3, 0x10000000, &iova));
    IS(0x10000000, iova);
    IS(-EEXIST, causeway_space_map(space, memory + 4 * page, 2 * page, 3, 0x10003000, &iova));
    IS(0, causeway_space_map(space, memory + 4 * page, 2 * page, CAUSEWAY_READ, 0x10004000, &iova));
    IS(0, causeway_space_map(space, memory + 8 * page, page, CAUSEWAY_WRITE, 0x20000000, &iova));
    size_t before = count;
    IS(0, causeway_space_addresses(space, CAUSEWAY_ADDRESSES_FREE, ranges, 16, &count));
    IS(before + 2, count);

    // There and back.
    IS(0, causeway_space_bus_address(space, memory + 5 * page + 7, 100, &iova, &row));
    IS(0x10005007, iova);
    IS(100, row);
    IS(0, causeway_space_bus_address(space, memory + 7, 100 * page, &iova, &row));
    IS(4 * page - 7, row); // what goes on there may be done something else with
    IS(-ENOENT, causeway_space_bus_address(space, memory + 6 * page, 1, &iova, &row));
    IS(-EINVAL, causeway_space_bus_address(space, memory, 0, &iova, &row));
    IS(0, causeway_space_pointer(space, 0x20000005, &back));
    IS(1, back == memory + 8 * page + 5);
    IS(-ENOENT, causeway_space_pointer(space, 0x30000000, &back));

    // A page that is mapped twice is found as long as it is mapped once.
    IS(0, causeway_space_map(space, memory + 2 * page, 3 * page, 3, 0x40000000, &iova));
    IS(0, causeway_space_get_info(space, &info));
    IS(4, info.mappings);
    IS(10 * page, account().used);

    IS(-EINVAL, causeway_space_unmap(space, 0x10000000, page, &ended));
    SAYS("would cut the mapping");
    IS(-EINVAL, causeway_space_unmap(space, 0x10001000, 5 * page, &ended));
    IS(-ENOENT, causeway_space_unmap(space, 0x11000000, page, &ended));
    IS(-ERANGE, causeway_space_unmap(space, 0x11000000, 0, &ended));
    IS(-ERANGE, causeway_space_unmap(space, 0x11000000, UINT64_MAX, &ended));
    IS(0, causeway_space_unmap(space, 0x0ffff000, 7 * page, &ended));
    IS(6 * page, ended);
    IS(-ENOENT, causeway_space_bus_address(space, memory, 1, &iova, &row));
    IS(0, causeway_space_bus_address(space, memory + 3 * page, 1, &iova, &row));
    IS(0x40001000, iova);
    IS(0, causeway_space_unmap_all(space, &ended));
    IS(4 * page, ended);
    IS(0, causeway_space_unmap_all(space, &ended));
    IS(0, ended);
    IS(0, account().used);
    munmap(memory, 16 * page);
}

// The budget says what is needed, what is left, and counts what it refused.
static void budget(void)
{
    uint64_t iova = 0, ended = 0;
    struct causeway_account now = account();
    char *memory = pages(65);
    IS(64 * page, now.limit);
    IS(0, now.refused_count);
    IS(-EDQUOT, causeway_space_map(space, memory, 65 * page, 3, CAUSEWAY_ANYWHERE, &iova));
    SAYS("266240 bytes would have to be locked in memory, and 262144 of 262144 bytes are left");
    IS(0, causeway_space_map(space, memory, 60 * page, 3, CAUSEWAY_ANYWHERE, &iova));
    IS(-EDQUOT, causeway_space_map(space, memory + 60 * page, 5 * page, 3, CAUSEWAY_ANYWHERE, &ended));
    now = account();
    IS(60 * page, now.used);
    IS(4 * page, now.left);
    IS(2, now.refused_count);
    IS(70 * page, now.refused_bytes);
    IS(0, causeway_space_map(space, memory + 60 * page, 4 * page, 3, CAUSEWAY_ANYWHERE, &ended));
    IS(0, account().left);
    IS(0, causeway_space_unmap_all(space, &ended));
    IS(64 * page, ended);
    munmap(memory, 65 * page);
}

static void file(void)
{
    uint64_t iova = 0, ended = 0, row = 0;
    void *memory = NULL;
    int fd = memfd_create("region", MFD_ALLOW_SEALING);
    IS(0, ftruncate(fd, 8 * page));
    IS(5, pwrite(fd, "hello", 5, 2 * page));
    IS(-EBADF, causeway_space_map_descriptor(space, 999, 0, page, 3, CAUSEWAY_ANYWHERE, &iova, &memory));
    SAYS("descriptor 999");
    IS(-EINVAL, causeway_space_map_descriptor(space, fd, 1, page, 3, CAUSEWAY_ANYWHERE, &iova, &memory));
    IS(-ERANGE, causeway_space_map_descriptor(space, fd, 7 * page, 2 * page, 3, CAUSEWAY_ANYWHERE, &iova, &memory));
    SAYS("whose file has 32768");
    IS(0, causeway_space_map_descriptor(space, fd, 2 * page, 3 * page, 3, 0x50000000, &iova, &memory));
    IS(0, memcmp(memory, "hello", 5));
    IS(0, causeway_space_bus_address(space, (char *)memory + page, page, &iova, &row));
    IS(0x50001000, iova);
    // What nobody may write a device may read.
    IS(0, fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    void *again = NULL;
    IS(-EPERM, causeway_space_map_descriptor(space, fd, 0, page, 3, CAUSEWAY_ANYWHERE, &iova, &again));
    IS(0, causeway_space_map_descriptor(space, fd, 0, page, CAUSEWAY_READ, 0x60000000, &iova, &again));
    close(fd);
    IS(0, memcmp(memory, "hello", 5));
    IS(0, causeway_space_unmap_all(space, &ended));
    IS(4 * page, ended);
    IS(0, account().used);
}

static void dirty(int is_software)
{
    uint8_t bits[2] = {0, 0};
    uint64_t iova = 0, ended = 0;
    void *place;
    char *memory = pages(10);
    IS(0, causeway_space_map(space, memory, 8 * page, 3, 0x10000000, &iova));
    IS(0, causeway_space_map(space, memory + 8 * page, 2 * page, 3, 0x10008000, &iova));
    int started = causeway_space_start_dirty(space);
    if (started == -EOPNOTSUPP && !is_software) {
        printf("dirty pages: not recorded here\n");
    } else {
        IS(0, started);
        IS(-ENOBUFS, causeway_space_take_dirty(space, 0x10000000, 10 * page, bits, 1));
        IS(-EINVAL, causeway_space_take_dirty(space, 0x10000000, 9 * page, bits, 2));
        IS(-ENOENT, causeway_space_take_dirty(space, 0x10000000, 11 * page, bits, 2));
        if (is_software) {
            IS(0, causeway_space_access(space, 0x10003123, CAUSEWAY_WRITE, &place));
            IS(1, place == memory + 3 * page + 0x123);
            IS(0, causeway_space_access(space, 0x10009000, CAUSEWAY_WRITE, &place));
            IS(0, causeway_space_access(space, 0x10000000, CAUSEWAY_READ, &place));
        }
        IS(0, causeway_space_take_dirty(space, 0x10000000, 10 * page, bits, 2));
        // type1 takes all that is pinned for written: never too few.
        IS(is_software ? 0x08 : 0xff, bits[0]);
        IS(is_software ? 0x02 : 0x03, bits[1]);
        if (is_software) {
            IS(0, causeway_space_take_dirty(space, 0x10000000, 10 * page, bits, 2));
            IS(0, bits[0] | bits[1]);
        }
        IS(0, causeway_space_stop_dirty(space));
    }
    IS(0, causeway_space_unmap_all(space, &ended));
    munmap(memory, 10 * page);
}

static void faults(void)
{
    struct causeway_fault fault;
    uint64_t iova = 0, ended = 0;
    void *place;
    char *memory = pages(1);
    IS(-ENOENT, causeway_space_next_fault(space, &fault));
    IS(0, causeway_space_map(space, memory, page, CAUSEWAY_READ, 0x10000000, &iova));
    IS(-EFAULT, causeway_space_access(space, 0x10000010, CAUSEWAY_WRITE, &place));
    SAYS("may not write 0x10000010");
    IS(-EFAULT, causeway_space_access(space, 0x10001000, CAUSEWAY_READ, &place));
    IS(0, causeway_space_next_fault(space, &fault));
    IS(1, fault.iova == 0x10000010 && fault.cause == CAUSEWAY_FAULT_WRITE_DENIED);
    IS(0, causeway_space_next_fault(space, &fault));
    IS(1, fault.iova == 0x10001000 && fault.cause == CAUSEWAY_FAULT_NOT_MAPPED);
    IS(-ENOENT, causeway_space_next_fault(space, &fault));
    IS(-EINVAL, causeway_space_access(space, 0, 3, &place));
    IS(0, causeway_space_unmap_all(space, &ended));
    munmap(memory, page);
}

// Addresses of 48 and 57 bits: beyond 1 TiB, up to the last page, and no further.
static void wide(void)
{
    int bits[] = {32, 48, 57};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        char name[32], words[200];
        causeway_space *own = NULL;
        uint64_t iova = 0, row = 0, top = (1ull << bits[i]) - 2 * page;
        void *place = NULL;
        char *memory = pages(2);
        snprintf(name, sizeof name, "software:%d", bits[i]);
        IS(0, causeway_space_open(name, 0, &own, words, sizeof words));
        IS(0, causeway_space_map(own, memory, 2 * page, 3, top, &iova));
        IS(0, causeway_space_access(own, top + page + 5, CAUSEWAY_WRITE, &place));
        IS(1, place == memory + page + 5);
        IS(0, causeway_space_bus_address(own, memory + page, 1, &iova, &row));
        IS(1, iova == top + page);
        IS(0, causeway_space_pointer(own, top + 1, &place));
        IS(1, place == memory + 1);
        IS(-ERANGE, causeway_space_map(own, memory, page, 3, top + 2 * page, &iova));
        causeway_space_destroy(own);
        munmap(memory, 2 * page);
    }
}

static void opening(void)
{
    const struct { const char *name, *words; int error; } cases[] = {
        {"", "no DMA back end is called", -EINVAL}, {"nothing", "vfio-type1, iommufd, software, pci", -EINVAL},
        {"vfio-type1", "needs a group's node", -EINVAL}, {"software:31", "32 to 57", -ENODEV}, {"software:x", "32 to 57", -ENODEV},
        {"pci:zz", "no such PCI device", -ENODEV}, {"pci:ffff:1f:1f.7", "no such PCI device", -ENODEV},
    };
    causeway_space *none = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char words[300] = "";
        IS(cases[i].error, causeway_space_open(cases[i].name, 0, &none, words, sizeof words));
        if (!strstr(words, cases[i].words))
            printf("\"%s\": \"%s\"\n", cases[i].name, words), failures++;
    }
    IS(-EINVAL, causeway_space_open(NULL, 0, &none, NULL, 0));
    IS(-EINVAL, causeway_space_open("software", 0, NULL, NULL, 0));
    IS(1, none == NULL);
    uint64_t number;
    size_t count;
    IS(-EINVAL, causeway_space_map(NULL, NULL, 0, 0, 0, &number));
    IS(-EINVAL, causeway_space_unmap(NULL, 0, 0, &number));
    IS(-EINVAL, causeway_space_bus_address(NULL, NULL, 1, &number, &number));
    IS(-EINVAL, causeway_space_addresses(NULL, 0, NULL, 0, &count));
    IS(-EINVAL, causeway_space_message(NULL, NULL, 0));
    causeway_space_destroy(NULL);
    causeway_vectors_destroy(NULL);
    IS(-EINVAL, causeway_vectors_descriptor(NULL, 0));
    IS(-EINVAL, causeway_vectors_take(NULL, 0, 0, &number));
}

// A device's interrupts are counters: the kernel rings each as the device would.
static void vectors(const char *address)
{
    int device = -1;
    uint32_t most = 0;
    uint64_t count = 0;
    char words[300] = "";
    causeway_vectors *on = NULL;
    IS(0, causeway_space_device(space, address, &device));
    for (uint32_t kind = CAUSEWAY_VECTORS_MSI; kind <= CAUSEWAY_VECTORS_MSIX; kind++) {
        IS(0, causeway_vectors_available(device, kind, &most));
        printf("%s: %u vectors of kind %u\n", address, most, kind);
        IS(-ENXIO, causeway_vectors_open(device, kind, most + 1, &on, words, sizeof words));
        IS(1, strstr(words, "and there are") != NULL);
        if (most == 0)
            continue;
        uint32_t used = most < 4 ? most : 4;
        if (causeway_vectors_open(device, kind, used, &on, words, sizeof words) != 0) {
            printf("vectors: %s\n", words);
            failures++;
            continue;
        }
        for (uint32_t i = 0; i < used; i++) {
            IS(0, causeway_vectors_take(on, i, 0, &count));
            IS(0, count);
            for (uint32_t ring = 0; ring <= i; ring++)
                IS(0, causeway_vectors_trigger(on, i));
            IS(0, causeway_vectors_take(on, i, 1000, &count));
            IS(i + 1, count);
            IS(1, causeway_vectors_descriptor(on, i) >= 0);
        }
        IS(-ENXIO, causeway_vectors_take(on, used, 0, &count));
        IS(-ENXIO, causeway_vectors_trigger(on, used));
        causeway_vectors_destroy(on);
    }
    close(device);
}

// How long a look-up takes, where CAUSEWAY_SPEED is set: for the optimized library.
static void speed(void)
{
    enum { count = 4000000 };
    uint64_t iova = 0, row = 0, sum = 0, seed = 1, ended;
    struct timespec a, b;
    char *memory = pages(64);
    memset(memory, 1, 64 * page);
    IS(0, causeway_space_map(space, memory, 64 * page, 3, CAUSEWAY_ANYWHERE, &iova));
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < count; i++) {
        seed = seed * 6364136223846793005u + 1;
        causeway_space_bus_address(space, memory + (seed >> 40) % (64 * page - 64), 64, &iova, &row);
        sum += iova;
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    fprintf(stderr, "pointer to bus address: %.1f ns (%d)\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / count, (int)(sum & 1));
    IS(0, causeway_space_unmap_all(space, &ended));
    munmap(memory, 64 * page);
}

int main(int argc, char **argv)
{
    char words[300] = "";
    const char *name = argc > 1 ? argv[1] : "software";
    int is_software = strncmp(name, "software", 8) == 0;
    if (causeway_space_open(name, 64 * page, &space, words, sizeof words) != 0) {
        printf("%s: %s\n", name, words);
        return 1;
    }
    IS(-ENOENT, causeway_space_message(space, words, sizeof words));
    mapping();
    budget();
    file();
    dirty(is_software);
    if (is_software) {
        faults();
        wide();
        opening();
        int none = -1;
        IS(-ENOENT, causeway_space_device(space, NULL, &none));
        SAYS("opened without a device");
        IS(-ENOENT, causeway_space_device(space, "0000:00:05.0", &none));
        IS(-1, none);
    }
    if (argc > 2)
        vectors(argv[2]);
    if (getenv("CAUSEWAY_SPEED"))
        speed();
    causeway_space_destroy(space);
    return failures != 0;
}
