// A disk on a bus for a caller in the same process: bytes in, bytes out, no socket and no hypervisor. The device is the
// one that serves QEMU; between the two lies a virtqueue in memory that both have.

import DeviceBus
import LinuxSystem
import Reactor
import SharedMemory
import VirtioBus
import VirtioWire

/// A disk that was opened on a bus. Closed when it is let go of. Any thread.
public final class BusDisk: Sendable, CustomStringConvertible {
    private let engine: BusDiskEngine

    /// Opens a disk.
    /// - Parameters:
    ///   - member: of the bus that it is on.
    ///   - closed: is told why when the disk is taken away; what was under way has ended as lost by then.
    public init(
        _ name: String, on member: BusMember, _ options: BusDiskOptions = BusDiskOptions(),
        closed: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(VirtioDriverError) {
        engine = try BusDiskEngine(name, member, options, closed)
    }

    deinit { engine.close("its driver let it go") }

    /// What it is called on its bus.
    public var name: String { engine.name }
    /// Capacity in bytes, as it was when somebody last looked.
    public var byteCount: UInt64 { engine.configuration.capacity * 512 }
    /// Whether nothing can be written.
    public var isReadOnly: Bool { engine.driver.features.contains(VirtioFeatures.Block.readOnly) }
    /// Whether discards are known.
    public var canDiscard: Bool { engine.driver.features.contains(VirtioFeatures.Block.discard) }
    /// Whether zeroes can be written without their bytes.
    public var canWriteZeroes: Bool { engine.driver.features.contains(VirtioFeatures.Block.writeZeroes) }
    /// Bytes of one operation at most.
    public var largestTransfer: Int { engine.slotBytes }

    /// Begins an operation. More than `BusDiskOptions.depth` wait for their turn.
    /// - Parameter ended: called once, on the disk's own thread or on the one that closes it; it does not close the
    ///   disk. Bytes that were read, or none.
    public func submit(
        _ operation: BusDiskOperation, ended: @escaping @Sendable (Result<[UInt8], BusDiskError>) -> Void
    ) { engine.submit(operation, ended) }

    /// Does an operation and waits for its end; not on the disk's own thread.
    @discardableResult
    public func perform(_ operation: BusDiskOperation) throws(BusDiskError) -> [UInt8] {
        let ended = Handoff<Result<[UInt8], BusDiskError>>()
        engine.submit(operation) { ended.deliver($0) }
        return try ended.wait().get()
    }

    /// Does an operation.
    @discardableResult
    public func run(_ operation: BusDiskOperation) async throws(BusDiskError) -> [UInt8] {
        let result = await withCheckedContinuation { (continuation: CheckedContinuation<Result<[UInt8], BusDiskError>, Never>) in
            engine.submit(operation) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    /// The bytes from `offset` on, however many.
    public func read(at offset: UInt64, byteCount: Int) async throws(BusDiskError) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(max(0, byteCount))
        while bytes.count < byteCount {
            bytes += try await run(
                .read(at: try advance(offset, bytes.count), byteCount: min(largestTransfer, byteCount - bytes.count)))
        }
        return bytes
    }

    /// Writes bytes from `offset` on, however many.
    public func write(at offset: UInt64, _ bytes: [UInt8]) async throws(BusDiskError) {
        var done = 0
        while done < bytes.count {
            let count = min(largestTransfer, bytes.count - done)
            try await run(.write(at: try advance(offset, done), Array(bytes[done..<done + count])))
            done += count
        }
    }

    /// Puts what was written, and had ended, onto stable storage.
    public func flush() async throws(BusDiskError) { try await run(.flush) }

    /// Gives up the content of a range.
    public func discard(at offset: UInt64, byteCount: UInt64) async throws(BusDiskError) {
        try await run(.discard(at: offset, byteCount: byteCount))
    }

    /// Makes a range zero.
    public func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool = false) async throws(BusDiskError) {
        try await run(.writeZeroes(at: offset, byteCount: byteCount, mayUnmap: mayUnmap))
    }

    /// Looks at the disk's size again.
    public func refresh() throws(VirtioDriverError) { try engine.refresh() }

    /// Ends the connection; what is under way ends as lost. Not on the disk's own thread.
    public func close() { engine.close("its driver closed it") }

    /// `disk0: 1048576 bytes`.
    public var description: String { "\(name): \(byteCount) bytes" }

    private func advance(_ offset: UInt64, _ count: Int) throws(BusDiskError) -> UInt64 {
        let (sum, isBeyond) = offset.addingReportingOverflow(UInt64(count))
        guard !isBeyond else { throw .refused(disk: name, "no disk has a byte \(offset) and \(count) more") }
        return sum
    }
}
