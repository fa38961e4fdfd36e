// Memory that stays where it is: io_uring's registered buffers, whose io_uring_setup(2) and io_uring_register(2) have no
// functions in the C library, and vmsplice(2), which Glibc's module lacks.
#ifndef CAUSEWAY_PIN_H
#define CAUSEWAY_PIN_H
#include <stddef.h>

// Pins `count` bytes from `base` on, which may be written, as long as the descriptor that it returns is open; or a
// negative errno.
int causeway_pin_writable(void *base, size_t count);
// Holds pages from `base` on, which may be read, as long as both ends of the pipe that it makes are open: as many bytes as
// it returns, at most `count`; or a negative errno.
long causeway_hold_readable(const void *base, size_t count, int ends[2]);
#endif
