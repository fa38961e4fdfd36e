// Xen's own ring macros as functions, to run ours against. Function-like macros are not imported into Swift.
#ifndef CAUSEWAY_CRINGMACROS_H
#define CAUSEWAY_CRINGMACROS_H

#include <stdbool.h>
#include <stdint.h>

struct cring_front { uint32_t req_prod_pvt, rsp_cons, nr_ents; void *sring; };
struct cring_back { uint32_t rsp_prod_pvt, req_cons, nr_ents; void *sring; };

// `memory` is `size` bytes; indices begin at `start`.
void cring_shared_init(void *memory, uint32_t start);
void cring_front_attach(struct cring_front *ring, void *memory, unsigned long size, uint32_t start);
void cring_back_attach(struct cring_back *ring, void *memory, unsigned long size, uint32_t start);

// A read of one segment; false if the ring is full.
bool cring_front_push(struct cring_front *ring, uint64_t id, uint64_t sector, uint32_t gref);
bool cring_front_publish(struct cring_front *ring);
bool cring_front_next(struct cring_front *ring, uint64_t *id, int16_t *status);
bool cring_front_final_check(struct cring_front *ring);

bool cring_back_next(struct cring_back *ring, uint64_t *id, uint64_t *sector, uint32_t *gref);
void cring_back_push(struct cring_back *ring, uint64_t id, int16_t status);
bool cring_back_publish(struct cring_back *ring);
bool cring_back_final_check(struct cring_back *ring);

// Requests and responses one after the other, in batches, on one thread: the reference of the benchmark.
uint64_t cring_round_trips(void *memory, unsigned long size, uint64_t count, uint32_t batch);

#endif
