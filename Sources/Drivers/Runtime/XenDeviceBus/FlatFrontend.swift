// A driver of a flat device that is in another domain: two pages that it grants, a doorbell for each, and the states of
// the store. It outlives its backend: the next one finds the driver's bytes as they were.

import Hypervisor
import LinuxSystem
import PageDevices
import Reactor
import Synchronization
import XenBus

/// Why a flat device of another domain cannot be used.
public enum FlatFrontendError: Error, CustomStringConvertible {
    /// No backend has connected in time.
    case timedOut(number: UInt32, milliseconds: Int32)
    /// The device is gone for good; why.
    case lost(number: UInt32, String)
    /// The backend is away at present.
    case away(number: UInt32)
    /// What was read or is to be written.
    case device(FlatDeviceError)
    /// A thread or a pipe could not be had.
    case system(number: UInt32, String)

    /// In one line.
    public var description: String {
        switch self {
        case .timedOut(let number, let milliseconds):
            "vdevice \(number): no backend connected within \(milliseconds) ms; is it attached, and a backend running?"
        case .lost(let number, let reason): "vdevice \(number): \(reason)"
        case .away(let number): "vdevice \(number): its backend is away"
        case .device(let error): "\(error)"
        case .system(let number, let words): "vdevice \(number): \(words)"
        }
    }
}

/// One flat device of the class `vdevice` of this domain. Any thread.
public final class FlatFrontend<H: Hypervisor>: Sendable {
    /// The device's number.
    public let number: UInt32
    let layout: FlatLayout
    let hypervisor: H
    let state = Mutex(State())
    let news: WakePipe
    let reactor: Reactor
    let changed: @Sendable () -> Void
    let log: @Sendable (String) -> Void
    private let follower: FrontendFollower
    private let control = Mutex<WorkerThread?>(nil)
    private let isClosed = Atomic<Bool>(false)

    struct State {
        /// As long as a backend is there.
        var pages: FlatPages?
        var ring: (@Sendable () -> Void)?
        /// What the driver has written, for the next backend.
        var own: [Int: [UInt8]] = [:]
        var failure: String?
    }

    /// - Parameters:
    ///   - number: the device's, in the hypervisor's domain.
    ///   - layout: what it is expected to be.
    ///   - changed: called when its bytes may have changed, on the frontend's own thread.
    ///   - log: gets one line for each thing worth knowing.
    public init(
        hypervisor: H, number: UInt32, _ layout: FlatLayout, changed: @escaping @Sendable () -> Void = {},
        log: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(FlatFrontendError) {
        self.hypervisor = hypervisor
        self.number = number
        self.layout = layout
        self.changed = changed
        self.log = log
        follower = FrontendFollower(
            path: FrontendPath(domain: hypervisor.domain, kind: .busDevice, number: number), time: hypervisor.time)
        do throws(Errno) {
            news = try WakePipe()
            reactor = try Reactor(name: "busfront-\(number)", time: hypervisor.time)
        } catch { throw .system(number: number, "a pipe or a ring: \(error)") }
    }

    /// Begins, and waits until a backend has connected.
    public func connect(timeoutMilliseconds: Int32 = 10_000) throws(FlatFrontendError) {
        do throws(ReactorError) { try reactor.start() } catch { throw .system(number: number, "\(error)") }
        do throws(Errno) {
            let thread = try WorkerThread(name: "vdevice-\(number)") { [self] in
                follower.run(FlatFrontendDriver(self, follower.path)) { hypervisor.attemptStore() }
            }
            control.withLock { $0 = thread }
        } catch { throw .system(number: number, "a thread: \(error)") }
        let isThere = try news.wait(milliseconds: timeoutMilliseconds, hypervisor.time) { () throws(FlatFrontendError) in
            let (failure, isThere) = state.withLock { ($0.failure, $0.pages != nil) }
            if let failure { throw .lost(number: number, failure) }
            return isThere
        }
        if !isThere { throw .timedOut(number: number, milliseconds: timeoutMilliseconds) }
    }

    /// The device's bytes as they are now.
    public func read() throws(FlatFrontendError) -> [UInt8] {
        let pages = try pages()
        do throws(FlatDeviceError) { return try pages.read() } catch { throw .device(error) }
    }

    /// Writes bytes of the driver's, and tells the device.
    public func write(_ bytes: [UInt8], at offset: Int) throws(FlatFrontendError) {
        let ring = try state.withLock { (state) throws(FlatFrontendError) -> (@Sendable () -> Void)? in
            guard let pages = state.pages else {
                if let failure = state.failure { throw .lost(number: number, failure) }
                throw .away(number: number)
            }
            do throws(FlatDeviceError) { try pages.write(bytes, at: offset) } catch { throw .device(error) }
            state.own[offset] = bytes
            return state.ring
        }
        ring?()
    }

    private func pages() throws(FlatFrontendError) -> FlatPages {
        let (pages, failure) = state.withLock { ($0.pages, $0.failure) }
        if let pages { return pages }
        if let failure { throw .lost(number: number, failure) }
        throw .away(number: number)
    }

    /// Closes the device in the proper order (5, 6).
    public func close() {
        guard !isClosed.exchange(true, ordering: .sequentiallyConsistent) else { return }
        follower.stop()
        control.withLock { $0.take() }?.join()
        reactor.stop()
    }
}
