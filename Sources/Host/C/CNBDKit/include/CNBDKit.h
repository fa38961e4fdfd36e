// nbdkit's plugin interface: the NBD server that exports a frontend's disk. What nbdkit calls is here, in C, where its structures of pointers
// belong; it calls the functions below, which are Swift's, in NBDExport. Each answers 0 or more, or a negative errno, which is what the client
// is told.
#ifndef CAUSEWAY_CNBDKIT_H
#define CAUSEWAY_CNBDKIT_H
#include <CLinux.h>
#include <stdint.h>

// One parameter of the command line; not 0: it makes no sense, which was reported.
int causeway_nbd_config(struct causeway_lent_bytes key, struct causeway_lent_bytes value);
// Whether all parameters are there; not 0: they are not, which was reported.
int causeway_nbd_config_complete(void);
// Connects to the disk, after nbdkit has forked; not 0: it cannot be had, which was reported.
int causeway_nbd_begin(void);
void causeway_nbd_end(void);
// The process's exit status, asked last.
int causeway_nbd_status(void);

struct causeway_nbd_block_sizes {
    int error;
    uint32_t minimum, preferred, maximum;
};
// A client comes and goes.
void causeway_nbd_open(void);
void causeway_nbd_close(void);
int64_t causeway_nbd_byte_count(void);
struct causeway_nbd_block_sizes causeway_nbd_sizes(void);
int causeway_nbd_can_write(void);
int causeway_nbd_can_trim(void);

int causeway_nbd_read(struct causeway_lent_bytes into, uint64_t offset);
int causeway_nbd_write(struct causeway_lent_bytes from, uint64_t offset);
int causeway_nbd_flush(void);
int causeway_nbd_trim(uint64_t offset, uint32_t count);

// nbdkit's own error channel: printed, and sent on to a client that can show it. Safe: the text is copied.
CAUSEWAY_SAFE void causeway_nbd_report(const char *text);
// What `nbdkit … --help` prints of the parameters, for as long as the process lives. To be called once. Safe: it is copied.
CAUSEWAY_SAFE void causeway_nbd_set_help(const char *text);
// Makes nbdkit close its connections and end.
void causeway_nbd_shut_down(void);
// Called before anything else.
void causeway_nbd_prepare(void);
#endif
