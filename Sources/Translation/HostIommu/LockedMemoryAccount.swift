// Memory that a device reaches must not move, so the kernel pins it and counts it against RLIMIT_MEMLOCK. The kernel
// says "out of memory" when that is exceeded, after the work of pinning; this account says what is needed and what is
// left, before.

import LinuxSystem

/// What may be locked, and what is. Shared by all back ends of a process that the same limit binds. Any thread.
public final class LockedMemoryAccount: Sendable, CustomStringConvertible {
    /// Bytes; nil: no limit.
    public let limit: UInt64?
    private let counted: ContendedLock<UInt64>
    /// What this one is a part of, and charges, too.
    private let whole: LockedMemoryAccount?
    private let refusals = ContendedLock(Refusals())

    /// What was refused.
    public struct Refusals: Hashable, Sendable {
        /// How often.
        public var count: UInt64 = 0
        /// Bytes in all.
        public var bytes: UInt64 = 0
    }

    /// An account of its own.
    /// - Parameters:
    ///   - limit: bytes; nil: none.
    ///   - already: bytes locked otherwise (`mlock(2)`), which the same limit binds.
    ///   - whole: another account, whose limit binds as well: this one is a budget within it.
    public init(limit: UInt64?, already: UInt64 = 0, within whole: LockedMemoryAccount? = nil) {
        self.limit = limit
        self.whole = whole
        counted = ContendedLock(already)
    }

    /// This process's: its `RLIMIT_MEMLOCK`, which does not bind a process with `CAP_IPC_LOCK`, and what it has locked
    /// so far.
    public static let ofThisProcess: LockedMemoryAccount = {
        let status = StatusFile.read()
        return LockedMemoryAccount(limit: status.mayLockAll ? nil : ResourceLimits.lockedMemory, already: status.locked)
    }()

    /// Bytes locked.
    public var bytes: UInt64 { counted.withLock { $0 } }
    /// Bytes that can still be locked; nil: no limit.
    public var bytesLeft: UInt64? {
        let own = limit.map { limit in
            let bytes = bytes
            return bytes < limit ? limit - bytes : 0
        }
        guard let others = whole?.bytesLeft else { return own }
        return min(own ?? .max, others)
    }
    /// What was refused here, or by what this is a part of.
    public var refused: Refusals { refusals.withLock { $0 } }

    /// Counts `byteCount` bytes more, or throws `lockedMemory`.
    func charge(_ byteCount: UInt64) throws(DMABackEndError) {
        do throws(DMABackEndError) {
            try chargeOwn(byteCount)
            do throws(DMABackEndError) { try whole?.charge(byteCount) } catch {
                releaseOwn(byteCount)
                throw error
            }
        } catch {
            refusals.withLock { refusals in
                refusals.count &+= 1
                refusals.bytes &+= byteCount
            }
            throw error
        }
    }

    private func chargeOwn(_ byteCount: UInt64) throws(DMABackEndError) {
        try counted.withLock { (counted: inout UInt64) throws(DMABackEndError) in
            let most = limit ?? .max
            let left = counted < most ? most - counted : 0
            // The difference, not the sum: the sum of a count and a size may wrap (attacks.md PM14).
            guard byteCount <= left else { throw .lockedMemory(needed: byteCount, left: left, limit: most) }
            counted += byteCount
        }
    }

    /// Takes `byteCount` bytes off that were counted before.
    func release(_ byteCount: UInt64) {
        releaseOwn(byteCount)
        whole?.release(byteCount)
    }

    private func releaseOwn(_ byteCount: UInt64) {
        counted.withLock { counted in
            precondition(byteCount <= counted, "more memory unlocked than was locked")
            counted -= byteCount
        }
    }

    /// `12288 of 8388608 bytes locked`.
    public var description: String { "\(bytes) of \(limit.map { "\($0)" } ?? "any number of") bytes locked" }
}
