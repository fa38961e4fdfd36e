// A driver's memory as grants, as the device of one queue reaches it: what a chain names is mapped when the chain is
// taken, all of it at once, and unmapped before the driver may see its answer. Nothing is kept: a driver ends its
// grants with each request, and a mapping that outlived that would hold it up.
//
// Mapped pages have addresses of this side's own making, by which everything else goes on: a number for each region
// that they lie in, and the place in it.

import Hypervisor
import SharedMemory
import VirtioRing
import XenTypes

/// See the file's beginning. Used by one thread.
public final class GrantedMemory: ChainMemory {
    /// Pages that one chain may name.
    public static let mostOfChain = 1024

    private let hypervisor: any Hypervisor
    private let granter: DomainID
    /// Pages that are mapped at once at most.
    private let limit: Int
    /// What the chains that are out have mapped, by their names.
    private var lent: [UInt16: [MappedGrant]] = [:]
    private var ended: [MappedGrant] = []
    private var tables: [MappedGrant] = []
    /// Regions that mapped pages lie in.
    private var regions: [ObjectIdentifier: Place] = [:]
    private var nextNumber: UInt64 = 1
    private var isChanged = false
    /// See `ChainMemory`.
    public private(set) var map = GuestMap()
    /// Pages that are mapped now.
    public private(set) var mappedCount = 0
    /// Chains whose pages could not be had.
    public private(set) var refusedCount: UInt64 = 0

    private struct Place {
        let region: SharedRegion
        let start: UInt64
        var uses: Int
    }

    /// - Parameters:
    ///   - granter: whose pages they are; what others have granted is not reached.
    ///   - limit: pages that are mapped at once at most; a chain that would be too much waits for others.
    public init(_ hypervisor: any Hypervisor, of granter: DomainID, limit: Int = 8192) {
        self.hypervisor = hypervisor
        self.granter = granter
        self.limit = limit
    }

    deinit {
        // Chains that were left to whoever serves the ring next.
        let left = lent.values.joined() + ended + tables
        if !left.isEmpty { hypervisor.unmapGrants(Array(left)) }
    }

    // MARK: Mapping

    /// Maps these pages, all or none; nil: they cannot be had.
    private func mapped(_ references: [GrantReference], _ access: GrantAccess) -> [MappedGrant]? {
        guard !references.isEmpty else { return [] }
        guard let grants = try? hypervisor.mapGrants(references, of: granter, access: access) else { return nil }
        mappedCount += grants.count
        for grant in grants { use(grant.region) }
        return grants
    }

    private func use(_ region: SharedRegion) {
        let key = ObjectIdentifier(region)
        if regions[key] == nil {
            // Regions are shorter than a TiB, and never as many as there are numbers.
            regions[key] = Place(region: region, start: freeStart(), uses: 0)
            rebuild()
        }
        regions[key]?.uses += 1
    }

    /// Addresses that no region has, those of a region that is gone the last to come again.
    private func freeStart() -> UInt64 {
        repeat { nextNumber = (nextNumber + 1) & 0x7F_FFFF } while regions.values.contains { $0.start == nextNumber << 40 }
        return nextNumber << 40
    }

    private func unmap(_ grants: [MappedGrant]) {
        guard !grants.isEmpty else { return }
        mappedCount -= grants.count
        for grant in grants {
            let key = ObjectIdentifier(grant.region)
            regions[key]?.uses -= 1
            if regions[key]?.uses == 0 {
                regions[key] = nil
                rebuild()
            }
        }
        hypervisor.unmapGrants(grants)
    }

    private func rebuild() {
        isChanged = true
        map =
            (try? GuestMap(
                regions.values.map { GuestMap.Extent(address: $0.start, byteCount: UInt64($0.region.byteCount), region: $0.region) }
            ))
            ?? GuestMap()
    }

    private func address(_ grant: MappedGrant) -> UInt64 {
        (regions[ObjectIdentifier(grant.region)]?.start ?? 0) + UInt64(grant.offset)
    }

    // MARK: ChainMemory

    /// See `ChainMemory`.
    public func hasChanged() -> Bool {
        defer { isChanged = false }
        return isChanged
    }

    /// See `ChainMemory`.
    public func release(_ ticket: ChainTicket) { if let grants = lent.removeValue(forKey: ticket.id) { ended += grants } }

    /// See `ChainMemory`.
    public func letGo() {
        unmap(ended + tables)
        ended.removeAll(keepingCapacity: true)
        tables.removeAll(keepingCapacity: true)
    }

    /// What it is is known when the chain is whole.
    public func admits(_ run: GuestRun, forWriting: Bool) -> Bool { true }

    /// A chain's table, which stays mapped until the chain is settled.
    public func piece(_ run: GuestRun, forWriting: Bool) -> GuestPiece {
        guard let references = GrantAddress.references(run), mappedCount < limit,
            let grant = mapped([GrantReference(references.lowerBound)], forWriting ? .readWrite : .readOnly)?.first
        else { return .outside }
        tables.append(grant)
        let offset = Int(run.address & 0xFFF)
        return .here(grant.region, offset: grant.offset + offset, byteCount: min(run.byteCount, UInt32(4096 - offset)))
    }

    /// See `GuestMemory`.
    public func settle(_ chain: inout DescriptorChain) -> Bool {
        unmap(tables)
        tables.removeAll(keepingCapacity: true)
        guard let readable = references(chain.readableRuns), let writable = references(chain.writableRuns),
            readable.count + writable.count <= min(Self.mostOfChain, limit)
        else { return settleLost(&chain) }
        if mappedCount + readable.count + writable.count > limit {
            letGo()
            if mappedCount + readable.count + writable.count > limit { return false }
        }
        guard let read = mapped(readable, .readOnly) else { return settleLost(&chain) }
        guard let written = mapped(writable, .readWrite) else {
            unmap(read)
            return settleLost(&chain)
        }
        lent[chain.ticket.id] = read + written
        chain.replace(readable: runs(chain.readableRuns, read), writable: runs(chain.writableRuns, written))
        return true
    }

    /// Leaves the last byte to be written, where a device says that it could not do something.
    private func settleLost(_ chain: inout DescriptorChain) -> Bool {
        refusedCount += 1
        guard let last = chain.writableRuns.last else {
            chain.replace(readable: [], writable: [])
            return true
        }
        let byte = GuestRun(address: last.address &+ UInt64(last.byteCount &- 1), byteCount: 1)
        if let references = references([byte]), mappedCount < limit, let grants = mapped(references, .readWrite) {
            lent[chain.ticket.id] = grants
            chain.replace(readable: [], writable: runs([byte], grants))
        } else {
            chain.replace(readable: [], writable: [])
        }
        return true
    }

    /// The grants of runs, one for each page of each; nil: there are none, or more than a chain may name.
    private func references(_ runs: some Sequence<GuestRun>) -> [GrantReference]? {
        var references: [GrantReference] = []
        for run in runs {
            guard let range = GrantAddress.references(run), references.count + range.count <= Self.mostOfChain else { return nil }
            references += range.map { GrantReference($0) }
        }
        return references
    }

    /// The same runs by our own addresses, page by page.
    private func runs(_ runs: some Sequence<GuestRun>, _ grants: [MappedGrant]) -> [GuestRun] {
        var (pieces, index): ([GuestRun], Int) = ([], 0)
        for run in runs {
            var (offset, left) = (UInt32(run.address & 0xFFF), run.byteCount)
            while left > 0 {
                let count = min(left, 4096 - offset)
                pieces.append(GuestRun(address: address(grants[index]) + UInt64(offset), byteCount: count))
                index += 1
                (offset, left) = (0, left - count)
            }
        }
        return pieces
    }
}
