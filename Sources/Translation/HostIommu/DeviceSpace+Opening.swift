// A space by its name: `vfio-type1:/dev/vfio/GROUP`, `iommufd[:/dev/vfio/devices/vfioN]`, `software[:BITS]`, or
// `pci:ADDRESS`, which is the device's node for iommufd where the kernel has one, and its group otherwise.

import LinuxSystem

extension DeviceSpace {
    /// Their names.
    public static let names = [VFIOContainer.name, Iommufd.name, SoftwareSpace.name, "pci"]

    /// A space, and the device that comes with it where the name has one.
    public struct Opened: Sendable {
        /// The space.
        public let space: DeviceSpace
        /// The device's descriptor, for its registers and interrupts; nil: the name has none, or only a group.
        public let device: Descriptor?
        /// Another device of the same group by its address; nil where there is no group.
        public let group: (@Sendable (String) throws(DMABackEndError) -> Descriptor)?
    }

    /// Opens what a name says.
    /// - Parameters:
    ///   - specification: see the file's beginning.
    ///   - account: what may be locked for it.
    ///   - kernel: whom to ask.
    ///   - root: where sysfs is mounted.
    public static func open(
        _ specification: String, account: LockedMemoryAccount, kernel: any IommuKernel = RunningKernel(), root: String = "/sys"
    ) throws(DMABackEndError) -> Opened {
        let parts = specification.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let argument = parts.count > 1 && !parts[1].isEmpty ? parts[1] : nil
        switch parts.first ?? "" {
        case VFIOContainer.name:
            guard let argument else { throw .needsArgument(name: VFIOContainer.name, what: "a group's node, /dev/vfio/GROUP") }
            return try openGroup(argument, nil, account, kernel)
        case Iommufd.name: return try openIommufd(argument, account, kernel)
        case SoftwareSpace.name:
            guard let bits = Int(argument ?? "48") else {
                throw .unavailable(name: SoftwareSpace.name, what: argument ?? "", why: "an address has 32 to 57 bits")
            }
            let space = try DeviceSpace(try SoftwareSpace(addressBits: bits, account: account), account: account)
            return Opened(space: space, device: nil, group: nil)
        case "pci":
            guard let argument else { throw .needsArgument(name: "pci", what: "a device's address, as 0000:00:05.0") }
            return try openDevice(argument, account, kernel, root)
        default: throw .unknown(name: specification, known: names)
        }
    }

    private static func openGroup(
        _ path: String, _ address: String?, _ account: LockedMemoryAccount, _ kernel: any IommuKernel
    ) throws(DMABackEndError) -> Opened {
        let container = try VFIOContainer(group: path, account: account, kernel: kernel)
        let group = container.group
        let device = { @Sendable (address: String) throws(DMABackEndError) -> Descriptor in
            try VFIOContainer.device(address, of: group, kernel)
        }
        let first = address == nil ? nil : try device(address ?? "")
        return Opened(space: try DeviceSpace(container, account: account), device: first, group: device)
    }

    private static func openIommufd(
        _ path: String?, _ account: LockedMemoryAccount, _ kernel: any IommuKernel
    ) throws(DMABackEndError) -> Opened {
        let space = try Iommufd(account: account, kernel: kernel).makeSpace()
        let device = path == nil ? nil : try space.attach(path ?? "")
        return Opened(space: try DeviceSpace(space, account: account), device: device, group: nil)
    }

    private static func openDevice(
        _ text: String, _ account: LockedMemoryAccount, _ kernel: any IommuKernel, _ root: String
    ) throws(DMABackEndError) -> Opened {
        guard let address = PCIAddress(text), let device = PCIDevice(address, root: root) else {
            throw .unavailable(name: "pci", what: text, why: "there is no such PCI device (lspci -D lists those there are)")
        }
        if let obstacle = device.obstacle() { throw .unavailable(name: "pci", what: text, why: "\(obstacle)") }
        if let node = device.vfioName, FileSystem.exists("/dev/iommu") {
            return try openIommufd("/dev/vfio/devices/\(node)", account, kernel)
        }
        return try openGroup("/dev/vfio/\(device.group ?? "")", "\(address)", account, kernel)
    }
}
