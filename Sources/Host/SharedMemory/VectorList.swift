// The memory of one transfer, as the kernel wants it: neighbours merged, and what is left after a short transfer. Lives
// at a stable address as long as its owner, because the kernel may read it until the completion.

import Glibc
import LinuxSystem

/// Runs of memory, and perhaps a header of the list's own before them. Whoever loads it keeps the runs mapped until it
/// is loaded again or used no more; a device's bus does (`VectorList.load` of module DMA).
///
/// Public, so that its small functions are inlined where transfers are made: what is only `package` is called.
///
/// SAFETY: `state` leads to one block, made in `init` and freed in `deinit`; `storage` in it is a part of that block or
/// an allocation of its own, with room for `capacity` vectors, all initialized and plain; `begun` ≤ `used` ≤ `capacity`
/// always. `own` has `headerCount` bytes and one more. Used by one thread, and while the kernel reads the vectors their
/// owner leaves them alone.
@safe
public final class VectorList {
    /// The kernel's IOV_MAX; more are transferred by continuing.
    public static let mostAtOnce = 1024

    /// In memory of its own: a class's variables cost a check for exclusive access at each use. A list belongs to one
    /// thread, and no access lasts beyond an expression.
    @unsafe @usableFromInline struct State {
        @usableFromInline var storage: UnsafeMutablePointer<iovec>
        @usableFromInline var capacity: Int
        @usableFromInline var used = 0
        @usableFromInline var begun = 0
        @usableFromInline var all: UInt64 = 0
        @usableFromInline var rest: UInt64 = 0
    }
    /// One block: the state, the first vectors, then the header and one byte of spill.
    @usableFromInline let state: UnsafeMutablePointer<State>
    @usableFromInline let own: UnsafeMutableRawPointer?
    @usableFromInline let headerCount: Int

    /// An empty list.
    /// - Parameters:
    ///   - capacity: runs that it has room for at first.
    ///   - headerCount: bytes of a header before the runs; 0: none.
    public init(capacity: Int = 16, headerCount: Int = 0) {
        self.headerCount = headerCount
        let start = unsafe MemoryLayout<State>.stride
        let end = unsafe start + capacity * MemoryLayout<iovec>.stride
        let block = UnsafeMutableRawPointer.allocate(byteCount: end + headerCount + 1, alignment: 16)
        let storage = unsafe (block + start).initializeMemory(as: iovec.self, repeating: iovec(), count: capacity)
        unsafe (block + end).initializeMemory(as: UInt8.self, repeating: 0, count: headerCount + 1)
        unsafe state = block.initializeMemory(as: State.self, to: State(storage: storage, capacity: capacity))
        unsafe own = headerCount > 0 ? block + end : nil
    }

    deinit {
        if !isInBlock { unsafe state.pointee.storage.deallocate() }
        unsafe UnsafeMutableRawPointer(state).deallocate()
    }

    private var isInBlock: Bool {
        unsafe UnsafeMutableRawPointer(state.pointee.storage) == UnsafeMutableRawPointer(state) + MemoryLayout<State>.stride
    }

    /// Vectors, moved ones among them.
    @inlinable public var count: Int { unsafe state.pointee.used }
    /// The first vector with bytes left.
    @inlinable public var first: Int { unsafe state.pointee.begun }
    /// Vectors with bytes left.
    @inlinable public var left: Int { unsafe state.pointee.used - state.pointee.begun }
    /// All bytes, a header's and the spill's among them.
    @inlinable public var total: UInt64 { unsafe state.pointee.all }
    /// Those still to be moved.
    @inlinable public var remaining: UInt64 { unsafe state.pointee.rest }
    @inlinable var storage: UnsafeMutablePointer<iovec> { unsafe state.pointee.storage }

    // MARK: Loading

    /// Empties the list.
    @inlinable public func removeAll() {
        unsafe state.pointee.used = 0
        unsafe state.pointee.begun = 0
        unsafe state.pointee.all = 0
        unsafe state.pointee.rest = 0
    }

    /// One more run of memory; it counts in `total`.
    @unsafe
    @inlinable public func append(_ memory: UnsafeMutableRawPointer, _ byteCount: Int) {
        let used = unsafe state.pointee.used
        unsafe state.pointee.all += UInt64(byteCount)
        unsafe state.pointee.rest = state.pointee.all
        if used > 0 {
            let last = unsafe state.pointee.storage + (used - 1)
            if unsafe last.pointee.iov_base + last.pointee.iov_len == memory {
                unsafe last.pointee.iov_len += byteCount
                return
            }
        }
        if unsafe used == state.pointee.capacity { grow() }
        unsafe state.pointee.storage[used] = iovec(iov_base: memory, iov_len: byteCount)
        unsafe state.pointee.used = used + 1
    }

    /// Empties the list and begins it with a header: `H` is a structure of integers, as long as the list's header.
    @inlinable public func begin<H: BitwiseCopyable>(with header: H) {
        precondition(MemoryLayout<H>.size == headerCount, "a header of another size")
        guard let own = unsafe own else { return }
        removeAll()
        unsafe own.storeBytes(of: header, as: H.self)
        unsafe append(own, headerCount)
    }

    /// The header as it is now.
    @inlinable public func header<H: BitwiseCopyable>(as type: H.Type = H.self) -> H {
        guard MemoryLayout<H>.size == headerCount, let own = unsafe own else { preconditionFailure("a header of another size") }
        return unsafe own.loadUnaligned(as: H.self)
    }

    /// One byte of the list's own at the end, which only a packet reaches that does not fit; it counts in `total`.
    @inlinable public func appendSpill() {
        guard let own = unsafe own else { preconditionFailure("a list without a header has no spill") }
        unsafe append(own + headerCount, 1)
    }

    @usableFromInline func grow() {
        let (capacity, used) = unsafe (state.pointee.capacity, state.pointee.used)
        let larger = UnsafeMutablePointer<iovec>.allocate(capacity: capacity * 2)
        unsafe larger.initialize(repeating: iovec(), count: capacity * 2)
        unsafe larger.update(from: storage, count: used)
        if !isInBlock { unsafe storage.deallocate() }
        unsafe state.pointee.storage = larger
        unsafe state.pointee.capacity = capacity * 2
    }

    // MARK: What is left

    /// Drops the first `byteCount` bytes, at most `remaining`: they have been moved.
    @inlinable public func advance(_ byteCount: UInt64) {
        var skip = Int(min(byteCount, remaining))
        unsafe state.pointee.rest -= UInt64(skip)
        while first < count {
            let vector = unsafe storage + first
            if unsafe skip < vector.pointee.iov_len {
                unsafe vector.pointee.iov_base += skip
                unsafe vector.pointee.iov_len -= skip
                return
            }
            unsafe skip -= vector.pointee.iov_len
            unsafe state.pointee.begun += 1
        }
    }

    /// Whether each vector starts at a multiple of `memory` and is a multiple of `length` long (powers of two).
    public func isAligned(memory: UInt32, length: UInt32) -> Bool {
        for index in first..<count {
            let vector = unsafe storage[index]
            if unsafe UInt(bitPattern: vector.iov_base) & UInt(memory &- 1) != 0 { return false }
            if unsafe vector.iov_len & Int(length &- 1) != 0 { return false }
        }
        return true
    }

    /// The vectors with bytes left, for the kernel; valid until the list is loaded again.
    @unsafe
    @inlinable public var vectors: UnsafeMutablePointer<iovec> { unsafe state.pointee.storage + state.pointee.begun }

    /// Where the bytes that are left lie, if that is one run: nil if they are in several, or none are left.
    @unsafe
    @inlinable public var onlyRun: UnsafeMutableRawBufferPointer? {
        guard left == 1 else { return nil }
        let run = unsafe vectors.pointee
        return unsafe UnsafeMutableRawBufferPointer(start: run.iov_base, count: run.iov_len)
    }
}
