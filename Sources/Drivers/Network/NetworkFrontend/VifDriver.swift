// A vif's steps on the control thread: offers memory once and rings for each connection, agrees on features, asks for
// mappings.

import Hypervisor
import LinuxSystem
import NetworkProtocol
import Reactor
import SharedMemory
import SharedRing
import XenBus
import XenStore
import XenTypes

/// What FrontendFollower asks of a vif.
final class VifDriver<H: Hypervisor>: FrontendDriver {
    private let owner: NetworkFrontend<H>
    private let reactors: [Reactor]
    private var backend = DomainID.zero
    private var pages: [QueuePages] = []
    private var links: [QueueLink] = []
    private var control: (ring: any OfferedPages, channel: any EventChannel)?
    private var list: (any OfferedPages)?

    init(_ owner: NetworkFrontend<H>, _ reactors: [Reactor]) {
        self.owner = owner
        self.reactors = reactors
    }

    private var name: String { "vif \(owner.number)" }
    /// A vif never shows state 3: it goes from 1 to 4.
    var publishedState: XenbusState { .connected }

    func publish(_ store: StoreClient, to backend: DomainID, at backendPath: String) throws(XenbusError) {
        self.backend = backend
        let options = owner.options
        let offer = try NetworkOffer.read(from: store, at: backendPath)
        // As many as this backend takes, which may be others than the last one took.
        let count = max(1, min(options.queues, Int(offer.queues), owner.device.mostQueues))
        if pages.count != count {
            if owner.device.mostQueues < min(options.queues, Int(offer.queues)) {
                owner.log("\(name): \(owner.device.name) was made for \(owner.device.mostQueues) queue: no more are asked for")
            }
            releaseEngine()
            try makeEngine(count)
        }
        var features = options.features
        features.formIntersection(offer.features)
        features = features.consistent
        do throws(HypervisorError) {
            let most = features.pages(forMTU: owner.device.mtu)
            for _ in pages { links.append(try makeLink(features, most, split: options.splitChannels && offer.splitChannels)) }
            if options.controlRing && offer.controlRing {
                let ring = try offerRing(ControlRing())
                control = (ring, try owner.hypervisor.allocateChannel(for: backend))
            }
        } catch {
            suspend()
            throw .malformed(MalformedNode(backendPath, "no ring could be offered: \(error)"))
        }
        let keys = NetworkRequestKeys(
            queues: links.map {
                NetworkQueueKeys(
                    transmit: $0.transmitRing.references[0], receive: $0.receiveRing.references[0], port: $0.bell.port,
                    receivePort: $0.receiveBell?.port)
            }, control: control.map { ControlKeys(ring: $0.ring.references[0], port: $0.channel.port) },
            features: options.features, multicastControl: options.multicastControl && offer.multicastControl)
        let path = FrontendPath(domain: owner.hypervisor.domain, kind: .network, number: owner.number).path
        try store.atomically { access throws(XenbusError) in
            try keys.write(to: access, at: path, manyQueuesOffered: offer.queues > 1)
            try access.put(path + "/state", XenbusState.connected.rawValue)
        }
    }

    private func offerRing<P: RingProtocol>(_ contents: P) throws(HypervisorError) -> any OfferedPages {
        let ring = try owner.hypervisor.offerPages(1, to: backend, access: .readWrite)
        // Laid out before anybody is told of it.
        _ = FrontRing(initialising: ring.region, contents)
        return ring
    }

    private func makeLink(_ features: NetworkFeatures, _ most: Int, split: Bool) throws(HypervisorError) -> QueueLink {
        let transmit = try offerRing(TransmitRing())
        let receive = try offerRing(ReceiveRing())
        return QueueLink(
            transmitRing: transmit, receiveRing: receive, bell: try owner.hypervisor.allocateChannel(for: backend),
            receiveBell: split ? try owner.hypervisor.allocateChannel(for: backend) : nil, features: features, pages: most,
            transmitDrops: owner.transmitDrops, receiveDrops: owner.receiveDrops)
    }

    /// Memory and device queues, for as many connections as have this number of queues: a device spreads frames over
    /// all that are open, so there may be no more than are served.
    private func makeEngine(_ count: Int) throws(XenbusError) {
        let owner = owner
        do throws(HypervisorError) {
            for _ in 0..<count {
                pages.append(
                    QueuePages(
                        transmit: try owner.hypervisor.offerPages(QueuePages.count, to: backend, access: .readOnly),
                        receive: try owner.hypervisor.offerPages(QueuePages.count, to: backend, access: .readWrite)))
            }
            list = try owner.hypervisor.offerPages(1, to: backend, access: .readWrite)
        } catch { throw .malformed(MalformedNode(name, "no memory could be offered: \(error)")) }
        let earlier = owner.status.withLock { $0.earlier }
        // Weak: the owner has the engine, and would never go away.
        let broke: @Sendable (String) -> Void = { [weak owner] in owner?.quarantine($0) }
        do throws(Errno) {
            let engine = try FrontendEngine(
                reactors: reactors, device: owner.device, pages: pages, earlier: earlier, broke: broke)
            owner.status.withLock { $0.engine = engine }
            if let faults = owner.faults { engine.follow(faults) }
        } catch { throw .malformed(MalformedNode(name, "\(owner.device.name): opening a queue: \(error)")) }
    }

    func goLive(_ store: StoreClient, _ backendPath: String) throws(XenbusError) {
        guard let engine = owner.status.withLock({ $0.engine }) else { return }
        let features = links.first?.features ?? []
        do { try owner.device.setOffloads(features.abilities.deviceOffloads) } catch {
            throw .malformed(MalformedNode(name, "\(owner.device.name): setting offloads: \(error)"))
        }
        limitMTU(features)
        let mapped = mapPages()
        engine.connect(links)
        try followCarrier(store, backendPath)
        owner.status.withLock { status in
            status.connections += 1
            status.mappedPages = mapped
            status.features = features
        }
        note(
            "\(name): connected: \(owner.device.name), \(links.count) queues, \(features), "
                + (mapped > 0 ? "\(mapped) pages stay mapped" : "pages are copied"))
    }

    /// Sees to it that the device shows no MTU whose frames the backend cannot take.
    private func limitMTU(_ features: NetworkFeatures) {
        do throws(Errno) {
            guard let change = try owner.device.limitMTU(to: features.mostMTU) else { return }
            note("\(name): \(owner.device.name): \(change): the backend takes no larger frames")
        } catch { owner.log("\(name): \(owner.device.name): its mtu cannot be limited to \(features.mostMTU): \(error)") }
    }

    /// Asks for all pages of all queues to stay mapped; how many are.
    private func mapPages() -> Int {
        guard owner.options.mapsGrants, let control, let list else { return 0 }
        var client = ControlClient(control.ring, control.channel, owner.hypervisor.time)
        var mapped = 0
        for (index, pages) in pages.enumerated() {
            mapped += client.map(
                [(pages.receive.references, false), (pages.transmit.references, true)], queue: UInt32(index), list: list)
        }
        if client.isBroken { owner.log("\(name): the backend does not answer its control ring; going on without") }
        return mapped
    }

    func refresh(_ store: StoreClient, _ backendPath: String) throws(XenbusError) { try followCarrier(store, backendPath) }

    /// Whether there is another end to the backend's wire. Absent means that there is (protocol-rules.md 44).
    private func followCarrier(_ store: StoreClient, _ backendPath: String) throws(XenbusError) {
        let isUp = try store.text(backendPath + "/carrier") != "0"
        guard isUp != owner.status.withLock({ $0.hasCarrier }) else { return }
        // An interface that cannot show it (no tap, an old kernel) works without.
        do { try owner.device.setCarrier(isUp) } catch { owner.log("\(name): carrier: \(error)") }
        owner.status.withLock { $0.hasCarrier = isUp }
        note("\(name): carrier \(isUp ? "on" : "off")")
        signalPipe(owner.changed.writer)
    }

    func suspend() {
        owner.status.withLock { $0.engine }?.disconnect()
        for link in links { link.release() }
        links = []
        control?.channel.close()
        control?.ring.withdraw()
        control = nil
    }

    /// Ends the device's queues and takes their memory back; what they have counted stays.
    private func releaseEngine() {
        if let engine = owner.status.withLock({ $0.engine }) {
            owner.faults?.unwatch(engine)
            engine.close()
            owner.status.withLock { $0.earlier = engine.statistics }
        }
        for pages in pages {
            pages.transmit.withdraw()
            pages.receive.withdraw()
        }
        pages = []
        list?.withdraw()
        list = nil
    }

    func giveUp(_ reason: String?) {
        owner.status.withLock { $0.failure = reason.map { .negotiation($0) } ?? .removed }
        releaseEngine()
        if let reason { owner.log("\(name): \(reason)") }
    }

    /// One line for the log that tells of nothing wrong.
    private func note(_ line: String) { (owner.options.notes ?? owner.log)(line) }

    func changed(to phase: FrontendPhase, isAsked: Bool) {
        let wasLive = owner.status.withLock { status in
            defer { status.phase = phase }
            return status.phase == .live
        }
        if wasLive, phase == .detached, !isAsked { owner.log("\(name): the backend went away") }
        signalPipe(owner.changed.writer)
    }
}
