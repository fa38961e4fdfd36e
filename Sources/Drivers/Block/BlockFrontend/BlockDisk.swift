// A connected disk for callers who want bytes, not rings: blocking calls from any thread, and async ones.

import BlockProtocol
import Dispatch
import Hypervisor
import LinuxSystem
import SharedMemory
import Synchronization

/// An operation on a disk did not succeed.
public enum BlockDiskError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The backend answered with an error.
    case failed
    /// The backend does not know the operation.
    case unsupported
    /// The device is gone or broken.
    case lost
    /// The caller's mistake.
    case refused(BlockFrontendError)

    /// One line.
    public var description: String {
        switch self {
        case .failed: "the backend answered with an error; why is in its log"
        case .unsupported: "the backend does not know the operation"
        case .lost: "the device is gone"
        case .refused(let error): "\(error)"
        }
    }
}

/// A disk that many callers use at the same time. While its backend is away callers wait.
public final class BlockDisk<H: Hypervisor>: Sendable {
    /// The frontend whose queues this disk has taken.
    public let frontend: BlockFrontend<H>
    private let engines: [QueueEngine]
    private let turn = Atomic<Int>(0)

    /// Takes every queue of a connected frontend.
    public init(_ frontend: BlockFrontend<H>) throws(BlockFrontendError) {
        self.frontend = frontend
        var engines: [QueueEngine] = []
        for index in 0..<frontend.queueCount {
            let queue = try frontend.takeQueue(index)
            do throws(Errno) { engines.append(try QueueEngine(queue)) } catch { throw .negotiation("thread: \(error)") }
        }
        self.engines = engines
    }

    /// The disk as last published.
    public var properties: BlockProperties { frontend.properties ?? BlockProperties(sectors: 0) }

    /// Capacity in bytes.
    public var byteCount: UInt64 { properties.sectors * 512 }

    /// Ends the reapers and closes the frontend; operations in flight end as lost.
    public func close() {
        for engine in engines { engine.stop() }
        frontend.close()
    }

    // MARK: Blocking

    /// Fills `destination` from byte `offset` on; both must be whole sectors.
    public func read(at offset: UInt64, into destination: inout MutableRawSpan) throws(BlockDiskError) {
        var done = 0
        while done < destination.byteCount {
            let engine = pick()
            let count = min(engine.largestLease, destination.byteCount - done)
            let lease = borrow(engine, count)
            defer { engine.release(lease) }
            guard try perform(engine, .read, at: offset + UInt64(done), lease, count) else { continue }
            var part = destination._mutatingExtracting(done..<done + count)
            engine.buffer.read(lease.offset, into: &part)
            done += count
        }
    }

    /// Writes `source` from byte `offset` on; both must be whole sectors.
    public func write(at offset: UInt64, from source: RawSpan) throws(BlockDiskError) {
        var done = 0
        while done < source.byteCount {
            let engine = pick()
            let count = min(engine.largestLease, source.byteCount - done)
            let lease = borrow(engine, count)
            defer { engine.release(lease) }
            engine.buffer.write(source.extracting(done..<done + count), at: lease.offset)
            if try perform(engine, .write, at: offset + UInt64(done), lease, count) { done += count }
        }
    }

    /// Puts what was written, and had ended, onto stable storage.
    public func flush() throws(BlockDiskError) { while try !perform(pick(), .flush, at: 0, nil, 0) {} }

    /// Gives up the content of a range of whole sectors.
    public func discard(at offset: UInt64, byteCount: UInt64, secure: Bool = false) throws(BlockDiskError) {
        var done: UInt64 = 0
        // A request counts sectors in 64 bits, but callers' counts are Ints here.
        while done < byteCount {
            let count = min(byteCount - done, 1 << 40)
            if try perform(pick(), secure ? .secureDiscard : .discard, at: offset + done, nil, Int(count)) { done += count }
        }
    }

    /// One of the queues that the backend takes.
    private func pick() -> QueueEngine {
        let served = max(1, min(frontend.servedQueueCount, engines.count))
        return engines[(turn.wrappingAdd(1, ordering: .relaxed).oldValue & Int.max) % served]
    }

    private func borrow(_ engine: QueueEngine, _ byteCount: Int) -> BufferLease {
        let room = DispatchSemaphore(value: 0)
        while true {
            if let lease = engine.lease(byteCount, whenRoom: { room.signal() }) { return lease }
            room.wait()
        }
    }

    /// - Returns: false if the queue is left over since a backend returned that takes fewer: ask another.
    private func perform(
        _ engine: QueueEngine, _ command: BlockCommand, at offset: UInt64, _ lease: BufferLease?, _ byteCount: Int
    ) throws(BlockDiskError) -> Bool {
        guard offset & 511 == 0 else { throw .refused(.badRequest("offset \(offset) is not a whole sector")) }
        let ended = DispatchSemaphore(value: 0)
        let box = OutcomeBox()
        submission: while true {
            switch engine.submit(
                command, sector: offset / 512, lease: lease, byteCount: byteCount, whenRoom: { ended.signal() },
                completion: { outcome in
                    box.outcome.store(outcome.rawValue, ordering: .releasing)
                    ended.signal()
                })
            {
            case .taken: break submission
            case .full: ended.wait()
            case .refused(.displaced): return false
            case .refused(let error): throw .refused(error)
            }
        }
        ended.wait()
        return try Self.isDone(BlockOutcome(rawValue: box.outcome.load(ordering: .acquiring)) ?? .lost)
    }

    /// False for an operation that another queue must do.
    private static func isDone(_ outcome: BlockOutcome) throws(BlockDiskError) -> Bool {
        switch outcome {
        case .okay: return true
        case .displaced: return false
        case .failed: throw .failed
        case .unsupported: throw .unsupported
        case .lost: throw .lost
        }
    }

    // MARK: Async

    /// The bytes from `offset` on.
    public func read(at offset: UInt64, byteCount: Int) async throws(BlockDiskError) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(byteCount)
        while bytes.count < byteCount {
            let engine = pick()
            let count = min(engine.largestLease, byteCount - bytes.count)
            let lease = await borrowAsync(engine, count)
            defer { engine.release(lease) }
            guard try await performAsync(engine, .read, at: offset + UInt64(bytes.count), lease, count) else { continue }
            bytes.append(contentsOf: engine.buffer.bytes(at: lease.offset, count: count))
        }
        return bytes
    }

    /// Writes bytes from `offset` on.
    public func write(at offset: UInt64, _ bytes: [UInt8]) async throws(BlockDiskError) {
        var done = 0
        while done < bytes.count {
            let engine = pick()
            let count = min(engine.largestLease, bytes.count - done)
            let lease = await borrowAsync(engine, count)
            defer { engine.release(lease) }
            engine.buffer.write(Array(bytes[done..<done + count]), at: lease.offset)
            if try await performAsync(engine, .write, at: offset + UInt64(done), lease, count) { done += count }
        }
    }

    /// Puts what was written, and had ended, onto stable storage.
    public func flushed() async throws(BlockDiskError) { while try await !performAsync(pick(), .flush, at: 0, nil, 0) {} }

    private func borrowAsync(_ engine: QueueEngine, _ byteCount: Int) async -> BufferLease {
        while true {
            let lease = await withCheckedContinuation { (continuation: CheckedContinuation<BufferLease?, Never>) in
                if let lease = engine.lease(byteCount, whenRoom: { continuation.resume(returning: nil) }) {
                    continuation.resume(returning: lease)
                }
            }
            if let lease { return lease }
        }
    }

    /// - Returns: as `perform`.
    private func performAsync(
        _ engine: QueueEngine, _ command: BlockCommand, at offset: UInt64, _ lease: BufferLease?, _ byteCount: Int
    ) async throws(BlockDiskError) -> Bool {
        guard offset & 511 == 0 else { throw .refused(.badRequest("offset \(offset) is not a whole sector")) }
        while true {
            let answer = await withCheckedContinuation { (continuation: CheckedContinuation<AsyncAttempt, Never>) in
                switch engine.submit(
                    command, sector: offset / 512, lease: lease, byteCount: byteCount,
                    whenRoom: { continuation.resume(returning: .again) },
                    completion: { continuation.resume(returning: .ended($0)) })
                {
                case .taken, .full: break
                case .refused(let error): continuation.resume(returning: .refused(error))
                }
            }
            switch answer {
            case .again: continue
            case .refused(.displaced): return false
            case .refused(let error): throw .refused(error)
            case .ended(let outcome): return try Self.isDone(outcome)
            }
        }
    }
}

/// What one try of an async operation came to.
private enum AsyncAttempt: Sendable {
    case again
    case ended(BlockOutcome)
    case refused(BlockFrontendError)
}

/// Where a completion leaves its outcome for a blocked caller.
private final class OutcomeBox: Sendable {
    let outcome = Atomic<UInt8>(BlockOutcome.lost.rawValue)
}
