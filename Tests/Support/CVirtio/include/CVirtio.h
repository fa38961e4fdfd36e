// What Linux's own headers say of virtio, for tests: sizes, places, constants and the arithmetic of events.
#ifndef CAUSEWAY_CVIRTIO_H
#define CAUSEWAY_CVIRTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cvirtio_field { const char *structure, *name; size_t offset, size; };
struct cvirtio_constant { const char *name; uint64_t value; };

// The table's entries, until one has no name. A structure's own size stands under the name "".
struct cvirtio_field cvirtio_field(size_t index);
struct cvirtio_constant cvirtio_constant(size_t index);

// vring_need_event; and what Linux's driver makes of it for a packed ring: `next` entries were made available up to
// here in a round of `wrap`, the last `added` of them since the last time.
bool cvirtio_need_event(uint16_t event, uint16_t next, uint16_t old);
bool cvirtio_packed_need_event(uint16_t off_wrap, uint16_t next, bool wrap, uint16_t added, uint16_t size);

// Where the parts of a ring in one piece are, aligned to `align` (vring_init).
struct cvirtio_vring { size_t driver, device, used_event, avail_event, size; };
struct cvirtio_vring cvirtio_vring(unsigned int size, unsigned long align);

// Requests of three descriptors one after the other, in batches, on one thread: the reference of the benchmark.
// `memory` has a ring of `size` entries from its start on.
uint64_t cvirtio_round_trips(void *memory, unsigned int size, uint64_t count, uint32_t batch);

#endif
