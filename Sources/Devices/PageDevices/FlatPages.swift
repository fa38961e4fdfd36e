// A flat device's bytes in two pages: one that the device writes and one that the driver writes, each with versions, so
// that nobody waits for anybody and a value that is read is a whole one. What the other side writes is read in bounded
// time whatever it does, and a page that it scribbles over is its own loss: each side counts its versions by itself.

import SharedMemory
import Synchronization

/// The numbers that a flat device's two pages are shared under, and of its calls.
public enum FlatShare {
    /// The page that the device writes; its signal tells of changes.
    public static let device = 0
    /// The page that the driver writes; to signal it tells the device.
    public static let driver = 1
    /// Call: reads bytes. le32 offset, le32 count; the answer may be shorter.
    public static let read: UInt32 = 0
    /// Call: writes bytes. le32 offset, then they.
    public static let write: UInt32 = 1
    /// Bytes that a page takes.
    public static let byteCount = StatePageWriter<FlatRecord>.byteCount
}

/// The driver's half of two pages.
public final class FlatPages: Sendable {
    private struct State: ~Copyable {
        var reader: StatePageReader<FlatRecord>
        var writer: StatePageWriter<FlatRecord>?
        var own = FlatRecord.empty
    }
    private let layout: FlatLayout
    private let state: Mutex<State>

    /// Reads one page and writes the other, both from an offset on.
    /// - Parameters:
    ///   - device: the page that the device writes, which begins with zeroes.
    ///   - driver: the page that this side writes; nil where nothing is the driver's.
    public init(
        _ layout: FlatLayout, device: SharedRegion, at deviceOffset: Int = 0, driver: SharedRegion?, driverAt driverOffset: Int = 0
    ) {
        self.layout = layout
        state = Mutex(
            State(
                reader: StatePageReader(attaching: device, at: deviceOffset, initial: .empty),
                writer: driver.map { StatePageWriter(initialising: $0, at: driverOffset) }))
    }

    /// The device's bytes as they are now; zeroes until there were any.
    /// - Throws: `FlatDeviceError.torn` if the page is never at rest.
    public func read() throws(FlatDeviceError) -> [UInt8] {
        try state.withLock { (state) throws(FlatDeviceError) in
            if state.reader.refresh() == .contended { throw .torn(type: layout.type) }
            return state.reader.value.bytes(0..<layout.byteCount)
        }
    }

    /// Writes bytes of the driver's; the device sees them when it is signalled.
    public func write(_ bytes: [UInt8], at offset: Int) throws(FlatDeviceError) {
        let writable = layout.writable
        guard offset >= writable.lowerBound, offset <= writable.upperBound, bytes.count <= writable.upperBound - offset else {
            throw .notWritable(type: layout.type, offset: offset, byteCount: bytes.count)
        }
        state.withLock { state in
            for (index, byte) in bytes.enumerated() { state.own[offset + index] = byte }
            state.writer?.write(state.own)
        }
    }
}
