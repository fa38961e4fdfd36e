#define _GNU_SOURCE
#include "Pin.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    page = 4096,
    // Pages of one pipe where it may have so many: its table of them is one allocation of the kernel's, of 40 bytes each.
    pages_of_pipe = 4096,
    // As many buffers as the kernel takes in one ring.
    most_buffers = 1024,
};

int causeway_pin_writable(void *base, size_t count) {
    // A buffer has 1 GiB at most.
    const size_t most = (size_t)1 << 30;
    static const struct io_uring_params none;
    struct io_uring_params parameters = none;
    struct iovec buffers[most_buffers];
    size_t used = 0, done = 0;
    for (; done < count && used < most_buffers; used++) {
        size_t here = count - done < most ? count - done : most;
        buffers[used] = (struct iovec){ (char *)base + done, here };
        done += here;
    }
    if (done < count) return -EINVAL;
    int ring = (int)syscall(SYS_io_uring_setup, 1, &parameters);
    if (ring < 0) return -errno;
    fcntl(ring, F_SETFD, FD_CLOEXEC);
    if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, buffers, used) < 0) {
        int error = errno;
        close(ring);
        return -error;
    }
    return ring;
}

long causeway_hold_readable(const void *base, size_t count, int ends[2]) {
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
    size_t most = (size_t)pages_of_pipe * page, done = 0;
    if (count < most) most = count;
    // Without CAP_SYS_RESOURCE a pipe has 256 pages at most (fs.pipe-max-size), or as few as it comes with: then there are
    // more pipes.
    if (fcntl(ends[1], F_SETPIPE_SZ, (int)most) < 0 && most > 256 * page) fcntl(ends[1], F_SETPIPE_SZ, 256 * page);
    long result = 0;
    while (result >= 0 && done < most) {
        struct iovec rest = { (char *)(uintptr_t)base + done, most - done };
        result = vmsplice(ends[1], &rest, 1, SPLICE_F_NONBLOCK);
        if (result > 0) done += (size_t)result;
        if (result < 0 && errno == EINTR) result = 0;
        // EAGAIN: this pipe is full.
        if (result == 0 && done > 0) break;
    }
    if (done > 0) return (long)done;
    int error = result < 0 ? errno : EIO;
    close(ends[0]);
    close(ends[1]);
    return -error;
}
