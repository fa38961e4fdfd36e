// The map against a slow, obvious model: an array of what stands at each pfn, searched from end to end.

import FrameMaps
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(2)))
struct ModelTests {
    @Test(arguments: MemoryModel.allCases, [1, 2, 3, 4] as [UInt64])
    func randomChanges(_ memory: MemoryModel, _ seed: UInt64) throws {
        var walk = try RandomWalk(memory, seed)
        for step in 0..<300 {
            walk.step(step)
            if step % 20 == 0 { compare(walk.map, walk.model, RandomWalk.limit) }
        }
        compare(walk.map, walk.model, RandomWalk.limit)
        walk.releaseAll()
        #expect(walk.map.foreignPageCount == 0)
        #expect(walk.map.audit().inconsistent.isEmpty)
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

    private func compare(_ map: FrameMap, _ model: SlowMap, _ limit: UInt64) {
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
