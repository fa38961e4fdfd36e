/* causeway_translation.h: where a Xen domain's pages are, and how a device reaches them.
 *
 * Kinds of object, each behind an opaque handle:
 *   causeway_map      a domain's frame map: pseudo-physical to bus frames and back, under three memory models
 *   causeway_dma      one device queue's DMA: pages in, bus segments that the device can take out
 *   causeway_iommu    an IO address space with page tables, permissions and recorded faults
 *   causeway_space    what a real device reaches, through VFIO type1 or iommufd, or a software one by the same rules
 *   causeway_vectors  a device's interrupts, as counters
 *   causeway_registry memory that a process has for its devices, registered once
 *   causeway_dump     a file that `xl dump-core` wrote
 *
 * Every function that can fail returns 0 or a negative errno (-EINVAL for an argument that makes no sense, NULL handles among them; the others
 * are named where they are declared); nothing has changed then, and outputs are not written unless it says so. What a function gives out
 * through a `**` belongs to the caller, who ends it with the `_destroy` of its kind, once. Frames and pages are 4096 bytes.
 *
 * Threads: look-ups in a map and everything with a dump, a space, vectors or a registry from any thread at any time; changes of a map, a space or a registry
 * wait for each other. A causeway_dma and a causeway_iommu belong to one thread at a time.
 *
 * Link with `pkg-config --cflags --libs causeway-translation`.
 */
#ifndef CAUSEWAY_TRANSLATION_H
#define CAUSEWAY_TRANSLATION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Major and minor version of this interface, 16 bits each. A program of the same major and a smaller or equal minor version works.
 * 1.1: causeway_dma_flush, _stale_count, _next_fault, _fault_count; attached memory does not overlap.
 * 1.2: causeway_map_page_limit; causeway_dump_open_descriptor, _open_memory.
 * 1.3: causeway_space_…, causeway_vectors_…, causeway_registry_…. */
#define CAUSEWAY_TRANSLATION_VERSION 0x00010003u
uint32_t causeway_translation_version(void);

/* ---- Frame maps ---- */

typedef struct causeway_map causeway_map;
/* Foreign pages in a map; they leave it when this is destroyed, and keep it alive until then. */
typedef struct causeway_foreign causeway_foreign;

/* How a domain's memory is known. */
#define CAUSEWAY_MODEL_P2M 0u      /* a table of machine frames (x86 PV): what is not in it does not exist */
#define CAUSEWAY_MODEL_IDENTITY 1u /* pseudo-physical is machine: only exceptions are recorded */
#define CAUSEWAY_MODEL_VP 2u       /* auto-translated: the bus sees the domain's own numbers */

/* What may be done with a page. */
#define CAUSEWAY_READ 1u
#define CAUSEWAY_WRITE 2u

/* What stands at a page. */
#define CAUSEWAY_ENTRY_NONE 0u
#define CAUSEWAY_ENTRY_BALLOONED 1u /* given back; a foreign page may be placed here */
#define CAUSEWAY_ENTRY_IDENTITY 2u  /* no memory of the domain: its number on the bus is its own */
#define CAUSEWAY_ENTRY_LOCAL 3u
#define CAUSEWAY_ENTRY_FOREIGN 4u   /* another domain's, mapped by a grant */

struct causeway_translation {
    uint64_t frame;       /* the bus frame */
    uint64_t page_count;  /* pages from here on that are contiguous on the bus and alike; at least 1, at most what was asked for */
    uint32_t offset;      /* the byte in the frame */
    uint32_t permissions; /* CAUSEWAY_READ | CAUSEWAY_WRITE */
    uint32_t kind;        /* CAUSEWAY_ENTRY_… */
    uint32_t reserved;
};

struct causeway_run {
    uint64_t pfn;
    uint64_t page_count;
    uint64_t frame; /* 0 where there is none */
    uint32_t permissions;
    uint32_t kind;
};

struct causeway_reverse {
    uint64_t pfn;
    uint64_t generation; /* for causeway_map_is_current */
    uint32_t is_foreign;
    uint32_t reserved;
};

struct causeway_audit {
    uint64_t local, identity, foreign, ballooned; /* pages */
    uint64_t runs, longest_run;
    uint64_t inconsistent; /* pages whose frame does not come back to them; 0 unless something is broken */
};

/* An empty map of a domain (Xen's number). pfn_limit and frame_limit: one past the largest number, at most 2^40; holes cost nothing.
 * own_frames: pages from 0 on that are the domain's memory under `identity` and `vp` (0 under `p2m`). -ENOMEM: no memory for the top level. */
int causeway_map_create(uint16_t owner, uint32_t model, uint64_t pfn_limit, uint64_t frame_limit, uint64_t own_frames,
                        causeway_map **map);
void causeway_map_destroy(causeway_map *map);

/* Maps the domain's own pages onto frames from `frame` on. All of them or none.
 * -ERANGE: beyond a limit. -EEXIST: a page is mapped. -EBUSY: a frame is in use. -ENOMEM. -EROFS: the map is a dump's. */
int causeway_map_set(causeway_map *map, uint64_t pfn, uint64_t page_count, uint64_t frame, uint32_t permissions);
/* Records pages that are no memory and have the same number on the bus. Errors as above. */
int causeway_map_set_identity(causeway_map *map, uint64_t pfn, uint64_t page_count, uint32_t permissions);
/* Changes permissions of mapped pages. -ENOENT: one is not mapped. */
int causeway_map_set_permissions(causeway_map *map, uint64_t pfn, uint64_t page_count, uint32_t permissions);
/* Takes own pages out. -ENOENT: one is not mapped. -EPERM: one is foreign. */
int causeway_map_clear(causeway_map *map, uint64_t pfn, uint64_t page_count);
/* Gives own pages, or holes, back, so that foreign pages can be placed here. -EPERM: one is foreign. */
int causeway_map_balloon_out(causeway_map *map, uint64_t pfn, uint64_t page_count);
/* Places another domain's frames, one for each page, at most 2^24, where this one has none. -EBUSY: a page is mapped, or a frame is its own. */
int causeway_map_set_foreign(causeway_map *map, uint64_t pfn, const uint64_t *frames, uint64_t page_count, uint16_t owner,
                             uint32_t permissions, causeway_foreign **foreign);
void causeway_foreign_destroy(causeway_foreign *foreign);

/* Where a pseudo-physical address (bytes) is, and how far it goes on, looking at up to page_count pages. -ENOENT: nothing is there. */
int causeway_map_translate(const causeway_map *map, uint64_t address, uint64_t page_count, struct causeway_translation *translation);
/* The page that has a bus frame; checked against the forward table. -ENOENT. */
int causeway_map_reverse(const causeway_map *map, uint64_t frame, struct causeway_reverse *reverse);
/* The runs of a range, present or not, in order: up to `capacity` of them. *count: how many were written. *next: the pfn to go on with; the
 * range's end if all was told. */
int causeway_map_range(const causeway_map *map, uint64_t pfn, uint64_t page_count, struct causeway_run *runs, size_t capacity,
                       size_t *count, uint64_t *next);
/* One past the largest page number that the map can have; of a dump's, that it has. */
uint64_t causeway_map_page_limit(const causeway_map *map);
/* Goes up with each change after which an earlier answer may be wrong. */
uint64_t causeway_map_generation(const causeway_map *map);
/* 1 if all answers given at that generation still hold, else 0. */
int causeway_map_is_current(const causeway_map *map, uint64_t generation);
/* Checks that every frame comes back to its page. */
int causeway_map_audit(const causeway_map *map, struct causeway_audit *audit);

/* ---- DMA ---- */

typedef struct causeway_dma causeway_dma;

/* What an IOMMU refuses a device. */
#define CAUSEWAY_FAULT_NOT_MAPPED 0u
#define CAUSEWAY_FAULT_READ_DENIED 1u
#define CAUSEWAY_FAULT_WRITE_DENIED 2u
#define CAUSEWAY_FAULT_NO_MEMORY 3u
#define CAUSEWAY_FAULT_REPORTED 4u /* by the device itself, without a cause */

struct causeway_fault {
    uint64_t iova;
    uint32_t cause;
    uint32_t reserved;
};

#define CAUSEWAY_TO_DEVICE 0u
#define CAUSEWAY_FROM_DEVICE 1u
#define CAUSEWAY_BIDIRECTIONAL 3u /* 1.3 */

#define CAUSEWAY_IOMMU_OFF 0u
#define CAUSEWAY_IOMMU_STRICT 1u   /* the IOTLB forgets at once what is unmapped */
#define CAUSEWAY_IOMMU_DEFERRED 2u /* in batches */

#define CAUSEWAY_DMA_UNTRUSTED 1u /* the device must see no bytes but a mapping's own */
/* 1.3: so many low bits of an address, at most 12, are where memory bounces what they are where it is (min_align_mask) */
#define CAUSEWAY_DMA_KEEPS_BITS(count) ((uint32_t)(count) << 8)

/* A device's limits and how it reaches memory. 0 in a field is no limit, or nothing. */
struct causeway_dma_options {
    uint32_t model; /* CAUSEWAY_MODEL_… */
    uint32_t iommu; /* CAUSEWAY_IOMMU_… */
    uint32_t flags; /* CAUSEWAY_DMA_… */
    uint32_t maximum_segment_size;
    uint32_t maximum_segments;
    uint32_t minimum_alignment;  /* a power of two: each segment starts at a multiple, behind an IOMMU and where a run is cut, too */
    uint64_t mask;               /* all ones: the largest address */
    uint64_t boundary_mask;      /* all ones: a segment never crosses a multiple of this plus one */
    uint64_t bounce_pool_bytes;
    uint64_t seed;               /* where P2M frames are scattered to */
};

struct causeway_piece { /* a part of one page */
    uint64_t pfn;
    uint32_t offset;
    uint32_t byte_count;
};

struct causeway_segment { /* what a device is given */
    uint64_t address;
    uint32_t byte_count;
    uint32_t reserved;
};

struct causeway_dma_statistics {
    uint64_t maps, unmaps, live;
    uint64_t misuses; /* calls refused because they were wrong */
    uint64_t bounces; /* pieces that went through the bounce pool, for whatever reason */
    uint64_t pool_slots, pool_slots_in_use, pool_largest_request;
};

/* -ENOMEM: the tables' memory cannot be had, or the pool's below the mask. -EINVAL: also for a mask that leaves an IOMMU no address (below 1 MiB).
 * `name` is for messages. */
int causeway_dma_create(const char *name, const struct causeway_dma_options *options, causeway_dma **dma);
void causeway_dma_destroy(causeway_dma *dma);

/* Makes memory of this process known: page-aligned, whole pages, and mapped until it is detached. *pfn is the first page's number.
 * At most 64 GiB, at once and, but for `vp` without limits or IOMMU, in all. -EEXIST: some of it is attached. -ENOMEM: no numbers or tables
 * left. */
int causeway_dma_attach(causeway_dma *dma, void *memory, uint64_t byte_count, uint32_t permissions, uint64_t *pfn);
/* -ENOENT: not attached. */
int causeway_dma_detach(causeway_dma *dma, void *memory);

/* Maps pieces in order and writes the segments that the device is to be given. *count is how many there are, also when they do not fit:
 * -ENOBUFS, and nothing is mapped. -ENOENT: no such page. -EACCES: the device was to write a read-only page. -ERANGE: a page number of 2^52 or more.
 * -EINVAL: a piece is empty or leaves its page. -EOPNOTSUPP: it must be bounced and there is no pool. -ENOSPC: the pool or the IO address space is
 * full. All of this under every model, with and without limits and IOMMU. */
int causeway_dma_map(causeway_dma *dma, const struct causeway_piece *pieces, size_t piece_count, uint32_t direction,
                     struct causeway_segment *segments, size_t capacity, size_t *count, uint64_t *handle);
/* The same for bytes in a row: `byte_count` from `offset` (any number below 4096) of page `pfn` on. -EINVAL: also for a run that would leave the
 * 64-bit address space. */
int causeway_dma_map_single(causeway_dma *dma, uint64_t pfn, uint32_t offset, uint64_t byte_count, uint32_t direction,
                            struct causeway_segment *segments, size_t capacity, size_t *count, uint64_t *handle);
/* Ends a mapping, once. -ENOENT: never made, or unmapped already. -EINVAL: mapped for the other direction. */
int causeway_dma_unmap(causeway_dma *dma, uint64_t handle, uint32_t direction);
/* Shows this process what the device has written so far, or the device what this process has. -ERANGE: beyond the mapping. */
int causeway_dma_sync_for_cpu(causeway_dma *dma, uint64_t handle, uint64_t offset, uint64_t byte_count);
int causeway_dma_sync_for_device(causeway_dma *dma, uint64_t handle, uint64_t offset, uint64_t byte_count);
/* The device's side: the memory behind a bus address, and how many of the bytes lie in one piece. -EFAULT: nothing, or not in that direction. */
int causeway_dma_resolve(causeway_dma *dma, uint64_t address, uint32_t byte_count, uint32_t direction, void **memory,
                         uint32_t *available);
int causeway_dma_get_statistics(const causeway_dma *dma, struct causeway_dma_statistics *statistics);
/* Behind an IOMMU (without one there is nothing to flush, nothing stale, and no fault). In deferred mode the device still reaches what was unmapped
 * until 256 ranges wait or this is called: before the memory is used for anything else, and before the driver waits for long. */
int causeway_dma_flush(causeway_dma *dma);
/* Ranges that are unmapped and that the device may still reach. */
int causeway_dma_stale_count(const causeway_dma *dma, size_t *count);
/* The oldest recorded fault that was not told yet (a causeway_dma_resolve that was refused); 64 are kept. -ENOENT: none. */
int causeway_dma_next_fault(causeway_dma *dma, struct causeway_fault *fault);
/* Faults in all. */
uint64_t causeway_dma_fault_count(const causeway_dma *dma);

/* Memory that this process and the device use at the same time: rings, descriptors, status words. Cleared, never bounced, one segment below the device's mask
 * that starts aligned as the device needs. byte_count is rounded up to pages. -ENOMEM. -EOPNOTSUPP: no segment may be so long, or not without crossing a boundary. */
int causeway_dma_allocate_coherent(causeway_dma *dma, uint64_t byte_count, void **memory, uint64_t *address, uint64_t *handle);
/* The device reaches it no more, and neither does this process. -ENOENT: never made, or freed already. */
int causeway_dma_free_coherent(causeway_dma *dma, uint64_t handle);

/* ---- A software IOMMU ---- */

typedef struct causeway_iommu causeway_iommu;

/* The IOMMU that stands before a device, to map in it oneself and to see what it does; its own handle, to be destroyed, which may outlive the device's. It belongs
 * to the device's thread. -ENODEV: there is none. */
int causeway_dma_iommu(causeway_dma *dma, causeway_iommu **iommu);
/* One with room for addresses of 21 to 57 bits; causeway_iommu_create has 40 (1 TiB) at most. Reservations (causeway_iommu_map) lie within the first 256 GiB. */
int causeway_iommu_create_wide(const char *name, uint32_t mode, uint32_t address_bits, causeway_iommu **iommu);
/* Maps frames in a row at an address of one's own choice, with large pages where both are aligned. -EEXIST: something is mapped there. -ERANGE: beyond the bits. */
int causeway_iommu_map_at(causeway_iommu *iommu, uint64_t iova, uint64_t frame, uint64_t page_count, uint32_t permissions);
/* Ends what lies there of such mappings, also a part of one, and forgets it at once. -EBUSY: a mapping of causeway_iommu_map is among it. */
int causeway_iommu_unmap_at(causeway_iommu *iommu, uint64_t iova, uint64_t page_count);
/* Leaves of the page tables: pages of 4 KiB, 2 MiB and 1 GiB. */
struct causeway_leaves {
    uint64_t small, large, huge;
    uint64_t table_bytes;
};
int causeway_iommu_get_leaves(const causeway_iommu *iommu, struct causeway_leaves *leaves);
/* Called for an access (CAUSEWAY_READ or CAUSEWAY_WRITE) to a page that neither the IOTLB nor the tables know, on the thread of the access: it may map the page
 * with causeway_iommu_map_at and return 0, and the access finds it; else it is a fault. */
typedef int (*causeway_miss)(void *context, causeway_iommu *iommu, uint64_t iova, uint32_t permission);
/* NULL: nobody is asked any more. */
int causeway_iommu_on_miss(causeway_iommu *iommu, causeway_miss handler, void *context);

/* mode: strict or deferred. mask: the largest address that the device can send. -ENOMEM: no memory for the tables. */
int causeway_iommu_create(const char *name, uint32_t mode, uint64_t mask, causeway_iommu **iommu);
void causeway_iommu_destroy(causeway_iommu *iommu);
/* Maps frames in a row, at most 2^24, at an address that is chosen. -ENOSPC: no room. -ENOMEM: no tables. */
int causeway_iommu_map(causeway_iommu *iommu, uint64_t frame, uint64_t page_count, uint32_t permissions, uint64_t *iova);
/* Ends a mapping: exactly one that was made. -ENOENT: none begins there. -EINVAL: it has another size. */
int causeway_iommu_unmap(causeway_iommu *iommu, uint64_t iova, uint64_t page_count);
/* A device's access to one byte. -EFAULT: refused, and recorded. In deferred mode what is unmapped stays reachable until it is flushed. */
int causeway_iommu_access(causeway_iommu *iommu, uint64_t iova, uint32_t permission, uint64_t *address);
/* Forgets what was unmapped. */
int causeway_iommu_flush(causeway_iommu *iommu);
/* Ranges that are unmapped and that the device may still reach. */
int causeway_iommu_stale_count(const causeway_iommu *iommu, size_t *count);
/* The oldest recorded fault that was not told yet; 64 are kept. -ENOENT: none. */
int causeway_iommu_next_fault(causeway_iommu *iommu, struct causeway_fault *fault);
/* Faults in all. */
uint64_t causeway_iommu_fault_count(const causeway_iommu *iommu);

/* ---- A real device's address space ---- */

typedef struct causeway_space causeway_space;

/* No address of one's own choice. */
#define CAUSEWAY_ANYWHERE UINT64_MAX

#define CAUSEWAY_ADDRESSES_ALLOWED 0u  /* may be given to a device, mapped or not */
#define CAUSEWAY_ADDRESSES_RESERVED 1u /* never: interrupts, and what the IOMMU or the group lacks */
#define CAUSEWAY_ADDRESSES_FREE 2u     /* allowed, and nothing is mapped there */

struct causeway_addresses { /* both are among them */
    uint64_t first, last;
};

struct causeway_space_info {
    uint64_t page_sizes;    /* a bit for each; what is mapped starts and ends at multiples of the smallest */
    uint64_t mappings;      /* now */
    uint64_t mappings_left; /* UINT64_MAX: as many as there is memory for */
};

/* Bytes that the device's memory must stay where it is for: counted before the kernel is asked, and as it counts. */
struct causeway_account {
    uint64_t limit;          /* the budget that the space was opened with; UINT64_MAX: none */
    uint64_t used;
    uint64_t left;           /* of the budget and of RLIMIT_MEMLOCK, whichever is less; UINT64_MAX: no limit */
    uint64_t refused_bytes;
    uint64_t refused_count;
};

/* Opens one by its name:
 *   vfio-type1:/dev/vfio/GROUP            a VFIO group, all of whose devices are bound to VFIO
 *   iommufd[:/dev/vfio/devices/vfioN]     a device by its own node, attached; or none yet
 *   pci:0000:00:05.0                      a device: by its node where the kernel has iommufd, else by its group
 *   software[:BITS]                       no device: the same rules in this process, with addresses of 32 to 57 bits (48)
 * budget: bytes that may be locked for it, 0 for no budget; RLIMIT_MEMLOCK, as it was when the first space was opened, binds all of the process's spaces
 * together (unless the process has CAP_IPC_LOCK). On an error `message` (if not NULL) says what and what to do.
 * -EINVAL: no such name. -ENODEV: it cannot be opened, or used. -EOPNOTSUPP: this kernel lacks it. */
int causeway_space_open(const char *name, uint64_t budget, causeway_space **space, char *message, size_t size);
/* Ends what is mapped first. */
void causeway_space_destroy(causeway_space *space);
/* Why the last call with this handle was refused, in words. -ENOENT: none was. */
int causeway_space_message(causeway_space *space, char *message, size_t size);
int causeway_space_get_info(causeway_space *space, struct causeway_space_info *info);
int causeway_space_get_account(causeway_space *space, struct causeway_account *account);
/* *count: how many there are, also when they do not fit: -ENOBUFS, and as many as fit are written. */
int causeway_space_addresses(causeway_space *space, uint32_t which, struct causeway_addresses *ranges, size_t capacity, size_t *count);

/* Makes memory of this process, whole pages, reachable: at `wanted`, or with CAUSEWAY_ANYWHERE at an address that is chosen. It stays the caller's and must
 * be mapped until it is unmapped here; causeway_registry watches for those who forget. permissions: what the device may do.
 * -EINVAL: not whole pages, or no permission. -ERANGE: no device may be given these addresses. -EEXIST: something is mapped there. -ENOSPC: no room, or as
 * many mappings as there may be. -EDQUOT: over the budget or RLIMIT_MEMLOCK; the message has the numbers. Else the kernel's error. */
int causeway_space_map(causeway_space *space, void *memory, uint64_t byte_count, uint32_t permissions, uint64_t wanted, uint64_t *iova);
/* The same for a part of a file in memory (memfd, shm, hugetlbfs): whole pages from `offset` on, which the space maps into this process at *memory until
 * they are unmapped; the descriptor may be closed. -EBADF. -ERANGE: also beyond the file's end. */
int causeway_space_map_descriptor(causeway_space *space, int descriptor, uint64_t offset, uint64_t byte_count, uint32_t permissions,
                                  uint64_t wanted, uint64_t *iova, void **memory);
/* Ends every mapping in a range; *unmapped: bytes. When it returns no device reaches them. -EINVAL: one would be cut. -ENOENT: there is none. */
int causeway_space_unmap(causeway_space *space, uint64_t iova, uint64_t byte_count, uint64_t *unmapped);
/* Ends all; none is no error. */
int causeway_space_unmap_all(causeway_space *space, uint64_t *unmapped);

/* Where the device finds a byte of this process, and how many of `byte_count` bytes from there on lie in a row for it. No lock, no system call; a page that
 * is mapped twice has one of its places. -ENOENT: it does not. */
int causeway_space_bus_address(const causeway_space *space, const void *memory, uint64_t byte_count, uint64_t *iova, uint64_t *in_row);
/* The byte of this process that the device finds at an address. -ENOENT. */
int causeway_space_pointer(const causeway_space *space, uint64_t iova, void **memory);

/* From here on it is recorded which pages devices write. -EOPNOTSUPP: not by this kernel, or not for iommufd. */
int causeway_space_start_dirty(causeway_space *space);
int causeway_space_stop_dirty(causeway_space *space);
/* A bit for each page of 4096 bytes, the lowest first: written since this was last asked, or may have been. The range begins and ends where mappings do and
 * has no hole. capacity: bytes at `bitmap`. -ENOBUFS: too few; nothing is forgotten then. */
int causeway_space_take_dirty(causeway_space *space, uint64_t iova, uint64_t byte_count, uint8_t *bitmap, size_t capacity);

/* Of a software space: a device's access to a byte. -EFAULT: refused, and recorded. -EOPNOTSUPP: a real device does so itself. */
int causeway_space_access(causeway_space *space, uint64_t iova, uint32_t permission, void **memory);
/* The oldest refused access that was not told yet. A VFIO device's uncorrected errors are told without an address (0). -ENOENT: none. */
int causeway_space_next_fault(causeway_space *space, struct causeway_fault *fault);

/* A descriptor of a device, the caller's to close, for VFIO's own requests (registers, reset). address: a PCI device of the group; NULL: the one that the
 * space was opened with. -ENOENT: there is none such. */
int causeway_space_device(causeway_space *space, const char *address, int *descriptor);

typedef struct causeway_vectors causeway_vectors;

#define CAUSEWAY_VECTORS_LINE 0u /* masked when it rings, until causeway_vectors_unmask */
#define CAUSEWAY_VECTORS_MSI 1u
#define CAUSEWAY_VECTORS_MSIX 2u

/* How many a VFIO device has; 0: none of the kind. */
int causeway_vectors_available(int device, uint32_t kind, uint32_t *count);
/* Switches vectors 0 to count - 1 on, each a counter of its own: all that will be used at once. -ENXIO: there are not so many. Else the kernel's error. */
int causeway_vectors_open(int device, uint32_t kind, uint32_t count, causeway_vectors **vectors, char *message, size_t size);
/* Switches them off. */
void causeway_vectors_destroy(causeway_vectors *vectors);
/* The counter of a vector, an eventfd for poll and epoll that stays the library's; or a negative errno. -ENXIO. */
int causeway_vectors_descriptor(const causeway_vectors *vectors, uint32_t index);
/* Takes what a vector has counted; 0: nothing. Waits for it, at most `milliseconds`; negative: for ever. -ENXIO. */
int causeway_vectors_take(causeway_vectors *vectors, uint32_t index, int milliseconds, uint64_t *count);
/* Has the kernel ring a vector, as if the device had. -ENXIO. */
int causeway_vectors_trigger(causeway_vectors *vectors, uint32_t index);
/* Lets a line ring again; nothing for the other kinds. */
int causeway_vectors_unmask(causeway_vectors *vectors);

/* ---- Memory for devices, registered once ---- */

/* What is registered here every space that has joined maps, and every listener is told of. Any thread. */
typedef struct causeway_registry causeway_registry;

#define CAUSEWAY_REGISTERED 0u   /* from now on; a listener that returns a negative errno refuses it for everybody */
#define CAUSEWAY_UNREGISTERED 1u /* its owner takes it back: no more once the listener has returned */
#define CAUSEWAY_WITHDRAWN 2u    /* it is being unmapped, moved or discarded; see CAUSEWAY_REGISTRY_WATCHED */

/* Called by the thread that changes something, or by the registry's own, and not by two at once. It must not call the registry (-EDEADLK), nor unmap, move or
 * discard watched memory, nor wait for a thread that does. Returns 0; for what is no registration the answer is not looked at. */
typedef int (*causeway_listener)(void *context, uint32_t event, void *memory, uint64_t byte_count);

/* Memory that its owner unmaps (munmap, mmap over it), moves (mremap) or discards (madvise) while it is registered is withdrawn: every space unmaps it, every
 * listener is told, and only then does that call go on. All of the registration goes, whatever part of it is touched; it can be registered anew. For writable
 * private memory, memfds, shm and hugetlbfs; one descriptor for each registration, no rights. What is not seen: a file that is cut or punched by its
 * descriptor (the device keeps the pages that it has); memory that another process shares and unmaps is none of ours. Memory of malloc is to be registered only
 * where it has pages of its own (aligned_alloc of some MiB). */
#define CAUSEWAY_REGISTRY_WATCHED 1u

/* -EPERM, -ENOSYS and the like: memory cannot be watched here; the message says so. */
int causeway_registry_create(uint32_t flags, causeway_registry **registry, char *message, size_t size);
/* What is registered is taken back first, and nothing is watched any more when it returns. Not from a listener. The spaces and listeners are to stay until then. */
void causeway_registry_destroy(causeway_registry *registry);
/* Why the last call with this handle was refused, in words. -ENOENT: none was. */
int causeway_registry_message(causeway_registry *registry, char *message, size_t size);
/* Whole pages. permissions: CAUSEWAY_READ, or both. All spaces and listeners take it, or nothing is changed. -EEXIST: some of it is registered. -EBUSY: another
 * userfaultfd watches it. What a space refuses as for causeway_space_map; what a listener refuses as it says. */
int causeway_registry_register(causeway_registry *registry, void *memory, uint64_t byte_count, uint32_t permissions);
/* Whole registrations, one or several side by side. -ENOENT: not all of it is registered, or withdrawn already. -ERANGE: one would be cut. */
int causeway_registry_unregister(causeway_registry *registry, void *memory, uint64_t byte_count);
/* The space maps all that is registered, now and later, at addresses of its choice (causeway_space_bus_address finds them). -EEXIST: it has joined. */
int causeway_registry_join(causeway_registry *registry, causeway_space *space);
/* Ends that: it is unmapped there. -ENOENT: it has not joined. */
int causeway_registry_leave(causeway_registry *registry, causeway_space *space);
/* The listener is told of what is registered at once, by ascending addresses. *number: for the call that ends it. */
int causeway_registry_listen(causeway_registry *registry, causeway_listener listener, void *context, uint64_t *number);
/* It is told of what is registered as if that went, and not called again. -ENOENT. */
int causeway_registry_end_listening(causeway_registry *registry, uint64_t number);
int causeway_registry_get_size(causeway_registry *registry, uint64_t *count, uint64_t *byte_count);

#define CAUSEWAY_WITHDRAWN_UNMAPPED 0u
#define CAUSEWAY_WITHDRAWN_MOVED 1u
#define CAUSEWAY_WITHDRAWN_DISCARDED 2u

struct causeway_withdrawal {
    uint64_t address, byte_count; /* the registration */
    uint64_t start, length;       /* what of it was unmapped, moved or discarded */
    uint32_t cause;               /* CAUSEWAY_WITHDRAWN_… */
    uint32_t reserved;
};

/* The oldest withdrawal that was not told yet; 64 are kept. It is there a moment after the listeners have been told. -ENOENT: none. */
int causeway_registry_next_withdrawal(causeway_registry *registry, struct causeway_withdrawal *withdrawal);
/* Withdrawals in all. */
uint64_t causeway_registry_withdrawal_count(const causeway_registry *registry);

/* ---- Dumps ---- */

typedef struct causeway_dump causeway_dump;

struct causeway_dump_info {
    uint32_t is_auto_translated; /* HVM, PVH, Arm; else PV */
    uint32_t guest_width;        /* bytes in a word of the guest: 4 or 8 */
    uint64_t processors;
    uint64_t entries; /* in the table */
    uint64_t used;    /* of which name a page */
    uint64_t findings; /* what is wrong with it; causeway_dump_finding has words for the first 64 */
};

/* Opens a dump and reads its table; never a page. On an error `message` (if not NULL) gets what is wrong and where, cut to `size` bytes with its NUL.
 * -EBADMSG: the file makes no sense. -ENOTSUP: it does, but is of a kind that is not read. -EFBIG: too large. Else the system's error. */
int causeway_dump_open(const char *path, causeway_dump **dump, char *message, size_t size);
/* The same of an open file, which stays the caller's and may be closed; its position is neither used nor moved. -EBADF: it is not open for reading. */
int causeway_dump_open_descriptor(int descriptor, causeway_dump **dump, char *message, size_t size);
/* The same of bytes in memory, which stay the caller's and must be there, unchanged, until the dump is destroyed. */
int causeway_dump_open_memory(const void *bytes, size_t byte_count, causeway_dump **dump, char *message, size_t size);
void causeway_dump_destroy(causeway_dump *dump);
int causeway_dump_get_info(const causeway_dump *dump, struct causeway_dump_info *info);
/* The dump's frame map, read-only; it may outlive the dump. */
int causeway_dump_map(const causeway_dump *dump, causeway_map **map);
/* Copies a page of 4096 bytes, by pfn or by machine frame. -ENOENT: not in the dump. -EBADMSG: the file ends before it. -EIO and the like. */
int causeway_dump_read_pfn(const causeway_dump *dump, uint64_t pfn, void *page);
int causeway_dump_read_mfn(const causeway_dump *dump, uint64_t mfn, void *page);
/* What is wrong, in words: finding number `index`. -ENOENT: no such. */
int causeway_dump_finding(const causeway_dump *dump, uint64_t index, char *message, size_t size);

#ifdef __cplusplus
}
#endif

#endif
