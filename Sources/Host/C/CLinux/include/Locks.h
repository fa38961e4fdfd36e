// Locks of an open file's bytes (F_OFD_*), and what a loop device stands on: commands and structures that the module lacks.
#ifndef CAUSEWAY_LOCKS_H
#define CAUSEWAY_LOCKS_H

#include <stdint.h>

// Takes a shared lock on one byte for as long as the open file lives: 0, or -1 with errno (EAGAIN: somebody has it exclusively).
int causeway_share_byte(int descriptor, int64_t offset);
// Whether another open file has a lock on any of `length` bytes from `start` on: 1 or 0, or -1 with errno.
// `exclusive_only`: shared locks do not count.
int causeway_bytes_are_locked(int descriptor, int64_t start, int64_t length, int exclusive_only);
// The file that a loop device stands on, as stat has it, and the device's number if that file is a block device, else 0:
// LOOP_GET_STATUS64. 0, or -1 with errno (ENXIO: none).
int causeway_loop_backing(int descriptor, uint64_t *device, uint64_t *inode, uint64_t *block_device);

#endif
