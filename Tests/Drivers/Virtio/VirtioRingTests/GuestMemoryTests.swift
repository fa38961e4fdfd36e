// The driver's addresses: tables of regions, areas of rings, headers cut anywhere, and memory that answers later.

import SharedMemory
import Testing
import TestSupport
import VirtioModel
@testable import VirtioRing
import VirtioWire

/// A memory of which some addresses have no answer yet.
private final class LateMemory: GuestMemory {
    let map: GuestMap
    var late: ClosedRange<UInt64>?
    init(_ map: GuestMap) { self.map = map }
    func admits(_ run: GuestRun, forWriting: Bool) -> Bool { true }
    func piece(_ run: GuestRun, forWriting: Bool) -> GuestPiece {
        late?.contains(run.address) == true ? .later : map.piece(run, forWriting: forWriting)
    }
}

@Suite struct GuestMemoryTests {
    private static func region(_ pages: Int) throws -> SharedRegion { try SharedRegion(anonymous: 4096 * pages) }

    /// Every run near every edge, against the slow memory.
    @Test func everyRunNearTheEdges() throws {
        let rig = try Rig(Shape())
        let edges: [UInt64] = rig.slow.parts.flatMap { [$0.address, $0.address + $0.count] } + [0, 1 << 63, .max - 8]
        for edge in edges {
            for start in -3...3 {
                let address = edge &+ UInt64(bitPattern: Int64(start))
                for count in [0, 1, 2, 3, 4, 7, 4096, 0x1_0000, .max] as [UInt32] {
                    guard address <= UInt64.max - UInt64(count) else { continue }
                    for writing in [false, true] {
                        let run = GuestRun(address: address, byteCount: count)
                        #expect(rig.map.admits(run, forWriting: writing) == rig.slow.has(address, UInt64(count), writable: writing))
                    }
                }
            }
        }
    }

    /// A run's pieces, put together, are the run: bytes written by address come out in order.
    @Test func piecesAreTheRun() throws {
        let rig = try Rig(Shape())
        for offset in 0..<40 as Range<UInt64> { rig.slow.put(offset + 1, 1, at: Rig.data + 0x1_0000 - 20 + offset) }
        for start in 0..<40 as Range<UInt64> {
            let run = GuestRun(address: Rig.data + 0x1_0000 - 20 + start, byteCount: UInt32(40 - start))
            let (bytes, reach) = rig.map.bytes(of: run)
            #expect(reach == .here && bytes == (start..<40).map { UInt8($0 + 1) })
        }
        #expect(rig.map.bytes(of: GuestRun(address: Rig.apart + 4090, byteCount: 10)).1 == .outside)
    }

    @Test func tablesThatMakeNoSense() throws {
        let region = try Self.region(4)
        func isTable(_ parts: (address: UInt64, count: UInt64, offset: Int)...) -> Bool {
            (try? GuestMap(parts.map { .init(address: $0.address, byteCount: $0.count, region: region, offset: $0.offset) })) != nil
        }
        #expect(isTable() && isTable((0, 0x4000, 0)) && isTable((0x1000, 0x1000, 0), (0, 0x1000, 0x3000)))
        #expect(isTable((UInt64.max - 0xFFF, 0x1000, 0)), "up to the last address")
        #expect(!isTable((0, 0, 0)) && !isTable((0, 0x4001, 0)) && !isTable((0, 0x1000, 0x3001)) && !isTable((0, 1, 0x4001)))
        #expect(!isTable((UInt64.max - 0xFFE, 0x1000, 0)) && !isTable((0, .max, 0)) && !isTable((0, 0x1000, -1)))
        #expect(!isTable((0, 0x1000, 0), (0xFFF, 1, 0)) && !isTable((0, 0x1000, 0), (0, 0x1000, 0x1000)))
    }

    @Test func areasThatMakeNoSense() throws {
        let rig = try Rig(Shape(size: 8))
        let queue = rig.queue
        func refusal(
            _ size: Int = 8, _ descriptors: UInt64? = nil, _ driver: UInt64? = nil, _ device: UInt64? = nil,
            _ features: VirtioFeatures = [.eventIndex]
        ) -> VirtqueueError? {
            do throws(VirtqueueError) {
                _ = try VirtqueueAreas(
                    size: size, descriptors: descriptors ?? queue.descriptors, driver: driver ?? queue.driver,
                    device: device ?? queue.device, features: features, in: rig.map)
                return nil
            } catch { return error }
        }
        #expect(
            refusal() == nil && refusal(7, nil, nil, nil, [.packedRing]) == .misaligned(address: queue.driver, alignment: 4)
                || queue.driver % 4 == 0)
        for size in [-1, 0, 3, 7, 12, 65536, 32767] { #expect(refusal(size) == .size(size, packed: false)) }
        for size in [0, 32769, 65536] { #expect(refusal(size, nil, nil, nil, [.packedRing]) == .size(size, packed: true)) }
        #expect(refusal(8, queue.descriptors + 8) == .misaligned(address: queue.descriptors + 8, alignment: 16))
        #expect(refusal(8, nil, queue.driver + 1) == .misaligned(address: queue.driver + 1, alignment: 2))
        #expect(refusal(8, nil, nil, queue.device + 2) == .misaligned(address: queue.device + 2, alignment: 4))
        #expect(refusal(8, 0) == .unreachable(address: 0, byteCount: 128))
        #expect(refusal(8, UInt64.max - 15) == .unreachable(address: UInt64.max - 15, byteCount: 128))
        #expect(refusal(8, nil, Rig.apart + 4096 - 20) == .unreachable(address: Rig.apart + 4076, byteCount: 22))
        #expect(refusal(8, nil, Rig.apart + 4096 - 20, nil, []) == nil, "20 bytes without an event")
        // Across two regions that touch, and where the device writes in memory that is to be read.
        #expect(refusal(8, Rig.data + 0x1_0000 - 64) == .unreachable(address: Rig.data + 0xFFC0, byteCount: 128))
        #expect(refusal(8, nil, nil, Rig.readOnly) == .unreachable(address: Rig.readOnly, byteCount: 70))
        #expect(refusal(8, Rig.readOnly, Rig.readOnly + 128) == nil, "what only the driver writes may be read-only")
        #expect(refusal(8, Rig.readOnly, nil, nil, [.packedRing]) == .unreachable(address: Rig.readOnly, byteCount: 128))
        // An aligned address that is mapped where it is not.
        let odd = try GuestMap([.init(address: 0, byteCount: 0x1000, region: Self.region(2), offset: 8)])
        #expect(throws: VirtqueueError.misaligned(address: 8, alignment: 16)) {
            _ = try VirtqueueAreas(size: 8, descriptors: 0, driver: 256, device: 512, features: [], in: odd)
        }
    }

    /// A disk's header and status wherever the driver cuts them, across descriptors and regions.
    @Test func headersCutAnywhere() throws {
        let rig = try Rig(Shape())
        let header = BlockRequestHeader(.write, priority: 0x0102_0304, sector: 0x1122_3344_5566_7788)
        let start = Rig.data + 0x1_0000 - 8
        for (index, byte) in header.array.enumerated() { rig.slow.put(UInt64(byte), 1, at: start + UInt64(index)) }
        for first in 0...16 as ClosedRange<UInt32> {
            for second in 0...(16 - first) {
                var chain = DescriptorChain()
                var place = start
                for count in [first, second, 16 - first - second] {
                    chain.appendReadable(GuestRun(address: place, byteCount: count))
                    place += UInt64(count)
                }
                var found = BlockRequestHeader(.read)
                #expect(chain.load(&found, from: rig.map) == .here && found == header)
                #expect(chain.load(&found, at: 1, from: rig.map) == .short && chain.load(&found, at: .max, from: rig.map) == .short)
                chain.appendWritable(GuestRun(address: Rig.apart, byteCount: first))
                chain.appendWritable(GuestRun(address: Rig.apart + 100, byteCount: 17 - first))
                #expect(chain.store(header, at: 1, to: rig.map) == .here && chain.store(header, at: 2, to: rig.map) == .short)
                let stored = (1..<17).map { place in
                    UInt8(
                        rig.slow.number(
                            UInt64(place) < UInt64(first)
                                ? Rig.apart + UInt64(place) : Rig.apart + 100 + UInt64(place) - UInt64(first), 1))
                }
                #expect(stored == header.array)
                #expect(
                    chain.storeLastByte(7, to: rig.map) == .here && rig.slow.number(Rig.apart + 100 + 16 - UInt64(first), 1) == 7)
            }
        }
        var short = DescriptorChain()
        #expect(short.storeLastByte(0, to: rig.map) == .short)
        short.appendReadable(GuestRun(address: start, byteCount: 15))
        var found = header
        #expect(short.load(&found, from: rig.map) == .short && found == header)
        short.appendWritable(GuestRun(address: Rig.readOnly, byteCount: 16))
        #expect(short.storeLastByte(1, to: rig.map) == .outside && short.store(header, at: 0, to: rig.map) == .outside)
    }

    /// A table without an answer waits where it is, and is taken whole when there is one.
    @Test(arguments: [false, true]) func tablesThatComeLater(isPacked: Bool) throws {
        let rig = try Rig(Shape(isPacked: isPacked, size: 8, tables: true))
        let memory = LateMemory(rig.map)
        if isPacked {
            try later(
                PackedDriverRing(initialising: rig.areas, features: rig.shape.features, tables: rig.driverTables),
                PackedDeviceRing(attaching: rig.areas, features: rig.shape.features), memory)
        } else {
            try later(
                SplitDriverRing(initialising: rig.areas, features: rig.shape.features, tables: rig.driverTables),
                SplitDeviceRing(attaching: rig.areas, features: rig.shape.features), memory)
        }
    }

    private func later<Driver: DriverRing & ~Copyable, Device: DeviceRing & ~Copyable>(
        _ first: consuming Driver, _ second: consuming Device, _ memory: LateMemory
    ) throws {
        var driver = first, device = second
        var chain = DescriptorChain(), taken = DescriptorChain()
        chain.appendReadable(GuestRun(address: Rig.data, byteCount: 16))
        // Data that has no answer yet is its transport's business.
        chain.appendWritable(GuestRun(address: Rig.data + 0x5000, byteCount: 512))
        // The fifth chain's table, at whose name's place in the tables the second half begins, lies across two regions.
        for round in 0..<9 {
            _ = driver.offer(chain)
            _ = driver.publish()
            for late in [Rig.tables...(Rig.tables + 0x1_0000), nil] {
                memory.late = late
                let found = try device.take(into: &taken, from: memory)
                let has = device.hasChains(), out = device.unanswered
                if late != nil {
                    #expect(found == .later && has && out == 0, "round \(round)")
                } else {
                    #expect(found == .chain && taken.runs == chain.runs)
                    var header = BlockRequestHeader(.read)
                    memory.late = Rig.data...(Rig.data + 1)
                    #expect(taken.load(&header, from: memory) == .later && taken.storeLastByte(0, to: memory) == .here)
                    memory.late = (Rig.data + 0x5000)...(Rig.data + 0x6000)
                    #expect(taken.load(&header, from: memory) == .here && taken.storeLastByte(0, to: memory) == .later)
                }
            }
            device.put(taken.ticket, written: 1)
            _ = device.publish()
            let used = try driver.reap()
            #expect(used?.written == 1)
        }
    }
}
