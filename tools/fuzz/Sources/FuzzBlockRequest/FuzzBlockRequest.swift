// Any bytes as a request in a slot and as pages of segments: parser and gate against the reference, in each ABI.

import BlockProtocol
import FuzzSupport
import SharedMemory

private let region = made { try SharedRegion(anonymous: 16 * 4096) }
nonisolated(unsafe) private var ranges: [SegmentRange] = []
nonisolated(unsafe) private var segments: [BlockSegment] = []
private let pages = 4096

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(start, count)
    let flags = input.byte(), shape = input.byte()
    let disk = Disk(
        sectors: input.number(), logicalSectorSize: 512 << Int(shape >> 4 & 3), readOnly: flags & 1 != 0,
        indirectLimit: min(4096, Int(input.number(UInt16.self))), offersDiscard: flags & 2 != 0,
        offersSecure: flags & 4 != 0, offersFlush: flags & 8 != 0, offersBarrier: flags & 16 != 0)
    let abi = [BlockABI.native, .x86_32, .x86_64][Int(shape & 15) % 3]
    let layout = abi.layout
    let slot = input.take(layout.slotSize)
    var page: [UInt8] = []
    while !input.isAtEnd && page.count < 8 * 4096 { page.append(input.byte()) }
    region.fill(0, count: region.byteCount)
    region.write(slot, at: 64)
    region.write(page, at: pages)

    let expected = reference(slot, packed: layout == .packed, page: page, disk)
    let found = ours(layout, disk)
    require(found == expected, "\(abi) \(disk)\nexpected \(expected)\nfound    \(found)")

    // What is stored again means the same.
    let request = layout.loadRequest(region, 64)
    layout.storeRequest(request, region, 2048)
    require(layout.loadRequest(region, 2048).description == request.description, "\(request)")
    return 0
}

private func ours(_ layout: BlockLayout, _ disk: Disk) -> Answer {
    var validator = BlockRequestValidator(
        sectorCount: disk.sectors, logicalSectorSize: disk.logicalSectorSize, maximumIndirectSegments: disk.indirectLimit,
        discard: !disk.offersDiscard ? .none : disk.offersSecure ? .secure : .plain)
    validator.isReadOnly = disk.readOnly
    validator.offersFlush = disk.offersFlush
    validator.offersBarrier = disk.offersBarrier
    var request = layout.loadRequest(region, 64)
    do throws(BlockRejection) {
        switch try validator.validate(&request, into: &ranges) {
        case .transfer(let transfer): return answer(transfer)
        case .indirect(let indirect):
            segments.removeAll(keepingCapacity: true)
            for page in 0..<indirect.pageCount {
                IndirectPage.load(
                    region, at: pages + page * 4096, count: indirect.segmentCount(onPage: page), appendingTo: &segments)
            }
            return answer(try validator.validate(indirect, segments: segments, into: &ranges))
        case .flush(let ordering): return .flush(order: order(ordering))
        case .discard(let discard):
            return .discard(sector: discard.sector, count: discard.sectorCount, secure: discard.isSecure)
        }
    } catch {
        require(ranges.isEmpty && !error.description.isEmpty, "ranges after \(error)")
        return .refused(Int(error.status.rawValue))
    }
}

private func order(_ ordering: BlockOrdering) -> Int {
    switch ordering {
    case .none: 0
    case .flush: 1
    case .drainAndFlush: 2
    }
}

private func answer(_ transfer: BlockTransfer) -> Answer {
    require(ranges.reduce(0) { $0 + $1.byteCount } == transfer.byteCount && transfer.byteOffset >= 0, "\(transfer)")
    return .data(
        write: transfer.direction == .write, order: order(transfer.ordering), sector: transfer.sector,
        pieces: ranges.map { Piece(reference: $0.reference.rawValue, offset: $0.byteOffset, count: $0.byteCount) })
}
