// The routing table: for each device a block of vectors, each with a target. What a device holds (`InterruptSource`)
// can raise its own vectors and nothing else; what its driver holds (`InterruptVectors`) says where they lead. As in an
// interrupt remapper, a message names an entry, and an entry is good only for the device that it was given to.

import LinuxSystem

/// A table of vectors. Any thread.
public final class InterruptTable: Sendable, CustomStringConvertible {
    /// The most vectors of a device.
    public static let mostVectors = 2048
    /// Entries there are: at most 65536, as many as a message can name.
    public let capacity: Int

    private struct State {
        /// Entries given out, ascending by their start.
        var blocks: [Range<Int>] = []
        var faults = InterruptFaults()
    }
    private let state = ContendedLock(State())

    /// An empty table.
    public init(capacity: Int = 1 << 16) { self.capacity = min(max(capacity, 1), 1 << 16) }

    /// Gives a device vectors, which lead nowhere yet: its driver's end and its own.
    public func attach(
        device: String, vectors count: Int
    ) throws(InterruptError) -> (vectors: InterruptVectors, source: InterruptSource) {
        guard count >= 1, count <= Self.mostVectors else { throw .badVectorCount(count) }
        let block = try state.withLock { (state: inout State) throws(InterruptError) -> Range<Int> in
            // A block is as long as the next power of two and starts at a multiple of it: a device that sends several
            // messages changes the low bits of its data by itself.
            let size = count == 1 ? 1 : 1 << (Int.bitWidth - (count - 1).leadingZeroBitCount)
            guard let place = Self.firstFit(state.blocks, size, capacity) else {
                throw .tableFull(vectors: count, capacity: capacity)
            }
            state.blocks.insert(place.block, at: place.index)
            return place.block
        }
        let trust = InterruptTrust(device, self)
        let vectors = (0..<count).map { _ in InterruptVector(trust) }
        let ours = InterruptVectors(table: self, device: device, block: block, vectors, trust)
        return (ours, InterruptSource(table: self, device: device, base: block.lowerBound, vectors))
    }

    private static func firstFit(_ blocks: [Range<Int>], _ size: Int, _ capacity: Int) -> (block: Range<Int>, index: Int)? {
        var start = 0
        for (index, block) in blocks.enumerated() {
            if start + size <= block.lowerBound { return (start..<start + size, index) }
            start = (block.upperBound + size - 1) & ~(size - 1)
        }
        return start + size <= capacity ? (start..<start + size, blocks.count) : nil
    }

    func remove(_ block: Range<Int>) { state.withLock { $0.blocks.removeAll { $0 == block } } }

    func record(_ fault: InterruptFault) {
        state.withLock { state in
            state.faults.count &+= 1
            if state.faults.recent.count < InterruptFaults.limit { state.faults.recent.append(fault) }
        }
    }

    /// Interrupts that were refused since this was last asked.
    public func takeFaults() -> InterruptFaults {
        state.withLock { state in
            defer { state.faults = InterruptFaults() }
            return state.faults
        }
    }

    /// Devices attached.
    public var deviceCount: Int { state.withLock { $0.blocks.count } }

    /// `interrupt table with 3 devices`.
    public var description: String { "interrupt table with \(deviceCount) devices" }
}
