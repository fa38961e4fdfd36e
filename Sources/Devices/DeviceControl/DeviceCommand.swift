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

    /// How long a pause waits unless said otherwise.
    public static let usualPatience = 5000
    private static let mostPatience = 600_000

    /// The words that a person gives: a command and what it needs.
    public init(_ words: [String]) throws(ControlError) {
        let (name, rest) = (words.first ?? "", Array(words.dropFirst()))
        switch name {
        case "pause":
            let patience = try Self.number(name, rest, or: Self.usualPatience)
            guard (1...Self.mostPatience).contains(patience) else {
                throw .badArgument(name, "waits 1 to \(Self.mostPatience) milliseconds, not \(patience)")
            }
            self = .pause(milliseconds: patience)
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
    ]

    /// The name of each, with what it takes.
    public static let summary = "pause [MILLISECONDS], resume, close, flush, refresh, inject [QUEUE], kick [QUEUE], announce"

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
        }
    }
}
