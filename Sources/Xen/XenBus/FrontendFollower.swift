// What every frontend does with its device, whatever its kind: follows the store, asks FrontendMachine, does the step,
// and outlives both its backend and the store. What a step means is the driver's. One thread, the caller's of `run`.

import LinuxSystem
import Synchronization
import XenStore
import XenTypes

/// One device of one kind, on the control thread.
public protocol FrontendDriver: AnyObject {
    /// The state that says that rings are published.
    var publishedState: XenbusState { get }
    /// Offers rings and writes their keys and `publishedState`, in one transaction.
    func publish(_ store: StoreClient, to backend: DomainID, at backendPath: String) throws(XenbusError)
    /// Reads what the backend published, puts the rings to use.
    func goLive(_ store: StoreClient, _ backendPath: String) throws(XenbusError)
    /// The backend touched its directory while connected.
    func refresh(_ store: StoreClient, _ backendPath: String) throws(XenbusError)
    /// Stops using the rings and withdraws them; `goLive` may follow later.
    func suspend()
    /// There is nothing more to come: nil if the device was taken away, else what went wrong.
    func giveUp(_ reason: String?)
    /// How far it is.
    /// - Parameter isAsked: whether somebody wanted it so, who ends this side or takes the device away; else the
    ///   backend has gone by itself.
    func changed(to phase: FrontendPhase, isAsked: Bool)
}

/// Follows one device until it is told to stop or the device is gone.
public final class FrontendFollower: Sendable {
    /// The device's directory.
    public let path: FrontendPath
    private let time: any TimeSource
    private let store = Mutex<StoreClient?>(nil)
    private let stopping = Atomic<Bool>(false)
    private let restarting = Atomic<Bool>(false)
    private let broken = Mutex<String?>(nil)
    private let users = Atomic<Int>(0)

    /// Follows the device at `path`, once it runs.
    /// - Parameter time: what its pauses go by.
    public init(path: FrontendPath, time: some TimeSource) {
        self.path = path
        self.time = time
    }

    /// Ends `run`, in the proper order (5, 6); from any thread.
    public func stop() {
        stopping.store(true, ordering: .sequentiallyConsistent)
        store.withLock { $0?.wake() }
    }

    /// Lets go of the rings and offers new ones: those that the backend knew mean nothing any more, as after a suspend;
    /// from any thread.
    public func restart() {
        restarting.store(true, ordering: .relaxed)
        store.withLock { $0?.wake() }
    }

    /// Somebody uses the device from now on, until `endUse`: taken away without force, it stays; from any thread.
    public func beginUse() { users.add(1, ordering: .relaxed) }

    /// Undoes one `beginUse`; from any thread.
    public func endUse() {
        // What was refused before is done now.
        if users.subtract(1, ordering: .relaxed).newValue == 0 { store.withLock { $0?.wake() } }
    }

    /// The backend broke the protocol: `run` says so in the error node and gives up; from any thread.
    public func quarantine(_ reason: String) { fail("the backend broke the protocol: \(reason)") }

    /// The device is of no more use, whoever's doing it is: as `quarantine`; from any thread.
    public func fail(_ reason: String) {
        broken.withLock { $0 = $0 ?? reason }
        store.withLock { $0?.wake() }
    }

    private var isStopping: Bool { stopping.load(ordering: .relaxed) }

    /// Follows. A store that goes away for a time does not touch the data path; one that is gone for good ends the
    /// device.
    public func run(_ driver: some FrontendDriver, connect: () -> StoreAttempt) {
        var life = Life(path: path)
        while !isStopping {
            let client: StoreClient
            switch connect() {
            case .connected(let made): client = made
            case .later:
                time.sleep(milliseconds: 100)
                continue
            case .never(let reason): return life.giveUp(driver, reason)
            }
            store.withLock { $0 = client }
            do throws(XenbusError) {
                try life.open(client)
                try follow(client, driver, &life)
            } catch {
                if !error.isDisconnected {
                    if life.isRemoved(client) {
                        life.giveUp(driver, nil)
                    } else {
                        try? client.fail(path.path, errorNode: path.errorNode, number: Errno.invalidArgument.rawValue, "\(error)")
                        life.giveUp(driver, "\(error)")
                    }
                    stopping.store(true, ordering: .relaxed)
                }
            }
            if isStopping {
                life.shutDown(client, driver)
                store.withLock { $0 = nil }
                client.close()
                return
            }
            store.withLock { $0 = nil }
            client.close()
            // A store that takes connections and drops them must not be asked without end.
            time.sleep(milliseconds: 20)
        }
        life.giveUp(driver, nil)
    }

    private func follow(_ client: StoreClient, _ driver: some FrontendDriver, _ life: inout Life) throws(XenbusError) {
        while !isStopping {
            if let reason = broken.withLock({ $0 }) {
                throw .unusable(reason)
            }
            if restarting.exchange(false, ordering: .relaxed), life.phase != .detached {
                try life.suspend(client, driver, isAsked: true)
            }
            var more = true
            while more, !isStopping { more = try life.act(client, driver, self) }
            if isStopping { return }
            do throws(StoreError) { _ = try client.nextEvent(milliseconds: -1) } catch { throw .store(error) }
        }
    }

    /// The handshake's state.
    private struct Life {
        let path: FrontendPath
        var backendPath = ""
        var backend = DomainID.zero
        var phase = FrontendPhase.detached
        /// The backend was closing or closed when it was last seen, and the device offline.
        private var wasLeaving = false
        /// That the device is in use has been said.
        private var hasRefused = false
        /// The first reason counts: what follows it is only tidying up.
        private var hasGivenUp = false

        init(path: FrontendPath) { self.path = path }

        /// Whether the device was there and is not any more: what failed meanwhile failed for want of it.
        func isRemoved(_ client: StoreClient) -> Bool {
            guard !backendPath.isEmpty else { return false }
            do throws(XenbusError) { return try client.text(path.path + "/backend") == nil } catch { return false }
        }

        mutating func open(_ client: StoreClient) throws(XenbusError) {
            guard let named = try client.text(path.path + "/backend") else { throw .noDevice(path.domain) }
            backendPath = named
            let domain: UInt16 = try client.requiredNumber(path.path + "/backend-id", in: 0...0x7FEF)
            backend = DomainID(domain)
            // The path is the toolstack's, who names the backend's domain in it; anything else is not a backend of ours
            // (protocol-rules.md 28).
            guard backendPath.hasPrefix("/local/domain/\(backend)/backend/") else {
                throw .malformed(
                    MalformedNode(path.path + "/backend", "is \(StoreNumber.quote(backendPath)), not in domain \(backend)"))
            }
            do throws(StoreError) {
                try client.watch(path.path + "/backend", token: "self")
                try client.watch(backendPath + "/state", token: "backend")
                try client.watch(backendPath + "/online", token: "backend")
                try client.watch(backendPath + "/carrier", token: "backend")
            } catch { throw .store(error) }
        }

        /// One step; true if there may be another.
        mutating func act(
            _ client: StoreClient, _ driver: some FrontendDriver, _ follower: FrontendFollower
        ) throws(XenbusError) -> Bool {
            let (state, online) = (try client.state(of: backendPath), try client.flag(backendPath + "/online"))
            if state != .unknown { wasLeaving = !online && (state == .closing || state == .closed) }
            let step = FrontendMachine.next(
                own: try client.state(of: path.path), backend: state, phase: phase, online: online, wasLeaving: wasLeaving,
                ownExists: try client.text(path.path + "/state") != nil, inUse: follower.users.load(ordering: .relaxed) > 0,
                publishedState: driver.publishedState)
            if step != .refuse { hasRefused = false }
            switch step {
            case .wait: return false
            case .refuse:
                if !hasRefused {
                    try client.complain(
                        path.path, errorNode: path.errorNode, number: Errno.busy.rawValue, "Device in use; refusing to close")
                }
                hasRefused = true
                return false
            case .publish:
                try driver.publish(client, to: backend, at: backendPath)
                set(.published, driver)
            case .goLive:
                try driver.goLive(client, backendPath)
                if driver.publishedState != .connected { try client.switchState(of: path.path, to: .connected) }
                set(.live, driver)
            case .refresh:
                try driver.refresh(client, backendPath)
                return false
            // Offline, the device is being taken away.
            case .suspend: try suspend(client, driver, isAsked: try !client.flag(backendPath + "/online", default: true))
            case .restart: try client.switchState(of: path.path, to: .initialising)
            case .remove:
                giveUp(driver, nil)
                follower.stopping.store(true, ordering: .relaxed)
                return false
            }
            return true
        }

        mutating func suspend(_ client: StoreClient, _ driver: some FrontendDriver, isAsked: Bool) throws(XenbusError) {
            driver.suspend()
            set(.detached, driver, isAsked: isAsked)
            try client.switchState(of: path.path, to: .closed)
        }

        private mutating func set(_ new: FrontendPhase, _ driver: some FrontendDriver, isAsked: Bool = true) {
            phase = new
            driver.changed(to: new, isAsked: isAsked)
        }

        mutating func giveUp(_ driver: some FrontendDriver, _ reason: String?) {
            if hasGivenUp { return }
            hasGivenUp = true
            driver.suspend()
            set(.detached, driver)
            driver.giveUp(reason)
        }

        /// Closes in good order. Rings are withdrawn only after the backend let go, or the grants would end later than
        /// we do.
        mutating func shutDown(_ client: StoreClient, _ driver: some FrontendDriver) {
            if phase != .detached {
                _ = try? client.switchState(of: path.path, to: .closing)
                // Less than a second in all, whatever the backend does (attacks.md C23): pages that it still has mapped
                // end when it lets go.
                let deadline = client.time.milliseconds + 800
                while client.time.milliseconds < deadline,
                    (try? client.state(of: backendPath)).map({ $0 == .connected }) ?? false
                {
                    _ = try? client.nextEvent(milliseconds: 100)
                }
                _ = try? client.switchState(of: path.path, to: .closed)
            }
            giveUp(driver, nil)
        }
    }
}
