// Requests and responses through memory, in each ABI.

import BlockProtocol
import CXen
import SharedMemory
import Testing
import XenTypes

extension BlockRequest {
    /// All that a request says, for comparison.
    var content: [UInt64] {
        [UInt64(operation.rawValue), UInt64(detail), UInt64(segmentCount), UInt64(handle), id, sector]
            + (0..<11).map { segment($0).word } + (0..<8).map { UInt64(indirectReference($0).rawValue) } + [discardSectorCount]
    }
}

/// One request of each kind, with a distinct value in each field.
func sampleRequests() -> [BlockRequest] {
    var samples: [BlockRequest] = []
    for code: BlockOperationCode in [.read, .write, .barrier, .flush] {
        for count in 0...11 {
            var request = BlockRequest(code, id: 0x1122_3344_5566_7788, sector: 0x99AA_BBCC_DDEE_FF01, handle: 0xCA01)
            for index in 0..<count {
                request.append(
                    BlockSegment(GrantReference(0xFFFF_0000 + UInt32(index)), first: UInt8(index), last: UInt8(200 + index)))
            }
            samples.append(request)
        }
    }
    samples.append(BlockRequest(discarding: .max - 5, at: 77, secure: true, id: .max, handle: 0xCA02))
    samples.append(BlockRequest(discarding: 1, at: 0, id: 0))
    for code: BlockOperationCode in [.read, .write] {
        var request = BlockRequest(indirect: code, segmentCount: 4096, sector: 0x0102_0304_0506_0708, id: 42, handle: 0xCA03)
        for index in 0..<8 { request.setIndirectReference(index, to: GrantReference(0xABCD_0000 + UInt32(index))) }
        samples.append(request)
    }
    return samples
}

@Suite struct BlockCodecTests {
    let region: SharedRegion
    init() throws { region = try SharedRegion(anonymous: 4096) }

    @Test(arguments: BlockABI.allCases)
    func everyKindOfRequestSurvives(abi: BlockABI) {
        let layout = abi.layout
        for slot in [64, 64 + layout.slotSize, 64 + 31 * layout.slotSize] {
            for sample in sampleRequests() {
                region.fill(0, count: 4096, with: 0xA5)
                layout.storeRequest(sample, region, slot)
                #expect(layout.loadRequest(region, slot).content == sample.content, "\(sample)")
                #expect(region.bytes(at: slot - 8, count: 8) == Array(repeating: 0xA5, count: 8))
                let after = region.bytes(at: slot + layout.slotSize, count: 64)
                #expect(after == Array(repeating: 0xA5, count: 64), "a slot ends where it ends")
            }
        }
    }

    /// A frontend's padding is as telling as a backend's: what is stored must not depend on what was there, up to the
    /// used size.
    @Test(arguments: BlockABI.allCases)
    func noByteOfAStoredRequestIsLeftOver(abi: BlockABI) {
        let layout = abi.layout
        for sample in sampleRequests() {
            let size =
                switch sample.operation {
                case .discard: layout.discardSize
                case .indirect: layout.indirectSize
                default: layout.payload + Int(sample.segmentCount) * BlockSegment.size
                }
            region.fill(0, count: 4096, with: 0x00)
            layout.storeRequest(sample, region, 64)
            let once = region.bytes(at: 64, count: size)
            region.fill(0, count: 4096, with: 0xFF)
            layout.storeRequest(sample, region, 64)
            #expect(region.bytes(at: 64, count: size) == once, "\(sample)")
        }
    }

    /// attacks.md A2: bytes 9 and 12 to 15 of a response are zero, whatever was in the slot.
    @Test(arguments: BlockABI.allCases)
    func responsePaddingIsZero(abi: BlockABI) {
        let layout = abi.layout
        for code in [UInt8(0), 1, 2, 3, 5, 6, 255] {
            for status: BlockStatus in [.okay, .error, .unsupported] {
                region.fill(0, count: 4096, with: 0xCC)
                let response = BlockResponse(id: .max, operation: BlockOperationCode(rawValue: code), status: status)
                layout.storeResponse(response, region, 64)
                let bytes = region.bytes(at: 64, count: layout.slotSize)
                #expect(bytes[9] == 0)
                #expect(bytes[12..<layout.responseSize].allSatisfy { $0 == 0 })
                #expect(bytes[layout.responseSize...].allSatisfy { $0 == 0xCC }, "and nothing past it is touched")
                #expect(layout.loadResponse(region, 64) == response)
            }
        }
    }

    /// C writes, Swift reads.
    @Test func nativeRequestsFromC() {
        var raw = blkif_request()
        raw.operation = UInt8(BLKIF_OP_WRITE)
        raw.nr_segments = 2
        raw.handle = 51712
        raw.id = 0xDEAD_BEEF_0000_0001
        raw.sector_number = 1 << 40
        raw.seg.0 = blkif_request_segment(gref: 8, first_sect: 1, last_sect: 7)
        raw.seg.1 = blkif_request_segment(gref: .max, first_sect: 0, last_sect: 3)
        withUnsafeBytes(of: raw) { region.write(Array($0), at: 64) }
        let request = BlockABI.native.layout.loadRequest(region, 64)
        #expect(request.operation == .write && request.handle == 51712 && request.id == raw.id && request.sector == 1 << 40)
        #expect(
            request.segments == [
                BlockSegment(GrantReference(8), first: 1, last: 7), BlockSegment(GrantReference(.max), first: 0, last: 3),
            ])
    }

    /// attacks.md A9, A37: a count of 255 loads eleven segments and stays within the slot, at the end of memory too.
    @Test(arguments: BlockABI.allCases)
    func aCountPastElevenReadsNoFurther(abi: BlockABI) {
        let layout = abi.layout
        let last = 4096 - layout.slotSize & ~3
        for code in 0...UInt8.max {
            region.fill(0, count: 4096, with: 0xFF)
            region.store(code, at: last)
            let request = layout.loadRequest(region, last)
            #expect(request.operation.rawValue == code && request.segments.count <= 11)
            #expect(!request.description.isEmpty)
        }
    }

    @Test func indirectPages() throws {
        for count in [0, 1, 31, 32, 33, 511, 512] {
            let segments = (0..<count).map { (number: Int) -> BlockSegment in
                BlockSegment(GrantReference(UInt32(number) &* 0x0101_0101), first: UInt8(number & 7), last: UInt8(number / 2))
            }
            region.fill(0, count: 4096, with: 0xEE)
            IndirectPage.store(segments[...], in: region, at: 0)
            var copy = [BlockSegment(GrantReference(1))]
            IndirectPage.load(region, at: 0, count: count, appendingTo: &copy)
            #expect(Array(copy.dropFirst()) == segments)
            if count < 512 { #expect(region.bytes(at: count * 8, count: 8) == Array(repeating: 0xEE, count: 8)) }
            if count > 0 { #expect(region.bytes(at: count * 8 - 2, count: 2) == [0, 0], "padding") }
        }
    }

    @Test func responsesToIndirectRequestsCarryTheInnerOperation() {
        let request = BlockRequest(indirect: .write, segmentCount: 12, sector: 0, id: 3)
        #expect(BlockResponse(to: request, status: .okay) == BlockResponse(id: 3, operation: .write, status: .okay))
    }
}
