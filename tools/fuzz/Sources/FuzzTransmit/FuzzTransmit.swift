// Slots of a transmit ring to packets: the assembler against the protocol's rules written down once more, from bytes, with no state kept.

import FuzzSupport
import SharedMemory
import XenWire

/// Slots as bytes.
private struct Slots: TransmitSlotSource {
    let region: SharedRegion
    let count: Int
    var next = 0

    mutating func nextTransmitSlot() throws(Never) -> TransmitSlot? {
        guard next < count else { return nil }
        defer { next += 1 }
        return TransmitSlot(loading: region, next * 12)
    }
}

/// What should come of it.
private enum Kind { case packet, drop, multicast, fatal }

private struct Expected {
    var kind = Kind.fatal
    var taken = 0
    var extras = 0
    var bytes = 0
}

private func reference(_ bytes: [UInt8], from start: Int, _ slots: Int) -> Expected {
    func number(_ slot: Int, _ place: Int) -> Int { Int(bytes[12 * slot + place]) | Int(bytes[12 * slot + place + 1]) << 8 }
    var expected = Expected()
    expected.taken = 1
    let (flags, total) = (number(start, 6), number(start, 10))
    expected.bytes = total
    var types: Set<UInt8> = []
    var isMulticast = false
    if flags & 8 != 0 {
        while true {
            guard start + expected.taken < slots else { return expected }
            let place = 12 * (start + expected.taken)
            expected.taken += 1
            expected.extras += 1
            let type = bytes[place]
            guard (1...5).contains(type), types.insert(type).inserted else { return expected }
            if type == 1, !(1...2).contains(bytes[place + 4]) || bytes[place + 2] == 0 && bytes[place + 3] == 0 { return expected }
            if type == 2 || type == 3 { isMulticast = true }
            if bytes[place + 1] & 1 == 0 { break }
        }
    }
    if isMulticast {
        expected.kind = flags & 4 != 0 ? .fatal : .multicast
        return expected
    }
    var more = flags & 4 != 0
    var left = total
    var isDropped = false
    var continuations = 0
    while more {
        if continuations == 20 { return expected }
        let slot = start + expected.taken
        guard slot < slots else { return expected }
        expected.taken += 1
        continuations += 1
        let size = number(slot, 10)
        if number(slot, 4) + size > 4096 { return expected }
        if size == 0 || size > left || continuations > 18 { isDropped = true }
        left -= min(size, left)
        more = number(slot, 6) & 4 != 0
    }
    expected.kind = .drop
    if isDropped || total < 14 || left == 0 { return expected }
    expected.kind = number(start, 4) + left > 4096 ? .fatal : .packet
    return expected
}

private let region = try! SharedRegion(anonymous: 8192)

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(bytes, count)
    let all = input.take(min(count, 4096) / 12 * 12)
    let slots = all.count / 12
    region.write(all, at: 0)
    var source = Slots(region: region, count: slots)
    var packet = TransmitPacket()
    while source.next < slots {
        let start = source.next
        guard let first = source.nextTransmitSlot() else { break }
        let verdict = packet.assemble(first, from: &source)
        let expected = reference(all, from: start, slots)
        let kind: Kind =
            switch verdict {
            case .packet: .packet
            case .drop: .drop
            case .multicast: .multicast
            case .fatal: .fatal
            }
        require(kind == expected.kind, "slot \(start): \(verdict), expected \(expected)")
        require(source.next - start == expected.taken && packet.slotCount == expected.taken, "slot \(start): took \(packet.slotCount)")
        require(packet.extraCount == expected.extras && packet.byteCount == expected.bytes, "slot \(start): extras, bytes")
        if kind == .packet {
            var sum = 0
            for part in packet.parts {
                require(part.byteCount > 0 && Int(part.offset) + Int(part.byteCount) <= 4096, "slot \(start): a part beyond its page")
                sum += Int(part.byteCount)
            }
            require(sum == packet.byteCount && packet.parts.count <= 19, "slot \(start): \(sum) bytes in parts")
        }
        if kind == .fatal { return 0 }
    }
    return 0
}
