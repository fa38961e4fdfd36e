// The way to a controller through VFIO: registers mapped, MSI-X vectors as eventfds, memory by the container.

import DMA
import HostIommu
import LinuxSystem
import SharedMemory

/// A controller bound to vfio-pci.
public final class VFIOPort: NVMePort {
    /// The PCI address.
    public let name: String
    /// Where regions are for the controller.
    public let memory: any BusAddressSource
    /// MSI-X vectors.
    public let vectorCount: Int
    /// They are messages.
    public let isLine = false
    private let function: VFIOFunction
    private let registers: SharedRegion
    private let kept: KeptController?
    /// See `NVMePort`.
    public var keeping: (any NVMeKeeping)? { kept }

    /// Opens the controller at `address`, resets it and lets it read and write memory; one that a predecessor has left
    /// with `keeper` is not reset.
    /// - Parameters:
    ///   - keeper: by whom a successor can go on with it; nil: none can.
    ///   - account: what may be locked in memory.
    ///   - kernel: whom to ask.
    ///   - log: is told what memory cannot be mapped.
    public init(
        _ address: PCIAddress, keeper: (any DescriptorKeeper)? = nil, account: LockedMemoryAccount = .ofThisProcess,
        kernel: any IommuKernel = RunningKernel(),
        log: @escaping @Sendable (String) -> Void
    ) throws(NVMeError) {
        name = "\(address)"
        let opened = try KeptController.open(address, keeper, account, kernel, log)
        (function, kept, memory) = (opened.function, opened.kept, opened.mappings)
        do throws(DMABackEndError) {
            // Not every function can be reset alone; the controller's own reset follows in any case.
            if kept?.isLeft != true { try? function.reset() }
            registers = try function.registers(0)
            vectorCount = try function.vectorCount()
            try function.setBusMaster(true)
        } catch { throw .obstacle("\(error)", .ioError) }
        guard vectorCount > 0 else { throw .unsupported("MSI-X interrupts") }
        guard registers.byteCount >= NVMeRegister.doorbells + 8 else { throw .unsupported("registers of more than 4 KiB") }
    }

    deinit { if kept?.isLeaving != true { cutOff() } }

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
        if let left = kept?.vectors, left.count == count { return left }
        var events: [Descriptor] = []
        do throws(Errno) { for _ in 0..<count { events.append(try EventCounter().descriptor) } } catch {
            throw .resources("\(count) interrupt vectors", reason: "\(error)", error)
        }
        do throws(DMABackEndError) { try function.setVectors(events) } catch {
            throw .resources("\(count) interrupt vectors", reason: "\(error)", .ioError)
        }
        try kept?.keep(vectors: events)
        return events
    }

    /// See `NVMePort`.
    public func takeInterrupt(_ vector: Descriptor) { vector.takeCount() }

    /// See `NVMePort`: messages need none.
    public func armInterrupt() {}

    /// See `NVMePort`: bus master off.
    public func cutOff() { try? function.setBusMaster(false) }

    /// See `NVMePort`: the function is reset, where it can be alone, and bus master is on.
    public func reconnect() throws(NVMeError) {
        try? function.reset()
        do throws(DMABackEndError) { try function.setBusMaster(true) } catch { throw .obstacle("\(error)", .ioError) }
    }
}
