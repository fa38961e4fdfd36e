// What a tracer is told of a disk's ring: each request when it is taken, and each answer. This file: the packet's
// layout, which files have, too. All numbers are little-endian.
//
//   0 version, 1   1 kind: 1 a request, 2 an answer   2 queue (16 bits)
//   4 operation (blkif's; of an indirect request the inner one)   5 bit 0: it is indirect   6 status (16 bits, signed)
//   8 id   16 first sector   24 sectors   32 nanoseconds since the request was taken (64 bits each)
//   40 segments that the request has   44 segments that follow (32 bits each)
//   48 for each of these: page (32 bits), first and last sector in it (8 bits each), 16 bits of zero

import BlockProtocol
import DeviceTrace
import SharedMemory
import XenTypes

/// What a record is about.
public enum BlockTraceKind: UInt8, Sendable {
    /// A request was taken off the ring.
    case request = 1
    /// It was answered.
    case answer = 2
}

/// A request, or an answer to one.
public struct BlockTraceEvent: Equatable, Sendable {
    /// Which of both.
    public var kind: BlockTraceKind
    /// The queue's number.
    public var queue: UInt16
    /// What is asked; of an indirect request the inner operation.
    public var operation: BlockOperationCode
    /// Whether its segments lie in other pages.
    public var isIndirect = false
    /// How it was answered.
    public var status = BlockStatus.okay
    /// The frontend's number for it.
    public var id: UInt64
    /// The first sector, of 512 bytes.
    public var sector: UInt64 = 0
    /// How many sectors; 0 where that is not known.
    public var sectorCount: UInt64 = 0
    /// From when it was taken to when it was answered.
    public var nanoseconds: UInt64 = 0
    /// How many segments it has.
    public var segmentCount: UInt32 = 0
    /// Those that are told of.
    public var segments: [BlockSegment] = []
    /// More about it; empty: nothing.
    public var text = ""

    /// About the request `id`.
    public init(_ kind: BlockTraceKind, queue: Int, operation: BlockOperationCode, id: UInt64) {
        self.kind = kind
        self.queue = UInt16(truncatingIfNeeded: queue)
        self.operation = operation
        self.id = id
    }

    enum Place {
        static let version: UInt8 = 1
        static let kind = 1
        static let queue = 2
        static let operation = 4
        static let flags = 5
        static let status = 6
        static let id = 8
        static let sector = 16
        static let sectorCount = 24
        static let nanoseconds = 32
        static let segmentCount = 40
        static let segmentsHere = 44
        static let segments = 48
    }

    /// Bytes of its packet.
    var packetByteCount: Int { Place.segments + segments.count * BlockSegment.size }

    /// Writes its packet.
    func store(_ region: SharedRegion, _ offset: Int) {
        region.store(Place.version, at: offset)
        region.store(kind.rawValue, at: offset + Place.kind)
        region.store(queue, at: offset + Place.queue)
        region.store(operation.rawValue, at: offset + Place.operation)
        region.store(UInt8(isIndirect ? 1 : 0), at: offset + Place.flags)
        region.store(status.rawValue, at: offset + Place.status)
        region.store(id, at: offset + Place.id)
        region.store(sector, at: offset + Place.sector)
        region.store(sectorCount, at: offset + Place.sectorCount)
        region.store(nanoseconds, at: offset + Place.nanoseconds)
        region.store(segmentCount, at: offset + Place.segmentCount)
        region.store(UInt32(segments.count), at: offset + Place.segmentsHere)
        for (index, segment) in segments.enumerated() {
            region.store(segment.word, at: offset + Place.segments + index * BlockSegment.size)
        }
    }

    /// From its packet of `count` bytes; nil: it is none.
    init?(_ region: SharedRegion, _ offset: Int, _ count: Int) {
        guard count >= Place.segments, region.load(offset, as: UInt8.self) == Place.version,
            let kind = BlockTraceKind(rawValue: region.load(offset + Place.kind, as: UInt8.self))
        else { return nil }
        let here = Int(region.load(offset + Place.segmentsHere, as: UInt32.self))
        guard here <= (count - Place.segments) / BlockSegment.size, count == Place.segments + here * BlockSegment.size else {
            return nil
        }
        self.kind = kind
        queue = region.load(offset + Place.queue)
        operation = BlockOperationCode(rawValue: region.load(offset + Place.operation))
        isIndirect = region.load(offset + Place.flags, as: UInt8.self) & 1 != 0
        status = BlockStatus(rawValue: region.load(offset + Place.status))
        id = region.load(offset + Place.id)
        sector = region.load(offset + Place.sector)
        sectorCount = region.load(offset + Place.sectorCount)
        nanoseconds = region.load(offset + Place.nanoseconds)
        segmentCount = region.load(offset + Place.segmentCount)
        segments = (0..<here).map { BlockSegment(word: region.load(offset + Place.segments + $0 * BlockSegment.size)) }
    }
}

extension TraceTap {
    /// Writes one record, or counts it as lost.
    public func write(_ event: BlockTraceEvent) {
        let text = Array(event.text.utf8.prefix(1000))
        let packet = event.packetByteCount
        write(byteCount: 4 + packet + text.count) { region, offset in
            region.store(UInt32(packet), at: offset)
            event.store(region, offset + 4)
            region.write(text, at: offset + 4 + packet)
        }
    }
}
