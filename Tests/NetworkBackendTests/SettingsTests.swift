// What changes while frames flow, and what the interface shows of a frontend that does not take its frames.

import DMA
import HostDevices
import InProcessHypervisor
import LinuxSystem
import NetworkBackend
import NetworkFrontend
import Packets
import SharedMemory
import Synchronization
import Testing
import Toolstack
import XenBus
import XenStore
import XenWire

/// A wire that notes whether it is told to have a carrier.
final class CarrierWire: NetworkDevice {
    let inner: SocketNetwork
    let carrier = Mutex<[Bool]>([])
    init(_ inner: SocketNetwork) { self.inner = inner }
    var name: String { inner.name }
    var mtu: Int { inner.mtu }
    func setOffloads(_ offloads: OffloadSet) throws(Errno) { try inner.setOffloads(offloads) }
    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { try inner.openQueue(bus: bus) }
    func setCarrier(_ isOn: Bool) { carrier.withLock { $0.append(isOn) } }
}

@Suite(.timeLimit(.minutes(2)))
struct SettingsTests {
    @Test func aRateThatComesAndGoes() throws {
        let pair = try NetworkPair()
        let frontend = try pair.connect()
        let frames = (0..<100).map { plainFrame(9000, seed: $0) }
        /// Milliseconds that 900 KB take.
        func measure() throws -> Int64 {
            let start = monotonicMilliseconds()
            let sender = try WorkerThread(name: "sender") { for frame in frames { try? pair.frontWire.send(frame) } }
            for frame in frames { #expect(try pair.backWire.receive()?.frame == frame) }
            sender.join()
            return monotonicMilliseconds() - start
        }
        _ = try measure()
        // 131 KB at once, 100 KB in 50 ms from then on: 350 ms at least for the rest.
        try pair.toolstack.store.write(pair.paths.backendPath + "/rate", "100000,50000")
        #expect(eventually { pair.backend.log.contains { $0.contains("rate 100000 bytes") } })
        #expect(try measure() > 300)
        try pair.toolstack.store.write(pair.paths.backendPath + "/rate", "nonsense")
        #expect(eventually { pair.backend.log.contains { $0.contains("nonsense") } })
        #expect(try measure() > 300, "a rate that makes no sense changes nothing")
        try pair.toolstack.store.remove(pair.paths.backendPath + "/rate")
        #expect(eventually { pair.backend.log.contains { $0.contains("no rate any more") } })
        #expect(frontend.connectionCount == 1)
        frontend.close()
        pair.backend.stop()
    }

    @Test func multicastControlThatIsAskedForLater() throws {
        let pair = try NetworkPair()
        let frontend = try pair.connect()
        var group = plainFrame(100)
        group.replaceSubrange(0..<6, with: [0x01, 0, 0x5E, 1, 2, 3])
        try pair.backWire.send(group)
        #expect(try pair.frontWire.receive()?.frame == group)
        try pair.toolstack.store.write(pair.paths.frontendPath + "/request-multicast-control", "1")
        let own = plainFrame(100, seed: 4)
        // The change takes effect soon, not at once.
        #expect(
            try eventually {
                try pair.backWire.send(group)
                try pair.backWire.send(own)
                return try pair.frontWire.receive()?.frame == own
            })
        try pair.toolstack.store.write(pair.paths.frontendPath + "/request-multicast-control", "0")
        #expect(
            try eventually {
                try pair.backWire.send(group)
                return try pair.frontWire.receive(milliseconds: 50)?.frame == group
            })
        frontend.close()
        pair.backend.stop()
    }

    @Test func noCarrierWhileNobodyPostsPages() throws {
        let wire = try Wire("back")
        let device = CarrierWire(wire.network)
        var options = NetworkBackendOptions()
        options.drainMilliseconds = 50
        let pair = try NetworkPair(options, device: device)
        let raw = try RawVif(pair)
        try raw.wait(for: [.connected])
        raw.post([0])
        // Two pages are needed, one is there.
        try wire.send(plainFrame(5000))
        #expect(eventually { device.carrier.withLock { $0 } == [false] })
        raw.post([1, 2])
        #expect(eventually { device.carrier.withLock { $0 } == [false, true] })
        try wire.send(plainFrame(5000, seed: 1))
        #expect(try raw.received().response.status == 4096)
        try raw.close()
        pair.backend.stop()
    }
}

@Suite struct CutterTests {
    /// A frame of TCP with `count` bytes of payload whose checksum is blank.
    static func frame(isSix: Bool, payload: Int) -> [UInt8] {
        var bytes: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2] + (isSix ? [0x86, 0xDD] : [0x08, 0x00])
        let length = 20 + payload
        if isSix {
            bytes += [0x60, 0, 0, 0, UInt8(length >> 8), UInt8(length & 255), 6, 64] + (0..<32).map { UInt8($0) }
        } else {
            let total = length + 20
            bytes += [0x45, 0, UInt8(total >> 8), UInt8(total & 255), 0xFF, 0xFE, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
        }
        // Sequence close to its end; FIN, PSH, ACK and CWR.
        bytes += [0x12, 0x34, 0x56, 0x78, 0xFF, 0xFF, 0xFF, 0xF0, 0, 0, 0, 1, 0x50, 0x99, 1, 0, 0, 0, 0, 0]
        return bytes + (0..<payload).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }
    }

    @Test(arguments: [false, true]) func packetsAreWhatAKernelWouldMake(isSix: Bool) throws {
        let payload = 5000
        let whole = Self.frame(isSix: isSix, payload: payload)
        let region = try SharedRegion(anonymous: 4 * SharedRegion.pageSize)
        region.write(whole, at: 0)
        let network = 14
        let transport = network + (isSix ? 40 : 20)
        let cutter = try #require(
            FrameCutter(
                .init(type: isSix ? .tcp6 : .tcp4, size: 1400, headerCount: 0), in: region, head: 0, headCount: 192,
                byteCount: whole.count))
        #expect(cutter.count == 4 && cutter.headCount == transport + 20)
        var seen: [UInt8] = []
        for index in 0..<cutter.count {
            let target = 2 * SharedRegion.pageSize
            cutter.writeHead(index, in: region, head: 0, to: target)
            let part = Array(whole[cutter.payload(index)])
            region.write(part, at: target + cutter.headCount)
            seen += part
            let size = cutter.headCount + part.count
            let head = region.bytes(at: target, count: cutter.headCount)
            func word(_ at: Int) -> Int { Int(head[at]) << 8 | Int(head[at + 1]) }
            if isSix {
                #expect(word(network + 4) == 20 + part.count)
            } else {
                #expect(word(network + 2) == 40 + part.count && word(network + 4) == (0xFFFE + index) & 0xFFFF)
                var sum = InternetChecksum()
                sum.add(region, at: target + network, count: 20)
                #expect(sum.complement == 0, "the header's own checksum")
            }
            let sequence = UInt32(word(transport + 4)) << 16 | UInt32(word(transport + 6))
            #expect(sequence == 0xFFFF_FFF0 &+ UInt32(index * 1400))
            let last = index + 1 == cutter.count
            #expect(head[transport + 13] == (0x10 | (last ? 0x09 : 0) | (index == 0 ? 0x80 : 0)))
            // The blank field holds the pseudo header's sum over this packet's length.
            let headers = try #require(FrameHeaders(in: region, at: target, count: min(size, 192)))
            #expect(word(transport + 16) == Int(headers.pseudoHeaderSum(in: region, at: target, count: size - transport)))
        }
        #expect(seen == Array(whole[cutter.headCount...]))
    }

    /// Through a cable to an end that takes no large packets, and to one that does.
    @Test(arguments: [false, true]) func aCableCutsForThoseWhoCannot(takes: Bool) throws {
        let cable = try Cable(name: "test")
        let (near, far) = (cable.end(0), cable.end(1))
        let bus = MemoryBus()
        let region = try SharedRegion(anonymous: 16 * SharedRegion.pageSize)
        let address = bus.attach(region)
        let sender = try near.openQueue(bus: bus)
        let frame = Self.frame(isSix: false, payload: 5000)
        region.write(frame, at: 0)
        var offload = FrameOffload()
        offload.checksum = .init(start: 34, field: 16)
        offload.segmentation = .init(type: .tcp4, size: 1400, headerCount: 54)
        let whole = [BusSegment(address: address, byteCount: UInt32(frame.count))]
        #expect(sender.send(offload, segments: whole.span) != .sent, "nobody is at the other end")
        let receiver = try far.openQueue(bus: bus)
        try far.setOffloads(takes ? [.checksum, .tcp4] : [.checksum])
        #expect(sender.send(offload, segments: whole.span) == .sent)
        let place = [BusSegment(address: address.advanced(by: 32768)!, byteCount: 32768)]
        var sizes: [Int] = []
        while case .frame(let count, let marks) = receiver.receive(into: place.span) {
            sizes.append(count)
            #expect(marks.checksum == offload.checksum && (marks.segmentation != nil) == takes)
        }
        #expect(sizes == (takes ? [5054] : [1454, 1454, 1454, 854]))
        sender.close()
        #expect(receiver.send(FrameOffload(), segments: place.span) != .sent)
        receiver.close()
    }
}
