// What a controller's next driver needs of this one, in memory that outlives the process and that the controller does
// not reach: what was set up, which memory is where, and for each pair of queues a ledger of its commands.
//
// Little is believed of it: a version, a checksum over what was set up, and the controller itself, which has to say the
// same. Whatever does not fit together costs a reset.

import HostIommu
import SharedMemory

/// One controller's.
struct ControllerLedger: Sendable {
    /// Grows when what is here changes its meaning.
    static let version: UInt32 = 1
    private static let magic: UInt32 = 0x4D56_4E43

    private enum Layout {
        /// Not 0: the controller runs as the words behind say.
        static let running = 0
        static let words = 8
        static let book = 4096
        static let bookEntries = 256
        static let bookPages = 3
        static let queues = book + bookPages * 4096
    }
    /// Where memory is for the controller.
    static func book(in region: SharedRegion) -> RegionBook {
        RegionBook(region, at: Layout.book, entries: Layout.bookEntries)
    }
    static var byteCount: Int { Layout.queues + (NVMeController.mostQueues + 1) * QueueLedger.byteCount }

    let region: SharedRegion
    private let observer: (@Sendable () -> Void)?

    /// In memory of `byteCount` bytes; zeroes are a controller that was not set up.
    init(_ keeping: any NVMeKeeping) { (region, observer) = (keeping.ledger, keeping.observer) }

    /// A pair's; number 0 is the admin queue.
    func queue(_ number: Int) -> QueueLedger {
        precondition(number >= 0 && number <= NVMeController.mostQueues, "no such queue")
        return QueueLedger(region, at: Layout.queues + number * QueueLedger.byteCount, observer: observer)
    }

    /// What was set up.
    struct SetUp: Equatable {
        var capabilities: UInt64
        /// Where the admin queue's memory is.
        var adminAddress: UInt64
        /// Pairs of queues that were granted: that can be asked once only.
        var queueLimit: Int
        var vectors: Int

        fileprivate var words: [UInt32] {
            [
                ControllerLedger.magic, ControllerLedger.version, UInt32(truncatingIfNeeded: capabilities),
                UInt32(truncatingIfNeeded: capabilities >> 32), UInt32(truncatingIfNeeded: adminAddress),
                UInt32(truncatingIfNeeded: adminAddress >> 32), UInt32(queueLimit), UInt32(vectors),
            ]
        }
    }

    /// FNV-1a over words: tells what a kill tore apart.
    private static func checksum(_ words: [UInt32]) -> UInt32 {
        words.reduce(2_166_136_261) { ($0 ^ $1) &* 16_777_619 }
    }

    /// It runs as this says.
    func begin(_ setUp: SetUp) {
        let words = setUp.words
        for (index, word) in (words + [Self.checksum(words)]).enumerated() {
            region.storeReleasing(word, at: Layout.words + 4 * index)
        }
        region.storeReleasing(1, at: Layout.running)
    }

    /// It is being reset: it knows no queue any more that this tells of.
    func end() {
        region.storeReleasing(0, at: Layout.running)
        for number in 0...NVMeController.mostQueues { queue(number).state = .none }
    }

    /// What a predecessor set up.
    func read() throws(NotAdoptable) -> SetUp {
        guard region.loadAcquiring(Layout.running) != 0 else { throw NotAdoptable("it was being started or reset") }
        let words = (0..<8).map { region.loadRelaxed(Layout.words + 4 * $0) }
        guard words[0] == Self.magic, words[1] == Self.version else {
            throw NotAdoptable("its record is of version \(words[1]), and this program's is \(Self.version)")
        }
        guard Self.checksum(words) == region.loadRelaxed(Layout.words + 32) else {
            throw NotAdoptable("its record has a wrong checksum")
        }
        return SetUp(
            capabilities: UInt64(words[2]) | UInt64(words[3]) << 32, adminAddress: UInt64(words[4]) | UInt64(words[5]) << 32,
            queueLimit: Int(words[6]), vectors: Int(words[7]))
    }
}

/// Why a controller cannot be gone on with, and is reset.
struct NotAdoptable: Error, CustomStringConvertible {
    let description: String

    init(_ reason: String) { description = reason }
}
