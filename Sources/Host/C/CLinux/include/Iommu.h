// Linux's interfaces for user-space DMA: VFIO type1 (<linux/vfio.h>) and iommufd (<linux/iommufd.h>, which Debian 12's linux-libc-dev lacks: its
// structures are declared here, and Iommu.c holds them against the header wherever there is one). ioctl numbers are macros
// that Swift does not import.
#ifndef CAUSEWAY_IOMMU_H
#define CAUSEWAY_IOMMU_H
#include <stdint.h>
#include <linux/vfio.h>

enum {
    CAUSEWAY_VFIO_GET_API_VERSION = VFIO_GET_API_VERSION,
    CAUSEWAY_VFIO_CHECK_EXTENSION = VFIO_CHECK_EXTENSION,
    CAUSEWAY_VFIO_SET_IOMMU = VFIO_SET_IOMMU,
    CAUSEWAY_VFIO_GROUP_GET_STATUS = VFIO_GROUP_GET_STATUS,
    CAUSEWAY_VFIO_GROUP_SET_CONTAINER = VFIO_GROUP_SET_CONTAINER,
    CAUSEWAY_VFIO_GROUP_GET_DEVICE_FD = VFIO_GROUP_GET_DEVICE_FD,
    CAUSEWAY_VFIO_DEVICE_GET_REGION_INFO = VFIO_DEVICE_GET_REGION_INFO,
    CAUSEWAY_VFIO_DEVICE_GET_IRQ_INFO = VFIO_DEVICE_GET_IRQ_INFO,
    CAUSEWAY_VFIO_DEVICE_RESET = VFIO_DEVICE_RESET,
    CAUSEWAY_VFIO_DEVICE_SET_IRQS = VFIO_DEVICE_SET_IRQS,
    CAUSEWAY_VFIO_IOMMU_GET_INFO = VFIO_IOMMU_GET_INFO,
    CAUSEWAY_VFIO_IOMMU_MAP_DMA = VFIO_IOMMU_MAP_DMA,
    CAUSEWAY_VFIO_IOMMU_UNMAP_DMA = VFIO_IOMMU_UNMAP_DMA,
    CAUSEWAY_VFIO_IOMMU_DIRTY_PAGES = VFIO_IOMMU_DIRTY_PAGES,
    // Linux 6.6, of the device's character device; not in Debian 12's header.
    CAUSEWAY_VFIO_DEVICE_BIND_IOMMUFD = _IO(VFIO_TYPE, VFIO_BASE + 18),
    CAUSEWAY_VFIO_DEVICE_ATTACH_IOMMUFD_PT = _IO(VFIO_TYPE, VFIO_BASE + 19),
    CAUSEWAY_VFIO_DEVICE_DETACH_IOMMUFD_PT = _IO(VFIO_TYPE, VFIO_BASE + 20),
    CAUSEWAY_IOMMU_DESTROY = _IO(';', 0x80),
    CAUSEWAY_IOMMU_IOAS_ALLOC = _IO(';', 0x81),
    CAUSEWAY_IOMMU_IOAS_ALLOW_IOVAS = _IO(';', 0x82),
    CAUSEWAY_IOMMU_IOAS_COPY = _IO(';', 0x83),
    CAUSEWAY_IOMMU_IOAS_IOVA_RANGES = _IO(';', 0x84),
    CAUSEWAY_IOMMU_IOAS_MAP = _IO(';', 0x85),
    CAUSEWAY_IOMMU_IOAS_UNMAP = _IO(';', 0x86),
    CAUSEWAY_IOMMU_OPTION = _IO(';', 0x87),
    // Linux 6.11.
    CAUSEWAY_IOMMU_FAULT_QUEUE_ALLOC = _IO(';', 0x8e),
};

// flags of IOMMU_IOAS_MAP and IOMMU_IOAS_COPY.
enum {
    CAUSEWAY_IOMMU_IOAS_MAP_FIXED_IOVA = 1,
    CAUSEWAY_IOMMU_IOAS_MAP_WRITEABLE = 2,
    CAUSEWAY_IOMMU_IOAS_MAP_READABLE = 4,
    // IOMMU_OPTION's option and operations: 0 accounts by user, 1 by process.
    CAUSEWAY_IOMMU_OPTION_RLIMIT_MODE = 0,
    CAUSEWAY_IOMMU_OPTION_OP_SET = 0,
    CAUSEWAY_IOMMU_OPTION_OP_GET = 1,
    // A page request: which access, whether it is its group's last, and the answer "do not retry".
    CAUSEWAY_IOMMU_PGFAULT_LAST_PAGE = 2,
    CAUSEWAY_IOMMU_PGFAULT_PERM_READ = 1,
    CAUSEWAY_IOMMU_PGFAULT_PERM_WRITE = 2,
    CAUSEWAY_IOMMUFD_PAGE_RESP_INVALID = 1,
};

struct causeway_iommu_destroy { uint32_t size, id; };
struct causeway_iommu_ioas_alloc { uint32_t size, flags, out_ioas_id; };
struct causeway_iommu_iova_range { uint64_t start, last; };
struct causeway_iommu_ioas_iova_ranges {
    uint32_t size, ioas_id, num_iovas, reserved;
    uint64_t allowed_iovas, out_iova_alignment;
};
struct causeway_iommu_ioas_allow_iovas {
    uint32_t size, ioas_id, num_iovas, reserved;
    uint64_t allowed_iovas;
};
struct causeway_iommu_ioas_map {
    uint32_t size, flags, ioas_id, reserved;
    uint64_t user_va, length, iova;
};
struct causeway_iommu_ioas_copy {
    uint32_t size, flags, dst_ioas_id, src_ioas_id;
    uint64_t length, dst_iova, src_iova;
};
struct causeway_iommu_ioas_unmap {
    uint32_t size, ioas_id;
    uint64_t iova, length;
};
struct causeway_iommu_option {
    uint32_t size, option_id;
    uint16_t op, reserved;
    uint32_t object_id;
    uint64_t val64;
};
struct causeway_iommu_fault_alloc { uint32_t size, flags, out_fault_id, out_fault_fd; };
struct causeway_iommu_hwpt_pgfault {
    uint32_t flags, dev_id, pasid, grpid, perm, reserved;
    uint64_t addr;
    uint32_t length, cookie;
};
struct causeway_iommu_hwpt_page_response { uint32_t cookie, code; };
struct causeway_vfio_bind_iommufd {
    uint32_t argsz, flags;
    int32_t iommufd;
    uint32_t out_devid;
};
struct causeway_vfio_attach_iommufd_pt { uint32_t argsz, flags, pt_id; };
struct causeway_vfio_detach_iommufd_pt { uint32_t argsz, flags; };
// VFIO_IOMMU_UNMAP_DMA and VFIO_IOMMU_DIRTY_PAGES, whose structures also end in an array of no length: Swift has no use for those.
struct causeway_vfio_dma_unmap {
    uint32_t argsz, flags;
    uint64_t iova, size;
};
struct causeway_vfio_dirty_switch { uint32_t argsz, flags; };
// VFIO_DEVICE_SET_IRQS for one eventfd: vfio_irq_set ends in an array of no length.
struct causeway_vfio_irq_event {
    uint32_t argsz, flags, index, start, count;
    int32_t event;
};
// VFIO_IOMMU_DIRTY_PAGES with VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP, whose structure ends so too.
struct causeway_vfio_dirty_get {
    uint32_t argsz, flags;
    uint64_t iova, size, page_size, bitmap_size, bitmap;
};

// ioctl(2) is variadic. Returns its result, or a negative errno.
long causeway_iommu_control(int descriptor, unsigned long request, void *argument);
#endif
