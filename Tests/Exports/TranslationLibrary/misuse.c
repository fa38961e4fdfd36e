// Everything that a caller of libcauseway-translation can do wrong, and what it is answered. Prints what is not as it should be.
#define _DEFAULT_SOURCE
#include <causeway_translation.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

static int failures;

static void check(int line, long found, long wanted)
{
    if (found == wanted)
        return;
    printf("line %d: %ld, not %ld\n", line, found, wanted);
    failures++;
}
#define IS(wanted, call) check(__LINE__, (call), (wanted))

static void maps(void)
{
    causeway_map *map = NULL;
    struct causeway_translation t;
    struct causeway_reverse r;
    struct causeway_run runs[4];
    struct causeway_audit audit;
    causeway_foreign *foreign = NULL;
    uint64_t frames[3] = {900, 901, 900}, next = 0;
    size_t count = 0;

    IS(-EINVAL, causeway_map_create(1, 9, 10, 10, 0, &map));
    IS(-EINVAL, causeway_map_create(1, CAUSEWAY_MODEL_P2M, (1ull << 40) + 1, 10, 0, &map));
    IS(-EINVAL, causeway_map_create(1, CAUSEWAY_MODEL_P2M, 10, 10, 5, &map));
    IS(-EINVAL, causeway_map_create(1, CAUSEWAY_MODEL_VP, 10, 10, 11, &map));
    IS(-EINVAL, causeway_map_create(1, CAUSEWAY_MODEL_P2M, 10, 10, 0, NULL));
    check(__LINE__, map == NULL, 1);
    IS(-EINVAL, causeway_map_set(NULL, 0, 1, 0, 3));
    IS(-EINVAL, causeway_map_translate(NULL, 0, 1, &t));
    IS(-EINVAL, causeway_map_reverse(NULL, 0, &r));
    IS(-EINVAL, causeway_map_audit(NULL, &audit));
    IS(0, causeway_map_generation(NULL));
    IS(0, causeway_map_page_limit(NULL));
    IS(0, causeway_map_is_current(NULL, 0));
    causeway_map_destroy(NULL);
    causeway_foreign_destroy(NULL);

    IS(0, causeway_map_create(1, CAUSEWAY_MODEL_P2M, 1000, 1000, 0, &map));
    IS(-EINVAL, causeway_map_set(map, 0, 1, 0, 4));
    IS(-ERANGE, causeway_map_set(map, 990, 11, 0, 3));
    IS(-ERANGE, causeway_map_set(map, 0, 11, 990, 3));
    IS(-ERANGE, causeway_map_set(map, UINT64_MAX, 2, 0, 3));
    IS(-ERANGE, causeway_map_set(map, 0, UINT64_MAX, 0, 3));
    IS(-ERANGE, causeway_map_set(map, 0, 1, UINT64_MAX, 3));
    IS(0, causeway_map_set(map, 10, 10, 100, 3));
    IS(-EEXIST, causeway_map_set(map, 19, 2, 500, 3));
    IS(-EBUSY, causeway_map_set(map, 30, 2, 109, 3));
    IS(-EEXIST, causeway_map_set_identity(map, 10, 1, 1));
    IS(0, causeway_map_set_identity(map, 800, 2, 1));
    IS(-ENOENT, causeway_map_set_permissions(map, 15, 10, 1));
    IS(0, causeway_map_set_permissions(map, 15, 2, 1));
    IS(-ENOENT, causeway_map_clear(map, 19, 2));
    IS(-EINVAL, causeway_map_set_foreign(map, 40, NULL, 1, 2, 1, &foreign));
    IS(-EINVAL, causeway_map_set_foreign(map, 40, frames, 0, 2, 1, &foreign));
    IS(-EINVAL, causeway_map_set_foreign(map, 40, frames, 1 << 25, 2, 1, &foreign));
    IS(-EBUSY, causeway_map_set_foreign(map, 18, frames, 3, 2, 1, &foreign));
    IS(-ERANGE, causeway_map_set_foreign(map, 999, frames, 3, 2, 1, &foreign));
    IS(0, causeway_map_set_foreign(map, 40, frames, 3, 2, 1, &foreign));
    IS(-EPERM, causeway_map_clear(map, 40, 1));
    IS(-EPERM, causeway_map_balloon_out(map, 40, 1));
    IS(-ENOENT, causeway_map_translate(map, 999ull << 20, 1, &t));
    IS(-EINVAL, causeway_map_translate(map, 0, 1, NULL));
    IS(0, causeway_map_translate(map, (12 << 12) + 4095, UINT64_MAX, &t));
    check(__LINE__, t.frame == 102 && t.offset == 4095 && t.page_count == 3 && t.permissions == 3, 1);
    IS(0, causeway_map_translate(map, 40 << 12, 0, &t));
    check(__LINE__, t.kind == CAUSEWAY_ENTRY_FOREIGN && t.frame == 900 && t.page_count == 1, 1);
    IS(-ENOENT, causeway_map_reverse(map, 999999, &r));
    IS(0, causeway_map_reverse(map, 901, &r));
    check(__LINE__, r.pfn == 41 && r.is_foreign == 1, 1);
    IS(-ERANGE, causeway_map_range(map, 0, 1001, runs, 4, &count, &next));
    IS(-EINVAL, causeway_map_range(map, 0, 10, NULL, 4, &count, &next));
    IS(0, causeway_map_range(map, 5, 0, runs, 4, &count, &next));
    check(__LINE__, count == 0 && next == 5, 1);
    IS(0, causeway_map_range(map, 5, 100, runs, 2, &count, &next));
    check(__LINE__, count == 2 && next == 15 && runs[0].kind == CAUSEWAY_ENTRY_NONE && runs[0].page_count == 5 && runs[1].frame == 100, 1);
    IS(0, causeway_map_audit(map, &audit));
    check(__LINE__, audit.local == 10 && audit.foreign == 3 && audit.identity == 2 && audit.inconsistent == 0, 1);
    // The map goes with its last user: the token keeps it.
    causeway_map_destroy(map);
    causeway_foreign_destroy(foreign);
}

static void dma(void)
{
    causeway_dma *dma = NULL;
    struct causeway_dma_options options = {.model = CAUSEWAY_MODEL_P2M, .mask = 0xFFFFFFFF, .bounce_pool_bytes = 65536};
    struct causeway_dma_statistics done;
    struct causeway_segment segments[32];
    struct causeway_piece pieces[2] = {{0}};
    uint64_t pfn = 0, handle = 0;
    size_t count = 0;
    void *place;
    uint32_t part;
    char *memory = aligned_alloc(4096, 1 << 20);

    IS(-EINVAL, causeway_dma_create(NULL, &options, &dma));
    IS(-EINVAL, causeway_dma_create("x", NULL, &dma));
    options.mask = 0xFFFF0000;
    IS(-EINVAL, causeway_dma_create("x", &options, &dma));
    options.mask = 0xFFFFFFFF, options.minimum_alignment = 3;
    IS(-EINVAL, causeway_dma_create("x", &options, &dma));
    options.minimum_alignment = 0, options.flags = 2;
    IS(-EINVAL, causeway_dma_create("x", &options, &dma));
    options.flags = 0, options.iommu = 7;
    IS(-EINVAL, causeway_dma_create("x", &options, &dma));
    options.iommu = 0, options.mask = 0xFFF;
    IS(-ENOMEM, causeway_dma_create("x", &options, &dma));
    options.mask = 0xFFFFFFFF;
    IS(0, causeway_dma_create("x", &options, &dma));
    IS(-EINVAL, causeway_dma_attach(dma, memory + 1, 4096, 3, &pfn));
    IS(-EINVAL, causeway_dma_attach(dma, memory, 4095, 3, &pfn));
    IS(-EINVAL, causeway_dma_attach(dma, memory, 4096, 2, &pfn));
    IS(-EINVAL, causeway_dma_attach(dma, NULL, 4096, 3, &pfn));
    IS(0, causeway_dma_attach(dma, memory, 1 << 19, 1, &pfn));
    IS(-EEXIST, causeway_dma_attach(dma, memory, 4096, 3, &pfn));
    IS(-EACCES, causeway_dma_map_single(dma, pfn, 0, 100, CAUSEWAY_FROM_DEVICE, segments, 32, &count, &handle));
    IS(0, causeway_dma_detach(dma, memory));
    IS(-ENOENT, causeway_dma_detach(dma, memory));
    IS(0, causeway_dma_attach(dma, memory, 1 << 19, 3, &pfn));
    IS(-EINVAL, causeway_dma_map_single(dma, pfn, 4096, 1, CAUSEWAY_TO_DEVICE, segments, 32, &count, &handle));
    IS(-EINVAL, causeway_dma_map_single(dma, pfn, 0, 0, CAUSEWAY_TO_DEVICE, segments, 32, &count, &handle));
    IS(-EINVAL, causeway_dma_map_single(dma, pfn, 0, 1, 2, segments, 32, &count, &handle));
    IS(-EINVAL, causeway_dma_map_single(dma, UINT64_MAX, 0, 1, CAUSEWAY_TO_DEVICE, segments, 32, &count, &handle));
    IS(-EINVAL, causeway_dma_map_single(dma, pfn, 0, UINT64_MAX, CAUSEWAY_TO_DEVICE, segments, 32, &count, &handle));
    IS(-ENOENT, causeway_dma_map_single(dma, pfn + 1000, 0, 1, CAUSEWAY_TO_DEVICE, segments, 32, &count, &handle));
    IS(-ENOSPC, causeway_dma_map_single(dma, pfn, 0, 1 << 18, CAUSEWAY_TO_DEVICE, segments, 32, &count, &handle));
    IS(-EINVAL, causeway_dma_map(dma, NULL, 1, CAUSEWAY_TO_DEVICE, segments, 32, &count, &handle));
    IS(-EINVAL, causeway_dma_map(dma, pieces, 0, CAUSEWAY_TO_DEVICE, segments, 32, &count, &handle));
    pieces[0] = (struct causeway_piece){pfn, 4000, 97};
    IS(-EINVAL, causeway_dma_map(dma, pieces, 1, CAUSEWAY_TO_DEVICE, segments, 32, &count, &handle));
    pieces[0].byte_count = 96, pieces[1] = (struct causeway_piece){pfn + 3, 0, 50};
    IS(-EINVAL, causeway_dma_map(dma, pieces, 2, CAUSEWAY_TO_DEVICE, NULL, 2, &count, &handle));
    count = 99;
    IS(-ENOBUFS, causeway_dma_map(dma, pieces, 2, CAUSEWAY_TO_DEVICE, NULL, 0, &count, &handle));
    IS(2, (long)count);
    IS(0, causeway_dma_map(dma, pieces, 2, CAUSEWAY_TO_DEVICE, segments, 2, &count, &handle));
    IS(-EINVAL, causeway_dma_unmap(dma, handle, CAUSEWAY_FROM_DEVICE));
    IS(-ENOENT, causeway_dma_unmap(dma, handle + 1, CAUSEWAY_TO_DEVICE));
    IS(-ENOENT, causeway_dma_unmap(dma, UINT64_MAX, CAUSEWAY_TO_DEVICE));
    IS(0, causeway_dma_sync_for_device(dma, handle, 10, 136));
    IS(-ERANGE, causeway_dma_sync_for_device(dma, handle, 10, 137));
    IS(-ERANGE, causeway_dma_sync_for_device(dma, handle, UINT64_MAX, 1));
    IS(-EINVAL, causeway_dma_sync_for_cpu(dma, handle, 0, 1));
    IS(-EFAULT, causeway_dma_resolve(dma, UINT64_MAX, 10, CAUSEWAY_TO_DEVICE, &place, &part));
    IS(-EFAULT, causeway_dma_resolve(dma, segments[0].address, 0, CAUSEWAY_TO_DEVICE, &place, &part));
    IS(0, causeway_dma_resolve(dma, segments[1].address, 50, CAUSEWAY_TO_DEVICE, &place, &part));
    IS(50, (long)part);
    IS(0, causeway_dma_unmap(dma, handle, CAUSEWAY_TO_DEVICE));
    IS(-ENOENT, causeway_dma_unmap(dma, handle, CAUSEWAY_TO_DEVICE));
    IS(0, causeway_dma_get_statistics(dma, &done));
    check(__LINE__, done.live == 0 && done.pool_slots_in_use == 0 && done.misuses >= 5 && done.bounces > 0, 1);
    // With memory attached: what is left goes with it.
    causeway_dma_destroy(dma);

    // No pool, and a mask that nothing lies below.
    options.bounce_pool_bytes = 0;
    IS(0, causeway_dma_create("x", &options, &dma));
    IS(0, causeway_dma_attach(dma, memory, 4096, 3, &pfn));
    IS(-EOPNOTSUPP, causeway_dma_map_single(dma, pfn, 0, 1, CAUSEWAY_TO_DEVICE, segments, 32, &count, &handle));
    causeway_dma_destroy(dma);
    causeway_dma_destroy(NULL);
    free(memory);
}

static void iommu(void)
{
    causeway_iommu *iommu = NULL;
    struct causeway_fault fault;
    uint64_t iova = 0, other = 0, address = 0;
    size_t stale = 9;

    IS(-EINVAL, causeway_iommu_create("x", CAUSEWAY_IOMMU_OFF, UINT64_MAX, &iommu));
    IS(-EINVAL, causeway_iommu_create("x", CAUSEWAY_IOMMU_STRICT, 0xFFFF0000, &iommu));
    IS(0, causeway_iommu_create("x", CAUSEWAY_IOMMU_DEFERRED, 0xFFFFFFFF, &iommu));
    IS(-EINVAL, causeway_iommu_map(iommu, 5, 0, 3, &iova));
    IS(-EINVAL, causeway_iommu_map(iommu, 5, (1 << 24) + 1, 3, &iova));
    IS(-EINVAL, causeway_iommu_map(iommu, 5, 1, 0, &iova));
    IS(-EINVAL, causeway_iommu_map(iommu, 1ull << 60, 1, 3, &iova));
    IS(-ENOSPC, causeway_iommu_map(iommu, 5, 1 << 22, 3, &iova));
    IS(0, causeway_iommu_map(iommu, 5, 3, CAUSEWAY_READ, &iova));
    IS(-ENOENT, causeway_iommu_unmap(iommu, iova + 4096, 2));
    IS(-EINVAL, causeway_iommu_unmap(iommu, iova, 2));
    IS(-EINVAL, causeway_iommu_access(iommu, iova, 3, &address));
    IS(0, causeway_iommu_access(iommu, iova + 12287, CAUSEWAY_READ, &address));
    check(__LINE__, address == 7 * 4096 + 4095, 1);
    IS(-EFAULT, causeway_iommu_access(iommu, iova, CAUSEWAY_WRITE, &address));
    IS(-EFAULT, causeway_iommu_access(iommu, UINT64_MAX, CAUSEWAY_READ, &address));
    IS(0, causeway_iommu_unmap(iommu, iova, 3));
    IS(-ENOENT, causeway_iommu_unmap(iommu, iova, 3));
    // The stale window: reachable until the flush, and not given out before it.
    IS(0, causeway_iommu_stale_count(iommu, &stale));
    IS(1, (long)stale);
    IS(0, causeway_iommu_access(iommu, iova + 8192, CAUSEWAY_READ, &address));
    IS(0, causeway_iommu_map(iommu, 50, 3, CAUSEWAY_READ, &other));
    check(__LINE__, other != iova, 1);
    IS(0, causeway_iommu_flush(iommu));
    IS(-EFAULT, causeway_iommu_access(iommu, iova + 8192, CAUSEWAY_READ, &address));
    IS(3, (long)causeway_iommu_fault_count(iommu));
    IS(0, causeway_iommu_next_fault(iommu, &fault));
    check(__LINE__, fault.iova == iova && fault.cause == CAUSEWAY_FAULT_WRITE_DENIED, 1);
    IS(0, causeway_iommu_next_fault(iommu, &fault));
    check(__LINE__, fault.iova == UINT64_MAX && fault.cause == CAUSEWAY_FAULT_NOT_MAPPED, 1);
    IS(0, causeway_iommu_next_fault(iommu, &fault));
    IS(-ENOENT, causeway_iommu_next_fault(iommu, &fault));
    causeway_iommu_destroy(iommu);
    causeway_iommu_destroy(NULL);
}

static void dumps(const char *good, const char *broken)
{
    causeway_dump *dump = NULL;
    causeway_map *map = NULL;
    struct causeway_dump_info info;
    char message[200] = "", little[8] = "", page[4096];

    IS(-EINVAL, causeway_dump_open(NULL, &dump, message, sizeof message));
    IS(-EINVAL, causeway_dump_open(good, NULL, message, sizeof message));
    IS(-ENOENT, causeway_dump_open("/nowhere/x", &dump, message, sizeof message));
    check(__LINE__, strstr(message, "/nowhere/x: ") == message, 1);
    IS(-EBADMSG, causeway_dump_open(broken, &dump, little, sizeof little));
    check(__LINE__, strlen(little) == 7, 1);
    IS(-EBADMSG, causeway_dump_open(broken, &dump, NULL, 0));
    check(__LINE__, dump == NULL, 1);
    causeway_dump_destroy(NULL);
    IS(-EINVAL, causeway_dump_get_info(NULL, &info));
    IS(-EBADF, causeway_dump_open_descriptor(-1, &dump, message, sizeof message));
    IS(-EINVAL, causeway_dump_open_descriptor(0, NULL, message, sizeof message));
    IS(-EINVAL, causeway_dump_open_memory(NULL, 5, &dump, message, sizeof message));
    IS(-EINVAL, causeway_dump_open_memory(good, SIZE_MAX, &dump, message, sizeof message));
    IS(-EINVAL, causeway_dump_open_memory(good, 5, NULL, message, sizeof message));
    IS(-EBADMSG, causeway_dump_open_memory(good, 0, &dump, message, sizeof message));
    IS(-EBADMSG, causeway_dump_open_memory(good, 5, &dump, message, sizeof message));
    IS(0, causeway_dump_open(good, &dump, message, sizeof message));
    IS(0, causeway_dump_get_info(dump, &info));
    check(__LINE__, info.used == 3 && info.findings == 1 && info.guest_width == 8 && !info.is_auto_translated, 1);
    IS(0, causeway_dump_finding(dump, 0, message, sizeof message));
    check(__LINE__, strcmp(message, "p0x3: m0xa is at p0x1 already"), 0);
    IS(-ENOENT, causeway_dump_finding(dump, 1, message, sizeof message));
    IS(-ENOENT, causeway_dump_read_pfn(dump, 9, page));
    IS(-ENOENT, causeway_dump_read_mfn(dump, 9, page));
    IS(-EINVAL, causeway_dump_read_mfn(dump, 10, NULL));
    IS(0, causeway_dump_read_mfn(dump, 11, page));
    IS(0, causeway_dump_map(dump, &map));
    causeway_dump_destroy(dump);
    struct causeway_translation t;
    IS(0, causeway_map_translate(map, 3 << 12, 1, &t));
    check(__LINE__, t.frame == 10 && t.kind == CAUSEWAY_ENTRY_LOCAL, 1);
    IS(-EROFS, causeway_map_set(map, 50, 1, 50, 3));
    causeway_map_destroy(map);
}

/* The same refusals under every model, with nothing else asked for, and with limits and IOMMU. */
static void models(void)
{
    static const struct causeway_dma_options kinds[] = {
        {.model = CAUSEWAY_MODEL_P2M},
        {.model = CAUSEWAY_MODEL_IDENTITY},
        {.model = CAUSEWAY_MODEL_VP},
        {.model = CAUSEWAY_MODEL_VP, .iommu = CAUSEWAY_IOMMU_STRICT},
        {.model = CAUSEWAY_MODEL_VP, .mask = UINT64_MAX >> 1, .bounce_pool_bytes = 65536},
    };
    struct causeway_segment segments[8];
    struct causeway_piece piece;
    uint64_t pfn = 0, sealed = 0, handle = 0;
    size_t count = 0;
    void *place;
    uint32_t part;
    char *memory = aligned_alloc(4096, 1 << 20);

    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        causeway_dma *dma = NULL;
        IS(0, causeway_dma_create("m", &kinds[kind], &dma));
        IS(0, causeway_dma_attach(dma, memory + 16 * 4096, 4096, CAUSEWAY_READ, &sealed));
        IS(0, causeway_dma_attach(dma, memory, 8 * 4096, 3, &pfn));
        // Overlaps: the same, within, over an end, over all.
        IS(-EEXIST, causeway_dma_attach(dma, memory, 4096, 3, &handle));
        IS(-EEXIST, causeway_dma_attach(dma, memory + 4096, 4096, 3, &handle));
        IS(-EEXIST, causeway_dma_attach(dma, memory + 7 * 4096, 8192, 3, &handle));
        IS(-EEXIST, causeway_dma_attach(dma, memory + 15 * 4096, 8192, 3, &handle));
        IS(-EEXIST, causeway_dma_attach(dma, memory, 32 * 4096, 3, &handle));
        IS(-ENOENT, causeway_dma_detach(dma, memory + 4096));
        IS(-EINVAL, causeway_dma_attach(dma, (void *)(UINTPTR_MAX & ~4095ull), 8192, 3, &handle));
        IS(-EINVAL, causeway_dma_attach(dma, (void *)(1ull << 47), 4096, 3, &handle));
        // Side by side is no overlap.
        IS(0, causeway_dma_attach(dma, memory + 8 * 4096, 8 * 4096, 3, &handle));
        IS(0, causeway_dma_detach(dma, memory + 8 * 4096));
        IS(-ENOENT, causeway_dma_map_single(dma, pfn + 8, 0, 1, CAUSEWAY_TO_DEVICE, segments, 8, &count, &handle));
        IS(-ENOENT, causeway_dma_map_single(dma, pfn + 7, 4095, 2, CAUSEWAY_TO_DEVICE, segments, 8, &count, &handle));
        IS(-ENOENT, causeway_dma_map_single(dma, 1, 0, 1, CAUSEWAY_FROM_DEVICE, segments, 8, &count, &handle));
        IS(-EACCES, causeway_dma_map_single(dma, sealed, 0, 1, CAUSEWAY_FROM_DEVICE, segments, 8, &count, &handle));
        IS(-EINVAL, causeway_dma_map_single(dma, UINT64_MAX, 0, 1, CAUSEWAY_TO_DEVICE, segments, 8, &count, &handle));
        piece = (struct causeway_piece){pfn | 1ull << 52, 0, 1};
        IS(-ERANGE, causeway_dma_map(dma, &piece, 1, CAUSEWAY_TO_DEVICE, segments, 8, &count, &handle));
        piece.pfn = UINT64_MAX;
        IS(-ERANGE, causeway_dma_map(dma, &piece, 1, CAUSEWAY_TO_DEVICE, segments, 8, &count, &handle));
        piece = (struct causeway_piece){pfn, 4096, 1};
        IS(-EINVAL, causeway_dma_map(dma, &piece, 1, CAUSEWAY_TO_DEVICE, segments, 8, &count, &handle));
        piece = (struct causeway_piece){pfn, 0, 0};
        IS(-EINVAL, causeway_dma_map(dma, &piece, 1, CAUSEWAY_TO_DEVICE, segments, 8, &count, &handle));
        IS(0, causeway_dma_map_single(dma, pfn + 7, 1, 4095, CAUSEWAY_FROM_DEVICE, segments, 8, &count, &handle));
        IS(0, causeway_dma_resolve(dma, segments[0].address, 1, CAUSEWAY_FROM_DEVICE, &place, &part));
        check(__LINE__, place == memory + 7 * 4096 + 1, 1);
        IS(-ERANGE, causeway_dma_sync_for_cpu(dma, handle, 0, 4096));
        IS(0, causeway_dma_unmap(dma, handle, CAUSEWAY_FROM_DEVICE));
        causeway_dma_destroy(dma);
    }
    free(memory);
}

/* What is deferred can be seen and flushed, and what was refused is told. */
static void deferred(void)
{
    struct causeway_dma_options options = {.model = CAUSEWAY_MODEL_VP, .iommu = CAUSEWAY_IOMMU_DEFERRED};
    causeway_dma *dma = NULL;
    struct causeway_segment segment;
    struct causeway_fault fault;
    uint64_t pfn = 0, handle = 0;
    size_t count = 0, stale = 9;
    void *place;
    uint32_t part;
    char *memory = aligned_alloc(4096, 4096);

    check(__LINE__, causeway_translation_version(), CAUSEWAY_TRANSLATION_VERSION);
    IS(-EINVAL, causeway_dma_flush(NULL));
    IS(-EINVAL, causeway_dma_stale_count(NULL, &stale));
    IS(-EINVAL, causeway_dma_next_fault(NULL, &fault));
    IS(0, causeway_dma_fault_count(NULL));
    options.mask = 0xFFFFF;
    IS(-EINVAL, causeway_dma_create("d", &options, &dma));
    options.mask = 0;
    IS(0, causeway_dma_create("d", &options, &dma));
    IS(-EINVAL, causeway_dma_stale_count(dma, NULL));
    IS(-EINVAL, causeway_dma_next_fault(dma, NULL));
    IS(-ENOENT, causeway_dma_next_fault(dma, &fault));
    IS(0, causeway_dma_attach(dma, memory, 4096, 3, &pfn));
    IS(0, causeway_dma_map_single(dma, pfn, 0, 100, CAUSEWAY_TO_DEVICE, &segment, 1, &count, &handle));
    IS(-EFAULT, causeway_dma_resolve(dma, segment.address, 4, CAUSEWAY_FROM_DEVICE, &place, &part));
    IS(0, causeway_dma_resolve(dma, segment.address, 4, CAUSEWAY_TO_DEVICE, &place, &part));
    IS(0, causeway_dma_stale_count(dma, &stale));
    IS(0, (long)stale);
    IS(0, causeway_dma_unmap(dma, handle, CAUSEWAY_TO_DEVICE));
    IS(0, causeway_dma_stale_count(dma, &stale));
    IS(1, (long)stale);
    // Unmapped, and reachable until the flush.
    IS(0, causeway_dma_resolve(dma, segment.address, 4, CAUSEWAY_TO_DEVICE, &place, &part));
    IS(0, causeway_dma_flush(dma));
    IS(-EFAULT, causeway_dma_resolve(dma, segment.address, 4, CAUSEWAY_TO_DEVICE, &place, &part));
    IS(0, causeway_dma_stale_count(dma, &stale));
    IS(0, (long)stale);
    IS(2, (long)causeway_dma_fault_count(dma));
    IS(0, causeway_dma_next_fault(dma, &fault));
    check(__LINE__, fault.iova == segment.address && fault.cause == CAUSEWAY_FAULT_WRITE_DENIED, 1);
    IS(0, causeway_dma_next_fault(dma, &fault));
    check(__LINE__, fault.iova == segment.address && fault.cause == CAUSEWAY_FAULT_NOT_MAPPED, 1);
    IS(-ENOENT, causeway_dma_next_fault(dma, &fault));
    causeway_dma_destroy(dma);

    // Without an IOMMU nothing is ever stale, and nothing is told.
    options.iommu = CAUSEWAY_IOMMU_OFF;
    IS(0, causeway_dma_create("d", &options, &dma));
    IS(0, causeway_dma_flush(dma));
    IS(0, causeway_dma_stale_count(dma, &stale));
    IS(0, (long)stale);
    IS(-ENOENT, causeway_dma_next_fault(dma, &fault));
    IS(0, causeway_dma_fault_count(dma));
    causeway_dma_destroy(dma);
    free(memory);
}

/* As large as the header allows: 64 GiB of addresses in one piece, and 2^24 frames. */
static void sizes(void)
{
    struct causeway_dma_options options = {.model = CAUSEWAY_MODEL_VP};
    struct causeway_segment segment;
    causeway_dma *dma = NULL;
    causeway_iommu *iommu = NULL;
    uint64_t pfn = 0, handle = 0, iova = 0, address = 0, size = 1ull << 36;
    size_t count = 0;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    check(__LINE__, memory != MAP_FAILED, 1);
    IS(0, causeway_dma_create("s", &options, &dma));
    IS(-EINVAL, causeway_dma_attach(dma, memory, size + 4096, 3, &pfn));
    IS(0, causeway_dma_attach(dma, memory, size, 3, &pfn));
    IS(0, causeway_dma_map_single(dma, pfn + (size >> 12) - 1, 0, 4096, CAUSEWAY_TO_DEVICE, &segment, 1, &count, &handle));
    IS(-ENOENT, causeway_dma_map_single(dma, pfn + (size >> 12), 0, 1, CAUSEWAY_TO_DEVICE, &segment, 1, &count, &address));
    IS(0, causeway_dma_unmap(dma, handle, CAUSEWAY_TO_DEVICE));
    causeway_dma_destroy(dma);
    munmap(memory, size);

    IS(0, causeway_iommu_create("s", CAUSEWAY_IOMMU_STRICT, UINT64_MAX, &iommu));
    for (int round = 0; round < 3; round++) {
        IS(0, causeway_iommu_map(iommu, (uint64_t)round << 24, 1 << 24, 3, &iova));
        IS(0, causeway_iommu_access(iommu, iova + size - 1, CAUSEWAY_WRITE, &address));
        check(__LINE__, address == ((uint64_t)(round + 1) << 36) - 1, 1);
    }
    IS(-ENOSPC, causeway_iommu_map(iommu, 0, 1 << 24, 3, &address));
    IS(0, causeway_iommu_unmap(iommu, iova, 1 << 24));
    IS(-ENOENT, causeway_iommu_unmap(iommu, iova, 1 << 24));
    IS(0, causeway_iommu_map(iommu, 0, 1 << 24, 3, &address));
    causeway_iommu_destroy(iommu);
}

/* The last: from here on there are few addresses left. */
static void memory(void)
{
    struct causeway_dma_options options = { .model = CAUSEWAY_MODEL_P2M };
    struct rlimit limit;
    unsigned long pages = 0;
    causeway_dma *dma = NULL;
    causeway_map *map = NULL;
    FILE *file = fopen("/proc/self/statm", "r");

    check(__LINE__, file && fscanf(file, "%lu", &pages) == 1, 1);
    fclose(file);
    limit.rlim_cur = limit.rlim_max = pages * 4096 + (20 << 20);
    check(__LINE__, setrlimit(RLIMIT_AS, &limit), 0);
    IS(-ENOMEM, causeway_dma_create("d", &options, &dma));
    IS(-ENOMEM, causeway_map_create(0, CAUSEWAY_MODEL_P2M, 1ull << 40, 1ull << 40, 0, &map));
    check(__LINE__, dma == NULL && map == NULL, 1);
    IS(0, causeway_map_create(0, CAUSEWAY_MODEL_P2M, 1 << 20, 1 << 20, 0, &map));
    causeway_map_destroy(map);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    maps();
    dma();
    iommu();
    models();
    deferred();
    sizes();
    dumps(argv[1], argv[2]);
    memory();
    return failures != 0;
}
