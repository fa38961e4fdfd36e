// PCI devices as sysfs shows them, what keeps one from being driven, and the regions that a device reaches.

import CLinux
import DMA
import Foundation
@testable import HostIommu
import LinuxSystem
import SharedMemory
import Testing
import TestSupport

@Suite struct PCITests {
    /// A machine's sysfs, with devices in groups.
    private func machine(_ devices: [(address: String, driver: String?, group: String?)]) throws -> (TemporaryDirectory, String) {
        let directory = try TemporaryDirectory()
        let root = "\(directory.path)/sys"
        func make(_ path: String) throws {
            try FileManager.default.createDirectory(atPath: "\(root)/\(path)", withIntermediateDirectories: true)
        }
        func link(_ path: String, to target: String) throws {
            try make(target)
            try FileManager.default.createSymbolicLink(atPath: "\(root)/\(path)", withDestinationPath: "\(root)/\(target)")
        }
        for device in devices {
            try make("devices/\(device.address)")
            try make("bus/pci/devices")
            try link("bus/pci/devices/\(device.address)", to: "devices/\(device.address)")
            for (name, text) in [("class", "0x010802\n"), ("vendor", "0x1b36\n"), ("device", "0x0010\n")] {
                try text.write(toFile: "\(root)/devices/\(device.address)/\(name)", atomically: false, encoding: .utf8)
            }
            if let driver = device.driver { try link("devices/\(device.address)/driver", to: "bus/pci/drivers/\(driver)") }
            guard let group = device.group else { continue }
            try link("devices/\(device.address)/iommu_group", to: "kernel/iommu_groups/\(group)")
            try make("kernel/iommu_groups/\(group)/devices")
            try link("kernel/iommu_groups/\(group)/devices/\(device.address)", to: "devices/\(device.address)")
        }
        return (directory, root)
    }

    @Test func addresses() throws {
        #expect(PCIAddress("00:04.0")?.description == "0000:00:04.0")
        #expect(PCIAddress("10000:e1:1f.7")?.description == "10000:e1:1f.7")
        for wrong in [
            "", "00:04", "0:04.0", "00:20.0", "00:04.8", "000:00:04.0", "0000:00:04.0.0", "0000:00:+4.0", "0000:00:04.00",
            "zz:04.0",
        ] {
            #expect(PCIAddress(wrong) == nil, "\(wrong)")
        }
    }

    @Test func obstacles() throws {
        let (directory, root) = try machine([
            ("0000:00:04.0", "nvme", "7"), ("0000:00:05.0", nil, "8"), ("0000:00:06.0", "vfio-pci", "9"),
            ("0000:00:07.0", "ahci", "9"),
            ("0000:00:08.0", "nvme", nil), ("0000:00:09.0", "vfio-pci", "999999999"), ("0000:00:0a.0", "pcieport", "999999999"),
        ])
        defer { withExtendedLifetime(directory) {} }
        let devices = PCIDevice.all(root: root)
        #expect(devices.map(\.address.description).count == 7)
        #expect(devices[0].classCode == 0x010802 && devices[0].identity == "1b36:0010")
        let obstacles = devices.map { $0.obstacle() }
        #expect(
            obstacles[0]?.description
                == "is driven by nvme, and vfio-pci is to have it; as root: cd /sys/bus/pci; "
                + "echo vfio-pci > devices/0000:00:04.0/driver_override; echo 0000:00:04.0 > drivers/nvme/unbind; echo 0000:00:04.0 > drivers_probe"
        )
        #expect(obstacles[1]?.what == "has no driver, and vfio-pci is to have it")
        #expect(obstacles[1]?.remedy.contains { $0.contains("unbind") } == false)
        #expect(obstacles[2]?.what == "its IOMMU group 9 is shared with 0000:00:07.0, which ahci drives")
        #expect(obstacles[2]?.remedy.contains("echo 0000:00:07.0 > drivers/ahci/unbind") == true)
        #expect(obstacles[4]?.what.contains("no IOMMU stands before it") == true)
        // Bridges are no obstacle; its node in /dev is not there.
        #expect(obstacles[5]?.what == "/dev/vfio/999999999: No such file or directory")
        #expect(PCIDevice(try #require(PCIAddress("0000:00:0b.0")), root: root) == nil)
    }

    /// A kernel with iommufd and without groups: the device's own node and iommufd's are what must be opened.
    @Test func iommufdObstacles() throws {
        let (directory, root) = try machine([("0000:00:04.0", "vfio-pci", "7")])
        defer { withExtendedLifetime(directory) {} }
        let device = try #require(PCIDevice.all(root: root).first)
        let dev = "\(directory.path)/dev"
        try FileManager.default.createDirectory(atPath: "\(dev)/vfio/devices", withIntermediateDirectories: true)
        #expect(device.iommufdNode(dev: dev) == nil)
        try FileManager.default.createDirectory(
            atPath: "\(root)/devices/0000:00:04.0/vfio-dev/vfio3", withIntermediateDirectories: true)
        #expect(
            device.iommufdNode(dev: dev) == nil && device.obstacle(dev: dev)?.what == "\(dev)/vfio/7: No such file or directory")
        try "".write(toFile: "\(dev)/iommu", atomically: false, encoding: .utf8)
        #expect(device.iommufdNode(dev: dev) == "\(dev)/vfio/devices/vfio3")
        #expect(device.obstacle(dev: dev)?.what == "\(dev)/vfio/devices/vfio3: No such file or directory")
        try "".write(toFile: "\(dev)/vfio/devices/vfio3", atomically: false, encoding: .utf8)
        #expect(device.obstacle(dev: dev) == nil)
        // Where both ways are there, the older one is taken, which can be kept.
        for node in ["7", "vfio"] { try "".write(toFile: "\(dev)/vfio/\(node)", atomically: false, encoding: .utf8) }
        #expect(device.iommufdNode(dev: dev) == nil && device.obstacle(dev: dev) == nil)
    }

    /// The same device by its own node: bound, given an address space, and let go of with it.
    @Test func throughIommufd() throws {
        let kernel = FakeKernel()
        let address = try #require(PCIAddress("0000:00:04.0"))
        do {
            let opened = try VFIOFunction.open(
                address, node: "/dev/vfio/devices/vfio3", account: LockedMemoryAccount(limit: 16384), kernel: kernel)
            #expect(kernel.attachments.count == 1)
            #expect(try opened.function.vectorCount() == 65)
            let mappings = RegionMappings(opened.space, name: "nvme") { _ in }
            let region = try SharedRegion(anonymous: 8192)
            guard case .contiguous(let start)? = mappings.place(region) else { throw TimedOut("no place") }
            #expect(start.rawValue != 0 && kernel.spaces.values.map(\.areas.count) == [1])
            mappings.remove(region)
            #expect(kernel.spaces.values.map(\.areas.count) == [0])
        }
        #expect(kernel.attachments.isEmpty && kernel.spaces.isEmpty)
        kernel.missing = ["/dev/iommu"]
        #expect(throws: PCIObstacle.self) { _ = try VFIOFunction.open(address, node: "/dev/vfio/devices/vfio3", kernel: kernel) }
    }

    /// Mapped once for all who have it, at one address, and unmapped behind the last of them.
    @Test func regions() throws {
        let kernel = FakeKernel()
        let lines = LineCollector()
        let container = try VFIOContainer(group: "/dev/vfio/7", account: LockedMemoryAccount(limit: 16384), kernel: kernel)
        let mappings = RegionMappings(container, name: "nvme") { lines.add($0) }
        let (first, second) = (try SharedRegion(anonymous: 8192), try SharedRegion(anonymous: 16384))
        let address = try #require(mappings.place(first))
        #expect(mappings.place(first) == address)
        #expect(kernel.container.count == 1)
        // Too much for the limit: told once, with what to do.
        #expect(mappings.place(second) == nil)
        #expect(mappings.place(second) == nil)
        #expect(lines.all.count == 1)
        #expect(lines.all[0].contains("16384 bytes would have to be locked in memory, and 8192 of 16384 bytes are left"))
        #expect(lines.all[0].hasSuffix("raise it (ulimit -l, LimitMEMLOCK= of systemd)"))
        mappings.remove(first)
        #expect(kernel.container.count == 1)
        mappings.remove(first)
        #expect(kernel.container.isEmpty && mappings.count == 0)
        #expect(mappings.place(second) != nil)
    }

    /// A successor ends what was mapped, and gives the same memory the same addresses, which nothing else gets
    /// meanwhile.
    @Test func succession() throws {
        let kernel = FakeKernel()
        let notes = try SharedRegion(anonymous: 4096)
        let book = RegionBook(notes, at: 0, entries: 4)
        let memories = try (0..<3).map { _ in try SealedMemory("regions", byteCount: 8192, final: true) }
        func region(_ index: Int) throws -> SharedRegion {
            try SharedRegion(mapping: memories[index].descriptor, byteCount: 8192, writable: true)
        }
        let first = try VFIOContainer(group: "/dev/vfio/7", account: LockedMemoryAccount(limit: nil), kernel: kernel)
        let descriptors = first.descriptors
        // It is killed: nothing of it ends by itself.
        let killed = RegionMappings(first, book: book, name: "nvme") { _ in }
        let places = try (0..<3).map { try killed.place(region($0)) }
        #expect(kernel.container.count == 3)
        let lines = LineCollector()
        for life in 0..<2 {
            let next = try VFIOContainer(
                adopting: descriptors.container, group: descriptors.group, groupPath: "/dev/vfio/7",
                account: LockedMemoryAccount(limit: nil), kernel: kernel)
            let mappings = RegionMappings(next, book: book, name: "nvme") { lines.add($0) }
            try mappings.forgetPredecessor()
            #expect(kernel.container.isEmpty)
            let other = try SharedRegion(anonymous: 8192)
            let (last, another, again) = (try region(2), try region(0), try region(0))
            #expect(mappings.place(last) == places[2])
            // What nobody asked for in a whole life is forgotten with the next.
            #expect(life == 0 ? !places.contains(mappings.place(other)) : mappings.place(other) == places[1])
            #expect(mappings.place(another) == places[0])
            // The same memory for a second time is elsewhere.
            #expect(!places.contains(mappings.place(again)))
            #expect(kernel.container.count == 4)
            withExtendedLifetime(mappings) {}
        }
        #expect(lines.all.isEmpty)
        withExtendedLifetime(killed) {}
    }

    /// What cannot be written here is not written by the device.
    @Test func readOnlyRegions() throws {
        let kernel = FakeKernel()
        let container = try VFIOContainer(group: "/dev/vfio/7", account: LockedMemoryAccount(limit: nil), kernel: kernel)
        let mappings = RegionMappings(container, name: "nvme") { _ in }
        let memory = try SealedMemory("regions", byteCount: 4096, final: true)
        let region = try SharedRegion(mapping: memory.descriptor, byteCount: 4096, writable: false)
        #expect(mappings.place(region) != nil)
        #expect(kernel.container.map(\.flags) == [1])
    }

    /// All vectors at once, in one call of the form that the kernel has for it.
    @Test func vectors() throws {
        let kernel = FakeKernel()
        let descriptor = try kernel.open("/dev/vfio/7")
        let address = try #require(PCIAddress("0000:00:04.0"))
        let function = try VFIOFunction(address, descriptor, kernel)
        let events = try (0..<3).map { _ in try EventCounter().descriptor }
        #expect(try function.vectorCount() == 65)
        try function.setVectors(events)
        #expect(kernel.vectorEvents == events.map(\.rawValue))
        kernel.failures[Int(CAUSEWAY_VFIO_DEVICE_SET_IRQS)] = [EINVAL]
        #expect(throws: DMABackEndError.kernel("VFIO_DEVICE_SET_IRQS of 3 vectors", .invalidArgument)) {
            try function.setVectors(events)
        }
    }
}
