// What a reactor and those who work on its thread know of each other.

/// How a reactor waits.
public enum PollingPolicy: Sendable, Equatable {
    /// Sleeps in the kernel as soon as there is nothing to do.
    case sleep
    /// Spins for at most so many microseconds after the last work, then sleeps; less where that has not paid lately,
    /// and only while nobody else wants the processor.
    case adaptive(microseconds: UInt32)
    /// Never sleeps.
    case always
}

extension PollingPolicy {
    /// For packets on a host: as long as KVM polls (`halt_poll_ns`). One comes sooner than that under load, and waking
    /// a halted processor costs more than moving it.
    public static let onHost = adaptive(microseconds: 200)
    /// The same in a domain, where nobody can see whether another domain wants the processor.
    public static let inDomain = adaptive(microseconds: 20)
}

/// Whoever works on a reactor's thread.
public protocol ReactorClient: AnyObject {
    /// An operation that was begun under `tag` ended with `result` (≥ 0, or a negative errno).
    func completed(tag: UInt32, result: Int32)
    /// Called once in each turn of the loop, before waiting; true if there was work, which starts the spin anew.
    func poll() -> Bool
    /// Called when there was nothing to do and the thread is about to spin for a while: ask now for what only the
    /// kernel can tell, since `prepareToSleep` is not called before the spin is over. What shared memory tells is seen
    /// by `poll`.
    func prepareToSpin()
    /// Called before the thread sleeps: re-arm event hold-offs; true if work appeared meanwhile, so that the thread
    /// does not sleep.
    func prepareToSleep() -> Bool
}

extension ReactorClient {
    /// Nothing to do.
    public func prepareToSpin() {}
}

/// A client's place in a reactor.
public struct ReactorSlot: Hashable, Sendable {
    let index: Int
    /// Places are used again; completions and waits of an earlier tenant are told apart by this.
    let generation: UInt16
}

/// One place: its tenant, and what the kernel still holds for it.
final class Seat {
    var client: (any ReactorClient)?
    var generation: UInt16 = 0
    var inFlight = 0
}

/// What a reactor has done since it was made; read it on its thread or after `stop`.
public struct ReactorStatistics: Sendable, Equatable {
    /// Turns of the loop.
    public var turns: UInt64 = 0
    /// System calls into the ring.
    public var enters: UInt64 = 0
    /// Of these, those that were willing to sleep.
    public var sleeps: UInt64 = 0
    /// Operations given to the kernel.
    public var submitted: UInt64 = 0
    /// Completions taken from it.
    public var completed: UInt64 = 0
    /// Jobs posted and run.
    public var jobs: UInt64 = 0
}
