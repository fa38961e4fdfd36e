// Frames that a descriptor is to take, whole packets with a virtio header each: laid out one by one, written together.

import DMA
import Glibc
import LinuxSystem
import Packets
import Reactor
import SharedMemory

/// Frames of one queue on their way out.
struct FrameBatch: ~Copyable {
    /// The most that it holds; more would gain nothing.
    static let mostFrames = 32

    /// The frames' memory behind their headers, as the kernel wants it.
    private let lists: [VectorList]
    private var chain: WriteChain
    private var results: [Int32] = []
    /// The file can be written in chains; a tap of an old kernel's cannot.
    private var takesChains = true
    private(set) var count = 0

    init() throws(Errno) {
        precondition(MemoryLayout<VirtioHeader>.size == VirtioHeader.size)
        chain = try WriteChain(entries: UInt32(Self.mostFrames))
        lists = (0..<Self.mostFrames).map { _ in VectorList(capacity: 24, headerCount: VirtioHeader.size) }
    }

    var isFull: Bool { count == Self.mostFrames }

    /// One more frame; false if its segments do not resolve, and then it is not in.
    mutating func append(_ offload: FrameOffload, _ segments: Span<BusSegment>, _ bus: MemoryBus) -> Bool {
        let list = lists[count]
        list.begin(with: VirtioHeader(offload))
        guard list.append(segments, bus, .toDevice) else { return false }
        count += 1
        return true
    }

    /// Bytes of a frame, without the header.
    func byteCount(_ index: Int) -> UInt64 { lists[index].total &- UInt64(VirtioHeader.size) }

    /// Writes them all in order and is empty again. How each ended is appended to `ended`: from the first on that there
    /// was no room for, none was written.
    mutating func write(to file: Descriptor, _ ended: inout [FrameSent]) {
        var first = 0
        while first < count {
            let begun = first
            results.removeAll(keepingCapacity: true)
            if count - first == 1 || !takesChains { results.append(writeOne(file, first)) } else { writeChain(file, from: first) }
            for result in results {
                let outcome = Self.outcome(result)
                // Not tried, because one before it failed; unless there was none before it.
                if result == -ECANCELED && first > begun { break }
                first += 1
                ended.append(outcome)
                if outcome == .full {
                    while first < count {
                        ended.append(.full)
                        first += 1
                    }
                    break
                }
            }
        }
        count = 0
    }

    private func writeOne(_ file: Descriptor, _ index: Int) -> Int32 {
        while true {
            let result = lists[index].write(to: file)
            if result != -Int(EINTR) { return Int32(result) }
        }
    }

    private mutating func writeChain(_ file: Descriptor, from first: Int) {
        for _ in first..<count { results.append(-ECANCELED) }
        do throws(Errno) {
            try chain.write(file, lists, from: first, &results)
            if results.first == -EOPNOTSUPP {
                takesChains = false
                results.removeAll(keepingCapacity: true)
            }
        } catch {
            for index in results.indices where results[index] == -ECANCELED { results[index] = -error.rawValue }
        }
    }

    private static func outcome(_ result: Int32) -> FrameSent {
        switch -result {
        case ...0: .sent
        // A datagram socket whose reader is slow says either.
        case EAGAIN, ENOBUFS: .full
        default: .failed(Errno(-result))
        }
    }
}
