// What one domain may take of something that the daemon has little of: never more than it leaves (dynamic thresholds,
// as switches share their buffers). So a domain alone may have half, each that joins it half of what is left, and there
// is always a rest for one that has nothing yet; no number has to be known of how many there will be.

import HypervisorRules
import LinuxSystem
import XenStoreServer
import XenTypes

/// The descriptors that this process may have open.
struct DescriptorShares {
    /// Of which domains' runs, ports and connections are made.
    let total: Int
    /// Of these, for domain 0 and the toolstack alone.
    let reserve: Int
    /// Beside them, for the store's connections.
    let store: Int
    /// For the daemon itself: sockets, locks, the log, whoever has not said who they are.
    static let own = 128

    init(_ limits: HypervisorLimits) {
        let limit = limits.openDescriptors
        let shared = max(limit - Self.own, limit / 2)
        store = min(shared / 4, StoreLimits().connections)
        total = shared - store
        reserve = total / 8
    }

    /// Whether a domain may take `count` more.
    /// - Parameters:
    ///   - has: what is open for it.
    ///   - inUse: what is open for all.
    func allows(_ count: Int, for domain: DomainID, has: Int, inUse: Int) -> Bool {
        if domain == .zero { return inUse + count <= total }
        return has + count <= total - reserve - inUse - count
    }
}

/// Descriptors that were sent and not received yet. The kernel counts them by user and refuses more than a process may
/// have open (ETOOMANYREFS): whoever leaves them lying must not take the room from the others.
struct PassedDescriptors {
    /// How many may be under way.
    let total: Int
    private var byDomain: [DomainID: Int] = [:]
    private var inUse = 0

    /// Half of what there may be is the daemon's: other processes of its user send, too.
    init(_ limits: HypervisorLimits) { total = limits.openDescriptors / 2 }

    /// Whether so many more may be sent to a domain's processes; none may always be.
    func allows(_ count: Int, for domain: DomainID) -> Bool {
        count == 0 || domain == .zero || (byDomain[domain] ?? 0) + count <= total - inUse - count
    }

    /// So many were sent.
    mutating func add(_ count: Int, for domain: DomainID) {
        guard count > 0 else { return }
        inUse += count
        byDomain[domain, default: 0] += count
    }

    /// So many have been received, or their socket is closed.
    mutating func remove(_ count: Int, for domain: DomainID) {
        guard count > 0 else { return }
        inUse -= count
        let left = (byDomain[domain] ?? 0) - count
        byDomain[domain] = left > 0 ? left : nil
    }
}

extension HypervisorLimits {
    /// As many as are shared out where there is no limit.
    private static let unlimited: UInt64 = 1 << 20

    /// How many descriptors there may be.
    fileprivate var openDescriptors: Int {
        Int(min(openFiles ?? ResourceLimits.openFileLimit ?? Self.unlimited, Self.unlimited))
    }
}
