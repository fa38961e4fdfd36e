// How a block ring's structures are laid out: offsets and sizes only. The codec is written once, over these numbers.

#if !_endian(little)
    #error("Xen's I/O protocols are defined for little-endian hosts only")
#endif

/// The binary interface a block frontend was compiled for (the `protocol` node; xen/io/protocols.h).
public enum BlockABI: Sendable, CaseIterable, CustomStringConvertible {
    /// This host's own.
    case native
    /// A 32-bit x86 guest: 64-bit integers are aligned to 4 bytes, so nothing is padded.
    case x86_32
    /// A 64-bit x86 guest.
    case x86_64

    /// Where each field lies.
    @inlinable
    public var layout: BlockLayout {
        switch self {
        case .x86_32: .packed
        case .x86_64: .aligned
        case .native:
            #if arch(i386)
                .packed
            #else
                .aligned
            #endif
        }
    }

    /// What the `protocol` node says: `x86_32-abi`, `x86_64-abi`, or `arm-abi` for an Arm host's own.
    public var node: String {
        switch self {
        case .x86_32: "x86_32-abi"
        case .x86_64: "x86_64-abi"
        case .native:
            #if arch(i386)
                "x86_32-abi"
            #elseif arch(x86_64)
                "x86_64-abi"
            #else
                "arm-abi"
            #endif
        }
    }

    /// What a frontend that writes no `protocol` node means.
    ///
    /// xen/io/blkif.h says "native", but Linux's blkback, QEMU and tapdisk all take it for x86_32 on an x86 host,
    /// because the frontends that predate the node were 32-bit. We do as they do; `init(node:whenMissing:)` is the
    /// switch.
    public static var assumedWhenMissing: BlockABI {
        #if arch(i386) || arch(x86_64)
            .x86_32
        #else
            .native
        #endif
    }

    /// Parses the `protocol` node; nil for a name this host does not know, which is fatal to the connection (as in
    /// Linux).
    public init?(node: String?, whenMissing: BlockABI = .assumedWhenMissing) {
        guard let node else {
            self = whenMissing
            return
        }
        switch node {
        case BlockABI.native.node: self = .native
        case BlockABI.x86_32.node: self = .x86_32
        case BlockABI.x86_64.node: self = .x86_64
        default: return nil
        }
    }

    /// The node's text.
    public var description: String { node }
}

/// Byte offsets in a slot of a block ring (xen/io/blkif.h). Only the alignment of 64-bit integers differs between ABIs.
///
/// At the same place in each: the operation (0), the second byte (1: segment count, discard flag or inner operation)
/// and the 16 bits at 2 (handle, or an indirect request's segment count); in responses id (0), operation (8) and status
/// (10).
public struct BlockLayout: Sendable, Equatable, BitwiseCopyable {
    /// `id` in every request.
    public let id: Int
    /// `sector_number` in every request.
    public let sector: Int
    /// `seg` of a read or write; `nr_sectors` of a discard; `handle` of an indirect request.
    public let payload: Int
    /// `indirect_grefs`.
    public let indirectReferences: Int
    /// `sizeof(struct blkif_request)`.
    public let requestSize: Int
    /// `sizeof(struct blkif_request_discard)`.
    public let discardSize: Int
    /// `sizeof(struct blkif_request_indirect)`.
    public let indirectSize: Int
    /// `sizeof(struct blkif_response)`.
    public let responseSize: Int

    /// Bytes of a slot: a request is always the larger.
    @inlinable public var slotSize: Int { requestSize }

    /// 64-bit integers at multiples of 4.
    @inlinable public static var packed: BlockLayout {
        BlockLayout(
            id: 4, sector: 12, payload: 20, indirectReferences: 24, requestSize: 108, discardSize: 28, indirectSize: 64,
            responseSize: 12)
    }
    /// 64-bit integers at multiples of 8.
    @inlinable public static var aligned: BlockLayout {
        BlockLayout(
            id: 8, sector: 16, payload: 24, indirectReferences: 28, requestSize: 112, discardSize: 32, indirectSize: 64,
            responseSize: 16)
    }

    @inlinable
    init(
        id: Int, sector: Int, payload: Int, indirectReferences: Int, requestSize: Int, discardSize: Int, indirectSize: Int,
        responseSize: Int
    ) {
        self.id = id
        self.sector = sector
        self.payload = payload
        self.indirectReferences = indirectReferences
        self.requestSize = requestSize
        self.discardSize = discardSize
        self.indirectSize = indirectSize
        self.responseSize = responseSize
    }
}
