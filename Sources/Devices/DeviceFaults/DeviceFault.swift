// What can be made to go wrong on purpose, and where.

/// One way in which a device, or one end of its rings, misbehaves.
public enum DeviceFault: String, CaseIterable, Sendable, CustomStringConvertible {
    /// An event that the peer asked for is not sent.
    case dropEvent = "drop-event"
    /// The producer index that is shown to the peer is one that cannot be.
    case corruptIndex = "corrupt-index"
    /// An answer names a request that was not asked.
    case corruptID = "corrupt-id"
    /// An answer has a status that no protocol knows.
    case corruptStatus = "corrupt-status"
    /// A request names a page that nobody granted.
    case corruptGrant = "corrupt-grant"
    /// Something comes twice: an answer, in the place of the next one; or a frame.
    case duplicate
    /// Something comes later; others overtake it.
    case delay
    /// All that is asked is done one by one, each taking its time.
    case slow
    /// Nothing at all happens for a while.
    case stall
    /// Requests fail.
    case error
    /// What was asked in one order is done in another.
    case reorder
    /// A frame is lost.
    case drop
    /// A byte of a frame is another.
    case corrupt
    /// A frame's end is missing.
    case short

    /// As people write it.
    public var description: String { rawValue }
}

/// A class of device.
public enum FaultSubject: Sendable, CustomStringConvertible {
    /// A disk.
    case block
    /// A network interface.
    case network

    /// With its article, for messages.
    public var description: String { self == .block ? "a disk" : "an interface" }
}

/// Which end of a device's rings misbehaves.
public enum FaultSide: String, CaseIterable, Sendable, CustomStringConvertible {
    /// The backend: whoever has the device.
    case back
    /// The frontend: whoever uses it.
    case front

    /// As people write it.
    public var description: String { rawValue }
}

/// What a fault's plan may say beside its kind.
enum FaultOption {
    case milliseconds
    case requests
    case toward
}

extension DeviceFault {
    /// Those that one side of a class of device knows.
    public static func known(_ subject: FaultSubject, _ side: FaultSide) -> [DeviceFault] {
        switch (subject, side) {
        case (.block, .back):
            [.delay, .slow, .stall, .error, .reorder, .dropEvent, .duplicate, .corruptID, .corruptStatus, .corruptIndex]
        case (.network, .back):
            [.drop, .delay, .stall, .reorder, .duplicate, .corrupt, .short, .dropEvent, .corruptID, .corruptIndex]
        case (.block, .front), (.network, .front): [.delay, .stall, .dropEvent, .corruptGrant, .corruptIndex]
        }
    }

    /// Whether it happens once, unless it is said how often: an honest peer ends the connection over it, or there would
    /// be nothing else.
    func isOnce(_ subject: FaultSubject) -> Bool {
        switch self {
        case .corruptIndex, .corruptID, .stall: true
        case .duplicate: subject == .block
        default: false
        }
    }

    /// What it takes, there.
    func options(_ subject: FaultSubject, _ side: FaultSide) -> Set<FaultOption> {
        var options: Set<FaultOption> = []
        if usualMilliseconds != nil { options.insert(.milliseconds) }
        if subject == .block, side == .back, [.delay, .slow, .stall, .error, .reorder].contains(self) { options.insert(.requests) }
        if subject == .network { options.insert(.toward) }
        return options
    }

    /// How long it lasts unless that is said; nil: it takes no time.
    var usualMilliseconds: UInt64? {
        switch self {
        case .delay, .reorder: 10
        case .slow: 100
        case .stall: 1000
        default: nil
        }
    }
}
