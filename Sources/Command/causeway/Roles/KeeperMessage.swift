// What the process that serves an export and the one that keeps its descriptors say to each other: one line a message,
// with at most one descriptor. Both are this project's, and may be of two versions after an upgrade.

/// A message of either side.
enum KeeperMessage: Equatable {
    /// The one that serves has begun, or has become another program: it wants everything that is kept.
    case hello
    /// Keep this descriptor by this number; a name says what it is for, where nothing else does.
    case hold(Int32, name: String)
    /// Keep these no longer.
    case drop([Int32])
    /// Every device is served, by the program at this path; what COMMAND is to see.
    case ready(program: String, variables: [String: String])
    /// To the one that serves: this is kept.
    case have(Int32, name: String)
    /// To the one that serves: that is all. The next number that is free, and why the process before this one ended, as
    /// the number of a signal; 0: it has not.
    case end(next: Int32, signal: Int32)

    /// As it is sent.
    var bytes: [UInt8] {
        let text =
            switch self {
            case .hello: "hello"
            case .hold(let number, let name): "hold\t\(number)\t\(name)"
            case .drop(let numbers): (["drop"] + numbers.map { "\($0)" }).joined(separator: "\t")
            case .ready(let program, let variables):
                (["ready", program] + variables.sorted { $0.key < $1.key }.flatMap { [$0.key, $0.value] }).joined(separator: "\t")
            case .have(let number, let name): "have\t\(number)\t\(name)"
            case .end(let next, let signal): "end\t\(next)\t\(signal)"
            }
        return Array(text.utf8)
    }

    /// nil: what this version does not know.
    init?(_ bytes: [UInt8]) {
        let words = String(decoding: bytes, as: UTF8.self).split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
        switch (words[0], words.count) {
        case ("hello", 1): self = .hello
        case ("hold", 3), ("have", 3):
            guard let number = Int32(words[1]) else { return nil }
            self = words[0] == "hold" ? .hold(number, name: words[2]) : .have(number, name: words[2])
        case ("drop", 2...): self = .drop(words.dropFirst().compactMap { Int32($0) })
        case ("ready", 2...):
            var variables: [String: String] = [:]
            for place in stride(from: 2, to: words.count - 1, by: 2) { variables[words[place]] = words[place + 1] }
            self = .ready(program: words[1], variables: variables)
        case ("end", 3):
            guard let next = Int32(words[1]), let signal = Int32(words[2]) else { return nil }
            self = .end(next: next, signal: signal)
        default: return nil
        }
    }

    /// What descriptors without a device are called.
    enum Name {
        /// Locked by the process that serves for as long as its I/O can be under way.
        static let lock = "lock"
        /// A device's page; its name follows.
        static let page = "page "
        /// A controller's; its address and what it is follow.
        static let controller = "nvme "
        /// The connection of whoever asked for an upgrade; when that began follows.
        static let asker = "asker "
    }
}
