// The frontend's end of a transmit ring, byte by byte.

import FuzzSupport
import NetworkProtocol
import SharedMemory
import SharedRing

/// Pushes slots and reads answers.
struct Frontend {
    let region: SharedRegion
    var pushed = 0
    var published = 0
    var answered = 0
    var pending: [RawSlot] = []

    init(_ region: SharedRegion) {
        self.region = region
        region.fill(0, count: 4096)
    }

    mutating func push(_ bytes: [UInt8]) {
        guard pushed - answered < 256 else { return }
        region.write(bytes, at: 64 + pushed % 256 * 12)
        pending.append(RawSlot(bytes: bytes))
        pushed += 1
    }

    mutating func publish() -> [RawSlot] {
        published = pushed
        region.storeReleasing(UInt32(pushed), at: RingHeader.requestProduced)
        defer { pending = [] }
        return pending
    }

    /// All answers that are there: id and status.
    mutating func answers() -> [(id: Int, status: Int)] {
        let produced = Int(region.loadAcquiring(RingHeader.responseProduced))
        require(produced >= answered && produced <= published, "\(produced) answers to \(published) slots")
        defer { answered = produced }
        return (answered..<produced).map { index in
            let bytes = region.bytes(at: 64 + index % 256 * 12, count: 4)
            return (Int(bytes[0]) | Int(bytes[1]) << 8, Int(Int16(bitPattern: UInt16(bytes[2]) | UInt16(bytes[3]) << 8)))
        }
    }
}

func bytes(of slot: TransmitRequest) -> [UInt8] {
    func little(_ value: some FixedWidthInteger, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    return little(slot.reference.rawValue, 4) + little(slot.offset, 2) + little(slot.flags.rawValue, 2) + little(slot.id, 2)
        + little(slot.size, 2)
}
