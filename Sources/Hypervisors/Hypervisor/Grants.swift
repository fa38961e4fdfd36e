// Grants in two roles: pages offered to a peer, and a peer's pages mapped here.

import SharedMemory
import XenTypes

/// Pages that this domain offers to one peer. Withdrawn when released or when `withdraw` is called.
public protocol OfferedPages: AnyObject, Sendable {
    /// The pages, side by side, always writable on this side.
    var region: SharedRegion { get }
    /// Page i's grant reference.
    var references: [GrantReference] { get }
    /// Whether the peer has page i mapped right now (`GTF_reading` or `GTF_writing`); nil where the hypervisor hides
    /// it.
    func isMapped(page: Int) -> Bool?
    /// Ends access to every page. A page still mapped is ended as soon as the peer unmaps it (deferred); the memory
    /// stays alive until then. Returns true if everything ended at once.
    @discardableResult func withdraw() -> Bool
}

/// Who is to reach a page that is mapped.
public enum GrantReach: Hashable, Sendable {
    /// This process.
    case memory
    /// A device, by the page's machine frame, and this process.
    case memoryAndDevice
    /// A device alone: its data only passes through, and no processor has to see it.
    case device

    /// Whether a device is told where the page is.
    public var hasDevice: Bool { self != .memory }
    /// Whether this process can look at the page.
    public var hasMemory: Bool { self != .device }
}

/// Memory of this domain's own for a device that goes by machine frames. The device reaches it until the last reference
/// to the region goes.
public struct DeviceMemory: Sendable {
    /// The pages, zeroed.
    public let region: SharedRegion
    /// Each page's machine frame.
    public let frames: [UInt64]

    /// As the hypervisor made it.
    public init(region: SharedRegion, frames: [UInt64]) {
        self.region = region
        self.frames = frames
    }
}

/// One page of a peer, mapped here under one maptrack handle.
public struct MappedGrant: Sendable {
    /// The hypervisor's handle for the mapping.
    public let handle: UInt32
    /// The region that the page lies in; may hold other pages made for this domain by the same peer.
    public let region: SharedRegion
    /// The page's byte offset in `region`.
    public let offset: Int
    /// The granter's reference.
    public let reference: GrantReference
    /// Whose page it is.
    public let granter: DomainID
    /// Where the region's pages are in the machine: gives the machine frames of its first pages, as many as asked for.
    /// nil where a domain does not learn them: under libxen unless it was mapped for a device, too, for the kernel
    /// below translates once more.
    public let machine: (@Sendable (Int) -> [UInt64])?

    /// A mapping as the hypervisor made it.
    public init(
        handle: UInt32, region: SharedRegion, offset: Int, reference: GrantReference, granter: DomainID,
        machine: (@Sendable (Int) -> [UInt64])? = nil
    ) {
        self.machine = machine
        self.handle = handle
        self.region = region
        self.offset = offset
        self.reference = reference
        self.granter = granter
    }
}

/// A peer's pages mapped side by side. Unmapped when released or when `unmap` is called.
public protocol ContiguousGrants: AnyObject, Sendable {
    var region: SharedRegion { get }
    func unmap()
}

/// One operation of a grant copy. A range lies within one page.
public struct GrantCopy: Sendable {
    /// One end of the copy.
    public enum End: Sendable {
        case local(SharedRegion, offset: Int)
        case grant(GrantReference, of: DomainID, offset: Int)
    }
    /// Where the bytes come from.
    public var source: End
    /// Where they go.
    public var destination: End
    /// Bytes, at most a page.
    public var byteCount: Int

    /// A copy of `byteCount` bytes.
    public init(source: End, destination: End, byteCount: Int) {
        self.source = source
        self.destination = destination
        self.byteCount = byteCount
    }
}

/// How many grants this process may have mapped, and how many it has.
public struct GrantRoom: Hashable, Sendable, CustomStringConvertible {
    /// The most that can be mapped at once.
    public var limit: Int
    /// What counts against it now.
    public var used: Int
    /// What sets the limit, for an administrator: `vm.max_map_count`.
    public var setting: String

    /// Room as the hypervisor's side knows it.
    public init(limit: Int, used: Int, setting: String) {
        self.limit = limit
        self.used = used
        self.setting = setting
    }

    /// How many more can be mapped.
    public var left: Int { max(0, limit - used) }

    /// `240: 65290 of vm.max_map_count 65530 are in use`.
    public var description: String { "\(left): \(used) of \(setting) \(limit) are in use" }
}
