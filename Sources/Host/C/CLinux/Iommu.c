#include "Iommu.h"

#include <errno.h>
#include <stddef.h>
#include <sys/ioctl.h>

long causeway_iommu_control(int descriptor, unsigned long request, void *argument) {
    int result;
    do result = ioctl(descriptor, request, argument);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

// The sizes that the kernel is told, and those it was built with.
_Static_assert(sizeof(struct vfio_iommu_type1_dma_map) == 32, "vfio_iommu_type1_dma_map");
_Static_assert(sizeof(struct causeway_vfio_dma_unmap) == sizeof(struct vfio_iommu_type1_dma_unmap), "vfio_iommu_type1_dma_unmap");
_Static_assert(
    offsetof(struct causeway_vfio_dma_unmap, size) == offsetof(struct vfio_iommu_type1_dma_unmap, size),
    "vfio_iommu_type1_dma_unmap.size");
_Static_assert(
    sizeof(struct causeway_vfio_dirty_switch) == sizeof(struct vfio_iommu_type1_dirty_bitmap),
    "vfio_iommu_type1_dirty_bitmap");
_Static_assert(sizeof(struct causeway_vfio_irq_event) == sizeof(struct vfio_irq_set) + 4, "vfio_irq_set");
_Static_assert(offsetof(struct causeway_vfio_irq_event, event) == offsetof(struct vfio_irq_set, data), "vfio_irq_set.data");
_Static_assert(
    sizeof(struct causeway_vfio_dirty_get)
        == sizeof(struct vfio_iommu_type1_dirty_bitmap) + sizeof(struct vfio_iommu_type1_dirty_bitmap_get),
    "vfio_iommu_type1_dirty_bitmap_get");
_Static_assert(
    offsetof(struct causeway_vfio_dirty_get, bitmap)
        == sizeof(struct vfio_iommu_type1_dirty_bitmap) + offsetof(struct vfio_iommu_type1_dirty_bitmap_get, bitmap.data),
    "vfio_bitmap.data");
_Static_assert(sizeof(struct causeway_iommu_destroy) == 8, "iommu_destroy");
_Static_assert(sizeof(struct causeway_iommu_ioas_alloc) == 12, "iommu_ioas_alloc");
_Static_assert(sizeof(struct causeway_iommu_ioas_iova_ranges) == 32, "iommu_ioas_iova_ranges");
_Static_assert(sizeof(struct causeway_iommu_ioas_allow_iovas) == 24, "iommu_ioas_allow_iovas");
_Static_assert(sizeof(struct causeway_iommu_ioas_map) == 40, "iommu_ioas_map");
_Static_assert(sizeof(struct causeway_iommu_ioas_copy) == 40, "iommu_ioas_copy");
_Static_assert(sizeof(struct causeway_iommu_ioas_unmap) == 24, "iommu_ioas_unmap");
_Static_assert(sizeof(struct causeway_iommu_option) == 24, "iommu_option");
_Static_assert(sizeof(struct causeway_iommu_hwpt_pgfault) == 40, "iommu_hwpt_pgfault");

#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#define SAME_SIZE(ours, theirs) _Static_assert(sizeof(struct ours) == sizeof(struct theirs), #theirs)
#define SAME(ours, theirs, field) \
    _Static_assert(offsetof(struct ours, field) == offsetof(struct theirs, field), #theirs "." #field)
#define SAME_NUMBER(name) _Static_assert(CAUSEWAY_##name == name, #name)
SAME_SIZE(causeway_iommu_destroy, iommu_destroy);
SAME_SIZE(causeway_iommu_ioas_alloc, iommu_ioas_alloc);
SAME(causeway_iommu_ioas_alloc, iommu_ioas_alloc, out_ioas_id);
SAME_SIZE(causeway_iommu_iova_range, iommu_iova_range);
SAME_SIZE(causeway_iommu_ioas_iova_ranges, iommu_ioas_iova_ranges);
SAME(causeway_iommu_ioas_iova_ranges, iommu_ioas_iova_ranges, allowed_iovas);
SAME(causeway_iommu_ioas_iova_ranges, iommu_ioas_iova_ranges, out_iova_alignment);
SAME_SIZE(causeway_iommu_ioas_allow_iovas, iommu_ioas_allow_iovas);
SAME(causeway_iommu_ioas_allow_iovas, iommu_ioas_allow_iovas, allowed_iovas);
SAME_SIZE(causeway_iommu_ioas_map, iommu_ioas_map);
SAME(causeway_iommu_ioas_map, iommu_ioas_map, flags);
SAME(causeway_iommu_ioas_map, iommu_ioas_map, ioas_id);
SAME(causeway_iommu_ioas_map, iommu_ioas_map, user_va);
SAME(causeway_iommu_ioas_map, iommu_ioas_map, length);
SAME(causeway_iommu_ioas_map, iommu_ioas_map, iova);
SAME_SIZE(causeway_iommu_ioas_copy, iommu_ioas_copy);
SAME(causeway_iommu_ioas_copy, iommu_ioas_copy, dst_ioas_id);
SAME(causeway_iommu_ioas_copy, iommu_ioas_copy, src_ioas_id);
SAME(causeway_iommu_ioas_copy, iommu_ioas_copy, length);
SAME(causeway_iommu_ioas_copy, iommu_ioas_copy, dst_iova);
SAME(causeway_iommu_ioas_copy, iommu_ioas_copy, src_iova);
SAME_SIZE(causeway_iommu_ioas_unmap, iommu_ioas_unmap);
SAME(causeway_iommu_ioas_unmap, iommu_ioas_unmap, iova);
SAME(causeway_iommu_ioas_unmap, iommu_ioas_unmap, length);
SAME_SIZE(causeway_iommu_option, iommu_option);
SAME(causeway_iommu_option, iommu_option, op);
SAME(causeway_iommu_option, iommu_option, object_id);
SAME(causeway_iommu_option, iommu_option, val64);
SAME_NUMBER(IOMMU_DESTROY);
SAME_NUMBER(IOMMU_IOAS_ALLOC);
SAME_NUMBER(IOMMU_IOAS_ALLOW_IOVAS);
SAME_NUMBER(IOMMU_IOAS_COPY);
SAME_NUMBER(IOMMU_IOAS_IOVA_RANGES);
SAME_NUMBER(IOMMU_IOAS_MAP);
SAME_NUMBER(IOMMU_IOAS_UNMAP);
SAME_NUMBER(IOMMU_OPTION);
_Static_assert(CAUSEWAY_IOMMU_IOAS_MAP_FIXED_IOVA == (int)IOMMU_IOAS_MAP_FIXED_IOVA, "FIXED_IOVA");
_Static_assert(CAUSEWAY_IOMMU_IOAS_MAP_WRITEABLE == (int)IOMMU_IOAS_MAP_WRITEABLE, "WRITEABLE");
_Static_assert(CAUSEWAY_IOMMU_IOAS_MAP_READABLE == (int)IOMMU_IOAS_MAP_READABLE, "READABLE");
#ifdef IOMMU_FAULT_QUEUE_ALLOC
SAME_NUMBER(IOMMU_FAULT_QUEUE_ALLOC);
SAME_SIZE(causeway_iommu_fault_alloc, iommu_fault_alloc);
SAME(causeway_iommu_fault_alloc, iommu_fault_alloc, out_fault_fd);
SAME_SIZE(causeway_iommu_hwpt_pgfault, iommu_hwpt_pgfault);
SAME(causeway_iommu_hwpt_pgfault, iommu_hwpt_pgfault, perm);
SAME(causeway_iommu_hwpt_pgfault, iommu_hwpt_pgfault, addr);
SAME(causeway_iommu_hwpt_pgfault, iommu_hwpt_pgfault, cookie);
SAME_SIZE(causeway_iommu_hwpt_page_response, iommu_hwpt_page_response);
#endif
#endif
#ifdef VFIO_DEVICE_BIND_IOMMUFD
_Static_assert(CAUSEWAY_VFIO_DEVICE_BIND_IOMMUFD == VFIO_DEVICE_BIND_IOMMUFD, "VFIO_DEVICE_BIND_IOMMUFD");
_Static_assert(CAUSEWAY_VFIO_DEVICE_ATTACH_IOMMUFD_PT == VFIO_DEVICE_ATTACH_IOMMUFD_PT, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
_Static_assert(CAUSEWAY_VFIO_DEVICE_DETACH_IOMMUFD_PT == VFIO_DEVICE_DETACH_IOMMUFD_PT, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
_Static_assert(sizeof(struct causeway_vfio_bind_iommufd) == sizeof(struct vfio_device_bind_iommufd), "vfio_device_bind_iommufd");
#endif
