// Powers of two of units out of a fixed number of them: IO virtual pages, bounce slots, frame numbers. A buddy system
// with 64 children to a node instead of two: each node is one word of free bits, so that a million units have four
// levels and the worst case, the request that must fail included, is a few dozen instructions. Free space is exact: the
// few single units that were freed last wait on a stack, counted as free, and join the others when a larger request
// needs them. The same calls give the same places.
//
// A word's bit is set when its unit is free as a whole and its parent is split. A unit whose 64 children are all free
// is one unit of its parent again, at once. Words with free bits stand in lists by the largest aligned power of two
// that they hold.

import Glibc
import SharedMemory

/// Not thread-safe. A value without copies, and all its state behind pointers: a class would cost a reference count and
/// a check at each use.
///
/// SAFETY: everything lies in `block`, which `init` lays out and `deinit` frees: for each of `levelCount` levels as
/// many words, classes and links as it has words, six list heads, and a bit in `stacked` for each unit. `allocate` and
/// `release` compare what they are given with `levelCount` and `capacity`, and `releaseTaken` is given what `allocate`
/// gave; every other index is made of those, or of a list, which holds words of its own level only. Used by one thread.
@safe
struct UnitAllocator: ~Copyable {
    /// SAFETY: four parts of `block`, `wordCount` places each.
    @safe
    private struct Level {
        var words: UnsafeMutablePointer<UInt64>
        /// Class of each word: one more than the largest order (0 to 5) it can give, or 0.
        var classes: UnsafeMutablePointer<UInt8>
        var next: UnsafeMutablePointer<UInt32>
        var previous: UnsafeMutablePointer<UInt32>
        var wordCount: Int
    }

    private struct Hot {
        var freeUnits = 0
        /// Single units freed last.
        var stack: InlineArray<32, UInt32> = InlineArray(repeating: 0)
        var depth = 0
    }
    private static let stackLimit = 32
    private static let none = UInt32.max
    /// Six levels of 64: 2^30 units, 4 TiB of pages, all of which can be one request.
    private static let deepest = 6

    let capacity: Int
    /// Units that are free.
    var freeUnits: Int { hot.value.freeUnits }
    private let hot: StateReference<Hot>
    /// All of its memory.
    private let block: UnsafeMutableRawPointer
    /// A bit for each unit: whether it is on the stack.
    private let stacked: UnsafeMutablePointer<UInt64>
    private let levelCount: Int
    private let levels: UnsafeMutablePointer<Level>
    /// First word of each list, six for each level.
    private let heads: UnsafeMutablePointer<UInt32>
    /// Which of a level's lists have words, a bit for each.
    private let stocked: UnsafeMutablePointer<UInt8>

    /// `capacity` units, 1 to 2^30, of what `units` says; those from `first` on are free, the others never. All of its
    /// memory is one block. Throws `noTables`.
    init(capacity: Int, from first: Int = 0, of units: String, name: String) throws(DMAError) {
        precondition(first >= 0 && first < capacity && capacity <= 1 << 30, "units out of range")
        self.capacity = capacity
        var counts: [Int] = []
        var (count, span) = (capacity, 1)
        // Until a level's one word has more places than there are units: the last level has one for the whole.
        repeat {
            count = (count + 63) / 64
            span *= 64
            counts.append(count)
        } while span <= capacity && counts.count < Self.deepest
        levelCount = counts.count
        // Not touched until used: a large, mostly empty space costs no memory.
        let parts = Parts(counts)
        // SAFETY: as large as all parts together, and cleared, or nothing.
        guard let block = unsafe calloc(1, parts.byteCount) else {
            throw .noTables(name: name, of: "the allocator of \(capacity) \(units)", byteCount: parts.byteCount)
        }
        unsafe self.block = block
        // SAFETY: the block is as large as its parts together, and cleared; each part begins at a cache line.
        let state = unsafe block.bindMemory(to: Hot.self, capacity: 1)
        unsafe state.initialize(to: Hot())
        unsafe hot = StateReference(at: state)
        unsafe levels = (block + parts.levels).bindMemory(to: Level.self, capacity: levelCount)
        unsafe heads = (block + parts.heads).bindMemory(to: UInt32.self, capacity: 6 * levelCount)
        unsafe heads.initialize(repeating: Self.none, count: 6 * levelCount)
        unsafe stocked = (block + parts.stocked).bindMemory(to: UInt8.self, capacity: levelCount)
        unsafe stacked = (block + parts.stacked).bindMemory(to: UInt64.self, capacity: counts[0])
        for (index, count) in counts.enumerated() {
            let words = unsafe block + parts.words[index]
            let links = unsafe words + count * 8
            unsafe (levels + index).initialize(
                to: Level(
                    words: words.bindMemory(to: UInt64.self, capacity: count),
                    classes: (links + count * 8).bindMemory(to: UInt8.self, capacity: count),
                    next: links.bindMemory(to: UInt32.self, capacity: count),
                    previous: (links + count * 4).bindMemory(to: UInt32.self, capacity: count), wordCount: count))
        }
        addAll(from: first)
    }

    deinit { unsafe free(block) }

    /// Where in the block each part starts, all at multiples of a cache line.
    private struct Parts {
        var levels = 0
        var heads = 0
        var stocked = 0
        var stacked = 0
        var words: [Int] = []
        private(set) var byteCount = 0

        init(_ counts: [Int]) {
            _ = add(MemoryLayout<Hot>.stride)
            levels = add(counts.count * MemoryLayout<Level>.stride)
            heads = add(counts.count * 6 * 4)
            stocked = add(counts.count)
            stacked = add(counts[0] * 8)
            // A word, its two links and its class.
            words = counts.map { add($0 * 17) }
        }

        private mutating func add(_ size: Int) -> Int {
            defer { byteCount += (size + 63) & ~63 }
            return byteCount
        }
    }

    /// The order of a request: the smallest power of two that holds `count` units.
    @inline(__always)
    static func order(_ count: Int) -> Int { count <= 1 ? 0 : Int.bitWidth - (count - 1).leadingZeroBitCount }

    /// Takes 1 << `order` units, aligned to their number; nil if there are none.
    @inline(__always)
    func allocate(order: Int) -> Int? {
        if order == 0, hot.value.depth > 0 {
            let depth = hot.value.depth &- 1
            let unit = Int(hot.value.stack[depth])
            hot.value.depth = depth
            unsafe stacked[unit >> 6] &= ~(1 << UInt64(unit & 63))
            hot.value.freeUnits &-= 1
            return unit
        }
        return allocateFromTree(order)
    }

    private func allocateFromTree(_ order: Int) -> Int? {
        let level = order / 6
        guard level < levelCount else { return nil }
        var place = take(level, order - level * 6)
        if place == nil, stackHelps(order) {
            unstack()
            place = take(level, order - level * 6)
        }
        guard let place else { return nil }
        hot.value.freeUnits -= 1 << order
        return place << (6 * level)
    }

    /// Gives them back; false, and nothing changes, if they are not what was taken as far as can be told (a part is
    /// free).
    @discardableResult
    @inline(__always)
    func release(_ start: Int, order: Int) -> Bool {
        if order == 0, start >= 0, start < capacity, hot.value.depth < Self.stackLimit {
            let word = start >> 6
            let mask: UInt64 = 1 << UInt64(start & 63)
            let bits = unsafe levels[0].words[word]
            if unsafe (bits | stacked[word]) & mask != 0 { return false }
            if bits == 0 && isFreeAbove(0, word) { return false }
            unsafe stacked[word] |= mask
            let depth = hot.value.depth
            hot.value.stack[depth] = UInt32(truncatingIfNeeded: start)
            hot.value.depth = depth &+ 1
            hot.value.freeUnits &+= 1
            return true
        }
        return releaseToTree(start, order)
    }

    /// Gives back what its owner knows to be taken, as a whole: what `release` looks for is not looked for.
    @inline(__always)
    func releaseTaken(_ start: Int, order: Int) {
        guard order == 0, hot.value.depth < Self.stackLimit else {
            putBack(order / 6, start >> (order / 6 * 6), order % 6)
            hot.value.freeUnits &+= 1 << order
            return
        }
        unsafe stacked[start >> 6] |= 1 << UInt64(start & 63)
        let depth = hot.value.depth
        hot.value.stack[depth] = UInt32(truncatingIfNeeded: start)
        hot.value.depth = depth &+ 1
        hot.value.freeUnits &+= 1
    }

    @discardableResult
    private func releaseToTree(_ start: Int, _ order: Int) -> Bool {
        let level = order / 6
        guard level < levelCount, start >= 0, start + 1 << order <= capacity, start & ((1 << order) - 1) == 0 else {
            return false
        }
        // A part of it is free, on the stack.
        if hot.value.depth > 0, isStacked(start, order) { return false }
        guard give(level, start >> (6 * level), order - level * 6) else { return false }
        hot.value.freeUnits += 1 << order
        return true
    }

    @inline(__always)
    private func isStacked(_ start: Int, _ order: Int) -> Bool {
        if order < 6 { return unsafe stacked[start >> 6] & (Self.ones(order) << UInt64(start & 63)) != 0 }
        for index in 0..<hot.value.depth where Int(hot.value.stack[index]) >> order == start >> order {
            return true
        }
        return false
    }

    /// Whether the units on the stack make room for a request that the others have none for: an aligned run within a
    /// word, or a whole word and so, perhaps, more. Only looked at: the request that fails costs little, and the units
    /// stay at hand.
    private func stackHelps(_ order: Int) -> Bool {
        for index in 0..<hot.value.depth {
            let word = Int(hot.value.stack[index]) >> 6
            let bits = unsafe levels[0].words[word] | stacked[word]
            if order < 6 ? Self.aligned(bits, order) != 0 : bits == .max { return true }
        }
        return false
    }

    /// The units on the stack join the others.
    private func unstack() {
        while hot.value.depth > 0 {
            hot.value.depth -= 1
            let unit = Int(hot.value.stack[hot.value.depth])
            unsafe stacked[unit >> 6] &= ~(1 << UInt64(unit & 63))
            _ = give(0, unit, 0)
        }
    }

    /// The order of the largest request that would succeed now; nil if everything is taken.
    var largestOrder: Int? {
        unstack()
        for level in stride(from: levelCount - 1, through: 0, by: -1) {
            let lists = unsafe stocked[level]
            if lists != 0 { return level * 6 + 7 - lists.leadingZeroBitCount }
        }
        return nil
    }

    /// The largest order that can ever be had.
    var topOrder: Int { (levelCount - 1) * 6 + 5 }

    /// Makes everything from `first` on free, in the largest units that fit.
    private func addAll(from first: Int) {
        var start = first
        while start < capacity {
            var order = min(start == 0 ? 30 : start.trailingZeroBitCount, topOrder)
            while start + 1 << order > capacity { order -= 1 }
            releaseToTree(start, order)
            start += 1 << order
        }
    }

    private func take(_ level: Int, _ order: Int) -> Int? {
        let lists = unsafe stocked[level] >> UInt8(order)
        if lists != 0 {
            let word = unsafe Int(heads[level * 6 + order + lists.trailingZeroBitCount])
            let bits = unsafe levels[level].words[word]
            if order == 0 && lists & 1 != 0 {
                // A word of single units has nothing larger after it, either.
                let left = bits & (bits &- 1)
                store(level, word, left, left == 0 ? 0 : 1)
                return word << 6 + bits.trailingZeroBitCount
            }
            let place = Self.aligned(bits, order).trailingZeroBitCount
            store(level, word, bits & ~(Self.ones(order) << UInt64(place)))
            return word << 6 + place
        }
        // None in a split unit: split one of the next size.
        guard level + 1 < levelCount, let word = take(level + 1, 0) else { return nil }
        store(level, word, ~Self.ones(order))
        return word << 6
    }

    private func give(_ level: Int, _ place: Int, _ order: Int) -> Bool {
        let word = place >> 6
        let mask = Self.ones(order) << UInt64(place & 63)
        let bits = unsafe levels[level].words[word]
        if bits & mask != 0 || bits == 0 && isFreeAbove(level, word) { return false }
        putBack(level, place, order)
        return true
    }

    /// `give` without a look at what is free already.
    private func putBack(_ level: Int, _ place: Int, _ order: Int) {
        let word = place >> 6
        let mask = Self.ones(order) << UInt64(place & 63)
        let bits = unsafe levels[level].words[word]
        if bits | mask == .max && level + 1 < levelCount {
            store(level, word, 0)
            return putBack(level + 1, word, 0)
        }
        if order == 0 && bits >> UInt64(place & 63 ^ 1) & 1 == 0 {
            // Its neighbour is taken: nothing larger comes of it.
            unsafe store(level, word, bits | mask, bits == 0 ? 1 : levels[level].classes[word])
        } else {
            store(level, word, bits | mask)
        }
    }

    /// Whether the unit that this word describes is free as a whole.
    private func isFreeAbove(_ level: Int, _ word: Int) -> Bool {
        var (level, place) = (level + 1, word)
        while level < levelCount {
            let bits = unsafe levels[level].words[place >> 6]
            if bits != 0 { return bits >> UInt64(place & 63) & 1 == 1 }
            place >>= 6
            level += 1
        }
        return false
    }

    // MARK: Words and lists

    private func store(_ level: Int, _ word: Int, _ bits: UInt64) { store(level, word, bits, Self.largest(bits)) }

    @inline(__always)
    private func store(_ level: Int, _ word: Int, _ bits: UInt64, _ new: UInt8) {
        let at = unsafe levels + level
        unsafe at.pointee.words[word] = bits
        let old = unsafe at.pointee.classes[word]
        if old == new { return }
        unsafe at.pointee.classes[word] = new
        if old != 0 { unlink(level, word, Int(old) &- 1) }
        if new != 0 { link(level, word, Int(new) &- 1) }
    }

    private func link(_ level: Int, _ word: Int, _ list: Int) {
        let head = unsafe heads[level * 6 + list]
        unsafe levels[level].next[word] = head
        unsafe levels[level].previous[word] = Self.none
        if head != Self.none { unsafe levels[level].previous[Int(head)] = UInt32(word) }
        unsafe heads[level * 6 + list] = UInt32(word)
        unsafe stocked[level] |= 1 << UInt8(list)
    }

    private func unlink(_ level: Int, _ word: Int, _ list: Int) {
        let (next, previous) = unsafe (levels[level].next[word], levels[level].previous[word])
        if next != Self.none { unsafe levels[level].previous[Int(next)] = previous }
        if previous != Self.none {
            unsafe levels[level].next[Int(previous)] = next
        } else {
            unsafe heads[level * 6 + list] = next
            if next == Self.none { unsafe stocked[level] &= ~(1 << UInt8(list)) }
        }
    }

    /// 1 << order ones.
    @inline(__always)
    private static func ones(_ order: Int) -> UInt64 { UInt64.max >> UInt64(64 - 1 << order) }

    /// The places where an aligned run of 1 << order free bits starts.
    @inline(__always)
    private static func aligned(_ bits: UInt64, _ order: Int) -> UInt64 {
        var bits = bits
        if order > 0 { bits &= bits >> 1 & 0x5555_5555_5555_5555 }
        if order > 1 { bits &= bits >> 2 & 0x1111_1111_1111_1111 }
        if order > 2 { bits &= bits >> 4 & 0x0101_0101_0101_0101 }
        if order > 3 { bits &= bits >> 8 & 0x0001_0001_0001_0001 }
        if order > 4 { bits &= bits >> 16 & 0x0000_0001_0000_0001 }
        return bits
    }

    /// A word's class: one more than the largest order that it can give, or 0.
    @inline(__always)
    private static func largest(_ bits: UInt64) -> UInt8 {
        if bits == 0 { return 0 }
        var bits = bits & bits >> 1 & 0x5555_5555_5555_5555
        if bits == 0 { return 1 }
        bits &= bits >> 2 & 0x1111_1111_1111_1111
        if bits == 0 { return 2 }
        bits &= bits >> 4 & 0x0101_0101_0101_0101
        if bits == 0 { return 3 }
        bits &= bits >> 8 & 0x0001_0001_0001_0001
        if bits == 0 { return 4 }
        return bits & bits >> 16 & 0x0000_0001_0000_0001 == 0 ? 5 : 6
    }
}
