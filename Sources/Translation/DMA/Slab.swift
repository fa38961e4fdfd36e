// Numbered places for values, reused: what the ledger keeps its records in. All state behind one pointer, so that its
// owner pays neither for exclusivity checks nor for an array's; growing doubles.

/// Owned by one thread; elements own nothing. Numbers are handed out by `add` and stay good until `remove`.
///
/// SAFETY: both allocations are this value's own, for `capacity` places each, and grow together. Elements below
/// `capacity` are initialized and plain (records, page runs, bounces), so that they may be copied as bytes and need no
/// end. Numbers come from `add`, or are compared with `used`; each is given back at most once, so that `unused` has
/// room for all.
@safe
struct Slab<Element>: ~Copyable {
    private var elements: UnsafeMutablePointer<Element>
    private var unused: UnsafeMutablePointer<Int32>
    private var unusedCount: Int
    /// Places that have ever been used; numbers are below it.
    private(set) var used = 0
    private var capacity: Int
    private let filler: Element

    init(capacity: Int = 64, filler: Element) {
        self.capacity = capacity
        self.filler = filler
        unusedCount = 0
        unsafe elements = .allocate(capacity: capacity)
        unsafe elements.initialize(repeating: filler, count: capacity)
        unsafe unused = .allocate(capacity: capacity)
    }

    deinit {
        unsafe elements.deallocate()
        unsafe unused.deallocate()
    }

    /// A place; what it holds is what was left there.
    @inline(__always)
    mutating func add() -> Int32 {
        if unusedCount > 0 {
            unusedCount &-= 1
            return unsafe unused[unusedCount]
        }
        if used == capacity { grow() }
        used &+= 1
        return Int32(truncatingIfNeeded: used &- 1)
    }

    /// Gives a place back that `add` gave.
    @inline(__always)
    mutating func remove(_ index: Int32) {
        unsafe unused[unusedCount] = index
        unusedCount &+= 1
    }

    /// The value at a place; the caller has checked that it is below `used`.
    subscript(_ index: Int32) -> Element {
        @inline(__always) unsafeAddress { unsafe UnsafePointer(elements + Int(index)) }
        @inline(__always) nonmutating unsafeMutableAddress { unsafe elements + Int(index) }
    }

    private mutating func grow() {
        precondition(capacity < 1 << 30, "more places than there are numbers")
        let larger = UnsafeMutablePointer<Element>.allocate(capacity: capacity * 2)
        unsafe larger.update(from: elements, count: capacity)
        unsafe (larger + capacity).initialize(repeating: filler, count: capacity)
        let places = UnsafeMutablePointer<Int32>.allocate(capacity: capacity * 2)
        unsafe places.update(from: unused, count: unusedCount)
        unsafe elements.deallocate()
        unsafe unused.deallocate()
        unsafe elements = larger
        unsafe unused = places
        capacity *= 2
    }
}
