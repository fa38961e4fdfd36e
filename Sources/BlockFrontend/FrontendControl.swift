// The control thread of a block frontend: watches the backend, asks FrontendMachine what to do, does it.

import Hypervisor
import LinuxSystem
import SharedMemory
import SharedRing
import XenBus
import XenStore
import XenWire

/// The handshake's state; lives on the control thread.
final class FrontendControl<H: Hypervisor> {
    let owner: BlockFrontend<H>
    let path: FrontendPath
    var client: StoreClient?
    var backendPath = ""
    var backend = DomainID.zero
    var phase = FrontendPhase.detached
    var links: [Link] = []
    var agreed: (offer: BlockOffer, order: UInt32)?

    /// One queue's rings, offered and published.
    struct Link {
        let ring: any OfferedPages
        let channel: any EventChannel
    }

    init(_ owner: BlockFrontend<H>) {
        self.owner = owner
        path = FrontendPath(domain: owner.hypervisor.domain, kind: .block, number: owner.device)
    }

    /// Until stopped: connects to the store and follows the backend. A store that goes away does not touch the data path.
    func run() {
        while !owner.stopping.load(ordering: .relaxed) {
            do throws(XenbusError) {
                let client = try open()
                try follow(client)
            } catch {
                if !error.isDisconnected {
                    owner.log("vbd \(owner.device): \(error)")
                    // Said where the toolstack looks, and closed, so that the backend lets go; nothing follows.
                    try? client?.fail(path.path, errorNode: path.errorNode, number: 22, "\(error)")
                    giveUp(owner.status.withLock { $0.broken } ?? .negotiation("vbd \(owner.device): \(error)"))
                    forgetStore()
                    return
                }
            }
            // Shutting down in good order still needs the store.
            if owner.stopping.load(ordering: .relaxed) { break }
            forgetStore()
            sleepMilliseconds(100)
        }
        shutDown()
    }

    private func open() throws(XenbusError) -> StoreClient {
        do throws(HypervisorError) {
            let client = try owner.hypervisor.connectStore()
            self.client = client
            owner.store.withLock { $0 = client }
        } catch { throw .store(.disconnected("\(error)")) }
        let client = client!
        backendPath = try client.requiredText(path.path + "/backend")
        let named: UInt16 = try client.requiredNumber(path.path + "/backend-id", in: 0...0x7FEF)
        backend = DomainID(named)
        // The path is the toolstack's, who names the backend's domain in it; anything else is not a backend of ours (item 28).
        guard backendPath.hasPrefix("/local/domain/\(backend)/backend/") else {
            throw .malformed(
                MalformedNode(path.path + "/backend", "is \(StoreNumber.quote(backendPath)), not in domain \(backend)"))
        }
        do throws(StoreError) {
            try client.watch(path.path + "/backend", token: "self")
            try client.watch(backendPath + "/state", token: "backend")
            try client.watch(backendPath + "/online", token: "backend")
        } catch { throw .store(error) }
        return client
    }

    private func forgetStore() {
        owner.store.withLock { $0 = nil }
        client?.close()
        client = nil
    }

    private func follow(_ client: StoreClient) throws(XenbusError) {
        while !owner.stopping.load(ordering: .relaxed) {
            if let broken = owner.status.withLock({ $0.broken }) { throw .malformed(MalformedNode(backendPath, "\(broken)")) }
            if owner.resuming.exchange(false, ordering: .relaxed), phase != .detached { try suspend(client) }
            while try act(client) {}
            if owner.stopping.load(ordering: .relaxed) { return }
            do throws(StoreError) { _ = try client.nextEvent(milliseconds: -1) } catch { throw .store(error) }
        }
    }

    /// One step; true if there may be another.
    private func act(_ client: StoreClient) throws(XenbusError) -> Bool {
        if owner.stopping.load(ordering: .relaxed) { return false }
        let step = FrontendMachine.next(
            own: try client.state(of: path.path), backend: try client.state(of: backendPath), phase: phase,
            online: try client.flag(backendPath + "/online"), ownExists: try client.text(path.path + "/state") != nil)
        switch step {
        case .wait: return false
        case .publish: try publish(client)
        case .goLive: try goLive(client)
        case .refresh:
            try refresh(client)
            return false
        case .suspend: try suspend(client)
        case .restart: try client.switchState(of: path.path, to: .initialising)
        case .remove:
            giveUp(.removed)
            owner.stopping.store(true, ordering: .relaxed)
            return false
        }
        return true
    }

    // MARK: Steps

    private func publish(_ client: StoreClient) throws(XenbusError) {
        let offer = try BlockOffer.read(from: client, at: backendPath)
        let order = min(owner.options.ringPageOrder, offer.ringPageOrder)
        do throws(BlockFrontendError) { try makeQueues(offer) } catch {
            throw .malformed(MalformedNode(backendPath, "\(error)"))
        }
        let count = owner.queueCount
        guard count <= Int(offer.queues) else {
            throw .malformed(
                MalformedNode(backendPath + "/multi-queue-max-queues", "is \(offer.queues); this disk already has \(count)"))
        }
        do throws(HypervisorError) {
            for _ in 0..<count {
                let ring = try owner.hypervisor.offerPages(1 << Int(order), to: backend, access: .readWrite)
                // Laid out before anybody is told of it.
                _ = FrontRing(initialising: ring.region, BlockRing(owner.options.abi))
                links.append(Link(ring: ring, channel: try owner.hypervisor.allocateChannel(for: backend)))
            }
        } catch {
            releaseLinks()
            throw .malformed(MalformedNode(path.path, "no ring could be offered: \(error)"))
        }
        let keys = BlockRequestKeys(
            abi: owner.options.namesABI ? owner.options.abi.node : nil, persistent: owner.options.persistentGrants,
            queues: links.map { QueueKeys(ring: $0.ring.references, port: $0.channel.port) })
        let directory = path.path
        try client.atomically { store throws(XenbusError) in
            try keys.write(to: store, at: directory)
            try store.put(directory + "/state", XenbusState.initialised.rawValue)
        }
        agreed = (offer, order)
        setPhase(.published)
    }

    private func goLive(_ client: StoreClient) throws(XenbusError) {
        let properties = try BlockProperties.read(from: client, at: backendPath)
        let offered = try BlockOffer.read(from: client, at: backendPath)
        let segments = max(11, min(owner.options.segments, Int(offered.indirectSegments)))
        let agreement = BlockAgreement(
            properties: properties, segments: segments,
            persistent: properties.persistent && owner.options.persistentGrants)
        let mailboxes = owner.status.withLock { status in
            status.properties = properties
            status.connections += 1
            return status.mailboxes
        }
        for (mailbox, link) in zip(mailboxes, links) {
            mailbox.post(
                .connected(
                    QueueConnection(ring: link.ring, channel: link.channel, abi: owner.options.abi, agreement: agreement)))
        }
        try client.switchState(of: path.path, to: .connected)
        setPhase(.live)
        owner.log(
            "vbd \(owner.device): connected: \(properties.sectors) sectors of 512 bytes, \(links.count) queues of "
                + "\(links.first?.ring.references.count ?? 0) ring pages, \(segments) segments"
                + (agreement.persistent ? ", persistent grants" : ""))
    }

    private func refresh(_ client: StoreClient) throws(XenbusError) {
        guard let sectors = try client.number(backendPath + "/sectors", in: 0...(UInt64(1) << 54) - 1) else { return }
        let mailboxes = owner.status.withLock { status -> [QueueMailbox] in
            guard status.properties?.sectors != sectors else { return [] }
            status.properties?.sectors = sectors
            return status.mailboxes
        }
        for mailbox in mailboxes { mailbox.post(.resized(sectors)) }
        if !mailboxes.isEmpty { owner.log("vbd \(owner.device): resized to \(sectors) sectors of 512 bytes") }
    }

    private func suspend(_ client: StoreClient) throws(XenbusError) {
        if phase == .live { owner.log("vbd \(owner.device): the backend went away; holding what is in flight") }
        for mailbox in owner.status.withLock({ $0.mailboxes }) { mailbox.post(.suspended) }
        releaseLinks()
        setPhase(.detached)
        try client.switchState(of: path.path, to: .closed)
    }

    // MARK: Resources

    private func releaseLinks() {
        for link in links {
            link.channel.close()
            link.ring.withdraw()
        }
        links = []
        agreed = nil
    }

    private func makeQueues(_ offer: BlockOffer) throws(BlockFrontendError) {
        guard owner.queueCount == 0 else { return }
        let options = owner.options
        let count = max(1, min(options.queues, Int(offer.queues)))
        // An id for each slot of the largest ring we might be given, so that a reconnect never needs more.
        let largest = RingGeometry(
            byteCount: SharedRegion.pageSize << Int(min(options.ringPageOrder, BlockOffer.mostRingPageOrder)),
            slotSize: options.abi.layout.slotSize)
        let ids = Int(largest.slotCount)
        let segments = max(11, min(options.segments, BlockProtocol.maximumIndirectSegments))
        let descriptorPages = segments > 11 ? (segments + 511) / 512 : 0
        var blueprints: [BlockFrontend<H>.QueueBlueprint] = []
        do {
            for _ in 0..<count {
                blueprints.append(
                    .init(
                        mailbox: try QueueMailbox { [owner] in owner.queueFailed($0) },
                        pages: try owner.hypervisor.offerPages(options.bufferPages, to: backend, access: .readWrite),
                        indirect: try owner.hypervisor.offerPages(
                            max(1, ids * descriptorPages), to: backend, access: .readWrite),
                        indirectPagesEach: descriptorPages, requestIDs: ids))
            }
        } catch { throw .negotiation("buffers: \(error)") }
        owner.status.withLock { status in
            status.mailboxes = blueprints.map(\.mailbox)
            status.blueprints = blueprints
        }
    }

    private func setPhase(_ new: FrontendPhase) {
        phase = new
        owner.status.withLock { $0.phase = new }
        signalPipe(owner.changed.writer)
    }

    private func giveUp(_ error: BlockFrontendError) {
        let mailboxes = owner.status.withLock { status in
            status.failure = error
            return status.mailboxes
        }
        for mailbox in mailboxes { mailbox.post(.lost(error)) }
        releaseLinks()
        setPhase(.detached)
    }

    private func shutDown() {
        defer {
            forgetStore()
            signalPipe(owner.changed.writer)
        }
        let mailboxes = owner.status.withLock { $0.mailboxes }
        for mailbox in mailboxes { mailbox.post(.lost(.removed)) }
        guard phase != .detached else { return }
        // Rings are withdrawn only after the backend let go, or the grants would end later than we do.
        if let client {
            _ = try? client.switchState(of: path.path, to: .closing)
            let deadline = monotonicMilliseconds() + 2000
            while monotonicMilliseconds() < deadline, (try? client.state(of: backendPath)).map({ $0 == .connected }) ?? false {
                _ = try? client.nextEvent(milliseconds: 100)
            }
            _ = try? client.switchState(of: path.path, to: .closed)
        }
        releaseLinks()
    }
}
