// A frontend's multicast addresses, kept where they survive the process.
//
// The file has two records, each whole: the list and a checksum behind it. A change is written into the one that is not
// the latest, its checksum last; then the number of the latest is stored, and only then the request counts as taken. A
// process killed in the middle leaves that number at the record before, which nobody touched; its successor takes the
// request again, and adding or removing twice is as once. A latest record whose checksum is wrong is no kill's work:
// the one before it is old and might keep a frame away that is wanted, so nothing is believed, and all frames come
// through.

import DriverRuntime
import NetworkProtocol
import SharedMemory

/// One interface's multicast journal: a page.
struct MulticastJournal: Sendable {
    /// Byte offsets in the file.
    enum Layout {
        /// Behind the magic number, and the first queue's rings and ports, which no other connection has: the latest
        /// record's number, and in the upper half its complement, so that a changed bit is noticed.
        static let latest = 32
        static let records = 1024
        static let recordSize = 1024
        static let byteCount = 4096
        /// Words of a record: its number, two flags, how many addresses there are, two words for each, the checksum.
        static let firstAddress = 3
        static let wordCount = firstAddress + 2 * MulticastFilter.mostAddresses
        static let isOn: UInt32 = 1
        static let isIncomplete: UInt32 = 2
        /// `CWM` and the layout's version.
        static let magicValue: UInt32 = 0x014D_5743

        static func record(_ number: UInt16) -> Int { records + Int(number & 1) * recordSize }
        static func word(_ number: UInt16) -> UInt32 { UInt32(number) | UInt32(~number) << 16 }
    }

    private let region: SharedRegion
    /// The latest record's, modulo 2^16; its lowest bit says where it lies.
    private var number: UInt16
    /// For tests: called after each store.
    var observer: (@Sendable () -> Void)?

    /// Begins the journal of an interface whose first queue is `keys`, in memory of `Layout.byteCount`.
    init(beginning region: SharedRegion, of keys: NetworkQueueKeys, _ filter: MulticastFilter) {
        self.region = region
        number = 0
        Self.header(keys).begin(in: region) {
            write(filter)
            region.storeRelaxed(Layout.word(number), at: Layout.latest)
        }
    }

    /// How the journal of this interface begins.
    static func header(_ keys: NetworkQueueKeys) -> JournalHeader {
        JournalHeader(
            magic: Layout.magicValue,
            identity: [keys.transmit.rawValue, keys.receive.rawValue, keys.port.rawValue, keys.receivePort?.rawValue ?? 0])
    }

    /// Goes on with a predecessor's.
    init(resuming region: SharedRegion, from recovery: MulticastRecovery) {
        self.region = region
        number = recovery.number
        // A predecessor may have been killed between its record and this.
        region.storeReleasing(Layout.word(number), at: Layout.latest)
    }

    /// The frontend wants `filter` from now on. Call before the request is written down as taken.
    mutating func changed(_ filter: MulticastFilter) {
        number &+= 1
        write(filter)
        store(Layout.word(number), at: Layout.latest)
    }

    private func write(_ filter: MulticastFilter) {
        ChecksummedWords(in: region, at: Layout.record(number)).store(Self.words(number, filter), observer: observer)
    }

    private func store(_ word: UInt32, at place: Int) {
        region.storeReleasing(word, at: place)
        if let observer { observer() }
    }

    private static func words(_ number: UInt16, _ filter: MulticastFilter) -> [UInt32] {
        let addresses = filter.wanted ?? []
        let flags = (filter.wanted == nil ? 0 : Layout.isOn) | (filter.isIncomplete ? Layout.isIncomplete : 0)
        var words = [UInt32(number), flags, UInt32(addresses.count)]
        for address in addresses {
            words.append(UInt32(truncatingIfNeeded: address))
            words.append(UInt32(truncatingIfNeeded: address >> 32))
        }
        return words + Array(repeating: 0, count: Layout.wordCount - words.count)
    }
}

/// What a killed backend left of an interface's multicast addresses. Pure: it reads, and changes nothing.
struct MulticastRecovery: Sendable {
    let filter: MulticastFilter
    let number: UInt16

    /// Reads the journal of the interface whose first queue is `keys`; nil if there is none, it is another's, or it is
    /// damaged.
    init?(journal region: SharedRegion, of keys: NetworkQueueKeys) {
        typealias Layout = MulticastJournal.Layout
        guard case .these = MulticastJournal.header(keys).find(in: region, byteCount: Layout.byteCount) else { return nil }
        let word = region.loadAcquiring(Layout.latest)
        let latest = UInt16(truncatingIfNeeded: word)
        guard word == Layout.word(latest) else { return nil }
        // One that is whole and not yet called the latest will do: its request is taken again.
        for number in [latest &+ 1, latest] {
            guard let filter = Self.record(number, in: region) else { continue }
            (self.filter, self.number) = (filter, number)
            return
        }
        return nil
    }

    private static func record(_ number: UInt16, in region: SharedRegion) -> MulticastFilter? {
        typealias Layout = MulticastJournal.Layout
        guard let words = ChecksummedWords(in: region, at: Layout.record(number)).load(count: Layout.wordCount) else { return nil }
        let (flags, count) = (words[1], words[2])
        guard words[0] == UInt32(number), flags & ~(Layout.isOn | Layout.isIncomplete) == 0, count <= MulticastFilter.mostAddresses
        else { return nil }
        let addresses = (0..<Int(count)).map { index -> UInt64 in
            let place = Layout.firstAddress + 2 * index
            return UInt64(words[place]) | UInt64(words[place + 1]) << 32
        }
        return MulticastFilter(isOn: flags & Layout.isOn != 0, isIncomplete: flags & Layout.isIncomplete != 0, addresses)
    }
}
