// A PCI device through VFIO: its registers, its configuration, its interrupts as eventfds (linux: <linux/vfio.h>,
// "PCI"). What it does with them is its driver's.

import CLinux
import DMA
import Glibc
import LinuxSystem
import SharedMemory

/// An open PCI device. Any thread; what is done at the same time is the driver's to order.
public final class VFIOFunction: Sendable {
    /// Where it is.
    public let address: PCIAddress
    private let kernel: any IommuKernel
    /// What a successor goes on with.
    public let descriptor: Descriptor
    /// Where its configuration is in the descriptor's file.
    private let configuration: UInt64

    /// A device and what maps memory for it.
    public struct Opened: ~Copyable {
        /// The device.
        public let function: VFIOFunction
        /// Its container: nobody else has it.
        public let container: VFIOContainer
    }

    /// Opens a device by its group; throws what is in the way, with what mends it.
    public static func open(
        _ address: PCIAddress, account: LockedMemoryAccount = .ofThisProcess, kernel: any IommuKernel = RunningKernel(),
        root: String = "/sys"
    ) throws(PCIObstacle) -> Opened {
        guard let device = PCIDevice(address, root: root) else {
            throw PCIObstacle("there is no such PCI device (lspci -D lists those there are)")
        }
        if let obstacle = device.obstacle() { throw obstacle }
        let group = device.group ?? ""
        do throws(DMABackEndError) {
            let container = try VFIOContainer(group: "/dev/vfio/\(group)", account: account, kernel: kernel)
            return Opened(
                function: try VFIOFunction(address, try container.device("\(address)"), kernel), container: container)
        } catch { throw obstacle(error, group) }
    }

    /// A device and the address space of iommufd that it was given: nobody else has it.
    public struct OpenedByIommufd: ~Copyable {
        /// The device.
        public let function: VFIOFunction
        /// What maps memory for it.
        public let space: IommufdSpace
    }

    /// Opens a device by its own node, where `PCIDevice.iommufdNode` says so.
    public static func open(
        _ address: PCIAddress, node: String, account: LockedMemoryAccount = .ofThisProcess,
        kernel: any IommuKernel = RunningKernel()
    ) throws(PCIObstacle) -> OpenedByIommufd {
        do throws(DMABackEndError) {
            let space = try Iommufd(account: account, kernel: kernel).makeSpace()
            return OpenedByIommufd(function: try VFIOFunction(address, try space.attach(node), kernel), space: space)
        } catch { throw obstacle(error, "") }
    }

    /// Goes on with a device that a predecessor of this process opened, with its container and its group.
    public static func adopt(
        _ address: PCIAddress, _ device: Descriptor, container: Descriptor, group: Descriptor,
        account: LockedMemoryAccount = .ofThisProcess, kernel: any IommuKernel = RunningKernel()
    ) throws(DMABackEndError) -> Opened {
        Opened(
            function: try VFIOFunction(address, device, kernel),
            container: try VFIOContainer(
                adopting: container, group: group, groupPath: "/dev/vfio/…", account: account, kernel: kernel))
    }

    private static func obstacle(_ error: DMABackEndError, _ group: String) -> PCIObstacle {
        switch error {
        case .unsupported("VFIO type1 (version 2)"):
            PCIObstacle("\(error)", ["modprobe vfio_iommu_type1"])
        case .unavailable(_, let what, let why) where why == "\(Errno.busy)":
            PCIObstacle("\(what) is in use by another process", [], .busy)
        default: PCIObstacle(error.words, [], .ioError)
        }
    }

    init(_ address: PCIAddress, _ descriptor: Descriptor, _ kernel: any IommuKernel) throws(DMABackEndError) {
        self.address = address
        self.descriptor = descriptor
        self.kernel = kernel
        configuration = try Self.region(Int(VFIO_PCI_CONFIG_REGION_INDEX), descriptor, kernel).offset
    }

    private static func region(
        _ index: Int, _ descriptor: Descriptor, _ kernel: any IommuKernel
    ) throws(DMABackEndError) -> vfio_region_info {
        var info = vfio_region_info()
        info.argsz = UInt32(MemoryLayout<vfio_region_info>.size)
        info.index = UInt32(index)
        do throws(Errno) { _ = try kernel.call(descriptor, Int(CAUSEWAY_VFIO_DEVICE_GET_REGION_INFO), &info) } catch {
            throw .kernel("VFIO_DEVICE_GET_REGION_INFO \(index)", error)
        }
        return info
    }

    /// The registers behind a base address register, mapped.
    public func registers(_ index: Int) throws(DMABackEndError) -> SharedRegion {
        let info = try Self.region(index, descriptor, kernel)
        guard info.flags & UInt32(VFIO_REGION_INFO_FLAG_MMAP) != 0, info.size > 0 else {
            throw .unsupported("mapping of registers \(index)")
        }
        do throws(Errno) {
            return try SharedRegion(mapping: descriptor, offset: Int(info.offset), byteCount: Int(info.size), writable: true)
        } catch { throw .kernel("mmap of registers \(index)", error) }
    }

    /// Resets the device alone, where it can be.
    public func reset() throws(DMABackEndError) {
        do throws(Errno) { _ = try kernel.call(descriptor, Int(CAUSEWAY_VFIO_DEVICE_RESET), value: 0) } catch {
            throw .kernel("VFIO_DEVICE_RESET", error)
        }
    }

    /// Lets the device answer on the bus, and read and write memory; or stops it from the latter, whatever it does.
    public func setBusMaster(_ isOn: Bool) throws(DMABackEndError) {
        // The command register: memory space is bit 1, bus master bit 2.
        let place = off_t(configuration) + 4
        do throws(Errno) {
            let bytes = try descriptor.read(2, at: place)
            guard bytes.count == 2 else { throw .ioError }
            try descriptor.write([isOn ? bytes[0] | 6 : bytes[0] & ~4, bytes[1]], at: place)
        } catch { throw .kernel("the PCI command register", error) }
    }

    /// How many MSI-X vectors it has; 0: none.
    public func vectorCount() throws(DMABackEndError) -> Int {
        var info = vfio_irq_info()
        info.argsz = UInt32(MemoryLayout<vfio_irq_info>.size)
        info.index = UInt32(VFIO_PCI_MSIX_IRQ_INDEX)
        do throws(Errno) { _ = try kernel.call(descriptor, Int(CAUSEWAY_VFIO_DEVICE_GET_IRQ_INFO), &info) } catch {
            throw .kernel("VFIO_DEVICE_GET_IRQ_INFO", error)
        }
        return info.flags & UInt32(VFIO_IRQ_INFO_EVENTFD) == 0 ? 0 : Int(info.count)
    }

    /// Makes the first MSI-X vectors count in eventfds, from vector 0 on. All that will ever be used at once: the first
    /// call settles how many there are (`VFIO_IRQ_INFO_NORESIZE`).
    public func setVectors(_ events: [Descriptor]) throws(DMABackEndError) {
        let header = 5
        var numbers: [UInt32] = [
            UInt32((header + events.count) * 4), UInt32(VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER),
            UInt32(VFIO_PCI_MSIX_IRQ_INDEX), 0, UInt32(events.count),
        ]
        numbers += events.map { UInt32(bitPattern: $0.rawValue) }
        if numbers.count & 1 == 1 { numbers.append(0) }
        var words = stride(from: 0, to: numbers.count, by: 2).map { UInt64(numbers[$0]) | UInt64(numbers[$0 + 1]) << 32 }
        do throws(Errno) { try kernel.call(descriptor, Int(CAUSEWAY_VFIO_DEVICE_SET_IRQS), words: &words) } catch {
            throw .kernel("VFIO_DEVICE_SET_IRQS of \(events.count) vectors", error)
        }
    }
}
