// What every backend does with one of its devices, whatever its kind: follows the store, asks BackendMachine, does the step, leaves
// errors where they are looked for. What a step means is the driver's.

import LinuxSystem
import XenStore
import XenWire

/// Why a driver could not do a step.
public enum DriverFailure: Error, Sendable {
    /// The store, or a node in it.
    case xenbus(XenbusError)
    /// The device is out until its frontend goes through a close cycle.
    case refused(number: Int32, String)
    /// What the device is backed by is not to be had now; tried again after a pause that grows.
    case unavailable(number: Int32, String)
}

/// One device of one kind, on the control thread.
public protocol BackendDriver: AnyObject {
    /// What queues tell the control thread.
    associatedtype News: Sendable
    /// Whether it holds the frontend's rings.
    var holdsRings: Bool { get }
    /// Whether the protocol has states 7 and 8.
    var reconfigures: Bool { get }
    /// Whether a predecessor of this process left what it takes to go on with the frontend's rings.
    var canAdopt: Bool { get }
    /// Opens what backs the device and writes the offer and state 2.
    func announce(_ store: StoreClient) throws(DriverFailure)
    /// Whether everything is there that connecting needs besides the frontend: a hot-plug script may still run.
    func isReady(_ store: StoreClient) throws(DriverFailure) -> Bool
    /// Goes on with the rings of a predecessor; writes nothing to the store. `unavailable` is tried again, `refused` ends in a close cycle.
    func adopt(_ store: StoreClient, _ frontend: String) throws(DriverFailure)
    /// Reads the frontend's keys, maps its rings, writes state 4.
    func connect(_ store: StoreClient, _ frontend: String) throws(DriverFailure)
    /// Reads again what the frontend can take.
    func reconfigure(_ store: StoreClient, _ frontend: String) throws(DriverFailure)
    /// Tells every queue to close; returns how many will report that they have.
    /// - Parameter handingOver: a successor of this process is to go on with the same rings.
    func closeQueues(handingOver: Bool) -> Int
    /// The device is no more, or nobody is to serve it: lets go of what backs it.
    func letGo()
    /// Acts on news; returns how many queues have closed by it.
    func handle(_ news: News, _ store: StoreClient) throws(DriverFailure) -> Int
    /// Called every so often.
    func tick(_ store: StoreClient) throws(DriverFailure)
}

/// One device's life as its backend sees it.
public final class BackendFollower<Driver: BackendDriver> {
    public let path: BackendPath
    public let driver: Driver
    private let log: (String) -> Void
    private var hasAnnounced = false
    private var retryAt: Int64 = 0
    private var retryPause: Int64 = 0
    private var lastMessage = ""
    private var draining = 0
    private var frontendPath: String?
    private let removesDirectory: Bool
    /// A predecessor's rings could not be taken over: they are closed instead.
    private var hasRefusedAdoption = false
    /// The hypervisor says that the frontend's domain is gone, whatever its directory still says.
    public var isOrphan = false

    /// - Parameter removesDirectory: whether the device's directory is removed once it is closed for good. In dom0 the toolstack does
    ///   that; for a driver domain it waits until somebody there has.
    public init(path: BackendPath, driver: Driver, removesDirectory: Bool = false, log: @escaping (String) -> Void) {
        self.path = path
        self.driver = driver
        self.removesDirectory = removesDirectory
        self.log = log
    }

    /// When `follow` should be called again although nothing changed; nil: never.
    var followAgainAt: Int64? { retryAt > 0 ? retryAt : nil }

    func takeRetry() -> Bool {
        guard retryAt > 0, retryAt <= monotonicMilliseconds() else { return false }
        retryAt = 0
        return true
    }

    /// Whether nothing of the frontend's is held.
    public var isIdle: Bool { !driver.holdsRings && draining == 0 }

    /// Does what the store calls for, until there is nothing to do; false if the device's directory is gone and nothing is held.
    func follow(_ store: StoreClient) throws(XenbusError) -> Bool {
        // The number of steps of a whole life is small; a frontend that changes its state as we go gets its turn later.
        for _ in 0..<8 {
            guard draining == 0 else { return true }
            guard try store.text(path.path + "/state") != nil else {
                closeQueues()
                driver.letGo()
                return !isIdle
            }
            do throws(DriverFailure) {
                if try !step(store) { return true }
            } catch {
                try answer(error, store)
                return true
            }
        }
        return true
    }

    private func step(_ store: StoreClient) throws(DriverFailure) -> Bool {
        let frontend: String
        let own: XenbusState
        let step: BackendStep
        do throws(XenbusError) {
            frontend = try locateFrontend(store)
            own = try store.state(of: path.path)
            step = BackendMachine.next(
                own: own, frontend: isOrphan ? .unknown : try store.state(of: frontend),
                holds: driver.holdsRings, announced: hasAnnounced, online: try store.flag(path.path + "/online"),
                adoptable: !hasAnnounced && !hasRefusedAdoption && isIdle && driver.canAdopt, reconfigures: driver.reconfigures)
        } catch { throw .xenbus(error) }
        switch step {
        case .wait where removesDirectory && own == .closed && isIdle: return try removeIfOver(store)
        case .wait: return false
        // A frontend that keeps coming back must not make us try in a loop what cannot be had.
        case .announce where retryAt > monotonicMilliseconds(): return false
        case .adopt where retryAt > monotonicMilliseconds(): return false
        case .adopt: try adopt(store, frontend)
        case .announce: try announce(store)
        case .connect:
            if !hasAnnounced { try announce(store) }
            guard try driver.isReady(store) else { return false }
            try driver.connect(store, frontend)
        case .reconfigure:
            try driver.reconfigure(store, frontend)
            try switchState(store, .reconfigured)
        case .resume: try switchState(store, .connected)
        case .close: try switchState(store, .closing)
        case .disconnect: if driver.holdsRings { closeQueues() } else { try switchState(store, .closed) }
        case .refuse(let reason): throw .refused(number: 22, reason)
        }
        return true
    }

    private func announce(_ store: StoreClient) throws(DriverFailure) {
        try driver.announce(store)
        hasAnnounced = true
        retryAt = 0
        retryPause = 0
    }

    private func adopt(_ store: StoreClient, _ frontend: String) throws(DriverFailure) {
        do throws(DriverFailure) {
            try driver.adopt(store, frontend)
            hasAnnounced = true
            retryAt = 0
            retryPause = 0
        } catch {
            switch error {
            case .xenbus(let error) where error.isDisconnected: throw .xenbus(error)
            case .unavailable(_, let message):
                // The guest waits; a device that comes back late is better for it than one that is gone.
                retryLater()
                say("cannot take over yet: \(message)")
            case .refused(_, let message):
                hasRefusedAdoption = true
                say("cannot take over: \(message)")
                closeQueues()
            case .xenbus(let error):
                hasRefusedAdoption = true
                say("cannot take over: \(error)")
                closeQueues()
            }
        }
    }

    /// Removes the directory of a device that is closed for good; the one above it is the toolstack's.
    private func removeIfOver(_ store: StoreClient) throws(DriverFailure) -> Bool {
        let directory = path.path
        do throws(XenbusError) {
            return try store.atomically { access throws(XenbusError) in
                // An offline device only: another may come back. A missing node is no word of the toolstack's.
                guard try access.text(directory + "/online") == "0" else { return false }
                try access.discardNode(directory)
                return true
            }
        } catch { throw .xenbus(error) }
    }

    private func switchState(_ store: StoreClient, _ state: XenbusState) throws(DriverFailure) {
        do throws(XenbusError) { try store.switchState(of: path.path, to: state) } catch { throw .xenbus(error) }
    }

    /// The frontend's directory. The toolstack names it; it must be one of the domain that the device is for (attacks.md D14).
    private func locateFrontend(_ store: StoreClient) throws(XenbusError) -> String {
        let frontend = try store.requiredText(path.path + "/frontend")
        let domain: UInt16 = try store.requiredNumber(path.path + "/frontend-id", in: 0...0x7FEF)
        guard DomainID(domain) == path.device.frontend, frontend.hasPrefix("/local/domain/\(domain)/") else {
            throw .malformed(
                MalformedNode(path.path + "/frontend", "is \(StoreNumber.quote(frontend)), not in domain \(path.device.frontend)"))
        }
        if frontendPath != frontend {
            do throws(StoreError) { try store.watch(frontend + "/state", token: "frontend \(path.device)") } catch {
                throw .store(error)
            }
            frontendPath = frontend
        }
        return frontend
    }

    /// Acts on what a queue reported.
    func handle(_ news: Driver.News, _ store: StoreClient) throws(XenbusError) {
        do throws(DriverFailure) { draining -= try driver.handle(news, store) } catch { try answer(error, store) }
    }

    func tick(_ store: StoreClient) throws(XenbusError) {
        do throws(DriverFailure) { try driver.tick(store) } catch { try answer(error, store) }
    }

    /// - Parameter handingOver: a successor of this process is to go on with the same rings.
    func closeQueues(handingOver: Bool = false) { draining += driver.closeQueues(handingOver: handingOver) }

    /// A store that is gone is everybody's problem; anything else is this device's.
    private func answer(_ failure: DriverFailure, _ store: StoreClient) throws(XenbusError) {
        switch failure {
        case .xenbus(let error):
            if error.isDisconnected { throw error }
            try fail(store, 22, "\(error)")
        case .refused(let number, let message): try fail(store, number, message)
        case .unavailable(let number, let message):
            retryLater()
            try fail(store, number, message)
        }
    }

    private func retryLater() {
        retryPause = min(max(retryPause * 2, 250), 10_000)
        retryAt = monotonicMilliseconds() + retryPause
    }

    /// Said once, however often it happens.
    private func say(_ message: String) {
        if message != lastMessage { log("\(path.kind) \(path.device): \(message)") }
        lastMessage = message
    }

    /// Leaves the reason in the error node, closes, and lets go of the frontend's pages: this device is out; the others serve on.
    private func fail(_ store: StoreClient, _ number: Int32, _ message: String) throws(XenbusError) {
        say(message)
        closeQueues()
        try store.fail(path.path, errorNode: path.errorNode, number: number, message)
    }

    /// The watch on the frontend's state, to be taken back.
    func forgetFrontend(_ store: StoreClient) {
        if let frontendPath { try? store.unwatch(frontendPath + "/state", token: "frontend \(path.device)") }
        frontendPath = nil
    }
}
