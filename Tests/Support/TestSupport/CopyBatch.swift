// A list of copies that every hypervisor has to answer alike.

import Hypervisor
import SharedMemory
import XenTypes

/// Copies between an offered page and memory of this side's own, in both directions, and some that Xen refuses.
public struct CopyBatch {
    /// Two pages of the copying side's own; byte 10 to 13 are what was copied.
    public let local: SharedRegion
    /// The copies, in order.
    public let operations: [GrantCopy]
    /// What each comes to.
    public let statuses: [GrantStatus] = [.okay, .okay, .badCopyArgument, .badGrantReference, .badCopyArgument]
    private let offer: any OfferedPages

    /// - Parameter offer: pages of domain 1, of which the first gets four bytes to be copied.
    public init(from offer: any OfferedPages) throws {
        self.offer = offer
        let local = try SharedRegion(anonymous: 8192)
        self.local = local
        offer.region.write([1, 2, 3, 4], at: 100)
        let reference = offer.references[0]
        operations = [
            GrantCopy(
                source: .grant(reference, of: DomainID(1), offset: 100), destination: .local(local, offset: 10), byteCount: 4),
            GrantCopy(
                source: .local(local, offset: 10), destination: .grant(reference, of: DomainID(1), offset: 4092), byteCount: 4),
            GrantCopy(
                source: .local(local, offset: 10), destination: .grant(reference, of: DomainID(1), offset: 4093), byteCount: 4),
            GrantCopy(
                source: .grant(GrantReference(9999), of: DomainID(1), offset: 0), destination: .local(local, offset: 0),
                byteCount: 1),
            GrantCopy(source: .local(local, offset: 0), destination: .local(local, offset: 4096), byteCount: 1),
        ]
    }

    /// Whether the bytes came here, and went back to the page's end.
    public var isCopied: Bool {
        local.bytes(at: 10, count: 4) == [1, 2, 3, 4] && offer.region.bytes(at: 4092, count: 4) == [1, 2, 3, 4]
    }
}
