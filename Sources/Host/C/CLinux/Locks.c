#define _GNU_SOURCE
#include "Locks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int causeway_share_byte(int descriptor, int64_t offset) {
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1};
    return fcntl(descriptor, F_OFD_SETLK, &lock);
}

int causeway_bytes_are_locked(int descriptor, int64_t start, int64_t length, int exclusive_only) {
    // What a lock of this kind would be refused for.
    short type = exclusive_only ? F_RDLCK : F_WRLCK;
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    if (fcntl(descriptor, F_OFD_GETLK, &lock) < 0) return -1;
    return lock.l_type != F_UNLCK;
}

int causeway_loop_backing(int descriptor, uint64_t *device, uint64_t *inode, uint64_t *block_device) {
    struct loop_info64 info;
    memset(&info, 0, sizeof info);
    if (ioctl(descriptor, LOOP_GET_STATUS64, &info) < 0) return -1;
    *device = info.lo_device;
    *inode = info.lo_inode;
    *block_device = info.lo_rdevice;
    return 0;
}
