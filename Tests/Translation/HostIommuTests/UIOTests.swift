// A PCI device by uio_pci_generic: a sysfs of files, and what is in the way of one.

import Foundation
@testable import HostIommu
import LinuxSystem
import SharedMemory
import Testing
import TestSupport

@Suite struct UIOTests {
    /// A device's directory in a sysfs, bound to uio_pci_generic, with a fifo for its node.
    private struct Machine {
        let directory: TemporaryDirectory
        let address: PCIAddress
        var root: String { "\(directory.path)/sys" }
        var nodes: String { "\(directory.path)/dev" }
        var device: String { "\(root)/bus/pci/devices/\(address)" }

        init(driver: String = "uio_pci_generic") throws {
            directory = try TemporaryDirectory()
            address = try #require(PCIAddress("0000:00:05.0"))
            let files = FileManager.default
            for path in ["\(device)/uio/uio3", nodes, "\(root)/bus/pci/drivers/\(driver)", "\(root)/kernel/security"] {
                try files.createDirectory(atPath: path, withIntermediateDirectories: true)
            }
            try files.createSymbolicLink(atPath: "\(device)/driver", withDestinationPath: "\(root)/bus/pci/drivers/\(driver)")
            try set("irq", "11\n")
            try set(
                "resource", "0x00000000febd4000 0x00000000febd7fff 0x0000000000140204\n0x0000000000000000 0x0000000000000000 0x0\n")
            try Data([0x36, 0x1B, 0x10, 0, 0x03, 0x04, 0, 0]).write(to: URL(fileURLWithPath: "\(device)/config"))
            try Data(count: 0x4000).write(to: URL(fileURLWithPath: "\(device)/resource0"))
            try #require(mkfifo("\(nodes)/uio3", 0o600) == 0)
        }

        func set(_ name: String, _ text: String) throws {
            try text.write(toFile: "\(device)/\(name)", atomically: false, encoding: .utf8)
        }
        var command: UInt16 {
            let bytes = FileManager.default.contents(atPath: "\(device)/config") ?? Data()
            return bytes.count > 5 ? UInt16(bytes[4]) | UInt16(bytes[5]) << 8 : 0
        }
        func open(mayAdminister: Bool = true) throws -> UIOFunction {
            try UIOFunction(address, root: root, nodes: nodes, mayAdminister: mayAdminister)
        }
        func refusal(mayAdminister: Bool = true) -> String {
            do { _ = try open(mayAdminister: mayAdminister) } catch { return "\(error)" }
            return ""
        }
    }

    /// Registers answer, and no memory is reached before it is said; the line is silent until it is armed, and what was
    /// armed does not make a device master of the bus that was stopped.
    @Test func command() throws {
        let machine = try Machine()
        let function = try machine.open()
        #expect(machine.command == 0x0403)
        try function.setBusMaster(true)
        #expect(machine.command == 0x0407)
        function.armInterrupt()
        #expect(machine.command == 0x0007)
        // An interrupt: the kernel silences the line, and tells a count of 32 bits.
        let node = try Descriptor.open("\(machine.nodes)/uio3", O_RDWR | O_NONBLOCK)
        #expect(!function.takeInterrupt())
        #expect(node.writeRecord(UInt32(7)))
        #expect(function.takeInterrupt() && !function.takeInterrupt())
        function.armInterrupt()
        #expect(machine.command == 0x0007)
        try function.setBusMaster(false)
        #expect(machine.command == 0x0403)
        function.armInterrupt()
        #expect(machine.command == 0x0003)
        let registers = try function.registers(0)
        #expect(registers.byteCount == 0x4000 && registers.isWritable)
        #expect(throws: PCIObstacle("it has no registers 1", [], .notSupported)) { _ = try function.registers(1) }
    }

    /// Two drivers of one device are none: the second is told, and may have it once the first has gone.
    @Test func claimed() throws {
        let machine = try Machine()
        var first: UIOFunction? = try machine.open()
        #expect(machine.refusal() == "\(machine.nodes)/uio3 is in use by another process")
        #expect(machine.command == 0x0403)
        withExtendedLifetime(first) {}
        first = nil
        #expect(machine.refusal() == "")
    }

    /// Each thing that is in the way is said once, with what to do.
    @Test func obstacles() throws {
        let machine = try Machine()
        #expect(machine.refusal(mayAdminister: false).contains("by root alone (CAP_SYS_ADMIN)"))
        #expect(PCIDevice(machine.address, root: machine.root)?.isUIO == true)
        try "none [integrity] confidentiality\n".write(
            toFile: "\(machine.root)/kernel/security/lockdown", atomically: false, encoding: .utf8)
        #expect(machine.refusal().contains("resource0: the kernel is locked down"))
        try "[none] integrity confidentiality\n".write(
            toFile: "\(machine.root)/kernel/security/lockdown", atomically: false, encoding: .utf8)
        try machine.set("irq", "0\n")
        #expect(machine.refusal().contains("no interrupt line (INTx)"))
        try machine.set("irq", "11\n")
        try FileManager.default.removeItem(atPath: "\(machine.nodes)/uio3")
        #expect(machine.refusal() == "\(machine.nodes)/uio3: No such file or directory")
        try FileManager.default.removeItem(atPath: "\(machine.device)/uio")
        #expect(machine.refusal() == "uio_pci_generic has given it no node; as root: dmesg | grep uio_pci_generic")
        let other = try Machine(driver: "nvme")
        #expect(
            PCIDevice(other.address, root: other.root)?.obstacle()?.description
                == "is driven by nvme, and no IOMMU stands before it (switch it on in the firmware, and intel_iommu=on on the kernel's "
                + "command line); without one uio_pci_generic is to have it; as root: modprobe uio_pci_generic; cd /sys/bus/pci; "
                + "echo uio_pci_generic > devices/0000:00:05.0/driver_override; echo 0000:00:05.0 > drivers/nvme/unbind; "
                + "echo 0000:00:05.0 > drivers_probe")
    }
}
