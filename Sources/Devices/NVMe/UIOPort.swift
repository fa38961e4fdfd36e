// The way to a controller where no IOMMU stands before it: registers by sysfs, one interrupt line, and memory where the
// machine has it. Whoever says where that is, is somebody else.

import DMA
import HostIommu
import LinuxSystem
import SharedMemory

/// A controller bound to uio_pci_generic.
public final class UIOPort: NVMePort {
    /// The PCI address.
    public let name: String
    /// Where regions are for the controller.
    public let memory: any BusAddressSource
    /// The line.
    public let vectorCount = 1
    /// See `NVMePort`.
    public let isLine = true
    private let function: UIOFunction
    private let registers: SharedRegion

    /// Takes an open function. It reads and writes no memory yet that it did not before: its controller is stopped
    /// first (`openVectors`).
    /// - Parameter memory: says where memory of this process is in the machine.
    public init(_ function: UIOFunction, memory: any BusAddressSource) throws(NVMeError) {
        name = "\(function.address)"
        self.function = function
        self.memory = memory
        do throws(PCIObstacle) { registers = try function.registers(0) } catch { throw .obstacle("\(error)", error.number) }
        guard registers.byteCount >= NVMeRegister.doorbells + 8 else { throw .unsupported("registers of more than 4 KiB") }
    }

    deinit { cutOff() }

    /// Bytes behind the first base address register.
    public var registerByteCount: Int { registers.byteCount }

    /// See `NVMePort`.
    @inline(__always)
    public func load(_ offset: Int) -> UInt32 { registers.loadRelaxed(offset) }

    /// See `NVMePort`.
    @inline(__always)
    public func store(_ value: UInt32, at offset: Int) { registers.storeReleasing(value, at: offset) }

    /// See `NVMePort`.
    public func openVectors(_ count: Int) throws(NVMeError) -> [Descriptor] {
        do throws(PCIObstacle) { try function.setBusMaster(true) } catch { throw .obstacle("\(error)", error.number) }
        return [function.interrupt]
    }

    /// See `NVMePort`.
    public func takeInterrupt(_ vector: Descriptor) { function.takeInterrupt() }

    /// See `NVMePort`.
    public func armInterrupt() { function.armInterrupt() }

    /// See `NVMePort`: bus master off.
    public func cutOff() { try? function.setBusMaster(false) }

    /// See `NVMePort`: bus master on.
    public func reconnect() throws(NVMeError) {
        do throws(PCIObstacle) { try function.setBusMaster(true) } catch { throw .obstacle("\(error)", error.number) }
    }
}
