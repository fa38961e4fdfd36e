// The controllers that this process drives: one object for each, shared by its namespaces' disks, and gone with the
// last of them.

import BlockDevices
import HostIommu
import LinuxSystem
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
            let controller = try controller(at: target.address, time: time, keeper: keeper, log: options.log)
            return try NVMeDisk(controller, namespace: target.namespace, name: target.name, readOnly: options.readOnly)
        } catch { throw .controller(name: target.name, reason: "\(error)", error.number) }
    }

    /// This process is about to end, and another goes on with what is kept: no controller is shut down that is.
    public static func leave() {
        for controller in open.withLock({ $0.values.map(\.controller) }) { controller?.port.keeping?.leave() }
    }

    /// The controller at `address`; started if nobody has it yet.
    private static func controller(
        at address: PCIAddress, time: any TimeSource, keeper: (any DescriptorKeeper)?, log: @escaping @Sendable (String) -> Void
    ) throws(NVMeError) -> NVMeController {
        // Under the lock also while it starts: two that open it at once get one.
        try open.withLock { (open: inout [PCIAddress: Weak]) throws(NVMeError) in
            if let controller = open[address]?.controller, !controller.isLost { return controller }
            let controller = try NVMeController(port(to: address, keeper: keeper, log: log), time: time, log: log)
            open[address] = Weak(controller: controller)
            return controller
        }
    }

    /// The way to the controller, by what it is bound to; said in one line.
    private static func port(
        to address: PCIAddress, keeper: (any DescriptorKeeper)?, log: @escaping @Sendable (String) -> Void
    ) throws(NVMeError) -> any NVMePort {
        guard PCIDevice(address)?.isUIO == true else {
            let port = try VFIOPort(address, keeper: keeper, log: log)
            log("\(address): driven through VFIO, behind the machine's IOMMU")
            return port
        }
        let function: UIOFunction
        do throws(PCIObstacle) { function = try UIOFunction(address) } catch { throw .obstacle("\(error)", error.number) }
        let port = try UIOPort(function, memory: PinnedFrameSource(name: "\(address)", log: log))
        log(
            "\(address): driven through uio_pci_generic by pinned pages' own addresses: no IOMMU stands before it, and it is "
                + "not safe against kill -9 without a keeper")
        return port
    }
}
