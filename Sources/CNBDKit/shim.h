// nbdkit's plugin interface: the NBD server that exports a frontend's disk.
#ifndef CAUSEWAY_CNBDKIT_SHIM_H
#define CAUSEWAY_CNBDKIT_SHIM_H
#define NBDKIT_API_VERSION 2
// The plugin's functions may run at the same time in several threads: the frontend's queues do their own locking.
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#include <nbdkit-plugin.h>
#endif
