// What a backend process says of its disks and interfaces: requests or frames, and how their pages reach the device.

import BlockBackend
import DMA
import NetworkBackend

enum DeviceStatus {
    /// The names of a disk's numbers, in the order in which they are shown.
    static func lines(_ devices: [BackendDeviceStatus]) -> [StatusLine] {
        devices.flatMap { device in
            let queues = device.queues
            func sum(_ value: (BackendQueueStatistics) -> UInt64) -> UInt64 { queues.reduce(0) { $0 &+ value($1) } }
            let own = [("queues", UInt64(queues.count)), ("requests", sum(\.requests)), ("rejected", sum(\.rejected))]
            return lines("vbd-\(device.device)", own + memory(queues.map(\.memory)))
        }
    }

    /// The same for interfaces.
    static func lines(_ devices: [InterfaceStatus]) -> [StatusLine] {
        devices.flatMap { device in
            let queues = device.queues
            func sum(_ value: (NetworkQueueStatistics) -> UInt64) -> UInt64 { queues.reduce(0) { $0 &+ value($1) } }
            let own = [
                ("queues", UInt64(queues.count)), ("transmitted", sum(\.transmitted)), ("transmit-errors", sum(\.transmitErrors)),
                ("transmit-dropped", sum(\.transmitDropped)), ("received", sum(\.received)),
                ("receive-dropped", sum(\.receiveDropped)), ("mapped-pages", sum { UInt64($0.mappedPages) }),
            ]
            return lines("vif-\(device.device)", own + memory(queues.map(\.memory)))
        }
    }

    private static func lines(_ subject: String, _ numbers: [(String, UInt64)]) -> [StatusLine] {
        numbers.map { StatusLine(subject, $0.0, $0.1) }
    }

    private static func memory(_ queues: [DMACounters]) -> [(String, UInt64)] {
        func sum(_ value: (DMACounters) -> UInt64) -> UInt64 { queues.reduce(0) { $0 &+ value($1) } }
        var dma = DMAStatistics()
        for queue in queues { dma += queue.transfers }
        var list: [(String, UInt64)] = [("dma-live", dma.live), ("dma-maps", dma.maps)]
        for reason in BounceReason.allCases { list.append(("bounced-\(reason)", dma.bounces[reason])) }
        list += [
            ("bounce-slots", sum { UInt64($0.bounceSlots) }), ("bounce-slots-used", sum { UInt64($0.bounceSlotsInUse) }),
            ("iotlb-hits", sum { $0.iommu?.hits ?? 0 }), ("iotlb-misses", sum { $0.iommu?.misses ?? 0 }),
            ("iommu-stale", sum { UInt64($0.stale) }), ("iommu-faults", sum(\.faults)),
            ("unmappable", sum(\.unmappable)), ("unmap-failures", sum(\.unmapFailures)), ("dma-misuses", dma.misuses),
            ("dma-overlaps", dma.overlaps),
        ]
        return list
    }
}
