// Network slots in and out of shared memory: each shared byte that is loaded is loaded once; every byte of a response
// is stored (attacks.md B5).

import SharedMemory
import XenTypes

extension TransmitSlot {
    /// Loads what lies at byte `offset`, each byte once.
    @inlinable @inline(__always)
    public init(loading region: SharedRegion, _ offset: Int) {
        self.init(first: region.load(offset), last: region.load(offset &+ 8))
    }

    /// Stores every byte, at byte `offset`.
    @inlinable @inline(__always)
    public func store(_ region: SharedRegion, _ offset: Int) {
        region.store(first, at: offset)
        region.store(last, at: offset &+ 8)
    }
}

extension TransmitResponse {
    /// Loads what lies at byte `offset`, each byte once.
    @inlinable @inline(__always)
    public init(loading region: SharedRegion, _ offset: Int) {
        let word: UInt32 = region.load(offset)
        self.init(
            id: UInt16(truncatingIfNeeded: word),
            status: NetworkStatus(rawValue: Int16(bitPattern: UInt16(truncatingIfNeeded: word >> 16))))
    }

    /// Stores every byte, at byte `offset`.
    @inlinable @inline(__always)
    public func store(_ region: SharedRegion, _ offset: Int) {
        region.store(UInt32(id) | UInt32(UInt16(bitPattern: status.rawValue)) << 16, at: offset)
    }
}

extension ReceiveRequest {
    /// Loads what lies at byte `offset`, each byte once.
    @inlinable @inline(__always)
    public init(loading region: SharedRegion, _ offset: Int) {
        let word: UInt64 = region.load(offset)
        self.init(id: UInt16(truncatingIfNeeded: word), reference: GrantReference(UInt32(truncatingIfNeeded: word >> 32)))
    }

    /// Stores every byte, at byte `offset`.
    @inlinable @inline(__always)
    public func store(_ region: SharedRegion, _ offset: Int) {
        region.store(UInt64(id) | UInt64(reference.rawValue) << 32, at: offset)
    }
}

extension ReceiveSlot {
    /// Loads what lies at byte `offset`, each byte once.
    @inlinable @inline(__always)
    public init(loading region: SharedRegion, _ offset: Int) { self.init(word: region.load(offset)) }

    /// Stores every byte, at byte `offset`.
    @inlinable @inline(__always)
    public func store(_ region: SharedRegion, _ offset: Int) { region.store(word, at: offset) }
}

extension ControlRequest {
    /// Loads what lies at byte `offset`, each byte once.
    public init(loading region: SharedRegion, _ offset: Int) {
        let first: UInt64 = region.load(offset)
        let second: UInt64 = region.load(offset + 8)
        self.init(
            id: UInt16(truncatingIfNeeded: first), rawType: UInt16(truncatingIfNeeded: first >> 16),
            UInt32(truncatingIfNeeded: first >> 32), UInt32(truncatingIfNeeded: second), UInt32(truncatingIfNeeded: second >> 32))
    }

    /// Stores every byte, at byte `offset`.
    public func store(_ region: SharedRegion, _ offset: Int) {
        region.store(UInt64(id) | UInt64(rawType) << 16 | UInt64(data0) << 32, at: offset)
        region.store(UInt64(data1) | UInt64(data2) << 32, at: offset + 8)
    }
}

extension ControlResponse {
    /// Loads what lies at byte `offset`, each byte once.
    public init(loading region: SharedRegion, _ offset: Int) {
        let first: UInt64 = region.load(offset)
        self.init(
            id: UInt16(truncatingIfNeeded: first), rawType: UInt16(truncatingIfNeeded: first >> 16),
            rawStatus: UInt32(truncatingIfNeeded: first >> 32), data: region.load(offset + 8))
    }

    /// Stores every byte, at byte `offset`.
    public func store(_ region: SharedRegion, _ offset: Int) {
        region.store(UInt64(id) | UInt64(rawType) << 16 | UInt64(rawStatus) << 32, at: offset)
        region.store(data, at: offset + 8)
    }
}
