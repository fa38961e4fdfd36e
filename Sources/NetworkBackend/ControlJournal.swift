// What a frontend has set through its control ring, kept where it survives the process: the hash and its key, which queue each of its values
// means, the pages that stay mapped, and how far its requests were answered.
//
// The file has two records and two tables of mapped pages, each whole. A request's effect and its answer are written as one: into the record
// that is not the latest, its checksum last. A process killed in the middle leaves a record whose checksum is wrong and the one before it,
// under which the request was not taken yet; its slot in the ring still has it, for a response goes there only after its record is
// complete. So a successor goes on from the newest whole record: at most one answer of it is not shown yet.

import DriverSupport
import Packets
import SharedMemory
import SharedRing
import XenBus
import XenWire

/// What a frontend has set so far.
struct ControlSettings: Equatable, Sendable {
    /// Requests that were taken and answered: the ring's next index.
    var answered = RingIndex(0)
    /// The answer to the last of them.
    var last = ControlResponse(id: 0, rawType: 0, rawStatus: 0)
    var spreading = HashSpreading()
    /// Pages that stay mapped, by queue.
    var mappings: [[GrantMappingEntry]]
}

/// One interface's control journal. Owned by the thread of its queues.
struct ControlJournal: Sendable {
    /// Byte offsets in the file.
    enum Layout {
        static let magic = 0
        /// Behind the magic number: the ring's reference, its port, and how many queues there are. Then entries that a table has room for.
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
            let bytes = tables + 2 * capacity * entrySize
            return (bytes + SharedRegion.pageSize - 1) / SharedRegion.pageSize * SharedRegion.pageSize
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

    /// What the frontend has set is `settings` from now on, which its last answer says. Call before the answer is pushed.
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
        var place = Layout.records + Int(sequence & 1) * Layout.recordSize
        var sum = Checksum()
        for word in ControlRecord(sequence, settings, table).words {
            store(word, &place)
            sum.add(word)
        }
        store(sum.value, &place)
    }

    private func store(_ word: UInt32, _ place: inout Int) {
        region.storeReleasing(word, at: place)
        place += 4
        if let observer { observer() }
    }
}

/// Which table of mapped pages a record is of.
struct ControlTable: Equatable, Sendable {
    var number: UInt32 = 0
    var count: UInt32 = 0
    var sum = Checksum().value
}

/// A record as words, all but its checksum.
struct ControlRecord {
    let sequence: UInt32
    let settings: ControlSettings
    let table: ControlTable

    private static let keyWords = NetworkProtocol.maximumHashKeySize / 4
    private static let mostEntries = NetworkProtocol.maximumHashMappingSize
    static let wordCount = 12 + keyWords + mostEntries

    init(_ sequence: UInt32, _ settings: ControlSettings, _ table: ControlTable) {
        self.sequence = sequence
        self.settings = settings
        self.table = table
    }

    var words: [UInt32] {
        let (last, spreading) = (settings.last, settings.spreading)
        let key = spreading.toeplitz.key
        var words = [
            sequence, settings.answered.rawValue, UInt32(last.id) | UInt32(last.rawType) << 16, last.rawStatus, last.data,
            spreading.algorithm.rawValue, spreading.types.rawValue, UInt32(key.count), UInt32(spreading.mapping.count),
            table.number, table.count, table.sum,
        ]
        for word in 0..<Self.keyWords {
            words.append(
                (0..<4).reduce(0) { $0 | (4 * word + $1 < key.count ? UInt32(key[4 * word + $1]) << (8 * UInt32($1)) : 0) })
        }
        for entry in 0..<Self.mostEntries { words.append(entry < spreading.mapping.count ? spreading.mapping[entry] : 0) }
        return words
    }

    /// Nil if a number makes no sense.
    init?(_ words: [UInt32]) {
        precondition(words.count == Self.wordCount, "a record's size")
        guard let algorithm = HashAlgorithm(rawValue: words[5]), words[6] & ~HashTypes.all.rawValue == 0,
            words[7] <= NetworkProtocol.maximumHashKeySize, words[8] <= Self.mostEntries, words[9] <= 1
        else { return nil }
        sequence = words[0]
        var settings = ControlSettings(answered: RingIndex(words[1]), mappings: [])
        settings.last = ControlResponse(
            id: UInt16(truncatingIfNeeded: words[2]), rawType: UInt16(truncatingIfNeeded: words[2] >> 16), rawStatus: words[3],
            data: words[4])
        settings.spreading.algorithm = algorithm
        settings.spreading.types = HashTypes(rawValue: words[6])
        settings.spreading.toeplitz = ToeplitzHash(
            key: (0..<Int(words[7])).map { UInt8(truncatingIfNeeded: words[12 + $0 / 4] >> (8 * UInt32($0 % 4))) })
        settings.spreading.mapping = Array(words[(12 + Self.keyWords)...].prefix(Int(words[8])))
        self.settings = settings
        table = ControlTable(number: words[9], count: words[10], sum: words[11])
    }
}

/// Tells a whole record from a torn one: FNV-1a over words. Each step can be undone, so one changed word is always noticed.
struct Checksum {
    private(set) var value: UInt32 = 2_166_136_261
    mutating func add(_ word: UInt32) { value = (value ^ word) &* 16_777_619 }
}

/// What a killed backend left of a control ring. Pure: it reads, and changes nothing.
struct ControlRecovery: Sendable {
    let settings: ControlSettings
    /// Responses that the frontend has seen. It may lack the last.
    let published: RingIndex
    let capacity: Int
    let sequence: UInt32
    let table: ControlTable

    /// Whether the last answer is to be pushed again.
    var lacksAnswer: Bool { settings.answered != published }

    /// Reads the journal of the ring whose shared rsp_prod is `responseProduced`.
    init(
        journal region: SharedRegion, of keys: ControlKeys, queues: Int, responseProduced: UInt32
    ) throws(InterfaceRecoveryError) {
        typealias Layout = ControlJournal.Layout
        try InterfaceRecovery.expectJournal(
            ControlJournal.header(keys, queues: queues).find(in: region, byteCount: Layout.tables))
        let capacity = Int(region.loadRelaxed(Layout.capacity))
        let records = [0, 1].compactMap { Self.record($0, in: region) }
        guard let newest = records.max(by: { Int32(bitPattern: $1.sequence &- $0.sequence) > 0 }) else {
            throw .damaged("the control ring's journal")
        }
        // Anything but these two is the frontend's doing, which can write there, or a record is lost. Its choice between the two only
        // cheats itself.
        published = RingIndex(responseProduced)
        guard newest.settings.answered - published <= 1 else {
            throw .indices("the control ring's rsp_prod is \(published), where \(newest.settings.answered) requests were answered")
        }
        guard Layout.byteCount(capacity: capacity) <= region.byteCount, newest.table.count <= capacity,
            let mappings = Self.mappings(newest.table, queues, capacity, in: region)
        else { throw .damaged("the control ring's journal: its table of mapped pages") }
        var settings = newest.settings
        settings.mappings = mappings
        (self.settings, self.capacity, sequence, table) = (settings, capacity, newest.sequence, newest.table)
    }

    private static func record(_ number: Int, in region: SharedRegion) -> ControlRecord? {
        let start = ControlJournal.Layout.records + number * ControlJournal.Layout.recordSize
        var (words, sum) = ([UInt32](), Checksum())
        for index in 0..<ControlRecord.wordCount {
            words.append(region.loadRelaxed(start + 4 * index))
            sum.add(words[index])
        }
        guard region.loadRelaxed(start + 4 * words.count) == sum.value, let record = ControlRecord(words),
            Int(record.sequence & 1) == number
        else { return nil }
        return record
    }

    private static func mappings(
        _ table: ControlTable, _ queues: Int, _ capacity: Int, in region: SharedRegion
    ) -> [[GrantMappingEntry]]? {
        typealias Layout = ControlJournal.Layout
        var (mappings, sum) = ([[GrantMappingEntry]](repeating: [], count: queues), Checksum())
        let start = Layout.tables + Int(table.number) * capacity * Layout.entrySize
        for index in 0..<Int(table.count) {
            let reference = region.loadRelaxed(start + index * Layout.entrySize)
            let word = region.loadRelaxed(start + index * Layout.entrySize + 4)
            sum.add(reference)
            sum.add(word)
            let queue = Int(word & ~Layout.readOnly)
            guard queue < queues else { return nil }
            mappings[queue].append(GrantMappingEntry(reference: GrantReference(reference), isReadOnly: word & Layout.readOnly != 0))
        }
        return sum.value == table.sum ? mappings : nil
    }
}
