// CONTRACT STUB: one thread, one io_uring.

import LinuxSystem

/// How a reactor waits.
public enum PollingPolicy: Sendable, Equatable {
    /// Sleeps in the kernel as soon as there is nothing to do.
    case sleep
    /// Spins for at most so many microseconds after the last work, then sleeps.
    case adaptive(microseconds: UInt32)
    /// Never sleeps.
    case always
}

/// Whoever works on a reactor's thread.
public protocol ReactorClient: AnyObject {
    /// An operation that was begun under `tag` ended with `result` (≥ 0, or a negative errno).
    func completed(tag: UInt32, result: Int32)
    /// Called once in each turn of the loop, before waiting; true if there was work, which starts the spin anew.
    func poll() -> Bool
    /// Called before the thread sleeps: re-arm event hold-offs; true if work appeared meanwhile, so that the thread does not sleep.
    func prepareToSleep() -> Bool
}

/// A client's place in a reactor.
public struct ReactorSlot: Hashable, Sendable {
    let index: Int
}

public final class Reactor: @unchecked Sendable {
    public init(name: String, entries: UInt32 = 1024, polling: PollingPolicy = .sleep) throws(Errno) { fatalError() }
    /// Starts the thread.
    public func start() { fatalError() }
    /// Ends the thread after the operations in flight have ended, and joins it.
    public func stop() { fatalError() }
    /// Runs `job` on the reactor's thread, soon; from any thread.
    public func post(_ job: @escaping @Sendable () -> Void) { fatalError() }
    /// Runs `job` on the reactor's thread and waits for it; from any other thread.
    public func run<R: Sendable>(_ job: @escaping @Sendable () -> R) -> R { fatalError() }

    // Below: on the reactor's thread only.

    public func attach(_ client: any ReactorClient) -> ReactorSlot { fatalError() }
    /// Forgets the client. Operations still in flight complete into nothing; their memory must be kept by whoever began them
    /// until `inFlight(slot)` is 0, so detach after that.
    public func detach(_ slot: ReactorSlot) { fatalError() }
    /// Operations of this slot that have not completed (waits for readability not counted).
    public func inFlight(_ slot: ReactorSlot) -> Int { fatalError() }
    /// Completes `tag` once when `descriptor` becomes readable (one-shot).
    public func whenReadable(_ descriptor: Descriptor, _ slot: ReactorSlot, tag: UInt32) { fatalError() }
    /// Completes `tag` once after so many microseconds.
    public func after(microseconds: UInt64, _ slot: ReactorSlot, tag: UInt32) { fatalError() }
}
