// What an interface did, frame by frame.

/// Frames of one ring, or of several.
public struct VirtioFrameCounts: Equatable, Sendable, CustomStringConvertible {
    /// Frames that the device took from the driver.
    public internal(set) var sent: UInt64 = 0
    /// Their bytes, without headers.
    public internal(set) var sentBytes: UInt64 = 0
    /// Frames that the driver was given.
    public internal(set) var received: UInt64 = 0
    /// Their bytes, without headers.
    public internal(set) var receivedBytes: UInt64 = 0
    private var faults = InlineArray<16, UInt64>(repeating: 0)

    init() { precondition(faults.count == FrameFault.allCases.count, "one number for each reason") }

    /// Frames that went no further, for one reason.
    public internal(set) subscript(_ fault: FrameFault) -> UInt64 {
        get { faults[fault.rawValue] }
        set { faults[fault.rawValue] = newValue }
    }

    /// Frames that went no further.
    public var dropped: UInt64 { FrameFault.allCases.reduce(0) { $0 &+ self[$1] } }

    mutating func add(_ other: Self) {
        sent &+= other.sent
        sentBytes &+= other.sentBytes
        received &+= other.received
        receivedBytes &+= other.receivedBytes
        for fault in FrameFault.allCases { self[fault] &+= other[fault] }
    }

    /// Whether all numbers are the same.
    public static func == (one: Self, other: Self) -> Bool {
        one.sent == other.sent && one.sentBytes == other.sentBytes && one.received == other.received
            && one.receivedBytes == other.receivedBytes && FrameFault.allCases.allSatisfy { one[$0] == other[$0] }
    }

    /// `7 frames sent (448 bytes), 3 received (180 bytes), 1 dropped: 1 without a header`.
    public var description: String {
        let reasons = FrameFault.allCases.filter { self[$0] > 0 }.map { "\(self[$0]) \($0)" }
        return "\(sent) frames sent (\(sentBytes) bytes), \(received) received (\(receivedBytes) bytes)"
            + (reasons.isEmpty ? "" : ", \(dropped) dropped: \(reasons.joined(separator: ", "))")
    }
}
