// A PCI device through uio_pci_generic, where no IOMMU stands before it: its registers and its configuration by sysfs,
// its interrupt line by /dev/uioN (linux: drivers/uio/uio_pci_generic.c). The kernel does no more than that: the device
// reaches all memory of the machine, and what it is told to write it writes.

import Glibc
import LinuxSystem
import SharedMemory
import Synchronization

/// An open PCI device. Any thread; what is done at the same time is the driver's to order.
public final class UIOFunction: Sendable {
    /// Where it is.
    public let address: PCIAddress
    /// Readable when the interrupt line was raised; see `takeInterrupt`.
    public let interrupt: Descriptor
    private let device: PCIDevice
    private let configuration: Descriptor
    /// The command register as it was last written, without the bit that silences the interrupt line: the kernel sets
    /// that one when it tells of an interrupt, and nobody else writes the register.
    private let command = Mutex<UInt16>(0)

    /// Bits of the PCI command register.
    private enum Command {
        static let memory: UInt16 = 1 << 1
        static let busMaster: UInt16 = 1 << 2
        static let interruptDisable: UInt16 = 1 << 10
        static let place: off_t = 4
    }

    /// Opens a device; throws what is in the way, with what mends it. Its registers answer from then on; it reads and
    /// writes no memory yet that it did not before.
    /// - Parameter needsFrames: whether the kernel is to say where memory is, which it tells only who has
    ///   `CAP_SYS_ADMIN`; false where a hypervisor says it.
    public convenience init(_ address: PCIAddress, needsFrames: Bool = true) throws(PCIObstacle) {
        try self.init(
            address, root: "/sys", nodes: "/dev", mayAdminister: !needsFrames || StatusFile.read().mayAdminister)
    }

    /// The same for a test's machine.
    init(_ address: PCIAddress, root: String, nodes: String, mayAdminister: Bool) throws(PCIObstacle) {
        guard let device = PCIDevice(address, root: root) else {
            throw PCIObstacle("there is no such PCI device (lspci -D lists those there are)")
        }
        if let obstacle = device.uioObstacle(nodes: nodes, mayAdminister: mayAdminister) { throw obstacle }
        self.address = address
        self.device = device
        let node = "\(nodes)/\(device.uio ?? "")"
        do throws(Errno) { interrupt = try Descriptor.open(node, O_RDWR | O_NONBLOCK) } catch {
            throw PCIDevice.noRights(node, error)
        }
        // The kernel lets anybody open it twice, and two drivers of one device are none.
        do throws(Errno) { try interrupt.lock(shared: false) } catch {
            throw PCIObstacle("\(node) is in use by another process", [], .busy)
        }
        let file = "\(device.path)/config"
        do throws(Errno) {
            configuration = try Descriptor.open(file, O_RDWR)
            try change(setting: Command.memory)
        } catch { throw Self.refused(file, error) }
    }

    /// The registers behind a base address register, mapped.
    public func registers(_ index: Int) throws(PCIObstacle) -> SharedRegion {
        let count = device.resourceByteCount(index)
        guard count > 0 else { throw PCIObstacle("it has no registers \(index)", [], .notSupported) }
        let file = "\(device.path)/resource\(index)"
        do throws(Errno) {
            // The size that the file says it has is 0 on some kernels.
            return try SharedRegion(
                mapping: try Descriptor.open(file, O_RDWR), byteCount: SharedRegion.wholePages(count), writable: true)
        } catch { throw Self.refused(file, error) }
    }

    /// Lets the device read and write memory, or stops it, whatever it does. The kernel stops it when the last
    /// descriptor of its node is closed. The interrupt line is silent behind this, until `armInterrupt`.
    public func setBusMaster(_ isOn: Bool) throws(PCIObstacle) {
        do throws(Errno) {
            if isOn { try change(setting: Command.busMaster) } else { try change(clearing: Command.busMaster) }
        } catch { throw Self.refused("\(device.path)/config", error) }
    }

    /// Takes what the interrupt line has counted; false if it was not raised. The kernel has silenced the line by then,
    /// and it stays silent until `armInterrupt`.
    @discardableResult
    public func takeInterrupt() -> Bool {
        var count: UInt32 = 0
        return interrupt.readRecord(&count)
    }

    /// Lets the device raise its line again. Where there is cause for an interrupt still it does so at once: to be
    /// called when the cause has been taken away.
    public func armInterrupt() {
        // What cannot be written now was written before: only a device that is gone refuses it, and its driver sees
        // that.
        try? change(isSilent: false)
    }

    private func change(setting set: UInt16 = 0, clearing clear: UInt16 = 0, isSilent: Bool = true) throws(Errno) {
        try command.withLock { (command: inout UInt16) throws(Errno) in
            if command == 0 {
                let bytes = try configuration.read(2, at: Command.place)
                guard bytes.count == 2 else { throw .ioError }
                command = (UInt16(bytes[0]) | UInt16(bytes[1]) << 8) & ~Command.interruptDisable
            }
            command = (command | set) & ~clear
            let value = isSilent ? command | Command.interruptDisable : command
            try configuration.write([UInt8(truncatingIfNeeded: value), UInt8(value >> 8)], at: Command.place)
        }
    }

    private static func refused(_ file: String, _ error: Errno) -> PCIObstacle {
        guard error == .notPermitted else { return PCIObstacle("\(file): \(error)", [], error) }
        return PCIDevice.lockedDown(file)
    }
}
