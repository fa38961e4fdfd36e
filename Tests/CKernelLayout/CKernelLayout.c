#include "CKernelLayout.h"
#include <linux/vfio.h>
#include <stddef.h>
#include <string.h>
#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#define HAS_IOMMUFD 1
#else
#define HAS_IOMMUFD 0
#endif

int kernel_has_iommufd_header(void) { return HAS_IOMMUFD; }

static const struct { const char *name; long value; } layout[] = {
    {"VFIO_GET_API_VERSION", VFIO_GET_API_VERSION},
    {"VFIO_CHECK_EXTENSION", VFIO_CHECK_EXTENSION},
    {"VFIO_SET_IOMMU", VFIO_SET_IOMMU},
    {"VFIO_IOMMU_GET_INFO", VFIO_IOMMU_GET_INFO},
    {"VFIO_IOMMU_MAP_DMA", VFIO_IOMMU_MAP_DMA},
    {"VFIO_IOMMU_UNMAP_DMA", VFIO_IOMMU_UNMAP_DMA},
    {"VFIO_TYPE1v2_IOMMU", VFIO_TYPE1v2_IOMMU},
    {"VFIO_DMA_MAP_FLAG_READ", VFIO_DMA_MAP_FLAG_READ},
    {"VFIO_DMA_MAP_FLAG_WRITE", VFIO_DMA_MAP_FLAG_WRITE},
    {"VFIO_IOMMU_INFO_PGSIZES", VFIO_IOMMU_INFO_PGSIZES},
    {"VFIO_IOMMU_INFO_CAPS", VFIO_IOMMU_INFO_CAPS},
    {"VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL", VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL},
    {"map size", sizeof(struct vfio_iommu_type1_dma_map)},
    {"map flags", offsetof(struct vfio_iommu_type1_dma_map, flags)},
    {"map vaddr", offsetof(struct vfio_iommu_type1_dma_map, vaddr)},
    {"map iova", offsetof(struct vfio_iommu_type1_dma_map, iova)},
    {"map count", offsetof(struct vfio_iommu_type1_dma_map, size)},
    {"unmap size", sizeof(struct vfio_iommu_type1_dma_unmap)},
    {"unmap flags", offsetof(struct vfio_iommu_type1_dma_unmap, flags)},
    {"unmap iova", offsetof(struct vfio_iommu_type1_dma_unmap, iova)},
    {"unmap count", offsetof(struct vfio_iommu_type1_dma_unmap, size)},
    {"info size", sizeof(struct vfio_iommu_type1_info)},
    {"info flags", offsetof(struct vfio_iommu_type1_info, flags)},
    {"info pgsizes", offsetof(struct vfio_iommu_type1_info, iova_pgsizes)},
    {"info caps", offsetof(struct vfio_iommu_type1_info, cap_offset)},
    {"cap next", offsetof(struct vfio_info_cap_header, next)},
    {"cap avail", offsetof(struct vfio_iommu_type1_info_dma_avail, avail)},
#if HAS_IOMMUFD
    {"IOMMU_DESTROY", IOMMU_DESTROY},
    {"IOMMU_IOAS_ALLOC", IOMMU_IOAS_ALLOC},
    {"IOMMU_IOAS_MAP", IOMMU_IOAS_MAP},
    {"IOMMU_IOAS_UNMAP", IOMMU_IOAS_UNMAP},
    {"IOMMU_IOAS_MAP_FIXED_IOVA", IOMMU_IOAS_MAP_FIXED_IOVA},
    {"IOMMU_IOAS_MAP_WRITEABLE", IOMMU_IOAS_MAP_WRITEABLE},
    {"IOMMU_IOAS_MAP_READABLE", IOMMU_IOAS_MAP_READABLE},
    {"ioas alloc size", sizeof(struct iommu_ioas_alloc)},
    {"ioas alloc id", offsetof(struct iommu_ioas_alloc, out_ioas_id)},
    {"ioas map size", sizeof(struct iommu_ioas_map)},
    {"ioas map flags", offsetof(struct iommu_ioas_map, flags)},
    {"ioas map id", offsetof(struct iommu_ioas_map, ioas_id)},
    {"ioas map va", offsetof(struct iommu_ioas_map, user_va)},
    {"ioas map length", offsetof(struct iommu_ioas_map, length)},
    {"ioas map iova", offsetof(struct iommu_ioas_map, iova)},
    {"ioas unmap size", sizeof(struct iommu_ioas_unmap)},
    {"ioas unmap id", offsetof(struct iommu_ioas_unmap, ioas_id)},
    {"ioas unmap iova", offsetof(struct iommu_ioas_unmap, iova)},
    {"ioas unmap length", offsetof(struct iommu_ioas_unmap, length)},
    {"destroy size", sizeof(struct iommu_destroy)},
#endif
};

long kernel_layout(const char *name) {
    for (size_t i = 0; i < sizeof layout / sizeof *layout; i++)
        if (!strcmp(layout[i].name, name)) return layout[i].value;
    return -1;
}
