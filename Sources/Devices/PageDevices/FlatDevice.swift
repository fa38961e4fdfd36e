// A device that is neither disk nor network: a few bytes that both sides see, and no ring. Some of them are the
// device's, some the driver's; whoever changes his own tells the other. How they cross is the connector's business: in
// pages with a version (FlatPages), or by questions and answers, as a virtio configuration space does.

import LinuxSystem
import SharedMemory
import Synchronization

/// The bytes of a flat device, and what comes behind them to 64.
public typealias FlatRecord = InlineArray<64, UInt8>

extension FlatRecord {
    /// All zero.
    static var empty: FlatRecord { FlatRecord(repeating: 0) }

    /// These bytes, and zeroes behind them; more than 64 are cut.
    init(_ bytes: [UInt8]) {
        self.init(repeating: 0)
        for (index, byte) in bytes.prefix(64).enumerated() { self[index] = byte }
    }

    /// Some of the bytes; fewer where they end.
    func bytes(_ range: Range<Int>) -> [UInt8] { range.clamped(to: 0..<64).map { self[$0] } }
}

/// What a flat device's bytes are.
public struct FlatLayout: Hashable, Sendable {
    /// What the device is, such as `balloon`.
    public let type: String
    /// How many bytes there are, 1 to 64.
    public let byteCount: Int
    /// Those that are the driver's to write; may be none.
    public let writable: Range<Int>

    /// A layout; one that cannot be is our own error and traps.
    public init(type: String, byteCount: Int, writable: Range<Int> = 0..<0) {
        precondition((1...64).contains(byteCount) && writable.upperBound <= byteCount, "a flat device of \(byteCount) bytes")
        self.type = type
        self.byteCount = byteCount
        self.writable = writable
    }
}

/// Why a flat device does not take what a driver wrote.
public enum FlatDeviceError: Error, Equatable, CustomStringConvertible {
    /// These bytes are not the driver's to write.
    case notWritable(type: String, offset: Int, byteCount: Int)
    /// A field is written as a whole.
    case inPart(type: String, offset: Int, byteCount: Int)
    /// A value that cannot be.
    case implausible(type: String, String)
    /// The other side is never seen at rest: nothing that it wrote is used.
    case torn(type: String)

    /// In one line.
    public var description: String {
        switch self {
        case .notWritable(let type, let offset, let count): "\(type): \(count) bytes at \(offset) are not the driver's to write"
        case .inPart(let type, let offset, let count): "\(type): \(count) bytes at \(offset) are a part of a field"
        case .implausible(let type, let words): "\(type): \(words)"
        case .torn(let type): "\(type): the page changed each time that it was looked at"
        }
    }
}

/// A device of a few bytes. Any thread.
public protocol FlatDevice: AnyObject, Sendable {
    /// What its bytes are; always the same.
    var layout: FlatLayout { get }
    /// The bytes as drivers see them now, `layout.byteCount` of them.
    var bytes: [UInt8] { get }
    /// A driver wrote bytes, which are all in the layout's writable part: any bytes, for nobody has looked at them.
    func take(_ bytes: [UInt8], at offset: Int) throws(FlatDeviceError)
    /// Who is to be told when the bytes change.
    var watchers: FlatWatchers { get }
}

extension FlatDevice {
    /// Bytes that a driver wrote anywhere: those that are not its own are refused.
    public func write(_ bytes: [UInt8], at offset: Int) throws(FlatDeviceError) {
        let writable = layout.writable
        guard offset >= writable.lowerBound, offset <= writable.upperBound, bytes.count <= writable.upperBound - offset else {
            throw .notWritable(type: layout.type, offset: offset, byteCount: bytes.count)
        }
        if !bytes.isEmpty { try take(bytes, at: offset) }
    }
}

/// Those who are told of a device's changes, on the thread that makes them.
public final class FlatWatchers: Sendable {
    private let state = Mutex<(next: UInt64, bodies: [UInt64: @Sendable () -> Void])>((0, [:]))

    /// Nobody.
    public init() {}

    /// Tells `body` of every change from now on, until what is returned is let go of. It may be told once more while
    /// that is done.
    public func watch(_ body: @escaping @Sendable () -> Void) -> FlatWatch {
        let number = state.withLock { state in
            state.next += 1
            state.bodies[state.next] = body
            return state.next
        }
        return FlatWatch { [self] in state.withLock { _ = $0.bodies.removeValue(forKey: number) } }
    }

    /// Tells everybody.
    public func tell() { for body in state.withLock({ Array($0.bodies.values) }) { body() } }

    /// How many there are.
    public var count: Int { state.withLock { $0.bodies.count } }
}

/// Keeps somebody told.
public final class FlatWatch: Sendable {
    private let end: @Sendable () -> Void
    init(_ end: @escaping @Sendable () -> Void) { self.end = end }
    deinit { end() }
}
