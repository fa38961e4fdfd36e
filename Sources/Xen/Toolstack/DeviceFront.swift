// Whose a device is: a parameter of Causeway's own, `front=`.

/// What uses a device.
public enum DeviceFront: String, Hashable, Sendable, CaseIterable {
    /// A frontend of Xen's.
    case xen
    /// A virtio driver, behind a front end of vhost-user such as QEMU.
    case vhostUser = "vhost-user"
}
