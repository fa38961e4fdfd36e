// The controllers that this process drives: one object for each, shared by its namespaces' disks, and gone with the
// last of them.

import BlockDevices
import DMA
import HostIommu
import LinuxSystem
import SharedMemory
import Synchronization

/// Opens disks on NVMe controllers.
public enum NVMeControllers {
    private struct Weak {
        weak var controller: NVMeController?
    }
    private static let open = Mutex<[PCIAddress: Weak]>([:])

    /// A namespace's disk, for `BlockDeviceOptions.openController`. The controller must be bound to vfio-pci or
    /// uio_pci_generic, and this user may open it.
    /// - Parameter keeper: by whom a successor of this process can go on with a controller behind an IOMMU; nil: it is
    ///   reset then.
    public static func openDisk(
        _ target: ControllerTarget, _ options: BlockDeviceOptions, _ time: any TimeSource, keeper: (any DescriptorKeeper)?
    ) throws(DeviceError) -> any BlockDevice {
        do throws(NVMeError) {
            let controller = try controller(at: target.address, options, time, keeper)
            return try NVMeDisk(controller, namespace: target.namespace, name: target.name, readOnly: options.readOnly)
        } catch { throw .controller(name: target.name, reason: "\(error)", error.number) }
    }

    /// This process is about to end, and another goes on with what is kept: no controller is shut down that is.
    public static func leave() {
        for controller in open.withLock({ $0.values.map(\.controller) }) { controller?.port.keeping?.leave() }
    }

    /// The controller at `address`; started if nobody has it yet.
    private static func controller(
        at address: PCIAddress, _ options: BlockDeviceOptions, _ time: any TimeSource, _ keeper: (any DescriptorKeeper)?
    ) throws(NVMeError) -> NVMeController {
        // Under the lock also while it starts: two that open it at once get one.
        try open.withLock { (open: inout [PCIAddress: Weak]) throws(NVMeError) in
            if let controller = open[address]?.controller {
                // One that was given up is tried once more for a disk that is opened anew; else another driver has it.
                if controller.startAgain() { return controller }
                controller.endReturn()
            }
            let controller = try NVMeController(port(to: address, options, keeper), time: time, log: options.log)
            open[address] = Weak(controller: controller)
            return controller
        }
    }

    /// The way to a controller, by what it is bound to and who says where memory is; said in one line.
    private static func port(
        to address: PCIAddress, _ options: BlockDeviceOptions, _ keeper: (any DescriptorKeeper)?
    ) throws(NVMeError) -> any NVMePort {
        let log = options.log
        guard PCIDevice(address)?.isUIO ?? false else {
            let port = try VFIOPort(address, keeper: keeper, log: log)
            log("\(address): driven through VFIO, behind the machine's IOMMU")
            return port
        }
        if let machineMemory = options.machineMemory {
            let port = try UIOPort(function(address, needsFrames: false), memory: machineMemory(address, log))
            log("\(address): machine frames through uio_pci_generic; what Xen keeps mapped for it outlives this process")
            return port
        }
        // What the kernel calls a frame would be somebody else's.
        if RunningDomain.isParavirtual {
            throw .unsupported("way to machine frames: in a paravirtualized domain of Xen only `causeway backend --xen` has one")
        }
        let port = try UIOPort(function(address, needsFrames: true), memory: PinnedFrameSource(name: "\(address)", log: log))
        log(
            "\(address): driven through uio_pci_generic by pinned pages' own addresses: no IOMMU stands before it, and it is "
                + "not safe against kill -9 without a keeper")
        return port
    }

    private static func function(_ address: PCIAddress, needsFrames: Bool) throws(NVMeError) -> UIOFunction {
        do throws(PCIObstacle) { return try UIOFunction(address, needsFrames: needsFrames) } catch {
            throw .obstacle("\(error)", error.number)
        }
    }

    /// Stops a controller that nobody drives any more, so that it reads and writes no memory. One that another driver
    /// has by now was stopped by that one.
    public static func stop(_ address: PCIAddress, time: some TimeSource) throws(NVMeError) {
        guard let device = PCIDevice(address), device.isUIO else { return }
        // Its registers answer also where it may not reach memory, as behind a driver that has ended.
        let port = try UIOPort(function(address, needsFrames: false), memory: NoMemory())
        let capabilities = NVMeCapabilities(rawValue: port.load64(NVMeRegister.capabilities))
        try NVMeController.stop(port, capabilities, time)
    }

    /// Of a controller that is only stopped.
    private final class NoMemory: BusAddressSource {
        func place(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusPlacement? { nil }
        func remove(_ region: SharedRegion) {}
    }
}
