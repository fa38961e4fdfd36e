// Memory that its owner unmaps, moves or discards while devices have it: withdrawn from them first, and told.
//
// The kernel tells of this through userfaultfd's events. Two things about them decide the shape:
//   - Whoever unmaps waits until the event has been *read*, and goes on at once then. What was to be done first is done
//     before the read, so it must be known from the descriptor's being readable alone: each registration has a
//     userfaultfd of its own.
//   - Events come for memory that is registered in any mode. Write protection is the mode that no fault comes of as
//     long as nobody protects a page: a page that is not there yet, or was discarded, is filled by the kernel as ever.
// Neither needs a right: faults of the kernel's own are not asked for (UFFD_USER_MODE_ONLY), nor forks.
//
// A process that ends sends no events and waits for nobody: the kernel closes VFIO's descriptors, and with them all
// mappings end before the pages are free.

import Glibc
import LinuxSystem
import SharedMemory
import Synchronization

/// What was withdrawn, and why.
public struct Withdrawal: Sendable, CustomStringConvertible {
    /// What its owner did.
    public enum Cause: UInt32, Sendable {
        /// Unmapped, or something else mapped in its place.
        case unmapped = 0
        /// Moved to another address.
        case moved = 1
        /// Its contents given up (`MADV_DONTNEED`, `MADV_FREE`, `MADV_REMOVE`).
        case discarded = 2
    }
    /// The registration: all of it was withdrawn.
    public let address: UInt64
    /// Bytes of it.
    public let byteCount: UInt64
    /// What was done to some of it.
    public let cause: Cause
    /// Where that begins.
    public let start: UInt64
    /// Bytes of that.
    public let length: UInt64

    /// `8192 bytes at 0x7f…: unmapped while registered, 4096 bytes from 0x7f… on`.
    public var description: String {
        "\(byteCount) bytes at 0x\(String(address, radix: 16)): \(cause) while registered, \(length) bytes from 0x\(String(start, radix: 16)) on"
    }
}

/// The thread that waits for such events, of one registry.
final class RegistryWatch: Sendable {
    private let pipe: WakePipe
    private let thread = Mutex<WorkerThread?>(nil)
    private let isEnding = Atomic<Bool>(false)

    /// Throws why this kernel does not let memory be watched.
    init() throws(Errno) {
        pipe = try WakePipe()
        // Found out now, not at the first registration.
        _ = try UserFault()
    }

    func start(_ registry: MemoryRegistry) throws(Errno) {
        // The registry outlives its thread, which `stop` joins: a reference would keep it for ever.
        let owner = WeakRegistry(registry)
        let worker = try WorkerThread(name: "memory-watch", blocksSignals: true) { [self] in run(owner) }
        thread.withLock { $0 = worker }
    }

    func stop() {
        isEnding.store(true, ordering: .releasing)
        signalPipe(pipe.writer)
        thread.withLock { $0.take() }?.join()
    }

    /// Other registrations than before.
    func changed() { signalPipe(pipe.writer) }

    /// Watches memory from now on.
    func guardian(of region: SharedRegion) throws(Errno) -> UserFault {
        let guardian = try UserFault()
        try guardian.watch(region.address, byteCount: UInt64(region.byteCount))
        return guardian
    }

    private func run(_ owner: WeakRegistry) {
        var guardians: [UserFault] = []
        while !isEnding.load(ordering: .acquiring) {
            var entries = [pollfd(fd: pipe.reader.rawValue, events: Int16(POLLIN), revents: 0)]
            entries += guardians.map { pollfd(fd: $0.descriptor.rawValue, events: Int16(POLLIN), revents: 0) }
            do throws(Errno) { try waitForEvents(&entries, milliseconds: -1) } catch { continue }
            for (entry, guardian) in zip(entries.dropFirst(), guardians) where entry.revents != 0 {
                owner.registry?.withdraw(guardian)
            }
            drainPipe(pipe.reader)
            guardians = owner.registry?.guardians ?? []
        }
    }
}

/// The registry that a thread works for, while there is one.
private final class WeakRegistry: @unchecked Sendable {
    // Set once, before the thread; the runtime's own weak loads are safe from any thread.
    private(set) weak var registry: MemoryRegistry?
    init(_ registry: MemoryRegistry) { self.registry = registry }
}

extension MemoryRegistry {
    /// Those to wait for.
    fileprivate var guardians: [UserFault] { state.withLock { $0.entries.compactMap(\.guardian) } }

    /// Something happens to the memory of one registration: it is taken from every device and told, and only then is
    /// the event read, for which whoever does it waits.
    fileprivate func withdraw(_ guardian: UserFault) {
        let entry = state.withLock { state -> Entry? in
            guard let index = state.entries.firstIndex(where: { $0.guardian === guardian }) else { return nil }
            holder.store(UInt(pthread_self()), ordering: .relaxed)
            defer { holder.store(0, ordering: .relaxed) }
            let entry = state.entries.remove(at: index)
            Self.end(entry, .withdrawn, state.parties)
            return entry
        }
        guard let entry else { return }
        // The first event; those behind it have nothing left to do, and end with the descriptor.
        while let event = guardian.next() {
            let record = Withdrawal(
                address: entry.address, byteCount: UInt64(entry.region.byteCount), cause: event.cause, start: event.start,
                length: event.length)
            withdrawn.wrappingAdd(1, ordering: .relaxed)
            state.withLock { state in
                if state.withdrawals.count < Self.keptWithdrawals { state.withdrawals.append(record) }
            }
            break
        }
    }

    /// How many withdrawals are kept until they are asked for.
    public static let keptWithdrawals = 64

    /// The oldest withdrawal that was not told yet.
    public func nextWithdrawal() throws(RegistryError) -> Withdrawal? {
        try changing { state in state.withdrawals.isEmpty ? nil : state.withdrawals.removeFirst() }
    }

    /// Withdrawals in all.
    public var withdrawalCount: UInt64 { withdrawn.load(ordering: .relaxed) }
}
