// Interrupts that a device may not raise, and what can be wrong with a use of the table.

/// An interrupt that was refused.
public struct InterruptFault: Hashable, Sendable, CustomStringConvertible {
    /// Why.
    public enum Cause: Hashable, Sendable {
        /// The device has no vector of this number.
        case noSuchVector(UInt32)
        /// The message names an entry of the table that is not the device's.
        case notOwn(entry: UInt32)
        /// The address or the data are no message in the remappable format.
        case notAMessage(InterruptMessage)
        /// The device has been detached.
        case detached
        /// An eventfd was full and had been made to block: whoever reads it held the thread that wrote it.
        case blocked
        /// The same, too often: the device's eventfds are written no more.
        case leftAlone
    }
    /// Who tried.
    public var device: String
    /// What is known of the cause.
    public var cause: Cause

    /// `vbd-51712: interrupt entry 7 is another's`.
    public var description: String {
        switch cause {
        case .noSuchVector(let vector): "\(device): no interrupt vector \(vector)"
        case .notOwn(let entry): "\(device): interrupt entry \(entry) is another's"
        case .notAMessage(let message): "\(device): \(message) is no interrupt message"
        case .detached: "\(device): interrupts after it was detached"
        case .blocked: "\(device): an eventfd that its reader has filled and made to block"
        case .leftAlone:
            "\(device): its eventfds were filled and made to block \(InterruptTrust.mostHeld) times, and are written no more"
        }
    }
}

/// Refused interrupts: a device that is wrong a million times a second costs a counter.
public struct InterruptFaults: Hashable, Sendable {
    /// Records kept until they are taken.
    public static let limit = 64
    /// The first ones.
    public internal(set) var recent: [InterruptFault] = []
    /// How many there were.
    public internal(set) var count: UInt64 = 0
}

/// Why the table refused.
public enum InterruptError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A device has 1 to 2048 vectors (PCI's most for MSI-X).
    case badVectorCount(Int)
    /// So many entries in a row are not free.
    case tableFull(vectors: Int, capacity: Int)
    /// The device has no such vector.
    case noSuchVector(Int, vectors: Int)
    /// As many as the device has vectors have to be given.
    case badTargetCount(Int, vectors: Int)
    /// The device was detached.
    case detached

    /// In one line.
    public var description: String {
        switch self {
        case .badVectorCount(let count): "\(count) interrupt vectors; a device has 1 to \(InterruptTable.mostVectors)"
        case .tableFull(let vectors, let capacity):
            "no \(vectors) entries in a row are free in an interrupt table of \(capacity)"
        case .noSuchVector(let vector, let vectors): "no interrupt vector \(vector); the device has \(vectors)"
        case .badTargetCount(let count, let vectors): "\(count) given for \(vectors) interrupt vectors"
        case .detached: "the device was detached"
        }
    }
}
