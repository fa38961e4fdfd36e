// userfaultfd(2) for its events only: memory that is unmapped, moved or discarded. Its requests are macros, its messages a union.
#ifndef CAUSEWAY_USER_FAULT_H
#define CAUSEWAY_USER_FAULT_H

#include <stdint.h>

// A descriptor that does not block, or a negative errno. Needs no rights: no fault of the kernel's is asked for.
int causeway_userfault_open(void);
// Watches `length` bytes at `start`, whole pages: in write-protection mode, of which no fault comes as long as nothing is protected. 0 or a negative errno.
int causeway_userfault_watch(int descriptor, uint64_t start, uint64_t length);

struct causeway_userfault_event {
    int32_t cause; // 0: unmapped, 1: moved, 2: discarded, -1: there is none
    uint64_t start, length;
};
// Reads the next event. Whoever unmaps, moves or discards waits for that.
struct causeway_userfault_event causeway_userfault_next(int descriptor);

#endif
