// Peers that lie about indices (attacks.md A13, A14, A36), and rings that are taken over.

import SharedMemory
import SharedRing
import Testing
import TestSupport

private func fault(_ ring: inout BackRing<Words>) -> RingError? {
    do throws(RingError) { _ = try ring.nextRequest() } catch { return error }
    return nil
}

private func fault(_ ring: inout FrontRing<Words>) -> RingError? {
    do throws(RingError) { _ = try ring.nextResponse() } catch { return error }
    return nil
}

@Suite struct RingHostileTests {
    /// attacks.md A13: every producer index near each boundary, with every number taken and answered before.
    @Test func aLyingFrontendBreaksItsRingForEver() throws {
        try withEveryRing(slots: [1, 2, 4, 8]) { _, _, slots, start in
            for taken in 0...slots {
                for answered in 0...taken {
                    for base in [0, slots, 1 << 31, 1 << 30] {
                        for wobble in -2...2 {
                            let region = try SharedRegion(anonymous: 4096)
                            var front = FrontRing(initialising: region, Words.slots(Int(slots)), startingAt: RingIndex(start))
                            var back = BackRing(attaching: region, Words.slots(Int(slots)), startingAt: RingIndex(start))
                            for value in 0..<taken { expectPush(&front, UInt64(value), true) }
                            _ = front.publish()
                            for value in 0..<taken { try expectRequest(&back, UInt64(value)) }
                            for _ in 0..<answered { back.push(1) }
                            _ = back.publish()
                            let lie = start &+ answered &+ base &+ UInt32(truncatingIfNeeded: wobble)
                            region.storeRelaxed(lie, at: RingHeader.requestProduced)
                            // What an honest frontend could have published: from what we took, to a full ring beyond
                            // what it was answered.
                            let fresh = Int64(Int32(bitPattern: lie &- start)) - Int64(taken)
                            let isHonest = fresh >= 0 && fresh <= Int64(slots - (taken - answered))
                            if isHonest {
                                for _ in 0..<fresh { _ = try back.nextRequest() }
                                try expectRequest(&back, nil)
                                continue
                            }
                            let found = fault(&back)
                            #expect(found == .peerLies(produced: lie, consumed: start &+ taken, limit: slots - (taken - answered)))
                            // Repentance does not help: it stays broken, quietly.
                            region.storeRelaxed(start &+ taken, at: RingHeader.requestProduced)
                            let again = fault(&back), arms = back.armAndRecheck(), has = back.hasRequests()
                            #expect(again == found && !arms && !has)
                            // What is in flight may still be answered.
                            if taken > answered { back.push(1); _ = back.publish() }
                        }
                    }
                }
            }
        }
    }

    /// attacks.md A13: what was answered and not yet shown has made no room.
    @Test func answersThatWereNotShownMakeNoRoom() throws {
        let region = try SharedRegion(anonymous: 4096)
        var front = FrontRing(initialising: region, Words.slots(4), startingAt: RingIndex(0))
        var back = BackRing(attaching: region, Words.slots(4), startingAt: RingIndex(0))
        for value in 0..<4 { expectPush(&front, UInt64(value), true) }
        _ = front.publish()
        for value in 0..<4 { try expectRequest(&back, UInt64(value)) }
        for _ in 0..<4 { back.push(1) }
        region.storeRelaxed(5, at: RingHeader.requestProduced)
        let found = fault(&back)
        #expect(found == .peerLies(produced: 5, consumed: 4, limit: 0))
    }

    @Test func aLyingBackendBreaksItsRingForEver() throws {
        try withEveryRing(slots: [1, 2, 8, 32]) { front, _, slots, start in
            let region = front.region
            for value in 0..<slots / 2 { expectPush(&front, UInt64(value), true) }
            _ = front.publish()
            // One more than was published, though a slot for it exists.
            region.storeRelaxed(start &+ slots / 2 &+ 1, at: RingHeader.responseProduced)
            let found = fault(&front)
            #expect(found == .peerLies(produced: start &+ slots / 2 &+ 1, consumed: start, limit: slots / 2))
            region.storeRelaxed(start, at: RingHeader.responseProduced)
            let again = fault(&front), arms = front.armAndRecheck(), has = front.hasResponses()
            #expect(again == found && !arms && !has)
        }
    }

    /// The look before sleeping finds the lie: whoever asks then whether there is something is told that there is,
    /// until it has been said what. Else a ring is out for good and nobody ever says so.
    @Test func aLieThatIsFoundBeforeSleepingIsTold() throws {
        try withEveryRing(slots: [1, 8, 32]) { front, back, slots, start in
            front.region.storeRelaxed(start &+ slots &+ 1, at: RingHeader.requestProduced)
            front.region.storeRelaxed(start &+ 1, at: RingHeader.responseProduced)
            for _ in 0..<2 {
                let arms = (back.armAndRecheck(), front.armAndRecheck()), has = (back.hasRequests(), front.hasResponses())
                #expect(arms.0 && arms.1 && has.0 && has.1)
            }
            let found = (fault(&back), fault(&front))
            #expect(found.0 != nil && found.1 != nil)
            let arms = (back.armAndRecheck(), front.armAndRecheck()), has = (back.hasRequests(), front.hasResponses())
            #expect(!arms.0 && !arms.1 && !has.0 && !has.1)
        }
    }

    @Test func aBackendThatGoesBackwardsIsFound() throws {
        try withEveryRing(slots: [2, 8]) { front, back, slots, start in
            for value in 0..<slots { expectPush(&front, UInt64(value), true) }
            _ = front.publish()
            for value in 0..<slots { try expectRequest(&back, UInt64(value)) }
            back.push(5)
            _ = back.publish()
            try expectResponse(&front, 5)
            front.region.storeRelaxed(start, at: RingHeader.responseProduced)
            let found = fault(&front)
            #expect(found != nil)
        }
    }

    /// attacks.md A13: an index that is another on each read: never more requests than slots, whatever happens.
    @Test func aJumpingProducerYieldsNoMoreThanTheRing() throws {
        var random = SplitMix(7)
        for _ in 0..<2000 {
            let region = try SharedRegion(anonymous: 4096)
            var back = BackRing(attaching: region, Words.slots(8))
            var taken = 0
            for _ in 0..<64 {
                region.storeRelaxed(UInt32(truncatingIfNeeded: random.next()) % 20 &- 4, at: RingHeader.requestProduced)
                if let request = try? back.nextRequest() { _ = request; taken += 1 }
                let unanswered = back.unanswered
                #expect(taken <= 8 && unanswered <= 8)
            }
        }
    }

    /// attacks.md A14: the frontend writes the backend's own words and the header's padding; the backend's figures are
    /// its own.
    @Test func theBackendDoesNotReadWhatIsItsOwn() throws {
        try withEveryRing { front, back, slots, start in
            var random = SplitMix(UInt64(slots))
            for round in 0..<UInt64(40) {
                for offset in stride(from: 16, to: 64, by: 4) {
                    front.region.storeRelaxed(UInt32(truncatingIfNeeded: random.next()), at: offset)
                }
                front.region.storeRelaxed(UInt32(truncatingIfNeeded: random.next()), at: RingHeader.responseProduced)
                front.region.storeRelaxed(UInt32(truncatingIfNeeded: random.next()), at: RingHeader.requestEvent)
                expectPush(&front, round, true)
                _ = front.publish()
                try expectRequest(&back, round)
                back.push(round)
                _ = back.publish()
                #expect(
                    front.region.loadRelaxed(RingHeader.responseProduced) == start &+ UInt32(round) &+ 1, "from the private copy")
                try expectResponse(&front, round)
            }
        }
    }

    @Test func adoption() throws {
        try withEveryRing { front, back, slots, start in
            for value in 0..<UInt64(slots) { expectPush(&front, value, true) }
            _ = front.publish()
            // The first backend takes all, answers half in order, publishes that and dies.
            for value in 0..<UInt64(slots) { try expectRequest(&back, value) }
            for _ in 0..<slots / 2 { back.push(1) }
            _ = back.publish()
            var second = try BackRing(adopting: front.region, Words.slots(Int(slots)))
            for value in UInt64(slots / 2)..<UInt64(slots) {
                try expectRequest(&second, value)
                second.push(3)
            }
            try expectRequest(&second, nil)
            _ = second.publish()
            for _ in 0..<slots / 2 { try expectResponse(&front, 1) }
            for _ in slots / 2..<slots { try expectResponse(&front, 3) }
        }
    }

    @Test func ringsThatCannotBeAdopted() throws {
        for (asked, answered) in [(UInt32(9), UInt32(0)), (0, 1), (5, .max - 3), (1 << 31, 0)] {
            let region = try SharedRegion(anonymous: 4096)
            region.storeRelaxed(asked, at: RingHeader.requestProduced)
            region.storeRelaxed(answered, at: RingHeader.responseProduced)
            #expect(throws: RingError.notAdoptable(requestProduced: asked, responseProduced: answered, slots: 8)) {
                _ = try BackRing(adopting: region, Words.slots(8)).unanswered
            }
        }
    }

    @Test func theyPrintThemselves() throws {
        try withEveryRing(slots: [2]) { front, back, _, _ in
            let texts = (front.description, back.description)
            #expect(texts.0.hasPrefix("front ring of 2 slots") && texts.1.hasPrefix("back ring of 2 slots"))
            front.region.storeRelaxed(77, at: RingHeader.requestProduced)
            _ = fault(&back)
            let broken = back.description
            #expect(broken.contains("broken") && !broken.contains("\n"))
        }
    }
}
