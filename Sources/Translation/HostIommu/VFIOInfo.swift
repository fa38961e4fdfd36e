// What VFIO_IOMMU_GET_INFO says: a structure and behind it a chain of capabilities, each with the offset of the next.

import CLinux
import LinuxSystem

struct VFIOInfo {
    /// A bit for each page size.
    var pageSizes: UInt64 = 1 << 12
    /// Usable addresses; all of them where the kernel does not say (before Linux 5.5).
    var addresses: [ClosedRange<UInt64>] = [0...UInt64.max]
    /// Mappings that there can be; nil: not told (before Linux 5.10).
    var mappingsAvailable: Int?
    /// The page size of the bitmap of dirty pages, and its most bytes; nil: not tracked.
    var dirty: (pageSize: UInt64, bitmapBytes: UInt64)?

    var granule: UInt64 { pageSizes & (~pageSizes &+ 1) }

    /// The largest page that a run of so many bytes could be mapped with.
    func alignment(for byteCount: UInt64) -> UInt64 {
        var sizes = pageSizes
        while sizes != 0 {
            let size: UInt64 = 1 << UInt64(63 - sizes.leadingZeroBitCount)
            if size <= byteCount { return size }
            sizes &= ~size
        }
        return granule
    }

    init(_ container: Descriptor, _ kernel: any IommuKernel) throws(DMABackEndError) {
        let fixed = MemoryLayout<vfio_iommu_type1_info>.size
        var words = [UInt64](repeating: 0, count: (fixed + 7) / 8)
        // Asked twice: the first answer says how long the second is.
        for _ in 0..<2 {
            let size = words.count * 8
            Self.store(UInt32(size), at: 0, in: &words)
            do throws(Errno) { try kernel.call(container, Int(CAUSEWAY_VFIO_IOMMU_GET_INFO), words: &words) } catch {
                throw .kernel("VFIO_IOMMU_GET_INFO", error)
            }
            let wanted = Int(Self.load32(0, words) ?? 0)
            if wanted <= size || wanted > 1 << 20 { break }
            words = [UInt64](repeating: 0, count: (wanted + 7) / 8)
        }
        parse(words)
        guard pageSizes != 0 else { throw .unsupported("IOMMU page size for this container") }
    }

    private mutating func parse(_ words: [UInt64]) {
        let flags = Self.load32(4, words) ?? 0
        if flags & UInt32(VFIO_IOMMU_INFO_PGSIZES) != 0 { pageSizes = Self.load64(8, words) ?? 0 }
        guard flags & UInt32(VFIO_IOMMU_INFO_CAPS) != 0 else { return }
        var next = Int(Self.load32(16, words) ?? 0)
        // Each step goes forward, so that a chain cannot lead in a circle.
        while next != 0, let header = Self.load32(next, words), let following = Self.load32(next + 4, words) {
            capability(Int(header & 0xFFFF), next, words)
            if Int(following) <= next { break }
            next = Int(following)
        }
    }

    private mutating func capability(_ id: Int, _ at: Int, _ words: [UInt64]) {
        switch id {
        case Int(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE):
            var ranges: [ClosedRange<UInt64>] = []
            for index in 0..<Int(Self.load32(at + 8, words) ?? 0) {
                guard let start = Self.load64(at + 16 + index * 16, words), let end = Self.load64(at + 24 + index * 16, words)
                else { break }
                if start <= end { ranges.append(start...end) }
            }
            addresses = ranges
        case Int(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION):
            // After three 32-bit words and padding: page sizes and the bitmap's limit.
            if let sizes = Self.load64(at + 16, words), let most = Self.load64(at + 24, words), sizes != 0 {
                dirty = (sizes & (~sizes &+ 1), most)
            }
        case Int(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL):
            mappingsAvailable = Self.load32(at + 8, words).map { Int($0) }
        default: break
        }
    }

    // Little-endian words, as every machine with VFIO type1 has them; nil past the end.
    private static func load32(_ offset: Int, _ words: [UInt64]) -> UInt32? {
        guard offset >= 0, offset & 3 == 0, offset / 8 < words.count else { return nil }
        return UInt32(truncatingIfNeeded: words[offset / 8] >> (UInt64(offset & 4) * 8))
    }
    private static func load64(_ offset: Int, _ words: [UInt64]) -> UInt64? {
        guard let low = load32(offset, words), let high = load32(offset + 4, words) else { return nil }
        return UInt64(high) << 32 | UInt64(low)
    }
    private static func store(_ value: UInt32, at offset: Int, in words: inout [UInt64]) {
        let shift = UInt64(offset & 4) * 8
        words[offset / 8] = words[offset / 8] & ~(0xFFFF_FFFF << shift) | UInt64(value) << shift
    }
}
