// Two frontends back to back: what one sends the other receives, whatever either of them can take, and neither's end is
// the other's.

@testable import DMA
import DriverRuntime
import Glibc
import Hypervisor
@testable import LinuxSystem
@testable import NetworkBackend
@testable import NetworkDevices
import NetworkFrontend
import Packets
import SharedMemory
import Synchronization
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenBus
import XenTypes

/// A backend with two interfaces, 1/0 and 2/0, wired to each other.
final class Cable {
    let host = TestHost(time: .system)
    let toolstack: DeviceDirectories
    let service: NetworkBackendService<TestHypervisor>
    let wires: [Wire]
    let paths: [DevicePaths]
    /// Made before anything is counted: domains and their connections stay.
    let guests: [TestHypervisor]
    let collector = LineCollector()
    private let thread: WorkerThread

    init(_ given: NetworkBackendOptions = .init()) throws {
        var options = given
        // Each end on a thread of its own.
        options.reactors = 2
        guests = (1...2).map { [host] in host.domain($0) }
        let client = try host.store.connectInProcess(domain: .zero)
        toolstack = DeviceDirectories(store: client)
        wires = [try Wire("first"), try Wire("second")]
        let links = NetworkLinks()
        let opener: NetworkOpener = { (settings) throws(DeviceOpenFailure) in
            guard let peer = settings.peer else { throw DeviceOpenFailure(.invalidArgument, "no peer") }
            do throws(Errno) { return try links.end(of: "\(settings.device)", to: "\(peer)", mtu: settings.mtu) } catch {
                throw DeviceOpenFailure(error, "\(error)")
            }
        }
        let collector = collector
        service = NetworkBackendService(
            hypervisor: host.domain(0), options: options, random: .system, openDevice: opener, log: { collector.add($0) })
        let service = service
        thread = try WorkerThread(name: "netback") { try? service.run() }
        paths = try (1...2).map { domain in
            try DeviceDirectories(store: client).create(
                VifSpecification(parsing: "mac=00:16:3e:01:02:0\(domain),mtu=9000,peer=\(3 - domain)/0"),
                frontend: DomainID(UInt16(domain)), random: .system)
        }
    }

    func connect(_ index: Int, _ options: NetworkFrontendOptions = .init()) throws -> NetworkFrontend<TestHypervisor> {
        let frontend = try NetworkFrontend(
            hypervisor: guests[index], number: 0, device: wires[index].network, options: options)
        do { try frontend.connect(timeoutMilliseconds: 5000) } catch { throw TimedOut("\(error); backend: \(collector.all)") }
        return frontend
    }

    func statistics(_ index: Int) -> NetworkQueueStatistics? {
        service.status.first { $0.device.frontend == DomainID(UInt16(index + 1)) }?.queues.first
    }

    func stop() {
        service.stop()
        thread.join()
    }
}

@Suite(.timeLimit(.minutes(2)), .serialized)
struct LinkTests {
    private func both(_ cable: Cable, _ options: NetworkFrontendOptions = .init(), _ other: NetworkFrontendOptions = .init()) throws
        -> [NetworkFrontend<TestHypervisor>]
    {
        let frontends = [try cable.connect(0, options), try cable.connect(1, other)]
        #expect(eventually { frontends.allSatisfy(\.hasCarrier) })
        return frontends
    }

    @Test(arguments: [true, false]) func everyFrameArrivesAsItWasSent(mapped: Bool) throws {
        let cable = try Cable()
        let baseline = cable.host.usage
        var options = NetworkFrontendOptions()
        options.mapsGrants = mapped
        options.queues = mapped ? 1 : 2
        let frontends = try both(cable, options)
        for (seed, size) in DataPathTests.sizes.enumerated() {
            for (from, to) in [(0, 1), (1, 0)] {
                let frame = plainFrame(size, seed: seed + from)
                try cable.wires[from].send(frame)
                expectSame(try cable.wires[to].receive()?.frame ?? [], frame, "\(size) bytes from \(from)")
            }
        }
        for frontend in frontends { frontend.close() }
        // The domains stay as long as their frontends are there.
        let usage = { cable.host.usage }
        #expect(
            eventually {
                usage().grants == baseline.grants && usage().mappings == baseline.mappings && usage().ports == baseline.ports
                    && usage().runs == baseline.runs && usage().pages == baseline.pages
            }, "\(usage())")
        cable.stop()
    }

    @Test func manyFramesInOrderWithoutLoss() throws {
        let cable = try Cable()
        let frontends = try both(cable)
        let (from, to) = (cable.wires[0], cable.wires[1])
        let thread = try WorkerThread(name: "sender") {
            for seed in 0..<3000 { try? from.send(plainFrame(64 + seed % 9000, seed: seed)) }
        }
        for seed in 0..<3000 {
            let frame = try #require(try to.receive()?.frame, "frame \(seed)")
            expectSame(frame, plainFrame(64 + seed % 9000, seed: seed), "frame \(seed)")
        }
        thread.join()
        for frontend in frontends { frontend.close() }
        cable.stop()
    }

    @Test(arguments: [4, 6]) func largePacketsStayWholeForWhoTakesThem(_ version: Int) throws {
        let cable = try Cable()
        let frontends = try both(cable)
        let frame = TestFrames.tcp(payload: 60_000, over: version)
        try cable.wires[0].send(frame, header: TestFrames.segmented(size: 1448, over: version))
        let got = try #require(try cable.wires[1].receive())
        #expect(got.header == TestFrames.segmented(size: 1448, over: version))
        expectSame(got.frame, frame)
        for frontend in frontends { frontend.close() }
        cable.stop()
    }

    /// An end that takes neither large packets nor blank checksums gets segments with their checksums; the other end
    /// still has its own way.
    @Test(arguments: [4, 6], [1448, 100, 60_000]) func largePacketsAreCutUpForWhoDoesNot(_ version: Int, _ size: Int) throws {
        let cable = try Cable()
        var plain = NetworkFrontendOptions()
        plain.features = [.scatterGather]
        let frontends = try both(cable, .init(), plain)
        let payload = 20_000
        let frame = TestFrames.tcp(payload: payload, over: version)
        let headers = frame.count - payload
        // With segments of 60000 bytes it is one.
        let count = (payload + size - 1) / size
        if size <= payload {
            try cable.wires[0].send(frame, header: TestFrames.segmented(size: size, over: version))
        } else {
            try cable.wires[0].send(
                Array(TestFrames.tcp(payload: 5000, over: version)), header: TestFrames.segmented(size: size, over: version))
        }
        var bytes: [UInt8] = []
        for index in 0..<count {
            let got = try #require(try cable.wires[1].receive(), "segment \(index) of \(count)")
            #expect(got.header[0] & 1 == 0 && got.header[1] == 0, "nothing is left to do")
            let isWhole = try TestFrames.isWhole(got.frame)
            #expect(isWhole, "segment \(index)'s checksum")
            let transport = headers - 20
            let sequence = got.frame[transport + 4..<transport + 8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            #expect(sequence == 0xFFFF_FF00 &+ UInt32(index * size))
            #expect(got.frame[transport + 13] == (index + 1 == count ? 0x19 : 0x10), "FIN and PSH are the last one's")
            if version == 4 {
                #expect(Int(got.frame[18]) << 8 | Int(got.frame[19]) == 0x1234 + index)
                #expect(Int(got.frame[16]) << 8 | Int(got.frame[17]) == got.frame.count - 14)
                let region = try SharedRegion(anonymous: 4096)
                region.write(Array(got.frame[14..<34]), at: 0)
                var sum = InternetChecksum()
                sum.add(region, at: 0, count: 20)
                #expect(size > payload || sum.folded == 0xFFFF, "segment \(index)'s own header's sum")
            } else {
                #expect(Int(got.frame[18]) << 8 | Int(got.frame[19]) == got.frame.count - 54)
            }
            bytes += got.frame.dropFirst(headers)
        }
        expectSame(
            bytes, size <= payload ? frame.dropFirst(headers) : TestFrames.tcp(payload: 5000, over: version).dropFirst(headers))
        // The other way large packets go whole: only one end lacks what it takes.
        for frontend in frontends { frontend.close() }
        cable.stop()
    }

    @Test func aBlankChecksumIsCompletedForWhoDoesNotTakeIt() throws {
        let cable = try Cable()
        var plain = NetworkFrontendOptions()
        plain.features.remove(.checksum4)
        let frontends = try both(cable, .init(), plain)
        let frame = TestFrames.tcp(payload: 1000)
        let header: [UInt8] = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0]
        try cable.wires[0].send(frame, header: header)
        let got = try #require(try cable.wires[1].receive())
        let isWhole = try TestFrames.isWhole(got.frame)
        #expect(got.header[0] & 1 == 0 && isWhole)
        for frontend in frontends { frontend.close() }
        cable.stop()
    }

    @Test func carrierFollowsTheOtherEnd() throws {
        let cable = try Cable()
        let first = try cable.connect(0)
        #expect(eventually { !first.hasCarrier })
        // To nobody: lost, and said to be; the sender goes on.
        for seed in 0..<300 { try cable.wires[0].send(plainFrame(9000, seed: seed)) }
        #expect(eventually { cable.statistics(0)?.transmitDropped == 300 })
        for _ in 0..<2 {
            let second = try cable.connect(1)
            #expect(eventually { first.hasCarrier })
            #expect(eventually { second.hasCarrier })
            let frame = plainFrame(1000, seed: 1)
            try cable.wires[0].send(frame)
            expectSame(try cable.wires[1].receive()?.frame ?? [], frame, "nothing from before")
            second.close()
            #expect(eventually { !first.hasCarrier })
            try cable.toolstack.store.write(cable.paths[1].frontendPath + "/state", "1")
            #expect(eventually { (try? cable.toolstack.store.value(cable.paths[1].backendPath + "/state")) == "2" })
        }
        #expect(first.isLive && first.failure == nil)
        first.close()
        cable.stop()
    }

    /// A peer that takes nothing holds the sender up only as long as the page says: then its frames are thrown away.
    @Test func aPeerThatStallsHoldsNobodyUpForLong() throws {
        var options = NetworkBackendOptions()
        options.drainMilliseconds = 50
        let cable = try Cable(options)
        let frontends = try both(cable)
        // The second's interface is not read: its frontend posts no more pages once its socket is full.
        let total = 1500
        for seed in 0..<total { try cable.wires[0].send(plainFrame(9000, seed: seed)) }
        #expect(eventually(10_000) { frontends[0].statistics.first?.transmitted == UInt64(total) })
        #expect(eventually(10_000) { cable.statistics(0)?.transmitted == UInt64(total) })
        #expect(eventually(10_000) { (cable.statistics(1)?.receiveExpired ?? 0) > 300 })
        // The other way nothing was ever in the way.
        let frame = plainFrame(1000, seed: 7)
        try cable.wires[1].send(frame)
        expectSame(try cable.wires[0].receive()?.frame ?? [], frame)
        for frontend in frontends { frontend.close() }
        cable.stop()
    }

    /// A full cable refuses, says when it is worth trying again, and never keeps a sender waiting for an end that has
    /// gone.
    @Test(arguments: [false, true]) func aFullCableSaysWhenThereIsRoom(cut: Bool) throws {
        let links = NetworkLinks()
        let (first, second) = (
            try links.end(of: "1/0", to: "2/0", mtu: 1500), try links.end(of: "2/0", to: "1/0", mtu: 1500)
        )
        let bus = MemoryBus()
        let (source, target) = (try SharedRegion(anonymous: 17 * 4096), try SharedRegion(anonymous: 17 * 4096))
        let frame = TestFrames.tcp(payload: 60_000)
        source.write(frame, at: 0)
        let from = [BusSegment(address: bus.attach(source), byteCount: UInt32(frame.count))]
        let into = [BusSegment(address: bus.attach(target), byteCount: 17 * 4096)]
        let (out, end) = (try first.openQueue(bus: bus), try second.openQueue(bus: bus))
        try second.setOffloads(cut ? [] : [.checksum, .tcp4])
        var offload = FrameOffload()
        offload.checksum = .init(start: 34, field: 16)
        offload.segmentation = .init(type: .tcp4, size: 1448, headerCount: 54)
        func isRoomy() throws -> Bool {
            var entry = pollfd(fd: try #require(out.roomDescriptor).rawValue, events: Int16(POLLOUT), revents: 0)
            return poll(&entry, 1, 0) > 0
        }
        func receive() -> Int? {
            guard case .frame(let count, let got) = end.receive(into: into.span) else { return nil }
            #expect((got.segmentation == nil) == cut && got.checksum != nil)
            return count
        }
        for round in 0..<3 {
            var sent = 0
            while sent < 100, out.send(offload, segments: from.span) == .sent { sent += 1 }
            #expect((6..<20).contains(sent), "round \(round): \(sent) frames of 60000 bytes in 1 MiB")
            #expect(out.send(offload, segments: from.span) == .full)
            var roomy = try isRoomy()
            #expect(!roomy)
            var bytes = try #require(receive())
            roomy = try isRoomy()
            #expect(!roomy, "not for every frame")
            while let count = receive() { bytes += count }
            #expect(bytes == sent * (cut ? 42 * 54 + 60_000 : frame.count))
            roomy = try isRoomy()
            #expect(roomy)
            #expect(out.send(offload, segments: from.span) == .sent)
            while receive() != nil {}
        }
        while out.send(offload, segments: from.span) == .sent {}
        end.close()
        #expect(try isRoomy())
        #expect(out.send(offload, segments: from.span) == .failed(.networkDown))
        out.close()
    }

    @Test func namesThatAreNoPeer() throws {
        #expect(throws: Errno.tooManySymbolicLinkLevels) { _ = try NetworkLinks().end(of: "1/0", to: "1/0", mtu: 1500) }
        for text in ["", "1", "1/", "/1", "1/x", "32752/0", "1/0/0", "-1/0", "1/4294967296"] {
            let cable = try Cable()
            try cable.toolstack.store.write(cable.paths[0].backendPath + "/peer", text)
            try cable.toolstack.store.write(cable.paths[0].backendPath + "/state", "1")
            let settings: NetworkSettings?
            do {
                settings = try NetworkSettings.read(
                    from: cable.toolstack.store,
                    at: BackendPath(backend: .zero, kind: .network, device: DeviceID(frontend: DomainID(1), number: 0)))
            } catch { settings = nil }
            #expect(settings == nil, "\(text)")
            cable.stop()
        }
    }

    @Test func aSegmentCutterRefusesWhatIsNoTCP() throws {
        let region = try SharedRegion(anonymous: 17 * 4096)
        region.write(plainFrame(2000), at: 0)
        #expect(SegmentCutter(region, byteCount: 2000, size: 100) == nil)
        let frame = TestFrames.tcp(payload: 0)
        region.write(frame, at: 0)
        #expect(SegmentCutter(region, byteCount: frame.count, size: 100) == nil)
        region.write(TestFrames.tcp(payload: 10), at: 0)
        #expect(SegmentCutter(region, byteCount: frame.count + 10, size: 0) == nil)
        let cutter = try #require(SegmentCutter(region, byteCount: frame.count + 10, size: 3))
        #expect(cutter.segments == 4 && cutter.totalBytes == 4 * 54 + 10)
    }
}
