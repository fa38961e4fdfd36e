// One vector as a queue keeps it: what a device raises on its data path, where no number is to be looked up.

import LinuxSystem

/// A device's way to one of its vectors. Any thread; several queues may share one.
public struct InterruptLine: Sendable {
    private let vector: InterruptVector

    init(_ vector: InterruptVector) { self.vector = vector }

    /// Raises it; false if the device was detached, and then nobody is told.
    @discardableResult public func raise() -> Bool { vector.raise() }

    /// Adds one to another eventfd of the same device's, by the same rules: one that had been made to block counts
    /// against the device, and of a device that is not trusted any more none is written.
    public func tell(_ descriptor: Descriptor) { vector.tell(descriptor) }
}
