// An IO address space of iommufd. The kernel chooses addresses unless the caller does. Memory that is mapped already,
// in this space or another one of the same descriptor, is mapped as a copy, so that it is pinned and counted once.

import CLinux
import DMA
import FrameMaps
import LinuxSystem

/// An address space, for any number of devices.
public final class IommufdSpace: DMABackEnd {
    /// What it is chosen by.
    public static let name = Iommufd.name
    /// What it is chosen by.
    public var name: String { Self.name }
    /// What it is a part of.
    public let iommufd: Iommufd
    /// The kernel's number for it.
    public let id: UInt32
    private var mappings = MappingTable<UInt64>()
    private var attached: [Descriptor] = []

    init(_ iommufd: Iommufd, _ id: UInt32) {
        self.iommufd = iommufd
        self.id = id
    }

    deinit {
        for device in attached { detachFromKernel(device) }
        for record in mappings.all { try? unmap(record.mapping) }
        try? iommufd.destroy(id)
    }

    /// What it can map.
    public var limits: DMALimits {
        let ranges = (try? usableAddresses())?.addresses ?? []
        // The kernel's granule for an address is at most a page, and ours is a page: memory is mapped in pages.
        return DMALimits(
            pageSizes: frameByteCount, addresses: ranges, mappingsLeft: nil,
            lockableBytes: iommufd.account.bytesLeft)
    }
    /// Mappings made and not unmapped.
    public var liveMappings: Int { mappings.count }

    /// The addresses that can be mapped, which each attached device may narrow, and the alignment they need.
    public func usableAddresses() throws(DMABackEndError) -> (alignment: UInt64, addresses: [ClosedRange<UInt64>]) {
        var count = 16
        while true {
            var list = [causeway_iommu_iova_range](repeating: causeway_iommu_iova_range(), count: count)
            var request = causeway_iommu_ioas_iova_ranges()
            request.size = UInt32(MemoryLayout<causeway_iommu_ioas_iova_ranges>.size)
            request.ioas_id = id
            request.num_iovas = UInt32(count)
            do throws(Errno) {
                _ = try iommufd.kernel.call(
                    iommufd.descriptor, Int(CAUSEWAY_IOMMU_IOAS_IOVA_RANGES), &request, list: &list, at: \.allowed_iovas)
                let ranges = list.prefix(Int(request.num_iovas)).filter { $0.start <= $0.last }.map { $0.start...$0.last }
                return (max(1, request.out_iova_alignment), ranges)
            } catch {
                // EMSGSIZE comes with the number that would do.
                guard error == .messageSize, Int(request.num_iovas) > count, request.num_iovas < 1 << 20 else {
                    throw .kernel("IOMMU_IOAS_IOVA_RANGES of \(id)", error)
                }
                count = Int(request.num_iovas)
            }
        }
    }

    /// Keeps these addresses usable: a device that cannot take all of them cannot be attached any more, and the kernel
    /// chooses addresses among them only.
    public func allow(_ addresses: [ClosedRange<UInt64>]) throws(DMABackEndError) {
        var list = addresses.map { causeway_iommu_iova_range(start: $0.lowerBound, last: $0.upperBound) }
        var request = causeway_iommu_ioas_allow_iovas()
        request.size = UInt32(MemoryLayout<causeway_iommu_ioas_allow_iovas>.size)
        request.ioas_id = id
        request.num_iovas = UInt32(list.count)
        do throws(Errno) {
            _ = try iommufd.kernel.call(
                iommufd.descriptor, Int(CAUSEWAY_IOMMU_IOAS_ALLOW_IOVAS), &request, list: &list, at: \.allowed_iovas)
        } catch { throw .kernel("IOMMU_IOAS_ALLOW_IOVAS of \(id)", error) }
    }

    /// See `DMABackEnd`.
    public func map(_ memory: MemoryRun, _ direction: DMADirection) throws(DMABackEndError) -> BackEndMapping {
        try map(memory, direction, at: nil)
    }

    /// As the protocol has it, and at an address of the caller's choice if one is given.
    public func map(_ memory: MemoryRun, _ direction: DMADirection, at wanted: Iova?) throws(DMABackEndError) -> BackEndMapping {
        if let wanted, wanted.rawValue & (frameByteCount - 1) != 0 {
            throw .misaligned(wanted.rawValue, granule: frameByteCount)
        }
        let writes = direction.writesMemory
        let (iova, set): (UInt64, UInt64)
        if let known = iommufd.pinned.source(memory, writes: writes) {
            iova = try copy(known.source, memory, direction, wanted)
            set = known.serial
            iommufd.pinned.add(memory, set: set, PinnedMemory.Source(space: id, iova: iova))
        } else {
            // A space without a device pins nothing yet; it will when one is attached, which then must not fail for
            // want of a limit.
            try iommufd.account.charge(memory.byteCount)
            do throws(DMABackEndError) { iova = try mapNew(memory, direction, wanted) } catch {
                iommufd.account.release(memory.byteCount)
                throw error
            }
            set = iommufd.pinned.add(memory, writes: writes, PinnedMemory.Source(space: id, iova: iova))
        }
        return mappings.add(memory, BackEndMapping.segments(from: iova, byteCount: memory.byteCount), direction, set)
    }

    private func flags(_ direction: DMADirection, _ wanted: Iova?) -> UInt32 {
        var flags: Int = 0
        if direction.readsMemory { flags |= Int(CAUSEWAY_IOMMU_IOAS_MAP_READABLE) }
        if direction.writesMemory { flags |= Int(CAUSEWAY_IOMMU_IOAS_MAP_WRITEABLE) }
        if wanted != nil { flags |= Int(CAUSEWAY_IOMMU_IOAS_MAP_FIXED_IOVA) }
        return UInt32(flags)
    }

    private func mapNew(_ memory: MemoryRun, _ direction: DMADirection, _ wanted: Iova?) throws(DMABackEndError) -> UInt64 {
        var request = causeway_iommu_ioas_map()
        request.size = UInt32(MemoryLayout<causeway_iommu_ioas_map>.size)
        request.flags = flags(direction, wanted)
        request.ioas_id = id
        request.user_va = memory.address
        request.length = memory.byteCount
        request.iova = wanted?.rawValue ?? 0
        try attempt("IOMMU_IOAS_MAP of \(memory)", CAUSEWAY_IOMMU_IOAS_MAP, &request, memory, wanted)
        return request.iova
    }

    private func copy(
        _ source: PinnedMemory.Source, _ memory: MemoryRun, _ direction: DMADirection, _ wanted: Iova?
    ) throws(DMABackEndError) -> UInt64 {
        var request = causeway_iommu_ioas_copy()
        request.size = UInt32(MemoryLayout<causeway_iommu_ioas_copy>.size)
        request.flags = flags(direction, wanted)
        request.dst_ioas_id = id
        request.src_ioas_id = source.space
        request.length = memory.byteCount
        request.dst_iova = wanted?.rawValue ?? 0
        request.src_iova = source.iova
        try attempt("IOMMU_IOAS_COPY of \(memory)", CAUSEWAY_IOMMU_IOAS_COPY, &request, memory, wanted)
        return request.dst_iova
    }

    private func attempt<T: BitwiseCopyable>(
        _ what: String, _ number: Int, _ request: inout T, _ memory: MemoryRun, _ wanted: Iova?
    ) throws(DMABackEndError) {
        do throws(Errno) { _ = try iommufd.kernel.call(iommufd.descriptor, number, &request) } catch {
            switch (error, wanted) {
            case (.exists, let wanted?): throw .overlaps(wanted, byteCount: memory.byteCount)
            // A reserved address, which no device may be given.
            case (.invalid, let wanted?), (.overflow, let wanted?): throw .outsideAddresses(wanted, byteCount: memory.byteCount)
            case (.noSpace, _): throw .noAddresses(byteCount: memory.byteCount, largest: largestRange())
            default: throw .kernel(what, error)
            }
        }
    }

    /// An upper bound: what is mapped within is not told by the kernel.
    private func largestRange() -> UInt64 {
        let ranges = (try? usableAddresses())?.addresses ?? []
        return ranges.map { $0.upperBound - $0.lowerBound }.max() ?? 0
    }

    /// The whole mapping; the kernel refuses to cut one.
    public func unmap(_ mapping: BackEndMapping) throws(DMABackEndError) {
        let record = try mappings.find(mapping)
        var request = causeway_iommu_ioas_unmap()
        request.size = UInt32(MemoryLayout<causeway_iommu_ioas_unmap>.size)
        request.ioas_id = id
        request.iova = mapping.address.rawValue
        request.length = mapping.byteCount
        try iommufd.call("IOMMU_IOAS_UNMAP of \(mapping)", CAUSEWAY_IOMMU_IOAS_UNMAP, &request)
        guard request.length == mapping.byteCount else {
            throw .unmappedOther(byteCount: mapping.byteCount, ended: request.length)
        }
        let source = PinnedMemory.Source(space: id, iova: mapping.address.rawValue)
        if iommufd.pinned.remove(record.memory, set: record.detail, source) { iommufd.account.release(mapping.byteCount) }
        mappings.remove(mapping)
    }

    /// See `DMABackEnd`.
    public func sync(_ mapping: BackEndMapping, offset: UInt64, byteCount: UInt64, for side: DMASide) throws(DMABackEndError) {
        // The device reaches the memory itself, and iommufd demands cache coherence.
        try mappings.check(mapping, offset, byteCount)
    }

    /// Nothing to wait for: the kernel invalidates before it unpins, and answers after.
    public func flush() {}

    /// Becomes readable when there is something for `takeFaults`.
    public var faultDescriptor: Descriptor? { iommufd.faultDescriptor }
    /// Those of all devices of the descriptor.
    public func takeFaults() -> DMAFaults { iommufd.takeFaults() }

    // MARK: Devices

    /// Binds a VFIO device (its character device, `/dev/vfio/devices/vfio0`) and gives it this address space. Its
    /// restrictions narrow `usableAddresses`; what is mapped outside of them makes this fail. Returns the device, for
    /// the driver: its registers, its interrupts.
    @discardableResult
    public func attach(_ path: String) throws(DMABackEndError) -> Descriptor {
        let device: Descriptor
        do throws(Errno) { device = try iommufd.kernel.open(path) } catch {
            throw .unavailable(name: Self.name, what: path, why: "\(error)")
        }
        var binding = causeway_vfio_bind_iommufd()
        binding.argsz = UInt32(MemoryLayout<causeway_vfio_bind_iommufd>.size)
        binding.iommufd = iommufd.descriptor.rawValue
        do throws(Errno) { _ = try iommufd.kernel.call(device, Int(CAUSEWAY_VFIO_DEVICE_BIND_IOMMUFD), &binding) } catch {
            throw .kernel("VFIO_DEVICE_BIND_IOMMUFD of \(path)", error)
        }
        var request = causeway_vfio_attach_iommufd_pt()
        request.argsz = UInt32(MemoryLayout<causeway_vfio_attach_iommufd_pt>.size)
        request.pt_id = id
        do throws(Errno) {
            _ = try iommufd.kernel.call(device, Int(CAUSEWAY_VFIO_DEVICE_ATTACH_IOMMUFD_PT), &request)
        } catch { throw .kernel("VFIO_DEVICE_ATTACH_IOMMUFD_PT of \(path)", error) }
        attached.append(device)
        return device
    }

    private func detachFromKernel(_ device: Descriptor) {
        var request = causeway_vfio_detach_iommufd_pt()
        request.argsz = UInt32(MemoryLayout<causeway_vfio_detach_iommufd_pt>.size)
        _ = try? iommufd.kernel.call(device, Int(CAUSEWAY_VFIO_DEVICE_DETACH_IOMMUFD_PT), &request)
    }

    /// `iommufd space 2: 3 mappings, 12288 of 8388608 bytes locked`.
    public var description: String { "\(name) space \(id): \(liveMappings) mappings, \(iommufd.account)" }
}
