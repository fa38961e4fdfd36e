// What a backend does next, as a pure function of what the store says and what this process holds. It is asked again
// after every event and gives the same answer for the same facts, so merged, late and doubled watches change nothing
// (protocol-rules.md 21).

import XenTypes

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

/// What a backend's next step depends on.
public struct BackendFacts: Equatable, Sendable {
    /// The backend's state node, as it stands in the store: the toolstack may have written it, too.
    public var own: XenbusState
    /// The frontend's state node.
    public var frontend: XenbusState
    /// The toolstack's word that the device is to stay.
    public var online: Bool
    /// Whether this process holds the frontend's rings.
    public var holds = false
    /// Whether this process has published its offer since it started.
    public var announced = false
    /// Whether a predecessor left what it takes to go on with its rings.
    public var adoptable = false
    /// Whether the protocol knows states 7 and 8: vif does, vbd does not.
    public var reconfigures = false

    /// What the store says; what the process holds is set.
    public init(own: XenbusState, frontend: XenbusState, online: Bool) {
        self.own = own
        self.frontend = frontend
        self.online = online
    }
}

/// The backend's state machine (Docs/block-protocol.md; Linux xen-blkback/xenbus.c `frontend_changed`).
public enum BackendMachine {
    /// The next step.
    public static func next(_ facts: BackendFacts) -> BackendStep {
        let (own, holds, reconfigures) = (facts.own, facts.holds, facts.reconfigures)
        switch facts.frontend {
        case .unknown:
            // The frontend's directory is gone. A directory not yet made (the toolstack is at work) is told from that
            // by our own state, which nobody has moved yet.
            if holds { return .disconnect }
            return [.initialising, .initWait, .closed].contains(own) ? .wait : .disconnect

        case .initialising, .initWait:
            // Back at the start without a close cycle: it may do that, and loses its rings (attacks.md A31).
            if holds { return .disconnect }
            if own == .initWait && facts.announced { return .wait }
            return facts.online ? .announce : (own == .closed ? .wait : .disconnect)

        case .initialised, .connected:
            // While we hold its rings, more events change nothing: a frontend cannot swap rings without a close cycle.
            if holds, reconfigures, own == .reconfigured { return .resume }
            if holds { return own == .connected || own == .closing || own == .closed ? .wait : .connect }
            switch own {
            case .initialising: return .announce
            case .initWait: return .connect
            // An earlier process of ours left this and its rings are gone with it: a close cycle makes the frontend
            // offer new ones (protocol-rules.md 30).
            case .connected, .initialised: return facts.adoptable ? .adopt : .close
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
                ? .wait : .refuse("frontend is in state \(facts.frontend.rawValue), which no such frontend has")
        }
    }
}
