// A flat device's steps on its frontend's control thread: pages and doorbells for each connection.

import DriverRuntime
import Hypervisor
import LinuxSystem
import PageDevices
import Reactor
import XenBus
import XenStore
import XenTypes

/// What FrontendFollower asks of a flat device; lives on the control thread.
final class FlatFrontendDriver<H: Hypervisor>: FrontendDriver {
    private let owner: FlatFrontend<H>
    private let path: FrontendPath
    private var links: [(pages: any OfferedPages, channel: any EventChannel)] = []
    private var bell: FrontBell?

    init(_ owner: FlatFrontend<H>, _ path: FrontendPath) {
        self.owner = owner
        self.path = path
    }

    var publishedState: XenbusState { .initialised }

    func publish(_ store: StoreClient, to backend: DomainID, at backendPath: String) throws(XenbusError) {
        let offer = try BusOffer.read(from: store, at: backendPath)
        let layout = owner.layout
        let needed = layout.writable.isEmpty ? 1 : 2
        guard offer.type == layout.type, offer.shares >= needed, offer.versions.contains(1) else {
            throw .unusable("\(backendPath): is a \(StoreNumber.quote(offer.type)) of \(offer.shares) shares, not a \(layout.type)")
        }
        do throws(HypervisorError) {
            for index in 0..<needed {
                // The driver's page is only read by the other side.
                let access: GrantAccess = index == FlatShare.device ? .readWrite : .readOnly
                let pages = try owner.hypervisor.offerPages(1, to: backend, access: access)
                do throws(HypervisorError) {
                    links.append((pages, try owner.hypervisor.allocateChannel(for: backend)))
                } catch {
                    pages.withdraw()
                    throw error
                }
            }
        } catch {
            release()
            throw .malformed(MalformedNode(path.path, "no page could be offered: \(error)"))
        }
        let directory = path.path
        let keys = links.enumerated().map { index, link in
            BusShareKeys(page: link.pages.references[0], port: link.channel.port, isReadOnly: index == FlatShare.driver)
        }
        try store.atomically { access throws(XenbusError) in
            try access.put(directory + "/version", 1)
            for (index, share) in keys.enumerated() { try share.write(to: access, at: directory, index) }
            try access.put(directory + "/state", XenbusState.initialised.rawValue)
        }
    }

    func goLive(_ store: StoreClient, _ backendPath: String) throws(XenbusError) {
        guard let first = links.first else { return }
        let driver = links.count > 1 ? links[1] : nil
        let pages = FlatPages(owner.layout, device: first.pages.region, driver: driver?.pages.region)
        let own = owner.state.withLock { state in
            state.pages = pages
            if let channel = driver?.channel { state.ring = { channel.notify() } }
            return state.own
        }
        // What an earlier backend was told.
        for (offset, bytes) in own { try? pages.write(bytes, at: offset) }
        if !own.isEmpty { driver?.channel.notify() }
        bell = FrontBell(first.channel, on: owner.reactor, owner.changed)
        owner.changed()
    }

    func refresh(_ store: StoreClient, _ backendPath: String) throws(XenbusError) {}

    func suspend() {
        owner.state.withLock { state in
            state.pages = nil
            state.ring = nil
        }
        release()
    }

    func giveUp(_ reason: String?) {
        owner.state.withLock { $0.failure = reason ?? "the device was taken away" }
        if let reason { owner.log("vdevice \(owner.number): \(reason)") }
        signalPipe(owner.news.writer)
    }

    func changed(to phase: FrontendPhase, isAsked: Bool) {
        if phase == .detached, !isAsked { owner.log("vdevice \(owner.number): the backend went away") }
        signalPipe(owner.news.writer)
    }

    private func release() {
        bell?.end()
        bell = nil
        for link in links {
            link.channel.close()
            link.pages.withdraw()
        }
        links = []
    }
}

/// The device's doorbell, on the frontend's reactor.
private final class FrontBell: ReactorClient, @unchecked Sendable {
    private let reactor: Reactor
    private let rung: @Sendable () -> Void
    private var doorbell: Doorbell
    private var slot: ReactorSlot?

    /// How often a backend's doorbell is heard at most.
    private static let pauseMicroseconds: UInt64 = 100

    init(_ channel: any EventChannel, on reactor: Reactor, _ rung: @escaping @Sendable () -> Void) {
        self.reactor = reactor
        self.rung = rung
        doorbell = Doorbell(channel, bellTag: 0, pauseTag: 1)
        reactor.run { [self] in
            let slot = reactor.attach(self)
            self.slot = slot
            doorbell.arm(reactor, slot)
        }
    }

    func end() {
        reactor.run { [self] in
            if let slot { reactor.detach(slot) }
            slot = nil
        }
    }

    func poll() -> Bool { false }
    func prepareToSleep() -> Bool { false }

    func completed(tag: UInt32, result: Int32) {
        let heard = doorbell.rings
        guard let slot, doorbell.completed(tag: tag) else { return }
        // After a pause it may not have rung.
        if doorbell.rings != heard { rung() }
        doorbell.foundWork()
        if tag == 0 { doorbell.pause(Self.pauseMicroseconds, reactor, slot) }
        doorbell.arm(reactor, slot)
    }
}
