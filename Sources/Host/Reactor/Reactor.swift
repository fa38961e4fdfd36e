// One thread, one io_uring: disk and tap I/O, event channels, timers. Its clients own their state without locks,
// because everything of theirs runs on this thread. This file: making, starting and stopping it, and jobs from other
// threads.

import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// A thread that submits I/O in batches and hands completions to its clients.
///
/// Either `start` gives it a thread of its own, or a thread of the caller's runs it with `runLoop(until:)`; not both.
@safe
public final class Reactor: @unchecked Sendable, CustomStringConvertible {
    /// For messages; the thread's name, cut to 15 characters.
    public let name: String
    /// How it waits. Change it on its thread only.
    public var polling: PollingPolicy
    /// Its clock, which is that of everything on it, too.
    public let time: any TimeSource

    let uring: Uring
    let wake: Descriptor
    let buffer: UnsafeMutablePointer<Completion>

    // Owned by the thread.
    var seats: [Seat] = []
    var freeSeats: [Int] = []
    var occupied = 0
    var inFlightTotal = 0
    var overflow: [SubmissionEntry] = []
    var waits: [UInt64: Descriptor] = [:]
    var timers = TimerHeap()
    var fixedFiles = FixedFileTable()
    var idleTurns: UInt32 = 0
    var idleSince: UInt64 = 0
    var spins: UInt32 = 0
    /// Somebody else ran when this spin last offered the processor.
    var hasYielded = false
    var window = SpinWindow()
    var hasEntered = false
    /// A stepped reactor has nothing to do, and has said to its clients that it sleeps.
    var isDozing = false
    var isStopping = false
    var hasStopped = false
    /// What it has done.
    public internal(set) var statistics = ReactorStatistics()

    // Shared with posters.
    private struct Inbox {
        var jobs: [@Sendable () -> Void] = []
        /// Set when the thread has ended: what comes later would never run, and would keep the reactor that it captures
        /// alive.
        var isClosed = false
    }
    private let inbox = Mutex(Inbox())
    let hasJobs = Atomic<Bool>(false)
    let isAsleep = Atomic<Bool>(false)
    let threadIdentity = Atomic<UInt>(0)
    private let thread = Mutex<pthread_t?>(nil)

    /// Makes a ring of `entries` submission entries and a wake-up; starts nothing.
    public init(
        name: String, time: some TimeSource, entries: UInt32 = 1024, polling: PollingPolicy = .sleep
    ) throws(Errno) {
        self.name = name
        self.time = time
        self.polling = polling
        let raw = causeway_eventfd()
        if raw < 0 { throw Errno.current }
        wake = Descriptor(owning: raw)
        uring = try Uring(entries: entries)
        // SAFETY: room for a batch, initialized whole and freed by `deinit`; nothing after it fails.
        unsafe buffer = .allocate(capacity: Uring.batch)
        unsafe buffer.initialize(repeating: Completion(), count: Uring.batch)
    }

    // SAFETY: whoever runs the loop, and alone uses the buffer, has a reference, so nobody does; a completion owns
    // nothing.
    deinit { unsafe buffer.deallocate() }

    /// `reactor vbd-51712: 2 clients, 3 in flight, 17 turns`.
    public var description: String {
        "reactor \(name): \(occupied) clients, \(inFlightTotal) in flight, \(statistics.turns) turns"
    }

    /// Starts the thread, and returns when it has its ring. Once only. After an error the reactor is stopped.
    public func start() throws(ReactorError) {
        try thread.withLock { thread throws(ReactorError) in
            precondition(thread == nil, "a reactor is started once")
            var identity = pthread_t()
            let launch = Launch(reactor: self)
            // SAFETY: the thread takes the one retain that is passed to it; where there is no thread it is taken back
            // here.
            let context = unsafe Unmanaged.passRetained(launch).toOpaque()
            let result = unsafe pthread_create(&identity, nil, reactorThread, context)
            if result != 0 {
                unsafe Unmanaged<Launch>.fromOpaque(context).release()
                closeInbox()
                throw .noThread(reactor: name, Errno(result))
            }
            if let error = launch.outcome.wait() {
                _ = pthread_join(identity, nil)
                throw error
            }
            thread = identity
        }
    }

    /// What a new thread gets, and what it says when it has begun.
    fileprivate final class Launch: Sendable {
        let reactor: Reactor
        let outcome = Handoff<ReactorError?>()
        init(reactor: Reactor) { self.reactor = reactor }
    }

    /// Ends the thread after the operations in flight have ended, and joins it; from another thread. Waits and timers
    /// are dropped.
    public func stop() {
        guard let identity = thread.withLock({ $0.take() }) else { return }
        post { self.isStopping = true }
        _ = pthread_join(identity, nil)
    }

    /// Runs `job` on the reactor's thread, soon; from any thread. After `stop` it is dropped.
    public func post(_ job: @escaping @Sendable () -> Void) { _ = tryPost(job) }

    /// False if the thread has ended.
    private func tryPost(_ job: @escaping @Sendable () -> Void) -> Bool {
        let isOpen = inbox.withLock { inbox in
            if !inbox.isClosed { inbox.jobs.append(job) }
            return !inbox.isClosed
        }
        if !isOpen { return false }
        // Store, then look; the sleeper stores `isAsleep`, then looks for jobs. Sequential consistency forbids that
        // both look before the other's store, which would leave a job with a sleeper.
        hasJobs.store(true, ordering: .sequentiallyConsistent)
        if isAsleep.load(ordering: .sequentiallyConsistent),
            isAsleep.exchange(false, ordering: .sequentiallyConsistent)
        {
            signal()
        }
        return true
    }

    /// Runs `job` on the reactor's thread and waits for it; from any other thread. On its own thread, and after `stop`,
    /// when there is no thread that it could disturb, the job runs at once. The reactor must be running or be about to.
    public func run<R: Sendable>(_ job: @escaping @Sendable () -> R) -> R {
        if isOnThread {
            rouse()
            return job()
        }
        let handoff = Handoff<R>()
        if !tryPost({ handoff.deliver(job()) }) { return job() }
        return handoff.wait()
    }

    /// What would have ended the sleep of a reactor with a thread of its own has come without the kernel's help: for
    /// those that are stepped. On its thread.
    package func rouse() { isDozing = false }

    /// Whether the caller is on the reactor's thread.
    public var isOnThread: Bool { threadIdentity.load(ordering: .relaxed) == UInt(pthread_self()) }

    /// Runs every job posted; true if there was one.
    func runJobs() -> Bool {
        guard hasJobs.load(ordering: .acquiring) else { return false }
        // Cleared before the list is taken: a job posted in between is either in the list or leaves the flag set.
        hasJobs.store(false, ordering: .sequentiallyConsistent)
        let jobs = inbox.withLock { inbox in
            let taken = inbox.jobs
            inbox.jobs = []
            return taken
        }
        for job in jobs { job() }
        statistics.jobs += UInt64(jobs.count)
        return !jobs.isEmpty
    }

    /// The thread is about to end: what was posted until now has its turn, what comes later is dropped.
    func closeInbox() {
        let last = inbox.withLock { inbox in
            inbox.isClosed = true
            let taken = inbox.jobs
            inbox.jobs = []
            return taken
        }
        for job in last { job() }
    }

    /// What a kill leaves of it, for simulations: clients and what was posted are forgotten, and nothing is done any
    /// more.
    package func abandon() {
        inbox.withLock { inbox in
            inbox.isClosed = true
            inbox.jobs = []
        }
        seats = []
        occupied = 0
        timers = TimerHeap()
        waits = [:]
    }

    private func signal() {
        var one: UInt64 = 1
        // SAFETY: the kernel reads the eight bytes of the number.
        _ = unsafe Glibc.write(wake.rawValue, &one, 8)
    }
}

/// A function, not a closure: see style notes on `pthread_create`.
private func reactorThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    // SAFETY: what `start` passed, taken once; the name is lent for the call, which copies it.
    guard let context = unsafe context else { return nil }
    let (reactor, outcome) = unsafe begin(context)
    _ = unsafe causeway_set_thread_name(reactor.name)
    reactor.loop(outcome)
    return nil
}

/// Takes a launch apart, so that nothing of it is kept as long as the thread lives.
private func begin(_ context: UnsafeMutableRawPointer) -> (Reactor, Handoff<ReactorError?>) {
    // SAFETY: a `Launch` that `start` has retained for this thread; the retain ends here, and only here.
    let launch = unsafe Unmanaged<Reactor.Launch>.fromOpaque(context).takeRetainedValue()
    return (launch.reactor, launch.outcome)
}
