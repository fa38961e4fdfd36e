// A kernel for the back ends: VFIO type1 (version 2) and iommufd by the rules of linux' drivers/vfio/vfio_iommu_type1.c
// and drivers/iommu/iommufd, written from their documentation and read back from the bytes that a system call would
// carry. It knows the pages by their addresses only.

import CLinux
import Glibc
import HostIommu
import LinuxSystem

final class FakeKernel: IommuKernel, @unchecked Sendable {
    // What the machine is like.
    var pageSizes: UInt64 = 1 << 12 | 1 << 21 | 1 << 30
    var usable: [ClosedRange<UInt64>] = [0...0xFEDF_FFFF, 0xFEF0_0000...(1 << 39) - 1]
    var mappingLimit = 65535
    var lockLimit: UInt64 = .max
    var missing: Set<String> = []
    var isViable = true
    var tracksDirty = true
    var hasFaultQueue = true
    var maySetOptions = true
    /// What a request fails with, once for each element; nil lets it pass.
    var failures: [Int: [Int32?]] = [:]
    /// Unmaps that claim to have done less than they were asked for.
    var shortUnmaps = 0
    /// Every request seen.
    private(set) var calls: [Int] = []

    // VFIO.
    private(set) var container: [Type1Mapping] = []
    private var isJoined = false
    private var hasIommu = false
    private(set) var isTracking = false
    private var files: [Int32: String] = [:]
    private(set) var errorEvent: Int32?
    /// What the first MSI-X vectors count in.
    private(set) var vectorEvents: [Int32] = []

    // iommufd; see FakeKernel+Iommufd.swift.
    var spaces: [UInt32: Space] = [:]
    var nextID: UInt32 = 1
    var byProcess = false
    var attachments: [Int32: UInt32] = [:]
    var bound: Set<Int32> = []
    /// The tests' end of the fault queue.
    var faultPeer: Int32 = -1

    struct Type1Mapping {
        var iova: UInt64
        var size: UInt64
        var address: UInt64
        var flags: UInt32
        var dirty: Set<UInt64> = []
        var end: UInt64 { iova &+ size }
    }
    final class Pages {
        let address: UInt64
        let length: UInt64
        let isWritable: Bool
        init(_ address: UInt64, _ length: UInt64, _ isWritable: Bool) {
            (self.address, self.length, self.isWritable) = (address, length, isWritable)
        }
    }
    struct Area {
        var iova: UInt64
        var length: UInt64
        var pages: Pages
        var flags: UInt32
        var end: UInt64 { iova &+ length }
    }
    struct Space {
        var areas: [Area] = []
        var allowed: [ClosedRange<UInt64>] = []
        var reserved: [ClosedRange<UInt64>] = []
    }

    deinit { if faultPeer >= 0 { close(faultPeer) } }

    func open(_ path: String) throws(Errno) -> Descriptor {
        if missing.contains(path) { throw Errno(ENOENT) }
        let descriptor = try Descriptor.open("/dev/null", O_RDWR)
        files[descriptor.rawValue] = path
        return descriptor
    }

    func control(_ descriptor: Descriptor, _ request: Int, _ argument: UnsafeMutableRawPointer?) -> Int {
        calls.append(request)
        if let planned = failures[request], !planned.isEmpty {
            failures[request]!.removeFirst()
            if let error = planned[0] { return -Int(error) }
        }
        switch request {
        case CAUSEWAY_VFIO_GET_API_VERSION: return 0
        case CAUSEWAY_VFIO_CHECK_EXTENSION: return UInt(bitPattern: argument) == 3 ? 1 : 0
        case CAUSEWAY_VFIO_SET_IOMMU:
            guard isJoined, UInt(bitPattern: argument) == 3 else { return -Int(EINVAL) }
            hasIommu = true
            return 0
        case CAUSEWAY_VFIO_GROUP_GET_DEVICE_FD: return Int(dup(descriptor.rawValue))
        default: break
        }
        guard let argument else { return -Int(EFAULT) }
        return structured(descriptor, request, argument)
    }

    private func structured(_ descriptor: Descriptor, _ request: Int, _ bytes: UnsafeMutableRawPointer) -> Int {
        let size = bytes.load(as: UInt32.self)
        switch request {
        case CAUSEWAY_VFIO_GROUP_GET_STATUS:
            guard size >= 8 else { return -Int(EINVAL) }
            bytes.storeBytes(of: isViable ? 1 : 0, toByteOffset: 4, as: UInt32.self)
            return 0
        case CAUSEWAY_VFIO_GROUP_SET_CONTAINER:
            guard files[bytes.load(as: Int32.self)] == "/dev/vfio/vfio" else { return -Int(EINVAL) }
            isJoined = true
            return 0
        case CAUSEWAY_VFIO_DEVICE_SET_IRQS:
            if bytes.load(fromByteOffset: 8, as: UInt32.self) == 2 {
                let count = Int(bytes.load(fromByteOffset: 16, as: UInt32.self))
                if count == 0, size == 20, bytes.load(fromByteOffset: 4, as: UInt32.self) == 0x21 {
                    vectorEvents = []
                    return 0
                }
                guard size == 20 + 4 * count, bytes.load(fromByteOffset: 4, as: UInt32.self) == 0x24 else { return -Int(EINVAL) }
                vectorEvents = (0..<count).map { bytes.load(fromByteOffset: 20 + 4 * $0, as: Int32.self) }
                return 0
            }
            guard size == 24, bytes.load(fromByteOffset: 8, as: UInt32.self) == 3 else { return -Int(EINVAL) }
            errorEvent = bytes.load(fromByteOffset: 20, as: Int32.self)
            return 0
        case CAUSEWAY_VFIO_DEVICE_GET_REGION_INFO: return size != 32 ? -Int(EINVAL) : 0
        case CAUSEWAY_VFIO_DEVICE_GET_IRQ_INFO:
            guard size == 16, bytes.load(fromByteOffset: 8, as: UInt32.self) == 2 else { return -Int(EINVAL) }
            bytes.storeBytes(of: 9, toByteOffset: 4, as: UInt32.self)
            bytes.storeBytes(of: 65, toByteOffset: 12, as: UInt32.self)
            return 0
        case CAUSEWAY_VFIO_IOMMU_GET_INFO: return size < 16 ? -Int(EINVAL) : type1Info(bytes, Int(size))
        case CAUSEWAY_VFIO_IOMMU_MAP_DMA: return size < 32 ? -Int(EINVAL) : type1Map(bytes)
        case CAUSEWAY_VFIO_IOMMU_UNMAP_DMA: return size < 24 ? -Int(EINVAL) : type1Unmap(bytes)
        case CAUSEWAY_VFIO_IOMMU_DIRTY_PAGES: return size < 8 ? -Int(EINVAL) : type1Dirty(bytes, size)
        case CAUSEWAY_IOMMU_IOAS_ALLOC: return size != 12 ? -Int(EINVAL) : allocate(bytes)
        case CAUSEWAY_IOMMU_DESTROY: return destroy(bytes.load(fromByteOffset: 4, as: UInt32.self))
        case CAUSEWAY_IOMMU_IOAS_IOVA_RANGES: return size != 32 ? -Int(EINVAL) : ranges(bytes)
        case CAUSEWAY_IOMMU_IOAS_ALLOW_IOVAS: return size != 24 ? -Int(EINVAL) : allow(bytes)
        case CAUSEWAY_IOMMU_IOAS_MAP: return size != 40 ? -Int(EINVAL) : mapArea(bytes)
        case CAUSEWAY_IOMMU_IOAS_COPY: return size != 40 ? -Int(EINVAL) : copyArea(bytes)
        case CAUSEWAY_IOMMU_IOAS_UNMAP: return size != 24 ? -Int(EINVAL) : unmapAreas(bytes)
        case CAUSEWAY_IOMMU_OPTION: return size != 24 ? -Int(EINVAL) : option(bytes)
        case CAUSEWAY_IOMMU_FAULT_QUEUE_ALLOC: return hasFaultQueue ? makeFaultQueue(bytes) : -Int(ENOTTY)
        case CAUSEWAY_VFIO_DEVICE_BIND_IOMMUFD:
            guard files[bytes.load(fromByteOffset: 8, as: Int32.self)] == "/dev/iommu" else { return -Int(EBADF) }
            bound.insert(descriptor.rawValue)
            return 0
        case CAUSEWAY_VFIO_DEVICE_ATTACH_IOMMUFD_PT: return attach(descriptor.rawValue, bytes)
        case CAUSEWAY_VFIO_DEVICE_DETACH_IOMMUFD_PT:
            attachments[descriptor.rawValue] = nil
            return 0
        default: return -Int(ENOTTY)
        }
    }

    func word(_ bytes: UnsafeMutableRawPointer, _ offset: Int) -> UInt64 {
        bytes.load(fromByteOffset: offset, as: UInt64.self)
    }
    func half(_ bytes: UnsafeMutableRawPointer, _ offset: Int) -> UInt32 {
        bytes.load(fromByteOffset: offset, as: UInt32.self)
    }
    private var granule: UInt64 { pageSizes & (~pageSizes &+ 1) }

    // MARK: type1

    private func type1Info(_ bytes: UnsafeMutableRawPointer, _ size: Int) -> Int {
        guard hasIommu else { return -Int(ENOTTY) }
        let rangesAt = 24, migrationAt = rangesAt + 16 + usable.count * 16
        let availableAt = migrationAt + (tracksDirty ? 32 : 0), total = availableAt + 16
        bytes.storeBytes(of: 3, toByteOffset: 4, as: UInt32.self)
        bytes.storeBytes(of: pageSizes, toByteOffset: 8, as: UInt64.self)
        if size < total {
            bytes.storeBytes(of: UInt32(total), as: UInt32.self)
            return 0
        }
        bytes.storeBytes(of: UInt32(rangesAt), toByteOffset: 16, as: UInt32.self)
        func header(_ at: Int, _ id: UInt16, _ next: Int) {
            bytes.storeBytes(of: id, toByteOffset: at, as: UInt16.self)
            bytes.storeBytes(of: 1, toByteOffset: at + 2, as: UInt16.self)
            bytes.storeBytes(of: UInt32(next), toByteOffset: at + 4, as: UInt32.self)
        }
        header(rangesAt, 1, tracksDirty ? migrationAt : availableAt)
        bytes.storeBytes(of: UInt32(usable.count), toByteOffset: rangesAt + 8, as: UInt32.self)
        for (index, range) in usable.enumerated() {
            bytes.storeBytes(of: range.lowerBound, toByteOffset: rangesAt + 16 + index * 16, as: UInt64.self)
            bytes.storeBytes(of: range.upperBound, toByteOffset: rangesAt + 24 + index * 16, as: UInt64.self)
        }
        if tracksDirty {
            header(migrationAt, 2, availableAt)
            bytes.storeBytes(of: granule, toByteOffset: migrationAt + 16, as: UInt64.self)
            bytes.storeBytes(of: 1 << 28, toByteOffset: migrationAt + 24, as: UInt64.self)
        }
        header(availableAt, 3, 0)
        bytes.storeBytes(of: UInt32(mappingLimit - container.count), toByteOffset: availableAt + 8, as: UInt32.self)
        return 0
    }

    /// Bytes that count against the limit: each type1 mapping, each set of pages of a space with a device.
    var locked: UInt64 {
        let attached = Set(attachments.values)
        var sets: [ObjectIdentifier: UInt64] = [:]
        for id in attached { for area in spaces[id]?.areas ?? [] { sets[ObjectIdentifier(area.pages)] = area.pages.length } }
        return container.reduce(0) { $0 + $1.size } + sets.values.reduce(0, +)
    }

    private func type1Map(_ bytes: UnsafeMutableRawPointer) -> Int {
        let (flags, address, iova, size) = (half(bytes, 4), word(bytes, 8), word(bytes, 16), word(bytes, 24))
        guard hasIommu, flags & ~3 == 0, flags & 3 != 0 else { return -Int(EINVAL) }
        if size == 0 || (size | address | iova) & (granule - 1) != 0 { return -Int(EINVAL) }
        if iova &+ (size - 1) < iova || address &+ (size - 1) < address { return -Int(EINVAL) }
        if container.contains(where: { $0.iova <= iova + (size - 1) && iova <= $0.iova + ($0.size - 1) }) { return -Int(EEXIST) }
        if container.count >= mappingLimit { return -Int(ENOSPC) }
        if !usable.contains(where: { $0.lowerBound <= iova && iova + (size - 1) <= $0.upperBound }) { return -Int(EINVAL) }
        if size > lockLimit || locked > lockLimit - size { return -Int(ENOMEM) }
        container.append(Type1Mapping(iova: iova, size: size, address: address, flags: flags))
        return 0
    }

    private func type1Unmap(_ bytes: UnsafeMutableRawPointer) -> Int {
        let (flags, iova, size) = (half(bytes, 4), word(bytes, 8), word(bytes, 16))
        let isAll = flags & 2 != 0
        guard flags & ~2 == 0 else { return -Int(EINVAL) }
        if isAll ? iova != 0 || size != 0 : size == 0 || (iova | size) & (granule - 1) != 0 { return -Int(EINVAL) }
        if !isAll && iova &+ (size - 1) < iova { return -Int(EINVAL) }
        let last = isAll ? UInt64.max : iova + (size - 1)
        let hit = container.filter { $0.iova <= last && iova <= $0.iova + ($0.size - 1) }
        // Version 2: nothing is cut.
        if hit.contains(where: { $0.iova < iova || $0.iova + ($0.size - 1) > last }) { return -Int(EINVAL) }
        if shortUnmaps > 0 {
            shortUnmaps -= 1
            bytes.storeBytes(of: 0, toByteOffset: 16, as: UInt64.self)
            return 0
        }
        container.removeAll { $0.iova <= last && iova <= $0.iova + ($0.size - 1) }
        bytes.storeBytes(of: hit.reduce(0) { $0 + $1.size }, toByteOffset: 16, as: UInt64.self)
        return 0
    }

    private func type1Dirty(_ bytes: UnsafeMutableRawPointer, _ size: UInt32) -> Int {
        switch half(bytes, 4) {
        case 1: isTracking = true
        case 2: isTracking = false
        case 4:
            let (iova, length) = (word(bytes, 8), word(bytes, 16))
            guard size >= 48, isTracking, word(bytes, 24) == granule else { return -Int(EINVAL) }
            let pages = length / granule
            guard word(bytes, 32) >= (pages + 63) / 64 * 8,
                let bitmap = UnsafeMutablePointer<UInt64>(bitPattern: UInt(word(bytes, 40)))
            else { return -Int(EINVAL) }
            guard let index = container.firstIndex(where: { $0.iova == iova && $0.size == length }) else { return -Int(EINVAL) }
            for page in container[index].dirty { bitmap[Int(page / 64)] |= 1 << (page % 64) }
            container[index].dirty.removeAll()
        default: return -Int(EINVAL)
        }
        return 0
    }

    /// What the machine's IOMMU does for one access: the address in this process, or nil.
    func access(_ iova: UInt64, writes: Bool, space: UInt32? = nil) -> UnsafeMutableRawPointer? {
        if let space {
            guard let area = spaces[space]?.areas.first(where: { $0.iova <= iova && iova < $0.end }),
                area.flags & (writes ? 2 : 4) != 0
            else { return nil }
            return UnsafeMutableRawPointer(bitPattern: UInt(area.pages.address + (iova - area.iova)))
        }
        guard let index = container.firstIndex(where: { $0.iova <= iova && iova < $0.end }),
            container[index].flags & (writes ? 2 : 1) != 0
        else { return nil }
        if writes && isTracking { container[index].dirty.insert((iova - container[index].iova) / granule) }
        return UnsafeMutableRawPointer(bitPattern: UInt(container[index].address + (iova - container[index].iova)))
    }
}
