// A container of the kernel's VFIO (type1, version 2): user memory is pinned, counted against the locked-memory limit, and mapped
// at an IO address of our choosing. Numbers and layouts are those of <linux/vfio.h>; a test compares them.

import FrameMaps
import LinuxSystem
import SharedMemory

/// Requests and structures of <linux/vfio.h>.
enum VfioLayout {
    static let getAPIVersion: UInt = 0x3B64
    static let checkExtension: UInt = 0x3B65
    static let setIommu: UInt = 0x3B66
    static let getInfo: UInt = 0x3B70
    static let mapDMA: UInt = 0x3B71
    static let unmapDMA: UInt = 0x3B72
    /// `VFIO_TYPE1v2_IOMMU`.
    static let type1v2: UInt32 = 3
    static let readable: UInt32 = 1
    static let writable: UInt32 = 2
    /// `struct vfio_iommu_type1_dma_map`: argsz, flags, vaddr, iova, size.
    static let mapSize = 32
    static let (mapFlags, mapAddress, mapIova, mapCount) = (4, 8, 16, 24)
    /// `struct vfio_iommu_type1_dma_unmap`: argsz, flags, iova, size.
    static let unmapSize = 24
    static let (unmapFlags, unmapIova, unmapCount) = (4, 8, 16)
    /// `struct vfio_iommu_type1_info`: argsz, flags, iova_pgsizes, cap_offset.
    static let infoSize = 24
    static let (infoFlags, infoPageSizes, infoCapabilities) = (4, 8, 16)
    static let infoHasPageSizes: UInt32 = 1
    static let infoHasCapabilities: UInt32 = 2
    /// A capability: id, version, next; and of `VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL` the number.
    static let dmaAvailable: UInt16 = 3
    static let (capabilityNext, capabilityAvailable) = (4, 8)
    /// What the kernel allows when it does not say (`dma_entry_limit`).
    static let entryLimit = 65535
}

/// The part that VFIO and iommufd have in common: addresses, accounting, what is live.
public class KernelBackend: DMABackend {
    /// `vfio` or `iommufd`.
    public let name: String
    /// For faults.
    public let device: String
    let kernel: any KernelControl
    private let constraints: DMAConstraints
    private let space: UnitAllocator
    private var live: [UInt64: (region: SharedRegion, byteCount: Int, order: Int)] = [:]
    private let lockLimit: Int?
    private var locked = 0
    private var entriesLeft: Int?
    private var faults = IOFaultLog()
    private var events: Descriptor?

    /// The first address given out; below are some devices' fixed windows, and null.
    static let firstPage = 16
    /// One past the last page: 39 bits of address, which every IOMMU has.
    static let lastPage = 1 << 27

    init(
        _ name: String, _ device: String, _ kernel: any KernelControl, _ constraints: DMAConstraints, lockLimit: Int?
    ) {
        self.name = name
        self.device = device
        self.kernel = kernel
        self.constraints = constraints
        self.lockLimit = lockLimit
        let pages = Int(min(constraints.mask >> frameShift, UInt64(Self.lastPage) - 1)) + 1
        space = UnitAllocator(capacity: max(1, pages - Self.firstPage))
    }

    deinit { for iova in live.keys { _ = try? kernelUnmap(Iova(rawValue: iova), live[iova]?.byteCount ?? 0) } }

    /// What the kernel said that it will still take.
    func setEntries(_ count: Int?) { entriesLeft = count }

    func kernelMap(_ iova: Iova, _ address: UInt64, _ byteCount: Int, _ direction: DMADirection) throws(DMAError) {
        preconditionFailure("KernelBackend has no kernel")
    }
    /// Returns the bytes that were unmapped.
    func kernelUnmap(_ iova: Iova, _ byteCount: Int) throws(DMAError) -> UInt64 {
        preconditionFailure("KernelBackend has no kernel")
    }

    /// Locks the pages and maps them at an address of our choosing; see the protocol.
    public func map(_ region: SharedRegion, pages: Range<Int>, _ direction: DMADirection) throws(DMAError) -> [BusSegment] {
        guard pages.lowerBound >= 0, pages.upperBound <= region.pageCount, !pages.isEmpty else {
            throw .outsideMapping(offset: pages.lowerBound << 12, byteCount: pages.count << 12, mapped: region.byteCount)
        }
        let byteCount = pages.count << 12
        guard UInt64(byteCount) <= UInt64(constraints.maximumSegmentSize) else { throw .needsBounce(.segments) }
        // Known before the kernel is asked: pinning and taking it all back costs more than a number.
        if let left = budget.lockedBytesLeft, byteCount > left {
            throw .overBudget(what: "locked memory", asked: byteCount, left: left)
        }
        if let entriesLeft, entriesLeft == 0 { throw .overBudget(what: "mappings of \(name)", asked: 1, left: 0) }
        let order = UnitAllocator.order(pages.count)
        guard let place = space.allocate(order: order) else {
            throw .noIova(pages: pages.count, largest: space.largestOrder.map { 1 << $0 } ?? 0)
        }
        let iova = Iova(rawValue: UInt64(Self.firstPage + place) << frameShift)
        let address = UInt64(UInt(bitPattern: unsafe region.unsafeBase)) + UInt64(pages.lowerBound) << frameShift
        do throws(DMAError) {
            try kernelMap(iova, address, byteCount, direction)
        } catch {
            space.release(place, order: order)
            throw error
        }
        live[iova.rawValue] = (region, byteCount, order)
        locked += byteCount
        entriesLeft = entriesLeft.map { $0 - 1 }
        return [BusSegment(address: BusAddress(rawValue: iova.rawValue), byteCount: UInt32(byteCount))]
    }

    /// See the protocol. What the kernel does not confirm stays mapped, and counted.
    public func unmap(_ segments: [BusSegment]) throws(DMAError) {
        guard segments.count == 1, let mapping = live[segments[0].address.rawValue] else { throw .notMapped }
        guard Int(segments[0].byteCount) == mapping.byteCount else {
            throw .outsideMapping(offset: 0, byteCount: Int(segments[0].byteCount), mapped: mapping.byteCount)
        }
        let iova = Iova(rawValue: segments[0].address.rawValue)
        let gone = try kernelUnmap(iova, mapping.byteCount)
        // Success with another number of bytes has been a kernel's answer: then memory may still be the device's, and stays ours.
        guard gone == UInt64(mapping.byteCount) else {
            throw .outsideMapping(offset: 0, byteCount: Int(clamping: gone), mapped: mapping.byteCount)
        }
        live[iova.rawValue] = nil
        locked -= mapping.byteCount
        entriesLeft = entriesLeft.map { $0 + 1 }
        space.release(Int(iova.page) - Self.firstPage, order: mapping.order)
    }

    /// What this process's limits and the kernel's leave.
    public var budget: DMABudget {
        DMABudget(mappingsLeft: entriesLeft, lockedBytesLeft: lockLimit.map { max(0, $0 - locked) }, lockedBytes: locked)
    }

    /// Faults come as events: the device's error interrupt (`VFIO_PCI_ERR_IRQ_INDEX`), or an iommufd fault queue's, counted by an
    /// eventfd. It says how many there were; the address is known to the kernel's log only.
    public func watchFaults(_ eventfd: Descriptor) { events = eventfd }

    /// See `watchFaults`.
    public func takeFaults() -> [IOFault] {
        if let events, let count = KernelEvents.take(events) {
            for _ in 0..<min(count, UInt64(IOFaultLog.limit)) {
                faults.record(IOFault(device: device, iova: Iova(rawValue: 0), cause: .reportedByDevice))
            }
        }
        return faults.take()
    }

    func refused(_ operation: String, _ result: Int) -> DMAError { .refused(operation: "\(name): \(operation)", errno: Int32(-result)) }
}

/// `/dev/vfio/vfio` with a group attached.
public final class VfioBackend: KernelBackend {
    /// - Parameters:
    ///   - control: the container. A group must have been added to it (`VFIO_GROUP_SET_CONTAINER`), or the kernel refuses to set the IOMMU.
    ///   - lockLimit: bytes that may be locked; nil: what this process's limits say.
    public init(
        device: String, control: any KernelControl, constraints: DMAConstraints = DMAConstraints(), lockLimit: Int? = nil
    ) throws(DMAError) {
        super.init("vfio", device, control, constraints, lockLimit: lockLimit ?? LockLimit.current())
        var none: [UInt8] = []
        let version = control.control(VfioLayout.getAPIVersion, &none)
        guard version == 0 else { throw refused("API version \(version), not 0", version < 0 ? version : -22) }
        let result = kernel.controlNumber(VfioLayout.setIommu, VfioLayout.type1v2)
        guard result >= 0 else { throw refused("no type 1 IOMMU (is a group in the container?)", result) }
        setEntries(try readLimits())
    }

    /// Checks the page size and reads how many mappings there may be.
    private func readLimits() throws(DMAError) -> Int {
        var info = KernelBytes(sized: VfioLayout.infoSize)
        var result = kernel.control(VfioLayout.getInfo, &info.bytes)
        guard result >= 0, let size = info.get(0, as: UInt32.self) else { throw refused("reading its limits", result) }
        // The kernel says how long it wants to be; more than a few pages it is not.
        if size > UInt32(info.bytes.count), size <= 1 << 16 {
            info = KernelBytes(sized: Int(size))
            result = kernel.control(VfioLayout.getInfo, &info.bytes)
            guard result >= 0 else { throw refused("reading its limits", result) }
        }
        let flags = info.get(VfioLayout.infoFlags, as: UInt32.self) ?? 0
        if flags & VfioLayout.infoHasPageSizes != 0, let sizes = info.get(VfioLayout.infoPageSizes, as: UInt64.self), sizes & 4096 == 0 {
            throw refused("pages of 4 KiB are not among its sizes", -22)
        }
        guard flags & VfioLayout.infoHasCapabilities != 0 else { return VfioLayout.entryLimit }
        var place = Int(info.get(VfioLayout.infoCapabilities, as: UInt32.self) ?? 0)
        // As many as there can be without one being read twice.
        for _ in 0..<info.bytes.count / 8 where place > 0 {
            if info.get(place, as: UInt16.self) == VfioLayout.dmaAvailable,
                let count = info.get(place + VfioLayout.capabilityAvailable, as: UInt32.self)
            {
                return Int(count)
            }
            place = Int(info.get(place + VfioLayout.capabilityNext, as: UInt32.self) ?? 0)
        }
        return VfioLayout.entryLimit
    }

    override func kernelMap(_ iova: Iova, _ address: UInt64, _ byteCount: Int, _ direction: DMADirection) throws(DMAError) {
        var request = KernelBytes(sized: VfioLayout.mapSize)
        let flags = (direction.deviceReads ? VfioLayout.readable : 0) | (direction.deviceWrites ? VfioLayout.writable : 0)
        request.put(flags, at: VfioLayout.mapFlags)
        request.put(address, at: VfioLayout.mapAddress)
        request.put(iova.rawValue, at: VfioLayout.mapIova)
        request.put(UInt64(byteCount), at: VfioLayout.mapCount)
        let result = kernel.control(VfioLayout.mapDMA, &request.bytes)
        guard result >= 0 else { throw refused("mapping \(byteCount) bytes at \(iova)", result) }
    }

    override func kernelUnmap(_ iova: Iova, _ byteCount: Int) throws(DMAError) -> UInt64 {
        var request = KernelBytes(sized: VfioLayout.unmapSize)
        request.put(iova.rawValue, at: VfioLayout.unmapIova)
        request.put(UInt64(byteCount), at: VfioLayout.unmapCount)
        let result = kernel.control(VfioLayout.unmapDMA, &request.bytes)
        guard result >= 0 else { throw refused("unmapping \(byteCount) bytes at \(iova)", result) }
        return request.get(VfioLayout.unmapCount, as: UInt64.self) ?? 0
    }
}
