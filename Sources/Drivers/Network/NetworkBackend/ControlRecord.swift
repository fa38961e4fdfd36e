// A control journal's record as words: everything that a frontend has set but its mapped pages, which are in a table
// beside it.

import DriverRuntime
import NetworkProtocol
import Packets
import SharedRing

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

    private static let keyWords = NetworkLimits.maximumHashKeySize / 4
    private static let mostEntries = NetworkLimits.maximumHashMappingSize
    static let wordCount = 12 + keyWords + mostEntries

    init(_ sequence: UInt32, _ settings: ControlSettings, _ table: ControlTable) {
        self.sequence = sequence
        self.settings = settings
        self.table = table
    }

    var words: [UInt32] {
        let (last, scaling) = (settings.last, settings.scaling)
        let key = scaling.toeplitz.key
        var words = [
            sequence, settings.answered.rawValue, UInt32(last.id) | UInt32(last.rawType) << 16, last.rawStatus, last.data,
            scaling.algorithm.rawValue, scaling.types.rawValue, UInt32(key.count), UInt32(scaling.mapping.count),
            table.number, table.count, table.sum,
        ]
        for word in 0..<Self.keyWords {
            words.append(
                (0..<4).reduce(0) { $0 | (4 * word + $1 < key.count ? UInt32(key[4 * word + $1]) << (8 * UInt32($1)) : 0) })
        }
        for entry in 0..<Self.mostEntries { words.append(entry < scaling.mapping.count ? scaling.mapping[entry] : 0) }
        return words
    }

    /// Nil if a number makes no sense.
    init?(_ words: [UInt32]) {
        precondition(words.count == Self.wordCount, "a record's size")
        guard let algorithm = HashAlgorithm(rawValue: words[5]), words[6] & ~HashTypes.all.rawValue == 0,
            words[7] <= NetworkLimits.maximumHashKeySize, words[8] <= Self.mostEntries, words[9] <= 1
        else { return nil }
        sequence = words[0]
        var settings = ControlSettings(answered: RingIndex(words[1]), mappings: [])
        settings.last = ControlResponse(
            id: UInt16(truncatingIfNeeded: words[2]), rawType: UInt16(truncatingIfNeeded: words[2] >> 16), rawStatus: words[3],
            data: words[4])
        settings.scaling.algorithm = algorithm
        settings.scaling.types = HashTypes(rawValue: words[6])
        settings.scaling.toeplitz = ToeplitzHash(
            key: (0..<Int(words[7])).map { UInt8(truncatingIfNeeded: words[12 + $0 / 4] >> (8 * UInt32($0 % 4))) })
        settings.scaling.mapping = Array(words[(12 + Self.keyWords)...].prefix(Int(words[8])))
        self.settings = settings
        table = ControlTable(number: words[9], count: words[10], sum: words[11])
    }
}
