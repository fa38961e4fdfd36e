// What a backend process says of its disks: requests, and how their pages reach the device.

import BlockBackend
import DMA

enum DiskStatus {
    /// The names of a disk's numbers, in the order in which they are shown.
    static func lines(_ devices: [BackendDeviceStatus]) -> [StatusLine] {
        devices.flatMap { device in
            numbers(device.queues).map { StatusLine("vbd-\(device.device)", $0.name, $0.value) }
        }
    }

    private static func numbers(_ queues: [BackendQueueStatistics]) -> [(name: String, value: UInt64)] {
        func sum(_ value: (BackendQueueStatistics) -> UInt64) -> UInt64 { queues.reduce(0) { $0 &+ value($1) } }
        var dma = DMAStatistics()
        for queue in queues { dma += queue.dma }
        var list: [(String, UInt64)] = [
            ("queues", UInt64(queues.count)), ("requests", sum(\.requests)), ("rejected", sum(\.rejected)),
            ("dma-live", dma.live), ("dma-maps", dma.maps),
        ]
        for reason in BounceReason.allCases { list.append(("bounced-\(reason)", dma.bounces[reason])) }
        list += [
            ("bounce-slots", sum { UInt64($0.bounceSlots) }), ("bounce-slots-used", sum { UInt64($0.bounceSlotsInUse) }),
            ("iotlb-hits", sum { $0.iommu?.hits ?? 0 }), ("iotlb-misses", sum { $0.iommu?.misses ?? 0 }),
            ("iommu-stale", sum { UInt64($0.staleMappings) }), ("iommu-faults", sum(\.dmaFaults)),
            ("unmappable", sum(\.unmappable)), ("unmap-failures", sum(\.unmapFailures)), ("dma-misuses", dma.misuses),
            ("dma-overlaps", dma.overlaps),
        ]
        return list
    }
}
