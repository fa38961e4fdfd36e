// A control ring's rules once more, from xen/io/netif.h, sharing nothing with the code under test.

import FuzzSupport
import NetworkRig
import XenTypes

func word(_ bytes: [UInt8], _ at: Int) -> UInt32 {
    var value: UInt32 = 0
    for index in (0..<4).reversed() { value = value << 8 | UInt32(bytes[at + index]) }
    return value
}

/// The settings as they should be.
struct Model {
    var algorithm: UInt32 = 0
    var types: UInt32 = 0
    var key: [UInt8] = []
    var mapping: [UInt32] = []
    /// By queue: mapped references, and whether they may be written.
    var mapped: [[UInt32: Bool]] = Array(repeating: [:], count: queueCount)
    /// What the last list's entries must say after it.
    var expectedStatuses: [UInt16] = []

    func bytes(_ reference: UInt32, _ count: Int) -> [UInt8]? {
        if count == 0 { return [] }
        guard let page = rig.page(GrantReference(reference)) else { return nil }
        return page.region.bytes(at: page.offset, count: count)
    }

    mutating func answer(_ type: UInt16, _ a: UInt32, _ b: UInt32, _ c: UInt32) -> (status: UInt32, data: UInt32) {
        switch type {
        case 1: return (0, 15)
        case 2:
            if a > 15 || algorithm == 0 { return (2, 0) }
            types = a
        case 3:
            if b > 40 { return (3, 0) }
            guard let bytes = bytes(a, Int(b)) else { return (2, 0) }
            key = bytes
        case 4: return (0, 128)
        case 5:
            if a > 128 { return (2, 0) }
            mapping = Array(repeating: 0, count: Int(a))
        case 6:
            if UInt64(b) + UInt64(c) > UInt64(mapping.count) { return (2, 0) }
            guard let bytes = bytes(a, Int(b) * 4) else { return (2, 0) }
            let entries = (0..<Int(b)).map { word(bytes, 4 * $0) }
            if entries.contains(where: { $0 >= queueCount }) { return (2, 0) }
            for (index, entry) in entries.enumerated() { mapping[Int(c) + index] = entry }
        case 7:
            if a > 1 { return (2, 0) }
            algorithm = a
        case 8: return a < queueCount ? (0, UInt32(limit)) : (2, 0)
        case 9, 10: return list(isAdded: type == 9, a, b, c)
        default: return (1, 0)
        }
        return (0, 0)
    }

    /// Also writes each entry's status where it belongs, as the backend would.
    private mutating func list(isAdded: Bool, _ queue: UInt32, _ reference: UInt32, _ count: UInt32) -> (UInt32, UInt32) {
        guard queue < queueCount, count >= 1, count <= 512, let page = rig.page(GrantReference(reference)), page.isWritable else {
            return (2, 0)
        }
        var worst: UInt32 = 0
        // All entries are read before the first status is written.
        let bytes = page.region.bytes(at: page.offset, count: Int(count) * 8)
        expectedStatuses = []
        for index in 0..<Int(count) {
            let entry = word(bytes, 8 * index)
            let status: UInt32 =
                if isAdded {
                    add(entry, isReadOnly: bytes[8 * index + 4] & 1 != 0, to: Int(queue))
                } else {
                    mapped[Int(queue)].removeValue(forKey: entry) == nil ? 2 : 0
                }
            if status != 0 { worst = 2 }
            expectedStatuses.append(UInt16(status))
        }
        return (worst, 0)
    }

    /// One page more for a queue; its status.
    private mutating func add(_ reference: UInt32, isReadOnly: Bool, to queue: Int) -> UInt32 {
        if mapped[queue][reference] != nil { return 2 }
        if mapped[queue].count >= limit { return 3 }
        guard let granted = rig.page(GrantReference(reference)), granted.isWritable || isReadOnly else { return 2 }
        mapped[queue][reference] = !isReadOnly
        return 0
    }
}
