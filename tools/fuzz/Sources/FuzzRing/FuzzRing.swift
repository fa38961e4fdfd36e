// A back ring under a hostile frontend, as a list of operations: what it takes, refuses and announces against a model
// that counts in 64 bits and knows no wrap-around.

import BlockProtocol
import FuzzSupport
import SharedMemory
import SharedRing

private let region = made { try SharedRegion(anonymous: 4096) }

/// The ring as it should be. Positions are true counts; the wire shows them modulo 2^32.
private struct Model {
    let start: UInt32
    let slots: UInt64 = 32
    var taken: UInt64 = 0
    var known: UInt64 = 0
    var answered: UInt64 = 0
    var shown: UInt64 = 0
    var isBroken = false
    /// Whether the fault was said to whoever takes. One that a look before sleeping found was not yet.
    var isTold = false

    func wire(_ position: UInt64) -> UInt32 { UInt32((UInt64(start) + position) % (1 << 32)) }

    /// How far an honest frontend can be that shows `word`; nil if there is none.
    func honest(_ word: UInt32) -> UInt64? { (taken...shown + slots).first { wire($0) == word } }

    /// Looks at the frontend's index, if all that is known was taken. False if there is nothing to take, nor to be
    /// told.
    mutating func look(_ word: UInt32) -> Bool {
        if known > taken { return true }
        if isBroken { return !isTold }
        guard let position = honest(word) else {
            isBroken = true
            return true
        }
        known = position
        return known > taken
    }
}

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(bytes, count)
    let start: UInt32 = input.number()
    let abi = BlockABI.allCases[Int(input.byte()) % 3]
    region.fill(0, count: 4096)
    var ring = BackRing(attaching: region, BlockRing(abi), startingAt: RingIndex(start))
    var model = Model(start: start)
    var request = BlockRequest()
    while !input.isAtEnd {
        let code = input.byte()
        switch code % 9 {
        case 0: region.storeRelaxed(input.number(), at: RingHeader.requestProduced)
        case 1:
            // Near the truth, where the interesting lies are.
            let distance = UInt64(input.byte() % 72)
            region.storeRelaxed(
                model.wire(model.taken + distance &- 2 &+ (distance < 2 ? 1 << 32 : 0)), at: RingHeader.requestProduced)
        case 2: region.storeRelaxed(input.number(), at: RingHeader.responseEvent)
        case 3:
            region.storeRelaxed(input.number(), at: input.byte() & 1 == 0 ? RingHeader.responseProduced : RingHeader.requestEvent)
        case 4: region.store(input.number(UInt64.self), at: 64 + Int(input.number(UInt16.self)) % (4096 - 72))
        case 5: take(&ring, &model, &request)
        case 6:
            let mayArm = !model.isBroken
            let isThere = ring.armAndRecheck()
            let hadSome = model.known > model.taken
            let expected = model.look(region.loadRelaxed(RingHeader.requestProduced))
            require(isThere == expected, "armAndRecheck \(isThere), expected \(expected)")
            if mayArm && !hadSome {
                require(region.loadRelaxed(RingHeader.requestEvent) == model.wire(model.taken + 1), "not armed")
            }
        case 7:
            guard ring.unanswered > 0 else { continue }
            ring.push(BlockResponse(to: request, status: .okay))
            model.answered += 1
        default: publish(&ring, &model)
        }
        require(UInt64(ring.unanswered) == model.taken - model.answered, "unanswered \(ring.unanswered)")
        require(model.taken - model.shown <= model.slots, "took more than can be answered")
        require((ring.fault != nil) == model.isBroken, ring.description)
    }
    return 0
}

private func take(_ ring: inout BackRing<BlockRing>, _ model: inout Model, _ request: inout BlockRequest) {
    let expected = model.look(region.loadRelaxed(RingHeader.requestProduced))
    do throws(RingError) {
        let isThere = try ring.nextRequest(into: &request)
        require(isThere == expected && !model.isBroken, "took \(isThere), expected \(expected), \(ring.description)")
        if isThere { model.taken += 1 }
    } catch {
        require(model.isBroken && !error.description.isEmpty, "\(error)")
        model.isTold = true
    }
}

private func publish(_ ring: inout BackRing<BlockRing>, _ model: inout Model) {
    let event = region.loadRelaxed(RingHeader.responseEvent)
    let expected = model.shown < model.answered && (model.shown + 1...model.answered).contains { model.wire($0) == event }
    let isNew = model.shown < model.answered
    let notify = ring.publish()
    model.shown = model.answered
    require(notify == expected, "notify \(notify), expected \(expected)")
    if isNew { require(region.loadRelaxed(RingHeader.responseProduced) == model.wire(model.shown), "published") }
}
