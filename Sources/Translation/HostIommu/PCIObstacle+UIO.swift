// What keeps a PCI device from being driven without an IOMMU.

import LinuxSystem

extension PCIDevice {
    /// The same, where uio_pci_generic has it.
    /// - Parameters:
    ///   - nodes: where device nodes are.
    ///   - mayAdminister: whether this process has `CAP_SYS_ADMIN`.
    func uioObstacle(nodes: String = "/dev", mayAdminister: Bool = StatusFile.read().mayAdminister) -> PCIObstacle? {
        guard let uio, isUIO else {
            return PCIObstacle("\(Self.uioDriver) has given it no node", ["dmesg | grep \(Self.uioDriver)"])
        }
        // Whoever has its registers has all memory, whoever owns the node: there is no use in a chown.
        guard mayAdminister else {
            return PCIObstacle(
                "without an IOMMU it is driven by root alone (CAP_SYS_ADMIN): the kernel tells nobody else where memory is; "
                    + "behind an IOMMU vfio-pci needs no root", [], .notPermitted)
        }
        if isLockedDown { return Self.lockedDown("\(path)/resource0") }
        guard hasInterruptLine else {
            return PCIObstacle("it has no interrupt line (INTx), and \(Self.uioDriver) knows no other interrupt", [], .notSupported)
        }
        do throws(Errno) { try FileSystem.checkAccess("\(nodes)/\(uio)", writing: true) } catch {
            return Self.noRights("\(nodes)/\(uio)", error)
        }
        return nil
    }

    /// Whether the kernel says that it is locked down; where it does not say, a file that is refused will.
    private var isLockedDown: Bool {
        guard let text = FileSystem.text(of: "\(root)/kernel/security/lockdown") else { return false }
        return !text.contains("[none]")
    }

    static func lockedDown(_ file: String) -> PCIObstacle {
        PCIObstacle(
            "\(file): the kernel is locked down (/sys/kernel/security/lockdown) and gives nobody a device's registers; "
                + "vfio-pci, behind an IOMMU, works all the same", [], .notPermitted)
    }
}
