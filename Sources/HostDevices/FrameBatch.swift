// Frames that a descriptor is to take, whole packets with a virtio header each: laid out one by one, written together.

import CLinux
import DMA
import Glibc
import LinuxSystem
import Packets
import Reactor

/// Frames of one queue on their way out.
@safe
struct FrameBatch: ~Copyable {
    /// The most that it holds: more would gain nothing, and whoever sends keeps the heads of so many.
    static let mostFrames = 32

    /// The frames' memory, as the kernel wants it.
    private let lists: [VectorList]
    private let headers: UnsafeMutablePointer<VirtioHeader>
    private var chain: WriteChain
    private var results: [Int32] = []
    /// The file can be written in chains; a tap of an old kernel's cannot.
    private var takesChains = true
    private(set) var count = 0

    init() throws(Errno) {
        precondition(MemoryLayout<VirtioHeader>.size == VirtioHeader.size)
        chain = try WriteChain(entries: UInt32(Self.mostFrames))
        lists = (0..<Self.mostFrames).map { _ in VectorList(capacity: 24) }
        unsafe headers = .allocate(capacity: Self.mostFrames)
        unsafe headers.initialize(repeating: VirtioHeader(), count: Self.mostFrames)
    }

    deinit { unsafe headers.deallocate() }

    var isFull: Bool { count == Self.mostFrames }

    /// One more frame; false if its segments do not resolve, and then it is not in.
    mutating func append(_ offload: FrameOffload, _ segments: Span<BusSegment>, _ bus: MemoryBus) -> Bool {
        let header = unsafe headers + count
        unsafe header.pointee = VirtioHeader(offload)
        guard unsafe lists[count].load(behind: header, VirtioHeader.size, segments, bus, .toDevice) else { return false }
        count += 1
        return true
    }

    /// Bytes of a frame, without the header.
    func byteCount(_ index: Int) -> UInt64 { lists[index].total &- UInt64(VirtioHeader.size) }

    /// Writes them all in order and is empty again. How each ended is appended to `ended`: from the first on that there was no room for, none was
    /// written.
    mutating func write(to file: Descriptor, _ ended: inout [FrameSent]) {
        var first = 0
        while first < count {
            let begun = first
            if count - first == 1 || !takesChains { results = [writeOne(file, first)] } else { writeChain(file, from: first) }
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
            let result = unsafe writev(file.rawValue, lists[index].storage, Int32(lists[index].count))
            if result >= 0 { return Int32(result) }
            if errno != EINTR { return -errno }
        }
    }

    private mutating func writeChain(_ file: Descriptor, from first: Int) {
        results.removeAll(keepingCapacity: true)
        for _ in first..<count { results.append(-ECANCELED) }
        let lists = lists
        do throws(Errno) {
            try unsafe chain.write(file, &results) { unsafe (UnsafePointer(lists[first + $0].storage), lists[first + $0].count) }
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
