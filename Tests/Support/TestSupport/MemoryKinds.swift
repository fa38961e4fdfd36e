// The kinds of memory that a backend's device may have before it, for tests that run under each.

import DMA
import FrameMaps

/// Every model and IOMMU mode: without limits, with those that force bounces and splits, and for a device that is not
/// trusted.
public let memoryKinds: [DMAOptions] = MemoryModel.allCases.flatMap { model in
    [nil, IommuMode.strict, .deferred].flatMap { iommu in
        [
            DMAOptions(model: model, iommu: iommu),
            DMAOptions(
                model: model, iommu: iommu, constraints: DMAConstraints(mask: 0xFFFF_FFFF, boundaryMask: 0x1FFF),
                bouncePool: 4 << 20),
            DMAOptions(
                model: model, iommu: iommu, constraints: DMAConstraints(maximumSegmentSize: 1536, isUntrusted: true),
                bouncePool: 4 << 20),
        ]
    }
}
