// Every ring of 1 to 32 slots, from every start that straddles a wrap of 32 bits.

import SharedMemory
import SharedRing
import Testing

/// Requests and responses of 8 bytes each, in slots of any size: rings of few slots without a block request's bulk.
struct Words: RingProtocol {
    var slotSize: Int
    func loadRequest(_ region: SharedRegion, _ offset: Int) -> UInt64 { region.load(offset) }
    func storeRequest(_ request: UInt64, _ region: SharedRegion, _ offset: Int) { region.store(request, at: offset) }
    func loadResponse(_ region: SharedRegion, _ offset: Int) -> UInt64 { region.load(offset) }
    func storeResponse(_ response: UInt64, _ region: SharedRegion, _ offset: Int) { region.store(response, at: offset) }

    /// A one-page ring of `slots` slots, a power of two up to 256.
    static func slots(_ slots: Int) -> Words { Words(slotSize: (SharedRegion.pageSize - RingHeader.size) / slots & ~7) }
}

/// Runs `body` on a fresh ring of each size, with indices starting just before, at and after the wrap.
func withEveryRing(
    slots: [Int] = [1, 2, 4, 8, 16, 32],
    _ body: (inout FrontRing<Words>, inout BackRing<Words>, _ slots: UInt32, _ start: UInt32) throws -> Void
) throws {
    for count in slots {
        for distance in -(count + 1)...1 {
            let start = UInt32(truncatingIfNeeded: distance)
            let region = try SharedRegion(anonymous: SharedRegion.pageSize)
            var front = FrontRing(initialising: region, Words.slots(count), startingAt: RingIndex(start))
            var back = BackRing(attaching: region, Words.slots(count), startingAt: RingIndex(start))
            let slotCount = front.geometry.slotCount
            #expect(slotCount == UInt32(count))
            try body(&front, &back, UInt32(count), start)
        }
    }
}

// #expect cannot borrow a ring, which is not copyable; these can.

func expectPush(_ ring: inout FrontRing<Words>, _ value: UInt64, _ expected: Bool, at place: SourceLocation = #_sourceLocation) {
    let pushed = ring.push(value)
    #expect(pushed == expected, sourceLocation: place)
}

func expectRequest(_ ring: inout BackRing<Words>, _ expected: UInt64?, at place: SourceLocation = #_sourceLocation) throws {
    let request = try ring.nextRequest()
    #expect(request == expected, sourceLocation: place)
}

func expectResponse(_ ring: inout FrontRing<Words>, _ expected: UInt64?, at place: SourceLocation = #_sourceLocation) throws {
    let response = try ring.nextResponse()
    #expect(response == expected, sourceLocation: place)
}

@Suite struct RingExhaustiveTests {
    @Test func everyFillAndDrain() throws {
        try withEveryRing { front, back, slots, start in
            for fill in 0...slots {
                for value in 0..<UInt64(fill) { expectPush(&front, value, true) }
                let free = front.freeSlots
                #expect(free == slots - fill)
                if fill == slots { expectPush(&front, 99, false) }
                try expectRequest(&back, nil)
                _ = front.publish()
                for value in 0..<UInt64(fill) {
                    try expectRequest(&back, value)
                    back.push(value + 100)
                }
                try expectRequest(&back, nil)
                try expectResponse(&front, nil)
                _ = back.publish()
                for value in 0..<UInt64(fill) { try expectResponse(&front, value + 100) }
                try expectResponse(&front, nil)
                let freed = front.freeSlots, unanswered = back.unanswered
                #expect(freed == slots && unanswered == 0)
            }
        }
    }
}
