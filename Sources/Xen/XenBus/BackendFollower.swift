// What every backend does with one of its devices, whatever its kind: follows the store, asks BackendMachine, does the
// step, leaves errors where they are looked for.

import LinuxSystem
import XenStore
import XenTypes

/// One device's life as its backend sees it.
public final class BackendFollower<Driver: BackendDriver> {
    /// The device's directory.
    public let path: BackendPath
    /// What does the steps.
    public let driver: Driver
    private let log: (String) -> Void
    private let time: any TimeSource
    /// Whether this process has published its offer.
    private var hasAnnounced = false
    /// A predecessor's rings could not be taken over: they are closed instead.
    private var hasRefusedAdoption = false
    /// When to try again what could not be had (milliseconds of `time`; 0: nothing), and how long the last pause was.
    private var retryAt: Int64 = 0
    private var retryPause: Int64 = 0
    /// The driver is at it: what it opens may be there meanwhile.
    private var takesAWhile = false
    private var lastMessage = ""
    /// Queues that have been told to close and have not reported it.
    private var draining = 0
    private var frontendPath: String?
    /// The hypervisor says that the frontend's domain is gone, whatever its directory still says.
    var isOrphan = false
    /// The frontend's process died and its directory still says what it said; until the directory says something else.
    var isFrontendGone = false

    /// Follows `path` with `driver`; `log` gets one line for each thing worth knowing. Pauses go by `time`.
    public init(path: BackendPath, driver: Driver, time: some TimeSource, log: @escaping (String) -> Void) {
        self.path = path
        self.time = time
        self.driver = driver
        self.log = log
    }

    /// When `follow` should be called again although nothing changed; nil: never.
    var followAgainAt: Int64? { retryAt > 0 && (takesAWhile || !driver.isOpen) ? retryAt : nil }

    /// Whether it is time to `follow` although nothing changed; once for each pause.
    func takeRetry() -> Bool {
        guard let due = followAgainAt, due <= time.milliseconds else { return false }
        retryAt = 0
        takesAWhile = false
        return true
    }

    /// Whether nothing of the frontend's is held.
    public var isIdle: Bool { !driver.holdsRings && draining == 0 }

    /// Does what the store calls for, until there is nothing to do; false if the device's directory is gone and nothing
    /// is held.
    func follow(_ store: StoreClient) throws(XenbusError) -> Bool {
        try contained(store, true) { () throws(XenbusError) in try walk(store) }
    }

    /// A store that is gone is everybody's problem; whatever else is wrong with this device's nodes is said, and ends
    /// nobody else's service.
    private func contained<R>(
        _ store: StoreClient, _ otherwise: R, _ body: () throws(XenbusError) -> R
    ) throws(XenbusError) -> R {
        do throws(XenbusError) { return try body() } catch {
            if error.isDisconnected { throw error }
            if try isThere(store) { say("\(error)") }
            return otherwise
        }
    }

    /// Whether the device's directory is there. One that was taken away between two looks at it lacks whatever was
    /// looked for next; that is no fault of anybody's.
    private func isThere(_ store: StoreClient) throws(XenbusError) -> Bool { try store.text(path.path + "/state") != nil }

    /// Says something, once, however often it happens.
    private func say(_ message: String) {
        if message != lastMessage { log("\(path.kind) \(path.device): \(message)") }
        lastMessage = message
    }

    private func walk(_ store: StoreClient) throws(XenbusError) -> Bool {
        // The number of steps of a whole life is small; a frontend that changes its state as we go gets its turn later.
        for _ in 0..<8 {
            guard draining == 0 else { return true }
            guard try isThere(store) else {
                closeQueues()
                driver.letGo()
                return !isIdle
            }
            do throws(DriverFailure) {
                if try !step(store) { return true }
            } catch {
                if !error.isDisconnected, try !isThere(store) { continue }
                try answer(error, store)
                return true
            }
        }
        return true
    }

    private func step(_ store: StoreClient) throws(DriverFailure) -> Bool {
        let (step, frontend, own) = try nextStep(store)
        let mustPause = retryAt > time.milliseconds
        switch step {
        case .wait where own == .closed && driver.removesDirectories && isIdle: return try removeIfOver(store)
        case .wait: return false
        // A frontend that keeps coming back must not make us try in a loop what cannot be had.
        case .announce where mustPause, .adopt where mustPause: return false
        case .announce: try announce(store)
        case .adopt: try adopt(store, frontend)
        case .connect:
            // A script may need what announcing makes (a tap), or make what connecting needs (a disk).
            if !hasAnnounced { try announce(store) }
            if try driver.isWaiting(store) { return false }
            if !driver.isOpen { try announce(store) }
            try driver.connect(store, frontend)
        case .reconfigure:
            try driver.reconfigure(store, frontend)
            try switchState(store, .reconfigured)
        case .resume: try switchState(store, .connected)
        case .close: try switchState(store, .closing)
        case .disconnect: if driver.holdsRings { closeQueues() } else { try switchState(store, .closed) }
        case .refuse(let reason): throw .refused(.invalidArgument, reason)
        }
        return true
    }

    private func nextStep(_ store: StoreClient) throws(DriverFailure) -> (BackendStep, frontend: String, own: XenbusState) {
        do throws(XenbusError) {
            let frontend = try locateFrontend(store)
            let own = try store.state(of: path.path)
            let theirs = isOrphan || isFrontendGone ? .unknown : try store.state(of: frontend)
            var facts = BackendFacts(own: own, frontend: theirs, online: try store.flag(path.path + "/online"))
            facts.holds = driver.holdsRings
            facts.announced = hasAnnounced
            facts.adoptable = mayAdopt(own, theirs)
            facts.reconfigures = driver.reconfigures
            return (BackendMachine.next(facts), frontend, own)
        } catch { throw .xenbus(error) }
    }

    private func announce(_ store: StoreClient) throws(DriverFailure) {
        try driver.announce(store)
        hasAnnounced = true
        retryAt = 0
        retryPause = 0
    }

    /// Whether a predecessor's rings can be looked for: both sides say connected, and this process has not touched the
    /// device.
    private func mayAdopt(_ own: XenbusState, _ frontend: XenbusState) -> Bool {
        guard own == .connected, frontend == .connected || frontend == .initialised, isIdle, !hasAnnounced, !hasRefusedAdoption
        else { return false }
        return driver.canAdopt()
    }

    /// Goes on where the predecessor stopped; where that cannot be, the usual close cycle follows.
    private func adopt(_ store: StoreClient, _ frontend: String) throws(DriverFailure) {
        let reason: String
        do throws(DriverFailure) {
            try driver.adopt(store, frontend)
            hasAnnounced = true
            return
        } catch {
            switch error {
            case .unavailable(_, let message):
                // The guest waits; a device that comes back late is better for it than one that is gone.
                pause()
                return log("\(path.kind) \(path.device): cannot take over yet: \(message)")
            case .later: return lookAgainSoon()
            case .frontendGone: reason = "the frontend is gone"
            case .xenbus(let error) where error.isDisconnected: throw .xenbus(error)
            case .xenbus(let error): reason = "\(error)"
            case .refused(_, let message): reason = message
            }
        }
        log("\(path.kind) \(path.device): cannot take over: \(reason)")
        hasRefusedAdoption = true
        closeQueues()
    }

    private func pause() {
        retryPause = min(max(retryPause * 2, 250), 10_000)
        retryAt = time.milliseconds + retryPause
    }

    private func lookAgainSoon() {
        retryAt = time.milliseconds + 20
        takesAWhile = true
    }

    private func switchState(_ store: StoreClient, _ state: XenbusState) throws(DriverFailure) {
        do throws(XenbusError) { try store.switchState(of: path.path, to: state) } catch { throw .xenbus(error) }
    }

    /// Removes the directory of a device that is closed for good; the one above it is the toolstack's. True if it did.
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

    /// The frontend's directory. The toolstack names it; it must be one of the domain that the device is for
    /// (attacks.md D14).
    private func locateFrontend(_ store: StoreClient) throws(XenbusError) -> String {
        let frontend = try store.requiredText(path.path + "/frontend")
        let domain: UInt16 = try store.requiredNumber(path.path + "/frontend-id", in: 0...0x7FEF)
        guard DomainID(domain) == path.device.frontend, frontend.hasPrefix("/local/domain/\(domain)/") else {
            throw .malformed(
                MalformedNode(path.path + "/frontend", "is \(StoreNumber.quote(frontend)), not in domain \(path.device.frontend)"))
        }
        if frontendPath != frontend {
            do throws(StoreError) {
                try store.watch(frontend + "/state", token: "frontend \(path.device)")
                for node in Driver.frontendSettingNodes { try store.watch(frontend + node, token: "settings \(path.device)") }
            } catch { throw .store(error) }
            frontendPath = frontend
        }
        return frontend
    }

    /// Settings may have changed that do not wait for the next connection.
    func reread(_ store: StoreClient) throws(XenbusError) {
        guard let frontendPath, driver.holdsRings else { return }
        try contained(store, ()) { () throws(XenbusError) in
            // A directory that is being taken away is followed to its end soon.
            if try isThere(store) { try driver.reread(store, frontendPath) }
        }
    }

    /// Acts on what a queue reported.
    func handle(_ news: Driver.News, _ store: StoreClient) throws(XenbusError) {
        try contained(store, ()) { () throws(XenbusError) in
            do throws(DriverFailure) { draining -= try driver.handle(news, store) } catch { try answer(error, store) }
        }
    }

    /// Lets the driver look at what no event tells of.
    func tick(_ store: StoreClient) throws(XenbusError) {
        try contained(store, ()) { () throws(XenbusError) in
            do throws(DriverFailure) { try driver.tick(store) } catch { try answer(error, store) }
        }
    }

    /// Lets go of the frontend's rings; `follow` goes on when every queue has reported.
    func closeQueues(handingOver: Bool = false) { draining += driver.closeQueues(handingOver: handingOver) }

    /// A store that is gone is everybody's problem; anything else is this device's.
    private func answer(_ failure: DriverFailure, _ store: StoreClient) throws(XenbusError) {
        switch failure {
        case .xenbus(let error):
            if error.isDisconnected { throw error }
            try fail(store, 22, "\(error)")
        case .refused(let number, let message): try fail(store, number, message)
        case .unavailable(let number, let message):
            pause()
            try fail(store, number, message)
        case .later: lookAgainSoon()
        case .frontendGone:
            // While the device is being closed, or is to be taken away, the frontend goes as it was asked to.
            if try store.state(of: path.path) == .connected, try store.flag(path.path + "/online", default: true) {
                say("the frontend's process is gone; everything of it is given back")
            }
            isFrontendGone = true
        }
    }

    /// Leaves the reason in the error node, closes, and lets go of the frontend's pages: this device is out until its
    /// frontend goes through a close cycle; the others serve on.
    private func fail(_ store: StoreClient, _ number: Int32, _ message: String) throws(XenbusError) {
        if !driver.leavesErrors { say(message) }
        closeQueues()
        try store.fail(path.path, errorNode: path.errorNode, number: number, message)
    }

    /// The watch on the frontend's state, to be taken back.
    func forgetFrontend(_ store: StoreClient) {
        if let frontendPath {
            try? store.unwatch(frontendPath + "/state", token: "frontend \(path.device)")
            for node in Driver.frontendSettingNodes { try? store.unwatch(frontendPath + node, token: "settings \(path.device)") }
        }
        frontendPath = nil
    }

    /// `1/51712: connected`.
    public var description: String {
        "\(path.device): \(driver.holdsRings ? "connected" : draining > 0 ? "closing" : "idle")"
    }
}
