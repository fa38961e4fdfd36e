import TestSupport
import Testing

@testable import VirtioRing

@Suite("translations: the table") struct TranslationTableTests {
    /// The same as one entry for each byte.
    private struct Model {
        var bytes: [UInt64: (target: UInt64, rights: AccessRights)] = [:]

        mutating func insert(_ address: UInt64, _ count: UInt64, _ target: UInt64, _ rights: AccessRights) -> Bool {
            let agrees = (0..<count).allSatisfy { step in bytes[address + step].map { $0.target == target + step } ?? true }
            guard agrees else { return false }
            for step in 0..<count { bytes[address + step] = (target + step, rights) }
            return true
        }
    }

    @Test("any ranges, put in and taken out, are what one entry for each byte would be")
    func againstModel() throws {
        var random = SplitMix(11)
        for _ in 0..<200 {
            var (table, model) = (TranslationTable(), Model())
            let top = random.next() % 2 == 0 ? UInt64.max - 63 : 0
            for _ in 0..<60 {
                let first = random.next() % 64
                let count = random.next() % (64 - first) + 1
                let address = top + first
                if random.next() % 3 == 0 {
                    table.remove(address...(address + (count - 1)))
                    for step in 0..<count { model.bytes[address + step] = nil }
                    continue
                }
                // Few distances, so that ranges are told again and go on in each other.
                let target = 1000 + first + random.next() % 2 * 500
                let rights = AccessRights(rawValue: UInt8(random.next() % 3 + 1))
                var isTaken = true
                do throws(TranslationError) { try table.insert(address, byteCount: count, target: target, rights) } catch {
                    isTaken = false
                }
                #expect(isTaken == model.insert(address, count, target, rights))
            }
            for step in 0..<UInt64(64) {
                let entry = table.entry(at: top + step)
                #expect(entry.map { $0.target + (top + step - $0.first) } == model.bytes[top + step]?.target)
                #expect(entry?.rights == model.bytes[top + step]?.rights)
            }
            for (one, next) in zip(table.entries, table.entries.dropFirst()) {
                #expect(one.last < next.first)
                let goesOn = one.last &+ 1 == next.first && one.distance == next.distance && one.rights == next.rights
                #expect(!goesOn, "neighbours that are one")
            }
        }
    }

    @Test("VU46: ranges that cannot be are refused in words, and change nothing")
    func refused() throws {
        var table = TranslationTable()
        try table.insert(0x1000, byteCount: 0x1000, target: 0x8000, .read)
        let before = table
        let cases: [(UInt64, UInt64, UInt64, AccessRights, TranslationError, String)] = [
            (0x5000, 0, 0, .read, .empty(0x5000), "from 0x5000 on: none at all"),
            (.max, 2, 0, .read, .wraps(.max, byteCount: 2), "from 0xffffffffffffffff on: 2 bytes pass the end of all addresses"),
            (0x5000, 2, .max, .read, .wraps(0x5000, byteCount: 2), "from 0x5000 on: 2 bytes pass the end of all addresses"),
            (0x5000, 1, 0, [], .noRights(0x5000), "from 0x5000 on, with which nothing may be done"),
            (0, 0x1001, 0, .read, .contradicts(0x1000), "from 0x1000 on are something else, and were not taken back"),
            (0x1800, 1, 0x8801, .read, .contradicts(0x1800), "from 0x1800 on are something else, and were not taken back"),
        ]
        for (address, count, target, rights, error, words) in cases {
            #expect(throws: error) { try table.insert(address, byteCount: count, target: target, rights) }
            #expect("\(error)" == "IO addresses \(words)")
            #expect(table == before)
        }
        // The last byte of all is an address like any other.
        try table.insert(.max, byteCount: 1, target: 7, .write)
        #expect(table.entry(at: .max)?.target == 7)
        try table.insert(0x1000, byteCount: 0x1000, target: 0x8000, [.read, .write])
        #expect(table.entry(at: 0x1FFF)?.rights == [.read, .write])
    }

    @Test("VU47: however much is put in, and however it is cut up, the table has an end")
    func bounded() throws {
        var table = TranslationTable()
        for index in 0..<UInt64(TranslationTable.mostEntries * 3) {
            try table.insert(index << 13, byteCount: 4096, target: index << 12, .read)
            // What was said last is there.
            #expect(table.entry(at: index << 13)?.target == index << 12)
        }
        #expect(table.entries.count == TranslationTable.mostEntries)
        table.removeAll()
        try table.insert(0, byteCount: 1 << 40, target: 0, .read)
        for index in 0..<UInt64(TranslationTable.mostEntries * 2) { table.remove(index << 13...index << 13) }
        #expect(table.entries.count <= TranslationTable.mostEntries)
    }
}
