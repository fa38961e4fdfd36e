// The transmit ring's rules once more, slowly: from the bytes of slots and the words of xen/io/netif.h and Linux's
// netback, sharing nothing with the code under test.

enum Outcome {
    /// Goes to the device, if its pages can be had and its marks fit.
    case packet(
        ids: [Int], extras: Int, parts: [(reference: UInt32, offset: Int, count: Int)], flags: Int,
        segmentation: (type: Int, size: Int)?)
    case dropped(ids: [Int], extras: Int)
    case multicast(id: Int, extras: Int, address: UInt64, isAdded: Bool)
    /// The end; nothing is taken any more.
    case fatal(ids: [Int], extras: Int)
}

struct RawSlot {
    var bytes: [UInt8]
    func integer(_ at: Int, _ count: Int) -> UInt64 { (0..<count).reduce(0) { $0 | UInt64(bytes[at + $1]) << (8 * UInt64($1)) } }
    var reference: UInt32 { UInt32(integer(0, 4)) }
    var offset: Int { Int(integer(4, 2)) }
    var flags: Int { Int(integer(6, 2)) }
    var id: Int { Int(integer(8, 2)) }
    var size: Int { Int(integer(10, 2)) }
}

/// What must come of the published slots.
func outcomes(_ slots: [RawSlot]) -> [Outcome] {
    var list: [Outcome] = []
    var next = 0
    while next < slots.count {
        let outcome = one(slots, &next)
        list.append(outcome)
        if case .fatal = outcome { break }
    }
    return list
}

private func one(_ slots: [RawSlot], _ next: inout Int) -> Outcome {
    let first = slots[next]
    next += 1
    var ids = [first.id]
    var extras = 0
    var seen = Set<UInt8>()
    var segmentation: (type: Int, size: Int)?
    var multicast: (address: UInt64, isAdded: Bool)?
    var more = first.flags & 8 != 0
    while more {
        guard next < slots.count else { return .fatal(ids: ids, extras: extras) }
        let extra = slots[next]
        next += 1
        extras += 1
        let type = extra.bytes[0]
        guard (1...5).contains(type), seen.insert(type).inserted else { return .fatal(ids: ids, extras: extras) }
        if type == 1 {
            guard extra.bytes[4] == 1 || extra.bytes[4] == 2, extra.integer(2, 2) != 0 else {
                return .fatal(ids: ids, extras: extras)
            }
            segmentation = (Int(extra.bytes[4]), Int(extra.integer(2, 2)))
        }
        if type == 2 || type == 3 { multicast = (extra.integer(2, 6), type == 2) }
        more = extra.bytes[1] & 1 != 0
    }
    if let multicast {
        return first.flags & 4 != 0
            ? .fatal(ids: ids, extras: extras)
            : .multicast(id: first.id, extras: extras, address: multicast.address, isAdded: multicast.isAdded)
    }
    var rest: [RawSlot] = []
    more = first.flags & 4 != 0
    while more {
        // First and 20 more have been taken, and it goes on.
        guard rest.count < 20, next < slots.count else { return .fatal(ids: ids, extras: extras) }
        let slot = slots[next]
        next += 1
        rest.append(slot)
        ids.append(slot.id)
        if slot.offset + slot.size > 4096 { return .fatal(ids: ids, extras: extras) }
        more = slot.flags & 4 != 0
    }
    let tail = rest.reduce(0) { $0 + $1.size }
    // Taken one by one, each must fit into what is left; together that is the same as their sum.
    let isBad = rest.count > 18 || tail > first.size || rest.contains { $0.size == 0 } || first.size < 14 || tail == first.size
    if isBad { return .dropped(ids: ids, extras: extras) }
    if first.offset + first.size - tail > 4096 { return .fatal(ids: ids, extras: extras) }
    return .packet(
        ids: ids, extras: extras,
        parts: [(first.reference, first.offset, first.size - tail)] + rest.map { ($0.reference, $0.offset, $0.size) },
        flags: first.flags,
        segmentation: segmentation)
}
