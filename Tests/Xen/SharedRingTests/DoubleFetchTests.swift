// attacks.md A1: a peer that changes a request while it is taken. Each request that comes out must be one that could
// have stood there: what was decided on a byte and what is reported of it are the same byte.

import BlockProtocol
import Foundation
import SharedMemory
import SharedRing
import Synchronization
import Testing
import XenTypes

@Suite(.serialized) struct DoubleFetchTests {
    /// A racer flips the segment count between 1 and 255 and the operation between read and indirect; each segment is
    /// non-zero. The number of segments that were copied tells the count that was used; it must be the count that is
    /// reported.
    @Test(.timeLimit(.minutes(3)), arguments: BlockABI.allCases)
    func theCountThatIsUsedIsTheCountThatIsReported(abi: BlockABI) throws {
        let region = try SharedRegion(anonymous: 4096)
        let layout = abi.layout
        region.fill(64, count: 112, with: 0x07)
        let racer = Racer(region, words: [0x0505_0100, 0x0909_FF00, 0x0D0D_0006, 0x0303_0B05], offset: 64)
        defer { racer.stop() }
        var kinds: Set<UInt8> = []
        var torn = 0
        for _ in 0..<100_000 {
            let request = layout.loadRequest(region, 64)
            kinds.insert(request.operation.rawValue)
            let copied = (0..<11).count { request.segment($0).word != 0 }
            let word = request.segmentCount
            let isWhole =
                switch request.operation {
                case .read:
                    word == 1 && copied == 1 && request.handle == 0x0505 || word == 255 && copied == 11 && request.handle == 0x0909
                case .indirect: word == 0x0D0D && copied == 4 && request.detail == 0
                case .discard: word == 0 && request.detail == 0x0B && copied == 1 && request.handle == 0x0303
                default: false
                }
            if !isWhole { torn += 1 }
        }
        #expect(torn == 0)
        #expect(kinds == [0, 5, 6], "the racer ran")
    }

    /// What was validated is what is used, though the slot changes in between: nothing refers back to it.
    @Test func aChangeAfterTheTakingChangesNothing() throws {
        let region = try SharedRegion(anonymous: 4096)
        var front = FrontRing(initialising: region, BlockRing(.x86_64)), back = BackRing(attaching: region, BlockRing(.x86_64))
        var request = BlockRequest(.write, id: 1, sector: 8)
        request.append(BlockSegment(GrantReference(3), first: 2, last: 5))
        _ = front.push(request)
        _ = front.publish()
        var taken = BlockRequest()
        let isThere = try back.nextRequest(into: &taken)
        #expect(isThere)
        region.fill(64, count: 112, with: 0xFF)
        var ranges: [SegmentRange] = []
        let verdict = try BlockRequestValidator(sectorCount: 64).validate(&taken, into: &ranges)
        region.fill(64, count: 112, with: 0x00)
        guard case .transfer(let transfer) = verdict else { Issue.record("\(verdict)"); return }
        #expect(transfer.sector == 8 && transfer.sectorCount == 4 && ranges.count == 1)
        #expect(ranges[0].reference == GrantReference(3) && ranges[0].byteOffset == 1024 && ranges[0].byteCount == 2048)
    }

    /// The same for a page of indirect segments: `last` flips 7 to 255 under the copy; validation and use see one of
    /// the two.
    @Test(.timeLimit(.minutes(3)))
    func indirectSegmentsAreCopiedOnce() throws {
        let region = try SharedRegion(anonymous: 4096)
        region.fill(0, count: 4096)
        let racer = Racer(region, words: [0x0700, 0xFF00], offset: 4)
        defer { racer.stop() }
        let disk = BlockRequestValidator(sectorCount: 64, maximumIndirectSegments: 32)
        var segments: [BlockSegment] = [], ranges: [SegmentRange] = []
        var request = BlockRequest(indirect: .read, segmentCount: 1, sector: 0, id: 0)
        guard case .indirect(let one) = try disk.validate(&request, into: &ranges) else { return }
        var accepted = 0, refused = 0
        for _ in 0..<200_000 {
            segments.removeAll(keepingCapacity: true)
            IndirectPage.load(region, at: 0, count: 1, appendingTo: &segments)
            do throws(BlockRejection) {
                let transfer = try disk.validate(one, segments: segments, into: &ranges)
                if transfer.sectorCount != 8 || ranges[0].byteCount != 4096 { Issue.record("\(segments)") }
                accepted += 1
            } catch { refused += 1 }
        }
        #expect(accepted > 0 && refused > 0, "the racer ran")
    }
}

/// A thread that stores one word after the other, for ever, until stopped.
private final class Racer: Sendable {
    private let goOn = Atomic<Bool>(true)
    private let ended = DispatchSemaphore(value: 0)

    init(_ region: SharedRegion, words: [UInt32], offset: Int) {
        region.storeRelaxed(words[0], at: offset)
        let thread = Thread { [self] in
            while goOn.load(ordering: .relaxed) { for word in words { region.storeRelaxed(word, at: offset) } }
            ended.signal()
        }
        thread.start()
    }

    func stop() {
        goOn.store(false, ordering: .relaxed)
        _ = ended.wait(timeout: .now() + 10)
    }
}
