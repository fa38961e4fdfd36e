// Mappings whose file somebody else can make shorter: what is reached beyond its end is SIGBUS, which ends a process that has no handler.
#ifndef CAUSEWAY_FAULTS_H
#define CAUSEWAY_FAULTS_H

#include <stddef.h>
#include <stdint.h>

// From here on a fault in the mapping of `length` bytes at `start` puts zeroes of this process's own in the place of all of it, and what
// was reached for is reached. The number by which it is asked for; -1: there is no room, or no handler (errno).
int causeway_watch_mapping(void *start, size_t length);
// Whether that has happened.
int causeway_mapping_is_lost(int number);
// Watches it no longer; to be called before it is unmapped.
void causeway_unwatch_mapping(int number);

#endif
