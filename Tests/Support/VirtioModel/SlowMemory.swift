// The slow and obvious side of the virtqueues' property tests and fuzzers: rings read byte by byte as the specification
// has them, with counts that never wrap. Nothing here is shared with the code under test but mapped memory.

import SharedMemory

/// The driver's memory, by its addresses.
public struct SlowMemory: Sendable {
    /// A part of it.
    public struct Part: Sendable {
        /// The first byte.
        public var address: UInt64
        /// How many bytes.
        public var count: UInt64
        /// Where they are mapped.
        public var region: SharedRegion
        /// Where in it.
        public var offset: Int
        /// All of it, as said.
        public init(_ address: UInt64, _ count: UInt64, _ region: SharedRegion, _ offset: Int = 0) {
            (self.address, self.count, self.region, self.offset) = (address, count, region, offset)
        }
    }

    /// The parts, none of which overlap.
    public var parts: [Part]
    /// All of it, as said.
    public init(_ parts: [Part]) { self.parts = parts }

    private func part(of address: UInt64) -> Part? {
        parts.first { address >= $0.address && address - $0.address < $0.count }
    }

    /// Whether every byte is there, and can be written if it has to be.
    public func has(_ address: UInt64, _ count: UInt64, writable: Bool) -> Bool {
        var left = count
        var place = address
        while left > 0 {
            guard let part = part(of: place), !writable || part.region.isWritable else { return false }
            let here = min(left, part.count - (place - part.address))
            left -= here
            if left > 0, place > UInt64.max - here { return false }
            place &+= here
        }
        return true
    }

    /// A byte, which is there.
    public func byte(_ address: UInt64) -> UInt8 {
        guard let part = part(of: address) else { fatalError("no memory at \(address)") }
        return part.region.load(part.offset + Int(address - part.address))
    }

    /// So many bytes as a little-endian number.
    public func number(_ address: UInt64, _ bytes: Int) -> UInt64 {
        (0..<bytes).reduce(0) { $0 | UInt64(byte(address + UInt64($1))) << UInt64(8 * $1) }
    }

    /// Stores so many bytes of a number, little-endian.
    public func put(_ value: UInt64, _ bytes: Int, at address: UInt64) {
        for index in 0..<bytes {
            guard let part = part(of: address + UInt64(index)) else { fatalError("no memory at \(address)") }
            part.region.store(
                UInt8(truncatingIfNeeded: value >> UInt64(8 * index)),
                at: part.offset + Int(address + UInt64(index) - part.address))
        }
    }
}

/// A ring as the driver describes it.
public struct SlowQueue: Sendable {
    /// Entries.
    public var size: Int
    /// Where its areas are.
    public var descriptors, driver, device: UInt64
    /// Whether tables were agreed on.
    public var tables: Bool
    /// Whether events were agreed on.
    public var events: Bool
    /// All of it, as said.
    public init(size: Int, descriptors: UInt64, driver: UInt64, device: UInt64, tables: Bool, events: Bool) {
        (self.size, self.descriptors, self.driver, self.device) = (size, descriptors, driver, device)
        (self.tables, self.events) = (tables, events)
    }
}

/// A run of a chain.
public struct SlowRun: Equatable {
    /// The first byte.
    public var address: UInt64
    /// How many bytes.
    public var count: UInt64
    /// Whether the device writes it.
    public var isWritable: Bool
    /// All of it, as said.
    public init(address: UInt64, count: UInt64, isWritable: Bool) {
        (self.address, self.count, self.isWritable) = (address, count, isWritable)
    }
}

/// A chain.
public struct SlowChain: Equatable {
    /// What the driver calls it.
    public var id: Int
    /// Entries of the ring that it takes.
    public var entries: Int
    /// What it names, in order; nothing empty.
    public var runs: [SlowRun]
    /// All of it, as said.
    public init(id: Int, entries: Int, runs: [SlowRun]) { (self.id, self.entries, self.runs) = (id, entries, runs) }
}

/// What a look at the ring finds.
public enum SlowTaken: Equatable {
    case none
    case chain(SlowChain)
    case refused
}

/// A device's end, split or packed.
public protocol SlowDevice {
    var isBroken: Bool { get }
    /// Chains taken and not put.
    var unanswered: Int { get }
    mutating func take() -> SlowTaken
    /// Whether there is something to take, or something wrong.
    mutating func look() -> Bool
    /// Gives a chain back; nothing is stored before `publish`.
    mutating func put(_ id: Int, _ entries: Int, written: UInt32)
    /// Whether the driver must be signalled. Stores what was put, if asked to.
    mutating func publish(storing: Bool) -> Bool
    /// Stores that a kick is wanted at the next chain.
    func arm()
}

extension SlowDevice {
    /// A run, if it may be where it is.
    func run(_ address: UInt64, _ count: UInt64, _ flags: UInt64, after runs: [SlowRun], _ wrote: inout Bool, _ memory: SlowMemory)
        -> SlowRun?
    {
        let isWritable = flags & 2 != 0
        if isWritable { wrote = true } else if wrote { return nil }
        if UInt64.max - count < address { return nil }
        return memory.has(address, count, writable: isWritable)
            ? SlowRun(address: address, count: count, isWritable: isWritable) : nil
    }

    /// The runs of a table.
    func table(
        _ address: UInt64, _ count: UInt64, isPacked: Bool, size: Int, _ runs: inout [SlowRun], _ wrote: inout Bool,
        _ memory: SlowMemory
    ) -> Bool {
        if count == 0 || count % 16 != 0 || count / 16 > max(UInt64(size), 1024) { return false }
        if UInt64.max - count < address || !memory.has(address, count, writable: false) { return false }
        var met: Set<UInt64> = []
        var entry: UInt64 = 0
        while true {
            guard entry < count / 16, met.insert(entry).inserted else { return false }
            let place = address + 16 * entry
            let (at, length) = (memory.number(place, 8), memory.number(place + 8, 4))
            let flags = memory.number(place + (isPacked ? 14 : 12), 2)
            if flags & 4 != 0 { return false }
            guard let run = run(at, length, flags, after: runs, &wrote, memory) else { return false }
            if run.count > 0 { runs.append(run) }
            if isPacked {
                entry += 1
                if entry == count / 16 { return true }
            } else {
                if flags & 1 == 0 { return true }
                entry = memory.number(place + 14, 2)
            }
        }
    }
}
