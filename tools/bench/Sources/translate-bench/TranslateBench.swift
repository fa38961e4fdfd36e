// Nanoseconds of the translation library's operations, beside a flat array and glibc's tsearch in the same run. Median of seven, interleaved.

import CTree
import DMA
import FrameMaps
import SharedMemory

@main struct TranslateBench {
    static func main() throws {
        print("look-ups, ns (random / dependent)")
        for count in [1 << 10, 100_000, 1 << 20] { try lookups(count) }
        try spaces()
        try ioTables()
        try transfers()
    }

    /// Median of seven rounds of each, one after the other.
    static func medians(_ operations: Int, _ bodies: [() -> Void]) -> [Double] {
        var times = bodies.map { _ in [Double]() }
        for _ in 0..<7 {
            for (index, body) in bodies.enumerated() {
                let time = ContinuousClock().measure(body)
                times[index].append(Double(time.components.attoseconds) / 1e9 + Double(time.components.seconds) * 1e9)
            }
        }
        return times.map { $0.sorted()[3] / Double(operations) }
    }

    static func shown(_ value: Double) -> String {
        String(Int(value * 10 + 0.5) / 10) + "." + String(Int(value * 10 + 0.5) % 10)
    }

    @inline(never) static func keep(_ value: UInt64) { sink = value }
    nonisolated(unsafe) static var sink: UInt64 = 0

    static func lookups(_ count: Int) throws {
        let map = FrameMap(owner: 0, model: .p2m, pfnLimit: 1 << 24, frameLimit: 1 << 24)
        var order = (0..<UInt64(count)).map { $0 }
        order.shuffle()
        var flat = [UInt64](repeating: 0, count: count)
        for (pfn, frame) in order.enumerated() {
            try map.map(FrameRange(Pfn(rawValue: UInt64(pfn)))!, to: BusFrame(rawValue: frame))
            flat[pfn] = frame
            ctree_insert(UInt64(pfn), frame)
        }
        var keys = (0..<1 << 16).map { _ in UInt64.random(in: 0..<UInt64(count)) }
        keys.append(0)
        let loops = 1 << 16
        let random = medians(
            loops,
            [
                {
                    var sum: UInt64 = 0;
                    for i in 0..<loops { sum &+= map.frame(of: Pfn(rawValue: keys[i]))?.rawValue ?? 0 }; keep(sum)
                },
                {
                    var sum: UInt64 = 0;
                    for i in 0..<loops { sum &+= map.pfn(of: BusFrame(rawValue: keys[i]))?.pfn.rawValue ?? 0 };
                    keep(sum)
                },
                {
                    var sum: UInt64 = 0; for i in 0..<loops { sum &+= flat[Int(keys[i])] }; keep(sum)
                },
                {
                    var sum: UInt64 = 0; for i in 0..<loops { sum &+= ctree_find(keys[i]) }; keep(sum)
                },
            ])
        let dependent = medians(
            loops,
            [
                {
                    var at: UInt64 = 1;
                    for i in 0..<loops { at = map.frame(of: Pfn(rawValue: at ^ keys[i] & 1))?.rawValue ?? 0 }; keep(at)
                },
                {
                    var at: UInt64 = 1;
                    for i in 0..<loops { at = map.pfn(of: BusFrame(rawValue: at ^ keys[i] & 1))?.pfn.rawValue ?? 0 };
                    keep(at)
                },
                {
                    var at: UInt64 = 1; for i in 0..<loops { at = flat[Int(min(at ^ keys[i] & 1, UInt64(count - 1)))] };
                    keep(at)
                },
                {
                    var at: UInt64 = 1; for i in 0..<loops { at = ctree_find(at ^ keys[i] & 1) }; keep(at)
                },
            ])
        ctree_clear()
        for (index, name) in ["pfn to frame", "frame to pfn, checked", "flat array", "tsearch"].enumerated() {
            print("  \(count) \(name): \(shown(random[index])) / \(shown(dependent[index]))")
        }
    }

    /// IO address space: a million pages taken, then steady use, and the request that must fail.
    static func spaces() throws {
        let domain = IommuDomain(device: "bench", mode: .strict)
        var taken: [Iova] = []
        for _ in 0..<1 << 20 { taken.append(try domain.reserve(pages: 1)) }
        taken.shuffle()
        for iova in taken.suffix(1 << 18) { domain.free(iova, pages: 1) }
        let loops = 1 << 16
        let steady = medians(
            loops,
            [{ for _ in 0..<loops { if let iova = try? domain.reserve(pages: 1) { domain.free(iova, pages: 1) } } }])
        print("IO address space at 1M: reserve and free a page \(shown(steady[0]))")
        var full: [Iova] = []
        while let iova = try? domain.reserve(pages: 1) { full.append(iova) }
        // One page in 32 free, scattered: nothing of two pages anywhere.
        for iova in full where iova.page & 31 == 5 { domain.free(iova, pages: 1) }
        let failing = medians(loops, [{ for _ in 0..<loops { if (try? domain.reserve(pages: 2)) != nil { keep(1) } } }])
        print("  the request that must fail: \(shown(failing[0]))")
    }

    static func ioTables() throws {
        let domain = IommuDomain(device: "bench", mode: .strict)
        let loops = 1 << 16
        var pages = (0..<UInt64(loops)).map { Iova(rawValue: (1 << 18 + $0) << 12) }
        pages.shuffle()
        for iova in pages { try domain.link(iova, to: BusFrame(rawValue: iova.page), pages: 1, .readWrite) }
        let single = medians(
            loops,
            [
                { for iova in pages { try? domain.unlink(iova, pages: 1) } },
                {
                    for iova in pages {
                        try? domain.link(iova, to: BusFrame(rawValue: iova.page &+ 1), pages: 1, .readWrite)
                    }
                },
            ])
        print("IO page table, a page: unmap \(shown(single[0])), map \(shown(single[1]))")
        for iova in pages { try domain.unlink(iova, pages: 1) }
        let base = Iova(rawValue: 1 << 32)
        let bulk = medians(
            loops,
            [
                { try? domain.link(base, to: BusFrame(rawValue: 7), pages: loops, .readWrite) },
                { try? domain.unlink(base, pages: loops) },
            ])
        print("  in bulk, a page: map \(shown(bulk[0])), unmap \(shown(bulk[1]))")
    }

    static func transfers() throws {
        let loops = 1 << 14
        for (name, options) in [
            ("direct map", DMAOptions()), ("p2m", DMAOptions(model: .p2m)), ("identity", DMAOptions(model: .identity)),
            ("vp, IOMMU strict", DMAOptions(iommu: .strict)), ("vp, IOMMU deferred", DMAOptions(iommu: .deferred)),
            (
                "p2m, bounced",
                DMAOptions(model: .p2m, constraints: DMAConstraints(mask: 0xFFFF_FFFF), bouncePool: 1 << 20)
            ),
        ] {
            let device = DMADevice(name: "bench", options: options)!
            let region = try SharedRegion(anonymous: 64 << 12)
            region.fill(0, count: 64 << 12, with: 1)
            let base = device.attach(region)!
            let piece = (0..<64 as Range<UInt64>).map {
                [PagePiece(pfn: base.advanced(by: $0)!, offset: 0, byteCount: 4096)]
            }
            var segments: [BusSegment] = []
            func run(_ direction: DMADirection) {
                for index in 0..<loops {
                    segments.removeAll(keepingCapacity: true)
                    let one = piece[index & 63]
                    if let handle = try? device.map(one.span, direction, into: &segments) {
                        if device.bus.isReachable(segments[0], direction) { try? device.unmap(handle, direction) }
                    }
                }
            }
            let times = medians(loops, [{ run(.toDevice) }, { run(.fromDevice) }])
            print(
                "4 KiB through \(name): map, reach, unmap: to the device \(shown(times[0])), from it \(shown(times[1]))"
            )
        }
    }
}
