// What a disk failed, by kind: a peer is only told that a request failed, so whoever looks after the disk must be told
// why.

import BlockDevices
import LinuxSystem

/// Operations of one kind that a disk failed for one reason.
public struct DiskFailure: Equatable, Sendable {
    /// What the disk was to do.
    public enum Kind: String, Sendable {
        case read, write, flush, discard, zeroes
    }

    /// What was being done.
    public let kind: Kind
    /// The disk's reason.
    public let reason: Errno
    /// Where the last one began, in sectors of 512 bytes; nil: nowhere, as for a flush.
    public internal(set) var sector: UInt64?
    /// How many there were.
    public internal(set) var count: UInt64

    /// So many of one kind.
    public init(kind: Kind, reason: Errno, sector: UInt64?, count: UInt64) {
        self.kind = kind
        self.reason = reason
        self.sector = sector
        self.count = count
    }

    /// One value for each kind and reason, in the order in which they are first met.
    /// - Parameter queues: a list for each of a disk's queues; of a kind that several have, the last one's sector.
    public static func sums(of queues: [[DiskFailure]]) -> [DiskFailure] {
        var sums: [DiskFailure] = []
        for failure in queues.joined() {
            if let index = sums.firstIndex(where: { $0.kind == failure.kind && $0.reason == failure.reason }) {
                sums[index].sector = failure.sector
                sums[index].count &+= failure.count
            } else {
                sums.append(failure)
            }
        }
        return sums
    }
}

extension BlockModel where Transport: ~Copyable {
    /// Kinds that are told apart; the reasons that a disk has are few.
    static var mostFailures: Int { 16 }

    /// Counts what the disk failed in this slot.
    @usableFromInline
    mutating func note(_ slot: RequestSlot, _ reason: Errno) {
        let request = requests[slot]
        let (kind, sector): (DiskFailure.Kind, UInt64?) =
            switch request.stage == .main ? request.work.operation : .flush {
            case .read(let offset): (.read, offset / 512)
            case .write(let offset, _): (.write, offset / 512)
            case .flush: (.flush, nil)
            case .discard(let offset, _, _): (.discard, offset / 512)
            case .writeZeroes(let offset, _, _): (.zeroes, offset / 512)
            }
        if let index = failures.firstIndex(where: { $0.kind == kind && $0.reason == reason }) {
            failures[index].sector = sector
            failures[index].count &+= 1
        } else if failures.count < Self.mostFailures {
            failures.append(DiskFailure(kind: kind, reason: reason, sector: sector, count: 1))
        }
    }
}
