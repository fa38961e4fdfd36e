// State that changes with each transfer, in memory of its own: a class's variables cost a check for exclusive access at
// each use, and a look at the class. Whoever has such state is used by one thread, and hands it to nobody who outlives
// it.

/// The owner of one value on the heap. A constant of a class, or of another owner.
@safe
@frozen
public struct OwnedState<Value: ~Copyable>: ~Copyable {
    /// For parts of the same owner, which go when it goes.
    public let reference: StateReference<Value>

    /// Owns a value from now on, which is at one place until the owner goes.
    @inlinable
    public init(_ value: consuming Value) {
        // SAFETY: room for one value, initialized here and nowhere else.
        let place = UnsafeMutablePointer<Value>.allocate(capacity: 1)
        unsafe place.initialize(to: value)
        unsafe reference = StateReference(at: place)
    }

    // SAFETY: the owner goes last; what has a reference is a part of it.
    @inlinable
    deinit {
        unsafe reference.place.deinitialize(count: 1)
        unsafe reference.place.deallocate()
    }

    /// The value itself.
    public var value: Value {
        // SAFETY: as for `StateReference.value`.
        @inlinable @inline(__always) unsafeAddress { unsafe UnsafePointer(reference.place) }
        @inlinable @inline(__always) nonmutating unsafeMutableAddress { unsafe reference.place }
    }
}

/// Where an owned value is. Good for as long as its owner.
///
/// SAFETY: whoever makes one promises that a value is at `place` and stays there, as the attribute asks for; whoever
/// keeps one keeps the owner.
@safe
@frozen
public struct StateReference<Value: ~Copyable> {
    @usableFromInline let place: UnsafeMutablePointer<Value>

    /// - Parameter place: an initialized value, which stays there for as long as this is used.
    @unsafe @inlinable
    public init(at place: UnsafeMutablePointer<Value>) { unsafe self.place = place }

    /// The value itself.
    public var value: Value {
        // SAFETY: the place is initialized and its owner keeps it; one thread uses both, and no access lasts beyond an
        // expression. Addresses, for accessors that yield are not inlined, and would cost as much as what they lead to.
        @inlinable @inline(__always) unsafeAddress { unsafe UnsafePointer(place) }
        @inlinable @inline(__always) nonmutating unsafeMutableAddress { unsafe place }
    }
}
