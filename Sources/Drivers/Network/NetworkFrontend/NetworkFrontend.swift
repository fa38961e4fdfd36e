// A network interface as its frontend has it (netfront): frames between a device of this host, a tap or a link in
// memory, and a backend in another domain. The interface stays while its backend is away.

import DeviceFaults
import Hypervisor
import LinuxSystem
import NetworkDevices
import NetworkProtocol
import Reactor
import Synchronization
import XenBus

/// A network frontend: one vif of this domain.
public final class NetworkFrontend<H: Hypervisor>: Sendable {
    /// The device's number.
    public let number: UInt32
    let hypervisor: H
    let options: NetworkFrontendOptions
    let device: any NetworkDevice
    /// What this end does wrong on purpose; nil: nothing may be set.
    public let faults: FaultBook?
    let log: @Sendable (String) -> Void
    private let follower: FrontendFollower
    private let reactors: [Reactor]
    private let control = Mutex<WorkerThread?>(nil)
    let status = Mutex(Status())
    let changed: WakePipe
    /// Frames of the device's, and for it, that were dropped, whatever became of the queues.
    let (transmitDrops, receiveDrops) = (DropCounter(), DropCounter())
    private let isClosed = Atomic<Bool>(false)

    /// What the control thread tells everybody else.
    struct Status {
        var phase = FrontendPhase.detached
        var connections = 0
        var failure: NetworkFrontendError?
        var engine: FrontendEngine?
        /// What queues counted that are no more.
        var earlier: [FrontendQueueStatistics] = []
        var mappedPages = 0
        var features: NetworkFeatures = []
        var hasCarrier = true
    }

    /// A frontend for vif `number` of the hypervisor's domain that moves frames from and to `device`; `log` gets one
    /// line for each change of the connection.
    public init(
        hypervisor: H, number: UInt32, device: any NetworkDevice, options: NetworkFrontendOptions = NetworkFrontendOptions(),
        log: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(NetworkFrontendError) {
        self.hypervisor = hypervisor
        self.number = number
        self.device = device
        self.options = options
        faults = options.takesFaults ? FaultBook(.network, .front) : nil
        self.log = log
        follower = FrontendFollower(
            path: FrontendPath(domain: hypervisor.domain, kind: .network, number: number), time: hypervisor.time)
        do throws(Errno) {
            changed = try WakePipe()
            reactors = try Self.makeReactors(max(1, options.reactors), number, options.polling, hypervisor.time)
        } catch { throw .negotiation("vif \(number): \(ReactorError.notMade(error))") }
        device.watchCarrier { [weak self] in self?.lookAtDevice() }
    }

    /// An interface without its device is none: the backend has to know that nobody takes its frames.
    private func lookAtDevice() {
        if device.isGone { follower.fail("\(device.name) is gone: somebody deleted it") }
    }

    private static func makeReactors(
        _ count: Int, _ number: UInt32, _ polling: PollingPolicy, _ time: any TimeSource
    ) throws(Errno) -> [Reactor] {
        var reactors: [Reactor] = []
        for index in 0..<count {
            let name = index == 0 ? "vif-\(number)" : "vif-\(number)-\(index)"
            reactors.append(try Reactor(name: name, time: time, polling: polling))
        }
        return reactors
    }

    /// Connections made since the start: 1 after the first, one more after each return of a backend.
    public var connectionCount: Int { status.withLock { $0.connections } }
    /// Whether a backend is there.
    public var isLive: Bool { status.withLock { $0.phase == .live } }
    /// Whether the backend's wire has another end, as far as the backend says.
    public var hasCarrier: Bool { status.withLock { $0.hasCarrier } }
    /// Pages that the backend keeps mapped.
    public var mappedPages: Int { status.withLock { $0.mappedPages } }
    /// What went wrong for good; nil while all is well.
    public var failure: NetworkFrontendError? { status.withLock { $0.failure } }
    /// One for each queue.
    public var statistics: [FrontendQueueStatistics] { status.withLock { $0.engine }?.statistics ?? [] }

    /// What was dropped so far, by reason.
    public var drops: InterfaceDrops { InterfaceDrops(transmit: transmitDrops.drops, receive: receiveDrops.drops) }

    /// Starts, and waits until the backend is there.
    public func connect(timeoutMilliseconds: Int32 = 10_000) throws(NetworkFrontendError) {
        try start()
        let isLive = try changed.wait(milliseconds: timeoutMilliseconds, hypervisor.time) { () throws(NetworkFrontendError) in
            let (failure, live) = status.withLock { ($0.failure, $0.phase == .live) }
            if let failure { throw failure }
            return live
        }
        if !isLive {
            throw .timedOut(
                "vif \(number): no backend connected within \(timeoutMilliseconds) ms; is it attached, and a backend running?")
        }
    }

    /// Starts without waiting.
    public func start() throws(NetworkFrontendError) {
        do throws(ReactorError) { for reactor in reactors { try reactor.start() } } catch {
            for reactor in reactors { reactor.stop() }
            throw .negotiation("vif \(number): \(error)")
        }
        do throws(Errno) {
            let thread = try WorkerThread(name: "vif-\(number)-bus") { [self] in
                let driver = VifDriver(self, reactors)
                follower.run(driver) { hypervisor.attemptStore() }
            }
            control.withLock { $0 = thread }
        } catch { throw .negotiation("vif \(number): no thread: \(error)") }
    }

    /// Begins anew after the domain was suspended or moved: the rings and grants that the backend knew mean nothing any
    /// more. What is in flight is lost, as frames may be.
    public func resume() { follower.restart() }

    /// Closes the device in the proper order (5, 6) and ends the threads.
    public func close() {
        guard !isClosed.exchange(true, ordering: .sequentiallyConsistent) else { return }
        follower.stop()
        control.withLock { $0.take() }?.join()
        for reactor in reactors { reactor.stop() }
    }

    func quarantine(_ reason: String) { follower.quarantine(reason) }
}
