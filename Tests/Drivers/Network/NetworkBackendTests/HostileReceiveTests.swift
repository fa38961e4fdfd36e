// Frontends that do not take their frames as they should, and wires that give none that make sense: memory stays
// bounded, frames are dropped whole, and whoever behaves again is served again.

import CLinux
import DriverRuntime
import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
import NetworkBackend
import NetworkDevices
import NetworkProtocol
import SharedMemory
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

@Suite(.timeLimit(.minutes(3)), .serialized)
struct HostileReceiveTests {
    private func connected(
        _ options: NetworkBackendOptions = .init(), keys: [String: String] = [:], queues: Int = 1
    ) throws -> (NetworkPair, MockNetworkFrontend) {
        let pair = try NetworkPair(options)
        let raw = try MockNetworkFrontend(pair, keys: keys, queues: queues)
        try raw.wait(for: [.connected])
        return (pair, raw)
    }

    private func impatient(_ milliseconds: UInt64 = 30) -> NetworkBackendOptions {
        var options = NetworkBackendOptions()
        options.drainMilliseconds = milliseconds
        return options
    }

    /// Switches hashing on, over everything.
    private func hash(_ raw: MockNetworkFrontend) throws {
        #expect(try raw.ask(7, 1).status == .success)
        #expect(try raw.ask(2, 15).status == .success)
        #expect(try raw.ask(3, raw.data.references[63].rawValue, 40).status == .success)
    }

    /// A frontend that keeps fewer pages posted than the next frame needs is stalled however many they are, extra slots
    /// counted; with as many as are needed it is served.
    @Test(arguments: [(3, false), (3, true), (1, false), (1, true)], [false, true])
    func B9_slotsAreCountedBeforeTheyAreUsed(_ shape: (pages: Int, isHashed: Bool), mapped: Bool) throws {
        let (pair, raw) = try connected(impatient())
        if mapped { try raw.map(Array(0..<32)) }
        if shape.isHashed { try hash(raw) }
        let frame = TestFrame(version: 4, transport: .tcp, payload: shape.pages * 4096 - 100)
        let header = TestFrame.header(frame.segmented(shape.pages == 1 ? 2000 : 1448))
        let needed = shape.pages + 1 + (shape.isHashed ? 1 : 0)
        var posted = 0
        for free in 1..<needed {
            let expired = pair.backend.total.receiveExpired
            raw.post([posted])
            posted += 1
            try pair.backWire.send(frame.bytes, header: header)
            #expect(eventually { pair.backend.total.receiveExpired > expired }, "\(free) of \(needed) slots")
            #expect(try raw.receive.nextResponse() == nil)
        }
        raw.post([posted])
        try pair.backWire.send(frame.bytes, header: header)
        let first = try raw.received().response
        #expect(first.flags.isSuperset(of: [.checksumBlank, .extraInfo]) && first.status > 0)
        let extra = try raw.received().extra
        #expect(extra.type == .segmentation && extra.hasMore == shape.isHashed)
        if shape.isHashed { #expect(try raw.received().extra.type == .hash) }
        for _ in 1..<shape.pages { _ = try raw.received() }
        #expect(raw.receive.outstanding == 0)
        try raw.close()
        pair.backend.stop()
    }

    /// The age of a frame is its own: a queue that was starved before does not make the next frame older than it is.
    @Test func B9_dropByAgeCountsFromTheFramesOwnArrival() throws {
        let (pair, raw) = try connected(impatient(400))
        // Starved at 0 ms, fed at 250 ms, starved again at once: the second frame has until 650 ms.
        let start = monotonicMilliseconds()
        raw.post([0])
        try pair.backWire.send(plainFrame(5000, seed: 1))
        sleepMilliseconds(250)
        raw.post([1])
        #expect(try raw.received().response.status == 4096)
        _ = try raw.received()
        raw.post([2])
        let frame = plainFrame(5000, seed: 2)
        try pair.backWire.send(frame)
        while monotonicMilliseconds() - start < 500 { sleepMilliseconds(5) }
        raw.post([3])
        #expect(try raw.received().response.status == 4096)
        #expect(try raw.received().response.status == 904)
        #expect(pair.backend.total.receiveExpired == 0)
        try raw.close()
        pair.backend.stop()
    }

    /// A flood for a frontend that takes nothing costs no memory, and is over when the frontend takes again.
    @Test func B10_aFloodForAFrontendThatTakesNothing() throws {
        let (pair, raw) = try connected(impatient(), queues: 2)
        try pair.backWire.send(plainFrame(1514))
        sleepMilliseconds(100)
        let memory = residentKilobytes()
        let deadline = monotonicMilliseconds() + Int64(soak(1000))
        var sent = 0
        while monotonicMilliseconds() < deadline {
            try pair.backWire.send(plainFrame(1514, seed: sent))
            sent += 1
        }
        let growth = residentKilobytes() - memory
        #expect(growth < 4096, "\(growth) KiB after \(sent) frames")
        #expect(eventually { pair.backend.total.receiveExpired > sent * 9 / 10 }, "of \(sent) frames")
        for queue in 0..<2 { raw.post(Array(queue * 8..<queue * 8 + 8), queue: queue) }
        for seed in 0..<2 { try pair.backWire.send(plainFrame(99, seed: seed)) }
        #expect(
            try eventually {
                try (0..<2).contains { try raw.queues[$0].receive.nextResponse() != nil }
            })
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    /// Frames are dropped from everywhere that drops: the data path, the clock, a quarantine, a disconnect, a stop.
    /// None of them waits.
    @Test func B11_droppingFromEverywhere() throws {
        let pair = try NetworkPair(impatient(50))
        let baseline = pair.host.usage
        for ending in ["datapath", "timer", "quarantine", "disconnect", "stop"] {
            let raw = try MockNetworkFrontend(pair, keys: ["request-multicast-control": "1"])
            try raw.wait(for: [.connected])
            // Unwanted, and thus dropped at once.
            var group = plainFrame(60)
            group[0] = 1
            for _ in 0..<20 { try pair.backWire.send(group) }
            #expect(try pair.serves(raw))
            // One that is held, and more behind it.
            raw.post([0])
            for seed in 0..<8 { try pair.backWire.send(plainFrame(5000, seed: seed)) }
            let start = monotonicMilliseconds()
            switch ending {
            case "timer": #expect(eventually { pair.backend.total.receiveExpired >= 1 })
            case "quarantine":
                raw.send([raw.request(offset: 4090, size: 100)])
                try raw.wait(for: [.closing])
            case "stop":
                pair.backend.stop()
                raw.release()
            default: break
            }
            if ending != "stop" { try raw.closeForAnother() }
            #expect(monotonicMilliseconds() - start < 1000, "\(ending)")
        }
        expectBaseline(pair.host, baseline)
    }

    /// Pages that cannot be written, in each slot of a frame in turn and in every way: the frame is refused whole, the
    /// next is delivered.
    @Test(arguments: ["foreign", "read-only", "not granted", "ended meanwhile", "one page in all slots"])
    func B27_pagesThatCannotBeWritten(_ kind: String) throws {
        // Through Xen's libraries pages go with their last reference only.
        if kind == "ended meanwhile", TestHypervisorKind.chosen == .libxen { return }
        let (pair, raw) = try connected()
        let bad = try raw.hypervisor.offerPages(
            1, to: kind == "foreign" ? DomainID(3) : .zero, access: kind == "read-only" ? .readOnly : .readWrite)
        if kind == "ended meanwhile" { bad.withdraw() }
        let frame = plainFrame(12_000, seed: 3)
        for place in 0..<3 {
            for slot in 0..<3 {
                let reference: GrantReference
                if kind == "one page in all slots" {
                    reference = raw.data.references[0]
                } else if slot == place {
                    reference = kind == "not granted" ? GrantReference(31_000) : bad.references[0]
                } else {
                    reference = raw.data.references[slot]
                }
                _ = raw.receive.push(ReceiveRequest(id: UInt16(slot), reference: reference))
            }
            if raw.receive.publish() { raw.bell.notify() }
            try pair.backWire.send(frame)
            for slot in 0..<3 {
                let response = try raw.received().response
                #expect(response.id == slot)
                #expect(response.flags.contains(.moreData) == (slot < 2))
                #expect((response.status == -1) == (kind != "one page in all slots"))
            }
        }
        #expect(bad.region.bytes(at: 0, count: 4096) == [UInt8](repeating: 0, count: 4096))
        raw.post([20, 21, 22])
        try pair.backWire.send(frame)
        for _ in 0..<3 { #expect(try raw.received().response.status > 0) }
        expectSame(raw.data.region.bytes(at: 20 * 4096, count: 12_000), frame)
        bad.withdraw()
        try raw.close()
        pair.backend.stop()
    }

    /// A mapping that is taken back between the posting of a page and the frame that would go there.
    @Test(.inProcess("through the libraries pages go with their last reference only")) func B27_mappingsThatGoAwayUnderAPostedPage()
        throws
    {
        let (pair, raw) = try connected()
        let frame = plainFrame(3000, seed: 1)
        for round in 0..<soak(50) {
            try raw.map([0, 1, 2, 3])
            raw.post([0, 1, 2, 3])
            if round % 2 == 0 {
                try pair.backWire.send(frame)
                _ = try raw.received()
            }
            #expect(try raw.ask(10, 0, raw.data.references[62].rawValue, 4).status == .success)
            while raw.receive.outstanding > 0 {
                try pair.backWire.send(frame)
                #expect(try raw.received().response.status == 3000)
            }
            for page in 0..<4 { expectSame(raw.data.region.bytes(at: page * 4096, count: 3000), frame) }
        }
        // A page that was taken back whole: nothing is written there any more.
        let page = try raw.hypervisor.offerPages(1, to: .zero, access: .readWrite)
        raw.data.region.store(GrantMappingEntry(reference: page.references[0], isReadOnly: false).word, at: 61 * 4096)
        #expect(try raw.ask(9, 0, raw.data.references[61].rawValue, 1).status == .success)
        _ = raw.receive.push(ReceiveRequest(id: 1, reference: raw.data.references[0]))
        _ = raw.receive.push(ReceiveRequest(id: 2, reference: page.references[0]))
        if raw.receive.publish() { raw.bell.notify() }
        // Both are known to the backend by now.
        try pair.backWire.send(frame)
        #expect(try raw.received().response.id == 1)
        #expect(try raw.ask(10, 0, raw.data.references[61].rawValue, 1).status == .success)
        #expect(page.withdraw())
        try pair.backWire.send(frame)
        #expect(try raw.received().response == ReceiveResponse(id: 2, status: -1))
        #expect(page.region.bytes(at: 0, count: 4096).allSatisfy { $0 == 0 })
        try raw.close()
        pair.backend.stop()
    }

    /// What a wire hands over is believed as little as what a frontend does.
    @Test func B33_headersThatMakeNoSense() throws {
        let (pair, raw) = try connected()
        raw.post(Array(0..<32))
        let frame = TestFrame(version: 4, transport: .udp, payload: 100)
        var spoilt = 0
        for header: [UInt8] in [
            [0, 3, 0, 0, 100, 0, 0, 0, 0, 0], [0, 5, 0, 0, 100, 0, 0, 0, 0, 0], [0, 0x55, 0, 0, 1, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0, 34, 0, 6, 0], [1, 1, 0, 0, 100, 0, 34, 0, 6, 0], [1, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF],
            [1, 0, 0, 0, 0, 0, 142, 0, 0, 0], [1, 4, 54, 0, 100, 0, 34, 0, 6, 0],
        ] {
            try pair.backWire.send(frame.bytes, header: header)
            spoilt += 1
        }
        try pair.backWire.send(plainFrame(13))
        spoilt += 1
        #expect(eventually { pair.backend.total.receiveDropped == spoilt }, "\(pair.backend.total)")
        #expect(try raw.receive.nextResponse() == nil)
        // A place that is within the frame is somebody's checksum, wherever it is.
        try pair.backWire.send(frame.bytes, header: [1, 0, 0, 0, 0, 0, 14, 0, 10, 0])
        #expect(try raw.received().response.flags.isEmpty)
        try pair.backWire.send(frame.bytes, header: TestFrame.header(frame.blank))
        #expect(try raw.received().response.flags == [.checksumBlank, .dataValidated])
        try raw.close()
        pair.backend.stop()
    }

    /// A wire without room: packets wait in order, nothing is lost, and nothing spins meanwhile.
    @Test func B33_aWireThatIsFull() throws {
        let (pair, raw) = try connected()
        var answered = 0
        var sent = 0
        // The wire and one batch fill up.
        while sent < 4000 {
            guard raw.transmit.freeSlots > 0 else { break }
            let frame = plainFrame(1500, seed: sent)
            raw.data.region.write(frame, at: (sent % 60) * 4096)
            raw.send([raw.request(page: sent % 60, size: 1500, id: sent % 60)])
            sent += 1
            let deadline = monotonicMilliseconds() + 100
            while answered < sent, monotonicMilliseconds() < deadline {
                if try raw.transmit.nextResponse() != nil { answered += 1 }
            }
            if answered < sent { break }
        }
        #expect(answered == sent - 1, "\(answered) of \(sent)")
        let before = processorMilliseconds()
        sleepMilliseconds(200)
        #expect(processorMilliseconds() - before < 40, "waiting costs nothing")
        for index in 0..<sent {
            expectSame(try pair.backWire.receive()?.frame ?? [], plainFrame(1500, seed: index), "frame \(index)")
        }
        _ = try raw.answers(1)
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    /// A tap that is changed and taken away under traffic, in a namespace of the test's own.
    @Test(.enabled(if: geteuid() == 0)) func B33_aTapThatIsChangedAndTakenAway() throws {
        let outcome = Box<Result<Void, any Error>>()
        let thread = try WorkerThread(name: "namespace") {
            outcome.value = Result {
                guard causeway_new_network_namespace() == 0 else { throw Errno.current }
                try Self.changeATap()
            }
        }
        thread.join()
        try outcome.value?.get()
    }

    private static func changeATap() throws {
        let tap = try TapDevice(name: "tap-b33")
        try HostInterface.setUp("tap-b33")
        let port = try FramePort(name: "neighbour", time: .system)
        let pair = try NetworkPair(start: { host, _ in
            let hypervisor = host.domain(0)
            return try RunningBackend(
                hypervisor, through: hypervisor,
                opener: { (settings) throws(DeviceOpenFailure) in
                    let device: any NetworkDevice = settings.device.number == 0 ? tap : port.device
                    return device
                })
        })
        let second = try pair.toolstack.create(
            VifSpecification(parsing: "mac=00:16:3e:01:02:04"), frontend: DomainID(1), random: .system)
        let (raw, neighbour) = (try MockNetworkFrontend(pair), try MockNetworkFrontend(pair, paths: second))
        try raw.wait(for: [.connected])
        try neighbour.wait(for: [.connected])
        func send(_ size: Int) throws -> NetworkStatus {
            raw.data.region.write(plainFrame(size), at: 0)
            raw.send(
                size > 4096
                    ? [raw.request(size: size, flags: .moreData), raw.request(page: 1, size: size - 4096)]
                    : [raw.request(size: size)])
            return try raw.answers(size > 4096 ? 2 : 1)[0].status
        }
        #expect(try send(1500) == .okay)
        for mtu in [9000, 576, 1500] {
            try HostInterface.setMTU("tap-b33", mtu)
            for size in [60, 1500, 5000] { #expect(try send(size) == .okay, "\(size) bytes, MTU \(mtu)") }
        }
        try HostInterface.setUp("tap-b33", false)
        _ = try send(60)
        try HostInterface.setUp("tap-b33", true)
        #expect(try send(60) == .okay)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", "PATH=$PATH:/sbin:/usr/sbin; ip link del tap-b33"]
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0 && !HostInterface.exists("tap-b33"))
        #expect(try send(60) == .dropped)
        raw.post([1, 2])
        let before = processorMilliseconds()
        sleepMilliseconds(200)
        #expect(processorMilliseconds() - before < 40, "a device that is gone is not asked again and again")
        neighbour.send([neighbour.request(size: 64)])
        #expect(try neighbour.answers(1)[0].status == .okay)
        #expect(try port.receive()?.bytes == [UInt8](repeating: 1, count: 64))
        try raw.close()
        try neighbour.close()
        pair.backend.stop()
    }
}
