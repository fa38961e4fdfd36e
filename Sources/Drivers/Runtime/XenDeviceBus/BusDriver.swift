// One device of a bus for one frontend: states 1 to 6 become open, share and close; its doorbells are on a reactor.

import DeviceBus
import DriverRuntime
import Hypervisor
import Interrupts
import LinuxSystem
import Reactor
import XenBus
import XenStore
import XenTypes

/// What the control thread is told of a device.
enum BusNews: Sendable {
    /// The device has ended the connection, or was taken from its bus; why.
    case ended(connection: Int, String)
    /// The frontend's end of a doorbell is closed: its process is gone, or it lets go.
    case gone(connection: Int)
    /// Nothing of the frontend's is touched any more.
    case drained
}

/// What BackendFollower asks of a device on a bus; lives on the control thread.
final class BusDriver: BackendDriver {
    typealias News = BusNews
    private let path: BackendPath
    private let hypervisor: any Hypervisor
    private let member: BusMember
    private let reactor: Reactor
    private let interrupts: InterruptTable
    private let report: @Sendable (BusNews) -> Void
    private let log: @Sendable (String) -> Void
    private var name: String?
    private var link: BusLink?
    /// Which connection this is: news of one before are old.
    private var connection = 0

    init(
        path: BackendPath, hypervisor: any Hypervisor, member: BusMember, reactor: Reactor, interrupts: InterruptTable,
        report: @escaping @Sendable (BusNews) -> Void, log: @escaping @Sendable (String) -> Void
    ) {
        self.path = path
        self.hypervisor = hypervisor
        self.member = member
        self.reactor = reactor
        self.interrupts = interrupts
        self.report = report
        self.log = log
    }

    var holdsRings: Bool { link != nil }
    var isOpen: Bool { name != nil }

    func announce(_ store: StoreClient) throws(DriverFailure) {
        let directory = path.path
        do throws(XenbusError) {
            let name = try store.requiredText(directory + "/bus-device")
            guard let found = member.devices.first(where: { $0.name == name }) else {
                throw XenbusError.unusable("\(StoreNumber.quote(name)): \(member.bus) has no such device")
            }
            guard found.shares <= BusLimits.shares else {
                throw XenbusError.unusable("\(name): \(found.shares) shares; \(BusLimits.shares) can be carried")
            }
            let offer = BusOffer(type: found.type, versions: found.versions, shares: found.shares)
            try store.atomically { access throws(XenbusError) in
                try offer.write(to: access, at: directory)
                try access.put(directory + "/state", XenbusState.initWait.rawValue)
            }
            self.name = name
        } catch {
            if error.isDisconnected { throw .xenbus(error) }
            throw .unavailable(number: Errno.noSuchDevice.rawValue, "\(error)")
        }
    }

    func connect(_ store: StoreClient, _ frontend: String) throws(DriverFailure) {
        guard let name else { throw .later }
        var shares: [(Int, BusShareKeys)] = []
        let version: UInt32
        do throws(XenbusError) {
            version = try store.requiredNumber(frontend + "/version", in: UInt32(0)...UInt32.max)
            for index in 0..<BusLimits.shares {
                if let keys = try BusShareKeys.read(from: store, at: frontend, index) { shares.append((index, keys)) }
            }
        } catch { throw .xenbus(error) }
        connection += 1
        let (number, report) = (connection, report)
        let made = try BusLink.make(name, version: version, shares, of: path.device.frontend, hypervisor, member, interrupts) {
            report(.ended(connection: number, $0))
        }
        made.listen(on: reactor) { report(.gone(connection: number)) }
        link = made
        do throws(XenbusError) { try store.switchState(of: path.path, to: .connected) } catch { throw .xenbus(error) }
        log("\(path.kind) \(path.device): connected: \(name), version \(version), \(shares.count) pages")
    }

    func closeQueues(handingOver: Bool) -> Int {
        guard let link else { return 0 }
        self.link = nil
        let report = report
        link.close(on: reactor) { report(.drained) }
        return 1
    }

    func letGo() { name = nil }

    func handle(_ news: BusNews, _ store: StoreClient) throws(DriverFailure) -> Int {
        switch news {
        case .drained: return 1
        case .gone(let number):
            if link != nil, number == connection { throw .frontendGone }
            return 0
        case .ended(let number, let reason):
            guard link != nil, number == connection else { return 0 }
            // Offered anew when it is there again.
            name = nil
            throw .refused(number: Errno.noSuchDevice.rawValue, reason)
        }
    }
}
