// The machine's IOMMU by way of VFIO type1, version 2 (linux: <linux/vfio.h>, "API for Type1 VFIO IOMMU"): a container
// holds a group of devices and one address space for them. The driver chooses the addresses; the kernel pins the
// memory, counts it and maps it.

import CLinux
import DMA
import FrameMaps
import LinuxSystem

/// A container with one group in it.
public final class VFIOContainer: DMABackEnd {
    /// What it is chosen by.
    public static let name = "vfio-type1"
    /// What it is chosen by.
    public var name: String { Self.name }
    /// The group's node, as `/dev/vfio/12`.
    public let groupPath: String
    let kernel: any IommuKernel
    let container: Descriptor
    let group: Descriptor
    /// What the container said when it was made.
    let info: VFIOInfo
    private let account: LockedMemoryAccount
    private var space: IovaSpace
    /// Addresses that are kept free for one mapping each: first byte and count.
    private var reserved: [UInt64: UInt64] = [:]
    var mappings = MappingTable<Void>()
    private var errors: (device: String, event: Descriptor)?

    /// Opens a container and puts a group into it. All of the group's devices must be bound to VFIO.
    public init(
        group path: String, account: LockedMemoryAccount = .ofThisProcess, kernel: any IommuKernel = RunningKernel()
    ) throws(DMABackEndError) {
        groupPath = path
        self.kernel = kernel
        self.account = account
        container = try Self.open("/dev/vfio/vfio", kernel)
        let version = (try? kernel.call(container, Int(CAUSEWAY_VFIO_GET_API_VERSION), value: 0)) ?? -1
        guard version == Int(VFIO_API_VERSION) else { throw .unsupported("VFIO API of version \(VFIO_API_VERSION)") }
        guard Self.has(Int(VFIO_TYPE1v2_IOMMU), container, kernel) else { throw .unsupported("VFIO type1 (version 2)") }
        group = try Self.open(path, kernel)
        try Self.join(group, path, container, kernel)
        info = try VFIOInfo(container, kernel)
        space = IovaSpace(addresses: info.addresses, granule: info.granule)
    }

    /// Goes on with a container that a predecessor of this process made, and its group. What that one had mapped stays
    /// mapped until `forgetPredecessor`.
    public init(
        adopting container: Descriptor, group: Descriptor, groupPath: String, account: LockedMemoryAccount = .ofThisProcess,
        kernel: any IommuKernel = RunningKernel()
    ) throws(DMABackEndError) {
        (self.container, self.group, self.groupPath) = (container, group, groupPath)
        (self.account, self.kernel) = (account, kernel)
        info = try VFIOInfo(container, kernel)
        space = IovaSpace(addresses: info.addresses, granule: info.granule)
    }

    /// What a successor goes on with.
    public var descriptors: (container: Descriptor, group: Descriptor) { (container, group) }

    /// Unmaps everything, which is all a predecessor's: nothing was mapped by this process yet, and nothing is under
    /// way to what the other had mapped.
    public func forgetPredecessor() throws(DMABackEndError) {
        precondition(mappings.count == 0, "a container whose mappings are this process's")
        for range in info.addresses {
            var start = range.lowerBound
            // Whole mappings only are ended, and none crosses a border between usable ranges; 2^64 bytes are no number.
            let end = range.upperBound == .max ? UInt64.max - info.granule : range.upperBound
            start &= ~(info.granule - 1)
            var request = causeway_vfio_dma_unmap()
            request.argsz = UInt32(MemoryLayout<causeway_vfio_dma_unmap>.size)
            request.iova = start
            request.size = (end - start + 1) & ~(info.granule - 1)
            if request.size == 0 { continue }
            do throws(Errno) { _ = try kernel.call(container, Int(CAUSEWAY_VFIO_IOMMU_UNMAP_DMA), &request) } catch {
                throw .kernel("VFIO_IOMMU_UNMAP_DMA of everything", error)
            }
        }
    }

    /// Keeps addresses free for a mapping that asks for just these; nothing if they are not.
    public func reserve(_ start: UInt64, _ byteCount: UInt64) {
        if byteCount > 0, space.mayHold(start, byteCount), space.take(at: start, byteCount) { reserved[start] = byteCount }
    }

    deinit {
        // Closing the container ends what is left; so do we first, so that the account and the memory follow the
        // kernel.
        for record in mappings.all { try? unmap(record.mapping) }
    }

    private static func open(_ path: String, _ kernel: any IommuKernel) throws(DMABackEndError) -> Descriptor {
        do throws(Errno) { return try kernel.open(path) } catch {
            throw .unavailable(name: name, what: path, why: "\(error)")
        }
    }

    private static func has(_ number: Int, _ container: Descriptor, _ kernel: any IommuKernel) -> Bool {
        ((try? kernel.call(container, Int(CAUSEWAY_VFIO_CHECK_EXTENSION), value: number)) ?? 0) > 0
    }

    private static func join(
        _ group: Descriptor, _ path: String, _ container: Descriptor, _ kernel: any IommuKernel
    ) throws(DMABackEndError) {
        var status = vfio_group_status()
        status.argsz = UInt32(MemoryLayout<vfio_group_status>.size)
        do throws(Errno) { _ = try kernel.call(group, Int(CAUSEWAY_VFIO_GROUP_GET_STATUS), &status) } catch {
            throw .kernel("VFIO_GROUP_GET_STATUS of \(path)", error)
        }
        guard status.flags & UInt32(VFIO_GROUP_FLAGS_VIABLE) != 0 else {
            throw .unavailable(name: name, what: path, why: "a device of the group is not bound to VFIO")
        }
        var number = container.rawValue
        do throws(Errno) { _ = try kernel.call(group, Int(CAUSEWAY_VFIO_GROUP_SET_CONTAINER), &number) } catch {
            throw .kernel("VFIO_GROUP_SET_CONTAINER of \(path)", error)
        }
        do throws(Errno) {
            _ = try kernel.call(container, Int(CAUSEWAY_VFIO_SET_IOMMU), value: Int(VFIO_TYPE1v2_IOMMU))
        } catch { throw .kernel("VFIO_SET_IOMMU for \(path)", error) }
    }

    /// A device of the group, such as `0000:06:0d.0`, for the driver: its registers, its interrupts.
    public func device(_ address: String) throws(DMABackEndError) -> Descriptor { try Self.device(address, of: group, kernel) }

    static func device(_ address: String, of group: Descriptor, _ kernel: any IommuKernel) throws(DMABackEndError) -> Descriptor {
        do throws(Errno) {
            return Descriptor(owning: Int32(try kernel.call(group, Int(CAUSEWAY_VFIO_GROUP_GET_DEVICE_FD), text: address)))
        } catch { throw .kernel("VFIO_GROUP_GET_DEVICE_FD of \(address)", error) }
    }

    /// What it can map.
    public var limits: DMALimits {
        DMALimits(
            pageSizes: info.pageSizes, addresses: info.addresses,
            mappingsLeft: info.mappingsAvailable.map { max(0, $0 - mappings.count) }, lockableBytes: account.bytesLeft)
    }
    /// Mappings made and not unmapped.
    public var liveMappings: Int { mappings.count }

    /// See `DMABackEnd`.
    public func map(_ memory: MemoryRun, _ direction: DMADirection) throws(DMABackEndError) -> BackEndMapping {
        try map(memory, direction, at: nil)
    }

    /// As the protocol has it, and at an address of the caller's choice if one is given.
    public func map(_ memory: MemoryRun, _ direction: DMADirection, at wanted: Iova?) throws(DMABackEndError) -> BackEndMapping {
        for value in [memory.address, memory.byteCount, wanted?.rawValue ?? 0] where value & (info.granule - 1) != 0 {
            throw .misaligned(value, granule: info.granule)
        }
        if let most = info.mappingsAvailable, mappings.count >= most { throw .tooManyMappings(mappings.count) }
        let start = try place(memory, wanted)
        do throws(DMABackEndError) {
            // Counted for each mapping, also of memory that is mapped already: so does type1.
            try account.charge(memory.byteCount)
            do throws(DMABackEndError) { try mapAt(start, memory, direction) } catch {
                account.release(memory.byteCount)
                throw error
            }
        } catch {
            space.giveBack(start, memory.byteCount)
            throw error
        }
        return mappings.add(memory, BackEndMapping.segments(from: start, byteCount: memory.byteCount), direction, ())
    }

    private func place(_ memory: MemoryRun, _ wanted: Iova?) throws(DMABackEndError) -> UInt64 {
        let count = memory.byteCount
        if let wanted, reserved[wanted.rawValue] == count {
            reserved[wanted.rawValue] = nil
            return wanted.rawValue
        }
        if let wanted {
            guard space.mayHold(wanted.rawValue, count) else { throw .outsideAddresses(wanted, byteCount: count) }
            guard space.take(at: wanted.rawValue, count) else { throw .overlaps(wanted, byteCount: count) }
            return wanted.rawValue
        }
        let large = info.alignment(for: count)
        if let start = space.take(count, alignment: large, residue: memory.address & (large - 1)) { return start }
        if let start = space.take(count, alignment: info.granule, residue: 0) { return start }
        throw .noAddresses(byteCount: count, largest: space.largest)
    }

    private func mapAt(_ start: UInt64, _ memory: MemoryRun, _ direction: DMADirection) throws(DMABackEndError) {
        var request = vfio_iommu_type1_dma_map()
        request.argsz = UInt32(MemoryLayout<vfio_iommu_type1_dma_map>.size)
        if direction.readsMemory { request.flags |= UInt32(VFIO_DMA_MAP_FLAG_READ) }
        if direction.writesMemory { request.flags |= UInt32(VFIO_DMA_MAP_FLAG_WRITE) }
        request.vaddr = memory.address
        request.iova = start
        request.size = memory.byteCount
        do throws(Errno) { _ = try kernel.call(container, Int(CAUSEWAY_VFIO_IOMMU_MAP_DMA), &request) } catch {
            let iova = Iova(rawValue: start)
            switch error {
            case .exists: throw .overlaps(iova, byteCount: memory.byteCount)
            case .noSpace: throw .tooManyMappings(mappings.count)
            default: throw .kernel("VFIO_IOMMU_MAP_DMA of \(memory) at \(iova)", error)
            }
        }
    }

    /// The whole mapping; version 2 refuses to cut one.
    public func unmap(_ mapping: BackEndMapping) throws(DMABackEndError) {
        let record = try mappings.find(mapping)
        var request = causeway_vfio_dma_unmap()
        request.argsz = UInt32(MemoryLayout<causeway_vfio_dma_unmap>.size)
        request.iova = mapping.address.rawValue
        request.size = mapping.byteCount
        do throws(Errno) { _ = try kernel.call(container, Int(CAUSEWAY_VFIO_IOMMU_UNMAP_DMA), &request) } catch {
            throw .kernel("VFIO_IOMMU_UNMAP_DMA of \(mapping)", error)
        }
        // Success with less than was asked for is no success: the device may still reach the memory (attacks.md PM5).
        guard request.size == mapping.byteCount else {
            throw .unmappedOther(byteCount: mapping.byteCount, ended: request.size)
        }
        space.giveBack(mapping.address.rawValue, mapping.byteCount)
        account.release(record.memory.byteCount)
        mappings.remove(mapping)
    }

    /// See `DMABackEnd`.
    public func sync(_ mapping: BackEndMapping, offset: UInt64, byteCount: UInt64, for side: DMASide) throws(DMABackEndError) {
        // The device reaches the memory itself, and VFIO takes coherent devices only.
        try mappings.check(mapping, offset, byteCount)
    }

    /// Nothing to wait for: the kernel invalidates before it unpins, and answers after.
    public func flush() {}

    // MARK: Faults

    /// Becomes readable when there is something for `takeFaults`.
    public var faultDescriptor: Descriptor? { errors?.event }

    /// From now on a device's uncorrected errors are faults. VFIO tells that there was one, not where.
    /// - Parameters:
    ///   - device: from `device(_:)`.
    ///   - name: what the faults call it.
    public func reportErrors(of device: Descriptor, name: String) throws(DMABackEndError) {
        let raw = causeway_eventfd()
        guard raw >= 0 else { throw .kernel("eventfd", Errno.current) }
        let event = Descriptor(owning: raw)
        var request = causeway_vfio_irq_event()
        request.argsz = UInt32(MemoryLayout<causeway_vfio_irq_event>.size)
        request.flags = UInt32(VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
        request.index = UInt32(VFIO_PCI_ERR_IRQ_INDEX)
        request.count = 1
        request.event = raw
        do throws(Errno) { _ = try kernel.call(device, Int(CAUSEWAY_VFIO_DEVICE_SET_IRQS), &request) } catch {
            throw .kernel("VFIO_DEVICE_SET_IRQS of \(name)", error)
        }
        errors = (name, event)
    }

    /// See `DMABackEnd`.
    public func takeFaults() -> DMAFaults {
        var result = DMAFaults()
        guard let errors else { return result }
        let count = errors.event.takeCount()
        if count > 0 { result.add(DMAFault(device: errors.device, iova: nil, cause: .deviceError), count: count) }
        return result
    }

    /// `vfio-type1 /dev/vfio/12: 3 mappings, 12288 of 8388608 bytes locked`.
    public var description: String { "\(name) \(groupPath): \(liveMappings) mappings, \(account)" }
}
