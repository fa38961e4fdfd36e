// What a frontend does next, as a pure function of what the store says and what this process holds: the mirror of
// BackendMachine. Unlike Linux's blkfront it takes a backend that closes while the device is online for one that will
// return.

import XenTypes

/// How far a frontend's rings are.
public enum FrontendPhase: Equatable, Sendable {
    /// No rings.
    case detached
    /// Rings are offered and published, state 3 (a vif's: 4).
    case published
    /// Rings are in use, state 4.
    case live
}

/// One step of a frontend.
public enum FrontendStep: Equatable, Sendable {
    /// Nothing to do until something changes.
    case wait
    /// Offer rings, publish them, go to state 3.
    case publish
    /// Read the disk's properties, put the rings to use, go to state 4.
    case goLive
    /// The backend touched its directory while connected: read the size again.
    case refresh
    /// Stop using the rings, withdraw them, go to state 6; keep what is in flight.
    case suspend
    /// Stay as it is, and say that the device is in use: it was asked to go away.
    case refuse
    /// Go to state 1: ask for a new start.
    case restart
    /// The device is gone for good: fail what is in flight.
    case remove
}

/// The frontend's state machine.
public enum FrontendMachine {
    /// The next step.
    /// - Parameters:
    ///   - own: the frontend's state node.
    ///   - backend: the backend's state node.
    ///   - phase: what this process holds.
    ///   - online: whether the toolstack wants the device to stay (the backend's `online` node).
    ///   - wasLeaving: whether the backend, when it was last seen, was closing or closed with the device offline.
    ///   - ownExists: whether the frontend's own directory is there.
    ///   - inUse: whether somebody uses the device who would lose it.
    ///   - publishedState: the state that says that rings are published: 3, and 4 for a vif, which never shows 3.
    public static func next(
        own: XenbusState, backend: XenbusState, phase: FrontendPhase, online: Bool, wasLeaving: Bool = false, ownExists: Bool,
        inUse: Bool = false, publishedState: XenbusState = .initialised
    ) -> FrontendStep {
        if !ownExists { return .remove }
        switch backend {
        case .unknown, .initialising:
            // No backend (yet): what is in flight waits for one. One whose directory went as the device was taken away
            // does not come back (QEMU removes it at once; a toolstack may have given up on the rest).
            if backend == .unknown, wasLeaving { return .remove }
            return phase == .detached ? .wait : .suspend

        case .initWait:
            switch phase {
            case .detached: return own == .initialising ? .publish : .restart
            case .published: return own == publishedState ? .wait : .suspend
            // The backend started anew without a close cycle; so must we.
            case .live: return .suspend
            }

        case .initialised:
            return .wait

        case .connected:
            switch phase {
            // An earlier process of ours left the backend connected: it has to let go first.
            case .detached: return own == .closed ? .wait : .suspend
            case .published: return .goLive
            case .live: return .refresh
            }

        case .closing:
            // A backend that closes while the device is online comes back; one that is taken away waits for us (Linux
            // blkfront_closing).
            if phase == .live, inUse, !online { return .refuse }
            if phase != .detached { return .suspend }
            return own == .closed ? .wait : .suspend

        case .closed:
            if phase != .detached { return .suspend }
            if !online { return .remove }
            return own == .initialising ? .wait : .restart

        case .reconfiguring, .reconfigured:
            return .wait
        }
    }
}
