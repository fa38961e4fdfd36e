// What keeps a PCI device from being driven by this process, and the commands that mend it. Found by looking; nothing
// is unbound or opened up here, for what is in use is not taken away.

import Glibc
import LinuxSystem

/// Why a device cannot be driven from here.
public struct PCIObstacle: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is in the way.
    public let what: String
    /// Commands that mend it, for root's shell; none: nothing that can be said in advance.
    public let remedy: [String]
    /// The number for it.
    public let number: Errno

    /// As given.
    public init(_ what: String, _ remedy: [String] = [], _ number: Errno = .noSuchDevice) {
        self.what = what
        self.remedy = remedy
        self.number = number
    }

    /// In one line, the commands behind it.
    public var description: String { remedy.isEmpty ? what : "\(what); as root: \(remedy.joined(separator: "; "))" }
}

extension PCIDevice {
    /// What keeps it from being driven from here, as far as can be seen without opening it; nil: nothing. By whom it is
    /// driven says which way is meant: uio_pci_generic, or else VFIO.
    /// - Parameter dev: where its nodes are.
    public func obstacle(dev: String = "/dev") -> PCIObstacle? { isUIO ? uioObstacle() : vfioObstacle(dev) }

    /// Its own node, for iommufd, where the kernel has that and no VFIO of groups and containers, which is the other
    /// way to the same; nil: that other way is there, or neither is.
    public func iommufdNode(dev: String = "/dev") -> String? {
        guard let group, !FileSystem.exists("\(dev)/vfio/\(group)") || !FileSystem.exists("\(dev)/vfio/vfio"),
            FileSystem.exists("\(dev)/iommu"), let name = vfioName
        else { return nil }
        return "\(dev)/vfio/devices/\(name)"
    }

    /// Whether it is bound to uio_pci_generic.
    public var isUIO: Bool { driver == Self.uioDriver }
    static let vfioDriver = "vfio-pci"
    static let uioDriver = "uio_pci_generic"

    /// What its own node is called, `vfio3`; nil: it has none.
    var vfioName: String? { FileSystem.names(in: "\(path)/vfio-dev").sorted().first { $0.hasPrefix("vfio") } }

    private func vfioObstacle(_ dev: String) -> PCIObstacle? {
        guard let group else {
            return PCIObstacle(
                "\(state), and no IOMMU stands before it (switch it on in the firmware, and intel_iommu=on on the kernel's command "
                    + "line); without one \(Self.uioDriver) is to have it", handOver(to: Self.uioDriver))
        }
        guard driver == Self.vfioDriver else {
            return PCIObstacle("\(state), and \(Self.vfioDriver) is to have it", handOver(to: Self.vfioDriver))
        }
        if let other = groupMembers.first(where: { !$0.isHarmless }) {
            return PCIObstacle(
                "its IOMMU group \(group) is shared with \(other.address), which \(other.driver ?? "no driver") drives",
                other.handOver(to: Self.vfioDriver))
        }
        for node in iommufdNode(dev: dev).map({ [$0, "\(dev)/iommu"] }) ?? ["\(dev)/vfio/\(group)"] {
            do throws(Errno) { try FileSystem.checkAccess(node, writing: true) } catch {
                return Self.noRights(node, error)
            }
        }
        return nil
    }

    private var state: String { driver.map { "is driven by \($0)" } ?? "has no driver" }

    /// The commands that give it to a driver.
    private func handOver(to wanted: String) -> [String] {
        let module = FileSystem.exists("\(root)/bus/pci/drivers/\(wanted)") ? [] : ["modprobe \(wanted)"]
        let unbind = driver.map { ["echo \(address) > drivers/\($0)/unbind"] } ?? []
        return module + ["cd /sys/bus/pci", "echo \(wanted) > devices/\(address)/driver_override"] + unbind
            + ["echo \(address) > drivers_probe"]
    }

    /// Whether a group that it is in can be used: bridges' own driver and none at all do no DMA.
    private var isHarmless: Bool { [nil, Self.vfioDriver, "pci-stub", "pcieport"].contains(driver) }

    static func noRights(_ node: String, _ error: Errno) -> PCIObstacle {
        guard error == .permissionDenied else { return PCIObstacle("\(node): \(error)", [], error) }
        return PCIObstacle("\(node): \(error)", ["chown \(geteuid()) \(node)"], error)
    }
}
