// What a device and the other side have to know of each other: that it is gone, how many queues it has, how large its
// frames may be; and that each frame that is dropped is counted once, by its reason.

import DMA
import DriverRuntime
import Foundation
import LinuxSystem
import MockPeers
@testable import NetworkBackend
import NetworkDevices
import NetworkFrontend
import NetworkProtocol
import Packets
import SharedMemory
import Synchronization
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

/// A wire that somebody may delete, with limits of its own.
private final class FragileWire: NetworkDevice {
    private struct State {
        var isGone = false
        var watcher: (@Sendable () -> Void)?
        var carriers: [Bool] = []
        var limits: [Int] = []
    }
    private let inner: SocketNetwork
    private let state = Mutex(State())
    let mtu: Int
    let mostQueues: Int

    init(_ inner: SocketNetwork, mtu: Int = 1500, mostQueues: Int = .max) {
        self.inner = inner
        self.mtu = mtu
        self.mostQueues = mostQueues
    }

    var name: String { inner.name }
    var isGone: Bool { state.withLock(\.isGone) }
    var carrier: Bool? { isGone ? false : nil }
    var carriers: [Bool] { state.withLock(\.carriers) }
    /// The MTUs that it was limited to.
    var limits: [Int] { state.withLock(\.limits) }

    func setOffloads(_ offloads: OffloadSet) throws(Errno) { try inner.setOffloads(offloads) }
    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { try inner.openQueue(bus: bus) }
    func watchCarrier(_ changed: @escaping @Sendable () -> Void) { state.withLock { $0.watcher = changed } }
    func setCarrier(_ isUp: Bool) throws(Errno) { state.withLock { $0.carriers.append(isUp) } }

    func limitMTU(to most: Int) throws(Errno) -> MTUChange? {
        state.withLock { $0.limits.append(most) }
        return most < mtu ? MTUChange(from: mtu, to: most) : nil
    }

    func delete() {
        let watcher = state.withLock { state in
            state.isGone = true
            return state.watcher
        }
        watcher?()
    }
}

@Suite("A device's state, and drops by reason", .timeLimit(.minutes(2)), .serialized)
struct DeviceStateTests {
    @Test("a backend's device that is deleted: the store, the frontend and the log say so; the next connection has a new one")
    func backendsDeviceDeleted() throws {
        let made = Mutex<[FragileWire]>([])
        let wire = try Wire("back")
        let pair = try NetworkPair(start: { host, _ in
            let hypervisor = host.domain(0)
            return try RunningBackend(
                hypervisor, through: hypervisor,
                opener: { (_) throws(DeviceOpenFailure) in
                    let device = FragileWire(wire.network)
                    made.withLock { $0.append(device) }
                    return device
                })
        })
        let frontend = try pair.connect()
        #expect(frontend.hasCarrier)
        made.withLock { $0[0] }.delete()
        #expect(eventually { !frontend.hasCarrier })
        #expect(try pair.node("carrier") == "0")
        #expect(pair.backend.log.contains { $0.contains("back is gone: somebody deleted it") }, "\(pair.backend.log)")
        frontend.resume()
        #expect(eventually(10_000) { frontend.connectionCount == 2 && frontend.hasCarrier }, "\(pair.backend.log)")
        #expect(made.withLock { $0.count } == 2)
        #expect(try pair.node("carrier") == "1")
        frontend.close()
        pair.backend.stop()
    }

    @Test("a frontend's device that is deleted: the frontend says so and closes, and the backend's shows no carrier")
    func frontendsDeviceDeleted() throws {
        let (back, front) = (FragileWire(try Wire("back").network), FragileWire(try Wire("front").network))
        let pair = try NetworkPair(backEnd: BackEnd(back))
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: front)
        try frontend.connect(timeoutMilliseconds: 5000)
        #expect(back.carriers.isEmpty, "none was hidden, none is shown")
        front.delete()
        #expect(eventually { frontend.failure != nil })
        #expect(frontend.failure?.description.hasSuffix("front is gone: somebody deleted it") == true)
        #expect(try pair.toolstack.store.value(pair.paths.frontendPath + "/state") != "4")
        frontend.close()
        // Its process has ended, and its domain with it.
        try pair.toolstack.store.write(pair.paths.frontendPath + "/state", "6")
        #expect(eventually { back.carriers == [false] })
        pair.backend.stop()
    }

    @Test("a frontend that connects again brings the carrier back")
    func carrierComesBack() throws {
        let back = FragileWire(try Wire("back").network)
        let pair = try NetworkPair(backEnd: BackEnd(back))
        let frontend = try pair.connect()
        frontend.resume()
        #expect(eventually(10_000) { frontend.connectionCount == 2 })
        #expect(eventually { back.carriers == [false, true] }, "\(back.carriers)")
        frontend.close()
        #expect(eventually { back.carriers == [false, true, false] })
        pair.backend.stop()
    }

    @Test("no more queues than either side's device has; the log says why, once", arguments: [true, false])
    func fewQueues(isBackend: Bool) throws {
        let few = FragileWire(try Wire("few").network, mostQueues: 1)
        var options = NetworkFrontendOptions()
        options.queues = 4
        let pair = try NetworkPair(backEnd: isBackend ? BackEnd(few) : nil)
        let log = LineCollector()
        let device: any NetworkDevice = isBackend ? pair.frontWire.network : few
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: device, options: options) { log.add($0) }
        try frontend.connect(timeoutMilliseconds: 5000)
        #expect(frontend.statistics.count == 1)
        #expect(eventually { pair.backend.status.first?.queues.count == 1 })
        #expect(try pair.node("multi-queue-max-queues") == (isBackend ? "1" : "4"))
        let lines = (isBackend ? pair.backend.log : log.all).filter { $0.contains("few was made for 1 queue") }
        #expect(lines.count == 1, "\(pair.backend.log) \(log.all)")
        frontend.close()
        pair.backend.stop()
    }

    @Test("each side's device shows no MTU whose frames the other cannot take", arguments: [true, false], [true, false])
    func limits(backendHasSG: Bool, frontendHasSG: Bool) throws {
        let (back, front) = (FragileWire(try Wire("back").network, mtu: 9000), FragileWire(try Wire("front").network, mtu: 9000))
        var (given, wanted) = (NetworkBackendOptions(), NetworkFrontendOptions())
        if !backendHasSG { given.features.remove(.scatterGather) }
        if !frontendHasSG { wanted.features.remove(.scatterGather) }
        let pair = try NetworkPair(given, backEnd: BackEnd(back))
        let log = LineCollector()
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: front, options: wanted) { log.add($0) }
        try frontend.connect(timeoutMilliseconds: 5000)
        let most = backendHasSG && frontendHasSG ? 65517 : 4078
        #expect(back.limits == [most] && front.limits == [most])
        let isLowered = most < 9000
        #expect(pair.backend.log.contains { $0.contains("mtu 9000 lowered to 4078") } == isLowered)
        #expect(log.all.contains { $0.contains("mtu 9000 lowered to 4078") } == isLowered)
        frontend.close()
        pair.backend.stop()
    }

    @Test("frames of the device's own MTU pass without large packets, both ways", arguments: [true, false])
    func framesOfManyPages(mapped: Bool) throws {
        let (inside, outside) = (
            try FramePort(name: "inside", mtu: 30_000, time: .system), try FramePort(name: "outside", mtu: 30_000, time: .system)
        )
        var options = NetworkFrontendOptions()
        options.features.subtract([.tcp4, .tcp6])
        options.mapsGrants = mapped
        let pair = try NetworkPair(backEnd: BackEnd(outside.device))
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: inside.device, options: options)
        try frontend.connect(timeoutMilliseconds: 5000)
        for (from, to) in [(inside, outside), (outside, inside)] {
            for size in [1514, 12_289, 30_018] {
                let frame = plainFrame(size, seed: size)
                try from.send(frame)
                expectSame(try to.receive(timeout: .seconds(3))?.bytes ?? [], frame, "\(size) bytes")
            }
            // Somebody sets a larger one meanwhile: one frame shows it.
            let larger = plainFrame(60_000)
            try from.send(larger)
            try from.send(larger)
            #expect(eventually { (try? to.receive(timeout: .milliseconds(20)))?.bytes == larger })
        }
        frontend.close()
        pair.backend.stop()
    }

    @Test("what is dropped between two frontends' devices is counted once, by its reason, on the side that dropped it")
    func dropsOfHonestPeers() throws {
        var wanted = NetworkFrontendOptions()
        wanted.features.remove(.scatterGather)
        let (inside, outside) = (try FramePort(name: "inside", time: .system), try FramePort(name: "outside", time: .system))
        let pair = try NetworkPair(backEnd: BackEnd(outside.device))
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: inside.device, options: wanted)
        try frontend.connect(timeoutMilliseconds: 5000)
        for _ in 0..<3 { try outside.send(plainFrame(5000)) }
        for _ in 0..<2 { try inside.send(plainFrame(5000)) }
        try inside.send([1, 2, 3])
        try outside.send(plainFrame(60))
        try inside.send(plainFrame(60))
        #expect(try inside.receive()?.bytes.count == 60 && outside.receive()?.bytes.count == 60)
        #expect(eventually { pair.backend.status.first?.drops.receive.total == 3 && frontend.drops.transmit.total == 3 })
        // One page is there for each frame: what is longer is cut off.
        #expect(pair.backend.status.first?.drops.receive[.spoilt] == 3)
        #expect(eventually { pair.backend.total.receiveDropped == 3 })
        #expect(frontend.drops.transmit[.spoilt] == 3)
        #expect(eventually { frontend.statistics.reduce(0) { $0 + $1.transmitDropped } == 3 })
        frontend.close()
        pair.backend.stop()
    }

    @Test("so is what a hostile frontend has dropped, and the sums agree")
    func dropsOfAHostileFrontend() throws {
        let pair = try NetworkPair()
        let raw = try MockNetworkFrontend(pair)
        try raw.wait(for: [.connected])
        raw.data.region.write(plainFrame(100), at: 0)
        // Too short; marks that do not fit; a page that is nobody's.
        raw.send([raw.request(size: 10)])
        raw.send([raw.request(size: 100, flags: .checksumBlank)])
        raw.send([TransmitSlot(TransmitRequest(reference: GrantReference(1_000_000), id: 9, size: 100))])
        raw.send([raw.request(size: 100)])
        _ = try raw.answers(4)
        #expect(try pair.backWire.receive()?.frame == plainFrame(100))
        let drops = { (pair.backend.status.first?.drops ?? InterfaceDrops()).transmit }
        #expect(eventually { drops().total == 3 }, "\(drops())")
        #expect(drops()[.malformed] == 1 && drops()[.unfit] == 1 && drops()[.unreachable] == 1)
        #expect(eventually { pair.backend.total.transmitErrors == drops().total })
        try raw.close()
        pair.backend.stop()
    }
}
