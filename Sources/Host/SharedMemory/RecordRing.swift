// Records of any length between one writer and one reader, through shared memory and without a system call. Neither
// ever waits for the other inside a call: a full ring refuses a record, an empty one has none. Whoever wants to sleep
// leaves word, and is told.
//
// The first page holds the counters, each on a cache line of its own; behind it lie the records, each behind eight
// bytes of header and at a multiple of eight, none across the end. Counters are bytes since the beginning and wrap.
// Each side keeps its own counter in private memory and looks at nothing of the other's but its counter and its request
// to be told, so that neither can lead the other astray.

/// Where a record ring's parts lie, in bytes.
public enum RecordRing {
    static let produced = 0
    static let consumed = 64
    static let readerWaits = 128
    static let writerWaits = 192
    static let lost = 256
    static let ended = 320
    static let start = SharedRegion.pageSize
    /// Bytes before each record: its length, and what the length of a gap at the end is.
    static let header = 8
    static let gap: UInt32 = .max

    /// Bytes of records that a ring may have: powers of two.
    public static func isCapacity(_ count: Int) -> Bool {
        count >= SharedRegion.pageSize && count <= 1 << 30 && count & (count - 1) == 0
    }

    /// Bytes of memory that a ring with `capacity` bytes of records takes.
    public static func byteCount(capacity: Int) -> Int { start + capacity }

    static func capacity(of region: SharedRegion) -> UInt32 {
        let capacity = region.byteCount - start
        precondition(isCapacity(capacity), "a record ring of \(capacity) bytes")
        return UInt32(capacity)
    }

    @inline(__always)
    static func space(_ count: Int) -> UInt32 { UInt32(truncatingIfNeeded: (header + count + 7) & ~7) }
}

/// The writing end of a record ring. Owned by one thread.
public struct RecordWriter: ~Copyable {
    /// The ring's memory; records are written into it.
    public let region: SharedRegion
    private let capacity: UInt32
    private var produced: UInt32 = 0
    private var reserved: UInt32 = 0
    private var lost: UInt32 = 0

    /// Begins an empty ring in `region`, which is all zero.
    public init(_ region: SharedRegion) {
        self.region = region
        capacity = RecordRing.capacity(of: region)
    }

    /// Goes on with a ring of this process's own, or of a predecessor's that nobody else could write.
    public init(resuming region: SharedRegion) {
        self.init(region)
        produced = region.loadRelaxed(RecordRing.produced)
        lost = region.loadRelaxed(RecordRing.lost)
    }

    /// The longest record: half the ring, so that one always fits an empty ring, wherever its end is.
    public var longest: Int { Int(capacity / 2) - RecordRing.header }

    /// Where a record of `count` bytes may be written; nil if there is no room now. `commit` publishes it.
    public mutating func reserve(_ count: Int) -> Int? {
        guard count <= longest else { return nil }
        let space = RecordRing.space(count)
        let used = produced &- region.loadAcquiring(RecordRing.consumed)
        // More than there is: the reader lies, and has what it deserves.
        guard used <= capacity else { return nil }
        let position = produced & (capacity &- 1)
        let tail = capacity &- position
        let skip = tail < space ? tail : 0
        guard used &+ skip &+ space <= capacity else { return nil }
        if skip > 0 {
            region.store(RecordRing.gap, at: RecordRing.start + Int(position))
            produced &+= skip
        }
        let place = RecordRing.start + Int(produced & (capacity &- 1))
        region.store(UInt32(count), at: place)
        reserved = space
        return place + RecordRing.header
    }

    /// Whether so many records of so many bytes together would find room now.
    public func hasRoom(records: Int, byteCount: Int) -> Bool {
        let used = produced &- region.loadAcquiring(RecordRing.consumed)
        // Each may lose seven bytes to alignment, and one of them the end of the ring.
        let wanted = byteCount + records * (RecordRing.header + 7) + Int(capacity) / 4
        return used <= capacity && wanted <= Int(capacity &- used)
    }

    /// Publishes the record that was reserved last.
    public mutating func commit() {
        produced &+= reserved
        reserved = 0
        region.storeReleasing(produced, at: RecordRing.produced)
    }

    /// Counts a record that found no room.
    public mutating func lose() {
        lost &+= 1
        region.storeRelaxed(lost, at: RecordRing.lost)
    }

    /// Whether the reader sleeps and wants to be told of what was published; once for each time that it does.
    public func takeReaderRequest() -> Bool {
        fullFence()
        guard region.loadRelaxed(RecordRing.readerWaits) != 0 else { return false }
        region.storeRelaxed(0, at: RecordRing.readerWaits)
        return true
    }

    /// Leaves word that room is wanted. Look once more afterwards: some may have come up meanwhile.
    public func requestRoom() {
        region.storeRelaxed(1, at: RecordRing.writerWaits)
        fullFence()
    }

    /// Says that nothing more will come; from any thread, and whoever owns the writer.
    public static func end(_ region: SharedRegion) { region.storeReleasing(1, at: RecordRing.ended) }
}

/// The reading end of a record ring. Owned by one thread.
public struct RecordReader: ~Copyable {
    /// The ring's memory; records are read from it.
    public let region: SharedRegion
    private let capacity: UInt32
    private var consumed: UInt32 = 0
    private var current: UInt32 = 0
    /// The writer's counters or lengths make no sense: nothing more is read.
    public private(set) var isBroken = false

    /// Reads the ring in `region` from its beginning.
    public init(_ region: SharedRegion) {
        self.region = region
        capacity = RecordRing.capacity(of: region)
    }

    /// Goes on where the reader before this one was.
    public init(resuming region: SharedRegion) {
        self.init(region)
        consumed = region.loadRelaxed(RecordRing.consumed)
    }

    /// Where the oldest record lies and how long it is; nil if there is none. It stays until `release`.
    public mutating func next() -> (offset: Int, byteCount: Int)? {
        if isBroken { return nil }
        let produced = region.loadAcquiring(RecordRing.produced)
        var left = produced &- consumed
        var here = consumed
        if left == 0 { return nil }
        if left <= capacity, left & 7 == 0 {
            var position = here & (capacity &- 1)
            var count: UInt32 = region.load(RecordRing.start + Int(position))
            if count == RecordRing.gap, capacity &- position < left {
                left &-= capacity &- position
                here &+= capacity &- position
                position = 0
                count = region.load(RecordRing.start)
            }
            if count <= capacity / 2 {
                let space = RecordRing.space(Int(count))
                if space <= left, space <= capacity &- position {
                    current = here &- consumed &+ space
                    return (RecordRing.start + Int(position) + RecordRing.header, Int(count))
                }
            }
        }
        isBroken = true
        return nil
    }

    /// Gives back the room of the record that `next` found.
    public mutating func release() {
        consumed &+= current
        current = 0
        region.storeReleasing(consumed, at: RecordRing.consumed)
    }

    /// Gives back everything there is.
    public mutating func discardAll() {
        consumed = region.loadAcquiring(RecordRing.produced)
        current = 0
        region.storeReleasing(consumed, at: RecordRing.consumed)
    }

    /// Leaves word that records are wanted; true if there is one already.
    public func requestRecords() -> Bool {
        region.storeRelaxed(1, at: RecordRing.readerWaits)
        fullFence()
        return region.loadRelaxed(RecordRing.produced) != consumed
    }

    /// Whether the writer wants room and there is enough again to be worth telling; once for each time that it does.
    public func takeWriterRequest() -> Bool {
        fullFence()
        guard region.loadRelaxed(RecordRing.writerWaits) != 0 else { return false }
        guard region.loadRelaxed(RecordRing.produced) &- consumed <= capacity / 2 else { return false }
        region.storeRelaxed(0, at: RecordRing.writerWaits)
        return true
    }

    /// Records that found no room since the beginning; wraps.
    public var lost: UInt32 { region.loadRelaxed(RecordRing.lost) }
    /// Whether nothing more will come.
    public var hasEnded: Bool { region.loadAcquiring(RecordRing.ended) != 0 }
}
