// What a backend counts of a device, in one table for each kind: the names and words that `status`, `top` and `metrics`
// have in common.

import BlockBackend
import DMA
import NetworkBackend
import NetworkFrontend
import NetworkProtocol

/// One number of a device, the sum of its queues'.
struct DeviceCounter<Queue> {
    /// As `causeway status` shows it.
    let name: String
    /// Whether it only grows while the frontend is connected; else it is as of now.
    let isTotal: Bool
    /// What it is, in one sentence.
    let meaning: String
    let value: (Queue) -> UInt64

    static func total(_ name: String, _ meaning: String, _ value: @escaping (Queue) -> UInt64) -> Self {
        Self(name: name, isTotal: true, meaning: meaning, value: value)
    }

    static func now(_ name: String, _ meaning: String, _ value: @escaping (Queue) -> UInt64) -> Self {
        Self(name: name, isTotal: false, meaning: meaning, value: value)
    }
}

extension DeviceCounter where Queue == BackendQueueStatistics {
    /// A disk's.
    static var all: [Self] {
        [
            .now("queues", "Connected queues.") { _ in 1 },
            .total("requests", "Requests taken from the rings.") { $0.requests },
            .total("reads", "Reads.") { $0.reads },
            .total("read-bytes", "Bytes read.") { $0.readBytes },
            .total("writes", "Writes.") { $0.writes },
            .total("written-bytes", "Bytes written.") { $0.writtenBytes },
            .total("flushes", "Flushes, those of barriers included.") { $0.flushes },
            .total("discards", "Discards.") { $0.discards },
            .total("rejected", "Requests that were refused before they reached the disk.") { $0.rejected },
            .total("failed", "Requests that the disk failed.") { $0.failed },
            .total("doorbells-sent", "Event channel notifications sent to the frontend.") { $0.notificationsSent },
            .total("doorbells-taken", "Event channel notifications taken from the frontend.") { $0.notificationsTaken },
            .now("persistent-grants", "Grants that are kept mapped.") { UInt64($0.persistentGrants) },
            .total("grants-for-disk", "Grants that the disk alone reaches, by machine frames.") { $0.grantsForDisk },
        ]
    }
}

extension DeviceCounter where Queue == NetworkQueueStatistics {
    /// An interface's, from the frontend's point of view.
    static var all: [Self] {
        [
            .now("queues", "Connected queues.") { _ in 1 },
            .total("transmitted", "Frames that the frontend sent and the device took.") { $0.transmitted },
            .total("transmitted-bytes", "Their bytes.") { $0.transmittedBytes },
            .total("transmit-errors", "Frames of the frontend's that were answered with an error.") { $0.transmitErrors },
            .total("transmit-dropped", "Frames of the frontend's that the device did not take.") { $0.transmitDropped },
            .total("received", "Frames put before the frontend.") { $0.received },
            .total("received-bytes", "Their bytes.") { $0.receivedBytes },
            .total("receive-dropped", "Frames that the frontend could not take, did not want, or was too late for.") {
                $0.receiveDropped
            },
            .total("doorbells-sent", "Event channel notifications sent to the frontend.") { $0.notificationsSent },
            .total("doorbells-taken", "Event channel notifications taken from the frontend.") { $0.notificationsTaken },
            .now("mapped-pages", "Pages that stay mapped.") { UInt64($0.mappedPages) },
        ]
    }
}

extension DeviceCounter where Queue == InterfaceDrops {
    /// What an interface dropped, by reason: those that a side can have.
    private static func all(transmit: [DropReason], receive: [DropReason]) -> [Self] {
        transmit.map { reason in
            .total("transmit-dropped-\(reason)", "Frames from the frontend's side \(reason.meaning).") { $0.transmit[reason] }
        }
            + receive.map { reason in
                .total("receive-dropped-\(reason)", "Frames for the frontend's side \(reason.meaning).") { $0.receive[reason] }
            }
    }

    /// A backend's.
    static var backend: [Self] {
        all(
            transmit: [.malformed, .unfit, .tooLong, .unreachable, .noCarrier, .refused, .lost],
            receive: [.spoilt, .tooLong, .unfit, .unwanted, .unreachable, .expired, .crowded])
    }

    /// A frontend's.
    static var frontend: [Self] {
        all(
            transmit: [.spoilt, .tooLong, .unfit, .refused],
            receive: [.malformed, .unfit, .tooLong, .noCarrier, .refused, .unreachable])
    }
}

extension DeviceCounter where Queue == FrontendQueueStatistics {
    /// An interface's, as its frontend counts it.
    static var all: [Self] {
        [
            .now("queues", "Queues.") { _ in 1 },
            .total("transmitted", "Frames given to the backend.") { $0.transmitted },
            .total("transmitted-bytes", "Their bytes.") { $0.transmittedBytes },
            .total("transmit-errors", "Slots that the backend answered with an error or as dropped.") { $0.transmitErrors },
            .total("transmit-dropped", "Frames of the device's that were not given to the backend.") { $0.transmitDropped },
            .total("received", "Frames from the backend that the device took.") { $0.received },
            .total("received-bytes", "Their bytes.") { $0.receivedBytes },
            .total("receive-dropped", "Frames from the backend that the device did not take, or that made no sense.") {
                $0.receiveDropped
            },
            .total("doorbells-sent", "Event channel notifications sent to the backend.") { $0.notificationsSent },
            .total("doorbells-taken", "Event channel notifications taken from the backend.") { $0.notificationsTaken },
        ]
    }
}

extension DeviceCounter where Queue == DMACounters {
    /// How a device's pages are reached.
    static var all: [Self] {
        [
            .now("dma-live", "DMA mappings that are in use.") { $0.transfers.live },
            .total("dma-maps", "DMA mappings made.") { $0.transfers.maps },
        ]
            + BounceReason.allCases.map { reason in
                .total("bounced-\(reason)", "Pieces that went through the bounce pool (\(reason)).") {
                    $0.transfers.bounces[reason]
                }
            } + [
                .now("bounce-slots", "Slots of the bounce pool.") { UInt64($0.bounceSlots) },
                .now("bounce-slots-used", "Slots of the bounce pool that are lent.") { UInt64($0.bounceSlotsInUse) },
                .total("iotlb-hits", "Accesses that the IOTLB answered.") { $0.iommu?.hits ?? 0 },
                .total("iotlb-misses", "Accesses that walked the IO page table.") { $0.iommu?.misses ?? 0 },
                .now("iommu-stale", "Ranges unmapped but still within the device's reach.") { UInt64($0.stale) },
                .total("iommu-faults", "Accesses that the IOMMU refused.") { $0.faults },
                .total("unmappable", "Transfers that could not be mapped for the device.") { $0.unmappable },
                .total("unmap-failures", "Mappings that could not be ended.") { $0.unmapFailures },
                .total("dma-misuses", "Uses of the DMA API that it refused.") { $0.transfers.misuses },
                .total("dma-overlaps", "Pages that two transfers wrote at once.") { $0.transfers.overlaps },
            ]
    }
}

/// What the names mean, for who has no queues to ask.
struct CounterMeaning {
    let isTotal: Bool
    let text: String

    private init<Queue>(_ counter: DeviceCounter<Queue>) {
        isTotal = counter.isTotal
        text = counter.meaning
    }

    /// By name, of a disk's numbers (`vbd`), an interface's (`vif`) or those of an interface's frontend (`netfront`),
    /// in the order in which they are shown.
    static func table(of kind: String) -> [(name: String, CounterMeaning)] {
        let memory = table(DeviceCounter<DMACounters>.all)
        switch kind {
        case "vif":
            return table(DeviceCounter<NetworkQueueStatistics>.all) + table(DeviceCounter<InterfaceDrops>.backend) + memory
        case "netfront":
            return table(DeviceCounter<FrontendQueueStatistics>.all) + table(DeviceCounter<InterfaceDrops>.frontend)
        default: return table(DeviceCounter<BackendQueueStatistics>.all) + memory
        }
    }

    private static func table<Queue>(_ counters: [DeviceCounter<Queue>]) -> [(name: String, CounterMeaning)] {
        counters.map { ($0.name, Self($0)) }
    }
}
