// Nanoseconds for a request of three descriptors (a header to be read, a page and a status to be written) through a
// virtqueue and back, one thread, batches of 32: ours beside Linux's structures and event arithmetic in C, interleaved.
// "device alone" is what a device pays: take and put of each, one publish and one arming a batch.

import CVirtio
import SharedMemory
import VirtioRing
import VirtioWire

@main struct VirtioBench {
    static let batch = 32
    static let rounds = 1_000_000
    static let size = 256

    static func main() throws {
        let rig = try Rig()
        var figures: [(name: String, runs: [Double])] = []
        func record(_ name: String, _ figure: Double) {
            if let at = figures.firstIndex(where: { $0.name == name }) {
                figures[at].runs.append(figure)
            } else {
                figures.append((name, [figure]))
            }
        }
        for _ in 0..<7 {
            let clock = ContinuousClock()
            let start = clock.now
            guard unsafe cvirtio_round_trips(rig.ring.unsafeBase, UInt32(size), UInt64(rounds), UInt32(batch)) != 1 else { return }
            record("Linux's structures in C, split, events", nanoseconds(clock.now - start))
            for (kind, features) in [("", []), (", tables", .indirectDescriptors)] as [(String, VirtioFeatures)] {
                let features = features.union([.version1, .eventIndex])
                let split = try rig.split(features), packed = try rig.packed(features.union(.packedRing))
                record("ours, split, events\(kind)", split.whole)
                record("ours, packed, events\(kind)", packed.whole)
                record("ours, split, events\(kind): device alone", split.device)
                record("ours, packed, events\(kind): device alone", packed.device)
            }
        }
        for figure in figures.sorted(by: { $0.name < $1.name }) {
            let sorted = figure.runs.sorted()
            let padded = figure.name + String(repeating: " ", count: max(0, 50 - figure.name.count))
            print("\(padded) \(round(sorted[3])) ns (best \(round(sorted[0])), worst \(round(sorted[6])))")
        }
    }

    static func nanoseconds(_ time: Duration) -> Double {
        (Double(time.components.attoseconds) / 1e9 + Double(time.components.seconds) * 1e9) / Double(rounds)
    }

    static func round(_ value: Double) -> String { String((value * 10).rounded() / 10) }
}

struct Rig {
    let ring = made(SharedRegion.wholePages(VirtqueueAreas.byteCount(size: VirtioBench.size, features: .eventIndex)))
    let tables = made(16 * 4 * VirtioBench.size)
    let map: GuestMap

    static func made(_ count: Int) -> SharedRegion {
        do { return try SharedRegion(anonymous: count) } catch { fatalError("\(error)") }
    }

    init() throws {
        map = try GuestMap([
            .init(address: 0x1_0000, byteCount: 0x10_0000, region: Self.made(0x10_0000)),
            .init(address: 0x1000_0000, byteCount: UInt64(tables.byteCount), region: tables),
            .init(address: 0x4000_0000, byteCount: UInt64(ring.byteCount), region: ring),
        ])
    }

    private var driverTables: DriverTables {
        DriverTables(RingArea(tables, at: 0), at: 0x1000_0000, entries: 4, ringSize: VirtioBench.size)
    }

    func split(_ features: VirtioFeatures) throws -> (whole: Double, device: Double) {
        let areas = VirtqueueAreas(in: ring, size: VirtioBench.size, features: features)
        return try trips(
            SplitDriverRing(initialising: areas, features: features, tables: driverTables),
            SplitDeviceRing(attaching: areas, features: features))
    }

    func packed(_ features: VirtioFeatures) throws -> (whole: Double, device: Double) {
        let areas = VirtqueueAreas(in: ring, size: VirtioBench.size, features: features)
        return try trips(
            PackedDriverRing(initialising: areas, features: features, tables: driverTables),
            PackedDeviceRing(attaching: areas, features: features))
    }

    /// Specialised for each kind of ring, as a device's code would be.
    @inline(never)
    private func trips<Driver: DriverRing & ~Copyable, Device: DeviceRing & ~Copyable>(
        _ first: consuming Driver, _ second: consuming Device
    ) throws -> (whole: Double, device: Double) {
        var driver = first, device = second
        var chain = DescriptorChain(), taken = DescriptorChain()
        let clock = ContinuousClock()
        let start = clock.now
        var alone = Duration.zero
        var sum: UInt64 = 0
        var done = 0
        while done < VirtioBench.rounds {
            for index in 0..<UInt64(VirtioBench.batch) {
                chain.removeAll()
                chain.appendReadable(GuestRun(address: 0x1_0000 &+ 4096 &* index, byteCount: 16))
                chain.appendWritable(GuestRun(address: 0x4_0000 &+ 4096 &* index, byteCount: 4096))
                chain.appendWritable(GuestRun(address: 0x1_0010 &+ 4096 &* index, byteCount: 1))
                _ = driver.offer(chain)
            }
            if driver.publish() { sum &+= 1 }
            let begun = clock.now
            while try device.take(into: &taken, from: map) == .chain {
                sum &+= taken.writableBytes
                device.put(taken.ticket, written: 4097)
            }
            if device.publish() { sum &+= 1 }
            if device.armAndRecheck() { fatalError("more chains than there were") }
            alone += clock.now - begun
            while let used = try driver.reap() { sum &+= UInt64(used.written) }
            if driver.armAndRecheck() { fatalError("more chains than there were") }
            done += VirtioBench.batch
        }
        guard sum != 1 else { fatalError("impossible") }
        return (VirtioBench.nanoseconds(clock.now - start), VirtioBench.nanoseconds(alone))
    }
}
