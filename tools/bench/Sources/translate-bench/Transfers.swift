// What the DMA layer costs in a block backend's path: a transfer of 4 KiB is mapped, found by the device, and unmapped.

import DMA
import FrameMaps
import SharedMemory

enum Transfers {
    static let loops = 1 << 12

    /// One way of reaching memory, with 64 pages to move.
    final class Path {
        let device: DMADevice
        let region: SharedRegion
        let pieces: [PagePiece]

        init(_ options: DMAOptions) throws {
            device = try DMADevice(name: "bench", options: options)
            region = try SharedRegion(anonymous: 64 << 12)
            region.fill(0, count: 64 << 12, with: 1)
            guard let base = device.attach(region) else { preconditionFailure("no room for 64 pages") }
            pieces = (0..<64 as Range<UInt64>).compactMap { index in
                base.advanced(by: index).map { PagePiece(pfn: $0, offset: 0, byteCount: 4096) }
            }
        }

        func run(_ direction: DMADirection) {
            var segments: [BusSegment] = []
            segments.reserveCapacity(4)
            let (device, pieces) = (device, pieces)
            let all = pieces.span
            for index in 0..<Transfers.loops {
                segments.removeAll(keepingCapacity: true)
                let place = index & 63
                let piece = all.extracting(place..<place + 1)
                if let handle = try? device.map(piece, direction, into: &segments) {
                    if device.bus.isReachable(segments[0], direction) { try? device.unmap(handle, direction) }
                }
            }
        }
    }

    static func run() throws -> [Row] {
        let mask = DMAConstraints(mask: 0xFFFF_FFFF)
        let paths = try [
            DMAOptions(), DMAOptions(model: .p2m), DMAOptions(model: .identity), DMAOptions(iommu: .strict),
            DMAOptions(iommu: .deferred),
            DMAOptions(model: .p2m, constraints: mask, bouncePool: 1 << 20),
        ].map { try Path($0) }
        let source = try SharedRegion(anonymous: 64 << 12)
        source.fill(0, count: 64 << 12, with: 2)
        let slot = try SharedRegion(anonymous: 4096)
        slot.fill(0, count: 4096, with: 2)
        let times = Measure.medians(
            loops,
            paths.flatMap { path in [{ _ in path.run(.toDevice) }, { _ in path.run(.fromDevice) }] as [(Int) -> Void] } + [
                { _ in for index in 0..<loops { slot.copy(from: source, (index & 63) << 12, count: 4096, to: 0) } },
                { _ in
                    // The record alone: what always-on checking costs on the direct map.
                    let device = paths[0].device
                    var none: [BusSegment] = []
                    for _ in 0..<loops {
                        guard let handle = try? device.map(count: 0, .toDevice, into: &none, { _ in nil }) else { continue }
                        try? device.unmap(handle, .toDevice)
                    }
                },
            ])
        let copy = times[12]
        func row(_ name: String, _ index: Int, _ target: Double) -> [Row] {
            [
                Row(name: "4 KiB \(name), to the device", ours: times[index * 2], target: target),
                Row(name: "4 KiB \(name), from the device", ours: times[index * 2 + 1], target: target),
            ]
        }
        return row("direct map (vp)", 0, 60) + row("p2m", 1, 60) + row("identity", 2, 60) + row("IOMMU strict", 3, 150)
            + row("IOMMU deferred", 4, 150)
            + [
                Row(name: "4 KiB bounced, to the device", ours: times[10], reference: ("one copy", copy), target: 130),
                Row(name: "4 KiB bounced, from the device", ours: times[11], reference: ("two copies", copy * 2), target: 200),
                Row(name: "of these, the record and its checks", ours: times[13]),
            ] + (try nearlyFull())
    }

    /// A pool of which 95 % are taken, in pieces of one slot, freed at random.
    private static func nearlyFull() throws -> [Row] {
        let path = try Path(DMAOptions(model: .p2m, constraints: DMAConstraints(mask: 0xFFFF_FFFF), bouncePool: 1 << 20))
        let (device, pfn) = (path.device, path.pieces[0].pfn)
        let small = [PagePiece(pfn: pfn, offset: 0, byteCount: 512)]
        var random = Xorshift()
        var segments: [BusSegment] = []
        var held: [DMAHandle] = []
        while let handle = try? device.map(small.span, .toDevice, into: &segments) { held.append(handle) }
        held.shuffle(using: &random)
        for handle in held.suffix(held.count / 20) { try device.unmap(handle, .toDevice) }
        held.removeLast(held.count / 20)
        let times = Measure.medians(
            loops,
            [
                { _ in
                    var segments: [BusSegment] = []
                    for _ in 0..<loops {
                        segments.removeAll(keepingCapacity: true)
                        if let handle = try? device.map(small.span, .toDevice, into: &segments) {
                            try? device.unmap(handle, .toDevice)
                        }
                    }
                },
                { _ in path.run(.toDevice) },
            ])
        return [
            Row(name: "bounce pool 95 % full: 512 bytes", ours: times[0], target: 1000),
            Row(name: "bounce pool 95 % full: 4 KiB (had, or refused)", ours: times[1], target: 1000),
        ]
    }
}
