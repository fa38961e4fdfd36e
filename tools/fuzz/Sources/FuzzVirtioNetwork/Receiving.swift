// What a driver receives, beside what it should.

import DMA
import FuzzSupport
import LinuxSystem
import NetworkDevices
import Packets
import SharedMemory
import VirtioMemory
import VirtioModel
import VirtioRig
import VirtioRing
import VirtioWire

@testable import VirtioNetwork

/// A device that has the frames that it is given.
final class FrameSource: NetworkDeviceQueue {
    let bus: MemoryBus
    let statistics = NetworkDeviceStatistics()
    let descriptor: Descriptor? = nil
    var frames: [(bytes: [UInt8], offload: FrameOffload)] = []
    /// What fitted.
    var given: [(bytes: [UInt8], offload: FrameOffload)] = []

    init(_ bus: MemoryBus) { self.bus = bus }

    func receive(into segments: Span<BusSegment>) -> FrameReceived {
        guard !frames.isEmpty else { return .nothing }
        let frame = frames.removeFirst()
        var room = 0
        for index in segments.indices {
            require(bus.isReachable(segments[index], .fromDevice), "a segment that faults")
            room += Int(segments[index].byteCount)
        }
        guard room >= frame.bytes.count else { return .spoilt }
        let region = made { try SharedRegion(anonymous: SharedRegion.wholePages(frame.bytes.count + 1)) }
        region.write(frame.bytes, at: 0)
        var done = 0
        for index in segments.indices where done < frame.bytes.count {
            let count = min(Int(segments[index].byteCount), frame.bytes.count - done)
            _ = bus.write(BusSegment(address: segments[index].address, byteCount: UInt32(count)), from: region, at: done)
            done += count
        }
        given.append(frame)
        return .frame(byteCount: frame.bytes.count, frame.offload)
    }

    func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent { .sent }
    func flush(_ ended: inout [FrameSent]) {}
    func close() {}
}

/// The side under test and what it should do.
struct Receiving<Ring: DeviceRing & ~Copyable>: ~Copyable {
    private let book: RingBook
    private var side: VirtioReceive<ToldRing<Ring>>
    private let device: FrameSource
    private let features: VirtioFeatures
    /// Frames for the driver with their headers, but for the number of chains.
    private var expected: [(header: [UInt8], bytes: [UInt8])] = []

    init(_ driver: Driver, _ ring: consuming Ring, _ features: VirtioFeatures) {
        book = RingBook(driver)
        self.features = features
        let bus = MemoryBus()
        guard let windows = GuestWindows(rig.map, on: bus) else { fatalError("no windows") }
        do throws(Errno) {
            side = try VirtioReceive(
                ring: ToldRing(ring, book), rules: VirtioFrameRules(features), memory: windows, bus: bus, mtu: 1500)
        } catch { fatalError("\(error)") }
        device = FrameSource(bus)
        side.use(device)
    }

    mutating func step(_ input: inout ByteReader) {
        let code = input.byte()
        switch code % 8 {
        case 0, 1:
            // Memory for frames, never the ring's own: what is written there must not change what is taken.
            let choice = input.byte()
            let near = [VirtioRig.data, VirtioRig.data + 4096, VirtioRig.data + 8000, 0x2_0000, 0x3_0000][Int(choice % 5)]
            let count = UInt32(choice >> 4) * (code & 0x80 == 0 ? 7 : 300)
            book.driver.describe(near + UInt64(input.byte()), count, flags: UInt64(code >> 4 & 3 ^ 2), name: input.byte())
        case 2: book.driver.show(input.byte())
        case 3, 4: device.frames.append(frame(code, &input))
        case 5: expire()
        case 6:
            require(side.replaceMemory(rig.map), "memory that cannot be had")
        default: work()
        }
    }

    private func frame(_ code: UInt8, _ input: inout ByteReader) -> (bytes: [UInt8], offload: FrameOffload) {
        let (length, seed) = (input.byte(), input.byte())
        let count = Int(length) * (code & 0x80 == 0 ? 1 : 40)
        var offload = FrameOffload()
        if code & 0x10 != 0 { offload.checksum = .init(start: UInt16(seed & 0x3F), field: UInt16(seed >> 4)) }
        if code & 0x20 != 0 {
            offload.segmentation = .init(type: seed & 1 == 0 ? .tcp4 : .tcp6, size: UInt16(seed) + 1, headerCount: 54)
        }
        offload.isValidated = code & 0x40 != 0
        return ((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) &+ seed }, offload)
    }

    private mutating func expire() {
        let held = side.held != nil && side.isStarved
        side.expire()
        // The one that waited was the oldest.
        if held { expected.removeFirst() }
        require(side.held == nil || !side.isStarved, "a frame that waits for ever")
    }

    private mutating func work() {
        let before = side.counts[.expired]
        side.isReady = true
        _ = side.work()
        var isLast = true
        for frame in device.given {
            var bytes = frame.bytes
            let header = bytes.count < 14 ? nil : told(frame.offload, &bytes, features)
            // What is thrown away has been written all the same, perhaps over another frame.
            isLast = header != nil
            if let header { expected.append((header, bytes)) }
        }
        device.given = []
        expected.removeLast(Int(side.counts[.expired] - before))
        check(isLast: isLast)
        _ = side.ring.publish()
    }

    /// Chains are answered in their order; a frame has as many as it needs, all at once.
    /// - Parameter isLast: nothing was written after the last frame.
    private mutating func check(isLast: Bool) {
        while !book.puts.isEmpty {
            require(!expected.isEmpty, "a chain that was answered without a frame")
            let total = 12 + expected[0].bytes.count
            var (left, count, runs) = (total, 0, [SlowRun]())
            while left > 0 {
                require(count < book.puts.count && count < book.chains.count, "a frame that is not shown whole")
                let chain = book.chains[count]
                require(isFit(chain), "a frame in memory that can hold none")
                let written = min(left, chain.runs.reduce(0) { $0 + Int($1.count) })
                require(book.puts[count] == (chain.id, written), "\(book.puts[count]), not \((chain.id, written))")
                runs += chain.runs
                left -= written
                count += 1
            }
            require(count == 1 || features.contains(VirtioFeatures.Network.mergeableBuffers), "\(count) chains")
            book.puts.removeFirst(count)
            book.chains.removeFirst(count)
            let (header, bytes) = expected.removeFirst()
            // Frames in the same memory: the last one is what is there, unless it overlaps itself.
            guard isLast, book.puts.isEmpty, areApart(runs) else { continue }
            let whole = header + [UInt8(count % 256), UInt8(count / 256)] + bytes
            require(gather(runs, count: total, in: rig) == whole, "other bytes than the frame's")
        }
        require(book.chains.count == side.chainCount, "\(side.chainCount) chains, not \(book.chains.count)")
        require(side.fault != nil || book.chains.allSatisfy { isFit($0) }, "memory that can hold no frame is kept")
        require(expected.count == (side.held == nil ? 0 : 1), "\(expected.count) frames wait")
    }

    private func isFit(_ chain: SlowChain) -> Bool {
        let room = chain.runs.reduce(0) { $0 + $1.count }
        return chain.runs.allSatisfy(\.isWritable) && room >= 12 && chain.runs.count <= 512
    }

    private func areApart(_ runs: [SlowRun]) -> Bool {
        let sorted = runs.sorted { $0.address < $1.address }
        return zip(sorted, sorted.dropFirst()).allSatisfy { $0.address + $0.count <= $1.address }
    }

    mutating func end() {
        work()
        side.close()
        require(side.chainCount == 0, "chains that are kept")
    }
}
