// What a backend does next, as a pure function of what the store says and what this process holds. It is asked again after
// every event and gives the same answer for the same facts, so merged, late and doubled watches change nothing (item 21).

import XenWire

/// One step of a backend.
public enum BackendStep: Equatable, Sendable {
    /// Nothing to do until something changes.
    case wait
    /// Publish the offer and go to state 2.
    case announce
    /// Go on with the rings of a predecessor that died.
    case adopt
    /// Read the frontend's keys, map its rings, publish the properties, go to state 4.
    case connect
    /// Go to state 5: ask the frontend to let go.
    case close
    /// Let go of everything that the frontend offered, then go to state 6.
    case disconnect
    /// The frontend changed what it can take: read that again, go to state 8 (vif only).
    case reconfigure
    /// The frontend is back from that: go to state 4 again.
    case resume
    /// The frontend broke the protocol: leave the text in the error node and go to state 5.
    case refuse(String)
}

/// The backend's state machine (pv-protocols 2.2 and 2.4; Linux xen-blkback/xenbus.c `frontend_changed`).
public enum BackendMachine {
    /// The next step.
    /// - Parameters:
    ///   - own: the backend's state node, as it stands in the store: the toolstack may have written it, too.
    ///   - frontend: the frontend's state node.
    ///   - holds: whether this process holds the frontend's rings.
    ///   - announced: whether this process has published its offer since it started.
    ///   - adoptable: whether a predecessor left what it takes to go on with its rings.
    ///   - online: the toolstack's word that the device is to stay.
    ///   - reconfigures: whether the protocol knows states 7 and 8: vif does, vbd does not.
    public static func next(
        own: XenbusState, frontend: XenbusState, holds: Bool, announced: Bool, online: Bool,
        adoptable: Bool = false, reconfigures: Bool = false
    ) -> BackendStep {
        switch frontend {
        case .unknown:
            // The frontend's directory is gone. A directory not yet made (the toolstack is at work) is told from that by our own
            // state, which nobody has moved yet.
            if holds { return .disconnect }
            return [.initialising, .initWait, .closed].contains(own) ? .wait : .disconnect

        case .initialising, .initWait:
            // Back at the start without a close cycle: it may do that, and loses its rings (attacks.md A31).
            if holds { return .disconnect }
            if own == .initWait && announced { return .wait }
            return online ? .announce : (own == .closed ? .wait : .disconnect)

        case .initialised, .connected:
            // While we hold its rings, more events change nothing: a frontend cannot swap rings without a close cycle.
            if holds, reconfigures, own == .reconfigured { return .resume }
            if holds { return own == .connected || own == .closing || own == .closed ? .wait : .connect }
            switch own {
            case .initialising: return .announce
            case .initWait: return .connect
            // An earlier process of ours left this and its rings are gone with it: a close cycle makes the frontend offer new
            // ones (item 30).
            case .connected, .initialised: return adoptable ? .adopt : .close
            case .reconfigured where reconfigures: return .close
            default: return .wait
            }

        case .closing:
            return own == .closing || own == .closed ? .wait : .close

        case .closed:
            return holds || own != .closed ? .disconnect : .wait

        case .reconfiguring where reconfigures:
            if holds { return own == .connected ? .reconfigure : .wait }
            return own == .closing || own == .closed ? .wait : .close

        case .reconfiguring, .reconfigured:
            return own == .closing || own == .closed
                ? .wait : .refuse("frontend is in state \(frontend.rawValue), which no such frontend has")
        }
    }
}
