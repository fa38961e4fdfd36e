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

    /// Its node for a driver in user space, as `uio0` in /dev, where `uio_pci_generic` has it.
    public var uio: String? { FileSystem.names(in: "\(path)/uio").first { $0.hasPrefix("uio") } }
    /// Whether it has an interrupt line (INTx) that somebody can wait for.
    public var hasInterruptLine: Bool {
        guard let text = FileSystem.text(of: "\(path)/irq"), let line = Int(text.filter(\.isNumber)) else { return false }
        return line != 0
    }
    /// Bytes behind a base address register; 0: there is none.
    public func resourceByteCount(_ index: Int) -> Int {
        let lines = (FileSystem.text(of: "\(path)/resource") ?? "").split(separator: "\n")
        guard lines.indices.contains(index) else { return 0 }
        let numbers = lines[index].split(separator: " ").compactMap { UInt64($0.dropFirst(2), radix: 16) }
        guard numbers.count >= 2, numbers[1] > numbers[0] else { return 0 }
        return Int(exactly: numbers[1] - numbers[0] + 1) ?? 0
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
