// The guest's memory as the front end shared it. Bytes have three names: the guest's, which requests use; the front
// end's own, which rings' addresses use; and a place in a mapping of ours. The first two are equal with some front
// ends, and never to be taken for each other.

import LinuxSystem
import SharedMemory
import VirtioRing

/// A table of regions, none of which overlaps another by either name. A value: who holds one keeps its memory mapped.
public struct VhostMemory: Sendable {
    /// One region and its mapping.
    public struct Entry: Sendable {
        /// As the front end described it.
        public let region: VhostRegion
        /// The file from its beginning to the region's end: a file of huge pages can only be mapped from their bounds.
        public let mapping: SharedRegion
        /// The file, for a successor that maps it anew.
        let descriptor: Descriptor
        /// How often it was added: QEMU 7.2 does so for each pair of an interface's rings, and removes it as often.
        var uses = 1
    }

    /// In the order in which they came.
    public private(set) var entries: [Entry] = []
    /// The regions by the guest's addresses: what requests name.
    public private(set) var guestMap = GuestMap()
    /// The regions by the front end's own addresses: what rings are named by.
    public private(set) var userMap = GuestMap()

    /// Nothing.
    public init() {}

    /// Whether some of it is no more: its owner has made a file shorter, and it was reached beyond the end.
    public var isLost: Bool { entries.contains { $0.mapping.isLost } }

    /// Maps a region. Nothing changes when that fails.
    /// - Parameter mayShrink: whether its owner is trusted not to make it shorter.
    public mutating func add(
        _ region: VhostRegion, _ descriptor: Descriptor, mayShrink: Bool = false
    ) throws(VhostUserError) {
        if let known = entries.firstIndex(where: { $0.region == region }), entries[known].uses < VhostLimits.ringPairs {
            entries[known].uses += 1
            return
        }
        guard entries.count < VhostLimits.regions else { throw .tooManyRegions }
        let (end, isBeyond) = region.fileOffset.addingReportingOverflow(region.byteCount)
        guard region.byteCount > 0, !isBeyond, end <= VhostLimits.mappedBytes else {
            throw .badRegion(guest: region.guestAddress, byteCount: region.byteCount)
        }
        // A page that goes from under a mapping is a signal that ends the process, and every other front end's disk.
        guard mayShrink || descriptor.cannotShrink else { throw .mayShrink(guest: region.guestAddress) }
        let held = descriptor.fileByteCount
        guard held >= end else { throw .shortFile(byteCount: held, needed: end) }
        let mapping: SharedRegion
        do throws(Errno) {
            mapping = try SharedRegion(
                mapping: descriptor, byteCount: SharedRegion.wholePages(Int(end)), writable: true,
                survivesFaults: !descriptor.cannotShrink)
        } catch { throw .cannotMap(error) }
        try replace(entries + [Entry(region: region, mapping: mapping, descriptor: descriptor)], for: region)
    }

    /// Takes the region away that has these addresses and this size.
    public mutating func remove(_ region: VhostRegion) throws(VhostUserError) {
        // The offset is of the file, which the front end need not name again.
        let index = entries.firstIndex { entry in
            entry.region.guestAddress == region.guestAddress && entry.region.userAddress == region.userAddress
                && entry.region.byteCount == region.byteCount
        }
        guard let index else { throw .noSuchRegion(guest: region.guestAddress) }
        if entries[index].uses > 1 {
            entries[index].uses -= 1
            return
        }
        var rest = entries
        rest.remove(at: index)
        try replace(rest, for: region)
    }

    /// Other regions, of which none wraps and none overlaps another by either name.
    private mutating func replace(_ changed: [Entry], for region: VhostRegion) throws(VhostUserError) {
        do throws(VirtqueueError) {
            let guestMap = try Self.map(changed) { $0.region.guestAddress }
            userMap = try Self.map(changed) { $0.region.userAddress }
            self.guestMap = guestMap
            entries = changed
        } catch { throw .badRegion(guest: region.guestAddress, byteCount: region.byteCount) }
    }

    private static func map(_ entries: [Entry], _ address: (Entry) -> UInt64) throws(VirtqueueError) -> GuestMap {
        try GuestMap(
            entries.map { entry in
                GuestMap.Extent(
                    address: address(entry), byteCount: entry.region.byteCount, region: entry.mapping,
                    offset: Int(entry.region.fileOffset))
            })
    }

    /// Memory that is mapped already, of a driver that has no front end and one address for everything.
    public init(mapped map: GuestMap) {
        guestMap = map
        userMap = map
    }
}
