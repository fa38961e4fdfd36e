// What a device can be told to do while it runs.

/// A command. It acts once; no successor and no copy of the device does it again.
public enum DeviceCommand: Equatable, Sendable {
    /// Take nothing more from the driver, and wait until what is in work has ended, so long at most.
    case pause(milliseconds: Int)
    /// Go on.
    case resume
    /// Let the driver go: its connection ends.
    case close
    /// Make durable what was written.
    case flush
    /// Look whether the device's size is another.
    case refresh
    /// Signal the driver, as if a queue had an answer for it.
    case inject(queue: Int)
    /// Look at a queue, as if the driver had signalled.
    case kick(queue: Int)
    /// Tell the network where the interface is.
    case announce
    /// End what is in work, and begin with the driver's queues anew, where they are.
    case reset(milliseconds: Int)
    /// End what is in work with an error, where the device can.
    case cancel
    /// Tell in the log what the front end says, or no more.
    case trace(isOn: Bool)
    /// Give the device to whoever listens at a socket.
    case handover(socket: String)

    /// How long a pause waits unless said otherwise.
    public static let usualPatience = 5000
    private static let mostPatience = 600_000

    /// The words that a person gives: a command and what it needs.
    public init(_ words: [String]) throws(ControlError) {
        let (name, rest) = (words.first ?? "", Array(words.dropFirst()))
        switch name {
        case "pause": self = .pause(milliseconds: try Self.patience(name, rest))
        case "reset": self = .reset(milliseconds: try Self.patience(name, rest))
        case "trace":
            guard rest == ["on"] || rest == ["off"] else { throw .badArgument(name, "takes `on` or `off`") }
            self = .trace(isOn: rest == ["on"])
        case "handover":
            guard rest.count == 1, !rest[0].isEmpty else { throw .badArgument(name, "takes a socket's path") }
            self = .handover(socket: rest[0])
        case "inject": self = .inject(queue: try Self.number(name, rest, or: 0))
        case "kick": self = .kick(queue: try Self.number(name, rest, or: 0))
        default:
            guard let command = Self.simple[name] else { throw .unknownCommand(name) }
            guard rest.isEmpty else { throw .badArgument(name, "takes nothing") }
            self = command
        }
    }

    private static let simple: [String: DeviceCommand] = [
        "resume": .resume, "close": .close, "flush": .flush, "refresh": .refresh, "announce": .announce,
        "cancel": .cancel,
    ]

    /// The name of each, with what it takes.
    public static let summary = """
        pause [MILLISECONDS], resume, reset [MILLISECONDS], cancel, close, flush, refresh, inject [QUEUE], kick [QUEUE], announce, \
        trace on|off, handover SOCKET
        """

    private static func patience(_ name: String, _ rest: [String]) throws(ControlError) -> Int {
        let patience = try number(name, rest, or: usualPatience)
        guard (1...mostPatience).contains(patience) else {
            throw .badArgument(name, "waits 1 to \(mostPatience) milliseconds, not \(patience)")
        }
        return patience
    }

    private static func number(_ name: String, _ rest: [String], or usual: Int) throws(ControlError) -> Int {
        guard rest.count <= 1 else { throw .badArgument(name, "takes one number") }
        guard let text = rest.first else { return usual }
        guard let number = Int(text), (0...Int(Int32.max)).contains(number) else {
            throw .badArgument(name, "`\(text)` is no number")
        }
        return number
    }

    /// Its name.
    public var name: String {
        switch self {
        case .pause: "pause"
        case .resume: "resume"
        case .close: "close"
        case .flush: "flush"
        case .refresh: "refresh"
        case .inject: "inject"
        case .kick: "kick"
        case .announce: "announce"
        case .reset: "reset"
        case .cancel: "cancel"
        case .trace: "trace"
        case .handover: "handover"
        }
    }
}
