// A PCI device as sysfs shows it: what it is, who drives it, and with whom it shares an IOMMU group. Looked at, never
// changed.

/// A device on the PCI bus.
public struct PCIDevice: Sendable {
    /// Where it is.
    public let address: PCIAddress
    /// Its directory in sysfs.
    public let path: String
    /// Where sysfs is mounted.
    public let root: String

    /// nil: there is none.
    /// - Parameter root: where sysfs is mounted.
    public init?(_ address: PCIAddress, root: String = "/sys") {
        path = "\(root)/bus/pci/devices/\(address)"
        guard FileSystem.exists(path) else { return nil }
        self.address = address
        self.root = root
    }

    /// Those there are, in the order of their addresses.
    public static func all(root: String = "/sys") -> [PCIDevice] {
        FileSystem.names(in: "\(root)/bus/pci/devices").sorted().compactMap { PCIAddress($0).flatMap { PCIDevice($0, root: root) } }
    }

    /// Class, subclass and programming interface, a byte each: 0x010802 is an NVMe controller.
    public var classCode: UInt32 { number("class") ?? 0 }
    /// Vendor and device, as `8086:5845`.
    public var identity: String {
        [number("vendor"), number("device")].map { number in
            let text = String(number ?? 0, radix: 16)
            return String(repeating: "0", count: max(0, 4 - text.count)) + text
        }.joined(separator: ":")
    }
    /// The driver that it is bound to; nil: none.
    public var driver: String? { link("driver") }
    /// The number of its IOMMU group; nil: the machine's IOMMU does not stand before it, or there is none.
    public var group: String? { link("iommu_group") }
    /// The devices of its IOMMU group, itself among them.
    public var groupMembers: [PCIDevice] {
        FileSystem.names(in: "\(path)/iommu_group/devices").sorted().compactMap {
            PCIAddress($0).flatMap { PCIDevice($0, root: root) }
        }
    }

    /// What a file of its directory says as a number.
    private func number(_ name: String) -> UInt32? {
        guard let text = FileSystem.text(of: "\(path)/\(name)") else { return nil }
        return UInt32(text.drop { $0 != "x" }.dropFirst().prefix { $0.isHexDigit }, radix: 16)
    }

    /// The last part of what a link leads to.
    private func link(_ name: String) -> String? {
        guard let target = try? FileSystem.resolved("\(path)/\(name)"), FileSystem.exists(target) else { return nil }
        return target.split(separator: "/").last.map(String.init)
    }
}
