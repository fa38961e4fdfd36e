// A hypervisor that fails when it is told to, and that takes memory away in earnest: what was unmapped can no longer be
// reached, so that a touch ends the test's process.

import Foundation
import Hypervisor
import LinuxSystem
import SharedMemory
import Synchronization
import XenStore
import TestHosts
import XenTypes

/// A domain's hypervisor with faults.
final class FaultyHypervisor: Hypervisor {
    private let inner: TestHypervisor
    /// Calls until the one that fails; at most 0: none does.
    private let countdown = Atomic<Int>(0)
    private let hasFailed = Atomic<Bool>(false)
    private let copiesFail = Atomic<Bool>(false)

    init(_ inner: TestHypervisor) { self.inner = inner }

    var domain: DomainID { inner.domain }
    var time: any TimeSource { inner.time }

    /// Makes the `number`-th call from now on fail; 1 is the next.
    func failCall(_ number: Int) {
        hasFailed.store(false, ordering: .sequentiallyConsistent)
        countdown.store(number, ordering: .sequentiallyConsistent)
    }

    /// Whether that call was reached.
    var didFail: Bool { hasFailed.load(ordering: .sequentiallyConsistent) }

    /// Makes every copy's call fail as a whole.
    func failCopies(_ on: Bool) { copiesFail.store(on, ordering: .sequentiallyConsistent) }

    private func pass(_ doing: String) throws(HypervisorError) {
        if countdown.wrappingSubtract(1, ordering: .sequentiallyConsistent).newValue == 0 {
            hasFailed.store(true, ordering: .sequentiallyConsistent)
            throw .system("a fault that the test asked for", doing: doing)
        }
    }

    func connectStore() throws(HypervisorError) -> StoreClient { try inner.connectStore() }

    func offerPages(_ count: Int, to peer: DomainID, access: GrantAccess) throws(HypervisorError) -> any OfferedPages {
        try pass("offering pages")
        return try inner.offerPages(count, to: peer, access: access)
    }

    func mapGrants(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> [MappedGrant] {
        try pass("mapping")
        return try inner.mapGrants(references, of: granter, access: access)
    }

    func unmapGrants(_ grants: [MappedGrant]) { inner.unmapGrants(grants) }

    func mapContiguous(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> any ContiguousGrants {
        try pass("mapping a ring")
        return FencedGrants(try inner.mapContiguous(references, of: granter, access: access))
    }

    func copyGrants(_ operations: [GrantCopy]) throws(HypervisorError) -> [GrantStatus] {
        if copiesFail.load(ordering: .sequentiallyConsistent) { throw .system("a fault that the test asked for", doing: "copying") }
        return try inner.copyGrants(operations)
    }

    func allocateChannel(for remote: DomainID) throws(HypervisorError) -> any EventChannel {
        try pass("allocating a port")
        return try inner.allocateChannel(for: remote)
    }

    func bindChannel(remote: DomainID, port: EventPort) throws(HypervisorError) -> any EventChannel {
        try pass("binding a port")
        return try inner.bindChannel(remote: remote, port: port)
    }
}

/// A ring whose memory is fenced once it is unmapped.
private final class FencedGrants: ContiguousGrants {
    private let inner: any ContiguousGrants
    init(_ inner: any ContiguousGrants) { self.inner = inner }
    var region: SharedRegion { inner.region }
    func unmap() {
        mprotect(inner.region.unsafeBase, inner.region.byteCount, PROT_NONE)
        inner.unmap()
    }
}
