// The hypervisor that pairs of the tests stand on: the one in this process, or, where CAUSEWAY_TEST_HYPERVISOR says
// `libxen`, the loopback host with every domain on it through Xen's libraries, as tools/test-libxen.sh runs them.

import Foundation
import Hypervisor
import HypervisorRules
import InProcess
import LinuxSystem
import Loopback
import Synchronization
import TestSupport
import Testing
import XenStoreServer
import XenTypes

/// Which hypervisor a test has.
public enum TestHypervisorKind: String, Sendable {
    case inProcess = "in-process"
    case libxen

    /// What this run of the tests asks for.
    public static let chosen: TestHypervisorKind = {
        guard let asked = ProcessInfo.processInfo.environment["CAUSEWAY_TEST_HYPERVISOR"] else { return .inProcess }
        guard let kind = TestHypervisorKind(rawValue: asked) else { fatalError("CAUSEWAY_TEST_HYPERVISOR: no such kind: \(asked)") }
        return kind
    }()
}

extension Trait where Self == ConditionTrait {
    /// For a test of what only the in-process hypervisor has, `why`.
    public static func inProcess(_ why: Comment) -> ConditionTrait {
        .enabled(if: TestHypervisorKind.chosen == .inProcess, why)
    }
}

/// The host of a test's domains. Thread-safe.
public final class TestHost: Sendable {
    enum Place: Sendable {
        case inProcess(InProcessHost)
        case loopback(LoopbackPlace)
    }
    let place: Place
    private let time: any TimeSource
    let faults = Mutex(MapFaults())
    let pages = Mutex(MappedPages())

    /// Makes a host with domain 0 in it.
    public init(limits: HypervisorLimits = HypervisorLimits(), time: some TimeSource) {
        self.time = time
        switch TestHypervisorKind.chosen {
        case .inProcess: place = .inProcess(InProcessHost(limits: limits, time: time))
        case .libxen:
            do { place = .loopback(try LoopbackPlace(limits: limits, time: time)) } catch {
                fatalError("a test's host does not start: \(error)")
            }
        }
    }

    /// A host of the caller's own making.
    public init(_ host: InProcessHost) {
        place = .inProcess(host)
        time = .system
    }

    /// The store that the host's domains share.
    public var store: StoreServer {
        switch place {
        case .inProcess(let host): host.store
        case .loopback(let place): place.host.store
        }
    }

    /// A new connection of domain `number`, which is made if it does not exist; each stands for a process of its own.
    public func domain(_ number: UInt16) -> TestHypervisor {
        switch place {
        case .inProcess(let host):
            let inner = host.domain(number)
            return TestHypervisor(self, inner) { inner.disconnect() }
        case .loopback(let place):
            do {
                let process = try place.process(of: DomainID(number), time)
                return TestHypervisor(self, process.hypervisor, process.variables) { place.kill(process) }
            } catch { fatalError("domain \(number): \(error)") }
        }
    }

    /// Destroys a domain with all its connections.
    public func destroy(_ domain: DomainID) {
        switch place {
        case .inProcess(let host): host.destroy(domain)
        case .loopback(let place): place.destroy(domain)
        }
    }

    /// What is in use; tests hold it against a baseline. Through Xen's libraries, what a process offers ends with its
    /// last reference, which a test may hold; so there only what it has of others counts.
    public var usage: HypervisorUsage {
        switch place {
        case .inProcess(let host): host.usage
        case .loopback(let place): place.usage
        }
    }

    /// Grants that somebody has ended without having them mapped.
    public var strayUnmaps: Int { pages.withLock { $0.strays } }

    // MARK: Faults

    /// Makes the `number`-th map from now on (1 is the next) fail with `status`.
    public func failMap(number: Int, with status: GrantStatus) { faults.withLock { $0.fail(number, status) } }

    /// Makes every map fail with `status`; nil ends that.
    public func failEveryMap(with status: GrantStatus?) { faults.withLock { $0.every = status } }
}

/// Maps that fail because a test wants it.
struct MapFaults {
    private var seen = 0
    private var failing: [Int: GrantStatus] = [:]
    var every: GrantStatus?

    mutating func fail(_ number: Int, _ status: GrantStatus) { failing[seen + number] = status }

    /// Counts a call's maps; the first that is to fail, and why.
    mutating func count(_ references: [GrantReference]) -> (GrantReference, GrantStatus)? {
        for reference in references {
            seen += 1
            if let status = failing.removeValue(forKey: seen) ?? every { return (reference, status) }
        }
        return nil
    }
}

/// Expects the host's counters to be what they were, within three seconds: what a peer held is given back a moment
/// after it has closed.
public func expectBaseline(
    _ host: TestHost, _ baseline: HypervisorUsage, sourceLocation: SourceLocation = #_sourceLocation
) {
    _ = eventually { host.usage == baseline }
    #expect(host.usage == baseline, sourceLocation: sourceLocation)
}
