// The few requests of the toolstack's that reading a domain's p2m needs, made directly: libxenctrl, which makes them for others, has another name with
// each release of Xen, and a program linked to it would not start beside another one. libxencall and libxenforeignmemory are stable. A room
// of its own: the requests' headers want other settings than the public ones in CXen. Every call that can fail answers 0 or a
// negative errno; -EPROTONOSUPPORT: the hypervisor's requests have another version than `cxc_interface_version`.
#ifndef CAUSEWAY_CXENCONTROL_H
#define CAUSEWAY_CXENCONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// An open connection to the hypervisor.
struct cxc;

struct cxc_domain {
    uint32_t id;
    bool is_auto_translated;
    bool is_paused;
    bool is_dying;
    uint64_t pages;
    // The frame of the page that domain and hypervisor share.
    uint64_t shared_info_frame;
    // Bytes in a word of the guest: 4 or 8.
    uint32_t guest_width;
};

// The version of the toolstack's requests that this was built with: 0x15 is Xen 4.17's.
uint32_t cxc_interface_version(void);

int cxc_open(struct cxc **connection);
void cxc_close(struct cxc *connection);

// -ESRCH: no such domain.
int cxc_domain(struct cxc *connection, uint32_t id, struct cxc_domain *domain);
// Pauses nest: each must be undone.
int cxc_pause(struct cxc *connection, uint32_t id);
int cxc_unpause(struct cxc *connection, uint32_t id);
// The machine's highest frame of memory.
int cxc_maximum_frame(struct cxc *connection, uint64_t *frame);

// Maps the frames read-only, copies 4096 bytes of each to `out`, unmaps them. errors[i] is 0 or a negative errno for frame i, whose bytes are
// then left alone; the result is negative only if nothing could be tried.
int cxc_copy_frames(struct cxc *connection, uint32_t id, const uint64_t *frames, size_t count, void *out, int *errors);

// The frames of Xen's machine-to-phys table, one for each 2 MiB of it; 0 is a hole. `count` is how many are wanted, and then how many there are.
int cxc_machine_table(struct cxc *connection, uint64_t *extents, size_t *count);
// Xen's own number, which owns that table.
uint32_t cxc_xen_domain(void);

#endif
