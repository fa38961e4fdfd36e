// Eventfds that somebody else has, too: he can make them block, at any moment, and fill or empty them.
#ifndef CAUSEWAY_BELLS_H
#define CAUSEWAY_BELLS_H

#include <stdint.h>

// What became of a count that was to be added.
enum { causeway_bell_told = 0, causeway_bell_full = 1, causeway_bell_blocked = 2 };

// Adds to an eventfd's count. One that is full and blocks holds the thread for 10 to 30 ms; then the write is given up and the eventfd made
// non-blocking again. Costs two stores over a write.
int causeway_ring_bell(int descriptor, uint64_t count);
// Takes an eventfd's count; 0 if it is at rest. Does not block even where the eventfd does (on Linux 5.8 and later).
uint64_t causeway_take_bell(int descriptor);

#endif
