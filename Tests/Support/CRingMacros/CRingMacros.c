#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include "CRingMacros.h"
#include <stddef.h>
#include <string.h>
#define xen_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define xen_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)
#include <xen/xen.h>
#include <xen/grant_table.h>
#include <xen/io/ring.h>
#include <xen/io/blkif.h>

_Static_assert(sizeof(struct cring_front) == sizeof(blkif_front_ring_t), "mirrors the header's structure");
_Static_assert(sizeof(struct cring_back) == sizeof(blkif_back_ring_t), "mirrors the header's structure");

#define FRONT(r) ((blkif_front_ring_t *)(r))
#define BACK(r) ((blkif_back_ring_t *)(r))

void cring_shared_init(void *memory, uint32_t start) {
    blkif_sring_t *shared = memory;
    SHARED_RING_INIT(shared);
    shared->req_prod = shared->rsp_prod = start;
    shared->req_event = shared->rsp_event = start + 1;
}

void cring_front_attach(struct cring_front *ring, void *memory, unsigned long size, uint32_t start) {
    FRONT_RING_ATTACH(FRONT(ring), (blkif_sring_t *)memory, start, size);
}

void cring_back_attach(struct cring_back *ring, void *memory, unsigned long size, uint32_t start) {
    BACK_RING_ATTACH(BACK(ring), (blkif_sring_t *)memory, start, size);
}

bool cring_front_push(struct cring_front *ring, uint64_t id, uint64_t sector, uint32_t gref) {
    if (RING_FULL(FRONT(ring))) return false;
    blkif_request_t *request = RING_GET_REQUEST(FRONT(ring), FRONT(ring)->req_prod_pvt);
    memset(request, 0, offsetof(blkif_request_t, seg));
    request->operation = BLKIF_OP_READ;
    request->nr_segments = 1;
    request->id = id;
    request->sector_number = sector;
    struct blkif_request_segment segment;
    memset(&segment, 0, sizeof segment);
    segment.gref = gref;
    segment.last_sect = 7;
    memcpy(&request->seg[0], &segment, sizeof segment);
    FRONT(ring)->req_prod_pvt++;
    return true;
}

bool cring_front_publish(struct cring_front *ring) {
    int notify;
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(FRONT(ring), notify);
    return notify;
}

bool cring_front_next(struct cring_front *ring, uint64_t *id, int16_t *status) {
    RING_IDX produced = FRONT(ring)->sring->rsp_prod;
    xen_rmb();
    if (produced == FRONT(ring)->rsp_cons) return false;
    blkif_response_t response;
    RING_COPY_RESPONSE(FRONT(ring), FRONT(ring)->rsp_cons, &response);
    FRONT(ring)->rsp_cons++;
    *id = response.id;
    *status = response.status;
    return true;
}

bool cring_front_final_check(struct cring_front *ring) {
    int more;
    RING_FINAL_CHECK_FOR_RESPONSES(FRONT(ring), more);
    return more;
}

bool cring_back_next(struct cring_back *ring, uint64_t *id, uint64_t *sector, uint32_t *gref) {
    RING_IDX produced = BACK(ring)->sring->req_prod;
    xen_rmb();
    if (RING_REQUEST_PROD_OVERFLOW(BACK(ring), produced) || produced == BACK(ring)->req_cons) return false;
    blkif_request_t request;
    RING_COPY_REQUEST(BACK(ring), BACK(ring)->req_cons, &request);
    BACK(ring)->req_cons++;
    *id = request.id;
    *sector = request.sector_number;
    *gref = request.seg[0].gref;
    return true;
}

void cring_back_push(struct cring_back *ring, uint64_t id, int16_t status) {
    blkif_response_t response;
    memset(&response, 0, sizeof response);
    response.id = id;
    response.operation = BLKIF_OP_READ;
    response.status = status;
    memcpy(RING_GET_RESPONSE(BACK(ring), BACK(ring)->rsp_prod_pvt), &response, sizeof response);
    BACK(ring)->rsp_prod_pvt++;
}

bool cring_back_publish(struct cring_back *ring) {
    int notify;
    RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(BACK(ring), notify);
    return notify;
}

bool cring_back_final_check(struct cring_back *ring) {
    int more;
    RING_FINAL_CHECK_FOR_REQUESTS(BACK(ring), more);
    return more;
}

uint64_t cring_round_trips(void *memory, unsigned long size, uint64_t count, uint32_t batch) {
    struct cring_front front;
    struct cring_back back;
    cring_shared_init(memory, 0);
    cring_front_attach(&front, memory, size, 0);
    cring_back_attach(&back, memory, size, 0);
    uint64_t sum = 0, id, sector;
    uint32_t gref;
    int16_t status;
    for (uint64_t done = 0; done < count; done += batch) {
        for (uint32_t i = 0; i < batch; i++) cring_front_push(&front, done + i, done, i);
        sum += cring_front_publish(&front);
        while (cring_back_next(&back, &id, &sector, &gref)) cring_back_push(&back, id, 0);
        sum += cring_back_publish(&back);
        while (cring_front_next(&front, &id, &status)) sum += id;
        sum += cring_back_final_check(&back) + cring_front_final_check(&front);
    }
    return sum;
}
