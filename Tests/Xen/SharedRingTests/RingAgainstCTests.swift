// Our ends against Xen's own macros: the same operations by either kind on either side leave the same bytes and ask for
// the same wake-ups.

import BlockProtocol
import CRingMacros
import SharedMemory
import SharedRing
import Testing
import TestSupport
import XenTypes

/// A frontend's end, ours or C's.
private struct AnyFront: ~Copyable {
    var ours: FrontRing<BlockRing>
    var theirs = cring_front()
    let isC: Bool

    init(_ region: SharedRegion, isC: Bool, start: UInt32) {
        ours = FrontRing(initialising: region, BlockRing(.native), startingAt: RingIndex(start))
        self.isC = isC
        guard isC else { return }
        region.fill(0, count: region.byteCount)
        unsafe cring_shared_init(region.unsafeBase, start)
        unsafe cring_front_attach(&theirs, region.unsafeBase, UInt(region.byteCount), start)
    }

    mutating func push(_ id: UInt64) -> Bool {
        if isC { return cring_front_push(&theirs, id, id &* 8, UInt32(truncatingIfNeeded: id)) }
        var request = BlockRequest(.read, id: id, sector: id &* 8)
        request.append(BlockSegment(GrantReference(UInt32(truncatingIfNeeded: id))))
        return ours.push(request)
    }

    mutating func publish() -> Bool { isC ? cring_front_publish(&theirs) : ours.publish() }
    mutating func arm() -> Bool { isC ? cring_front_final_check(&theirs) : ours.armAndRecheck() }

    mutating func next() throws -> [UInt64]? {
        if !isC { return try ours.nextResponse().map { [$0.id, UInt64(bitPattern: Int64($0.status.rawValue))] } }
        var id: UInt64 = 0
        var status: Int16 = 0
        return cring_front_next(&theirs, &id, &status) ? [id, UInt64(bitPattern: Int64(status))] : nil
    }
}

/// A backend's end, ours or C's.
private struct AnyBack: ~Copyable {
    var ours: BackRing<BlockRing>
    var theirs = cring_back()
    let isC: Bool

    init(_ region: SharedRegion, isC: Bool, start: UInt32) {
        ours = BackRing(attaching: region, BlockRing(.native), startingAt: RingIndex(start))
        self.isC = isC
        if isC { unsafe cring_back_attach(&theirs, region.unsafeBase, UInt(region.byteCount), start) }
    }

    mutating func next() throws -> [UInt64]? {
        if !isC { return try ours.nextRequest().map { [$0.id, $0.sector, UInt64($0.segment(0).reference.rawValue)] } }
        var id: UInt64 = 0, sector: UInt64 = 0
        var reference: UInt32 = 0
        return cring_back_next(&theirs, &id, &sector, &reference) ? [id, sector, UInt64(reference)] : nil
    }

    mutating func push(_ id: UInt64, _ status: Int16) {
        if isC { return cring_back_push(&theirs, id, status) }
        ours.push(BlockResponse(id: id, operation: .read, status: BlockStatus(rawValue: status)))
    }

    mutating func publish() -> Bool { isC ? cring_back_publish(&theirs) : ours.publish() }
    mutating func arm() -> Bool { isC ? cring_back_final_check(&theirs) : ours.armAndRecheck() }
}

/// Runs a seeded list of operations; returns all that was seen, the ring's bytes at the end included.
private func history(seed: UInt64, pages: Int, start: UInt32, frontIsC: Bool, backIsC: Bool) throws -> [UInt64] {
    let region = try SharedRegion(anonymous: pages * 4096)
    var front = AnyFront(region, isC: frontIsC, start: start), back = AnyBack(region, isC: backIsC, start: start)
    var random = SplitMix(seed)
    var seen: [UInt64] = []
    var held: [UInt64] = []
    var id: UInt64 = 0
    for _ in 0..<400 {
        switch random.next() % 7 {
        case 0, 1:
            for _ in 0...random.next() % 9 {
                let pushed = front.push(id)
                seen.append(pushed ? 1 : 0)
                if pushed { id += 1 }
            }
        case 2: seen.append(front.publish() ? 11 : 10)
        case 3:
            while let request = try back.next() {
                seen += request
                held.append(request[0])
            }
            seen.append(back.arm() ? 21 : 20)
        case 4:
            // Out of order.
            for _ in 0...random.next() % 5 where !held.isEmpty {
                let at = Int(random.next() % UInt64(held.count))
                back.push(held.remove(at: at), Int16(random.next() % 3) - 2)
            }
        case 5: seen.append(back.publish() ? 31 : 30)
        default:
            while let response = try front.next() { seen += response }
            seen.append(front.arm() ? 41 : 40)
        }
    }
    return seen + region.bytes(at: 0, count: region.byteCount).map(UInt64.init)
}

@Suite struct RingAgainstCTests {
    @Test(.timeLimit(.minutes(2)), arguments: [1, 2, 8])
    func eitherKindOnEitherSide(pages: Int) throws {
        for seed in UInt64(0)..<24 {
            for start: UInt32 in [0, .max - 30, .max - 200, 1 << 31] {
                let reference = try history(seed: seed, pages: pages, start: start, frontIsC: true, backIsC: true)
                for (frontIsC, backIsC) in [(false, false), (false, true), (true, false)] {
                    let ours = try history(seed: seed, pages: pages, start: start, frontIsC: frontIsC, backIsC: backIsC)
                    if ours != reference {
                        Issue.record("seed \(seed), \(pages) pages, start \(start), C in front \(frontIsC), C behind \(backIsC)")
                    }
                }
            }
        }
    }
}
