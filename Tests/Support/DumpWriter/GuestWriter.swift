// A PV domain's own p2m in machine frames, as Linux lays it out: the linear list behind page tables, or the tree of
// frames.

/// Builds the frames of a p2m.
public struct GuestWriter {
    /// How it is found.
    public enum Form: Sendable, CaseIterable { case linear, tree }
    /// What stands at each pfn, in the guest's width: a frame with its marks, or all ones.
    public var words: [UInt64]
    /// Bytes in a word: 4 or 8.
    public let width: Int
    /// How it is found.
    public let form: Form
    /// Where the linear list begins.
    public var address: UInt64
    /// The bytes of each frame used.
    public private(set) var frames: [UInt64: [UInt8]] = [:]
    private var unused: [UInt64]

    /// - Parameter unused: frames that the p2m may lie in, the last first.
    public init(_ words: [UInt64], width: Int, form: Form, unused: [UInt64]) {
        self.words = words
        self.width = width
        self.form = form
        self.unused = unused
        address = width == 8 ? 0xFFFF_C900_0020_0000 : 0xC080_0000
    }

    private mutating func store(_ bytes: [UInt8]) -> UInt64 {
        let frame = unused.removeLast()
        frames[frame] = bytes + [UInt8](repeating: 0, count: 4096 - bytes.count)
        return frame
    }

    /// Lays the p2m out; the shared page that leads to it.
    public mutating func write(generation: UInt64 = 2) -> [UInt8] {
        let perPage = 4096 / width
        let none = width == 8 ? UInt64.max : 0xFFFF_FFFF
        var leaves: [UInt64] = []
        var missing: UInt64?
        for start in stride(from: 0, to: words.count, by: perPage) {
            var part = Array(words[start..<min(start + perPage, words.count)])
            part += [UInt64](repeating: none, count: perPage - part.count)
            // Pages that say nothing are one page, as in Linux.
            let isEmpty = part.allSatisfy { $0 == none }
            let frame = isEmpty ? missing ?? store(list(part)) : store(list(part))
            if isEmpty { missing = frame }
            leaves.append(frame)
        }
        var page = [UInt8](repeating: 0, count: 4096)
        func put(_ number: UInt64, _ wide: Int, _ narrow: Int) {
            if width == 8 { page.put(number, at: wide) } else { page.put(UInt32(truncatingIfNeeded: number), at: narrow) }
        }
        put(UInt64(words.count), 3088, 2316)
        switch form {
        case .linear:
            let top = tables(leaves)
            put(.max, 3096, 2320)
            put(width == 8 ? top << 12 : (top << 12 | top >> 20) & 0xFFFF_FFFF, 3112, 2328)
            put(address, 3120, 2332)
        case .tree:
            let lists = stride(from: 0, to: leaves.count, by: perPage).map { start in
                store(list(Array(leaves[start..<min(start + perPage, leaves.count)])))
            }
            put(store(list(lists)), 3096, 2320)
        }
        put(generation, 3128, 2336)
        return page
    }

    private func list(_ words: [UInt64]) -> [UInt8] {
        var bytes: [UInt8] = []
        for word in words {
            if width == 8 { bytes.append(number: word) } else { bytes.append(number: UInt32(truncatingIfNeeded: word)) }
        }
        return bytes
    }

    /// Page tables that map the leaves at `address`; the top one's frame.
    private mutating func tables(_ leaves: [UInt64]) -> UInt64 {
        // The list's pages by page number, then the tables of each level by theirs.
        let bits: UInt64 = width == 8 ? 48 : 32
        var level = Dictionary(uniqueKeysWithValues: leaves.enumerated().map { ((address % (1 << bits)) >> 12 + UInt64($0), $1) })
        for _ in 0..<(width == 8 ? 4 : 3) {
            var next: [UInt64: [UInt8]] = [:]
            for (number, frame) in level {
                // Present, writable, accessed, dirty, and no execution: as a real one.
                next[number >> 9, default: [UInt8](repeating: 0, count: 4096)]
                    .put(frame << 12 | 0x63 | 1 << 63, at: Int(number & 511) * 8)
            }
            level = [:]
            for (number, bytes) in next.sorted(by: { $0.key < $1.key }) { level[number] = store(bytes) }
        }
        return level[0] ?? 0
    }
}
