// The gate, at each of its boundaries: exhaustive where the space is small.

import BlockProtocol
import Testing
import XenTypes

/// What the gate said: the status, and for data what it allowed.
enum Verdict: Equatable {
    case transfer(BlockTransfer, bytes: Int)
    case flush(BlockOrdering)
    case discard(BlockDiscard)
    case refused(Int16)
}

/// Ranges of an earlier request, which must not show.
private let leftovers: [SegmentRange] = {
    var ranges: [SegmentRange] = []
    var whole = request(.read, [(0, 7), (1, 2)])
    _ = try? BlockRequestValidator(sectorCount: 64).validate(&whole, into: &ranges)
    return ranges
}()

private func bytes(_ ranges: [SegmentRange]) -> Int {
    for range in ranges { #expect(range.byteOffset >= 0 && range.byteCount >= 512 && range.byteOffset + range.byteCount <= 4096) }
    return ranges.reduce(0) { $0 + $1.byteCount }
}

extension BlockRequestValidator {
    /// For requests whose ranges do not matter.
    func validate(_ request: BlockRequest) throws(BlockRejection) -> ValidatedBlockRequest {
        var copy = request
        var ranges = leftovers
        return try validate(&copy, into: &ranges)
    }

    /// The whole gate in one call; `segments` is what an indirect request's pages hold.
    func verdict(_ request: BlockRequest, segments: [BlockSegment] = []) -> Verdict {
        var copy = request
        var ranges = leftovers
        do throws(BlockRejection) {
            switch try validate(&copy, into: &ranges) {
            case .transfer(let transfer): return .transfer(transfer, bytes: bytes(ranges))
            case .indirect(let indirect):
                #expect(ranges.isEmpty)
                let held = (0..<indirect.segmentCount).map { $0 < segments.count ? segments[$0] : BlockSegment(GrantReference(0)) }
                return .transfer(try validate(indirect, segments: held, into: &ranges), bytes: bytes(ranges))
            case .flush(let ordering): return .flush(ordering)
            case .discard(let discard): return .discard(discard)
            }
        } catch {
            #expect(!error.description.isEmpty)
            return .refused(error.status.rawValue)
        }
    }
}

private func request(_ code: BlockOperationCode, sector: UInt64 = 0, _ segments: [(UInt8, UInt8)]) -> BlockRequest {
    var request = BlockRequest(code, id: 1, sector: sector)
    for (first, last) in segments { request.append(BlockSegment(GrantReference(5), first: first, last: last)) }
    return request
}

@Suite struct BlockValidatorTests {
    let disk = {
        var disk = BlockRequestValidator(sectorCount: 4096, maximumIndirectSegments: 256, discard: .plain)
        disk.offersBarrier = true
        return disk
    }()

    /// attacks.md A8: all 65,536 pairs, direct and indirect.
    @Test func everyPairOfSectors() {
        for first in UInt8.min...UInt8.max {
            for last in UInt8.min...UInt8.max {
                let isGood = first <= last && last <= 7
                let direct = disk.verdict(request(.read, [(0, 7), (first, last)]))
                var indirectRequest = BlockRequest(indirect: .write, segmentCount: 2, sector: 0, id: 1)
                indirectRequest.setIndirectReference(0, to: GrantReference(9))
                let indirect = disk.verdict(
                    indirectRequest,
                    segments: [BlockSegment(GrantReference(0)), BlockSegment(GrantReference(1), first: first, last: last)])
                guard isGood else {
                    if direct != .refused(-1) || indirect != .refused(-1) { Issue.record("\(first)-\(last) passed") }
                    continue
                }
                let bytes = 4096 + (Int(last) - Int(first) + 1) * 512
                for verdict in [direct, indirect] {
                    guard case .transfer(let transfer, bytes) = verdict, transfer.byteCount == bytes else {
                        Issue.record("\(first)-\(last): \(verdict)")
                        continue
                    }
                }
            }
        }
    }

    /// attacks.md A9: every direct count; zero only for flush and barrier.
    @Test func everyDirectCount() {
        for code: BlockOperationCode in [.read, .write, .barrier, .flush] {
            for count in 0...UInt16(255) {
                var request = request(code, Array(repeating: (0, 7), count: 11))
                request.segmentCount = count
                let verdict = disk.verdict(request)
                switch (count, code) {
                case (0, .barrier): #expect(verdict == .flush(.drainAndFlush))
                case (0, .flush): #expect(verdict == .flush(.flush))
                case (1...11, _):
                    guard case .transfer(let transfer, _) = verdict else { Issue.record("\(verdict)"); continue }
                    #expect(transfer.sectorCount == UInt32(count) * 8)
                    #expect(transfer.direction == (code == .read ? .read : .write))
                    #expect(transfer.ordering == (code == .flush ? .flush : code == .barrier ? .drainAndFlush : .none))
                default: #expect(verdict == .refused(-1))
                }
            }
        }
    }

    /// attacks.md A9, A20: every indirect count for every inner operation that matters.
    @Test func everyIndirectCount() {
        let counts = [0, 1, 10, 11, 12, 13, 31, 32, 33, 255, 256, 257, 511, 512, 513, 4095, 4096, 4097, 65535]
        for limit in [0, 1, 11, 12, 32, 256, 512, 4096, 70000] {
            let disk = BlockRequestValidator(sectorCount: 1 << 20, maximumIndirectSegments: limit)
            for inner in [UInt8(0), 1, 2, 3, 5, 6, 255] {
                for count in limit == 256 ? Array(0...65535) : counts {
                    let request = BlockRequest(
                        indirect: BlockOperationCode(rawValue: inner), segmentCount: UInt16(count), sector: 0, id: 1)
                    let isGood = inner <= 1 && count >= 1 && count <= min(limit, 4096)
                    do throws(BlockRejection) {
                        guard case .indirect(let indirect) = try disk.validate(request), isGood else {
                            Issue.record("\(request) passed"); continue
                        }
                        let held = (0..<indirect.pageCount).map { indirect.segmentCount(onPage: $0) }
                        if held.reduce(0, +) != count || indirect.pageCount > 8 || held.contains(0) { Issue.record("\(held)") }
                    } catch {
                        if isGood || error.status != (limit == 0 ? .unsupported : .error) { Issue.record("\(request): \(error)") }
                    }
                }
            }
        }
    }

    /// attacks.md A20: bytes that mean nothing, and what was not offered, are answered -2.
    @Test func everyOperationByte() {
        var bare = BlockRequestValidator(sectorCount: 4096)
        bare.offersFlush = false
        for code in UInt8.min...UInt8.max {
            var any = request(BlockOperationCode(rawValue: code), [(0, 7)])
            any.detail = 0
            switch code {
            case 0, 1: break
            case 2, 3, 5, 6: #expect(bare.verdict(any) == .refused(-2))
            default:
                #expect(bare.verdict(any) == .refused(-2))
                #expect(disk.verdict(any) == .refused(-2))
            }
        }
    }

    /// attacks.md A21: sums that wrap, ends that are passed by one.
    @Test func everyEndOfTheDisk() {
        for sectors: UInt64 in [0, 1, 7, 8, 9, 4096, 1 << 32, BlockRequestValidator.maximumSectorCount, .max] {
            let disk = BlockRequestValidator(sectorCount: sectors, maximumIndirectSegments: 256, discard: .plain)
            let real = min(sectors, BlockRequestValidator.maximumSectorCount)
            for base: UInt64 in [0, real, .max, 1 << 55, 1 << 63] {
                for distance in -17...17 {
                    let sector = base &+ UInt64(truncatingIfNeeded: distance)
                    for length in 1...8 {
                        let (end, wraps) = sector.addingReportingOverflow(UInt64(length))
                        let isGood = !wraps && end <= real
                        let segment: (UInt8, UInt8) = (0, UInt8(length - 1))
                        for verdict in [
                            disk.verdict(request(.read, sector: sector, [segment])),
                            disk.verdict(
                                BlockRequest(indirect: .read, segmentCount: 1, sector: sector, id: 0),
                                segments: [BlockSegment(GrantReference(1), first: 0, last: segment.1)]),
                            disk.verdict(BlockRequest(discarding: UInt64(length), at: sector, id: 0)),
                        ] {
                            if (verdict != .refused(-1)) != isGood { Issue.record("\(sector) + \(length) of \(real): \(verdict)") }
                        }
                    }
                    for count: UInt64 in [0, .max, .max - sector, 0 &- sector, 1 << 63, real] {
                        let (end, wraps) = sector.addingReportingOverflow(count)
                        let verdict = disk.verdict(BlockRequest(discarding: count, at: sector, id: 0))
                        if (verdict != .refused(-1)) != (!wraps && end <= real) {
                            Issue.record("discard \(sector) + \(count) of \(real): \(verdict)")
                        }
                    }
                }
            }
        }
    }

    @Test func fileOffsetsStaySigned() throws {
        let disk = BlockRequestValidator(sectorCount: .max)
        let last = BlockRequestValidator.maximumSectorCount - 1
        var copy = request(.read, sector: last, [(3, 3)])
        var ranges = leftovers
        guard case .transfer(let transfer) = try disk.validate(&copy, into: &ranges) else { return }
        #expect(transfer.byteOffset > 0 && transfer.byteOffset.addingReportingOverflow(512).overflow == false)
        #expect(ranges.count == 1 && ranges[0].byteOffset == 1536 && ranges[0].byteCount == 512)
        copy = request(.read, sector: last + 1, [(3, 3)])
        #expect(throws: BlockRejection.self) { _ = try disk.validate(&copy, into: &ranges) }
    }

    @Test func aTwelfthSegmentIsNotTaken() {
        var copy = BlockRequest(.read, id: 1, sector: 0)
        let taken = (0..<12).map { copy.append(BlockSegment(GrantReference($0))) }
        #expect(taken == Array(repeating: true, count: 11) + [false])
        #expect(copy.segmentCount == 11)
    }

    /// Each length on its own: two halves of a device sector in two pages cannot be one.
    @Test func alignmentToTheDisksOwnSector() {
        let large = BlockRequestValidator(sectorCount: 4096, logicalSectorSize: 4096, maximumIndirectSegments: 32, discard: .plain)
        for sector in UInt64(0)..<24 {
            for first in UInt8(0)...7 {
                for last in first...7 {
                    let isGood = sector % 8 == 0 && first == 0 && last == 7
                    let verdict = large.verdict(request(.write, sector: sector, [(0, 7), (first, last)]))
                    #expect((verdict != .refused(-1)) == isGood)
                }
            }
            for count in UInt64(0)..<24 {
                let verdict = large.verdict(BlockRequest(discarding: count, at: sector, id: 0))
                #expect((verdict != .refused(-1)) == (sector % 8 == 0 && count % 8 == 0))
            }
        }
        #expect(large.verdict(request(.write, [(0, 3), (0, 3)])) == .refused(-1))
        let medium = BlockRequestValidator(sectorCount: 4096, logicalSectorSize: 1024)
        #expect(medium.verdict(request(.write, sector: 2, [(1, 2), (6, 7)])) != .refused(-1), "the page's own offset is free")
    }

    @Test func readOnlyDisks() {
        var disk = disk
        disk.isReadOnly = true
        #expect(disk.verdict(request(.read, [(0, 7)])) != .refused(-1))
        for code: BlockOperationCode in [.write, .flush, .barrier] {
            #expect(disk.verdict(request(code, [(0, 7)])) == .refused(-1))
        }
        #expect(disk.verdict(BlockRequest(indirect: .write, segmentCount: 1, sector: 0, id: 0)) == .refused(-1))
        #expect(disk.verdict(BlockRequest(indirect: .read, segmentCount: 1, sector: 0, id: 0)) != .refused(-1))
        #expect(disk.verdict(BlockRequest(discarding: 8, at: 0, id: 0)) == .refused(-1))
        #expect(disk.verdict(request(.flush, [])) == .flush(.flush))
    }

    @Test func secureOnlyWhereOffered() {
        for (support, secure) in [(BlockDiscardSupport.plain, false), (.secure, true)] {
            var disk = disk
            disk.discard = support
            for (wish, granted) in [(true, secure), (false, false)] {
                guard case .discard(let discard) = disk.verdict(BlockRequest(discarding: 8, at: 0, secure: wish, id: 0)) else {
                    Issue.record("a discard was refused")
                    continue
                }
                #expect(discard.isSecure == granted && discard.sectorCount == 8)
            }
        }
    }

    @Test func aRejectionLeavesNoRanges() throws {
        var ranges = leftovers
        #expect(ranges.count == 2)
        for bad in [request(.read, [(0, 7), (0, 8)]), request(.read, sector: 4095, [(0, 7)]), request(.reserved, [(0, 7)])] {
            ranges = leftovers
            var copy = bad
            #expect(throws: BlockRejection.self) { _ = try disk.validate(&copy, into: &ranges) }
            #expect(ranges.isEmpty)
        }
        guard case .indirect(let two) = try disk.validate(BlockRequest(indirect: .read, segmentCount: 2, sector: 4095, id: 0))
        else { return }
        for bad in [BlockSegment(GrantReference(1), first: 0, last: 8), BlockSegment(GrantReference(1))] {
            #expect(throws: BlockRejection.self) {
                _ = try disk.validate(two, segments: [BlockSegment(GrantReference(1), first: 0, last: 0), bad], into: &ranges)
            }
            #expect(ranges.isEmpty)
        }
    }

    @Test func resizing() {
        var disk = disk
        let last = request(.read, sector: 4096, [(0, 7)])
        #expect(disk.verdict(last) == .refused(-1))
        disk.resize(to: 4104)
        #expect(disk.verdict(last) != .refused(-1))
        disk.resize(to: 8)
        #expect(disk.verdict(request(.read, sector: 8, [(0, 0)])) == .refused(-1))
    }
}
