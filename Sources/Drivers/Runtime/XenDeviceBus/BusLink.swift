// A frontend's connection to a device on a bus: its pages mapped, its doorbells both ways.

import DeviceBus
import DriverRuntime
import Hypervisor
import Interrupts
import LinuxSystem
import Reactor
import SharedMemory
import XenBus
import XenTypes

/// One connection. Its doorbells are its reactor's; the rest is the control thread's.
final class BusLink: ReactorClient, @unchecked Sendable {
    private let hypervisor: any Hypervisor
    private let connection: BusConnection
    private let pages: [any ContiguousGrants]
    private let channels: [any EventChannel]
    /// What the device signals by: a vector for each share, which leads to the frontend's port.
    private let vectors: InterruptVectors
    private var bells: [Bell] = []
    private var slot: ReactorSlot?
    private var owner: Reactor?

    /// A doorbell of the frontend's.
    private final class Bell {
        let index: Int
        var doorbell: Doorbell
        init(_ index: Int, _ doorbell: consuming Doorbell) {
            self.index = index
            self.doorbell = doorbell
        }
    }

    /// How often a frontend's doorbell is heard at most: it carries nothing, and a device may have to look at a page.
    private static let pauseMicroseconds: UInt64 = 100

    /// Maps, binds, opens and shares; of what fails half-way nothing stays.
    static func make(
        _ name: String, version: UInt32, _ shares: [(Int, BusShareKeys)], of frontend: DomainID, _ hypervisor: any Hypervisor,
        _ member: BusMember, _ interrupts: InterruptTable, ended: @escaping @Sendable (String) -> Void
    ) throws(DriverFailure) -> BusLink {
        var (pages, channels): ([any ContiguousGrants], [any EventChannel]) = ([], [])
        do {
            for (_, keys) in shares {
                pages.append(
                    try hypervisor.mapContiguous([keys.page], of: frontend, access: keys.isReadOnly ? .readOnly : .readWrite))
                channels.append(try hypervisor.bindChannel(remote: frontend, port: keys.port))
            }
            let connection = try member.open(name, version: version, closed: ended)
            do {
                let (vectors, source) = try interrupts.attach(device: name, vectors: max(1, shares.count))
                for (place, share) in shares.enumerated() {
                    try vectors.route(place, to: .peer(channels[place]))
                    let line = try source.line(UInt32(place))
                    try connection.share(share.0, BusArea(pages[place].region), signal: .action { line.raise() })
                }
                return BusLink(hypervisor, connection, pages, channels, vectors, shares.map(\.0))
            } catch {
                connection.close()
                throw error
            }
        } catch {
            for channel in channels { channel.close() }
            for page in pages { page.unmap() }
            throw .refused(number: Errno.invalidArgument.rawValue, "\(error)")
        }
    }

    private init(
        _ hypervisor: any Hypervisor, _ connection: BusConnection, _ pages: [any ContiguousGrants], _ channels: [any EventChannel],
        _ vectors: InterruptVectors, _ shares: [Int]
    ) {
        self.hypervisor = hypervisor
        self.connection = connection
        self.pages = pages
        self.channels = channels
        self.vectors = vectors
        bells = zip(shares, channels).enumerated().map { place, share in
            Bell(share.0, Doorbell(share.1, bellTag: UInt32(2 * place), pauseTag: UInt32(2 * place + 1)))
        }
    }

    /// Waits for the frontend's doorbells from now on. What it wrote before is looked at.
    func listen(on reactor: Reactor, gone: @escaping @Sendable () -> Void) {
        for channel in channels { channel.whenPeerCloses(gone) }
        reactor.run { [self] in
            let slot = reactor.attach(self)
            (self.slot, owner) = (slot, reactor)
            for bell in bells {
                try? connection.signal(bell.index)
                bell.doorbell.arm(reactor, slot)
            }
        }
    }

    /// Ends everything; `then` comes once nothing of the frontend's is mapped.
    func close(on reactor: Reactor, _ then: @escaping @Sendable () -> Void) {
        reactor.post { [self] in
            if let slot { reactor.detach(slot) }
            slot = nil
            bells = []
            connection.close()
            vectors.detach()
            for channel in channels { channel.close() }
            for page in pages { page.unmap() }
            then()
        }
    }

    // MARK: The reactor's calls

    func poll() -> Bool { false }
    func prepareToSleep() -> Bool { false }

    func completed(tag: UInt32, result: Int32) {
        guard let owner, let slot, Int(tag / 2) < bells.count else { return }
        let bell = bells[Int(tag / 2)]
        let heard = bell.doorbell.rings
        guard bell.doorbell.completed(tag: tag) else { return }
        // After a pause it may not have rung.
        if bell.doorbell.rings != heard { try? connection.signal(bell.index) }
        bell.doorbell.foundWork()
        if tag % 2 == 0 { bell.doorbell.pause(Self.pauseMicroseconds, owner, slot) }
        bell.doorbell.arm(owner, slot)
    }
}
