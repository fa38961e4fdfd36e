// The few requests of the toolstack's that reading a domain's p2m needs, made directly: libxenctrl, which makes them for others, has another name with
// each release of Xen, and a program linked to it would not start beside another one. libxencall and libxenforeignmemory are stable. A room
// of its own: the requests' headers want other settings than the public ones in CXen. Every call that can fail answers a number that
// is not negative, or a negative errno; -EPROTONOSUPPORT: the hypervisor's requests have another version than `cxc_interface_version`.
// A connection is a number, and each array comes with its count, so that Swift sees no pointer here (its SafeInteropWrappers).
#ifndef CAUSEWAY_CXENCONTROL_H
#define CAUSEWAY_CXENCONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <lifetimebound.h>
#include <ptrcheck.h>

// What Xen says of a domain, or `error`.
struct cxc_domain {
    int error;
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

// A connection's number. A few at a time; -EMFILE: more than that. One is used from one thread at a time.
int cxc_open(void);
void cxc_close(int connection);

// -ESRCH: no such domain.
struct cxc_domain cxc_facts(int connection, uint32_t id);
// Pauses nest: each must be undone.
int cxc_pause(int connection, uint32_t id);
int cxc_unpause(int connection, uint32_t id);
// The machine's highest frame of memory.
int64_t cxc_maximum_frame(int connection);

// Maps the frames read-only, copies 4096 bytes of each to `out`, unmaps them. errors[i] is 0 or a negative errno for frame i, whose bytes are
// then left alone; the result is negative only if nothing could be tried. -EINVAL: `out` has not 4096 bytes for each frame, `errors` not one place.
int cxc_copy_frames(
    int connection, uint32_t id, const uint64_t *__counted_by(count) frames __noescape, size_t count,
    uint8_t *__counted_by(size) out __noescape, size_t size, int *__counted_by(places) errors __noescape, size_t places);

// The frames of Xen's machine-to-phys table, one for each 2 MiB of it, as many as there is room for; 0 is a hole.
int cxc_machine_table(int connection, uint64_t *__counted_by(count) extents __noescape, size_t count);
// Xen's own number, which owns that table.
uint32_t cxc_xen_domain(void);
// What stands for the asking domain's own number where frames are mapped.
uint32_t cxc_own_domain(void);

#endif
