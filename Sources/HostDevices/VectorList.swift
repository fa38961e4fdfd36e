// The memory of one transfer, as the kernel wants it: bus segments resolved, neighbours merged, and what is left after a short
// transfer. Lives at a stable address as long as its owner, because the kernel may read it until the completion.

import DMA
import Glibc

@safe
final class VectorList {
    /// The kernel's IOV_MAX; more are transferred by continuing.
    static let mostAtOnce = 1024

    private(set) var storage: UnsafeMutablePointer<iovec>
    private var capacity: Int
    private(set) var count = 0
    /// The first vector with bytes left.
    private(set) var first = 0
    /// All bytes, and those still to be moved.
    private(set) var total: UInt64 = 0
    private(set) var remaining: UInt64 = 0

    init(capacity: Int = 16) {
        self.capacity = capacity
        unsafe storage = .allocate(capacity: capacity)
        unsafe storage.initialize(repeating: iovec(), count: capacity)
    }

    deinit { unsafe storage.deallocate() }

    /// Vectors with bytes left.
    var left: Int { count - first }

    /// Replaces the contents by `segments` as they lie in memory; false if one does not resolve.
    func load(_ segments: Span<BusSegment>, _ bus: MemoryBus, _ direction: DMADirection) -> Bool {
        count = 0
        first = 0
        total = 0
        remaining = 0
        for index in segments.indices {
            let segment = segments[index]
            if let memory = unsafe bus.resolve(segment, direction) {
                unsafe append(memory, Int(segment.byteCount))
            } else if !loadRuns(segment, bus, direction) {
                return false
            }
        }
        remaining = total
        return true
    }

    /// As `load(_:_:_:)`, behind `count` bytes of the owner's own at `prefix`; those count in `total`, too.
    @unsafe
    func load(
        behind prefix: UnsafeMutableRawPointer, _ prefixCount: Int, _ segments: Span<BusSegment>, _ bus: MemoryBus,
        _ direction: DMADirection
    ) -> Bool {
        count = 0
        first = 0
        total = 0
        unsafe append(prefix, prefixCount)
        for index in segments.indices {
            let segment = segments[index]
            guard loadRuns(segment, bus, direction) else { return false }
        }
        remaining = total
        return true
    }

    /// One more piece, of the owner's own memory; it counts in `total`.
    @unsafe
    func extend(by memory: UnsafeMutableRawPointer, _ byteCount: Int) {
        unsafe append(memory, byteCount)
        remaining = total
    }

    /// A segment on a translated bus: in as many pieces as its pages have here.
    private func loadRuns(_ segment: BusSegment, _ bus: MemoryBus, _ direction: DMADirection) -> Bool {
        var rest = segment
        while true {
            guard let run = unsafe bus.resolveRun(rest, direction) else { return false }
            let count = unsafe run.byteCount
            unsafe append(run.memory, Int(count))
            if count >= rest.byteCount { return true }
            guard let next = rest.address.advanced(by: UInt64(count)) else { return false }
            rest = BusSegment(address: next, byteCount: rest.byteCount - count)
        }
    }

    private func append(_ memory: UnsafeMutableRawPointer, _ byteCount: Int) {
        total += UInt64(byteCount)
        if count > 0 {
            let last = unsafe storage + (count - 1)
            if unsafe last.pointee.iov_base + last.pointee.iov_len == memory {
                unsafe last.pointee.iov_len += byteCount
                return
            }
        }
        if count == capacity { grow() }
        unsafe storage[count] = iovec(iov_base: memory, iov_len: byteCount)
        count += 1
    }

    private func grow() {
        let larger = UnsafeMutablePointer<iovec>.allocate(capacity: capacity * 2)
        unsafe larger.initialize(repeating: iovec(), count: capacity * 2)
        unsafe larger.update(from: storage, count: count)
        unsafe storage.deallocate()
        unsafe storage = larger
        capacity *= 2
    }

    /// Drops the first `byteCount` bytes, at most `remaining`: they have been moved.
    func advance(_ byteCount: UInt64) {
        var skip = Int(min(byteCount, remaining))
        remaining -= UInt64(skip)
        while first < count {
            let vector = unsafe storage + first
            if unsafe skip < vector.pointee.iov_len {
                unsafe vector.pointee.iov_base += skip
                unsafe vector.pointee.iov_len -= skip
                return
            }
            unsafe skip -= vector.pointee.iov_len
            first += 1
        }
    }

    /// Whether each vector starts at a multiple of `memory` and is a multiple of `length` long (powers of two).
    func isAligned(memory: UInt32, length: UInt32) -> Bool {
        for index in first..<count {
            let vector = unsafe storage[index]
            if unsafe UInt(bitPattern: vector.iov_base) & UInt(memory &- 1) != 0 { return false }
            if unsafe vector.iov_len & Int(length &- 1) != 0 { return false }
        }
        return true
    }

    /// Copies all of it to `buffer`, which holds `remaining` bytes.
    func gather(into buffer: UnsafeMutableRawPointer) {
        var offset = 0
        for index in first..<count {
            let vector = unsafe storage[index]
            if let base = unsafe vector.iov_base { unsafe (buffer + offset).copyMemory(from: base, byteCount: vector.iov_len) }
            unsafe offset += vector.iov_len
        }
    }

    /// Copies the first `byteCount` bytes of `buffer`, at most `remaining`, to where they belong.
    func scatter(from buffer: UnsafeRawPointer, byteCount: Int) {
        var offset = 0
        for index in first..<count where offset < byteCount {
            let vector = unsafe storage[index]
            let part = unsafe min(vector.iov_len, byteCount - offset)
            if let base = unsafe vector.iov_base { unsafe base.copyMemory(from: buffer + offset, byteCount: part) }
            offset += part
        }
    }

    /// Copies `remaining` bytes of `buffer` to where they belong.
    func scatter(from buffer: UnsafeRawPointer) {
        var offset = 0
        for index in first..<count {
            let vector = unsafe storage[index]
            if let base = unsafe vector.iov_base { unsafe base.copyMemory(from: buffer + offset, byteCount: vector.iov_len) }
            unsafe offset += vector.iov_len
        }
    }
}
