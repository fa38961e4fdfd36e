// Where the library's functions are, for the files of this folder.
#ifndef CAUSEWAY_CRBD_TABLE_H
#define CAUSEWAY_CRBD_TABLE_H

#include "CRBD.h"

// NULL: not loaded.
const struct causeway_rbd_functions *causeway_rbd_table(void);

// The process's end waits for what is being closed, this many milliseconds at most: a lock that is given back is nobody's to break. Behind it nothing
// of Ceph's is run any more, whose threads may be waiting for a cluster that is away.
void causeway_rbd_end_with_process(int milliseconds);

struct causeway_rbd_image {
    const struct causeway_rbd_functions *functions;
    void *cluster;
    void *io;
    void *image;
    uint64_t watch;
    int is_connected;
    int is_watching;
    _Atomic uint64_t changes;
};

#endif
