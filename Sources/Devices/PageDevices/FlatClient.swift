// A driver of a flat device that is in the same process: opens it on a bus, shares two pages, reads and writes.

import DeviceBus
import LinuxSystem
import SharedMemory

/// Why a flat device cannot be used.
public enum FlatClientError: Error, Equatable, CustomStringConvertible {
    /// The bus says so.
    case bus(BusError)
    /// What was read or is to be written.
    case device(FlatDeviceError)
    /// The device is of another type.
    case otherType(device: String, type: String, wanted: String)
    /// There is no memory for the pages.
    case noMemory(device: String, Errno)

    /// In one line.
    public var description: String {
        switch self {
        case .bus(let error): "\(error)"
        case .device(let error): "\(error)"
        case .otherType(let device, let type, let wanted): "\(device): is a \(type), not a \(wanted)"
        case .noMemory(let device, let error): "\(device): no memory for its pages: \(error)"
        }
    }
}

/// A flat device as its driver has it. Closed when it is let go of. Any thread.
public final class FlatClient: Sendable {
    /// The device.
    public var device: BusDeviceDescription { connection.device }
    private let connection: BusConnection
    private let pages: FlatPages
    /// What was shared with the device: for tests of what it does with nonsense.
    package let region: SharedRegion

    /// Opens a device.
    /// - Parameters:
    ///   - layout: what it is expected to be.
    ///   - changed: called when its bytes have changed, on the thread that changed them; reads them if it likes.
    ///   - closed: see `BusMember.open`.
    public init(
        _ layout: FlatLayout, name: String, on member: BusMember, changed: @escaping @Sendable () -> Void = {},
        closed: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(FlatClientError) {
        if let found = member.devices.first(where: { $0.name == name }), found.type != layout.type {
            throw .otherType(device: name, type: found.type, wanted: layout.type)
        }
        do throws(Errno) { region = try SharedRegion(anonymous: 2 * SharedRegion.pageSize) } catch {
            throw .noMemory(device: name, error)
        }
        let hasOwn = !layout.writable.isEmpty
        pages = FlatPages(
            layout, device: region, driver: hasOwn ? region : nil, driverAt: hasOwn ? SharedRegion.pageSize : 0)
        do throws(BusError) {
            connection = try member.open(name, closed: closed)
            if hasOwn { try connection.share(FlatShare.driver, BusArea(region, at: SharedRegion.pageSize)) }
            try connection.share(
                FlatShare.device, BusArea(region, byteCount: SharedRegion.pageSize), signal: .action(changed))
        } catch { throw .bus(error) }
    }

    /// The device's bytes as they are now.
    public func read() throws(FlatClientError) -> [UInt8] {
        if let reason = connection.reason { throw .bus(.closed(device.name, reason: reason)) }
        do throws(FlatDeviceError) { return try pages.read() } catch { throw .device(error) }
    }

    /// Writes bytes of the driver's, and tells the device.
    public func write(_ bytes: [UInt8], at offset: Int) throws(FlatClientError) {
        do throws(FlatDeviceError) { try pages.write(bytes, at: offset) } catch { throw .device(error) }
        signal()
        if let reason = connection.reason { throw .bus(.closed(device.name, reason: reason)) }
    }

    /// Has the device look at the driver's bytes.
    package func signal() { try? connection.signal(FlatShare.driver) }

    /// Ends the connection.
    public func close() { connection.close() }
}

extension FlatClient {
    /// Opens a host's clock.
    public static func clock(
        _ name: String, on member: BusMember, changed: @escaping @Sendable () -> Void = {}
    ) throws(FlatClientError) -> FlatClient {
        try FlatClient(FlatLayout(type: "clock", byteCount: 24), name: name, on: member, changed: changed)
    }

    /// Opens a balloon.
    public static func balloon(
        _ name: String, on member: BusMember, changed: @escaping @Sendable () -> Void = {}
    ) throws(FlatClientError) -> FlatClient {
        try FlatClient(FlatLayout(type: "balloon", byteCount: 8, writable: 4..<8), name: name, on: member, changed: changed)
    }

    /// What a clock shows.
    public func reading() throws(FlatClientError) -> ClockReading { ClockReading(try read()) }
    /// What a balloon wants.
    public func target() throws(FlatClientError) -> UInt32 { BalloonReading(try read()).target }
    /// Tells a balloon how many pages there are in it.
    public func report(_ pages: UInt32) throws(FlatClientError) {
        try write(BalloonReading.report(pages), at: BalloonReading.reportOffset)
    }
}
