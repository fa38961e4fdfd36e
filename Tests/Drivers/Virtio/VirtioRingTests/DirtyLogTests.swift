import SharedMemory
import TestSupport
import Testing
import VirtioRing

@Suite struct DirtyLogTests {
    private func marked(_ region: SharedRegion, _ offset: Int, _ pages: Int) -> Set<Int> {
        Set((0..<pages).filter { region.load(offset + $0 / 8, as: UInt8.self) >> UInt8($0 % 8) & 1 != 0 })
    }

    @Test("the pages of any bytes are marked and no others, a bit each, the lowest first")
    func anyBytes() throws {
        var random = SplitMix(1)
        for _ in 0..<2000 {
            let region = try SharedRegion(anonymous: 4096)
            let byteCount = Int.random(in: 1...40, using: &random)
            let log = DirtyLog(region, at: 64, byteCount: byteCount)
            #expect(log.pageCount == UInt64(byteCount * 8))
            let first = Int.random(in: 0..<400 << 12, using: &random)
            let count = Int.random(in: 0...3, using: &random) == 0 ? 1 : Int.random(in: 1...100 << 12, using: &random)
            log.mark(UInt64(first), byteCount: UInt64(count))
            let expected = Set((first >> 12...(first + count - 1) >> 12).filter { $0 < byteCount * 8 })
            #expect(marked(region, 64, 1024) == expected)
            #expect(log.covers(UInt64(first), byteCount: UInt64(count)) == ((first + count - 1) >> 12 < byteCount * 8))
        }
    }

    @Test("what wraps or lies beyond marks nothing outside the log")
    func outside() throws {
        let region = try SharedRegion(anonymous: 4096)
        let log = DirtyLog(region, at: 8, byteCount: 8)
        for (address, count) in [(0x40000, 1), (.max, 1), (.max, 2), (.max - 4095, .max), (0, 0)] as [(UInt64, UInt64)] {
            log.mark(address, byteCount: count)
            #expect(log.covers(address, byteCount: count) == (count == 0))
        }
        #expect(marked(region, 0, 4096 * 8) == [])
        log.mark(0, byteCount: .max)
        #expect(marked(region, 0, 4096 * 8) == Set(64..<128))
        DirtyLog(region, at: 0, byteCount: 0).mark(0, byteCount: 1)
        #expect(marked(region, 0, 64) == [])
    }

    /// Whatever the device changes in a ring is in a page that is marked after it returns, and the bits that were
    /// cleared before are those that it sets.
    @Test("what a device writes into a ring is marked", arguments: [(false, false), (false, true), (true, false), (true, true)])
    func rings(isPacked: Bool, events: Bool) throws {
        for size in isPacked ? [300, 1024] : [512, 1024] {
            let shape = Shape(isPacked: isPacked, size: size, events: events, start: isPacked ? size - 100 : 65500)
            let rig = try Rig(shape)
            if isPacked {
                try follow(
                    rig,
                    PackedDeviceRing(attaching: rig.areas, features: shape.features, startingAt: UInt32(rig.packedStart.rawValue)),
                    PackedDriverRing(initialising: rig.areas, features: shape.features, startingAt: rig.packedStart))
            } else {
                let start = UInt16(shape.start)
                try follow(
                    rig, SplitDeviceRing(attaching: rig.areas, features: shape.features, startingAt: start),
                    SplitDriverRing(initialising: rig.areas, features: shape.features, startingAt: start))
            }
        }
    }

    private func follow<Device: DeviceRing & ~Copyable, Driver: DriverRing & ~Copyable>(
        _ rig: Rig, _ device: consuming Device, _ driver: consuming Driver
    ) throws {
        let bits = try SharedRegion(anonymous: SharedRegion.wholePages(Int((Rig.ring >> 12) / 8) + 64))
        let log = DirtyLog(bits, at: 0, byteCount: bits.byteCount)
        let base = Int(Rig.ring >> 12)
        device.setLog(RingLog(log, device: rig.queue.device, descriptors: rig.queue.descriptors))
        var before = rig.ringRegion.bytes(at: 0, count: rig.ringRegion.byteCount)
        /// What `body` changed, and what it marked.
        func check(_ what: String, sees: Bool = true) {
            let after = rig.ringRegion.bytes(at: 0, count: rig.ringRegion.byteCount)
            let changed = Set(
                (0..<after.count / 4096).filter { after[$0 * 4096..<$0 * 4096 + 4096] != before[$0 * 4096..<$0 * 4096 + 4096] })
            before = after
            let marks = Set(
                (0..<after.count / 4096).filter { bits.load((base + $0) / 8, as: UInt8.self) >> UInt8((base + $0) % 8) & 1 != 0 })
            bits.fill(base / 8, count: 8)
            if sees { #expect(changed.isSubset(of: marks), "\(what): \(changed) changed, \(marks) marked") }
            if sees, marks.count > changed.count + 1 { #expect(Bool(false), "\(what): \(marks) for \(changed)") }
        }
        check("before", sees: false)
        var random = SplitMix(3)
        var chain = DescriptorChain()
        var out: [ChainTicket] = []
        for _ in 0..<60 {
            for _ in 0..<Int.random(in: 1...40, using: &random) {
                chain.removeAll()
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    chain.appendWritable(GuestRun(address: Rig.data, byteCount: 9))
                }
                _ = driver.offer(chain)
            }
            _ = driver.publish()
            _ = try driver.reap()
            check("the driver", sees: false)
            device.disarm()
            check("disarm")
            while try device.take(into: &chain, from: rig.map) == .chain { out.append(chain.ticket) }
            out.shuffle(using: &random)
            for _ in 0..<Int.random(in: 0...out.count, using: &random) { device.put(out.removeLast(), written: 9) }
            _ = device.publish()
            check("publish")
            _ = device.armAndRecheck()
            check("arm")
            while try driver.reap() != nil {}
        }
    }
}
