// Rings to try: memory in parts that touch and parts that do not, both ends, and the slow device beside.

import SharedMemory
import Testing
import TestSupport
import VirtioModel
import VirtioRing
import VirtioWire

/// One kind of ring.
struct Shape: CustomStringConvertible, Sendable {
    var isPacked = false
    var size = 8
    var tables = false
    var events = false
    /// Split: where the indices begin. Packed: entries since the first round.
    var start = 0

    var features: VirtioFeatures {
        var features: VirtioFeatures = .version1
        if isPacked { features.insert(.packedRing) }
        if tables { features.insert(.indirectDescriptors) }
        if events { features.insert(.eventIndex) }
        return features
    }

    var description: String {
        "\(isPacked ? "packed" : "split") \(size), tables \(tables), events \(events), from \(start)"
    }

    /// Both kinds, each feature on and off, at these sizes and starts.
    static func all(split: [Int], packed: [Int], starts: (Int) -> [Int]) -> [Shape] {
        var shapes: [Shape] = []
        for isPacked in [false, true] {
            for size in isPacked ? packed : split {
                for features in 0..<4 {
                    for start in starts(size) {
                        shapes.append(
                            Shape(
                                isPacked: isPacked, size: size, tables: features & 1 != 0, events: features & 2 != 0, start: start))
                    }
                }
            }
        }
        return shapes
    }
}

/// Memory of a driver: data in two parts that touch and lie in different regions, one part apart, one that is
/// read-only; the ring, and tables that lie across two regions.
final class Rig {
    static let data: UInt64 = 0x1_0000
    static let dataBytes: UInt64 = 0x1_8000
    static let apart: UInt64 = 0x10_0000
    static let readOnly: UInt64 = 0x20_0000
    static let ring: UInt64 = 0x4000_0000
    static let tables: UInt64 = 0x8000_0000
    static let tableEntries = 6

    let shape: Shape
    let areas: VirtqueueAreas
    let map: GuestMap
    let slow: SlowMemory
    let queue: SlowQueue
    let ringRegion: SharedRegion
    let driverTables: DriverTables

    init(_ shape: Shape) throws {
        self.shape = shape
        let ringBytes = SharedRegion.wholePages(VirtqueueAreas.byteCount(size: shape.size, features: shape.features) + 16)
        let tableBytes = SharedRegion.wholePages(16 * Self.tableEntries * shape.size)
        let first = try SharedRegion(anonymous: 0x1_0000), second = try SharedRegion(anonymous: 0x8000)
        let third = try SharedRegion(anonymous: 4096), tables = try SharedRegion(anonymous: tableBytes)
        let sealed = try SealedMemory("read-only", byteCount: 4096, final: true)
        let fourth = try SharedRegion(mapping: sealed.descriptor, byteCount: 4096, writable: false)
        ringRegion = try SharedRegion(anonymous: ringBytes)
        // Tables are seen by the device through two parts, cut in the middle of an entry.
        let cut = tableBytes / 2 + 8
        let parts: [SlowMemory.Part] = [
            .init(Self.data, 0x1_0000, first), .init(Self.data + 0x1_0000, 0x8000, second), .init(Self.apart, 4096, third),
            .init(Self.readOnly, 4096, fourth), .init(Self.ring, UInt64(ringBytes), ringRegion),
            .init(Self.tables, UInt64(cut), tables), .init(Self.tables + UInt64(cut), UInt64(tableBytes - cut), tables, cut),
        ]
        slow = SlowMemory(parts)
        map = try GuestMap(
            parts.reversed().map { .init(address: $0.address, byteCount: $0.count, region: $0.region, offset: $0.offset) })
        let own = VirtqueueAreas(in: ringRegion, size: shape.size, features: shape.features)
        queue = SlowQueue(
            size: shape.size, descriptors: Self.ring + UInt64(own.descriptors.offset),
            driver: Self.ring + UInt64(own.driver.offset),
            device: Self.ring + UInt64(own.device.offset), tables: shape.tables, events: shape.events)
        // As a device finds them, by their addresses.
        areas = try VirtqueueAreas(
            size: shape.size, descriptors: queue.descriptors, driver: queue.driver, device: queue.device, features: shape.features,
            in: map)
        driverTables = DriverTables(RingArea(tables, at: 0), at: Self.tables, entries: Self.tableEntries, ringSize: shape.size)
    }

    /// Where a packed ring begins.
    var packedStart: PackedPosition {
        PackedPosition(rawValue: UInt16(shape.start % shape.size) | (shape.start / shape.size % 2 == 0 ? 0x8000 : 0))
    }

    var slowDevice: any SlowDevice {
        shape.isPacked
            ? SlowPackedDevice(slow, queue, start: shape.start) : SlowSplitDevice(slow, queue, start: shape.start)
    }

    /// A chain of any runs in the driver's memory, some across two regions.
    static func fill(_ chain: inout DescriptorChain, most: Int, _ random: inout SplitMix) {
        chain.removeAll()
        let count = Int.random(in: 1...most, using: &random)
        let readable = Int.random(in: 0...count, using: &random)
        for index in 0..<count {
            let address: UInt64, bytes: UInt64
            switch Int.random(in: 0..<4, using: &random) {
            case 0: (address, bytes) = (Self.data + 0xFFF0, UInt64.random(in: 1...64, using: &random))
            case 1: (address, bytes) = (Self.apart, 4096)
            default:
                address = Self.data + UInt64.random(in: 0..<Self.dataBytes, using: &random)
                bytes = UInt64.random(in: 1...(Self.data + Self.dataBytes - address), using: &random)
            }
            let run = GuestRun(address: address, byteCount: UInt32(bytes))
            if index < readable { chain.appendReadable(run) } else { chain.appendWritable(run) }
        }
    }
}

extension SlowChain {
    /// The chain that was taken or offered, as the slow device would say it.
    init(_ chain: DescriptorChain) {
        self.init(
            id: Int(chain.ticket.id), entries: Int(chain.ticket.entries),
            runs: chain.runs.enumerated().map {
                SlowRun(address: $1.address, count: UInt64($1.byteCount), isWritable: $0 >= chain.readableCount)
            })
    }
}

extension DeviceRing where Self: ~Copyable {
    /// What `take` finds, as the slow device would say it, and the error there was.
    mutating func takeSlowly(_ chain: inout DescriptorChain, _ memory: some GuestMemory) -> (SlowTaken, VirtqueueError?) {
        do throws(VirtqueueError) {
            switch try take(into: &chain, from: memory) {
            case .none: return (.none, nil)
            case .chain: return (.chain(SlowChain(chain)), nil)
            case .later: fatalError("all memory is here")
            }
        } catch { return (.refused, error) }
    }
}
