// Which machine frames a region's pages have: as the hypervisor says or, where it does not, scattered by a seed.

import FrameMaps

/// A permutation of the foreign frames: of blocks of 2 MiB, and within each block.
struct FrameScatter {
    private static let blockPages: UInt64 = 512
    private static let blockCount = BusFrames.foreignCount / blockPages
    private let blockFactor: UInt64
    private let pageFactor: UInt64
    private let addend: UInt64

    init(seed: UInt64) {
        // An odd factor makes `i * factor + addend` a permutation of a power of two of numbers, a large one sends
        // neighbours far apart, and one that is neither 1 nor -1 in those numbers leaves no two side by side.
        let number = seed &* 0x9E37_79B9_7F4A_7C15
        blockFactor = (number >> 40) & ~7 | 0x1005
        pageFactor = (number >> 20) & ~7 | 0x45
        addend = seed &* 0xBF58_476D_1CE4_E5B9
    }

    /// A region's frames, in its pages' order; nil for machine frames that are not another domain's to give. Pages by
    /// themselves; a region of more than 1 GiB, which has its blocks to itself, keeps them whole, as a machine that
    /// gives large pages would, so that it costs what its runs cost.
    func runs(of range: FrameRange<Pfn>, _ model: MemoryModel, machine: [UInt64]?) -> [FrameRange<BusFrame>]? {
        if let machine { return Self.given(machine, range.count) }
        guard model == .p2m else { return FrameRange(BusFrame(rawValue: range.start.rawValue), count: range.count).map { [$0] } }
        let isWhole = range.count > FrameMap.mostSingleForeign
        let step = isWhole ? Self.blockPages : 1
        return stride(from: range.start.rawValue, to: range.end, by: Int(step)).compactMap { pfn in
            let frame = BusFrame(rawValue: frame(for: pfn, isWhole: isWhole))
            return FrameRange(frame, count: min(step, range.end - pfn))
        }
    }

    private func frame(for pfn: UInt64, isWhole: Bool) -> UInt64 {
        let number = pfn - BusFrames.firstForeign
        let (block, page) = (number / Self.blockPages, number % Self.blockPages)
        let place = (block &* blockFactor &+ addend) & (Self.blockCount - 1)
        let within = isWhole ? page : (page &* pageFactor &+ (addend >> 32) &+ block) & (Self.blockPages - 1)
        return BusFrames.firstForeign + place * Self.blockPages + within
    }

    /// A frame below 4 GiB would be this process's own: the pool's, or coherent memory.
    private static func given(_ machine: [UInt64], _ count: UInt64) -> [FrameRange<BusFrame>]? {
        let limit = BusFrames.firstForeign + BusFrames.foreignCount
        guard machine.count == Int(count), machine.allSatisfy({ $0 >= BusFrames.firstForeign && $0 < limit }) else { return nil }
        return FrameRange.joined(machine.map { BusFrame(rawValue: $0) })
    }
}
