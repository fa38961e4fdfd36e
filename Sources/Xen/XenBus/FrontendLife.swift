// What every frontend does with its device, step by step: asks FrontendMachine, does the step, and outlives both its
// backend and the store.

import LinuxSystem
import XenStore
import XenTypes

/// What is to come after a turn.
package enum FrontendPause: Equatable {
    /// Another turn.
    case again
    /// Another turn, so many milliseconds later.
    case after(Int64)
    /// Another turn, once the store has something to tell.
    case event
    /// Nothing.
    case over
}

/// A frontend's handshake, step by step, over as many connections to the store as it takes. One thread.
package struct FrontendLife {
    private let follower: FrontendFollower
    private var path: FrontendPath { follower.path }
    private var client: StoreClient?
    private var backendPath = ""
    private var backend = DomainID.zero
    private var phase = FrontendPhase.detached
    /// The backend was closing or closed when it was last seen, and the device offline.
    private var wasLeaving = false
    /// That the device is in use has been said.
    private var hasRefused = false
    /// The first reason counts: what follows it is only tidying up.
    private var hasGivenUp = false
    /// Why the last wait ended the connection.
    private var hasLost: XenbusError?

    package init(_ follower: FrontendFollower) { self.follower = follower }

    /// One step, after which there is something else to wait for.
    package mutating func turn(_ driver: some FrontendDriver, connect: () -> StoreAttempt) -> FrontendPause {
        if let client {
            do throws(XenbusError) { if try step(client, driver) { return .again } } catch {
                return lost(client, driver, error)
            }
            return follower.isStopping ? finish(client, driver) : .event
        }
        if follower.isStopping {
            giveUp(driver, nil)
            return .over
        }
        switch connect() {
        case .connected(let made):
            client = made
            follower.use(made)
            do throws(XenbusError) { try open(made) } catch { return lost(made, driver, error) }
            return .again
        case .later: return .after(100)
        case .never(let reason):
            giveUp(driver, reason)
            return .over
        }
    }

    /// Waits until the store has something to tell, or somebody woke it; `turn` then acts on it.
    /// - Parameter milliseconds: how long; negative: for ever.
    /// - Returns: whether the store has told something, or is gone.
    @discardableResult
    package mutating func awaitEvent(milliseconds: Int32 = -1) -> Bool {
        guard let client else { return true }
        do throws(StoreError) { return try client.nextEvent(milliseconds: milliseconds) != nil } catch {
            hasLost = .store(error)
            return true
        }
    }

    /// True if there may be another step.
    private mutating func step(_ client: StoreClient, _ driver: some FrontendDriver) throws(XenbusError) -> Bool {
        if let error = hasLost.take() { throw error }
        if follower.isStopping { return false }
        if let reason = follower.brokenReason { throw .unusable(reason) }
        if follower.takeRestart(), phase != .detached { try suspend(client, driver, isAsked: true) }
        return try act(client, driver) && !follower.isStopping
    }

    /// The connection is of no more use, or the device is.
    private mutating func lost(_ client: StoreClient, _ driver: some FrontendDriver, _ error: XenbusError) -> FrontendPause {
        if !error.isDisconnected {
            if isRemoved(client) {
                giveUp(driver, nil)
            } else {
                try? client.fail(path.path, errorNode: path.errorNode, number: Errno.invalidArgument.rawValue, "\(error)")
                giveUp(driver, "\(error)")
            }
            follower.isDone()
        }
        if follower.isStopping { return finish(client, driver) }
        leave(client)
        // A store that takes connections and drops them must not be asked without end.
        return .after(20)
    }

    private mutating func finish(_ client: StoreClient, _ driver: some FrontendDriver) -> FrontendPause {
        shutDown(client, driver)
        leave(client)
        return .over
    }

    private mutating func leave(_ left: StoreClient) {
        client = nil
        follower.use(nil)
        left.close()
    }

    /// Whether the device was there and is not any more: what failed meanwhile failed for want of it.
    private func isRemoved(_ client: StoreClient) -> Bool {
        guard !backendPath.isEmpty else { return false }
        do throws(XenbusError) { return try client.text(path.path + "/backend") == nil } catch { return false }
    }

    private mutating func open(_ client: StoreClient) throws(XenbusError) {
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
    private mutating func act(_ client: StoreClient, _ driver: some FrontendDriver) throws(XenbusError) -> Bool {
        let (state, online) = (try client.state(of: backendPath), try client.flag(backendPath + "/online"))
        if state != .unknown { wasLeaving = !online && (state == .closing || state == .closed) }
        let step = FrontendMachine.next(
            own: try client.state(of: path.path), backend: state, phase: phase, online: online, wasLeaving: wasLeaving,
            ownExists: try client.text(path.path + "/state") != nil, inUse: follower.hasUsers,
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
            follower.isDone()
            return false
        }
        return true
    }

    private mutating func suspend(_ client: StoreClient, _ driver: some FrontendDriver, isAsked: Bool) throws(XenbusError) {
        driver.suspend()
        set(.detached, driver, isAsked: isAsked)
        try client.switchState(of: path.path, to: .closed)
    }

    private mutating func set(_ new: FrontendPhase, _ driver: some FrontendDriver, isAsked: Bool = true) {
        phase = new
        driver.changed(to: new, isAsked: isAsked)
    }

    private mutating func giveUp(_ driver: some FrontendDriver, _ reason: String?) {
        if hasGivenUp { return }
        hasGivenUp = true
        driver.suspend()
        set(.detached, driver)
        driver.giveUp(reason)
    }

    /// Closes in good order. Rings are withdrawn only after the backend let go, or the grants would end later than
    /// we do.
    private mutating func shutDown(_ client: StoreClient, _ driver: some FrontendDriver) {
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
