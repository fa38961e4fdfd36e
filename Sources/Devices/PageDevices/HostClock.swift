// The host's clock as a page: when the host last looked, by both its clocks. Whoever shares the monotonic one, or knows
// how his own differs from it, has the date by adding what has gone by since.
//
// le64 version at 0, which grows with each look; le64 nanoseconds of the monotonic clock at 8; le64 nanoseconds since
// 1970 at 16.

import LinuxSystem
import Synchronization

/// The host's clock. It looks when it is told to: at intervals, and when somebody sets the date.
public final class HostClock: FlatDevice {
    /// See `FlatDevice.layout`.
    public let layout = FlatLayout(type: "clock", byteCount: 24)
    /// See `FlatDevice.watchers`.
    public let watchers = FlatWatchers()
    private let time: any TimeSource
    private let state: Mutex<ClockReading>

    /// Looks at the clocks for the first time.
    public init(time: any TimeSource) {
        self.time = time
        state = Mutex(ClockReading(version: 1, monotonic: time.nanoseconds, calendar: time.calendarNanoseconds))
    }

    /// What it last saw.
    public var reading: ClockReading { state.withLock { $0 } }

    /// Looks at the clocks again, and tells the drivers.
    public func look() {
        state.withLock { state in
            state = ClockReading(
                version: state.version &+ 1, monotonic: time.nanoseconds, calendar: time.calendarNanoseconds)
        }
        watchers.tell()
    }

    /// See `FlatDevice.bytes`.
    public var bytes: [UInt8] { reading.bytes }

    /// See `FlatDevice.take`: nothing is the driver's.
    public func take(_ bytes: [UInt8], at offset: Int) throws(FlatDeviceError) {
        throw .notWritable(type: layout.type, offset: offset, byteCount: bytes.count)
    }
}

/// Both clocks of the host at one moment.
public struct ClockReading: Equatable, Sendable {
    /// Grows with each look.
    public let version: UInt64
    /// Nanoseconds of the clock that is never set.
    public let monotonic: UInt64
    /// Nanoseconds since 1970.
    public let calendar: UInt64

    /// A reading.
    public init(version: UInt64, monotonic: UInt64, calendar: UInt64) {
        self.version = version
        self.monotonic = monotonic
        self.calendar = calendar
    }

    /// Of any bytes.
    public init(_ bytes: [UInt8]) {
        self.init(version: bytes.number(at: 0), monotonic: bytes.number(at: 8), calendar: bytes.number(at: 16))
    }

    /// As it lies in the page.
    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        for number in [version, monotonic, calendar] { bytes.append(number: number) }
        return bytes
    }

    /// The date when the monotonic clock shows `now`. Wraps with numbers that no clock shows.
    public func calendar(at now: UInt64) -> UInt64 { calendar &+ (now &- monotonic) }
}
