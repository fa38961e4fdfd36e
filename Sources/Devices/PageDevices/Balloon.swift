// How much of its memory a guest is to give back, and how much it has given: struct virtio_balloon_config, which is
// le32 num_pages at 0, the device's, and le32 actual at 4, the driver's (linux/virtio_balloon.h). Pages are not moved
// here: whoever has the memory does that, and reads these two numbers.

import Synchronization

/// A balloon's target and size, in pages of 4096 bytes.
public final class Balloon: FlatDevice {
    /// See `FlatDevice.layout`.
    public let layout = FlatLayout(type: "balloon", byteCount: 8, writable: 4..<8)
    /// See `FlatDevice.watchers`.
    public let watchers = FlatWatchers()
    /// The most pages that it can hold: what the guest has.
    public let mostPages: UInt32
    private let state = Mutex<(target: UInt32, actual: UInt32)>((0, 0))
    private let reported: @Sendable (UInt32) -> Void

    /// An empty balloon.
    /// - Parameters:
    ///   - mostPages: a target and a size that are larger are refused.
    ///   - reported: gets each size that a driver reports, on the thread that it comes on.
    public init(mostPages: UInt32, reported: @escaping @Sendable (UInt32) -> Void = { _ in }) {
        self.mostPages = mostPages
        self.reported = reported
    }

    /// Pages that the guest is to give.
    public var target: UInt32 { state.withLock { $0.target } }
    /// Pages that it says it has given.
    public var actual: UInt32 { state.withLock { $0.actual } }

    /// Says how many pages are wanted, and tells the drivers.
    public func setTarget(_ pages: UInt32) throws(FlatDeviceError) {
        guard pages <= mostPages else { throw .implausible(type: layout.type, tooMany(pages)) }
        state.withLock { $0.target = pages }
        watchers.tell()
    }

    /// See `FlatDevice.bytes`.
    public var bytes: [UInt8] {
        let (target, actual) = state.withLock { $0 }
        var bytes: [UInt8] = []
        bytes.append(number: target)
        bytes.append(number: actual)
        return bytes
    }

    /// See `FlatDevice.take`.
    public func take(_ bytes: [UInt8], at offset: Int) throws(FlatDeviceError) {
        guard offset == 4, bytes.count == 4 else {
            throw .inPart(type: layout.type, offset: offset, byteCount: bytes.count)
        }
        let pages: UInt32 = bytes.number(at: 0)
        guard pages <= mostPages else { throw .implausible(type: layout.type, tooMany(pages)) }
        state.withLock { $0.actual = pages }
        reported(pages)
    }

    private func tooMany(_ pages: UInt32) -> String { "\(pages) pages of a guest that has \(mostPages)" }
}

/// What a driver reads of a balloon.
public struct BalloonReading: Equatable, Sendable {
    /// Pages to be given.
    public let target: UInt32

    /// Of any bytes.
    public init(_ bytes: [UInt8]) { target = bytes.number(at: 0) }

    /// What a driver writes, at offset 4.
    public static func report(_ pages: UInt32) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(number: pages)
        return bytes
    }
    /// Where `report` is written.
    public static let reportOffset = 4
}
