// A device that is not a front end's alone: others come to it by ways of their own.

import DeviceState

/// A device that a front end has to itself from its first ring until it is gone, if nobody else has it.
public final class ExclusiveVhostDevice: VhostDevice {
    private let device: any VhostDevice
    private let take: @Sendable () -> String?
    private let letGo: @Sendable () -> Void

    /// - Parameters:
    ///   - take: takes the device for a front end, which may have it already; why not, if somebody else has it.
    ///   - letGo: gives it back, if a front end had it.
    public init(_ device: any VhostDevice, take: @escaping @Sendable () -> String?, letGo: @escaping @Sendable () -> Void) {
        self.device = device
        self.take = take
        self.letGo = letGo
    }

    /// The device's.
    public var kind: DeviceState.Kind { device.kind }
    /// The device's.
    public var offer: VhostOffer { device.offer }
    /// The device's.
    public var attributes: [DeviceState.Attribute] { device.attributes }

    /// The device's, but that a ring starts only where the device can be had.
    public func perform(_ task: VhostTask) throws(VhostRefusal) -> UInt32? {
        if case .start = task, let reason = take() { throw VhostRefusal(reason) }
        return try device.perform(task)
    }

    /// The device's.
    public func configuration(from offset: Int, byteCount: Int) -> [UInt8] {
        device.configuration(from: offset, byteCount: byteCount)
    }
    /// The device's.
    public func idle() { device.idle() }
    /// The device's.
    public func resumed() { device.resumed() }
    /// The device's.
    public func cancel() throws(VhostRefusal) { try device.cancel() }
    /// The device's.
    public func restoreSignals() { device.restoreSignals() }
    /// The device's.
    public func flush() throws(VhostRefusal) { try device.flush() }

    /// The device's.
    public func hold() { device.hold() }
    /// The device's; whose it is does not change by that.
    public func putBy() { device.putBy() }
    /// The device's.
    public var handedOn: [DeviceState.Attribute] { device.handedOn }
    /// The device's.
    public func take(_ attributes: [DeviceState.Attribute]) { device.take(attributes) }

    /// Its rings have stopped: it can be had.
    public func disconnected() {
        device.disconnected()
        letGo()
    }
}
