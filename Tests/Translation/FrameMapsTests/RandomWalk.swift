// Changes at random, to a map and to its model alike: what the model has room for is done, and nothing else is.

import FrameMaps
import Testing
import TestSupport

struct RandomWalk {
    static let limit: UInt64 = 2048
    let map: FrameMap
    private(set) var model: SlowMap
    private var held: [Held] = []
    private var random: SplitMix

    init(_ memory: MemoryModel, _ seed: UInt64) throws {
        random = SplitMix(seed)
        let own: UInt64 = memory == .p2m ? 0 : 900
        // Tables in the window, outside it, and some of each.
        let window: UInt64 = [0, 1024, 1 << 30][Int(seed % 3)]
        map = try FrameMap(
            owner: 1, model: memory, pfnLimit: Self.limit, frameLimit: Self.limit, ownFrames: own, windowLimit: window)
        model = SlowMap(limit: Self.limit, own: own)
    }

    /// What a step is about; it need not fit.
    private struct Change {
        var start: UInt64
        var count: UInt64
        /// Where it leads, if it is a mapping.
        var frame: UInt64
        var permissions = FramePermissions.readWrite
        var range: FrameRange<Pfn> { pfns(start, count) }
        /// Those of its pfns that there are.
        var indices: Range<UInt64> { start..<min(start + count, RandomWalk.limit) }
        var isInRange: Bool { start + count <= RandomWalk.limit }
        var hasFramesInRange: Bool { frame + count <= RandomWalk.limit }
    }

    private mutating func change(_ step: Int) -> Change {
        var change = Change(
            start: .random(in: 0..<Self.limit, using: &random), count: .random(in: 0...40, using: &random),
            frame: .random(in: 0..<Self.limit, using: &random))
        if step % 5 == 0 {
            change.start &= ~511
            change.frame &= ~511
            change.count = [512, 1024, 700].randomElement(using: &random)!
        }
        change.permissions = FramePermissions(rawValue: UInt8.random(in: 1...3, using: &random))
        return change
    }

    mutating func step(_ number: Int) {
        let change = change(number)
        switch Int.random(in: 0..<12, using: &random) {
        case 0...3: mapRun(change)
        case 4: mapIdentity(change)
        case 5, 6: unmap(change)
        case 7: balloon(change)
        case 8: setPermissions(change)
        case 9, 10: mapForeign(change)
        default: if !held.isEmpty { release() }
        }
    }

    private mutating func mapRun(_ change: Change) {
        let (generation, holders) = (map.generation, model.holders())
        let fits =
            change.isInRange && change.hasFramesInRange && !model[change.indices].contains(where: \.hasPage)
            && !(change.frame..<change.frame + change.count).contains { holders[$0] != nil }
        let did = (try? map.map(change.range, to: bus(change.frame), change.permissions)) != nil
        #expect(did == fits, "map \(change.start) \(change.count) \(change.frame)")
        if !did { return }
        for (n, index) in change.indices.enumerated() {
            model.places[Int(index)] = .page(change.frame + UInt64(n), change.permissions, foreign: false, identity: false)
        }
        #expect(map.generation == generation)
    }

    private mutating func mapIdentity(_ change: Change) {
        let holders = model.holders()
        let fits =
            change.isInRange && !model[change.indices].contains(where: \.hasPage) && !change.indices.contains { holders[$0] != nil }
        let did = (try? map.mapIdentity(change.range)) != nil
        #expect(did == fits)
        if !did { return }
        for index in change.indices { model.places[Int(index)] = .page(index, .readWrite, foreign: false, identity: true) }
    }

    private mutating func unmap(_ change: Change) {
        let generation = map.generation
        let fits = change.isInRange && model[change.indices].allSatisfy { $0.hasPage && !$0.isForeign }
        let did = (try? map.unmap(change.range)) != nil
        #expect(did == fits)
        if did { model.fill(change.indices, .nothing) }
        if did && change.count > 0 { #expect(!map.isCurrent(generation)) }
    }

    private mutating func balloon(_ change: Change) {
        let fits = change.isInRange && model[change.indices].allSatisfy { !$0.isForeign }
        let did = (try? map.balloonOut(change.range)) != nil
        #expect(did == fits)
        if did { model.fill(change.indices, .ballooned) }
    }

    private mutating func setPermissions(_ change: Change) {
        let fits = change.isInRange && model[change.indices].allSatisfy(\.hasPage)
        let did = (try? map.setPermissions(change.range, change.permissions)) != nil
        #expect(did == fits)
        if did { model.setPermissions(change.indices, change.permissions) }
    }

    /// Frames anywhere, some of them twice.
    private mutating func mapForeign(_ change: Change) {
        let holders = model.holders()
        let frames = (0..<change.count).map { _ in bus(UInt64.random(in: 0..<Self.limit, using: &random)) }
        let places = model[change.indices]
        let allAlike = Set(places.map { "\($0)" }).count <= 1
        let fits =
            change.isInRange && allAlike && !places.contains(where: \.hasPage)
            && frames.allSatisfy { frame in (holders[frame.rawValue] ?? []).allSatisfy { model.places[Int($0)].isForeign } }
        guard let token = try? map.mapForeign(change.range, to: frames, of: 7, change.permissions) else {
            #expect(!fits)
            return
        }
        #expect(fits)
        let kept = Held(token, frames)
        kept.before = places.first == .ballooned ? .ballooned : .nothing
        held.append(kept)
        for (n, index) in change.indices.enumerated() {
            model.places[Int(index)] = .page(frames[n].rawValue, change.permissions, foreign: true, identity: false)
        }
    }

    private mutating func release() {
        let gone = held.remove(at: Int.random(in: held.indices, using: &random))
        model.fill(gone.range.start.rawValue..<gone.range.end, gone.before == .ballooned ? .ballooned : .nothing)
    }

    /// Gives every foreign frame back.
    mutating func releaseAll() { held.removeAll() }
}
