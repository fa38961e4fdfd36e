// The daemon's half: DIR/hypervisor.sock and DIR/xenstored.sock, and one thread that serves the first.
//
// The daemon makes all memory and all bells and hands them out; it never touches data, and is not asked when a bell rings. It
// blocks on nobody: its sockets do not block, a client that does not read its answers is dropped, and what a dead one held is
// released in slices between other work.

import Glibc
import Hypervisor
import HypervisorCore
import LinuxSystem
import Synchronization
import XenStore

/// A host for domains that are processes.
public final class LoopbackHost: Sendable {
    /// Where clients find the host.
    public let runDirectory: String
    /// The store that the host's domains share.
    public let store: StoreServer
    private let loop: Mutex<HostLoop>
    private let stopPipe: WakePipe
    private let isStarted = Atomic<Bool>(false)
    private let isStopping = Atomic<Bool>(false)

    /// The socket that the hypervisor's clients connect to.
    public static func socketPath(in runDirectory: String) -> String { "\(runDirectory)/hypervisor.sock" }
    /// The socket that the store's clients connect to (`XENSTORED_PATH`).
    public static func storePath(in runDirectory: String) -> String { "\(runDirectory)/xenstored.sock" }

    /// Takes `runDirectory`, which is made if it is missing; fails if another host has it.
    public init(
        runDirectory: String, limits: HypervisorLimits = HypervisorLimits(), store: StoreServer = StoreServer()
    ) throws(HypervisorError) {
        self.store = store
        self.runDirectory = runDirectory
        let pipe = try describing("making a pipe") { () throws(Errno) in try WakePipe() }
        stopPipe = pipe
        loop = Mutex(try HostLoop(runDirectory: runDirectory, limits: limits, store: store, stop: pipe.reader))
    }

    deinit { stop() }

    /// Serves on the calling thread until `stop`.
    public func run() {
        isStarted.store(true, ordering: .releasing)
        loop.withLock { $0.run() }
    }

    /// Serves on a thread of its own.
    public func start() throws(HypervisorError) {
        guard !isStarted.exchange(true, ordering: .acquiringAndReleasing) else { return }
        // The thread must not keep the host alive: only its loop, through this box, and `deinit` stops that.
        let host = Unowned(self)
        let ready = try describing("making a pipe") { () throws(Errno) in try WakePipe() }
        guard startThread({ host.enter(ready.writer) }) else { throw .system("no room for a thread", doing: "starting the host") }
        _ = try? waitReadable(ready.reader.rawValue, milliseconds: -1)
    }

    fileprivate func serve(announcing ready: Descriptor) {
        loop.withLock { loop in
            signalPipe(ready)
            loop.run()
        }
    }

    /// Ends serving, and every domain with it. Returns when the thread is done.
    public func stop() {
        guard !isStopping.exchange(true, ordering: .acquiringAndReleasing) else { return }
        signalPipe(stopPipe.writer)
        loop.withLock { $0.shutDown() }
    }
}

/// A reference that `stop`, which waits for the thread, makes safe to hold without counting.
private struct Unowned: Sendable {
    unowned let host: LoopbackHost
    init(_ host: LoopbackHost) { self.host = host }
    func enter(_ ready: Descriptor) { host.serve(announcing: ready) }
}

/// Runs a system call's wrapper and says what it was for.
@discardableResult
func describing<R>(_ doing: String, _ body: () throws(Errno) -> R) throws(HypervisorError) -> R {
    do throws(Errno) { return try body() } catch { throw .system(error.description, doing: doing) }
}
