// What a simulated disk's sectors hold: the number of the write that they are of, so that whoever sees a sector knows
// which write it sees, and that it is whole and in its place.

import SharedMemory

/// The 512 bytes that write `number` leaves in sector `sector`; write 0 leaves zeroes.
struct SectorStamp {
    static let byteCount = 512
    private static let words = byteCount / 8

    static func store(_ number: UInt64, sector: UInt64, in region: SharedRegion, at offset: Int) {
        for word in 0..<words { region.store(value(number, sector, word), at: offset + word * 8) }
    }

    /// The write that the bytes are of; nil: they are no write's, or another sector's.
    static func number(of region: SharedRegion, at offset: Int, sector: UInt64) -> UInt64? {
        let number = region.load(offset, as: UInt64.self)
        for word in 1..<words where region.load(offset + word * 8, as: UInt64.self) != value(number, sector, word) {
            return nil
        }
        return number
    }

    private static func value(_ number: UInt64, _ sector: UInt64, _ word: Int) -> UInt64 {
        if number == 0 || word == 0 { return number }
        return (number ^ sector &<< 32 ^ UInt64(word) &<< 56) &* 0x9E37_79B9_7F4A_7C15
    }
}
