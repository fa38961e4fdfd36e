// An address space of the kernel's iommufd. It needs no device to exist: memory can be mapped before one is attached. Numbers and
// layouts are those of <linux/iommufd.h>.

import FrameMaps
import LinuxSystem
import SharedMemory

/// Requests and structures of <linux/iommufd.h>.
enum IommufdLayout {
    static let destroy: UInt = 0x3B80
    static let allocate: UInt = 0x3B81
    static let map: UInt = 0x3B85
    static let unmap: UInt = 0x3B86
    static let fixedIova: UInt32 = 1
    static let writable: UInt32 = 2
    static let readable: UInt32 = 4
    /// `struct iommu_destroy`: size, id.
    static let destroySize = 8
    /// `struct iommu_ioas_alloc`: size, flags, out_ioas_id.
    static let allocateSize = 12
    static let allocateID = 8
    /// `struct iommu_ioas_map`: size, flags, ioas_id, reserved, user_va, length, iova.
    static let mapSize = 40
    static let (mapFlags, mapSpace, mapAddress, mapCount, mapIova) = (4, 8, 16, 24, 32)
    /// `struct iommu_ioas_unmap`: size, ioas_id, iova, length.
    static let unmapSize = 24
    static let (unmapSpace, unmapIova, unmapCount) = (4, 8, 16)
}

/// `/dev/iommu`.
public final class IommufdBackend: KernelBackend {
    private var space: UInt32 = 0

    /// Makes an address space.
    /// - Parameter lockLimit: bytes that may be locked; nil: what this process's limits say. The kernel counts a user's processes together.
    public init(
        device: String, control: any KernelControl, constraints: DMAConstraints = DMAConstraints(), lockLimit: Int? = nil
    ) throws(DMAError) {
        super.init("iommufd", device, control, constraints, lockLimit: lockLimit ?? LockLimit.current())
        var request = KernelBytes(sized: IommufdLayout.allocateSize)
        let result = kernel.control(IommufdLayout.allocate, &request.bytes)
        guard result >= 0, let made = request.get(IommufdLayout.allocateID, as: UInt32.self) else {
            throw refused("making an address space", result)
        }
        space = made
    }

    deinit {
        // Its mappings go with it; it cannot fail.
        var request = KernelBytes(sized: IommufdLayout.destroySize)
        request.put(space, at: 4)
        _ = kernel.control(IommufdLayout.destroy, &request.bytes)
    }

    override func kernelMap(_ iova: Iova, _ address: UInt64, _ byteCount: Int, _ direction: DMADirection) throws(DMAError) {
        var request = KernelBytes(sized: IommufdLayout.mapSize)
        let flags =
            IommufdLayout.fixedIova | (direction.deviceReads ? IommufdLayout.readable : 0)
            | (direction.deviceWrites ? IommufdLayout.writable : 0)
        request.put(flags, at: IommufdLayout.mapFlags)
        request.put(space, at: IommufdLayout.mapSpace)
        request.put(address, at: IommufdLayout.mapAddress)
        request.put(UInt64(byteCount), at: IommufdLayout.mapCount)
        request.put(iova.rawValue, at: IommufdLayout.mapIova)
        let result = kernel.control(IommufdLayout.map, &request.bytes)
        guard result >= 0 else { throw refused("mapping \(byteCount) bytes at \(iova)", result) }
    }

    override func kernelUnmap(_ iova: Iova, _ byteCount: Int) throws(DMAError) -> UInt64 {
        var request = KernelBytes(sized: IommufdLayout.unmapSize)
        request.put(space, at: IommufdLayout.unmapSpace)
        request.put(iova.rawValue, at: IommufdLayout.unmapIova)
        request.put(UInt64(byteCount), at: IommufdLayout.unmapCount)
        let result = kernel.control(IommufdLayout.unmap, &request.bytes)
        guard result >= 0 else { throw refused("unmapping \(byteCount) bytes at \(iova)", result) }
        return request.get(IommufdLayout.unmapCount, as: UInt64.self) ?? 0
    }
}
