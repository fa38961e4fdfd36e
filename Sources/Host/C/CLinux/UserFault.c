#include "UserFault.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif

static const uint64_t events = UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE;

int causeway_userfault_open(void) {
    // Each handshake is a descriptor's only one. Memory of files can be write-protected from Linux 5.19 on.
    const uint64_t features[] = {events | UFFD_FEATURE_WP_HUGETLBFS_SHMEM, events};
    for (int i = 0; i < 2; i++) {
        int descriptor = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
        if (descriptor < 0) return -errno;
        struct uffdio_api api = {.api = UFFD_API, .features = features[i]};
        if (ioctl(descriptor, UFFDIO_API, &api) == 0) return descriptor;
        int reason = errno;
        close(descriptor);
        if (reason != EINVAL) return -reason;
    }
    return -EOPNOTSUPP;
}

int causeway_userfault_watch(int descriptor, uint64_t start, uint64_t length) {
    struct uffdio_register range = {.range = {.start = start, .len = length}, .mode = UFFDIO_REGISTER_MODE_WP};
    if (ioctl(descriptor, UFFDIO_REGISTER, &range) == 0) return 0;
    // Of a kind that cannot be watched, whichever of the two the kernel says: a file system's, or tmpfs' that may not be written.
    return errno == EPERM ? -EINVAL : -errno;
}

struct causeway_userfault_event causeway_userfault_next(int descriptor) {
    struct causeway_userfault_event none = {.cause = -1};
    struct uffd_msg message;
    for (;;) {
        ssize_t count = read(descriptor, &message, sizeof message);
        if (count < 0 && errno == EINTR) continue;
        if (count != sizeof message) return none;
        switch (message.event) {
        case UFFD_EVENT_UNMAP:
            return (struct causeway_userfault_event){0, message.arg.remove.start, message.arg.remove.end - message.arg.remove.start};
        case UFFD_EVENT_REMAP:
            return (struct causeway_userfault_event){1, message.arg.remap.from, message.arg.remap.len};
        case UFFD_EVENT_REMOVE:
            return (struct causeway_userfault_event){2, message.arg.remove.start, message.arg.remove.end - message.arg.remove.start};
        default: continue;
        }
    }
}
