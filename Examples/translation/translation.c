/* What libcauseway-translation does, from C: a frame map, DMA under a device's limits, an IOMMU, a dump.
 *
 *     cc -o translation translation.c $(pkg-config --cflags --libs causeway-translation)
 *     ./translation [DUMP]
 */
#include <causeway_translation.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program unless a call did what it should. */
static void must(int result, const char *what)
{
    if (result != 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(-result));
        exit(1);
    }
}

static void expect(int result, int wanted, const char *what)
{
    if (result != wanted) {
        fprintf(stderr, "%s: %d, not %d\n", what, result, wanted);
        exit(1);
    }
}

static void maps(void)
{
    causeway_map *map;
    must(causeway_map_create(3, CAUSEWAY_MODEL_P2M, 1 << 20, 1 << 24, 0, &map), "create a map");
    must(causeway_map_set(map, 0x100, 16, 0x2a000, CAUSEWAY_READ | CAUSEWAY_WRITE), "map 16 pages");
    must(causeway_map_set(map, 0x110, 1, 0x77777, CAUSEWAY_READ), "map one elsewhere");
    expect(causeway_map_set(map, 0x110, 1, 0x5, CAUSEWAY_READ), -EEXIST, "map it twice");

    struct causeway_translation found;
    must(causeway_map_translate(map, 0x104123, 64, &found), "translate");
    printf("0x104123 is frame 0x%" PRIx64 " + 0x%x, %" PRIu64 " pages in a row, %s\n", found.frame, found.offset, found.page_count,
           found.permissions & CAUSEWAY_WRITE ? "rw" : "r-");
    expect(causeway_map_translate(map, 0x111000, 1, &found), -ENOENT, "a hole");

    struct causeway_reverse back;
    must(causeway_map_reverse(map, 0x2a004, &back), "the way back");
    printf("frame 0x2a004 is pfn 0x%" PRIx64 "\n", back.pfn);

    /* Another domain's page, where this one has none. */
    uint64_t frames[] = {0x99999};
    causeway_foreign *foreign;
    must(causeway_map_set_foreign(map, 0x200, frames, 1, 5, CAUSEWAY_READ, &foreign), "a foreign page");
    must(causeway_map_translate(map, 0x200000, 1, &found), "translate it");
    printf("pfn 0x200 is %s\n", found.kind == CAUSEWAY_ENTRY_FOREIGN ? "foreign" : "something else");
    causeway_foreign_destroy(foreign);
    expect(causeway_map_translate(map, 0x200000, 1, &found), -ENOENT, "after its end");

    struct causeway_run runs[8];
    size_t count;
    uint64_t next;
    must(causeway_map_range(map, 0xfe, 0x20, runs, 8, &count, &next), "a range");
    for (size_t index = 0; index < count; index++)
        printf("  pfn 0x%" PRIx64 " for %" PRIu64 " pages: %s\n", runs[index].pfn, runs[index].page_count,
               runs[index].kind == CAUSEWAY_ENTRY_LOCAL ? "mapped" : "nothing");
    must(causeway_map_clear(map, 0x100, 8), "unmap half");
    printf("answers from before %s\n", causeway_map_is_current(map, back.generation) ? "hold" : "may be wrong");
    causeway_map_destroy(map);
}

static void dma(void)
{
    /* A device that reaches 32 bits of address, behind P2M's scattered frames: what lies higher is bounced. */
    struct causeway_dma_options options = {
        .model = CAUSEWAY_MODEL_P2M, .mask = 0xffffffff, .bounce_pool_bytes = 1 << 20, .maximum_segment_size = 8192, .seed = 7};
    causeway_dma *dma;
    must(causeway_dma_create("example", &options, &dma), "create a device");
    size_t size = 16 * 4096;
    char *memory = aligned_alloc(4096, size);
    memset(memory, 'x', size);
    uint64_t pfn, handle;
    must(causeway_dma_attach(dma, memory, size, CAUSEWAY_READ | CAUSEWAY_WRITE, &pfn), "attach memory");

    struct causeway_segment segments[16];
    size_t count;
    expect(causeway_dma_map_single(dma, pfn, 100, 20000, CAUSEWAY_FROM_DEVICE, segments, 1, &count, &handle), -ENOBUFS, "no room");
    must(causeway_dma_map_single(dma, pfn, 100, 20000, CAUSEWAY_FROM_DEVICE, segments, 16, &count, &handle), "map");
    uint64_t bytes = 0;
    for (size_t index = 0; index < count; index++) {
        if (segments[index].address + segments[index].byte_count - 1 > options.mask)
            expect(1, 0, "a segment beyond the mask");
        /* The device's part: it writes where its bus addresses lead. */
        for (uint32_t done = 0; done < segments[index].byte_count;) {
            void *place;
            uint32_t part;
            must(causeway_dma_resolve(dma, segments[index].address + done, segments[index].byte_count - done, CAUSEWAY_FROM_DEVICE, &place,
                                      &part), "resolve");
            memset(place, 'd', part);
            done += part;
        }
        bytes += segments[index].byte_count;
    }
    must(causeway_dma_unmap(dma, handle, CAUSEWAY_FROM_DEVICE), "unmap");
    expect(causeway_dma_unmap(dma, handle, CAUSEWAY_FROM_DEVICE), -ENOENT, "unmap again");
    struct causeway_dma_statistics done;
    must(causeway_dma_get_statistics(dma, &done), "statistics");
    printf("the device wrote %" PRIu64 " bytes in its 32 bits; %s bounced; the page has '%c%c'\n", bytes, done.bounces ? "some were" : "none was",
           memory[99], memory[100]);
    if (memory[99] != 'x' || memory[100] != 'd' || memory[20099] != 'd' || memory[20100] != 'x')
        expect(1, 0, "the bytes");
    must(causeway_dma_detach(dma, memory), "detach");
    causeway_dma_destroy(dma);
    free(memory);
}

static void iommu(void)
{
    causeway_iommu *iommu;
    must(causeway_iommu_create("example", CAUSEWAY_IOMMU_STRICT, 0xffffffff, &iommu), "create an IOMMU");
    uint64_t iova, address;
    must(causeway_iommu_map(iommu, 0x2a000, 4, CAUSEWAY_READ, &iova), "map");
    must(causeway_iommu_access(iommu, iova + 4096 + 5, CAUSEWAY_READ, &address), "read through it");
    printf("iova + 0x1005 is address 0x%" PRIx64 "\n", address);
    expect(causeway_iommu_access(iommu, iova, CAUSEWAY_WRITE, &address), -EFAULT, "a write");
    must(causeway_iommu_unmap(iommu, iova, 4), "unmap");
    expect(causeway_iommu_access(iommu, iova, CAUSEWAY_READ, &address), -EFAULT, "a read after that");
    struct causeway_fault fault;
    while (causeway_iommu_next_fault(iommu, &fault) == 0)
        printf("fault at %s: %s\n", fault.iova == iova ? "the mapping" : "another place",
               fault.cause == CAUSEWAY_FAULT_WRITE_DENIED ? "write denied" : "not mapped");
    causeway_iommu_destroy(iommu);
}

static void dump(const char *path)
{
    causeway_dump *dump;
    char message[256];
    int result = causeway_dump_open(path, &dump, message, sizeof message);
    if (result != 0) {
        fprintf(stderr, "%s\n", message);
        exit(1);
    }
    struct causeway_dump_info info;
    must(causeway_dump_get_info(dump, &info), "what it is");
    printf("%s: %s, %" PRIu64 " pages, %" PRIu64 " findings\n", path, info.is_auto_translated ? "auto-translated" : "PV", info.used, info.findings);
    causeway_map *map;
    must(causeway_dump_map(dump, &map), "its map");
    struct causeway_run run;
    size_t count;
    uint64_t pfn = 0, next;
    /* The first page that is there. */
    while (causeway_map_range(map, pfn, 1, &run, 1, &count, &next) == 0 && run.kind == CAUSEWAY_ENTRY_NONE)
        pfn = next;
    unsigned char by_pfn[4096], by_mfn[4096];
    must(causeway_dump_read_pfn(dump, pfn, by_pfn), "a page by pfn");
    printf("pfn 0x%" PRIx64 " is frame 0x%" PRIx64 ", its first byte 0x%02x\n", pfn, run.frame, by_pfn[0]);
    if (!info.is_auto_translated) {
        must(causeway_dump_read_mfn(dump, run.frame, by_mfn), "the same by machine frame");
        expect(memcmp(by_pfn, by_mfn, 4096), 0, "the same bytes");
    }
    causeway_dump_destroy(dump);
    causeway_map_destroy(map);
}

int main(int argc, char **argv)
{
    if (causeway_translation_version() >> 16 != CAUSEWAY_TRANSLATION_VERSION >> 16)
        return 2;
    maps();
    dma();
    iommu();
    if (argc > 1)
        dump(argv[1]);
    return 0;
}
