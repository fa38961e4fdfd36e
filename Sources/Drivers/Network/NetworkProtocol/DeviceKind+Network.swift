import XenBus

extension DeviceKind {
    /// A network interface: `vif`.
    public static let network = DeviceKind("vif")
}
