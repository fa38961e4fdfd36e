// What a frontend has set through its control ring, kept where it survives the process: the hash and its key, which
// queue each of its values means, the pages that stay mapped, and how far its requests were answered.
//
// The file has two records and two tables of mapped pages, each whole. A request's effect and its answer are written as
// one: into the record that is not the latest, its checksum last. A process killed in the middle leaves a record whose
// checksum is wrong and the one before it, under which the request was not taken yet; its slot in the ring still has
// it, for a response goes there only after its record is complete. So a successor goes on from the newest whole record:
// at most one answer of it is not shown yet.

import DriverRuntime
import NetworkProtocol
import Packets
import SharedMemory
import SharedRing
import XenTypes

/// What a frontend has set so far.
struct ControlSettings: Equatable, Sendable {
    /// Requests that were taken and answered: the ring's next index.
    var answered = RingIndex(0)
    /// The answer to the last of them.
    var last = ControlResponse(id: 0, rawType: 0, rawStatus: 0)
    var scaling = ReceiveSideScaling()
    /// Pages that stay mapped, by queue.
    var mappings: [[GrantMappingEntry]]
}

/// One interface's control journal. Owned by the thread of its queues.
struct ControlJournal: Sendable {
    /// Byte offsets in the file.
    enum Layout {
        static let magic = 0
        /// Behind the magic number: the ring's reference, its port, and how many queues there are. Then entries that a
        /// table has room for.
        static let capacity = 16
        static let records = 1024
        static let recordSize = 1024
        static let tables = 4096
        /// Of a mapped page: its reference; then the queue, and in bit 16 whether it may only be read.
        static let entrySize = 8
        static let readOnly: UInt32 = 1 << 16
        /// `CWC` and the layout's version.
        static let magicValue: UInt32 = 0x0143_5743

        static func byteCount(capacity: Int) -> Int {
            SharedRegion.wholePages(tables + 2 * capacity * entrySize)
        }
    }

    private let region: SharedRegion
    private let capacity: Int
    /// The latest record's, modulo 2^32; its lowest bit says where it lies.
    private var sequence: UInt32
    /// The table that the latest record is of.
    private var table: ControlTable
    /// For tests: called after each store.
    var observer: (@Sendable () -> Void)?

    /// Begins the journal of a control ring that nothing was taken from, in memory of `Layout.byteCount`.
    init(beginning region: SharedRegion, of keys: ControlKeys, queues: Int, capacity: Int) {
        self.region = region
        self.capacity = capacity
        sequence = 0
        table = ControlTable()
        Self.header(keys, queues: queues).begin(in: region) {
            region.storeRelaxed(UInt32(capacity), at: Layout.capacity)
            write(ControlSettings(mappings: []))
        }
    }

    /// How the journal of this ring begins.
    static func header(_ keys: ControlKeys, queues: Int) -> JournalHeader {
        JournalHeader(magic: Layout.magicValue, identity: [keys.ring.rawValue, keys.port.rawValue, UInt32(queues)])
    }

    /// Goes on with a predecessor's.
    init(resuming region: SharedRegion, from recovery: ControlRecovery) {
        self.region = region
        capacity = recovery.capacity
        sequence = recovery.sequence
        table = recovery.table
    }

    /// What the frontend has set is `settings` from now on, which its last answer says. Call before the answer is
    /// pushed.
    /// - Parameter mappingsChanged: whether `settings.mappings` is to be looked at; else they are as they were.
    mutating func answered(_ settings: ControlSettings, mappingsChanged: Bool) {
        if mappingsChanged { write(settings.mappings) }
        sequence &+= 1
        write(settings)
    }

    private mutating func write(_ mappings: [[GrantMappingEntry]]) {
        let number = 1 - table.number
        var place = Layout.tables + Int(number) * capacity * Layout.entrySize
        var (count, sum) = (UInt32(0), Checksum())
        for (queue, entries) in mappings.enumerated() {
            for entry in entries {
                precondition(Int(count) < capacity, "more pages are mapped than may be")
                for word in [entry.reference.rawValue, UInt32(queue) | (entry.isReadOnly ? Layout.readOnly : 0)] {
                    store(word, &place)
                    sum.add(word)
                }
                count += 1
            }
        }
        table = ControlTable(number: number, count: count, sum: sum.value)
    }

    private func write(_ settings: ControlSettings) {
        let words = ChecksummedWords(in: region, at: Layout.records + Int(sequence & 1) * Layout.recordSize)
        words.store(ControlRecord(sequence, settings, table).words, observer: observer)
    }

    private func store(_ word: UInt32, _ place: inout Int) {
        region.storeReleasing(word, at: place)
        place += 4
        if let observer { observer() }
    }
}
