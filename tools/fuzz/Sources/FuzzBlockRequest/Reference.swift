// The block protocol's rules once more, slowly: from bytes and xen/io/blkif.h's own words, with 128-bit sums, sharing
// nothing with the code under test.

struct Disk {
    var sectors: UInt64
    var logicalSectorSize: Int
    var readOnly: Bool
    var indirectLimit: Int
    var offersDiscard: Bool
    var offersSecure: Bool
    var offersFlush: Bool
    var offersBarrier: Bool
}

struct Piece: Equatable {
    var reference: UInt32
    var offset: Int
    var count: Int
}

enum Answer: Equatable {
    case refused(Int)
    case data(write: Bool, order: Int, sector: UInt64, pieces: [Piece])
    case flush(order: Int)
    case discard(sector: UInt64, count: UInt64, secure: Bool)
}

func integer(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> UInt64 {
    (0..<count).reduce(0) { $0 | UInt64(bytes[offset + $1]) << (8 * UInt64($1)) }
}

/// What must come of the request in `slot` whose indirect pages hold `page`.
func reference(_ slot: [UInt8], packed: Bool, page: [UInt8], _ disk: Disk) -> Answer {
    let shift = packed ? 4 : 0
    let sector = integer(slot, 16 - shift, 8)
    let operation = slot[0]
    let most = UInt64(Int64.max) / 512
    let sectors = UInt128(min(disk.sectors, most))

    func data(write: Bool, order: Int, count: Int, limit: Int, from bytes: [UInt8], at start: Int) -> Answer {
        if count < 1 || count > limit { return .refused(-1) }
        if write && disk.readOnly { return .refused(-1) }
        var pieces: [Piece] = []
        var place = UInt128(sector)
        let unit = UInt128(disk.logicalSectorSize / 512)
        if place % unit != 0 { return .refused(-1) }
        for index in 0..<count {
            let at = start + 8 * index
            let first = Int(bytes[at + 4]), last = Int(bytes[at + 5])
            if first > last || last > 7 { return .refused(-1) }
            let length = last - first + 1
            if UInt128(length) % unit != 0 { return .refused(-1) }
            place += UInt128(length)
            pieces.append(Piece(reference: UInt32(integer(bytes, at, 4)), offset: first * 512, count: length * 512))
        }
        if place > sectors { return .refused(-1) }
        return .data(write: write, order: order, sector: sector, pieces: pieces)
    }

    switch operation {
    case 0, 1: return data(write: operation == 1, order: 0, count: Int(slot[1]), limit: 11, from: slot, at: 24 - shift)
    case 2, 3:
        if operation == 2 ? !disk.offersBarrier : !disk.offersFlush { return .refused(-2) }
        let order = operation == 2 ? 2 : 1
        if slot[1] == 0 { return .flush(order: order) }
        return data(write: true, order: order, count: Int(slot[1]), limit: 11, from: slot, at: 24 - shift)
    case 5:
        if !disk.offersDiscard { return .refused(-2) }
        if disk.readOnly { return .refused(-1) }
        let count = integer(slot, 24 - shift, 8)
        let unit = UInt64(disk.logicalSectorSize / 512)
        if sector % unit != 0 || count % unit != 0 || UInt128(sector) + UInt128(count) > sectors { return .refused(-1) }
        return .discard(sector: sector, count: count, secure: slot[1] & 1 == 1 && disk.offersSecure)
    case 6:
        if disk.indirectLimit == 0 { return .refused(-2) }
        if slot[1] > 1 { return .refused(-1) }
        let count = Int(integer(slot, 2, 2))
        // Only now are there pages to look at.
        if count < 1 || count > disk.indirectLimit { return .refused(-1) }
        let whole = page + Array(repeating: 0, count: max(0, count * 8 - page.count))
        return data(write: slot[1] == 1, order: 0, count: count, limit: disk.indirectLimit, from: whole, at: 0)
    default: return .refused(-2)
    }
}
