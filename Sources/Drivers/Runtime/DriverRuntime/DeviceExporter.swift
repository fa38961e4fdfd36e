// Another way to a backend's devices than their frontends: whoever comes by it is no guest of this host's.

import Synchronization
import XenBus

/// Serves a backend's devices in another way, each whenever no frontend uses it. Called on the control thread.
public protocol DeviceExporter<Device>: Sendable {
    /// What the devices are to their drivers.
    associatedtype Device
    /// A device is open, another one than before, or none any more: what was there before is let go when this returns.
    func changed(_ id: DeviceID, _ device: Device?)
    /// Whose a device is.
    func use(of id: DeviceID) -> DeviceUse
    /// Whether a process before this one served a device's driver in this other way, who waits until it is open again.
    func isLeft(_ id: DeviceID) -> Bool
}

extension DeviceExporter {
    /// Nobody waits.
    public func isLeft(_ id: DeviceID) -> Bool { false }
}

/// Whose a device is at a time: its requests come by one way only, for two drivers would not know of each other.
public final class DeviceUse: Sendable {
    /// Who may use a device.
    public enum User: Sendable {
        case frontend
        case exported
    }

    private let user = Mutex<User?>(nil)

    /// Nobody's.
    public init() {}

    /// Whether it is `user`'s now: it was his already, or nobody's.
    public func take(for user: User) -> Bool {
        self.user.withLock { current in
            guard current == nil || current == user else { return false }
            current = user
            return true
        }
    }

    /// It is not `user`'s any more, if it was.
    public func release(by user: User) { self.user.withLock { if $0 == user { $0 = nil } } }
}
