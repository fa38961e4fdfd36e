// What keeps nbdkit's other clients when it falls over one (see Guard.c).

#ifndef CAUSEWAY_GUARD_H
#define CAUSEWAY_GUARD_H

// Sees to it from now on that an assertion of nbdkit's own that fails costs the client whose thread it fails in, and no other. Once, early.
void causeway_guard_begin(void);
// Starts what ends the process when it has lost clients so and has no others; after nbdkit has forked.
void causeway_guard_watch(void);
// A client has connected; to be called on its connection's own thread, whose end is the client's.
void causeway_guard_connected(void);

#endif
