// A vbd's steps on the control thread: offers memory once and rings for each connection, reads what the backend
// published.

import BlockProtocol
import Hypervisor
import LinuxSystem
import SharedMemory
import SharedRing
import XenBus
import XenStore
import XenTypes

/// What FrontendFollower asks of a vbd; lives on the control thread.
final class VbdDriver<H: Hypervisor>: FrontendDriver {
    private let owner: BlockFrontend<H>
    private let path: FrontendPath
    private var backend = DomainID.zero
    private var links: [Link] = []

    /// One queue's rings, offered and published.
    private struct Link {
        let ring: any OfferedPages
        let channel: any EventChannel
    }

    init(_ owner: BlockFrontend<H>) {
        self.owner = owner
        path = owner.follower.path
    }

    private var name: String { "vbd \(owner.device)" }
    var publishedState: XenbusState { .initialised }

    // MARK: Steps

    func publish(_ client: StoreClient, to backend: DomainID, at backendPath: String) throws(XenbusError) {
        self.backend = backend
        let offer = try BlockOffer.read(from: client, at: backendPath)
        let order = min(owner.options.ringPageOrder, offer.ringPageOrder)
        do throws(BlockFrontendError) { try makeQueues(offer) } catch {
            throw .malformed(MalformedNode(backendPath, "\(error)"))
        }
        // A backend that returns may take fewer than the last.
        let count = max(1, min(owner.queueCount, Int(offer.queues)))
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
    }

    func goLive(_ client: StoreClient, _ backendPath: String) throws(XenbusError) {
        let properties = try BlockProperties.read(from: client, at: backendPath)
        let offered = try BlockOffer.read(from: client, at: backendPath)
        // As in Linux: a toolstack that says nothing trusts it.
        let isTrusted = try client.number(path.path + "/trusted", in: 0...1) != 0
        let segments = max(11, min(owner.options.segments, Int(offered.indirectSegments)))
        let agreement = BlockAgreement(
            properties: properties, segments: segments,
            persistent: properties.persistent && owner.options.persistentGrants, isTrusted: isTrusted)
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
        for mailbox in mailboxes.dropFirst(links.count) { mailbox.post(.displaced) }
        // Now that each has its news: who is displaced asks those that are not.
        let served = links.count
        owner.status.withLock { $0.servedQueues = served }
        note(
            "\(name): connected: \(properties.sectors) sectors of 512 bytes, \(served) queues of "
                + "\(links.first?.ring.references.count ?? 0) ring pages, \(segments) segments"
                + (agreement.persistent ? ", persistent grants" : "") + (isTrusted ? "" : ", not trusted"))
    }

    func refresh(_ client: StoreClient, _ backendPath: String) throws(XenbusError) {
        guard let sectors = try client.number(backendPath + "/sectors", in: 0...(UInt64(1) << 54) - 1) else { return }
        let mailboxes = owner.status.withLock { status -> [QueueMailbox] in
            guard status.properties?.sectors != sectors else { return [] }
            status.properties?.sectors = sectors
            return status.mailboxes
        }
        for mailbox in mailboxes { mailbox.post(.resized(sectors)) }
        if !mailboxes.isEmpty { note("\(name): resized to \(sectors) sectors of 512 bytes") }
    }

    func suspend() {
        for mailbox in owner.status.withLock({ $0.mailboxes }) { mailbox.post(.suspended) }
        releaseLinks()
    }

    func giveUp(_ reason: String?) {
        let (mailboxes, failure, wasConnected) = owner.status.withLock { status in
            let failure = reason.map { status.broken ?? .negotiation("\(name): \($0)") } ?? .removed
            status.failure = failure
            return (status.mailboxes, failure, status.connections > 0)
        }
        for mailbox in mailboxes { mailbox.post(.lost(failure)) }
        // Before the first connection whoever waits for that is told, and says it.
        if let reason, wasConnected { owner.log("\(name): \(reason)") }
        owner.ended(failure)
    }

    /// One line for the log that tells of nothing wrong.
    private func note(_ line: String) { (owner.options.notes ?? owner.log)(line) }

    func changed(to phase: FrontendPhase, isAsked: Bool) {
        let wasLive = owner.status.withLock { status in
            defer { status.phase = phase }
            return status.phase == .live
        }
        if wasLive, phase == .detached, !isAsked { owner.log("\(name): the backend went away; holding what is in flight") }
        signalPipe(owner.changed.writer)
    }

    // MARK: Resources

    private func releaseLinks() {
        for link in links {
            link.channel.close()
            link.ring.withdraw()
        }
        links = []
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
        let segments = max(11, min(options.segments, BlockLimits.maximumIndirectSegments))
        let descriptorPages = segments > 11 ? (segments + 511) / 512 : 0
        var blueprints: [QueueBlueprint] = []
        do {
            for _ in 0..<count {
                blueprints.append(
                    .init(
                        // It is the owner's, whom it must not keep.
                        mailbox: try QueueMailbox { [weak owner] in owner?.queueFailed($0) },
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
        if owner.faults?.isEmpty == false { owner.tellFaults() }
    }
}
