// What changes while frames flow, and what the interface shows of a frontend that does not take its frames.

import DMA
import LinuxSystem
import MockPeers
import NetworkBackend
import NetworkDevices
import NetworkFrontend
import Packets
import SharedMemory
import Synchronization
import Testing
import TestSupport
import Toolstack

/// A wire that notes whether it is told to have a carrier.
final class CarrierWire: NetworkDevice {
    let inner: SocketNetwork
    let carrier = Mutex<[Bool]>([])
    init(_ inner: SocketNetwork) { self.inner = inner }
    var name: String { inner.name }
    var mtu: Int { inner.mtu }
    func setOffloads(_ offloads: OffloadSet) throws(Errno) { try inner.setOffloads(offloads) }
    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { try inner.openQueue(bus: bus) }
    func setCarrier(_ isUp: Bool) throws(Errno) { carrier.withLock { $0.append(isUp) } }
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
        let pair = try NetworkPair(options, backEnd: BackEnd(device))
        let raw = try MockNetworkFrontend(pair)
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
