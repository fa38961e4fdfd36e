// The map against a slow, obvious model: an array of what stands at each pfn, searched from end to end.

import FrameMaps
import Testing

private struct Model {
    enum Place: Equatable {
        case nothing, ballooned
        case page(UInt64, FramePermissions, foreign: Bool, identity: Bool)
    }
    var places: [Place]
    var own: UInt64

    func frame(_ index: UInt64) -> UInt64? {
        if case .page(let frame, _, _, _) = places[Int(index)] { frame } else { nil }
    }
    /// All pfns by frame.
    func holders() -> [UInt64: [UInt64]] {
        var result: [UInt64: [UInt64]] = [:]
        for index in places.indices {
            if let frame = frame(UInt64(index)) { result[frame, default: []].append(UInt64(index)) }
        }
        return result
    }
}

@Suite(.timeLimit(.minutes(2)))
struct ModelTests {
    @Test(arguments: MemoryModel.allCases, [1, 2, 3, 4] as [UInt64])
    func randomChanges(_ memory: MemoryModel, _ seed: UInt64) throws {
        var random = SplitMix(seed)
        let limit: UInt64 = 2048
        let own: UInt64 = memory == .p2m ? 0 : 900
        // Tables in the window, outside it, and some of each.
        let window: UInt64 = [0, 1024, 1 << 30][Int(seed % 3)]
        let map = try FrameMap(owner: 1, model: memory, pfnLimit: limit, frameLimit: limit, ownFrames: own, windowLimit: window)
        var model = Model(
            places: (0..<limit).map { $0 < own ? .page($0, .readWrite, foreign: false, identity: false) : .nothing },
            own: own)
        var held: [Held] = []
        for step in 0..<300 {
            var start = UInt64.random(in: 0..<limit, using: &random)
            var count = UInt64.random(in: 0...40, using: &random)
            var frame = UInt64.random(in: 0..<limit, using: &random)
            if step % 5 == 0 {
                start &= ~511
                frame &= ~511
                count = [512, 1024, 700].randomElement(using: &random)!
            }
            let generation = map.generation
            let indices = start..<min(start + count, limit)
            let inRange = start + count <= limit
            let framesInRange = frame + count <= limit
            func places() -> [Model.Place] { indices.map { model.places[Int($0)] } }
            func hasPage(_ place: Model.Place) -> Bool { if case .page = place { true } else { false } }
            func isForeign(_ place: Model.Place) -> Bool {
                if case .page(_, _, true, _) = place { true } else { false }
            }
            let holders = model.holders()
            let permissions = FramePermissions(rawValue: UInt8.random(in: 1...3, using: &random))
            switch Int.random(in: 0..<12, using: &random) {
            case 0...3:
                let fits =
                    inRange && framesInRange && !places().contains(where: hasPage)
                    && !(frame..<frame + count).contains { holders[$0] != nil }
                let did = (try? map.map(pfns(start, count), to: bus(frame), permissions)) != nil
                #expect(did == fits, "map \(start) \(count) \(frame)")
                if did {
                    for (n, index) in indices.enumerated() {
                        model.places[Int(index)] = .page(
                            frame + UInt64(n), permissions, foreign: false, identity: false)
                    }
                }
                if did { #expect(map.generation == generation) }
            case 4:
                let fits = inRange && !places().contains(where: hasPage) && !indices.contains { holders[$0] != nil }
                let did = (try? map.mapIdentity(pfns(start, count))) != nil
                #expect(did == fits)
                if did {
                    for index in indices {
                        model.places[Int(index)] = .page(index, .readWrite, foreign: false, identity: true)
                    }
                }
            case 5, 6:
                let fits = inRange && places().allSatisfy { hasPage($0) && !isForeign($0) }
                let did = (try? map.unmap(pfns(start, count))) != nil
                #expect(did == fits)
                if did { for index in indices { model.places[Int(index)] = .nothing } }
                if did && count > 0 { #expect(!map.isCurrent(generation)) }
            case 7:
                let fits = inRange && places().allSatisfy { !isForeign($0) }
                let did = (try? map.balloonOut(pfns(start, count))) != nil
                #expect(did == fits)
                if did { for index in indices { model.places[Int(index)] = .ballooned } }
            case 8:
                let fits = inRange && places().allSatisfy(hasPage)
                let did = (try? map.setPermissions(pfns(start, count), permissions)) != nil
                #expect(did == fits)
                if did {
                    for index in indices {
                        if case .page(let frame, _, let foreign, let identity) = model.places[Int(index)] {
                            model.places[Int(index)] = .page(frame, permissions, foreign: foreign, identity: identity)
                        }
                    }
                }
            case 9, 10:
                // Frames anywhere, some of them twice.
                let frames = (0..<count).map { _ in bus(UInt64.random(in: 0..<limit, using: &random)) }
                let allAlike = Set(places().map { "\($0)" }).count <= 1
                let fits =
                    inRange && allAlike && !places().contains(where: hasPage)
                    && frames.allSatisfy {
                        (holders[$0.rawValue] ?? []).allSatisfy { isForeign(model.places[Int($0)]) }
                    }
                if let token = try? map.mapForeign(pfns(start, count), to: frames, of: 7, permissions) {
                    #expect(fits)
                    let kept = Held(token, frames)
                    held.append(kept)
                    kept.before =
                        indices.isEmpty ? .nothing : (model.places[Int(start)] == .ballooned ? .ballooned : .nothing)
                    for (n, index) in indices.enumerated() {
                        model.places[Int(index)] = .page(
                            frames[n].rawValue, permissions, foreign: true, identity: false)
                    }
                } else {
                    #expect(!fits)
                }
            default:
                guard !held.isEmpty else { continue }
                let gone = held.remove(at: Int.random(in: held.indices, using: &random))
                for index in gone.range.start.rawValue..<gone.range.end {
                    model.places[Int(index)] = gone.before == .ballooned ? .ballooned : .nothing
                }
            }
            if step % 20 == 0 { compare(map, model, limit) }
        }
        compare(map, model, limit)
        held.removeAll()
        #expect(map.foreignPageCount == 0)
        #expect(map.audit().inconsistent.isEmpty)
    }

    /// Many at once are what each is alone, in order, and beyond the limits too.
    private func compareMany(_ map: FrameMap, _ limit: UInt64) {
        for count in [0, 1, 11, 12, 13, 23, 24, 25, limit + 9] {
            let numbers = (0..<count).map { $0 &* 1031 % (limit + 10) }
            let (pfns, frames) = (numbers.map { Pfn(rawValue: $0) }, numbers.map { BusFrame(rawValue: $0) })
            var (forward, back): ([BusFrame?], [ReverseTranslation?]) = ([], [])
            var inOrder = true
            map.forEachFrame(of: pfns.span) { place, frame in
                inOrder = inOrder && place == forward.count
                forward.append(frame)
            }
            map.forEachPfn(of: frames.span) { place, pfn in
                inOrder = inOrder && place == back.count
                back.append(pfn)
            }
            #expect(inOrder && forward == pfns.map { map.frame(of: $0) } && back == frames.map { map.pfn(of: $0) })
        }
    }

    private func compare(_ map: FrameMap, _ model: Model, _ limit: UInt64) {
        compareMany(map, limit)
        var wrong = 0
        let holders = model.holders()
        for index in 0..<limit {
            let entry = map.entry(at: pfn(index))
            switch model.places[Int(index)] {
            case .nothing: if entry != .invalid { wrong += 1 }
            case .ballooned: if entry != .ballooned { wrong += 1 }
            case .page(let frame, let permissions, let foreign, let identity):
                guard let answer = entry.translation, answer.frame == bus(frame), answer.permissions == permissions
                else {
                    wrong += 1
                    continue
                }
                switch entry {
                case .local: if foreign || identity { wrong += 1 }
                case .identity: if !identity { wrong += 1 }
                case .foreign: if !foreign { wrong += 1 }
                default: wrong += 1
                }
                // The run is exact when more is asked for than there is.
                var run: UInt64 = 1
                while run < 50, index + run < limit,
                    model.places[Int(index + run)]
                        == .page(frame + run, permissions, foreign: foreign, identity: identity)
                { run += 1 }
                if map.translate(pfn(index), pages: 50)?.pageCount != run { wrong += 1 }
            }
        }
        for frame in 0..<limit {
            let back = map.pfn(of: bus(frame))
            if let expected = holders[frame] {
                if back == nil || !expected.contains(back!.pfn.rawValue) { wrong += 1 }
            } else if back != nil {
                wrong += 1
            }
        }
        let audit = map.audit()
        #expect(audit.inconsistent.isEmpty)
        #expect(wrong == 0)
    }
}
