// The daemon's half: DIR/hypervisor.sock and DIR/xenstored.sock, and one thread that serves the first.
//
// The daemon makes all memory and all bells and hands them out; it never touches data, and is not asked when a bell
// rings. It blocks on nobody: its sockets do not block, a client that does not read its answers is dropped, and what a
// dead one held is released in slices between other work.

import Glibc
import Hypervisor
import HypervisorRules
import LinuxSystem
import Synchronization
import XenStoreServer
import XenTypes

/// A host for domains that are processes.
public final class LoopbackHost: Sendable {
    /// Where clients find the host.
    public let runDirectory: String
    /// The store that the host's domains share.
    public let store: StoreServer
    private let serving: ServingLoop
    private let thread = Mutex<WorkerThread?>(nil)
    private let stopPipe: WakePipe
    private let isStarted = Atomic<Bool>(false)
    private let isStopping = Atomic<Bool>(false)

    /// The socket that the hypervisor's clients connect to.
    public static func socketPath(in runDirectory: String) -> String { "\(runDirectory)/hypervisor.sock" }
    /// The socket that the store's clients connect to (`XENSTORED_PATH`).
    public static func storePath(in runDirectory: String) -> String { "\(runDirectory)/xenstored.sock" }

    /// Why a host's socket could not be connected to, and what to do about it; to stand behind the socket's path.
    public static func silence(_ reason: Errno) -> String {
        reason == .permissionDenied
            ? "only the user who runs `causeway host` there, and root, may use it (\(reason))"
            : "no host answers there (\(reason)); is `causeway host` running?"
    }

    /// The same of one domain's programs, which are that domain to the store; domain 0's is the host's own.
    public static func storePath(in runDirectory: String, domain: DomainID) -> String {
        domain == .zero ? storePath(in: runDirectory) : "\(runDirectory)/domain/\(domain)/xenstored.sock"
    }

    /// Takes `runDirectory`, which is made if it is missing; fails if another host has it.
    /// - Parameters:
    ///   - store: one of the caller's; nil: a new one.
    ///   - time: the new store's clock.
    public init(
        runDirectory: String, limits: HypervisorLimits = HypervisorLimits(), store: StoreServer? = nil, time: some TimeSource
    ) throws(HypervisorError) {
        let store = store ?? StoreServer(limits: Self.storeLimits(limits), time: time)
        self.store = store
        self.runDirectory = runDirectory
        let pipe = try describing("making a pipe") { () throws(Errno) in try WakePipe() }
        stopPipe = pipe
        serving = ServingLoop(
            try HostLoop(runDirectory: runDirectory, limits: limits, store: store, stop: pipe.reader, time: time))
    }

    /// A store's limits where a daemon serves it beside the hypervisor.
    private static func storeLimits(_ limits: HypervisorLimits) -> StoreLimits {
        var storeLimits = StoreLimits()
        storeLimits.connections = DescriptorShares(limits).store
        return storeLimits
    }

    deinit { stop() }

    /// Serves on the calling thread until `stop`.
    public func run() {
        guard !isStarted.exchange(true, ordering: .acquiringAndReleasing) else { return }
        serving.run()
    }

    /// Serves on a thread of its own, which does not keep the host alive.
    public func start() throws(HypervisorError) {
        guard !isStarted.exchange(true, ordering: .acquiringAndReleasing) else { return }
        let serving = serving
        let started = try describing("starting the host's thread") { () throws(Errno) in
            try WorkerThread(name: "hypervisor") { serving.run() }
        }
        thread.withLock { $0 = started }
    }

    /// Ends serving, and every domain with it. Returns when the thread is done.
    public func stop() {
        guard !isStopping.exchange(true, ordering: .acquiringAndReleasing) else { return }
        signalPipe(stopPipe.writer)
        thread.withLock { $0.take() }?.join()
        serving.shutDown()
    }
}

/// The loop, for whoever runs it: apart from its owner, so that the thread keeps no host alive.
private final class ServingLoop: Sendable {
    private let loop: Mutex<HostLoop>
    init(_ loop: sending HostLoop) { self.loop = Mutex(loop) }
    func run() { loop.withLock { $0.run() } }
    /// Waits for `run`, which the stop pipe ends.
    func shutDown() { loop.withLock { $0.shutDown() } }
}

/// Runs a system call's wrapper and says what it was for.
@discardableResult
func describing<R>(_ doing: String, _ body: () throws(Errno) -> R) throws(HypervisorError) -> R {
    do throws(Errno) { return try body() } catch { throw .system(error.description, doing: doing) }
}
