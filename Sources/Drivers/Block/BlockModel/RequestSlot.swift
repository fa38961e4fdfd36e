// Where a request in work is kept. A slot's number is the disk's tag; it is no ring index and no descriptor.

/// The place of one request in work. Only a `RequestTable` makes them, below its capacity.
public struct RequestSlot: Hashable, Sendable, BitwiseCopyable {
    @usableFromInline let index: Int32
    @inlinable init(index: Int32) { self.index = index }

    /// What a disk's queue is told and tells.
    @inlinable public var tag: UInt32 { UInt32(bitPattern: index) }
    /// Where a transport keeps something for it, counted from 0.
    @inlinable public var offset: Int { Int(index) }
}

/// A value for each slot.
public struct SlotMap<Value> {
    @usableFromInline var values: [Value]

    /// `value` for each of `capacity` slots.
    @inlinable public init(repeating value: Value, capacity: Int) { values = Array(repeating: value, count: capacity) }

    /// The slot's value.
    @inlinable
    public subscript(slot: RequestSlot) -> Value {
        _read { yield values[slot.offset] }
        _modify { yield &values[slot.offset] }
    }
}

extension SlotMap: Sendable where Value: Sendable {}
