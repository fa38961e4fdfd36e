// Look-ups by page at 1k, 100k and 1M mappings: random (independent of each other) and dependent (each needs the one before).

import CTree
import DMA
import FrameMaps

enum Lookups {
    static func run(_ count: Int, _ name: String, _ target: Double) throws -> [Row] {
        let map = try FrameMap(owner: 0, model: .p2m, pfnLimit: 1 << 24, frameLimit: 1 << 24)
        let domain = try IommuDomain(device: "bench", mode: .strict)
        var random = Xorshift()
        var shuffled = (0..<UInt64(count)).map { $0 }
        shuffled.shuffle(using: &random)
        let flat = shuffled
        var inverse = [UInt64](repeating: 0, count: count)
        let space: UInt64 = 1 << 20
        for (pfn, frame) in flat.enumerated() {
            try map.map(FrameRange(Pfn(rawValue: UInt64(pfn)))!, to: BusFrame(rawValue: frame))
            try domain.link(Iova(rawValue: (space + UInt64(pfn)) << 12), to: BusFrame(rawValue: frame), pages: 1, .readWrite)
            inverse[Int(frame)] = UInt64(pfn)
            ctree_insert(UInt64(pfn), frame)
            cmap_insert(UInt64(pfn), frame)
        }
        let back = inverse
        defer {
            ctree_clear()
            cmap_clear()
        }
        let loops = 1 << 14
        // A plain buffer: the checks of an array's bounds would be a part of what is measured, and not the same part for each.
        let keys = UnsafeMutablePointer<UInt64>.allocate(capacity: Measure.rounds * loops)
        for index in 0..<Measure.rounds * loops { keys[index] = UInt64.random(in: 0..<UInt64(count), using: &random) }
        defer { keys.deallocate() }
        let times = Measure.medians(
            loops,
            [
                { round in
                    let keys = keys + round * loops
                    var sum: UInt64 = 0
                    for i in 0..<loops { sum &+= map.frame(of: Pfn(rawValue: keys[i]))?.rawValue ?? 0 }
                    Measure.keep(sum)
                },
                { round in
                    let keys = keys + round * loops
                    var sum: UInt64 = 0
                    for i in 0..<loops {
                        sum &+= map.pfn(of: BusFrame(rawValue: keys[i]))?.pfn.rawValue ?? 0
                    }
                    Measure.keep(sum)
                },
                { round in
                    let keys = keys + round * loops
                    var sum: UInt64 = 0
                    for i in 0..<loops {
                        sum &+= domain.lookup(Iova(rawValue: (space &+ keys[i]) << 12))?.frame.rawValue ?? 0
                    }
                    Measure.keep(sum)
                },
                { round in
                    let keys = keys + round * loops
                    var sum: UInt64 = 0
                    for i in 0..<loops { sum &+= flat[Int(keys[i])] }
                    Measure.keep(sum)
                },
                { round in
                    let keys = keys + round * loops
                    // What the checked reverse look-up is in arrays: there, and back to compare.
                    var sum: UInt64 = 0
                    for i in 0..<loops {
                        let pfn = back[Int(keys[i])]
                        if flat[Int(pfn)] == keys[i] { sum &+= pfn }
                    }
                    Measure.keep(sum)
                },
                { round in
                    let keys = keys + round * loops
                    var sum: UInt64 = 0
                    for i in 0..<loops / 8 { sum &+= ctree_find(keys[i]) }
                    Measure.keep(sum)
                },
                { round in
                    let keys = keys + round * loops
                    var sum: UInt64 = 0
                    for i in 0..<loops / 8 { sum &+= cmap_find(keys[i]) }
                    Measure.keep(sum)
                },
                { round in
                    let pfns = UnsafeRawPointer(keys + round * loops).assumingMemoryBound(to: Pfn.self)
                    var sum: UInt64 = 0
                    map.forEachFrame(of: Span(_unsafeStart: pfns, count: loops)) { _, frame in sum &+= frame?.rawValue ?? 0 }
                    Measure.keep(sum)
                },
                { round in
                    let frames = UnsafeRawPointer(keys + round * loops).assumingMemoryBound(to: BusFrame.self)
                    var sum: UInt64 = 0
                    map.forEachPfn(of: Span(_unsafeStart: frames, count: loops)) { _, found in sum &+= found?.pfn.rawValue ?? 0 }
                    Measure.keep(sum)
                },
            ])
        let dependent = Measure.medians(
            loops,
            [
                { round in
                    let keys = keys + round * loops
                    var at: UInt64 = 1
                    for i in 0..<loops {
                        at = map.frame(of: Pfn(rawValue: min(at ^ keys[i] & 1, UInt64(count - 1))))?.rawValue ?? 0
                    }
                    Measure.keep(at)
                },
                { round in
                    let keys = keys + round * loops
                    var at: UInt64 = 1
                    for i in 0..<loops {
                        at = map.pfn(of: BusFrame(rawValue: min(at ^ keys[i] & 1, UInt64(count - 1))))?.pfn.rawValue ?? 0
                    }
                    Measure.keep(at)
                },
                { round in
                    let keys = keys + round * loops
                    var at: UInt64 = 1
                    for i in 0..<loops { at = flat[Int(min(at ^ keys[i] & 1, UInt64(count - 1)))] }
                    Measure.keep(at)
                },
            ])
        return [
            Row(name: "pfn to frame, \(name)", ours: times[0], reference: ("flat array", times[3]), target: target),
            Row(name: "  beside a tree", ours: times[0], reference: ("tsearch", times[5] * 8)),
            Row(name: "  beside a tree", ours: times[0], reference: ("std::map", times[6] * 8)),
            Row(name: "frame to pfn, checked, \(name)", ours: times[1], reference: ("two flat arrays", times[4]), target: target),
            Row(name: "pfn to frame, \(name), many at once", ours: times[7], reference: ("flat array", times[3]), target: target),
            Row(
                name: "frame to pfn, checked, \(name), many at once", ours: times[8], reference: ("two flat arrays", times[4]),
                target: target),
            Row(name: "IO address to frame, \(name)", ours: times[2], reference: ("flat array", times[3]), target: target),
            Row(name: "pfn to frame, \(name), dependent", ours: dependent[0], reference: ("flat array", dependent[2])),
            Row(name: "frame to pfn, checked, \(name), dependent", ours: dependent[1], reference: ("flat array", dependent[2])),
        ]
    }
}
