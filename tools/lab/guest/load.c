// load DEVICE SECONDS BYTES DEPTH random|sequential: reads with O_DIRECT, DEPTH at once, for SECONDS; prints how many requests ended.
// One static program without libraries, since fio and what it needs would be most of a guest's memory.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

int main(int count, char **arguments) {
    if (count != 6) return fprintf(stderr, "usage: load DEVICE SECONDS BYTES DEPTH random|sequential\n"), 2;
    int disk = open(arguments[1], O_RDONLY | O_DIRECT);
    if (disk < 0) die(arguments[1]);
    double seconds = atof(arguments[2]);
    long bytes = atol(arguments[3]), depth = atol(arguments[4]);
    int random = !strcmp(arguments[5], "random");
    long blocks = lseek(disk, 0, SEEK_END) / bytes, next = 0;
    aio_context_t context = 0;
    if (blocks < 1 || syscall(SYS_io_setup, depth, &context) < 0) die("io_setup");
    struct iocb *requests = calloc(depth, sizeof *requests);
    struct io_event *events = calloc(depth, sizeof *events);
    char *memory = aligned_alloc(65536, depth * bytes);
    if (!requests || !events || !memory) die("memory");
    uint64_t seed = 88172645463325252u, done = 0;
    double start = now(), end = start + seconds;
    long flying = 0, ready = depth;
    for (long index = 0; index < depth; index++) events[index].obj = (uint64_t)(uintptr_t)&requests[index];
    while (1) {
        int more = now() < end;
        if (!more && flying == 0) break;
        for (long index = 0; more && index < ready; index++) {
            struct iocb *request = (struct iocb *)(uintptr_t)events[index].obj;
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            long block = random ? (long)(seed % (uint64_t)blocks) : next++ % blocks;
            long place = request - requests;
            memset(request, 0, sizeof *request);
            request->aio_lio_opcode = IOCB_CMD_PREAD;
            request->aio_fildes = disk;
            request->aio_buf = (uint64_t)(uintptr_t)(memory + place * bytes);
            request->aio_nbytes = bytes;
            request->aio_offset = block * bytes;
            if (syscall(SYS_io_submit, context, 1, &request) != 1) die("io_submit");
            flying++;
        }
        ready = syscall(SYS_io_getevents, context, 1, depth, events, NULL);
        if (ready < 0) die("io_getevents");
        for (long index = 0; index < ready; index++)
            if (events[index].res != bytes) return fprintf(stderr, "a read ended with %lld\n", (long long)events[index].res), 1;
        flying -= ready, done += ready;
    }
    printf("%llu %.3f\n", (unsigned long long)done, now() - start);
    return 0;
}
