// The bus's verbs over the store, grants and event channels.

import DeviceBus
import Hypervisor
import HypervisorRules
import InProcess
import LinuxSystem
import Loopback
import PageDevices
import SharedMemory
import TestSupport
import Testing
import XenBus
import XenDeviceBus
import XenStore
import XenTypes

@Suite(.serialized, .timeLimit(.minutes(1))) struct XenDeviceBusTests {
    private func works<H: Hypervisor>(_ pair: BusPair<H>) throws {
        let told = LineCollector()
        let frontend = try pair.frontend { told.add("changed") }
        try pair.balloon.setTarget(41)
        #expect(eventually(20_000) { (try? BalloonReading(frontend.read()).target) == 41 }, "\(pair.log.all)")
        try frontend.write(BalloonReading.report(40), at: BalloonReading.reportOffset)
        #expect(eventually(20_000) { pair.balloon.actual == 40 }, "\(pair.log.all)")
        #expect(try pair.store.value(BusPair<H>.path + "/device-type") == "balloon")
        frontend.close()
        #expect(eventually(20_000) { pair.state() == 6 && pair.balloon.watchers.count == 0 }, "\(pair.log.all)")
        pair.stop()
    }

    @Test func aPageCrossesTheInProcessHypervisor() throws {
        let host = InProcessHost(time: .system)
        try works(try BusPair(host.domain(0), host.domain(1)))
        #expect(eventually(10_000) { host.usage.holdsNothing }, "\(host.usage)")
    }

    @Test func aPageCrossesTheLoopbackHypervisor() throws {
        let place = try LoopbackRig()
        try works(try BusPair(try place.domain(0), try place.domain(1)))
        #expect(try eventually(10_000) { try place.control.usage().holdsNothing })
    }

    /// The backend ends and another begins: the device goes on, and its driver's word is still there.
    @Test func aBackendThatReturnsFindsTheDriversBytes() throws {
        let host = InProcessHost(time: .system)
        let pair = try BusPair(host.domain(0), host.domain(1))
        let frontend = try pair.frontend()
        try frontend.write(BalloonReading.report(12), at: BalloonReading.reportOffset)
        #expect(eventually(20_000) { pair.balloon.actual == 12 })
        pair.stop()
        try pair.balloon.write(BalloonReading.report(0), at: BalloonReading.reportOffset)
        try pair.balloon.setTarget(99)
        try pair.start()
        #expect(eventually(20_000) { (try? BalloonReading(frontend.read()).target) == 99 }, "\(pair.log.all)")
        #expect(eventually(20_000) { pair.balloon.actual == 12 }, "\(pair.log.all)")
        frontend.close()
        pair.stop()
    }

    /// A device that leaves its bus closes the connection; one of the same name goes on with the same frontend.
    @Test func aDeviceThatLeavesItsBusIsWaitedFor() throws {
        let host = InProcessHost(time: .system)
        let pair = try BusPair(host.domain(0), host.domain(1))
        let frontend = try pair.frontend()
        try pair.bus.drop("balloon")
        #expect(eventually(20_000) { (try? frontend.read()) == nil }, "\(pair.log.all)")
        let next = Balloon(mostPages: 1000)
        try next.setTarget(5)
        try pair.bus.add(FlatBusDevice(next, name: "balloon"))
        #expect(eventually(30_000) { (try? BalloonReading(frontend.read()).target) == 5 }, "\(pair.log.all)")
        frontend.close()
        pair.stop()
    }

    @Test func aDeviceThatIsTakenAwayEndsItsFrontend() throws {
        let host = InProcessHost(time: .system)
        let pair = try BusPair(host.domain(0), host.domain(1))
        let frontend = try pair.frontend()
        try BusDirectories.takeAway(number: 0, frontend: DomainID(1), in: pair.store)
        #expect(eventually(20_000) { if case .lost = self.failure(frontend) { true } else { false } }, "\(pair.log.all)")
        frontend.close()
        pair.stop()
    }

    private func failure<H: Hypervisor>(_ frontend: FlatFrontend<H>) -> FlatFrontendError? {
        do throws(FlatFrontendError) { _ = try frontend.read() } catch { return error }
        return nil
    }

    /// Without a word in the store: only its doorbells close.
    @Test func aFrontendThatDiesLeavesNothing() throws {
        let place = try LoopbackRig()
        let guest = try place.domain(1)
        let pair = try BusPair(try place.domain(0), guest)
        let frontend = try pair.frontend()
        guest.disconnect()
        #expect(eventually(20_000) { pair.balloon.watchers.count == 0 }, "\(pair.log.all)")
        frontend.close()
        pair.stop()
        #expect(try eventually(10_000) { try place.control.usage().holdsNothing })
    }
}

extension HypervisorUsage {
    /// Nothing is offered, mapped or bound.
    fileprivate var holdsNothing: Bool { grants == 0 && mappings == 0 && ports == 0 && deferred == 0 && dying == 0 }
}

/// A loopback host with two domains.
private final class LoopbackRig {
    let control: LoopbackControl
    private let host: LoopbackHost
    private let scratch: TemporaryDirectory

    init() throws {
        scratch = try TemporaryDirectory()
        host = try LoopbackHost(runDirectory: "\(scratch.path)/run", time: .system)
        try host.start()
        control = try LoopbackControl(runDirectory: "\(scratch.path)/run", time: .system)
        _ = try control.createDomain(DomainID(1))
    }

    deinit { host.stop() }

    func domain(_ number: UInt16) throws -> LoopbackHypervisor {
        try LoopbackHypervisor(runDirectory: "\(scratch.path)/run", domain: DomainID(number), time: .system)
    }
}

/// Frontends that lie: written by hand, as a domain of its own.
@Suite(.serialized, .timeLimit(.minutes(1))) struct HostileBusFrontendTests {
    /// What is published instead of what should be: each is refused, in the error node, and a good frontend served
    /// after.
    @Test(arguments: [
        ["share-0/page-ref": "999999"], ["share-0/page-ref": "-1"], ["share-0/page-ref": "0x10"], ["share-0/event-channel": "0"],
        ["share-0/event-channel": "77777"], ["version": "2"], ["version": "x"], ["version": ""], ["share-0/read-only": "1"],
        ["share-1/page-ref": "4294967295"], ["share-5/page-ref": "1", "share-5/event-channel": "1"], ["share-1/event-channel": ""],
    ])
    func PG5_keysThatCannotBeAreRefused(_ lie: [String: String]) throws {
        let host = InProcessHost(time: .system)
        let guest = host.domain(1)
        let pair = try BusPair(host.domain(0), guest)
        #expect(eventually(20_000) { pair.state() == 2 }, "\(pair.log.all)")
        let offers = try (0..<2).map { try guest.offerPages(1, to: .zero, access: $0 == 0 ? .readWrite : .readOnly) }
        let channels = try (0..<2).map { _ in try guest.allocateChannel(for: .zero) }
        let client = try guest.connectStore()
        let front = BusPair<InProcessHypervisor>.front
        var keys = ["version": "1"]
        for index in 0..<2 {
            keys["share-\(index)/page-ref"] = "\(offers[index].references[0])"
            keys["share-\(index)/event-channel"] = "\(channels[index].port)"
            keys["share-\(index)/read-only"] = "\(index)"
        }
        for (name, value) in keys.merging(lie, uniquingKeysWith: { $1 }) { try client.write("\(front)/\(name)", value) }
        try client.write(front + "/state", "3")
        #expect(eventually(20_000) { pair.state() == 5 }, "\(pair.log.all)")
        let error = "/local/domain/0/error/backend/vdevice/1/0/error"
        #expect(try pair.store.value(error)?.isEmpty == false)
        #expect(pair.balloon.watchers.count == 0)
        // The frontend's own two ports and two grants, and nothing of them in use.
        #expect(eventually(10_000) { host.usage.mappings == 0 && host.usage.ports == 2 }, "\(host.usage)")
        for channel in channels { channel.close() }
        for offer in offers { offer.withdraw() }
        try client.write(front + "/state", "6")
        #expect(eventually(20_000) { pair.state() == 6 })
        for name in keys.merging(lie, uniquingKeysWith: { $1 }).keys { try? client.remove("\(front)/\(name)") }
        try client.write(front + "/state", "1")
        let frontend = try pair.frontend()
        try pair.balloon.setTarget(3)
        #expect(eventually(20_000) { (try? BalloonReading(frontend.read()).target) == 3 })
        frontend.close()
        pair.stop()
    }

    /// Both pages scribbled over and the doorbell rung without end, while an honest device beside it is used.
    @Test func PG6_aFrontendThatScribblesAndRingsHarmsNobody() throws {
        let host = InProcessHost(time: .system)
        let guest = host.domain(1)
        let pair = try BusPair(host.domain(0), guest)
        let log = pair.log
        let other = Balloon(mostPages: 1000)
        try pair.bus.add(FlatBusDevice(other, name: "other") { log.add($0) })
        let honest = try FlatClient.balloon("other", on: pair.bus.join())
        #expect(eventually(20_000) { pair.state() == 2 })
        let offers = try (0..<2).map { try guest.offerPages(1, to: .zero, access: $0 == 0 ? .readWrite : .readOnly) }
        let channels = try (0..<2).map { _ in try guest.allocateChannel(for: .zero) }
        let client = try guest.connectStore()
        let front = BusPair<InProcessHypervisor>.front
        try client.write(front + "/version", "1")
        for index in 0..<2 {
            try client.write("\(front)/share-\(index)/page-ref", "\(offers[index].references[0])")
            try client.write("\(front)/share-\(index)/event-channel", "\(channels[index].port)")
            try client.write("\(front)/share-\(index)/read-only", "\(index)")
        }
        try client.write(front + "/state", "3")
        #expect(eventually(20_000) { pair.state() == 4 }, "\(pair.log.all)")
        var random = SplitMix(5)
        for round in 0..<5000 {
            for offer in offers { offer.region.store(UInt32(truncatingIfNeeded: random.next()), at: Int(random.next() % 1024) * 4) }
            offers[1].region.storeRelaxed(UInt32(round), at: 0)
            for channel in channels { channel.notify() }
            if round % 100 == 0 {
                try pair.balloon.setTarget(UInt32(round % 1000))
                try other.setTarget(UInt32(round % 1000))
                #expect(try honest.target() == UInt32(round % 1000))
            }
        }
        #expect(pair.balloon.actual <= 1000 && pair.state() == 4)
        #expect(pair.log.all.filter { $0.hasPrefix("balloon: ") }.count <= 4)
        for channel in channels { channel.close() }
        try client.write(front + "/state", "6")
        #expect(eventually(20_000) { pair.state() == 6 && pair.balloon.watchers.count == 0 }, "\(pair.log.all)")
        pair.stop()
    }
}
