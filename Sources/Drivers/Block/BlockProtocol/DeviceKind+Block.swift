import XenBus

extension DeviceKind {
    /// A disk: `vbd`.
    public static let block = DeviceKind("vbd")
}
