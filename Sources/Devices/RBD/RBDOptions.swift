// How an image is opened, beside what holds for all disks.

import BlockDevices
import LinuxSystem

/// What becomes of an image's lock when it is opened for writing.
public struct RBDOptions: Sendable {
    /// Where the addresses are by which this process and its predecessors have locked images; nil: nowhere, and a
    /// predecessor that was killed is waited for until the cluster misses it.
    public var record: RBDLockRecord?
    /// Whether the image is taken from whoever has its lock, wherever that is: the cluster refuses them from then on.
    public var takesOver = false

    /// As given.
    public init(record: RBDLockRecord? = nil, takesOver: Bool = false) {
        self.record = record
        self.takesOver = takesOver
    }
}

/// Opens images of Ceph clusters.
public enum RBDImages {
    /// An image's disk, for `BlockDeviceOptions.openImage`.
    public static func openDisk(
        _ target: RBDTarget, _ options: BlockDeviceOptions, _ own: RBDOptions
    ) throws(DeviceError) -> any BlockDevice {
        try RBDDisk(target, options, own)
    }
}
