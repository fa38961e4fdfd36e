// A domain's frame map: pfn to bus frame and back, under any of the three memory models. Look-ups take no lock and
// touch no page's contents; changes are serialized, all or nothing, and keep both directions in step.

import Synchronization

/// How a domain's memory is known.
public enum MemoryModel: String, Sendable, CaseIterable {
    /// The domain keeps a table of machine frames (x86 PV): what is not in it does not exist.
    case p2m
    /// Pseudo-physical is machine (P==M: early IA64's and Arm's first domain): only foreign pages and holes are
    /// recorded.
    case identity
    /// Auto-translated: the bus sees the domain's own numbers and an IOMMU or the hypervisor translates on. Machine
    /// frames are unknowable.
    case vp

    /// Whether a bus frame is a machine frame.
    public var knowsMachineFrames: Bool { self != .vp }
}

/// One domain's map. Readers on any thread at any time; writers wait for each other.
public final class FrameMap: Sendable, CustomStringConvertible {
    /// Whose memory it is (Xen's domid).
    public let owner: UInt16
    /// How page numbers become frames.
    public let model: MemoryModel
    /// One past the largest pfn.
    @inlinable public var pfnLimit: UInt64 { forward.limit }
    /// One past the largest bus frame.
    @inlinable public var frameLimit: UInt64 { reverse.limit }
    /// Under `identity` and `vp`: pfns below it are the domain's own memory unless recorded otherwise.
    public let ownFrames: UInt64

    @usableFromInline let forward: RadixTable
    @usableFromInline let reverse: RadixTable
    @usableFromInline let changes = Atomic<UInt64>(0)
    let writer: Mutex<Writer>

    /// What only a writer looks at.
    struct Writer: ~Copyable {
        /// Foreign frames that are mapped at more than one pfn: the pfns but the one that the reverse table names.
        var duplicates: [UInt64: [UInt64]] = [:]
        var foreignPages: UInt64 = 0
    }

    /// An empty map. Throws `noMemory`.
    /// - Parameters:
    ///   - owner: the domain's number.
    ///   - model: how it knows its memory.
    ///   - pfnLimit: one past the largest pfn; 2^28 for a domain of 1 TiB. At most 2^45. Holes cost nothing.
    ///   - frameLimit: one past the largest bus frame, at most 2^45.
    ///   - ownFrames: the domain's own memory under `identity` and `vp`, from pfn 0 on; at most both limits. Nothing
    ///     under `p2m`.
    ///   - tableLimit: tables of 4 KiB that each direction may have.
    public convenience init(
        owner: UInt16, model: MemoryModel, pfnLimit: UInt64, frameLimit: UInt64, ownFrames: UInt64 = 0,
        tableLimit: Int = 1 << 20
    ) throws(FrameMapError) {
        try self.init(
            owner: owner, model: model, pfnLimit: pfnLimit, frameLimit: frameLimit, ownFrames: ownFrames, tableLimit: tableLimit,
            windowLimit: RadixTable.widestWindow)
    }

    /// The same, with tables outside a window from `windowLimit` on: for tests.
    package init(
        owner: UInt16, model: MemoryModel, pfnLimit: UInt64, frameLimit: UInt64, ownFrames: UInt64 = 0,
        tableLimit: Int = 1 << 20, windowLimit: UInt64
    ) throws(FrameMapError) {
        self.owner = owner
        self.model = model
        forward = try RadixTable(limit: pfnLimit, tableLimit: tableLimit, windowLimit: windowLimit)
        reverse = try RadixTable(limit: frameLimit, tableLimit: tableLimit, windowLimit: windowLimit)
        self.ownFrames = model == .p2m ? 0 : min(ownFrames, min(forward.limit, reverse.limit))
        writer = Mutex(Writer())
    }

    /// Goes up with each change after which an earlier answer may be wrong. Mapping what was not mapped leaves it.
    @inlinable public var generation: UInt64 { changes.load(ordering: .acquiring) }

    /// Whether every answer given at `generation` still holds.
    @inlinable public func isCurrent(_ generation: UInt64) -> Bool { self.generation == generation }

    /// The forward table's window: what is in it is what `translate` answers; 0 says nothing.
    @inlinable package var forwardView: RadixWindow { forward.view }

    /// Memory of the tables, bytes.
    public var tableByteCount: Int { writer.withLock { _ in (forward.tableCount + reverse.tableCount) * 4096 } }

    /// Foreign pages mapped.
    public var foreignPageCount: UInt64 { writer.withLock { $0.foreignPages } }

    /// `frame map of domain 3, p2m, 12 foreign pages`.
    public var description: String {
        "frame map of domain \(owner), \(model.rawValue), \(foreignPageCount) foreign pages"
    }
}
