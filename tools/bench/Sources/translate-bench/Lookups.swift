// Look-ups by page at 1k, 100k and 1M mappings: random (independent of each other) and dependent (each needs the one
// before).

import CTree
import DMA
import FrameMaps

enum Lookups {
    static let loops = 1 << 14

    /// Nanoseconds a look-up, with `count` mappings; `target`: what the design asks for.
    static func run(_ count: Int, _ name: String, _ target: Double) throws -> [Row] {
        let tables = try Tables(count)
        defer { tables.clear() }
        return independent(tables, name, target) + dependent(tables, name)
    }

    /// The same mappings in each of what is compared, and the keys that are looked up.
    struct Tables {
        let map: FrameMap
        let domain: IommuDomain
        /// The first page's IO address is that of this page.
        static let space: UInt64 = 1 << 20
        /// Frame by pfn, and pfn by frame.
        let flat: [UInt64]
        let back: [UInt64]
        let count: UInt64
        /// A plain buffer: the checks of an array's bounds would be a part of what is measured, and not the same part
        /// for each.
        let keys: UnsafeMutablePointer<UInt64>

        init(_ count: Int) throws {
            map = try FrameMap(owner: 0, model: .p2m, pfnLimit: 1 << 24, frameLimit: 1 << 24)
            domain = try IommuDomain(device: "bench", mode: .strict)
            self.count = UInt64(count)
            var random = Xorshift()
            flat = (0..<self.count).shuffled(using: &random)
            var inverse = [UInt64](repeating: 0, count: count)
            for (pfn, frame) in flat.enumerated() {
                guard let page = FrameRange(Pfn(rawValue: UInt64(pfn))) else { preconditionFailure("a page past the last") }
                try map.map(page, to: BusFrame(rawValue: frame))
                try domain.link(
                    Iova(rawValue: (Self.space + UInt64(pfn)) << 12), to: BusFrame(rawValue: frame), pages: 1, .readWrite)
                inverse[Int(frame)] = UInt64(pfn)
                ctree_insert(UInt64(pfn), frame)
                cmap_insert(UInt64(pfn), frame)
            }
            back = inverse
            keys = UnsafeMutablePointer<UInt64>.allocate(capacity: Measure.rounds * loops)
            for index in 0..<Measure.rounds * loops { keys[index] = UInt64.random(in: 0..<self.count, using: &random) }
        }

        func clear() {
            ctree_clear()
            cmap_clear()
            keys.deallocate()
        }
    }

    /// One pass over a round's keys, whose sum is kept.
    typealias Pass = (Int) -> Void

    private static func independent(_ tables: Tables, _ name: String, _ target: Double) -> [Row] {
        // What follows on the trees, which fill the caches with themselves, pays for that at 100k: many at once is the
        // one that it costs least.
        let times = Measure.medians(loops, one(tables) + references(tables) + many(tables))
        let (forward, back, iova, manyForward, manyBack) = (times[0], times[1], times[2], times[7], times[8])
        let (array, arrays) = (("flat array", times[3]), ("two flat arrays", times[4]))
        // A tree is asked an eighth of the keys.
        let (tree, cmap) = (("tsearch", times[5] * 8), ("std::map", times[6] * 8))
        return [
            Row(name: "pfn to frame, \(name)", ours: forward, reference: array, target: target),
            Row(name: "  beside a tree", ours: forward, reference: tree),
            Row(name: "  beside a tree", ours: forward, reference: cmap),
            Row(name: "frame to pfn, checked, \(name)", ours: back, reference: arrays, target: target),
            Row(name: "pfn to frame, \(name), many at once", ours: manyForward, reference: array, target: target),
            Row(name: "frame to pfn, checked, \(name), many at once", ours: manyBack, reference: arrays, target: target),
            Row(name: "IO address to frame, \(name)", ours: iova, reference: array, target: target),
        ]
    }

    /// Ours, a key at a time.
    private static func one(_ tables: Tables) -> [Pass] {
        let (map, domain, keys) = (tables.map, tables.domain, tables.keys)
        return [
            { round in
                let keys = keys + round * loops
                var sum: UInt64 = 0
                for i in 0..<loops { sum &+= map.frame(of: Pfn(rawValue: keys[i]))?.rawValue ?? 0 }
                Measure.keep(sum)
            },
            { round in
                let keys = keys + round * loops
                var sum: UInt64 = 0
                for i in 0..<loops { sum &+= map.pfn(of: BusFrame(rawValue: keys[i]))?.pfn.rawValue ?? 0 }
                Measure.keep(sum)
            },
            { round in
                let keys = keys + round * loops
                var sum: UInt64 = 0
                for i in 0..<loops { sum &+= domain.lookup(Iova(rawValue: (Tables.space &+ keys[i]) << 12))?.frame.rawValue ?? 0 }
                Measure.keep(sum)
            },
        ]
    }

    /// Ours, all keys of a round at once.
    private static func many(_ tables: Tables) -> [Pass] {
        let (map, keys) = (tables.map, tables.keys)
        return [
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
        ]
    }

    private static func references(_ tables: Tables) -> [Pass] {
        let (flat, back, keys) = (tables.flat, tables.back, tables.keys)
        return [
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
        ]
    }

    private static func dependent(_ tables: Tables, _ name: String) -> [Row] {
        let (map, flat, keys, last) = (tables.map, tables.flat, tables.keys, tables.count - 1)
        let times = Measure.medians(
            loops,
            [
                { round in
                    let keys = keys + round * loops
                    var at: UInt64 = 1
                    for i in 0..<loops { at = map.frame(of: Pfn(rawValue: min(at ^ keys[i] & 1, last)))?.rawValue ?? 0 }
                    Measure.keep(at)
                },
                { round in
                    let keys = keys + round * loops
                    var at: UInt64 = 1
                    for i in 0..<loops { at = map.pfn(of: BusFrame(rawValue: min(at ^ keys[i] & 1, last)))?.pfn.rawValue ?? 0 }
                    Measure.keep(at)
                },
                { round in
                    let keys = keys + round * loops
                    var at: UInt64 = 1
                    for i in 0..<loops { at = flat[Int(min(at ^ keys[i] & 1, last))] }
                    Measure.keep(at)
                },
            ])
        return [
            Row(name: "pfn to frame, \(name), dependent", ours: times[0], reference: ("flat array", times[2])),
            Row(name: "frame to pfn, checked, \(name), dependent", ours: times[1], reference: ("flat array", times[2])),
        ]
    }
}
