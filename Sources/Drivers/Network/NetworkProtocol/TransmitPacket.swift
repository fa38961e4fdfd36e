// From the slots of the transmit ring to packets, by the rules of Linux's netback (protocol-rules.md 31 to 34). Pure:
// it pulls private copies of slots from wherever they come and says what to do; it touches no page.

import LinuxSystem
import Packets
import XenTypes

/// Where slots come from: a ring, a fuzzer's bytes.
public protocol TransmitSlotSource: ~Copyable {
    associatedtype SourceError: Error
    /// The next slot; nil if the frontend has published no more.
    mutating func nextTransmitSlot() throws(SourceError) -> TransmitSlot?
}

/// One part of a packet: bytes within one page.
public struct TransmitPart: Hashable, Sendable, BitwiseCopyable {
    /// The page.
    public var reference: GrantReference
    /// Where in the page it begins, bytes.
    public var offset: UInt16
    /// Bytes, at least 1; `offset + byteCount` is at most a page.
    public var byteCount: UInt16
    /// Echoed in the response.
    public var id: UInt16
}

/// Why a packet was not taken, with the numbers.
public enum TransmitRejection: Error, Hashable, Sendable, CustomStringConvertible {
    case tooShort(Int)
    case tooManySlots(Int)
    case continuationTooLarge(Int, left: Int)
    case emptySlot
    case crossesPage(offset: Int, byteCount: Int)
    case unfinishedPacket
    case unfinishedExtras
    case extraType(UInt8)
    case repeatedExtra(UInt8)
    case segmentSize(Int)
    case segmentationType(UInt8)
    case multicastWithData

    /// One line.
    public var description: String {
        switch self {
        case .tooShort(let count): "a packet of \(count) bytes"
        case .tooManySlots(let count): "a packet of \(count) continuation slots or more"
        case .continuationTooLarge(let count, let left): "a slot of \(count) bytes where \(left) are left"
        case .emptySlot: "a slot without data"
        case .crossesPage(let offset, let count): "\(count) bytes from \(offset) on cross a page"
        case .unfinishedPacket: "a packet that goes on past what is published"
        case .unfinishedExtras: "extra information that goes on past what is published"
        case .extraType(let type): "extra information of type \(type)"
        case .repeatedExtra(let type): "extra information of type \(type) twice"
        case .segmentSize(let size): "segments of \(size) bytes"
        case .segmentationType(let type): "segmentation of type \(type)"
        case .multicastWithData: "multicast control on a packet with more data"
        }
    }
}

/// What to do with what was pulled.
public enum TransmitVerdict: Hashable, Sendable {
    /// Send it.
    case packet
    /// Answer every request of it with an error.
    case drop(TransmitRejection)
    /// Not a packet: the frontend wants a multicast address, or no longer.
    case multicast(MACAddress, isAdded: Bool)
    /// The ring cannot be trusted any more: quarantine the device.
    case fatal(TransmitRejection)
}

/// A packet being assembled; used again and again, so that nothing is allocated.
public struct TransmitPacket: Sendable {
    /// Its parts in order, valid after `.packet`; after any other verdict only their ids count.
    public private(set) var parts: [TransmitPart] = []
    /// Slots of extra information, right behind the first part's.
    public var extraCount: Int { extras.count }
    /// Bytes of the whole packet.
    public private(set) var byteCount = 0
    /// Those of the first request.
    public private(set) var flags: TransmitFlags = []
    /// How the receiver may cut it; size in bytes of payload.
    public var segmentation: (type: SegmentationType, size: UInt16)? { extras.segmentation }
    private var extras = ExtraChain()
    /// The slots that were pulled, as they were, if `keepsSlots`: for who wants to show them.
    public private(set) var slots: [TransmitSlot] = []
    /// Whether `slots` is kept.
    public var keepsSlots = false

    /// An empty one.
    public init() {
        parts.reserveCapacity(NetworkLimits.fatalContinuations + 2)
    }

    /// Slots that were pulled: as many responses are due (protocol-rules.md 34).
    public var slotCount: Int { parts.count + extraCount }

    /// Takes the slots of one packet whose first is `first`. Throws what the source throws; then, too, `slotCount` were
    /// pulled.
    @inlinable
    public mutating func assemble<S: TransmitSlotSource & ~Copyable>(
        _ first: TransmitSlot, from source: inout S
    ) throws(S.SourceError) -> TransmitVerdict {
        let request = first.request
        begin(request)
        if keepsSlots { keep(first) }
        if request.flags.contains(.extraInfo) {
            var more = true
            while more {
                guard let slot = try source.nextTransmitSlot() else { return .fatal(.unfinishedExtras) }
                if keepsSlots { keep(slot) }
                if let rejection = take(slot.extra) { return .fatal(rejection) }
                more = slot.extra.hasMore
            }
            if let verdict = multicastVerdict { return verdict }
        }
        var rejection: TransmitRejection?
        var left = byteCount
        var more = request.flags.contains(.moreData)
        while more {
            if parts.count - 1 >= NetworkLimits.fatalContinuations { return .fatal(.tooManySlots(parts.count)) }
            guard let slot = try source.nextTransmitSlot() else { return .fatal(.unfinishedPacket) }
            if keepsSlots { keep(slot) }
            let next = slot.request
            if let fault = add(next, &left, &rejection) { return .fatal(fault) }
            more = next.flags.contains(.moreData)
        }
        return finish(left, rejection)
    }

    @usableFromInline
    mutating func begin(_ request: TransmitRequest) {
        parts.removeAll(keepingCapacity: true)
        parts.append(
            TransmitPart(reference: request.reference, offset: request.offset, byteCount: request.size, id: request.id))
        extras = ExtraChain()
        byteCount = Int(request.size)
        flags = request.flags
        if keepsSlots { slots.removeAll(keepingCapacity: true) }
    }

    @usableFromInline
    mutating func keep(_ slot: TransmitSlot) { slots.append(slot) }

    @usableFromInline
    mutating func take(_ extra: ExtraInfo) -> TransmitRejection? {
        switch extras.take(extra) {
        case nil: nil
        case .unknownType(let type): .extraType(type)
        case .repeated(let type), .endless(let type): .repeatedExtra(type)
        case .segmentSize(let size): .segmentSize(size)
        case .segmentationType(let type): .segmentationType(type)
        }
    }

    /// What an address among the extras makes of the packet: a dummy request without data (netif.h). Linux answers it
    /// and goes on behind the extras.
    @usableFromInline
    var multicastVerdict: TransmitVerdict? {
        guard let multicast = extras.multicast else { return nil }
        if flags.contains(.moreData) { return .fatal(.multicastWithData) }
        return .multicast(multicast.address, isAdded: multicast.isAdded)
    }

    /// Appends a continuation; a fault is fatal, a rejection drops the packet once all of it was pulled.
    @usableFromInline
    mutating func add(
        _ next: TransmitRequest, _ left: inout Int, _ rejection: inout TransmitRejection?
    ) -> TransmitRejection? {
        let count = Int(next.size)
        parts.append(TransmitPart(reference: next.reference, offset: next.offset, byteCount: next.size, id: next.id))
        if parts.count - 1 > NetworkLimits.maximumContinuations { rejection = rejection ?? .tooManySlots(parts.count - 1) }
        // Real frontends send packets of 64 KiB and more, whose first size wrapped: dropped, never fatal
        // (protocol-rules.md 32).
        if count > left { rejection = rejection ?? .continuationTooLarge(count, left: left) }
        if count == 0 { rejection = rejection ?? .emptySlot }
        left -= min(count, left)
        if Int(next.offset) + count > NetworkLimits.pageSize {
            return .crossesPage(offset: Int(next.offset), byteCount: count)
        }
        return nil
    }

    @usableFromInline
    mutating func finish(_ left: Int, _ rejection: TransmitRejection?) -> TransmitVerdict {
        if let rejection { return .drop(rejection) }
        if byteCount < NetworkLimits.headerSize { return .drop(.tooShort(byteCount)) }
        if left == 0 { return .drop(.emptySlot) }
        // The first part's own size is what the others leave.
        parts[0].byteCount = UInt16(left)
        if Int(parts[0].offset) + left > NetworkLimits.pageSize {
            return .fatal(.crossesPage(offset: Int(parts[0].offset), byteCount: left))
        }
        return .packet
    }
}
